/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Replies of a redis as redis-cli might show them.
 */
#ifndef FAE_UNIT_REDIS_SHOW_H
#define FAE_UNIT_REDIS_SHOW_H

#include "unit.h"

#include "backend/redis_wire.h"
#include "base/buf.h"

/* Returns what stands behind the reply at p. */
UNIT_FN const uint8_t *unit_show(const uint8_t *p, struct fae_buf *text)
{
    struct fae_redis_item item;

    p = fae_redis_item(p, &item);
    switch (item.type) {
    case FAE_REDIS_STRING: fae_buf_printf(text, "\"%.*s\"", (int)item.n, item.text); break;
    case FAE_REDIS_STATUS: fae_buf_printf(text, "+%.*s", (int)item.n, item.text); break;
    case FAE_REDIS_ERROR: fae_buf_printf(text, "-%.*s", (int)item.n, item.text); break;
    case FAE_REDIS_INTEGER: fae_buf_printf(text, "%lld", (long long)item.integer); break;
    case FAE_REDIS_NIL: fae_buf_printf(text, "nil"); break;
    case FAE_REDIS_TOO_LONG: fae_buf_printf(text, "long"); break;
    case FAE_REDIS_TOO_DEEP: fae_buf_printf(text, "deep"); break;
    case FAE_REDIS_ARRAY:
        fae_buf_printf(text, "[");
        for (uint32_t i = 0; i < item.n; i++) {
            fae_buf_printf(text, i ? " " : "");
            p = unit_show(p, text);
        }
        fae_buf_printf(text, "]");
        break;
    }
    return p;
}

#endif
