/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/bundle: files in, files out, and nothing believed that is not proven.
 */
#include "unit.h"

#include "wire/bundle.h"

static const struct {
    const char *path;
    const char *body;
    size_t len;
} files[] = {
    { "servants/user.lua", "return 1\n", 9 },
    { "servants/util/text.lua", "", 0 },
    { "lua/fae/redis.lua", "a\0b", 3 },
};

static struct fae_buf made(void)
{
    struct fae_buf buf = { 0 };

    fae_bundle_begin(&buf);
    for (unsigned i = 0; i < UNIT_N(files); i++)
        fae_bundle_add(&buf, files[i].path, files[i].body, files[i].len);
    return buf;
}

/* Opens a copy of exactly that size, so that a read beyond it is seen; walks what it accepts. */
static enum fae_err try_open(const void *bytes, size_t len)
{
    void *copy = malloc(len ? len : 1);
    struct fae_bundle_file file;
    struct fae_bundle bundle;
    size_t cursor = 0;
    enum fae_err err;

    if (len)
        memcpy(copy, bytes, len);
    err = fae_bundle_open(&bundle, copy, len);
    while (!err && fae_bundle_next(&bundle, &cursor, &file)) {
        assert_true(strlen(file.path) > 0);
        assert_int_equal(file.body[file.len], '\0');
        assert_true((const uint8_t *)file.body + file.len < bundle.bytes + bundle.len);
    }
    free(copy);
    return err;
}

static void files_come_back(void **state)
{
    struct fae_buf buf = made();
    struct fae_bundle_file file;
    struct fae_bundle bundle;
    size_t cursor = 0;

    (void)state;
    assert_int_equal(fae_bundle_open(&bundle, buf.data, buf.len), FAE_OK);
    for (unsigned i = 0; i < UNIT_N(files); i++) {
        assert_true(fae_bundle_next(&bundle, &cursor, &file));
        assert_string_equal(file.path, files[i].path);
        assert_int_equal(file.len, files[i].len);
        assert_memory_equal(file.body, files[i].body, file.len + 1);
        assert_true(fae_bundle_find(&bundle, files[i].path, &file));
        assert_int_equal(file.len, files[i].len);
    }
    assert_false(fae_bundle_next(&bundle, &cursor, &file));
    assert_false(fae_bundle_next(&bundle, &cursor, &file));
    assert_false(fae_bundle_find(&bundle, "servants/user", &file));
    assert_false(fae_bundle_find(&bundle, "", &file));
    fae_buf_fini(&buf);
}

static void an_empty_bundle_is_one(void **state)
{
    struct fae_buf buf = { 0 };
    struct fae_bundle_file file;
    struct fae_bundle bundle;
    size_t cursor = 0;

    (void)state;
    fae_bundle_begin(&buf);
    assert_int_equal(fae_bundle_open(&bundle, buf.data, buf.len), FAE_OK);
    assert_false(fae_bundle_next(&bundle, &cursor, &file));
    fae_buf_fini(&buf);
}

static void a_cut_bundle_is_refused(void **state)
{
    struct fae_buf buf = made();
    size_t ends[UNIT_N(files) + 1] = { 8 };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(files); i++)
        ends[i + 1] = ends[i] + 8 + strlen(files[i].path) + 1 + files[i].len + 1;
    assert_int_equal(ends[UNIT_N(files)], buf.len);
    for (size_t len = 0; len <= buf.len; len++) {
        bool at_end = false;

        for (unsigned i = 0; i < UNIT_N(ends); i++)
            at_end |= ends[i] == len;
        assert_int_equal(try_open(buf.data, len), at_end ? FAE_OK : FAE_BAD_MESSAGE);
    }
    fae_buf_fini(&buf);
}

static void broken_bytes_are_never_followed(void **state)
{
    static const struct {
        size_t at;
        const char *bytes;
        size_t len;
    } rows[] = {
        { 0, "FAEC", 4 }, /* magic */
        { 4, "\2", 1 },   /* version */
        { 8, "\0", 1 },   /* an empty path */
        { 8, "\x10", 1 }, /* a path that ends early */
        { 8, "\x12", 1 }, /* or late */
        { 8, "\xff\xff\xff\xff", 4 },
        { 12, "\xff\xff\xff\xff", 4 },
        { 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8 },
        { 12, "\x0a", 1 }, /* a body that does not end in NUL */
        { 20, "\0", 1 },   /* a NUL inside a path */
        { 33, "x", 1 },    /* none after it */
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_buf buf = made();

        memcpy(buf.data + rows[i].at, rows[i].bytes, rows[i].len);
        assert_int_equal(try_open(buf.data, buf.len), FAE_BAD_MESSAGE);
        fae_buf_fini(&buf);
    }
}

static void an_empty_path_is_refused(void **state)
{
    static const char bytes[] = "FAEB\1\0\0\0"
                                "\0\0\0\0\0\0\0\0\0";

    (void)state;
    assert_int_equal(try_open(bytes, 8), FAE_OK);
    assert_int_equal(try_open(bytes, 8 + 8 + 2), FAE_BAD_MESSAGE);
}

static void any_changed_byte_is_safe(void **state)
{
    struct fae_buf buf = made();

    (void)state;
    for (size_t at = 0; at < buf.len; at++) {
        uint8_t was = buf.data[at];

        for (unsigned v = 0; v < 256; v++) {
            buf.data[at] = (uint8_t)v;
            (void)try_open(buf.data, buf.len);
        }
        buf.data[at] = was;
    }
    assert_int_equal(try_open(buf.data, buf.len), FAE_OK);
    fae_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_come_back),          cmocka_unit_test(an_empty_bundle_is_one),
        cmocka_unit_test(a_cut_bundle_is_refused),  cmocka_unit_test(broken_bytes_are_never_followed),
        cmocka_unit_test(an_empty_path_is_refused), cmocka_unit_test(any_changed_byte_is_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
