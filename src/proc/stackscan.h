/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Return addresses off a stack that cannot be unwound. Through code that LuaJIT compiled libgcc's unwinder aborts the
 * process (seen with Debian 12's), so a handler that may hit such code reads the stack itself: every word that points
 * behind a call instruction of a loaded library counts as a frame. A few of them are left from calls that are over.
 */
#ifndef FAE_PROC_STACKSCAN_H
#define FAE_PROC_STACKSCAN_H

#include <stddef.h>
#include <stdint.h>

/* Learns where code and this thread's stack are; once, after the libraries are loaded. */
void fae_stackscan_init(void);
/* Async-signal-safe. Return addresses above the stack pointer, innermost first; at most n. */
size_t fae_stackscan(uintptr_t stack_pointer, uintptr_t *frames_out, size_t n);

#endif
