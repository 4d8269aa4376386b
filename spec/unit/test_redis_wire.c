/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/redis_wire: commands as hiredis formats them, replies whole and cut at every byte, replies that are too long, and
 * bytes that are none.
 */
#include "unit_redis_show.h"

#include <hiredis/hiredis.h>

#include "base/limits.h"

/* ---- out ---- */

static void check_command(const struct fae_redis_arg *args, unsigned n)
{
    struct fae_buf out = { 0 };
    const char *texts[64];
    size_t lens[64];
    char *expected;
    int len;

    for (unsigned i = 0; i < n; i++) {
        texts[i] = args[i].text;
        lens[i] = args[i].len;
    }
    len = (int)redisFormatCommandArgv(&expected, (int)n, texts, lens);
    fae_buf_add(&out, "x", 1);
    fae_redis_put(&out, args, n);
    assert_int_equal(out.len, (size_t)len + 1);
    assert_int_equal(fae_redis_put_len(args, n), len);
    assert_memory_equal(out.data + 1, expected, (size_t)len);
    free(expected);
    fae_buf_fini(&out);
}

static void commands_are_as_hiredis_makes_them(void **state)
{
    static char bytes[200000];
    struct fae_redis_arg args[64];
    uint64_t random = 42;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)unit_random(&random);
    for (unsigned round = 0; round < 300; round++) {
        unsigned n = 1 + (unsigned)(unit_random(&random) % 64);

        for (unsigned i = 0; i < n; i++)
            args[i] = (struct fae_redis_arg){ bytes + unit_random(&random) % 1000,
                                              unit_random(&random) % (round % 50 == 0 ? 150000 : 120) };
        check_command(args, n);
    }
}

/* ---- in ---- */

struct read {
    struct fae_redis_reader *reader;
    struct fae_buf text; /* of all replies, each with a space behind it */
    enum fae_err err;
};

static void take(struct read *r, const void *bytes, size_t len)
{
    fae_redis_feed(r->reader, bytes, len);
    while ((r->err = fae_redis_read(r->reader, false)) == FAE_OK) {
        unit_show(fae_redis_tape(r->reader)->data, &r->text);
        fae_buf_printf(&r->text, " ");
        fae_redis_tape_clear(r->reader);
    }
}

static void begin(struct read *r, size_t reply_max)
{
    *r = (struct read){ .reader = fae_redis_reader_new(reply_max) };
}

static void end(struct read *r)
{
    fae_redis_reader_free(&r->reader);
    fae_buf_fini(&r->text);
}

static void check(struct read *r, const char *expected)
{
    assert_int_equal(r->err, FAE_MORE);
    assert_false(fae_redis_reader_busy(r->reader));
    assert_string_equal(fae_buf_text(&r->text), expected);
}

/* Whole, byte by byte, and in two at every place. */
static void check_cuts(const char *bytes, size_t len, size_t reply_max, const char *expected)
{
    struct read r;

    begin(&r, reply_max);
    take(&r, bytes, len);
    check(&r, expected);
    end(&r);
    begin(&r, reply_max);
    for (size_t i = 0; i < len; i++)
        take(&r, bytes + i, 1);
    check(&r, expected);
    end(&r);
    for (size_t cut = 1; cut < len; cut++) {
        begin(&r, reply_max);
        take(&r, bytes, cut);
        take(&r, bytes + cut, len - cut);
        check(&r, expected);
        end(&r);
    }
}

