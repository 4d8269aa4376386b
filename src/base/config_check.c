/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One row for a text that has a form, one function for a kind of clash; those of pools and shards are config_pools'.
 */
#include "base/config_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_check_impl.h"
#include "base/config_rows.h"
#include "base/endpoint.h"
#include "base/nets.h"
#include "base/suggest.h"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"
#define HASH_DIGITS 64 /* of a SHA-256 */

static const char *const fence_words[] = { "debug", "ffi", "io.popen", "loadlib", "os.execute" };

bool fae_config_word(const char **list_io, char word[FAE_OPT_LIST_TEXT])
{
    const char *p = *list_io + strspn(*list_io, " ");
    size_t n = strcspn(p, " ");

    if (n == 0)
        return false;
    memcpy(word, p, n);
    word[n] = '\0';
    *list_io = p + n;
    return true;
}

static bool only(const char *text, size_t len, const char *chars)
{
    return strspn(text, chars) >= len;
}

/* Inside a method's name. */
static bool is_part(const char *text, size_t len)
{
    return len > 0 && only(text, len, LETTERS DIGITS "_");
}

/* ---- texts: NULL when the word is right, else what it must be ---- */

static const char *hash(const char *text)
{
    return only(text, strlen(text), DIGITS "abcdefABCDEF") && strlen(text) == HASH_DIGITS
               ? NULL
               : "must be a SHA-256 of 64 hex digits";
}

static const char *hash_or_none(const char *text)
{
    return *text ? hash(text) : NULL;
}

static const char *word(const char *text)
{
    return only(text, strlen(text), LETTERS DIGITS "_-") ? NULL : "must be a word of letters, digits, \"_\" and \"-\"";
}

static const char *file(const char *text)
{
    return fae_config_name_ok(text) ? NULL : "must be a name of letters, digits and \"_\"";
}

static const char *account(const char *text)
{
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == ':')
            return "must be the name of an account, or its number";
    return NULL;
}

static const char *number(const char *text)
{
    return only(text, strlen(text), DIGITS) ? NULL : "must be a number";
}

static const char *methods(const char *text)
{
    const char *dot = strchr(text, '.');
    size_t len = dot ? (size_t)(dot - text) : strlen(text);

    if (is_part(text, len) && (!dot || strcmp(dot, ".*") == 0 || is_part(dot + 1, strlen(dot + 1))))
        return NULL;
    return "must be a method such as \"shop.buy\", or \"shop.*\" for all of a servant";
}

static const char *net(const char *text)
{
    struct fae_nets nets;
    char why[160];

    return fae_nets_parse(text, &nets, why, sizeof why) == FAE_OK
               ? NULL
               : "must be addresses such as \"10.0.0.7\" or networks such as \"10.0.0.0/8\"";
}

/* "redis:main"; that there is such a pool is check_kv_backend's. */
static const char *backend(const char *text)
{
    if (strcmp(text, "local") == 0 || (strncmp(text, "redis:", 6) == 0 && text[6]) ||
        (strncmp(text, "mysql:", 6) == 0 && text[6]))
        return NULL;
    return "must be local, redis:POOL or mysql:POOL";
}

static const char *endpoint(const char *text)
{
    static char why[160];
    struct fae_endpoint e;

    return fae_endpoint_parse(&e, text, why, sizeof why) == FAE_OK ? NULL : why;
}

static const char *plain_endpoint(const char *text)
{
    return strncmp(text, "tls:", 4) == 0 ? "must be HOST:PORT or unix:/PATH: memcached is not spoken to over tls"
                                         : endpoint(text);
}

/* "shards", or "lookup.shards" */
static const char *table(const char *text)
{
    const char *dot = strchr(text, '.');
    size_t len = dot ? (size_t)(dot - text) : strlen(text);

    if (!*text || (is_part(text, len) && (!dot || is_part(dot + 1, strlen(dot + 1)))))
        return NULL;
    return "must be the name of a table, or DB.NAME";
}

