/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/config_rows: there and back; cut, damaged and invented rows are refused and change nothing.
 */
#include "unit.h"

#include "base/alloc.h"
#include "base/config_check.h"
#include "base/config_rows.h"

#define HASH "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

/* Rows of many sections. */
static void fill(struct fae_buf *rows)
{
    fae_config_row(rows, "", 0, "workers", "4", 1);
    fae_config_row(rows, "", 0, "run_dir", "here", 2);
    fae_config_row(rows, "", 0, "watchdog", "false", 3);
    fae_config_row(rows, "listen", 0, "addr", "unix:a", 4);
    fae_config_row(rows, "listen", 0, "mode", "0600", 5);
    fae_config_row(rows, "listen", 1, "addr", "tcp://*:0", 6);
    fae_config_row(rows, "role", 0, "name", "web", 6);
    fae_config_row(rows, "role", 0, "allow", " shop.*   lc.get ", 6);
    fae_config_row(rows, "token", 0, "name", "cron", 6);
    fae_config_row(rows, "token", 0, "sha256", HASH, 6);
    fae_config_row(rows, "token", 0, "roles", "web", 6);
    fae_config_row(rows, "limit", 0, "methods", "shop.*", 6);
    fae_config_row(rows, "limit", 0, "rate", "100", 6);
    fae_config_row(rows, "limit", 1, "methods", "lc_get", 6);
    fae_config_row(rows, "plugin", 0, "log", "{\"f\":\"}\\\",{\"}", 6);
    fae_config_row(rows, "plugin", 1, "a", "{}", 6);
    fae_config_row(rows, "servant", 0, "shop", "{\"a\":[1,2]}", 7);
    fae_config_row(rows, "servant", 1, "user", "{}", 8);
    fae_config_rows_end(rows);
}

static void check_filled(const struct fae_config *config)
{
    assert_int_equal(config->workers, 4);
    assert_string_equal(config->run_dir, "here");
    assert_false(config->watchdog);
    assert_int_equal(config->n_listen, 2);
    assert_string_equal(config->listen[0].addr, "unix:a");
    assert_int_equal(config->listen[0].mode, 0600);
    assert_string_equal(config->listen[1].addr, "tcp://*:0");
    assert_int_equal(config->listen[1].mode, 0660);
    assert_int_equal(config->n_role, 1);
    assert_string_equal(config->role[0].allow, "shop.* lc.get");
    assert_string_equal(config->token[0].sha256, HASH);
    assert_int_equal(config->n_limit, 2);
    assert_int_equal(config->limit[0].rate, 100);
    assert_string_equal(config->limit[1].methods, "lc_get");
    assert_string_equal(config->servants_json, "{\"shop\":{\"a\":[1,2]},\"user\":{}}");
    assert_string_equal(config->plugins_json, "{\"log\":{\"f\":\"}\\\",{\"},\"a\":{}}");
}

/* Applies rows that must be refused with this sentence; NULL: with any. */
static void check_refused(const void *bytes, size_t len, const char *want)
{
    static struct fae_config config, before;
    char why[256] = "";

    fae_config_init(&config);
    config.workers = 7;
    config.servants_json = fae_strdup("{}");
    memcpy(&before, &config, sizeof before);
    assert_int_equal(fae_config_apply(&config, bytes, len, why, sizeof why), FAE_BAD_CONFIG);
    assert_memory_equal(&config, &before, sizeof config);
    if (want)
        assert_string_equal(why, want);
    assert_true(why[0] != '\0');
    fae_config_fini(&config);
}

static void goes_there_and_back(void **state)
{
    struct fae_buf rows = { 0 };
    static struct fae_config config;
    char why[256];

    (void)state;
    fill(&rows);
    fae_config_init(&config);
    config.servants_json = fae_strdup("{\"old\":{}}");
    assert_int_equal(fae_config_apply(&config, rows.data, rows.len, why, sizeof why), FAE_OK);
    check_filled(&config);
    /* Again over what is there: the same, nothing twice. */
    assert_int_equal(fae_config_apply(&config, rows.data, rows.len, why, sizeof why), FAE_OK);
    check_filled(&config);
    fae_config_fini(&config);
    fae_buf_fini(&rows);
}

