/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vm/conf: the config file's text. It ends in rows that the supervisor takes, or in errors that each name the file;
 * the same text twice gives the same. A config may loop for ever, which its checker's time limit ends and no fuzzer
 * should wait for: texts with the words that loops and slow library calls need are left out.
 */
#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/config_rows.h"
#include "vm/conf.h"

static bool may_take_long(const uint8_t *text, size_t len)
{
    static const char *const words[] = { "while", "repeat", "for", "goto",   "function", "find",
                                         "match", "gsub",   "rep", "insert", "remove",   "move" };

    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (memmem(text, len, words[i], strlen(words[i])))
            return true;
    return false;
}

static const char *write_file(const uint8_t *text, size_t len)
{
    static char path[40];
    static int fd = -1;

    if (fd < 0) {
        fd = memfd_create("conf", MFD_CLOEXEC);
        FAE_ASSERT(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    FAE_ASSERT(ftruncate(fd, 0) == 0);
    FAE_ASSERT(pwrite(fd, text, len, 0) == (ssize_t)len);
    return path;
}

static void check_errors(struct fae_buf *errors, const char *path)
{
    const char *line = fae_buf_text(errors);

    FAE_ASSERT(*line);
    for (; *line; line = strchr(line, '\n') + 1) {
        FAE_ASSERT(strncmp(line, path, strlen(path)) == 0 && line[strlen(path)] == ':');
        FAE_ASSERT(strchr(line, '\n'));
    }
}

static void check_rows(const struct fae_buf *rows)
{
    static struct fae_config config;
    char why[512] = "";

    fae_config_init(&config);
    if (fae_config_apply(&config, rows->data, rows->len, why, sizeof why))
        fprintf(stderr, "%s\n", why);
    FAE_ASSERT(*why == '\0');
    fae_config_fini(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *text, size_t len)
{
    struct fae_buf rows = { 0 }, errors = { 0 }, rows2 = { 0 }, errors2 = { 0 };
    const char *path;
    enum fae_err err;

    if (may_take_long(text, len))
        return 0;
    path = write_file(text, len);
    err = fae_conf_eval(path, &rows, &errors);
    if (err) {
        FAE_ASSERT(err == FAE_BAD_CONFIG);
        FAE_ASSERT(rows.len == 0);
        check_errors(&errors, path);
    } else {
        FAE_ASSERT(errors.len == 0);
        check_rows(&rows);
    }
    FAE_ASSERT(fae_conf_eval(path, &rows2, &errors2) == err);
    FAE_ASSERT(rows.len == rows2.len && (!rows.len || memcmp(rows.data, rows2.data, rows.len) == 0));
    FAE_ASSERT(errors.len == errors2.len && (!errors.len || memcmp(errors.data, errors2.data, errors.len) == 0));
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
    fae_buf_fini(&rows2);
    fae_buf_fini(&errors2);
    return 0;
}
