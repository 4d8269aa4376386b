/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Which sanitizer this is built with: gcc and clang say it in different ways.
 */
#ifndef FAE_BASE_SANITIZE_H
#define FAE_BASE_SANITIZE_H

#if defined(__has_feature)
#define FAE_HAS_FEATURE(x) __has_feature(x)
#else
#define FAE_HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || FAE_HAS_FEATURE(address_sanitizer)
#define FAE_ASAN 1
#else
#define FAE_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || FAE_HAS_FEATURE(thread_sanitizer)
#define FAE_TSAN 1
#else
#define FAE_TSAN 0
#endif

#endif
