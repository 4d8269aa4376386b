/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Loop, Lua state and server as one; runs on the worker's only loop thread.
 */
#include "proc/serving.h"

#include "backend/backends.h"
#include "backend/upstream.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/log.h"
#include "net/listen.h"
#include "net/tls.h"
#include "proc/runconf.h"
#include "proc/stored.h"
#include "rpc/access.h"
#include "rpc/series.h"
#include "rpc/server.h"
#include "vm/vm.h"

static bool on_turn(void *arg)
{
    struct fae_serving *s = arg;
    bool more = fae_server_turn(s->server);

    FAE_STAT_SET(s->slot->heartbeat_ms, s->loop.now_ms);
    if (s->draining && fae_server_drained(s->server))
        fae_loop_stop(&s->loop);
    return more;
}

static void on_sleep(void *arg, bool asleep)
{
    FAE_STAT_SET(((struct fae_serving *)arg)->slot->asleep, asleep);
}

static void start_tick(struct fae_serving *s)
{
    fae_timer_start(&s->tick, FAE_TICK_MS);
    s->tick_due_ns = fae_now_ns() + FAE_TICK_MS * 1000000ull;
}

/* How late the tick is tells how long whatever comes now has to wait for its turn. */
static void count_lag(struct fae_serving *s)
{
    struct fae_worker_stats *stats = &s->opts.shared->stats->workers[s->opts.slot];
    uint64_t now_ns = fae_now_ns(), lag_ns = now_ns > s->tick_due_ns ? now_ns - s->tick_due_ns : 0;

    fae_timing_add(&stats->lag, lag_ns);
    FAE_STAT_SET(stats->lag_last_ns, lag_ns);
}

static void look_at_doors(struct fae_serving *s)
{
    fae_server_doors(s->server, FAE_STAT_GET(s->opts.shared->slots->doors) == FAE_DOORS_CLOSED);
}

static void on_tick(void *arg)
{
    struct fae_serving *s = arg;

    count_lag(s);
    fae_backends_tick(s->backends);
    fae_vm_tick(s->vm);
    fae_vm_woken(s->vm);
    look_at_doors(s);
    fae_server_tick(s->server);
    if (s->draining && fae_now_ms() >= s->drain_until_ms) {
        fae_server_abort(s->server);
        fae_loop_stop(&s->loop);
    }
    start_tick(s);
}

static void rouse(void *arg, unsigned slot)
{
    fae_mail_rouse(&((struct fae_shared *)arg)->mail, slot);
}

static void make_backends(struct fae_serving *s)
{
    struct fae_backends_opts opts = { .loop = &s->loop,
                                      .config = s->opts.config,
                                      .upstreams = s->opts.shared->upstreams,
                                      .slot = s->opts.slot,
                                      .n_workers = s->opts.shared->slots->n_workers,
                                      .results_max = s->opts.shared->slots->results_max };

    s->backends = fae_backends_new(&opts);
}

static enum fae_err make_vm(struct fae_serving *s)
{
    struct fae_vm_opts opts = { .config = s->opts.config,
                                .loop = &s->loop,
                                .slots = s->opts.shared->slots,
                                .slot = s->opts.slot,
                                .stats = s->opts.shared->stats,
                                .slowlog = s->opts.shared->slowlog,
                                .series = s->opts.shared->series,
                                .access = s->access,
                                .gates = s->opts.shared->gates,
                                .stores = &s->opts.shared->stores,
                                .backends = s->backends,
                                .recycle = s->opts.recycle,
                                .recycle_arg = s->opts.recycle_arg };

    s->vm = fae_vm_new(&opts);
    return s->vm ? FAE_OK : FAE_NO_MEMORY;
}

static void make_server(struct fae_serving *s)
{
    struct fae_server_opts opts = { .config = s->opts.config,
                                    .loop = &s->loop,
                                    .slots = s->opts.shared->slots,
                                    .slot = s->opts.slot,
                                    .stats = s->opts.shared->stats,
                                    .turns = s->opts.shared->turns,
                                    .access = s->access,
                                    .gates = s->opts.shared->gates,
                                    .hosts = s->opts.shared->hosts,
                                    .listeners = s->opts.listeners,
                                    .n_listeners = s->opts.n_listeners,
                                    .ops = &fae_vm_service,
                                    .service = s->vm,
                                    .rouse = rouse,
                                    .rouse_arg = s->opts.shared };

    s->server = fae_server_new(&opts);
}

