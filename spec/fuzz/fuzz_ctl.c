/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/control: lines of a client of fae.ctl, cut anywhere, to a node without processes whose reloads the target ends
 * itself. Every line gets one answer that ends in one line with OK or ERR, in order; nothing else passes for that line.
 */
#include "fuzz.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "proc/node.h"

#define ROUNDS_MAX 4000

static struct fae_node *node;

static struct {
    int fd;
    struct fae_buf got;
    bool eof;
} client;

static void open_node(void)
{
    static const struct fae_log_opts quiet = { .level = FAE_LOG_ERROR };

    fae_clock_init();
    fae_log_init(&quiet, "fuzz");
    node = fae_zalloc(sizeof *node);
    fae_config_init(&node->config);
    FAE_ASSERT(fae_shared_open(&node->shared, 1, &node->config, UINT64_MAX) == FAE_OK); /* as the supervisor has it */
    node->n_listeners = 1;
    strcpy(node->listeners[0].text, "unix:fae.sock");
    node->control.fd = -1;
    for (unsigned i = 0; i < FAE_CONTROL_CLIENTS; i++)
        node->control.clients[i].fd = -1;
}

static void open_client(uint64_t *random)
{
    int fds[2];

    FAE_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    client.fd = fds[0];
    client.got.len = 0;
    client.eof = false;
    node->phase = fuzz_random(random) % 4 ? FAE_NODE_SERVING : FAE_NODE_STARTING;
    /* Busy with another's, so that no checker is ever started; end_reload does the rest. */
    node->reload = (struct fae_reload){ .state = FAE_RELOAD_SWITCHING, .current = -1 };
    node->control.clients[0] =
        (struct fae_control_client){ .fd = fds[1], .id = ++node->control.last_id, .last_ms = fae_now_ms() };
}

/* The client's reload gets its turn and is over at once; what a checker or a worker wrote about it is anything. */
static bool end_reload(const uint8_t *bytes, size_t len, uint64_t *random)
{
    struct fae_control_client *c = &node->control.clients[0];
    struct fae_buf text = { 0 };
    size_t n = len ? fuzz_random(random) % len : 0;

    if (c->fd < 0 || !c->queued)
        return false;
    c->queued = false;
    c->reloading = true;
    fae_buf_add(&text, bytes + len - n, n);
    fae_control_reloaded(node, c->id, fuzz_random(random) % 2 ? FAE_BAD_SERVANT : FAE_OK, 7,
                         fuzz_random(random) % 2 ? &text : NULL);
    fae_buf_fini(&text);
    return true;
}

static bool receive(void)
{
    bool any = false;

    while (!client.eof) {
        ssize_t n = recv(client.fd, fae_buf_room(&client.got, 4096), 4096, 0);

        if (n < 0)
            break;
        client.eof = n == 0;
        client.got.len += (size_t)n;
        any = true;
    }
    return any;
}

static void turn(void)
{
    struct pollfd pfds[FAE_CONTROL_CLIENTS + 1];
    unsigned n = fae_control_poll(&node->control, pfds);

    poll(pfds, n, 0);
    fae_control_serve(node, pfds, n, fae_now_ms());
    fae_control_step(node, fae_now_ms());
}

static void settle(const uint8_t *bytes, size_t len, uint64_t *random)
{
    unsigned quiet = 0;

    for (unsigned round = 0; quiet < 3; round++) {
        bool moved;

        FAE_ASSERT(round < ROUNDS_MAX);
        turn();
        moved = end_reload(bytes, len, random);
        moved |= receive();
        quiet = moved ? 0 : quiet + 1;
    }
}

static void send_all(const uint8_t *bytes, size_t len, uint64_t *random)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(client.fd, bytes + at, fuzz_chunk(random, len - at), MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN)
            return;
        at += n > 0 ? (size_t)n : 0;
        turn();
        if (n < 0 || fuzz_random(random) % 4 == 0)
            settle(bytes, len, random);
    }
}

/* ---- what it should be ---- */

/* The next line that ends an answer, or NULL when there is none. The client's bytes end in NUL. */
static const char *next_end(const char **at)
{
    const char *end = (const char *)client.got.data + client.got.len;

    while (*at < end) {
        const char *line = *at, *nl = memchr(line, '\n', (size_t)(end - line));

        FAE_ASSERT(nl);
        *at = nl + 1;
        if (strncmp(line, "OK", 2) == 0 || strncmp(line, "ERR", 3) == 0)
            return line;
    }
    return NULL;
}

/* How the last line of the answer begins; NULL: it depends. */
static const char *wanted(const char *line, size_t len)
{
    static const struct {
        const char *line, *end;
    } verbs[] = {
        { "ping", "OK pong\n" }, { "status", "OK\n" },    { "stats", "OK\n" },        { "stop", "OK stopping\n" },
        { "reload", NULL },      { "reload wait", NULL }, { "reload dry-run", NULL }, { "rollback", NULL },
    };

    /* Those that take arguments, or whose answer needs more than this node has. */
    static const char *const others[] = { "config", "log-level", "reopen-log", "sessions", "session-close", "gc",
                                          "drain",  "undrain",   "servants",   "hist",     "slowlog" };

    for (unsigned i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (len == strlen(verbs[i].line) && memcmp(line, verbs[i].line, len) == 0)
            return verbs[i].end;
    for (unsigned i = 0; i < sizeof others / sizeof *others; i++)
        if (len >= strlen(others[i]) && memcmp(line, others[i], strlen(others[i])) == 0)
            return NULL;
    return "ERR NOT_FOUND no such verb";
}

static void check_answer(const char **got, const char *want)
{
    const char *end = next_end(got);

    FAE_ASSERT(end);
    if (want)
        FAE_ASSERT(strncmp(end, want, strlen(want)) == 0);
    else
        FAE_ASSERT(strncmp(end, "OK ", 3) == 0 || strncmp(end, "OK\n", 3) == 0 || strncmp(end, "ERR ", 4) == 0);
}

static void check_answers(const char *bytes, size_t len)
{
    const char *got = fae_buf_text(&client.got), *end = bytes + len;

    while (bytes < end) {
        const char *nl = memchr(bytes, '\n', (size_t)(end - bytes));
        size_t n = (size_t)((nl ? nl : end) - bytes);

        if (n >= FAE_CONTROL_LINE) {
            check_answer(&got, "ERR LIMIT ");
            break;
        }
        check_answer(&got, wanted(bytes, n && bytes[n - 1] == '\r' ? n - 1 : n));
        bytes += n + 1;
    }
    FAE_ASSERT(!next_end(&got));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint64_t random = fuzz_hash(bytes, len);
    bool stays;

    if (!node)
        open_node();
    open_client(&random);
    send_all(bytes, len, &random);
    shutdown(client.fd, SHUT_WR);
    settle(bytes, len, &random);
    stays = node->control.clients[0].stays; /* its end is the node's */
    FAE_ASSERT(stays || (client.eof && node->control.clients[0].fd < 0));
    FAE_ASSERT(stays == (node->control.clients[0].fd >= 0));
    fae_control_forget(&node->control);
    close(client.fd);
    check_answers((const char *)bytes, len);
    return 0;
}
