/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/selector: fae's ring by its vectors, jump hash by those that are published, {...} in keys, weights.
 */
#include "unit.h"

#include "backend/selector.h"

static const char *const three[] = { "10.0.0.1:9001", "10.0.0.2:9001", "10.0.0.3:9001" };

static unsigned pick(const struct fae_selector *s, const char *key)
{
    return fae_selector_pick(s, key, strlen(key));
}

/* Of user:0 to user:99999. */
static void shares(const struct fae_selector *s, unsigned *n_out)
{
    for (unsigned i = 0; i < 100000; i++) {
        char key[32];

        snprintf(key, sizeof key, "user:%u", i);
        n_out[pick(s, key)]++;
    }
}

static void ring_has_the_vectors_of_fae(void **state)
{
    struct fae_selector *s = fae_selector_new(FAE_SELECT_RING, three, 3);
    unsigned n[3] = { 0 };

    (void)state;
    assert_int_equal(pick(s, "hello"), 0);
    assert_int_equal(pick(s, "user:1"), 2);
    assert_int_equal(pick(s, "UserInfo:1"), 0);
    shares(s, n);
    assert_int_equal(n[0], 39420);
    assert_int_equal(n[1], 28611);
    assert_int_equal(n[2], 31969);
    fae_selector_free(&s);
    assert_null(s);
    fae_selector_free(&s);
}

static void servers_are_known_by_their_bare_names(void **state)
{
    static const char *const shown[] = { "tcp://10.0.0.1:9001", "tcp://10.0.0.2:9001", "tcp://10.0.0.3:9001" };
    struct fae_selector *a = fae_selector_new(FAE_SELECT_RING, three, 3);
    struct fae_selector *b = fae_selector_new(FAE_SELECT_RING, shown, 3);

    (void)state;
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(fae_selector_pick(a, &i, sizeof i), fae_selector_pick(b, &i, sizeof i));
    fae_selector_free(&a);
    fae_selector_free(&b);
}

static void order_of_servers_moves_no_key_of_a_ring(void **state)
{
    static const char *const turned[] = { "10.0.0.3:9001", "10.0.0.1:9001", "10.0.0.2:9001" };
    static const unsigned place[] = { 2, 0, 1 };
    struct fae_selector *a = fae_selector_new(FAE_SELECT_RING, three, 3);
    struct fae_selector *b = fae_selector_new(FAE_SELECT_RING, turned, 3);

    (void)state;
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(fae_selector_pick(a, &i, sizeof i), place[fae_selector_pick(b, &i, sizeof i)]);
    fae_selector_free(&a);
    fae_selector_free(&b);
}

static void server_that_goes_moves_only_its_keys(void **state)
{
    static const enum fae_select all[] = { FAE_SELECT_RING, FAE_SELECT_JUMP };

    (void)state;
    for (unsigned how = 0; how < UNIT_N(all); how++) {
        struct fae_selector *a = fae_selector_new(all[how], three, 3), *b = fae_selector_new(all[how], three, 2);

        for (unsigned i = 0; i < 10000; i++) {
            unsigned was = fae_selector_pick(a, &i, sizeof i), now = fae_selector_pick(b, &i, sizeof i);

            assert_true(was == 2 || was == now);
            assert_true(now < 2);
        }
        fae_selector_free(&a);
        fae_selector_free(&b);
    }
}

static void server_named_twice_counts_as_the_later(void **state)
{
    static const char *const twice[] = { "10.0.0.1:9001", "10.0.0.1:9001" };
    struct fae_selector *s = fae_selector_new(FAE_SELECT_RING, twice, 2);

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(fae_selector_pick(s, &i, sizeof i), 1);
    fae_selector_free(&s);
}

/* Of the paper's text and of the implementations that followed it. */
static void jump_has_the_published_vectors(void **state)
{
    static const struct {
        uint64_t hash;
        uint32_t n, want;
    } rows[] = {
        { 1, 1, 0 }, { 42, 57, 43 }, { 0xdead10cc, 1, 0 }, { 0xdead10cc, 666, 361 }, { 2, 60, 46 }, { 256, 1024, 520 },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        assert_int_equal(fae_selector_jump(rows[i].hash, rows[i].n), rows[i].want);
}

static void jump_gives_even_shares(void **state)
{
    struct fae_selector *s = fae_selector_new(FAE_SELECT_JUMP, three, 3);
    unsigned n[3] = { 0 };

    (void)state;
    shares(s, n);
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(n[i], 32900, 33800);
    fae_selector_free(&s);
}

static void weight_brings_keys(void **state)
{
    static const char *const heavy[] = { "10.0.0.1:9001", "10.0.0.2:9001*3" };
    static const enum fae_select all[] = { FAE_SELECT_RING, FAE_SELECT_JUMP };

    (void)state;
    for (unsigned how = 0; how < UNIT_N(all); how++) {
        struct fae_selector *s = fae_selector_new(all[how], heavy, 2);
        unsigned n[2] = { 0 };

        shares(s, n);
        assert_in_range(n[1], 65000, 85000);
        fae_selector_free(&s);
    }
}

static void keys_with_one_tag_lie_together(void **state)
{
    static const enum fae_select all[] = { FAE_SELECT_RING, FAE_SELECT_JUMP };

    (void)state;
    for (unsigned how = 0; how < UNIT_N(all); how++) {
        struct fae_selector *s = fae_selector_new(all[how], three, 3);
        unsigned n_apart = 0;

        for (unsigned i = 0; i < 1000; i++) {
            char tagged[64], other[64], plain[32];

            snprintf(plain, sizeof plain, "user:%u", i);
            snprintf(tagged, sizeof tagged, "cart:{%s}:x", plain);
            snprintf(other, sizeof other, "{%s}{y}", plain);
            assert_int_equal(pick(s, tagged), pick(s, plain));
            assert_int_equal(pick(s, other), pick(s, plain));
            snprintf(other, sizeof other, "{}%s", plain);
            n_apart += pick(s, other) != pick(s, plain);
        }
        assert_true(n_apart > 0);
        fae_selector_free(&s);
    }
}

static void any_bytes_are_a_key(void **state)
{
    struct fae_selector *s = fae_selector_new(FAE_SELECT_RING, three, 3);

    (void)state;
    assert_true(fae_selector_pick(s, "", 0) < 3);
    assert_true(fae_selector_pick(s, "\0\xff{", 3) < 3);
    fae_selector_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_has_the_vectors_of_fae),
        cmocka_unit_test(servers_are_known_by_their_bare_names),
        cmocka_unit_test(order_of_servers_moves_no_key_of_a_ring),
        cmocka_unit_test(server_that_goes_moves_only_its_keys),
        cmocka_unit_test(server_named_twice_counts_as_the_later),
        cmocka_unit_test(jump_has_the_published_vectors),
        cmocka_unit_test(jump_gives_even_shares),
        cmocka_unit_test(weight_brings_keys),
        cmocka_unit_test(keys_with_one_tag_lie_together),
        cmocka_unit_test(any_bytes_are_a_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
