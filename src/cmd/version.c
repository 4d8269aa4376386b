/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae version`: the release, and the commit it was built from.
 */
#include <stdio.h>

#include "cmd/cmd.h"

#ifndef FAE_VERSION
#define FAE_VERSION "0.0.0"
#endif
#ifndef FAE_BUILD
#define FAE_BUILD "unknown"
#endif

int fae_cmd_version(int argc, char **argv)
{
    if (argc > 1)
        return fae_cmd_unknown(argv[0], argv[1]);
    return printf("fae %s (%s)\n", FAE_VERSION, FAE_BUILD) < 0 || fflush(stdout) ? FAE_EXIT_FAILED : FAE_EXIT_OK;
}
