/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cmd/top_view: samples of a node read, set against each other, shown.
 */
#include "unit.h"

#include "cmd/top_view.h"

#define S 1000000000ull

static const char stats_1[] = "{\"node\":{\"uptime_s\":100,\"generation\":3,\"workers\":1,\"limits\":{\"idle\":5}},"
                              "\"workers\":[{\"slot\":0,\"pid\":77,\"state\":\"ready\",\"sessions\":4,\"calls\":2,"
                              "\"lua_bytes\":1500000,\"bytes_in\":1000,\"bytes_out\":0,\"lag_us\":120.5}]}";
static const char stats_2[] = "{\"node\":{\"uptime_s\":102,\"generation\":3,\"workers\":1,\"limits\":{\"idle\":9}},"
                              "\"workers\":[{\"slot\":0,\"pid\":77,\"state\":\"ready\",\"sessions\":4,\"calls\":2,"
                              "\"lua_bytes\":1500000,\"bytes_in\":9000,\"bytes_out\":0,\"lag_us\":120.5}]}";

static enum fae_err read_as(struct fae_top_sample *s, const char *stats, const char *hist, uint64_t at_ns)
{
    return fae_top_read(s, stats, strlen(stats), hist, strlen(hist), at_ns);
}

static void bad_answers_are_refused(void **state)
{
    static const char *const hists[] = {
        "x\n",
        "x calls=1 errors=0 slow=0\n",
        "x calls=1 errors=0 slow=0 hist=1:2\n",
        "x calls=1 errors=0 slow=0 hist=1:2,3\n",
        "x calls=1 errors=0 slow=0 hist=120:2,\n",
        "x calls=1 errors=0 slow=0 hist=-1:2,\n",
        "x calls=1 errors=0 slow=0 hist=\n\n",
        "x calls=1 errors=0 slow=0 hist=",
    };
    struct fae_top_sample s = { 0 };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(hists); i++)
        assert_int_equal(read_as(&s, stats_1, hists[i], S), FAE_BAD_MESSAGE);
    assert_int_equal(read_as(&s, "[]", "", S), FAE_BAD_MESSAGE);
    assert_int_equal(read_as(&s, "", "", S), FAE_BAD_MESSAGE);
    assert_int_equal(read_as(&s, "{}", "", S), FAE_OK); /* of a node that tells less */
    fae_top_fini(&s);
}

static void names_steer_no_terminal(void **state)
{
    struct fae_top_sample s;

    (void)state;
    assert_int_equal(read_as(&s, stats_1, "a\033[2J calls=9 x calls=1 errors=0 slow=0 hist=\n", S), FAE_OK);
    assert_string_equal(s.methods[0].name, "a?[2J?calls=9?x");
    assert_int_equal(s.methods[0].n_calls, 1);
    fae_top_fini(&s);
}

static void rates_are_those_of_the_interval(void **state)
{
    struct fae_top_sample a, b;
    struct fae_buf out = { 0 };
    json_t *root, *m;

    (void)state;
    assert_int_equal(read_as(&a, stats_1, "shop.buy calls=1000 errors=10 slow=0 hist=3:1000,\n", 50 * S), FAE_OK);
    assert_int_equal(read_as(&b, stats_2,
                             "new.one calls=4 errors=0 slow=1 hist=20:4,\n"
                             "shop.buy calls=1100 errors=20 slow=0 hist=3:1000,9:98,40:2,\n",
                             52 * S),
                     FAE_OK);
    a.cpu_ms[0] = 1000;
    b.cpu_ms[0] = 2000;
    fae_top_json(&a, &b, &out);
    root = json_loads(fae_buf_text(&out), 0, NULL);
    assert_non_null(root);
    assert_float_equal(json_number_value(json_object_get(root, "interval_s")), 2, 0.001);
    assert_float_equal(json_number_value(json_object_get(root, "calls_s")), 52, 0.001);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "limits"), "idle")), 4);
    m = json_array_get(json_object_get(root, "methods"), 0);
    assert_string_equal(json_string_value(json_object_get(m, "name")), "shop.buy");
    assert_float_equal(json_number_value(json_object_get(m, "calls_s")), 50, 0.001);
    assert_float_equal(json_number_value(json_object_get(m, "errors_s")), 5, 0.001);
    assert_float_equal(json_number_value(json_object_get(m, "p50_us")), (double)fae_hist_bound(9) / 1e3, 0.001);
    assert_float_equal(json_number_value(json_object_get(m, "p99_us")), (double)fae_hist_bound(40) / 1e3, 0.001);
    m = json_array_get(json_object_get(root, "methods"), 1);
    assert_string_equal(json_string_value(json_object_get(m, "name")), "new.one");
    m = json_array_get(json_object_get(root, "workers"), 0);
    assert_float_equal(json_number_value(json_object_get(m, "cpu_percent")), 50, 0.001);
    json_decref(root);
    fae_buf_fini(&out);
    fae_top_fini(&a);
    fae_top_fini(&b);
}

#define BACKEND(name, state, calls, timeouts, rejected, ns)                                                            \
    "{\"name\":\"" name "\",\"breaker\":\"" state "\",\"mode\":\"auto\",\"used\":3,\"waiting\":1,\"calls\":" calls     \
    ",\"timeouts\":" timeouts ",\"rejected\":" rejected ",\"call_ns\":" ns "}"

