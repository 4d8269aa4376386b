/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/http and ops/admin: what comes on a connection to the admin server, cut anywhere, the client gone at its end or
 * waiting. One answer at most, with a status line of ours; nothing of the connection is left; and nothing is asked of
 * the supervisor without the token, when there is one: no input has it.
 */
#include "fuzz.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/digest.h"
#include "ops/admin.h"
#include "rpc/slowlog.h"

#define TURNS_MAX 2000

static char token[FAE_SHA256_HEX + 1]; /* its hash */

static struct {
    struct fae_loop loop;
    struct fae_config config;
    struct fae_slots slots;
    struct fae_admin admin;
    struct sockaddr_un addr;
    socklen_t addr_len;
} node;

static void *region(size_t (*size)(const void *arg), void (*init)(void *mem, const void *arg), const void *arg)
{
    size_t bytes = (size(arg) + 63) & ~(size_t)63;
    void *mem = aligned_alloc(64, bytes);

    memset(mem, 0, bytes);
    init(mem, arg);
    return mem;
}

static bool stop_turn(void *arg)
{
    (void)arg;
    fae_loop_stop(&node.loop);
    return false;
}

static void open_node(void)
{
    static const struct fae_log_opts quiet = { .level = FAE_LOG_ERROR };
    static const unsigned one = 1;
    struct fae_metrics_source source = { .slots = &node.slots };
    uint8_t secret[32], digest[FAE_SHA256_BYTES];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    signal(SIGPIPE, SIG_IGN);
    fae_clock_init();
    fae_log_init(&quiet, "fuzz");
    fae_config_init(&node.config);
    fae_random_bytes(secret, sizeof secret);
    fae_sha256(secret, sizeof secret, digest);
    fae_sha256_to_hex(digest, token);
    snprintf(node.config.run_dir, sizeof node.config.run_dir, "/nonexistent");
    fae_slots_init(&node.slots, &one);
    source.stats = region(fae_stats_size, fae_stats_init, &one);
    source.slowlog = region(fae_slowlog_size, fae_slowlog_init, &node.config);
    /* A name that is in no folder: its first byte is NUL. */
    node.addr.sun_family = AF_UNIX;
    node.addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                                (size_t)snprintf(node.addr.sun_path + 1, sizeof node.addr.sun_path - 1,
                                                 "fae-fuzz-http-%ld", (long)getpid()));
    FAE_ASSERT(bind(fd, (struct sockaddr *)&node.addr, node.addr_len) == 0);
    FAE_ASSERT(listen(fd, 16) == 0);
    FAE_ASSERT(fae_loop_init(&node.loop) == FAE_OK);
    node.loop.after_turn = stop_turn;
    FAE_ASSERT(fae_admin_open(&node.admin, &node.loop, fd, &node.config, &source) == FAE_OK);
    close(fd);
}

static void on_nothing(void *arg)
{
    (void)arg;
}

/* The loop's own turn: its timers are not libevent's. */
static void turn(void)
{
    struct fae_timer now;

    fae_timer_init(&now, &node.loop, on_nothing, NULL);
    fae_timer_start(&now, 0);
    fae_loop_run(&node.loop);
    fae_timer_stop(&now);
}

/* False at the end of the connection. */
static bool read_some(int fd, struct fae_buf *got)
{
    ssize_t n = recv(fd, fae_buf_room(got, 65536), 65536, MSG_DONTWAIT);

    if (n > 0)
        got->len += (size_t)n;
    return n > 0 || (n < 0 && errno == EAGAIN);
}

static void send_all(int fd, const uint8_t *bytes, size_t len, uint64_t *random, struct fae_buf *got)
{
    unsigned turns = 0;

    while (len && turns++ < TURNS_MAX) {
        size_t n = fuzz_chunk(random, len);
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

        turn();
        if (!read_some(fd, got) || (sent < 0 && errno != EAGAIN))
            return;
        if (sent > 0)
            bytes += sent, len -= (size_t)sent;
    }
}

static bool contains(const struct fae_buf *got, const char *text)
{
    return got->len && memmem(got->data, got->len, text, strlen(text));
}

/* The node here lets nobody in, and has no supervisor that could be asked. */
static void check(const struct fae_buf *got)
{
    static const char mark[] = "\r\nX-Frame-Options: ";
    const uint8_t *ours;

    if (got->len == 0)
        return;
    FAE_ASSERT(got->len > 12);
    FAE_ASSERT(memcmp(got->data, "HTTP/", 5) == 0);
    /* evhttp has words of its own for what it cannot read, and goes on reading after a CONNECT; we answer once. */
    ours = memmem(got->data, got->len, mark, sizeof mark - 1);
    FAE_ASSERT(!ours || !memmem(ours + 1, (size_t)(got->data + got->len - ours - 1), mark, sizeof mark - 1));
    if (*node.config.admin_token)
        FAE_ASSERT(!contains(got, "supervisor"));
    FAE_ASSERT(!contains(got, "root:"));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static bool opened;
    uint64_t random = fuzz_hash(bytes, len);
    bool leaves = fuzz_random(&random) % 4 == 0;
    struct fae_buf got = { 0 };
    unsigned turns = 0;
    int fd;

    if (!opened)
        open_node();
    opened = true;
    node.admin.guesses_ms = 0;
    /* Without a token reading is free, and what the supervisor would be asked is answered a turn later. */
    strcpy(node.config.admin_token, fuzz_random(&random) % 2 ? token : "");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FAE_ASSERT(connect(fd, (struct sockaddr *)&node.addr, node.addr_len) == 0);
    send_all(fd, bytes, len, &random, &got);
    if (leaves) {
        close(fd);
    } else {
        shutdown(fd, SHUT_WR);
        while (read_some(fd, &got) && turns++ < TURNS_MAX)
            turn();
        FAE_ASSERT(turns < TURNS_MAX);
        close(fd);
        check(&got);
    }
    for (turns = 0; fae_http_n_conns(node.admin.http) && turns < TURNS_MAX; turns++)
        turn();
    FAE_ASSERT(turns < TURNS_MAX);
    fae_buf_fini(&got);
    return 0;
}