static void replies_of_every_kind_in_any_pieces(void **state)
{
    static const struct {
        const char *bytes, *expected;
    } cases[] = {
        { "+OK\r\n", "+OK " },
        { "+\r\n", "+ " },
        { "-ERR no\r\n", "-ERR no " },
        { ":0\r\n:-9223372036854775808\r\n:9223372036854775807\r\n", "0 -9223372036854775808 9223372036854775807 " },
        { "$3\r\na\nb\r\n$0\r\n\r\n$-1\r\n", "\"a\nb\" \"\" nil " },
        { "*0\r\n*-1\r\n", "[] nil " },
        { "*3\r\n$1\r\na\r\n$-1\r\n:7\r\n+Z\r\n", "[\"a\" nil 7] +Z " },
        { "*2\r\n*2\r\n:1\r\n*1\r\n-E x\r\n*0\r\n:5\r\n", "[[1 [-E x]] []] 5 " },
        { "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "[[[[[[[1]]]]]]] " },
        { "*2\r\n*2\r\n*1\r\n*2\r\n*2\r\n*1\r\n*2\r\n*2\r\n*3\r\n*0\r\n$-1\r\n+a\r\n:1\r\n*-1\r\n:2\r\n-E\r\n$1\r\nb\r\n:3\r\n:4\r\n",
          "[[[[[[[[[[] nil +a] 1] nil]] 2] -E]] \"b\"] 3] 4 " },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(cases); i++)
        check_cuts(cases[i].bytes, strlen(cases[i].bytes), 1000, cases[i].expected);
}

static void replies_that_are_too_long_are_read_past(void **state)
{
    struct fae_buf in = { 0 };

    (void)state;
    fae_buf_printf(
        &in,
        ":1\r\n$60\r\n%060d\r\n+A\r\n*3\r\n$20\r\n%020d\r\n:2\r\n$20\r\n%020d\r\n*2\r\n$60\r\n%060d\r\n:9\r\n:3\r\n", 0,
        0, 0, 0);
    check_cuts((const char *)in.data, in.len, 30, "1 long +A long long 3 ");
    fae_buf_fini(&in);
}

static void a_string_of_many_megabytes_takes_no_memory(void **state)
{
    static char bytes[16384];
    struct read r;

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    begin(&r, 64 * FAE_KIB);
    take(&r, "$268435456\r\n", 12);
    for (size_t left = 268435456; left; left -= sizeof bytes)
        take(&r, bytes, sizeof bytes);
    assert_true(fae_redis_reader_busy(r.reader));
    take(&r, "\r\n:7\r\n", 6);
    check(&r, "long 7 ");
    end(&r);
}

static void all_replies_of_a_batch_are_as_long_as_one_may_be(void **state)
{
    struct read r;
    const uint8_t *p;

    (void)state;
    begin(&r, 25);
    for (unsigned i = 0; i < 3; i++) {
        fae_redis_feed(r.reader, "$10\r\n0123456789\r\n", 17);
        assert_int_equal(fae_redis_read(r.reader, false), FAE_OK);
    }
    p = fae_redis_tape(r.reader)->data;
    for (unsigned i = 0; i < 3; i++)
        p = unit_show(p, &r.text);
    assert_string_equal(fae_buf_text(&r.text), "\"0123456789\"\"0123456789\"long");
    end(&r);
}

static void a_million_elements_are_the_most(void **state)
{
    struct fae_buf in = { 0 };
    struct read r;

    (void)state;
    for (unsigned n = FAE_ELEMENTS_MAX - 1; n <= FAE_ELEMENTS_MAX; n++) {
        in.len = 0;
        fae_buf_printf(&in, "*%u\r\n", n);
        for (unsigned i = 0; i < n; i++)
            fae_buf_add(&in, ":1\r\n", 4);
        begin(&r, 64 * FAE_MIB);
        fae_redis_feed(r.reader, in.data, in.len);
        assert_int_equal(fae_redis_read(r.reader, false), FAE_OK);
        assert_int_equal(fae_redis_tape(r.reader)->len > 100, n < FAE_ELEMENTS_MAX);
        end(&r);
    }
    fae_buf_fini(&in);
}

static void what_nobody_wants_is_not_kept(void **state)
{
    static const char reply[] = "*2\r\n$5\r\nhello\r\n:1\r\n";
    struct read r;

    (void)state;
    for (size_t cut = 1; cut < sizeof reply - 1; cut++) {
        begin(&r, 1000);
        fae_redis_feed(r.reader, reply, cut);
        assert_int_equal(fae_redis_read(r.reader, cut % 2), FAE_MORE);
        fae_redis_feed(r.reader, reply + cut, sizeof reply - 1 - cut); /* wanted no more meanwhile */
        assert_int_equal(fae_redis_read(r.reader, true), FAE_OK);
        assert_int_equal(fae_redis_tape(r.reader)->len, 0);
        take(&r, ":4\r\n", 4);
        check(&r, "4 ");
        end(&r);
    }
}

/* A thousand replies of a thousand bytes, in pieces of any size. */
static void long_streams_in_random_pieces(void **state)
{
    struct fae_buf in = { 0 }, expected = { 0 };
    uint64_t random = 7;
    struct read r;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        int len = (int)(unit_random(&random) % 2000);

        fae_buf_printf(&in, "*2\r\n$%d\r\n%0*d\r\n:%u\r\n", len ? len : 1, len, 0, i);
        fae_buf_printf(&expected, "[\"%0*d\" %u] ", len, 0, i);
    }
    begin(&r, 64 * FAE_KIB);
    for (size_t at = 0; at < in.len;) {
        size_t n = 1 + unit_random(&random) % 16384;

        n = n < in.len - at ? n : in.len - at;
        take(&r, in.data + at, n);
        at += n;
    }
    check(&r, fae_buf_text(&expected));
    end(&r);
    fae_buf_fini(&in);
    fae_buf_fini(&expected);
}

