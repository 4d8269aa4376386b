/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vm/conf: config files, right and wrong, to rows and exact error lines; the generated sample and reference.
 */
#include "unit.h"

#include "base/config_doc.h"
#include "base/config_rows.h"
#include "vm/conf.h"

static int home_fd; /* where the test was started: the top of the source tree */
static char dir[256];

static int enter_dir(void **state)
{
    (void)state;
    home_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unit_dir(dir, sizeof dir);
    return home_fd < 0 || chdir(dir) != 0;
}

static int leave_dir(void **state)
{
    (void)state;
    if (fchdir(home_fd) != 0)
        return 1;
    close(home_fd);
    unit_dir_remove(dir);
    return 0;
}

static void write_file(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Runs text as c.lua. */
static enum fae_err eval(const char *text, struct fae_buf *rows, struct fae_buf *errors)
{
    write_file("c.lua", text, strlen(text));
    return fae_conf_eval("c.lua", rows, errors);
}

/* Runs text, which is right, and applies its rows. */
static void apply(const char *text, struct fae_config *config)
{
    struct fae_buf rows = { 0 }, errors = { 0 };
    char why[256] = "";

    if (eval(text, &rows, &errors))
        fail_msg("%s\n%s", text, fae_buf_text(&errors));
    assert_int_equal(errors.len, 0);
    fae_config_init(config);
    if (fae_config_apply(config, rows.data, rows.len, why, sizeof why))
        fail_msg("%s\n%s", text, why);
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
}

static void check_errors(const char *text, const char *want)
{
    struct fae_buf rows = { 0 }, errors = { 0 };
    enum fae_err err = eval(text, &rows, &errors);

    if (err != FAE_BAD_CONFIG || strcmp(fae_buf_text(&errors), want) != 0)
        fail_msg("%s\ngave %s\n%swanted\n%s", text, fae_err_name(err), fae_buf_text(&errors), want);
    assert_int_equal(rows.len, 0);
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
}

/* ---- wrong files ---- */

static const struct {
    const char *text, *errors;
} wrong[] = {
    /* options */
    { "workers(900)", "c.lua:1: workers must be 0 to 64, not 900\n" },
    { "\n\nworkers(-1)", "c.lua:3: workers must be a whole number, not \"-1\"\n" },
    { "workers(1.5)", "c.lua:1: workers must be a whole number, not \"1.5\"\n" },
    { "workers(0/0)", "c.lua:1: workers must be a whole number, not \"nan\"\n" },
    { "workers(1e300)", "c.lua:1: workers must be a whole number, not \"1e+300\"\n" },
    { "workers \"4\"", "c.lua:1: workers must be a whole number, not the text \"4\"\n" },
    { "workers(true)", "c.lua:1: workers must be a whole number, not true\n" },
    { "workers {}", "c.lua:1: workers must be a whole number, not a table\n" },
    { "workers()", "c.lua:1: workers takes one value, not 0\n" },
    { "workers(1, 2)", "c.lua:1: workers takes one value, not 2\n" },
    { "workers(nil)", "c.lua:1: workers must be a whole number, not nil\n" },
    { "workers(workers)", "c.lua:1: workers must be a whole number, not a function\n" },
    { "drain_ms \"5s\"", "c.lua:1: drain_ms must be a whole number of milliseconds, not the text \"5s\"\n" },
    { "message_max \"4MB\"", "c.lua:1: message_max must be a size such as 65536, 64KiB, 4MiB or 1GiB, not \"4MB\"\n" },
    { "message_max \"1GiB\"", "c.lua:1: message_max must be 1KiB to 64MiB, not 1GiB\n" },
    { "message_max(true)", "c.lua:1: message_max must be a number, or a size in quotes such as \"4MiB\", not true\n" },
    { "watchdog \"yes\"", "c.lua:1: watchdog must be true or false, not the text \"yes\"\n" },
    { "watchdog(1)", "c.lua:1: watchdog must be true or false, not 1\n" },
    { "run_dir(7)", "c.lua:1: run_dir must be text in quotes, not 7\n" },
    { "run_dir \"\"", "c.lua:1: run_dir must not be empty\n" },
    { "run_dir(string.rep('x', 300))", "c.lua:1: run_dir may have 255 bytes, not 300\n" },
    { "run_dir \"a\\0b\"", "c.lua:1: run_dir must not hold a zero byte\n" },
    { "log_level \"inof\"",
      "c.lua:1: log_level must be one of debug|info|warn|error, not \"inof\": did you mean \"info\"?\n" },
    { "log_level(true)", "c.lua:1: log_level must be a word in quotes, not true\n" },
    { "workers(2)\nworkers(3)", "c.lua:2: workers was already set on line 1\n" },
    { "workers(900)\n\nworkers(3)",
      "c.lua:1: workers must be 0 to 64, not 900\nc.lua:3: workers was already set on line 1\n" },
    { "admin \"0.0.0.0:9101\"",
      "c.lua:1: admin must be a loopback address such as 127.0.0.1:9101, not 0.0.0.0:9101\n" },
    { "admin \"unix:a.sock\"", "c.lua:1: admin must be a loopback address such as 127.0.0.1:9101, not unix:a.sock\n" },
    { "admin \"127.0.0.1\"", "c.lua:1: admin: \"127.0.0.1\" has no port, as in tcp://127.0.0.1:9001\n" },
    { "watchdog_warn_ms(6000)", "c.lua:1: watchdog_warn_ms must be less than watchdog_kill_ms (5000), not 6000\n" },
    { "\nwatchdog_kill_ms(2000)", "c.lua:2: watchdog_warn_ms must be less than watchdog_kill_ms (2000), not 2000\n" },
    { "drain_spread_ms(3000)\ndrain_ms(2999)\nwatchdog_warn_ms(5000)",
      "c.lua:2: drain_spread_ms must be at most drain_ms (2999), not 3000\n"
      "c.lua:3: watchdog_warn_ms must be less than watchdog_kill_ms (5000), not 5000\n" },
    { "return workers(99)", "c.lua:1: workers must be 0 to 64, not 99\n" },
    { "local function f(n)\n  workers(n)\nend\nf(70)", "c.lua:2: workers must be 0 to 64, not 70\n" },
    /* names */
    { "workrs(4)", "c.lua:1: unknown option \"workrs\": did you mean \"workers\"?\n" },
    { "lisen \"tcp://*:1\"", "c.lua:1: unknown option \"lisen\": did you mean \"listen\"?\n" },
    { "servnt \"x\" { a = 1 }", "c.lua:1: unknown option \"servnt\": did you mean \"servant\"?\n" },
    { "log_level(debug)", "c.lua:1: unknown option \"debug\"\n" },
    { "local x = zzzzz + 1 .. 'a'\nlocal y = -zzzzz.b.c(1) < zzzzz", "c.lua:1: unknown option \"zzzzz\"\n"
                                                                     "c.lua:2: unknown option \"zzzzz\"\n" },
    { "workers = 4", "c.lua:1: workers is set by a call: write workers(4)\n" },
    { "run_dir = 'x'", "c.lua:1: run_dir is set by a call: write run_dir(\"x\")\n" },
    { "listen = { 'tcp://*:1' }", "c.lua:1: listen is set by a call: write listen { ... }\n" },
    { "wrokers = 4", "c.lua:1: unknown option \"wrokers\": did you mean \"workers\"?\n" },
    { "zzzzz = 4\nworkers(zzzzz)", "c.lua:1: unknown option \"zzzzz\": a variable of your own begins with local\n" },
    { "print(1)\nrequire 'x'\nlocal f = io.open('x')\nos.exit(1)\n",
      "c.lua:1: unknown option \"print\"\nc.lua:2: unknown option \"require\"\nc.lua:3: unknown option \"io\"\n"
      "c.lua:4: attempt to call field 'exit' (a nil value)\n" },
    { "setfenv(1, {})", "c.lua:1: unknown option \"setfenv\"\n" },
    { "for i = 1, 3 do zzzzz(i) end", "c.lua:1: unknown option \"zzzzz\"\n" },
    /* listen */
    { "listen()", "c.lua:1: listen takes one address or one table, not 0 values\n" },
    { "listen(9001)", "c.lua:1: listen takes an address in quotes or a table, not 9001\n" },
    { "listen {}", "c.lua:1: listen: an address is missing, as in listen { \"unix:fae.sock\" }\n" },
    { "listen \"\"", "c.lua:1: listen: addr must not be empty\n" },
    { "listen \"localhost\"", "c.lua:1: listen: \"localhost\" has no port, as in tcp://127.0.0.1:9001\n" },
    { "listen \"example.org:80\"",
      "c.lua:1: listen: \"example.org\" is not an IP address (names are not looked up)\n" },
    { "listen \"http://127.0.0.1:1\"",
      "c.lua:1: listen: \"http://127.0.0.1:1\": an address starts with tcp:// or unix:\n" },
    { "listen { \"unix:a\", mod = \"0600\" }", "c.lua:1: listen: unknown option \"mod\": did you mean \"mode\"?\n" },
    { "listen {\n  \"unix:a\",\n  -- mod = 1\n  x = \"mod = 1\",\n  mod = \"0600\",\n}",
      "c.lua:4: listen: unknown option \"x\"\nc.lua:5: listen: unknown option \"mod\": did you mean \"mode\"?\n" },
    { "listen { \"unix:a\",\n  mode = \"0999\" }", "c.lua:2: listen: mode must be an octal number, not \"0999\"\n" },
    { "listen { \"unix:a\",\n\n  [\"mode\"] = 1000 }", "c.lua:3: listen: mode must be 00 to 0777, not 1000\n" },
    { "listen { \"unix:a\",\n  half_close = 1 }", "c.lua:2: listen: half_close must be true or false, not 1\n" },
    { "listen { \"tcp://*:1\",\n mode = \"0600\" }", "c.lua:2: listen: mode is for unix sockets, tcp://*:1 is none\n" },
    { "listen { \"tcp://*:1\",\n group = \"mail\" }",
      "c.lua:2: listen: group is for unix sockets, tcp://*:1 is none\n" },
    { "listen { \"unix:a\", \"unix:b\" }", "c.lua:1: listen: takes one address; call listen again for the next\n" },
    { "listen { \"unix:a\",\n addr = \"unix:b\" }",
      "c.lua:2: listen: takes one address; call listen again for the next\n" },
    { "listen { 5 }", "c.lua:1: listen: addr must be text in quotes, not 5\n" },
    { "listen { \"unix:a\", [true] = 1 }", "c.lua:1: listen: a key is no name\n" },
    { "listen \"unix:a\"\nlisten \"tcp://localhost:7\"\nlisten { \"127.0.0.1:7\" }\nlisten \"unix:a\"",
      "c.lua:3: listen: tcp://127.0.0.1:7 is already on line 2\nc.lua:4: listen: unix:a is already on line 1\n" },
    { "for i = 1, 18 do listen(\"127.0.0.1:\" .. i) end", "c.lua:1: listen: at most 16 addresses\n" },
    /* servants */
    { "servant(5)", "c.lua:1: servant takes a servant's name in quotes, as in servant \"shop\" { ... }, not 5\n" },
    { "servant \"a-b\" { x = 1 }",
      "c.lua:1: servant takes a servant's name in quotes, as in servant \"shop\" { ... }, not \"a-b\"\n" },
    { "servant \"a\"", "c.lua:1: servant \"a\" has no table: write servant \"a\" { ... }\n" },
    { "servant \"a\" \"b\"", "c.lua:1: servant \"a\" takes a table, not \"b\"\n" },
    { "servant(\"a\", 1)", "c.lua:1: servant \"a\" takes a table, not 1\n" },
    { "servant \"a\" {}\nservant \"a\" {}", "c.lua:2: servant \"a\" was already set on line 1\n" },
    { "local f = servant \"a\"\nf {}\nf {}", "c.lua:1: servant \"a\" takes one table\n" },
    { "servant \"a\" { 1, 2 }", "c.lua:1: servant \"a\": names are needed here, as in { size = 10 }\n" },
    { "servant \"a\" {\n  f = function() end,\n  t = { x = 1, 2 },\n  h = { 1, [3] = 3 },\n  n = 1/0,\n}",
      "c.lua:2: servant \"a\": f: a function cannot be a setting\n"
      "c.lua:3: servant \"a\": t: a table is either a list or has names, not both\n"
      "c.lua:4: servant \"a\": h: a list has no gaps and starts at 1\n"
      "c.lua:5: servant \"a\": n: JSON has no such number\n" },
    { "servant \"a\" {\n  p = { q = 1 },\n  r = {\n    { q = 2 },\n    { q = pairs } } }",
      "c.lua:4: servant \"a\": r[2].q: a function cannot be a setting\n" },
    { "servant \"a\" { s = \"\\255\" }", "c.lua:1: servant \"a\": s: text must be UTF-8\n" },
    { "servant \"a\" { [true] = 1 }", "c.lua:1: servant \"a\": a key is neither a name nor a number\n" },
    { "local t = {}\nt.t = t\nservant \"a\" { t = t }",
      "c.lua:3: servant \"a\": t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t.t: "
      "tables are too deep, or inside themselves\n" },
    { "servant \"a\" { s = string.rep('x', 1100000), t = 1 }",
      "c.lua:1: servant \"a\": t: too much: this is for settings, not for data\n" },
    { "servant \"a\" { x = zzzzz }", "c.lua:1: unknown option \"zzzzz\"\n" },
    /* Lua */
    { "workers(", "c.lua:1: unexpected symbol near '<eof>'\n" },
    { "workers(99)\nlisten {\n  'unix:a'\n  mode = 1\n}",
      "c.lua:4: '}' expected (to close '{' at line 2) near 'mode'\n" },
    { "workers(99)\nlocal x = nil .. 'a'\nworkers(98)",
      "c.lua:1: workers must be 0 to 64, not 99\nc.lua:2: attempt to concatenate a nil value\n" },
    { "string.rep()", "c.lua:1: bad argument #1 to 'rep' (string expected, got no value)\n" },
    { "local s = 'x'\nwhile true do s = s .. s end", "c.lua: needs more than 64 MiB of memory\n" },
    { "local t = {}\nfor i = 1, 1e9 do t[i] = { i } end", "c.lua: needs more than 64 MiB of memory\n" },
    { "local function f() return 1 + f() end\nf()", "c.lua:1: stack overflow\n" },
    { "string.dump(function() end)", "c.lua:1: attempt to call field 'dump' (a nil value)\n" },
    { "for k in pairs { [true] = 1 } do end",
      "c.lua:1: pairs: a key is neither text nor a number, so there is no order\n" },
};

static void names_every_error(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(wrong); i++)
        check_errors(wrong[i].text, wrong[i].errors);
}

