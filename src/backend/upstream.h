/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A server that we call, as all workers of the node see it: its breaker, how many connections each worker has to it, what
 * became of the calls. Rows in shared memory, found by name ("redis/main/tcp://10.0.0.1:6379", "servant/geo"), made on first
 * sight and used again by a server of another name once no worker's configuration has it.
 */
#ifndef FAE_BACKEND_UPSTREAM_H
#define FAE_BACKEND_UPSTREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/breaker.h"
#include "base/err.h"
#include "base/limits.h"

#define FAE_UPSTREAM_NAME_MAX 239 /* holds a kind, a pool's name of 63 bytes and a server's text */

/* name, help: counters of calls and connections, one a worker; it alone writes its own. Times are sums in ns. */
#define FAE_UPSTREAM_COUNTERS(X)                                                                                       \
    X(calls, "calls that were sent or tried")                                                                          \
    X(errors, "calls that the server answered with an error")                                                          \
    X(timeouts, "calls without an answer in time")                                                                     \
    X(lost, "calls whose connection ended, or whose answer made no sense")                                             \
    X(rejected, "calls that an open breaker refused")                                                                  \
    X(retries, "calls sent a second time")                                                                             \
    X(call_ns, "time of calls from when they were sent to their answer")                                               \
    X(connects, "connections that were tried")                                                                         \
    X(connect_failures, "connections that were refused, or not ready in time")                                         \
    X(waits, "calls that waited for a connection")                                                                     \
    X(wait_ns, "time they waited")                                                                                     \
    X(busy, "calls that waited for a connection in vain")
/* The same of what is now. */
#define FAE_UPSTREAM_GAUGES(X)                                                                                         \
    X(connecting, "connections being made")                                                                            \
    X(idle, "connections that nobody uses")                                                                            \
    X(used, "connections in use, those that calls share among them")                                                   \
    X(pinned, "connections in use by one call alone")                                                                  \
    X(waiting, "calls that wait for a connection")

/* One worker's share. */
struct fae_upstream_cell {
    _Alignas(64) _Atomic uint32_t n_slots; /* connections it has or makes */
    _Atomic uint32_t wants;                /* its configuration has this server */
    /* Not so named in C: counters.calls, gauges.idle */
#define FAE_UPSTREAM_FIELD(name, help) _Atomic uint64_t name;
    struct {
        FAE_UPSTREAM_COUNTERS(FAE_UPSTREAM_FIELD)
    } n;
    struct {
        FAE_UPSTREAM_GAUGES(FAE_UPSTREAM_FIELD)
    } now;
#undef FAE_UPSTREAM_FIELD
};

struct fae_upstream;  /* a row */
struct fae_upstreams; /* all of them */

/* Region functions; arg is the unsigned number of workers. */
size_t fae_upstreams_size(const void *arg);
void fae_upstreams_init(void *mem, const void *arg);

/* The row of that name, from now on wanted by the worker; NULL when there are FAE_UPSTREAMS_MAX others, the name is
 * too long, or a process is stopped that holds the lock. */
struct fae_upstream *fae_upstream_get(struct fae_upstreams *ups, const char *name, unsigned slot);
/* The worker's configuration no longer has it. Two pools of one worker may have got it; the last one counts. */
void fae_upstream_put(struct fae_upstream *up, unsigned slot);
/* A worker died, or starts: it has no connections, no probes and wants nothing; its counters stay. */
void fae_upstreams_reap(struct fae_upstreams *ups, unsigned slot);

const char *fae_upstream_name(const struct fae_upstream *up);
unsigned fae_upstream_workers(const struct fae_upstream *up);
struct fae_upstream_cell *fae_upstream_cell(struct fae_upstream *up, unsigned slot);
const struct fae_breaker *fae_upstream_breaker(const struct fae_upstream *up);

/* May the worker have one connection more, of max on the node? It counts as soon as the answer is yes. A worker without
 * any always may, and those that have none are counted as if they had one. */
bool fae_upstream_slot_take(struct fae_upstream *up, unsigned slot, unsigned max);
void fae_upstream_slot_give(struct fae_upstream *up, unsigned slot);

/* The breaker of the row, with its log lines and counters: see breaker.h. Each transition is one line of the log, by the
 * worker that made it. */
bool fae_upstream_enter(struct fae_upstream *up, const struct fae_breaker_rule *rule, unsigned slot, uint64_t now_ms,
                        struct fae_permit *permit_out, uint32_t *retry_after_ms_out);
void fae_upstream_end(struct fae_upstream *up, const struct fae_breaker_rule *rule, unsigned slot,
                      struct fae_permit permit, enum fae_breaker_outcome outcome, uint64_t now_ms);
void fae_upstream_reached(struct fae_upstream *up, uint64_t now_ms);
/* What ended in the window, of all workers. */
void fae_upstream_window(const struct fae_upstream *up, uint64_t now_ms, uint32_t *n_calls_out, uint32_t *n_failed_out);
/* Why its breaker opened last: "12 of 20 calls in 10 s failed". */
void fae_upstream_why(const struct fae_upstream *up, char *text, size_t size);

/* For those who look on: every row that somebody wants, by index; NULL where there is none. */
struct fae_upstream *fae_upstreams_at(struct fae_upstreams *ups, unsigned i);
/* The row of exactly that name, or NULL; nobody comes to want it. */
struct fae_upstream *fae_upstreams_find(struct fae_upstreams *ups, const char *name);
/* By an operator. The breaker's mode is another one then, unless somebody who holds its lock is stopped. */
void fae_upstream_force(struct fae_upstream *up, enum fae_breaker_mode mode, uint64_t now_ms);
/* The same, and whether it was done; who: for the log. */
bool fae_upstream_force_as(struct fae_upstream *up, enum fae_breaker_mode mode, const char *who, uint64_t now_ms);

#endif
