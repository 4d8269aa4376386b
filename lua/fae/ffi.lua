-- SPDX-License-Identifier: BSD-2-Clause
--
-- C functions that Lua calls straight: leaves, which never raise, wait, allocate or call back. Declared once a state,
-- not once a generation: LuaJIT keeps what each declaration makes, and has room for 65,536 types in all.
local ffi = package.loaded.ffi

local declarations = [[
/* store/lcache.h */
struct fae_lcache_user;
int fae_lcache_get(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, uint8_t *buf, size_t cap,
                   double *version_out);
int fae_lcache_set(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms);
int fae_lcache_add(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms);
int fae_lcache_replace(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value,
                       size_t len, double ttl_ms);
int fae_lcache_cas(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms, double version);
int fae_lcache_incr(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, int64_t by, double ttl_ms,
                    bool init, int64_t *number_io);
int fae_lcache_del(struct fae_lcache_user *user, const uint8_t *key, size_t key_len);
int fae_lcache_touch(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, double ttl_ms);
int fae_lcache_flush(struct fae_lcache_user *user);
/* base/json_valid.h */
double fae_json_skip(const char *text, size_t len, size_t at, unsigned depth);
/* store/idgen.h */
int64_t fae_ids_next(const void *stores, uint32_t tag);
int64_t fae_ids_next_run(const void *stores, uint32_t tag, uint32_t n, uint32_t *n_out);
]]

local DONE = "fae.ffi " .. declarations -- a state's own table, under what was declared: lua_dir may bring another text
if not package.loaded[DONE] then
  ffi.cdef(declarations)
  package.loaded[DONE] = true
end

return ffi
