/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Words of the error table.
 */
#include "base/err.h"

#include <string.h>

static const struct {
    const char *name;
    bool retryable;
    const char *text;
} rows[] = {
#define FAE_ERR_ROW(name, retryable, text) { #name, retryable, text },
    FAE_ERR_MAP(FAE_ERR_ROW)
#undef FAE_ERR_ROW
};

const char *fae_err_name(enum fae_err err)
{
    return err < FAE_ERR_COUNT ? rows[err].name : "INTERNAL";
}

const char *fae_err_text(enum fae_err err)
{
    return err < FAE_ERR_COUNT ? rows[err].text : "unknown error";
}

bool fae_err_retryable(enum fae_err err)
{
    return err < FAE_ERR_COUNT && rows[err].retryable;
}

enum fae_err fae_err_of(const char *name, unsigned long len)
{
    for (int i = 0; i < FAE_ERR_COUNT; i++)
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
            return (enum fae_err)i;
    return FAE_ERR_COUNT;
}
