/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Bundles: made by the checker, proven once, then walked without further checks.
 */
#include "wire/bundle.h"

#include <string.h>

#include "base/assert.h"
#include "base/limits.h"

#define FAE_BUNDLE_VERSION 1u
#define FAE_BUNDLE_HEAD 8u /* magic and version; and of each file: the two lengths */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lengths are copied as they are");

static const char magic[4] = { 'F', 'A', 'E', 'B' };

static void add_u32(struct fae_buf *out, uint32_t v)
{
    fae_buf_add(out, &v, sizeof v);
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

void fae_bundle_begin(struct fae_buf *out)
{
    fae_buf_add(out, magic, sizeof magic);
    add_u32(out, FAE_BUNDLE_VERSION);
}

void fae_bundle_add(struct fae_buf *out, const char *path, const void *body, size_t len)
{
    size_t path_len = strlen(path);

    FAE_ASSERT(path_len > 0);
    FAE_ASSERT(path_len <= FAE_BUNDLE_MAX);
    FAE_ASSERT(len <= FAE_BUNDLE_MAX);
    add_u32(out, (uint32_t)path_len);
    add_u32(out, (uint32_t)len);
    fae_buf_add(out, path, path_len + 1);
    fae_buf_add(out, body, len);
    fae_buf_add(out, "", 1);
}

/* Is there a whole file at `at`? *next_out is where it ends. */
static bool file_is_sound(const uint8_t *bytes, size_t len, size_t at, size_t *next_out)
{
    size_t left = len - at;
    uint64_t path_len, body_len, whole;

    if (left < FAE_BUNDLE_HEAD)
        return false;
    path_len = u32_at(bytes + at);
    body_len = u32_at(bytes + at + 4);
    whole = FAE_BUNDLE_HEAD + path_len + 1 + body_len + 1;
    if (path_len == 0 || whole > left)
        return false;
    if (memchr(bytes + at + FAE_BUNDLE_HEAD, '\0', path_len + 1) != bytes + at + FAE_BUNDLE_HEAD + path_len)
        return false;
    if (bytes[at + whole - 1] != '\0')
        return false;
    *next_out = at + (size_t)whole;
    return true;
}

enum fae_err fae_bundle_open(struct fae_bundle *bundle_out, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    if (len < FAE_BUNDLE_HEAD || memcmp(p, magic, sizeof magic) != 0 || u32_at(p + 4) != FAE_BUNDLE_VERSION)
        return FAE_BAD_MESSAGE;
    for (size_t at = FAE_BUNDLE_HEAD; at < len;)
        if (!file_is_sound(p, len, at, &at))
            return FAE_BAD_MESSAGE;
    *bundle_out = (struct fae_bundle){ p, len };
    return FAE_OK;
}

bool fae_bundle_next(const struct fae_bundle *bundle, size_t *cursor, struct fae_bundle_file *file_out)
{
    size_t at = *cursor ? *cursor : FAE_BUNDLE_HEAD;
    const uint8_t *p = bundle->bytes + at;
    uint32_t path_len;

    if (at >= bundle->len)
        return false;
    path_len = u32_at(p);
    file_out->path = (const char *)p + FAE_BUNDLE_HEAD;
    file_out->body = file_out->path + path_len + 1;
    file_out->len = u32_at(p + 4);
    *cursor = at + FAE_BUNDLE_HEAD + path_len + 1 + file_out->len + 1;
    return true;
}

bool fae_bundle_find(const struct fae_bundle *bundle, const char *path, struct fae_bundle_file *file_out)
{
    struct fae_bundle_file file;
    size_t cursor = 0;

    while (fae_bundle_next(bundle, &cursor, &file))
        if (strcmp(file.path, path) == 0) {
            *file_out = file;
            return true;
        }
    return false;
}