static void refuses_compiled_lua(void **state)
{
    (void)state;
    check_errors("\x1bLJ\x02", "c.lua: is compiled Lua; only text is read\n");
}

static void lists_at_most_100(void **state)
{
    struct fae_buf text = { 0 }, want = { 0 };

    (void)state;
    for (unsigned i = 1; i <= 120; i++) {
        fae_buf_printf(&text, "zzzzz%u()\n", i);
        if (i <= 100)
            fae_buf_printf(&want, "c.lua:%u: unknown option \"zzzzz%u\"\n", i, i);
    }
    fae_buf_printf(&want, "c.lua: and 20 more\n");
    check_errors(fae_buf_text(&text), fae_buf_text(&want));
    fae_buf_fini(&text);
    fae_buf_fini(&want);
}

static void keeps_errors_on_one_line(void **state)
{
    (void)state;
    check_errors("log_level \"a\\nb\\27[0m\"",
                 "c.lua:1: log_level must be one of debug|info|warn|error, not \"a?b?[0m\"\n");
}

static void tells_what_is_wrong_with_the_file_itself(void **state)
{
    struct fae_buf rows = { 0 }, errors = { 0 };
    size_t len = 1024 * 1024 + 1;
    char *big = malloc(len);

    (void)state;
    assert_int_equal(fae_conf_eval("none.lua", &rows, &errors), FAE_NOT_FOUND);
    assert_string_equal(fae_buf_text(&errors), "none.lua: No such file or directory\n");
    errors.len = 0;
    assert_int_equal(fae_conf_eval(".", &rows, &errors), FAE_BAD_CONFIG);
    assert_string_equal(fae_buf_text(&errors), ".: Is a directory\n");
    errors.len = 0;
    assert_non_null(big);
    memset(big, ' ', len);
    write_file("big.lua", big, len);
    assert_int_equal(fae_conf_eval("big.lua", &rows, &errors), FAE_BAD_CONFIG);
    assert_string_equal(fae_buf_text(&errors), "big.lua: is larger than 1024 KiB\n");
    assert_int_equal(rows.len, 0);
    free(big);
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
}

