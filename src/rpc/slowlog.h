/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The slow log: the last calls that took too long, and sampled ones, in a ring in shared memory that every worker
 * writes to and anybody reads. No lock: an entry is made aside, put in under a number of its own and carries a sum, so
 * it counts once it is whole; a writer killed or stopped in one loses that one.
 */
#ifndef FAE_RPC_SLOWLOG_H
#define FAE_RPC_SLOWLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"

struct fae_slowlog;

#define FAE_SLOWLOG_ARGS_MAX 1024 /* bytes of arguments an entry holds */
#define FAE_SLOWLOG_TEXT 128      /* bytes of each of its other texts; longer ones are cut */

struct fae_slow_call {
    uint64_t at_ms; /* since 1970, of its end */
    uint32_t slot, generation;
    uint64_t total_us, queue_us, run_us; /* waiting: what is left */
    const char *method;
    const char *code;               /* "" : no error */
    const char *peer;               /* "tcp://10.0.0.7:40312" */
    const char *rid, *reason, *uid; /* as text; "" when unknown */
    bool sampled;                   /* not slow, but one in so many */
    const uint8_t *params;          /* msgpack array, NULL when unknown */
    size_t params_len;              /* may end in the middle: what is whole of it is shown */
};

/* Region functions; arg: const struct fae_config *. */
size_t fae_slowlog_size(const void *config);
void fae_slowlog_init(void *mem, const void *config);

/* Adds one: texts are cut, params become JSON with the values of `secrets` keys masked, at most args_max bytes. */
void fae_slowlog_add(struct fae_slowlog *log, const struct fae_slow_call *call, const char *secrets, size_t args_max);

/* At most n newest first as JSON lines (one object each) onto out. Returns how many. */
unsigned fae_slowlog_json(const struct fae_slowlog *log, unsigned n, struct fae_buf *out);
/* How many were ever added. */
uint64_t fae_slowlog_total(const struct fae_slowlog *log);
/* Forgets all entries. */
void fae_slowlog_clear(struct fae_slowlog *log);

/* params as the slow log shows them: JSON text in at most max bytes, cut after what is whole. */
void fae_slowlog_args(const uint8_t *params, size_t len, const char *secrets, size_t max, struct fae_buf *out);

#endif
