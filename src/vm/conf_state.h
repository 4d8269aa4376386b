/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What vm/conf*.c share while one config file is run. All memory that is not Lua's hangs on struct fae_conf: a Lua
 * error may jump out of any function that is given a lua_State. Nothing else includes this.
 */
#ifndef FAE_VM_CONF_STATE_H
#define FAE_VM_CONF_STATE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/config_rows.h"
#include "net/addr.h"
#include "vm/conf_source.h"

#define FAE_CONF_ERRORS_MAX 100 /* nobody reads more, and a loop could make them for ever */
#define FAE_CONF_OPTS_MAX 64
#define FAE_CONF_SECTIONS_MAX 16
#define FAE_CONF_N_TABLES 2

struct fae_conf_error {
    unsigned line; /* 0: of no line */
    char *text;
};

struct fae_conf_call {
    unsigned line;
    bool is_made; /* the option was given; its line may still be unknown */
};

/* A call with a name: of a section, or `servant`, `plugin`. */
struct fae_conf_entry {
    char key[FAE_OPT_TEXT]; /* "": one that may be given again */
    unsigned line;
    bool has_table;
    int row; /* its index in rows; -1: it has none */
};

struct fae_conf_entries {
    unsigned n, n_rows;
    bool has_bad; /* one was wrong, so that what others say of it may be right */
    struct fae_conf_entry entries[FAE_CONFIG_ENTRIES_MAX];
};

/* Where a value stands. */
struct fae_conf_place {
    const char *section;
    unsigned nth; /* of its entry */
    unsigned line;
    const char *prefix; /* of errors: "", "listen: " */
};

struct fae_conf {
    struct fae_conf_source source;
    struct fae_buf text, rows, json, words;
    size_t memory_bytes; /* of the Lua state */

    struct fae_config config;                        /* what the calls made of it, for checks across options */
    struct fae_conf_call options[FAE_CONF_OPTS_MAX]; /* as fae_config_opts */
    bool has_bad_option;
    struct fae_conf_entries sections[FAE_CONF_SECTIONS_MAX]; /* as fae_config_sections */
    struct fae_conf_entries tables[FAE_CONF_N_TABLES];       /* as fae_conf_table_words */

    struct fae_conf_error errors[FAE_CONF_ERRORS_MAX]; /* by line */
    unsigned n_errors, n_more;
};

/* ---- conf.c ---- */

/* Notes an error, once. Never raises. */
void fae_conf_fail(struct fae_conf *conf, unsigned line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- conf_world.c: names, and Lua's own functions ---- */

/* Pushes the environment the file runs in. */
void fae_conf_push_world(lua_State *L, struct fae_conf *conf);
/* Inside a function of that world: its first upvalue. */
struct fae_conf *fae_conf_of(lua_State *L);
/* The line that called the function which runs now. */
unsigned fae_conf_line(lua_State *L, const char *name);
/* A value as an error message shows it; fills and returns text. */
const char *fae_conf_show(lua_State *L, int index, char *text, size_t size);
/* What reading an unknown name gave: the name was told of then, nothing more is said of what is done with it. */
bool fae_conf_is_unknown(lua_State *L, int index);

/* ---- conf_calls.c: values, and the options ---- */

/* Adds name -> function to the table on the stack's top. `unknown` is the index of the unknown name. The functions'
 * upvalues: conf, which one it is of its kind, the unknown name. */
void fae_conf_add_calls(lua_State *L, struct fae_conf *conf, int unknown);
/* Sets the option in `into` to the value at `index` and adds its row; or says why not. */
bool fae_conf_take(lua_State *L, const struct fae_opt *opt, int index, void *into, const struct fae_conf_place *place);

/* ---- conf_sections.c: limit "shop.*" { ... }, listen "unix:a", listen { "unix:a", ... } ---- */

int fae_conf_l_section(lua_State *L);
int fae_conf_l_alone(lua_State *L);
/* `limit "shop.*": ` or `listen: ` into text, which is returned. */
const char *fae_conf_prefix(const struct fae_config_section *section, const char *key, char *text, size_t size);

/* ---- conf_tables.c: servant "name" { ... }, plugin "name" { ... } ---- */

extern const char *const fae_conf_table_words[FAE_CONF_N_TABLES];
int fae_conf_l_table(lua_State *L);

/* A new entry with this name, which stands at index 1, or NULL when there was something wrong with it. */
struct fae_conf_entry *fae_conf_new_entry(struct fae_conf *conf, struct fae_conf_entries *entries, unsigned max,
                                          const char *word, const char *name, unsigned line);

/* ---- conf_whole.c ---- */

/* What can only be said when the file has ended. */
void fae_conf_check_whole(struct fae_conf *conf);

#endif
