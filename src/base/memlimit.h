/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How much memory a node may take before the kernel ends one of its processes: that of the machine, or less where a
 * cgroup says so. Read once at start, in the supervisor.
 */
#ifndef FAE_BASE_MEMLIMIT_H
#define FAE_BASE_MEMLIMIT_H

#include <stdint.h>

/* Bytes; UINT64_MAX when nobody says. root stands before /proc and /sys: "" but in tests. */
uint64_t fae_memlimit(const char *root);

/* What the options that bound most of a node's memory may be under that limit: with all Lua states at their upper limit
 * (a quarter above lua_memory_max), clients that hold all they may, full caches, and all results of mysql, 8 % are left for
 * the rest. */
uint64_t fae_memlimit_lua(uint64_t limit_bytes, unsigned n_workers);     /* lua_memory_max, of one worker */
uint64_t fae_memlimit_results(uint64_t limit_bytes, unsigned n_workers); /* mysql_results_max, of one worker */
uint64_t fae_memlimit_io(uint64_t limit_bytes);                          /* in_max, and out_max */
/* cache_size or query_cache_size: asked_bytes, or its share of less when both together, all_bytes, are too many */
uint64_t fae_memlimit_cache(uint64_t limit_bytes, uint64_t asked_bytes, uint64_t all_bytes);

#endif
