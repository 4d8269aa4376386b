/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae test: busted specs inside the runtime.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/config.h"
#include "cmd/cmd.h"
#include "proc/servants.h"
#include "vm/test.h"

int fae_cmd_test(int argc, char **argv)
{
    const char *jit = getenv("FAE_TEST_JIT"), *gc = getenv("FAE_TEST_GC"), *dir = "";
    struct fae_config config;
    struct fae_test_opts opts = { .config = &config, .argc = 0, .argv = argv };
    struct fae_buf bytes = { 0 }, why = { 0 };
    struct fae_bundle bundle;
    int code = FAE_EXIT_CONFIG;

    for (int i = 1; i < argc; i++) {
        const char *value = fae_cmd_value("test", argc, argv, &i, "--servants");

        if (value)
            dir = value;
        else
            opts.argv[opts.argc++] = argv[i]; /* never ahead of i */
    }
    if (opts.argc == 0)
        return fae_cmd_usage("test", "which files or folders?");
    fae_clock_init();
    fae_config_init(&config);
    snprintf(config.servants_dir, sizeof config.servants_dir, "%s", dir);
    opts.jit = !(jit && strcmp(jit, "off") == 0);
    opts.gc_stress = gc && strcmp(gc, "stress") == 0;
    opts.bundle = &bundle;
    if (fae_servants_read(&config, &bytes, &why) != FAE_OK || fae_bundle_open(&bundle, bytes.data, bytes.len) != FAE_OK)
        fprintf(stderr, "%s", why.len ? fae_buf_text(&why) : "the servants make no bundle\n");
    else
        code = fae_vm_test(&opts);
    fae_buf_fini(&bytes);
    fae_buf_fini(&why);
    fae_config_fini(&config);
    return code;
}
