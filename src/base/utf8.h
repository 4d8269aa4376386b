/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Is it text? Decides between str and bin on the wire, and keeps logs and JSON valid.
 */
#ifndef FAE_BASE_UTF8_H
#define FAE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the UTF-8 character at p (1 to 4), or 0 when none starts there (overlong, surrogate, cut). RFC 3629. */
unsigned fae_utf8_char(const uint8_t *p, size_t len);
bool fae_utf8_valid_slow(const uint8_t *p, size_t len);

static inline bool fae_utf8_valid(const void *text, size_t len)
{
    const uint8_t *p = text;
    uint64_t w;

    for (; len >= 8; p += 8, len -= 8) {
        memcpy(&w, p, 8);
        if (w & 0x8080808080808080u)
            return fae_utf8_valid_slow(p, len);
    }
    for (; len; p++, len--)
        if (*p & 0x80)
            return fae_utf8_valid_slow(p, len);
    return true;
}

#endif
