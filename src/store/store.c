/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The services one after the other; each has its own file.
 */
#include "store/store.h"

#include <stdio.h>

#include "base/config.h"

enum fae_err fae_stores_open(struct fae_stores *stores, const struct fae_config *config, char *why_out, size_t why_size)
{
    (void)stores;
    (void)config;
    (void)why_out;
    (void)why_size;
    return FAE_OK;
}

void fae_stores_close(struct fae_stores *stores)
{
    (void)stores;
}

enum fae_err fae_stores_serve(struct fae_stores *stores, const struct fae_config *config, char *why_out,
                              size_t why_size)
{
    (void)stores;
    (void)config;
    (void)why_out;
    (void)why_size;
    return FAE_OK;
}

void fae_stores_rest(struct fae_stores *stores)
{
    (void)stores;
}

void fae_stores_reap(struct fae_stores *stores, unsigned slot)
{
    (void)stores;
    (void)slot;
}

void fae_stores_stats(const struct fae_stores *stores, fae_store_stat_fn tell, void *arg)
{
    (void)stores;
    (void)tell;
    (void)arg;
}
