/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Is it one JSON value? For text that comes from another process and is later read by a parser with less patience.
 */
#ifndef FAE_BASE_JSON_VALID_H
#define FAE_BASE_JSON_VALID_H

#include <stdbool.h>
#include <stddef.h>

/* RFC 8259, in UTF-8, with at most FAE_DEPTH_MAX levels. */
bool fae_json_valid(const char *text, size_t len);

#define FAE_JSON_TOO_DEEP (-1.0)
/* Where the value ends that begins at `at`, which is inside `depth` others; strings may be of any bytes. FAE_JSON_TOO_DEEP,
 * or -2 less where it is wrong. For Lua: it has no other numbers. */
double fae_json_skip(const char *text, size_t len, size_t at, unsigned depth);

#endif
