/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Reads only what is known to be mapped: text found at start, and the thread's stack from the stack pointer up.
 */
#include "proc/stackscan.h"

#include <link.h>
#include <pthread.h>
#include <stdbool.h>

#define RANGES_MAX 64
#define SCAN_BYTES (64 * 1024) /* deeper frames are the loop's, and always the same */

static struct {
    struct {
        uintptr_t start, end;
    } text[RANGES_MAX];
    unsigned n_text;
    uintptr_t stack_low, stack_high;
} known;

static int learn_text(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (unsigned i = 0; i < info->dlpi_phnum && known.n_text < RANGES_MAX; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
            continue;
        known.text[known.n_text].start = info->dlpi_addr + p->p_vaddr;
        known.text[known.n_text++].end = info->dlpi_addr + p->p_vaddr + p->p_memsz;
    }
    return 0;
}

void fae_stackscan_init(void)
{
    pthread_attr_t attr;
    void *low;
    size_t size;

    known.n_text = 0;
    known.stack_low = known.stack_high = 0;
    dl_iterate_phdr(learn_text, NULL);
    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    if (pthread_attr_getstack(&attr, &low, &size) == 0) {
        known.stack_low = (uintptr_t)low;
        known.stack_high = (uintptr_t)low + size;
    }
    pthread_attr_destroy(&attr);
}

/* Is there a call instruction right before it? */
static bool follows_call(const uint8_t *p, size_t before)
{
#if defined(__x86_64__)
    if (before >= 5 && p[-5] == 0xe8)
        return true;
    /* ff /2: by register, or by memory with no, 8-bit or 32-bit displacement, perhaps with a prefix and a SIB byte. */
    for (unsigned len = 2; len <= 7 && len <= before; len++)
        if (p[-(int)len] == 0xff && (p[1 - (int)len] & 0x38) == 0x10)
            return true;
    return false;
#else
    (void)p;
    return before >= 4;
#endif
}

static bool is_return_address(uintptr_t word)
{
    for (unsigned i = 0; i < known.n_text; i++)
        if (word > known.text[i].start && word < known.text[i].end)
            return follows_call((const uint8_t *)word, word - known.text[i].start);
    return false;
}

__attribute__((no_sanitize("address"))) size_t fae_stackscan(uintptr_t stack_pointer, uintptr_t *frames_out, size_t n)
{
    uintptr_t at = (stack_pointer + sizeof at - 1) & ~(sizeof at - 1), end = known.stack_high;
    size_t found = 0;

    if (at < known.stack_low || at >= end)
        return 0;
    if (end - at > SCAN_BYTES)
        end = at + SCAN_BYTES;
    for (; at + sizeof at <= end && found < n; at += sizeof at) {
        uintptr_t word = *(const volatile uintptr_t *)at;

        if (is_return_address(word))
            frames_out[found++] = word;
    }
    return found;
}
