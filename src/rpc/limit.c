/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The rows of rpc/limit.h as text.
 */
#include "rpc/limit.h"

static const struct {
    const char *name, *help;
} rows[] = {
#define FAE_LIMIT_ROW(name, help) { #name, help },
    FAE_LIMIT_MAP(FAE_LIMIT_ROW)
#undef FAE_LIMIT_ROW
};

const char *fae_limit_name(enum fae_limit limit)
{
    return rows[limit].name;
}

const char *fae_limit_help(enum fae_limit limit)
{
    return rows[limit].help;
}
