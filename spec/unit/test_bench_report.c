/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The figures of a run that is known to the call: table, JSON, and two of them side by side.
 */
#include "unit.h"

#include "cmd/bench_report.h"
#include "cmd/mpjson.h"

struct fixture {
    struct fae_bench_mix mix;
    struct fae_load_opts opts;
    struct fae_load_result result;
    struct fae_bench_run run;
};

/* Ten seconds: 900 calls of a.b in 1 ms and 99 in 20 ms, one that timed out; 100 calls of c.d in 2 ms. */
static struct fixture *make(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct fae_load_result *r = &f->result;
    char why[200];

    assert_non_null(f);
    assert_int_equal(fae_bench_mix_add_line(&f->mix, "10 a.b", why, sizeof why), FAE_OK);
    assert_int_equal(fae_bench_mix_add_line(&f->mix, "1 c.d", why, sizeof why), FAE_OK);
    assert_int_equal(fae_addr_parse("tcp://127.0.0.1:9", &f->opts.addr, why, sizeof why), FAE_OK);
    f->opts.mix = &f->mix;
    f->opts.threads = 2;
    f->opts.conns = 5;
    f->opts.depth = 1;
    f->opts.rate = 110;
    r->n_sent = 1100;
    r->methods[0].n_sent = 1000;
    r->methods[1].n_sent = 100;
    r->tally.n_ok = 1099;
    r->tally.methods[0].n_ok = 999;
    r->tally.methods[1].n_ok = 100;
    fae_tally_error(&r->tally, "TIMEOUT", "no \"answer\"", 1);
    fae_bench_hist_add(&r->methods[0].latency, 1000000, 900);
    fae_bench_hist_add(&r->methods[0].latency, 20000000, 99);
    fae_bench_hist_add(&r->methods[1].latency, 2000000, 100);
    r->elapsed_ns = 10000000000;
    r->cpu_ns = 19000000000;
    r->n_connects = 6;
    r->n_lost = 1;
    r->n_unsent = 7;
    r->n_late = 3;
    r->late_max_ns = 4000000;
    r->behind_max_ns = 15000000;
    f->run = (struct fae_bench_run){ .what = "mix of 2", .opts = &f->opts, .result = r };
    return f;
}

static void drop(struct fixture *f)
{
    fae_bench_mix_fini(&f->mix);
    fae_tally_fini(&f->result.tally);
    free(f);
}

static void has(const char *text, const char *const *parts, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!strstr(text, parts[i]))
            fail_msg("no %s in\n%s", parts[i], text);
}

static void test_table(void **state)
{
    static const char *const parts[] = {
        "mix of 2 at tcp://127.0.0.1:9: 5 connections x 1, 10.00 s\n",
        "1100 sent, 1099 answered well, 1 failed\n",
        "1000 sent, 999 answered well, 1 failed\n",
        "rate     110 calls/s of 110,",
        "us from when due",
        "p99.99",
        "7 calls were due and never sent",
        "at most 15.0 ms from when a call was due",
        "3 calls were sent over 1 ms late by this program, at most 4.0 ms",
        "95 % of its cpus",
        "1 connections lost, 0 refused",
        "1 x TIMEOUT: no \"answer\"",
    };
    struct fixture *f = make();
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    (void)state;
    fae_bench_report_table(&f->run, to);
    fclose(to);
    has(text, parts, UNIT_N(parts));
    free(text);
    drop(f);
}

static void test_json(void **state)
{
    static const char *const parts[] = {
        "{\"method\":\"mix of 2\",\"addr\":\"tcp://127.0.0.1:9\",\"conns\":5,\"depth\":1,\"threads\":2,",
        "\"rate\":110.0,\"seconds\":10.0000,\"sent\":1100,\"answered\":1099,\"ok\":1099,\"failed\":1,\"stray\":0,",
        "\"connects\":6,\"lost\":1,\"refused\":0,\"unsent\":7,\"late\":3,\"late_max_us\":4000.00,",
        "\"calls_per_s\":109.9,",
        "\"max_us\":20000.00,\"mean_us\":2802.55,\"methods\":[{\"method\":\"a.b\",\"weight\":10,\"sent\":1000,",
        "{\"method\":\"c.d\",\"weight\":1,\"sent\":100,\"answered\":100,\"ok\":100,\"failed\":0,\"p50_us\":2000.00,",
        "\"errors\":{\"TIMEOUT\":{\"n\":1,\"text\":\"no \\\"answer\\\"\"}}}",
    };
    struct fixture *f = make();
    struct fae_buf line = { 0 }, packed = { 0 };
    char why[200] = "";

    (void)state;
    fae_bench_report_json(&f->run, &line);
    has(fae_buf_text(&line), parts, UNIT_N(parts));
    assert_int_equal(fae_mpjson_read(fae_buf_text(&line), &packed, why, sizeof why), FAE_OK);
    fae_buf_fini(&line);
    fae_buf_fini(&packed);
    drop(f);
}

