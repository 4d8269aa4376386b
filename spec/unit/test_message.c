/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/message: frames read and written, as tables of bytes.
 */
#include "unit.h"

#include "rpc/message.h"
#include "wire/msgpack.h"

struct frame {
    const char *name;
    const char *bytes;
    size_t len;
    enum fae_message_kind kind;
    const char *why; /* NULL: none is given */
};

#define B(s) s, sizeof(s) - 1
#define SHAPE "a request is [0, msgid, method, params] or [0, msgid, method, params, context]"
#define MSGID "msgid must be an integer from 0 to 4294967295"
#define TYPE "message type must be 0 (request) or 2 (notification)"

static const struct frame frames[] = {
    { "request", B("\x94\x00\x01\xa1m\x90"), FAE_MESSAGE_CALL, NULL },
    { "request, array16", B("\xdc\x00\x04\x00\x01\xa1m\x90"), FAE_MESSAGE_CALL, NULL },
    { "request, context nil", B("\x95\x00\x01\xa1m\x90\xc0"), FAE_MESSAGE_CALL, NULL },
    { "request, context a map", B("\x95\x00\x01\xa1m\x90\x80"), FAE_MESSAGE_CALL, NULL },
    { "request, method bin", B("\x94\x00\x01\xc4\x01m\x90"), FAE_MESSAGE_CALL, NULL },
    { "request, type uint64", B("\x94\xcf\0\0\0\0\0\0\0\0\x01\xa1m\x90"), FAE_MESSAGE_CALL, NULL },
    { "request, msgid int64", B("\x94\x00\xd3\0\0\0\0\0\0\0\x01\xa1m\x90"), FAE_MESSAGE_CALL, NULL },
    { "request of 1", B("\x91\x00"), FAE_MESSAGE_COMPLAIN, "a request is [0, msgid, method, params]" },
    { "request of 2", B("\x92\x00\x01"), FAE_MESSAGE_REFUSE, SHAPE },
    { "request of 3", B("\x93\x00\x01\xa1m"), FAE_MESSAGE_REFUSE, SHAPE },
    { "request of 6", B("\x96\x00\x01\xa1m\x90\xc0\xc0"), FAE_MESSAGE_REFUSE, SHAPE },
    { "msgid negative", B("\x94\x00\xff\xa1m\x90"), FAE_MESSAGE_COMPLAIN, MSGID },
    { "msgid float", B("\x94\x00\xca\x3f\x80\0\0\xa1m\x90"), FAE_MESSAGE_COMPLAIN, MSGID },
    { "msgid nil", B("\x94\x00\xc0\xa1m\x90"), FAE_MESSAGE_COMPLAIN, MSGID },
    { "msgid 2^32", B("\x94\x00\xcf\0\0\0\1\0\0\0\0\xa1m\x90"), FAE_MESSAGE_COMPLAIN, MSGID },
    { "method int", B("\x94\x00\x01\x05\x90"), FAE_MESSAGE_REFUSE, "method must be a string" },
    { "method ext", B("\x94\x00\x01\xd4\x01m\x90"), FAE_MESSAGE_REFUSE, "method must be a string" },
    { "method empty", B("\x94\x00\x01\xa0\x90"), FAE_MESSAGE_REFUSE, "method must not be empty" },
    { "params nil", B("\x94\x00\x01\xa1m\xc0"), FAE_MESSAGE_REFUSE, "params must be an array" },
    { "params a map", B("\x94\x00\x01\xa1m\x80"), FAE_MESSAGE_REFUSE, "params must be an array" },
    { "context an array", B("\x95\x00\x01\xa1m\x90\x90"), FAE_MESSAGE_REFUSE,
      "context (the fifth element) must be a map" },
    { "context a string", B("\x95\x00\x01\xa1m\x91\x92\x01\xa1x\xa1x"), FAE_MESSAGE_REFUSE,
      "context (the fifth element) must be a map" },
    { "notification", B("\x93\x02\xa1m\x90"), FAE_MESSAGE_CALL, NULL },
    { "notification of 2", B("\x92\x02\xa1m"), FAE_MESSAGE_IGNORE, NULL },
    { "notification of 4", B("\x94\x02\xa1m\x90\x80"), FAE_MESSAGE_IGNORE, NULL },
    { "notification, method int", B("\x93\x02\x05\x90"), FAE_MESSAGE_IGNORE, NULL },
    { "notification, params nil", B("\x93\x02\xa1m\xc0"), FAE_MESSAGE_IGNORE, NULL },
    { "response", B("\x94\x01\x01\xc0\x05"), FAE_MESSAGE_IGNORE, NULL },
    { "response of 1", B("\x91\x01"), FAE_MESSAGE_IGNORE, NULL },
    { "type 3", B("\x94\x03\x01\xa1m\x90"), FAE_MESSAGE_COMPLAIN, TYPE },
    { "type -1", B("\x94\xff\x01\xa1m\x90"), FAE_MESSAGE_COMPLAIN, TYPE },
    { "type 2^64-1", B("\x94\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01\xa1m\x90"), FAE_MESSAGE_COMPLAIN, TYPE },
    { "type float", B("\x94\xca\0\0\0\0\x01\xa1m\x90"), FAE_MESSAGE_COMPLAIN, TYPE },
    { "type nil", B("\x94\xc0\x01\xa1m\x90"), FAE_MESSAGE_COMPLAIN, TYPE },
    { "type an array", B("\x91\x91\x00"), FAE_MESSAGE_COMPLAIN, TYPE },
    { "empty array", B("\x90"), FAE_MESSAGE_COMPLAIN, "an empty array is no message" },
    { "int", B("\x07"), FAE_MESSAGE_LOST, "a message is an array [0, msgid, method, params]" },
    { "map", B("\x80"), FAE_MESSAGE_LOST, "a message is an array [0, msgid, method, params]" },
    { "string", B("\xa1x"), FAE_MESSAGE_LOST, "a message is an array [0, msgid, method, params]" },
};

