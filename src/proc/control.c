/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The socket of fae.ctl and its clients, a small state each. Everything is non-blocking and bounded; a client that
 * neither sends nor reads for 10 s is dropped. What the verbs do is in control_verbs.c.
 */
#include "proc/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hist.h"
#include "proc/control_verbs.h"
#include "proc/node.h"

#define IDLE_MS 10000
#define LOOK_MS 50 /* how often a wait for old calls looks: workers count once a tick */

/* ---- the socket ---- */

/* The run folder is ours alone (fae.pid), so whatever socket lies there is a dead node's. */
static bool clear_path(const char *path)
{
    struct stat st;

    if (lstat(path, &st) != 0)
        return errno == ENOENT;
    if (S_ISSOCK(st.st_mode))
        return unlink(path) == 0;
    errno = EEXIST;
    return false;
}

enum fae_err fae_control_open(struct fae_control *c, const char *run_dir, char *why_out, size_t why_size)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    mode_t mask;
    int rc;

    *c = (struct fae_control){ .fd = -1 };
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++)
        c->clients[i].fd = -1;
    snprintf(c->path, sizeof c->path, "%s/" FAE_CONTROL_NAME, run_dir);
    if (strlen(c->path) >= sizeof un.sun_path) {
        errno = ENAMETOOLONG;
        goto fail;
    }
    strcpy(un.sun_path, c->path);
    if (!clear_path(c->path))
        goto fail;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        goto fail;
    mask = umask(0177); /* from the first moment for this account only */
    rc = bind(c->fd, (struct sockaddr *)&un, sizeof un);
    umask(mask);
    if (rc == 0 && listen(c->fd, FAE_CONTROL_CLIENTS) == 0)
        return FAE_OK;

fail:
    snprintf(why_out, why_size, "%s: %s", c->path, strerror(errno));
    fae_control_close(c, false);
    return FAE_SYSTEM;
}

static void drop(struct fae_control_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    fae_buf_fini(&client->out);
    *client = (struct fae_control_client){ .fd = -1 };
}

void fae_control_forget(struct fae_control *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++)
        drop(&c->clients[i]);
}

void fae_control_close(struct fae_control *c, bool unlink_path)
{
    if (unlink_path && c->fd >= 0)
        unlink(c->path);
    fae_control_forget(c);
}

/* ---- answers ---- */

static void say_generation(struct fae_control_client *client)
{
    fae_buf_printf(&client->out, "OK generation %" PRIu32 "\n", client->generation);
}

/* Pushes out what the socket takes. */
static void flush(struct fae_control_client *client, uint64_t now_ms)
{
    ssize_t n;

    while (client->fd >= 0 && client->out.len) {
        n = send(client->fd, client->out.data, client->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            fae_buf_shift(&client->out, (size_t)n);
            client->last_ms = now_ms;
        } else if (n == 0 || errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            drop(client);
        }
    }
}

/* ---- clients ---- */

static bool is_waiting(const struct fae_control_client *client)
{
    return client->queued || client->reloading || client->old_until_ms || client->asks || client->in_job;
}

/* Copies the line that ends at nl, as text that may be shown, and moves on to the next. */
static void take_line(struct fae_control_client *client, const char *nl, char line[FAE_CONTROL_LINE + 1])
{
    size_t n = (size_t)(nl - client->in);

    memcpy(line, client->in, n);
    client->n_in -= (unsigned)n + 1;
    memmove(client->in, nl + 1, client->n_in);
    if (n > 0 && line[n - 1] == '\r')
        n--;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ')
            line[i] = '?';
    line[n] = '\0';
}

/* Runs the lines that are whole, one at a time: the next waits until this one was answered. */
static void run_lines(struct fae_node *node, struct fae_control_client *client, uint64_t now_ms)
{
    while (client->fd >= 0 && !is_waiting(client) && client->out.len == 0) {
        char line[FAE_CONTROL_LINE + 1];
        char *nl = memchr(client->in, '\n', client->n_in);

        if (!nl)
            break;
        take_line(client, nl, line);
        fae_control_run(node, client, line);
        flush(client, now_ms);
    }
    /* Not before the line ahead of it has its answer. */
    if (client->fd >= 0 && !is_waiting(client) && client->n_in == sizeof client->in &&
        !memchr(client->in, '\n', client->n_in)) {
        fae_control_err(client, FAE_LIMIT, "a line has at most 1024 bytes");
        client->n_in = 0;
        client->hung_up = true;
        flush(client, now_ms);
    }
    if (client->fd >= 0 && client->hung_up && !is_waiting(client) && client->out.len == 0 && !client->stays)
        drop(client);
}

static void receive(struct fae_control_client *client, uint64_t now_ms)
{
    ssize_t n = recv(client->fd, client->in + client->n_in, sizeof client->in - client->n_in, MSG_DONTWAIT);

    if (n > 0) {
        client->n_in += (unsigned)n;
        client->last_ms = now_ms;
    } else if (n == 0) {
        client->hung_up = true;
        /* The end of what it sent ends its line as well. */
        if (client->n_in && client->n_in < sizeof client->in && client->in[client->n_in - 1] != '\n')
            client->in[client->n_in++] = '\n';
    } else if (errno != EAGAIN && errno != EINTR) {
        drop(client);
    }
}

