/* SPDX-License-Identifier: BSD-2-Clause
 *
 * HELP: backslash and newline are escaped; label values: the quote too.
 */
#include "ops/metrics_line.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void add_escaped(struct fae_buf *out, const char *text, size_t len, bool quoted)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '\n')
            fae_buf_add(out, "\\n", 2);
        else if (c == '\\' || (quoted && c == '"'))
            fae_buf_add(out, (char[]){ '\\', c }, 2);
        else
            fae_buf_add(out, &c, 1);
    }
}

void fae_metrics_begin(struct fae_buf *out, const char *name, const char *type, const char *help)
{
    fae_buf_printf(out, "# HELP %s ", name);
    add_escaped(out, help, strlen(help), false);
    fae_buf_printf(out, "\n# TYPE %s %s\n", name, type);
}

void fae_metrics_label(struct fae_buf *out, const char *before, const char *label, const char *value, size_t len)
{
    fae_buf_printf(out, "%s%s=\"", before, label);
    add_escaped(out, value, len, true);
    fae_buf_add(out, "\"", 1);
}

const char *fae_metrics_seconds(uint64_t ns, char *buf, size_t size)
{
    snprintf(buf, size, "%" PRIu64 ".%09u", ns / 1000000000u, (unsigned)(ns % 1000000000u));
    return buf;
}