static void what_is_no_reply(void **state)
{
    static const char *const cases[] = {
        "\r\n",
        "hello\r\n",
        "!3\r\nabc\r\n",
        "_\r\n",
        "%1\r\n+a\r\n:1\r\n",
        "$x\r\n",
        "$-2\r\n",
        "$1x\r\na\r\n",
        "$99999999999999999999\r\n",
        "$536870913\r\n",
        "$9223372036854775807\r\n",
        "*-2\r\n",
        "*x\r\n",
        "*4294967296\r\n",
        "*9999999999999999999999\r\n",
        ":\r\n",
        ":12a\r\n",
        ":9223372036854775808\r\n",
        "\x91\x92",
        "*2\r\n:1\r\nx",
        "$\r\n",
        "$999999\r24\n*\r\nabc",
        "$00000000000000000000000000000000005\r\nhello\r\n",
    };
    struct read r;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(cases); i++) {
        begin(&r, 64 * FAE_KIB);
        take(&r, cases[i], strlen(cases[i]));
        if (r.err != FAE_BACKEND)
            fail_msg("case %u is taken for a reply: %s", i, fae_buf_text(&r.text));
        assert_non_null(fae_redis_reader_why(r.reader));
        take(&r, "+OK\r\n", 5); /* nor is what follows */
        assert_int_equal(r.err, FAE_BACKEND);
        end(&r);
        begin(&r, 64 * FAE_KIB);
        for (size_t at = 0; at < strlen(cases[i]) && r.err != FAE_BACKEND; at++)
            take(&r, cases[i] + at, 1);
        assert_int_equal(r.err, FAE_BACKEND);
        end(&r);
    }
}

static void announced_alone_takes_no_memory(void **state)
{
    struct read r;

    (void)state;
    begin(&r, 64 * FAE_KIB);
    take(&r, "*2147483647\r\n*2147483647\r\n$500000000\r\nabc", 41);
    assert_int_equal(r.err, FAE_MORE);
    assert_true(fae_redis_tape(r.reader)->cap < 4096);
    end(&r);
}

static void so_many_levels_are_the_most(void **state)
{
    struct fae_buf text = { 0 };
    struct read r;

    (void)state;
    for (unsigned n = 1; n <= 1000; n = n < 66 ? n + 1 : n + 467) {
        text.len = 0;
        for (unsigned i = 0; i < n && n <= FAE_DEPTH_MAX; i++)
            fae_buf_add(&text, "[", 1);
        fae_buf_printf(&text, n <= FAE_DEPTH_MAX ? "0 1" : "deep 3 ");
        for (unsigned i = 0; i < n && n <= FAE_DEPTH_MAX; i++)
            fae_buf_printf(&text, i + 1 < n ? "] 2" : "] 3 ");
        begin(&r, 64 * FAE_KIB);
        for (unsigned i = 0; i < n; i++)
            take(&r, "*2\r\n", 4);
        take(&r, ":0\r\n:1\r\n", 8);
        for (unsigned i = 1; i < n; i++)
            take(&r, ":2\r\n", 4);
        take(&r, ":3\r\n", 4);
        check(&r, fae_buf_text(&text));
        end(&r);
    }
    fae_buf_fini(&text);
}