bool fae_config_buckets(const char *text, unsigned *from_out, unsigned *to_out, const char **pool_out)
{
    size_t a = strspn(text, DIGITS), b;
    const char *rest = text + a;

    if (a == 0 || a > 4)
        return false;
    *from_out = *to_out = (unsigned)atoi(text);
    if (*rest == '-') {
        b = strspn(++rest, DIGITS);
        if (b == 0 || b > 4)
            return false;
        *to_out = (unsigned)atoi(rest);
        rest += b;
    }
    *pool_out = rest + 1;
    return *rest == '=' && rest[1] && !word(rest + 1) && *from_out <= *to_out && *to_out < FAE_SHARD_BUCKETS;
}

static const char *buckets(const char *text)
{
    unsigned from, to;
    const char *pool;

    return fae_config_buckets(text, &from, &to, &pool)
               ? NULL
               : "must be buckets of 0 to 1023 and a pool, such as 0-511=UserShard1";
}

static const char *glob(const char *text)
{
    return only(text, strlen(text), LETTERS DIGITS "_.*") ? NULL
                                                          : "must be methods or globs such as \"shop.*\" or \"*\"";
}

static const char *fence(const char *text)
{
    for (size_t i = 0; i < sizeof fence_words / sizeof *fence_words; i++)
        if (strcmp(fence_words[i], text) == 0)
            return NULL;
    return "must be of debug, ffi, io.popen, loadlib and os.execute";
}

static const struct {
    const char *section, *option;
    const char *(*form)(const char *text); /* of the text, or of each word of a list */
} forms[] = {
    { "", "host_exempt", net },
    { "", "admin_token", hash_or_none },
    { "", "kv_backend", backend },
    { "listen", "roles", word },
    { "limit", "methods", methods },
    { "role", "name", word },
    { "role", "allow", glob },
    { "role", "deny", glob },
    { "token", "name", word },
    { "token", "sha256", hash },
    { "token", "roles", word },
    { "account", "name", account },
    { "account", "roles", word },
    { "account", "uid", number },
    { "certificate", "roles", word },
    { "fence", "name", file },
    { "fence", "allow", fence },
    { "redis", "name", word },
    { "redis", "servers", endpoint },
    { "memcache", "name", word },
    { "memcache", "servers", plain_endpoint },
    { "mysql", "name", word },
    { "mysql", "servers", endpoint },
    { "mysql", "replicas", endpoint },
    { "mysql", "charset", word },
    { "shard", "name", word },
    { "shard", "lookup_pool", word },
    { "shard", "lookup_table", table },
    { "shard", "pools", word },
    { "shard", "map", buckets },
};

static const char *near_fence_word(const char *text)
{
    struct fae_suggest near = { .word = text };

    for (size_t i = 0; i < sizeof fence_words / sizeof *fence_words; i++)
        fae_suggest_offer(&near, fence_words[i]);
    return near.best;
}

static void say_form(const struct fae_opt *opt, const char *text, const char *must, const char *near, char *why,
                     size_t size)
{
    if (opt->secret)
        snprintf(why, size, "%s %s", opt->name, must);
    else
        snprintf(why, size, "%s %s, not \"%.64s\"%s%s%s", opt->name, must, text, near ? ": did you mean \"" : "",
                 near ? near : "", near ? "\"?" : "");
}

enum fae_err fae_config_value_ok(const char *section, const struct fae_opt *opt, const void *from, char *why_out,
                                 size_t why_size)
{
    const char *text = (const char *)from + opt->offset, *must;
    char one[FAE_OPT_LIST_TEXT];

    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(forms[i].section, section) != 0 || strcmp(forms[i].option, opt->name) != 0)
            continue;
        if (opt->type != FAE_OPT_LIST) {
            must = forms[i].form(text);
            if (must)
                say_form(opt, text, must, NULL, why_out, why_size);
            return must ? FAE_BAD_CONFIG : FAE_OK;
        }
        while (fae_config_word(&text, one)) {
            must = forms[i].form(one);
            if (must) {
                say_form(opt, one, must, forms[i].form == fence ? near_fence_word(one) : NULL, why_out, why_size);
                return FAE_BAD_CONFIG;
            }
        }
        return FAE_OK;
    }
    return FAE_OK;
}

