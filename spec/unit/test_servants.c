/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/servants: folders become bundles, always the same way, and what cannot be read is named.
 */
#include "unit.h"

#include <sys/stat.h>

#include "proc/servants.h"

static char dir[200];
static struct fae_config config;

static void put(const char *name, const char *text)
{
    char path[400];
    int fd;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void make_folder(const char *name)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void drop(const char *name)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(remove(path), 0);
}

static int setup(void **state)
{
    (void)state;
    unit_dir(dir, sizeof dir);
    fae_config_init(&config);
    snprintf(config.servants_dir, sizeof config.servants_dir, "%s", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fae_config_fini(&config);
    unit_dir_remove(dir);
    return 0;
}

/* "path=body;" of each file, or the reasons. */
static void expect(enum fae_err want, const char *fmt)
{
    struct fae_buf bytes = { 0 }, why = { 0 }, text = { 0 };
    struct fae_bundle bundle;
    struct fae_bundle_file file;
    size_t cursor = 0;
    char wanted[1000];

    assert_int_equal(fae_servants_read(&config, &bytes, &why), want);
    if (want) {
        snprintf(wanted, sizeof wanted, fmt, dir, dir, dir);
        assert_string_equal(fae_buf_text(&why), wanted);
    } else {
        assert_int_equal(fae_bundle_open(&bundle, bytes.data, bytes.len), FAE_OK);
        while (fae_bundle_next(&bundle, &cursor, &file))
            fae_buf_printf(&text, "%s=%s;", file.path, file.body);
        assert_string_equal(fae_buf_text(&text), fmt);
    }
    fae_buf_fini(&bytes);
    fae_buf_fini(&why);
    fae_buf_fini(&text);
}

static void lua_files_are_read_in_order(void **state)
{
    (void)state;
    expect(FAE_OK, "");
    put("b.lua", "B");
    put("a.lua", "A");
    put("README.md", "no");
    put(".hidden.lua", "no");
    put("a.lua~", "no");
    make_folder("util");
    put("util/text.lua", "");
    expect(FAE_OK, "servants/a.lua=A;servants/b.lua=B;servants/util/text.lua=;");
    drop("util/text.lua");
    drop("util");
}

static void both_folders_go_in(void **state)
{
    (void)state;
    snprintf(config.lua_dir, sizeof config.lua_dir, "%s", dir);
    put("a.lua", "A");
    expect(FAE_OK, "lua/a.lua=A;servants/a.lua=A;");
}

static void what_cannot_be_read_is_named(void **state)
{
    char path[400];

    (void)state;
    put("good.lua", "A");
    snprintf(path, sizeof path, "%s/fifo.lua", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    make_folder("folder.lua");
    snprintf(path, sizeof path, "%s/gone.lua", dir);
    assert_int_equal(symlink("nowhere", path), 0);
    alarm(10); /* a fifo would hold us for ever */
    expect(FAE_BAD_SERVANT, "%s/fifo.lua:0: not a regular file\n%s/folder.lua:0: not a regular file\n"
                            "%s/gone.lua:0: No such file or directory\n");
    alarm(0);
    drop("folder.lua");
}

static void a_missing_folder_is_an_error_unless_it_is_the_default(void **state)
{
    (void)state;
    snprintf(config.servants_dir, sizeof config.servants_dir, "%.190s/none", dir);
    expect(FAE_BAD_SERVANT, "%s/none:0: cannot open the folder (servants_dir): No such file or directory\n");
    assert_int_equal(chdir(dir), 0);
    fae_config_init(&config);
    expect(FAE_OK, "");
    config.servants_dir[0] = '\0';
    expect(FAE_OK, "");
    assert_int_equal(chdir("/"), 0);
}

static void loops_of_links_end(void **state)
{
    struct fae_buf bytes = { 0 }, why = { 0 };
    char path[400];

    (void)state;
    put("a.lua", "A");
    snprintf(path, sizeof path, "%s/loop", dir);
    assert_int_equal(symlink(".", path), 0);
    alarm(10);
    assert_int_equal(fae_servants_read(&config, &bytes, &why), FAE_BAD_SERVANT);
    alarm(0);
    assert_non_null(strstr(fae_buf_text(&why), "nested too deep"));
    fae_buf_fini(&bytes);
    fae_buf_fini(&why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lua_files_are_read_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(both_folders_go_in, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_folder_is_an_error_unless_it_is_the_default, setup, teardown),
        cmocka_unit_test_setup_teardown(loops_of_links_end, setup, teardown),
    };

    return cmocka_run_group_tests_name("servants", tests, NULL, NULL);
}
