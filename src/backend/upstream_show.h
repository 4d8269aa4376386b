/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What is known of the servers that we call, for people and machines: a row at one moment, summed over the workers; all
 * rows as JSON and as a table. Reads shared memory, takes no lock.
 */
#ifndef FAE_BACKEND_UPSTREAM_SHOW_H
#define FAE_BACKEND_UPSTREAM_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/upstream.h"
#include "base/buf.h"

struct fae_upstream_view {
    char name[FAE_UPSTREAM_NAME_MAX + 1]; /* "redis/main/tcp://10.0.0.1:6379" */
    char kind[FAE_UPSTREAM_NAME_MAX + 1]; /* "redis"; of a breaker of servants: "servant" */
    char pool[FAE_UPSTREAM_NAME_MAX + 1]; /* "main"; the breaker's name */
    const char *server;                   /* "tcp://10.0.0.1:6379", in name; "" */
    enum fae_breaker_state state;
    enum fae_breaker_mode mode;
    uint64_t in_state_ms; /* 0: since its row was made */
    uint64_t left_ms;     /* of OPEN: until it may be tried; UINT64_MAX: an operator has to say so */
    char why[96];         /* it opened last; "" */
    uint64_t n_opened, n_half_opened, n_closed;
    uint32_t n_probes, window_calls, window_failed, n_slots;
#define FAE_UPSTREAM_FIELD(name, help) uint64_t name;
    struct {
        FAE_UPSTREAM_COUNTERS(FAE_UPSTREAM_FIELD)
    } n;
    struct {
        FAE_UPSTREAM_GAUGES(FAE_UPSTREAM_FIELD)
    } now;
#undef FAE_UPSTREAM_FIELD
};

void fae_upstream_view(const struct fae_upstream *up, uint64_t now_ms, struct fae_upstream_view *view_out);
/* "closed", "open", "half-open", "forced open", "forced closed"; static text. */
const char *fae_upstream_state(const struct fae_upstream_view *view);

/* The array of all rows; ups may be NULL. */
void fae_upstreams_json(struct fae_upstreams *ups, uint64_t now_ms, struct fae_buf *out);
/* Adds it as the member "backends" to the JSON object that out ends with. */
void fae_upstreams_json_member(struct fae_upstreams *ups, uint64_t now_ms, struct fae_buf *out);
/* Lines of text; their number. */
unsigned fae_upstreams_table(struct fae_upstreams *ups, uint64_t now_ms, struct fae_buf *out);

#endif
