/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The reload state machine, in the supervisor. Workers are prepared one at a time, so that at most one of them is busy
 * compiling while the others serve. A worker that is not there is skipped: it will load what is committed. One that
 * starts meanwhile is waited for, since it may have loaded the old bundle.
 */
#include "proc/reload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hist.h"
#include "proc/children.h"
#include "proc/life.h"
#include "proc/mail.h"
#include "proc/node.h"
#include "proc/runconf.h"
#include "proc/servants.h"

#define PREPARE_MS 5000
#define SWITCH_MS 5000

static const char *const words[] = {
    [FAE_RELOAD] = "reload",
    [FAE_RELOAD_DRY_RUN] = "dry run",
    [FAE_RELOAD_ROLLBACK] = "rollback",
};

void fae_reload_init(struct fae_reload *r)
{
    *r = (struct fae_reload){ .checker = FAE_CHECKER_NONE, .next = FAE_STORED_NONE, .current = -1 };
}

bool fae_reload_busy(const struct fae_reload *r)
{
    return r->state != FAE_RELOAD_IDLE;
}

static uint32_t incarnation(struct fae_node *node, unsigned slot)
{
    return FAE_STAT_GET(fae_node_slot(node, slot)->incarnation);
}

static uint64_t ticket(const struct fae_reload *r)
{
    return fae_ticket(r->attempt, r->next.generation);
}

/* ---- the end of an attempt ---- */

static void log_lines(enum fae_log_level level, const struct fae_buf *text, const char *what)
{
    const char *line = (const char *)text->data, *end;

    if (text->len == 0)
        return;
    for (end = line + text->len; line < end;) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        const char *stop = nl ? nl : end;

        if (stop > line)
            fae_log(level, "%s: %.*s", what, (int)(stop - line), line);
        line = stop + 1;
    }
}

/* Back to IDLE, then the answer: whoever gets it may start the next. */
static void finish(struct fae_node *node, enum fae_err err, const struct fae_buf *text)
{
    struct fae_reload *r = &node->reload;
    uint32_t generation = err || r->kind == FAE_RELOAD_DRY_RUN ? node->committed.generation : r->next.generation;
    uint64_t took_ms = fae_now_ms() - r->started_ms;
    struct fae_buf none = { 0 };

    if (err) {
        log_lines(FAE_LOG_WARN, text ? text : &none, words[r->kind]);
        FAE_WARN("%s: %s; generation %" PRIu32 " still serves", words[r->kind], fae_err_name(err), generation);
    } else if (r->kind == FAE_RELOAD_DRY_RUN) {
        FAE_INFO("dry run: the servants are good (%" PRIu64 " ms)", took_ms);
    } else {
        FAE_INFO("%s: generation %" PRIu32 " serves (%" PRIu64 " ms)", words[r->kind], generation, took_ms);
    }
    if (r->next.fd != node->committed.fd)
        fae_stored_close(&r->next);
    fae_runconf_free(&r->config);
    r->next = FAE_STORED_NONE;
    r->state = FAE_RELOAD_IDLE;
    r->current = -1;
    memset(r->prepared, 0, sizeof r->prepared);
    fae_control_reloaded(node, r->asker, err, generation, text);
    fae_checker_fini(&r->checker);
}

/* Before the commit point: whoever has prepared drops it. */
static void give_up(struct fae_node *node, enum fae_err err, const struct fae_buf *text)
{
    struct fae_reload *r = &node->reload;

    for (unsigned i = 0; i < node->n_workers; i++)
        if (node->children[i].pid && ((int)i == r->current || r->prepared[i] == incarnation(node, i)))
            fae_mail_send(&node->shared.mail, i, FAE_MAIL_ABORT, ticket(r), NULL, 0);
    finish(node, err, text);
}

static void __attribute__((format(printf, 3, 4)))
give_up_because(struct fae_node *node, enum fae_err err, const char *fmt, ...)
{
    struct fae_buf text = { 0 };
    va_list ap;

    va_start(ap, fmt);
    fae_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    fae_buf_add(&text, "\n", 1);
    give_up(node, err, &text);
    fae_buf_fini(&text);
}

/* ---- CHECKING ---- */

static enum fae_err open_next(struct fae_node *node)
{
    struct fae_reload *r = &node->reload;

    r->next = (struct fae_stored){ .generation = node->committed.generation + 1 };
    r->next.fd = r->kind == FAE_RELOAD_ROLLBACK ? dup(node->previous.fd) : fae_stored_new();
    return r->next.fd >= 0 ? FAE_OK : FAE_SYSTEM;
}

static void forget_all(void *arg)
{
    struct fae_node *node = arg;

    fae_children_forget(node);
    for (unsigned i = 0; i < node->n_listeners; i++)
        fae_listener_close(&node->listeners[i], false);
    if (node->has_admin)
        fae_listener_close(&node->admin, false);
}

