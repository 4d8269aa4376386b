/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/breaker: random sequences against a model that is written from the rules and shares no code with it (K9).
 */
#include "unit_breaker.h"

#include <math.h>

#include "base/sanitize.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(random_sequences_do_as_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
