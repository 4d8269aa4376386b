/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the tests of wire/msgpack share: the scan of bytes however they come, and bytes from hex.
 */
#ifndef FAE_UNIT_MSGPACK_H
#define FAE_UNIT_MSGPACK_H

#include "unit.h"

#include "wire/msgpack.h"

#define X16 "00010203 04050607 08090a0b 0c0d0e0f" /* sixteen bytes, where any do */

/* Scans a copy of exactly that size, so that a read beyond it is seen. */
UNIT_FN enum fae_err scan_some(struct fae_mp_scan *scan, const uint8_t *bytes, size_t len, size_t max)
{
    uint8_t *copy = malloc(len ? len : 1);
    enum fae_err err;

    if (len)
        memcpy(copy, bytes, len);
    err = fae_mp_scan(scan, copy, len, max);
    free(copy);
    return err;
}

UNIT_FN enum fae_err scan_whole(const uint8_t *bytes, size_t len, size_t max, size_t *pos_out)
{
    struct fae_mp_scan scan;
    enum fae_err err;

    fae_mp_scan_init(&scan);
    err = scan_some(&scan, bytes, len, max);
    *pos_out = scan.pos;
    return err;
}

/* However the bytes come in, the end is the same, and a whole value is never seen early or late. */
UNIT_FN void scan_in_pieces(const uint8_t *bytes, size_t len, size_t max, enum fae_err want, size_t want_pos)
{
    struct fae_mp_scan scan;
    enum fae_err err;

    for (size_t cut = 0; cut <= len; cut++) {
        fae_mp_scan_init(&scan);
        err = scan_some(&scan, bytes, cut, max);
        if (want == FAE_OK)
            assert_int_equal(err, cut < want_pos ? FAE_MORE : FAE_OK);
        else
            assert_true(err == FAE_MORE || err == want);
        if (err == FAE_MORE)
            err = scan_some(&scan, bytes, len, max);
        assert_int_equal(err, want);
        if (want == FAE_OK)
            assert_int_equal(scan.pos, want_pos);
    }
    fae_mp_scan_init(&scan);
    err = FAE_MORE;
    for (size_t n = 0; n <= len && err == FAE_MORE; n++)
        err = scan_some(&scan, bytes, n, max);
    assert_int_equal(err, want);
    if (want == FAE_OK)
        assert_int_equal(scan.pos, want_pos);
}

UNIT_FN size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t n = 0;

    for (; *hex; hex++)
        if (*hex != ' ') {
            unsigned v;

            assert_int_equal(sscanf(hex, "%2x", &v), 1);
            bytes[n++] = (uint8_t)v;
            hex++;
        }
    return n;
}

#endif
