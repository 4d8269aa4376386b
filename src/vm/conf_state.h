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

struct fae_conf_error {
    unsigned line; /* 0: of no line */
    char *text;
};

struct fae_conf_call {
    unsigned line;
    bool is_made; /* the option was given; its line may still be unknown */
};

struct fae_conf_servant {
    char name[FAE_CONFIG_NAME_MAX + 1];
    unsigned line;
    bool has_table;
};

struct fae_conf {
    struct fae_conf_source source;
    struct fae_buf text, rows, json;
    size_t memory_bytes; /* of the Lua state */

    struct fae_config config;                        /* what the calls made of it, for checks across options */
    struct fae_conf_call options[FAE_CONF_OPTS_MAX]; /* as fae_config_opts */
    bool has_bad_option;
    unsigned listen_line[FAE_LISTENERS_MAX];
    char listen_text[FAE_LISTENERS_MAX][FAE_ADDR_TEXT];
    struct fae_conf_servant servants[FAE_CONFIG_SERVANTS_MAX];
    unsigned n_servants, n_servant_rows;

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

/* ---- conf_calls.c: the options ---- */

/* Adds name -> function to the table on the stack's top. `unknown` is the index of the unknown name. */
void fae_conf_add_calls(lua_State *L, struct fae_conf *conf, int unknown);
/* What can only be said when the file has ended. */
void fae_conf_check_whole(struct fae_conf *conf);

#endif
