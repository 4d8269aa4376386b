/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/config: every option has a row, and every row is sound.
 */
#include "unit.h"

#include "base/config.h"
#include "base/log.h"

static void defaults_are_what_the_reference_says(void **state)
{
    struct fae_config c;

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
    assert_int_equal(strspn(opt->name, "abcdefghijklmnopqrstuvwxyz_"), strlen(opt->name));
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

static void rows_are_sound(void **state)
{
    (void)state;
    for (unsigned i = 0; i < fae_config_n_opts; i++)
        row_is_sound(&fae_config_opts[i], fae_config_opts);
    for (unsigned i = 0; i < fae_config_n_listen_opts; i++)
        row_is_sound(&fae_config_listen_opts[i], fae_config_listen_opts);
}

static size_t width(const struct fae_opt *opt)
{
    return opt->type == FAE_OPT_STRING ? FAE_OPT_TEXT : opt->type == FAE_OPT_BOOL ? sizeof(bool) : sizeof(uint64_t);
}

/* Every field has one row: together they cover the struct up to the listeners, but for what aligns a field. */
static void rows_cover_the_struct(void **state)
{
    static uint8_t covered[sizeof(struct fae_config)];
    size_t bare = 0, in_row = 0;

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
    assert_int_equal(bare, 7); /* after the bool */
}

static void levels_match_the_log(void **state)
{
    static const char *const words[] = {
#define WORD(name, word) [FAE_LOG_##name] = word,
        FAE_LOG_LEVELS(WORD)
#undef WORD
    };
    const struct fae_opt *opt = fae_opt_find(fae_config_opts, fae_config_n_opts, "log_level");
    struct fae_config c;
    char why[200];

    (void)state;
    for (unsigned i = 0; i < UNIT_N(words); i++) {
        assert_int_equal(fae_opt_set(opt, &c, words[i], why, sizeof why), FAE_OK);
        assert_int_equal(c.log_level, i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_what_the_reference_says),
        cmocka_unit_test(a_listener_has_defaults_but_no_address),
        cmocka_unit_test(rows_are_sound),
        cmocka_unit_test(rows_cover_the_struct),
        cmocka_unit_test(levels_match_the_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
