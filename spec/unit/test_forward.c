/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ops/forward: parameters to a line of fae.ctl, its answer to JSON.
 */
#include "unit.h"

#include <jansson.h>

#include "ops/forward.h"

static const struct fae_forward bare = { .verb = "gc" };
static const struct fae_forward full = { .verb = "close",
                                         .params = { { "session", FAE_FORWARD_WORD, "" },
                                                     { "peer", FAE_FORWARD_WORD, "peer=" },
                                                     { "dry", FAE_FORWARD_FLAG, "dry-run" } } };

static void bodies_become_lines(void **state)
{
    static const struct {
        const struct fae_forward *f;
        const char *body, *line; /* NULL: refused */
    } rows[] = {
        { &bare, "", "gc" },
        { &bare, "{}", "gc" },
        { &bare, " { } ", "gc" },
        { &bare, "{\"x\":1}", NULL },
        { &bare, "[]", NULL },
        { &bare, "1", NULL },
        { &bare, "{", NULL },
        { &bare, "{}{}", NULL },
        { &bare, "{\"\\u0000\":1}", NULL },
        { &full, "{\"session\":\"1:7\"}", "close 1:7" },
        { &full, "{\"session\":7}", "close 7" },
        { &full, "{\"session\":-7}", NULL },
        { &full, "{\"session\":7.5}", NULL },
        { &full, "{\"session\":null}", NULL },
        { &full, "{\"session\":[\"a\"]}", NULL },
        { &full, "{\"dry\":true,\"peer\":\"10.0.0.1\"}", "close peer=10.0.0.1 dry-run" },
        { &full, "{\"dry\":false}", "close" },
        { &full, "{\"dry\":1}", NULL },
        { &full, "{\"peer\":\"a b\"}", NULL },
        { &full, "{\"peer\":\"a\\nstop\"}", NULL },
        { &full, "{\"peer\":\"a\\u0000b\"}", NULL },
        { &full, "{\"peer\":\"\\u00fc\"}", NULL },
        { &full, "{\"peer\":\"\xff\"}", NULL },
        { &full, "{\"peer\":\"\"}", NULL },
        { &full, "{\"peer\":\"a\",\"peer\":\"b\"}", NULL },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_buf line = { 0 };
        char why[200] = "";
        enum fae_err err = fae_forward_line(rows[i].f, rows[i].body, strlen(rows[i].body), &line, why, sizeof why);

        assert_int_equal(err, rows[i].line ? FAE_OK : FAE_BAD_ARGS);
        if (rows[i].line)
            assert_string_equal(fae_buf_text(&line), rows[i].line);
        else
            assert_true(*why);
        fae_buf_fini(&line);
    }
}

static void a_word_has_an_end(void **state)
{
    char body[300], why[200];
    struct fae_buf line = { 0 };

    (void)state;
    snprintf(body, sizeof body, "{\"peer\":\"%0200d\"}", 0);
    assert_int_equal(fae_forward_line(&full, body, strlen(body), &line, why, sizeof why), FAE_OK);
    snprintf(body, sizeof body, "{\"peer\":\"%0201d\"}", 0);
    assert_int_equal(fae_forward_line(&full, body, strlen(body), &line, why, sizeof why), FAE_BAD_ARGS);
    fae_buf_fini(&line);
}

static void queries_become_lines(void **state)
{
    static const struct {
        const char *query, *line;
    } rows[] = {
        { "", "close" },
        { "session=3", "close 3" },
        { "session=3&peer=a", "close 3 peer=a" },
        { "session", NULL },
        { "session=", NULL },
        { "other=1", NULL },
        { "=1", NULL },
        { "&", NULL },
        { "session=a\nstop", NULL },
        { "session=3&", "close 3" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_buf line = { 0 };
        char why[200];
        enum fae_err err = fae_forward_query(&full, rows[i].query, &line, why, sizeof why);

        assert_int_equal(err, rows[i].line ? FAE_OK : FAE_BAD_ARGS);
        if (rows[i].line)
            assert_string_equal(fae_buf_text(&line), rows[i].line);
        fae_buf_fini(&line);
    }
}

static void answers_become_json(void **state)
{
    static const struct fae_forward rows = { .verb = "x", .rows = "things" }, json = { .verb = "x", .is_json = true };
    static const struct {
        const struct fae_forward *f;
        enum fae_err err;
        const char *text, *last;
        int status;
        const char *json;
    } cases[] = {
        { &bare, FAE_OK, "", "done", 200, "{\"ok\":true,\"message\":\"done\",\"lines\":[]}\n" },
        { &bare, FAE_OK, "a \"b\"\nc\n", "", 200,
          "{\"ok\":true,\"message\":\"\",\"lines\":[\"a \\\"b\\\"\",\"c\"]}\n" },
        { &bare, FAE_OK, "\xff\n", "", 200, "{\"ok\":true,\"message\":\"\",\"lines\":[\"\xef\xbf\xbd\"]}\n" },
        { &bare, FAE_BAD_SERVANT, "shop.lua:3: oops\n", "nothing has changed", 409,
          "{\"ok\":false,\"error\":\"BAD_SERVANT\",\"message\":\"nothing has changed\","
          "\"lines\":[\"shop.lua:3: oops\"]}\n" },
        { &rows, FAE_OK, "0:1 peer=unix: n=5 m=007 e=\nw flag\n", "2", 200,
          "{\"ok\":true,\"message\":\"2\",\"things\":[{\"name\":\"0:1\",\"peer\":\"unix:\",\"n\":5,\"m\":\"007\","
          "\"e\":\"\"},{\"name\":\"w\",\"flag\":\"flag\"}]}\n" },
        { &rows, FAE_TIMEOUT, "", "late", 504,
          "{\"ok\":false,\"error\":\"TIMEOUT\",\"message\":\"late\",\"lines\":[]}\n" },
        { &json, FAE_OK, "{\"a\":1}\n", "", 200, "{\"a\":1}\n" },
        { &json, FAE_BUSY, "", "b", 503, "{\"ok\":false,\"error\":\"BUSY\",\"message\":\"b\",\"lines\":[]}\n" },
        { &bare, FAE_INTERNAL, "", "", 500, "{\"ok\":false,\"error\":\"INTERNAL\",\"message\":\"\",\"lines\":[]}\n" },
        { &bare, FAE_NOT_FOUND, "", "", 404, "{\"ok\":false,\"error\":\"NOT_FOUND\",\"message\":\"\",\"lines\":[]}\n" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(cases); i++) {
        struct fae_ctl_answer said = { .err = cases[i].err,
                                       .text = cases[i].text,
                                       .text_len = strlen(cases[i].text),
                                       .last = cases[i].last,
                                       .last_len = strlen(cases[i].last) };
        struct fae_http_answer answer = { 0 };
        json_t *parsed;

        fae_forward_answer(cases[i].f, &said, &answer);
        assert_int_equal(answer.status, cases[i].status);
        assert_string_equal(fae_buf_text(&answer.body), cases[i].json);
        parsed = json_loadb((const char *)answer.body.data, answer.body.len, 0, NULL);
        assert_non_null(parsed);
        json_decref(parsed);
        fae_buf_fini(&answer.body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_become_lines),
        cmocka_unit_test(a_word_has_an_end),
        cmocka_unit_test(queries_become_lines),
        cmocka_unit_test(answers_become_json),
    };

    return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
