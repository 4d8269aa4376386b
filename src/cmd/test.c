/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae test: busted specs inside the runtime.
 */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/config.h"
#include "cmd/cmd.h"
#include "proc/runconf.h"
#include "proc/servants.h"
#include "proc/shared.h"
#include "vm/test.h"

/* What a node has: shared memory, and a data folder of its own, which is removed again. */
struct world {
    struct fae_shared shared;
    char dir[32];
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void close_world(struct world *w)
{
    fae_stores_rest(&w->shared.stores);
    fae_stores_close(&w->shared.stores);
    fae_shared_close(&w->shared);
    nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static enum fae_err open_world(struct world *w, const struct fae_config *config)
{
    struct fae_slot *slot;
    char why[600];

    snprintf(w->dir, sizeof w->dir, "/tmp/fae-test-XXXXXX");
    if (!mkdtemp(w->dir) || fae_shared_open(&w->shared, 1, config, UINT64_MAX) != FAE_OK) {
        fprintf(stderr, "fae test: %s: %s\n", w->dir, strerror(errno));
        return FAE_SYSTEM;
    }
    w->shared.mail.me = 0;
    slot = &w->shared.slots->slots[0];
    atomic_store(&slot->incarnation, 1);
    atomic_store(&slot->state, FAE_SLOT_READY);
    w->shared.stores.data_dir = w->dir;
    if (!fae_stores_open(&w->shared.stores, config, why, sizeof why) &&
        !fae_stores_serve(&w->shared.stores, config, why, sizeof why))
        return FAE_OK;
    fprintf(stderr, "fae test: %s\n", why);
    close_world(w);
    return FAE_SYSTEM;
}

static int run(struct fae_test_opts *opts, struct fae_config *config)
{
    struct world w;
    int code;

    if (open_world(&w, config))
        return FAE_EXIT_FAILED;
    opts->vm = (struct fae_vm_opts){ .config = config,
                                     .slots = w.shared.slots,
                                     .stats = w.shared.stats,
                                     .series = w.shared.series,
                                     .stores = &w.shared.stores };
    opts->upstreams = w.shared.upstreams;
    code = fae_vm_test(opts);
    close_world(&w);
    return code;
}

static void take_surroundings(struct fae_test_opts *opts)
{
    const char *jit = getenv("FAE_TEST_JIT"), *gc = getenv("FAE_TEST_GC");

    opts->jit = !(jit && strcmp(jit, "off") == 0);
    opts->gc_stress = gc && strcmp(gc, "stress") == 0;
}

static int read_and_run(struct fae_test_opts *opts, struct fae_config *config, const char *file, const char *dir)
{
    struct fae_buf bytes = { 0 }, why = { 0 };
    struct fae_bundle bundle;
    int code = FAE_EXIT_CONFIG;
    enum fae_err err = file ? fae_runconf_read(config, file, &why) : FAE_OK;

    opts->bundle = &bundle;
    if (dir)
        snprintf(config->servants_dir, sizeof config->servants_dir, "%s", dir);
    if (!err)
        err = fae_servants_read(config, &bytes, &why);
    if (err || fae_bundle_open(&bundle, bytes.data, bytes.len) != FAE_OK)
        fprintf(stderr, "%s", why.len ? fae_buf_text(&why) : "the servants make no bundle\n");
    else
        code = run(opts, config);
    fae_buf_fini(&bytes);
    fae_buf_fini(&why);
    return code;
}

int fae_cmd_test(int argc, char **argv)
{
    const char *value, *dir = NULL, *file = NULL;
    struct fae_test_opts opts = { .argv = argv };
    struct fae_config config;
    int code;

    for (int i = 1; i < argc; i++) {
        if ((value = fae_cmd_value("test", argc, argv, &i, "--servants")))
            dir = value;
        else if ((value = fae_cmd_value("test", argc, argv, &i, "-c")))
            file = value;
        else
            opts.argv[opts.argc++] = argv[i]; /* never ahead of i */
    }
    if (opts.argc == 0)
        return fae_cmd_usage("test", "which files or folders?");
    fae_clock_init();
    fae_config_init(&config);
    take_surroundings(&opts);
    code = read_and_run(&opts, &config, file, dir);
    fae_config_fini(&config);
    return code;
}
