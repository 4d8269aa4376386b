/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the option tables cannot say: the form of a text (a role's name, a pattern of methods, a hash), and what options
 * and sections ask of each other. Used where the file is read, which knows lines, and again where rows arrive.
 */
#ifndef FAE_BASE_CONFIG_CHECK_H
#define FAE_BASE_CONFIG_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/config.h"
#include "base/err.h"

/* The value of `opt` in an entry (or in the config itself, with section ""), which fits its row: is its text of the
 * form it must have? BAD_CONFIG with a sentence in why_out, which begins with the option's name. */
enum fae_err fae_config_value_ok(const char *section, const struct fae_opt *opt, const void *from, char *why_out,
                                 size_t why_size);
/* The first option of an entry that must be given and was not, or NULL. */
const struct fae_opt *fae_config_missing(const struct fae_config_section *section, const void *entry);

/* Two things that do not go together. Lent. */
struct fae_config_clash {
    const char *section; /* "": options */
    unsigned index;      /* of the entry */
    const char *name;    /* the option to blame, with which the sentence begins */
    const char *other;   /* the other one, or NULL */
};
typedef void (*fae_config_clash_fn)(void *arg, const struct fae_config_clash *clash, const char *why);
void fae_config_clashes(const struct fae_config *config, fae_config_clash_fn tell, void *arg);
/* The first of them: BAD_CONFIG, name_out lends the option to blame, why_out begins with it or with its section. */
enum fae_err fae_config_agrees(const struct fae_config *config, const char **name_out, char *why_out, size_t why_size);

/* A servant's or plugin's name: a letter or "_", then letters, digits and "_". */
bool fae_config_name_ok(const char *name);

/* Copies the next word of a list into word and moves the list behind it; false at its end. */
bool fae_config_word(const char **list_io, char word[FAE_OPT_LIST_TEXT]);

#endif
