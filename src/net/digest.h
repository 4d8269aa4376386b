/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Secrets are kept as their SHA-256 and compared in a time that tells nothing about them. Here because OpenSSL's
 * headers belong to this folder; no descriptor is involved.
 */
#ifndef FAE_NET_DIGEST_H
#define FAE_NET_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAE_SHA256_BYTES 32
#define FAE_SHA256_HEX 64 /* digits */

void fae_sha256(const void *bytes, size_t len, uint8_t out[FAE_SHA256_BYTES]);
/* Sixty-four hex digits of either case; false (out untouched) for anything else. */
bool fae_sha256_from_hex(const char *hex, uint8_t out[FAE_SHA256_BYTES]);
/* Digits and a final NUL into hex (FAE_SHA256_HEX + 1 bytes). */
void fae_sha256_to_hex(const uint8_t digest[FAE_SHA256_BYTES], char *hex);

/* For placing keys where others place them by it (backend/selector_memcache.h), for no secret. 200 ns. */
#define FAE_MD5_BYTES 16
void fae_md5(const void *bytes, size_t len, uint8_t out[FAE_MD5_BYTES]);

/* The same bytes? Takes as long for any two of one length. */
bool fae_ct_equal(const void *a, const void *b, size_t len);
/* Bytes nobody can guess, for new tokens. */
void fae_random_bytes(void *out, size_t len);

#endif
