/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One row for a text that has a form, one function for a kind of clash.
 */
#include "base/config_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* "0-511=UserShard1" or "7=UserShard1"; false: it is neither. */
static bool range(const char *text, unsigned *from_out, unsigned *to_out, const char **pool_out)
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

    return range(text, &from, &to, &pool) ? NULL : "must be buckets of 0 to 1023 and a pool, such as 0-511=UserShard1";
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

struct teller {
    const struct fae_config *config;
    fae_config_clash_fn tell;
    void *arg;
};

static void __attribute__((format(printf, 3, 4)))
tell(const struct teller *t, const struct fae_config_clash *clash, const char *fmt, ...)
{
    char why[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    t->tell(t->arg, clash, why);
}

static uint64_t number_of(const struct fae_config *config, const char *name)
{
    const struct fae_opt *opt = fae_opt_find(fae_config_opts, fae_config_n_opts, name);
    uint64_t value;

    memcpy(&value, (const char *)config + opt->offset, sizeof value);
    return value;
}

static void check_orders(const struct teller *t)
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
            tell(t, &clash, "%s must be %s %s (%" PRIu64 "), not %" PRIu64, orders[i].low,
                 orders[i].may_equal ? "at most" : "less than", orders[i].high, high, low);
    }
}

static void check_pair(const struct teller *t, const char *section, unsigned index, const char *cert, const char *key,
                       const char *names[2])
{
    const struct fae_config_clash no_key = { section, index, names[0], names[1] };
    const struct fae_config_clash no_cert = { section, index, names[1], names[0] };

    if (*cert && !*key)
        tell(t, &no_key, "%s needs %s", names[0], names[1]);
    if (*key && !*cert)
        tell(t, &no_cert, "%s needs %s", names[1], names[0]);
}

static void check_listen_tls(const struct teller *t, unsigned index)
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
            tell(t, &clash, "%s needs cert and key", listen->addr);
        check_pair(t, "listen", index, listen->cert, listen->key, names);
        clash = (struct fae_config_clash){ "listen", index, "client_cert_required", "client_ca" };
        if (listen->client_cert_required && !*listen->client_ca)
            tell(t, &clash, "client_cert_required needs client_ca");
        return;
    }
    for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++) {
        clash = (struct fae_config_clash){ "listen", index, keys[i].name, NULL };
        if (keys[i].given)
            tell(t, &clash, "%s is for tls:// addresses, %s is none", keys[i].name, listen->addr);
    }
}

/* Bits of an id that have the node's number. */
static void check_node_id(const struct teller *t)
{
    const struct fae_config_clash clash = { "", 0, "node_id", "id_layout" };

    if (t->config->id_layout == 0 && t->config->node_id > FAE_NODE_ID_MAX)
        tell(t, &clash, "node_id must be at most %u with id_layout fae, not %" PRIu64, FAE_NODE_ID_MAX,
             t->config->node_id);
}

static bool is_role(const struct fae_config *config, const char *name)
{
    for (unsigned i = 0; i < config->n_role; i++)
        if (strcmp(config->role[i].name, name) == 0)
            return true;
    return false;
}

static void check_roles(const struct teller *t, const char *section, unsigned index, const char *list)
{
    const struct fae_config_clash clash = { section, index, "roles", NULL };
    char one[FAE_OPT_LIST_TEXT];

    while (fae_config_word(&list, one)) {
        struct fae_suggest near = { .word = one };

        if (is_role(t->config, one))
            continue;
        for (unsigned i = 0; i < t->config->n_role; i++)
            fae_suggest_offer(&near, t->config->role[i].name);
        tell(t, &clash, "roles: there is no role \"%.64s\"%s%s%s", one, near.best ? ": did you mean \"" : "",
             near.best ? near.best : "", near.best ? "\"?" : "");
    }
}

/* How many words a list has. */
static unsigned count(const char *list)
{
    char one[FAE_OPT_LIST_TEXT];
    unsigned n = 0;

    while (fae_config_word(&list, one))
        n++;
    return n;
}

static bool twice(const char *list, char again[FAE_OPT_LIST_TEXT])
{
    char other[FAE_OPT_LIST_TEXT];

    while (fae_config_word(&list, again))
        for (const char *rest = list; fae_config_word(&rest, other);)
            if (strcmp(again, other) == 0)
                return true;
    return false;
}

