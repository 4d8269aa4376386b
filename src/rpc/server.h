/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A worker's side of the calls it serves: it accepts sessions, reads messages, hands them to the service (vm) and sends
 * the answers. One object a worker, one thread.
 *
 *   loop turn:  callbacks recv into the arena -> run: each whole message to the service -> flush: one send a session
 */
#ifndef FAE_RPC_SERVER_H
#define FAE_RPC_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/slot.h"
#include "net/listen.h"
#include "net/loop.h"
#include "rpc/stats.h"

struct fae_access;
struct fae_gates;
struct fae_hosts;
struct fae_server;
struct fae_session;
struct fae_service_ops;
struct fae_turns;

struct fae_server_opts {
    const struct fae_config *config;
    struct fae_loop *loop;
    struct fae_slots *slots;
    unsigned slot; /* me */
    struct fae_stats *stats;
    struct fae_turns *turns;         /* who accepts from each shared listener; rpc/turn.h */
    const struct fae_access *access; /* NULL: everybody may call everything */
    struct fae_gates *gates;         /* NULL: no calls_rate */
    struct fae_hosts *hosts;         /* NULL: no host_* limits */
    const struct fae_listener *listeners;
    unsigned n_listeners;
    const struct fae_service_ops *ops; /* rpc/service.h */
    void *service;
    void (*rouse)(void *arg, unsigned slot); /* wakes another worker's loop */
    void *rouse_arg;
};

struct fae_server *fae_server_new(const struct fae_server_opts *opts); /* copies opts; not accepting yet */
void fae_server_free(struct fae_server **server);
void fae_server_accept(struct fae_server *server); /* starts accepting */
/* The configuration has changed, and access with it: every session's roles anew, and the limits. Who is exempt from
 * host_* limits is decided when a session is accepted. */
void fae_server_configured(struct fae_server *server);
/* Runs what came in and sends what is ready. True: there is more to do at once. For fae_loop's after_turn. */
bool fae_server_turn(struct fae_server *server);
/* Every FAE_TICK_MS: takes over sockets of silent slots, cuts stalled sessions. */
void fae_server_tick(struct fae_server *server);
/* Stops accepting, closes idle sessions (spread over drain_spread_ms when they are many), answers new calls DRAINING. */
void fae_server_drain(struct fae_server *server);
/* An operator closed the doors, or opened them again: while they are closed new connections are refused with DRAINING
 * and sessions are closed as soon as they are idle; calls that come on those that are not are served. */
void fae_server_doors(struct fae_server *server, bool closed);
/* Every session; fn may close it. Between turns. */
void fae_server_each_session(struct fae_server *server, void (*fn)(struct fae_session *s, void *arg), void *arg);
/* Closes it whatever it waits for. Between turns; the session lives on until the next one. */
void fae_server_close_session(struct fae_session *s);
/* No session left. */
bool fae_server_drained(const struct fae_server *server);
/* Cancels every call with DRAINING and closes every session: the drain's time is over. */
void fae_server_abort(struct fae_server *server);

#endif
