/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae test`: busted inside the server's own state and loop, so that a spec may wait, spawn and call like any servant.
 */
#ifndef FAE_VM_TEST_H
#define FAE_VM_TEST_H

#include "vm/vm.h"
#include "wire/bundle.h"

struct fae_upstreams;

struct fae_test_opts {
    struct fae_vm_opts vm;           /* all but the loop and the backends; with stores */
    struct fae_upstreams *upstreams; /* of the backends, which are made here */
    const struct fae_bundle *bundle; /* servants the specs may call */
    int argc;                        /* busted's arguments: files, folders, options */
    char **argv;
    bool jit;       /* false: interpreted only */
    bool gc_stress; /* the collector never rests */
};

/* Returns the exit code: 0 when every spec passed. */
int fae_vm_test(const struct fae_test_opts *opts);

#endif
