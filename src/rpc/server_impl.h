/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What server.c, session.c and accept.c share. Nobody else includes it.
 */
#ifndef FAE_RPC_SERVER_IMPL_H
#define FAE_RPC_SERVER_IMPL_H

#include "base/clock.h"
#include "base/limits.h"
#include "rpc/server.h"
#include "rpc/service.h"
#include "rpc/session.h"

/* A growable queue of sessions; a session closed meanwhile stays in it until the queue is walked. */
struct fae_queue {
    struct fae_session **items;
    uint32_t n, cap;
};

#define FAE_SPARE_BUFS 64
#define FAE_SPARE_SESSIONS 1024

/* A socket we accept from, or may have to: a row for every listener and slot. */
struct fae_acceptor {
    struct fae_watch watch;
    struct fae_server *server;
    const struct fae_listener *listener;
    unsigned index; /* of the listener */
    int fd;
    bool open;
};

struct fae_server {
    struct fae_server_opts o;
    struct fae_worker_stats *stats;
    struct fae_slot *slot;
    uint64_t ticks;      /* the last reading: end of one call, start of the next */
    uint64_t late_ticks; /* when this turn's calls have taken FAE_TURN_MS */
    uint32_t n_run;      /* calls since the last flush */
    uint32_t next_id;
    struct fae_list sessions;
    unsigned n_sessions;
    struct fae_queue ready, running, dirty, grave;
    struct fae_queue thirsty; /* found the arena full */
    struct fae_mp_scan scan;  /* of messages that arrive whole */
    uint32_t run_at;          /* position in `running`: survives a cut */
    uint8_t *arena;
    size_t arena_used;
    struct fae_buf spare_bufs[FAE_SPARE_BUFS];
    unsigned n_spare_bufs;
    struct fae_session *spare_sessions[FAE_SPARE_SESSIONS];
    unsigned n_spare_sessions;
    struct fae_acceptor *acceptors; /* [n_listeners][n_workers] */
    struct fae_timer accept_pause;  /* running while out of fds */
    int spare_fd;                   /* given up to accept and refuse when out of fds */
    uint64_t warned_ms;
    bool accepting, draining;
    uint64_t drain_started_ms;
};

void fae_queue_push(struct fae_queue *q, struct fae_session *s);

/* The calls of this turn took FAE_TURN_MS: the rest waits, so that timers fire and other sessions are read. */
static inline bool fae_server_late(const struct fae_server *server)
{
    return server->ticks >= server->late_ticks;
}

/* session.c */
struct fae_session *fae_session_open(struct fae_server *server, int fd, bool half_close);
void fae_session_close(struct fae_session *s, enum fae_err why);
void fae_session_read(struct fae_session *s);    /* takes bytes in; they are run after all callbacks of the turn */
void fae_session_run(struct fae_session *s);     /* its input of this turn, message by message */
void fae_session_put_off(struct fae_session *s); /* its input goes on in the next turn */
void fae_session_flush(struct fae_session *s);   /* one send */
void fae_session_check(struct fae_session *s, uint64_t now_ms); /* its time limits */

/* accept.c */
void fae_accept_init(struct fae_server *server);
void fae_accept_fini(struct fae_server *server);
void fae_accept_start(struct fae_server *server);
void fae_accept_stop(struct fae_server *server);
void fae_accept_turn(struct fae_server *server, bool busy); /* each loop turn: keeps or passes the shared sockets */
void fae_accept_tick(struct fae_server *server);            /* takes over what silent slots hold */

#endif
