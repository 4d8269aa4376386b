/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/breaker: its rules one by one, random sequences against a model that is written from the rules and shares no
 * code with it (K9), and workers that are killed with probes and with the lock.
 */
#include "unit.h"

#include <math.h>
#include <pthread.h>
#include <sys/mman.h>

#include "backend/breaker.h"
#include "base/sanitize.h"

#define WORKERS 3u

static const struct fae_breaker_rule rule = { .percent = 50, .calls = 20, .refusals = 5, .open_ms = 5000 };

struct shared {
    struct fae_breaker breaker;
    _Alignas(64) struct fae_breaker_cell cells[WORKERS];
    _Atomic unsigned n_entered;
};

static struct shared *s;
static uint64_t now;

static int set_up(void **state)
{
    (void)state;
    s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return -1;
    fae_breaker_init(&s->breaker);
    now = 1000000;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(s, sizeof *s);
}

static enum fae_breaker_change end_as(unsigned slot, struct fae_permit permit, enum fae_breaker_outcome outcome)
{
    return fae_breaker_end(&s->breaker, &rule, s->cells, WORKERS, slot, permit, outcome, now, 0);
}

static bool enter_as(unsigned slot, struct fae_permit *permit, uint32_t *retry_ms, enum fae_breaker_change *change)
{
    *retry_ms = 0;
    return fae_breaker_enter(&s->breaker, &rule, slot, now, permit, retry_ms, change);
}

static bool enter(struct fae_permit *permit)
{
    enum fae_breaker_change change;
    uint32_t retry_ms;

    return enter_as(0, permit, &retry_ms, &change);
}

/* One call from its start to its end. */
static enum fae_breaker_change call(unsigned slot, enum fae_breaker_outcome outcome)
{
    enum fae_breaker_change change;
    struct fae_permit permit;
    uint32_t retry_ms;

    assert_true(enter_as(slot, &permit, &retry_ms, &change));
    return end_as(slot, permit, outcome);
}

static void open_it(void)
{
    for (unsigned i = 0; i < rule.refusals; i++)
        end_as(0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED);
    assert_int_equal(s->breaker.state, FAE_BREAKER_OPEN);
}

/* ---- the rules ---- */

static void a_share_of_failures_opens_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_VOID), FAE_BREAKER_STAYS); /* says nothing */
    assert_int_equal(call(1, FAE_BREAKER_FAILED), FAE_BREAKER_OPENS);
    assert_int_equal(s->breaker.why.reason, FAE_BREAKER_BY_SHARE);
    assert_int_equal(s->breaker.why.failed, 10);
    assert_int_equal(s->breaker.why.calls, 20);
    assert_int_equal(s->breaker.n_opened, 1);
}

