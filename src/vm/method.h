/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The methods of one generation: found by name in a hash of our own, so that looking one up makes no Lua string.
 */
#ifndef FAE_VM_METHOD_H
#define FAE_VM_METHOD_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/limits.h"
#include "rpc/access.h"
#include "rpc/gate.h"

#define FAE_ARG_TYPES(X)                                                                                               \
    X(ANY, "any")                                                                                                      \
    X(INT, "int")                                                                                                      \
    X(NUMBER, "number") X(STRING, "string") X(BOOLEAN, "boolean") X(TABLE, "table") X(MAP, "map") X(ARRAY, "array")

enum fae_arg_type {
#define FAE_ARG_ENUM(name, word) FAE_ARG_##name,
    FAE_ARG_TYPES(FAE_ARG_ENUM)
#undef FAE_ARG_ENUM
        FAE_ARG_COUNT
};

struct fae_arg {
    uint8_t type; /* enum fae_arg_type */
    bool optional;
};

struct fae_method {
    char name[FAE_METHOD_NAME_MAX + 1]; /* as called: an alias has its own row */
    uint32_t name_len;
    uint64_t hash;
    uint32_t roles;     /* that may call it; none before fae_methods_access */
    int fn_ref;         /* LUA_REGISTRYINDEX */
    unsigned stats_row; /* of the canonical name */
    uint64_t timeout_ms;
    uint64_t slow_ticks; /* from then on a call is in the slow log */
    uint32_t route;      /* which argument is the key, from 1; 0: none. Kept for the cluster */
    bool idempotent;
    bool is_private;    /* the slow log does not show its arguments */
    bool context_first; /* alias of fae's old names: the first param may be the context map */
    bool token_first;   /* sys.hello, sys.ctx: the first param may be a map with a token */
    bool any_args;      /* nothing was declared */
    bool rest;          /* "..." last: more arguments of any type */
    unsigned n_args;
    struct fae_arg *args; /* owned by the canonical row, shared by aliases */
    bool owns_args;
    struct fae_method *twin; /* its alias, or what it is an alias of; NULL: none */
    bool limited;            /* it has a gate */
    int16_t gates[2];        /* of its servant, and its own; -1: none */
    struct fae_gate_rule rules[2];
};

struct fae_methods {
    struct fae_method **table; /* open addressing, a power of two */
    uint32_t cap, n;
    uint64_t seed; /* of hashes: nobody can choose names that collide */
};

void fae_methods_fini(struct fae_methods *m, lua_State *L);
struct fae_method *fae_methods_find(const struct fae_methods *m, const char *name, size_t len);
/* A zeroed row of that name; NULL when the name is taken or too long. */
struct fae_method *fae_methods_add(struct fae_methods *m, const char *name, size_t len);
/* The name nearest to one that was not found, of those that one of the roles may call; or NULL. */
const char *fae_methods_suggest(const struct fae_methods *m, const char *name, size_t len, uint32_t roles);
/* Says of every method who may call it. */
void fae_methods_access(struct fae_methods *m, const struct fae_access *access);
/* Says of every method which limits it has. */
void fae_methods_limit(struct fae_methods *m, const struct fae_config *config, struct fae_gates *gates);

/* Reads "int", "string?", ... */
bool fae_arg_parse(const char *word, struct fae_arg *arg_out);
/* Do the n values from index `first` fit? False: a message is pushed. */
bool fae_method_check(const struct fae_method *method, lua_State *L, int first, int n);

#endif
