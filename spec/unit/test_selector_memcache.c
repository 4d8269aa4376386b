/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/selector_memcache: ketama against libmemcached itself, set as PHP's OPT_LIBKETAMA_COMPATIBLE sets it; modulo by
 * fae's vectors.
 */
#include "unit.h"

#include <libmemcached/memcached.h>

#include "backend/selector_memcache.h"
#include "base/limits.h"
#include "net/digest.h"

#define KEYS 100000u

static struct fae_endpoint endpoint(const char *text)
{
    struct fae_endpoint e;
    char why[128];

    assert_int_equal(fae_endpoint_parse(&e, text, why, sizeof why), FAE_OK);
    return e;
}

static unsigned pick(const struct fae_selector_memcache *s, const char *key)
{
    return fae_selector_memcache_pick(s, key, strlen(key));
}

static memcached_st *oracle_of(const struct fae_endpoint *servers, unsigned n)
{
    memcached_st *memc = memcached_create(NULL);

    memcached_behavior_set(memc, MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, 1);
    for (unsigned i = 0; i < n; i++) /* as PHP's addServer does, of a unix socket too */
        memcached_server_add_with_weight(memc, servers[i].host, (in_port_t)servers[i].port, servers[i].weight);
    return memc;
}

static void agrees(const char *const *texts, unsigned n)
{
    struct fae_endpoint servers[FAE_POOL_SERVERS_MAX];
    unsigned *counts = calloc(n, sizeof *counts), n_used = 0;
    struct fae_selector_memcache *s;
    memcached_st *memc;

    for (unsigned i = 0; i < n; i++)
        servers[i] = endpoint(texts[i]);
    s = fae_selector_memcache_new(FAE_SELECT_KETAMA, servers, n);
    memc = oracle_of(servers, n);
    for (unsigned i = 0; i < KEYS; i++) {
        char key[64];
        int len = snprintf(key, sizeof key, i % 2 ? "user:%u" : "k%x-%u", i, i * 7919);
        unsigned server = fae_selector_memcache_pick(s, key, (size_t)len);

        if (server != memcached_generate_hash(memc, key, (size_t)len))
            fail_msg("%s: %u, not %u", key, server, memcached_generate_hash(memc, key, (size_t)len));
        counts[server]++;
    }
    for (unsigned i = 0; i < n; i++)
        n_used += counts[i] > 0;
    assert_true(n_used == n || n_used >= 2); /* one of very little weight has no point there either */
    free(counts);
    memcached_free(memc);
    fae_selector_memcache_free(&s);
    assert_null(s);
}

static void ketama_is_libmemcacheds(void **state)
{
    static const char *const one[] = { "10.0.0.1:11211" };
    static const char *const two[] = { "10.0.0.1:11211", "10.0.0.2:11211" };
    static const char *const ports[] = { "127.0.0.1:11211", "127.0.0.1:11212", "127.0.0.1:11213" };
    static const char *const mixed[] = { "cache-1.internal:11211", "[::1]:22122", "unix:/run/memcached.sock",
                                         "cache-2.internal:11211", "10.1.2.3:1" };

    (void)state;
    agrees(one, 1);
    agrees(two, 2);
    agrees(ports, 3);
    agrees(mixed, 5);
}

static void ketama_of_weights_is_libmemcacheds(void **state)
{
    static const char *const two[] = { "10.0.0.1:11211", "10.0.0.2:11211*2" };
    static const char *const three[] = { "10.0.0.1:11211*3", "10.0.0.2:11211*7", "10.0.0.3:11311*11" };
    static const char *const lopsided[] = { "10.0.0.1:11211*1000", "10.0.0.2:11211*1", "10.0.0.3:11211*999" };

    (void)state;
    agrees(two, 2);
    agrees(three, 3);
    agrees(lopsided, 3);
}

/* The number of points is a rounding of floats: each number of servers up to the most there may be. */
static void ketama_of_any_number_is_libmemcacheds(void **state)
{
    struct fae_endpoint servers[FAE_POOL_SERVERS_MAX];

    (void)state;
    for (unsigned i = 0; i < FAE_POOL_SERVERS_MAX; i++) {
        char text[64];

        snprintf(text, sizeof text, "10.0.%u.%u:11211*%u", i / 8, i, i % 5 ? 1 : i + 1);
        servers[i] = endpoint(text);
    }
    for (unsigned n = 1; n <= FAE_POOL_SERVERS_MAX; n++) {
        struct fae_selector_memcache *s = fae_selector_memcache_new(FAE_SELECT_KETAMA, servers, n);
        memcached_st *memc = oracle_of(servers, n);

        for (unsigned i = 0; i < 2000; i++)
            assert_int_equal(fae_selector_memcache_pick(s, &i, sizeof i),
                             memcached_generate_hash(memc, (const char *)&i, sizeof i));
        memcached_free(memc);
        fae_selector_memcache_free(&s);
    }
}

