/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Two tables say what a run comes to: percentiles and figures. JSON, the comparison and each method's line follow them.
 */
#include "cmd/bench_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cmd/mpjson.h"
#include "wire/msgpack.h"

#define SAVED_MAX (4u * FAE_MIB)
#define BUSY 0.9 /* of the time: then it is this program that is measured */

static const struct {
    const char *key, *title;
    double share;
} quantiles[] = {
    { "p50_us", "p50", 0.5 },      { "p90_us", "p90", 0.9 },         { "p99_us", "p99", 0.99 },
    { "p999_us", "p99.9", 0.999 }, { "p9999_us", "p99.99", 0.9999 }, { "max_us", "max", 1 },
};

enum { N_QUANTILES = sizeof quantiles / sizeof quantiles[0] };

struct figures {
    struct fae_bench_hist latency;
    uint64_t answered, failed;
    double seconds, calls_per_s, client_cpu_us, client_busy, mean_us;
};

/* The settings and counts that two runs must share to be compared, and those figures that are. */
static const char *const settings[] = { "method", "addr", "conns", "depth", "threads", "connect_per_call", "rate" };

static const struct {
    const char *key, *title;
} compared[] = {
    { "calls_per_s", "calls/s" }, { "client_cpu_us", "client cpu us" },
    { "failed", "failed" },       { "lost", "lost" },
    { "late", "late" },           { "unsent", "unsent" },
    { "mean_us", "mean us" },
};

/* ---- figures ---- */

static double per(double sum, double n)
{
    return n > 0 ? sum / n : 0;
}

static double us(uint64_t ns)
{
    return (double)ns / 1000;
}

static double quantile_us(const struct fae_bench_hist *h, unsigned i)
{
    return us(quantiles[i].share < 1 ? fae_bench_hist_quantile(h, NULL, quantiles[i].share) : FAE_STAT_GET(h->max_ns));
}

static struct figures *figures_new(const struct fae_bench_run *run)
{
    const struct fae_load_result *r = run->result;
    struct figures *f = fae_zalloc(sizeof *f);
    unsigned threads = run->opts->threads ? run->opts->threads : 1;

    fae_load_latency(r, &f->latency);
    f->answered = fae_bench_hist_count(&f->latency);
    f->failed = r->n_sent - r->tally.n_ok;
    f->seconds = (double)r->elapsed_ns / 1e9;
    f->calls_per_s = per((double)r->tally.n_ok, f->seconds);
    f->client_cpu_us = per(us(r->cpu_ns), (double)r->tally.n_ok);
    f->client_busy = per((double)r->cpu_ns, (double)r->elapsed_ns * threads);
    f->mean_us = per(us(FAE_STAT_GET(f->latency.sum_ns)), (double)f->answered);
    return f;
}

static unsigned n_methods(const struct fae_bench_run *run)
{
    return run->opts->mix ? run->opts->mix->n : 1;
}

static const char *method_name(const struct fae_bench_run *run, unsigned i)
{
    return run->opts->mix ? run->opts->mix->methods[i].name : run->what;
}

static unsigned long long ull(uint64_t v)
{
    return v;
}

/* ---- the table ---- */

static void print_latency(FILE *to, const char *name, const struct fae_bench_hist *h)
{
    fprintf(to, "  %-20.20s", name);
    for (unsigned i = 0; i < N_QUANTILES; i++)
        fprintf(to, " %9.0f", quantile_us(h, i));
    fputc('\n', to);
}

static void print_latencies(const struct fae_bench_run *run, const struct figures *f, FILE *to)
{
    fprintf(to, "  %-20s", run->opts->rate > 0 ? "us from when due" : "us from sending");
    for (unsigned i = 0; i < N_QUANTILES; i++)
        fprintf(to, " %9s", quantiles[i].title);
    fputc('\n', to);
    print_latency(to, n_methods(run) > 1 ? "all" : run->what, &f->latency);
    for (unsigned i = 0; n_methods(run) > 1 && i < n_methods(run); i++)
        print_latency(to, method_name(run, i), &run->result->methods[i].latency);
}

