/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Roles, and who has them, from the configuration.
 */
#include "rpc/access.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "net/digest.h"

#define NO_UID UINT32_MAX

struct role {
    char name[FAE_OPT_TEXT]; /* "": the bit is free */
    char allow[FAE_OPT_LIST_TEXT], deny[FAE_OPT_LIST_TEXT];
    bool peer;
};

/* Somebody with roles: a token, an account or a certificate. */
struct holder {
    char name[FAE_OPT_TEXT];
    uint8_t sha256[FAE_SHA256_BYTES]; /* of a token */
    uint32_t uid;                     /* of an account; NO_UID: there is none of that name */
    struct fae_caller caller;
};

struct fae_access {
    struct role role[FAE_ROLES_MAX]; /* by bit */
    struct holder token[FAE_TOKENS_MAX], account[FAE_ACCOUNTS_MAX], certificate[FAE_ACCOUNTS_MAX];
    uint32_t listener[FAE_LISTENERS_MAX];
    unsigned n_roles, n_tokens, n_accounts, n_certificates;
    uint32_t last_id;
};

/* ---- words and globs ---- */

/* The next word of a list, "" at its end. */
static const char *next_word(const char *list, char word[FAE_OPT_LIST_TEXT])
{
    size_t len = strcspn(list, " ");

    memcpy(word, list, len);
    word[len] = '\0';
    return list + len + (list[len] == ' ');
}

bool fae_access_glob(const char *glob, const char *name)
{
    const char *star = NULL, *from = NULL; /* the last * and what it has taken so far: only that one is ever retried */

    while (*name) {
        if (*glob == '*') {
            star = ++glob;
            from = name;
        } else if (*glob == *name) {
            glob++, name++;
        } else if (star) {
            glob = star;
            name = ++from;
        } else {
            return false;
        }
    }
    return glob[strspn(glob, "*")] == '\0';
}

static bool any_glob(const char *list, const char *name)
{
    char word[FAE_OPT_LIST_TEXT];

    while (*list) {
        list = next_word(list, word);
        if (fae_access_glob(word, name))
            return true;
    }
    return false;
}

/* ---- from the configuration ---- */

static int find_role(const struct fae_access *access, const char *name)
{
    for (int bit = 0; bit < (int)FAE_ROLES_MAX; bit++)
        if (strcmp(access->role[bit].name, name) == 0)
            return *name ? bit : -1;
    return -1;
}

static bool has_role(const struct fae_config *config, const char *name)
{
    for (unsigned i = 0; i < config->n_role; i++)
        if (strcmp(config->role[i].name, name) == 0)
            return true;
    return false;
}

/* A free bit, if there is one among them one that `recent` does not have. */
static unsigned free_bit(const struct fae_access *access, uint32_t recent)
{
    unsigned any = 0;

    for (unsigned bit = 0; bit < FAE_ROLES_MAX; bit++)
        if (!*access->role[bit].name) {
            any = bit;
            if (!(recent & 1u << bit))
                return bit;
        }
    return any;
}

static void set_roles(struct fae_access *access, const struct fae_config *config)
{
    uint32_t recent = 0;

    for (unsigned bit = 0; bit < FAE_ROLES_MAX; bit++) {
        if (*access->role[bit].name)
            recent |= 1u << bit;
        if (!has_role(config, access->role[bit].name))
            access->role[bit] = (struct role){ .name = "" };
    }
    for (unsigned i = 0; i < config->n_role; i++) {
        const struct fae_config_role *from = &config->role[i];
        int known = find_role(access, from->name);
        struct role *role = &access->role[known >= 0 ? (unsigned)known : free_bit(access, recent)];

        memcpy(role->name, from->name, sizeof role->name);
        memcpy(role->allow, from->allow, sizeof role->allow);
        memcpy(role->deny, from->deny, sizeof role->deny);
        role->peer = from->peer;
    }
    access->n_roles = config->n_role;
}

/* The id of a hash, 0 if it is not there. */
static uint32_t id_of_hash(const struct holder *tokens, unsigned n, const uint8_t *sha256)
{
    for (unsigned i = 0; i < n; i++)
        if (memcmp(tokens[i].sha256, sha256, FAE_SHA256_BYTES) == 0)
            return tokens[i].caller.who;
    return 0;
}

