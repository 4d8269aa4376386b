/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Which of a pool's memcached servers has a key. Pure: the same servers in the same order give the same answer in every
 * process, on every node, and with KETAMA in every other client that does as libmemcached does.
 *
 *   KETAMA  libmemcached's weighted ketama with md5, which PHP's Memcached calls OPT_LIBKETAMA_COMPATIBLE: about 160 points of
 *           a circle for each server, as its weight is. A server that goes takes only its own keys along. Names count as they
 *           are written: a node and a PHP client agree only when both say 10.0.0.1, or both say cache-1.
 *   MODULO  fae's: (crc32(key) >> 16 & 0x7fff) modulo the number of servers, in the order of the configuration. No weights.
 */
#ifndef FAE_BACKEND_SELECTOR_MEMCACHE_H
#define FAE_BACKEND_SELECTOR_MEMCACHE_H

#include <stddef.h>

#include "base/endpoint.h"

/* In the order of the option `select` of memcache pools. */
enum fae_select_memcache { FAE_SELECT_KETAMA, FAE_SELECT_MODULO };

struct fae_selector_memcache;

/* Reads host, port and weight of n servers, 1 to FAE_POOL_SERVERS_MAX. */
struct fae_selector_memcache *fae_selector_memcache_new(enum fae_select_memcache how,
                                                        const struct fae_endpoint *servers, unsigned n);
void fae_selector_memcache_free(struct fae_selector_memcache **selector);

/* Its place in the list, from 0. */
unsigned fae_selector_memcache_pick(const struct fae_selector_memcache *selector, const void *key, size_t len);
/* The first n_wanted (1 to the number of servers) that come to it, each once: what pick says, then those that follow on the
 * circle or in the list. */
void fae_selector_memcache_picks(const struct fae_selector_memcache *selector, const void *key, size_t len,
                                 unsigned n_wanted, unsigned *servers_out);

#endif
