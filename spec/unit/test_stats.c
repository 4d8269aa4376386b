/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/stats and rpc/turn: rows given out once per node, counters summed over workers, all of it as JSON.
 */
#include "unit.h"

#include <jansson.h>

#include "base/clock.h"
#include "base/shm.h"
#include "rpc/stats.h"
#include "rpc/turn.h"

static const unsigned n_workers = 2;

static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },
    { "stats", fae_stats_size, fae_stats_init },
    { "turns", fae_turns_size, fae_turns_init },
};

static struct fae_shm shm;
static struct fae_slots *slots;
static struct fae_stats *stats;

static int set_up(void **state)
{
    (void)state;
    if (fae_shm_map(&shm, regions, UNIT_N(regions), &n_workers))
        return -1;
    slots = fae_shm_get(&shm, "slots");
    stats = fae_shm_get(&shm, "stats");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_shm_unmap(&shm);
    return 0;
}

static unsigned row(const char *name)
{
    return fae_stats_row(stats, name, strlen(name));
}

static void a_method_keeps_its_row(void **state)
{
    (void)state;
    assert_int_equal(row("sys.ping"), 0);
    assert_int_equal(row("sys.pin"), 1);
    assert_int_equal(row("sys.ping2"), 2);
    assert_int_equal(row("sys.ping"), 0);
    assert_int_equal(fae_stats_row(stats, "sys.ping2 and more", 9), 2);
    assert_int_equal(stats->n_names, 3);
    assert_string_equal(stats->names[1], "sys.pin");
}

static void odd_names_share_the_last_row(void **state)
{
    char name[FAE_METHOD_NAME_MAX + 2];

    (void)state;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(row(name), FAE_METHODS_MAX - 1);
    assert_int_equal(row(""), FAE_METHODS_MAX - 1);
    assert_int_equal(fae_stats_row(stats, "a\0b", 3), FAE_METHODS_MAX - 1);
    assert_int_equal(stats->n_names, 0);
    name[FAE_METHOD_NAME_MAX] = '\0';
    assert_int_equal(row(name), 0);
    assert_string_equal(stats->names[0], name);
    assert_string_equal(stats->names[FAE_METHODS_MAX - 1], "*");
}

static void a_full_table_gives_the_last_row(void **state)
{
    char name[16];

    (void)state;
    for (unsigned i = 0; i < FAE_METHODS_MAX + 10; i++) {
        snprintf(name, sizeof name, "m%u", i);
        assert_int_equal(row(name), i < FAE_METHODS_MAX - 1 ? i : FAE_METHODS_MAX - 1);
    }
    assert_int_equal(row("m7"), 7);
    assert_string_equal(stats->names[FAE_METHODS_MAX - 1], "*");
}

static int die_inside(void *unused)
{
    (void)unused;
    fae_shmutex_lock(&stats->lock);
    memset(stats->names[1], 'x', 40); /* half a name, not yet counted */
    raise(SIGKILL);
    return 0;
}

static void a_death_while_naming_is_repaired(void **state)
{
    (void)state;
    assert_int_equal(row("a"), 0);
    assert_int_equal(unit_wait(unit_fork(die_inside, NULL)), -SIGKILL);
    assert_int_equal(row("b"), 1);
    assert_string_equal(stats->names[1], "b");
    assert_int_equal(row("b"), 1);
    assert_int_equal(row("a"), 0);
}

static void call(unsigned worker, const char *name, unsigned n, unsigned n_errors, uint64_t ns)
{
    struct fae_method_stats *m = &stats->workers[worker].methods[row(name)];

    FAE_STAT_ADD(m->n_calls, n);
    FAE_STAT_ADD(m->n_errors, n_errors);
    for (unsigned i = 0; i < n; i++)
        fae_hist_add(&m->latency, ns);
}

static json_t *as_json(void)
{
    struct fae_buf buf = { 0 };
    json_t *j;

    fae_stats_json(stats, slots, NULL, &buf);
    j = json_loadb((char *)buf.data, buf.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    fae_buf_fini(&buf);
    return j;
}

static json_int_t number(const json_t *j, const char *key)
{
    assert_true(json_is_integer(json_object_get(j, key)));
    return json_integer_value(json_object_get(j, key));
}

static double us(const json_t *j, const char *key)
{
    assert_true(json_is_real(json_object_get(j, key)));
    return json_real_value(json_object_get(j, key));
}

static void methods_are_summed_and_sorted(void **state)
{
    json_t *j, *methods, *m;

    (void)state;
    row("never.called");
    call(0, "sys.noop", 90, 0, 2000);
    call(1, "sys.noop", 10, 3, 1500000);
    call(1, "a\"b", 1, 1, 500);
    stats->workers[0].methods[FAE_METHODS_MAX - 1].n_calls = 5;
    j = as_json();
    methods = json_object_get(j, "methods");
    assert_int_equal(json_array_size(methods), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(methods, 0), "name")), "*");
    assert_string_equal(json_string_value(json_object_get(json_array_get(methods, 1), "name")), "a\"b");
    m = json_array_get(methods, 2);
    assert_string_equal(json_string_value(json_object_get(m, "name")), "sys.noop");
    assert_int_equal(number(m, "calls"), 100);
    assert_int_equal(number(m, "errors"), 3);
    assert_true(us(m, "p50_us") >= 2.0 && us(m, "p50_us") <= 2.5);
    assert_true(us(m, "p90_us") == us(m, "p50_us"));
    assert_true(us(m, "p99_us") > 1500 && us(m, "p99_us") <= 1875);
    assert_true(us(m, "max_us") == us(m, "p99_us"));
    assert_int_equal(json_object_size(m), 12);
    json_decref(j);
}

