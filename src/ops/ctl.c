/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One small object a question: socket, what came so far, a timer for its deadline. A question that could not even be
 * sent is answered by that timer at once.
 */
#include "ops/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/limits.h"
#include "wire/ctlline.h"

struct ask {
    struct fae_ctl *ctl;
    struct fae_list node;
    struct fae_watch watch;
    struct fae_timer timer;
    int fd;
    enum fae_err failed; /* before it was sent */
    struct fae_buf in;
    fae_ctl_fn fn;
    void *arg;
};

void fae_ctl_init(struct fae_ctl *ctl, struct fae_loop *loop, const char *run_dir)
{
    *ctl = (struct fae_ctl){ .loop = loop };
    fae_list_init(&ctl->asks);
    snprintf(ctl->path, sizeof ctl->path, "%s/fae.ctl", run_dir);
}

static void finish(struct ask *ask, const struct fae_ctl_answer *answer)
{
    fae_watch_close(&ask->watch);
    fae_timer_stop(&ask->timer);
    if (ask->fd >= 0)
        close(ask->fd);
    fae_list_del(&ask->node);
    ask->ctl->n_asks--;
    ask->fn(answer, ask->arg);
    fae_buf_fini(&ask->in);
    free(ask);
}

static void fail(struct ask *ask, enum fae_err err)
{
    static const struct {
        enum fae_err err;
        const char *text;
    } texts[] = {
        { FAE_BUSY, "too many questions to the supervisor at once" },
        { FAE_UNAVAILABLE, "the supervisor cannot be reached" },
        { FAE_TIMEOUT, "the supervisor has not answered in time" },
        { FAE_LIMIT, "the supervisor's answer is too long" },
        { FAE_CLOSED, "the supervisor went away before it answered" },
    };
    struct fae_ctl_answer answer = { .err = err, .text = "", .last = fae_err_text(err) };

    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].err == err)
            answer.last = texts[i].text;
    answer.last_len = strlen(answer.last);
    finish(ask, &answer);
}

static void on_timer(void *arg)
{
    struct ask *ask = arg;

    fail(ask, ask->failed ? ask->failed : FAE_TIMEOUT);
}

static void on_readable(int fd, short what, void *arg)
{
    struct ask *ask = arg;
    ssize_t n = recv(fd, fae_buf_room(&ask->in, 16 * FAE_KIB), 16 * FAE_KIB, MSG_DONTWAIT);
    struct fae_ctlline last;

    (void)what;
    if (n > 0)
        ask->in.len += (size_t)n;
    if (n > 0 && fae_ctlline_last(&ask->in, &last))
        finish(ask, &(struct fae_ctl_answer){ .err = last.err,
                                              .text = (const char *)ask->in.data,
                                              .text_len = last.at,
                                              .last = last.text,
                                              .last_len = last.len });
    else if (ask->in.len > FAE_CTL_ANSWER_MAX)
        fail(ask, FAE_LIMIT);
    else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        fail(ask, FAE_CLOSED);
}

/* A line is so short that a new socket takes it whole. */
static enum fae_err say(struct ask *ask, const char *line)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct fae_buf out = { 0 };
    ssize_t sent;

    _Static_assert(sizeof ask->ctl->path <= sizeof un.sun_path, "the path fits");
    strcpy(un.sun_path, ask->ctl->path);
    ask->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (ask->fd < 0)
        return FAE_UNAVAILABLE;
    if (connect(ask->fd, (struct sockaddr *)&un, sizeof un) != 0)
        return errno == EAGAIN ? FAE_BUSY : FAE_UNAVAILABLE;
    fae_buf_printf(&out, "%s\n", line);
    do
        sent = send(ask->fd, out.data, out.len, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    sent = sent == (ssize_t)out.len;
    fae_buf_fini(&out);
    /* Refused and closed already: what it said is there to read. */
    if (!sent && errno != EPIPE)
        return FAE_UNAVAILABLE;
    return fae_watch_open(&ask->watch, ask->ctl->loop, ask->fd, FAE_READABLE, on_readable, ask);
}

void fae_ctl_ask_later(struct fae_ctl *ctl, const char *line, uint64_t within_ms, fae_ctl_fn fn, void *arg)
{
    struct ask *ask = fae_zalloc(sizeof *ask);

    FAE_ASSERT(!strchr(line, '\n'));
    ask->ctl = ctl;
    ask->fd = -1;
    ask->fn = fn;
    ask->arg = arg;
    fae_list_add_tail(&ctl->asks, &ask->node);
    fae_timer_init(&ask->timer, ctl->loop, on_timer, ask);
    ask->failed = ++ctl->n_asks > FAE_CTL_ASKS_MAX ? FAE_BUSY : say(ask, line);
    fae_timer_start(&ask->timer, ask->failed ? 0 : within_ms);
}

void fae_ctl_fini(struct fae_ctl *ctl)
{
    if (!ctl->loop)
        return;
    FAE_LIST_EACH(node, &ctl->asks)
        fail(FAE_CONTAINER(node, struct ask, node), FAE_CLOSED);
}
