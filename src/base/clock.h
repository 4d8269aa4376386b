/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Time. Deadlines and intervals use the monotonic clock; ticks are the cheapest counter there is (9 ns against 22),
 * for latencies only. fae_clock_init runs once, before the first fork.
 */
#ifndef FAE_BASE_CLOCK_H
#define FAE_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

extern bool fae_clock_has_tsc;
extern uint64_t fae_clock_mult; /* ns per tick, 32.32 fixed point */

void fae_clock_init(void);
uint64_t fae_now_ns(void);  /* monotonic */
uint64_t fae_wall_ms(void); /* since 1970; jumps with the system's clock */

static inline uint64_t fae_now_ms(void)
{
    return fae_now_ns() / 1000000u;
}

static inline uint64_t fae_ticks(void)
{
#if defined(__x86_64__)
    if (__builtin_expect(fae_clock_has_tsc, 1))
        return __rdtsc();
#endif
    return fae_now_ns();
}

static inline uint64_t fae_ticks_of_ms(uint64_t ms)
{
    return (uint64_t)(((unsigned __int128)(ms * 1000000u) << 32) / fae_clock_mult);
}

static inline uint64_t fae_ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * fae_clock_mult) >> 32);
}

#endif
