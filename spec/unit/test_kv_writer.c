/* SPDX-License-Identifier: BSD-2-Clause
 *
 * store/kv, kv_env, kv_txn, kv_writer, kv_admin: a store on a real LMDB in a temporary folder, with its writer's thread,
 * and this thread as its worker. The wall clock is the test's own.
 */
#include "unit.h"

#include <lmdb.h>

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/shm.h"
#include "store/kv.h"
#include "store/kv_admin.h"

#define WAIT_MS 20000u /* for what takes a millisecond */
#define MAP_BYTES (256u * 1024)

static const unsigned n_workers = 1;
static const struct fae_kv_arg arg = { 1, 100000, { true, false } };

static size_t slots_size(const void *a)
{
    (void)a;
    return fae_slots_size(&n_workers);
}

static void slots_init(void *mem, const void *a)
{
    (void)a;
    fae_slots_init(mem, &n_workers);
}

static size_t mail_size(const void *a)
{
    (void)a;
    return fae_mailboxes_size(&n_workers);
}

static void mail_init(void *mem, const void *a)
{
    (void)a;
    fae_mailboxes_init(mem, &n_workers);
}

static const struct fae_shm_region regions[] = {
    { "slots", slots_size, slots_init },
    { "mail", mail_size, mail_init },
    { "kv", fae_kv_shared_size, fae_kv_shared_init },
};

static struct fae_shm shm;
static struct fae_slots *slots;
static struct fae_mailboxes boxes;
static struct fae_kv kv;
static struct fae_kv_store *store;
static char dir[200], kv_dir[220];
static _Atomic uint64_t wall;
static uint64_t seq;

static uint64_t wall_ms(void)
{
    return atomic_load(&wall);
}

