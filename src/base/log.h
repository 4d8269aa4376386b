/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Log lines, made whole where they arise (logfmt or JSON) and put into the process's ring in shared memory, which ops
 * writes out; the writer never waits and a killed process's last lines are still written. Without a ring (command-line
 * tools, --single, before the first fork) they go to a file descriptor.
 * Log an error once, where it is handled, with who, what and how much. Any thread of a process may log.
 */
#ifndef FAE_BASE_LOG_H
#define FAE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ring.h"

#define FAE_LOG_LEVELS(X) X(DEBUG, "debug") X(INFO, "info") X(WARN, "warn") X(ERROR, "error")

enum fae_log_level {
#define FAE_LOG_ENUM(name, word) FAE_LOG_##name,
    FAE_LOG_LEVELS(FAE_LOG_ENUM)
#undef FAE_LOG_ENUM
};

/* A field of a line; text that needs quotes gets them. */
struct fae_log_field {
    const char *key;
    const char *text;
    size_t len;
};

struct fae_log_opts {
    enum fae_log_level level; /* less is not logged */
    bool json;
};

/* Call it in every process after fork. proc: "worker-0"; copied. Keeps where the lines go. */
void fae_log_init(const struct fae_log_opts *opts, const char *proc);
/* Borrows for the process's life. Each record is one line with its newline. */
void fae_log_to_ring(struct fae_ring *ring);
void fae_log_to_fd(int fd); /* one write() a line; 2 until told otherwise */
/* From now on the level is what this word says, which all processes of a node share. Borrows it for the process's life
 * and that of its children; NULL: what fae_log_init said. */
void fae_log_follow(const _Atomic uint32_t *level);
bool fae_log_on(enum fae_log_level level);
/* "debug"; static text. */
const char *fae_log_level_word(enum fae_log_level level);

/* ts=2026-11-22T20:06:47.123Z level=warn proc=worker-0 pid=71 msg="..." key=value ...
 * What does not fit FAE_LOG_LINE_MAX is cut, which cut=true tells. Keeps errno. */
void fae_log_fields(enum fae_log_level level, const char *msg, size_t msg_len, const struct fae_log_field *fields,
                    unsigned n);
void fae_log(enum fae_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define FAE_DEBUG(...)                                                                                                 \
    do {                                                                                                               \
        if (fae_log_on(FAE_LOG_DEBUG))                                                                                 \
            fae_log(FAE_LOG_DEBUG, __VA_ARGS__);                                                                       \
    } while (0)
#define FAE_INFO(...) fae_log(FAE_LOG_INFO, __VA_ARGS__)
#define FAE_WARN(...) fae_log(FAE_LOG_WARN, __VA_ARGS__)
#define FAE_ERROR(...) fae_log(FAE_LOG_ERROR, __VA_ARGS__)

/* The rings region: one ring a slot. arg: pointer to the number of workers (unsigned). */
size_t fae_log_rings_size(const void *n_workers);
void fae_log_rings_init(void *mem, const void *n_workers);
struct fae_ring *fae_log_ring(void *mem, unsigned slot);

#endif
