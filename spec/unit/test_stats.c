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

    fae_stats_json(stats, slots, &buf);
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
    assert_int_equal(json_object_size(m), 7);
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
    } want[] = { { "slot", 1 },          { "pid", 4711 },         { "incarnation", 2 },     { "generation", 3 },
                 { "sessions", 4 },      { "calls", 5 },          { "accepted", 6 },        { "deaths", 7 },
                 { "lua_bytes", 8 },     { "old_calls", 9 },      { "bytes_in", 10 },       { "bytes_out", 11 },
                 { "bad_messages", 12 }, { "notifications", 13 }, { "unknown_methods", 14 } };

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
    j = as_json();
    workers = json_object_get(j, "workers");
    assert_int_equal(json_array_size(workers), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(workers, 0), "state")), "dead");
    row1 = json_array_get(workers, 1);
    assert_string_equal(json_string_value(json_object_get(row1, "state")), "draining");
    for (unsigned i = 0; i < UNIT_N(want); i++)
        assert_int_equal(number(row1, want[i].key), want[i].want);
    assert_int_equal(json_object_size(row1), UNIT_N(want) + 1);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
