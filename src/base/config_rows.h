/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Configuration as plain rows: what a checker read from the file, on its way to the supervisor through a pipe.
 * A row is five texts, each ending in NUL: section, index, name, value, line of the file.
 *
 *     ""         0         "workers"   "4"                            "3"     an option
 *     "listen"   0, 0, 1…  "addr"      "unix:fae.sock"                "7"     addr comes first, then its other keys
 *     "servant"  0, 1…     "shop"      "{\"cache_ttl\":60}"           "9"
 *     "end"      rows before it, "", "", 0                                    so that a cut is seen
 */
#ifndef FAE_BASE_CONFIG_ROWS_H
#define FAE_BASE_CONFIG_ROWS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"

#define FAE_CONFIG_SERVANTS_MAX 256        /* servants with options in the file */
#define FAE_CONFIG_ROWS_MAX (4u * FAE_MIB) /* bytes of all rows: they pass through a pipe at every start and reload */
#define FAE_CONFIG_NAME_MAX 63             /* bytes of a servant's name */

void fae_config_row(struct fae_buf *out, const char *section, unsigned index, const char *name, const char *value,
                    unsigned line);
void fae_config_rows_end(struct fae_buf *out);

/* Applies rows to a fresh config (fae_config_init). They come from another process, so nothing in them is trusted:
 * BAD_CONFIG with a sentence in why_out, and config unchanged, when anything does not fit. */
enum fae_err fae_config_apply(struct fae_config *config, const void *rows, size_t len, char *why_out, size_t why_size);

/* What options ask of each other: true when there is (another) pair that does not go together, names_out lends the two
 * names, why_out begins with the first. Start with *cursor = 0. */
bool fae_config_disagrees(const struct fae_config *config, unsigned *cursor, const char *names_out[2], char *why_out,
                          size_t why_size);
/* The first of them: BAD_CONFIG, name_out lends the option to blame, why_out begins with it. */
enum fae_err fae_config_agrees(const struct fae_config *config, const char **name_out, char *why_out, size_t why_size);

/* A servant's name: a letter or "_", then letters, digits and "_". */
bool fae_config_name_ok(const char *name);

#endif