static void every_frame_is_what_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(frames); i++) {
        const struct frame *f = &frames[i];
        /* A copy of its own, so that a sanitizer sees a read beyond the end. */
        uint8_t *bytes = malloc(f->len);
        struct fae_request req = { 0 };
        struct fae_mp_scan scan;
        const char *why = NULL;
        enum fae_message_kind kind;

        memcpy(bytes, f->bytes, f->len);
        fae_mp_scan_init(&scan);
        if (fae_mp_scan(&scan, bytes, f->len, f->len) != FAE_OK || scan.pos != f->len)
            fail_msg("%s: no whole msgpack value", f->name);
        kind = fae_message_parse(bytes, &req, &why);
        if (kind != f->kind)
            fail_msg("%s: kind %d, not %d", f->name, kind, f->kind);
        if (f->why && (!why || strcmp(why, f->why) != 0))
            fail_msg("%s: \"%s\", not \"%s\"", f->name, why ? why : "(nothing)", f->why);
        free(bytes);
    }
}

static void a_request_is_taken_apart(void **state)
{
    static const uint8_t bytes[] = "\x95\x00\xce\xff\xff\xff\xff\xa3get\x92\x01\x91\x02\x81\xa3rid\x05";
    struct fae_request req = { .notification = true };
    const char *why;

    (void)state;
    assert_int_equal(fae_message_parse(bytes, &req, &why), FAE_MESSAGE_CALL);
    assert_false(req.notification);
    assert_int_equal(req.msgid, UINT32_MAX);
    assert_int_equal(req.method_len, 3);
    assert_memory_equal(req.method, "get", 3);
    assert_ptr_equal(req.params, bytes + 11);
    assert_ptr_equal(req.context, bytes + 15);
}

static void a_notification_is_taken_apart(void **state)
{
    static const uint8_t bytes[] = "\x93\x02\xc4\x02\xff\x00\x91\xc0";
    struct fae_request req = { .msgid = 9, .context = bytes };
    const char *why;

    (void)state;
    assert_int_equal(fae_message_parse(bytes, &req, &why), FAE_MESSAGE_CALL);
    assert_true(req.notification);
    assert_int_equal(req.msgid, 0);
    assert_int_equal(req.method_len, 2);
    assert_memory_equal(req.method, "\xff\x00", 2);
    assert_ptr_equal(req.params, bytes + 6);
    assert_null(req.context);
}

