/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Runs on the worker's loop, between turns: no Lua code is under way.
 */
#include "proc/answer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"
#include "proc/mail.h"
#include "proc/serving.h"
#include "rpc/access.h"
#include "rpc/server.h"
#include "rpc/session.h"
#include "vm/vm.h"

/* Lines go out in as few mails as they fit; the last one tells. */
static void reply(struct fae_mailboxes *mail, const struct fae_mail *question, const struct fae_buf *lines)
{
    const char *at = (const char *)lines->data;
    size_t left = lines->len;
    bool last;

    do {
        size_t n = left;

        if (n > FAE_MAIL_BODY_MAX) {
            const char *nl = memrchr(at, '\n', FAE_MAIL_BODY_MAX);

            n = nl ? (size_t)(nl - at) + 1 : FAE_MAIL_BODY_MAX;
        }
        last = n == left;
        if (fae_mail_send(mail, question->from_slot, FAE_MAIL_ANSWER,
                          fae_answer_arg(fae_answer_question(question->arg), last), at, n)) {
            FAE_WARN("an answer to the supervisor does not fit its mailbox");
            return;
        }
        at += n;
        left -= n;
    } while (!last);
}

/* ---- sessions ---- */

struct found {
    struct fae_session **items;
    unsigned n, cap;
};

static void find(struct fae_session *s, void *arg)
{
    struct found *found = arg;

    if (found->n == found->cap) {
        found->cap = found->cap ? found->cap * 2 : 256;
        found->items = fae_realloc(found->items, found->cap * sizeof *found->items);
    }
    found->items[found->n++] = s;
}

static uint32_t unsent(const struct fae_session *s)
{
    return (uint32_t)(s->out.len - s->out_sent);
}

/* Calls in flight, then unsent answers, then the newest. */
static int by_load(const void *a, const void *b)
{
    const struct fae_session *x = *(struct fae_session *const *)a, *y = *(struct fae_session *const *)b;

    if (x->n_calls != y->n_calls)
        return x->n_calls < y->n_calls ? 1 : -1;
    if (unsent(x) != unsent(y))
        return unsent(x) < unsent(y) ? 1 : -1;
    return x->id < y->id ? 1 : -1;
}

/* Who it showed to be, and what it may: words of the configuration, which a row holds without blanks. */
static void add_caller(const struct fae_access *access, const struct fae_caller *caller, struct fae_buf *out)
{
    size_t at;

    fae_buf_printf(out, " who=");
    at = out->len;
    if (!fae_access_who(access, caller->who, out))
        fae_buf_add(out, "-", 1);
    for (; at < out->len; at++)
        if (out->data[at] <= ' ')
            out->data[at] = '_';
    fae_buf_printf(out, " roles=");
    at = out->len;
    fae_access_words(access, caller->roles, out);
    if (at == out->len)
        fae_buf_add(out, "-", 1);
    for (; at < out->len; at++)
        if (out->data[at] == ' ')
            out->data[at] = ',';
}

static void add_session(const struct fae_serving *serving, const struct fae_session *s, struct fae_buf *out)
{
    const struct fae_listener *listener = &serving->opts.listeners[s->listener];
    char peer[FAE_ADDR_TEXT];

    fae_session_peer(s, peer);
    fae_buf_printf(
        out, "%u:%" PRIu32 " peer=%s listener=%.*s age_s=%" PRIu32 " calls=%" PRIu32 " in_flight=%u unsent=%" PRIu32,
        serving->opts.slot, s->id, peer, (int)strcspn(listener->text, ":"), listener->text,
        ((uint32_t)serving->loop.now_ms - s->opened_ms) / 1000, s->n_made, (unsigned)s->n_calls, unsent(s));
    if (fae_access_on(serving->access))
        add_caller(serving->access, &s->own, out);
    fae_buf_add(out, "\n", 1);
}

static void answer_sessions(struct fae_serving *serving, const struct fae_session_question *q, struct fae_buf *out)
{
    struct found found = { 0 };
    unsigned n;

    fae_server_each_session(serving->server, find, &found);
    if (found.n)
        qsort(found.items, found.n, sizeof *found.items, by_load);
    n = found.n < q->n ? found.n : q->n;
    if (n > FAE_SESSIONS_SHOWN_MAX)
        n = FAE_SESSIONS_SHOWN_MAX;
    for (unsigned i = 0; i < n && out->len < FAE_ANSWER_BYTES_MAX; i++)
        add_session(serving, found.items[i], out);
    free(found.items);
}

bool fae_answer_is_peer(const char *pattern, const char *peer)
{
    const char *bare = strncmp(peer, "tcp://", 6) == 0 || strncmp(peer, "tls://", 6) == 0 ? peer + 6 : peer;
    const char *port = strrchr(bare, ':');
    size_t len = strlen(pattern);

    if (strcmp(pattern, peer) == 0 || strcmp(pattern, bare) == 0)
        return true;
    if (bare == peer || !port)
        return false;
    if (bare[0] == '[' && len && pattern[0] != '[') /* "::1" for "[::1]" */
        return len + 2 == (size_t)(port - bare) && memcmp(pattern, bare + 1, len) == 0;
    return len == (size_t)(port - bare) && memcmp(pattern, bare, len) == 0;
}

static void answer_close(struct fae_serving *serving, const struct fae_session_question *q, struct fae_buf *out)
{
    struct found found = { 0 };
    char peer[FAE_ADDR_TEXT];

    fae_server_each_session(serving->server, find, &found);
    for (unsigned i = 0; i < found.n; i++) {
        struct fae_session *s = found.items[i];

        fae_session_peer(s, peer);
        if (q->id ? s->id != q->id : !fae_answer_is_peer(q->peer, peer))
            continue;
        if (out->len < FAE_ANSWER_BYTES_MAX)
            fae_buf_printf(out, "%u:%" PRIu32 " peer=%s in_flight=%u\n", serving->opts.slot, s->id, peer,
                           (unsigned)s->n_calls);
        fae_server_close_session(s);
    }
    free(found.items);
}

/* ---- garbage ---- */

static void answer_gc(struct fae_serving *serving, struct fae_buf *out)
{
    uint64_t before, since_ns = fae_now_ns();

    fae_vm_tick(serving->vm);
    before = FAE_STAT_GET(serving->slot->lua_bytes);
    fae_vm_collect(serving->vm, 0);
    fae_vm_tick(serving->vm);
    fae_buf_printf(out, "worker-%u before=%" PRIu64 " after=%" PRIu64 " us=%" PRIu64 "\n", serving->opts.slot, before,
                   FAE_STAT_GET(serving->slot->lua_bytes), (fae_now_ns() - since_ns) / 1000);
}

bool fae_answer(struct fae_serving *serving, struct fae_mailboxes *mail, const struct fae_mail *question)
{
    struct fae_session_question q = { 0 };
    struct fae_buf lines = { 0 };

    if (question->len == sizeof q)
        memcpy(&q, question->body, sizeof q);
    q.peer[sizeof q.peer - 1] = '\0';
    switch (question->type) {
    case FAE_MAIL_SESSIONS: answer_sessions(serving, &q, &lines); break;
    case FAE_MAIL_SESSION_CLOSE: answer_close(serving, &q, &lines); break;
    case FAE_MAIL_GC: answer_gc(serving, &lines); break;
    default: return false;
    }
    reply(mail, question, &lines);
    fae_buf_fini(&lines);
    return true;
}
