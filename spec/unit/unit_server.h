/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A server (rpc/server.h) alone in the test's process: one worker's share of shared memory, a loop that runs until
 * nothing is left to do at once, and clients at the other ends of socket pairs.
 */
#ifndef FAE_UNIT_SERVER_H
#define FAE_UNIT_SERVER_H

#include "unit.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "base/shm.h"
#include "rpc/server_impl.h"
#include "rpc/turn.h"

static const unsigned n_workers = 1;
static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },
    { "stats", fae_stats_size, fae_stats_init },
    { "turns", fae_turns_size, fae_turns_init },
};

static struct fae_shm shm;
static struct fae_config config;
static struct fae_loop loop;
static struct fae_timer kick;
static struct fae_slots *slots;
static struct fae_stats *stats;
static struct fae_server *server;
static void (*each_turn)(void); /* NULL: nothing besides the server's */

UNIT_FN void on_kick(void *arg)
{
    (void)arg;
}

UNIT_FN bool after_turn(void *arg)
{
    bool more = fae_server_turn(server);

    (void)arg;
    if (each_turn)
        each_turn();
    if (!more)
        fae_loop_stop(&loop);
    return more;
}

/* Loop turns until nothing is left to do at once. */
UNIT_FN void turn(void)
{
    for (int i = 0; i < 3; i++) {
        fae_timer_start(&kick, 0);
        fae_loop_run(&loop);
    }
}

/* What a server stands on. */
UNIT_FN bool start_ground(void)
{
    fae_config_init(&config);
    if (fae_shm_map(&shm, regions, UNIT_N(regions), &n_workers) || fae_loop_init(&loop))
        return false;
    slots = fae_shm_get(&shm, "slots");
    stats = fae_shm_get(&shm, "stats");
    loop.after_turn = after_turn;
    fae_timer_init(&kick, &loop, on_kick, NULL);
    return true;
}

UNIT_FN bool start_server(const struct fae_service_ops *ops, void *service)
{
    server = fae_server_new(&(struct fae_server_opts){ .config = &config,
                                                       .loop = &loop,
                                                       .slots = slots,
                                                       .stats = stats,
                                                       .turns = fae_shm_get(&shm, "turns"),
                                                       .ops = ops,
                                                       .service = service });
    return server != NULL;
}

UNIT_FN void stop_server(void)
{
    fae_server_free(&server);
}

UNIT_FN void stop_ground(void)
{
    fae_timer_stop(&kick);
    fae_loop_fini(&loop);
    fae_shm_unmap(&shm);
    fae_config_fini(&config);
}

UNIT_FN struct fae_session *open_session(int *client_out, bool half_close)
{
    int pair[2];
    struct fae_session *s;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    s = fae_session_open(server, pair[0], half_close);
    assert_non_null(s);
    *client_out = pair[1];
    return s;
}

#endif