static void two_hundred_params_and_no_more(void **state)
{
    struct fae_buf bytes = { 0 };
    struct fae_request req;
    const char *why;

    (void)state;
    for (uint32_t n = 200; n <= 201; n++) {
        bytes.len = 0;
        fae_mp_array(&bytes, 4);
        fae_mp_uint(&bytes, 0);
        fae_mp_uint(&bytes, 1);
        FAE_MP_TEXT(&bytes, "m");
        fae_mp_array(&bytes, n);
        for (uint32_t i = 0; i < n; i++)
            fae_mp_nil(&bytes);
        assert_int_equal(fae_message_parse(bytes.data, &req, &why), n == 200 ? FAE_MESSAGE_CALL : FAE_MESSAGE_REFUSE);
    }
    assert_string_equal(why, "more than 200 params");
    fae_buf_fini(&bytes);
}

/* ---- writers ---- */

#define BYTES(buf, s)                                                                                                  \
    do {                                                                                                               \
        assert_int_equal((buf).len, sizeof(s) - 1);                                                                    \
        assert_memory_equal((buf).data, s, sizeof(s) - 1);                                                             \
    } while (0)

static struct fae_failure failure(const char *code, const char *text)
{
    return (struct fae_failure){
        .code = code, .code_len = strlen(code), .text = text, .text_len = strlen(text), .retry_after_ms = -1
    };
}

static void an_error_has_three_forms(void **state)
{
    struct fae_failure f = failure("LIMIT", "no");
    struct fae_buf out = { 0 };

    (void)state;
    fae_message_error(&out, FAE_ERROR_STRING, 5, &f);
    BYTES(out, "\x94\x01\x05\xa9LIMIT: no\xc0");
    out.len = 0;
    fae_message_error(&out, FAE_ERROR_ARRAY, 5, &f);
    BYTES(out, "\x94\x01\x05\x92\xa5LIMIT\xa2no\xc0");
    out.len = 0;
    fae_message_error(&out, FAE_ERROR_MAP, 5, &f);
    BYTES(out, "\x94\x01\x05\x83\xa4"
               "code\xa5LIMIT\xa7message\xa2no\xa9retryable\xc2\xc0");
    fae_buf_fini(&out);
}

static void a_map_has_what_there_is(void **state)
{
    struct fae_failure f = failure("BUSY", "");
    struct fae_buf out = { 0 }, detail = { 0 };

    (void)state;
    fae_mp_array(&detail, 1);
    fae_mp_uint(&detail, 7);
    f.retryable = true;
    f.retry_after_ms = 250;
    fae_message_error(&out, FAE_ERROR_MAP, 0, &f);
    BYTES(out, "\x94\x01\x00\x84\xa4"
               "code\xa4"
               "BUSY\xa7message\xa0\xa9retryable\xc3\xaeretry_after_ms\xcc\xfa\xc0");
    out.len = 0;
    f.retry_after_ms = 0;
    f.detail = &detail;
    fae_message_error(&out, FAE_ERROR_MAP, 0, &f);
    BYTES(out, "\x94\x01\x00\x85\xa4"
               "code\xa4"
               "BUSY\xa7message\xa0\xa9retryable\xc3\xaeretry_after_ms\x00\xa6"
               "detail\x91\x07\xc0");
    out.len = 0;
    fae_message_error(&out, FAE_ERROR_STRING, 0, &f); /* which has no place for them, and is never empty */
    BYTES(out, "\x94\x01\x00\xa6"
               "BUSY: \xc0");
    fae_buf_fini(&out);
    fae_buf_fini(&detail);
}

static void a_complaint_is_a_notification(void **state)
{
    struct fae_failure f = failure("TIMEOUT", "late");
    struct fae_buf out = { 0 };

    (void)state;
    fae_message_complaint(&out, FAE_ERROR_STRING, &f);
    BYTES(out, "\x93\x02\xa9sys.error\x91\xadTIMEOUT: late");
    out.len = 0;
    fae_message_complaint(&out, FAE_ERROR_ARRAY, &f);
    BYTES(out, "\x93\x02\xa9sys.error\x91\x92\xa7TIMEOUT\xa4late");
    fae_buf_fini(&out);
}

