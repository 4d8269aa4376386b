/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What fae.ctl answers: lines of text, the last of which begins with "OK" or "ERR CODE"; no other line does. Pure.
 */
#ifndef FAE_WIRE_CTLLINE_H
#define FAE_WIRE_CTLLINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct fae_ctlline {
    size_t at;        /* of the last line in the answer: the lines before it are its text */
    enum fae_err err; /* of "ERR CODE"; INTERNAL when we do not know the code */
    const char *text; /* what follows, without the line's end; lent from the answer */
    size_t len;
};

/* True once the answer is whole. */
bool fae_ctlline_last(const struct fae_buf *answer, struct fae_ctlline *last_out);

#endif