/* What fae_config_write makes of a config gives that config again, whatever it was applied to. */
static void writes_what_it_reads(void **state)
{
    static struct fae_config config, again;
    struct fae_buf rows = { 0 }, written = { 0 };
    struct fae_config_table table;
    size_t cursor = 0;
    char why[256];

    (void)state;
    fill(&rows);
    fae_config_init(&config);
    assert_int_equal(fae_config_apply(&config, rows.data, rows.len, why, sizeof why), FAE_OK);
    fae_config_write(&written, &config);
    fae_config_init(&again);
    assert_int_equal(fae_config_apply(&again, written.data, written.len, why, sizeof why), FAE_OK);
    check_filled(&again);
    rows.len = 0;
    fae_config_write(&rows, &again);
    assert_int_equal(rows.len, written.len);
    assert_memory_equal(rows.data, written.data, rows.len);
    assert_true(fae_config_next_table(config.plugins_json, &cursor, &table));
    assert_string_equal(table.name, "log");
    assert_int_equal(table.len, strlen("{\"f\":\"}\\\",{\"}"));
    assert_true(fae_config_next_table(config.plugins_json, &cursor, &table));
    assert_string_equal(table.name, "a");
    assert_false(fae_config_next_table(config.plugins_json, &cursor, &table));
    cursor = 0;
    assert_false(fae_config_next_table(NULL, &cursor, &table));
    fae_config_fini(&config);
    fae_config_fini(&again);
    fae_buf_fini(&rows);
    fae_buf_fini(&written);
}

static void refuses_every_cut(void **state)
{
    struct fae_buf rows = { 0 };

    (void)state;
    fill(&rows);
    for (size_t len = 0; len < rows.len; len++) {
        uint8_t *cut = fae_alloc(len ? len : 1); /* exactly as long as it says, for the address sanitizer */

        memcpy(cut, rows.data, len);
        check_refused(cut, len, NULL);
        free(cut);
    }
    fae_buf_add(&rows, "", 1);
    check_refused(rows.data, rows.len, NULL);
    fae_buf_fini(&rows);
}

/* One row and an end. */
static const struct {
    const char *section;
    unsigned index;
    const char *name, *value, *why;
} bad_rows[] = {
    { "", 0, "workers", "900", "line 12: workers must be 0 to 64, not 900" },
    { "", 0, "workrs", "4", "line 12: unknown option \"workrs\": did you mean \"workers\"?" },
    { "", 0, "", "", "line 12: unknown option \"\"" },
    { "nonsense", 0, "workers", "4", "the configuration's rows are damaged after row 0" },
    { "listen", 0, "addr", "", "the configuration's rows are damaged after row 0" },
    { "listen", 0, "mode", "0600", "the configuration's rows are damaged after row 0" },
    { "listen", 1, "addr", "unix:a", "the configuration's rows are damaged after row 0" },
    { "listen", 4294967, "addr", "unix:a", "the configuration's rows are damaged after row 0" },
    { "limit", 0, "rate", "5", "the configuration's rows are damaged after row 0" },
    { "limit", 0, "methods", "a-b",
      "line 12: limit: methods must be a method such as \"shop.buy\", or \"shop.*\" for all of a servant, not \"a-b\"" },
    { "token", 0, "name", "t", "the configuration's rows are damaged after row 1" }, /* without its hash */
    { "", 0, "admin_cert", "c", "admin_cert needs admin_key" },
    { "plugin", 0, "a", "1", "the configuration's rows are damaged after row 0" },
    { "servant", 1, "a", "{}", "the configuration's rows are damaged after row 0" },
    { "servant", 0, "a b", "{}", "the configuration's rows are damaged after row 0" },
    { "servant", 0, "", "{}", "the configuration's rows are damaged after row 0" },
    { "servant", 0, "a", "", "the configuration's rows are damaged after row 0" },
    { "servant", 0, "a", "[]", "the configuration's rows are damaged after row 0" },
    { "servant", 0, "a", "{},\"b\":{}", "the configuration's rows are damaged after row 0" },
    { "end", 7, "", "", "the configuration's rows are damaged after row 0" },
    { "", 0, "watchdog_warn_ms", "6000", "watchdog_warn_ms must be less than watchdog_kill_ms (5000), not 6000" },
    { "", 0, "drain_ms", "1000", "drain_spread_ms must be at most drain_ms (1000), not 5000" },
};