static void set_tokens(struct fae_access *access, const struct fae_config *config)
{
    struct holder *tokens = fae_zalloc(sizeof access->token);
    unsigned n = 0;

    for (unsigned i = 0; i < config->n_token; i++) {
        const struct fae_config_token *from = &config->token[i];
        struct holder *token = &tokens[n];

        /* The check of the configuration has refused these; if not, they are nobody's. */
        if (!fae_sha256_from_hex(from->sha256, token->sha256) || id_of_hash(tokens, n, token->sha256))
            continue;
        token->caller.who = id_of_hash(access->token, access->n_tokens, token->sha256);
        if (token->caller.who == 0)
            token->caller.who = ++access->last_id;
        token->caller.roles = fae_access_roles(access, from->roles);
        memcpy(token->name, from->name, sizeof token->name);
        n++;
    }
    memcpy(access->token, tokens, sizeof access->token);
    access->n_tokens = n;
    free(tokens);
}

/* The number that digits are, or NO_UID. */
static uint32_t digits(const char *text)
{
    size_t len = strspn(text, "0123456789");
    unsigned long long v = len && len < 11 && !text[len] ? strtoull(text, NULL, 10) : NO_UID;

    return v < NO_UID ? (uint32_t)v : NO_UID;
}

void fae_access_resolve(struct fae_config *config)
{
    struct passwd pw, *found;
    char text[4096];

    for (unsigned i = 0; i < config->n_account; i++) {
        struct fae_config_account *a = &config->account[i];

        found = NULL;
        if (!*a->uid && digits(a->name) == NO_UID && getpwnam_r(a->name, &pw, text, sizeof text, &found) == 0 && found)
            snprintf(a->uid, sizeof a->uid, "%u", (unsigned)found->pw_uid);
    }
}

static uint32_t id_of_name(const struct holder *holders, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(holders[i].name, name) == 0)
            return holders[i].caller.who;
    return 0;
}

/* Adds somebody who is known by a name; `before` are those of the configuration before. */
static void add_holder(struct fae_access *access, struct holder *to, const struct holder *before, unsigned n_before,
                       const char *name, const char *roles)
{
    uint32_t id = id_of_name(before, n_before, name);

    *to = (struct holder){ .uid = NO_UID };
    snprintf(to->name, sizeof to->name, "%s", name);
    to->caller = (struct fae_caller){ fae_access_roles(access, roles), id ? id : ++access->last_id };
}

static void set_accounts(struct fae_access *access, const struct fae_config *config)
{
    struct holder *before = fae_alloc(sizeof access->account);

    memcpy(before, access->account, sizeof access->account);
    for (unsigned i = 0; i < config->n_account; i++) {
        const struct fae_config_account *from = &config->account[i];

        add_holder(access, &access->account[i], before, access->n_accounts, from->name, from->roles);
        access->account[i].uid = digits(*from->uid ? from->uid : from->name);
    }
    access->n_accounts = config->n_account;
    free(before);
}

static void set_certificates(struct fae_access *access, const struct fae_config *config)
{
    struct holder *before = fae_alloc(sizeof access->certificate);

    memcpy(before, access->certificate, sizeof access->certificate);
    for (unsigned i = 0; i < config->n_certificate; i++) {
        const struct fae_config_certificate *from = &config->certificate[i];

        add_holder(access, &access->certificate[i], before, access->n_certificates, from->name, from->roles);
    }
    access->n_certificates = config->n_certificate;
    free(before);
}

void fae_access_update(struct fae_access *access, const struct fae_config *config)
{
    set_roles(access, config);
    set_tokens(access, config);
    set_accounts(access, config);
    set_certificates(access, config);
    for (unsigned i = 0; i < FAE_LISTENERS_MAX; i++)
        access->listener[i] = i < config->n_listen ? fae_access_roles(access, config->listen[i].roles) : 0;
}

struct fae_access *fae_access_new(const struct fae_config *config)
{
    struct fae_access *access = fae_zalloc(sizeof *access);

    fae_access_update(access, config);
    return access;
}

void fae_access_free(struct fae_access **access)
{
    free(*access);
    *access = NULL;
}

/* ---- roles ---- */

bool fae_access_on(const struct fae_access *access)
{
    return access && access->n_roles > 0;
}

uint32_t fae_access_roles(const struct fae_access *access, const char *list)
{
    char word[FAE_OPT_LIST_TEXT];
    uint32_t roles = 0;

    while (access && *list) {
        int bit;

        list = next_word(list, word);
        bit = find_role(access, word);
        if (bit >= 0)
            roles |= 1u << bit;
    }
    return roles;
}

