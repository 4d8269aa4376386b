/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Redis' protocol, bytes alone: commands out, replies in. hiredis' reader does the reading, with functions of ours that
 * write what it finds into one buffer, the tape, in the order of the wire: a reply of a thousand elements costs no
 * allocation. What the server announces takes no memory; what it sends is bounded, and a reply that is too long is read to
 * its end and dropped, so that the next one is still the next one's.
 */
#ifndef FAE_BACKEND_REDIS_WIRE_H
#define FAE_BACKEND_REDIS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* One argument of a command; the first is its name. */
struct fae_redis_arg {
    const char *text;
    size_t len;
};

/* Appends the command's bytes. */
void fae_redis_put(struct fae_buf *out, const struct fae_redis_arg *args, unsigned n);
/* How many bytes that are. */
size_t fae_redis_put_len(const struct fae_redis_arg *args, unsigned n);

enum fae_redis_type {
    FAE_REDIS_STRING,
    FAE_REDIS_STATUS,
    FAE_REDIS_ERROR,
    FAE_REDIS_INTEGER,
    FAE_REDIS_NIL,
    FAE_REDIS_ARRAY,    /* n: its elements follow */
    FAE_REDIS_TOO_LONG, /* stands for a whole reply */
    FAE_REDIS_TOO_DEEP, /* so does this: more than FAE_DEPTH_MAX arrays inside each other */
};

/* One step of a tape. */
struct fae_redis_item {
    enum fae_redis_type type;
    uint32_t n; /* bytes of text, or elements */
    int64_t integer;
    const char *text; /* lent by the tape */
};
/* Reads the item at p, of which there must be one, and returns where the next would be. */
const uint8_t *fae_redis_item(const uint8_t *p, struct fae_redis_item *item_out);

struct fae_redis_reader;

/* reply_max: bytes of what is on the tape; a reply that would make it longer is TOO_LONG. */
struct fae_redis_reader *fae_redis_reader_new(size_t reply_max);
/* From now on. */
void fae_redis_reader_limit(struct fae_redis_reader *reader, size_t reply_max);
void fae_redis_reader_free(struct fae_redis_reader **reader);
/* Takes bytes in; copies them. Read until it is MORE before the next: hiredis moves all that it holds to the front with each
 * KiB that it has read, so that pieces of up to 16 KiB are best. */
void fae_redis_feed(struct fae_redis_reader *reader, const void *bytes, size_t len);
/* OK: one more reply stands at the end of the tape. MORE: it takes more bytes. BACKEND: what came is no reply, nor will be
 * what follows it; fae_redis_reader_why has a sentence. drop: nobody wants this one, which is not put on the tape; what was
 * put there of it is taken off. */
enum fae_err fae_redis_read(struct fae_redis_reader *reader, bool drop);
const char *fae_redis_reader_why(const struct fae_redis_reader *reader);
/* The replies read since it was emptied last; lent until the next read. */
const struct fae_buf *fae_redis_tape(const struct fae_redis_reader *reader);
void fae_redis_tape_clear(struct fae_redis_reader *reader);
/* The first item of the reply read last was an error. */
bool fae_redis_was_error(const struct fae_redis_reader *reader);
/* Bytes came that are no whole reply yet. */
bool fae_redis_reader_busy(const struct fae_redis_reader *reader);

#endif
