/* SPDX-License-Identifier: BSD-2-Clause
 *
 * msgpack: scan, read, write. All lengths are 64-bit here and compared as `announced > what is left`.
 */
#include "wire/msgpack.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "byte order of the readers below");

/* Tables, and cases that belong together: */
/* clang-format off */
/* Bytes of a token by its first byte, body included; 0: not told by that byte alone (scan_rare). */
#define X16(v) v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v
static const uint8_t token_bytes[256] = {
    X16(1), X16(1), X16(1), X16(1), X16(1), X16(1), X16(1), X16(1),
    /* fixmap, fixarray */ X16(0), X16(0),
    /* fixstr */ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
    17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    /* nil c1 false true bin8 16 32 ext8 16 32 f32 f64 u8 u16 u32 u64 */ 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 5, 9, 2, 3, 5, 9,
    /* i8 i16 i32 i64 fixext1 2 4 8 16 str8 16 32 array16 32 map16 32 */ 2, 3, 5, 9, 3, 4, 6, 10, 18, 0, 0, 0, 0, 0, 0, 0,
    X16(1), X16(1),
};

/* A token that announces a length or opens a container. On OK *size_out is its bytes, body included, and *opens_out the
 * values it wants, -1 when it is no container. */
static enum fae_err scan_rare(const uint8_t *p, size_t left, size_t room, size_t *size_out, int64_t *opens_out)
{
    static const uint8_t head_bytes[32] = {
        /* bin8 16 32 ext8 16 32 */ [0x04] = 2, 3, 5, 3, 4, 6, /* str8 16 32 array16 32 map16 32 */ [0x19] = 2, 3, 5, 3, 5, 3, 5,
    };
    size_t head = *p < 0xc0 ? 1 : head_bytes[*p - 0xc0];
    uint64_t body = 0;

    *opens_out = -1;
    if (head == 0)
        return FAE_BAD_MESSAGE;
    if (left < head) {
        /* An ext's length stands before its type: it is judged as soon as it is there. */
        if (*p == 0xc9 && left >= 5 && fae_be32(p + 1) > room)
            return FAE_LIMIT;
        return room < head ? FAE_LIMIT : FAE_MORE;
    }
    switch (*p) {
    case 0xc4: case 0xc7: case 0xd9: body = p[1]; break;
    case 0xc5: case 0xc8: case 0xda: body = fae_be16(p + 1); break;
    case 0xc6: case 0xc9: case 0xdb: body = fae_be32(p + 1); break;
    case 0xdc: *opens_out = fae_be16(p + 1); break;
    case 0xdd: *opens_out = fae_be32(p + 1); break;
    case 0xde: *opens_out = 2ll * fae_be16(p + 1); break;
    case 0xdf: *opens_out = 2ll * fae_be32(p + 1); break;
    default: *opens_out = *p < 0x90 ? (*p & 0x0f) * 2 : *p & 0x0f; break;
    }
    if (body > room)
        return FAE_LIMIT;
    *size_out = head + body;
    return FAE_OK;
}

/* clang-format on */
/* Opens a container of n values behind `pos`; false when that breaks a limit. */
static bool enter(struct fae_mp_scan *scan, uint32_t depth, size_t pos, uint64_t n, size_t max)
{
    /* Every value takes a byte at least: more than there is room for will never fit. */
    if (depth == FAE_DEPTH_MAX || pos > max || n > max - pos || n > FAE_ELEMENTS_MAX - scan->elements)
        return false;
    scan->elements += (uint32_t)n;
    return true;
}

enum fae_err fae_mp_scan(struct fae_mp_scan *scan, const uint8_t *bytes, size_t len, size_t max)
{
    size_t pos = scan->pos, end = len < max ? len : max;
    uint32_t depth = scan->depth;
    uint32_t todo = depth ? scan->todo[depth - 1] : pos == 0; /* values the innermost container still wants */
    enum fae_err err = FAE_OK;

    for (;;) {
        size_t size = 0;
        int64_t n;

        while (todo && pos < end && (size = token_bytes[bytes[pos]]) != 0) {
            pos += size;
            todo--;
        }
        if (todo == 0) {
            if (depth == 0)
                break;
            todo = --depth ? scan->todo[depth - 1] : 0;
            continue;
        }
        if (pos >= end)
            break;
        err = scan_rare(bytes + pos, len - pos, max - pos, &size, &n);
        if (err)
            break;
        pos += size;
        todo--;
        if (n < 0)
            continue;
        if (!enter(scan, depth, pos, (uint64_t)n, max)) {
            err = FAE_LIMIT;
            break;
        }
        if (depth)
            scan->todo[depth - 1] = todo;
        depth++;
        todo = (uint32_t)n;
    }
    scan->pos = pos;
    scan->depth = depth;
    if (depth)
        scan->todo[depth - 1] = todo;
    if (err)
        return err;
    if (pos > max || (todo && pos == max)) /* what is wanted has no room: more bytes would never help */
        return FAE_LIMIT;
    return todo == 0 && pos <= len ? FAE_OK : FAE_MORE;
}