static void few_or_old_failures_do_not(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(call(0, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    now += FAE_BREAKER_WINDOW_S * 1000;
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(call(0, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(call(1, FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
}

static void refusals_in_a_row_open_it_of_all_workers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    call(0, FAE_BREAKER_OK);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    fae_breaker_reached(&s->breaker, now); /* a connection that came about ends a row as well */
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS);
    assert_int_equal(s->breaker.why.reason, FAE_BREAKER_BY_REFUSALS);
}

static void open_it_refuses_and_says_until_when(void **state)
{
    enum fae_breaker_change change;
    struct fae_permit permit;
    uint32_t retry_ms;

    (void)state;
    open_it();
    now += 1200;
    assert_false(enter_as(1, &permit, &retry_ms, &change));
    assert_int_equal(retry_ms, 3800);
    assert_int_equal(s->breaker.n_rejected, 1);
    now += 3800;
    assert_true(enter_as(1, &permit, &retry_ms, &change));
    assert_int_equal(change, FAE_BREAKER_HALF_OPENS);
    assert_int_not_equal(permit.probe, 0);
}

static void probes_close_it_and_the_window_begins_anew(void **state)
{
    struct fae_permit probes[FAE_BREAKER_PROBES], one_more;

    (void)state;
    for (unsigned i = 0; i < 19; i++)
        call(0, FAE_BREAKER_FAILED);
    open_it();
    now += 5000;
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++)
        assert_true(enter(&probes[i]));
    assert_false(enter(&one_more));
    assert_int_equal(end_as(0, probes[0], FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    assert_true(enter(&one_more));
    assert_int_equal(end_as(0, one_more, FAE_BREAKER_VOID), FAE_BREAKER_STAYS);
    assert_int_equal(end_as(0, probes[1], FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    assert_int_equal(end_as(0, probes[2], FAE_BREAKER_OK), FAE_BREAKER_CLOSES);
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(call(0, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
}

static void one_failed_probe_opens_it_again_half_as_long_again(void **state)
{
    uint64_t open_ms[] = { 5000, 7500, 11250, 16875, 25313, 37970, 56955, 60000, 60000, 60000 };
    struct fae_permit permit;

    (void)state;
    open_it();
    for (unsigned i = 0; i < UNIT_N(open_ms); i++) {
        assert_int_equal(s->breaker.until_ms - now, open_ms[i]);
        now = s->breaker.until_ms;
        assert_true(enter(&permit));
        assert_int_equal(end_as(0, permit, FAE_BREAKER_FAILED), FAE_BREAKER_OPENS);
        assert_int_equal(s->breaker.why.reason, FAE_BREAKER_BY_PROBE);
    }
}

static void a_tenth_of_the_time_is_random(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rule.refusals; i++)
        fae_breaker_end(&s->breaker, &rule, s->cells, WORKERS, 0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, now,
                        UINT32_MAX);
    assert_in_range(s->breaker.until_ms - now, 4500, 4501);
}

static void what_was_entered_earlier_neither_closes_nor_opens_it(void **state)
{
    struct fae_permit early[8], probe;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(early); i++)
        assert_true(enter(&early[i]));
    open_it();
    assert_int_equal(end_as(0, early[0], FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    now += 5000;
    assert_true(enter(&probe));
    for (unsigned i = 1; i < 5; i++)
        assert_int_equal(end_as(0, early[i], FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    assert_int_equal(end_as(0, early[5], FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    assert_int_equal(s->breaker.state, FAE_BREAKER_HALF_OPEN);
    /* But a connection that is refused now is news. */
    assert_int_equal(end_as(0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS);
    /* And the probe of the time before says nothing of the next. */
    now += 7500;
    assert_true(enter(&early[0]));
    assert_int_equal(end_as(0, probe, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 1);
}

static void probes_expire_and_are_reaped(void **state)
{
    struct fae_permit old[3], permit;
    enum fae_breaker_change change;
    uint32_t retry_ms;

    (void)state;
    open_it();
    now += 5000;
    for (unsigned i = 0; i < 3; i++)
        assert_true(enter_as(i % 2, &old[i], &retry_ms, &change));
    assert_false(enter(&permit));
    fae_breaker_reap(&s->breaker, 0);
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 1);
    now += FAE_BREAKER_PROBE_MS;
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_true(enter(&permit));
    assert_int_equal(end_as(0, old[1], FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 3);
}

static void who_reached_it_lets_it_be_tried_at_once(void **state)
{
    struct fae_permit permit;

    (void)state;
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_STAYS);
    open_it();
    assert_false(enter(&permit));
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_HALF_OPENS);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_STAYS);
    assert_true(enter(&permit));
}

static void who_reached_it_is_not_believed_twice(void **state)
{
    struct fae_permit permit;

    (void)state;
    open_it();
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_HALF_OPENS);
    assert_true(enter(&permit));
    assert_int_equal(end_as(0, permit, FAE_BREAKER_FAILED), FAE_BREAKER_OPENS);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_STAYS);
    now = s->breaker.until_ms;
    assert_true(enter(&permit));
    assert_int_equal(end_as(0, permit, FAE_BREAKER_FAILED), FAE_BREAKER_OPENS);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_HALF_OPENS);
    /* One that is gone again may come back again. */
    assert_int_equal(end_as(0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_HALF_OPENS);
}

static void an_operator_decides(void **state)
{
    struct fae_permit permit;

    (void)state;
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_FORCED_OPEN, now), FAE_BREAKER_OPENS);
    now += 10 * FAE_BREAKER_OPEN_MAX_MS;
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_STAYS);
    assert_false(enter(&permit));
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_FORCED_CLOSED, now), FAE_BREAKER_CLOSES);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(call(0, i % 2 ? FAE_BREAKER_FAILED : FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_AUTO, now), FAE_BREAKER_STAYS);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(call(0, FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS);
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_AUTO, now), FAE_BREAKER_CLOSES);
    assert_true(enter(&permit));
}

static void percent_0_never_opens_it_and_closes_an_open_one(void **state)
{
    struct fae_breaker_rule off = rule;
    enum fae_breaker_change change;
    struct fae_permit permit;
    uint32_t retry_ms;

    (void)state;
    off.percent = 0;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(fae_breaker_end(&s->breaker, &off, s->cells, WORKERS, 0, (struct fae_permit){ 0 },
                                         FAE_BREAKER_REFUSED, now, 0),
                         FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS); /* the configuration was changed */
    assert_true(fae_breaker_enter(&s->breaker, &off, 0, now, &permit, &retry_ms, &change));
    assert_int_equal(change, FAE_BREAKER_CLOSES);
    assert_int_equal(permit.probe, 0);
}

/* ---- the model: what the rules say, kept as lists of what happened ---- */

#define EVENTS_MAX 512
#define CALLS_MAX 64

struct model_probe {
    unsigned call, slot;
    uint64_t expires_ms;
};

struct model {
    enum fae_breaker_state state;
    enum fae_breaker_mode mode;
    struct {
        uint64_t second;
        bool failed;
    } events[EVENTS_MAX]; /* of calls that ended while it was closed, since it was */
    unsigned n_events, row, good, openings;
    bool by_reach, burnt; /* HALF_OPEN since it was reached; and that went wrong */
    struct model_probe probes[FAE_BREAKER_PROBES];
    unsigned n_probes;
    uint64_t until_ms;
    uint64_t opened, closed, half_opened, rejected;
};

static void model_anew(struct model *m)
{
    m->n_events = m->row = m->openings = m->n_probes = 0;
    m->burnt = false;
    m->state = FAE_BREAKER_CLOSED;
}

static enum fae_breaker_change model_close(struct model *m)
{
    model_anew(m);
    m->closed++;
    return FAE_BREAKER_CLOSES;
}

static enum fae_breaker_change model_half_open(struct model *m, bool by_reach)
{
    m->by_reach = by_reach;
    m->burnt = false;
    m->state = FAE_BREAKER_HALF_OPEN;
    m->good = m->n_probes = 0;
    m->half_opened++;
    return FAE_BREAKER_HALF_OPENS;
}

/* How long is checked by its bounds, and then taken over. */
static enum fae_breaker_change model_open(struct model *m, const struct fae_breaker_rule *r,
                                          const struct fae_breaker *b)
{
    double most = r->open_ms, until = (double)b->until_ms - (double)now, max = r->open_ms > 60000 ? r->open_ms : 60000;

    for (unsigned i = 0; i < m->openings && most < max; i++)
        most = ceil(most * 1.5); /* to whole ms, each time */
    most = most < max ? most : max;
    if (b->state == FAE_BREAKER_OPEN) {
        assert_true(until <= most);
        assert_true(until >= most * 0.9);
    }
    m->until_ms = b->until_ms;
    m->openings++;
    m->n_probes = 0;
    m->state = FAE_BREAKER_OPEN;
    m->opened++;
    return FAE_BREAKER_OPENS;
}

static void model_expire(struct model *m)
{
    for (unsigned i = 0; i < m->n_probes;)
        if (now >= m->probes[i].expires_ms)
            m->probes[i] = m->probes[--m->n_probes];
        else
            i++;
}

static bool model_enter(struct model *m, const struct fae_breaker_rule *r, unsigned slot, unsigned n_call,
                        uint32_t *retry_ms, enum fae_breaker_change *change)
{
    *change = FAE_BREAKER_STAYS;
    if (m->state == FAE_BREAKER_CLOSED)
        return true;
    if (m->mode == FAE_BREAKER_FORCED_OPEN) {
        *retry_ms = r->open_ms;
        m->rejected++;
        return false;
    }
    if (r->percent == 0) {
        *change = model_close(m);
        return true;
    }
    if (m->state == FAE_BREAKER_OPEN && now < m->until_ms) {
        *retry_ms = (uint32_t)(m->until_ms - now);
        m->rejected++;
        return false;
    }
    if (m->state == FAE_BREAKER_OPEN)
        *change = model_half_open(m, false);
    model_expire(m);
    if (m->n_probes == FAE_BREAKER_PROBES) {
        m->rejected++;
        return false;
    }
    m->probes[m->n_probes++] = (struct model_probe){ n_call, slot, now + FAE_BREAKER_PROBE_MS };
    return true;
}

static enum fae_breaker_change model_end_closed(struct model *m, const struct fae_breaker_rule *r,
                                                enum fae_breaker_outcome outcome, const struct fae_breaker *b)
{
    unsigned calls = 0, failed = 0;

    if (outcome == FAE_BREAKER_VOID)
        return FAE_BREAKER_STAYS;
    m->events[m->n_events].second = now / 1000;
    m->events[m->n_events++].failed = outcome != FAE_BREAKER_OK;
    if (outcome == FAE_BREAKER_OK)
        m->row = 0;
    if (outcome == FAE_BREAKER_REFUSED)
        m->row++;
    if (outcome == FAE_BREAKER_OK || r->percent == 0 || m->mode != FAE_BREAKER_AUTO)
        return FAE_BREAKER_STAYS;
    for (unsigned i = 0; i < m->n_events; i++)
        if (m->events[i].second + FAE_BREAKER_WINDOW_S > now / 1000) {
            calls++;
            failed += m->events[i].failed;
        }
    if (m->row >= r->refusals || (calls >= r->calls && failed * 100.0 / calls >= r->percent))
        return model_open(m, r, b);
    return FAE_BREAKER_STAYS;
}

static enum fae_breaker_change model_end(struct model *m, const struct fae_breaker_rule *r, unsigned n_call,
                                         bool was_probe, enum fae_breaker_outcome outcome, const struct fae_breaker *b)
{
    if (m->state == FAE_BREAKER_CLOSED)
        return model_end_closed(m, r, outcome, b);
    if (m->state == FAE_BREAKER_OPEN)
        return FAE_BREAKER_STAYS;
    if (!was_probe)
        return outcome == FAE_BREAKER_REFUSED ? model_open(m, r, b) : FAE_BREAKER_STAYS;
    model_expire(m);
    for (unsigned i = 0; i < m->n_probes; i++) {
        if (m->probes[i].call != n_call)
            continue;
        m->probes[i] = m->probes[--m->n_probes];
        if (outcome == FAE_BREAKER_VOID)
            return FAE_BREAKER_STAYS;
        if (outcome == FAE_BREAKER_FAILED && m->by_reach)
            m->burnt = true;
        if (outcome != FAE_BREAKER_OK)
            return model_open(m, r, b);
        return ++m->good == FAE_BREAKER_PROBES ? model_close(m) : FAE_BREAKER_STAYS;
    }
    return FAE_BREAKER_STAYS;
}

static enum fae_breaker_change model_force(struct model *m, enum fae_breaker_mode mode)
{
    enum fae_breaker_state before = m->state;

    m->mode = mode;
    if (mode == FAE_BREAKER_FORCED_OPEN && before == FAE_BREAKER_OPEN)
        return FAE_BREAKER_STAYS;
    if (mode == FAE_BREAKER_FORCED_OPEN) {
        m->state = FAE_BREAKER_OPEN;
        m->openings++;
        m->n_probes = 0;
        m->opened++;
        return FAE_BREAKER_OPENS;
    }
    if (before != FAE_BREAKER_CLOSED)
        return model_close(m);
    model_anew(m);
    return FAE_BREAKER_STAYS;
}

static void model_reap(struct model *m, unsigned slot)
{
    for (unsigned i = 0; i < m->n_probes;)
        if (m->probes[i].slot == slot)
            m->probes[i] = m->probes[--m->n_probes];
        else
            i++;
}

/* ---- both, side by side ---- */

struct pair {
    struct model m;
    struct fae_breaker_rule rule;
    uint64_t seed;
    struct {
        unsigned number, slot;
        struct fae_permit permit;
        bool probe;
    } calls[CALLS_MAX];
    unsigned n_calls, n_ever;
};

static unsigned any(struct pair *p, unsigned below)
{
    return (unsigned)(unit_random(&p->seed) >> 20) % below;
}

static void pair_enter(struct pair *p)
{
    enum fae_breaker_change change, should_change;
    struct fae_permit permit;
    unsigned slot = any(p, WORKERS), number = ++p->n_ever;
    uint32_t retry_ms = 0, should_ms = 0;
    bool should, half = p->m.state != FAE_BREAKER_CLOSED && p->rule.percent != 0;
    bool is;

    if (p->n_calls == CALLS_MAX)
        return;
    is = fae_breaker_enter(&s->breaker, &p->rule, slot, now, &permit, &retry_ms, &change);
    should = model_enter(&p->m, &p->rule, slot, number, &should_ms, &should_change);
    assert_int_equal(is, should);
    assert_int_equal(change, should_change);
    if (!is && should_ms)
        assert_int_equal(retry_ms, should_ms);
    if (!is) {
        assert_int_not_equal(retry_ms, 0);
        return;
    }
    assert_int_equal(permit.probe != 0, half);
    p->calls[p->n_calls].number = number;
    p->calls[p->n_calls].slot = slot;
    p->calls[p->n_calls].probe = half;
    p->calls[p->n_calls++].permit = permit;
}

static void pair_end(struct pair *p, unsigned failing)
{
    enum fae_breaker_outcome outcome = FAE_BREAKER_OK;
    enum fae_breaker_change change;
    unsigned i;

    if (p->n_calls == 0)
        return;
    i = any(p, 4) ? p->n_calls - 1 : any(p, p->n_calls); /* mostly soon, some late */
    if (any(p, 100) < failing)
        outcome = any(p, 3) ? FAE_BREAKER_FAILED : FAE_BREAKER_REFUSED;
    else if (any(p, 8) == 0)
        outcome = FAE_BREAKER_VOID;
    change = fae_breaker_end(&s->breaker, &p->rule, s->cells, WORKERS, p->calls[i].slot, p->calls[i].permit, outcome,
                             now, (uint32_t)unit_random(&p->seed));
    assert_int_equal(change, model_end(&p->m, &p->rule, p->calls[i].number, p->calls[i].probe, outcome, &s->breaker));
    p->calls[i] = p->calls[--p->n_calls];
}

static void pair_force(struct pair *p)
{
    enum fae_breaker_mode mode = any(p, 3);

    assert_int_equal(fae_breaker_force(&s->breaker, mode, now), model_force(&p->m, mode));
}

static void pair_reached(struct pair *p)
{
    enum fae_breaker_change should = FAE_BREAKER_STAYS;

    if (p->m.state == FAE_BREAKER_CLOSED)
        p->m.row = 0;
    if (p->m.state == FAE_BREAKER_OPEN && p->m.mode == FAE_BREAKER_AUTO && !p->m.burnt)
        should = model_half_open(&p->m, true);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), should);
}

/* The worker is killed: its calls never end. */
static void pair_kill(struct pair *p)
{
    unsigned slot = any(p, WORKERS);

    fae_breaker_reap(&s->breaker, slot);
    model_reap(&p->m, slot);
    for (unsigned i = 0; i < p->n_calls;)
        if (p->calls[i].slot == slot)
            p->calls[i] = p->calls[--p->n_calls];
        else
            i++;
}

static void pair_time(struct pair *p)
{
    static const uint32_t steps[] = { 1, 20, 300, 999, 1000, 2500, 5000, 10000, 60000 };

    now += any(p, steps[any(p, UNIT_N(steps))] + 1);
    if (any(p, 8) == 0 && p->m.state == FAE_BREAKER_OPEN && p->m.mode == FAE_BREAKER_AUTO && now < p->m.until_ms)
        now = p->m.until_ms - any(p, 2);
}

static void pair_compare(struct pair *p)
{
    const struct fae_breaker *b = &s->breaker;

    assert_int_equal(b->state, p->m.state);
    assert_int_equal(b->mode, p->m.mode);
    model_expire(&p->m);
    assert_int_equal(fae_breaker_probes(b, now), p->m.n_probes);
    assert_int_equal(b->n_opened, p->m.opened);
    assert_int_equal(b->n_closed, p->m.closed);
    assert_int_equal(b->n_half_opened, p->m.half_opened);
    assert_int_equal(b->n_rejected, p->m.rejected);
}

static void pair_step(struct pair *p, unsigned failing)
{
    unsigned what = any(p, 100);

    if (what < 45)
        pair_enter(p);
    else if (what < 88)
        pair_end(p, failing);
    else if (what < 96)
        pair_time(p);
    else if (what < 97)
        pair_kill(p);
    else if (what < 98)
        for (unsigned i = 0; i < 3; i++)
            pair_reached(p);
    else if (what < 99)
        p->rule.percent = any(p, 4) ? 50 : 0;
    else
        pair_force(p);
    pair_compare(p);
}

static void run_sequence(struct pair *p, uint64_t seed, uint64_t start_ms)
{
    *p = (struct pair){ .seed = seed * 0x9e3779b97f4a7c15u | 1 };
    p->rule = (struct fae_breaker_rule){ 1 + any(p, 100), 1 + any(p, 12), 1 + any(p, 6), 10 + any(p, 70000) };
    memset(s->cells, 0, sizeof s->cells);
    fae_breaker_init(&s->breaker);
    now = start_ms;
    for (unsigned i = 0, failing = 50; i < 120; i++) {
        if (i % 20 == 0)
            failing = any(p, 101);
        pair_step(p, failing);
    }
}

static void random_sequences_do_as_the_model(void **state)
{
    unsigned n = FAE_TSAN ? 10000 : getenv("FAE_LONG") ? 2000000 : 100000;
    static struct pair p;
    uint64_t seen[3] = { 0 };

    (void)state;
    for (unsigned i = 0; i < n; i++) {
        /* Also where 32 bits of ms, and of what probes keep, come round. */
        run_sequence(&p, i + 1, i % 3 == 0 ? 0 : i % 3 == 1 ? 4294967296u - 30000 : 123456789);
        seen[0] += p.m.opened;
        seen[1] += p.m.half_opened;
        seen[2] += p.m.closed;
    }
    for (unsigned i = 0; i < UNIT_N(seen); i++)
        assert_true(seen[i] > n / 10); /* they went where there is something to go wrong */
    print_message("%u sequences: opened %llu times, tried %llu, closed %llu\n", n, (unsigned long long)seen[0],
                  (unsigned long long)seen[1], (unsigned long long)seen[2]);
}

/* ---- the dead ---- */

static int take_probes(void *unused)
{
    enum fae_breaker_change change;
    struct fae_permit permit;
    uint32_t retry_ms;

    (void)unused;
    while (enter_as(1, &permit, &retry_ms, &change))
        s->n_entered++;
    for (;;)
        pause();
    return 1;
}

static int hold_lock(void *unused)
{
    (void)unused;
    fae_shmutex_lock(&s->breaker.lock);
    s->n_entered = FAE_BREAKER_PROBES;
    for (;;)
        pause();
    return 1;
}

static pid_t started(int (*fn)(void *arg))
{
    pid_t pid;

    s->n_entered = 0;
    pid = unit_fork(fn, NULL);
    for (unsigned i = 0; i < 5000 && s->n_entered < FAE_BREAKER_PROBES; i++)
        unit_sleep_ms(1);
    assert_int_equal(s->n_entered, FAE_BREAKER_PROBES);
    return pid;
}

static void a_killed_worker_leaves_no_probe(void **state)
{
    struct fae_permit permit;
    pid_t pid;

    (void)state;
    open_it();
    now += 5000;
    pid = started(take_probes);
    assert_false(enter(&permit));
    assert_int_equal(kill(pid, SIGKILL), 0);
    unit_wait(pid);
    assert_false(enter(&permit));
    fae_breaker_reap(&s->breaker, 1);
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++) {
        assert_true(enter(&permit));
        end_as(0, permit, FAE_BREAKER_OK);
    }
    assert_int_equal(s->breaker.state, FAE_BREAKER_CLOSED);
}

static void a_stopped_or_killed_holder_of_the_lock_stops_nobody(void **state)
{
    struct fae_permit probe, permit;
    pid_t pid;

    (void)state;
    open_it();
    now += 5000;
    assert_true(enter(&probe));
    pid = started(hold_lock);
    fae_breaker_reap(&s->breaker, 1); /* does not need it */
    assert_false(enter(&permit));
    assert_int_equal(end_as(0, probe, FAE_BREAKER_OK), FAE_BREAKER_STAYS); /* lost, but given back */
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 0);
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_FORCED_OPEN, now), FAE_BREAKER_STAYS);
    assert_int_equal(s->breaker.mode, FAE_BREAKER_AUTO);
    assert_int_equal(kill(pid, SIGKILL), 0);
    unit_wait(pid);
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++) {
        assert_true(enter(&permit));
        end_as(0, permit, FAE_BREAKER_OK);
    }
    assert_int_equal(s->breaker.state, FAE_BREAKER_CLOSED);
}