const struct fae_opt *fae_config_missing(const struct fae_config_section *section, const void *entry)
{
    for (unsigned i = 0; i < *section->n_opts; i++) {
        const struct fae_opt *opt = &section->opts[i];

        if (opt->type == FAE_OPT_STRING && opt->min && !((const char *)entry)[opt->offset])
            return opt;
    }
    return NULL;
}

bool fae_config_name_ok(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= FAE_CONFIG_NAME_MAX && !(*name >= '0' && *name <= '9') && is_part(name, len);
}

/* ---- clashes ---- */

void fae_config_tell(const struct fae_config_teller *t, const struct fae_config_clash *clash, const char *fmt, ...)
{
    char why[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    t->tell(t->arg, clash, why);
}

void fae_config_tell_unknown(const struct fae_config_teller *t, const struct fae_config_clash *clash, const char *what,
                             const struct fae_suggest *near)
{
    fae_config_tell(t, clash, "%s: there is no %s \"%.64s\"%s%s%s", clash->name, what, near->word,
                    near->best ? ": did you mean \"" : "", near->best ? near->best : "", near->best ? "\"?" : "");
}

static uint64_t number_of(const struct fae_config *config, const char *name)
{
    const struct fae_opt *opt = fae_opt_find(fae_config_opts, fae_config_n_opts, name);
    uint64_t value;

    memcpy(&value, (const char *)config + opt->offset, sizeof value);
    return value;
}

static void check_orders(const struct fae_config_teller *t)
{
    static const struct {
        const char *low, *high;
        bool may_equal;
    } orders[] = {
        { "watchdog_warn_ms", "watchdog_kill_ms", false },
        { "drain_spread_ms", "drain_ms", true },
    };

    for (unsigned i = 0; i < sizeof orders / sizeof *orders; i++) {
        const struct fae_config_clash clash = { "", 0, orders[i].low, orders[i].high };
        uint64_t low = number_of(t->config, orders[i].low), high = number_of(t->config, orders[i].high);

        if (low > high || (low == high && !orders[i].may_equal))
            fae_config_tell(t, &clash, "%s must be %s %s (%" PRIu64 "), not %" PRIu64, orders[i].low,
                            orders[i].may_equal ? "at most" : "less than", orders[i].high, high, low);
    }
}

void fae_config_check_pair(const struct fae_config_teller *t, const char *section, unsigned index, const char *cert,
                           const char *key, const char *names[2])
{
    const struct fae_config_clash no_key = { section, index, names[0], names[1] };
    const struct fae_config_clash no_cert = { section, index, names[1], names[0] };

    if (*cert && !*key)
        fae_config_tell(t, &no_key, "%s needs %s", names[0], names[1]);
    if (*key && !*cert)
        fae_config_tell(t, &no_cert, "%s needs %s", names[1], names[0]);
}

static void check_listen_tls(const struct fae_config_teller *t, unsigned index)
{
    static const char *names[2] = { "cert", "key" };
    const struct fae_config_listen *listen = &t->config->listen[index];
    const struct {
        const char *name;
        bool given;
    } keys[] = { { "cert", *listen->cert },
                 { "key", *listen->key },
                 { "client_ca", *listen->client_ca },
                 { "client_cert_required", listen->client_cert_required } };
    struct fae_config_clash clash = { "listen", index, "addr", "cert" };

    if (fae_config_is_tls(listen)) {
        if (!*listen->cert && !*listen->key)
            fae_config_tell(t, &clash, "%s needs cert and key", listen->addr);
        fae_config_check_pair(t, "listen", index, listen->cert, listen->key, names);
        clash = (struct fae_config_clash){ "listen", index, "client_cert_required", "client_ca" };
        if (listen->client_cert_required && !*listen->client_ca)
            fae_config_tell(t, &clash, "client_cert_required needs client_ca");
        return;
    }
    for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++) {
        clash = (struct fae_config_clash){ "listen", index, keys[i].name, NULL };
        if (keys[i].given)
            fae_config_tell(t, &clash, "%s is for tls:// addresses, %s is none", keys[i].name, listen->addr);
    }
}

