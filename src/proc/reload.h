/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Hot reload: one attempt at a time, moved on by a checker's end, by mail, by deaths and by time.
 *
 *     IDLE -> CHECKING ----------------------------------------------> answer (failed, or dry run)
 *                |
 *                v  one worker at a time
 *            PREPARING --- a worker fails, or dies at it ------------> ABORT to all, answer
 *                |
 *                v  commit point: from here on a worker that starts loads the new bundle
 *            SWITCHING --- all SWITCHED, or dead --------------------> answer
 */
#ifndef FAE_PROC_RELOAD_H
#define FAE_PROC_RELOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "proc/checker.h"
#include "proc/stored.h"

struct fae_config;
struct fae_mail;
struct fae_node;

enum fae_reload_kind {
    FAE_RELOAD,
    FAE_RELOAD_DRY_RUN,
    FAE_RELOAD_ROLLBACK,
};

enum fae_reload_state {
    FAE_RELOAD_IDLE,
    FAE_RELOAD_CHECKING,
    FAE_RELOAD_PREPARING,
    FAE_RELOAD_SWITCHING,
};

struct fae_reload {
    enum fae_reload_state state;
    enum fae_reload_kind kind;
    uint64_t asker; /* client of fae.ctl, 0: a signal */
    uint32_t attempt;
    uint64_t started_ms, deadline_ms;
    struct fae_checker checker;
    struct fae_stored next;
    struct fae_config *config;          /* of next; NULL: as it is */
    int current;                        /* the worker that prepares; -1: none */
    uint32_t prepared[FAE_WORKERS_MAX]; /* the incarnation that has prepared, or has yet to switch; 0: none */
    bool hup;                           /* a SIGHUP waits for its turn */
};

void fae_reload_init(struct fae_reload *r);
bool fae_reload_busy(const struct fae_reload *r);
/* Starts an attempt; fae_control_reloaded tells the asker how it ended, perhaps at once. Only when not busy. */
void fae_reload_start(struct fae_node *node, enum fae_reload_kind kind, uint64_t asker);
/* Moves on: call once a turn. */
void fae_reload_step(struct fae_node *node, uint64_t now_ms);
/* A worker's answer. */
void fae_reload_mail(struct fae_node *node, const struct fae_mail *mail);
/* A worker died, while its slot still names the incarnation. */
void fae_reload_died(struct fae_node *node, unsigned slot);
/* The node stops: gives up unless committed. */
void fae_reload_cancel(struct fae_node *node);

#endif
