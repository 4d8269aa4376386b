/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Where in the config file does a key stand? Lua knows the line of a call, not those of the keys in its table, so
 * they are looked up in the text.
 */
#ifndef FAE_VM_CONF_SOURCE_H
#define FAE_VM_CONF_SOURCE_H

#include <stddef.h>

struct fae_conf_source {
    const char *text; /* lent */
    size_t len;
};

/* The line of `key = ...` or `["key"] = ...` in the table of the call of `name` that stands on `line`; `line` itself
 * when it is not there (the table was made elsewhere). A path ("limits.names[2].x") is followed key by key. */
unsigned fae_conf_source_key(const struct fae_conf_source *source, unsigned line, const char *name, const char *path);
/* The first line on which `name` is used, or 0. */
unsigned fae_conf_source_name(const struct fae_conf_source *source, const char *name);

#endif
