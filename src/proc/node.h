/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A node as its supervisor sees it. One struct, owned by fae_supervisor_run; each file of this folder works on its part:
 * start.c fills it, children.c has the processes, reload.c the generations, control.c the clients of fae.ctl.
 */
#ifndef FAE_PROC_NODE_H
#define FAE_PROC_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/config.h"
#include "base/limits.h"
#include "base/log.h"
#include "net/listen.h"
#include "proc/backoff.h"
#include "proc/control.h"
#include "proc/reload.h"
#include "proc/rundir.h"
#include "proc/serve.h"
#include "proc/shared.h"
#include "proc/stored.h"

/*   STARTING -> SERVING -> DRAINING -> CLOSING -> DONE
 * each may also go straight to CLOSING when the start fails or a stop is urgent. */
enum fae_node_phase {
    FAE_NODE_STARTING, /* children were forked, not all are READY for the first time */
    FAE_NODE_SERVING,
    FAE_NODE_DRAINING, /* workers finish their calls */
    FAE_NODE_CLOSING,  /* workers are gone, ops writes the last lines */
    FAE_NODE_DONE,
};

struct fae_child {
    pid_t pid; /* 0: not running */
    int life;  /* our end of its life socket; -1 */
    uint64_t started_ms;
    uint64_t respawn_ms; /* when to start it again, while pid is 0 */
    struct fae_backoff backoff;
    bool warned;      /* the watchdog named it in this silence */
    bool by_watchdog; /* the watchdog killed it */
    bool stopped;     /* silent since somebody stopped it; as of the last round */
    bool expected;    /* its death is what we asked for */
};

struct fae_node {
    /* Set at start, the same ever after. */
    struct fae_serve_opts opts;
    struct fae_config config;
    struct fae_log_opts log;
    unsigned n_workers, n_children; /* children[n_workers] is ops */
    struct fae_rundir run, data;
    unsigned n_listeners;
    struct fae_listener listeners[FAE_LISTENERS_MAX];
    bool has_admin;
    struct fae_listener admin;
    int log_fd; /* stderr, or log_file */
    struct fae_shared shared;

    enum fae_node_phase phase;
    int exit_code;
    uint64_t phase_until_ms; /* then whoever is still there is killed */
    struct fae_child children[FAE_WORKERS_MAX + 1];
    unsigned n_start_deaths; /* before the first READY of all */
    uint64_t watch_ms;       /* when the watchdog looks next */
    uint64_t spare_until_ms; /* until then it kills none but those who are stopped */
    struct fae_stored committed, previous;
    struct fae_reload reload;
    struct fae_control control;
    int signal_fd;
    uint64_t wake_ms; /* the earliest thing to do, found anew each turn */
};

static inline void fae_node_wake_at(struct fae_node *node, uint64_t ms)
{
    if (ms < node->wake_ms)
        node->wake_ms = ms;
}

static inline struct fae_slot *fae_node_slot(struct fae_node *node, unsigned slot)
{
    return &node->shared.slots->slots[slot];
}

#endif
