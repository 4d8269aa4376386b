/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Monotonic time, and the rate of the cpu's counter measured against it.
 */
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

bool fae_clock_has_tsc;
uint64_t fae_clock_mult = 1ull << 32;

uint64_t fae_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t fae_wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

#if defined(__x86_64__)
/* Only a counter that neither stops nor changes its rate can stand in for a clock. */
static bool tsc_is_steady(void)
{
    char line[4096];
    bool steady = false;
    FILE *f = fopen("/proc/cpuinfo", "r");

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "flags", 5) == 0) {
            steady = strstr(line, " constant_tsc") && strstr(line, " nonstop_tsc");
            break;
        }
    if (f)
        fclose(f);
    return steady;
}

void fae_clock_init(void)
{
    uint64_t t0, n0, n1;

    if (fae_clock_has_tsc || !tsc_is_steady())
        return;
    n0 = fae_now_ns();
    t0 = __rdtsc();
    do
        n1 = fae_now_ns();
    while (n1 - n0 < 5000000);
    fae_clock_mult = (uint64_t)(((unsigned __int128)(n1 - n0) << 32) / (__rdtsc() - t0));
    fae_clock_has_tsc = true;
}
#else
void fae_clock_init(void)
{
}
#endif
