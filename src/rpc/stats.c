/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The node's counters: rows given out, and all of it summed and read as JSON.
 */
#include "rpc/stats.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/utf8.h"

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
    fae_guesses_init(&stats->guesses);
    memcpy(stats->names[FAE_STATS_LAST], "*", 2);
    FAE_ASSERT(fae_names_size(FAE_REASONS_MAX, FAE_REASON_TEXT) <= sizeof stats->reasons);
    fae_names_init((struct fae_names *)stats->reasons, FAE_REASONS_MAX, FAE_REASON_TEXT);
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

void fae_stats_reap(struct fae_stats *stats, unsigned slot)
{
    struct fae_worker_stats *w = &stats->workers[slot];

    FAE_STAT_SET(w->lag_last_ns, 0);
    for (unsigned i = 0; i < FAE_METHODS_MAX; i++) {
        struct fae_method_stats *m = &w->methods[i];
        uint32_t n = FAE_STAT_GET(m->n_parked);

        if (n == 0) /* a page that nobody wrote to stays untouched */
            continue;
        FAE_STAT_SET(m->n_parked, 0);
        FAE_STAT_ADD(m->n_lost, n);
    }
}

/* ---- reasons ---- */

static const char other[] = "other";

/* Digits become `?`, a run of them one; what is no UTF-8 too, so that every name can be shown as it is. */
static size_t plain_reason(const char *reason, size_t len, char *to)
{
    const uint8_t *p = (const uint8_t *)reason;
    size_t n = 0;

    for (size_t i = 0; i < len;) {
        bool digit = p[i] >= '0' && p[i] <= '9';
        unsigned bytes = fae_utf8_char(p + i, len - i);

        if (n + (bytes ? bytes : 1) > FAE_REASON_TEXT)
            break;
        if (bytes && !digit) {
            memcpy(to + n, p + i, bytes);
            n += bytes;
        } else if (!digit || i == 0 || p[i - 1] < '0' || p[i - 1] > '9') {
            to[n++] = '?';
        }
        i += bytes ? bytes : 1;
    }
    return n;
}

void fae_stats_reason(struct fae_stats *stats, unsigned slot, const char *reason, size_t len)
{
    char name[FAE_REASON_TEXT];
    size_t n = plain_reason(reason, len, name);
    uint32_t row = FAE_NAMES_NONE;

    if (n != sizeof other - 1 || memcmp(name, other, n) != 0) /* no second row of that name */
        row = fae_names_add((struct fae_names *)stats->reasons, name, n);
    FAE_STAT_ADD(stats->workers[slot].n_reasons[row == FAE_NAMES_NONE ? FAE_REASONS_MAX : row], 1);
}

uint64_t fae_stats_sum_reason(const struct fae_stats *stats, unsigned n_workers, unsigned row)
{
    uint64_t n = 0;

    for (unsigned w = 0; w < n_workers; w++)
        n += FAE_STAT_GET(stats->workers[w].n_reasons[row]);
    return n;
}

/* ---- sums ---- */

unsigned fae_stats_n_rows(const struct fae_stats *stats)
{
    unsigned n = atomic_load_explicit(&stats->n_names, memory_order_acquire);

    return n < FAE_STATS_LAST ? n : FAE_STATS_LAST;
}

void fae_stats_sum_method(const struct fae_stats *stats, unsigned n_workers, unsigned row, struct fae_method_sum *sum)
{
    *sum = (struct fae_method_sum){ 0 };
    for (unsigned w = 0; w < n_workers; w++) {
        const struct fae_method_stats *m = &stats->workers[w].methods[row];

        sum->n_calls += FAE_STAT_GET(m->n_calls);
        sum->n_errors += FAE_STAT_GET(m->n_errors);
        sum->n_slow += FAE_STAT_GET(m->n_slow);
        sum->n_lost += FAE_STAT_GET(m->n_lost);
        sum->n_parked += FAE_STAT_GET(m->n_parked);
        sum->ns += FAE_STAT_GET(m->ns);
        sum->wait_ns += FAE_STAT_GET(m->wait_ns);
    }
}

void fae_stats_sum_node(const struct fae_stats *stats, unsigned n_workers, struct fae_node_sum *sum)
{
    unsigned n_rows = fae_stats_n_rows(stats);

    *sum = (struct fae_node_sum){ 0 };
    for (unsigned i = 0; i < n_workers; i++) {
        const struct fae_worker_stats *w = &stats->workers[i];

        for (unsigned e = 0; e <= FAE_ERR_COUNT; e++)
            sum->n_errors[e] += FAE_STAT_GET(w->n_errors[e]);
        for (unsigned l = 0; l < FAE_LIMIT_COUNT; l++)
            sum->n_limit_hits[l] += FAE_STAT_GET(w->n_limit_hits[l]);
        sum->n_sampled += FAE_STAT_GET(w->n_sampled);
        for (unsigned r = 0; r < n_rows; r++)
            sum->n_slow += FAE_STAT_GET(w->methods[r].n_slow);
        sum->n_slow += FAE_STAT_GET(w->methods[FAE_STATS_LAST].n_slow);
    }
}

