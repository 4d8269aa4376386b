/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The Lua files inside the binary: lua/fae and servants, sorted by path. The table is build/embed.c, which make
 * writes from the folders, so that one file is all there is to deploy. Bodies live as long as the process.
 */
#ifndef FAE_VM_EMBED_H
#define FAE_VM_EMBED_H

#include <stddef.h>

struct fae_embed_file {
    const char *path; /* "lua/fae/task.lua", "servants/sys.lua" */
    const char *body; /* ends in NUL, which len does not count */
    size_t len;
};

extern const struct fae_embed_file fae_embed_files[];
extern const unsigned fae_embed_n_files;

#endif