static void statements_are_shown(void **state)
{
    static const char now[] =
        "{\"node\":{\"uptime_s\":102},\"mysql\":{\"digests\":[{\"pool\":\"User\",\"digest\":\"select \\u001b[2J from t where "
        "id = ?\",\"count\":7,\"errors\":1,\"rows\":6,\"p50_us\":200,\"p99_us\":3000}]}}";
    struct fae_top_sample a;
    struct fae_buf out = { 0 };
    json_t *root;

    (void)state;
    assert_int_equal(read_as(&a, now, "", 52 * S), FAE_OK);
    fae_top_text(NULL, &a, 40, 200, &out);
    assert_non_null(strstr(fae_buf_text(&out),
                           "\n           7         1    200 us   3000 us            6  User: select "
                           "?[2J from t where id = ?\n"));
    out.len = 0;
    fae_top_json(NULL, &a, &out);
    root = json_loads(fae_buf_text(&out), 0, NULL);
    assert_int_equal(json_array_size(json_object_get(root, "mysql")), 1);
    json_decref(root);
    fae_buf_fini(&out);
    fae_top_fini(&a);
}

static void backends_are_shown_those_in_trouble_first(void **state)
{
    static const char before[] = "{\"node\":{\"uptime_s\":100},\"backends\":[" BACKEND("redis/a/tcp://1:1", "closed",
                                                                                       "100", "0", "0", "1000000") "]}";
    static const char now[] = "{\"node\":{\"uptime_s\":102},\"backends\":[" BACKEND(
        "redis/a/tcp://1:1", "closed", "300", "0", "0", "201000000") "," BACKEND("servant/\\u001b[2J", "open", "4", "2",
                                                                                 "8", "0") "]}";
    struct fae_top_sample a, b;
    struct fae_buf out = { 0 };
    const json_t *row;
    const char *bad, *good;
    json_t *root;

    (void)state;
    assert_int_equal(read_as(&a, before, "", 50 * S), FAE_OK);
    assert_int_equal(read_as(&b, now, "", 52 * S), FAE_OK);
    fae_top_text(&a, &b, 40, 200, &out);
    bad = strstr(fae_buf_text(&out),
                 "\nopen                2.0       1.0       4.0         -      3      1  servant/?[2J\n");
    good = strstr(fae_buf_text(&out),
                  "\nclosed              100         0         0   1000 us      3      1  redis/a/tcp://1:1\n");
    assert_non_null(bad);
    assert_non_null(good);
    assert_true(bad < good);
    out.len = 0;
    fae_top_json(&a, &b, &out);
    root = json_loads(fae_buf_text(&out), 0, NULL);
    row = json_array_get(json_object_get(root, "backends"), 1);
    assert_string_equal(json_string_value(json_object_get(row, "name")), "redis/a/tcp://1:1");
    assert_float_equal(json_number_value(json_object_get(row, "calls_s")), 100, 0.001);
    assert_float_equal(json_number_value(json_object_get(row, "mean_us")), 1000, 0.001);
    json_decref(root);
    out.len = 0;
    fae_top_text(&a, &b, 3, 200, &out); /* no room */
    assert_null(strstr(fae_buf_text(&out), "BACKEND"));
    fae_buf_fini(&out);
    fae_top_fini(&a);
    fae_top_fini(&b);
}

static void a_page_keeps_its_size(void **state)
{
    struct fae_top_sample a, b;
    struct fae_buf hist = { 0 };

    (void)state;
    for (unsigned i = 0; i < 300; i++)
        fae_buf_printf(&hist, "servant%u.a_method_with_quite_a_long_name calls=%u errors=0 slow=0 hist=5:%u,\n", i,
                       i + 1, i + 1);
    assert_int_equal(read_as(&a, stats_1, "", 50 * S), FAE_OK);
    assert_int_equal(read_as(&b, stats_2, fae_buf_text(&hist), 52 * S), FAE_OK);
    for (unsigned lines = 0; lines < 40; lines += 3)
        for (unsigned columns = 1; columns < 120; columns += 17) {
            struct fae_buf out = { 0 };
            unsigned n = 0;

            fae_top_text(lines % 2 ? &a : NULL, &b, lines, columns, &out);
            for (const char *p = fae_buf_text(&out), *nl; *p; p = nl + 1, n++) {
                nl = strchr(p, '\n');
                assert_non_null(nl);
                assert_true(nl - p <= (long)columns);
            }
            assert_true(n <= lines);
            fae_buf_fini(&out);
        }
    fae_buf_fini(&hist);
    fae_top_fini(&a);
    fae_top_fini(&b);
}

static void another_life_is_no_interval(void **state)
{
    struct fae_top_sample a, b;

    (void)state;
    assert_int_equal(read_as(&a, stats_1, "", 50 * S), FAE_OK);
    assert_int_equal(read_as(&b, stats_2, "", 52 * S), FAE_OK);
    assert_true(fae_top_follows(&a, &b));
    assert_false(fae_top_follows(&b, &a));
    b.at_ns = 60 * S; /* ten seconds of ours, two of its: it was started meanwhile */
    assert_false(fae_top_follows(&a, &b));
    fae_top_fini(&a);
    assert_false(fae_top_follows(&a, &b));
    fae_top_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_answers_are_refused),
        cmocka_unit_test(names_steer_no_terminal),
        cmocka_unit_test(rates_are_those_of_the_interval),
        cmocka_unit_test(backends_are_shown_those_in_trouble_first),
        cmocka_unit_test(statements_are_shown),
        cmocka_unit_test(rates_are_those_of_the_interval),
        cmocka_unit_test(a_page_keeps_its_size),
        cmocka_unit_test(another_life_is_no_interval),
    };

    return cmocka_run_group_tests_name("top_view", tests, NULL, NULL);
}