const char *fae_stats_state(uint32_t slot_state)
{
    static const char *const words[] = { [FAE_SLOT_DEAD] = "dead",
                                         [FAE_SLOT_STARTING] = "starting",
                                         [FAE_SLOT_READY] = "ready",
                                         [FAE_SLOT_DRAINING] = "draining" };

    return words[slot_state <= FAE_SLOT_DRAINING ? slot_state : FAE_SLOT_DEAD];
}

/* ---- JSON ---- */

/* In tenths and by integers: a servant may have changed the locale's decimal point. */
static void add_us(struct fae_buf *out, const char *key, uint64_t ns)
{
    fae_buf_printf(out, ",\"%s\":%" PRIu64 ".%u", key, ns / 1000, (unsigned)(ns % 1000 / 100));
}

static void add_worker(const struct fae_stats *stats, const struct fae_slots *slots, unsigned i, struct fae_buf *out)
{
    const struct fae_worker_stats *w = &stats->workers[i];
    const struct fae_hist *lag = &w->lag.hist, *turn = &w->turn.hist;
    const struct fae_slot *s = &slots->slots[i];
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
        { "lua_collections", FAE_STAT_GET(w->n_collections) },
        { "old_calls", FAE_STAT_GET(s->n_old_calls) },
        { "bytes_in", FAE_STAT_GET(w->n_bytes_in) },
        { "bytes_out", FAE_STAT_GET(w->n_bytes_out) },
        { "bad_messages", FAE_STAT_GET(w->n_bad_messages) },
        { "notifications", FAE_STAT_GET(w->n_notifications) },
        { "unknown_methods", FAE_STAT_GET(w->n_unknown_methods) },
        { "forbidden", FAE_STAT_GET(w->n_forbidden) },
        { "unauthorized", FAE_STAT_GET(w->n_unauthorized) },
    };

    fae_buf_printf(out, "%s{\"slot\":%u,\"pid\":%" PRIu32 ",\"state\":\"%s\"", i ? "," : "", i, FAE_STAT_GET(s->pid),
                   fae_stats_state(FAE_STAT_GET(s->state)));
    for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++)
        fae_buf_printf(out, ",\"%s\":%" PRIu64, rows[r].key, rows[r].value);
    add_us(out, "lua_collect_us", FAE_STAT_GET(w->collect_ns));
    add_us(out, "lag_us", FAE_STAT_GET(w->lag_last_ns));
    add_us(out, "lag_p99_us", fae_hist_quantile(&lag, 1, 0.99));
    add_us(out, "lag_max_us", fae_hist_quantile(&lag, 1, 1));
    add_us(out, "turn_p99_us", fae_hist_quantile(&turn, 1, 0.99));
    add_us(out, "turn_max_us", fae_hist_quantile(&turn, 1, 1));
    fae_buf_add(out, "}", 1);
}

static void add_node(const struct fae_stats *stats, const struct fae_slots *slots, struct fae_buf *out)
{
    unsigned n_workers = slots->n_workers, n = 0;
    struct fae_node_sum sum;

    fae_stats_sum_node(stats, n_workers, &sum);
    fae_buf_printf(out,
                   "{\"uptime_s\":%" PRIu64 ",\"generation\":%" PRIu32 ",\"workers\":%u,\"slow\":%" PRIu64
                   ",\"sampled\":%" PRIu64 ",\"errors\":{",
                   (fae_now_ms() - slots->started_ms) / 1000, FAE_STAT_GET(slots->generation), n_workers, sum.n_slow,
                   sum.n_sampled);
    for (unsigned e = 0; e <= FAE_ERR_COUNT; e++)
        if (sum.n_errors[e])
            fae_buf_printf(out, "%s\"%s\":%" PRIu64, n++ ? "," : "",
                           e < FAE_ERR_COUNT ? fae_err_name((enum fae_err)e) : "other", sum.n_errors[e]);
    fae_buf_printf(out, "},\"limits\":{");
    for (unsigned l = 0; l < FAE_LIMIT_COUNT; l++)
        fae_buf_printf(out, "%s\"%s\":%" PRIu64, l ? "," : "", fae_limit_name((enum fae_limit)l), sum.n_limit_hits[l]);
    fae_buf_printf(out, "}}");
}

struct method {
    const char *name;
    unsigned row;
    struct fae_method_sum sum;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct method *)a)->name, ((const struct method *)b)->name);
}

