/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Makes log lines, in memory on the stack. Whatever is logged, a line stays one line of valid UTF-8, and valid JSON or
 * logfmt even where it is cut.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/utf8.h"

#define FAE_LOG_TAIL 32 /* kept free for what ends a line: quote, cut, brace, newline */

static struct {
    struct fae_log_opts opts;
    const _Atomic uint32_t *level; /* instead of that of opts; NULL: not */
    char proc[24];
    struct fae_ring *ring;
    int fd;
    pthread_mutex_t lock; /* the ring has one writer: the threads of this process take turns */
} self = { .opts = { .level = FAE_LOG_INFO }, .proc = "fae", .fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *const words[] = {
#define FAE_LOG_WORD(name, word) [FAE_LOG_##name] = word,
    FAE_LOG_LEVELS(FAE_LOG_WORD)
#undef FAE_LOG_WORD
};

struct line {
    char text[FAE_LOG_LINE_MAX];
    size_t len;
    bool cut;
};

void fae_log_init(const struct fae_log_opts *opts, const char *proc)
{
    self.opts = *opts;
    snprintf(self.proc, sizeof self.proc, "%s", proc);
    /* A fork while another thread was logging copied a lock that nobody here would ever open. */
    self.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

void fae_log_to_ring(struct fae_ring *ring)
{
    self.ring = ring;
}

void fae_log_to_fd(int fd)
{
    self.ring = NULL;
    self.fd = fd;
}

void fae_log_follow(const _Atomic uint32_t *level)
{
    self.level = level;
}

bool fae_log_on(enum fae_log_level level)
{
    if (!self.level)
        return level >= self.opts.level;
    return level >= (enum fae_log_level)atomic_load_explicit(self.level, memory_order_relaxed);
}

const char *fae_log_level_word(enum fae_log_level level)
{
    return level < sizeof words / sizeof *words ? words[level] : "?"; /* it may come from shared memory */
}

/* ---- a line ---- */

/* All of it or nothing; after the first thing that did not fit, nothing. */
static void put(struct line *l, const void *bytes, size_t n)
{
    if (l->cut || l->len + n > sizeof l->text - FAE_LOG_TAIL) {
        l->cut = true;
        return;
    }
    memcpy(l->text + l->len, bytes, n);
    l->len += n;
}

/* From the room kept free. */
static void put_tail(struct line *l, const char *text)
{
    size_t n = strlen(text);

    memcpy(l->text + l->len, text, n);
    l->len += n;
}

/* ESC and its like, which would let a peer's bytes steer the terminal that shows the log. */
static bool is_control(const uint8_t *p, unsigned n)
{
    return *p < 0x20 || *p == 0x7f || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

/* The inside of a quoted text; JSON and logfmt share its escapes. */
static void put_escaped(struct line *l, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;

    while (len && !l->cut) {
        unsigned n = fae_utf8_char(p, len);
        char esc[8];

        if (n == 0) {
            put(l, "\xef\xbf\xbd", 3);
            n = 1;
        } else if (*p == '"' || *p == '\\') {
            put(l, (char[]){ '\\', (char)*p }, 2);
        } else if (*p == '\n' || *p == '\r' || *p == '\t') {
            put(l, *p == '\n' ? "\\n" : *p == '\r' ? "\\r" : "\\t", 2);
        } else if (is_control(p, n)) {
            snprintf(esc, sizeof esc, "\\u%04x", n == 1 ? *p : p[1]);
            put(l, esc, 6);
        } else {
            put(l, p, n);
        }
        p += n;
        len -= n;
    }
}

static bool wants_quotes(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const uint8_t *p = (const uint8_t *)text + i;

        if (*p <= ' ' || *p == 0x7f || *p == '"' || *p == '=' || *p == '\\')
            return true;
        if (*p == 0xc2 && i + 1 < len && is_control(p, 2))
            return true;
    }
    return len == 0 || !fae_utf8_valid(text, len);
}

/* A key of logfmt is a bare word. */
static void put_bare_key(struct line *l, const char *key)
{
    for (const uint8_t *p = (const uint8_t *)key; *p; p++)
        put(l, *p > ' ' && *p < 0x7f && *p != '"' && *p != '=' && *p != '\\' ? (const char *)p : "_", 1);
}

static void put_logfmt(struct line *l, const char *key, const char *text, size_t len)
{
    size_t start = l->len;
    bool quotes = wants_quotes(text, len);

    if (start)
        put(l, " ", 1);
    put_bare_key(l, *key ? key : "_");
    put(l, quotes ? "=\"" : "=", quotes ? 2 : 1);
    if (l->cut) {
        l->len = start;
        return;
    }
    put_escaped(l, text, len);
    if (quotes)
        put_tail(l, "\"");
}

static void put_json(struct line *l, const char *key, const char *text, size_t len, bool quotes)
{
    size_t start = l->len;

    put(l, start ? ",\"" : "{\"", 2);
    put_escaped(l, key, strlen(key));
    put(l, quotes ? "\":\"" : "\":", quotes ? 3 : 2);
    if (l->cut) {
        l->len = start;
        return;
    }
    put_escaped(l, text, len);
    if (quotes)
        put_tail(l, "\"");
}

static void put_field(struct line *l, const char *key, const char *text, size_t len)
{
    if (l->cut)
        return;
    if (self.opts.json)
        put_json(l, key, text, len, true);
    else
        put_logfmt(l, key, text, len);
}

static void put_pid(struct line *l)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%d", (int)getpid());

    if (self.opts.json)
        put_json(l, "pid", text, (size_t)n, false);
    else
        put_logfmt(l, "pid", text, (size_t)n);
}

/* By hand: gmtime_r and strftime take a lock of libc's, which a fork may copy while another thread holds it. Years are
 * counted from March, so that the leap day is their last one; 719468 days lie between 0000-03-01 and 1970-01-01. */
static void put_time(struct line *l)
{
    uint64_t ms = fae_wall_ms(), s = ms / 1000, days = s / 86400 + 719468;
    uint64_t era = days / 146097, day = days % 146097; /* 400 years each */
    uint64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    uint64_t month;
    char text[40];
    int n;

    day -= 365 * year + year / 4 - year / 100;
    month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    month = month < 10 ? month + 3 : month - 9;
    year += era * 400 + (month <= 2);
    n = snprintf(text, sizeof text, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)year, (unsigned)month,
                 (unsigned)day + 1, (unsigned)(s / 3600 % 24), (unsigned)(s / 60 % 60), (unsigned)(s % 60),
                 (unsigned)(ms % 1000));
    put_field(l, "ts", text, (size_t)n);
}

