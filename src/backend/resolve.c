/* SPDX-License-Identifier: BSD-2-Clause
 *
 * (in the making)
 */
#include "backend/resolve.h"

struct fae_resolver *fae_resolver_new(struct fae_loop *loop)
{
    (void)loop;
    return NULL;
}

void fae_resolver_free(struct fae_resolver **resolver)
{
    *resolver = NULL;
}