/* The same of servers, which may be written in several ways: the first of them that stands there again. */
static bool server_twice(const char *list, char again[FAE_OPT_LIST_TEXT])
{
    char other[FAE_OPT_LIST_TEXT], why[160];
    struct fae_endpoint a, b;

    while (fae_config_word(&list, again))
        for (const char *rest = list; fae_config_word(&rest, other);)
            if (!fae_endpoint_parse(&a, again, why, sizeof why) && !fae_endpoint_parse(&b, other, why, sizeof why) &&
                strcmp(a.text, b.text) == 0)
                return true;
    return false;
}

static void check_pool(const struct teller *t, const char *section, unsigned index, const struct fae_config_pool *pool)
{
    const struct fae_config_clash clash = { section, index, "servers", NULL };
    const struct fae_config_clash warm = { section, index, "warm", "max" };
    char again[FAE_OPT_LIST_TEXT];
    unsigned n = count(pool->servers);

    if (n == 0)
        tell(t, &clash, "servers: pool %s has none", pool->name);
    if (n > FAE_POOL_SERVERS_MAX)
        tell(t, &clash, "servers: pool %s may have %u of them, not %u", pool->name, FAE_POOL_SERVERS_MAX, n);
    if (server_twice(pool->servers, again))
        tell(t, &clash, "servers: pool %s has %.160s twice", pool->name, again);
    if (pool->max && pool->warm > pool->max)
        tell(t, &warm, "warm must be at most max (%" PRIu64 "), not %" PRIu64, pool->max, pool->warm);
}

static unsigned weight_of(const char *list)
{
    char one[FAE_OPT_LIST_TEXT], why[160];
    struct fae_endpoint e;
    unsigned sum = 0;

    while (fae_config_word(&list, one))
        if (!fae_endpoint_parse(&e, one, why, sizeof why))
            sum += e.weight;
    return sum;
}

static void check_redis(const struct teller *t, unsigned index)
{
    static const char *names[2] = { "cert", "key" };
    const struct fae_config_redis *redis = &t->config->redis[index];
    const struct fae_config_clash clash = { "redis", index, "user", "password" };
    const struct fae_config_clash weighs = { "redis", index, "servers", NULL };

    check_pool(t, "redis", index, &redis->pool);
    check_pair(t, "redis", index, redis->cert, redis->key, names);
    if (weight_of(redis->pool.servers) > FAE_POOL_WEIGHT_MAX)
        tell(t, &weighs, "servers: weights of pool %s may add up to %u, not %u", redis->pool.name, FAE_POOL_WEIGHT_MAX,
             weight_of(redis->pool.servers));
    if (*redis->user && !*redis->password)
        tell(t, &clash, "user needs password");
}

static void check_memcache(const struct teller *t, unsigned index)
{
    const struct fae_config_memcache *memcache = &t->config->memcache[index];
    const struct fae_config_clash clash = { "memcache", index, "replica_num", "servers" };
    const struct fae_config_clash weighs = { "memcache", index, "servers", "select" };
    unsigned n = count(memcache->pool.servers);

    check_pool(t, "memcache", index, &memcache->pool);
    if (memcache->select == 1 && strchr(memcache->pool.servers, '*'))
        tell(t, &weighs, "servers: modulo knows no weights");
    if (memcache->replica_num > n && n > 0)
        tell(t, &clash, "replica_num must be at most the number of servers (%u), not %" PRIu64, n,
             memcache->replica_num);
}

static void check_mysql(const struct teller *t, unsigned index)
{
    static const char *names[2] = { "cert", "key" };
    const struct fae_config_mysql *mysql = &t->config->mysql[index];
    const struct fae_config_clash clash = { "mysql", index, "servers", NULL };
    const struct fae_config_clash user = { "mysql", index, "user", NULL };
    const struct fae_config_clash replicas = { "mysql", index, "replicas", NULL };
    char again[FAE_OPT_LIST_TEXT];

    check_pool(t, "mysql", index, &mysql->pool);
    check_pair(t, "mysql", index, mysql->cert, mysql->key, names);
    if (count(mysql->pool.servers) > 1)
        tell(t, &clash,
             "servers: pool %s must have one, which is written to; others are replicas, or pools of their own",
             mysql->pool.name);
    if (count(mysql->replicas) >= FAE_POOL_SERVERS_MAX)
        tell(t, &replicas, "replicas: pool %s may have %u of them, not %u", mysql->pool.name, FAE_POOL_SERVERS_MAX - 1,
             count(mysql->replicas));
    if (!*mysql->user)
        tell(t, &user, "user: pool %s has none", mysql->pool.name);
    if (server_twice(mysql->replicas, again))
        tell(t, &replicas, "replicas: pool %s has %.160s twice", mysql->pool.name, again);
}

