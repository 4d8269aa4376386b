/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The node's own services as one process sees them: pointers into the shared memory that was mapped before the first
 * fork, and where on disk their state lies. Workers use them; one process of the node, ops (or the only one of --single),
 * serves them: its threads write what must be on disk, so that no event loop ever waits for it.
 */
#ifndef FAE_STORE_STORE_H
#define FAE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/kv.h"

struct fae_config;
struct fae_ids;
struct fae_lcache;
struct fae_locks;
struct fae_mailboxes;
struct fae_marks;
struct fae_marks_writer;
struct fae_slots;

/* The caches of a node: that of lc and all servants, and that of the results which servant my keeps. Each has a bound of
 * its own, and a name, of its numbers too. */
enum fae_cache { FAE_CACHE_COMMON, FAE_CACHE_QUERY, FAE_CACHES };
extern const char *const fae_cache_names[FAE_CACHES + 1]; /* ends in NULL */

struct fae_stores {
    struct fae_slots *slots;
    struct fae_mailboxes *mail; /* fae_mail_rouse wakes a worker, which then looks at everything it waits for */
    const char *data_dir;       /* absolute; "" before it is open */
    struct fae_marks *marks;
    int marks_fd;                          /* eventfd that wakes its writer */
    struct fae_marks_writer *marks_writer; /* in the process that serves */
    struct fae_ids *ids;
    struct fae_lcache *caches[FAE_CACHES]; /* store/lcache.h; NULL: none */
    struct fae_locks *locks;
    struct fae_kv kv;
};

/* Before the first fork, once shared memory and the data folder are there: takes up what the last node left on disk. May
 * wait for the disk. why_out gets a sentence. */
enum fae_err fae_stores_open(struct fae_stores *stores, const struct fae_config *config, char *why_out,
                             size_t why_size);
/* The same node's end: what is known then is written. */
void fae_stores_close(struct fae_stores *stores);

/* In the process that serves: starts its threads. After a failure it may be called again, and starts what is missing. */
enum fae_err fae_stores_serve(struct fae_stores *stores, const struct fae_config *config, char *why_out,
                              size_t why_size);
/* Ends the threads, when what was asked of them is done. */
void fae_stores_rest(struct fae_stores *stores);

/* A process of the slot died: what it held is released. In the supervisor, which must not wait. */
void fae_stores_reap(struct fae_stores *stores, unsigned slot);

/* Every number there is to tell: name as "cache_hits_total", help as a sentence, counter or gauge. Counters of time are in
 * ns and named so: "marks_write_ns_total". */
typedef void (*fae_store_stat_fn)(void *arg, const char *name, const char *help, bool counter, uint64_t value);
void fae_stores_stats(const struct fae_stores *stores, fae_store_stat_fn tell, void *arg);

#endif
