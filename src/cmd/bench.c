/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae bench`: arguments of a load, and its figures as a table or as JSON.
 */
#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "cmd/load.h"

#define DURATION_MS 5000
#define COUNTED_MS 60000 /* with -n and no -d */
#define DURATION_MAX_S 86400.0

struct opts {
    const char *addr;
    uint64_t conns, depth, calls, spread, raw_answer_bytes;
    uint64_t duration_ms; /* 0: not given */
    bool connect_per_call, json;
    const char *raw;  /* hex */
    const char *what; /* the method, or "raw bytes" */
    char **params;
    int n_params;
};

static const struct {
    const char *flag;
    size_t offset;
    uint64_t min, max;
} numbers[] = {
    { "-c", offsetof(struct opts, conns), 1, FAE_LOAD_CONNS_MAX },
    { "-p", offsetof(struct opts, depth), 1, FAE_LOAD_DEPTH_MAX },
    { "-n", offsetof(struct opts, calls), 1, 1000000000000 },
    { "--spread", offsetof(struct opts, spread), 0, FAE_LOAD_SPREAD_MAX },
    { "--raw-answer-bytes", offsetof(struct opts, raw_answer_bytes), 1, FAE_MIB },
};

static const struct {
    const char *flag;
    size_t offset;
} switches[] = {
    { "--connect-per-call", offsetof(struct opts, connect_per_call) },
    { "--json", offsetof(struct opts, json) },
};

/* ---- arguments ---- */

/* 1 when argv[*i] was one of numbers, 0 when not, -1 when its value is wrong. */
static int read_number(int argc, char **argv, int *i, struct opts *o)
{
    for (unsigned k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
        const char *text = fae_cmd_value(argv[0], argc, argv, i, numbers[k].flag);
        unsigned long long v;
        char *end;

        if (!text)
            continue;
        v = strtoull(text, &end, 10);
        if (!isdigit((unsigned char)text[0]) || *end || v < numbers[k].min || v > numbers[k].max) {
            fae_cmd_usage(argv[0], "%s takes a number from %llu to %llu, not \"%s\"", numbers[k].flag,
                          (unsigned long long)numbers[k].min, (unsigned long long)numbers[k].max, text);
            return -1;
        }
        *(uint64_t *)((char *)o + numbers[k].offset) = v;
        return 1;
    }
    return 0;
}

static int read_text(int argc, char **argv, int *i, struct opts *o)
{
    const char *text;

    if ((text = fae_cmd_value(argv[0], argc, argv, i, "-s"))) {
        o->addr = text;
    } else if ((text = fae_cmd_value(argv[0], argc, argv, i, "--raw"))) {
        o->raw = text;
    } else if ((text = fae_cmd_value(argv[0], argc, argv, i, "-d"))) {
        char *end;
        double seconds = strtod(text, &end);

        if (end == text || *end || !(seconds >= 0.01 && seconds <= DURATION_MAX_S)) {
            fae_cmd_usage(argv[0], "-d takes seconds from 0.01 to %.0f, not \"%s\"", DURATION_MAX_S, text);
            return -1;
        }
        o->duration_ms = (uint64_t)(seconds * 1000);
    } else {
        return 0;
    }
    return 1;
}

static int read_switch(const char *word, struct opts *o)
{
    for (unsigned k = 0; k < sizeof switches / sizeof switches[0]; k++)
        if (strcmp(word, switches[k].flag) == 0) {
            *(bool *)((char *)o + switches[k].offset) = true;
            return 1;
        }
    return 0;
}

/* What the rows cannot say. */
static int check(const char *name, struct opts *o)
{
    if (!o->raw != !o->raw_answer_bytes)
        return fae_cmd_usage(name, "--raw and --raw-answer-bytes go together");
    if (!o->raw && !o->what)
        return fae_cmd_usage(name, "which method?");
    if (o->raw && o->what)
        return fae_cmd_usage(name, "--raw sends its own bytes: \"%s\" is too many", o->what);
    if (o->connect_per_call && o->depth > 1)
        return fae_cmd_usage(name, "--connect-per-call makes one call a connection: -p cannot be %llu",
                             (unsigned long long)o->depth);
    if (o->raw)
        o->what = "raw bytes";
    if (o->duration_ms == 0)
        o->duration_ms = o->calls ? COUNTED_MS : DURATION_MS;
    return FAE_EXIT_OK;
}

static int read_args(int argc, char **argv, struct opts *o)
{
    int i;

    *o = (struct opts){ .conns = 50, .depth = 1 };
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        int taken;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        taken = read_switch(argv[i], o);
        if (taken == 0)
            taken = read_number(argc, argv, &i, o);
        if (taken == 0)
            taken = read_text(argc, argv, &i, o);
        if (taken < 0)
            return FAE_EXIT_USAGE;
        if (taken == 0)
            return fae_cmd_unknown(argv[0], argv[i]);
    }
    if (i < argc) {
        o->what = argv[i];
        o->params = argv + i + 1;
        o->n_params = argc - i - 1;
    }
    return check(argv[0], o);
}

static enum fae_err read_hex(const char *hex, struct fae_buf *out, char *why, size_t size)
{
    size_t len = strlen(hex);
    unsigned byte;

    if (len == 0 || len % 2 || strspn(hex, "0123456789abcdefABCDEF") != len) {
        snprintf(why, size, "--raw takes bytes in hex, as in 50494e470d0a");
        return FAE_BAD_ARGS;
    }
    for (; *hex; hex += 2) {
        sscanf(hex, "%2x", &byte);
        fae_mp_byte(out, (uint8_t)byte);
    }
    return FAE_OK;
}

static enum fae_err make_load(const struct opts *o, struct fae_load_opts *load, char *why, size_t size)
{
    enum fae_err err;

    *load = (struct fae_load_opts){
        .conns = (unsigned)o->conns,
        .depth = (unsigned)o->depth,
        .spread = (unsigned)o->spread,
        .connect_per_call = o->connect_per_call,
        .raw = o->raw != NULL,
        .calls = o->calls,
        .duration_ms = o->duration_ms,
        .grace_ms = FAE_LOAD_GRACE_MS,
    };
    err = fae_client_addr(o->addr, &load->addr, why, size);
    if (!err)
        err = o->raw ? read_hex(o->raw, &load->request, why, size)
                     : fae_client_request(&load->request, o->what, o->params, o->n_params, why, size);
    if (!err && o->spread && load->addr.sa.ss_family != AF_INET) {
        snprintf(why, size, "--spread is for tcp to an address of this machine (127.x.x.x)");
        err = FAE_BAD_ARGS;
    }
    if (!err && load->request.len * o->depth > FAE_LOAD_BATCH_MAX) {
        snprintf(why, size, "a batch of %llu requests of %zu bytes is more than %u MiB", (unsigned long long)o->depth,
                 load->request.len, FAE_LOAD_BATCH_MAX / FAE_MIB);
        err = FAE_LIMIT;
    }
    return err;
}

/* ---- figures ---- */

static double quantile_us(const struct fae_load_result *r, double share)
{
    const struct fae_hist *h = &r->latency;
    double us = (double)fae_hist_quantile(&h, 1, share) / 1000, max_us = (double)r->latency_max_ns / 1000;

    return us < max_us ? us : max_us; /* a bucket's bound may lie beyond the highest value */
}

static uint64_t n_answered(const struct fae_load_result *r)
{
    uint64_t n = 0;

    for (unsigned b = 0; b < FAE_HIST_BUCKETS; b++)
        n += FAE_STAT_GET(r->latency.n[b]);
    return n;
}

static double per(double sum, uint64_t n)
{
    return n ? sum / (double)n : 0;
}

static void print_table(const struct opts *o, const struct fae_load_opts *load, const struct fae_load_result *r)
{
    char addr[FAE_ADDR_TEXT];
    double seconds = (double)r->elapsed_ns / 1e9;

    fae_addr_format(&load->addr, addr);
    printf("%s at %s: %u connections%s x %u, %.2f s\n", o->what, addr, load->conns,
           load->connect_per_call ? ", a new one each call," : "", load->depth, seconds);
    printf("  calls    %llu sent, %llu answered well, %llu failed\n", (unsigned long long)r->n_sent,
           (unsigned long long)r->tally.n_ok, (unsigned long long)(r->n_sent - r->tally.n_ok));
    printf("  rate     %.0f calls/s, %.2f us of this client's cpu each\n",
           seconds > 0 ? (double)r->tally.n_ok / seconds : 0, per((double)r->cpu_ns / 1000, r->tally.n_ok));
    printf("  latency  p50 %.0f  p90 %.0f  p99 %.0f  p99.9 %.0f  max %.0f us\n", quantile_us(r, 0.5),
           quantile_us(r, 0.9), quantile_us(r, 0.99), quantile_us(r, 0.999), (double)r->latency_max_ns / 1000);
    if (r->n_lost || r->n_refused)
        printf("  network  %llu connections lost, %llu refused\n", (unsigned long long)r->n_lost,
               (unsigned long long)r->n_refused);
    if (r->tally.n_stray)
        printf("  stray    %llu messages that answer no call\n", (unsigned long long)r->tally.n_stray);
    for (unsigned i = 0; i < r->tally.n_rows; i++)
        printf("  error    %llu x %s: %s\n", (unsigned long long)r->tally.rows[i].n, r->tally.rows[i].code,
               r->tally.rows[i].text);
}

static void print_json(const struct opts *o, const struct fae_load_opts *load, const struct fae_load_result *r)
{
    struct fae_buf out = { 0 };
    char addr[FAE_ADDR_TEXT];
    double seconds = (double)r->elapsed_ns / 1e9;
    unsigned i;

    fae_addr_format(&load->addr, addr);
    fae_buf_printf(&out, "{\"method\":");
    fae_buf_json(&out, o->what, strlen(o->what));
    fae_buf_printf(&out, ",\"addr\":");
    fae_buf_json(&out, addr, strlen(addr));
    fae_buf_printf(&out, ",\"conns\":%u,\"depth\":%u,\"connect_per_call\":%s,\"seconds\":%.4f", load->conns,
                   load->depth, load->connect_per_call ? "true" : "false", seconds);
    fae_buf_printf(&out, ",\"sent\":%llu,\"answered\":%llu,\"ok\":%llu,\"failed\":%llu,\"stray\":%llu",
                   (unsigned long long)r->n_sent, (unsigned long long)n_answered(r), (unsigned long long)r->tally.n_ok,
                   (unsigned long long)(r->n_sent - r->tally.n_ok), (unsigned long long)r->tally.n_stray);
    fae_buf_printf(&out, ",\"connects\":%llu,\"lost\":%llu,\"refused\":%llu", (unsigned long long)r->n_connects,
                   (unsigned long long)r->n_lost, (unsigned long long)r->n_refused);
    fae_buf_printf(&out, ",\"calls_per_s\":%.1f,\"client_cpu_us\":%.4f",
                   seconds > 0 ? (double)r->tally.n_ok / seconds : 0, per((double)r->cpu_ns / 1000, r->tally.n_ok));
    fae_buf_printf(&out,
                   ",\"p50_us\":%.2f,\"p90_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f,\"mean_us\":%.2f",
                   quantile_us(r, 0.5), quantile_us(r, 0.9), quantile_us(r, 0.99), quantile_us(r, 0.999),
                   (double)r->latency_max_ns / 1000, per((double)r->latency_sum_ns / 1000, n_answered(r)));
    fae_buf_printf(&out, ",\"errors\":{");
    for (i = 0; i < r->tally.n_rows; i++) {
        fae_buf_printf(&out, "%s", i ? "," : "");
        fae_buf_json(&out, r->tally.rows[i].code, strlen(r->tally.rows[i].code));
        fae_buf_printf(&out, ":{\"n\":%llu,\"text\":", (unsigned long long)r->tally.rows[i].n);
        fae_buf_json(&out, r->tally.rows[i].text, strlen(r->tally.rows[i].text));
        fae_buf_printf(&out, "}");
    }
    fae_buf_printf(&out, "}}");
    puts(fae_buf_text(&out));
    fae_buf_fini(&out);
}

static int bench(const struct opts *o, const struct fae_load_opts *load)
{
    static struct fae_load_result result; /* zero, and too large for a stack */
    char why[256];
    bool well;
    enum fae_err err;

    result.tally.raw_bytes = (uint32_t)o->raw_answer_bytes;
    err = fae_load_run(load, &result, why, sizeof why);
    if (err) {
        fprintf(stderr, "fae bench: %s: %s\n", fae_err_name(err), why);
        return FAE_EXIT_FAILED;
    }
    (o->json ? print_json : print_table)(o, load, &result);
    well = result.tally.n_ok == result.n_sent && result.tally.n_stray == 0;
    fae_tally_fini(&result.tally);
    return fflush(stdout) == 0 && well ? FAE_EXIT_OK : FAE_EXIT_FAILED;
}

int fae_cmd_bench(int argc, char **argv)
{
    struct fae_load_opts load = { 0 };
    struct opts o;
    char why[256];
    int code = read_args(argc, argv, &o);

    if (code)
        return code;
    code = make_load(&o, &load, why, sizeof why) ? fae_cmd_usage(argv[0], "%s", why) : bench(&o, &load);
    fae_buf_fini(&load.request);
    return code;
}
