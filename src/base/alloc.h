/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Memory of sizes we chose: running out aborts here. Sizes a peer chose meet a limit before they come to this.
 */
#ifndef FAE_BASE_ALLOC_H
#define FAE_BASE_ALLOC_H

#include <stddef.h>

void *fae_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *fae_zalloc(size_t size) __attribute__((malloc, returns_nonnull)); /* filled with zero bytes */
void *fae_realloc(void *mem, size_t size) __attribute__((returns_nonnull));
char *fae_strdup(const char *text) __attribute__((malloc, returns_nonnull));
char *fae_strndup(const char *text, size_t len) __attribute__((malloc, returns_nonnull));
/* printf into a new string. */
char *fae_sprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

#endif