static void endless_numbers(void **state)
{
    static char line[80000];
    struct read r;

    (void)state;
    memset(line, '0', sizeof line);
    for (unsigned i = 0; i < 3; i++) {
        begin(&r, 64 * FAE_MIB);
        line[0] = ":*$"[i];
        for (size_t at = 0; at < sizeof line && r.err != FAE_BACKEND; at += 1000)
            take(&r, line + at, 1000);
        assert_int_equal(r.err, FAE_BACKEND);
        end(&r);
    }
}

/* A script may answer any status and any error. Its bytes are fed in pieces of n. */
static void check_line(struct fae_buf *line, size_t n, size_t reply_max, bool is_kept)
{
    struct read r;

    begin(&r, reply_max);
    for (size_t at = 0; at < line->len; at += n)
        take(&r, line->data + at, n < line->len - at ? n : line->len - at);
    take(&r, ":7\r\n", 4);
    assert_int_equal(r.err, FAE_MORE);
    if (is_kept)
        assert_true(r.text.len == line->len - 1 + 2);
    else
        assert_string_equal(fae_buf_text(&r.text), "long 7 ");
    assert_memory_equal(r.text.data + r.text.len - 3, " 7 ", 3);
    end(&r);
}

static void lines_of_any_length(void **state)
{
    static const size_t lens[] = { 65535, 65536, 100000, FAE_MIB - 20000, 3 * FAE_MIB };
    struct fae_buf line = { 0 };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(lens); i++)
        for (unsigned kind = 0; kind < 2; kind++)
            for (size_t n = 16382; n <= 16384; n++) {
                line.len = 0;
                fae_buf_add(&line, kind ? "-" : "+", 1);
                memset(fae_buf_room(&line, lens[i]), kind ? '\r' : 'x', lens[i]);
                line.len += lens[i];
                fae_buf_add(&line, "\r\n", 2);
                check_line(&line, n, 64 * FAE_MIB, lens[i] < FAE_MIB);
                check_line(&line, n, 50000, false);
            }
    fae_buf_fini(&line);
}

/* Whatever comes, it is a reply, or no reply, or not all of it. */
static void random_bytes(void **state)
{
    static const char alphabet[] = "+-:$*\r\n0123456789-\r\n\r\nabc";
    uint64_t random = 99;
    struct read r;

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        begin(&r, 64);
        for (unsigned i = 0; i < 60 && r.err != FAE_BACKEND; i++) {
            char bytes[8];
            size_t n = 1 + unit_random(&random) % sizeof bytes;

            for (size_t at = 0; at < n; at++)
                bytes[at] = alphabet[unit_random(&random) % (sizeof alphabet - 1)];
            take(&r, bytes, n);
        }
        end(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_as_hiredis_makes_them),
        cmocka_unit_test(replies_of_every_kind_in_any_pieces),
        cmocka_unit_test(replies_that_are_too_long_are_read_past),
        cmocka_unit_test(a_string_of_many_megabytes_takes_no_memory),
        cmocka_unit_test(all_replies_of_a_batch_are_as_long_as_one_may_be),
        cmocka_unit_test(a_million_elements_are_the_most),
        cmocka_unit_test(what_nobody_wants_is_not_kept),
        cmocka_unit_test(long_streams_in_random_pieces),
        cmocka_unit_test(what_is_no_reply),
        cmocka_unit_test(announced_alone_takes_no_memory),
        cmocka_unit_test(so_many_levels_are_the_most),
        cmocka_unit_test(endless_numbers),
        cmocka_unit_test(lines_of_any_length),
        cmocka_unit_test(random_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