static void validates_everything_again(void **state)
{
    struct fae_buf rows = { 0 };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(bad_rows); i++) {
        rows.len = 0;
        fae_config_row(&rows, bad_rows[i].section, bad_rows[i].index, bad_rows[i].name, bad_rows[i].value, 12);
        fae_config_rows_end(&rows);
        check_refused(rows.data, rows.len, bad_rows[i].why);
    }
    rows.len = 0;
    fae_config_row(&rows, "listen", 0, "addr", "unix:a", 1);
    fae_config_row(&rows, "listen", 0, "mod", "1", 2);
    fae_config_rows_end(&rows);
    check_refused(rows.data, rows.len, "line 2: listen: unknown option \"mod\": did you mean \"mode\"?");
    rows.len = 0;
    fae_config_row(&rows, "servant", 0, "a", "{}", 1);
    fae_config_row(&rows, "servant", 1, "a", "{}", 2);
    fae_config_rows_end(&rows);
    check_refused(rows.data, rows.len, "the configuration's rows are damaged after row 1");
    rows.len = 0;
    fae_config_row(&rows, "limit", 0, "methods", "a.b", 1);
    fae_config_row(&rows, "limit", 1, "methods", "a.b", 1);
    fae_config_rows_end(&rows);
    check_refused(rows.data, rows.len, "the configuration's rows are damaged after row 1");
    rows.len = 0;
    fae_config_row(&rows, "role", 0, "name", "web", 1);
    fae_config_row(&rows, "account", 0, "name", "33", 2);
    fae_config_row(&rows, "account", 0, "roles", "wbe", 2);
    fae_config_rows_end(&rows);
    check_refused(rows.data, rows.len, "account: roles: there is no role \"wbe\": did you mean \"web\"?");
    fae_buf_fini(&rows);
}

static void bounds_listeners_servants_and_bytes(void **state)
{
    struct fae_buf rows = { 0 };
    char name[32], *big;

    (void)state;
    for (unsigned i = 0; i <= FAE_LISTENERS_MAX; i++)
        fae_config_row(&rows, "listen", i, "addr", "unix:a", i + 1);
    fae_config_rows_end(&rows);
    check_refused(rows.data, rows.len, "line 17: listen: at most 16");
    rows.len = 0;
    for (unsigned i = 0; i <= FAE_CONFIG_SERVANTS_MAX; i++) {
        snprintf(name, sizeof name, "s%u", i);
        fae_config_row(&rows, "servant", i, name, "{}", 1);
    }
    fae_config_rows_end(&rows);
    check_refused(rows.data, rows.len, "the configuration's rows are damaged after row 256");
    fae_buf_fini(&rows);
    big = fae_zalloc(FAE_CONFIG_ROWS_MAX + 1);
    check_refused(big, FAE_CONFIG_ROWS_MAX + 1, "the configuration's rows are damaged after row 0");
    free(big);
}

static void survives_garbage(void **state)
{
    struct fae_buf rows = { 0 };
    uint64_t seed = 88172645463325252u;
    unsigned n_refused = 0;

    (void)state;
    fill(&rows);
    for (unsigned round = 0; round < 4000; round++) {
        uint8_t *bytes = fae_alloc(rows.len);
        unsigned n = 1 + (unsigned)(unit_random(&seed) % 4);
        static struct fae_config config;
        char why[256] = "";

        memcpy(bytes, rows.data, rows.len);
        while (n--)
            bytes[unit_random(&seed) % rows.len] = (uint8_t)unit_random(&seed);
        fae_config_init(&config);
        if (fae_config_apply(&config, bytes, rows.len, why, sizeof why)) {
            assert_true(why[0] != '\0');
            assert_null(config.servants_json);
            n_refused++;
        }
        assert_true(config.workers <= FAE_WORKERS_MAX);
        assert_true(config.n_listen <= FAE_LISTENERS_MAX);
        fae_config_fini(&config);
        free(bytes);
    }
    assert_true(n_refused > 2000); /* the others hit a path, a number or a line */
    fae_buf_fini(&rows);
}

static void knows_names_of_servants(void **state)
{
    static const char *const good[] = { "a", "shop", "_x", "Shop2", "a_b_9" };
    static const char *const bad[] = { "", "9a", "a-b", "a.b", "a b", "\xc3\xa4", "a\"" };
    char name[FAE_CONFIG_NAME_MAX + 2];

    (void)state;
    for (unsigned i = 0; i < UNIT_N(good); i++)
        assert_true(fae_config_name_ok(good[i]));
    for (unsigned i = 0; i < UNIT_N(bad); i++)
        assert_false(fae_config_name_ok(bad[i]));
    memset(name, 'a', sizeof name);
    name[FAE_CONFIG_NAME_MAX] = '\0';
    assert_true(fae_config_name_ok(name));
    name[FAE_CONFIG_NAME_MAX] = 'a';
    name[FAE_CONFIG_NAME_MAX + 1] = '\0';
    assert_false(fae_config_name_ok(name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_there_and_back),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(validates_everything_again),
        cmocka_unit_test(bounds_listeners_servants_and_bytes),
        cmocka_unit_test(survives_garbage),
        cmocka_unit_test(knows_names_of_servants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
