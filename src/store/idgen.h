/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Ids: numbers of 63 bits that no other call, process or node with another node_id gets, and that rise with time. All
 * processes of a node share one word, the millisecond and the number in it of the id that was given last; who wants one
 * moves it on by compare-and-swap, so that one who is killed holds nothing. Milliseconds are used only below what marks
 * reserved on disk, so that no restart gives an id twice, wherever the clock stands then.
 *
 *     fae        (ms - 1388834974657) << 22 | tag << 17 | node << 12 | number in the ms     tag and node 0 to 31
 *     snowflake  (ms - 1288834974657) << 22 | node << 12 | number in the ms                 node 0 to 1023, no tag
 */
#ifndef FAE_STORE_IDGEN_H
#define FAE_STORE_IDGEN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "store/store.h"

#define FAE_IDS_PER_MS 4096u

enum fae_id_verdict {
    FAE_ID_READY,
    FAE_ID_FULL,  /* this millisecond's are all given */
    FAE_ID_DISK,  /* this millisecond is not reserved yet */
    FAE_ID_BACK,  /* the clock is behind the id given last */
    FAE_ID_RANGE, /* no id can have the time that the clock shows */
};

/* What one process did; each writes its own. */
struct fae_ids_cell {
    _Alignas(64) _Atomic uint64_t n_made;
    _Atomic uint64_t n_waits[FAE_ID_BACK + 1]; /* calls that waited, by verdict */
    _Atomic uint64_t n_back;                   /* calls that were refused because the clock was set back */
};

struct fae_ids {
    _Alignas(64) _Atomic uint64_t last; /* ms << 12 | number in it, of the id given last */
    _Alignas(64) uint64_t epoch_ms;     /* from here on written once, before the first fork */
    uint32_t node, node_max, tag_max;
    struct fae_ids_cell cells[FAE_SLOTS_MAX];
};

/* How things stand, for one who found no id. */
struct fae_id_wait {
    enum fae_id_verdict verdict;
    uint64_t wait_ns;   /* FULL: until the next millisecond; BACK: until the clock is where it was; otherwise 0 */
    enum fae_err error; /* DISK: why the last writing failed */
};

struct fae_id_parts {
    uint64_t ms; /* since 1970 */
    uint32_t tag, node, seq;
};

/* Milliseconds since 1970, and nanoseconds into it. */
typedef uint64_t (*fae_id_clock_fn)(uint32_t *ns_out);

/* Region functions; no argument. */
size_t fae_ids_size(const void *unused);
void fae_ids_init(void *mem, const void *unused);

/* Before the first fork, after fae_marks_open: layout and node as configured, and where the last node ended. */
void fae_ids_open(const struct fae_stores *stores, const struct fae_config *config);
/* At a good end, before fae_marks_close: what was reserved and not used may be used by the next. */
void fae_ids_close(const struct fae_stores *stores);

/* An id, or 0: not now, fae_ids_look tells why. tag is at most ids->tag_max. Never waits; any process, any thread. Lua
 * calls these two through ffi. */
int64_t fae_ids_next(const struct fae_stores *stores, uint32_t tag);
/* Up to n at once, n > 0: the first, and how many there are (*n_out), each one more than that before it. */
int64_t fae_ids_next_run(const struct fae_stores *stores, uint32_t tag, uint32_t n, uint32_t *n_out);
/* Takes nothing. Has more reserved on disk when that is what is missing. */
void fae_ids_look(const struct fae_stores *stores, struct fae_id_wait *wait_out);

/* The id with these parts, which fit the layout; and back: false when no id of this layout can be that number. */
int64_t fae_ids_join(const struct fae_ids *ids, const struct fae_id_parts *parts);
bool fae_ids_split(const struct fae_ids *ids, int64_t id, struct fae_id_parts *parts_out);

/* As fae_ids_next_run and fae_ids_look, by another clock. */
int64_t fae_ids_next_run_at(const struct fae_stores *stores, fae_id_clock_fn clock, uint32_t tag, uint32_t n,
                            uint32_t *n_out);
void fae_ids_look_at(const struct fae_stores *stores, fae_id_clock_fn clock, struct fae_id_wait *wait_out);

/* This process's counters; and the node's. */
struct fae_ids_cell *fae_ids_cell(const struct fae_stores *stores);
void fae_ids_stats(const struct fae_stores *stores, fae_store_stat_fn tell, void *arg);

#endif
