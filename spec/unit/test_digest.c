/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/digest: known answers, and what is no digest.
 */
#include "unit.h"

#include "net/digest.h"

static void test_known_answers(void **state)
{
    static const struct {
        const char *text, *hex;
    } rows[] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    };
    char hex[FAE_SHA256_HEX + 1];
    uint8_t sum[FAE_SHA256_BYTES], back[FAE_SHA256_BYTES];

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        fae_sha256(rows[i].text, strlen(rows[i].text), sum);
        fae_sha256_to_hex(sum, hex);
        assert_string_equal(hex, rows[i].hex);
        assert_true(fae_sha256_from_hex(hex, back));
        assert_memory_equal(back, sum, sizeof sum);
    }
    assert_true(fae_sha256_from_hex("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", back));
    assert_memory_equal(back, sum, sizeof sum);
}

static void test_md5_answers(void **state)
{
    static const uint8_t empty[] = { 0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04,
                                     0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e };
    static const uint8_t abc[] = { 0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0,
                                   0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72 };
    uint8_t sum[FAE_MD5_BYTES];

    (void)state;
    fae_md5("", 0, sum);
    assert_memory_equal(sum, empty, sizeof sum);
    fae_md5("abc", 3, sum);
    assert_memory_equal(sum, abc, sizeof sum);
    fae_md5("", 0, sum);
    assert_memory_equal(sum, empty, sizeof sum);
}

static void test_what_is_no_digest(void **state)
{
    static const char *const rows[] = { "",
                                        "ba78",
                                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a",
                                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0",
                                        "ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a@" };
    uint8_t sum[FAE_SHA256_BYTES] = { 7 };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        assert_false(fae_sha256_from_hex(rows[i], sum));
    assert_int_equal(sum[0], 7);
}

static void test_equal_and_random(void **state)
{
    uint8_t a[32], b[32];

    (void)state;
    fae_random_bytes(a, sizeof a);
    memcpy(b, a, sizeof b);
    assert_true(fae_ct_equal(a, b, sizeof a));
    b[31] ^= 1;
    assert_false(fae_ct_equal(a, b, sizeof a));
    assert_true(fae_ct_equal(a, b, 0));
    fae_random_bytes(b, sizeof b);
    assert_false(fae_ct_equal(a, b, sizeof a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_md5_answers),
        cmocka_unit_test(test_what_is_no_digest),
        cmocka_unit_test(test_equal_and_random),
    };

    return cmocka_run_group_tests_name("net/digest", tests, NULL, NULL);
}