enum fae_err fae_serving_init(struct fae_serving *s, const struct fae_serving_opts *opts, int bundle_fd,
                              uint32_t generation, struct fae_buf *why)
{
    enum fae_err err;

    *s = (struct fae_serving){ .opts = *opts, .slot = &opts->shared->slots->slots[opts->slot] };
    err = fae_loop_init(&s->loop);
    if (err) {
        fae_buf_printf(why, "cannot make an event loop: %s\n", fae_err_text(err));
        return err;
    }
    fae_stats_reap(opts->shared->stats, opts->slot);
    fae_series_reap(opts->shared->series, opts->slot);
    fae_upstreams_reap(opts->shared->upstreams, opts->slot);
    s->access = fae_access_new(opts->config);
    make_backends(s);
    err = make_vm(s);
    if (err) {
        fae_buf_printf(why, "cannot make a Lua state: %s\n", fae_err_text(err));
        goto fail;
    }
    err = fae_serving_prepare(s, bundle_fd, generation, why);
    if (err)
        goto fail;
    fae_serving_switch(s);
    make_server(s);
    s->loop.after_turn = on_turn;
    s->loop.on_sleep = on_sleep;
    s->loop.arg = s;
    fae_timer_init(&s->tick, &s->loop, on_tick, s);
    return FAE_OK;

fail:
    fae_serving_fini(s);
    return err;
}

void fae_serving_fini(struct fae_serving *s)
{
    struct fae_vm *vm = s->vm;

    fae_timer_stop(&s->tick);
    fae_runconf_free(&s->next);
    fae_server_free(&s->server);
    s->vm = NULL; /* a nudge from now on finds nothing */
    fae_vm_free(&vm);
    fae_backends_free(&s->backends);
    fae_access_free(&s->access);
    fae_loop_fini(&s->loop);
}

void fae_serving_accept(struct fae_serving *s)
{
    look_at_doors(s);
    fae_server_accept(s->server);
    FAE_STAT_SET(s->slot->heartbeat_ms, fae_now_ms());
    atomic_store(&s->slot->state, FAE_SLOT_READY);
}

void fae_serving_run(struct fae_serving *s)
{
    start_tick(s);
    fae_loop_run(&s->loop);
}

enum fae_err fae_serving_prepare(struct fae_serving *s, int bundle_fd, uint32_t generation, struct fae_buf *why)
{
    struct fae_bundle bundle;
    char text[512];
    enum fae_err err;

    fae_serving_abort(s);
    err = fae_runconf_load_fd(&s->next, bundle_fd, text, sizeof text);
    if (err) {
        fae_buf_printf(why, "%s\n", text);
        return err;
    }
    err = fae_stored_map(bundle_fd, &bundle);
    if (err) {
        fae_buf_printf(why, "cannot map the bundle: %s\n", fae_err_text(err));
        goto fail;
    }
    /* Servants load under the configuration they will run with. */
    if (s->next)
        fae_config_swap(s->opts.config, s->next);
    err = fae_vm_prepare(s->vm, &bundle, generation, why);
    if (s->next)
        fae_config_swap(s->opts.config, s->next);
    fae_stored_unmap(&bundle);
    if (err)
        goto fail;
    s->prepared = generation;
    return FAE_OK;

fail:
    fae_runconf_free(&s->next);
    return err;
}

/* A process that starts late was given what the node read when it started. */
static void renew_certificates(struct fae_serving *s)
{
    char text[700];

    for (unsigned i = 0; i < s->opts.n_listeners; i++) {
        const struct fae_listener *ln = &s->opts.listeners[i];
        bool changed;

        if (!ln->tls)
            continue;
        if (fae_tls_ctx_renew(ln->tls, &changed, text, sizeof text)) {
            FAE_WARN("%s: the certificate stays as it is: %s", ln->text, text);
        } else if (changed && s->opts.slot == 0) {
            fae_tls_ctx_describe(ln->tls, text, sizeof text);
            FAE_INFO("%s: new certificate %s", ln->text, text);
        }
    }
}

void fae_serving_switch(struct fae_serving *s)
{
    FAE_ASSERT(s->prepared != 0);
    renew_certificates(s);
    fae_runconf_adopt(s->opts.config, &s->next);
    fae_access_update(s->access, s->opts.config);
    fae_backends_configured(s->backends);
    fae_vm_switch(s->vm);
    if (s->server)
        fae_server_configured(s->server);
    FAE_STAT_SET(s->slot->generation, s->prepared);
    s->prepared = 0;
    /* Brings n_old_calls up to date, which `reload --wait` looks at next. */
    fae_vm_tick(s->vm);
}

void fae_serving_abort(struct fae_serving *s)
{
    if (s->prepared)
        fae_vm_abort(s->vm);
    fae_runconf_free(&s->next);
    s->prepared = 0;
}

void fae_serving_woken(struct fae_serving *s)
{
    fae_vm_woken(s->vm);
}

void fae_serving_interrupt(void *arg)
{
    struct fae_serving *s = arg;

    if (s->vm)
        fae_vm_interrupt(s->vm);
}

void fae_serving_drain(struct fae_serving *s, uint64_t within_ms)
{
    uint64_t until_ms = fae_now_ms() + within_ms;

    if (s->draining && until_ms >= s->drain_until_ms)
        return;
    s->drain_until_ms = until_ms;
    if (s->draining)
        return;
    s->draining = true;
    atomic_store(&s->slot->state, FAE_SLOT_DRAINING);
    fae_serving_abort(s);
    fae_server_drain(s->server);
}
