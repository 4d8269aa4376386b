/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Marks: numbers that must not be used twice, reserved on disk ahead of their use. Whoever gives such numbers out (ids,
 * fencing numbers) may use those below `reserved`; wants more in time; and waits when there are none. A thread of the
 * serving process writes them, so nobody else waits for the disk. After a crash the node goes on at what was reserved;
 * after a good end at what was used.
 *
 *     file DATA_DIR/marks: two copies of the table, written in turns, each with a number and a sum: a copy that a crash
 *     cut is not taken. It is written in place, so that a full disk does not stop it. Whoever writes it has it locked:
 *     the writer of a node that was killed may live a little longer, and the next node waits for its end.
 */
#ifndef FAE_STORE_MARKS_H
#define FAE_STORE_MARKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct fae_stores;

/* Appended to, never reordered: the file has them by place. */
enum fae_mark_row {
    FAE_MARK_ID_MS,    /* ids have milliseconds since 1970 below this */
    FAE_MARK_FENCE,    /* fencing numbers of locks are below this */
    FAE_MARK_LEASE_MS, /* no lock was given for longer than this, less one; 0: none is held */
    FAE_MARKS_COUNT,
};

#define FAE_MARKS_MAX 32u /* places in the file */

struct fae_marks {
    struct {
        _Atomic uint64_t reserved; /* on disk */
        _Atomic uint64_t wanted;
    } rows[FAE_MARKS_MAX];
    uint64_t began[FAE_MARKS_MAX]; /* what the file said when the node started */
    _Atomic uint64_t sequence;     /* of the copy written last */
    _Atomic uint32_t error;        /* why the last writing failed: NO_SPACE, SYSTEM; OK: it did not */
    _Atomic uint64_t n_writes, write_ns;
};

/* Region functions; no argument. */
size_t fae_marks_size(const void *unused);
void fae_marks_init(void *mem, const void *unused);

/* Before the first fork: reads the file, or makes it. A file of which neither copy is sound is refused: numbers could
 * come again. */
enum fae_err fae_marks_open(struct fae_marks *marks, const char *data_dir, char *why_out, size_t why_size);
/* At a good end, when nobody uses them any more: takes back what was reserved and not used. Written by close. */
void fae_marks_settle(struct fae_marks *marks, enum fae_mark_row mark, uint64_t used);
void fae_marks_close(struct fae_marks *marks, const char *data_dir);

/* The numbers below this may be used. */
static inline uint64_t fae_marks_reserved(const struct fae_marks *marks, enum fae_mark_row mark)
{
    return atomic_load_explicit(&marks->rows[mark].reserved, memory_order_acquire);
}

/* Have numbers below `upto` reserved, soon; never lowers. Every worker is roused when they are, or when that failed
 * (`error`), after which it is tried again each second. Any process, any thread; does not wait. */
void fae_marks_want(const struct fae_stores *stores, enum fae_mark_row mark, uint64_t upto);

/* The thread that writes; one in the node. stop: it writes what is wanted, and ends. */
struct fae_marks_writer;
enum fae_err fae_marks_writer_start(struct fae_marks_writer **writer_out, struct fae_stores *stores);
void fae_marks_writer_stop(struct fae_marks_writer **writer);

#endif
