/* SPDX-License-Identifier: BSD-2-Clause
 *
 * State is one word that everybody reads; it changes under the lock, and is what is stored last, so that whoever dies in
 * between leaves the state before or the one after. Nobody waits long for the lock: its holder may be stopped.
 */
#include "backend/breaker.h"

#include <string.h>

#include "base/hist.h"

#define LOCK_MS 1         /* what is guarded takes well under 1 us */
#define FORCE_LOCK_MS 20  /* an operator can wait a little */
#define PROBES_FULL_MS 50 /* when to ask again while all probes are out, or the lock is not to be had */

/* ---- the window ---- */

static uint64_t stamp_of(uint32_t epoch, uint64_t second)
{
    return (uint64_t)epoch << 32 | (uint32_t)second;
}

static void count(const struct fae_breaker *b, struct fae_breaker_cell *cell, uint64_t now_ms, bool failed)
{
    uint64_t second = now_ms / 1000, stamp = stamp_of(FAE_STAT_GET(b->epoch), second);
    struct fae_breaker_second *at = &cell->window[second % FAE_BREAKER_WINDOW_S];

    if (FAE_STAT_GET(at->stamp) != stamp) {
        FAE_STAT_SET(at->stamp, 0);
        /* Who sees these zeros sees that the stamp is gone. */
        atomic_store_explicit(&at->n_ok, 0, memory_order_release);
        atomic_store_explicit(&at->n_failed, 0, memory_order_release);
        atomic_store_explicit(&at->stamp, stamp, memory_order_release);
    }
    if (failed)
        FAE_STAT_ADD(at->n_failed, 1);
    else
        FAE_STAT_ADD(at->n_ok, 1);
}

static void sum_cell(const struct fae_breaker_cell *cell, uint32_t epoch, uint64_t second, uint32_t *n_calls,
                     uint32_t *n_failed)
{
    for (unsigned i = 0; i < FAE_BREAKER_WINDOW_S; i++) {
        const struct fae_breaker_second *at = &cell->window[i];
        uint64_t stamp = atomic_load_explicit(&at->stamp, memory_order_acquire);
        int32_t age_s = (int32_t)((uint32_t)second - (uint32_t)stamp);
        uint32_t ok, failed;

        /* The clocks of two workers' turns differ a little: some may be a second ahead. */
        if (stamp >> 32 != epoch || age_s >= (int32_t)FAE_BREAKER_WINDOW_S || age_s < -1)
            continue;
        ok = atomic_load_explicit(&at->n_ok, memory_order_acquire);
        failed = atomic_load_explicit(&at->n_failed, memory_order_acquire);
        if (FAE_STAT_GET(at->stamp) != stamp)
            continue;
        *n_calls += ok + failed;
        *n_failed += failed;
    }
}

void fae_breaker_window(const struct fae_breaker *b, const struct fae_breaker_cell *cells, unsigned n_workers,
                        uint64_t now_ms, uint32_t *n_calls_out, uint32_t *n_failed_out)
{
    uint32_t n_calls = 0, n_failed = 0, epoch = FAE_STAT_GET(b->epoch);

    for (unsigned i = 0; i < n_workers; i++)
        sum_cell(&cells[i], epoch, now_ms / 1000, &n_calls, &n_failed);
    *n_calls_out = n_calls;
    *n_failed_out = n_failed;
}

/* ---- probes ---- */

#define ID_BITS 24
#define SLOT_BITS 8
_Static_assert(FAE_WORKERS_MAX <= 1u << SLOT_BITS, "a worker's slot has a place in a probe");

static uint32_t id_of(uint64_t probe)
{
    return (uint32_t)(probe >> 40);
}

static unsigned slot_of(uint64_t probe)
{
    return probe >> 32 & 0xff;
}

static bool is_out(uint64_t probe, uint64_t now_ms)
{
    return probe && (int32_t)((uint32_t)probe - (uint32_t)now_ms) > 0;
}

unsigned fae_breaker_probes(const struct fae_breaker *b, uint64_t now_ms)
{
    unsigned n = 0;

    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++)
        n += is_out(atomic_load(&b->probes[i]), now_ms);
    return n;
}

