/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rings to a descriptor that must never block us.
 */
#include "ops/logwriter.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/ring.h"

#define OUT_MAX (64u * FAE_KIB)
#define LOOK_MS 1000
#define FINISH_MS 500
#define SAFE_WRITE 4096 /* PIPE_BUF: a pipe that poll calls writable takes this much without blocking */

/* stderr may be a pipe or a terminal that someone else reads, or does not. Its flags are shared with whoever started us,
 * so instead of changing them we open it a second time. A file needs none of this, a socket is asked per send. */
static void open_again(struct fae_logwriter *w)
{
    char path[32];
    struct stat st;
    int fd;

    if (fstat(w->fd, &st) != 0)
        return;
    w->is_socket = S_ISSOCK(st.st_mode);
    if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", w->fd);
    fd = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    w->fd = fd;
    w->owns_fd = true;
}

void fae_logwriter_init(struct fae_logwriter *w, void *rings, unsigned n_rings, int fd, const char *path)
{
    *w = (struct fae_logwriter){ .rings = rings, .n_rings = n_rings, .fd = fd, .path = path };
    w->look_ms = fae_now_ms() + LOOK_MS;
    open_again(w);
}

void fae_logwriter_fini(struct fae_logwriter *w)
{
    if (w->owns_fd)
        close(w->fd);
    w->fd = -1;
    fae_buf_fini(&w->out);
}

/* The file was moved or removed under us: begin a new one of the same name. */
static void follow_rotation(struct fae_logwriter *w)
{
    struct stat here, there;
    uint64_t now_ms = fae_now_ms();
    int fd;

    if (!*w->path || now_ms < w->look_ms)
        return;
    w->look_ms = now_ms + LOOK_MS;
    if (fstat(w->fd, &here) == 0 && stat(w->path, &there) == 0 && here.st_dev == there.st_dev &&
        here.st_ino == there.st_ino)
        return;
    fd = open(w->path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
    if (fd < 0)
        return; /* the old one still takes lines */
    if (w->owns_fd)
        close(w->fd);
    w->fd = fd;
    w->owns_fd = true;
}

static ssize_t put(const struct fae_logwriter *w, const void *bytes, size_t n)
{
    struct pollfd pfd = { .fd = w->fd, .events = POLLOUT };

    if (w->is_socket)
        return send(w->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (w->owns_fd || *w->path)
        return write(w->fd, bytes, n);
    /* A descriptor that could not be opened again, or a plain file. */
    if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT)) {
        errno = EAGAIN;
        return -1;
    }
    return write(w->fd, bytes, n < SAFE_WRITE ? n : SAFE_WRITE);
}

/* True when all of it is out. */
static bool flush(struct fae_logwriter *w)
{
    size_t done = 0;
    ssize_t n;

    while (done < w->out.len) {
        n = put(w, w->out.data + done, w->out.len - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break; /* full disk, slow reader: later */
    }
    fae_buf_shift(&w->out, done);
    return w->out.len == 0;
}

/* Takes turns, so that one slot that talks without end does not silence the others. False: nothing was there. */
static bool collect(struct fae_logwriter *w)
{
    bool any = false;

    for (unsigned i = 0; i < w->n_rings && w->out.len < OUT_MAX; i++) {
        long n = fae_ring_pop(fae_log_ring(w->rings, i), fae_buf_room(&w->out, FAE_LOG_LINE_MAX), FAE_LOG_LINE_MAX);

        if (n <= 0)
            continue;
        any = true;
        w->out.len += (size_t)n;
        if (w->out.data[w->out.len - 1] != '\n')
            fae_buf_add(&w->out, "\n", 1);
    }
    return any;
}

static void tell_dropped(struct fae_logwriter *w)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < w->n_rings; i++)
        n += FAE_STAT_GET(fae_log_ring(w->rings, i)->n_dropped);
    if (n <= w->n_told)
        return;
    FAE_WARN("log: %" PRIu64 " lines dropped", n - w->n_told);
    w->n_told = n;
}

void fae_logwriter_turn(struct fae_logwriter *w)
{
    /* All rings full is the most there can be, and more than one turn should write. */
    unsigned rounds = w->n_rings * (FAE_LOG_RING_BYTES / OUT_MAX);

    follow_rotation(w);
    while (rounds-- && flush(w)) {
        while (w->out.len < OUT_MAX && collect(w))
            continue;
        if (w->out.len == 0) {
            tell_dropped(w);
            return;
        }
    }
}

void fae_logwriter_finish(struct fae_logwriter *w)
{
    uint64_t until_ms = fae_now_ms() + FINISH_MS;
    bool more = true;

    while (more && fae_now_ms() < until_ms) {
        fae_logwriter_turn(w);
        more = w->out.len > 0;
        for (unsigned i = 0; i < w->n_rings && !more; i++)
            more = !fae_ring_empty(fae_log_ring(w->rings, i));
        if (more && w->out.len)
            usleep(5000);
    }
}
