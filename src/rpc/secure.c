/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A session's bytes where its listener speaks TLS. session.c calls this behind one branch that plain sessions do not take.
 * What differs from a socket: bytes may lie decrypted where no event tells of them, and reading may have to wait until
 * the socket can be written.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/log.h"
#include "net/tls.h"
#include "rpc/caller.h"
#include "rpc/server_impl.h"

bool fae_secure_open(struct fae_session *s, struct fae_tls_ctx *ctx)
{
    s->tls = fae_tls_accept(ctx, s->fd);
    if (!s->tls)
        fae_session_close(s, FAE_NO_MEMORY);
    return s->tls != NULL;
}

static void tell_broken(struct fae_session *s)
{
    struct fae_server *server = s->server;
    char peer[FAE_ADDR_TEXT];

    server->n_broken++;
    if (server->o.loop->now_ms - server->broken_warned_ms < 1000)
        return;
    fae_session_peer(s, peer);
    FAE_WARN("%s: %s (%u like this)", peer, fae_tls_why(), server->n_broken);
    server->broken_warned_ms = server->o.loop->now_ms;
    server->n_broken = 0;
}

/* A signature may take a millisecond, so only some sessions get on with their handshakes in a turn. The others stay
 * readable and are named again. */
static bool may_shake_hands(struct fae_server *server)
{
    return server->n_handshakes++ < FAE_HANDSHAKES_TURN;
}

ssize_t fae_secure_recv(struct fae_session *s, void *into, size_t size)
{
    bool shaken = fae_tls_established(s->tls);
    ssize_t n;

    if (!shaken && !may_shake_hands(s->server)) {
        errno = EAGAIN;
        return -1;
    }
    n = fae_tls_recv(s->tls, into, size);
    if (n < 0 && errno == EPROTO)
        tell_broken(s);
    if (!shaken && fae_tls_established(s->tls)) {
        s->heard = true;
        s->seen_ms = (uint32_t)s->server->o.loop->now_ms;
        fae_caller_identify(s);
    }
    if (n != 0 && (fae_tls_pending(s->tls) || fae_tls_wants_write(s->tls)))
        fae_session_dirty(s); /* for its watch, and for what is left to read */
    return n;
}

bool fae_secure_reads_by_writing(const struct fae_session *s)
{
    return !s->closing && !s->eof && fae_tls_recv_wants_write(s->tls);
}

short fae_secure_watch(const struct fae_session *s)
{
    if (fae_tls_wants_write(s->tls))
        return FAE_WRITABLE;
    return s->out.len > s->out_sent ? FAE_READABLE : 0; /* the last send must read first */
}

bool fae_secure_left(const struct fae_session *s)
{
    return s->watching & FAE_READABLE && !s->lingering && fae_tls_pending(s->tls);
}
