/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The file and the thread. The thread sleeps on an eventfd that everyone has; whoever wants something writes to it.
 */
#include "store/marks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/thread.h"
#include "store/store.h"

#define MAGIC 0x736b72616d656166ull /* "faemarks" */
#define FORMAT 1u
#define PLACE 4096 /* between the copies: a block of the disk each */
#define RETRY_MS 1000
#define BEFORE_MS 3000 /* for the writer of a node that was killed, which is gone within a second */
#define LOCK_POLL_MS 5
#define TOLD_MS 10000 /* between lines of the log about what fails */

struct copy {
    uint64_t magic;
    uint32_t format, n;
    uint64_t sequence;
    uint64_t values[FAE_MARKS_MAX];
    uint64_t sum; /* xxh64 of what is before it */
};

_Static_assert(sizeof(struct copy) <= PLACE, "a copy fits its place");
_Static_assert(FAE_MARKS_COUNT <= FAE_MARKS_MAX, "the file has room");

size_t fae_marks_size(const void *unused)
{
    (void)unused;
    return sizeof(struct fae_marks);
}

void fae_marks_init(void *mem, const void *unused)
{
    (void)mem;
    (void)unused;
}

/* ---- the file ---- */

static uint64_t sum_of(const struct copy *c)
{
    return XXH64(c, offsetof(struct copy, sum), 0);
}

static bool is_sound(const struct copy *c)
{
    return c->magic == MAGIC && c->format == FORMAT && c->n <= FAE_MARKS_MAX && c->sum == sum_of(c);
}

static int open_file(const char *data_dir, int flags)
{
    char path[512];

    snprintf(path, sizeof path, "%s/marks", data_dir);
    return open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0640);
}

/* One writer at a time, of whatever node: the lock ends with its process. Where files cannot be locked there is none. */
static bool lock_file(int fd, uint64_t within_ms)
{
    uint64_t until_ms = fae_now_ms() + within_ms;

    while (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        if (fae_now_ms() >= until_ms)
            return false;
        poll(NULL, 0, LOCK_POLL_MS);
    }
    return true;
}

/* Errno as a code. */
static enum fae_err code_of(int error)
{
    return error == ENOSPC || error == EDQUOT ? FAE_NO_SPACE : FAE_SYSTEM;
}

static bool put_copy(int fd, const struct copy *c)
{
    off_t at = (off_t)(c->sequence & 1) * PLACE;
    ssize_t n = pwrite(fd, c, sizeof *c, at);

    if (n == (ssize_t)sizeof *c)
        return fdatasync(fd) == 0;
    if (n >= 0)
        errno = EIO;
    return false;
}

static void fill_copy(struct copy *c, uint64_t sequence, const uint64_t values[FAE_MARKS_MAX])
{
    *c = (struct copy){ .magic = MAGIC, .format = FORMAT, .n = FAE_MARKS_COUNT, .sequence = sequence };
    memcpy(c->values, values, sizeof c->values);
    c->sum = sum_of(c);
}

/* The newer of the sound copies. */
static bool read_copies(int fd, struct copy *best_out)
{
    bool found = false;
    struct copy c;

    for (unsigned i = 0; i < 2; i++)
        if (pread(fd, &c, sizeof c, (off_t)i * PLACE) == (ssize_t)sizeof c && is_sound(&c) &&
            (!found || c.sequence > best_out->sequence)) {
            *best_out = c;
            found = true;
        }
    return found;
}

/* Both places are written at once, so that the file never has to grow. */
static bool make_file(const char *data_dir, int *fd_out)
{
    const uint64_t none[FAE_MARKS_MAX] = { 0 };
    struct copy c;
    int fd = open_file(data_dir, O_CREAT), dir;
    bool ok = fd >= 0;

    for (uint64_t i = 1; i <= 2 && ok; i++) {
        fill_copy(&c, i, none);
        ok = put_copy(fd, &c);
    }
    dir = ok ? open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    ok = dir >= 0 && fsync(dir) == 0;
    if (dir >= 0)
        close(dir);
    *fd_out = fd;
    return ok;
}

static void take(struct fae_marks *marks, const struct copy *c)
{
    marks->sequence = c->sequence;
    for (unsigned i = 0; i < c->n; i++) {
        marks->began[i] = c->values[i];
        atomic_store(&marks->rows[i].reserved, c->values[i]);
        atomic_store(&marks->rows[i].wanted, c->values[i]);
    }
}

enum fae_err fae_marks_open(struct fae_marks *marks, const char *data_dir, char *why_out, size_t why_size)
{
    enum fae_err err = FAE_OK;
    struct copy c = { 0 };
    int fd = open_file(data_dir, 0);
    /* One that is empty was being made when the power went. */
    bool fresh = (fd < 0 && errno == ENOENT) || (fd >= 0 && lseek(fd, 0, SEEK_END) == 0);

    if (fresh) {
        if (fd >= 0)
            close(fd);
        if (!make_file(data_dir, &fd)) {
            snprintf(why_out, why_size, "%s/marks: cannot be made: %s", data_dir, strerror(errno));
            err = code_of(errno);
        }
    } else if (fd < 0) {
        snprintf(why_out, why_size, "%s/marks: %s", data_dir, strerror(errno));
        err = FAE_SYSTEM;
    }
    if (!err && !lock_file(fd, BEFORE_MS)) {
        snprintf(why_out, why_size, "%s/marks: a process of the node before, which was killed, still has it", data_dir);
        err = FAE_SYSTEM;
    } else if (!err && read_copies(fd, &c)) {
        take(marks, &c);
    } else if (!err) {
        snprintf(why_out, why_size,
                 "%s/marks is damaged, and ids and fencing numbers could be given twice: remove it if they may",
                 data_dir);
        err = FAE_SYSTEM;
    }
    if (fd >= 0)
        close(fd);
    return err;
}

