/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The command line: one table of subcommands, one file each. A command gets its own arguments (argv[0] is its name)
 * and returns the exit code: 0 done, 1 failed, 2 usage, 78 configuration.
 */
#ifndef FAE_CMD_CMD_H
#define FAE_CMD_CMD_H

#include <stddef.h>

enum { FAE_EXIT_OK = 0, FAE_EXIT_FAILED = 1, FAE_EXIT_USAGE = 2, FAE_EXIT_CONFIG = 78 };

struct fae_cmd {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *args; /* "[-s ADDR] METHOD [JSON]..." */
    const char *help; /* one line for the list */
    const char *more; /* the rest of --help, lines that end in \n */
};

int fae_cmd_serve(int argc, char **argv);
int fae_cmd_check(int argc, char **argv);
int fae_cmd_call(int argc, char **argv);
int fae_cmd_reload(int argc, char **argv);
int fae_cmd_bench(int argc, char **argv);
int fae_cmd_test(int argc, char **argv);
int fae_cmd_ctl(int argc, char **argv);
int fae_cmd_top(int argc, char **argv);
int fae_cmd_token(int argc, char **argv);
int fae_cmd_version(int argc, char **argv);

/* Picks the row for argv and runs it; prints help and usage errors itself. */
int fae_cmd_main(int argc, char **argv);

/* ---- helpers for the commands ---- */

/* Prints "fae NAME: message" and the usage line to stderr; returns FAE_EXIT_USAGE. */
int fae_cmd_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Usage error for a word that starts with '-' and is no option of the command (with "did you mean"), or for any word
 * too many; returns FAE_EXIT_USAGE. */
int fae_cmd_unknown(const char *name, const char *word);
/* If argv[*i] is `flag` ("-s" or "--workers") with its value next or after '=', moves *i and returns the value.
 * NULL when it is another word; a flag without value ends the process with a usage error of command `name`. */
const char *fae_cmd_value(const char *name, int argc, char **argv, int *i, const char *flag);

#endif
