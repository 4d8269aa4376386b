/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What an administrator asks of the kv stores, in the process that serves, on a thread that may wait for the disk: a
 * copy of the durable store while it is used, and a look at every record. Neither stops a writer or a loop.
 */
#ifndef FAE_STORE_KV_ADMIN_H
#define FAE_STORE_KV_ADMIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct fae_kv;

/* Shared with whoever watches it. */
struct fae_kv_progress {
    _Atomic bool stop;     /* it should end */
    _Atomic uint64_t done; /* records looked at */
};

/* A copy of the durable store as it is now, without what lies free in the file, as DIR/data.mdb. dir: absolute; new, or
 * empty. text gets what came of it, a line. BAD_ARGS, SYSTEM, NO_SPACE, CANCELLED, UNAVAILABLE: there is no store. */
enum fae_err fae_kv_backup(struct fae_kv *kv, const char *dir, struct fae_kv_progress *progress, struct fae_buf *text);
/* Looks at every record of both stores: its head, the bucket of its key, its entry in the index of times, and the counts.
 * lines gets what is wrong, text what came of it. SYSTEM: something is. */
enum fae_err fae_kv_check(struct fae_kv *kv, struct fae_kv_progress *progress, struct fae_buf *lines,
                          struct fae_buf *text);
/* How far it is: bytes copied, or records looked at. Any thread. */
uint64_t fae_kv_admin_done(struct fae_kv *kv, const struct fae_kv_progress *progress);
/* The backup or check that runs in this process ends soon, as cancelled. Any thread. */
void fae_kv_admin_stop(struct fae_kv *kv, struct fae_kv_progress *progress);

#endif
