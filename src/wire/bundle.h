/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A bundle: all Lua files of one generation, read once and kept as bytes, so that a worker that starts later loads
 * exactly what was checked. Layout: "FAEB" u32 version, then for each file u32 path length, u32 body length, path and
 * body, each ending in NUL. Little-endian. Pure bytes; whoever reads the disk is proc/checker.c.
 */
#ifndef FAE_WIRE_BUNDLE_H
#define FAE_WIRE_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct fae_bundle {
    const uint8_t *bytes;
    size_t len;
};

/* Lends from the bundle; path and body end in NUL. Paths: "servants/user.lua", "servants/util/text.lua" (module
 * util.text), "lua/fae/redis.lua" (overrides the built-in module). */
struct fae_bundle_file {
    const char *path;
    const char *body;
    size_t len;
};

void fae_bundle_begin(struct fae_buf *out);
void fae_bundle_add(struct fae_buf *out, const char *path, const void *body, size_t len);
/* Proves every length; BAD_MESSAGE when the bytes are no bundle. Borrows bytes for the bundle's life. */
enum fae_err fae_bundle_open(struct fae_bundle *bundle_out, const void *bytes, size_t len);
/* Walks the files; start with *cursor = 0. */
bool fae_bundle_next(const struct fae_bundle *bundle, size_t *cursor, struct fae_bundle_file *file_out);
bool fae_bundle_find(const struct fae_bundle *bundle, const char *path, struct fae_bundle_file *file_out);

#endif
