/* SPDX-License-Identifier: BSD-2-Clause
 *
 * JSON to msgpack with jansson and msgpack-c, which share no code with the server's own codec; msgpack to JSON with the
 * wire's readers, since msgpack-c reads no deeper than 32 levels and a node may answer with 64.
 */
#include "cmd/mpjson.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "wire/msgpack.h"

/* ---- JSON to msgpack ---- */

static void pack(msgpack_packer *pk, const json_t *value);

static int append(void *out, const char *bytes, size_t len)
{
    fae_buf_add(out, bytes, len);
    return 0;
}

static int nibble(int c)
{
    return isdigit(c) ? c - '0' : isxdigit(c) ? tolower(c) - 'a' + 10 : -1;
}

/* {"$bin":"00ff"} as a bin; false when the object is something else. */
static bool pack_bin(msgpack_packer *pk, const json_t *object)
{
    const json_t *hex = json_object_size(object) == 1 ? json_object_get(object, "$bin") : NULL;
    size_t len = json_string_length(hex);
    const char *p = json_string_value(hex);

    if (!p || len % 2)
        return false;
    for (size_t i = 0; i < len; i++)
        if (nibble((unsigned char)p[i]) < 0)
            return false;
    msgpack_pack_bin(pk, len / 2);
    for (size_t i = 0; i < len; i += 2) {
        uint8_t byte = (uint8_t)(nibble((unsigned char)p[i]) << 4 | nibble((unsigned char)p[i + 1]));

        msgpack_pack_bin_body(pk, &byte, 1);
    }
    return true;
}

static void pack_object(msgpack_packer *pk, const json_t *object)
{
    const char *key;
    json_t *item;

    msgpack_pack_map(pk, json_object_size(object));
    json_object_foreach((json_t *)object, key, item)
    {
        msgpack_pack_str(pk, strlen(key));
        msgpack_pack_str_body(pk, key, strlen(key));
        pack(pk, item);
    }
}

static void pack(msgpack_packer *pk, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL: msgpack_pack_nil(pk); return;
    case JSON_TRUE: msgpack_pack_true(pk); return;
    case JSON_FALSE: msgpack_pack_false(pk); return;
    case JSON_INTEGER: msgpack_pack_int64(pk, json_integer_value(value)); return;
    case JSON_REAL: msgpack_pack_double(pk, json_real_value(value)); return;
    case JSON_STRING:
        msgpack_pack_str(pk, json_string_length(value));
        msgpack_pack_str_body(pk, json_string_value(value), json_string_length(value));
        return;
    case JSON_ARRAY:
        msgpack_pack_array(pk, json_array_size(value));
        for (size_t i = 0; i < json_array_size(value); i++)
            pack(pk, json_array_get(value, i));
        return;
    case JSON_OBJECT:
        if (!pack_bin(pk, value))
            pack_object(pk, value);
        return;
    }
}

/* jansson's integers are signed: the upper half of uint64 is read here. */
static bool read_uint64(const char *text, uint64_t *v_out)
{
    char *end;

    if (!isdigit((unsigned char)text[0]) || text[0] == '0')
        return false;
    errno = 0;
    *v_out = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0;
}

enum fae_err fae_mpjson_read(const char *text, struct fae_buf *out, char *why, size_t size)
{
    msgpack_packer pk;
    json_error_t error;
    json_t *value;
    uint64_t v;

    msgpack_packer_init(&pk, out, append);
    if (read_uint64(text, &v)) {
        msgpack_pack_uint64(&pk, v);
        return FAE_OK;
    }
    value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!value) {
        snprintf(why, size, "%s", error.text);
        return FAE_BAD_ARGS;
    }
    pack(&pk, value);
    json_decref(value);
    return FAE_OK;
}

/* ---- msgpack to JSON ---- */

static void write_hex(struct fae_buf *out, const uint8_t *bytes, uint32_t len)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *to = fae_buf_room(out, 2 * (size_t)len);

    for (uint32_t i = 0; i < len; i++) {
        *to++ = (uint8_t)digits[bytes[i] >> 4];
        *to++ = (uint8_t)digits[bytes[i] & 15];
    }
    out->len += 2 * (size_t)len;
}

static void write_bytes(struct fae_buf *out, const uint8_t *bytes, uint32_t len)
{
    if (fae_utf8_valid(bytes, len)) {
        fae_buf_json(out, (const char *)bytes, len);
        return;
    }
    fae_buf_printf(out, "{\"$bin\":\"");
    write_hex(out, bytes, len);
    fae_buf_printf(out, "\"}");
}

/* The fewest digits that read back as the same number, and never those of an integer. */
static void write_float(struct fae_buf *out, double v)
{
    char text[40];

    if (!isfinite(v)) {
        fae_buf_printf(out, "{\"$float\":\"%s\"}", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    fae_buf_printf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static const uint8_t *write_key(struct fae_buf *out, const uint8_t *p)
{
    struct fae_buf text = { 0 };
    struct fae_mp_token t;
    const uint8_t *next = fae_mp_read(p, &t);

    if ((t.type == FAE_MP_STR || t.type == FAE_MP_BIN) && fae_utf8_valid(t.bytes, t.len)) {
        fae_buf_json(out, (const char *)t.bytes, t.len);
        return next;
    }
    next = fae_mpjson_write(&text, p);
    fae_buf_json(out, (const char *)text.data, text.len);
    fae_buf_fini(&text);
    return next;
}

static const uint8_t *write_array(struct fae_buf *out, const uint8_t *p, uint32_t n)
{
    fae_buf_add(out, "[", 1);
    for (uint32_t i = 0; i < n; i++) {
        fae_buf_add(out, ",", i > 0);
        p = fae_mpjson_write(out, p);
    }
    fae_buf_add(out, "]", 1);
    return p;
}

static const uint8_t *write_map(struct fae_buf *out, const uint8_t *p, uint32_t n)
{
    fae_buf_add(out, "{", 1);
    for (uint32_t i = 0; i < n; i++) {
        fae_buf_add(out, ",", i > 0);
        p = write_key(out, p);
        fae_buf_add(out, ":", 1);
        p = fae_mpjson_write(out, p);
    }
    fae_buf_add(out, "}", 1);
    return p;
}

const uint8_t *fae_mpjson_write(struct fae_buf *out, const uint8_t *p)
{
    struct fae_mp_token t;

    p = fae_mp_read(p, &t);
    switch (t.type) {
    case FAE_MP_NIL: fae_buf_add(out, "null", 4); return p;
    case FAE_MP_BOOL: fae_buf_printf(out, "%s", t.flag ? "true" : "false"); return p;
    case FAE_MP_INT: fae_buf_printf(out, "%lld", (long long)t.i); return p;
    case FAE_MP_UINT: fae_buf_printf(out, "%llu", (unsigned long long)t.u); return p;
    case FAE_MP_FLOAT: write_float(out, t.f); return p;
    case FAE_MP_STR:
    case FAE_MP_BIN: write_bytes(out, t.bytes, t.len); return p;
    case FAE_MP_ARRAY: return write_array(out, p, t.len);
    case FAE_MP_MAP: return write_map(out, p, t.len);
    case FAE_MP_EXT:
        fae_buf_printf(out, "{\"$ext\":[%d,\"", t.ext);
        write_hex(out, t.bytes, t.len);
        fae_buf_printf(out, "\"]}");
        return p;
    }
    return p;
}
