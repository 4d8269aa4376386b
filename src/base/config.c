/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The option tables: conf/fae.lua, --help, the reference page and the checks all come from these rows.
 */
#include "base/config.h"

#include <stdlib.h>

#define OPT(...) FAE_OPT(struct fae_config, __VA_ARGS__)
#define LISTEN(...) FAE_OPT(struct fae_config_listen, __VA_ARGS__)
#define LEVELS "debug|info|warn|error" /* in the order of enum fae_log_level */
#define MINUTES(n) (60000ull * (n))

const struct fae_opt fae_config_opts[] = {
    OPT("workers", UINT, workers, "0", 0, FAE_WORKERS_MAX, NULL, "worker processes; 0 means one per core"),
    OPT("run_dir", STRING, run_dir, "run", 1, 0, NULL, "folder of sockets and the pid file; made when missing"),
    OPT("servants_dir", STRING, servants_dir, "servants", 0, 0, NULL,
        "folder of your servants; \"\" means the built-in ones only"),
    OPT("lua_dir", STRING, lua_dir, "", 0, 0, NULL,
        "folder that overrides the built-in fae.* modules; \"\" means none"),
    OPT("user", STRING, user, "", 0, 0, NULL, "account to change to once the sockets are bound; \"\" means stay"),
    OPT("admin", STRING, admin, "127.0.0.1:9101", 0, 0, NULL,
        "address of the admin HTTP server, on loopback only; \"\" means none"),
    OPT("log_format", ENUM, log_format, "logfmt", 0, 0, "logfmt|json", "how a log line is written"),
    OPT("log_level", ENUM, log_level, "info", 0, 0, LEVELS, "lines below this level are not logged"),
    OPT("log_file", STRING, log_file, "", 0, 0, NULL, "file that log lines are appended to; \"\" means stderr"),
    OPT("backlog", UINT, backlog, "4096", 1, 65535, NULL, "connections a listening socket queues before it is served"),
    OPT("sessions_max", UINT, sessions_max, "10000", 1, 1000000, NULL,
        "client connections of the node; one more is answered BUSY and closed"),
    OPT("message_max", BYTES, message_max, "4MiB", FAE_KIB, FAE_MESSAGE_CEILING, NULL,
        "bytes of one request or one answer"),
    OPT("call_timeout_ms", MS, call_timeout_ms, "5000", 1, MINUTES(10), NULL,
        "milliseconds a call may take where its method names no timeout"),
    OPT("partial_timeout_ms", MS, partial_timeout_ms, "10000", 100, MINUTES(10), NULL,
        "milliseconds a message may take to arrive whole"),
    OPT("out_stall_ms", MS, out_stall_ms, "10000", 100, MINUTES(10), NULL,
        "milliseconds a client may leave its answers unread without any progress"),
    OPT("drain_ms", MS, drain_ms, "30000", 0, MINUTES(10), NULL,
        "milliseconds the calls in flight get when the node stops"),
    OPT("drain_spread_ms", MS, drain_spread_ms, "5000", 0, MINUTES(10), NULL,
        "milliseconds over which idle connections are closed when the node stops"),
    OPT("watchdog", BOOL, watchdog, "true", 0, 0, NULL, "stop and replace workers that hang; false for a debugger"),
    OPT("watchdog_warn_ms", MS, watchdog_warn_ms, "2000", 100, MINUTES(10), NULL,
        "milliseconds of silence after which a worker is named in the log and its call interrupted"),
    OPT("watchdog_kill_ms", MS, watchdog_kill_ms, "5000", 200, MINUTES(10), NULL,
        "milliseconds of silence after which a worker is killed and replaced"),
    OPT("lua_memory_max", BYTES, lua_memory_max, "512MiB", 16 * FAE_MIB, 64ull * 1024 * FAE_MIB, NULL,
        "bytes the Lua code of one worker may hold"),
};

const unsigned fae_config_n_opts = sizeof fae_config_opts / sizeof *fae_config_opts;

const struct fae_opt fae_config_listen_opts[] = {
    LISTEN("addr", STRING, addr, "", 1, 0, NULL,
           "where to listen: tcp://HOST:PORT (port 0 means any) or unix:PATH (relative to run_dir)"),
    LISTEN("half_close", BOOL, half_close, "false", 0, 0, NULL,
           "a client that shuts down its sending side still gets its answers"),
    LISTEN("mode", UINT, mode, "0660", 0, 0777, NULL, "permissions of a unix socket's file, in octal"),
    LISTEN("group", STRING, group, "", 0, 0, NULL,
           "group that a unix socket's file is given to, such as www-data; \"\" means that of the account"),
};

const unsigned fae_config_n_listen_opts = sizeof fae_config_listen_opts / sizeof *fae_config_listen_opts;

void fae_config_init(struct fae_config *config)
{
    *config = (struct fae_config){ 0 };
    fae_opt_defaults(fae_config_opts, fae_config_n_opts, config);
}

void fae_config_fini(struct fae_config *config)
{
    free(config->servants_json);
    config->servants_json = NULL;
}
