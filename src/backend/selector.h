/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Which of a pool's servers has a key. Pure: the same servers in the same configuration give the same answer in every
 * process, on every node.
 *
 *   RING  fae's consistent hash: each server is 32 points of a circle, crc32(decimal(i) server), and a key belongs to the
 *         next point at or after crc32(key). A server that goes takes only its own keys along.
 *   JUMP  jump consistent hash over xxhash64 of the key: even shares, and a server more takes just its share; but servers
 *         may only be added to or taken from the end of the list.
 *
 * What stands in a key's first {...} is hashed instead of the key, when there is something in it, as by the kv store and by
 * redis cluster: keys that belong together lie on one server.
 */
#ifndef FAE_BACKEND_SELECTOR_H
#define FAE_BACKEND_SELECTOR_H

#include <stddef.h>
#include <stdint.h>

#define FAE_SELECTOR_POINTS 32u /* of a server of weight 1 */

/* In the order of the option `select` of redis pools. */
enum fae_select { FAE_SELECT_RING, FAE_SELECT_JUMP };

struct fae_selector;

/* Servers as the configuration has them or as they are shown: "10.0.0.1:6379" and "tcp://10.0.0.1:6379" are the same, and
 * "10.0.0.1:6379*2" gets twice as many keys. Borrows the texts; n is at least 1. */
struct fae_selector *fae_selector_new(enum fae_select how, const char *const *servers, unsigned n);
void fae_selector_free(struct fae_selector **selector);

/* Its place in the list, from 0. */
unsigned fae_selector_pick(const struct fae_selector *selector, const void *key, size_t len);

/* Jump consistent hash (Lamping, Veach 2014) of n buckets, n at least 1. */
uint32_t fae_selector_jump(uint64_t hash, uint32_t n);

#endif
