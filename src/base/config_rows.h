/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Configuration as plain rows: what a checker read from the file, on its way to the supervisor through a pipe.
 * A row is five texts, each ending in NUL: section, index, name, value, line of the file.
 *
 *     ""         0         "workers"   "4"                            "3"     an option
 *     "listen"   0, 0, 1…  "addr"      "unix:fae.sock"                "7"     addr comes first, then its other keys
 *     "limit"    0, 0, 1…  "methods"   "shop.*"                       "8"     as with every section: its key first
 *     "servant"  0, 1…     "shop"      "{\"cache_ttl\":60}"           "9"     and "plugin"
 *     "end"      rows before it, "", "", 0                                    so that a cut is seen
 */
#ifndef FAE_BASE_CONFIG_ROWS_H
#define FAE_BASE_CONFIG_ROWS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"

#define FAE_CONFIG_SERVANTS_MAX 256        /* servants with options in the file, and as many plugins */
#define FAE_CONFIG_ENTRIES_MAX 256         /* of any section: none has a higher `max` */
#define FAE_CONFIG_ROWS_MAX (4u * FAE_MIB) /* bytes of all rows: they pass through a pipe at every start and reload */
#define FAE_CONFIG_NAME_MAX 63             /* bytes of a servant's or plugin's name */

void fae_config_row(struct fae_buf *out, const char *section, unsigned index, const char *name, const char *value,
                    unsigned line);
void fae_config_rows_end(struct fae_buf *out);

/* Applies rows to a fresh config (fae_config_init). They come from another process, so nothing in them is trusted:
 * BAD_CONFIG with a sentence in why_out, and config unchanged, when anything does not fit. */
enum fae_err fae_config_apply(struct fae_config *config, const void *rows, size_t len, char *why_out, size_t why_size);

/* Rows that make a fresh config this one, with their end. */
void fae_config_write(struct fae_buf *out, const struct fae_config *config);

/* One of `servant "name" {...}` in a config's servants_json or plugins_json. */
struct fae_config_table {
    char name[FAE_CONFIG_NAME_MAX + 1];
    const char *json; /* lent */
    size_t len;
};
/* Walks them; json may be NULL. Start with *cursor = 0. */
bool fae_config_next_table(const char *json, size_t *cursor, struct fae_config_table *table_out);

#endif
