/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a load sends: templates in parameters, weights, lines and files of them, and everything that is refused.
 */
#include "unit.h"

#include "cmd/bench_mix.h"
#include "cmd/client.h"
#include "cmd/mpjson.h"

/* A request as JSON, after a scan has proven it. */
static char *request(const struct fae_bench_mix *mix, unsigned i, uint64_t seq, uint64_t *random)
{
    static struct fae_buf text;
    struct fae_buf out = { 0 };
    struct fae_mp_scan scan;

    fae_bench_mix_request(&mix->methods[i], &out, 0x12345678, seq, random);
    fae_mp_scan_init(&scan);
    assert_int_equal(fae_mp_scan(&scan, out.data, out.len, FAE_MESSAGE_CEILING), FAE_OK);
    assert_int_equal(scan.pos, out.len);
    assert_int_equal(fae_be32(out.data + FAE_REQUEST_MSGID_AT), 0x12345678);
    assert_true(out.len <= mix->methods[i].bytes_max);
    text.len = 0;
    fae_mpjson_write(&text, out.data);
    fae_buf_fini(&out);
    return (char *)fae_buf_text(&text);
}

/* '#' stands for a letter or digit of {{str}}. */
static const struct {
    const char *line, *json; /* from the method on */
    bool varies;
} rows[] = {
    { "1 a.b", "\"a.b\",[]]", false },
    { "1 a.b 1 \"x\" {\"k\": [1, 2]}", "\"a.b\",[1,\"x\",{\"k\":[1,2]}]]", false },
    { " 12\ta.b   null\r", "\"a.b\",[null]]", false },
    { "1 a.b \"with a blank \\\" and } brace\" [ 1,\t2 ]", "\"a.b\",[\"with a blank \\\" and } brace\",[1,2]]]",
      false },
    { "1 a.b {\"$bin\":\"00ff\"}", "\"a.b\",[{\"$bin\":\"00ff\"}]]", false },
    { "1 a.b 18446744073709551615", "\"a.b\",[18446744073709551615]]", false },
    { "1 a.b {{seq}}", "\"a.b\",[77]]", true },
    { "1 a.b \"{{seq}}\"", "\"a.b\",[\"77\"]]", true },
    { "1 a.b \"user:{{seq}}:{{seq}}\"", "\"a.b\",[\"user:77:77\"]]", true },
    { "1 a.b {\"id\":{{seq}},\"n\":{\"k{{seq}}\":[{{seq}}, 1]}}", "\"a.b\",[{\"id\":77,\"n\":{\"k77\":[77,1]}}]]",
      true },
    { "1 a.b {{rand:5:5}} \"{{rand:-7:-7}}\"", "\"a.b\",[5,\"-7\"]]", true },
    { "1 a.b {{rand:-9223372036854775808:-9223372036854775808}}", "\"a.b\",[-9223372036854775808]]", true },
    { "1 a.b \"{{rand:-9223372036854775808:-9223372036854775808}}\"", "\"a.b\",[\"-9223372036854775808\"]]", true },
    { "1 a.b {{str:4}} \"-{{str:3}}-\" \"{{str:0}}\"", "\"a.b\",[\"####\",\"-###-\",\"\"]]", true },
    { "1 a.b \"{{str:33}}\"", "\"a.b\",[\"#################################\"]]", true },
    { "1 a.b \"{ {seq} }\"", "\"a.b\",[\"{ {seq} }\"]]", false },
};

static bool like(const char *text, const char *want)
{
    for (; *want; text++, want++)
        if (*want == '#' ? !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", *text) || !*text
                         : *text != *want)
            return false;
    return *text == '\0';
}

static void test_requests(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_bench_mix mix = { 0 };
        uint64_t random = 1;
        char why[300] = "", *json;

        if (fae_bench_mix_add_line(&mix, rows[i].line, why, sizeof why))
            fail_msg("%s: %s", rows[i].line, why);
        json = request(&mix, 0, 77, &random);
        if (!like(strchr(json, '"'), rows[i].json) || mix.methods[0].varies != rows[i].varies)
            fail_msg("%s: %s", rows[i].line, json);
        fae_bench_mix_fini(&mix);
    }
}

