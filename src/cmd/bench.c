/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae bench`: arguments of a load, its progress, where its figures go.
 */
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "cmd/bench_mix.h"
#include "cmd/bench_report.h"
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "cmd/load.h"

#define DURATION_MS 5000
#define COUNTED_MS 60000 /* with -n and no -d */
#define DURATION_MAX_S 86400.0

struct opts {
    uint64_t conns, depth, calls, rate, threads, spread;
    uint64_t raw_answer_bytes, raw_compare, raw_greeting;
    uint64_t duration_ms; /* 0: not given */
    bool connect_per_call, json, progress;
    const char *addr;
    const char *raw; /* hex */
    const char *mix; /* a file */
    const char *save;
    const char *token_file;
    struct fae_trust trust;
    const char *methods[FAE_TALLY_METHODS]; /* lines as in the file */
    unsigned n_methods;
    const char *compare[2];
    const char *method;
    char **params;
    int n_params;
    char what[300]; /* the method, or what is sent in place of one */
};

static const struct {
    const char *flag;
    size_t offset;
    uint64_t min, max;
} numbers[] = {
    { "-c", offsetof(struct opts, conns), 1, FAE_LOAD_CONNS_MAX },
    { "-p", offsetof(struct opts, depth), 1, FAE_LOAD_DEPTH_MAX },
    { "-n", offsetof(struct opts, calls), 1, 1000000000000 },
    { "--rate", offsetof(struct opts, rate), 1, FAE_LOAD_RATE_MAX },
    { "--threads", offsetof(struct opts, threads), 1, FAE_LOAD_THREADS_MAX },
    { "--spread", offsetof(struct opts, spread), 0, FAE_LOAD_SPREAD_MAX },
    { "--raw-answer-bytes", offsetof(struct opts, raw_answer_bytes), 1, FAE_MIB },
    { "--raw-compare", offsetof(struct opts, raw_compare), 1, FAE_MIB },
    { "--raw-greeting", offsetof(struct opts, raw_greeting), 1, FAE_MIB },
};

static const struct {
    const char *flag;
    size_t offset;
} switches[] = {
    { "--connect-per-call", offsetof(struct opts, connect_per_call) },
    { "--json", offsetof(struct opts, json) },
    { "--progress", offsetof(struct opts, progress) },
};

static const struct {
    const char *flag;
    size_t offset;
} texts[] = {
    { "-s", offsetof(struct opts, addr) },
    { "--raw", offsetof(struct opts, raw) },
    { "--mix", offsetof(struct opts, mix) },
    { "--save", offsetof(struct opts, save) },
    { "--token-file", offsetof(struct opts, token_file) },
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

static int read_duration(const char *name, const char *text, struct opts *o)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end || !(seconds >= 0.01 && seconds <= DURATION_MAX_S)) {
        fae_cmd_usage(name, "-d takes seconds from 0.01 to %.0f, not \"%s\"", DURATION_MAX_S, text);
        return -1;
    }
    o->duration_ms = (uint64_t)(seconds * 1000);
    return 1;
}

static int add_method(const char *name, const char *line, struct opts *o)
{
    if (o->n_methods == FAE_TALLY_METHODS) {
        fae_cmd_usage(name, "at most %u --method", FAE_TALLY_METHODS);
        return -1;
    }
    o->methods[o->n_methods++] = line;
    return 1;
}

static int read_text(int argc, char **argv, int *i, struct opts *o)
{
    const char *text;

    for (unsigned k = 0; k < sizeof texts / sizeof texts[0]; k++)
        if ((text = fae_cmd_value(argv[0], argc, argv, i, texts[k].flag))) {
            *(const char **)((char *)o + texts[k].offset) = text;
            return 1;
        }
    if ((text = fae_cmd_value(argv[0], argc, argv, i, "-d")))
        return read_duration(argv[0], text, o);
    if ((text = fae_cmd_value(argv[0], argc, argv, i, "--method")))
        return add_method(argv[0], text, o);
    if (!(text = fae_cmd_value(argv[0], argc, argv, i, "--compare")))
        return 0;
    if (*i + 1 >= argc) {
        fae_cmd_usage(argv[0], "--compare takes two files");
        return -1;
    }
    o->compare[0] = text;
    o->compare[1] = argv[++*i];
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

static int check_sources(const char *name, const struct opts *o)
{
    unsigned n = !!o->raw + !!o->mix + !!o->n_methods + !!o->method;

    if (n == 0)
        return fae_cmd_usage(name, "which method?");
    if (n > 1 && o->method)
        return fae_cmd_usage(name, "%s says what to send: \"%s\" is too many",
                             o->raw   ? "--raw"
                             : o->mix ? "--mix"
                                      : "--method",
                             o->method);
    if (n > 1)
        return fae_cmd_usage(name, "only one of --raw, --mix and --method says what to send");
    if (!o->raw && (o->raw_compare || o->raw_greeting))
        return fae_cmd_usage(name, "--raw-compare and --raw-greeting are for --raw");
    return FAE_EXIT_OK;
}

/* What the rows cannot say. */
static int check(const char *name, struct opts *o)
{
    int code;

    if (o->compare[0])
        return o->raw || o->mix || o->n_methods || o->method || o->save || o->json
                   ? fae_cmd_usage(name, "--compare makes no load: it takes two files and nothing else")
                   : FAE_EXIT_OK;
    if (!o->raw != !o->raw_answer_bytes)
        return fae_cmd_usage(name, "--raw and --raw-answer-bytes go together");
    code = check_sources(name, o);
    if (code)
        return code;
    if (o->connect_per_call && o->depth > 1)
        return fae_cmd_usage(name, "--connect-per-call makes one call a connection: -p cannot be %llu",
                             (unsigned long long)o->depth);
    if (o->threads > o->conns)
        return fae_cmd_usage(name, "%llu threads need as many connections: -c cannot be %llu",
                             (unsigned long long)o->threads, (unsigned long long)o->conns);
    if (o->duration_ms == 0)
        o->duration_ms = o->calls ? COUNTED_MS : DURATION_MS;
    return FAE_EXIT_OK;
}

static int read_args(int argc, char **argv, struct opts *o)
{
    int i;

    *o = (struct opts){ .conns = 50, .depth = 1, .threads = 1 };
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
        if (taken == 0)
            taken = fae_trust_option(argv[0], argc, argv, &i, &o->trust);
        if (taken < 0)
            return FAE_EXIT_USAGE;
        if (taken == 0)
            return fae_cmd_unknown(argv[0], argv[i]);
    }
    if (i < argc) {
        o->method = argv[i];
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

static enum fae_err make_mix(struct opts *o, struct fae_bench_mix *mix, char *why, size_t size)
{
    enum fae_err err = fae_client_token(o->token_file, &mix->token, why, size);

    if (err)
        return err;
    if (o->method)
        err = fae_bench_mix_add(mix, 1, o->method, o->params, o->n_params, why, size);
    else if (o->mix)
        err = fae_bench_mix_add_file(mix, o->mix, why, size);
    for (unsigned i = 0; i < o->n_methods && !err; i++)
        err = fae_bench_mix_add_line(mix, o->methods[i], why, size);
    if (err)
        return err;
    if (mix->n == 1)
        snprintf(o->what, sizeof o->what, "%s", mix->methods[0].name);
    else
        snprintf(o->what, sizeof o->what, "mix of %u", mix->n);
    return FAE_OK;
}

static enum fae_err make_raw(struct opts *o, struct fae_load_opts *load, char *why, size_t size)
{
    load->raw = (struct fae_tally_raw){ .answer_bytes = (uint32_t)o->raw_answer_bytes,
                                        .compare_bytes = (uint32_t)o->raw_compare,
                                        .greeting_bytes = (uint32_t)o->raw_greeting };
    snprintf(o->what, sizeof o->what, "raw bytes");
    return read_hex(o->raw, &load->raw_request, why, size);
}

static enum fae_err make_load(struct opts *o, struct fae_bench_mix *mix, struct fae_load_opts *load, char *why,
                              size_t size)
{
    enum fae_err err;

    *load = (struct fae_load_opts){
        .threads = (unsigned)o->threads,
        .conns = (unsigned)o->conns,
        .depth = (unsigned)o->depth,
        .spread = (unsigned)o->spread,
        .connect_per_call = o->connect_per_call,
        .rate = (double)o->rate,
        .calls = o->calls,
        .duration_ms = o->duration_ms,
        .grace_ms = FAE_LOAD_GRACE_MS,
        .mix = o->raw ? NULL : mix,
        .trust = o->trust,
    };
    err = fae_client_addr(o->addr, &load->addr, why, size);
    if (!err)
        err = o->raw ? make_raw(o, load, why, size) : make_mix(o, mix, why, size);
    if (!err && o->spread && load->addr.sa.ss_family != AF_INET) {
        snprintf(why, size, "--spread is for tcp to an address of this machine (127.x.x.x)");
        err = FAE_BAD_ARGS;
    }
    return err;
}

/* ---- the run ---- */

static void print_progress(const struct fae_load_progress *p, void *arg)
{
    bool rewrite = *(const bool *)arg;
    double seconds = (double)p->interval_ns / 1e9;

    fprintf(stderr, "%s%7.1f s  %10.0f calls/s  p50 %.0f  p99 %.0f us  %llu open, %llu failed%s",
            rewrite ? "\r\033[K" : "", (double)p->elapsed_ns / 1e9, seconds > 0 ? (double)p->interval_ok / seconds : 0,
            (double)p->p50_ns / 1000, (double)p->p99_ns / 1000, (unsigned long long)(p->n_sent - p->n_ok - p->n_failed),
            (unsigned long long)p->n_failed, rewrite ? "" : "\n");
}

/* NULL, with a message, when it cannot be written; asked before the run, what it held stays until after it. */
static FILE *open_save(const char *path)
{
    FILE *f = fopen(path, "ae");

    if (!f)
        fprintf(stderr, "fae bench: %s: %s\n", path, strerror(errno));
    return f;
}

static bool write_save(const char *path, FILE *f, const char *line)
{
    bool well = ftruncate(fileno(f), 0) == 0 && fprintf(f, "%s\n", line) > 0 && fflush(f) == 0;

    if (!well)
        fprintf(stderr, "fae bench: %s: %s\n", path, strerror(errno));
    return well;
}

/* false: something could not be written. */
static bool report(const struct opts *o, const struct fae_bench_run *run, FILE *save)
{
    struct fae_buf line = { 0 };
    bool well = true;

    fae_bench_report_json(run, &line);
    if (o->json)
        puts(fae_buf_text(&line));
    else
        fae_bench_report_table(run, stdout);
    if (save)
        well = write_save(o->save, save, fae_buf_text(&line));
    fae_buf_fini(&line);
    return fflush(stdout) == 0 && well;
}

static int bench(const struct opts *o, struct fae_load_opts *load)
{
    static struct fae_load_result result; /* zero, and too large for a stack */
    struct fae_bench_run run = { .what = o->what, .opts = load, .result = &result };
    FILE *save = o->save ? open_save(o->save) : NULL;
    bool rewrite = isatty(STDERR_FILENO), well = false;
    char why[256];
    enum fae_err err;

    if (o->save && !save)
        return FAE_EXIT_FAILED;
    load->progress = rewrite || o->progress ? print_progress : NULL;
    load->progress_arg = &rewrite;
    err = fae_load_run(load, &result, why, sizeof why);
    if (rewrite)
        fputs("\r\033[K", stderr);
    if (err)
        fprintf(stderr, "fae bench: %s: %s\n", fae_err_name(err), why);
    else
        well = report(o, &run, save) && result.tally.n_ok == result.n_sent && result.tally.n_stray == 0;
    fae_tally_fini(&result.tally);
    if (save)
        fclose(save);
    return well ? FAE_EXIT_OK : FAE_EXIT_FAILED;
}

static int compare(const struct opts *o)
{
    char why[400];

    if (fae_bench_report_compare(o->compare[0], o->compare[1], stdout, why, sizeof why)) {
        fprintf(stderr, "fae bench: %s\n", why);
        return FAE_EXIT_FAILED;
    }
    return fflush(stdout) == 0 ? FAE_EXIT_OK : FAE_EXIT_FAILED;
}

int fae_cmd_bench(int argc, char **argv)
{
    struct fae_load_opts load = { 0 };
    struct fae_bench_mix mix = { 0 };
    struct opts o;
    char why[512];
    int code = read_args(argc, argv, &o);

    if (code)
        return code;
    if (o.compare[0])
        return compare(&o);
    code = make_load(&o, &mix, &load, why, sizeof why) ? fae_cmd_usage(argv[0], "%s", why) : bench(&o, &load);
    fae_buf_fini(&load.raw_request);
    fae_bench_mix_fini(&mix);
    return code;
}
