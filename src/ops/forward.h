/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Admin requests that the supervisor answers: parameters in, a line for fae.ctl out; its lines in, JSON out. Pure.
 */
#ifndef FAE_OPS_FORWARD_H
#define FAE_OPS_FORWARD_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/http.h"
#include "ops/ctl.h"

enum fae_forward_type {
    FAE_FORWARD_WORD, /* a text without spaces or a whole number: goes into the line behind `as` */
    FAE_FORWARD_FLAG, /* true: `as` goes into the line */
};

struct fae_forward_param {
    const char *key; /* NULL ends the list */
    enum fae_forward_type type;
    const char *as;
};

struct fae_forward {
    const char *verb;
    struct fae_forward_param params[3];
    const char *rows; /* the answer's lines are rows "name key=value ...", and this is the array of them; NULL: text */
    bool is_json;     /* or they are JSON already */
    unsigned within_ms;
};

/* The line that a JSON object of parameters (of no bytes: none) asks for. BAD_ARGS with a sentence in why_out. */
enum fae_err fae_forward_line(const struct fae_forward *f, const void *json, size_t len, struct fae_buf *line_out,
                              char *why_out, size_t why_size);
/* The same for a query: "n=20". */
enum fae_err fae_forward_query(const struct fae_forward *f, const char *query, struct fae_buf *line_out, char *why_out,
                               size_t why_size);
/* What the node said as JSON, and the status that goes with its code. */
void fae_forward_answer(const struct fae_forward *f, const struct fae_ctl_answer *said, struct fae_http_answer *answer);

#endif
