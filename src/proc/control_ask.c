/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A question goes from worker to worker:
 *
 *   waiting (in its client) -> asked worker 0 -> ... -> asked worker n-1 -> the client has its OK
 *                                 \_ silent: a line says so, and on _/
 */
#include "proc/control_ask.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"
#include "proc/answer.h"
#include "proc/children.h"
#include "proc/control_verbs.h"
#include "proc/mail.h"
#include "proc/node.h"
#include "proc/runconf.h"
#include "rpc/stats.h"

#define SESSIONS_SHOWN 20
#define TOTAL_MS 3000 /* of questions that every worker answers at once */

static const struct kind {
    uint32_t mail;
    unsigned worker_ms, total_ms;
    const char *what; /* of its lines */
} kinds[FAE_ASK_KINDS] = {
    [FAE_ASK_SESSIONS] = { FAE_MAIL_SESSIONS, 500, TOTAL_MS, "shown" },
    [FAE_ASK_SESSION_CLOSE] = { FAE_MAIL_SESSION_CLOSE, 500, TOTAL_MS, "closed" },
    /* Half a gigabyte of Lua objects takes a second. */
    [FAE_ASK_GC] = { FAE_MAIL_GC, 4000, 25000, "collected" },
};

static struct fae_control_client *find_client(struct fae_node *node, uint64_t id)
{
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++)
        if (node->control.clients[i].fd >= 0 && node->control.clients[i].id == id)
            return &node->control.clients[i];
    return NULL;
}

/* ---- from worker to worker ---- */

static void pass_over(struct fae_node *node, struct fae_control_client *client, const char *why)
{
    char name[16];

    fae_buf_printf(&client->out, "%s %s\n", fae_slot_name(node->shared.slots, node->control.ask.slot, name), why);
}

static bool ask_worker(struct fae_node *node, struct fae_control_client *client, uint64_t now_ms)
{
    struct fae_ask *ask = &node->control.ask;
    const struct kind *kind = &kinds[client->asks];
    struct fae_slot *slot = fae_node_slot(node, ask->slot);
    uint32_t state = FAE_STAT_GET(slot->state);

    if (!node->children[ask->slot].pid || (state != FAE_SLOT_READY && state != FAE_SLOT_DRAINING)) {
        pass_over(node, client, "state=dead");
    } else if (now_ms > FAE_STAT_GET(slot->heartbeat_ms) + kind->worker_ms) {
        pass_over(node, client, "state=silent");
    } else if (now_ms >= ask->total_until_ms) {
        pass_over(node, client, "state=not-asked");
    } else if (fae_mail_send(&node->shared.mail, ask->slot, kind->mail, fae_answer_arg(ask->question, false),
                             &client->question, sizeof client->question)) {
        pass_over(node, client, "state=unreachable");
    } else {
        ask->until_ms = now_ms + kind->worker_ms;
        return true;
    }
    return false;
}

static uint64_t n_sessions(struct fae_node *node)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < node->n_workers; i++)
        n += FAE_STAT_GET(fae_node_slot(node, i)->n_sessions);
    return n;
}

static void finish(struct fae_node *node, struct fae_control_client *client)
{
    struct fae_ask *ask = &node->control.ask;
    char text[80];

    if (client->asks == FAE_ASK_SESSION_CLOSE && ask->n_lines == 0) {
        fae_control_err(client, FAE_NOT_FOUND, "no such session");
    } else {
        int n = snprintf(text, sizeof text, "%u %s", ask->n_lines, kinds[client->asks].what);

        if (client->asks == FAE_ASK_SESSIONS)
            snprintf(text + n, sizeof text - (size_t)n, " of %" PRIu64, n_sessions(node));
        fae_control_ok(client, text);
    }
    client->asks = FAE_ASK_NOTHING;
    ask->client = 0;
}

/* Asks the worker whose turn it is, or the next that can be asked. */
static void go_on(struct fae_node *node, struct fae_control_client *client, uint64_t now_ms)
{
    struct fae_ask *ask = &node->control.ask;

    for (; ask->slot < node->n_workers; ask->slot++)
        if (client->question.slot == ask->slot || client->question.slot == FAE_EVERY_WORKER)
            if (ask_worker(node, client, now_ms))
                return;
    finish(node, client);
}

