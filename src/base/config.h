/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What an operator can set, after it was read and checked. One row an option in base/config.c.
 */
#ifndef FAE_BASE_CONFIG_H
#define FAE_BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/opt.h"

struct fae_config_listen {
    char addr[FAE_OPT_TEXT];  /* "tcp://127.0.0.1:9001", "unix:fae.sock" (relative to run_dir) */
    bool half_close;          /* a client that shuts its side still gets its answers */
    uint64_t mode;            /* of a unix socket */
    char group[FAE_OPT_TEXT]; /* of a unix socket; "": that of the account */
};

struct fae_config {
    uint64_t workers;
    char run_dir[FAE_OPT_TEXT];
    char servants_dir[FAE_OPT_TEXT];
    char lua_dir[FAE_OPT_TEXT];
    char user[FAE_OPT_TEXT];
    char admin[FAE_OPT_TEXT];
    uint64_t log_format, log_level;
    char log_file[FAE_OPT_TEXT];
    uint64_t backlog;
    uint64_t sessions_max;
    uint64_t message_max;
    uint64_t call_timeout_ms;
    uint64_t partial_timeout_ms;
    uint64_t out_stall_ms;
    uint64_t drain_ms, drain_spread_ms;
    bool watchdog;
    uint64_t watchdog_warn_ms, watchdog_kill_ms;
    uint64_t lua_memory_max;
    unsigned n_listen;
    struct fae_config_listen listen[FAE_LISTENERS_MAX];
    /* `servant "name" { ... }` of the file: one JSON object {name: {...}}, or NULL. Owned. */
    char *servants_json;
};

extern const struct fae_opt fae_config_opts[];
extern const unsigned fae_config_n_opts;
extern const struct fae_opt fae_config_listen_opts[];
extern const unsigned fae_config_n_listen_opts;

void fae_config_init(struct fae_config *config); /* defaults, no listeners */
void fae_config_fini(struct fae_config *config);

#endif
