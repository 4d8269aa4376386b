/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A growable run of bytes: an output queue, a text in the making, a partial message. Owned by whoever embeds it.
 */
#ifndef FAE_BASE_BUF_H
#define FAE_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fae_buf {
    uint8_t *data; /* NULL while cap is 0 */
    size_t len;
    size_t cap;
};

void fae_buf_fini(struct fae_buf *buf);
/* Makes cap at least `cap`, at least doubling. */
void fae_buf_grow(struct fae_buf *buf, size_t cap);
void fae_buf_printf(struct fae_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void fae_buf_vprintf(struct fae_buf *buf, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Appends text as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. */
void fae_buf_json(struct fae_buf *buf, const char *text, size_t len);
/* Ends the bytes with a NUL that len does not count, and lends them as text until the next change. */
const char *fae_buf_text(struct fae_buf *buf);

/* Room for n more bytes; lends the place to write them. Count them with buf->len += n. */
static inline uint8_t *fae_buf_room(struct fae_buf *buf, size_t n)
{
    if (__builtin_expect(buf->cap - buf->len < n, 0))
        fae_buf_grow(buf, buf->len + n);
    return buf->data + buf->len;
}

static inline void fae_buf_add(struct fae_buf *buf, const void *bytes, size_t n)
{
    if (n == 0)
        return;
    memcpy(fae_buf_room(buf, n), bytes, n);
    buf->len += n;
}

/* Drops n bytes from the front. */
static inline void fae_buf_shift(struct fae_buf *buf, size_t n)
{
    buf->len -= n;
    if (buf->len)
        memmove(buf->data, buf->data + n, buf->len);
}

#endif
