/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/config: every option has a row, and every row is sound.
 */
#include "unit.h"

#include "base/config.h"
#include "base/config_check.h"
#include "base/config_report.h"
#include "base/config_rows.h"
#include "base/log.h"

static void defaults_are_what_the_reference_says(void **state)
{
    static struct fae_config c;

    (void)state;
    memset(&c, 0xff, sizeof c);
    fae_config_init(&c);
    assert_int_equal(c.workers, 0);
    assert_string_equal(c.run_dir, "run");
    assert_string_equal(c.servants_dir, "servants");
    assert_string_equal(c.lua_dir, "");
    assert_string_equal(c.user, "");
    assert_string_equal(c.admin, "127.0.0.1:9101");
    assert_int_equal(c.log_format, 0);
    assert_int_equal(c.log_level, FAE_LOG_INFO);
    assert_string_equal(c.log_file, "");
    assert_int_equal(c.backlog, 4096);
    assert_int_equal(c.sessions_max, 10000);
    assert_int_equal(c.message_max, 4 * FAE_MIB);
    assert_int_equal(c.call_timeout_ms, 5000);
    assert_int_equal(c.partial_timeout_ms, 10000);
    assert_int_equal(c.out_stall_ms, 10000);
    assert_int_equal(c.drain_ms, 30000);
    assert_int_equal(c.drain_spread_ms, 5000);
    assert_true(c.watchdog);
    assert_int_equal(c.watchdog_warn_ms, 2000);
    assert_int_equal(c.watchdog_kill_ms, 5000);
    assert_int_equal(c.lua_memory_max, 512 * FAE_MIB);
    assert_int_equal(c.n_listen, 0);
    assert_null(c.servants_json);
    c.servants_json = strdup("{}");
    fae_config_fini(&c);
    assert_null(c.servants_json);
    fae_config_fini(&c);
}

static void a_listener_has_defaults_but_no_address(void **state)
{
    struct fae_config_listen l;
    char why[200];

    (void)state;
    memset(&l, 0xff, sizeof l);
    fae_opt_defaults(fae_config_listen_opts, fae_config_n_listen_opts, &l);
    assert_string_equal(l.addr, "");
    assert_false(l.half_close);
    assert_int_equal(l.mode, 0660);
    assert_string_equal(l.group, "");
    assert_int_equal(
        fae_opt_set(fae_opt_find(fae_config_listen_opts, fae_config_n_listen_opts, "addr"), &l, "", why, sizeof why),
        FAE_BAD_CONFIG);
}

