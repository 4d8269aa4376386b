/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Answers against a batch of calls: every way they can come in, whole and cut at every byte.
 */
#include "unit.h"

#include "cmd/tally.h"

#define BASE FAE_TALLY_MSGID_MIN
#define OK(n) "\x94\x01\xce\0\x01\0" n "\xc0\xa2ok"
#define BAD(n, code) "\x94\x01\xce\0\x01\0" n code "\xc0"

struct row {
    const char *what;
    const char *bytes;
    size_t len;
    uint32_t n;
    uint64_t n_ok, n_stray;
    uint32_t n_open;
    const char *code; /* of the only error, met n_errors times */
    const char *text;
    uint64_t n_errors;
};

#define BYTES(text) text, sizeof(text) - 1

static const struct row rows[] = {
    { "in order", BYTES(OK("\0") OK("\1") OK("\2")), 3, 3, 0, 0, NULL, NULL, 0 },
    { "in reverse", BYTES(OK("\2") OK("\1") OK("\0")), 3, 3, 0, 0, NULL, NULL, 0 },
    { "one missing", BYTES(OK("\0") OK("\2")), 3, 2, 0, 1, NULL, NULL, 0 },
    { "one twice", BYTES(OK("\0") OK("\1") OK("\1")), 3, 2, 1, 1, NULL, NULL, 0 },
    { "beyond the batch", BYTES(OK("\0") OK("\1")), 1, 1, 1, 0, NULL, NULL, 0 },
    { "below the batch", BYTES("\x94\x01\x05\xc0\xc0" OK("\0")), 1, 1, 1, 0, NULL, NULL, 0 },
    { "another result", BYTES(OK("\0") "\x94\x01\xce\0\x01\0\1\xc0\xa3not"), 2, 2, 0, 0, NULL, NULL, 0 },
    { "id not in the shortest form", BYTES("\x94\x01\xcf\0\0\0\0\0\x01\0\0\xc0\xc0" OK("\1")), 2, 2, 0, 0, NULL, NULL,
      0 },
    { "error string", BYTES(OK("\0") BAD("\1", "\xa9TIMEOUT: ")), 2, 1, 0, 0, "TIMEOUT", "", 1 },
    { "errors of one code", BYTES(BAD("\0", "\xa9LIMIT: ab") BAD("\1", "\xa9LIMIT: cd")), 2, 0, 0, 0, "LIMIT", "ab",
      2 },
    { "error array", BYTES(BAD("\0", "\x92\xa1X\xa1y")), 1, 0, 0, 0, "X", "y", 1 },
    { "error without a code", BYTES(BAD("\0", "\xa7no luck")), 1, 0, 0, 0, "ERROR", "no luck", 1 },
    { "an error equals no template", BYTES(OK("\0") OK("\1") "\x94\x01\xce\0\x01\0\2\xa1x\xc0"), 3, 2, 0, 0, "ERROR",
      "x", 1 },
    { "notification", BYTES("\x93\x02\xa1n\x91\x01" OK("\0")), 1, 1, 0, 0, NULL, NULL, 0 },
    { "a request", BYTES("\x94\x00\xce\0\x01\0\0\xa1x\x90" OK("\0")), 1, 1, 1, 0, NULL, NULL, 0 },
    { "no array", BYTES("\x07" OK("\0")), 1, 1, 1, 0, NULL, NULL, 0 },
};

static void check(const struct row *row, const struct fae_batch *batch, const struct fae_tally *tally)
{
    if (tally->n_ok != row->n_ok || tally->n_stray != row->n_stray || batch->n_open != row->n_open ||
        tally->n_rows != (row->code ? 1 : 0))
        fail_msg("%s: ok %llu, stray %llu, open %u, kinds of errors %u", row->what, (unsigned long long)tally->n_ok,
                 (unsigned long long)tally->n_stray, batch->n_open, tally->n_rows);
    if (row->code) {
        assert_string_equal(tally->rows[0].code, row->code);
        assert_string_equal(tally->rows[0].text, row->text);
        assert_int_equal(tally->rows[0].n, row->n_errors);
    }
    assert_int_equal(batch->part.len, 0);
}

/* Fed in pieces of `piece` bytes after the first `cut`. */
static void feed(const struct row *row, size_t cut, size_t piece)
{
    struct fae_tally tally = { 0 };
    struct fae_batch batch;

    fae_batch_init(&batch, row->n, false);
    fae_batch_reset(&batch, &tally);
    fae_batch_begin(&batch, BASE, row->n);
    assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)row->bytes, cut), FAE_OK);
    for (size_t at = cut; at < row->len; at += piece)
        assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)row->bytes + at,
                                        piece < row->len - at ? piece : row->len - at),
                         FAE_OK);
    check(row, &batch, &tally);
    fae_batch_fini(&batch);
    fae_tally_fini(&tally);
}

