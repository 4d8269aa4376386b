/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/hosts: who is one host, how many sessions it may have over all workers, when an entry is free for another, and what
 * a full table means.
 */
#include "unit.h"

#include <pthread.h>

#include "base/shm.h"
#include "rpc/hosts.h"

#define SECOND 1000000000ull

static const unsigned n_workers = 3;
static const struct fae_shm_region regions[] = { { "hosts", fae_hosts_size, fae_hosts_init } };
static struct fae_shm shm;
static struct fae_hosts *hosts;

static int set_up(void **state)
{
    (void)state;
    if (fae_shm_map(&shm, regions, 1, &n_workers))
        return -1;
    hosts = fae_shm_get(&shm, "hosts");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_shm_unmap(&shm);
    return 0;
}

static struct fae_ip v4(uint32_t n)
{
    uint8_t bytes[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
    struct fae_ip ip;

    fae_ip_of_v4(&ip, bytes);
    return ip;
}

static struct fae_ip v6(uint8_t customer, uint8_t machine)
{
    return (struct fae_ip){ { 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, customer, 0, 0, 0, 0, 0, 0, 0, machine } };
}

static uint16_t enter(struct fae_ip ip, unsigned slot)
{
    uint16_t host = 4711;

    assert_int_equal(fae_hosts_enter(hosts, &ip, 0, slot, SECOND, &host), FAE_GATE_OPEN);
    return host;
}

static void an_address_is_a_host_and_so_is_a_customers_network(void **state)
{
    uint16_t a, b, c, d;

    (void)state;
    a = enter(v4(0x0a000001), 0);
    b = enter(v4(0x0a000002), 0);
    assert_true(a != FAE_HOST_NONE);
    assert_true(a != b);
    assert_int_equal(enter(v4(0x0a000001), 2), a);
    assert_int_equal(fae_host_sessions(hosts, a), 2);
    c = enter(v6(1, 1), 0);
    d = enter(v6(2, 1), 0);
    assert_true(c != d);
    assert_int_equal(enter(v6(1, 2), 1), c);
    assert_int_equal(fae_host_sessions(hosts, c), 2);
}

static void sessions_are_limited_over_all_workers(void **state)
{
    struct fae_ip ip = v4(0x0a000001), other = v4(0x0a000002);
    uint16_t host, none = 4711;

    (void)state;
    for (unsigned slot = 0; slot < 3; slot++)
        assert_int_equal(fae_hosts_enter(hosts, &ip, 3, slot, SECOND, &host), FAE_GATE_OPEN);
    assert_int_equal(fae_hosts_enter(hosts, &ip, 3, 0, SECOND, &none), FAE_GATE_FULL);
    assert_int_equal(none, 4711);
    assert_int_equal(fae_hosts_enter(hosts, &other, 3, 0, SECOND, &none), FAE_GATE_OPEN);
    fae_hosts_leave(hosts, host, 1);
    assert_int_equal(fae_hosts_enter(hosts, &ip, 3, 0, SECOND, &none), FAE_GATE_OPEN);
    assert_int_equal(none, host);
    fae_hosts_reap(hosts, 0); /* has two of the three */
    assert_int_equal(fae_host_sessions(hosts, host), 1);
}

static void calls_are_counted_and_reaped(void **state)
{
    uint16_t host;

    (void)state;
    host = enter(v4(1), 0);
    enter(v4(1), 1);
    fae_host_began(hosts, host, 0);
    fae_host_began(hosts, host, 1);
    fae_host_began(hosts, host, 1);
    assert_int_equal(fae_host_calls(hosts, host), 3);
    fae_host_ended(hosts, host, 1);
    assert_int_equal(fae_host_calls(hosts, host), 2);
    fae_hosts_reap(hosts, 0);
    assert_int_equal(fae_host_calls(hosts, host), 1);
}

static void coming_again_does_not_fill_the_bucket(void **state)
{
    struct fae_gate_rule rule;
    uint32_t after_ms;
    uint16_t host;

    (void)state;
    fae_gate_rule(&rule, 0, 1, 2);
    host = enter(v4(1), 0);
    assert_true(fae_host_take(hosts, host, &rule, SECOND, &after_ms));
    assert_true(fae_host_take(hosts, host, &rule, SECOND, &after_ms));
    assert_false(fae_host_take(hosts, host, &rule, SECOND, &after_ms));
    assert_int_equal(after_ms, 1000);
    fae_hosts_leave(hosts, host, 0);
    assert_int_equal(enter(v4(1), 1), host);
    assert_false(fae_host_take(hosts, host, &rule, SECOND, &after_ms));
    fae_host_give(hosts, host, &rule);
    assert_true(fae_host_take(hosts, host, &rule, SECOND, &after_ms));
}

/* Enters addresses until none fits any more, and returns how many did. */
static unsigned fill(void)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < 4 * FAE_HOSTS_MAX; i++)
        n += enter(v4(0x0b000000 + i), i % 3) != FAE_HOST_NONE;
    return n;
}

