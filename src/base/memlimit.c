/* SPDX-License-Identifier: BSD-2-Clause
 *
 * cgroups of both versions. Inside a container the path that /proc tells may not be there to see, while its own limit
 * is: so each folder from that path up to the top is asked, and the least counts.
 */
#include "base/memlimit.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

#define LUA_PERCENT 38 /* and a quarter more is 47.5 */
#define PART 8
#define RESULTS_PART 16
#define RESULTS_LEAST (2 * FAE_MIB)
#define LUA_LEAST (8 * FAE_MIB)   /* less would refuse everything */
#define CACHE_LEAST (8 * FAE_MIB) /* less would hold no large value */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The number a file begins with; UINT64_MAX for "max", and when there is no such file. */
static uint64_t number_in(const char *path)
{
    char text[64], *end;
    FILE *file = fopen(path, "re");
    unsigned long long n;
    bool any;

    if (!file)
        return UINT64_MAX;
    any = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    if (!any || *text < '0' || *text > '9')
        return UINT64_MAX;
    errno = 0;
    n = strtoull(text, &end, 10);
    return errno || (*end && *end != '\n') ? UINT64_MAX : n;
}

/* `inner` is a path that begins with a slash; it is cut on the way. */
static uint64_t limit_up_from(const char *root, const char *mount, char *inner, const char *name)
{
    char path[PATH_MAX];
    uint64_t limit = UINT64_MAX;

    for (;;) {
        char *slash = strrchr(inner, '/');

        snprintf(path, sizeof path, "%s%s%s/%s", root, mount, inner, name);
        limit = least(limit, number_in(path));
        if (!slash)
            return limit;
        *slash = '\0';
    }
}

/* A line of /proc/self/cgroup: "4:memory:/path", or "0::/path" for version 2. */
static uint64_t limit_of_line(const char *root, char *line)
{
    char *controllers = strchr(line, ':'), *inner = controllers ? strchr(controllers + 1, ':') : NULL;

    if (!inner)
        return UINT64_MAX;
    *controllers++ = *inner++ = '\0';
    inner[strcspn(inner, "\n")] = '\0';
    if (strcmp(controllers, "memory") == 0)
        return limit_up_from(root, "/sys/fs/cgroup/memory", inner, "memory.limit_in_bytes");
    return *controllers ? UINT64_MAX : limit_up_from(root, "/sys/fs/cgroup", inner, "memory.max");
}

static uint64_t of_machine(const char *root)
{
    char path[PATH_MAX], line[256];
    unsigned long long kib = 0;
    FILE *file;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    file = fopen(path, "re");
    while (file && kib == 0 && fgets(line, sizeof line, file))
        if (strncmp(line, "MemTotal:", 9) == 0)
            kib = strtoull(line + 9, NULL, 10);
    if (file)
        fclose(file);
    return kib ? kib * 1024 : UINT64_MAX;
}

uint64_t fae_memlimit(const char *root)
{
    char path[PATH_MAX], line[PATH_MAX];
    uint64_t limit = of_machine(root);
    FILE *file;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        limit = least(limit, limit_of_line(root, line));
    if (file)
        fclose(file);
    return limit;
}

uint64_t fae_memlimit_lua(uint64_t limit_bytes, unsigned n_workers)
{
    uint64_t share = limit_bytes / 100 * LUA_PERCENT / n_workers;

    return share < LUA_LEAST ? LUA_LEAST : share;
}

uint64_t fae_memlimit_results(uint64_t limit_bytes, unsigned n_workers)
{
    uint64_t share = limit_bytes / RESULTS_PART / n_workers;

    return share < RESULTS_LEAST ? RESULTS_LEAST : share;
}

uint64_t fae_memlimit_io(uint64_t limit_bytes)
{
    return limit_bytes / PART;
}

uint64_t fae_memlimit_cache(uint64_t limit_bytes, uint64_t asked_bytes, uint64_t all_bytes)
{
    uint64_t most = limit_bytes / PART, share;

    if (all_bytes <= most)
        return asked_bytes;
    share = (uint64_t)((double)most * ((double)asked_bytes / (double)all_bytes));
    return least(asked_bytes, share < CACHE_LEAST ? CACHE_LEAST : share);
}
