/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sums over workers, and their two forms.
 */
#include "backend/upstream_show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hist.h"

/* ---- a row ---- */

static void split(struct fae_upstream_view *v)
{
    const char *at = v->name, *slash = strchr(at, '/');

    if (!slash)
        slash = at + strlen(at);
    snprintf(v->kind, sizeof v->kind, "%.*s", (int)(slash - at), at);
    at = *slash ? slash + 1 : slash;
    slash = strchr(at, '/');
    if (!slash)
        slash = at + strlen(at);
    snprintf(v->pool, sizeof v->pool, "%.*s", (int)(slash - at), at);
    v->server = *slash ? slash + 1 : slash;
}

static void add_cells(const struct fae_upstream *up, struct fae_upstream_view *v)
{
    for (unsigned i = 0; i < fae_upstream_workers(up); i++) {
        const struct fae_upstream_cell *cell = fae_upstream_cell((struct fae_upstream *)up, i);

        v->n_slots += FAE_STAT_GET(cell->n_slots);
#define FAE_UPSTREAM_ADD(name, help) v->n.name += FAE_STAT_GET(cell->n.name);
        FAE_UPSTREAM_COUNTERS(FAE_UPSTREAM_ADD)
#undef FAE_UPSTREAM_ADD
#define FAE_UPSTREAM_ADD(name, help) v->now.name += FAE_STAT_GET(cell->now.name);
        FAE_UPSTREAM_GAUGES(FAE_UPSTREAM_ADD)
#undef FAE_UPSTREAM_ADD
    }
}

static void add_breaker(const struct fae_upstream *up, uint64_t now_ms, struct fae_upstream_view *v)
{
    const struct fae_breaker *b = fae_upstream_breaker(up);
    uint64_t since_ms = FAE_STAT_GET(b->since_ms), until_ms = FAE_STAT_GET(b->until_ms);

    v->state = atomic_load(&b->state);
    v->mode = atomic_load(&b->mode);
    v->in_state_ms = since_ms && now_ms > since_ms ? now_ms - since_ms : 0;
    if (v->state == FAE_BREAKER_OPEN)
        v->left_ms = until_ms == UINT64_MAX ? until_ms : until_ms > now_ms ? until_ms - now_ms : 0;
    v->n_opened = FAE_STAT_GET(b->n_opened);
    v->n_half_opened = FAE_STAT_GET(b->n_half_opened);
    v->n_closed = FAE_STAT_GET(b->n_closed);
    v->n_probes = fae_breaker_probes(b, now_ms);
    if (v->n_opened)
        fae_upstream_why(up, v->why, sizeof v->why);
    fae_upstream_window(up, now_ms, &v->window_calls, &v->window_failed);
}

void fae_upstream_view(const struct fae_upstream *up, uint64_t now_ms, struct fae_upstream_view *view_out)
{
    *view_out = (struct fae_upstream_view){ 0 };
    memcpy(view_out->name, fae_upstream_name(up), FAE_UPSTREAM_NAME_MAX);
    split(view_out);
    add_cells(up, view_out);
    add_breaker(up, now_ms, view_out);
}

const char *fae_upstream_state(const struct fae_upstream_view *v)
{
    if (v->mode == FAE_BREAKER_FORCED_OPEN)
        return "forced open";
    if (v->mode == FAE_BREAKER_FORCED_CLOSED)
        return "forced closed";
    return fae_breaker_state_word(v->state);
}

/* ---- JSON ---- */

static void add_text(struct fae_buf *out, const char *key, const char *text)
{
    fae_buf_printf(out, "\"%s\":", key);
    fae_buf_json(out, text, strlen(text));
    fae_buf_add(out, ",", 1);
}