/* A run that sent nothing divides nothing by nothing. */
static void test_empty(void **state)
{
    struct fixture *f = make();
    struct fae_buf line = { 0 };

    (void)state;
    fae_tally_fini(&f->result.tally);
    memset(&f->result, 0, sizeof f->result);
    fae_bench_report_json(&f->run, &line);
    assert_null(strstr(fae_buf_text(&line), "nan"));
    assert_null(strstr(fae_buf_text(&line), "inf"));
    assert_non_null(strstr(fae_buf_text(&line), "\"p99_us\":0.00"));
    fae_buf_fini(&line);
    drop(f);
}

static void save(const char *dir, const char *name, const char *text, char *path, size_t size)
{
    FILE *f;

    snprintf(path, size, "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static char *compare(const char *a, const char *b, enum fae_err want, char *why, size_t size)
{
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    assert_int_equal(fae_bench_report_compare(a, b, to, why, size), want);
    fclose(to);
    return text;
}

static void test_compare(void **state)
{
    static const char *const parts[] = {
        "conns          differs: 5, then 50\n",
        "calls/s                109.90         219.80        +109.90     2.000\n",
        "p50 us                1000.00        2000.00       +1000.00     2.000\n",
        "failed                   1.00           1.00          +0.00     1.000\n",
    };
    struct fixture *f = make();
    struct fae_buf line = { 0 };
    char dir[100], a[120], b[120], why[300] = "", *text;

    (void)state;
    unit_dir(dir, sizeof dir);
    save(dir, "a", "{\"conns\":5,\"calls_per_s\":109.9,\"failed\":1,\"p50_us\":1000.0,\"p99_us\":1}\n", a, sizeof a);
    save(dir, "b", "{\"conns\":50,\"calls_per_s\":219.8,\"failed\":1,\"p50_us\":2000,\"p99_us\":1}", b, sizeof b);
    text = compare(a, b, FAE_OK, why, sizeof why);
    has(text, parts, UNIT_N(parts));
    free(text);

    fae_bench_report_json(&f->run, &line);
    save(dir, "b", fae_buf_text(&line), b, sizeof b);
    text = compare(b, b, FAE_OK, why, sizeof why);
    assert_null(strstr(text, "differs"));
    has(text, (const char *const[]){ "p99.99 us            20000.00       20000.00          +0.00     1.000" }, 1);
    free(text);
    fae_buf_fini(&line);
    unit_dir_remove(dir);
    drop(f);
}

static void test_no_saved_run(void **state)
{
    static const struct {
        const char *text, *why;
    } files[] = {
        { "", "not a saved run: " },
        { "nonsense", "not a saved run: " },
        { "[1]", "not a saved run: no object" },
        { "{}", "has no calls_per_s" },
        { "{\"calls_per_s\":\"1\",\"p99_us\":1}", "has no calls_per_s" },
    };
    char dir[100], a[120], b[120], why[300];

    (void)state;
    unit_dir(dir, sizeof dir);
    save(dir, "a", "{\"calls_per_s\":1,\"p99_us\":1}", a, sizeof a);
    for (unsigned i = 0; i < UNIT_N(files); i++) {
        save(dir, "b", files[i].text, b, sizeof b);
        why[0] = '\0';
        free(compare(a, b, FAE_BAD_ARGS, why, sizeof why));
        if (!strstr(why, files[i].why) || !strstr(why, "/b: "))
            fail_msg("%s: %s", files[i].text, why);
        free(compare(b, a, FAE_BAD_ARGS, why, sizeof why));
    }
    free(compare(a, "/nonexistent/b", FAE_SYSTEM, why, sizeof why));
    assert_string_equal(why, "/nonexistent/b: No such file or directory");
    unit_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),   cmocka_unit_test(test_json),         cmocka_unit_test(test_empty),
        cmocka_unit_test(test_compare), cmocka_unit_test(test_no_saved_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
