/* SPDX-License-Identifier: BSD-2-Clause
 *
 * SHA-256, MD5, comparison and random bytes, by libcrypto.
 */
#include "net/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/assert.h"

void fae_sha256(const void *bytes, size_t len, uint8_t out[FAE_SHA256_BYTES])
{
    unsigned n = 0;
    int ok = EVP_Digest(bytes, len, out, &n, EVP_sha256(), NULL);

    FAE_ASSERT(ok == 1); /* it can only fail for want of memory */
    FAE_ASSERT(n == FAE_SHA256_BYTES);
}

/* A context of its own has MD5 also where the system's configuration allows it for nobody; kept, since making one takes
 * longer than a digest (470 ns against 200). */
static EVP_MD_CTX *md5_context(void)
{
    static _Thread_local EVP_MD_CTX *context;
    OSSL_LIB_CTX *lib;
    EVP_MD *md5;
    int ok;

    if (context)
        return context;
    lib = OSSL_LIB_CTX_new();
    md5 = EVP_MD_fetch(lib, "MD5", NULL);
    context = EVP_MD_CTX_new();
    ok = EVP_DigestInit_ex2(context, md5, NULL);
    FAE_ASSERT(ok == 1); /* it can only fail for want of memory */
    return context;
}

void fae_md5(const void *bytes, size_t len, uint8_t out[FAE_MD5_BYTES])
{
    EVP_MD_CTX *context = md5_context();
    unsigned n = 0;
    int ok = EVP_DigestInit_ex2(context, NULL, NULL) && EVP_DigestUpdate(context, bytes, len) &&
             EVP_DigestFinal_ex(context, out, &n);

    FAE_ASSERT(ok == 1);
    FAE_ASSERT(n == FAE_MD5_BYTES);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool fae_sha256_from_hex(const char *hex, uint8_t out[FAE_SHA256_BYTES])
{
    uint8_t digest[FAE_SHA256_BYTES];

    if (strlen(hex) != FAE_SHA256_HEX)
        return false;
    for (unsigned i = 0; i < FAE_SHA256_BYTES; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        digest[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(out, digest, sizeof digest);
    return true;
}

void fae_sha256_to_hex(const uint8_t digest[FAE_SHA256_BYTES], char *hex)
{
    static const char digits[] = "0123456789abcdef";

    for (unsigned i = 0; i < FAE_SHA256_BYTES; i++) {
        *hex++ = digits[digest[i] >> 4];
        *hex++ = digits[digest[i] & 15];
    }
    *hex = '\0';
}

bool fae_ct_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void fae_random_bytes(void *out, size_t len)
{
    int ok = RAND_bytes(out, (int)len);

    FAE_ASSERT(ok == 1);
}
