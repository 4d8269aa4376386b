/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Reads the frame of a message, writes the frames of answers.
 */
#include "rpc/message.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "wire/msgpack.h"

static bool is_text(const struct fae_mp_token *t)
{
    return t->type == FAE_MP_STR || t->type == FAE_MP_BIN;
}

/* method, params; then `n` more values, the first of them the context. NULL, or what is wrong. */
static const char *parse_call(const uint8_t *p, unsigned n, struct fae_request *req)
{
    struct fae_mp_token t;

    p = fae_mp_read(p, &t);
    if (!is_text(&t))
        return "method must be a string";
    if (t.len == 0)
        return "method must not be empty";
    req->method = (const char *)t.bytes;
    req->method_len = t.len;
    req->params = p;
    fae_mp_read(p, &t);
    if (t.type != FAE_MP_ARRAY)
        return "params must be an array";
    if (t.len > FAE_PARAMS_MAX)
        return "more than 200 params";
    req->context = NULL;
    if (n == 0)
        return NULL;
    p = fae_mp_skip(p);
    fae_mp_read(p, &t);
    if (t.type == FAE_MP_NIL)
        return NULL;
    if (t.type != FAE_MP_MAP)
        return "context (the fifth element) must be a map";
    req->context = p;
    return NULL;
}

enum fae_message_kind fae_message_parse(const uint8_t *p, struct fae_request *req, const char **why)
{
    struct fae_mp_token t;
    uint32_t n;

    p = fae_mp_read(p, &t);
    if (t.type != FAE_MP_ARRAY) {
        *why = "a message is an array [0, msgid, method, params]";
        return FAE_MESSAGE_LOST;
    }
    n = t.len;
    if (n == 0) {
        *why = "an empty array is no message";
        return FAE_MESSAGE_COMPLAIN;
    }
    p = fae_mp_read(p, &t);
    if (t.type != FAE_MP_UINT || t.u > 2) {
        *why = "message type must be 0 (request) or 2 (notification)";
        return FAE_MESSAGE_COMPLAIN;
    }
    if (t.u == 1)
        return FAE_MESSAGE_IGNORE;
    if (t.u == 2) {
        req->notification = true;
        req->msgid = 0;
        return n == 3 && !parse_call(p, 0, req) ? FAE_MESSAGE_CALL : FAE_MESSAGE_IGNORE;
    }
    if (n < 2) {
        *why = "a request is [0, msgid, method, params]";
        return FAE_MESSAGE_COMPLAIN;
    }
    p = fae_mp_read(p, &t);
    if (t.type != FAE_MP_UINT || t.u > UINT32_MAX) {
        *why = "msgid must be an integer from 0 to 4294967295";
        return FAE_MESSAGE_COMPLAIN;
    }
    req->notification = false;
    req->msgid = (uint32_t)t.u;
    if (n != 4 && n != 5) {
        *why = "a request is [0, msgid, method, params] or [0, msgid, method, params, context]";
        return FAE_MESSAGE_REFUSE;
    }
    *why = parse_call(p, n - 4, req);
    return *why ? FAE_MESSAGE_REFUSE : FAE_MESSAGE_CALL;
}

/* Appends text that clients can decode: UTF-8 whatever a servant raised, and no longer than an error should be. */
static void add_text(struct fae_buf *out, const char *text, size_t len)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t end = out->len + FAE_ERROR_TEXT_MAX;

    if (len <= FAE_ERROR_TEXT_MAX && fae_utf8_valid(text, len)) {
        fae_buf_add(out, text, len);
        return;
    }
    while (len) {
        unsigned n = fae_utf8_char((const uint8_t *)text, len);

        if (out->len + (n ? n : sizeof replacement - 1) > end)
            return;
        if (n)
            fae_buf_add(out, text, n);
        else
            fae_buf_add(out, replacement, sizeof replacement - 1);
        text += n ? n : 1;
        len -= n ? n : 1;
    }
}

static void put_text(struct fae_buf *out, const char *text, size_t len)
{
    struct fae_buf clean = { 0 };

    add_text(&clean, text, len);
    fae_mp_str(out, (const char *)clean.data, clean.len);
    fae_buf_fini(&clean);
}