static void workers_show_their_slots(void **state)
{
    struct fae_slot *s = &slots->slots[1];
    struct fae_worker_stats *w = &stats->workers[1];
    json_t *j, *workers, *row1;
    static const struct {
        const char *key;
        int want;
    } want[] = {
        { "slot", 1 },          { "pid", 4711 },         { "incarnation", 2 },      { "generation", 3 },
        { "sessions", 4 },      { "calls", 5 },          { "accepted", 6 },         { "deaths", 7 },
        { "lua_bytes", 8 },     { "old_calls", 9 },      { "bytes_in", 10 },        { "bytes_out", 11 },
        { "bad_messages", 12 }, { "notifications", 13 }, { "unknown_methods", 14 }, { "lua_collections", 15 }
    };

    (void)state;
    s->state = FAE_SLOT_DRAINING;
    s->pid = 4711;
    s->incarnation = 2;
    s->generation = 3;
    s->n_sessions = 4;
    s->n_calls = 5;
    s->n_accepted = 6;
    s->n_deaths = 7;
    s->lua_bytes = 8;
    s->n_old_calls = 9;
    w->n_bytes_in = 10;
    w->n_bytes_out = 11;
    w->n_bad_messages = 12;
    w->n_notifications = 13;
    w->n_unknown_methods = 14;
    w->n_collections = 15;
    w->collect_ns = 2500;
    w->lag_last_ns = 1500000;
    fae_timing_add(&w->lag, 1500000);
    fae_timing_add(&w->turn, 20000);
    j = as_json();
    workers = json_object_get(j, "workers");
    assert_int_equal(json_array_size(workers), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(workers, 0), "state")), "dead");
    row1 = json_array_get(workers, 1);
    assert_string_equal(json_string_value(json_object_get(row1, "state")), "draining");
    for (unsigned i = 0; i < UNIT_N(want); i++)
        assert_int_equal(number(row1, want[i].key), want[i].want);
    assert_true(us(row1, "lag_us") == 1500);
    assert_true(us(row1, "lag_p99_us") > 1500 && us(row1, "lag_p99_us") < 1900);
    assert_true(us(row1, "turn_max_us") > 20 && us(row1, "turn_max_us") < 26);
    assert_true(us(row1, "lua_collect_us") == 2.5);
    s->state = 77; /* a broken worker's */
    json_decref(j);
    j = as_json();
    json_decref(j);
}

static void the_node_says_its_age(void **state)
{
    json_t *j, *node;

    (void)state;
    slots->generation = 12;
    slots->started_ms = fae_now_ms() - 5500;
    j = as_json();
    node = json_object_get(j, "node");
    assert_int_equal(number(node, "generation"), 12);
    assert_int_equal(number(node, "workers"), 2);
    assert_int_equal(number(node, "uptime_s"), 5);
    json_decref(j);
}

static void methods_tell_what_waits(void **state)
{
    struct fae_method_stats *m = &stats->workers[1].methods[row("shop.buy")];
    json_t *j, *buy;

    (void)state;
    m->n_slow = 3;
    m->n_parked = 2; /* none was answered yet */
    m->ns = 9000000;
    m->wait_ns = 7000000;
    j = as_json();
    assert_int_equal(json_array_size(json_object_get(j, "methods")), 1);
    buy = json_array_get(json_object_get(j, "methods"), 0);
    assert_int_equal(number(buy, "calls"), 0);
    assert_int_equal(number(buy, "slow"), 3);
    assert_int_equal(number(buy, "in_flight"), 2);
    assert_true(us(buy, "sum_us") == 9000);
    assert_true(us(buy, "wait_us") == 7000);
    assert_int_equal(number(json_object_get(j, "node"), "slow"), 3);
    json_decref(j);
}

static void errors_and_limits_are_summed(void **state)
{
    json_t *j, *errors, *limits;

    (void)state;
    fae_stats_error(&stats->workers[0], FAE_TIMEOUT);
    fae_stats_error(&stats->workers[1], FAE_TIMEOUT);
    fae_stats_error(&stats->workers[1], FAE_ERR_COUNT);
    stats->workers[1].n_limit_hits[FAE_LIMIT_idle] = 4;
    stats->workers[0].n_sampled = 5;
    j = as_json();
    errors = json_object_get(json_object_get(j, "node"), "errors");
    assert_int_equal(json_object_size(errors), 2);
    assert_int_equal(number(errors, "TIMEOUT"), 2);
    assert_int_equal(number(errors, "other"), 1);
    limits = json_object_get(json_object_get(j, "node"), "limits");
    assert_int_equal(json_object_size(limits), FAE_LIMIT_COUNT);
    assert_int_equal(number(limits, "idle"), 4);
    assert_int_equal(number(json_object_get(j, "node"), "sampled"), 5);
    json_decref(j);
}