static void gives_what_was_right_when_asked(void **state)
{
    static const char text[] = "workers(3)\nrun_dir(7)\nlisten { \"unix:a\", mode = 1000 }\nlisten \"unix:b\"\n"
                               "servants_dir \"mine\"\nservant \"x\" { f = pairs }\nservant \"y\" { a = 1 }";
    struct fae_buf rows = { 0 }, errors = { 0 };
    struct fae_config config;
    char why[256];

    (void)state;
    write_file("c.lua", text, strlen(text));
    assert_int_equal(fae_conf_eval_some("c.lua", &rows, &errors), FAE_BAD_CONFIG);
    fae_config_init(&config);
    assert_int_equal(fae_config_apply(&config, rows.data, rows.len, why, sizeof why), FAE_OK);
    assert_int_equal(config.workers, 3);
    assert_string_equal(config.run_dir, "run");
    assert_string_equal(config.servants_dir, "mine");
    assert_int_equal(config.n_listen, 1);
    assert_string_equal(config.listen[0].addr, "unix:b");
    assert_string_equal(config.servants_json, "{\"y\":{\"a\":1}}");
    fae_config_fini(&config);
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
}

/* ---- right files ---- */

static void an_empty_file_is_all_defaults(void **state)
{
    struct fae_config config, defaults;

    (void)state;
    fae_config_init(&defaults);
    apply("", &config);
    assert_memory_equal(&config, &defaults, sizeof config);
    apply("-- nothing\n", &config);
    assert_memory_equal(&config, &defaults, sizeof config);
}

