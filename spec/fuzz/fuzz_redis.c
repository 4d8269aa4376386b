/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/redis_wire: what a server sends, any bytes. Whole and in pieces it is the same replies and comes to the same end;
 * what stands on the tape can be walked to its end, and is never longer than it may be.
 */
#include "fuzz.h"

#include "backend/redis_wire.h"
#include "base/limits.h"

#define REPLY_MAX 300u /* so that short inputs have replies that are too long */

/* Nothing that was read is forgotten. */
struct heard {
    struct fae_buf bytes; /* of all tapes */
    unsigned n_replies;
    enum fae_err end;
    bool busy;
};

static const uint8_t *walk(const uint8_t *p, const uint8_t *end, unsigned depth)
{
    struct fae_redis_item item;

    FAE_ASSERT(p < end);
    FAE_ASSERT(depth <= FAE_DEPTH_MAX);
    p = fae_redis_item(p, &item);
    FAE_ASSERT(p <= end);
    if (item.type == FAE_REDIS_ARRAY)
        for (uint32_t i = 0; i < item.n; i++)
            p = walk(p, end, depth + 1);
    return p;
}

static void take(struct fae_redis_reader *reader, struct heard *heard, const uint8_t *bytes, size_t len)
{
    const struct fae_buf *tape;

    fae_redis_feed(reader, bytes, len);
    while ((heard->end = fae_redis_read(reader, false)) == FAE_OK) {
        tape = fae_redis_tape(reader);
        FAE_ASSERT(walk(tape->data, tape->data + tape->len, 0) == tape->data + tape->len);
        fae_buf_add(&heard->bytes, tape->data, tape->len);
        heard->n_replies++;
        fae_redis_tape_clear(reader);
    }
    heard->busy = fae_redis_reader_busy(reader);
}

static void hear(struct heard *heard, const uint8_t *bytes, size_t len, uint64_t *random)
{
    struct fae_redis_reader *reader = fae_redis_reader_new(REPLY_MAX);

    *heard = (struct heard){ .end = FAE_MORE };
    for (size_t at = 0; at < len && heard->end == FAE_MORE;) {
        size_t n = random ? fuzz_chunk(random, len - at) : len;
        uint8_t *copy = fuzz_copy(bytes + at, n);

        take(reader, heard, copy, n);
        free(copy);
        at += n;
    }
    fae_redis_reader_free(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint64_t random = fuzz_hash(bytes, len);
    struct heard whole, pieces;

    hear(&whole, bytes, len, NULL);
    for (unsigned i = 0; i < 3; i++) {
        hear(&pieces, bytes, len, &random);
        FAE_ASSERT(pieces.n_replies == whole.n_replies);
        FAE_ASSERT(pieces.end == whole.end);
        FAE_ASSERT(pieces.end != FAE_MORE || pieces.busy == whole.busy);
        FAE_ASSERT(pieces.bytes.len == whole.bytes.len);
        FAE_ASSERT(!pieces.bytes.len || memcmp(pieces.bytes.data, whole.bytes.data, whole.bytes.len) == 0);
        fae_buf_fini(&pieces.bytes);
    }
    fae_buf_fini(&whole.bytes);
    return 0;
}
