/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The node's counters: rows of methods given out, and all of it read as JSON.
 */
#include "rpc/stats.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"

#define FAE_STATS_LAST (FAE_METHODS_MAX - 1)

size_t fae_stats_size(const void *n_workers)
{
    return sizeof(struct fae_stats) + *(const unsigned *)n_workers * sizeof(struct fae_worker_stats);
}

void fae_stats_init(void *mem, const void *n_workers)
{
    struct fae_stats *stats = mem;

    (void)n_workers;
    fae_shmutex_init(&stats->lock);
    memcpy(stats->names[FAE_STATS_LAST], "*", 2);
}

static unsigned find_row(const struct fae_stats *stats, unsigned n, const char *name, size_t len)
{
    for (unsigned i = 0; i < n; i++)
        if (memcmp(stats->names[i], name, len) == 0 && stats->names[i][len] == '\0')
            return i;
    return FAE_STATS_LAST;
}

unsigned fae_stats_row(struct fae_stats *stats, const char *name, size_t len)
{
    unsigned n, row;

    if (len == 0 || len > FAE_METHOD_NAME_MAX || memchr(name, '\0', len))
        return FAE_STATS_LAST;
    /* A row counts once n_names says so: one that a killed worker left half-written is written again. */
    fae_shmutex_lock(&stats->lock);
    n = atomic_load_explicit(&stats->n_names, memory_order_relaxed);
    row = find_row(stats, n, name, len);
    if (row == FAE_STATS_LAST && n < FAE_STATS_LAST) {
        row = n;
        memcpy(stats->names[row], name, len);
        memset(stats->names[row] + len, 0, sizeof stats->names[row] - len);
        atomic_store_explicit(&stats->n_names, n + 1, memory_order_release);
    }
    fae_shmutex_unlock(&stats->lock);
    return row;
}

/* ---- JSON ---- */

static void add_worker(const struct fae_stats *stats, const struct fae_slots *slots, unsigned i, struct fae_buf *out)
{
    static const char *const words[] = { [FAE_SLOT_DEAD] = "dead",
                                         [FAE_SLOT_STARTING] = "starting",
                                         [FAE_SLOT_READY] = "ready",
                                         [FAE_SLOT_DRAINING] = "draining" };
    const struct fae_worker_stats *w = &stats->workers[i];
    const struct fae_slot *s = &slots->slots[i];
    uint32_t state = FAE_STAT_GET(s->state);
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        { "incarnation", FAE_STAT_GET(s->incarnation) },
        { "generation", FAE_STAT_GET(s->generation) },
        { "sessions", FAE_STAT_GET(s->n_sessions) },
        { "calls", FAE_STAT_GET(s->n_calls) },
        { "accepted", FAE_STAT_GET(s->n_accepted) },
        { "deaths", FAE_STAT_GET(s->n_deaths) },
        { "lua_bytes", FAE_STAT_GET(s->lua_bytes) },
        { "old_calls", FAE_STAT_GET(s->n_old_calls) },
        { "bytes_in", FAE_STAT_GET(w->n_bytes_in) },
        { "bytes_out", FAE_STAT_GET(w->n_bytes_out) },
        { "bad_messages", FAE_STAT_GET(w->n_bad_messages) },
        { "notifications", FAE_STAT_GET(w->n_notifications) },
        { "unknown_methods", FAE_STAT_GET(w->n_unknown_methods) },
    };

    fae_buf_printf(out, "%s{\"slot\":%u,\"pid\":%" PRIu32 ",\"state\":\"%s\"", i ? "," : "", i, FAE_STAT_GET(s->pid),
                   state <= FAE_SLOT_DRAINING ? words[state] : "dead");
    for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++)
        fae_buf_printf(out, ",\"%s\":%" PRIu64, rows[r].key, rows[r].value);
    fae_buf_add(out, "}", 1);
}

struct line {
    const char *name;
    unsigned row;
    uint64_t n_calls, n_errors;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct line *)a)->name, ((const struct line *)b)->name);
}

/* The methods that were ever called, sorted. */
static unsigned collect(const struct fae_stats *stats, unsigned n_workers, struct line *lines)
{
    unsigned n_names = atomic_load_explicit(&stats->n_names, memory_order_acquire), n = 0;

    if (n_names > FAE_STATS_LAST)
        n_names = FAE_STATS_LAST;
    for (unsigned i = 0; i <= n_names; i++) {
        unsigned row = i < n_names ? i : FAE_STATS_LAST;
        struct line line = { .name = stats->names[row], .row = row };

        for (unsigned w = 0; w < n_workers; w++) {
            line.n_calls += FAE_STAT_GET(stats->workers[w].methods[row].n_calls);
            line.n_errors += FAE_STAT_GET(stats->workers[w].methods[row].n_errors);
        }
        if (line.n_calls)
            lines[n++] = line;
    }
    qsort(lines, n, sizeof *lines, by_name);
    return n;
}

static void add_method(const struct fae_stats *stats, unsigned n_workers, const struct line *line, struct fae_buf *out)
{
    static const struct {
        const char *key;
        double share;
    } shares[] = { { "p50_us", 0.5 }, { "p90_us", 0.9 }, { "p99_us", 0.99 }, { "max_us", 1.0 } };
    const struct fae_hist *hists[FAE_WORKERS_MAX];

    for (unsigned w = 0; w < n_workers; w++)
        hists[w] = &stats->workers[w].methods[line->row].latency;
    fae_buf_add(out, "{\"name\":", 8);
    fae_buf_json(out, line->name, strlen(line->name));
    fae_buf_printf(out, ",\"calls\":%" PRIu64 ",\"errors\":%" PRIu64, line->n_calls, line->n_errors);
    for (unsigned i = 0; i < sizeof shares / sizeof *shares; i++) {
        uint64_t ns = fae_hist_quantile(hists, n_workers, shares[i].share);

        /* In tenths and by integers: a servant may have changed the locale's decimal point. */
        fae_buf_printf(out, ",\"%s\":%" PRIu64 ".%u", shares[i].key, ns / 1000, (unsigned)(ns % 1000 / 100));
    }
    fae_buf_add(out, "}", 1);
}

void fae_stats_json(const struct fae_stats *stats, const struct fae_slots *slots, struct fae_buf *out)
{
    struct line lines[FAE_METHODS_MAX];
    unsigned n_workers = slots->n_workers, n;

    FAE_ASSERT(n_workers <= FAE_WORKERS_MAX);
    n = collect(stats, n_workers, lines);
    fae_buf_printf(out, "{\"node\":{\"uptime_s\":%" PRIu64 ",\"generation\":%" PRIu32 ",\"workers\":%u},\"workers\":[",
                   (fae_now_ms() - slots->started_ms) / 1000, FAE_STAT_GET(slots->generation), n_workers);
    for (unsigned i = 0; i < n_workers; i++)
        add_worker(stats, slots, i, out);
    fae_buf_add(out, "],\"methods\":[", 13);
    for (unsigned i = 0; i < n; i++) {
        if (i)
            fae_buf_add(out, ",", 1);
        add_method(stats, n_workers, &lines[i], out);
    }
    fae_buf_add(out, "]}", 2);
}