static int set_up(void **state)
{
    char why[600];

    (void)state;
    if (fae_shm_map(&shm, regions, UNIT_N(regions), &arg))
        return -1;
    slots = fae_shm_get(&shm, "slots");
    slots->slots[0].incarnation = 1;
    slots->slots[0].state = FAE_SLOT_READY;
    if (fae_mailboxes_open(&boxes, fae_shm_get(&shm, "mail"), slots))
        return -1;
    fae_kv_init(&kv, fae_shm_get(&shm, "kv"), slots, &boxes);
    kv.wall_ms = wall_ms;
    kv.map_bytes = MAP_BYTES;
    store = &kv.stores[FAE_KV_DURABLE];
    wall = 1000000;
    seq = 0;
    unit_dir(dir, sizeof dir);
    snprintf(kv_dir, sizeof kv_dir, "%s/kv", dir);
    return fae_kv_open(&kv, dir, why, sizeof why) ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_kv_rest(&kv);
    fae_kv_close(&kv);
    fae_mailboxes_close(&boxes);
    fae_shm_unmap(&shm);
    unit_dir_remove(kv_dir);
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

static void serve(void)
{
    char why[600];

    assert_int_equal(fae_kv_serve(&kv, why, sizeof why), FAE_OK);
}

static uint32_t ask(struct fae_kv_request r)
{
    uint32_t at;

    r.incarnation = slots->slots[0].incarnation;
    r.seq = seq++;
    assert_int_equal(fae_kv_ask(store, 0, &r, &at), FAE_OK);
    return at;
}

static struct fae_kv_answer next_answer(void)
{
    uint64_t until_ms = fae_now_ms() + WAIT_MS;
    struct fae_kv_answer a = { 0 };

    while (!fae_kv_next_answer(store, 0, &a)) {
        assert_true(fae_now_ms() < until_ms);
        unit_sleep_ms(1);
    }
    return a;
}

static struct fae_kv_request request(int op, const char *key, const char *value)
{
    return (struct fae_kv_request){ .op = (uint8_t)op,
                                    .key = key,
                                    .key_len = (uint32_t)strlen(key),
                                    .value = (const uint8_t *)value,
                                    .value_len = value ? (uint32_t)strlen(value) : 0 };
}

static struct fae_kv_answer done(struct fae_kv_request r)
{
    struct fae_kv_answer a;

    ask(r);
    a = next_answer();
    assert_int_equal(a.seq, seq - 1);
    return a;
}

static void assert_value(const char *key, const char *want)
{
    struct fae_kv_record r;
    enum fae_err err = fae_kv_get(store, key, strlen(key), &r);

    if (!want) {
        assert_int_equal(err, FAE_NOT_FOUND);
        return;
    }
    assert_int_equal(err, FAE_OK);
    assert_int_equal(r.len, strlen(want));
    assert_memory_equal(r.value, want, r.len);
    fae_kv_release(store);
}

static void assert_checked(enum fae_err want, const char *line)
{
    struct fae_kv_progress progress = { 0 };
    struct fae_buf lines = { 0 }, text = { 0 };

    assert_int_equal(fae_kv_check(&kv, &progress, &lines, &text), want);
    if (line)
        assert_non_null(strstr(fae_buf_text(&lines), line));
    else
        assert_int_equal(lines.len, 0);
    fae_buf_fini(&lines);
    fae_buf_fini(&text);
}

static uint64_t n_records(void)
{
    uint64_t n;

    assert_int_equal(fae_kv_count(store, &n), FAE_OK);
    return n;
}

/* ---- */

static void test_writes_and_reads(void **state)
{
    struct fae_kv_answer a;

    (void)state;
    serve();
    assert_value("a", NULL);
    a = done(request(FAE_KV_SET, "a", "1"));
    assert_int_equal(a.err, FAE_OK);
    assert_value("a", "1");
    assert_int_equal(done(request(FAE_KV_ADD, "a", "2")).yes, 0);
    assert_int_equal(done(request(FAE_KV_ADD, "b", "2")).yes, 1);
    assert_int_equal(n_records(), 2);
    assert_int_equal(done(request(FAE_KV_DEL, "b", NULL)).yes, 1);
    assert_int_equal(done(request(FAE_KV_DEL, "b", NULL)).yes, 0);
    assert_int_equal(n_records(), 1);
    assert_checked(FAE_OK, NULL);
}

/* What comes while the writer sleeps, many at a time, in their order. */
static void test_batches_keep_the_order(void **state)
{
    (void)state;
    serve();
    for (unsigned round = 0; round < 50; round++) {
        unsigned n = round % 7 * 30 + 1;

        for (unsigned i = 0; i < n; i++) {
            struct fae_kv_request r = request(FAE_KV_INCR, "n", NULL);

            r.number = 1;
            ask(r);
        }
        for (unsigned i = 0; i < n; i++) {
            struct fae_kv_answer a = next_answer();

            assert_int_equal(a.err, FAE_OK);
            assert_int_equal(a.number, (int64_t)a.seq + 1);
        }
    }
    assert_true(kv.shared->stores[0].stats.n_commits < seq);
}

static void test_time_passes(void **state)
{
    struct fae_kv_request r = request(FAE_KV_SET, "short", "v");
    uint64_t until_ms = fae_now_ms() + WAIT_MS;

    (void)state;
    serve();
    r.ttl_ms = 1000;
    assert_int_equal(done(r).err, FAE_OK);
    assert_int_equal(done(request(FAE_KV_SET, "long", "v")).err, FAE_OK);
    wall += 999;
    assert_value("short", "v");
    wall += 1;
    assert_value("short", NULL);
    assert_value("long", "v");
    assert_int_equal(done(request(FAE_KV_DEL, "short", NULL)).yes, 0);
    r.ttl_ms = 5;
    assert_int_equal(done(r).err, FAE_OK);
    wall += 5;
    while (n_records() != 1) { /* the writer sweeps by itself */
        assert_true(fae_now_ms() < until_ms);
        unit_sleep_ms(20);
    }
    wall -= 100000; /* set back: what lives is not touched */
    assert_value("long", "v");
    assert_checked(FAE_OK, NULL);
}

static void test_time_to_live_changes(void **state)
{
    struct fae_kv_request r = request(FAE_KV_SET, "k", "v");

    (void)state;
    serve();
    r.ttl_ms = 1000;
    done(r);
    r.ttl_ms = 2000;
    done(r);
    assert_checked(FAE_OK, NULL);
    wall += 1500;
    assert_value("k", "v");
    done(request(FAE_KV_SET, "k", "w"));
    wall += 1000000;
    assert_value("k", "w");
    assert_checked(FAE_OK, NULL);
}

/* Values of many times the map, read in between: it grows under the reader of the same process. */
static void test_map_grows(void **state)
{
    char *value = calloc(1, 20001), key[20];

    (void)state;
    memset(value, 'v', 20000);
    serve();
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%u", i);
        assert_int_equal(done(request(FAE_KV_SET, key, value)).err, FAE_OK);
        assert_value(key, value);
        assert_value("k0", value);
    }
    assert_true(kv.shared->stores[0].stats.n_no_space == 0);
    assert_int_equal(n_records(), 100);
    assert_checked(FAE_OK, NULL);
    free(value);
}