void fae_access_words(const struct fae_access *access, uint32_t roles, struct fae_buf *out)
{
    const char *blank = "";

    for (unsigned bit = 0; access && bit < FAE_ROLES_MAX; bit++)
        if (roles & 1u << bit && *access->role[bit].name) {
            fae_buf_printf(out, "%s%s", blank, access->role[bit].name);
            blank = " ";
        }
}

bool fae_access_is_peer(const struct fae_access *access, uint32_t roles)
{
    for (unsigned bit = 0; access && bit < FAE_ROLES_MAX; bit++)
        if (roles & 1u << bit && access->role[bit].peer)
            return true;
    return false;
}

uint32_t fae_access_method(const struct fae_access *access, const char *name, const char *alias)
{
    static const char *const open[] = { "sys.hello", "sys.ctx", "sys.ping" };
    uint32_t roles = 0;

    if (!fae_access_on(access))
        return FAE_ROLES_ALL;
    for (unsigned i = 0; i < sizeof open / sizeof *open; i++)
        if (strcmp(name, open[i]) == 0)
            return FAE_ROLES_ALL;
    for (unsigned bit = 0; bit < FAE_ROLES_MAX; bit++) {
        const struct role *role = &access->role[bit];
        bool allowed = any_glob(role->allow, name) || (*alias && any_glob(role->allow, alias));

        if (allowed && !any_glob(role->deny, name) && !(*alias && any_glob(role->deny, alias)))
            roles |= 1u << bit;
    }
    return roles;
}

/* ---- who has them ---- */

static void add(struct fae_caller *caller, const struct holder *holder)
{
    caller->roles |= holder->caller.roles;
    caller->who = holder->caller.who;
}

void fae_access_listener(const struct fae_access *access, unsigned index, struct fae_caller *caller)
{
    if (access && index < FAE_LISTENERS_MAX)
        caller->roles |= access->listener[index];
}

bool fae_access_has_accounts(const struct fae_access *access)
{
    return access && access->n_accounts > 0;
}

void fae_access_account(const struct fae_access *access, uid_t uid, struct fae_caller *caller)
{
    for (unsigned i = 0; access && uid != NO_UID && i < access->n_accounts; i++)
        if (access->account[i].uid == uid)
            add(caller, &access->account[i]);
}

void fae_access_certificate(const struct fae_access *access, const char *common_name, struct fae_caller *caller)
{
    for (unsigned i = 0; access && i < access->n_certificates; i++)
        if (strcmp(access->certificate[i].name, common_name) == 0)
            add(caller, &access->certificate[i]);
}

void fae_access_token(const struct fae_access *access, uint32_t id, struct fae_caller *caller)
{
    for (unsigned i = 0; access && id && i < access->n_tokens; i++)
        if (access->token[i].caller.who == id)
            add(caller, &access->token[i]);
}

uint32_t fae_access_find_token(const struct fae_access *access, const void *token, size_t len)
{
    uint8_t sha256[FAE_SHA256_BYTES];
    uint32_t id = 0;

    if (!access || len > FAE_TOKEN_LEN_MAX)
        return 0;
    fae_sha256(token, len, sha256);
    /* No way out of this loop, and no branch in it, depends on which token it is. */
    for (unsigned i = 0; i < access->n_tokens; i++)
        id |= access->token[i].caller.who & -(uint32_t)fae_ct_equal(access->token[i].sha256, sha256, sizeof sha256);
    return id;
}

static const struct holder *find_holder(const struct holder *holders, unsigned n, uint32_t who)
{
    for (unsigned i = 0; i < n; i++)
        if (holders[i].caller.who == who)
            return &holders[i];
    return NULL;
}

bool fae_access_who(const struct fae_access *access, uint32_t who, struct fae_buf *out)
{
    const struct holder *found;
    const char *kind;

    if (!access || who == 0)
        return false;
    if ((found = find_holder(access->token, access->n_tokens, who)))
        kind = "token";
    else if ((found = find_holder(access->certificate, access->n_certificates, who)))
        kind = "certificate";
    else if ((found = find_holder(access->account, access->n_accounts, who)))
        kind = "account";
    else
        return false;
    fae_buf_printf(out, "%s:%s", kind, found->name);
    return true;
}
