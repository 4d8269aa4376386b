/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Everything the processes of a node share: the one table of regions, and a typed pointer to each. Made by the
 * supervisor before its first fork; children inherit the mappings at the same addresses.
 */
#ifndef FAE_PROC_SHARED_H
#define FAE_PROC_SHARED_H

#include "base/err.h"
#include "base/mailbox.h"
#include "base/shm.h"
#include "base/slot.h"
#include "store/store.h"

struct fae_config;
struct fae_gates;
struct fae_hosts;
struct fae_series;
struct fae_slowlog;
struct fae_stats;
struct fae_turns;
struct fae_upstreams;

struct fae_shared {
    struct fae_shm shm;
    struct fae_slots *slots;
    struct fae_stats *stats;
    struct fae_turns *turns;
    struct fae_slowlog *slowlog;
    struct fae_series *series; /* of fae.metrics */
    struct fae_gates *gates;
    struct fae_hosts *hosts;
    struct fae_upstreams *upstreams; /* servers that we call */
    void *rings;                     /* fae_log_ring(rings, slot) */
    struct fae_mailboxes mail;
    struct fae_stores stores;
};

/* The configuration is read while this runs. memory: bytes that there are in all, which the caches are fitted to. errno tells
 * why not; nothing stays open then. */
enum fae_err fae_shared_open(struct fae_shared *shared_out, unsigned n_workers, const struct fae_config *config,
                             uint64_t memory);
void fae_shared_close(struct fae_shared *shared);
/* What each cache gets then. */
void fae_shared_caches(const struct fae_config *config, uint64_t memory, uint64_t bytes_out[FAE_CACHES]);

#endif
