-- SPDX-License-Identifier: BSD-2-Clause
--
-- C functions that Lua calls straight: leaves, which never raise, wait, allocate or call back. Types are declared
-- without a body, since this runs once a generation and a body may be declared only once a state.
local ffi = package.loaded.ffi

ffi.cdef [[
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
]]

return ffi
