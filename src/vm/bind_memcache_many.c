/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: many keys of a memcache pool at once, from all its servers side by side.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "vm/bind_memcache.h"
#include "vm/task.h"
#include "vm/vm_impl.h"
#include "wire/mctext.h"

#define MANY_MAX 10000 /* keys of one get_many */

/* A task that waits for several servers. What they bring is kept until the last of them is through. */
struct many {
    struct fae_task *task;
    unsigned n_calls, n_pending, n_ok;
    size_t bytes_max;
    struct fae_buf found; /* of each value a struct found, the key, the bytes */
    bool too_much;
    struct fae_memcache_answer failure; /* the first; err OK: none */
    char why[512];
    struct many_call *calls[]; /* NULL: it is over */
};

struct many_call {
    struct fae_memcache_call call;
    struct many *many;
    struct fae_memcache_server *server;
    unsigned index; /* in many->calls */
    uint8_t bytes[];
};

struct found {
    uint32_t key_len, len, flags;
};

static const uint8_t *key_of(const struct fae_memcache_call *call, unsigned key, size_t *len_out)
{
    const uint8_t *at = call->bytes + 1, *end = call->bytes + call->len, *blank;

    for (; key > 0; key--)
        at = (const uint8_t *)memchr(at, ' ', (size_t)(end - at)) + 1;
    blank = memchr(at, ' ', (size_t)(end - at));
    *len_out = (size_t)((blank ? blank : end) - at);
    return at;
}

static void on_many_value(struct fae_memcache_call *call, unsigned key, const struct fae_memcache_value *value)
{
    struct many *m = FAE_CONTAINER(call, struct many_call, call)->many;
    size_t key_len;
    const uint8_t *text = key_of(call, key, &key_len);
    struct found f = { (uint32_t)key_len, (uint32_t)value->len, value->flags };

    m->too_much |= m->found.len + sizeof f + key_len + value->len > m->bytes_max;
    if (m->too_much)
        return;
    fae_buf_add(&m->found, &f, sizeof f);
    fae_buf_add(&m->found, text, key_len);
    fae_buf_add(&m->found, value->bytes, value->len);
}

static void note_failure(struct many *m, const struct fae_memcache_answer *answer)
{
    if (m->failure.err)
        return;
    m->failure = *answer;
    m->failure.error = NULL;
    snprintf(m->why, sizeof m->why, "%s", answer->why);
    m->failure.why = m->why;
}

static int push_many(lua_State *L, void *arg)
{
    struct many *m = arg;

    if (m->too_much)
        return fae_nil_err(L, FAE_LIMIT, "these values have more than message_max bytes");
    if (m->n_ok == 0 && m->found.len == 0)
        return fae_memcache_push_failure(L, &m->failure);
    lua_newtable(L);
    lua_newtable(L);
    for (size_t at = 0; at < m->found.len;) {
        const char *key = (const char *)m->found.data + at + sizeof(struct found);
        struct found f;

        memcpy(&f, m->found.data + at, sizeof f);
        lua_pushlstring(L, key, f.key_len);
        lua_pushvalue(L, -1);
        lua_pushlstring(L, key + f.key_len, f.len);
        lua_rawset(L, -5);
        lua_pushnumber(L, f.flags);
        lua_rawset(L, -3);
        at += sizeof f + f.key_len + f.len;
    }
    if (!m->failure.err)
        return 2;
    fae_memcache_push_failure(L, &m->failure);
    lua_remove(L, -2);
    return 3;
}

static void free_many(struct many *m)
{
    fae_buf_fini(&m->found);
    free(m);
}

static void on_many_done(struct fae_memcache_call *call, const struct fae_memcache_answer *answer)
{
    struct many_call *c = FAE_CONTAINER(call, struct many_call, call);
    struct many *m = c->many;

    m->calls[c->index] = NULL;
    if (answer->err)
        note_failure(m, answer);
    else
        m->n_ok++;
    if (--m->n_pending > 0)
        return;
    fae_task_resume(m->task, push_many, m);
    free_many(m);
}

static void cancel_many(void *arg)
{
    struct many *m = arg;

    for (unsigned i = 0; i < m->n_calls; i++)
        if (m->calls[i])
            fae_memcache_cancel(m->calls[i]->server, &m->calls[i]->call);
    free_many(m);
}

/* What is asked of one server: the keys of the table at 3 whose server it is, from *from on, as many as one call has. NULL:
 * there are none. Raises nothing: the keys are strings. */
