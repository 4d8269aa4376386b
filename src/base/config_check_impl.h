/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of config_check share. Nobody else includes it.
 *
 *   config_check   the form of texts, clashes of options and of who calls us
 *   config_pools   clashes of whom we call: pools, shards, kv_backend
 */
#ifndef FAE_BASE_CONFIG_CHECK_IMPL_H
#define FAE_BASE_CONFIG_CHECK_IMPL_H

#include "base/config_check.h"
#include "base/suggest.h"

struct fae_config_teller {
    const struct fae_config *config;
    fae_config_clash_fn tell;
    void *arg;
};

void __attribute__((format(printf, 3, 4)))
fae_config_tell(const struct fae_config_teller *t, const struct fae_config_clash *clash, const char *fmt, ...);
/* "roles: there is no role "x"", with the nearest of what there is; "role" is what. */
void fae_config_tell_unknown(const struct fae_config_teller *t, const struct fae_config_clash *clash, const char *what,
                             const struct fae_suggest *near);
/* A certificate and its key, whose options are names: neither without the other. */
void fae_config_check_pair(const struct fae_config_teller *t, const char *section, unsigned index, const char *cert,
                           const char *key, const char *names[2]);

/* "0-511=UserShard1" or "7=UserShard1"; false: it is neither. Lends the pool's name, out of text. */
bool fae_config_buckets(const char *text, unsigned *from_out, unsigned *to_out, const char **pool_out);

void fae_config_check_pools(const struct fae_config_teller *t);

#endif
