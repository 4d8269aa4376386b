/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A server that we call, as the configuration names it: "10.0.0.1:6379", "tls://redis.internal:6380", "[::1]:11211*2",
 * "unix:/run/redis.sock". Text alone: no name is looked up here.
 */
#ifndef FAE_BASE_ENDPOINT_H
#define FAE_BASE_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define FAE_ENDPOINT_TEXT 160 /* of all but a weight */
#define FAE_ENDPOINT_WEIGHT_MAX 1000u

struct fae_endpoint {
    char text[FAE_ENDPOINT_TEXT + 32]; /* as it is shown and named: "tcp://redis.internal:6379", without the weight */
    char host[FAE_ENDPOINT_TEXT];      /* without brackets; of a unix socket: its path */
    unsigned port;                     /* 0: a unix socket */
    unsigned weight;                   /* 1 unless said */
    bool tls;
};

/* BAD_CONFIG with a sentence in why_out, which begins as
 * "must be", when it is none. */
enum fae_err fae_endpoint_parse(struct fae_endpoint *endpoint_out, const char *text, char *why_out, size_t why_size);

#endif