static void test_answers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        for (size_t cut = 0; cut <= rows[i].len; cut++)
            feed(&rows[i], cut, rows[i].len);
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        feed(&rows[i], 0, 1);
}

static void test_broken_streams(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        enum fae_err err;
    } streams[] = {
        { BYTES(OK("\0") "\xc1"), FAE_BAD_MESSAGE },
        { BYTES(OK("\0") "\xdb\xff\xff\xff\xff"), FAE_LIMIT },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(streams); i++) {
        struct fae_tally tally = { 0 };
        struct fae_batch batch;

        fae_batch_init(&batch, 2, false);
        fae_batch_reset(&batch, &tally);
        fae_batch_begin(&batch, BASE, 2);
        assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)streams[i].bytes, streams[i].len),
                         streams[i].err);
        assert_int_equal(tally.n_ok, 1);
        assert_int_equal(batch.n_open, 1);
        fae_batch_fini(&batch);
        fae_tally_fini(&tally);
    }
}

static void test_farewell(void **state)
{
    static const char bytes[] = OK("\1") "\x93\x02\xa9sys.error\x91\xa9LIMIT: no" OK("\0");
    struct fae_tally tally = { 0 };
    struct fae_batch batch;

    (void)state;
    fae_batch_init(&batch, 3, false);
    fae_batch_reset(&batch, &tally);
    fae_batch_begin(&batch, BASE, 3);
    assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)bytes, sizeof bytes - 1), FAE_CLOSED);
    assert_int_equal(batch.n_open, 0);
    assert_int_equal(batch.n_refused, 2);
    assert_int_equal(tally.n_ok, 1);
    assert_int_equal(tally.n_rows, 1);
    assert_string_equal(tally.rows[0].code, "LIMIT");
    assert_int_equal(tally.rows[0].n, 2);
    fae_batch_reset(&batch, &tally);
    fae_batch_begin(&batch, BASE, 1);
    assert_int_equal(batch.n_refused, 0);
    fae_batch_fini(&batch);
    fae_tally_fini(&tally);
}

/* A batch larger than a word of bits, and the next one on the same connection and on a new one. */
static void test_batches(void **state)
{
    struct fae_tally tally = { 0 };
    struct fae_batch batch;
    uint8_t answer[] = { 0x94, 0x01, 0xce, 0, 0x01, 0, 0, 0xc0, 0xc0 };

    (void)state;
    fae_batch_init(&batch, 130, false);
    fae_batch_reset(&batch, &tally);
    fae_batch_begin(&batch, BASE, 130);
    for (unsigned i = 0; i < 130; i++) {
        answer[6] = (uint8_t)(129 - i);
        assert_int_equal(fae_batch_feed(&batch, &tally, answer, sizeof answer), FAE_OK);
        assert_int_equal(batch.n_open, 129 - i);
    }
    assert_int_equal(tally.n_ok, 130);
    fae_batch_begin(&batch, BASE + 130, 64);
    assert_int_equal(batch.n_open, 64);
    assert_int_equal(fae_batch_feed(&batch, &tally, answer, sizeof answer), FAE_OK); /* of the batch before */
    assert_int_equal(tally.n_stray, 1);
    assert_int_equal(fae_batch_feed(&batch, &tally, answer, 4), FAE_OK);
    assert_int_equal(batch.part.len, 4);
    fae_batch_reset(&batch, &tally);
    fae_batch_begin(&batch, BASE, 1);
    assert_int_equal(batch.part.len, 0);
    fae_batch_fini(&batch);
    fae_tally_fini(&tally);
}

static void test_raw(void **state)
{
    struct fae_tally tally = { .raw.answer_bytes = 4 };
    struct fae_batch batch;

    (void)state;
    fae_batch_init(&batch, 3, false);
    fae_batch_reset(&batch, &tally);
    fae_batch_begin(&batch, BASE, 3);
    assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)"+OK\n+OK\n-N", 10), FAE_OK);
    assert_int_equal(batch.n_open, 1);
    assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)"O\n+OK\n", 6), FAE_OK);
    assert_int_equal(batch.n_open, 0);
    assert_int_equal(tally.n_ok, 2);
    assert_int_equal(tally.n_stray, 1);
    assert_int_equal(tally.n_rows, 1);
    assert_string_equal(tally.rows[0].code, "DIFFERENT");
    fae_batch_fini(&batch);
    fae_tally_fini(&tally);
}

