/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae reload`: reads the configuration and the servants anew. What is wrong with them is on stderr as file:line: text,
 * and the exit code 78 for the configuration, 1 for the servants; what has changed in the configuration is on stdout.
 */
#include <stdbool.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/ctl.h"

int fae_cmd_reload(int argc, char **argv)
{
    const char *run_dir = fae_cmd_run_dir(), *value;
    bool wait = false, dry_run = false;

    for (int i = 1; i < argc; i++) {
        if ((value = fae_cmd_value(argv[0], argc, argv, &i, "--run-dir")))
            run_dir = value;
        else if (strcmp(argv[i], "--wait") == 0)
            wait = true;
        else if (strcmp(argv[i], "--dry-run") == 0)
            dry_run = true;
        else
            return fae_cmd_unknown(argv[0], argv[i]);
    }
    if (wait && dry_run)
        return fae_cmd_usage(argv[0], "--wait and --dry-run do not go together");
    return fae_cmd_ask(argv[0], run_dir, wait ? "reload wait" : dry_run ? "reload dry-run" : "reload");
}
