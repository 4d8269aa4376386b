/* SPDX-License-Identifier: BSD-2-Clause
 *
 * FAE_ASSERT is for our own bugs only, never for what a peer, a file or a servant can bring about.
 */
#ifndef FAE_BASE_ASSERT_H
#define FAE_BASE_ASSERT_H

#define FAE_ASSERT(cond) (__builtin_expect(!!(cond), 1) ? (void)0 : fae_assert_failed(#cond, __FILE__, __LINE__))

/* Prints the condition and a backtrace to stderr, then aborts. */
void fae_assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn, cold));

#endif
