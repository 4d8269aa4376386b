/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Growable bytes.
 */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/utf8.h"

void fae_buf_fini(struct fae_buf *buf)
{
    free(buf->data);
    *buf = (struct fae_buf){ 0 };
}

void fae_buf_grow(struct fae_buf *buf, size_t cap)
{
    size_t want = buf->cap ? buf->cap * 2 : 256;

    if (cap <= buf->cap)
        return;
    while (want < cap)
        want *= 2;
    buf->data = fae_realloc(buf->data, want);
    buf->cap = want;
}

void fae_buf_vprintf(struct fae_buf *buf, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    FAE_ASSERT(n >= 0);
    fae_buf_room(buf, (size_t)n + 1);
    vsnprintf((char *)buf->data + buf->len, (size_t)n + 1, fmt, ap);
    buf->len += (size_t)n;
}

void fae_buf_printf(struct fae_buf *buf, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fae_buf_vprintf(buf, fmt, ap);
    va_end(ap);
}

void fae_buf_json(struct fae_buf *buf, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;

    fae_buf_add(buf, "\"", 1);
    while (len) {
        unsigned n = fae_utf8_char(p, len);

        if (n == 0) {
            fae_buf_add(buf, "\xef\xbf\xbd", 3);
            n = 1;
        } else if (*p == '"' || *p == '\\') {
            fae_buf_printf(buf, "\\%c", *p);
        } else if (*p == '\n') {
            fae_buf_add(buf, "\\n", 2);
        } else if (*p < 0x20) {
            fae_buf_printf(buf, "\\u%04x", *p);
        } else {
            fae_buf_add(buf, p, n);
        }
        p += n;
        len -= n;
    }
    fae_buf_add(buf, "\"", 1);
}

const char *fae_buf_text(struct fae_buf *buf)
{
    *fae_buf_room(buf, 1) = '\0';
    return (const char *)buf->data;
}