static void accept_one(struct fae_control *c, uint64_t now_ms)
{
    static const char full[] = "ERR BUSY too many clients of fae.ctl\n";
    int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++) {
        struct fae_control_client *client = &c->clients[i];

        if (client->fd >= 0)
            continue;
        *client = (struct fae_control_client){ .fd = fd, .id = ++c->last_id, .last_ms = now_ms };
        return;
    }
    send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

unsigned fae_control_poll(const struct fae_control *c, struct pollfd *pfds)
{
    unsigned n = 0;

    pfds[n++] = (struct pollfd){ .fd = c->fd, .events = POLLIN };
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++) {
        const struct fae_control_client *client = &c->clients[i];
        short events = client->out.len ? POLLOUT : 0;

        if (!client->hung_up && client->n_in < sizeof client->in)
            events |= POLLIN;
        /* A negative fd is skipped by poll; so is one that hung up, or it would wake us for ever. */
        pfds[n++] = (struct pollfd){ .fd = events ? client->fd : -1, .events = events };
    }
    return n;
}

void fae_control_serve(struct fae_node *node, const struct pollfd *pfds, unsigned n, uint64_t now_ms)
{
    struct fae_control *c = &node->control;

    for (unsigned i = 1; i < n; i++) {
        struct fae_control_client *client = &c->clients[i - 1];

        if (client->fd < 0 || client->fd != pfds[i].fd || pfds[i].revents == 0)
            continue;
        if (pfds[i].revents & POLLOUT)
            flush(client, now_ms);
        if (client->fd >= 0 && pfds[i].revents & (POLLIN | POLLHUP | POLLERR))
            receive(client, now_ms);
    }
    if (pfds[0].revents & POLLIN)
        accept_one(c, now_ms);
}

/* ---- reloads that clients wait for ---- */

static void start_next_reload(struct fae_node *node)
{
    struct fae_control_client *first = NULL;

    while (!fae_reload_busy(&node->reload)) {
        first = NULL;
        for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++) {
            struct fae_control_client *client = &node->control.clients[i];

            if (client->fd >= 0 && client->queued && (!first || client->id < first->id))
                first = client;
        }
        if (!first)
            return;
        first->queued = false;
        first->reloading = true;
        fae_reload_start(node, (enum fae_reload_kind)first->kind, first->id);
    }
}

static uint64_t n_old_calls(struct fae_node *node)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < node->n_workers; i++)
        n += FAE_STAT_GET(fae_node_slot(node, i)->n_old_calls);
    return n;
}

static void look_at_old(struct fae_node *node, struct fae_control_client *client, uint64_t now_ms)
{
    uint64_t n = n_old_calls(node);
    char text[80];

    if (n == 0) {
        client->old_until_ms = 0;
        say_generation(client);
    } else if (now_ms >= client->old_until_ms || node->phase != FAE_NODE_SERVING) {
        client->old_until_ms = 0;
        snprintf(text, sizeof text, "%" PRIu64 " calls or tasks are still on replaced generations", n);
        fae_control_err(client, FAE_TIMEOUT, text);
    } else {
        fae_node_wake_at(node, now_ms + LOOK_MS);
    }
}

void fae_control_reloaded(struct fae_node *node, uint64_t asker, enum fae_err err, uint32_t generation,
                          const struct fae_buf *text)
{
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++) {
        struct fae_control_client *client = &node->control.clients[i];

        if (client->fd < 0 || client->id != asker || !client->reloading)
            continue;
        client->reloading = false;
        client->generation = generation;
        if (text)
            fae_control_lines(&client->out, (const char *)text->data, text->len);
        if (err)
            fae_control_err(client, err, "nothing has changed");
        else if (client->kind == FAE_RELOAD_DRY_RUN)
            fae_control_ok(client, "the servants are good, nothing has changed");
        else if (client->wants_old_ended)
            client->old_until_ms = fae_now_ms() + node->config.drain_ms + 1;
        else
            say_generation(client);
        client->wants_old_ended = false;
    }
}

void fae_control_step(struct fae_node *node, uint64_t now_ms)
{
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++) {
        struct fae_control_client *client = &node->control.clients[i];

        if (client->fd < 0)
            continue;
        if (client->queued && node->phase != FAE_NODE_SERVING) {
            client->queued = false;
            fae_control_err(client, FAE_DRAINING, "the node is stopping");
        }
        if (client->old_until_ms)
            look_at_old(node, client, now_ms);
        flush(client, now_ms);
        run_lines(node, client, now_ms);
        if (client->fd < 0 || client->stays || is_waiting(client))
            continue;
        if (now_ms >= client->last_ms + IDLE_MS)
            drop(client);
        else
            fae_node_wake_at(node, client->last_ms + IDLE_MS);
    }
    start_next_reload(node);
    fae_control_ask_step(node, now_ms);
    fae_control_ops_step(node, now_ms);
}