static void texts_go_out_as_utf8(void **state)
{
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } rows[] = {
        { B("plain"), "plain" },
        { B("\xe2\x82\xac"), "\xe2\x82\xac" },
        { B("a\xff"
            "b"),
          "a\xef\xbf\xbd"
          "b" },
        { B("\xe2\x82"), "\xef\xbf\xbd\xef\xbf\xbd" },
        { B("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        struct fae_failure f = { .code = rows[i].in,
                                 .code_len = rows[i].len,
                                 .text = rows[i].in,
                                 .text_len = rows[i].len,
                                 .retry_after_ms = -1 };
        struct fae_buf out = { 0 };
        size_t len = strlen(rows[i].out);

        fae_message_error(&out, FAE_ERROR_STRING, 1, &f);
        assert_int_equal(out.data[3], 0xa0 | (2 * len + 2));
        assert_memory_equal(out.data + 4, rows[i].out, len);
        assert_memory_equal(out.data + 4 + len, ": ", 2);
        assert_memory_equal(out.data + 6 + len, rows[i].out, len);
        out.len = 0;
        fae_message_error(&out, FAE_ERROR_ARRAY, 1, &f);
        assert_int_equal(out.len, 4 + 2 * (1 + len) + 1);
        assert_memory_equal(out.data + 5, rows[i].out, len);
        fae_buf_fini(&out);
    }
}

/* Whatever its length and its bytes, what goes out is one sound message of bounded size with whole characters. */
static void texts_are_cut_between_characters(void **state)
{
    static const char *const units[] = { "x", "\xe2\x82\xac", "\xff" };
    char *text = malloc(4 * FAE_ERROR_TEXT_MAX);

    (void)state;
    for (size_t u = 0; u < UNIT_N(units); u++)
        for (int extra = -3; extra <= 3; extra++) {
            size_t unit = strlen(units[u]), n = (FAE_ERROR_TEXT_MAX + (size_t)extra) / unit * unit;
            struct fae_failure f = { .code = "C", .code_len = 1, .text = text, .text_len = n, .retry_after_ms = -1 };
            struct fae_buf out = { 0 };
            struct fae_mp_token t;
            struct fae_mp_scan scan;
            size_t whole = u == 2 ? 3 : unit, most = FAE_ERROR_TEXT_MAX / whole * whole; /* u == 2 goes out as U+FFFD */
            size_t want = u == 2 || n > most ? most : n;

            for (size_t i = 0; i < n; i++)
                text[i] = units[u][i % unit];
            fae_message_error(&out, FAE_ERROR_STRING, 1, &f);
            fae_mp_scan_init(&scan);
            assert_int_equal(fae_mp_scan(&scan, out.data, out.len, out.len), FAE_OK);
            assert_int_equal(scan.pos, out.len);
            fae_mp_read(out.data + 3, &t);
            assert_int_equal(t.type, FAE_MP_STR);
            assert_int_equal(t.len, 3 + want);
            fae_buf_fini(&out);
        }
    free(text);
}

static void a_result_begins_with_94(void **state)
{
    static const struct {
        uint32_t msgid;
        const char *bytes;
        size_t len;
    } rows[] = {
        { 0, B("\x94\x01\x00\xc0") },
        { 127, B("\x94\x01\x7f\xc0") },
        { 128, B("\x94\x01\xcc\x80\xc0") },
        { 256, B("\x94\x01\xcd\x01\x00\xc0") },
        { 65536, B("\x94\x01\xce\x00\x01\x00\x00\xc0") },
        { UINT32_MAX, B("\x94\x01\xce\xff\xff\xff\xff\xc0") },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        struct fae_buf out = { 0 };

        fae_mp_byte(&out, 0x7f); /* goes behind what is there */
        fae_message_result(&out, rows[i].msgid);
        assert_int_equal(out.len, 1 + rows[i].len);
        assert_memory_equal(out.data + 1, rows[i].bytes, rows[i].len);
        fae_buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_is_what_it_is),        cmocka_unit_test(a_request_is_taken_apart),
        cmocka_unit_test(a_notification_is_taken_apart),    cmocka_unit_test(two_hundred_params_and_no_more),
        cmocka_unit_test(an_error_has_three_forms),         cmocka_unit_test(a_map_has_what_there_is),
        cmocka_unit_test(a_complaint_is_a_notification),    cmocka_unit_test(texts_go_out_as_utf8),
        cmocka_unit_test(texts_are_cut_between_characters), cmocka_unit_test(a_result_begins_with_94),
    };

    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