/* ---- writing ---- */

/* What is wanted of each; true when that is more than is reserved. */
static bool collect(const struct fae_marks *marks, uint64_t values[FAE_MARKS_MAX])
{
    bool more = false;

    for (unsigned i = 0; i < FAE_MARKS_MAX; i++) {
        uint64_t reserved = atomic_load(&marks->rows[i].reserved), wanted = atomic_load(&marks->rows[i].wanted);

        values[i] = wanted > reserved ? wanted : reserved;
        more |= wanted > reserved;
    }
    return more;
}

/* The place that is not the newest sound copy's: what fails, or is killed, before the sequence moves on is written there
 * again, and was told to nobody. */
static enum fae_err put(struct fae_marks *marks, int fd, const uint64_t values[FAE_MARKS_MAX])
{
    uint64_t began_ns = fae_now_ns();
    struct copy c;

    fill_copy(&c, marks->sequence + 1, values);
    if (!put_copy(fd, &c))
        return code_of(errno);
    marks->sequence++;
    for (unsigned i = 0; i < FAE_MARKS_MAX; i++)
        atomic_store_explicit(&marks->rows[i].reserved, values[i], memory_order_release);
    FAE_STAT_ADD(marks->n_writes, 1);
    FAE_STAT_ADD(marks->write_ns, fae_now_ns() - began_ns);
    return FAE_OK;
}

void fae_marks_settle(struct fae_marks *marks, enum fae_mark_row mark, uint64_t used)
{
    atomic_store(&marks->rows[mark].reserved, used);
    atomic_store(&marks->rows[mark].wanted, used);
}

void fae_marks_close(struct fae_marks *marks, const char *data_dir)
{
    uint64_t values[FAE_MARKS_MAX];
    int fd = open_file(data_dir, 0);

    collect(marks, values);
    if (fd < 0 || put(marks, fd, values))
        FAE_WARN("%s/marks: %s: the next node goes on behind what the file says is reserved", data_dir,
                 strerror(errno));
    if (fd >= 0)
        close(fd);
}

void fae_marks_want(const struct fae_stores *stores, enum fae_mark_row mark, uint64_t upto)
{
    _Atomic uint64_t *wanted = &stores->marks->rows[mark].wanted;
    uint64_t was = atomic_load(wanted);
    const uint64_t one = 1;

    do {
        if (was >= upto)
            return;
    } while (!atomic_compare_exchange_weak(wanted, &was, upto));
    while (write(stores->marks_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* ---- the thread ---- */

struct fae_marks_writer {
    struct fae_stores *stores;
    pthread_t thread;
    int fd;
    _Atomic bool stop;
    uint64_t told_ms;
};

static void tell(struct fae_marks_writer *w, enum fae_err err)
{
    uint64_t now_ms = fae_now_ms();

    if (w->told_ms && now_ms < w->told_ms + TOLD_MS)
        return;
    w->told_ms = now_ms;
    FAE_ERROR("%s/marks cannot be written: %s; new ids and locks wait", w->stores->data_dir, fae_err_text(err));
}

static void rouse_workers(const struct fae_stores *stores)
{
    for (unsigned i = 0; i < stores->slots->n_workers; i++)
        fae_mail_rouse(stores->mail, i);
}

static void step(struct fae_marks_writer *w)
{
    struct fae_marks *marks = w->stores->marks;
    uint64_t values[FAE_MARKS_MAX];
    enum fae_err err;

    if (!collect(marks, values))
        return;
    err = put(marks, w->fd, values);
    atomic_store(&marks->error, (uint32_t)err);
    if (err)
        tell(w, err);
    rouse_workers(w->stores);
}

static void *life(void *arg)
{
    struct fae_marks_writer *w = arg;
    struct pollfd wanted = { .fd = w->stores->marks_fd, .events = POLLIN };
    uint64_t n;

    step(w); /* what the one before us did not come to */
    while (!atomic_load(&w->stop)) {
        /* One that was killed may have wanted something and not said so: look now and then. */
        poll(&wanted, 1, RETRY_MS);
        if (read(w->stores->marks_fd, &n, sizeof n) < 0)
            n = 0;
        step(w);
    }
    step(w);
    return NULL;
}

enum fae_err fae_marks_writer_start(struct fae_marks_writer **writer_out, struct fae_stores *stores)
{
    struct fae_marks_writer *w = fae_zalloc(sizeof *w);
    int rc;

    w->stores = stores;
    w->fd = open_file(stores->data_dir, 0);
    if (w->fd < 0)
        goto fail;
    if (!lock_file(w->fd, BEFORE_MS)) {
        errno = EWOULDBLOCK;
        goto fail_open;
    }
    rc = fae_thread_start(&w->thread, "marks-writer", life, w);
    if (rc == 0) {
        *writer_out = w;
        return FAE_OK;
    }
    errno = rc;
fail_open:
    close(w->fd);
fail:
    free(w);
    return FAE_SYSTEM;
}

void fae_marks_writer_stop(struct fae_marks_writer **writer)
{
    struct fae_marks_writer *w = *writer;
    const uint64_t one = 1;

    if (!w)
        return;
    *writer = NULL;
    atomic_store(&w->stop, true);
    while (write(w->stores->marks_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(w->thread, NULL);
    close(w->fd);
    free(w);
}
