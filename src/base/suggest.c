/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Edit distance (insert, delete, replace, swap of neighbours), for words of a name's length.
 */
#include "base/suggest.h"

#include <string.h>

#define FAE_SUGGEST_MAX 64 /* longer words are not names */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned rows[3][FAE_SUGGEST_MAX + 1];

    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *up = rows[(i + 2) % 3], *upup = rows[(i + 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            now[j] = least(least(up[j], now[j - 1]) + 1, up[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], upup[j - 2] + 1);
        }
    }
    return rows[a_len % 3][b_len];
}

void fae_suggest_offer(struct fae_suggest *s, const char *candidate)
{
    size_t a_len = strlen(s->word), b_len = strlen(candidate);
    unsigned near = a_len / 3 > 2 ? (unsigned)(a_len / 3) : 2;
    unsigned d;

    if (a_len > FAE_SUGGEST_MAX || b_len > FAE_SUGGEST_MAX)
        return;
    d = distance(s->word, a_len, candidate, b_len);
    /* Two edits make any two letters into any other two: some of the word must remain. */
    if (d > near || d >= a_len || d >= b_len || (s->best && d >= s->distance))
        return;
    s->best = candidate;
    s->distance = d;
}