static void reads_every_kind_of_value(void **state)
{
    struct fae_config config;

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
    struct fae_config config;

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

static void reads_servants_in_a_fixed_order(void **state)
{
    struct fae_config config;

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
    struct fae_config a, b;

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
    struct fae_config config;
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
    struct fae_config config, defaults;

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
    fae_buf_fini(&lua);
    fae_buf_fini(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_every_error),
        cmocka_unit_test(refuses_compiled_lua),
        cmocka_unit_test(lists_at_most_100),
        cmocka_unit_test(keeps_errors_on_one_line),
        cmocka_unit_test(tells_what_is_wrong_with_the_file_itself),
        cmocka_unit_test(gives_what_was_right_when_asked),
        cmocka_unit_test(an_empty_file_is_all_defaults),
        cmocka_unit_test(reads_every_kind_of_value),
        cmocka_unit_test(reads_listeners),
        cmocka_unit_test(reads_servants_in_a_fixed_order),
        cmocka_unit_test(computes_the_same_every_time),
        cmocka_unit_test(leaves_nothing_open),
        cmocka_unit_test(generated_files_are_up_to_date),
        cmocka_unit_test(the_sample_is_the_defaults),
        cmocka_unit_test(generated_texts_name_every_option),
    };

    return cmocka_run_group_tests(tests, enter_dir, leave_dir);
}
