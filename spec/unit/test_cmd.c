/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The command line without a node: exit codes, which stream is spoken to, what is said. Each run is a child of its own.
 */
#include "unit.h"

#include "cmd/cmd.h"

enum { ARGS_MAX = 8 };

struct run {
    char *argv[ARGS_MAX + 1];
    int code;
    char out[4096], err[4096]; /* what it printed */
};

static void redirect(int fd, int to)
{
    dup2(fd, to);
    close(fd);
}

static void read_back(FILE *f, char *text, size_t size)
{
    size_t n;

    rewind(f);
    n = fread(text, 1, size - 1, f);
    text[n] = '\0';
    fclose(f);
}

static void run(struct run *r)
{
    FILE *out = tmpfile(), *err = tmpfile();
    int argc = 0;
    pid_t pid;

    assert_true(out && err);
    while (r->argv[argc])
        argc++;
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        redirect(dup(fileno(out)), STDOUT_FILENO);
        redirect(dup(fileno(err)), STDERR_FILENO);
        exit(fae_cmd_main(argc, r->argv));
    }
    r->code = unit_wait(pid);
    read_back(out, r->out, sizeof r->out);
    read_back(err, r->err, sizeof r->err);
}

static const struct {
    const char *argv[ARGS_MAX];
    int code;
    const char *out, *err; /* a part of it; NULL: nothing is printed there */
} rows[] = {
    { { "fae" }, FAE_EXIT_USAGE, NULL, "usage: fae COMMAND" },
    { { "fae", "--help" }, FAE_EXIT_OK, "  version ", NULL },
    { { "fae", "-h" }, FAE_EXIT_OK, "usage: fae COMMAND", NULL },
    { { "fae", "help" }, FAE_EXIT_OK, "usage: fae COMMAND", NULL },
    { { "fae", "help", "call" }, FAE_EXIT_OK, "usage: fae call", NULL },
    { { "fae", "help", "cal" }, FAE_EXIT_USAGE, NULL, "did you mean \"call\"" },
    { { "fae", "relaod" }, FAE_EXIT_USAGE, NULL, "unknown command \"relaod\": did you mean \"reload\"" },
    { { "fae", "xyzzyxyzzy" }, FAE_EXIT_USAGE, NULL, "unknown command \"xyzzyxyzzy\"\n" },
    { { "fae", "version" }, FAE_EXIT_OK, "fae ", NULL },
    { { "fae", "--version" }, FAE_EXIT_OK, "fae ", NULL },
    { { "fae", "version", "x" }, FAE_EXIT_USAGE, NULL, "fae version: " },
    { { "/usr/sbin/faed", "--help" }, FAE_EXIT_OK, "usage: fae serve", NULL },
    { { "fae", "serve", "--help" }, FAE_EXIT_OK, "usage: fae serve", NULL },
    { { "fae", "check", "--help" }, FAE_EXIT_OK, "usage: fae check", NULL },
    { { "fae", "call", "--help" }, FAE_EXIT_OK, "FAE_ADDR", NULL },
    { { "fae", "reload", "-h" }, FAE_EXIT_OK, "usage: fae reload", NULL },
    { { "fae", "bench", "sys.noop", "--help" }, FAE_EXIT_OK, "usage: fae bench", NULL },
    { { "fae", "test", "--help" }, FAE_EXIT_OK, "usage: fae test", NULL },
    { { "fae", "ctl", "--help" }, FAE_EXIT_OK, "usage: fae ctl", NULL },
    { { "fae", "version", "--help" }, FAE_EXIT_OK, "usage: fae version\n", NULL },

    { { "fae", "call" }, FAE_EXIT_USAGE, NULL, "which method" },
    { { "fae", "call", "-s" }, FAE_EXIT_USAGE, NULL, "-s needs a value" },
    { { "fae", "call", "-x", "a.b" }, FAE_EXIT_USAGE, NULL, "unknown option \"-x\"\n" },
    { { "fae", "call", "-t", "0", "a.b" }, FAE_EXIT_USAGE, NULL, "-t takes milliseconds" },
    { { "fae", "call", "-t=12x", "a.b" }, FAE_EXIT_USAGE, NULL, "not \"12x\"" },
    { { "fae", "call", "-s", "nowhere", "a.b" }, FAE_EXIT_USAGE, NULL, "nowhere" },
    { { "fae", "call", "a.b", "1", "x" }, FAE_EXIT_USAGE, NULL, "parameter 2 is not JSON" },
    { { "fae", "call", "-s", "unix:/nonexistent/s", "a.b" },
      FAE_EXIT_FAILED,
      NULL,
      "UNAVAILABLE: unix:/nonexistent/s: No such file" },
    { { "fae", "call", "-s=unix:/nonexistent/s", "--", "-a.b" }, FAE_EXIT_FAILED, NULL, "UNAVAILABLE" },

    { { "fae", "bench" }, FAE_EXIT_USAGE, NULL, "which method" },
    { { "fae", "bench", "--jsn", "a.b" }, FAE_EXIT_USAGE, NULL, "did you mean \"--json\"" },
    { { "fae", "bench", "--raw-answer-byte=2" }, FAE_EXIT_USAGE, NULL, "did you mean \"--raw-answer-bytes\"" },
    { { "fae", "bench", "-c", "0", "a.b" }, FAE_EXIT_USAGE, NULL, "-c takes a number from 1 to" },
    { { "fae", "bench", "-c", "-1", "a.b" }, FAE_EXIT_USAGE, NULL, "not \"-1\"" },
    { { "fae", "bench", "-d", "nan", "a.b" }, FAE_EXIT_USAGE, NULL, "-d takes seconds" },
    { { "fae", "bench", "--raw", "00" }, FAE_EXIT_USAGE, NULL, "go together" },
    { { "fae", "bench", "--raw=0", "--raw-answer-bytes=1" }, FAE_EXIT_USAGE, NULL, "--raw takes bytes in hex" },
    { { "fae", "bench", "-p", "2", "--connect-per-call", "a.b" }, FAE_EXIT_USAGE, NULL, "-p cannot be 2" },
    { { "fae", "bench", "-s", "unix:/x", "--spread", "2", "a.b" }, FAE_EXIT_USAGE, NULL, "--spread is for tcp" },
    { { "fae", "bench", "-s", "unix:/nonexistent/s", "a.b" }, FAE_EXIT_FAILED, NULL, "connection 1 of 50" },
};

