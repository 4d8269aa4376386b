/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A client of another node: one connection, made when it is first needed, with many calls in flight on it. It never
 * waits: calls are queued up to a cap, sent once a turn of the loop, and fail together when the connection does. After
 * that it pauses (doubling, with jitter), refusing at once, and the next call tries again.
 *
 *   DOWN --a call--> CONNECTING --> OPEN --lost, refused, too slow--> DOWN, pausing
 */
#ifndef FAE_BACKEND_REMOTE_H
#define FAE_BACKEND_REMOTE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/addr.h"
#include "net/loop.h"

#define FAE_REMOTE_CALLS 1024u /* in flight at once; one more is OVERLOAD */

struct fae_remote;
struct fae_remote_call;

/* err OK: error is one msgpack value, nil when there is none, and result another; both lend until it returns. Else (the
 * connection was lost) both are NULL. The call is the caller's again. */
typedef void (*fae_remote_done_fn)(struct fae_remote_call *call, enum fae_err err, const uint8_t *error,
                                   const uint8_t *result);

/* A call in flight: the caller's memory, until it is done or cancelled. */
struct fae_remote_call {
    uint32_t msgid;
    fae_remote_done_fn done;
};

/* All msgpack that it is given is whole; context may be NULL (none). */
struct fae_remote_message {
    const char *method;
    size_t method_len;
    const uint8_t *params; /* one array */
    size_t params_len;
    const uint8_t *context; /* one map */
    size_t context_len;
};

struct fae_remote_opts {
    struct fae_loop *loop;
    struct fae_addr addr;
    const char *token; /* shown first on every connection; NULL: none. Copied */
    size_t message_max;
};

struct fae_remote *fae_remote_new(const struct fae_remote_opts *opts);
/* Calls in flight are forgotten, not done. May be called from inside a completion. */
void fae_remote_free(struct fae_remote **remote);

/* OK: call->done will be called. OVERLOAD: its queue is full. UNAVAILABLE: it was not reached a moment ago. LIMIT: the
 * message is too long. Not OK: nothing will come. */
enum fae_err fae_remote_call(struct fae_remote *remote, struct fae_remote_call *call,
                             const struct fae_remote_message *message);
/* No answer will come; the other node may run it all the same. */
void fae_remote_cancel(struct fae_remote *remote, struct fae_remote_call *call);
/* A notification: OK says that it is queued, nothing more is ever known of it. */
enum fae_err fae_remote_notify(struct fae_remote *remote, const struct fae_remote_message *message);

/* "tcp://127.0.0.1:9001"; lent by the remote. */
const char *fae_remote_addr(const struct fae_remote *remote);

#endif
