/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/upstream_show: rows summed over workers, as JSON that a parser takes and as a table.
 */
#include "unit.h"

#include <jansson.h>
#include <sys/mman.h>

#include "backend/upstream_show.h"
#include "base/log.h"

#define NOW 1000000u

static const struct fae_breaker_rule rule = { .percent = 50, .calls = 20, .refusals = 5, .open_ms = 5000 };
static struct fae_upstreams *ups;
static size_t size;
static struct fae_buf out;

static int set_up(void **state)
{
    unsigned n = 2;

    (void)state;
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "unit");
    size = fae_upstreams_size(&n);
    ups = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ups == MAP_FAILED)
        return -1;
    fae_upstreams_init(ups, &n);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_buf_fini(&out);
    return munmap(ups, size);
}

static struct fae_upstream *add(const char *name)
{
    struct fae_upstream *up = fae_upstream_get(ups, name, 0);

    assert_non_null(up);
    fae_upstream_cell(up, 0)->n.calls = 3;
    fae_upstream_cell(up, 1)->n.calls = 4;
    fae_upstream_cell(up, 1)->n.call_ns = 14000000;
    fae_upstream_cell(up, 0)->now.used = 1;
    fae_upstream_cell(up, 1)->now.used = 2;
    fae_upstream_cell(up, 0)->n_slots = 5;
    return up;
}

static void open_it(struct fae_upstream *up)
{
    for (unsigned i = 0; i < rule.refusals; i++)
        fae_upstream_end(up, &rule, 1, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, NOW);
}

static void names_have_parts(void **state)
{
    static const struct {
        const char *name, *kind, *pool, *server;
    } rows[] = {
        { "redis/main/tcp://127.0.0.1:6379", "redis", "main", "tcp://127.0.0.1:6379" },
        { "memcache/a/unix:/run/mc/1.sock", "memcache", "a", "unix:/run/mc/1.sock" },
        { "servant/geo", "servant", "geo", "" },
        { "odd", "odd", "", "" },
        { "", "", "", "" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_upstream_view v;

        fae_upstream_view(add(rows[i].name), NOW, &v);
        assert_string_equal(v.name, rows[i].name);
        assert_string_equal(v.kind, rows[i].kind);
        assert_string_equal(v.pool, rows[i].pool);
        assert_string_equal(v.server, rows[i].server);
        assert_int_equal(v.n.calls, 7);
        assert_int_equal(v.now.used, 3);
        assert_int_equal(v.n_slots, 5);
    }
}

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));

    assert_non_null(text);
    return text;
}

static long long number_of(const json_t *row, const char *key)
{
    assert_true(json_is_integer(json_object_get(row, key)));
    return json_integer_value(json_object_get(row, key));
}

static void json_has_all_of_it(void **state)
{
    const json_t *list, *row;
    json_t *root;

    (void)state;
    fae_buf_printf(&out, "{\"node\":1}");
    fae_upstreams_json_member(ups, NOW, &out);
    assert_string_equal(fae_buf_text(&out), "{\"node\":1,\"backends\":[]}");
    add("servant/geo");
    open_it(add("redis/m\"\n/tcp://127.0.0.1:6379"));
    out.len = 0;
    fae_buf_printf(&out, "{\"node\":1}");
    fae_upstreams_json_member(ups, NOW + 1000, &out);
    root = json_loads(fae_buf_text(&out), 0, NULL);
    assert_non_null(root);
    list = json_object_get(root, "backends");
    assert_int_equal(json_array_size(list), 2);
    row = json_array_get(list, 0);
    assert_string_equal(text_of(row, "breaker"), "closed");
    assert_null(json_object_get(row, "retry_after_ms"));
    row = json_array_get(list, 1);
    assert_string_equal(text_of(row, "pool"), "m\"\n");
    assert_string_equal(text_of(row, "breaker"), "open");
    assert_string_equal(text_of(row, "mode"), "auto");
    assert_string_equal(text_of(row, "why"), "5 connections in a row were refused");
    assert_in_range(number_of(row, "retry_after_ms"), 3400, 4000);
    assert_int_equal(number_of(row, "in_state_ms"), 1000);
    assert_int_equal(number_of(row, "opened"), 1);
    assert_int_equal(number_of(row, "window_calls"), 5);
    assert_int_equal(number_of(row, "window_failed"), 5);
#define FAE_UPSTREAM_THERE(name, help) number_of(row, #name);
    FAE_UPSTREAM_COUNTERS(FAE_UPSTREAM_THERE)
    FAE_UPSTREAM_GAUGES(FAE_UPSTREAM_THERE)
#undef FAE_UPSTREAM_THERE
    json_decref(root);
}

static void nobody_has_any(void **state)
{
    (void)state;
    fae_upstreams_json(NULL, NOW, &out);
    assert_string_equal(fae_buf_text(&out), "[]");
    out.len = 0;
    assert_int_equal(fae_upstreams_table(ups, NOW, &out), 0);
    assert_int_equal(out.len, 0);
}

static void a_table_tells_what_is_left_alone_and_why(void **state)
{
    struct fae_upstream *forced;

    (void)state;
    add("redis/main/tcp://127.0.0.1:6379");
    open_it(add("redis/main/tcp://127.0.0.1:6380"));
    forced = add("servant/geo");
    assert_true(fae_upstream_force_as(forced, FAE_BREAKER_FORCED_OPEN, "unit", NOW));
    assert_int_equal(fae_upstreams_table(ups, NOW + 500, &out), 3);
    assert_non_null(strstr(fae_buf_text(&out), "\nclosed                 7 "));
    assert_non_null(
        strstr(fae_buf_text(&out), "     2.000    5    3    0    0    0  redis main tcp://127.0.0.1:6379\n"));
    assert_non_null(strstr(fae_buf_text(&out), "\nopen                   7 "));
    assert_non_null(
        strstr(fae_buf_text(&out), "6380\n  5 connections in a row were refused, for 0.5 s; tried again in 4."));
    assert_non_null(strstr(fae_buf_text(&out), "\nforced open            7 "));
    assert_non_null(strstr(fae_buf_text(&out), "  servant geo\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_have_parts),
        TEST(json_has_all_of_it),
        TEST(nobody_has_any),
        TEST(a_table_tells_what_is_left_alone_and_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
