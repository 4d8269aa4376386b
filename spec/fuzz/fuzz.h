/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the fuzz targets share. An input is the bytes of the thing itself, without a header of the target's own, so that
 * captured traffic is a seed as it is; whatever else a target has to choose (where to cut, how a client ends) it draws
 * from a generator that starts at the input's hash. So the same input always does the same.
 */
#ifndef FAE_FUZZ_H
#define FAE_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

/* What libFuzzer and replay.c call. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

__attribute__((unused)) static uint64_t fuzz_hash(const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash ? hash : 1;
}

__attribute__((unused)) static uint64_t fuzz_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* How many of the bytes that are left (1 at least) come next: all of them, a few, or any number. */
__attribute__((unused)) static size_t fuzz_chunk(uint64_t *state, size_t left)
{
    uint64_t r = fuzz_random(state);

    switch (r % 4) {
    case 0: return left;
    case 1:
    case 2: r = 1 + (r >> 8) % 8; break;
    default: r = 1 + (r >> 8) % left; break;
    }
    return r < left ? r : left;
}

/* The bytes in a block of exactly their size, where a sanitizer sees one byte too far. */
__attribute__((unused)) static uint8_t *fuzz_copy(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = fae_alloc(len ? len : 1);

    if (len)
        memcpy(copy, bytes, len);
    return copy;
}

#endif