static void finish(struct line *l)
{
    if (l->cut)
        put_tail(l, self.opts.json ? ",\"cut\":true" : " cut=true");
    put_tail(l, self.opts.json ? "}\n" : "\n");
}

/* ---- where it goes ---- */

static void write_out(const struct line *l)
{
    size_t done = 0;
    ssize_t n;

    while (done < l->len) {
        n = write(self.fd, l->text + done, l->len - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return; /* a log that cannot be written must not stop the one who logs */
    }
}

static void push_out(const struct line *l)
{
    pthread_mutex_lock(&self.lock);
    fae_ring_push(self.ring, l->text, l->len, NULL, 0);
    pthread_mutex_unlock(&self.lock);
}

void fae_log_fields(enum fae_log_level level, const char *msg, size_t msg_len, const struct fae_log_field *fields,
                    unsigned n)
{
    int saved = errno;
    struct line l;

    if (!fae_log_on(level))
        return;
    l.len = 0;
    l.cut = false;
    put_time(&l);
    put_field(&l, "level", words[level], strlen(words[level]));
    put_field(&l, "proc", self.proc, strlen(self.proc));
    put_pid(&l);
    put_field(&l, "msg", msg, msg_len);
    for (unsigned i = 0; i < n; i++)
        put_field(&l, fields[i].key, fields[i].text, fields[i].len);
    finish(&l);
    if (self.ring)
        push_out(&l);
    else
        write_out(&l);
    errno = saved;
}

void fae_log(enum fae_log_level level, const char *fmt, ...)
{
    char msg[FAE_LOG_LINE_MAX];
    int saved = errno;
    va_list ap;
    int n;

    if (!fae_log_on(level))
        return;
    va_start(ap, fmt);
    n = vsnprintf(msg, sizeof msg, fmt, ap); /* longer than a line: the line cuts what is left of it once more */
    va_end(ap);
    if (n >= 0)
        fae_log_fields(level, msg, (size_t)n < sizeof msg ? (size_t)n : sizeof msg - 1, NULL, 0);
    errno = saved;
}

/* ---- the rings ---- */

static size_t ring_stride(void)
{
    return (fae_ring_size(FAE_LOG_RING_BYTES) + 63) & ~(size_t)63;
}

size_t fae_log_rings_size(const void *n_workers)
{
    return (*(const unsigned *)n_workers + 2) * ring_stride();
}

void fae_log_rings_init(void *mem, const void *n_workers)
{
    for (unsigned i = 0; i < *(const unsigned *)n_workers + 2; i++)
        fae_ring_init(fae_log_ring(mem, i), FAE_LOG_RING_BYTES);
}

struct fae_ring *fae_log_ring(void *mem, unsigned slot)
{
    return (struct fae_ring *)((char *)mem + slot * ring_stride());
}