const uint8_t *fae_mp_read_rare(const uint8_t *p, struct fae_mp_token *t)
{
    uint8_t b = *p++;
    uint32_t u32;
    float f32;

#define FAE_MP_BODY(kind, n, head)                                                                                     \
    do {                                                                                                               \
        t->type = kind;                                                                                                \
        t->len = (n);                                                                                                  \
        t->bytes = p + (head);                                                                                         \
        return t->bytes + t->len;                                                                                      \
    } while (0)
#define FAE_MP_OPEN(kind, n, head)                                                                                     \
    do {                                                                                                               \
        t->type = kind;                                                                                                \
        t->len = (n);                                                                                                  \
        return p + (head);                                                                                             \
    } while (0)
#define FAE_MP_UNSIGNED(value, head)                                                                                   \
    do {                                                                                                               \
        t->type = FAE_MP_UINT;                                                                                         \
        t->u = (value);                                                                                                \
        return p + (head);                                                                                             \
    } while (0)
#define FAE_MP_SIGNED(value, head)                                                                                     \
    do {                                                                                                               \
        t->i = (value);                                                                                                \
        t->type = t->i < 0 ? FAE_MP_INT : FAE_MP_UINT;                                                                 \
        return p + (head);                                                                                             \
    } while (0)
#define FAE_MP_EXTENSION(n, head)                                                                                      \
    do {                                                                                                               \
        t->ext = (int8_t)p[(head)-1];                                                                                  \
        FAE_MP_BODY(FAE_MP_EXT, n, head);                                                                              \
    } while (0)

    if (b < 0x80)
        FAE_MP_UNSIGNED(b, 0);
    if (b >= 0xe0)
        FAE_MP_SIGNED((int8_t)b, 0);
    if (b >= 0xa0 && b < 0xc0)
        FAE_MP_BODY(FAE_MP_STR, b & 0x1fu, 0);
    if (b < 0x90)
        FAE_MP_OPEN(FAE_MP_MAP, b & 0x0fu, 0);
    if (b < 0xa0)
        FAE_MP_OPEN(FAE_MP_ARRAY, b & 0x0fu, 0);
    switch (b) {
    case 0xc2:
    case 0xc3:
        t->type = FAE_MP_BOOL;
        t->flag = b == 0xc3;
        return p;
    case 0xc4: FAE_MP_BODY(FAE_MP_BIN, p[0], 1);
    case 0xc5: FAE_MP_BODY(FAE_MP_BIN, fae_be16(p), 2);
    case 0xc6: FAE_MP_BODY(FAE_MP_BIN, fae_be32(p), 4);
    case 0xc7: FAE_MP_EXTENSION(p[0], 2);
    case 0xc8: FAE_MP_EXTENSION(fae_be16(p), 3);
    case 0xc9: FAE_MP_EXTENSION(fae_be32(p), 5);
    case 0xca:
        u32 = fae_be32(p);
        memcpy(&f32, &u32, 4);
        t->type = FAE_MP_FLOAT;
        t->f = (double)f32;
        return p + 4;
    case 0xcb:
        t->type = FAE_MP_FLOAT;
        t->u = fae_be64(p);
        return p + 8;
    case 0xcc: FAE_MP_UNSIGNED(p[0], 1);
    case 0xcd: FAE_MP_UNSIGNED(fae_be16(p), 2);
    case 0xce: FAE_MP_UNSIGNED(fae_be32(p), 4);
    case 0xcf: FAE_MP_UNSIGNED(fae_be64(p), 8);
    case 0xd0: FAE_MP_SIGNED((int8_t)p[0], 1);
    case 0xd1: FAE_MP_SIGNED((int16_t)fae_be16(p), 2);
    case 0xd2: FAE_MP_SIGNED((int32_t)fae_be32(p), 4);
    case 0xd3: FAE_MP_SIGNED((int64_t)fae_be64(p), 8);
    case 0xd4: FAE_MP_EXTENSION(1, 1);
    case 0xd5: FAE_MP_EXTENSION(2, 1);
    case 0xd6: FAE_MP_EXTENSION(4, 1);
    case 0xd7: FAE_MP_EXTENSION(8, 1);
    case 0xd8: FAE_MP_EXTENSION(16, 1);
    case 0xd9: FAE_MP_BODY(FAE_MP_STR, p[0], 1);
    case 0xda: FAE_MP_BODY(FAE_MP_STR, fae_be16(p), 2);
    case 0xdb: FAE_MP_BODY(FAE_MP_STR, fae_be32(p), 4);
    case 0xdc: FAE_MP_OPEN(FAE_MP_ARRAY, fae_be16(p), 2);
    case 0xdd: FAE_MP_OPEN(FAE_MP_ARRAY, fae_be32(p), 4);
    case 0xde: FAE_MP_OPEN(FAE_MP_MAP, fae_be16(p), 2);
    case 0xdf: FAE_MP_OPEN(FAE_MP_MAP, fae_be32(p), 4);
    }
    t->type = FAE_MP_NIL;
    return p;
}

