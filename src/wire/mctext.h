/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The text protocol of memcached: requests into bytes, lines of answers into what they say. Pure: no descriptor, no memory of
 * its own. What follows the line of a VALUE, its bytes and an end of line, is for the reader of lines to take.
 */
#ifndef FAE_WIRE_MCTEXT_H
#define FAE_WIRE_MCTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define FAE_MCTEXT_KEY_MAX 250u   /* bytes of a key: memcached's own limit */
#define FAE_MCTEXT_LINE_MAX 2048u /* bytes of a line of an answer; the longest of memcached's has some 300 */
#define FAE_MCTEXT_HEAD_MAX (FAE_MCTEXT_KEY_MAX + 100) /* bytes of a request without keys to follow and value */

enum fae_mctext_store {
    FAE_MCTEXT_SET,
    FAE_MCTEXT_ADD,
    FAE_MCTEXT_REPLACE,
    FAE_MCTEXT_APPEND,
    FAE_MCTEXT_PREPEND,
    FAE_MCTEXT_CAS
};

/* What a line of an answer is. */
enum fae_mctext_type {
    FAE_MCTEXT_VALUE, /* text: the key; flags, len, cas. The value follows */
    FAE_MCTEXT_END,
    FAE_MCTEXT_STORED,
    FAE_MCTEXT_NOT_STORED,
    FAE_MCTEXT_EXISTS,
    FAE_MCTEXT_NOT_FOUND,
    FAE_MCTEXT_DELETED,
    FAE_MCTEXT_TOUCHED,
    FAE_MCTEXT_NUMBER, /* number */
    FAE_MCTEXT_ERROR,  /* text: the whole line, of ERROR, CLIENT_ERROR and SERVER_ERROR */
    FAE_MCTEXT_CLIENT_ERROR,
    FAE_MCTEXT_SERVER_ERROR,
};

struct fae_mctext_line {
    enum fae_mctext_type type;
    const char *text; /* lent by the bytes */
    size_t text_len;
    uint32_t flags;
    uint64_t len, cas, number;
};

/* One line of n bytes at p. OK: *used_out bytes are read. MORE: it is not there yet. BAD_MESSAGE: it is no answer of
 * memcached's. */
enum fae_err fae_mctext_read(const uint8_t *p, size_t n, struct fae_mctext_line *line_out, size_t *used_out);

/* 1 to 250 bytes, no blanks and no control bytes among them. */
bool fae_mctext_is_key(const char *key, size_t len);

/* Requests. Keys are such as fae_mctext_is_key takes; expires is seconds to 30 days, beyond that a time since 1970, negative
 * at once. */
void fae_mctext_store(struct fae_buf *out, enum fae_mctext_store how, const char *key, size_t key_len, uint32_t flags,
                      int64_t expires, const char *value, size_t value_len, uint64_t cas);
void fae_mctext_count(struct fae_buf *out, bool up, const char *key, size_t key_len, uint64_t by);
void fae_mctext_delete(struct fae_buf *out, const char *key, size_t key_len);
void fae_mctext_touch(struct fae_buf *out, const char *key, size_t key_len, int64_t expires);

#endif
