/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who may call what. Roles are bits: a session has those of its listener, its account, its certificate and the tokens
 * it showed; a method knows which roles may call it. Without any role in the configuration everybody may call anything.
 * Pure, but for fae_access_resolve.
 */
#ifndef FAE_RPC_ACCESS_H
#define FAE_RPC_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/config.h"

#define FAE_TOKEN_LEN_MAX 4096u /* a longer one is nobody's: hashing megabytes is what a flood would want */
#define FAE_ROLES_ALL UINT32_MAX
/* A role that every session has and no configuration names: for what a client needs before it can say who it is. */
#define FAE_ROLES_EVERYBODY (1u << FAE_ROLES_MAX)

/* Who makes a call. */
struct fae_caller {
    uint32_t roles;
    uint32_t who; /* id of a token, a certificate or an account; 0: nobody in particular */
};

struct fae_access; /* the configuration's roles, tokens, accounts and certificates, made ready; NULL passes for none */

/* Asks this machine for the numbers of accounts that the configuration only names, and puts them into it. It may wait,
 * so it is for whoever reads a configuration, not for who serves with one. */
void fae_access_resolve(struct fae_config *config);

struct fae_access *fae_access_new(const struct fae_config *config); /* copies what it needs */
void fae_access_free(struct fae_access **access);
/* Another configuration. A role keeps its bit as long as its name is there, a token its id as long as its hash is; no
 * id is given twice, and a new role gets the bit of one that went just now only if there is no other. */
void fae_access_update(struct fae_access *access, const struct fae_config *config);

/* There are roles: what none allows is forbidden. */
bool fae_access_on(const struct fae_access *access);

/* The roles that may call a method, by its name and (or "") its alias; FAE_ROLES_ALL when access is off, and for
 * sys.hello, sys.ctx and sys.ping. */
uint32_t fae_access_method(const struct fae_access *access, const char *name, const char *alias);

/* A list's words ("web admin") as bits; words that are no role have none. */
uint32_t fae_access_roles(const struct fae_access *access, const char *list);
/* Appends the words of the bits, with one blank between them. */
void fae_access_words(const struct fae_access *access, uint32_t roles, struct fae_buf *out);
/* One of the roles is a peer's. */
bool fae_access_is_peer(const struct fae_access *access, uint32_t roles);

/* ---- who has them: each adds what it finds to *caller, and leaves it alone otherwise ---- */

void fae_access_listener(const struct fae_access *access, unsigned index, struct fae_caller *caller);
void fae_access_account(const struct fae_access *access, uid_t uid, struct fae_caller *caller);
void fae_access_certificate(const struct fae_access *access, const char *common_name, struct fae_caller *caller);
void fae_access_token(const struct fae_access *access, uint32_t id, struct fae_caller *caller);

bool fae_access_has_accounts(const struct fae_access *access);
/* The id of a token, 0 when it is nobody's. All tokens are looked at, in constant time. */
uint32_t fae_access_find_token(const struct fae_access *access, const void *token, size_t len);
/* Appends "token:web", "account:www-data" or "certificate:cn"; false (and nothing) for 0 and who is there no more. */
bool fae_access_who(const struct fae_access *access, uint32_t who, struct fae_buf *out);

/* "shop.*" and "*" against "shop.buy"; each * is any run of bytes. */
bool fae_access_glob(const char *glob, const char *name);

#endif