static void print_methods(const struct fae_bench_run *run, FILE *to)
{
    for (unsigned i = 0; n_methods(run) > 1 && i < n_methods(run); i++) {
        uint64_t sent = run->result->methods[i].n_sent, ok = run->result->tally.methods[i].n_ok;

        fprintf(to, "  %-20.20s %llu sent, %llu answered well, %llu failed\n", method_name(run, i), ull(sent), ull(ok),
                ull(sent - ok));
    }
}

/* What makes the figures worse than they are, or not the server's. */
static void print_doubts(const struct fae_bench_run *run, const struct figures *f, FILE *to)
{
    const struct fae_load_result *r = run->result;

    if (r->n_unsent)
        fprintf(to, "  behind   %llu calls were due and never sent: no connection was free\n", ull(r->n_unsent));
    if (r->behind_max_ns > FAE_LOAD_LATE_NS)
        fprintf(to, "  behind   at most %.1f ms from when a call was due until it was sent\n",
                us(r->behind_max_ns) / 1000);
    if (r->n_late)
        fprintf(to, "  late     %llu calls were sent over 1 ms late by this program, at most %.1f ms\n", ull(r->n_late),
                us(r->late_max_ns) / 1000);
    if (f->client_busy >= BUSY)
        fprintf(to, "  busy     this program used %.0f %% of its cpus (%u threads): it may be what limits the rate\n",
                100 * f->client_busy, run->opts->threads);
}

void fae_bench_report_table(const struct fae_bench_run *run, FILE *to)
{
    const struct fae_load_result *r = run->result;
    const struct fae_load_opts *opts = run->opts;
    struct figures *f = figures_new(run);
    char addr[FAE_ADDR_TEXT];

    fae_addr_format(&opts->addr, addr);
    fprintf(to, "%s at %s: %u connections%s x %u, %.2f s\n", run->what, addr, opts->conns,
            opts->connect_per_call ? ", a new one each call," : "", opts->depth, f->seconds);
    fprintf(to, "  calls    %llu sent, %llu answered well, %llu failed\n", ull(r->n_sent), ull(r->tally.n_ok),
            ull(f->failed));
    print_methods(run, to);
    fprintf(to, "  rate     %.0f calls/s", f->calls_per_s);
    if (opts->rate > 0)
        fprintf(to, " of %.0f", opts->rate);
    fprintf(to, ", %.2f us of this client's cpu each\n", f->client_cpu_us);
    print_latencies(run, f, to);
    print_doubts(run, f, to);
    if (r->n_lost || r->n_refused)
        fprintf(to, "  network  %llu connections lost, %llu refused\n", ull(r->n_lost), ull(r->n_refused));
    if (r->tally.n_stray)
        fprintf(to, "  stray    %llu messages that answer no call\n", ull(r->tally.n_stray));
    for (unsigned i = 0; i < r->tally.n_rows; i++)
        fprintf(to, "  error    %llu x %s: %s\n", ull(r->tally.rows[i].n), r->tally.rows[i].code,
                r->tally.rows[i].text);
    free(f);
}

/* ---- JSON ---- */

static void add_text(struct fae_buf *out, const char *key, const char *text)
{
    fae_buf_printf(out, "\"%s\":", key);
    fae_buf_json(out, text, strlen(text));
}

static void add_quantiles(struct fae_buf *out, const struct fae_bench_hist *h)
{
    for (unsigned i = 0; i < N_QUANTILES; i++)
        fae_buf_printf(out, ",\"%s\":%.2f", quantiles[i].key, quantile_us(h, i));
}

static void add_settings(struct fae_buf *out, const struct fae_bench_run *run)
{
    const struct fae_load_opts *opts = run->opts;
    char addr[FAE_ADDR_TEXT];

    fae_addr_format(&opts->addr, addr);
    add_text(out, "method", run->what);
    fae_buf_add(out, ",", 1);
    add_text(out, "addr", addr);
    fae_buf_printf(out, ",\"conns\":%u,\"depth\":%u,\"threads\":%u,\"connect_per_call\":%s,\"rate\":%.1f", opts->conns,
                   opts->depth, opts->threads, opts->connect_per_call ? "true" : "false", opts->rate);
}

