/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/pool with many who ask: all at once, and in random order, with every count checked after each step. FAE_LONG=1: ten
 * times as long.
 */
#include "unit_pool.h"

/* ---- many ---- */

/* K4: 16 connections, 500 who ask at once, each for 20 ms of it: first come, first served, and who waits for 200 ms is
 * refused then. */
static void five_hundred_ask_at_once(void **state)
{
    static struct asker a[500];
    unsigned n_ok = 0, n_busy = 0;
    uint64_t wait_ns = 0;

    (void)state;
    memset(a, 0, sizeof a);
    t.rule = (struct fae_pool_rule){
        .max = 17, .waiting_max = 1024, .wait_ms = 200, .connect_timeout_ms = 1000, .timeout_ms = 1000
    };
    t.by_themselves = true;
    make_pool();
    for (unsigned i = 0; i < 500; i++) {
        a[i].hold_ms = 20;
        assert_int_equal(borrow(&a[i], 0), FAE_MORE);
    }
    assert_int_equal(t.n_alive, 16);
    assert_int_equal(NOW(waiting), 500);
    until_told(500);
    turn_for(1, 50); /* the last ones give theirs back */
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(a[i].n_told, 1);
        n_ok += a[i].err == FAE_OK;
        n_busy += a[i].err == FAE_POOL_BUSY;
        wait_ns += a[i].told_ns - a[i].asked_ns;
        if (a[i].err)
            assert_true(a[i].told_ns - a[i].asked_ns >= 200 * 1000000u);
        if (i > 0)
            assert_false(a[i - 1].err && !a[i].err);
    }
    assert_int_equal(n_ok + n_busy, 500);
    assert_true(n_ok >= 16);
    assert_int_equal(COUNT(waits), 500);
    assert_int_equal(COUNT(busy), n_busy);
    assert_true(FAE_STAT_GET(t.cell->n.wait_ns) <= wait_ns);
    assert_true(FAE_STAT_GET(t.cell->n.wait_ns) >= wait_ns - wait_ns / 10);
    assert_int_equal(NOW(pinned), 0);
    assert_int_equal(NOW(idle), 16);
    assert_sums(0);
}

/* ---- in random order ---- */

#define N_ASKERS 24u

static struct asker random_askers[N_ASKERS];
static uint64_t seed;

static unsigned any(unsigned n)
{
    return (unsigned)(unit_random(&seed) % n);
}

static bool is_waiting(const struct asker *a)
{
    return a->id && a->n_told == 0 && !a->conn;
}

static void random_borrow(struct asker *a)
{
    enum fae_err err;

    if (is_waiting(a) || a->conn)
        return;
    memset(a, 0, sizeof *a);
    a->gives = any(8) == 0;
    err = borrow(a, any(4) ? 0 : fae_now_ms() + any(6));
    if (err == FAE_MORE)
        return;
    if (err == FAE_OK) {
        assert_true(a->id > t.last_id);
        t.last_id = a->id;
    }
    a->n_told = 1;
}

static struct fake *random_fake(int state)
{
    struct fake *found = NULL;
    unsigned n = 0;

    for (struct fae_list *at = t.fakes.next; at != &t.fakes; at = at->next) {
        struct fake *f = FAE_CONTAINER(at, struct fake, node);

        if ((int)f->state == state && any(++n) == 0)
            found = f;
    }
    return found;
}

static void random_world(void)
{
    enum fae_err err = any(4) ? FAE_OK : FAE_UNAVAILABLE;
    struct fake *f;

    switch (any(5)) {
    case 0:
        if ((f = random_fake(IS_CONNECTING))) {
            f->state = IS_READY;
            fae_pool_connected(&f->conn, err, "connection refused");
        }
        break;
    case 1:
        if ((f = random_fake(IS_RESETTING))) {
            f->state = IS_READY;
            fae_pool_was_reset(&f->conn, err);
        }
        break;
    case 2:
        if ((f = random_fake(IS_CHECKING))) {
            f->state = IS_READY;
            fae_pool_was_checked(&f->conn, err);
        }
        break;
    case 3:
        if (any(4) == 0 && (f = random_fake((int)any(4))))
            fae_pool_lost(&f->conn, "end of file");
        break;
    case 4: t.connect_errno = any(16) ? 0 : ECONNREFUSED; break;
    }
}

static void random_step(unsigned *n_shared)
{
    struct asker *a = &random_askers[any(N_ASKERS)];

    switch (any(10)) {
    case 0:
    case 1:
    case 2: random_borrow(a); break;
    case 3:
        if (is_waiting(a)) {
            fae_pool_cancel(t.pool, &a->ask);
            a->id = 0;
        }
        break;
    case 4:
        if (a->conn)
            give(a, any(5) != 0);
        break;
    case 5: fae_pool_tick(t.pool); break;
    case 6: fae_pool_skip(t.pool, any(8) ? any(60) : any(8000)); break;
    case 7: turn_for(0, any(8) == 0); break;
    case 8:
        if (*n_shared == 0)
            *n_shared += fae_pool_slot_take(t.pool);
        else
            fae_pool_slot_give(t.pool), --*n_shared;
        break;
    case 9: random_world(); break;
    }
}

static void assert_model(unsigned n_shared)
{
    unsigned n_waiting = 0, n_borrowed = 0;

    for (unsigned i = 0; i < N_ASKERS; i++) {
        const struct asker *a = &random_askers[i];

        assert_true(a->n_told <= 1);
        n_waiting += is_waiting(a);
        n_borrowed += a->conn != NULL;
    }
    assert_sums(n_shared);
    assert_true(t.n_alive + n_shared <= (t.rule.max > 1 ? t.rule.max - 1 : 1));
    assert_int_equal(NOW(waiting), n_waiting);
    assert_int_equal(NOW(pinned), n_borrowed);
    assert_true(fae_pool_quiet(t.pool) == (n_waiting + n_borrowed == 0));
}

static void in_random_order(void **state)
{
    unsigned n_rounds = getenv("FAE_LONG") ? 400 : 40;

    (void)state;
    for (unsigned round = 0; round < n_rounds; round++) {
        unsigned n_shared = 0;

        seed = 0x9e3779b97f4a7c15u + round;
        memset(random_askers, 0, sizeof random_askers);
        t.last_id = next_id = 0;
        t.rule.max = 1 + any(8);
        t.rule.waiting_max = any(20);
        t.rule.wait_ms = 1 + any(5);
        t.rule.connect_timeout_ms = 1 + any(20);
        t.rule.timeout_ms = 1 + any(20);
        t.rule.idle_ms = any(2) ? 0 : 1 + any(10000);
        t.rule.life_ms = any(2) ? 0 : 1 + any(20000);
        t.rule.warm = any(4);
        t.resets = any(2);
        t.tells_inside = any(4) == 0;
        t.by_themselves = any(2);
        make_pool();
        for (unsigned i = 0; i < 500; i++) {
            random_step(&n_shared);
            assert_model(n_shared);
        }
        fae_pool_free(&t.pool);
        for (unsigned i = 0; i < N_ASKERS; i++)
            assert_true(!random_askers[i].id || random_askers[i].n_told == 1);
        assert_int_equal(t.n_alive, 0);
        assert_sums(0);
        fae_upstream_force(t.up, FAE_BREAKER_AUTO, fae_now_ms());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(five_hundred_ask_at_once),
        TEST(in_random_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
