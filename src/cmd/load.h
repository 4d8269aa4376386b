/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The load generator: one thread, epoll, closed loop. Each connection sends its calls as one batch and the next batch
 * when all are answered, with one recv and one send a readiness, so that it costs the least a client can cost.
 */
#ifndef FAE_CMD_LOAD_H
#define FAE_CMD_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hist.h"
#include "cmd/tally.h"
#include "net/addr.h"

#define FAE_LOAD_CONNS_MAX 30000
#define FAE_LOAD_DEPTH_MAX 10000
#define FAE_LOAD_SPREAD_MAX 250
#define FAE_LOAD_BATCH_MAX (256u * FAE_MIB) /* bytes of one batch */
#define FAE_LOAD_GRACE_MS 6000              /* for the last answers; a call's own default deadline is 5 s */

struct fae_load_opts {
    struct fae_addr addr;
    unsigned conns;
    unsigned depth;        /* calls a batch; 1 with connect_per_call */
    unsigned spread;       /* source addresses, 0: the system's choice */
    bool connect_per_call; /* connect, call, close */
    bool raw;              /* the request has no msgid to patch */
    uint64_t calls;        /* to send; 0: no limit */
    uint64_t duration_ms;
    uint64_t grace_ms; /* for the last answers, after that */
    struct fae_buf request;
};

struct fae_load_result {
    struct fae_tally tally; /* the caller sets raw_bytes, and owns it */
    uint64_t n_sent;        /* calls begun */
    uint64_t n_connects;
    uint64_t n_lost;     /* connections that were closed on us */
    uint64_t n_refused;  /* connects that failed */
    uint64_t elapsed_ns; /* first call to last answer */
    uint64_t cpu_ns;     /* our own */
    uint64_t latency_sum_ns, latency_max_ns;
    struct fae_hist latency; /* from a batch's send (its connect, with connect_per_call) to the answer's arrival */
};

/* FAE_UNAVAILABLE, with a sentence, when the first connections cannot be made; whatever happens later is counted.
 * SIGINT ends the run early. */
enum fae_err fae_load_run(const struct fae_load_opts *opts, struct fae_load_result *result, char *why_out,
                          size_t why_size);

#endif
