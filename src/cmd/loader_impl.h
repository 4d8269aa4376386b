/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What loader.c, the loop and its clock, and load_conn.c, its connections, share. Nobody else includes it.
 *
 *   WAITING -> CONNECTING -> OPEN -> (lost, refused) WAITING
 *                             | all answered: next batch, at once or when calls are due
 *                             '-> DONE when there is nothing more to send
 *
 * With connect_per_call a connection that has its answer is closed and FREE, and its next call begins by connecting.
 */
#ifndef FAE_CMD_LOADER_IMPL_H
#define FAE_CMD_LOADER_IMPL_H

#include "base/clock.h"
#include "cmd/loader.h"

#define FAE_LOAD_RECV_BYTES (256 * 1024)

enum fae_load_state { FAE_LOAD_WAITING, FAE_LOAD_CONNECTING, FAE_LOAD_OPEN, FAE_LOAD_FREE, FAE_LOAD_DONE };

struct fae_load_conn {
    int fd;
    struct fae_tls *tls; /* NULL: plain */
    enum fae_load_state state;
    bool wants_out;
    bool queued;           /* among the free ones */
    uint64_t due_ns;       /* of the batch's first call, since the run began */
    uint64_t retry_ns;     /* FAE_LOAD_WAITING: when to connect again */
    struct fae_buf unsent; /* the rest of the batch */
    struct fae_batch batch;
};

struct fae_loader {
    const struct fae_load_opts *opts;
    const atomic_bool *stop;
    unsigned index;
    struct fae_load_result *result;
    struct fae_loader_counts counts;
    int epoll;
    struct fae_tls_ctx *tls; /* NULL: plain */
    bool stopping;           /* nothing new is sent */
    unsigned n_conns, n_waiting;
    struct fae_load_conn *conns;
    uint64_t calls_max, n_open; /* calls sent and not answered */
    uint32_t next_msgid;
    unsigned next_source;
    uint64_t began; /* ticks */
    uint64_t last_answer_ns;
    uint64_t random;
    bool same;          /* all requests are alike: out is a batch whose msgids are those of whoever sends next */
    size_t request_len; /* of one of them */
    struct fae_buf out;
    uint8_t *in;

    double interval_ns, offset_ns; /* from call to call, and to the first one; 0: the loop is closed */
    bool starved;                  /* calls are due that no connection was free for */
    struct fae_load_conn **free;   /* a ring: the longest free goes first */
    unsigned free_head, n_free;
};

/* Another cpu's ticks may lie a little before those we began with. */
static inline uint64_t fae_loader_now_ns(const struct fae_loader *l)
{
    uint64_t now = fae_ticks();

    return now > l->began ? fae_ticks_to_ns(now - l->began) : 0;
}

/* 0 when nothing new is to be sent. */
uint64_t fae_loader_calls_left(const struct fae_loader *loader);

/* Begins a connect; 0, or -1 with errno. */
int fae_load_conn_dial(struct fae_loader *loader, struct fae_load_conn *conn);
/* Waits for the end of the TLS handshake; an errno, or 0. */
int fae_load_conn_shake(struct fae_load_conn *conn, uint64_t deadline_ms);
/* How the connect ended: an errno, or 0. */
int fae_load_conn_error(const struct fae_load_conn *conn);
/* Tells epoll: op as of epoll_ctl. */
void fae_load_conn_watch(struct fae_loader *loader, struct fae_load_conn *conn, int op, bool out);
void fae_load_conn_hang_up(struct fae_load_conn *conn, enum fae_load_state state);
/* A WAITING one's time has come. */
void fae_load_conn_retry(struct fae_loader *loader, struct fae_load_conn *conn);
/* The connection has nothing to do: gives it calls, or puts it with the free ones. */
void fae_load_conn_next(struct fae_loader *loader, struct fae_load_conn *conn);
/* Sends a batch of n calls, the first of which was due then. */
void fae_load_conn_send(struct fae_loader *loader, struct fae_load_conn *conn, uint32_t n, uint64_t due_ns);
void fae_load_conn_event(struct fae_loader *loader, struct fae_load_conn *conn, uint32_t events);

#endif