/* What a writer had begun when it died is UNKNOWN, what it had not is done by the next. */
static void test_a_writer_follows(void **state)
{
    struct fae_kv_ring *ring = fae_kv_requests(kv.shared, 0, 0);
    uint32_t from = fae_kv_ring_tail(ring);
    struct fae_kv_request r;
    struct fae_kv_answer a;

    (void)state;
    ask(request(FAE_KV_SET, "begun", "v"));
    ask(request(FAE_KV_SET, "waits", "v"));
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN);
    serve();
    a = next_answer();
    assert_int_equal(a.seq, 0);
    assert_int_equal(a.err, FAE_UNKNOWN);
    a = next_answer();
    assert_int_equal(a.seq, 1);
    assert_int_equal(a.err, FAE_OK);
    assert_value("begun", NULL);
    assert_value("waits", "v");
}

/* What the writer of a node that was killed a moment ago may still do while this one writes: a child, since LMDB takes
 * no file twice in a process. */
static void write_version(uint64_t version)
{
    uint8_t bytes[8];
    MDB_val k = { strlen("version"), "version" }, v = { sizeof bytes, bytes };
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta;

    fae_kv_put_u64(bytes, version);
    _exit(mdb_env_create(&env) || mdb_env_set_maxdbs(env, 8) || mdb_env_open(env, kv_dir, 0, 0600) ||
          mdb_txn_begin(env, NULL, 0, &txn) || mdb_dbi_open(txn, "meta", 0, &meta) || mdb_put(txn, meta, &k, &v, 0) ||
          mdb_txn_commit(txn));
}

static void test_versions_are_given_once_whoever_else_writes(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    serve();
    assert_int_equal(done(request(FAE_KV_SET, "k", "1")).number, 1);
    pid = fork();
    if (pid == 0)
        write_version(100);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(done(request(FAE_KV_SET, "k", "2")).number, 101);
}

static void test_deadlines_and_withdrawals(void **state)
{
    struct fae_kv_request r = request(FAE_KV_SET, "late", "v");
    uint32_t at;

    (void)state;
    r.deadline_ms = 1;
    ask(r);
    at = ask(request(FAE_KV_SET, "withdrawn", "v"));
    assert_true(fae_kv_withdraw(store, 0, at));
    serve();
    assert_int_equal(next_answer().err, FAE_TIMEOUT);
    assert_int_equal(next_answer().err, FAE_CANCELLED);
    assert_value("late", NULL);
    assert_value("withdrawn", NULL);
    at = ask(request(FAE_KV_SET, "done", "v"));
    assert_int_equal(next_answer().err, FAE_OK);
    assert_false(fae_kv_withdraw(store, 0, at));
}

static void test_answers_to_the_dead_go_nowhere(void **state)
{
    (void)state;
    ask(request(FAE_KV_SET, "old", "v"));
    slots->slots[0].incarnation = 2;
    serve();
    seq = 0;
    assert_int_equal(done(request(FAE_KV_SET, "new", "v")).err, FAE_OK);
    assert_value("old", "v");
    assert_true(kv.shared->stores[0].stats.n_stale >= 1);
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    struct fae_kv_request r = request(FAE_KV_SET, "", "v");
    static char long_key[FAE_KV_KEY_MAX + 2];

    (void)state;
    serve();
    assert_int_equal(done(r).err, FAE_BAD_ARGS);
    memset(long_key, 'k', FAE_KV_KEY_MAX + 1);
    assert_int_equal(done(request(FAE_KV_SET, long_key, "v")).err, FAE_BAD_ARGS);
    assert_int_equal(done(request(77, "k", "v")).err, FAE_BAD_ARGS);
    r = request(FAE_KV_BUCKET, "", NULL);
    r.number = FAE_KV_VBUCKETS;
    assert_int_equal(done(r).err, FAE_BAD_ARGS);
    r.op = FAE_KV_IMPORT;
    r.number = -1;
    assert_int_equal(done(r).err, FAE_BAD_ARGS);
    assert_int_equal(n_records(), 0);
}

