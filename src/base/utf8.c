/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The part of the UTF-8 check that meets non-ASCII bytes.
 */
#include "base/utf8.h"

unsigned fae_utf8_char(const uint8_t *p, size_t len)
{
    unsigned need;
    uint32_t c, least;

    if (len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if ((p[0] & 0xe0) == 0xc0) {
        need = 2, c = p[0] & 0x1f, least = 0x80;
    } else if ((p[0] & 0xf0) == 0xe0) {
        need = 3, c = p[0] & 0x0f, least = 0x800;
    } else if ((p[0] & 0xf8) == 0xf0) {
        need = 4, c = p[0] & 0x07, least = 0x10000;
    } else {
        return 0;
    }
    if (len < need)
        return 0;
    for (unsigned i = 1; i < need; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    return need;
}

bool fae_utf8_valid_slow(const uint8_t *p, size_t len)
{
    while (len) {
        unsigned n = fae_utf8_char(p, len);

        if (n == 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}
