/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Limits of calls: in flight, and a second. A gate is one such limit of the whole node: of all calls, of a method, of a
 * servant. In flight is a counter a worker (one writer each; a dead worker's is emptied), the rate one word that all
 * share (a token bucket as the time at which it will be full again), so passing a gate never waits and the rate needs
 * no reaping.
 */
#ifndef FAE_RPC_GATE_H
#define FAE_RPC_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/shmutex.h"
#include "rpc/limit.h"

/* What one limit says; from the configuration. All 0: nothing. */
struct fae_gate_rule {
    uint32_t calls;    /* in flight; 0: no limit */
    uint64_t step_ns;  /* a call's share of a second at the rate; 0: no limit */
    uint64_t burst_ns; /* how far ahead of the rate calls may be */
};

/* A word that all workers share: when the bucket is full again, in ns. */
typedef _Atomic uint64_t fae_bucket;

#define FAE_GATE_NODE FAE_GATES_MAX /* the node's own gate, for calls_rate; its calls in flight are counted by slots */

struct fae_gates {
    _Atomic uint64_t told_ms;               /* when the log was told what limits did ... */
    _Atomic uint64_t told[FAE_LIMIT_COUNT]; /* ... and up to which counts */
    struct fae_shmutex lock;                /* guards names */
    /* As the configuration's limits: the same pattern has the same gate as long as the node lives, whatever a reload
     * does. */
    _Atomic uint32_t n_names;
    char names[FAE_GATES_MAX][FAE_METHOD_NAME_MAX + 1];
    struct {
        _Alignas(64) fae_bucket full_ns;
    } buckets[FAE_GATES_MAX + 1];
    struct {
        _Alignas(64) _Atomic uint32_t n_calls[FAE_GATES_MAX];
    } workers[FAE_WORKERS_MAX];
};

/* Region functions; arg is not used. */
size_t fae_gates_size(const void *arg);
void fae_gates_init(void *mem, const void *arg);

/* rate and burst in calls, as configured (0: none; burst 0: one second's worth). */
void fae_gate_rule(struct fae_gate_rule *rule_out, uint64_t calls, uint64_t rate, uint64_t burst);

/* The gate of a pattern, made on first sight; -1 when there are FAE_GATES_MAX others. */
int fae_gates_find(struct fae_gates *gates, const char *pattern);

enum fae_gate_answer { FAE_GATE_OPEN, FAE_GATE_FULL, FAE_GATE_TOO_FAST };

/* May one more call pass? OPEN: it counts as in flight of `slot` until fae_gate_leave. TOO_FAST: *retry_after_ms_out says
 * when one may. Nothing is taken unless the answer is OPEN. Never more than rule->calls are let in; of two that come at
 * the same instant for the last place both may be refused. */
enum fae_gate_answer fae_gate_enter(struct fae_gates *gates, int gate, const struct fae_gate_rule *rule, unsigned slot,
                                    unsigned n_workers, uint64_t now_ns, uint32_t *retry_after_ms_out);
void fae_gate_leave(struct fae_gates *gates, int gate, unsigned slot);
/* Gives back the rate's share of a call that entered but was refused by another gate; leaves as well. */
void fae_gate_undo(struct fae_gates *gates, int gate, const struct fae_gate_rule *rule, unsigned slot);
/* In flight on the node. */
uint32_t fae_gate_calls(const struct fae_gates *gates, int gate, unsigned n_workers);
/* A worker died, or starts: nothing of its slot is in flight. */
void fae_gates_reap(struct fae_gates *gates, unsigned slot);

/* The rate alone: takes a call's share from a bucket; false: too fast, *retry_after_ms_out says when to come again. */
bool fae_bucket_take(fae_bucket *bucket, const struct fae_gate_rule *rule, uint64_t now_ns,
                     uint32_t *retry_after_ms_out);
/* Gives that share back. */
void fae_bucket_give(fae_bucket *bucket, const struct fae_gate_rule *rule);

#endif
