/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Finding the end of an answer of fae.ctl.
 */
#include "wire/ctlline.h"

#include <string.h>

static bool is_last(const char *line, size_t len)
{
    return (len >= 2 && memcmp(line, "OK", 2) == 0) || (len >= 4 && memcmp(line, "ERR ", 4) == 0);
}

/* The word that begins the text. */
static size_t word_len(const char *text, size_t len)
{
    const char *space = memchr(text, ' ', len);

    return space ? (size_t)(space - text) : len;
}

bool fae_ctlline_last(const struct fae_buf *answer, struct fae_ctlline *last_out)
{
    struct fae_ctlline last = { .err = FAE_OK };
    const char *text = (const char *)answer->data, *line;
    size_t skip = 2;

    if (answer->len == 0 || text[answer->len - 1] != '\n')
        return false;
    line = memrchr(text, '\n', answer->len - 1);
    line = line ? line + 1 : text;
    last.at = (size_t)(line - text);
    last.len = answer->len - last.at - 1;
    if (!is_last(line, last.len))
        return false;
    if (line[0] == 'E') {
        skip = 4 + word_len(line + 4, last.len - 4);
        last.err = fae_err_of(line + 4, skip - 4);
        if (last.err == FAE_ERR_COUNT)
            last.err = FAE_INTERNAL;
    }
    while (skip < last.len && line[skip] == ' ')
        skip++;
    last.text = line + skip;
    last.len -= skip;
    *last_out = last;
    return true;
}
