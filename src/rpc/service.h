/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What serves calls, as rpc sees it. vm fills it with Lua servants; tests fill it with a few lines of C, so that rpc is
 * tested with no Lua in the room.
 */
#ifndef FAE_RPC_SERVICE_H
#define FAE_RPC_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct fae_session;

/* One message that a scan has proven; lends everything until the call returns. */
struct fae_request {
    uint32_t msgid;
    bool notification;  /* no answer wanted */
    const char *method; /* not NUL-terminated */
    uint32_t method_len;
    const uint8_t *params;  /* an array */
    const uint8_t *context; /* a map, or NULL */
    const uint8_t *end;     /* of the message */
    uint64_t ticks;         /* when it began */
    uint64_t got_ticks;     /* when the last of its bytes were received */
};

struct fae_service_ops {
    /* Runs fn(arg), inside which `call` may be cut short (out of Lua memory). False: it was, that one call has its
     * answer already, and the rest is still to be done: call again. */
    bool (*guard)(void *service, void (*fn)(void *arg), void *arg);
    /* Starts a call. It answers by fae_session_answer..., now or later; later means fae_session_began was told. */
    void (*call)(void *service, struct fae_session *session, const struct fae_request *request);
    /* The session ends: whatever runs for it is cancelled with the code, and must not touch it any more. */
    void (*hangup)(void *service, struct fae_session *session, enum fae_err code);
    /* A session was opened, or is about to close (its socket is still open). May be NULL. */
    void (*session)(void *service, struct fae_session *session, bool opened);
};

#endif
