/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Clients by address, for the host_* limits: a table in shared memory that the workers fill together. An IPv4 address is
 * a host, and so is an IPv6 network of 64 bits, which is what one customer has. A host is known while it has sessions,
 * and until its bucket is full again. Sessions and calls are counted a worker (one writer each), so that a dead worker's
 * share is given back.
 */
#ifndef FAE_RPC_HOSTS_H
#define FAE_RPC_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/nets.h"
#include "rpc/gate.h"

#define FAE_HOSTS_MAX 8192u /* known at once; those beyond are not limited */
#define FAE_HOST_NONE 0     /* a session that no host_* limit is applied to */

struct fae_hosts;

/* Region functions; arg: pointer to the number of workers (unsigned). */
size_t fae_hosts_size(const void *n_workers);
void fae_hosts_init(void *mem, const void *n_workers);

/* One more session of an address. FULL: it has `max` (0: no limit). OPEN: it counts until fae_hosts_leave; *host_out is
 * its number, or FAE_HOST_NONE when too many others are known. */
enum fae_gate_answer fae_hosts_enter(struct fae_hosts *hosts, const struct fae_ip *ip, uint64_t max, unsigned slot,
                                     uint64_t now_ns, uint16_t *host_out);
void fae_hosts_leave(struct fae_hosts *hosts, uint16_t host, unsigned slot);

/* A call of the host starts or ends to be in flight. */
void fae_host_began(struct fae_hosts *hosts, uint16_t host, unsigned slot);
void fae_host_ended(struct fae_hosts *hosts, uint16_t host, unsigned slot);
/* In flight on the node. */
uint32_t fae_host_calls(const struct fae_hosts *hosts, uint16_t host);
uint32_t fae_host_sessions(const struct fae_hosts *hosts, uint16_t host);
/* May it make a call now, by the rate alone? */
bool fae_host_take(struct fae_hosts *hosts, uint16_t host, const struct fae_gate_rule *rule, uint64_t now_ns,
                   uint32_t *retry_after_ms_out);

/* Gives that share back: the call was refused by another limit. */
void fae_host_give(struct fae_hosts *hosts, uint16_t host, const struct fae_gate_rule *rule);

/* A worker died, or starts: nothing is its own. */
void fae_hosts_reap(struct fae_hosts *hosts, unsigned slot);

#endif
