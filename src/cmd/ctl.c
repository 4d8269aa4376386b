/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae ctl`: says a line to a running node and prints what it answers. What follows VERB goes along as it is, so that a
 * new verb of the node needs no change here.
 */
#include "cmd/ctl.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "cmd/cmd.h"
#include "proc/ctlclient.h"

const char *fae_cmd_run_dir(void)
{
    return fae_opt_find(fae_config_opts, fae_config_n_opts, "run_dir")->init;
}

/* Text goes to stdout when all is well, so that it can be piped; else to stderr. */
int fae_cmd_ask(const char *name, const char *run_dir, const char *line)
{
    struct fae_buf text = { 0 }, last = { 0 };
    bool stop = strcmp(line, "stop") == 0;
    enum fae_err err = stop ? fae_ctl_stop(run_dir, &text, &last) : fae_ctl_ask(run_dir, line, &text, &last);
    FILE *to = err ? stderr : stdout;
    int code = !err ? FAE_EXIT_OK : err == FAE_BAD_CONFIG ? FAE_EXIT_CONFIG : FAE_EXIT_FAILED;

    fwrite(fae_buf_text(&text), 1, text.len, to);
    if (err)
        fprintf(to, "fae %s: %s: %s\n", name, fae_err_name(err), fae_buf_text(&last));
    else if (last.len)
        fprintf(to, "%s\n", stop ? "stopped" : fae_buf_text(&last));
    if (fflush(to) != 0)
        code = FAE_EXIT_FAILED;
    fae_buf_fini(&text);
    fae_buf_fini(&last);
    return code;
}

int fae_cmd_ctl(int argc, char **argv)
{
    const char *run_dir = fae_cmd_run_dir(), *value;
    struct fae_buf line = { 0 };
    int code;

    for (int i = 1; i < argc; i++) {
        value = fae_cmd_value(argv[0], argc, argv, &i, "--run-dir");
        if (value) {
            run_dir = value;
        } else if (argv[i][0] == '-') {
            fae_buf_fini(&line);
            return fae_cmd_unknown(argv[0], argv[i]);
        } else {
            fae_buf_printf(&line, "%s%s", line.len ? " " : "", argv[i]);
        }
    }
    if (line.len == 0)
        return fae_cmd_usage(argv[0], "which verb?");
    if (strchr(fae_buf_text(&line), '\n'))
        code = fae_cmd_usage(argv[0], "a verb has no line break");
    else
        code = fae_cmd_ask(argv[0], run_dir, fae_buf_text(&line));
    fae_buf_fini(&line);
    return code;
}
