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
        cmocka_unit_test(test_what_is_no_digest),
        cmocka_unit_test(test_equal_and_random),
    };

    return cmocka_run_group_tests_name("net/digest", tests, NULL, NULL);
}
