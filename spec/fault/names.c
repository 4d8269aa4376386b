/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Preloaded into a server, it makes names mean what a test says, and looking them up as slow: FAE_NAMES is a file with lines
 * "NAME ADDRESS", "NAME hang" (no answer until the file says something else) or "NAME fail", read anew at each look-up. Other
 * names are looked up as ever.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*getaddrinfo_fn)(const char *name, const char *service, const struct addrinfo *hints,
                              struct addrinfo **addrs_out);

/* What the file says of the name; false: nothing. */
static int find(const char *name, char answer[64])
{
    const char *path = getenv("FAE_NAMES");
    FILE *file = path ? fopen(path, "re") : NULL;
    char one[256];
    int found = 0;

    while (file && !found && fscanf(file, "%255s %63s", one, answer) == 2)
        found = strcmp(one, name) == 0;
    if (file)
        fclose(file);
    return found;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **addrs_out)
{
    getaddrinfo_fn real = (getaddrinfo_fn)dlsym(RTLD_NEXT, "getaddrinfo");
    char answer[64];

    if (!name || !find(name, answer))
        return real(name, service, hints, addrs_out);
    while (strcmp(answer, "hang") == 0) {
        usleep(20000);
        if (!find(name, answer))
            return EAI_NONAME;
    }
    if (strcmp(answer, "fail") == 0)
        return EAI_AGAIN;
    return real(answer, service, hints, addrs_out);
}
