/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A folder that is entered for the group, and config files run in it: to a config, or to error lines.
 */
#ifndef FAE_UNIT_CONF_H
#define FAE_UNIT_CONF_H

#include "unit.h"

#include "base/config_rows.h"
#include "vm/conf.h"

#define HASH "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

static int home_fd; /* where the test was started: the top of the source tree */
static char dir[256];

UNIT_FN int enter_dir(void **state)
{
    (void)state;
    home_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unit_dir(dir, sizeof dir);
    return home_fd < 0 || chdir(dir) != 0;
}

UNIT_FN int leave_dir(void **state)
{
    (void)state;
    if (fchdir(home_fd) != 0)
        return 1;
    close(home_fd);
    unit_dir_remove(dir);
    return 0;
}

UNIT_FN void write_file(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Runs text as c.lua. */
UNIT_FN enum fae_err eval(const char *text, struct fae_buf *rows, struct fae_buf *errors)
{
    write_file("c.lua", text, strlen(text));
    return fae_conf_eval("c.lua", rows, errors);
}

/* Runs text, which is right, and applies its rows. */
UNIT_FN void apply(const char *text, struct fae_config *config)
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

UNIT_FN void check_errors(const char *text, const char *want)
{
    struct fae_buf rows = { 0 }, errors = { 0 };
    enum fae_err err = eval(text, &rows, &errors);

    if (err != FAE_BAD_CONFIG || strcmp(fae_buf_text(&errors), want) != 0)
        fail_msg("%s\ngave %s\n%swanted\n%s", text, fae_err_name(err), fae_buf_text(&errors), want);
    assert_int_equal(rows.len, 0);
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
}

#endif
