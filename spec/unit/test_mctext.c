/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/mctext: every line memcached answers with, whole and cut at every offset, and lines that are none.
 */
#include "unit.h"

#include "wire/mctext.h"

static const struct {
    const char *bytes;
    enum fae_mctext_type type;
    const char *text;
    uint32_t flags;
    uint64_t len, cas, number;
} lines[] = {
    { "END\r\n", FAE_MCTEXT_END, "", 0, 0, 0, 0 },
    { "STORED\r\n", FAE_MCTEXT_STORED, "", 0, 0, 0, 0 },
    { "NOT_STORED\r\n", FAE_MCTEXT_NOT_STORED, "", 0, 0, 0, 0 },
    { "EXISTS\r\n", FAE_MCTEXT_EXISTS, "", 0, 0, 0, 0 },
    { "NOT_FOUND\r\n", FAE_MCTEXT_NOT_FOUND, "", 0, 0, 0, 0 },
    { "DELETED\r\n", FAE_MCTEXT_DELETED, "", 0, 0, 0, 0 },
    { "TOUCHED\r\n", FAE_MCTEXT_TOUCHED, "", 0, 0, 0, 0 },
    { "VALUE k 0 0\r\n", FAE_MCTEXT_VALUE, "k", 0, 0, 0, 0 },
    { "VALUE key 4294967295 1048576 18446744073709551615\r\n", FAE_MCTEXT_VALUE, "key", UINT32_MAX, 1048576, UINT64_MAX,
      0 },
    { "VALUE k\xc3\xa9y 1 18446744073709551615 7\r\n", FAE_MCTEXT_VALUE, "k\xc3\xa9y", 1, UINT64_MAX, 7, 0 },
    { "0\r\n", FAE_MCTEXT_NUMBER, "", 0, 0, 0, 0 },
    { "18446744073709551615\r\n", FAE_MCTEXT_NUMBER, "", 0, 0, 0, UINT64_MAX },
    { "9  \r\n", FAE_MCTEXT_NUMBER, "", 0, 0, 0, 9 },
    { "ERROR\r\n", FAE_MCTEXT_ERROR, "ERROR", 0, 0, 0, 0 },
    { "ERROR Too many open connections\r\n", FAE_MCTEXT_ERROR, "ERROR Too many open connections", 0, 0, 0, 0 },
    { "CLIENT_ERROR bad data chunk\r\n", FAE_MCTEXT_CLIENT_ERROR, "CLIENT_ERROR bad data chunk", 0, 0, 0, 0 },
    { "SERVER_ERROR out of memory storing object\r\n", FAE_MCTEXT_SERVER_ERROR,
      "SERVER_ERROR out of memory storing object", 0, 0, 0, 0 },
};

static void lines_are_read(void **state)
{
    struct fae_mctext_line line;
    size_t used = 0;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(lines); i++) {
        const uint8_t *bytes = (const uint8_t *)lines[i].bytes;
        size_t len = strlen(lines[i].bytes);

        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(fae_mctext_read(bytes, cut, &line, &used), FAE_MORE);
        assert_int_equal(fae_mctext_read(bytes, len, &line, &used), FAE_OK);
        assert_int_equal(used, len);
        assert_int_equal(line.type, lines[i].type);
        assert_int_equal(line.text_len, strlen(lines[i].text));
        assert_memory_equal(line.text_len ? line.text : "", lines[i].text, line.text_len);
        assert_int_equal(line.flags, lines[i].flags);
        assert_true(line.len == lines[i].len);
        assert_true(line.cas == lines[i].cas);
        assert_true(line.number == lines[i].number);
    }
}