/* The methods that were ever called, sorted. */
static unsigned collect(const struct fae_stats *stats, unsigned n_workers, struct method *methods)
{
    unsigned n_rows = fae_stats_n_rows(stats), n = 0;

    for (unsigned i = 0; i <= n_rows; i++) {
        struct method *m = &methods[n];

        m->row = i < n_rows ? i : FAE_STATS_LAST;
        m->name = stats->names[m->row];
        fae_stats_sum_method(stats, n_workers, m->row, &m->sum);
        n += m->sum.n_calls || m->sum.n_parked || m->sum.n_lost;
    }
    qsort(methods, n, sizeof *methods, by_name);
    return n;
}

static void add_method(const struct fae_stats *stats, unsigned n_workers, const struct method *m, struct fae_buf *out)
{
    static const struct {
        const char *key;
        double share;
    } shares[] = { { "p50_us", 0.5 }, { "p90_us", 0.9 }, { "p99_us", 0.99 }, { "max_us", 1.0 } };
    const struct fae_hist *hists[FAE_WORKERS_MAX];

    for (unsigned w = 0; w < n_workers; w++)
        hists[w] = &stats->workers[w].methods[m->row].latency;
    fae_buf_add(out, "{\"name\":", 8);
    fae_buf_json(out, m->name, strlen(m->name));
    fae_buf_printf(out,
                   ",\"calls\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"slow\":%" PRIu64 ",\"lost\":%" PRIu64
                   ",\"in_flight\":%" PRIu64,
                   m->sum.n_calls, m->sum.n_errors, m->sum.n_slow, m->sum.n_lost, m->sum.n_parked);
    for (unsigned i = 0; i < sizeof shares / sizeof *shares; i++)
        add_us(out, shares[i].key, fae_hist_quantile(hists, n_workers, shares[i].share));
    add_us(out, "sum_us", m->sum.ns);
    add_us(out, "wait_us", m->sum.wait_ns);
    fae_buf_add(out, "}", 1);
}

struct reason {
    const char *text;
    size_t len;
    uint64_t n;
};

/* The commonest first. */
static int by_count(const void *a, const void *b)
{
    const struct reason *x = a, *y = b;

    return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : strcmp(x->text, y->text);
}

static void add_reasons(const struct fae_stats *stats, unsigned n_workers, struct fae_buf *out)
{
    const struct fae_names *names = fae_stats_reasons(stats);
    struct reason *reasons = fae_alloc((FAE_REASONS_MAX + 1) * sizeof *reasons);
    unsigned n_names = fae_names_count(names), n = 0;
    uint64_t total = 0;

    for (unsigned i = 0; i <= n_names; i++) {
        unsigned row = i < n_names ? i : FAE_REASONS_MAX;
        struct reason r = { .text = other, .len = sizeof other - 1, .n = fae_stats_sum_reason(stats, n_workers, row) };

        if (i < n_names)
            r.text = fae_names_text(names, row, &r.len);
        if (r.n)
            reasons[n++] = r;
        total += r.n;
    }
    qsort(reasons, n, sizeof *reasons, by_count);
    for (unsigned i = 0; i < n; i++) {
        unsigned permille = (unsigned)(reasons[i].n * 1000.0 / (double)total + 0.5);

        fae_buf_printf(out, "%s{\"reason\":", i ? "," : "");
        fae_buf_json(out, reasons[i].text, reasons[i].len);
        fae_buf_printf(out, ",\"count\":%" PRIu64 ",\"percent\":%u.%u}", reasons[i].n, permille / 10, permille % 10);
    }
    free(reasons);
}

static void add_store_stat(void *out, const char *name, const char *help, bool counter, uint64_t value)
{
    const struct fae_buf *buf = out;

    (void)help;
    (void)counter;
    fae_buf_printf(out, "%s\"%s\":%" PRIu64, buf->data[buf->len - 1] == '{' ? "" : ",", name, value);
}

void fae_stats_json(const struct fae_stats *stats, const struct fae_slots *slots, const struct fae_stores *stores,
                    struct fae_buf *out)
{
    struct method *methods = fae_alloc(FAE_METHODS_MAX * sizeof *methods);
    unsigned n_workers = slots->n_workers, n;

    FAE_ASSERT(n_workers <= FAE_WORKERS_MAX);
    n = collect(stats, n_workers, methods);
    fae_buf_add(out, "{\"node\":", 8);
    add_node(stats, slots, out);
    fae_buf_add(out, ",\"workers\":[", 12);
    for (unsigned i = 0; i < n_workers; i++)
        add_worker(stats, slots, i, out);
    fae_buf_add(out, "],\"methods\":[", 13);
    for (unsigned i = 0; i < n; i++) {
        if (i)
            fae_buf_add(out, ",", 1);
        add_method(stats, n_workers, &methods[i], out);
    }
    fae_buf_add(out, "],\"reasons\":[", 13);
    add_reasons(stats, n_workers, out);
    fae_buf_add(out, "],\"store\":{", 11);
    if (stores)
        fae_stores_stats(stores, add_store_stat, out);
    fae_buf_add(out, "}}", 2);
    free(methods);
}