/* Many processes at once: whatever order they come in, changes alternate as drawn, each told to exactly one. */
struct told {
    _Atomic unsigned opens, half_opens, closes;
};
static struct told *told;

static void note(enum fae_breaker_change change)
{
    if (change == FAE_BREAKER_OPENS)
        told->opens++;
    if (change == FAE_BREAKER_HALF_OPENS)
        told->half_opens++;
    if (change == FAE_BREAKER_CLOSES)
        told->closes++;
}

static int race(void *arg)
{
    const struct fae_breaker_rule quick = { .percent = 50, .calls = 4, .refusals = 3, .open_ms = 10 };
    unsigned slot = *(unsigned *)arg;
    uint64_t seed = slot + 77, at = 5000;

    for (unsigned i = 0; i < 30000; i++) {
        enum fae_breaker_change change;
        struct fae_permit permit;
        uint32_t retry_ms;
        bool in = fae_breaker_enter(&s->breaker, &quick, slot, at, &permit, &retry_ms, &change);

        note(change);
        at += unit_random(&seed) % 8;
        if (in)
            note(fae_breaker_end(&s->breaker, &quick, s->cells, WORKERS, slot, permit, (unit_random(&seed) >> 9) % 4,
                                 at, (uint32_t)seed));
    }
    return 0;
}

