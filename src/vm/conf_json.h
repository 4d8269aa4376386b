/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A table of the config file as JSON: names sorted, so that the same file gives the same bytes.
 */
#ifndef FAE_VM_CONF_JSON_H
#define FAE_VM_CONF_JSON_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define FAE_CONF_JSON_DEPTH 32

struct fae_conf_json {
    lua_State *L;
    struct fae_buf *out; /* belongs to someone who outlives a Lua error */
    size_t max_bytes;
    /* Is told of each value that JSON cannot hold; path is "names[2].x". */
    void (*on_error)(void *arg, const char *path, const char *why);
    void *arg;
};

/* Writes the table at `index` as an object. False: something in it was wrong, on_error has heard of everything. Raises
 * only when Lua runs out of memory. */
bool fae_conf_json_object(const struct fae_conf_json *json, int index);

/* A key of a table, lent by that table. */
struct fae_conf_key {
    int type; /* LUA_TNUMBER or LUA_TSTRING */
    double number;
    const char *text;
    size_t len;
};

/* Pushes a userdata with the keys of the table at `index`, numbers first, each kind in rising order; lends them until
 * it is popped. False: a key is neither number nor text, nothing is pushed. */
bool fae_conf_keys(lua_State *L, int index, const struct fae_conf_key **keys_out, unsigned *n_out);

#endif
