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
    uint64_t w = 0, last;
    uint32_t a, b;

    /* ASCII is proven with loads that overlap at the end; what is not ASCII is looked at again, byte by byte. */
    if (len >= 8) {
        for (size_t i = 0; i + 8 <= len; i += 8) {
            memcpy(&last, p + i, 8);
            w |= last;
        }
        memcpy(&last, p + len - 8, 8);
        w |= last;
    } else if (len >= 4) {
        memcpy(&a, p, 4);
        memcpy(&b, p + len - 4, 4);
        w = a | b;
    } else if (len) {
        w = p[0] | p[len / 2] | p[len - 1];
    }
    return !(w & 0x8080808080808080u) || fae_utf8_valid_slow(p, len);
}

#endif