static void a_new_worker_empties_the_gauges_alone(void **state)
{
    struct fae_worker_stats *w = &stats->workers[1];

    (void)state;
    w->lag_last_ns = 5;
    w->methods[0].n_parked = 1;
    w->methods[FAE_METHODS_MAX - 1].n_parked = 1;
    w->methods[0].n_calls = 7;
    fae_timing_add(&w->lag, 5);
    stats->workers[0].methods[0].n_parked = 3;
    fae_stats_reap(stats, 1);
    assert_int_equal(w->lag_last_ns, 0);
    assert_int_equal(w->methods[0].n_parked, 0);
    assert_int_equal(w->methods[0].n_lost, 1);
    assert_int_equal(w->methods[FAE_METHODS_MAX - 1].n_parked, 0);
    assert_int_equal(w->methods[0].n_calls, 7);
    assert_int_equal(w->lag.ns, 5);
    assert_int_equal(stats->workers[0].methods[0].n_parked, 3);
}

/* ---- reasons ---- */

static void reason(unsigned worker, const char *text)
{
    fae_stats_reason(stats, worker, text, strlen(text));
}

/* {reason: count}, and each reason but once. */
static json_t *reasons(void)
{
    json_t *j = as_json(), *list = json_object_get(j, "reasons"), *map = json_object();
    json_int_t before = INT64_MAX;

    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *r = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(r, "reason"));

        assert_null(json_object_get(map, name));
        assert_true(number(r, "count") <= before);
        before = number(r, "count");
        json_object_set(map, name, json_object_get(r, "count"));
    }
    json_decref(j);
    return map;
}

static void reasons_lose_their_digits(void **state)
{
    static const struct {
        const char *given, *want;
    } rows[] = {
        { "page", "page" },
        { "order 17 of 40000", "order ? of ?" },
        { "7", "?" },
        { "a1b22", "a?b?" },
        { "caf\xc3\xa9", "caf\xc3\xa9" },
        { "x\xff\xfey", "x??y" },
        { "\"\n", "\"\n" },
        { "1234567890123456789012345678901234567890123456789012345678901234567890x", "?x" },
        { "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk\xc3\xa9!",
          "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk" },
    };
    json_t *map;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        for (unsigned n = 0; n <= i; n++)
            reason(n % 2, rows[i].given);
    map = reasons();
    assert_int_equal(json_object_size(map), UNIT_N(rows));
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        assert_int_equal(number(map, rows[i].want), i + 1);
    json_decref(map);
}

static void reasons_have_their_share(void **state)
{
    json_t *j, *list;

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        reason(i % 2, "page 1");
    reason(0, "cron");
    j = as_json();
    list = json_object_get(j, "reasons");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "reason")), "page ?");
    assert_true(us(json_array_get(list, 0), "percent") == 75.0);
    assert_true(us(json_array_get(list, 1), "percent") == 25.0);
    json_decref(j);
}

static void too_many_reasons_are_others(void **state)
{
    char name[32];
    json_t *map;

    (void)state;
    reason(1, "other"); /* a word like any, and yet no second row of that name */
    for (unsigned i = 0; i < FAE_REASONS_MAX + 100; i++) {
        snprintf(name, sizeof name, "%c%c%c", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676);
        reason(0, name);
    }
    reason(1, "aaa");
    map = reasons();
    assert_int_equal(json_object_size(map), FAE_REASONS_MAX + 1);
    assert_int_equal(number(map, "other"), 101);
    assert_int_equal(number(map, "aaa"), 2);
    json_decref(map);
}

static void turns_begin_with_worker_0(void **state)
{
    struct fae_turns *turns = fae_shm_get(&shm, "turns");

    (void)state;
    for (unsigned i = 0; i < FAE_LISTENERS_MAX; i++)
        assert_int_equal(turns->holder[i], 0);
}

#define WITH_STATS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STATS(a_method_keeps_its_row),          WITH_STATS(odd_names_share_the_last_row),
        WITH_STATS(a_full_table_gives_the_last_row), WITH_STATS(a_death_while_naming_is_repaired),
        WITH_STATS(methods_are_summed_and_sorted),   WITH_STATS(workers_show_their_slots),
        WITH_STATS(the_node_says_its_age),           WITH_STATS(turns_begin_with_worker_0),
        WITH_STATS(methods_tell_what_waits),         WITH_STATS(errors_and_limits_are_summed),
        WITH_STATS(reasons_lose_their_digits),       WITH_STATS(reasons_have_their_share),
        WITH_STATS(too_many_reasons_are_others),     WITH_STATS(a_new_worker_empties_the_gauges_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