/* "CODE: text"; never empty, since stock clients take an empty error for none. */
static void put_error_string(struct fae_buf *out, const struct fae_failure *f)
{
    struct fae_buf text = { 0 };

    add_text(&text, f->code, f->code_len);
    fae_buf_add(&text, ": ", 2);
    add_text(&text, f->text, f->text_len);
    fae_mp_str(out, (const char *)text.data, text.len);
    fae_buf_fini(&text);
}

static void put_error(struct fae_buf *out, enum fae_error_form form, const struct fae_failure *f)
{
    switch (form) {
    case FAE_ERROR_STRING: put_error_string(out, f); return;
    case FAE_ERROR_ARRAY:
        fae_mp_array(out, 2);
        put_text(out, f->code, f->code_len);
        put_text(out, f->text, f->text_len);
        return;
    case FAE_ERROR_MAP:
        fae_mp_map(out, 3 + (f->retry_after_ms >= 0) + (f->detail != NULL));
        FAE_MP_TEXT(out, "code");
        put_text(out, f->code, f->code_len);
        FAE_MP_TEXT(out, "message");
        put_text(out, f->text, f->text_len);
        FAE_MP_TEXT(out, "retryable");
        fae_mp_bool(out, f->retryable);
        if (f->retry_after_ms >= 0) {
            FAE_MP_TEXT(out, "retry_after_ms");
            fae_mp_int(out, f->retry_after_ms);
        }
        if (f->detail) {
            FAE_MP_TEXT(out, "detail");
            fae_buf_add(out, f->detail->data, f->detail->len);
        }
        return;
    }
}

void fae_message_error(struct fae_buf *out, enum fae_error_form form, uint32_t msgid, const struct fae_failure *f)
{
    fae_mp_array(out, 4);
    fae_mp_uint(out, 1);
    fae_mp_uint(out, msgid);
    put_error(out, form, f);
    fae_mp_nil(out);
}

void fae_message_refuse(struct fae_buf *out, enum fae_error_form form, uint32_t msgid, enum fae_err code,
                        uint32_t retry_after_ms)
{
    const char *name = fae_err_name(code), *text = fae_err_text(code);
    char line[160];
    int n;

    fae_mp_array(out, 4);
    fae_mp_uint(out, 1);
    fae_mp_uint(out, msgid);
    switch (form) {
    case FAE_ERROR_STRING:
        n = snprintf(line, sizeof line, "%s: %s; retry after %" PRIu32 " ms", name, text, retry_after_ms);
        fae_mp_str(out, line, (size_t)n);
        break;
    case FAE_ERROR_ARRAY:
        n = snprintf(line, sizeof line, "%s; retry after %" PRIu32 " ms", text, retry_after_ms);
        fae_mp_array(out, 2);
        fae_mp_str(out, name, strlen(name));
        fae_mp_str(out, line, (size_t)n);
        break;
    case FAE_ERROR_MAP:
        fae_mp_map(out, 4);
        FAE_MP_TEXT(out, "code");
        fae_mp_str(out, name, strlen(name));
        FAE_MP_TEXT(out, "message");
        fae_mp_str(out, text, strlen(text));
        FAE_MP_TEXT(out, "retryable");
        fae_mp_bool(out, fae_err_retryable(code));
        FAE_MP_TEXT(out, "retry_after_ms");
        fae_mp_uint(out, retry_after_ms);
        break;
    }
    fae_mp_nil(out);
}

void fae_message_complaint(struct fae_buf *out, enum fae_error_form form, const struct fae_failure *f)
{
    fae_mp_array(out, 3);
    fae_mp_uint(out, 2);
    FAE_MP_TEXT(out, "sys.error");
    fae_mp_array(out, 1);
    put_error(out, form, f);
}

void fae_message_result(struct fae_buf *out, uint32_t msgid)
{
    uint8_t *p = fae_buf_room(out, 9);

    p[0] = 0x94;
    p[1] = 0x01;
    if (msgid < 0x80) {
        p[2] = (uint8_t)msgid;
        p[3] = 0xc0;
        out->len += 4;
        return;
    }
    out->len += 2;
    fae_mp_uint(out, msgid);
    fae_mp_nil(out);
}