/* Under the lock. 0: all are out. */
static uint32_t send_probe(struct fae_breaker *b, unsigned slot, uint64_t now_ms)
{
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++) {
        uint32_t id;

        if (is_out(atomic_load(&b->probes[i]), now_ms))
            continue;
        id = ++b->n_probes & ((1u << ID_BITS) - 1);
        if (id == 0)
            id = ++b->n_probes & ((1u << ID_BITS) - 1);
        atomic_store(&b->probes[i],
                     (uint64_t)id << 40 | (uint64_t)slot << 32 | (uint32_t)(now_ms + FAE_BREAKER_PROBE_MS));
        return id;
    }
    return 0;
}

/* False: it is none, or no longer one. */
static bool take_probe(struct fae_breaker *b, uint32_t id, uint64_t now_ms)
{
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++) {
        uint64_t probe = atomic_load(&b->probes[i]);

        if (id && id_of(probe) == id)
            return atomic_compare_exchange_strong(&b->probes[i], &probe, 0) && is_out(probe, now_ms);
    }
    return false;
}

static void forget_probes(struct fae_breaker *b)
{
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++)
        atomic_store(&b->probes[i], 0);
}

void fae_breaker_reap(struct fae_breaker *b, unsigned slot)
{
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++) {
        uint64_t probe = atomic_load(&b->probes[i]);

        if (probe && slot_of(probe) == slot)
            atomic_compare_exchange_strong(&b->probes[i], &probe, 0);
    }
}

/* ---- transitions, all under the lock ---- */

static enum fae_breaker_state state_of(const struct fae_breaker *b)
{
    return atomic_load_explicit(&b->state, memory_order_acquire);
}

static enum fae_breaker_mode mode_of(const struct fae_breaker *b)
{
    return atomic_load_explicit(&b->mode, memory_order_relaxed);
}

/* How long it stays open that was opened n times before. */
static uint64_t open_for(const struct fae_breaker_rule *rule, uint32_t n, uint32_t random)
{
    uint64_t max = rule->open_ms > FAE_BREAKER_OPEN_MAX_MS ? rule->open_ms : FAE_BREAKER_OPEN_MAX_MS;
    uint64_t ms = rule->open_ms ? rule->open_ms : 1;

    for (; n > 0 && ms < max; n--)
        ms += (ms + 1) / 2;
    if (ms > max)
        ms = max;
    return ms - (ms / 10 * random >> 32);
}

static enum fae_breaker_change turn(struct fae_breaker *b, enum fae_breaker_state to, uint64_t now_ms)
{
    static const enum fae_breaker_change changes[] = {
        [FAE_BREAKER_CLOSED] = FAE_BREAKER_CLOSES,
        [FAE_BREAKER_OPEN] = FAE_BREAKER_OPENS,
        [FAE_BREAKER_HALF_OPEN] = FAE_BREAKER_HALF_OPENS,
    };
    _Atomic uint64_t *counters[] = { &b->n_closed, &b->n_opened, &b->n_half_opened };

    FAE_STAT_SET(b->since_ms, now_ms);
    FAE_STAT_ADD(*counters[to], 1);
    atomic_store_explicit(&b->state, to, memory_order_release);
    return changes[to];
}

/* until_ms: UINT64_MAX is for ever. */
static enum fae_breaker_change open_it(struct fae_breaker *b, enum fae_breaker_reason reason, uint32_t failed,
                                       uint32_t calls, uint64_t until_ms, uint64_t now_ms)
{
    FAE_STAT_SET(b->why.reason, reason);
    FAE_STAT_SET(b->why.failed, failed);
    FAE_STAT_SET(b->why.calls, calls);
    if (b->n_openings == 0)
        FAE_STAT_SET(b->left_ms, now_ms);
    b->n_openings++;
    forget_probes(b);
    FAE_STAT_SET(b->until_ms, until_ms);
    return turn(b, FAE_BREAKER_OPEN, now_ms);
}

static enum fae_breaker_change half_open(struct fae_breaker *b, bool vouched, uint64_t now_ms)
{
    forget_probes(b);
    b->n_good = 0;
    b->vouched = vouched;
    b->doubted = false;
    return turn(b, FAE_BREAKER_HALF_OPEN, now_ms);
}

