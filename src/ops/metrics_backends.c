/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae_backend_*: what backend/upstream counts, by kind, pool and server; a breaker of servants has its name as pool.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/upstream_show.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "ops/metrics_line.h"

struct backends {
    struct fae_upstream_view *views;
    unsigned n;
    struct fae_buf *out;
};

static void collect(struct backends *b, struct fae_upstreams *ups, uint64_t now_ms)
{
    unsigned cap = 0;

    for (unsigned i = 0; i < FAE_UPSTREAMS_MAX; i++) {
        const struct fae_upstream *up = fae_upstreams_at(ups, i);

        if (!up)
            continue;
        if (b->n == cap) {
            cap = cap ? 2 * cap : 16;
            b->views = fae_realloc(b->views, cap * sizeof *b->views);
        }
        fae_upstream_view(up, now_ms, &b->views[b->n]);
        b->views[b->n].server = NULL; /* into a struct that moves */
        b->n++;
    }
}

/* Its name begins with kind and pool. */
static const char *server_of(const struct fae_upstream_view *v)
{
    size_t n = strlen(v->kind) + 1 + strlen(v->pool);

    return v->name[n] ? v->name + n + 1 : "";
}

/* name{kind="redis",pool="main",server="tcp://..." */
static void begin_line(const struct backends *b, const char *name, const struct fae_upstream_view *v)
{
    const char *server = server_of(v);

    fae_buf_printf(b->out, "%s", name);
    fae_metrics_label(b->out, "{", "kind", v->kind, strlen(v->kind));
    fae_metrics_label(b->out, ",", "pool", v->pool, strlen(v->pool));
    fae_metrics_label(b->out, ",", "server", server, strlen(server));
}

static uint64_t at(const struct fae_upstream_view *v, size_t offset)
{
    uint64_t n;

    memcpy(&n, (const char *)v + offset, sizeof n);
    return n;
}

/* Those that end in _ns are told in seconds. */
static void add_counter(const struct backends *b, const char *name, const char *help, size_t offset)
{
    size_t len = strlen(name);
    bool ns = len > 3 && strcmp(name + len - 3, "_ns") == 0;
    char full[64], buf[40];

    snprintf(full, sizeof full, "fae_backend_%.*s%s_total", (int)(ns ? len - 3 : len), name, ns ? "_seconds" : "");
    fae_metrics_begin(b->out, full, "counter", help);
    for (unsigned i = 0; i < b->n; i++) {
        begin_line(b, full, &b->views[i]);
        if (ns)
            fae_buf_printf(b->out, "} %s\n", fae_metrics_seconds(at(&b->views[i], offset), buf, sizeof buf));
        else
            fae_buf_printf(b->out, "} %" PRIu64 "\n", at(&b->views[i], offset));
    }
}

static void add_gauge(const struct backends *b, const char *name, const char *help, size_t offset)
{
    char full[64];

    snprintf(full, sizeof full, "fae_backend_%s", name);
    fae_metrics_begin(b->out, full, "gauge", help);
    for (unsigned i = 0; i < b->n; i++) {
        begin_line(b, full, &b->views[i]);
        fae_buf_printf(b->out, "} %" PRIu64 "\n", at(&b->views[i], offset));
    }
}

static void add_states(const struct backends *b)
{
    static const char name[] = "fae_backend_breaker_state";

    fae_metrics_begin(b->out, name, "gauge", "1 for the state that the server's breaker is in.");
    for (unsigned i = 0; i < b->n; i++)
        for (enum fae_breaker_state s = FAE_BREAKER_CLOSED; s <= FAE_BREAKER_HALF_OPEN; s++) {
            begin_line(b, name, &b->views[i]);
            fae_buf_printf(b->out, ",state=\"%s\"} %d\n", fae_breaker_state_word(s), b->views[i].state == s);
        }
}

static void add_forced(const struct backends *b)
{
    static const char name[] = "fae_backend_breaker_forced";

    fae_metrics_begin(b->out, name, "gauge", "1 where an operator decided which state it is in.");
    for (unsigned i = 0; i < b->n; i++) {
        begin_line(b, name, &b->views[i]);
        fae_buf_printf(b->out, "} %d\n", b->views[i].mode != FAE_BREAKER_AUTO);
    }
}

static void add_transitions(const struct backends *b)
{
    static const char name[] = "fae_backend_breaker_transitions_total";

    fae_metrics_begin(b->out, name, "counter", "Times that the server's breaker came into a state.");
    for (unsigned i = 0; i < b->n; i++) {
        const uint64_t n[] = { b->views[i].n_closed, b->views[i].n_opened, b->views[i].n_half_opened };

        for (enum fae_breaker_state s = FAE_BREAKER_CLOSED; s <= FAE_BREAKER_HALF_OPEN; s++) {
            begin_line(b, name, &b->views[i]);
            fae_buf_printf(b->out, ",to=\"%s\"} %" PRIu64 "\n", fae_breaker_state_word(s), n[s]);
        }
    }
}

void fae_metrics_backends(struct fae_upstreams *ups, struct fae_buf *out)
{
    struct backends b = { .out = out };

    collect(&b, ups, fae_now_ms());
#define FAE_UPSTREAM_ADD(name, help) add_counter(&b, #name, help, offsetof(struct fae_upstream_view, n.name));
    FAE_UPSTREAM_COUNTERS(FAE_UPSTREAM_ADD)
#undef FAE_UPSTREAM_ADD
#define FAE_UPSTREAM_ADD(name, help) add_gauge(&b, #name, help, offsetof(struct fae_upstream_view, now.name));
    FAE_UPSTREAM_GAUGES(FAE_UPSTREAM_ADD)
#undef FAE_UPSTREAM_ADD
    add_states(&b);
    add_forced(&b);
    add_transitions(&b);
    free(b.views);
}
