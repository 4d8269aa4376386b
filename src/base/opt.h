/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Option tables: one row an option, from which come the parser, the errors with "did you mean", conf/fae.lua and the
 * reference page. Values come as text and are checked against the row.
 */
#ifndef FAE_BASE_OPT_H
#define FAE_BASE_OPT_H

#include <stdbool.h>
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
    FAE_OPT_LIST,   /* char[FAE_OPT_LIST_TEXT] field: words with one blank between them */
};

#define FAE_OPT_TEXT 256
#define FAE_OPT_LIST_TEXT 1024

struct fae_opt {
    const char *name;
    enum fae_opt_type type;
    size_t offset;
    const char *init;  /* default, as text */
    uint64_t min, max; /* of the value; STRING: of its length, max 0 means what the field holds */
    const char *words; /* ENUM: "logfmt|json" */
    const char *help;
    bool at_start; /* a change takes effect when the node is started again; the others when it reloads */
    bool secret;   /* its value is never shown */
};

/* FAE_OPT(struct, "name", TYPE, field, "default", min, max, words, "help") */
#define FAE_OPT(s, name, type, field, init, min, max, words, help)                                                     \
    {                                                                                                                  \
        name, FAE_OPT_##type, offsetof(s, field), init, min, max, words, help, false, false                            \
    }
/* The same, for what only a start can change. */
#define FAE_OPT_AT_START(s, name, type, field, init, min, max, words, help)                                            \
    {                                                                                                                  \
        name, FAE_OPT_##type, offsetof(s, field), init, min, max, words, help, true, false                             \
    }
/* The same, for what nobody may see. */
#define FAE_OPT_SECRET(s, name, type, field, init, min, max, words, help)                                              \
    {                                                                                                                  \
        name, FAE_OPT_##type, offsetof(s, field), init, min, max, words, help, false, true                             \
    }

/* Not checked for strings: "" is the default of one that must be given. */
void fae_opt_defaults(const struct fae_opt *opts, unsigned n, void *into);
const struct fae_opt *fae_opt_find(const struct fae_opt *opts, unsigned n, const char *name);
/* Reads text into the row's field. BAD_CONFIG with a sentence in why_out, which begins with the option's name, when it
 * does not fit: nothing is changed then. */
enum fae_err fae_opt_set(const struct fae_opt *opt, void *into, const char *text, char *why_out, size_t why_size);
/* The value in the row's field as fae_opt_set reads it: into text (FAE_OPT_LIST_TEXT bytes), which is returned. */
const char *fae_opt_get(const struct fae_opt *opt, const void *from, char *text);
bool fae_opt_equal(const struct fae_opt *opt, const void *a, const void *b);
/* Copies the field. */
void fae_opt_copy(const struct fae_opt *opt, void *into, const void *from);
/* `unknown option "workrs": did you mean "workers"?` into why_out. */
void fae_opt_unknown(const struct fae_opt *opts, unsigned n, const char *name, char *why_out, size_t why_size);

#endif