/* D12, D13: the servers of this pool alone, in the order of the configuration. */
static void modulo_is_faes(void **state)
{
    static const struct {
        const char *key;
        unsigned hash;
    } rows[] = { { "test", 22655 }, { "foo", 3187 }, { "user:1", 31653 } };
    struct fae_endpoint servers[5];

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        servers[i] = endpoint("10.0.0.1:11211");
    for (unsigned n = 1; n <= 5; n++) {
        struct fae_selector_memcache *s = fae_selector_memcache_new(FAE_SELECT_MODULO, servers, n);

        for (unsigned i = 0; i < UNIT_N(rows); i++)
            assert_int_equal(pick(s, rows[i].key), rows[i].hash % n);
        fae_selector_memcache_free(&s);
    }
}

/* What pick says comes first, and each server once. */
static void check_picks(const struct fae_selector_memcache *s, unsigned n, bool follows_list)
{
    unsigned servers[FAE_POOL_SERVERS_MAX];

    for (unsigned i = 0; i < 1000; i++)
        for (unsigned wanted = 1; wanted <= n; wanted++) {
            unsigned seen = 0;

            fae_selector_memcache_picks(s, &i, sizeof i, wanted, servers);
            assert_int_equal(servers[0], fae_selector_memcache_pick(s, &i, sizeof i));
            for (unsigned j = 0; j < wanted; j++) {
                assert_true(servers[j] < n);
                assert_false(seen & 1u << servers[j]);
                seen |= 1u << servers[j];
                if (follows_list)
                    assert_int_equal(servers[j], (servers[0] + j) % n);
            }
        }
}

static void replicas_are_others(void **state)
{
    struct fae_endpoint servers[4] = { endpoint("10.0.0.1:11211*900"), endpoint("10.0.0.2:11211"),
                                       endpoint("10.0.0.3:11211*900"), endpoint("10.0.0.4:11211*900") };

    (void)state;
    for (unsigned n = 1; n <= 4; n++) {
        struct fae_selector_memcache *ketama = fae_selector_memcache_new(FAE_SELECT_KETAMA, servers, n);
        struct fae_selector_memcache *modulo = fae_selector_memcache_new(FAE_SELECT_MODULO, servers, n);

        check_picks(ketama, n, false);
        check_picks(modulo, n, true);
        fae_selector_memcache_free(&ketama);
        fae_selector_memcache_free(&modulo);
    }
}

/* Of the keys of a server that goes, each finds the server that was its second. */
static void second_inherits(void **state)
{
    static const char *const texts[] = { "10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11211" };
    struct fae_endpoint all[3], left[2];
    struct fae_selector_memcache *before, *after;
    unsigned servers[2];

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        all[i] = endpoint(texts[i]);
    left[0] = all[0];
    left[1] = all[2];
    before = fae_selector_memcache_new(FAE_SELECT_KETAMA, all, 3);
    after = fae_selector_memcache_new(FAE_SELECT_KETAMA, left, 2);
    for (unsigned i = 0; i < 10000; i++) {
        fae_selector_memcache_picks(before, &i, sizeof i, 2, servers);
        if (servers[0] == 1)
            servers[0] = servers[1];
        assert_int_equal(fae_selector_memcache_pick(after, &i, sizeof i), servers[0] == 2);
    }
    fae_selector_memcache_free(&before);
    fae_selector_memcache_free(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ketama_is_libmemcacheds),
        cmocka_unit_test(ketama_of_weights_is_libmemcacheds),
        cmocka_unit_test(ketama_of_any_number_is_libmemcacheds),
        cmocka_unit_test(modulo_is_faes),
        cmocka_unit_test(replicas_are_others),
        cmocka_unit_test(second_inherits),
    };

    return cmocka_run_group_tests_name("backend/selector_memcache", tests, NULL, NULL);
}
