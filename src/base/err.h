/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The one table of error codes. C returns them, Lua, the wire, clients and logs name them: a row here is a word
 * everywhere. Columns: name, may the same call be sent again as it is, what it means.
 */
#ifndef FAE_BASE_ERR_H
#define FAE_BASE_ERR_H

#include <stdbool.h>

#define FAE_ERR_MAP(X)                                                                                                 \
    X(OK, false, "ok")                                                                                                 \
    X(MORE, false, "need more bytes") /* a codec's answer, not a failure */                                            \
    X(BAD_MESSAGE, false, "not a msgpack-RPC message")                                                                 \
    X(UNKNOWN_METHOD, false, "no such method")                                                                         \
    X(BAD_ARGS, false, "arguments do not fit the method")                                                              \
    X(LIMIT, false, "a size limit was met")                                                                            \
    X(TIMEOUT, true, "deadline passed")                                                                                \
    X(CANCELLED, false, "the caller hung up")                                                                          \
    X(RELOADED, true, "the generation this belonged to was replaced")                                                  \
    X(OVERLOAD, true, "too many calls in flight")                                                                      \
    X(CONGESTED, true, "calls wait too long")                                                                          \
    X(RATE_LIMITED, true, "too many calls a second")                                                                   \
    X(BUSY, true, "too many connections")                                                                              \
    X(HOST_OVERLOAD, true, "too many calls in flight from this address")                                               \
    X(HOST_RATE_LIMITED, true, "too many calls a second from this address")                                            \
    X(HOST_BUSY, true, "too many connections from this address")                                                       \
    X(SERVANT_OVERLOAD, true, "too many calls of this servant in flight")                                              \
    X(SERVANT_RATE_LIMITED, true, "too many calls of this servant a second")                                           \
    X(METHOD_OVERLOAD, true, "too many calls of this method in flight")                                                \
    X(METHOD_RATE_LIMITED, true, "too many calls of this method a second")                                             \
    X(UNAUTHORIZED, false, "the token is not known")                                                                   \
    X(FORBIDDEN, false, "not allowed to you")                                                                          \
    X(DRAINING, true, "the node is stopping")                                                                          \
    X(WORKER_LOST, true, "the connection was lost before the answer came")                                             \
    X(UNAVAILABLE, true, "cannot be reached")                                                                          \
    X(CIRCUIT_OPEN, true, "its server failed too often and is left alone for a while")                                 \
    X(POOL_BUSY, true, "no connection to the server was free in time")                                                 \
    X(UNKNOWN_POOL, false, "no such pool")                                                                             \
    X(BACKEND, false, "the server answered with an error, or with what is no answer")                                  \
    X(CLOSED, false, "closed")                                                                                         \
    X(NOT_FOUND, false, "no such thing")                                                                               \
    X(UNKNOWN, false, "it may or may not have been done")                                                              \
    X(NO_SPACE, true, "the disk is full")                                                                              \
    X(CACHE_MISS, false, "not in the cache")                                                                           \
    X(LOCKED, true, "somebody else holds it")                                                                          \
    X(NOT_OWNER, false, "it is not yours")                                                                             \
    X(FROZEN, true, "the bucket of this key is being moved")                                                           \
    X(CLOCK_BACK, true, "the clock was set back")                                                                      \
    X(ADDR_IN_USE, false, "address is in use")                                                                         \
    X(BAD_CONFIG, false, "configuration is wrong")                                                                     \
    X(BAD_SERVANT, false, "a servant does not load")                                                                   \
    X(NO_MEMORY, true, "out of memory")                                                                                \
    X(SYSTEM, true, "the system refused")                                                                              \
    X(INTERNAL, false, "a bug in a servant or in fae")

enum fae_err {
#define FAE_ERR_ENUM(name, retryable, text) FAE_##name,
    FAE_ERR_MAP(FAE_ERR_ENUM)
#undef FAE_ERR_ENUM
        FAE_ERR_COUNT
};

/* "TIMEOUT"; static text. */
const char *fae_err_name(enum fae_err err);
/* "deadline passed"; static text. */
const char *fae_err_text(enum fae_err err);
/* May the same call be sent again unchanged, perhaps elsewhere? */
bool fae_err_retryable(enum fae_err err);
/* The code of that name, or FAE_ERR_COUNT. Borrows name, which need not end in NUL. */
enum fae_err fae_err_of(const char *name, unsigned long len);

#endif
