/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.ctl: the unix socket in the run folder by which the node is steered. A client sends a line ("reload wait") and
 * gets lines of text, the last of which begins with OK or "ERR CODE"; no other line does. Nothing a client does makes
 * the supervisor wait.
 */
#ifndef FAE_PROC_CONTROL_H
#define FAE_PROC_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/opt.h"
#include "proc/answer.h"
#include "proc/control_ask.h"
#include "proc/control_ops.h"

#define FAE_CONTROL_CLIENTS 32
#define FAE_CONTROL_LINE 1024
#define FAE_CONTROL_NAME "fae.ctl"

struct fae_node;

struct fae_control_client {
    int fd;      /* -1: free */
    uint64_t id; /* never used twice */
    char in[FAE_CONTROL_LINE];
    unsigned n_in;
    struct fae_buf out;
    uint64_t last_ms; /* of progress */
    /* What it waits for: */
    bool queued;           /* for its turn to reload (kind) */
    bool reloading;        /* its reload runs */
    bool wants_old_ended;  /* `reload wait` */
    uint64_t old_until_ms; /* 0: not waiting for that yet */
    uint32_t generation;   /* of its reload */
    int kind;              /* enum fae_reload_kind */
    uint8_t asks;          /* enum fae_ask_kind: for the workers to answer its question */
    struct fae_session_question question;
    bool in_job;  /* ops does something for it */
    bool stays;   /* `stop`: its end of file is the node's end */
    bool hung_up; /* sends no more; gone once it has its answer */
};

struct fae_control {
    int fd; /* listens */
    char path[FAE_OPT_TEXT + 16];
    uint64_t last_id;
    struct fae_ask ask;
    struct fae_control_job job;
    struct fae_control_client clients[FAE_CONTROL_CLIENTS];
};

/* Before privileges are dropped nothing here is needed: the socket is made by whoever the node runs as. */
enum fae_err fae_control_open(struct fae_control *c, const char *run_dir, char *why_out, size_t why_size);
void fae_control_close(struct fae_control *c, bool unlink_path);
/* Closes every descriptor, for a child. */
void fae_control_forget(struct fae_control *c);

/* Fills in what to poll for; returns how many (at most FAE_CONTROL_CLIENTS + 1). */
unsigned fae_control_poll(const struct fae_control *c, struct pollfd *pfds);
/* The same array after poll. */
void fae_control_serve(struct fae_node *node, const struct pollfd *pfds, unsigned n, uint64_t now_ms);
/* Starts what is queued, ends waits and idle clients: call once a turn. */
void fae_control_step(struct fae_node *node, uint64_t now_ms);

/* A reload ended: lines of text (borrowed, may be NULL) and its code. */
void fae_control_reloaded(struct fae_node *node, uint64_t asker, enum fae_err err, uint32_t generation,
                          const struct fae_buf *text);

#endif
