/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The supervisor's side; what ops does is in ops_job.c.
 */
#include "proc/control_ops.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/hist.h"
#include "proc/answer.h"
#include "proc/children.h"
#include "proc/control_verbs.h"
#include "proc/mail.h"
#include "proc/node.h"

#define SILENT_MS 15000 /* ops says something each second; its loop may wait for a log on a slow disk */

static struct fae_control_client *find_client(struct fae_node *node, uint64_t id)
{
    for (unsigned i = 0; id && i < FAE_CONTROL_CLIENTS; i++)
        if (node->control.clients[i].fd >= 0 && node->control.clients[i].id == id)
            return &node->control.clients[i];
    return NULL;
}

static void end(struct fae_node *node, enum fae_err err, const char *text)
{
    struct fae_control_client *client = find_client(node, node->control.job.client);

    node->control.job.client = 0;
    if (!client)
        return;
    client->in_job = false;
    if (err)
        fae_control_err(client, err, text);
    else
        fae_control_ok(client, text);
}

static void add_number(void *arg, const char *name, const char *help, bool counter, uint64_t value)
{
    (void)help;
    (void)counter;
    if (strncmp(name, "kv_", 3) == 0)
        fae_buf_printf(arg, "%s %" PRIu64 "\n", name, value);
}

static void do_stats(struct fae_node *node, struct fae_control_client *client)
{
    struct fae_buf rows = { 0 };

    fae_stores_stats(&node->shared.stores, add_number, &rows);
    fae_control_lines(&client->out, (const char *)rows.data, rows.len);
    fae_buf_fini(&rows);
    fae_control_ok(client, "");
}

static void ask(struct fae_node *node, struct fae_control_client *client, const char *what)
{
    struct fae_control_job *job = &node->control.job;
    unsigned ops = fae_slot_ops(node->shared.slots);

    if (job->client) {
        fae_control_err(client, FAE_BUSY, "a backup or a check runs already");
        return;
    }
    job->question = (job->question + 1) & INT32_MAX;
    if (!fae_children_ready(node, ops) || fae_mail_send(&node->shared.mail, ops, FAE_MAIL_OPS_ASK,
                                                        fae_answer_arg(job->question, true), what, strlen(what))) {
        fae_control_err(client, FAE_UNAVAILABLE, "ops, which does it, cannot be told now");
        return;
    }
    job->client = client->id;
    job->incarnation = FAE_STAT_GET(fae_node_slot(node, ops)->incarnation);
    job->until_ms = fae_now_ms() + SILENT_MS;
    client->in_job = true;
}

void fae_control_do_kv(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    (void)arg;
    if (strcmp(tail, "stats") == 0)
        do_stats(node, client);
    else if (strcmp(tail, "check") == 0 || (strncmp(tail, "backup ", 7) == 0 && tail[7]))
        ask(node, client, tail);
    else
        fae_control_err(client, FAE_BAD_ARGS, "usage: kv backup DIR|check|stats");
}

void fae_control_ops_step(struct fae_node *node, uint64_t now_ms)
{
    struct fae_control_job *job = &node->control.job;
    unsigned ops = fae_slot_ops(node->shared.slots);

    if (!job->client)
        return;
    if (!node->children[ops].pid || FAE_STAT_GET(fae_node_slot(node, ops)->incarnation) != job->incarnation)
        end(node, FAE_UNAVAILABLE, "ops died meanwhile: it is not done");
    else if (now_ms >= job->until_ms)
        end(node, FAE_TIMEOUT, "ops is silent: what became of it, its log tells");
    else
        fae_node_wake_at(node, job->until_ms);
}

void fae_control_ops_mail(struct fae_node *node, const struct fae_mail *mail)
{
    struct fae_control_job *job = &node->control.job;
    struct fae_control_client *client = find_client(node, job->client);
    char text[FAE_MAIL_BODY_MAX + 1];
    size_t len;
    uint32_t code;

    if (mail->type != FAE_MAIL_OPS_ANSWER || mail->len < sizeof code || !job->client ||
        fae_answer_question(mail->arg) != job->question)
        return;
    len = mail->len - sizeof code;
    memcpy(&code, mail->body, sizeof code);
    memcpy(text, mail->body + sizeof code, len);
    text[len] = '\0';
    job->until_ms = fae_now_ms() + SILENT_MS;
    if (mail->arg & 1)
        end(node, code < FAE_ERR_COUNT ? (enum fae_err)code : FAE_INTERNAL, text);
    else if (client)
        fae_control_lines(&client->out, text, len);
}
