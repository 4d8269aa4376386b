/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Option tables: one row an option, from which come the parser, the errors with "did you mean", conf/fae.lua and the
 * reference page. Values come as text and are checked against the row.
 */
#ifndef FAE_BASE_OPT_H
#define FAE_BASE_OPT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum fae_opt_type {
    FAE_OPT_UINT,   /* uint64_t field; octal where the default is written so ("0660") */
    FAE_OPT_MS,     /* uint64_t field, milliseconds */
    FAE_OPT_BYTES,  /* uint64_t field; "4MiB" and "64KiB" are understood */
    FAE_OPT_BOOL,   /* bool field */
    FAE_OPT_STRING, /* char[FAE_OPT_TEXT] field */
    FAE_OPT_ENUM,   /* uint64_t field: index into words */
};

#define FAE_OPT_TEXT 256

struct fae_opt {
    const char *name;
    enum fae_opt_type type;
    size_t offset;
    const char *init;  /* default, as text */
    uint64_t min, max; /* of the value; STRING: of its length, max 0 means what the field holds */
    const char *words; /* ENUM: "logfmt|json" */
    const char *help;
};

/* FAE_OPT(struct, "name", TYPE, field, "default", min, max, words, "help") */
#define FAE_OPT(s, name, type, field, init, min, max, words, help)                                                     \
    {                                                                                                                  \
        name, FAE_OPT_##type, offsetof(s, field), init, min, max, words, help                                          \
    }

/* Not checked for strings: "" is the default of one that must be given. */
void fae_opt_defaults(const struct fae_opt *opts, unsigned n, void *into);
const struct fae_opt *fae_opt_find(const struct fae_opt *opts, unsigned n, const char *name);
/* Reads text into the row's field. BAD_CONFIG with a sentence in why_out, which begins with the option's name, when it
 * does not fit: nothing is changed then. */
enum fae_err fae_opt_set(const struct fae_opt *opt, void *into, const char *text, char *why_out, size_t why_size);
/* `unknown option "workrs": did you mean "workers"?` into why_out. */
void fae_opt_unknown(const struct fae_opt *opts, unsigned n, const char *name, char *why_out, size_t why_size);

#endif