static void test_refused(void **state)
{
    static const char *const lines[][2] = {
        { "", "WEIGHT METHOD" },
        { "5", "WEIGHT METHOD" },
        { "a.b 1", "the weight is a number" },
        { "0 a.b", "the weight is a number" },
        { "1000001 a.b", "the weight is a number" },
        { "1x a.b", "not \"1x\"" },
        { "-1 a.b", "the weight is a number" },
        { "1 a.b x", "parameter 1 is not JSON" },
        { "1 a.b 1 [1", "parameter 2 is not JSON" },
        { "1 a.b {{nope}}", "{{nope}}: templates are" },
        { "1 a.b {{seq:1}}", "{{seq:1}}: templates are" },
        { "1 a.b {{sequence}}", "templates are" },
        { "1 a.b {{rand}}", "templates are" },
        { "1 a.b {{rand:1}}", "templates are" },
        { "1 a.b {{rand:2:1}}", "templates are" },
        { "1 a.b {{rand:1:2:3}}", "templates are" },
        { "1 a.b {{rand:x:2}}", "templates are" },
        { "1 a.b {{rand:1:9223372036854775808}}", "templates are" },
        { "1 a.b {{str:-1}}", "templates are" },
        { "1 a.b {{str:1048577}}", "templates are" },
        { "1 a.b {{str:}}", "templates are" },
        { "1 a.b {{}}", "templates are" },
        { "1 a.b {{seq}", "templates are" },
        { "1 a.b \"{{seq}\"", "templates are" },
        { "1 a.b \"x {{nope}} y\"", "{{nope}}: templates are" },
        { "1 a.b {{\"seq\"}}", "templates are" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(lines); i++) {
        struct fae_bench_mix mix = { 0 };
        char why[300] = "";

        if (fae_bench_mix_add_line(&mix, lines[i][0], why, sizeof why) != FAE_BAD_ARGS || !strstr(why, lines[i][1]))
            fail_msg("%s: %s", lines[i][0], why);
        assert_int_equal(mix.n, 0);
        assert_int_equal(mix.weights, 0);
    }
}

/* Every number between the ends comes, and none beyond them. */
static void test_random(void **state)
{
    struct fae_bench_mix mix = { 0 };
    uint64_t random = 1;
    unsigned seen[5] = { 0 };
    char why[300];

    (void)state;
    assert_int_equal(fae_bench_mix_add_line(&mix, "1 a {{rand:-2:2}}", why, sizeof why), FAE_OK);
    for (unsigned i = 0; i < 5000; i++) {
        long v = strtol(strrchr(request(&mix, 0, i, &random), '[') + 1, NULL, 10);

        assert_in_range(v + 2, 0, 4);
        seen[v + 2]++;
    }
    for (unsigned i = 0; i < 5; i++)
        assert_in_range(seen[i], 800, 1200);
    fae_bench_mix_fini(&mix);
}

static void test_weights(void **state)
{
    struct fae_bench_mix mix = { 0 };
    unsigned seen[3] = { 0 };
    uint64_t random = 1;
    char why[300];

    (void)state;
    assert_int_equal(fae_bench_mix_add_line(&mix, "80 a.a", why, sizeof why), FAE_OK);
    assert_int_equal(fae_bench_mix_add_line(&mix, "15 b.b", why, sizeof why), FAE_OK);
    assert_int_equal(fae_bench_mix_add_line(&mix, "5 c.c", why, sizeof why), FAE_OK);
    for (unsigned i = 0; i < 10000; i++)
        seen[fae_bench_mix_pick(&mix, &random)]++;
    assert_in_range(seen[0], 7800, 8200);
    assert_in_range(seen[1], 1350, 1650);
    assert_in_range(seen[2], 400, 600);
    fae_bench_mix_fini(&mix);
}

static void test_full(void **state)
{
    struct fae_bench_mix mix = { 0 };
    char *params[FAE_BENCH_PARAMS_MAX + 1], why[300] = "";

    (void)state;
    for (unsigned i = 0; i < UNIT_N(params); i++)
        params[i] = (char *)"{{seq}}";
    assert_int_equal(fae_bench_mix_add(&mix, 1, "a", params, FAE_BENCH_PARAMS_MAX + 1, why, sizeof why), FAE_LIMIT);
    for (unsigned i = 0; i < FAE_TALLY_METHODS; i++)
        assert_int_equal(fae_bench_mix_add(&mix, 1, "a", params, FAE_BENCH_PARAMS_MAX, why, sizeof why), FAE_OK);
    assert_int_equal(fae_bench_mix_add(&mix, 1, "a", NULL, 0, why, sizeof why), FAE_LIMIT);
    assert_int_equal(mix.n, FAE_TALLY_METHODS);
    fae_bench_mix_fini(&mix);
}

static enum fae_err read_file(const char *text, size_t len, struct fae_bench_mix *mix, char *why, size_t size)
{
    char dir[100], path[120];
    enum fae_err err;
    FILE *f;

    snprintf(path, sizeof path, "%s/mix", unit_dir(dir, sizeof dir));
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    err = fae_bench_mix_add_file(mix, path, why, size);
    unit_dir_remove(dir);
    return err;
}

static void test_files(void **state)
{
    static const char good[] = "# a load\n\n80 a.b {{seq}}\r\n  # another\n20 c.d", bad[] = "1 a.b\n\n1 c.d {{x}}\n";
    struct fae_bench_mix mix = { 0 };
    char why[300] = "", *large = calloc(1, FAE_BENCH_FILE_MAX + 1);
    uint64_t random = 1;

    (void)state;
    assert_int_equal(read_file(good, sizeof good - 1, &mix, why, sizeof why), FAE_OK);
    assert_int_equal(mix.n, 2);
    assert_int_equal(mix.weights, 100);
    assert_string_equal(mix.methods[1].name, "c.d");
    assert_non_null(strstr(request(&mix, 0, 5, &random), "\"a.b\",[5]"));
    fae_bench_mix_fini(&mix);
    assert_int_equal(read_file(bad, sizeof bad - 1, &mix, why, sizeof why), FAE_BAD_ARGS);
    assert_non_null(strstr(why, "/mix:3: {{x}}: templates are"));
    fae_bench_mix_fini(&mix);
    assert_int_equal(read_file("# none\n", 7, &mix, why, sizeof why), FAE_BAD_ARGS);
    assert_non_null(strstr(why, "no line with a method"));
    assert_int_equal(read_file("1 a\0b\n", 6, &mix, why, sizeof why), FAE_LIMIT);
    memset(large, '#', FAE_BENCH_FILE_MAX + 1);
    assert_int_equal(read_file(large, FAE_BENCH_FILE_MAX + 1, &mix, why, sizeof why), FAE_LIMIT);
    assert_int_equal(fae_bench_mix_add_file(&mix, "/nonexistent/mix", why, sizeof why), FAE_SYSTEM);
    assert_non_null(strstr(why, "/nonexistent/mix: No such file"));
    assert_int_equal(fae_bench_mix_add_file(&mix, "/", why, sizeof why), FAE_SYSTEM);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests), cmocka_unit_test(test_refused), cmocka_unit_test(test_random),
        cmocka_unit_test(test_weights),  cmocka_unit_test(test_full),    cmocka_unit_test(test_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
