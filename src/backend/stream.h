/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A connection that we make, of bytes: the name looked up off the loop, its addresses tried in turn, TLS when the endpoint
 * says so. Nothing here waits; how long it may take is for its owner to say, who closes it.
 *
 *   (closed) --open--> LOOKING UP --> CONNECTING (next address when one fails) --> HANDSHAKE --> OPEN
 *                           \------------------\--------------------------------------\--> failed, told
 */
#ifndef FAE_BACKEND_STREAM_H
#define FAE_BACKEND_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "backend/resolve.h"
#include "base/endpoint.h"
#include "base/err.h"
#include "net/addr.h"
#include "net/loop.h"
#include "net/tls.h"

enum fae_stream_state {
    FAE_STREAM_CLOSED,
    FAE_STREAM_LOOKING_UP,
    FAE_STREAM_CONNECTING,
    FAE_STREAM_HANDSHAKE,
    FAE_STREAM_OPEN,
    FAE_STREAM_FAILED,
};

/* All from the loop, never from inside a call below; each but writable may close the stream. */
struct fae_stream_ops {
    void (*opened)(void *arg);
    /* It did not come to be open; why is a sentence, lent. */
    void (*failed)(void *arg, const char *why);
    void (*readable)(void *arg); /* something to receive: bytes, the end, an error */
    void (*writable)(void *arg); /* it was asked for */
};

struct fae_stream_opts {
    struct fae_loop *loop;
    struct fae_resolver *resolver;
    const struct fae_endpoint *endpoint; /* lent as long as the stream is not closed */
    struct fae_tls_ctx *tls;             /* of an endpoint that wants it */
    uint64_t within_ms; /* the owner's limit: addresses share it, so that a dead one leaves time for the next */
    const struct fae_stream_ops *ops;
    void *arg;
};

struct fae_stream {
    struct fae_stream_opts o;
    enum fae_stream_state state;
    int fd;
    bool wants_write, deaf;
    short watching;
    struct fae_watch watch;
    struct fae_timer timer; /* of an address; or tells soon what was known at once */
    struct fae_tls *tls;
    struct fae_resolve resolve;
    struct fae_addr addrs[FAE_RESOLVE_ADDRS];
    unsigned n_addrs, at;
    char why[160];
};

/* Begins. Zeroed or closed before. */
void fae_stream_open(struct fae_stream *stream, const struct fae_stream_opts *opts);
/* At once, whatever it was doing; nothing is told any more. Twice is harmless. */
void fae_stream_close(struct fae_stream *stream);

/* As recv and send of a non-blocking socket: EAGAIN when there is nothing, or no room. */
ssize_t fae_stream_recv(struct fae_stream *stream, void *into, size_t size);
ssize_t fae_stream_send(struct fae_stream *stream, const void *bytes, size_t len);
/* More can be received at once, of which no event will tell: who does not want it now asks to be told again. */
bool fae_stream_pending(const struct fae_stream *stream);
void fae_stream_again(struct fae_stream *stream);
/* Tells when it can be written again, until it is told no. */
void fae_stream_want_write(struct fae_stream *stream, bool wants);
/* Whether it tells what can be received; it does from the start. */
void fae_stream_listen(struct fae_stream *stream, bool listens);
/* What errno, or TLS, says of the last call that failed; lent until the next. */
const char *fae_stream_why(const struct fae_stream *stream);

#endif