static void a_full_table_limits_nobody_new_and_keeps_who_is_there(void **state)
{
    struct fae_ip ip = v4(0x0a000001);
    uint16_t host, again;

    (void)state;
    host = enter(ip, 0);
    assert_int_equal(fill(), FAE_HOSTS_MAX - 1);
    assert_int_equal(enter(v4(0x0c000001), 0), FAE_HOST_NONE);
    assert_int_equal(fae_hosts_enter(hosts, &ip, 1, 2, SECOND, &again), FAE_GATE_FULL);
    assert_int_equal(fae_host_sessions(hosts, host), 1);
}

static void most_of_the_table_is_used_before_anybody_is_left_out(void **state)
{
    unsigned n = 0;

    (void)state;
    while (n < FAE_HOSTS_MAX && enter(v4(0x0b000000 + n), 0) != FAE_HOST_NONE)
        n++;
    assert_in_range(n, FAE_HOSTS_MAX / 2, FAE_HOSTS_MAX);
}

static void those_who_left_make_room(void **state)
{
    struct fae_gate_rule rule;
    uint32_t after_ms;
    uint16_t host, other;

    (void)state;
    fae_gate_rule(&rule, 0, 1, 10);
    host = enter(v4(0x0a000001), 0);
    assert_true(fae_host_take(hosts, host, &rule, SECOND, &after_ms));
    fill();
    fae_hosts_leave(hosts, host, 0);
    /* Its bucket is not full again: it is still known. */
    for (uint32_t i = 0; i < 4 * FAE_HOSTS_MAX; i++)
        assert_int_equal(enter(v4(0x0d000000 + i), 0), FAE_HOST_NONE);
    other = FAE_HOST_NONE;
    for (uint32_t i = 0; i < 4 * FAE_HOSTS_MAX && other == FAE_HOST_NONE; i++) {
        struct fae_ip ip = v4(0x0d000000 + i);

        assert_int_equal(fae_hosts_enter(hosts, &ip, 0, 0, 2 * SECOND, &other), FAE_GATE_OPEN);
    }
    assert_int_equal(other, host);
    assert_int_equal(fae_host_sessions(hosts, other), 1);
    assert_true(fae_host_take(hosts, other, &rule, 2 * SECOND, &after_ms)); /* and nothing of the old one is left */
}

static void leave_twice(void *arg)
{
    uint16_t host = *(uint16_t *)arg;

    fae_hosts_leave(hosts, host, 0);
    fae_hosts_leave(hosts, host, 0);
}

static void leaving_twice_is_a_bug(void **state)
{
    uint16_t host;

    (void)state;
    host = enter(v4(1), 0);
    assert_true(unit_aborts(leave_twice, &host));
}

/* ---- all at once ---- */

#define MAX 5

static _Atomic int inside, most;

static void *storm(void *arg)
{
    unsigned slot = (unsigned)(uintptr_t)arg;
    struct fae_ip ip = v4(0x0a000001);
    uint64_t seed = 1234567 + slot;

    for (int i = 0; i < 50000; i++) {
        uint16_t host, other = enter(v4((uint32_t)(unit_random(&seed) % 100)), slot);
        int n, m;

        if (fae_hosts_enter(hosts, &ip, MAX, slot, SECOND, &host) == FAE_GATE_OPEN) {
            n = atomic_fetch_add(&inside, 1) + 1;
            m = atomic_load(&most);
            while (n > m && !atomic_compare_exchange_weak(&most, &m, n))
                continue;
            if (i % 16 == 0)
                sched_yield();
            atomic_fetch_sub(&inside, 1);
            fae_hosts_leave(hosts, host, slot);
        }
        fae_hosts_leave(hosts, other, slot);
    }
    return NULL;
}

static void never_more_sessions_than_the_limit(void **state)
{
    pthread_t threads[3];
    uint16_t host;

    (void)state;
    host = enter(v4(0x0a000001), 0);
    fae_hosts_leave(hosts, host, 0);
    for (uintptr_t i = 0; i < UNIT_N(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm, (void *)i), 0);
    for (unsigned i = 0; i < UNIT_N(threads); i++)
        pthread_join(threads[i], NULL);
    assert_in_range(atomic_load(&most), 1, MAX);
    assert_int_equal(fae_host_sessions(hosts, host), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(an_address_is_a_host_and_so_is_a_customers_network),
        TEST(sessions_are_limited_over_all_workers),
        TEST(calls_are_counted_and_reaped),
        TEST(coming_again_does_not_fill_the_bucket),
        TEST(a_full_table_limits_nobody_new_and_keeps_who_is_there),
        TEST(most_of_the_table_is_used_before_anybody_is_left_out),
        TEST(those_who_left_make_room),
        TEST(leaving_twice_is_a_bug),
        TEST(never_more_sessions_than_the_limit),
    };

    return cmocka_run_group_tests_name("hosts", tests, NULL, NULL);
}