static void others_are_none(void **state)
{
    static const char *const rows[] = {
        "\n",
        "\r\n",
        "END\n",
        "END \r\n",
        "end\r\n",
        "OK\r\n",
        "VERSION 1.6.18\r\n",
        "STAT pid 1\r\n",
        "STOREDSTORED\r\n",
        "STORED\r\r\n",
        "ERRORS\r\n",
        "SERVER_ERRORS x\r\n",
        "VALUE\r\n",
        "VALUE \r\n",
        "VALUE k\r\n",
        "VALUE k 0\r\n",
        "VALUE k 0 \r\n",
        "VALUE  0 1\r\n",
        "VALUE k 0 -1\r\n",
        "VALUE k -1 1\r\n",
        "VALUE k 4294967296 1\r\n",
        "VALUE k 0 18446744073709551616\r\n",
        "VALUE k 0 99999999999999999999999\r\n",
        "VALUE k 0 1 18446744073709551616\r\n",
        "VALUE k 0 1 2 3\r\n",
        "VALUE k 0 1 \r\n",
        "VALUE k 0  1\r\n",
        "VALUE k\x01 0 1\r\n",
        "18446744073709551616\r\n",
        "-1\r\n",
        "1x\r\n",
        "1 2\r\n",
        " 1\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
    };
    struct fae_mctext_line line = { .number = 77 };
    uint8_t longest[FAE_MCTEXT_LINE_MAX];
    char key[300];
    size_t used = 0;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        if (fae_mctext_read((const uint8_t *)rows[i], strlen(rows[i]), &line, &used) != FAE_BAD_MESSAGE)
            fail_msg("%s", rows[i]);
    memset(longest, 'x', sizeof longest);
    assert_int_equal(fae_mctext_read(longest, sizeof longest - 1, &line, &used), FAE_MORE);
    assert_int_equal(fae_mctext_read(longest, sizeof longest, &line, &used), FAE_BAD_MESSAGE);
    memset(key, 'k', sizeof key); /* one byte more than a key may have */
    memcpy(key, "VALUE ", 6);
    memcpy(key + 6 + FAE_MCTEXT_KEY_MAX + 1, " 0 1\r\n", 7);
    assert_int_equal(fae_mctext_read((uint8_t *)key, strlen(key), &line, &used), FAE_BAD_MESSAGE);
}

static void keys(void **state)
{
    char key[FAE_MCTEXT_KEY_MAX + 1];

    (void)state;
    memset(key, 'k', sizeof key);
    assert_true(fae_mctext_is_key(key, FAE_MCTEXT_KEY_MAX));
    assert_false(fae_mctext_is_key(key, FAE_MCTEXT_KEY_MAX + 1));
    assert_false(fae_mctext_is_key(key, 0));
    for (unsigned c = 0; c < 256; c++) {
        key[3] = (char)c;
        assert_int_equal(fae_mctext_is_key(key, 10), c > 0x20 && c != 0x7f);
    }
}

static void check(struct fae_buf *buf, const char *text, size_t len)
{
    assert_int_equal(buf->len, len);
    assert_memory_equal(buf->data, text, len);
    buf->len = 0;
}

static void requests_are_written(void **state)
{
    struct fae_buf buf = { 0 };
    char key[FAE_MCTEXT_KEY_MAX];

    (void)state;
#define CHECK(text) check(&buf, text, sizeof text - 1)
    fae_mctext_store(&buf, FAE_MCTEXT_SET, "k", 1, 3, 60, "a\r\0b", 4, 0);
    CHECK("set k 3 60 4\r\na\r\0b\r\n");
    fae_mctext_store(&buf, FAE_MCTEXT_CAS, "key", 3, UINT32_MAX, -1, NULL, 0, UINT64_MAX);
    CHECK("cas key 4294967295 -1 0 18446744073709551615\r\n\r\n");
    fae_mctext_store(&buf, FAE_MCTEXT_ADD, "k", 1, 0, 0, "x", 1, 7);
    CHECK("add k 0 0 1\r\nx\r\n");
    fae_mctext_store(&buf, FAE_MCTEXT_REPLACE, "k", 1, 0, 0, "x", 1, 0);
    CHECK("replace k 0 0 1\r\nx\r\n");
    fae_mctext_store(&buf, FAE_MCTEXT_APPEND, "k", 1, 0, 0, "x", 1, 0);
    CHECK("append k 0 0 1\r\nx\r\n");
    fae_mctext_store(&buf, FAE_MCTEXT_PREPEND, "k", 1, 0, 0, "x", 1, 0);
    CHECK("prepend k 0 0 1\r\nx\r\n");
    fae_mctext_count(&buf, true, "k", 1, UINT64_MAX);
    CHECK("incr k 18446744073709551615\r\n");
    fae_mctext_count(&buf, false, "k", 1, 0);
    CHECK("decr k 0\r\n");
    fae_mctext_delete(&buf, "k", 1);
    CHECK("delete k\r\n");
    fae_mctext_touch(&buf, "k", 1, 5);
    CHECK("touch k 5\r\n");
    memset(key, 'k', sizeof key);
    fae_mctext_store(&buf, FAE_MCTEXT_CAS, key, sizeof key, UINT32_MAX, INT64_MIN, "", 0, UINT64_MAX);
    assert_true(buf.len <= FAE_MCTEXT_HEAD_MAX + 2);
    fae_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read),
        cmocka_unit_test(others_are_none),
        cmocka_unit_test(keys),
        cmocka_unit_test(requests_are_written),
    };

    return cmocka_run_group_tests_name("wire/mctext", tests, NULL, NULL);
}