void fae_reload_start(struct fae_node *node, enum fae_reload_kind kind, uint64_t asker)
{
    struct fae_reload *r = &node->reload;
    struct fae_servants_job job = { .config = &node->config, .opts = &node->opts };

    r->kind = kind;
    r->asker = asker;
    r->attempt++;
    r->current = -1;
    r->started_ms = fae_now_ms();
    if (kind == FAE_RELOAD_ROLLBACK && node->previous.fd < 0) {
        give_up_because(node, FAE_NOT_FOUND, "there is no earlier generation");
        return;
    }
    if (open_next(node)) {
        give_up_because(node, FAE_SYSTEM, "cannot make a memfd: %s", strerror(errno));
        return;
    }
    job.fd = r->next.fd;
    job.from = kind == FAE_RELOAD_ROLLBACK ? FAE_SERVANTS_KEPT : FAE_SERVANTS_RELOAD;
    job.generation = r->next.generation;
    if (fae_checker_start(&r->checker, fae_servants_job, &job, forget_all, node)) {
        give_up_because(node, FAE_SYSTEM, "cannot start the check: %s", strerror(errno));
        return;
    }
    r->state = FAE_RELOAD_CHECKING;
}

static void begin_preparing(struct fae_node *node, uint64_t now_ms)
{
    struct fae_reload *r = &node->reload;

    r->state = FAE_RELOAD_PREPARING;
    r->current = -1;
    memset(r->prepared, 0, sizeof r->prepared);
    /* The watchdog ends a start that hangs long before this. */
    r->deadline_ms = now_ms + PREPARE_MS * (node->n_workers + 2);
}

static void step_checking(struct fae_node *node, uint64_t now_ms)
{
    struct fae_reload *r = &node->reload;
    char why[512];
    enum fae_err err;

    fae_checker_tick(&r->checker, now_ms);
    if (!fae_checker_done(&r->checker)) {
        fae_node_wake_at(node, r->checker.deadline_ms);
        return;
    }
    err = fae_checker_result(&r->checker, node->opts.conf_path ? "configuration or servants" : "servants");
    if (err || r->kind == FAE_RELOAD_DRY_RUN) {
        finish(node, err, &r->checker.out);
        return;
    }
    /* The one that rollback brings back is sealed already. */
    if (r->kind == FAE_RELOAD && fae_stored_seal(r->next.fd)) {
        give_up_because(node, FAE_SYSTEM, "cannot seal the servants: %s", strerror(errno));
        return;
    }
    err = fae_runconf_load_fd(&r->config, r->next.fd, why, sizeof why);
    if (err) {
        give_up_because(node, err, "%s", why);
        return;
    }
    begin_preparing(node, now_ms);
}

/* ---- PREPARING ---- */

/* Workers learn from the bundle; so does ops, which need not have prepared anything. Says what has changed where both
 * the old and the new log level let it be seen. */
static void commit_config(struct fae_node *node)
{
    struct fae_reload *r = &node->reload;
    struct fae_child *ops = &node->children[node->n_workers];
    _Atomic uint32_t *level = &node->shared.slots->log_level;
    uint32_t was = atomic_load(level);

    fae_runconf_adopt(&node->config, &r->config);
    node->log.level = (enum fae_log_level)node->config.log_level;
    if (node->log.level < was)
        atomic_store(level, node->log.level);
    log_lines(FAE_LOG_INFO, &r->checker.out, words[r->kind]);
    atomic_store(level, node->log.level);
    if (ops->pid && fae_life_send(ops->life, ticket(r), node->committed.fd))
        FAE_WARN("ops takes no configuration until it is replaced");
}

static void commit(struct fae_node *node, uint64_t now_ms)
{
    struct fae_reload *r = &node->reload;

    fae_stored_close(&node->previous);
    node->previous = node->committed;
    node->committed = r->next;
    atomic_store(&node->shared.slots->generation, node->committed.generation);
    commit_config(node);
    r->state = FAE_RELOAD_SWITCHING;
    r->deadline_ms = now_ms + SWITCH_MS;
    for (unsigned i = 0; i < node->n_workers; i++) {
        if (r->prepared[i] == 0)
            continue;
        /* One that cannot even be told goes; the next loads what is committed. */
        if (fae_mail_send(&node->shared.mail, i, FAE_MAIL_SWITCH, ticket(r), NULL, 0))
            fae_children_kill(node, i);
    }
}

static void ask_to_prepare(struct fae_node *node, unsigned slot, uint64_t now_ms)
{
    struct fae_reload *r = &node->reload;

    r->current = (int)slot;
    r->deadline_ms = now_ms + PREPARE_MS;
    if (fae_life_send(node->children[slot].life, ticket(r), r->next.fd) ||
        fae_mail_send(&node->shared.mail, slot, FAE_MAIL_PREPARE, ticket(r), NULL, 0))
        give_up_because(node, FAE_UNAVAILABLE, "worker-%u takes no mail", slot);
}