static struct many_call *next_call(lua_State *L, const unsigned *server_of, int n, unsigned server, int *from)
{
    struct many_call *c = NULL;
    uint8_t *at = NULL;

    for (; *from <= n && (!c || c->call.n_keys < FAE_MEMCACHE_KEYS_MAX); ++*from) {
        const char *key;
        size_t len;

        if (server_of[*from - 1] != server)
            continue;
        if (!c) {
            c = fae_alloc(sizeof *c + (FAE_MCTEXT_KEY_MAX + 1) * FAE_MEMCACHE_KEYS_MAX);
            c->call = (struct fae_memcache_call){
                .op = FAE_MEMCACHE_GET, .bytes = c->bytes, .value = on_many_value, .done = on_many_done
            };
            at = c->bytes;
        }
        lua_rawgeti(L, 3, *from);
        key = lua_tolstring(L, -1, &len);
        *at++ = ' ';
        memcpy(at, key, len);
        at += len;
        lua_pop(L, 1);
        c->call.n_keys++;
        c->call.len = (size_t)(at - c->bytes);
    }
    return c;
}

/* A get of one key finds its value in the answer. */
static void on_single_done(struct fae_memcache_call *call, const struct fae_memcache_answer *answer)
{
    if (answer->err == FAE_OK && answer->yes)
        on_many_value(call, 0, &answer->value);
    on_many_done(call, answer);
}

static void ask_server(lua_State *L, struct many *m, struct fae_memcache_server *server, const unsigned *server_of,
                       int n, unsigned place)
{
    struct fae_memcache_answer answer;
    struct many_call *c;
    int from = 1;

    while ((c = next_call(L, server_of, n, place, &from))) {
        c->many = m;
        c->server = server;
        c->index = m->n_calls;
        if (c->call.n_keys == 1)
            c->call.done = on_single_done;
        if (fae_memcache_ask(server, &c->call, &answer)) {
            note_failure(m, &answer);
            free(c);
            continue;
        }
        m->calls[m->n_calls++] = c;
        m->n_pending++;
    }
}

/* Checks the keys at 3 and says whose they are, in memory that Lua owns. NULL: nil, err are pushed. */
static unsigned *servers_of(lua_State *L, const struct fae_memcache *pool, unsigned replica, int n)
{
    unsigned *server_of = lua_newuserdata(L, (size_t)n * sizeof *server_of + 1);
    const char *key;
    size_t len;

    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, 3, i);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "key %d is a %s, not a string", i, luaL_typename(L, -1));
        key = fae_memcache_key_here(L, -1, &len);
        if (!key)
            return NULL;
        server_of[i - 1] = fae_memcache_pick(pool, key, len, replica);
        lua_pop(L, 1);
    }
    return server_of;
}

/* memcache_get_many(handle, replica, keys) -> {key = value}, {key = flags}, err of a server that failed or nil | nil, err.
 * Waits. */
static int l_memcache_get_many(lua_State *L)
{
    struct fae_memcache *pool = fae_memcache_here(L);
    unsigned replica = (unsigned)luaL_checkint(L, 2), *server_of;
    struct fae_task *task;
    struct many *m;
    int n, status;

    if (!pool)
        return 2;
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_argcheck(L, replica < fae_memcache_n_replicas(pool), 2, "no such replica");
    n = (int)lua_objlen(L, 3);
    if (n > MANY_MAX)
        return fae_nil_err(L, FAE_LIMIT, "more than %d keys", MANY_MAX);
    server_of = servers_of(L, pool, replica, n);
    if (!server_of)
        return 2;
    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    m = fae_zalloc(sizeof *m + ((size_t)n / FAE_MEMCACHE_KEYS_MAX + fae_memcache_n_servers(pool)) * sizeof *m->calls);
    m->task = task;
    m->bytes_max = fae_vm_of(L)->o.config->message_max;
    for (unsigned i = 0; i < fae_memcache_n_servers(pool); i++)
        ask_server(L, m, fae_memcache_server(pool, i), server_of, n, i);
    if (m->n_pending > 0)
        return fae_task_wait(task, cancel_many, m);
    m->n_ok = !m->failure.err; /* no keys, no failure */
    status = push_many(L, m);
    free_many(m);
    return status;
}

static const luaL_Reg functions[] = {
    { "memcache_get_many", l_memcache_get_many },
    { NULL, NULL },
};

void fae_bind_memcache_many(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
