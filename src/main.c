/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The one binary: which life it leads is the command line's choice, src/cmd/cmd.c.
 */
#include "base/clock.h"
#include "cmd/cmd.h"

int main(int argc, char **argv)
{
    fae_clock_init();
    return fae_cmd_main(argc, argv);
}