static void add_counts(struct fae_buf *out, const struct fae_load_result *r, const struct figures *f)
{
    fae_buf_printf(out, ",\"sent\":%llu,\"answered\":%llu,\"ok\":%llu,\"failed\":%llu,\"stray\":%llu", ull(r->n_sent),
                   ull(f->answered), ull(r->tally.n_ok), ull(f->failed), ull(r->tally.n_stray));
    fae_buf_printf(out, ",\"connects\":%llu,\"lost\":%llu,\"refused\":%llu", ull(r->n_connects), ull(r->n_lost),
                   ull(r->n_refused));
    fae_buf_printf(out, ",\"unsent\":%llu,\"late\":%llu,\"late_max_us\":%.2f,\"behind_max_us\":%.2f", ull(r->n_unsent),
                   ull(r->n_late), us(r->late_max_ns), us(r->behind_max_ns));
}

static void add_methods(struct fae_buf *out, const struct fae_bench_run *run)
{
    for (unsigned i = 0; i < n_methods(run); i++) {
        const struct fae_load_method *m = &run->result->methods[i];
        uint64_t ok = run->result->tally.methods[i].n_ok;

        fae_buf_printf(out, "%s{", i ? "," : "");
        add_text(out, "method", method_name(run, i));
        fae_buf_printf(out, ",\"weight\":%u,\"sent\":%llu,\"answered\":%llu,\"ok\":%llu,\"failed\":%llu",
                       run->opts->mix ? run->opts->mix->methods[i].weight : 1, ull(m->n_sent),
                       ull(fae_bench_hist_count(&m->latency)), ull(ok), ull(m->n_sent - ok));
        add_quantiles(out, &m->latency);
        fae_buf_add(out, "}", 1);
    }
}

static void add_errors(struct fae_buf *out, const struct fae_tally *tally)
{
    for (unsigned i = 0; i < tally->n_rows; i++) {
        fae_buf_add(out, ",", i > 0);
        fae_buf_json(out, tally->rows[i].code, strlen(tally->rows[i].code));
        fae_buf_printf(out, ":{\"n\":%llu,", ull(tally->rows[i].n));
        add_text(out, "text", tally->rows[i].text);
        fae_buf_add(out, "}", 1);
    }
}

void fae_bench_report_json(const struct fae_bench_run *run, struct fae_buf *out)
{
    struct figures *f = figures_new(run);

    fae_buf_add(out, "{", 1);
    add_settings(out, run);
    fae_buf_printf(out, ",\"seconds\":%.4f", f->seconds);
    add_counts(out, run->result, f);
    fae_buf_printf(out, ",\"calls_per_s\":%.1f,\"client_cpu_us\":%.4f,\"client_busy\":%.4f", f->calls_per_s,
                   f->client_cpu_us, f->client_busy);
    add_quantiles(out, &f->latency);
    fae_buf_printf(out, ",\"mean_us\":%.2f,\"methods\":[", f->mean_us);
    add_methods(out, run);
    fae_buf_printf(out, "],\"errors\":{");
    add_errors(out, &run->result->tally);
    fae_buf_printf(out, "}}");
    free(f);
}

/* ---- two saved runs ---- */

static enum fae_err load_saved(const char *path, struct fae_buf *out, char *why, size_t size)
{
    FILE *f = fopen(path, "re");
    char *text = fae_alloc(SAVED_MAX + 1), reason[160] = "it is too long";
    struct fae_mp_token t = { .type = FAE_MP_NIL };
    struct fae_mp_scan scan;
    size_t len = f ? fread(text, 1, SAVED_MAX + 1, f) : 0;
    enum fae_err err = !f || ferror(f) ? FAE_SYSTEM : len > SAVED_MAX ? FAE_BAD_ARGS : FAE_OK;

    if (err == FAE_SYSTEM)
        snprintf(reason, sizeof reason, "%s", strerror(errno));
    text[len <= SAVED_MAX ? len : SAVED_MAX] = '\0';
    if (!err)
        err = fae_mpjson_read(text, out, reason, sizeof reason);
    if (!err) {
        fae_mp_scan_init(&scan);
        if (fae_mp_scan(&scan, out->data, out->len, FAE_MESSAGE_CEILING) == FAE_OK)
            fae_mp_read(out->data, &t);
        err = t.type == FAE_MP_MAP ? FAE_OK : FAE_BAD_ARGS;
        snprintf(reason, sizeof reason, "no object");
    }
    if (err)
        snprintf(why, size, "%s: %s%s", path, err == FAE_SYSTEM ? "" : "not a saved run: ", reason);
    if (f)
        fclose(f);
    free(text);
    return err;
}

