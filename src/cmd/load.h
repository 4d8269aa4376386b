/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The load generator: some threads, each a loader of its own with a share of the connections and of the rate, and
 * their results put together. See cmd/loader.h for what a loader does.
 */
#ifndef FAE_CMD_LOAD_H
#define FAE_CMD_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cmd/bench_hist.h"
#include "cmd/bench_mix.h"
#include "cmd/tally.h"
#include "cmd/trust.h"
#include "net/addr.h"

#define FAE_LOAD_THREADS_MAX 64
#define FAE_LOAD_CONNS_MAX 30000
#define FAE_LOAD_DEPTH_MAX 10000
#define FAE_LOAD_SPREAD_MAX 250
#define FAE_LOAD_RATE_MAX 10000000
#define FAE_LOAD_OPEN_MAX 10000000              /* connections times depth */
#define FAE_LOAD_UNSENT_MAX (2048ull * FAE_MIB) /* bytes, if no socket takes any */
#define FAE_LOAD_GRACE_MS 6000                  /* for the last answers; a call's own default deadline is 5 s */
#define FAE_LOAD_LATE_NS 1000000                /* the generator itself may be so late */

/* How far a run is, once a second. */
struct fae_load_progress {
    uint64_t elapsed_ns, n_sent, n_ok, n_failed;
    uint64_t interval_ns, interval_ok; /* since the last time */
    uint64_t p50_ns, p99_ns;           /* of what was answered since then */
};

typedef void (*fae_load_progress_fn)(const struct fae_load_progress *progress, void *arg);

struct fae_load_opts {
    struct fae_addr addr;
    struct fae_trust trust; /* of a tls:// address */
    unsigned threads;       /* at most as many as connections */
    unsigned conns;
    unsigned depth;        /* calls that a connection sends at once; 1 with connect_per_call */
    unsigned spread;       /* source addresses, 0: the system's choice */
    bool connect_per_call; /* connect, call, close */
    double rate;           /* calls a second, whatever the answers do; 0: as fast as they come */
    uint64_t calls;        /* to send; 0: no limit */
    uint64_t duration_ms;
    uint64_t grace_ms;               /* for the last answers, after that */
    const struct fae_bench_mix *mix; /* borrowed; NULL: raw_request, over and over */
    struct fae_buf raw_request;
    struct fae_tally_raw raw;
    fae_load_progress_fn progress; /* NULL: none */
    void *progress_arg;
};

struct fae_load_method {
    uint64_t n_sent;
    struct fae_bench_hist latency;
};

/* A call's latency runs from the moment it was due, when there is a rate: what it waited for a free connection, or for
 * this program, counts. Without a rate it runs from the batch's send (its connect, with connect_per_call). */
struct fae_load_result {
    struct fae_tally tally; /* owned by the caller: fae_tally_fini */
    uint64_t n_sent;        /* calls begun */
    uint64_t n_connects;
    uint64_t n_lost;        /* connections that were closed on us */
    uint64_t n_refused;     /* connects that failed */
    uint64_t n_unsent;      /* with a rate: due, but no connection ever was free */
    uint64_t n_late;        /* with a rate: begun FAE_LOAD_LATE_NS too late though a connection was free */
    uint64_t late_max_ns;   /* of those */
    uint64_t behind_max_ns; /* the furthest that any call was begun after it was due */
    uint64_t elapsed_ns;    /* first call to last answer */
    uint64_t cpu_ns;        /* our own */
    struct fae_load_method methods[FAE_TALLY_METHODS];
};

/* FAE_LIMIT: more calls open at once than we have room for. FAE_UNAVAILABLE: the first connections cannot be made;
 * whatever happens later is counted. SIGINT ends the run early. The result must be zero. */
enum fae_err fae_load_run(const struct fae_load_opts *opts, struct fae_load_result *result, char *why_out,
                          size_t why_size);

/* All methods' latencies as one. */
void fae_load_latency(const struct fae_load_result *result, struct fae_bench_hist *out);

#endif