static void told_is_what_happened(void)
{
    assert_int_equal(told->opens, s->breaker.n_opened);
    assert_int_equal(told->half_opens, s->breaker.n_half_opened);
    assert_int_equal(told->closes, s->breaker.n_closed);
    assert_true(told->opens > 0);
    assert_in_range(told->half_opens, told->opens - 1, told->opens);
    assert_true(told->closes <= told->half_opens);
    munmap(told, sizeof *told);
}

static void new_told(void)
{
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(told != MAP_FAILED);
}

static void each_change_is_told_to_one(void **state)
{
    unsigned slots[WORKERS];
    pid_t pids[WORKERS];

    (void)state;
    new_told();
    for (unsigned i = 0; i < WORKERS; i++) {
        slots[i] = i;
        pids[i] = unit_fork(race, &slots[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(unit_wait(pids[i]), 0);
    told_is_what_happened();
}

static void *race_as_a_thread(void *slot)
{
    race(slot);
    return NULL;
}

/* The same where a sanitizer sees it. */
static void threads_do_the_same(void **state)
{
    pthread_t threads[WORKERS];
    unsigned slots[WORKERS];

    (void)state;
    new_told();
    for (unsigned i = 0; i < WORKERS; i++) {
        slots[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, race_as_a_thread, &slots[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    told_is_what_happened();
}

/* Goes round and round, mostly where something changes. */
static int churn(void *unused)
{
    const struct fae_breaker_rule quick = { .percent = 50, .calls = 2, .refusals = 2, .open_ms = 10 };
    uint64_t seed = (uint64_t)getpid();

    (void)unused;
    for (;; now += 5) {
        enum fae_breaker_change change;
        struct fae_permit permit;
        uint32_t retry_ms;

        if (fae_breaker_enter(&s->breaker, &quick, 1, now, &permit, &retry_ms, &change))
            fae_breaker_end(&s->breaker, &quick, s->cells, WORKERS, 1, permit,
                            unit_random(&seed) % 4 ? FAE_BREAKER_OK : FAE_BREAKER_FAILED, now, 0);
        if (unit_random(&seed) % 16 == 0)
            fae_breaker_force(&s->breaker, unit_random(&seed) % 3, now);
        s->n_entered++;
    }
    return 1;
}

static void killed_at_any_instruction_it_goes_on(void **state)
{
    unsigned rounds = getenv("FAE_LONG") ? 3000 : 100;
    uint64_t seed = 3;

    (void)state;
    for (unsigned i = 0; i < rounds; i++) {
        pid_t pid;

        s->n_entered = 0;
        pid = unit_fork(churn, NULL);
        for (unsigned j = 0; j < 100000 && s->n_entered < 1000; j++)
            usleep((useconds_t)(unit_random(&seed) % 50));
        assert_int_equal(kill(pid, SIGKILL), 0);
        unit_wait(pid);
        fae_breaker_reap(&s->breaker, 1);
        assert_int_equal(fae_breaker_probes(&s->breaker, now), 0);
        /* Whatever state it was left in, it is one from which there is a way. */
        if (s->breaker.mode != FAE_BREAKER_AUTO)
            fae_breaker_force(&s->breaker, FAE_BREAKER_AUTO, now);
        assert_int_equal(s->breaker.mode, FAE_BREAKER_AUTO);
        now += 1000u * 1000 * 1000;
        for (unsigned j = 0; j < FAE_BREAKER_PROBES; j++)
            assert_int_not_equal(call(0, FAE_BREAKER_OK), FAE_BREAKER_OPENS);
        assert_int_equal(s->breaker.state, FAE_BREAKER_CLOSED);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_share_of_failures_opens_it),
        TEST(few_or_old_failures_do_not),
        TEST(refusals_in_a_row_open_it_of_all_workers),
        TEST(open_it_refuses_and_says_until_when),
        TEST(probes_close_it_and_the_window_begins_anew),
        TEST(one_failed_probe_opens_it_again_half_as_long_again),
        TEST(a_tenth_of_the_time_is_random),
        TEST(what_was_entered_earlier_neither_closes_nor_opens_it),
        TEST(probes_expire_and_are_reaped),
        TEST(who_reached_it_lets_it_be_tried_at_once),
        TEST(who_reached_it_is_not_believed_twice),
        TEST(an_operator_decides),
        TEST(percent_0_never_opens_it_and_closes_an_open_one),
        TEST(random_sequences_do_as_the_model),
        TEST(a_killed_worker_leaves_no_probe),
        TEST(a_stopped_or_killed_holder_of_the_lock_stops_nobody),
        TEST(killed_at_any_instruction_it_goes_on),
        TEST(each_change_is_told_to_one),
        TEST(threads_do_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
