/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Gates: counters a worker, buckets that are one word, and the names they are found by.
 */
#include "rpc/gate.h"

#include <string.h>

#include "base/assert.h"
#include "base/hist.h"

#define SECOND_NS 1000000000ull
#define MS_NS 1000000u

size_t fae_gates_size(const void *arg)
{
    (void)arg;
    return sizeof(struct fae_gates);
}

void fae_gates_init(void *mem, const void *arg)
{
    struct fae_gates *gates = mem;

    (void)arg;
    fae_shmutex_init(&gates->lock);
}

void fae_gate_rule(struct fae_gate_rule *rule_out, uint64_t calls, uint64_t rate, uint64_t burst)
{
    struct fae_gate_rule rule = { .calls = calls > UINT32_MAX ? UINT32_MAX : (uint32_t)calls };

    if (rate > SECOND_NS)
        rate = SECOND_NS;
    if (rate) {
        rule.step_ns = SECOND_NS / rate;
        rule.burst_ns = rule.step_ns * (burst ? burst : rate);
    }
    *rule_out = rule;
}

/* ---- names ---- */

static int find_name(const struct fae_gates *gates, unsigned n, const char *pattern)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(gates->names[i], pattern) == 0)
            return (int)i;
    return -1;
}

int fae_gates_find(struct fae_gates *gates, const char *pattern)
{
    size_t len = strlen(pattern);
    unsigned n;
    int gate;

    if (len == 0 || len > FAE_METHOD_NAME_MAX)
        return -1;
    /* A name counts once n_names says so: one that a killed worker left half-written is written again. */
    fae_shmutex_lock(&gates->lock);
    n = atomic_load_explicit(&gates->n_names, memory_order_relaxed);
    gate = find_name(gates, n, pattern);
    if (gate < 0 && n < FAE_GATES_MAX) {
        gate = (int)n;
        memcpy(gates->names[n], pattern, len + 1);
        atomic_store_explicit(&gates->n_names, n + 1, memory_order_release);
    }
    fae_shmutex_unlock(&gates->lock);
    return gate;
}

/* ---- rate ---- */

bool fae_bucket_take(fae_bucket *bucket, const struct fae_gate_rule *rule, uint64_t now_ns,
                     uint32_t *retry_after_ms_out)
{
    uint64_t was = atomic_load_explicit(bucket, memory_order_relaxed), full_ns;

    do {
        full_ns = was > now_ns ? was : now_ns;
        if (full_ns > now_ns + rule->burst_ns) /* emptied under another rule, or the clock has jumped */
            full_ns = now_ns + rule->burst_ns;
        full_ns += rule->step_ns;
        if (full_ns > now_ns + rule->burst_ns) {
            *retry_after_ms_out = (uint32_t)((full_ns - now_ns - rule->burst_ns + MS_NS - 1) / MS_NS);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(bucket, &was, full_ns, memory_order_relaxed, memory_order_relaxed));
    return true;
}

void fae_bucket_give(fae_bucket *bucket, const struct fae_gate_rule *rule)
{
    atomic_fetch_sub_explicit(bucket, rule->step_ns, memory_order_relaxed);
}

/* ---- in flight ---- */

uint32_t fae_gate_calls(const struct fae_gates *gates, int gate, unsigned n_workers)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < n_workers; i++)
        n += atomic_load(&gates->workers[i].n_calls[gate]);
    return n;
}

enum fae_gate_answer fae_gate_enter(struct fae_gates *gates, int gate, const struct fae_gate_rule *rule, unsigned slot,
                                    unsigned n_workers, uint64_t now_ns, uint32_t *retry_after_ms_out)
{
    _Atomic uint32_t *own = &gates->workers[slot].n_calls[gate];
    uint32_t was = FAE_STAT_GET(*own);
    enum fae_gate_answer answer = FAE_GATE_OPEN;

    /* First in, then look: of those who are in at the same time the last to come sees all the others, as its own store
     * is before its loads in the one order of sequentially consistent operations. */
    atomic_store(own, was + 1);
    if (rule->calls && fae_gate_calls(gates, gate, n_workers) > rule->calls)
        answer = FAE_GATE_FULL;
    else if (rule->step_ns && !fae_bucket_take(&gates->buckets[gate].full_ns, rule, now_ns, retry_after_ms_out))
        answer = FAE_GATE_TOO_FAST;
    if (answer != FAE_GATE_OPEN)
        atomic_store_explicit(own, was, memory_order_release);
    return answer;
}

void fae_gate_leave(struct fae_gates *gates, int gate, unsigned slot)
{
    _Atomic uint32_t *own = &gates->workers[slot].n_calls[gate];
    uint32_t was = FAE_STAT_GET(*own);

    FAE_ASSERT(was > 0);
    atomic_store_explicit(own, was - 1, memory_order_release);
}

void fae_gate_undo(struct fae_gates *gates, int gate, const struct fae_gate_rule *rule, unsigned slot)
{
    fae_gate_leave(gates, gate, slot);
    if (rule->step_ns)
        fae_bucket_give(&gates->buckets[gate].full_ns, rule);
}

void fae_gates_reap(struct fae_gates *gates, unsigned slot)
{
    for (unsigned i = 0; i < FAE_GATES_MAX; i++)
        FAE_STAT_SET(gates->workers[slot].n_calls[i], 0);
}