/* A greeting is skipped on every connection, and the end of an answer may differ. */
static void test_raw_greeting(void **state)
{
    struct fae_tally tally = { .raw = { .answer_bytes = 4, .compare_bytes = 2, .greeting_bytes = 5 } };
    struct fae_batch batch;

    (void)state;
    fae_batch_init(&batch, 2, true);
    for (unsigned i = 0; i < 2; i++) {
        fae_batch_reset(&batch, &tally);
        assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)"hel", 3), FAE_OK);
        fae_batch_begin(&batch, BASE, 2);
        assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)"lo+OK1+OK2", 10), FAE_OK);
        assert_int_equal(batch.n_open, 0);
        assert_int_equal(batch.n_settled, 2);
        assert_int_equal(batch.settled[0], 0);
        assert_int_equal(batch.settled[1], 1);
    }
    assert_int_equal(tally.n_ok, 4);
    assert_int_equal(tally.n_stray + tally.n_rows + tally.n_failed, 0);
    fae_batch_fini(&batch);
    fae_tally_fini(&tally);
}

/* Each method's answers are held against a template of their own, and which calls were answered is told. */
static void test_methods(void **state)
{
    static const char bytes[] = OK("\0") "\x94\x01\xce\0\x01\0\1\xc0\x07" OK("\3") "\x94\x01\xce\0\x01\0\2\xc0\x07";
    struct fae_tally tally = { 0 };
    struct fae_batch batch;

    (void)state;
    fae_batch_init(&batch, 4, true);
    for (unsigned i = 0; i < 3; i++) {
        static const uint32_t order[] = { 0, 1, 3, 2 };

        fae_batch_begin(&batch, BASE, 4);
        batch.methods[1] = batch.methods[2] = 5;
        assert_int_equal(fae_batch_feed(&batch, &tally, (const uint8_t *)bytes, sizeof bytes - 1), FAE_OK);
        assert_int_equal(batch.n_settled, 4);
        assert_memory_equal(batch.settled, order, sizeof order);
    }
    assert_int_equal(tally.methods[0].n_ok, 6);
    assert_int_equal(tally.methods[5].n_ok, 6);
    assert_int_equal(tally.n_ok, 12);
    assert_int_equal(tally.methods[0].template.len, 11);
    assert_int_equal(tally.methods[5].template.len, 9);
    assert_int_equal(tally.n_stray + tally.n_failed, 0);
    fae_batch_fini(&batch);
    fae_tally_fini(&tally);
}

static void test_merge(void **state)
{
    struct fae_tally into = { 0 }, from = { 0 };

    (void)state;
    into.n_ok = 3;
    from.n_ok = from.methods[7].n_ok = 4;
    from.n_stray = 1;
    fae_tally_error(&into, "A", "first", 1);
    fae_tally_error(&from, "A", "later", 2);
    fae_tally_error(&from, "B", "other", 3);
    fae_tally_merge(&into, &from);
    assert_int_equal(into.n_ok, 7);
    assert_int_equal(into.methods[7].n_ok, 4);
    assert_int_equal(into.n_stray, 1);
    assert_int_equal(into.n_failed, 6);
    assert_int_equal(into.n_rows, 2);
    assert_int_equal(into.rows[0].n, 3);
    assert_string_equal(into.rows[0].text, "first");
    assert_int_equal(into.rows[1].n, 3);
}

static void test_kinds_of_errors(void **state)
{
    struct fae_tally tally = { 0 };
    uint64_t n = 0;
    char code[16];

    (void)state;
    for (unsigned i = 0; i < 3 * FAE_TALLY_ROWS; i++) {
        snprintf(code, sizeof code, "C%u", i);
        fae_tally_error(&tally, code, "text", 2);
    }
    assert_int_equal(tally.n_rows, FAE_TALLY_ROWS);
    assert_string_equal(tally.rows[FAE_TALLY_ROWS - 1].code, "OTHER");
    for (unsigned i = 0; i < tally.n_rows; i++)
        n += tally.rows[i].n;
    assert_int_equal(n, 3 * FAE_TALLY_ROWS * 2);
    assert_int_equal(tally.n_failed, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_broken_streams), cmocka_unit_test(test_batches),
        cmocka_unit_test(test_farewell),       cmocka_unit_test(test_raw),
        cmocka_unit_test(test_raw_greeting),   cmocka_unit_test(test_methods),
        cmocka_unit_test(test_merge),          cmocka_unit_test(test_kinds_of_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
