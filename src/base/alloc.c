/* SPDX-License-Identifier: BSD-2-Clause
 *
 * malloc that does not return NULL, and the end of a failed assertion.
 */
#include "base/alloc.h"

#include <execinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

void fae_assert_failed(const char *cond, const char *file, int line)
{
    void *frames[48];

    fprintf(stderr, "fae: bug: %s:%d: %s does not hold\n", file, line, cond);
    backtrace_symbols_fd(frames, backtrace(frames, 48), STDERR_FILENO);
    abort();
}

static void *checked(void *mem, size_t size)
{
    if (!mem) {
        fprintf(stderr, "fae: out of memory: %zu bytes wanted\n", size);
        abort();
    }
    return mem;
}

void *fae_alloc(size_t size)
{
    return checked(malloc(size ? size : 1), size);
}

void *fae_zalloc(size_t size)
{
    return checked(calloc(1, size ? size : 1), size);
}

void *fae_realloc(void *mem, size_t size)
{
    return checked(realloc(mem, size ? size : 1), size);
}

char *fae_strndup(const char *text, size_t len)
{
    char *copy = fae_alloc(len + 1);

    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *fae_strdup(const char *text)
{
    return fae_strndup(text, strlen(text));
}

char *fae_sprintf(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return checked(n < 0 ? NULL : text, 0);
}