static void start_next(struct fae_node *node, uint64_t now_ms)
{
    struct fae_control_client *first = NULL;
    struct fae_ask *ask = &node->control.ask;

    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++) {
        struct fae_control_client *client = &node->control.clients[i];

        if (client->fd >= 0 && client->asks && (!first || client->id < first->id))
            first = client;
    }
    if (!first)
        return;
    *ask = (struct fae_ask){ .client = first->id,
                             .question = (ask->question + 1) & INT32_MAX,
                             .total_until_ms = now_ms + kinds[first->asks].total_ms };
    go_on(node, first, now_ms);
}

void fae_control_ask_step(struct fae_node *node, uint64_t now_ms)
{
    struct fae_ask *ask = &node->control.ask;
    struct fae_control_client *client = find_client(node, ask->client);

    if (!client)
        ask->client = 0;
    if (ask->client && (now_ms >= ask->until_ms || !node->children[ask->slot].pid)) {
        pass_over(node, client, "state=silent");
        ask->slot++;
        go_on(node, client, now_ms);
    }
    /* Questions that nobody is there to answer end at once. */
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS && !ask->client; i++)
        start_next(node, now_ms);
    if (ask->client)
        fae_node_wake_at(node, ask->until_ms);
}

void fae_control_ask_mail(struct fae_node *node, const struct fae_mail *mail)
{
    struct fae_ask *ask = &node->control.ask;
    struct fae_control_client *client = find_client(node, ask->client);

    if (mail->type != FAE_MAIL_ANSWER || !client || mail->from_slot != ask->slot ||
        fae_answer_question(mail->arg) != ask->question)
        return;
    fae_control_lines(&client->out, (const char *)mail->body, mail->len);
    for (uint32_t i = 0; i < mail->len; i++)
        ask->n_lines += mail->body[i] == '\n';
    if (!(mail->arg & 1))
        return;
    ask->slot++;
    go_on(node, client, fae_now_ms());
}

/* ---- verbs that ask ---- */

static bool read_count(const char *tail, uint32_t *n_out)
{
    if (!*tail || tail[strspn(tail, "0123456789")] || strlen(tail) > 9)
        return false;
    *n_out = (uint32_t)atoi(tail);
    return *n_out > 0;
}

/* "WORKER:ID" or "peer=ADDRESS". */
static bool read_session(struct fae_node *node, struct fae_control_client *client, const char *tail)
{
    struct fae_session_question *q = &client->question;
    char *end;
    unsigned long slot;

    if (strncmp(tail, "peer=", 5) == 0) {
        snprintf(q->peer, sizeof q->peer, "%s", tail + 5);
        return tail[5] && strlen(tail + 5) < sizeof q->peer;
    }
    slot = strtoul(tail, &end, 10);
    if (end == tail || *end != ':' || slot >= node->n_workers || !read_count(end + 1, &q->id))
        return false;
    q->slot = (uint32_t)slot;
    return true;
}

void fae_control_do_ask(struct fae_node *node, struct fae_control_client *client, int kind, const char *tail)
{
    struct fae_session_question *q = &client->question;

    *q = (struct fae_session_question){ .slot = FAE_EVERY_WORKER, .n = SESSIONS_SHOWN };
    if (kind == FAE_ASK_SESSIONS && *tail && !read_count(tail, &q->n)) {
        fae_control_err(client, FAE_BAD_ARGS, "usage: sessions [N]: how many of each worker");
        return;
    }
    if (kind == FAE_ASK_SESSION_CLOSE && !read_session(node, client, tail)) {
        fae_control_err(client, FAE_BAD_ARGS, "usage: session-close WORKER:ID|peer=ADDRESS");
        return;
    }
    client->asks = (uint8_t)kind;
}

/* ---- doors ---- */

static const char *why_not_drain(struct fae_node *node, unsigned slot)
{
    unsigned n_ready = 0;

    for (unsigned i = 0; i < node->n_workers; i++)
        n_ready += i != slot && fae_children_ready(node, i);
    if (node->phase != FAE_NODE_SERVING)
        return "the node is not serving";
    if (!fae_children_ready(node, slot))
        return "that worker is not ready";
    return n_ready ? NULL : "no other worker would be left to serve";
}

