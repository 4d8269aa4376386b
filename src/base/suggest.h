/* SPDX-License-Identifier: BSD-2-Clause
 *
 * "Did you mean": the nearest of some words by edit distance.
 */
#ifndef FAE_BASE_SUGGEST_H
#define FAE_BASE_SUGGEST_H

#include <stddef.h>

/* Start with {.word = ...}, offer every candidate, then read best: NULL when none is near enough. */
struct fae_suggest {
    const char *word;
    const char *best;
    unsigned distance;
};

void fae_suggest_offer(struct fae_suggest *s, const char *candidate);

#endif
