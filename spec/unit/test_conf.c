/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vm/conf: config files that are right, to rows; the generated sample and reference.
 */
#include "unit_conf.h"

#include "base/config_doc.h"

/* ---- right files ---- */

static void an_empty_file_is_all_defaults(void **state)
{
    static struct fae_config config, defaults;

    (void)state;
    fae_config_init(&defaults);
    apply("", &config);
    assert_memory_equal(&config, &defaults, sizeof config);
    apply("-- nothing\n", &config);
    assert_memory_equal(&config, &defaults, sizeof config);
}

static void reads_every_kind_of_value(void **state)
{
    static struct fae_config config;

    (void)state;
    apply("#!/usr/bin/env fae\nworkers(4)\nrun_dir [[here]]\nadmin ''\nlog_format 'json'\nlog_level('error')\n"
          "message_max '64KiB'\nlua_memory_max(32 * 1024 * 1024)\ndrain_ms(0) drain_spread_ms(0)\nwatchdog(false)\n",
          &config);
    assert_int_equal(config.workers, 4);
    assert_string_equal(config.run_dir, "here");
    assert_string_equal(config.admin, "");
    assert_int_equal(config.log_format, 1);
    assert_int_equal(config.log_level, 3);
    assert_int_equal(config.message_max, 65536);
    assert_int_equal(config.lua_memory_max, 32 << 20);
    assert_int_equal(config.drain_ms, 0);
    assert_false(config.watchdog);
    assert_int_equal(config.n_listen, 0);
    assert_null(config.servants_json);
    fae_config_fini(&config);
    apply("admin '[::1]:9101'", &config);
    assert_string_equal(config.admin, "[::1]:9101");
    fae_config_fini(&config);
}

static void reads_listeners(void **state)
{
    static struct fae_config config;

    (void)state;
    apply("listen 'tcp://127.0.0.1:0'\nlisten 'tcp://127.0.0.1:0'\n"
          "listen { 'unix:fae.sock', mode = '0600', half_close = true }\nlisten { addr = '*:9001' }\n"
          "listen { 'unix:/b', mode = 0770, group = 'www-data' }",
          &config);
    assert_int_equal(config.n_listen, 5);
    assert_string_equal(config.listen[0].addr, "tcp://127.0.0.1:0");
    assert_int_equal(config.listen[0].mode, 0660);
    assert_false(config.listen[0].half_close);
    assert_string_equal(config.listen[2].addr, "unix:fae.sock");
    assert_int_equal(config.listen[2].mode, 0600);
    assert_true(config.listen[2].half_close);
    assert_string_equal(config.listen[3].addr, "*:9001");
    assert_string_equal(config.listen[2].group, "");
    assert_int_equal(config.listen[4].mode, 0770);
    assert_string_equal(config.listen[4].group, "www-data");
    fae_config_fini(&config);
}

static void reads_sections(void **state)
{
    static struct fae_config config;

    (void)state;
    apply(
        "role 'web' { allow = { 'shop.*', '  lc.get' }, deny = 'shop.refund  shop.x' }\nrole('peers', { peer = true })\n"
        "limit 'shop.*' { calls = 5, rate = 100, burst = 10, slow_ms = 20 }\nlimit 'lc_get' {}\n"
        "token 'cron-1' { sha256 = '" HASH "', roles = { 'web', 'peers' } }\naccount 'root' { roles = 'web' }\n"
        "account '33' {}\ncertificate 'CN with blanks' { roles = 'web' }\nfence 'thumbs' { allow = 'ffi os.execute' }\n"
        "listen { 'tls://*:9002', cert = 'c.pem', key = 'k.pem', client_ca = 'ca.pem', roles = 'web' }\n"
        "local later = limit 'a.b'\nlimit 'c.d' { rate = 2 }\nlater { rate = 1 }\nsecrets {} host_exempt { '10.0.0.0/8' }",
        &config);
    assert_int_equal(config.n_role, 2);
    assert_string_equal(config.role[0].allow, "shop.* lc.get");
    assert_string_equal(config.role[0].deny, "shop.refund shop.x");
    assert_false(config.role[0].peer);
    assert_string_equal(config.role[1].name, "peers");
    assert_true(config.role[1].peer);
    assert_int_equal(config.n_limit, 4);
    assert_string_equal(config.limit[0].methods, "shop.*");
    assert_int_equal(config.limit[0].calls, 5);
    assert_int_equal(config.limit[0].rate, 100);
    assert_int_equal(config.limit[0].burst, 10);
    assert_int_equal(config.limit[0].slow_ms, 20);
    assert_int_equal(config.limit[1].calls, 0);
    assert_string_equal(config.limit[2].methods, "c.d");
    assert_string_equal(config.limit[3].methods, "a.b");
    assert_int_equal(config.n_token, 1);
    assert_string_equal(config.token[0].sha256, HASH);
    assert_string_equal(config.token[0].roles, "web peers");
    assert_int_equal(config.n_account, 2);
    assert_string_equal(config.account[1].name, "33");
    assert_string_equal(config.certificate[0].name, "CN with blanks");
    assert_string_equal(config.fence[0].allow, "ffi os.execute");
    assert_string_equal(config.listen[0].addr, "tls://*:9002");
    assert_string_equal(config.listen[0].client_ca, "ca.pem");
    assert_string_equal(config.listen[0].roles, "web");
    assert_string_equal(config.secrets, "");
    assert_string_equal(config.host_exempt, "10.0.0.0/8");
    fae_config_fini(&config);
    apply("admin '10.0.0.1:9101' admin_token '" HASH "' admin_cert 'c' admin_key 'k'", &config);
    assert_string_equal(config.admin_token, HASH);
    fae_config_fini(&config);
}

