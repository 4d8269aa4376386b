/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/bundle: bytes that pass for a bundle can be walked without leaving them, and are exactly what the writer would
 * have made of the files in them.
 */
#include "fuzz.h"

#include "wire/bundle.h"

static void check_file(const struct fae_bundle *bundle, const struct fae_bundle_file *file)
{
    const char *begin = (const char *)bundle->bytes, *end = begin + bundle->len;
    struct fae_bundle_file found;

    FAE_ASSERT(file->path > begin && file->path < end);
    FAE_ASSERT(file->body > file->path && file->len < (size_t)(end - file->body));
    FAE_ASSERT(file->path + strlen(file->path) + 1 == file->body);
    FAE_ASSERT(file->body[file->len] == '\0');
    FAE_ASSERT(fae_bundle_find(bundle, file->path, &found));
    FAE_ASSERT(found.path <= file->path && strcmp(found.path, file->path) == 0); /* the first of that name */
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct fae_bundle bundle;
    struct fae_bundle_file file;
    struct fae_buf again = { 0 };
    size_t cursor = 0;

    if (fae_bundle_open(&bundle, bytes, len) != FAE_OK)
        return 0;
    fae_bundle_begin(&again);
    while (fae_bundle_next(&bundle, &cursor, &file)) {
        check_file(&bundle, &file);
        fae_bundle_add(&again, file.path, file.body, file.len);
    }
    FAE_ASSERT(cursor == len || (cursor == 0 && len == again.len));
    FAE_ASSERT(again.len == len && memcmp(again.data, bytes, len) == 0);
    FAE_ASSERT(!fae_bundle_find(&bundle, "no such file", &file) || memmem(bytes, len, "no such file", 12));
    fae_buf_fini(&again);
    return 0;
}