/* Every bucket is in one pool. */
static void check_map(const struct teller *t, unsigned index, const struct fae_config_shard *shard)
{
    const struct fae_config_clash clash = { "shard", index, "map", NULL };
    bool has[FAE_SHARD_BUCKETS] = { false };
    char one[FAE_OPT_LIST_TEXT];
    const char *list = shard->map, *pool;
    unsigned from, to;

    while (fae_config_word(&list, one)) {
        if (!range(one, &from, &to, &pool))
            return; /* which has been told */
        for (unsigned i = from; i <= to; i++) {
            if (has[i]) {
                tell(t, &clash, "map: shard %s has bucket %u twice", shard->name, i);
                return;
            }
            has[i] = true;
        }
    }
    for (unsigned i = 0; *shard->map && i < FAE_SHARD_BUCKETS; i++) {
        if (!has[i]) {
            tell(t, &clash, "map: shard %s has no pool for bucket %u", shard->name, i);
            return;
        }
    }
}

static void check_mysql_pool(const struct teller *t, unsigned index, const char *option, const char *name)
{
    const struct fae_config_clash clash = { "shard", index, option, NULL };
    struct fae_suggest near = { .word = name };

    for (unsigned i = 0; i < t->config->n_mysql; i++) {
        if (strcmp(t->config->mysql[i].pool.name, name) == 0)
            return;
        fae_suggest_offer(&near, t->config->mysql[i].pool.name);
    }
    tell(t, &clash, "%s: there is no mysql pool \"%.64s\"%s%s%s", option, name, near.best ? ": did you mean \"" : "",
         near.best ? near.best : "", near.best ? "\"?" : "");
}

/* The pools that a shard names are there, and none is called like it. */
static void check_shard_pools(const struct teller *t, unsigned index)
{
    const struct fae_config_shard *shard = &t->config->shard[index];
    const struct fae_config_clash clash = { "shard", index, "name", NULL };
    const char *pools = shard->pools, *map = shard->map, *pool;
    char one[FAE_OPT_LIST_TEXT];
    unsigned from, to;

    for (unsigned i = 0; i < t->config->n_mysql; i++)
        if (strcmp(t->config->mysql[i].pool.name, shard->name) == 0)
            tell(t, &clash, "name: there is a mysql pool %s too, which nobody could reach", shard->name);
    if (*shard->lookup_pool)
        check_mysql_pool(t, index, "lookup_pool", shard->lookup_pool);
    while (fae_config_word(&pools, one))
        check_mysql_pool(t, index, "pools", one);
    while (fae_config_word(&map, one))
        if (range(one, &from, &to, &pool))
            check_mysql_pool(t, index, "map", pool);
}

static bool is_shard(const struct fae_config *config, const char *name)
{
    for (unsigned i = 0; i < config->n_shard; i++)
        if (strcmp(config->shard[i].name, name) == 0)
            return true;
    return false;
}