const uint8_t *fae_mp_skip(const uint8_t *p)
{
    uint64_t todo = 1;

    while (todo--) {
        struct fae_mp_token t;

        p = fae_mp_read(p, &t);
        if (t.type == FAE_MP_ARRAY)
            todo += t.len;
        else if (t.type == FAE_MP_MAP)
            todo += 2ull * t.len;
    }
    return p;
}

/* ---- writers ---- */

static void head8(struct fae_buf *out, uint8_t first, uint8_t v)
{
    uint8_t *p = fae_buf_room(out, 2);

    p[0] = first;
    p[1] = v;
    out->len += 2;
}

static void head16(struct fae_buf *out, uint8_t first, uint16_t v)
{
    uint8_t *p = fae_buf_room(out, 3);

    p[0] = first;
    v = __builtin_bswap16(v);
    memcpy(p + 1, &v, 2);
    out->len += 3;
}

static void head32(struct fae_buf *out, uint8_t first, uint32_t v)
{
    uint8_t *p = fae_buf_room(out, 5);

    p[0] = first;
    v = __builtin_bswap32(v);
    memcpy(p + 1, &v, 4);
    out->len += 5;
}

static void head64(struct fae_buf *out, uint8_t first, uint64_t v)
{
    uint8_t *p = fae_buf_room(out, 9);

    p[0] = first;
    v = __builtin_bswap64(v);
    memcpy(p + 1, &v, 8);
    out->len += 9;
}

void fae_mp_uint(struct fae_buf *out, uint64_t v)
{
    if (v < 0x80)
        fae_mp_byte(out, (uint8_t)v);
    else if (v <= 0xff)
        head8(out, 0xcc, (uint8_t)v);
    else if (v <= 0xffff)
        head16(out, 0xcd, (uint16_t)v);
    else if (v <= 0xffffffff)
        head32(out, 0xce, (uint32_t)v);
    else
        head64(out, 0xcf, v);
}

void fae_mp_int(struct fae_buf *out, int64_t v)
{
    if (v >= 0)
        fae_mp_uint(out, (uint64_t)v);
    else if (v >= -32)
        fae_mp_byte(out, (uint8_t)v);
    else if (v >= INT8_MIN)
        head8(out, 0xd0, (uint8_t)v);
    else if (v >= INT16_MIN)
        head16(out, 0xd1, (uint16_t)v);
    else if (v >= INT32_MIN)
        head32(out, 0xd2, (uint32_t)v);
    else
        head64(out, 0xd3, (uint64_t)v);
}

void fae_mp_float(struct fae_buf *out, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, 8);
    head64(out, 0xcb, bits);
}

void fae_mp_str_long(struct fae_buf *out, const char *text, size_t len)
{
    if (len <= 0xff)
        head8(out, 0xd9, (uint8_t)len);
    else if (len <= 0xffff)
        head16(out, 0xda, (uint16_t)len);
    else
        head32(out, 0xdb, (uint32_t)len);
    fae_buf_add(out, text, len);
}

void fae_mp_bin(struct fae_buf *out, const void *bytes, size_t len)
{
    if (len <= 0xff)
        head8(out, 0xc4, (uint8_t)len);
    else if (len <= 0xffff)
        head16(out, 0xc5, (uint16_t)len);
    else
        head32(out, 0xc6, (uint32_t)len);
    fae_buf_add(out, bytes, len);
}

void fae_mp_ext(struct fae_buf *out, int8_t type, const void *bytes, size_t len)
{
    static const uint8_t fixed[17] = { [1] = 0xd4, [2] = 0xd5, [4] = 0xd6, [8] = 0xd7, [16] = 0xd8 };

    if (len <= 16 && fixed[len])
        fae_mp_byte(out, fixed[len]);
    else if (len <= 0xff)
        head8(out, 0xc7, (uint8_t)len);
    else if (len <= 0xffff)
        head16(out, 0xc8, (uint16_t)len);
    else
        head32(out, 0xc9, (uint32_t)len);
    fae_mp_byte(out, (uint8_t)type);
    fae_buf_add(out, bytes, len);
}

void fae_mp_array(struct fae_buf *out, uint32_t n)
{
    if (n < 16)
        fae_mp_byte(out, (uint8_t)(0x90 | n));
    else if (n <= 0xffff)
        head16(out, 0xdc, (uint16_t)n);
    else
        head32(out, 0xdd, n);
}

void fae_mp_map(struct fae_buf *out, uint32_t n)
{
    if (n < 16)
        fae_mp_byte(out, (uint8_t)(0x80 | n));
    else if (n <= 0xffff)
        head16(out, 0xde, (uint16_t)n);
    else
        head32(out, 0xdf, n);
}
