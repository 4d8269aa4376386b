/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Starts the loaders, each in a thread, watches them and adds up what they found.
 */
#include "cmd/load.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "cmd/loader.h"

enum { PROGRESS_MS = 1000 };

struct thread {
    struct fae_loader *loader;
    pthread_t id;
    uint64_t began;
    int ended_fd;
};

struct watch {
    const struct fae_load_opts *opts;
    const struct thread *threads;
    uint64_t began, last_ns, last_ok;
    struct fae_bench_hist *latency, *before;
};

static atomic_bool interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    atomic_store(&interrupted, true);
}

/* ---- the system ---- */

static uint64_t own_cpu_ns(void)
{
    struct rusage ru;

    getrusage(RUSAGE_SELF, &ru);
    return ((uint64_t)ru.ru_utime.tv_sec + (uint64_t)ru.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)ru.ru_utime.tv_usec + (uint64_t)ru.ru_stime.tv_usec) * 1000u;
}

/* As many files as the system lets us have. */
static void raise_nofile(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- progress ---- */

static void add_latencies(const struct fae_load_result *r, struct fae_bench_hist *out)
{
    for (unsigned i = 0; i < FAE_TALLY_METHODS; i++)
        if (FAE_STAT_GET(r->methods[i].latency.max_ns))
            fae_bench_hist_merge(out, &r->methods[i].latency);
}

void fae_load_latency(const struct fae_load_result *r, struct fae_bench_hist *out)
{
    memset(out, 0, sizeof *out);
    add_latencies(r, out);
}

static void tell_progress(struct watch *w)
{
    struct fae_load_progress p = { .elapsed_ns = fae_ticks_to_ns(fae_ticks() - w->began) };
    struct fae_bench_hist *before = w->latency;

    w->latency = w->before;
    w->before = before;
    memset(w->latency, 0, sizeof *w->latency);
    for (unsigned i = 0; i < w->opts->threads; i++) {
        const struct fae_loader_counts *counts = fae_loader_counts(w->threads[i].loader);

        p.n_sent += FAE_STAT_GET(counts->n_sent);
        p.n_ok += FAE_STAT_GET(counts->n_ok);
        p.n_failed += FAE_STAT_GET(counts->n_failed);
        add_latencies(fae_loader_result(w->threads[i].loader), w->latency);
    }
    p.interval_ns = p.elapsed_ns - w->last_ns;
    p.interval_ok = p.n_ok - w->last_ok;
    p.p50_ns = fae_bench_hist_quantile(w->latency, before, 0.5);
    p.p99_ns = fae_bench_hist_quantile(w->latency, before, 0.99);
    w->last_ns = p.elapsed_ns;
    w->last_ok = p.n_ok;
    w->opts->progress(&p, w->opts->progress_arg);
}

/* Until all threads have ended. */
static void watch(struct watch *w, int ended_fd)
{
    struct pollfd pfd = { .fd = ended_fd, .events = POLLIN };
    uint64_t next_ms = fae_now_ms() + PROGRESS_MS, n_ended = 0, n;

    w->latency = fae_zalloc(sizeof *w->latency);
    w->before = fae_zalloc(sizeof *w->before);
    while (n_ended < w->opts->threads) {
        uint64_t now_ms = fae_now_ms();

        if (now_ms >= next_ms) {
            next_ms = now_ms + PROGRESS_MS;
            if (w->opts->progress)
                tell_progress(w);
        }
        if (poll(&pfd, 1, (int)(next_ms - now_ms)) > 0 && read(ended_fd, &n, sizeof n) == sizeof n)
            n_ended += n;
    }
    free(w->latency);
    free(w->before);
}

/* ---- the run ---- */

static void *run_thread(void *arg)
{
    struct thread *t = arg;
    uint64_t one = 1;

    fae_loader_run(t->loader, t->began);
    while (write(t->ended_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    return NULL;
}

static void merge(struct fae_load_result *into, const struct fae_load_result *from)
{
    fae_tally_merge(&into->tally, &from->tally);
    into->n_sent += from->n_sent;
    into->n_connects += from->n_connects;
    into->n_lost += from->n_lost;
    into->n_refused += from->n_refused;
    into->n_unsent += from->n_unsent;
    into->n_late += from->n_late;
    if (from->late_max_ns > into->late_max_ns)
        into->late_max_ns = from->late_max_ns;
    if (from->behind_max_ns > into->behind_max_ns)
        into->behind_max_ns = from->behind_max_ns;
    if (from->elapsed_ns > into->elapsed_ns)
        into->elapsed_ns = from->elapsed_ns;
    for (unsigned i = 0; i < FAE_TALLY_METHODS; i++) {
        into->methods[i].n_sent += from->methods[i].n_sent;
        if (from->methods[i].n_sent)
            fae_bench_hist_merge(&into->methods[i].latency, &from->methods[i].latency);
    }
}

static enum fae_err run(const struct fae_load_opts *opts, struct thread *threads, int ended_fd, char *why, size_t size)
{
    struct watch w = { .opts = opts, .threads = threads, .began = fae_ticks() };
    unsigned n_started = 0;
    int failed = 0;

    while (n_started < opts->threads && !failed) {
        struct thread *t = &threads[n_started];

        t->began = w.began;
        t->ended_fd = ended_fd;
        failed = pthread_create(&t->id, NULL, run_thread, t);
        n_started += !failed;
    }
    if (failed)
        atomic_store(&interrupted, true);
    else
        watch(&w, ended_fd);
    for (unsigned i = 0; i < n_started; i++)
        pthread_join(threads[i].id, NULL);
    if (!failed)
        return FAE_OK;
    snprintf(why, size, "thread %u of %u: %s", n_started + 1, opts->threads, strerror(failed));
    return FAE_SYSTEM;
}

static enum fae_err open_and_run(const struct fae_load_opts *opts, struct thread *threads,
                                 struct fae_load_result *result, char *why, size_t size)
{
    int ended_fd = eventfd(0, EFD_CLOEXEC);
    enum fae_err err = FAE_OK;
    uint64_t cpu_ns;

    if (ended_fd < 0) {
        snprintf(why, size, "eventfd: %s", strerror(errno));
        return FAE_SYSTEM;
    }
    for (unsigned i = 0; i < opts->threads && !err; i++)
        err = fae_loader_new(&threads[i].loader, opts, i, &interrupted, why, size);
    cpu_ns = own_cpu_ns();
    if (!err)
        err = run(opts, threads, ended_fd, why, size);
    result->cpu_ns = own_cpu_ns() - cpu_ns;
    for (unsigned i = 0; i < opts->threads; i++) {
        if (!err)
            merge(result, fae_loader_result(threads[i].loader));
        fae_loader_free(&threads[i].loader);
    }
    close(ended_fd);
    return err;
}

static enum fae_err check_sizes(const struct fae_load_opts *opts, char *why, size_t size)
{
    uint64_t n_open = (uint64_t)opts->conns * opts->depth, bytes = opts->raw_request.len;

    for (unsigned i = 0; opts->mix && i < opts->mix->n; i++)
        if (opts->mix->methods[i].bytes_max > bytes)
            bytes = opts->mix->methods[i].bytes_max;
    if (n_open > FAE_LOAD_OPEN_MAX)
        snprintf(why, size, "%u connections of %u calls are more than %d", opts->conns, opts->depth, FAE_LOAD_OPEN_MAX);
    else if (n_open * bytes > FAE_LOAD_UNSENT_MAX)
        snprintf(why, size, "%u connections of %u requests of %llu bytes are more than %llu MiB", opts->conns,
                 opts->depth, (unsigned long long)bytes, FAE_LOAD_UNSENT_MAX / FAE_MIB);
    else
        return FAE_OK;
    return FAE_LIMIT;
}

enum fae_err fae_load_run(const struct fae_load_opts *wanted, struct fae_load_result *result, char *why, size_t size)
{
    struct sigaction quiet = { .sa_handler = on_interrupt }, before;
    struct thread threads[FAE_LOAD_THREADS_MAX] = { { 0 } };
    struct fae_load_opts opts = *wanted;
    enum fae_err err = check_sizes(&opts, why, size);

    if (err)
        return err;
    if (opts.threads > FAE_LOAD_THREADS_MAX)
        opts.threads = FAE_LOAD_THREADS_MAX;
    if (opts.threads > opts.conns)
        opts.threads = opts.conns;
    if (opts.threads == 0)
        opts.threads = 1;
    raise_nofile();
    atomic_store(&interrupted, false);
    sigaction(SIGINT, &quiet, &before);
    err = open_and_run(&opts, threads, result, why, size);
    sigaction(SIGINT, &before, NULL);
    return err;
}