static void add_json(const struct fae_upstream_view *v, struct fae_buf *out)
{
    fae_buf_add(out, "{", 1);
    add_text(out, "name", v->name);
    add_text(out, "kind", v->kind);
    add_text(out, "pool", v->pool);
    add_text(out, "server", v->server);
    add_text(out, "breaker", fae_breaker_state_word(v->state));
    add_text(out, "mode", fae_breaker_mode_word(v->mode));
    add_text(out, "why", v->why);
    if (v->state == FAE_BREAKER_OPEN && v->left_ms != UINT64_MAX)
        fae_buf_printf(out, "\"retry_after_ms\":%" PRIu64 ",", v->left_ms);
    fae_buf_printf(out,
                   "\"in_state_ms\":%" PRIu64 ",\"opened\":%" PRIu64 ",\"half_opened\":%" PRIu64 ",\"closed\":%" PRIu64
                   ",\"probes\":%" PRIu32 ",\"window_calls\":%" PRIu32 ",\"window_failed\":%" PRIu32
                   ",\"connections\":%" PRIu32,
                   v->in_state_ms, v->n_opened, v->n_half_opened, v->n_closed, v->n_probes, v->window_calls,
                   v->window_failed, v->n_slots);
#define FAE_UPSTREAM_PRINT(name, help) fae_buf_printf(out, ",\"" #name "\":%" PRIu64, v->n.name);
    FAE_UPSTREAM_COUNTERS(FAE_UPSTREAM_PRINT)
#undef FAE_UPSTREAM_PRINT
#define FAE_UPSTREAM_PRINT(name, help) fae_buf_printf(out, ",\"" #name "\":%" PRIu64, v->now.name);
    FAE_UPSTREAM_GAUGES(FAE_UPSTREAM_PRINT)
#undef FAE_UPSTREAM_PRINT
    fae_buf_add(out, "}", 1);
}

void fae_upstreams_json(struct fae_upstreams *ups, uint64_t now_ms, struct fae_buf *out)
{
    const char *before = "[";

    for (unsigned i = 0; ups && i < FAE_UPSTREAMS_MAX; i++) {
        const struct fae_upstream *up = fae_upstreams_at(ups, i);
        struct fae_upstream_view view;

        if (!up)
            continue;
        fae_upstream_view(up, now_ms, &view);
        fae_buf_add(out, before, 1);
        add_json(&view, out);
        before = ",";
    }
    fae_buf_printf(out, "%s]", *before == '[' ? "[" : "");
}

void fae_upstreams_json_member(struct fae_upstreams *ups, uint64_t now_ms, struct fae_buf *out)
{
    out->len--; /* its brace */
    fae_buf_printf(out, ",\"backends\":");
    fae_upstreams_json(ups, now_ms, out);
    fae_buf_add(out, "}", 1);
}

/* ---- a table ---- */

static void add_row(const struct fae_upstream_view *v, struct fae_buf *out)
{
    uint64_t answered = v->n.calls ? v->n.calls : 1;

    fae_buf_printf(out,
                   "%-13s %10" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %9.3f %4" PRIu32
                   " %4" PRIu64 " %4" PRIu64 " %4" PRIu64 " %4" PRIu64 "  %s %s%s%s\n",
                   fae_upstream_state(v), v->n.calls, v->n.errors, v->n.timeouts, v->n.lost + v->n.connect_failures,
                   v->n.rejected + v->n.busy, (double)v->n.call_ns / 1e6 / (double)answered, v->n_slots, v->now.used,
                   v->now.pinned, v->now.idle, v->now.waiting, v->kind, v->pool, *v->server ? " " : "", v->server);
    if (v->state == FAE_BREAKER_CLOSED || v->mode != FAE_BREAKER_AUTO)
        return;
    fae_buf_printf(out, "  %s, for %.1f s", v->why, (double)v->in_state_ms / 1e3);
    if (v->state == FAE_BREAKER_OPEN)
        fae_buf_printf(out, "; tried again in %.1f s", (double)v->left_ms / 1e3);
    fae_buf_add(out, "\n", 1);
}

unsigned fae_upstreams_table(struct fae_upstreams *ups, uint64_t now_ms, struct fae_buf *out)
{
    struct fae_upstream_view view;
    unsigned n = 0;

    for (unsigned i = 0; i < FAE_UPSTREAMS_MAX; i++) {
        const struct fae_upstream *up = fae_upstreams_at(ups, i);

        if (!up)
            continue;
        if (n++ == 0)
            fae_buf_printf(out, "%-13s %10s %8s %8s %8s %8s %9s %4s %4s %4s %4s %4s  %s\n", "BREAKER", "CALLS",
                           "ERRORS", "TIMEOUTS", "LOST", "REFUSED", "MEAN MS", "CONN", "USED", "OWN", "IDLE", "WAIT",
                           "SERVER");
        fae_upstream_view(up, now_ms, &view);
        add_row(&view, out);
    }
    return n;
}
