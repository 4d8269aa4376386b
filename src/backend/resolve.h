/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Names to addresses, off the loop: getaddrinfo on a lane of its own, a worker. An answer is kept for FAE_RESOLVE_KEEP_MS;
 * when the name server fails or takes longer than a moment, the last one is used on. Addresses, unix paths and "localhost"
 * need no looking up. Nobody waits longer than FAE_RESOLVE_LIMIT_MS; who has less time cancels.
 */
#ifndef FAE_BACKEND_RESOLVE_H
#define FAE_BACKEND_RESOLVE_H

#include <stddef.h>

#include "base/endpoint.h"
#include "base/err.h"
#include "base/list.h"
#include "net/addr.h"
#include "net/loop.h"

#define FAE_RESOLVE_KEEP_MS 5000u
#define FAE_RESOLVE_PATIENCE_MS 250u /* that a lookup may take before the last good answer is used */
#define FAE_RESOLVE_LIMIT_MS 5000u   /* that anybody waits for a name that was never found */
#define FAE_RESOLVE_AGAIN_MS 1000u   /* after a failure, while the last good answer is used */
#define FAE_RESOLVE_ADDRS 8u         /* of one name; more are left out */

struct fae_resolver;

struct fae_resolver *fae_resolver_new(struct fae_loop *loop);
/* For specs: all its times are so many times shorter. */
void fae_resolver_hurry(struct fae_resolver *resolver, unsigned times);
/* Who waits is not told any more. */
void fae_resolver_free(struct fae_resolver **resolver);

/* Somebody who waits for addresses: the caller's memory until done or cancelled. */
struct fae_resolve {
    struct fae_list node;
    /* From the loop. OK: n >= 1 addresses, lent, to be tried in that order. UNAVAILABLE: why is a sentence, lent:
     * "redis.internal: Name or service not known". */
    void (*done)(struct fae_resolve *resolve, enum fae_err err, const struct fae_addr *addrs, unsigned n,
                 const char *why);
};
/* OK: addrs_out (FAE_RESOLVE_ADDRS) and *n_out are known at once, resolve is not used. MORE: done will be called. */
enum fae_err fae_resolve(struct fae_resolver *resolver, const struct fae_endpoint *endpoint,
                         struct fae_resolve *resolve, struct fae_addr *addrs_out, unsigned *n_out);
void fae_resolve_cancel(struct fae_resolver *resolver, struct fae_resolve *resolve);

#endif