static void step_preparing(struct fae_node *node, uint64_t now_ms)
{
    struct fae_reload *r = &node->reload;
    bool waits = r->current >= 0;

    if (now_ms >= r->deadline_ms) {
        if (r->current >= 0)
            give_up_because(node, FAE_TIMEOUT, "worker-%d did not prepare within %d ms", r->current, PREPARE_MS);
        else
            give_up_because(node, FAE_TIMEOUT, "a worker that was starting did not become ready");
        return;
    }
    for (unsigned i = 0; i < node->n_workers && r->current < 0; i++) {
        if (!node->children[i].pid || r->prepared[i] == incarnation(node, i))
            continue;
        waits = true;
        if (fae_children_ready(node, i)) {
            ask_to_prepare(node, i, now_ms);
            if (r->state != FAE_RELOAD_PREPARING)
                return;
        }
    }
    if (!waits)
        commit(node, now_ms);
    else
        fae_node_wake_at(node, r->deadline_ms);
}

/* ---- SWITCHING ---- */

static void step_switching(struct fae_node *node, uint64_t now_ms)
{
    struct fae_reload *r = &node->reload;
    bool waits = false;

    for (unsigned i = 0; i < node->n_workers; i++) {
        if (r->prepared[i] == 0)
            continue;
        waits = true;
        if (now_ms >= r->deadline_ms) {
            FAE_ERROR("worker-%u does not switch: killing it", i);
            fae_children_kill(node, i);
        }
    }
    if (!waits) {
        finish(node, FAE_OK, &r->checker.out);
        return;
    }
    if (now_ms >= r->deadline_ms)
        r->deadline_ms = now_ms + SWITCH_MS;
    fae_node_wake_at(node, r->deadline_ms);
}

/* ---- what happens to it ---- */

void fae_reload_step(struct fae_node *node, uint64_t now_ms)
{
    struct fae_reload *r = &node->reload;

    if (r->state == FAE_RELOAD_IDLE && r->hup && node->phase == FAE_NODE_SERVING) {
        r->hup = false;
        fae_reload_start(node, FAE_RELOAD, 0);
    }
    if (r->state == FAE_RELOAD_CHECKING)
        step_checking(node, now_ms);
    if (r->state == FAE_RELOAD_PREPARING)
        step_preparing(node, now_ms);
    if (r->state == FAE_RELOAD_SWITCHING)
        step_switching(node, now_ms);
}

static void prepare_failed(struct fae_node *node, const struct fae_mail *mail)
{
    struct fae_buf text = { 0 };

    fae_buf_add(&text, mail->body, mail->len);
    give_up(node, FAE_BAD_SERVANT, &text);
    fae_buf_fini(&text);
}

void fae_reload_mail(struct fae_node *node, const struct fae_mail *mail)
{
    struct fae_reload *r = &node->reload;
    unsigned slot = mail->from_slot;

    if (r->state == FAE_RELOAD_IDLE || mail->arg != ticket(r) || slot >= node->n_workers ||
        mail->from_incarnation != incarnation(node, slot))
        return;
    switch (mail->type) {
    case FAE_MAIL_PREPARED:
        if (r->state == FAE_RELOAD_PREPARING && r->current == (int)slot) {
            r->prepared[slot] = mail->from_incarnation;
            r->current = -1;
            r->deadline_ms = fae_now_ms() + PREPARE_MS * (node->n_workers + 2);
        }
        return;
    case FAE_MAIL_PREPARE_FAILED:
        if (r->state == FAE_RELOAD_PREPARING && r->current == (int)slot)
            prepare_failed(node, mail);
        return;
    case FAE_MAIL_SWITCHED:
        if (r->state == FAE_RELOAD_SWITCHING)
            r->prepared[slot] = 0;
        return;
    default: return; /* not about reloads */
    }
}

void fae_reload_died(struct fae_node *node, unsigned slot)
{
    struct fae_reload *r = &node->reload;

    if (slot >= node->n_workers || r->state == FAE_RELOAD_IDLE)
        return;
    if (r->state == FAE_RELOAD_PREPARING && r->current == (int)slot) {
        r->current = -1; /* nobody there to tell */
        give_up_because(node, FAE_UNAVAILABLE, "worker-%u died while it prepared", slot);
        return;
    }
    r->prepared[slot] = 0;
}

void fae_reload_cancel(struct fae_node *node)
{
    struct fae_reload *r = &node->reload;

    r->hup = false;
    if (r->state == FAE_RELOAD_CHECKING || r->state == FAE_RELOAD_PREPARING)
        give_up_because(node, FAE_DRAINING, "the node is stopping");
}