static void drain_worker(struct fae_node *node, struct fae_control_client *client, unsigned slot)
{
    const char *why = why_not_drain(node, slot);
    char text[80];

    if (!why && fae_mail_send(&node->shared.mail, slot, FAE_MAIL_DRAIN, node->config.drain_ms, NULL, 0))
        why = "it cannot be told";
    if (why) {
        fae_control_err(client, FAE_UNAVAILABLE, why);
        return;
    }
    node->children[slot].expected = true;
    FAE_INFO("worker-%u finishes its calls and is replaced, as an operator said", slot);
    snprintf(text, sizeof text, "worker-%u finishes its calls and is replaced", slot);
    fae_control_ok(client, text);
}

void fae_control_do_drain(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    _Atomic uint32_t *doors = &node->shared.slots->doors;
    size_t digits = strspn(tail, "0123456789");

    (void)arg;
    if (*tail) {
        if (tail[digits] || digits > 3 || (unsigned)atoi(tail) >= node->n_workers)
            fae_control_err(client, FAE_BAD_ARGS, "usage: drain [WORKER]: its number");
        else
            drain_worker(node, client, (unsigned)atoi(tail));
        return;
    }
    if (FAE_STAT_GET(*doors) == FAE_DOORS_STOPPING) {
        fae_control_err(client, FAE_DRAINING, "the node is stopping");
        return;
    }
    if (atomic_exchange(doors, FAE_DOORS_CLOSED) == FAE_DOORS_OPEN)
        FAE_WARN("drained by an operator: new connections are refused until `fae ctl undrain`");
    fae_control_ok(client, "new connections are refused until undrain");
}

void fae_control_do_undrain(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    _Atomic uint32_t *doors = &node->shared.slots->doors;

    (void)arg;
    (void)tail;
    if (FAE_STAT_GET(*doors) == FAE_DOORS_STOPPING) {
        fae_control_err(client, FAE_DRAINING, "the node is stopping");
        return;
    }
    if (atomic_exchange(doors, FAE_DOORS_OPEN) == FAE_DOORS_CLOSED)
        FAE_INFO("undrained: connections are taken again");
    fae_control_ok(client, "connections are taken");
}

/* ---- what the supervisor knows ---- */

void fae_control_do_servants(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    struct fae_bundle_file file;
    struct fae_bundle bundle;
    struct fae_buf rows = { 0 };
    size_t cursor = 0;
    char text[80];

    (void)arg;
    (void)tail;
    if (node->committed.fd >= 0 && fae_stored_map(node->committed.fd, &bundle) == FAE_OK) {
        while (fae_bundle_next(&bundle, &cursor, &file))
            if (strcmp(file.path, FAE_RUNCONF_PATH) != 0)
                fae_buf_printf(&rows, "%s bytes=%zu\n", file.path, file.len);
        fae_stored_unmap(&bundle);
    }
    fae_control_lines(&client->out, (const char *)rows.data, rows.len);
    fae_buf_fini(&rows);
    snprintf(text, sizeof text, "generation %" PRIu32 ", previous %" PRIu32, node->committed.generation,
             node->previous.fd >= 0 ? node->previous.generation : 0);
    fae_control_ok(client, text);
}

/* A row a method that was called: its totals and the buckets of its histogram (base/hist.h) that are not empty, so that
 * whoever asks twice knows what happened between. */
void fae_control_do_hist(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    const struct fae_stats *stats = node->shared.stats;
    unsigned n_rows = fae_stats_n_rows(stats);
    struct fae_method_sum sum;
    struct fae_buf rows = { 0 };

    (void)arg;
    (void)tail;
    for (unsigned i = 0; i <= n_rows; i++) {
        unsigned row = i < n_rows ? i : FAE_METHODS_MAX - 1;

        fae_stats_sum_method(stats, node->n_workers, row, &sum);
        if (sum.n_calls == 0)
            continue;
        fae_buf_printf(&rows, "%s calls=%" PRIu64 " errors=%" PRIu64 " slow=%" PRIu64 " hist=", stats->names[row],
                       sum.n_calls, sum.n_errors, sum.n_slow);
        for (unsigned b = 0; b < FAE_HIST_BUCKETS; b++) {
            uint64_t n = 0;

            for (unsigned w = 0; w < node->n_workers; w++)
                n += FAE_STAT_GET(stats->workers[w].methods[row].latency.n[b]);
            if (n)
                fae_buf_printf(&rows, "%u:%" PRIu64 ",", b, n);
        }
        fae_buf_add(&rows, "\n", 1);
    }
    fae_control_lines(&client->out, (const char *)rows.data, rows.len);
    fae_buf_fini(&rows);
    fae_control_ok(client, "");
}
