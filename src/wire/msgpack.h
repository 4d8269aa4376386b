/* SPDX-License-Identifier: BSD-2-Clause
 *
 * msgpack bytes, pure: no fd, no clock, no Lua. Three parts:
 *   scan     finds the end of one value and proves it sound, resumable at any byte, so that what decodes after it needs
 *            no bounds checks and cannot fail half-way;
 *   readers  one token at a time, for bytes that a scan has proven;
 *   writers  append to a buffer, always in the shortest form.
 * Format: the msgpack specification (2013, with bin, ext and str8).
 */
#ifndef FAE_WIRE_MSGPACK_H
#define FAE_WIRE_MSGPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"

/* ---- scan ---- */

struct fae_mp_scan {
    size_t pos;                   /* of the next token; beyond the bytes there are while inside a str, bin or ext */
    uint32_t elements;            /* announced so far, over all levels */
    uint32_t depth;               /* open containers */
    uint32_t todo[FAE_DEPTH_MAX]; /* values each open container still wants */
};

static inline void fae_mp_scan_init(struct fae_mp_scan *scan)
{
    scan->pos = 0;
    scan->elements = 0;
    scan->depth = 0;
}

/* Goes on scanning the value that starts at bytes[0]; `len` bytes of it are there by now, and it may not become longer
 * than `max`. FAE_OK: whole, scan->pos is its length. FAE_MORE: call again with more bytes, nothing is looked at twice.
 * FAE_BAD_MESSAGE: the byte at scan->pos is no msgpack (0xc1). FAE_LIMIT: too long, too deep or too many elements, told
 * from the announced lengths alone. After an error the stream cannot be followed any more. */
enum fae_err fae_mp_scan(struct fae_mp_scan *scan, const uint8_t *bytes, size_t len, size_t max);

/* ---- readers: only for bytes that a scan has proven ---- */

enum fae_mp_type {
    FAE_MP_NIL,
    FAE_MP_BOOL,
    FAE_MP_INT,
    FAE_MP_UINT,
    FAE_MP_FLOAT,
    FAE_MP_STR,
    FAE_MP_BIN,
    FAE_MP_ARRAY,
    FAE_MP_MAP,
    FAE_MP_EXT
};

struct fae_mp_token {
    enum fae_mp_type type;
    uint32_t len; /* STR BIN EXT: bytes; ARRAY: values; MAP: pairs */
    int8_t ext;   /* EXT: its type */
    bool flag;    /* BOOL */
    union {
        uint64_t u;           /* UINT: any value that is not negative */
        int64_t i;            /* INT: negative values only */
        double f;             /* FLOAT, float32 included */
        const uint8_t *bytes; /* STR BIN EXT: lends from the input */
    };
};

const uint8_t *fae_mp_read_rare(const uint8_t *p, struct fae_mp_token *token);

/* Reads the token at p and returns where the next one starts. */
static inline const uint8_t *fae_mp_read(const uint8_t *p, struct fae_mp_token *token)
{
    uint8_t b = *p;

    if (b < 0x80) {
        token->type = FAE_MP_UINT;
        token->u = b;
        return p + 1;
    }
    if ((b & 0xe0) == 0xa0) {
        token->type = FAE_MP_STR;
        token->len = b & 0x1f;
        token->bytes = p + 1;
        return p + 1 + token->len;
    }
    if ((b & 0xf0) == 0x90) {
        token->type = FAE_MP_ARRAY;
        token->len = b & 0x0f;
        return p + 1;
    }
    return fae_mp_read_rare(p, token);
}

/* Where the value after the one at p starts. */
const uint8_t *fae_mp_skip(const uint8_t *p);

/* ---- writers ---- */

void fae_mp_uint(struct fae_buf *out, uint64_t v);
void fae_mp_int(struct fae_buf *out, int64_t v);
void fae_mp_float(struct fae_buf *out, double v);
void fae_mp_str_long(struct fae_buf *out, const char *text, size_t len); /* 32 bytes and more */
void fae_mp_bin(struct fae_buf *out, const void *bytes, size_t len);
void fae_mp_ext(struct fae_buf *out, int8_t type, const void *bytes, size_t len);
void fae_mp_array(struct fae_buf *out, uint32_t n);
void fae_mp_map(struct fae_buf *out, uint32_t n);

static inline void fae_mp_byte(struct fae_buf *out, uint8_t byte)
{
    *fae_buf_room(out, 1) = byte;
    out->len++;
}

static inline void fae_mp_str(struct fae_buf *out, const char *text, size_t len)
{
    if (len < 32) {
        uint8_t *p = fae_buf_room(out, 32);

        p[0] = (uint8_t)(0xa0 | len);
        if (len)
            memcpy(p + 1, text, len);
        out->len += len + 1;
    } else {
        fae_mp_str_long(out, text, len);
    }
}

static inline void fae_mp_nil(struct fae_buf *out)
{
    fae_mp_byte(out, 0xc0);
}

static inline void fae_mp_bool(struct fae_buf *out, bool v)
{
    fae_mp_byte(out, v ? 0xc3 : 0xc2);
}

/* A literal. */
#define FAE_MP_TEXT(out, text) fae_mp_str(out, text, sizeof(text) - 1)

static inline uint16_t fae_be16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}

static inline uint32_t fae_be32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

static inline uint64_t fae_be64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

#endif