static void test_full_ring(void **state)
{
    static char value[100001];
    struct fae_kv_request r;
    uint32_t at;
    unsigned n = 0;

    (void)state;
    memset(value, 'v', 100000);
    r = request(FAE_KV_SET, "k", value);
    r.incarnation = 1;
    while (fae_kv_ask(store, 0, &r, &at) == FAE_OK)
        r.seq = ++n;
    assert_in_range(n, 4, 20);
    assert_int_equal(fae_kv_lane(kv.shared, 0, 0)->n_overload, 1);
    serve();
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(next_answer().err, FAE_OK);
    assert_int_equal(fae_kv_ask(store, 0, &r, &at), FAE_OK);
    next_answer();
}

static void test_restart_and_backup(void **state)
{
    struct fae_kv_progress progress = { 0 };
    struct fae_buf text = { 0 };
    char backup[220];
    uint64_t version;
    char key[20];

    (void)state;
    serve();
    for (unsigned i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "k%u", i);
        ask(request(FAE_KV_SET, key, key));
    }
    for (unsigned i = 0; i < 500; i++)
        version = (uint64_t)next_answer().number;
    snprintf(backup, sizeof backup, "%s/backup", dir);
    progress.stop = true; /* before it began */
    assert_int_equal(fae_kv_backup(&kv, backup, &progress, &text), FAE_CANCELLED);
    fae_buf_fini(&text);
    progress.stop = false;
    assert_int_equal(fae_kv_backup(&kv, backup, &progress, &text), FAE_OK);
    fae_buf_fini(&text);
    assert_int_equal(fae_kv_backup(&kv, backup, &progress, &text), FAE_BAD_ARGS);
    fae_buf_fini(&text);
    fae_kv_rest(&kv);
    fae_kv_close(&kv);
    unit_dir_remove(kv_dir);
    assert_int_equal(rename(backup, kv_dir), 0);
    {
        char why[600];

        assert_int_equal(fae_kv_open(&kv, dir, why, sizeof why), FAE_OK);
    }
    serve();
    assert_int_equal(n_records(), 500);
    assert_value("k499", "k499");
    assert_true((uint64_t)done(request(FAE_KV_SET, "k0", "new")).number > version);
    assert_checked(FAE_OK, NULL);
}

/* ---- check sees what somebody broke ---- */

static void break_it(const char *table, const void *key, size_t key_len, const void *value, size_t len)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = { key_len, (void *)key }, v = { len, (void *)value };

    fae_kv_rest(&kv);
    fae_kv_close(&kv);
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 8);
    assert_int_equal(mdb_env_open(env, kv_dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, table, 0, &dbi), 0);
    assert_int_equal(value ? mdb_put(txn, dbi, &k, &v, 0) : mdb_del(txn, dbi, &k, NULL), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    {
        char why[600];

        assert_int_equal(fae_kv_open(&kv, dir, why, sizeof why), FAE_OK);
    }
    serve();
}

static void test_check_sees_it(void **state)
{
    struct fae_kv_request r = request(FAE_KV_SET, "k", "v");
    uint8_t stored[FAE_KV_STORED_KEY_MAX], ttl[FAE_KV_TTL_KEY_MAX], head[FAE_KV_HEAD];
    size_t len = fae_kv_key_put(stored, fae_kv_vbucket("k", 1), "k", 1);

    (void)state;
    serve();
    r.ttl_ms = 1000000;
    done(r);
    assert_checked(FAE_OK, NULL);
    break_it("ttl", ttl, fae_kv_ttl_put(ttl, wall + 1000000, stored, len), NULL, 0);
    assert_checked(FAE_SYSTEM, "without an entry in the index: k");
    break_it("ttl", ttl, fae_kv_ttl_put(ttl, wall + 7, stored, len), "", 0);
    assert_checked(FAE_SYSTEM, "of another time than its record: k");
    break_it("data", stored, len, "?", 1);
    assert_checked(FAE_SYSTEM, "a record without a head: k");
    fae_kv_head_put(head, 1, 0);
    fae_kv_key_put(stored, (uint16_t)(fae_kv_vbucket("k", 1) ^ 1), "k", 1);
    break_it("data", stored, len, head, sizeof head);
    assert_checked(FAE_SYSTEM, "in a bucket that is not its own: k");
    assert_checked(FAE_SYSTEM, "has 1 records and says 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_writes_and_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batches_keep_the_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_time_passes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_time_to_live_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_map_grows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_writer_follows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_versions_are_given_once_whoever_else_writes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deadlines_and_withdrawals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answers_to_the_dead_go_nowhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_makes_no_sense_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_ring, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_restart_and_backup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_check_sees_it, set_up, tear_down),
    };

    fae_clock_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