/* Bits of an id that have the node's number. */
static void check_node_id(const struct fae_config_teller *t)
{
    const struct fae_config_clash clash = { "", 0, "node_id", "id_layout" };

    if (t->config->id_layout == 0 && t->config->node_id > FAE_NODE_ID_MAX)
        fae_config_tell(t, &clash, "node_id must be at most %u with id_layout fae, not %" PRIu64, FAE_NODE_ID_MAX,
                        t->config->node_id);
}

/* None, or one that holds a large value. */
static void check_query_cache(const struct fae_config_teller *t)
{
    const struct fae_config_clash clash = { "", 0, "query_cache_size", NULL };

    if (t->config->query_cache_size && t->config->query_cache_size < 8 * FAE_MIB)
        fae_config_tell(t, &clash, "query_cache_size must be 0 or at least 8MiB");
}

static bool is_role(const struct fae_config *config, const char *name)
{
    for (unsigned i = 0; i < config->n_role; i++)
        if (strcmp(config->role[i].name, name) == 0)
            return true;
    return false;
}

static void check_roles(const struct fae_config_teller *t, const char *section, unsigned index, const char *list)
{
    const struct fae_config_clash clash = { section, index, "roles", NULL };
    char one[FAE_OPT_LIST_TEXT];

    while (fae_config_word(&list, one)) {
        struct fae_suggest near = { .word = one };

        if (is_role(t->config, one))
            continue;
        for (unsigned i = 0; i < t->config->n_role; i++)
            fae_suggest_offer(&near, t->config->role[i].name);
        fae_config_tell_unknown(t, &clash, "role", &near);
    }
}

void fae_config_clashes(const struct fae_config *config, fae_config_clash_fn fn, void *arg)
{
    static const char *admin[2] = { "admin_cert", "admin_key" };
    const struct fae_config_teller t = { config, fn, arg };

    check_orders(&t);
    check_node_id(&t);
    check_query_cache(&t);
    fae_config_check_pair(&t, "", 0, config->admin_cert, config->admin_key, admin);
    for (unsigned i = 0; i < config->n_listen; i++) {
        check_listen_tls(&t, i);
        check_roles(&t, "listen", i, config->listen[i].roles);
    }
    for (unsigned i = 0; i < config->n_token; i++)
        check_roles(&t, "token", i, config->token[i].roles);
    for (unsigned i = 0; i < config->n_account; i++)
        check_roles(&t, "account", i, config->account[i].roles);
    for (unsigned i = 0; i < config->n_certificate; i++)
        check_roles(&t, "certificate", i, config->certificate[i].roles);
    fae_config_check_pools(&t);
}

struct first {
    const char *name;
    char *why;
    size_t size;
};

static void keep_first(void *arg, const struct fae_config_clash *clash, const char *why)
{
    struct first *first = arg;

    if (first->name)
        return;
    first->name = clash->name;
    snprintf(first->why, first->size, "%s%s%s", clash->section, *clash->section ? ": " : "", why);
}

enum fae_err fae_config_agrees(const struct fae_config *config, const char **name_out, char *why_out, size_t why_size)
{
    struct first first = { .why = why_out, .size = why_size };

    fae_config_clashes(config, keep_first, &first);
    if (!first.name)
        return FAE_OK;
    *name_out = first.name;
    return FAE_BAD_CONFIG;
}
