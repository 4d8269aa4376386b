/* SPDX-License-Identifier: BSD-2-Clause
 *
 * msgpack bytes to Lua values and back, in one pass each way, without a tree in between.
 *   decode: str and bin -> string, ints beyond 2^53 -> int64/uint64 cdata, nil inside arrays and maps -> fae.null, an
 *           empty map -> a table marked fae.map, ext -> a table marked fae.ext
 *   encode: integral numbers up to 2^53 -> the shortest int, UTF-8 strings -> str, others -> bin, a table with keys
 *           1..n -> array, an empty table -> array, anything else -> map, with keys that are strings or integers
 * Both raise only for lack of memory: call them inside a guard (vm.h), with FAE_CODEC_STACK free places on the stack.
 */
#ifndef FAE_VM_CODEC_H
#define FAE_VM_CODEC_H

#include <lua.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"

#define FAE_CODEC_STACK (FAE_DEPTH_MAX * 4 + 16)

/* Marks of tables; each is a metatable kept in the registry under this key. A raw one holds a value that is msgpack already;
 * only the runtime has its mark. */
enum fae_mark { FAE_MARK_MAP, FAE_MARK_ARRAY, FAE_MARK_BIN, FAE_MARK_EXT, FAE_MARK_RAW, FAE_MARK_COUNT };

/* Makes the marks and the 64-bit helpers; once a state, before anything else here. Needs ffi (opened, not exposed). */
void fae_codec_open(lua_State *L);
/* Pushes the metatable of the mark. */
void fae_codec_mark(lua_State *L, enum fae_mark mark);

/* The mark of the table at idx, FAE_MARK_COUNT when it has none. */
enum fae_mark fae_codec_mark_of(lua_State *L, int idx);

/* Pushes the value at *p, which a scan has proven, and moves *p behind it. On failure pushes a message in its place
 * (a map key that is neither string nor integer) and returns BAD_MESSAGE. */
enum fae_err fae_codec_push(lua_State *L, const uint8_t **p);

/* Appends the value at index idx, which will stand inside `depth` containers. On failure `out` is as before and a message is pushed: LIMIT (too deep, or longer than
 * `max` bytes), BAD_ARGS (a function, a userdata, ...). */
enum fae_err fae_codec_put(lua_State *L, int idx, struct fae_buf *out, size_t max, unsigned depth);

/* Is the value at idx an int64 or uint64? */
int fae_codec_is_int64(lua_State *L, int idx);
/* Pushes an integer: a number as far as numbers hold all, beyond it an int64. */
void fae_codec_push_int(lua_State *L, int64_t value);
void fae_codec_push_uint(lua_State *L, uint64_t value);

#endif