static void plugins_keep_the_order_of_the_file(void **state)
{
    static struct fae_config config;

    (void)state;
    apply("plugin 'z' { b = 1, a = 'x' }\nservant 'z' {}\nplugin 'a' {}", &config);
    assert_string_equal(config.plugins_json, "{\"z\":{\"a\":\"x\",\"b\":1},\"a\":{}}");
    assert_string_equal(config.servants_json, "{\"z\":{}}");
    fae_config_fini(&config);
}

static void reads_servants_in_a_fixed_order(void **state)
{
    static struct fae_config config;

    (void)state;
    apply("servant 'shop' { ttl = 60, names = { 'a', 'b' }, z = {}, b = { y = 0.1, x = -3, [ [[k\"]] ] = false } }\n"
          "servant('_b2', { big = 2^53, tiny = 1e-300, text = 'a\\0\\n\\195\\164' })",
          &config);
    assert_string_equal(
        config.servants_json,
        "{\"shop\":{\"b\":{\"k\\\"\":false,\"x\":-3,\"y\":0.1},\"names\":[\"a\",\"b\"],\"ttl\":60,"
        "\"z\":{}},\"_b2\":{\"big\":9007199254740992,\"text\":\"a\\u0000\\n\xc3\xa4\",\"tiny\":1e-300}}");
    fae_config_fini(&config);
}

static void computes_the_same_every_time(void **state)
{
    static const char text[] =
        "local t = {}\nfor i = 1, 50 do t['k' .. i] = i end\nt[2] = 'two' t[1] = 'one'\nlocal keys = {}\n"
        "for k, v in pairs(t) do keys[#keys + 1] = tostring(k) t[k] = nil end\n"
        "servant 'a' { keys = table.concat(keys, ','), n = math.random(1000000), v = tostring({}), f = tostring(pairs),"
        " home = os.getenv 'FAE_TEST_CONF', none = tostring(os.getenv 'FAE_TEST_NONE'), i = tonumber '12', t = t }";
    static struct fae_config a, b;

    (void)state;
    setenv("FAE_TEST_CONF", "value", 1);
    unsetenv("FAE_TEST_NONE");
    apply(text, &a);
    apply(text, &b);
    assert_string_equal(a.servants_json, b.servants_json);
    assert_non_null(strstr(a.servants_json, "\"keys\":\"1,2,k1,k10,k11,"));
    assert_non_null(strstr(a.servants_json, "\"f\":\"function\",\"home\":\"value\",\"i\":12,"));
    assert_non_null(strstr(a.servants_json, "\"none\":\"nil\",\"t\":{},\"v\":\"table\"}"));
    fae_config_fini(&a);
    fae_config_fini(&b);
}

static void leaves_nothing_open(void **state)
{
    static struct fae_config config;
    unsigned before = unit_count_fds();

    (void)state;
    apply("workers(1)", &config);
    fae_config_fini(&config);
    assert_int_equal(unit_count_fds(), before);
}

/* ---- generated texts ---- */