static void begin_anew(struct fae_breaker *b)
{
    uint32_t epoch = FAE_STAT_GET(b->epoch) + 1;

    forget_probes(b);
    b->n_openings = 0;
    b->doubted = false;
    FAE_STAT_SET(b->refusals, 0);
    FAE_STAT_SET(b->epoch, epoch ? epoch : 1);
}

static enum fae_breaker_change close_it(struct fae_breaker *b, uint64_t now_ms)
{
    begin_anew(b);
    return turn(b, FAE_BREAKER_CLOSED, now_ms);
}

/* Whoever died inside left nothing that has to be repaired. */
static bool lock(struct fae_breaker *b, unsigned within_ms)
{
    bool died;

    return fae_shmutex_lock_within(&b->lock, within_ms, &died) == FAE_OK;
}

/* ---- entering ---- */

void fae_breaker_init(struct fae_breaker *b)
{
    memset(b, 0, sizeof *b);
    atomic_store(&b->epoch, 1);
    fae_shmutex_init(&b->lock);
}

/* Without the lock: is it worth taking? */
static bool may_ask(const struct fae_breaker *b, const struct fae_breaker_rule *rule, uint64_t now_ms,
                    uint32_t *retry_after_ms_out)
{
    uint64_t until_ms = FAE_STAT_GET(b->until_ms);

    if (mode_of(b) == FAE_BREAKER_FORCED_OPEN) {
        *retry_after_ms_out = rule->open_ms ? rule->open_ms : 1;
        return false;
    }
    *retry_after_ms_out = PROBES_FULL_MS;
    if (state_of(b) == FAE_BREAKER_HALF_OPEN)
        return fae_breaker_probes(b, now_ms) < FAE_BREAKER_PROBES;
    if (now_ms >= until_ms)
        return true;
    *retry_after_ms_out = until_ms - now_ms < UINT32_MAX ? (uint32_t)(until_ms - now_ms) : UINT32_MAX;
    return false;
}

/* Under the lock. */
static bool enter_locked(struct fae_breaker *b, const struct fae_breaker_rule *rule, unsigned slot, uint64_t now_ms,
                         struct fae_permit *permit_out, enum fae_breaker_change *change_out)
{
    if (state_of(b) == FAE_BREAKER_CLOSED)
        return true;
    if (mode_of(b) == FAE_BREAKER_FORCED_OPEN)
        return false;
    if (rule->percent == 0) {
        *change_out = close_it(b, now_ms);
        return true;
    }
    if (state_of(b) == FAE_BREAKER_OPEN) {
        if (now_ms < FAE_STAT_GET(b->until_ms))
            return false;
        *change_out = half_open(b, false, now_ms);
    }
    permit_out->probe = send_probe(b, slot, now_ms);
    return permit_out->probe != 0;
}

static bool enter_with_care(struct fae_breaker *b, const struct fae_breaker_rule *rule, unsigned slot, uint64_t now_ms,
                            struct fae_permit *permit_out, uint32_t *retry_after_ms_out,
                            enum fae_breaker_change *change_out)
{
    bool entered;

    if (!may_ask(b, rule, now_ms, retry_after_ms_out) && (rule->percent != 0 || mode_of(b) == FAE_BREAKER_FORCED_OPEN))
        return false;
    if (!lock(b, LOCK_MS))
        return false;
    entered = enter_locked(b, rule, slot, now_ms, permit_out, change_out);
    fae_shmutex_unlock(&b->lock);
    return entered;
}

bool fae_breaker_enter(struct fae_breaker *b, const struct fae_breaker_rule *rule, unsigned slot, uint64_t now_ms,
                       struct fae_permit *permit_out, uint32_t *retry_after_ms_out, enum fae_breaker_change *change_out)
{
    permit_out->probe = 0;
    *change_out = FAE_BREAKER_STAYS;
    if (__builtin_expect(state_of(b) == FAE_BREAKER_CLOSED, 1))
        return true;
    if (enter_with_care(b, rule, slot, now_ms, permit_out, retry_after_ms_out, change_out))
        return true;
    atomic_fetch_add_explicit(&b->n_rejected, 1, memory_order_relaxed);
    return false;
}