/* The value of that key, or NULL. */
static const uint8_t *find(const struct fae_buf *run, const char *key)
{
    struct fae_mp_token map = { .type = FAE_MP_NIL }, t;
    const uint8_t *p = fae_mp_read(run->data, &map);

    for (uint32_t i = 0; i < map.len; i++) {
        const uint8_t *value = fae_mp_skip(p);

        fae_mp_read(p, &t);
        if (t.type == FAE_MP_STR && t.len == strlen(key) && memcmp(t.bytes, key, t.len) == 0)
            return value;
        p = fae_mp_skip(value);
    }
    return NULL;
}

static bool find_number(const struct fae_buf *run, const char *key, double *v_out)
{
    struct fae_mp_token t = { .type = FAE_MP_NIL };
    const uint8_t *p = find(run, key);

    if (p)
        fae_mp_read(p, &t);
    if (t.type != FAE_MP_UINT && t.type != FAE_MP_INT && t.type != FAE_MP_FLOAT)
        return false;
    *v_out = t.type == FAE_MP_UINT ? (double)t.u : t.type == FAE_MP_INT ? (double)t.i : t.f;
    return true;
}

static const char *find_text(const struct fae_buf *run, const char *key, struct fae_buf *text)
{
    const uint8_t *p = find(run, key);

    text->len = 0;
    if (p)
        fae_mpjson_write(text, p);
    return p ? fae_buf_text(text) : "not told";
}

static void compare_settings(const struct fae_buf *a, const struct fae_buf *b, FILE *to)
{
    struct fae_buf text_a = { 0 }, text_b = { 0 };

    for (unsigned i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        const char *in_a = find_text(a, settings[i], &text_a), *in_b = find_text(b, settings[i], &text_b);

        if (strcmp(in_a, in_b) != 0)
            fprintf(to, "  %-14s differs: %s, then %s\n", settings[i], in_a, in_b);
    }
    fae_buf_fini(&text_a);
    fae_buf_fini(&text_b);
}

static void compare_number(const struct fae_buf *a, const struct fae_buf *b, const char *key, const char *title,
                           FILE *to)
{
    double in_a, in_b;
    char ratio[32] = "";

    if (!find_number(a, key, &in_a) || !find_number(b, key, &in_b))
        return;
    if (in_a > 0)
        snprintf(ratio, sizeof ratio, "%.3f", in_b / in_a);
    fprintf(to, "  %-14s %14.2f %14.2f %+14.2f %9s\n", title, in_a, in_b, in_b - in_a, ratio);
}

static enum fae_err check_saved(const char *path, const struct fae_buf *run, char *why, size_t size)
{
    double v;

    if (find_number(run, "calls_per_s", &v) && find_number(run, "p99_us", &v))
        return FAE_OK;
    snprintf(why, size, "%s: not a saved run: it has no calls_per_s and p99_us", path);
    return FAE_BAD_ARGS;
}

enum fae_err fae_bench_report_compare(const char *path_a, const char *path_b, FILE *to, char *why, size_t size)
{
    struct fae_buf a = { 0 }, b = { 0 };
    enum fae_err err = load_saved(path_a, &a, why, size);

    if (!err)
        err = load_saved(path_b, &b, why, size);
    if (!err)
        err = check_saved(path_a, &a, why, size);
    if (!err)
        err = check_saved(path_b, &b, why, size);
    if (!err) {
        fprintf(to, "%s, then %s\n", path_a, path_b);
        compare_settings(&a, &b, to);
        fprintf(to, "  %-14s %14s %14s %14s %9s\n", "", "before", "after", "difference", "ratio");
        for (unsigned i = 0; i < sizeof compared / sizeof compared[0]; i++)
            compare_number(&a, &b, compared[i].key, compared[i].title, to);
        for (unsigned i = 0; i < N_QUANTILES; i++) {
            char title[24];

            snprintf(title, sizeof title, "%s us", quantiles[i].title);
            compare_number(&a, &b, quantiles[i].key, title, to);
        }
    }
    fae_buf_fini(&a);
    fae_buf_fini(&b);
    return err;
}
