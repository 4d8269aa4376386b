/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Between JSON, which people type and read, and msgpack, which the wire carries. What JSON lacks is written
 * {"$bin":"hex"} (bytes that are no text; read back as well), {"$ext":[type,"hex"]} and {"$float":"nan"}.
 */
#ifndef FAE_CMD_MPJSON_H
#define FAE_CMD_MPJSON_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends the JSON text's value to out as msgpack. FAE_BAD_ARGS, with a sentence, when it is not JSON: out is then as
 * before. Integers from -2^63 to 2^63-1 are exact; a text that is one whole number may reach 2^64-1. */
enum fae_err fae_mpjson_read(const char *text, struct fae_buf *out, char *why_out, size_t why_size);

/* Appends the value at p, which a scan has proven, as one line of JSON; returns where the next value starts. Every
 * integer is exact; a map's key that is no string becomes the string of its JSON. */
const uint8_t *fae_mpjson_write(struct fae_buf *out, const uint8_t *p);

#endif