/* ---- ends ---- */

/* Of what is known about a failure; zero when it does not open it. */
struct verdict {
    bool opens;
    enum fae_breaker_reason reason;
    uint32_t failed, calls;
};

static struct verdict judge(const struct fae_breaker *b, const struct fae_breaker_rule *rule,
                            const struct fae_breaker_cell *cells, unsigned n_workers, uint64_t now_ms)
{
    uint32_t refusals = FAE_STAT_GET(b->refusals), calls, failed;

    if (rule->refusals && refusals >= rule->refusals)
        return (struct verdict){ true, FAE_BREAKER_BY_REFUSALS, refusals, refusals };
    fae_breaker_window(b, cells, n_workers, now_ms, &calls, &failed);
    if (calls >= rule->calls && (uint64_t)failed * 100 >= (uint64_t)rule->percent * calls)
        return (struct verdict){ true, FAE_BREAKER_BY_SHARE, failed, calls };
    return (struct verdict){ 0 };
}

/* Opens it if it still is in the state that the verdict is about. */
static enum fae_breaker_change open_from(struct fae_breaker *b, const struct fae_breaker_rule *rule,
                                         enum fae_breaker_state from, const struct verdict *v, uint64_t now_ms,
                                         uint32_t random)
{
    enum fae_breaker_change change = FAE_BREAKER_STAYS;

    if (!lock(b, LOCK_MS))
        return change; /* the next failure will */
    if (state_of(b) == from && mode_of(b) == FAE_BREAKER_AUTO)
        change = open_it(b, v->reason, v->failed, v->calls, now_ms + open_for(rule, b->n_openings, random), now_ms);
    fae_shmutex_unlock(&b->lock);
    return change;
}

static enum fae_breaker_change end_closed(struct fae_breaker *b, const struct fae_breaker_rule *rule,
                                          struct fae_breaker_cell *cells, unsigned n_workers, unsigned slot,
                                          enum fae_breaker_outcome outcome, uint64_t now_ms, uint32_t random)
{
    struct verdict v;

    if (outcome == FAE_BREAKER_VOID)
        return FAE_BREAKER_STAYS;
    count(b, &cells[slot], now_ms, outcome != FAE_BREAKER_OK);
    if (outcome == FAE_BREAKER_OK) {
        if (FAE_STAT_GET(b->refusals) != 0)
            FAE_STAT_SET(b->refusals, 0);
        return FAE_BREAKER_STAYS;
    }
    if (outcome == FAE_BREAKER_REFUSED)
        atomic_fetch_add_explicit(&b->refusals, 1, memory_order_relaxed);
    if (rule->percent == 0 || mode_of(b) != FAE_BREAKER_AUTO)
        return FAE_BREAKER_STAYS;
    v = judge(b, rule, cells, n_workers, now_ms);
    return v.opens ? open_from(b, rule, FAE_BREAKER_CLOSED, &v, now_ms, random) : FAE_BREAKER_STAYS;
}

/* Under the lock, of a probe that was out. */
static enum fae_breaker_change end_probe(struct fae_breaker *b, const struct fae_breaker_rule *rule,
                                         enum fae_breaker_outcome outcome, uint64_t now_ms, uint32_t random)
{
    if (outcome == FAE_BREAKER_VOID)
        return FAE_BREAKER_STAYS;
    b->doubted = b->vouched && outcome == FAE_BREAKER_FAILED;
    if (outcome != FAE_BREAKER_OK)
        return open_it(b, FAE_BREAKER_BY_PROBE, 1, 1, now_ms + open_for(rule, b->n_openings, random), now_ms);
    if (++b->n_good < FAE_BREAKER_PROBES)
        return FAE_BREAKER_STAYS;
    return close_it(b, now_ms);
}