static void check_generated(const char *path, void (*write)(struct fae_buf *out))
{
    struct fae_buf want = { 0 };
    int fd = openat(home_fd, path, O_RDONLY | O_CLOEXEC);
    char *text;

    write(&want);
    text = calloc(1, want.len + 2);
    assert_true(fd >= 0);
    assert_non_null(text);
    assert_int_equal(read(fd, text, want.len + 1), want.len);
    assert_string_equal(text, fae_buf_text(&want));
    close(fd);
    free(text);
    fae_buf_fini(&want);
}

static void generated_files_are_up_to_date(void **state)
{
    (void)state;
    check_generated("conf/fae.lua", fae_config_doc_defaults);
    check_generated("conf/README.md", fae_config_doc_reference);
}

static void the_sample_is_the_defaults(void **state)
{
    struct fae_buf text = { 0 };
    static struct fae_config config, defaults;

    (void)state;
    fae_config_doc_defaults(&text);
    apply(fae_buf_text(&text), &config);
    assert_int_equal(config.n_listen, 2);
    assert_string_equal(config.listen[0].addr, "tcp://127.0.0.1:9001");
    assert_string_equal(config.listen[1].addr, "unix:fae.sock");
    config.n_listen = 0;
    memset(config.listen, 0, sizeof config.listen);
    fae_config_init(&defaults);
    assert_memory_equal(&config, &defaults, sizeof config);
    fae_buf_fini(&text);
}

static void generated_texts_name_every_option(void **state)
{
    struct fae_buf lua = { 0 }, page = { 0 };
    char row[128];

    (void)state;
    fae_config_doc_defaults(&lua);
    fae_config_doc_reference(&page);
    for (unsigned i = 0; i < fae_config_n_opts; i++) {
        snprintf(row, sizeof row, "| `%s` |", fae_config_opts[i].name);
        assert_non_null(strstr(fae_buf_text(&page), row));
        snprintf(row, sizeof row, "\n%s", fae_config_opts[i].name);
        assert_non_null(strstr(fae_buf_text(&lua), row));
        assert_non_null(strstr(fae_buf_text(&lua), fae_config_opts[i].help));
    }
    for (unsigned i = 0; i < fae_config_n_sections; i++) {
        const struct fae_config_section *section = &fae_config_sections[i];

        snprintf(row, sizeof row, "\n## %s\n", section->name);
        assert_non_null(strstr(fae_buf_text(&page), row));
        assert_non_null(strstr(fae_buf_text(&lua), section->example));
        for (unsigned o = 0; o < *section->n_opts; o++)
            assert_non_null(strstr(fae_buf_text(&page), section->opts[o].help));
    }
    assert_non_null(strstr(fae_buf_text(&page), "| 0 to 64 | start | worker processes"));
    assert_non_null(strstr(fae_buf_text(&page), "| debug, info, warn, error | reload | lines below"));
    fae_buf_fini(&lua);
    fae_buf_fini(&page);
}

/* Every example of the sample at once. */
static void examples_are_right(void **state)
{
    struct fae_buf lua = { 0 }, text = { 0 };
    unsigned n_sections = 0;
    static struct fae_config config;
    const char *p;

    (void)state;
    fae_config_doc_defaults(&lua);
    for (p = strstr(fae_buf_text(&lua), "\n-- where calls are served"); p; p = strchr(p + 1, '\n'))
        if (strncmp(p, "\n-- ", 4) == 0 && strstr(p, " {") && strcspn(p + 4, "{") < strcspn(p + 4, "\n"))
            fae_buf_printf(&text, "%.*s\n", (int)strcspn(p + 4, "\n"), p + 4);
    setenv("CRON_SHA256", HASH, 1);
    apply(fae_buf_text(&text), &config);
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        n_sections += *fae_config_count(&fae_config_sections[i], &config) == 1;
    assert_int_equal(n_sections, fae_config_n_sections);
    assert_non_null(config.servants_json);
    assert_non_null(config.plugins_json);
    fae_config_fini(&config);
    fae_buf_fini(&lua);
    fae_buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_is_all_defaults),
        cmocka_unit_test(reads_every_kind_of_value),
        cmocka_unit_test(reads_listeners),
        cmocka_unit_test(reads_sections),
        cmocka_unit_test(plugins_keep_the_order_of_the_file),
        cmocka_unit_test(reads_servants_in_a_fixed_order),
        cmocka_unit_test(computes_the_same_every_time),
        cmocka_unit_test(leaves_nothing_open),
        cmocka_unit_test(generated_files_are_up_to_date),
        cmocka_unit_test(the_sample_is_the_defaults),
        cmocka_unit_test(generated_texts_name_every_option),
        cmocka_unit_test(examples_are_right),
    };

    return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