/* What each strategy needs, and what is not for it. */
static void check_shard(const struct teller *t, unsigned index)
{
    static const char *const strategies[] = { "standard", "hash", "vbucket" };
    const struct fae_config_shard *shard = &t->config->shard[index];
    const char *strategy = strategies[shard->strategy];
    const struct {
        const char *name, *text;
        unsigned for_strategies; /* bits */
    } rows[] = { { "lookup_pool", shard->lookup_pool, 1u << FAE_SHARD_STANDARD },
                 { "lookup_table", shard->lookup_table, 1u << FAE_SHARD_STANDARD },
                 { "pools", shard->pools, 1u << FAE_SHARD_HASH | 1u << FAE_SHARD_VBUCKET },
                 { "map", shard->map, 1u << FAE_SHARD_VBUCKET } };
    char again[FAE_OPT_LIST_TEXT];

    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct fae_config_clash clash = { "shard", index, rows[i].name, "strategy" };
        bool is_for = rows[i].for_strategies >> shard->strategy & 1;

        if (*rows[i].text && !is_for)
            tell(t, &clash, "%s is not for the strategy %s", rows[i].name, strategy);
        if (!*rows[i].text && is_for && shard->strategy != FAE_SHARD_VBUCKET)
            tell(t, &clash, "%s: shard %s needs it", rows[i].name, shard->name);
    }
    if (shard->strategy == FAE_SHARD_VBUCKET && !*shard->pools && !*shard->map) {
        const struct fae_config_clash clash = { "shard", index, "pools", "map" };

        tell(t, &clash, "pools: shard %s needs pools or a map", shard->name);
    }
    if (twice(shard->pools, again)) {
        const struct fae_config_clash clash = { "shard", index, "pools", NULL };

        tell(t, &clash, "pools: shard %s has %.63s twice", shard->name, again);
    }
    if (*shard->lookup_pool && is_shard(t->config, shard->lookup_pool)) {
        const struct fae_config_clash clash = { "shard", index, "lookup_pool", NULL };

        tell(t, &clash, "lookup_pool: %s is spread itself", shard->lookup_pool);
    }
    check_map(t, index, shard);
    check_shard_pools(t, index);
}

/* kv_backend names a pool. */
static void check_kv_backend(const struct teller *t)
{
    const struct fae_config_clash clash = { "", 0, "kv_backend", NULL };
    const char *kind = strncmp(t->config->kv_backend, "mysql:", 6) == 0 ? "mysql" : "redis";
    const struct fae_config_section *section = fae_config_section(kind);
    struct fae_suggest near = { .word = t->config->kv_backend + 6 };

    if (strcmp(t->config->kv_backend, "local") == 0)
        return;
    for (unsigned i = 0; i < *fae_config_count(section, t->config); i++) {
        const struct fae_config_pool *pool = fae_config_entry(section, t->config, i);

        if (strcmp(pool->name, near.word) == 0)
            return;
        fae_suggest_offer(&near, pool->name);
    }
    tell(t, &clash, "kv_backend: there is no %s pool \"%.64s\"%s%s%s", kind, near.word,
         near.best ? ": did you mean \"" : "", near.best ? near.best : "", near.best ? "\"?" : "");
}

/* Each server of each pool has a row in shared memory (backend/upstream.h). Told of the first pool that has too many. */
static void add_servers(const struct teller *t, const char *section, unsigned index, unsigned n, unsigned *total)
{
    const struct fae_config_clash clash = { section, index, "servers", NULL };

    if (*total <= FAE_UPSTREAMS_MAX && *total + n > FAE_UPSTREAMS_MAX)
        tell(t, &clash, "servers: all pools together may have %u of them", FAE_UPSTREAMS_MAX);
    *total += n;
}

static void check_total(const struct teller *t)
{
    const struct fae_config *c = t->config;
    unsigned total = 0;

    for (unsigned i = 0; i < c->n_redis; i++)
        add_servers(t, "redis", i, count(c->redis[i].pool.servers), &total);
    for (unsigned i = 0; i < c->n_memcache; i++)
        add_servers(t, "memcache", i, count(c->memcache[i].pool.servers), &total);
    for (unsigned i = 0; i < c->n_mysql; i++)
        add_servers(t, "mysql", i, count(c->mysql[i].pool.servers) + count(c->mysql[i].replicas), &total);
}

void fae_config_clashes(const struct fae_config *config, fae_config_clash_fn fn, void *arg)
{
    static const char *admin[2] = { "admin_cert", "admin_key" };
    const struct teller t = { config, fn, arg };

    check_orders(&t);
    check_node_id(&t);
    check_pair(&t, "", 0, config->admin_cert, config->admin_key, admin);
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
    for (unsigned i = 0; i < config->n_redis; i++)
        check_redis(&t, i);
    for (unsigned i = 0; i < config->n_memcache; i++)
        check_memcache(&t, i);
    for (unsigned i = 0; i < config->n_mysql; i++)
        check_mysql(&t, i);
    for (unsigned i = 0; i < config->n_shard; i++)
        check_shard(&t, i);
    check_total(&t);
    check_kv_backend(&t);
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