enum fae_breaker_change fae_breaker_end(struct fae_breaker *b, const struct fae_breaker_rule *rule,
                                        struct fae_breaker_cell *cells, unsigned n_workers, unsigned slot,
                                        struct fae_permit permit, enum fae_breaker_outcome outcome, uint64_t now_ms,
                                        uint32_t random)
{
    static const struct verdict refused = { true, FAE_BREAKER_BY_PROBE, 1, 1 };
    enum fae_breaker_state state = state_of(b);
    enum fae_breaker_change change = FAE_BREAKER_STAYS;

    if (__builtin_expect(state == FAE_BREAKER_CLOSED, 1))
        return end_closed(b, rule, cells, n_workers, slot, outcome, now_ms, random);
    if (state == FAE_BREAKER_OPEN)
        return change;
    if (permit.probe == 0)
        return outcome == FAE_BREAKER_REFUSED ? open_from(b, rule, state, &refused, now_ms, random) : change;
    if (!lock(b, LOCK_MS)) {
        take_probe(b, permit.probe, now_ms); /* what it had to say is lost, its place is not */
        return change;
    }
    if (state_of(b) == FAE_BREAKER_HALF_OPEN && take_probe(b, permit.probe, now_ms))
        change = end_probe(b, rule, outcome, now_ms, random);
    fae_shmutex_unlock(&b->lock);
    return change;
}

/* ---- from outside of calls ---- */

enum fae_breaker_change fae_breaker_reached(struct fae_breaker *b, uint64_t now_ms)
{
    enum fae_breaker_change change = FAE_BREAKER_STAYS;

    if (state_of(b) == FAE_BREAKER_CLOSED && FAE_STAT_GET(b->refusals) != 0)
        FAE_STAT_SET(b->refusals, 0);
    if (state_of(b) != FAE_BREAKER_OPEN || mode_of(b) != FAE_BREAKER_AUTO || !lock(b, LOCK_MS))
        return change;
    if (state_of(b) == FAE_BREAKER_OPEN && mode_of(b) == FAE_BREAKER_AUTO && !b->doubted)
        change = half_open(b, true, now_ms);
    fae_shmutex_unlock(&b->lock);
    return change;
}

/* Of two stores the one that would last for ever, if somebody died before the other, comes last. */
static enum fae_breaker_change force_locked(struct fae_breaker *b, enum fae_breaker_mode mode, uint64_t now_ms)
{
    enum fae_breaker_change change = FAE_BREAKER_STAYS;

    if (mode == FAE_BREAKER_FORCED_OPEN) {
        atomic_store(&b->mode, mode);
        if (state_of(b) != FAE_BREAKER_OPEN)
            change = open_it(b, FAE_BREAKER_BY_OPERATOR, 0, 0, UINT64_MAX, now_ms);
        return change;
    }
    if (state_of(b) != FAE_BREAKER_CLOSED)
        change = close_it(b, now_ms);
    else
        begin_anew(b);
    atomic_store(&b->mode, mode);
    return change;
}

enum fae_breaker_change fae_breaker_force(struct fae_breaker *b, enum fae_breaker_mode mode, uint64_t now_ms)
{
    enum fae_breaker_change change;

    if (!lock(b, FORCE_LOCK_MS))
        return FAE_BREAKER_STAYS;
    change = force_locked(b, mode, now_ms);
    fae_shmutex_unlock(&b->lock);
    return change;
}

bool fae_breaker_forget(struct fae_breaker *b)
{
    if (!lock(b, FORCE_LOCK_MS))
        return false;
    force_locked(b, FAE_BREAKER_AUTO, 0);
    FAE_STAT_SET(b->n_opened, 0);
    FAE_STAT_SET(b->n_closed, 0);
    FAE_STAT_SET(b->n_half_opened, 0);
    FAE_STAT_SET(b->n_rejected, 0);
    FAE_STAT_SET(b->since_ms, 0);
    fae_shmutex_unlock(&b->lock);
    return true;
}

/* ---- words ---- */

const char *fae_breaker_state_word(enum fae_breaker_state state)
{
    switch (state) {
    case FAE_BREAKER_CLOSED: return "closed";
    case FAE_BREAKER_OPEN: return "open";
    case FAE_BREAKER_HALF_OPEN: return "half-open";
    }
    return "?";
}

const char *fae_breaker_mode_word(enum fae_breaker_mode mode)
{
    switch (mode) {
    case FAE_BREAKER_AUTO: return "auto";
    case FAE_BREAKER_FORCED_OPEN: return "open";
    case FAE_BREAKER_FORCED_CLOSED: return "closed";
    }
    return "?";
}