static bool says(const char *text, const char *want)
{
    return want ? strstr(text, want) != NULL : text[0] == '\0';
}

static void test_runs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct run *r = calloc(1, sizeof *r);
        char words[ARGS_MAX][64];

        assert_non_null(r);
        for (unsigned k = 0; k < ARGS_MAX && rows[i].argv[k]; k++) {
            snprintf(words[k], sizeof words[k], "%s", rows[i].argv[k]);
            r->argv[k] = words[k];
        }
        run(r);
        if (r->code != rows[i].code || !says(r->out, rows[i].out) || !says(r->err, rows[i].err))
            fail_msg("row %u: exit %d\nstdout: %s\nstderr: %s", i, r->code, r->out, r->err);
        free(r);
    }
}

static void test_value(void **state)
{
    static char words[][16] = { "bench", "-s", "x", "--run-dir=", "--run-directory", "-sx" };
    char *argv[UNIT_N(words) + 1] = { NULL };
    int i = 1;

    (void)state;
    for (unsigned k = 0; k < UNIT_N(words); k++)
        argv[k] = words[k];
    assert_null(fae_cmd_value("bench", 6, argv, &i, "-c"));
    assert_int_equal(i, 1);
    assert_string_equal(fae_cmd_value("bench", 6, argv, &i, "-s"), "x");
    assert_int_equal(i, 2);
    i = 3;
    assert_string_equal(fae_cmd_value("bench", 6, argv, &i, "--run-dir"), "");
    assert_int_equal(i, 3);
    i = 4;
    assert_null(fae_cmd_value("bench", 6, argv, &i, "--run-dir"));
    i = 5;
    assert_null(fae_cmd_value("bench", 6, argv, &i, "-s"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_value),
    };

    unsetenv("FAE_ADDR");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