static void row_is_sound(const struct fae_opt *opt, const struct fae_opt *first)
{
    assert_int_equal(strspn(opt->name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(opt->name));
    assert_true(strlen(opt->help) > 10);
    assert_null(strchr(opt->help, '\n'));
    assert_true(opt->max == 0 || opt->min <= opt->max);
    assert_int_equal(opt->type == FAE_OPT_ENUM, opt->words != NULL);
    if (opt->type == FAE_OPT_MS) {
        assert_string_equal(opt->name + strlen(opt->name) - 3, "_ms");
        assert_non_null(strstr(opt->help, "milliseconds"));
    }
    if (opt->type == FAE_OPT_BYTES)
        assert_non_null(strstr(opt->help, "bytes"));
    for (; first < opt; first++)
        assert_string_not_equal(first->name, opt->name);
}

static size_t width(const struct fae_opt *opt)
{
    switch (opt->type) {
    case FAE_OPT_BOOL: return sizeof(bool);
    case FAE_OPT_STRING: return FAE_OPT_TEXT;
    case FAE_OPT_LIST: return FAE_OPT_LIST_TEXT;
    case FAE_OPT_UINT:
    case FAE_OPT_MS:
    case FAE_OPT_BYTES:
    case FAE_OPT_ENUM: return sizeof(uint64_t);
    }
    return 0;
}

static void rows_are_sound(void **state)
{
    (void)state;
    for (unsigned i = 0; i < fae_config_n_opts; i++)
        row_is_sound(&fae_config_opts[i], fae_config_opts);
    for (unsigned i = 0; i < fae_config_n_sections; i++) {
        const struct fae_config_section *section = &fae_config_sections[i];

        for (unsigned o = 0; o < *section->n_opts; o++) {
            row_is_sound(&section->opts[o], section->opts);
            assert_int_equal(section->opts[o].at_start, section->opts->at_start); /* all of it or nothing */
            assert_true(section->opts[o].offset + width(&section->opts[o]) <= section->size);
        }
        assert_int_equal(section->opts->type, FAE_OPT_STRING);
        assert_true(section->max <= FAE_CONFIG_ENTRIES_MAX);
        assert_true(section->help[0] >= 'a' && section->help[0] <= 'z');
        assert_true(strncmp(section->example, section->name, strlen(section->name)) == 0);
        assert_ptr_equal(fae_config_section(section->name), section);
    }
    assert_null(fae_config_section("lisen"));
}

/* Every field has one row: together they cover the struct up to the listeners, but for what aligns a field. */
static void rows_cover_the_struct(void **state)
{
    static uint8_t covered[sizeof(struct fae_config)];
    size_t bare = 0, in_row = 0, n_bools = 0;

    (void)state;
    memset(covered, 0, sizeof covered);
    for (unsigned i = 0; i < fae_config_n_opts; i++)
        for (size_t b = 0; b < width(&fae_config_opts[i]); b++)
            assert_int_equal(covered[fae_config_opts[i].offset + b]++, 0);
    for (size_t b = 0; b < offsetof(struct fae_config, n_listen); b++) {
        in_row = covered[b] ? 0 : in_row + 1;
        bare += !covered[b];
        assert_true(in_row < 8);
    }
    for (unsigned i = 0; i < fae_config_n_opts; i++)
        n_bools += fae_config_opts[i].type == FAE_OPT_BOOL;
    assert_true(bare <= 7 * n_bools); /* what aligns the field after each */
}

static void levels_match_the_log(void **state)
{
    static const char *const words[] = {
#define WORD(name, word) [FAE_LOG_##name] = word,
        FAE_LOG_LEVELS(WORD)
#undef WORD
    };
    const struct fae_opt *opt = fae_opt_find(fae_config_opts, fae_config_n_opts, "log_level");
    static struct fae_config c;
    char why[200];

    (void)state;
    for (unsigned i = 0; i < UNIT_N(words); i++) {
        assert_int_equal(fae_opt_set(opt, &c, words[i], why, sizeof why), FAE_OK);
        assert_int_equal(c.log_level, i);
    }
}

/* ---- forms and clashes ---- */

static void values_have_forms(void **state)
{
    static const struct {
        const char *section, *option, *text;
        bool good;
    } rows[] = {
        { "limit", "methods", "shop.buy", true },
        { "limit", "methods", "shop.*", true },
        { "limit", "methods", "lc_get", true },
        { "limit", "methods", "*.buy", false },
        { "limit", "methods", "a.b.c", false },
        { "limit", "methods", "a..b", false },
        { "role", "name", "web-2_x", true },
        { "role", "name", "a.b", false },
        { "role", "allow", "* shop.* *_get lc.get", true },
        { "role", "allow", "shop.[ab]", false },
        { "role", "deny", "shop.?", false },
        { "token", "name", "cron", true },
        { "token", "name", "a/b", false },
        { "token", "sha256", "0123456789abcdefABCDEF00000000000000000000000000000000000000000f", true },
        { "token", "sha256", "0123456789abcdefABCDEF00000000000000000000000000000000000000000g", false },
        { "account", "name", "www-data", true },
        { "account", "name", "1000", true },
        { "account", "name", "a:b", false },
        { "certificate", "name", "Any Thing: at all", true },
        { "fence", "name", "thumbs", true },
        { "fence", "name", "../x", false },
        { "fence", "allow", "debug ffi io.popen loadlib os.execute", true },
        { "fence", "allow", "io.open", false },
        { "listen", "roles", "web", true },
        { "listen", "roles", "we.b", false },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        const struct fae_config_section *section = fae_config_section(rows[i].section);
        const struct fae_opt *opt = fae_opt_find(section->opts, *section->n_opts, rows[i].option);
        void *entry = calloc(1, section->size);
        char why[300] = "";

        assert_int_equal(fae_opt_set(opt, entry, rows[i].text, why, sizeof why), FAE_OK);
        if ((fae_config_value_ok(rows[i].section, opt, entry, why, sizeof why) == FAE_OK) != rows[i].good)
            fail_msg("%s %s %s: %s", rows[i].section, rows[i].option, rows[i].text, why);
        assert_int_equal(*why == '\0', rows[i].good);
        free(entry);
    }
}

static void keep_text(void *arg, const struct fae_config_clash *clash, const char *why)
{
    fae_buf_printf(arg, "%s %u %s: %s\n", clash->section, clash->index, clash->name, why);
}

static void clashes_are_told(void **state)
{
    static struct fae_config c;
    struct fae_buf out = { 0 };
    const char *name = NULL;
    char why[300];

    (void)state;
    fae_config_init(&c);
    fae_config_clashes(&c, keep_text, &out);
    assert_int_equal(out.len, 0);
    assert_int_equal(fae_config_agrees(&c, &name, why, sizeof why), FAE_OK);
    assert_null(name);
    c.n_role = c.n_token = c.n_account = c.n_certificate = c.n_listen = 1;
    strcpy(c.role[0].name, "web");
    strcpy(c.token[0].roles, "web wed");
    strcpy(c.account[0].roles, "admin");
    strcpy(c.certificate[0].roles, "web");
    strcpy(c.listen[0].addr, "tls://*:1");
    strcpy(c.listen[0].roles, "x");
    strcpy(c.listen[0].cert, "c.pem");
    strcpy(c.admin_cert, "c.pem");
    c.drain_ms = 10;
    fae_config_clashes(&c, keep_text, &out);
    assert_string_equal(fae_buf_text(&out),
                        " 0 drain_spread_ms: drain_spread_ms must be at most drain_ms (10), not 5000\n"
                        " 0 admin_cert: admin_cert needs admin_key\n"
                        "listen 0 cert: cert needs key\n"
                        "listen 0 roles: roles: there is no role \"x\"\n"
                        "token 0 roles: roles: there is no role \"wed\": did you mean \"web\"?\n"
                        "account 0 roles: roles: there is no role \"admin\"\n");
    c.drain_ms = 30000;
    strcpy(c.admin_cert, "");
    assert_int_equal(fae_config_agrees(&c, &name, why, sizeof why), FAE_BAD_CONFIG);
    assert_string_equal(name, "cert");
    assert_string_equal(why, "listen: cert needs key");
    fae_buf_fini(&out);
}

/* ---- reports ---- */

static void fill(struct fae_config *c)
{
    fae_config_init(c);
    c->n_listen = 2;
    strcpy(c->listen[0].addr, "tcp://127.0.0.1:0");
    strcpy(c->listen[1].addr, "tcp://127.0.0.1:0");
    c->n_limit = 2;
    strcpy(c->limit[0].methods, "shop.*");
    strcpy(c->limit[1].methods, "a.b");
    c->n_token = 1;
    strcpy(c->token[0].name, "cron");
    strcpy(c->token[0].sha256, "5ec2e7");
    c->servants_json = strdup("{\"shop\":{\"t\":\"a,}\\\"\"},\"user\":{\"l\":[{\"x\":1},2]},\"z\":{}}");
}

static void differences_are_told_but_no_secrets(void **state)
{
    static struct fae_config a, b;
    struct fae_buf out = { 0 };

    (void)state;
    fill(&a);
    fill(&b);
    fae_config_diff(&out, &a, &b);
    assert_int_equal(out.len, 0);
    b.log_level = FAE_LOG_DEBUG;
    b.workers = 8;
    b.message_max = 1 << 20;
    strcpy(b.secrets, "");
    strcpy(b.admin_token, "deadbeef");
    strcpy(b.log_file, "a\nOK");
    b.n_listen = 3;
    strcpy(b.listen[2].addr, "unix:a");
    b.listen[0].half_close = true;
    b.n_limit = 2;
    strcpy(b.limit[0].methods, "a.b");
    b.limit[0].rate = 5;
    strcpy(b.limit[1].methods, "c.d");
    strcpy(b.token[0].sha256, "1234");
    free(b.servants_json);
    b.servants_json = strdup("{\"user\":{\"l\":[{\"x\":1},3]},\"z\":{},\"new\":{}}");
    b.plugins_json = strdup("{\"p\":{}}");
    fae_config_diff(&out, &a, &b);
    assert_string_equal(fae_buf_text(&out),
                        "workers: 0 -> 8 needs a restart\n"
                        "admin_token: changed\n"
                        "log_level: info -> debug\n"
                        "log_file: \"\" -> a?OK needs a restart\n"
                        "secrets: password passwd pass pwd secret token key auth authorization cookie -> \"\"\n"
                        "message_max: 4MiB -> 1MiB\n"
                        "listen tcp://127.0.0.1:0: changed, needs a restart\n"
                        "listen unix:a: added, needs a restart\n"
                        "limit a.b: changed\n"
                        "limit c.d: added\n"
                        "limit shop.*: removed\n"
                        "token cron: changed\n"
                        "servant user: changed\n"
                        "servant new: added\n"
                        "servant shop: removed\n"
                        "plugin p: added\n");
    fae_config_keep(&b, &a);
    assert_int_equal(b.workers, 0);
    assert_string_equal(b.log_file, "");
    assert_int_equal(b.n_listen, 2);
    assert_false(b.listen[0].half_close);
    assert_int_equal(b.log_level, FAE_LOG_DEBUG);
    assert_int_equal(b.limit[0].rate, 5);
    fae_config_fini(&a);
    fae_config_fini(&b);
    fae_buf_fini(&out);
}

static void the_order_of_plugins_is_a_difference(void **state)
{
    static struct fae_config a, b;
    struct fae_buf out = { 0 };

    (void)state;
    fae_config_init(&a);
    fae_config_init(&b);
    a.plugins_json = strdup("{\"p\":{},\"q\":{}}");
    b.plugins_json = strdup("{\"q\":{},\"p\":{}}");
    fae_config_diff(&out, &a, &b);
    assert_string_equal(fae_buf_text(&out), "plugin: in another order\n");
    fae_config_fini(&a);
    fae_config_fini(&b);
    fae_buf_fini(&out);
}

static void shows_all_but_secrets(void **state)
{
    static struct fae_config c;
    struct fae_buf out = { 0 };

    (void)state;
    fill(&c);
    strcpy(c.admin_token, "deadbeef");
    fae_config_show(&out, &c);
    assert_non_null(strstr(fae_buf_text(&out), "\nlog_level info\n"));
    assert_non_null(strstr(fae_buf_text(&out), "\nlog_file \"\"\n"));
    assert_non_null(strstr(fae_buf_text(&out), "\nadmin_token (set)\n"));
    assert_non_null(strstr(fae_buf_text(&out), "\nlimit \"shop.*\" rate 0\n"));
    assert_non_null(strstr(fae_buf_text(&out), "\ntoken \"cron\" sha256 (set)\n"));
    assert_non_null(strstr(fae_buf_text(&out), "\nservant \"shop\" (set)\n"));
    assert_non_null(strstr(fae_buf_text(&out), "\nservant \"z\" {}\n"));
    assert_null(strstr(fae_buf_text(&out), "deadbeef"));
    assert_null(strstr(fae_buf_text(&out), "5ec2e7"));
    out.len = 0;
    c.admin_token[0] = '\0';
    fae_config_show(&out, &c);
    assert_non_null(strstr(fae_buf_text(&out), "\nadmin_token \"\"\n"));
    fae_config_fini(&c);
    fae_buf_fini(&out);
}

static void copies_and_swaps(void **state)
{
    static struct fae_config a, b;

    (void)state;
    fill(&a);
    a.plugins_json = strdup("{\"p\":{}}");
    fae_config_copy(&b, &a);
    assert_string_equal(a.servants_json, b.servants_json);
    assert_ptr_not_equal(a.servants_json, b.servants_json);
    assert_ptr_not_equal(a.plugins_json, b.plugins_json);
    b.drain_ms = 7;
    fae_config_swap(&a, &b);
    assert_int_equal(a.drain_ms, 7);
    assert_int_equal(b.drain_ms, 30000);
    fae_config_fini(&a);
    fae_config_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_what_the_reference_says),
        cmocka_unit_test(a_listener_has_defaults_but_no_address),
        cmocka_unit_test(rows_are_sound),
        cmocka_unit_test(rows_cover_the_struct),
        cmocka_unit_test(levels_match_the_log),
        cmocka_unit_test(values_have_forms),
        cmocka_unit_test(clashes_are_told),
        cmocka_unit_test(differences_are_told_but_no_secrets),
        cmocka_unit_test(the_order_of_plugins_is_a_difference),
        cmocka_unit_test(shows_all_but_secrets),
        cmocka_unit_test(copies_and_swaps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
