/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What server.c, session.c and accept.c share. Nobody else includes it.
 */
#ifndef FAE_RPC_SERVER_IMPL_H
#define FAE_RPC_SERVER_IMPL_H

#include "base/clock.h"
#include "base/limits.h"
#include "rpc/gate.h"
#include "rpc/hosts.h"
#include "rpc/limit.h"
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

/* What decides about calls before the service sees them; admit.c. */
struct fae_admission {
    struct fae_gate_rule node, host; /* calls_rate; host_rate and host_calls_max */
    bool hosts;                      /* there is a host_* limit */
    struct fae_nets exempt;
    uint64_t counted_ms; /* when other workers' calls were looked at last */
    uint32_t others;     /* how many in flight they had */
    uint64_t told;       /* hits when a line was written last */
    uint32_t random;
    uint32_t n_done, n_refused; /* calls of this turn up to the last flush; of all of them, those refused */
    uint32_t refuse_until;      /* while refusing: position in `running` up to which; 0: all */
    /* Congestion: see admit.c. Ticks. */
    uint64_t delay_ticks, budget_ticks, full_ticks; /* overload_delay_ms; what is run while congested; FAE_TURN_MS */
    uint64_t turn_ticks, run_ticks;                 /* when this turn began, and to run calls */
    uint64_t behind_ticks, calm_ticks;              /* since when all turns are behind, or none is. 0: not so */
    uint64_t ease_ticks;                            /* so long after the last congestion it is back at once. 0: not */
    uint64_t share_ticks, cost_ticks;               /* while congested: of one session; of a call, 0: not known */
    bool congested, behind, refusing; /* the worker; this turn; whatever still waits in it is answered CONGESTED */
};

struct fae_server {
    struct fae_server_opts o;
    struct fae_worker_stats *stats;
    struct fae_slot *slot;
    uint64_t ticks;      /* the last reading: end of one call, start of the next */
    uint64_t got_ticks;  /* when this turn's first bytes were received; 0: none were */
    uint64_t late_ticks; /* when to look how this turn is doing */
    uint32_t n_run;      /* calls since the last flush */
    size_t n_fresh;      /* bytes of answers since then */
    uint32_t calls_free; /* with so many of our own in flight a call is looked at closely; 0: each is */
    struct fae_admission admission;
    uint64_t held[FAE_HELD_KINDS]; /* bytes of memory that all sessions make us hold */
    struct fae_list *check_next;   /* the session whose time limits are looked at next */
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
    int fd_max;                     /* descriptors from here on are not for clients */
    uint64_t fds_until_ms;          /* so long they count as all in use */
    uint64_t guess_warned_ms;
    unsigned n_guesses;    /* wrong tokens that no line of the log has told of yet */
    unsigned n_handshakes; /* that were got on with this turn */
    unsigned n_broken;     /* sessions whose TLS made no sense, that no line of the log has told of yet */
    uint64_t broken_warned_ms;
    bool accepting, draining;
    bool doors_closed; /* by an operator */
    uint64_t drain_started_ms;
};

#define FAE_LIMIT_HIT(server, name) FAE_STAT_ADD((server)->stats->n_limit_hits[FAE_LIMIT_##name], 1)

void fae_queue_push(struct fae_queue *q, struct fae_session *s);

/* The calls of this turn took as long as they may, or so long that fae_admit_late must look. */
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
bool fae_session_runs_kept(const struct fae_session *s); /* its turn's input lies in `in` */
void fae_session_flush(struct fae_session *s);           /* one send */

/* cut.c */
void fae_session_holds(struct fae_session *s, enum fae_held kind, size_t bytes);
void fae_session_check(struct fae_session *s, uint64_t now_ms); /* its time limits */
bool fae_session_has_unread(const struct fae_session *s);       /* bytes lie in its socket */
void fae_server_check(struct fae_server *server);               /* some of the sessions: each once a second at least */
void fae_server_relieve(struct fae_server *server); /* cuts who holds most, when that is more than in_max or out_max */

/* admit.c */
void fae_admit_configured(struct fae_server *server);
void fae_admit_turn(struct fae_server *server);       /* before the calls of a turn */
void fae_admit_next(struct fae_server *server);       /* another session's calls are next */
bool fae_admit_late(struct fae_server *server);       /* true: go on; else the rest waits for the next turn */
void fae_admit_turn_ended(struct fae_server *server); /* after them */
bool fae_admit(struct fae_session *s, const struct fae_request *request); /* false: it was refused, and answered */
/* May one more session of that address be had? Else the code. *host_out: what it counts as. */
enum fae_err fae_admit_session(struct fae_server *server, const struct fae_addr *peer, uint16_t *host_out);
void fae_admit_overloaded(struct fae_server *server, uint32_t why, bool is); /* one FAE_OVERLOADED_ bit */
void fae_admit_tell(struct fae_server *server); /* one line a second and node, of what limits did since the last one */

void fae_session_dirty(struct fae_session *s); /* flush it at the end of the turn */

/* secure.c: for sessions with tls */
struct fae_tls_ctx;
bool fae_secure_open(struct fae_session *s, struct fae_tls_ctx *ctx); /* false: it is closed */
ssize_t fae_secure_recv(struct fae_session *s, void *into, size_t size);
bool fae_secure_reads_by_writing(const struct fae_session *s); /* it can go on reading once it can be written */
short fae_secure_watch(const struct fae_session *s);           /* what to watch for besides being readable */
bool fae_secure_left(const struct fae_session *s);             /* it can be read though no event will tell */

/* accept.c */
void fae_accept_init(struct fae_server *server);
void fae_accept_fini(struct fae_server *server);
void fae_accept_start(struct fae_server *server);
void fae_accept_stop(struct fae_server *server);
void fae_accept_turn(struct fae_server *server, bool busy); /* each loop turn: keeps or passes the shared sockets */
void fae_accept_tick(struct fae_server *server);            /* takes over what silent slots hold */

#endif
