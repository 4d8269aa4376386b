/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The limits a node keeps, one row each: what /stats, /metrics and the dashboard call it, and what was done to whom when
 * it was met. The option or section of the configuration that sets it has the row's name, or is named in its help.
 */
#ifndef FAE_RPC_LIMIT_H
#define FAE_RPC_LIMIT_H

#include <stdbool.h>

#define FAE_LIMIT_MAP(X)                                                                                               \
    /* connections */                                                                                                  \
    X(sessions_max, "connections answered BUSY")                                                                       \
    X(host_sessions_max, "connections answered HOST_BUSY")                                                             \
    X(fds, "times that no descriptor was left for a connection, and accepting paused")                                 \
    X(first_byte, "connections closed that sent nothing in first_byte_timeout_ms")                                     \
    X(partial, "connections closed whose message came too slowly: partial_timeout_ms, partial_rate_min")               \
    X(idle, "connections closed after idle_timeout_ms or idle_timeout_unix_ms")                                        \
    /* calls; notifications are dropped instead */                                                                     \
    X(calls_max, "calls answered OVERLOAD")                                                                            \
    X(calls_rate, "calls answered RATE_LIMITED")                                                                       \
    X(congested, "calls answered CONGESTED: they waited longer than overload_delay_ms")                                \
    X(host_calls_max, "calls answered HOST_OVERLOAD")                                                                  \
    X(host_rate, "calls answered HOST_RATE_LIMITED")                                                                   \
    X(hosts_full, "connections that no host_* limit was applied to, since too many addresses are known")               \
    X(servant_calls, "calls answered SERVANT_OVERLOAD")                                                                \
    X(servant_rate, "calls answered SERVANT_RATE_LIMITED")                                                             \
    X(method_calls, "calls answered METHOD_OVERLOAD")                                                                  \
    X(method_rate, "calls answered METHOD_RATE_LIMITED")                                                               \
    X(memory, "calls answered NO_MEMORY since Lua holds lua_memory_max")                                               \
    X(notifications, "notifications dropped by any of these")                                                          \
    /* bytes */                                                                                                        \
    X(message_max, "messages and answers larger than message_max")                                                     \
    X(in_max, "connections cut since all clients together made us hold in_max of unfinished messages")                 \
    X(out_pause, "times a client was not read on since it had not read its answers")                                   \
    X(out_session_max, "connections cut with more unread answers than one may have")                                   \
    X(out_max, "connections cut since all clients together left out_max unread")                                       \
    X(out_stall, "connections cut that read none of their answers in out_stall_ms")

enum fae_limit {
#define FAE_LIMIT_ENUM(name, help) FAE_LIMIT_##name,
    FAE_LIMIT_MAP(FAE_LIMIT_ENUM)
#undef FAE_LIMIT_ENUM
        FAE_LIMIT_COUNT
};

/* Does an operator want to read of it in the log? Idle clients and slow readers are everyday. */
static inline bool fae_limit_is_news(enum fae_limit limit)
{
    return limit != FAE_LIMIT_idle && limit != FAE_LIMIT_out_pause && limit != FAE_LIMIT_notifications;
}

/* "calls_max"; static text. */
const char *fae_limit_name(enum fae_limit limit);
/* The row's second column; static text. */
const char *fae_limit_help(enum fae_limit limit);

#endif
