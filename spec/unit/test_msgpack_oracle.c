/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/msgpack against msgpack-c, on random values and random bytes.
 */
#include "unit_msgpack.h"

#include <float.h>
#include <math.h>
#include <msgpack.h>

struct pair {
    struct fae_buf ours;
    msgpack_sbuffer theirs;
    msgpack_packer packer;
    uint64_t seed;
};

static size_t random_len(struct pair *p)
{
    static const size_t edges[] = { 0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 256, 257, 65535, 65536 };
    uint64_t r = unit_random(&p->seed);

    return r % 4 ? r / 4 % 40 : edges[r / 4 % (r / 4 % 50 ? UNIT_N(edges) - 2 : UNIT_N(edges))];
}

static void random_body(struct pair *p, unsigned kind)
{
    static char bytes[65536];
    size_t len = random_len(p);
    int8_t type = (int8_t)unit_random(&p->seed);

    memset(bytes, (int)unit_random(&p->seed), len);
    switch (kind) {
    case 0:
        fae_mp_str(&p->ours, bytes, len);
        msgpack_pack_str(&p->packer, len);
        msgpack_pack_str_body(&p->packer, bytes, len);
        break;
    case 1:
        fae_mp_bin(&p->ours, bytes, len);
        msgpack_pack_bin(&p->packer, len);
        msgpack_pack_bin_body(&p->packer, bytes, len);
        break;
    default:
        fae_mp_ext(&p->ours, type, bytes, len);
        msgpack_pack_ext(&p->packer, len, type);
        msgpack_pack_ext_body(&p->packer, bytes, len);
    }
}

static void random_number(struct pair *p, unsigned kind)
{
    uint64_t v = unit_random(&p->seed) >> (unit_random(&p->seed) % 64);
    double d;

    if (unit_random(&p->seed) % 4 == 0)
        v = (1ull << (unit_random(&p->seed) % 64)) - unit_random(&p->seed) % 3; /* around the edges */
    memcpy(&d, &v, sizeof d);
    switch (kind) {
    case 0:
        fae_mp_uint(&p->ours, v);
        msgpack_pack_uint64(&p->packer, v);
        break;
    case 1:
        fae_mp_int(&p->ours, (int64_t)v);
        msgpack_pack_int64(&p->packer, (int64_t)v);
        break;
    case 2:
        fae_mp_int(&p->ours, -(int64_t)(v >> 1));
        msgpack_pack_int64(&p->packer, -(int64_t)(v >> 1));
        break;
    default: fae_mp_float(&p->ours, d); msgpack_pack_double(&p->packer, d);
    }
}

static void random_value(struct pair *p, unsigned depth)
{
    uint64_t kind = unit_random(&p->seed) % (depth < 6 ? 13 : 10), n;

    switch (kind) {
    case 0:
        fae_mp_nil(&p->ours);
        msgpack_pack_nil(&p->packer);
        break;
    case 1:
        fae_mp_bool(&p->ours, true);
        msgpack_pack_true(&p->packer);
        break;
    case 2:
        fae_mp_bool(&p->ours, false);
        msgpack_pack_false(&p->packer);
        break;
    case 3:
    case 4:
    case 5: random_body(p, (unsigned)kind - 3); break;
    case 6:
    case 7:
    case 8:
    case 9: random_number(p, (unsigned)kind - 6); break;
    default:
        n = unit_random(&p->seed) % (depth < 2 ? 20 : 4);
        if (kind == 10) {
            fae_mp_map(&p->ours, (uint32_t)n);
            msgpack_pack_map(&p->packer, n);
            n *= 2;
        } else {
            fae_mp_array(&p->ours, (uint32_t)n);
            msgpack_pack_array(&p->packer, n);
        }
        while (n--)
            random_value(p, depth + 1);
    }
}

static void same_body(const struct fae_mp_token *t, enum fae_mp_type type, const char *bytes, uint32_t len)
{
    assert_int_equal(t->type, type);
    assert_int_equal(t->len, len);
    assert_memory_equal(t->bytes, bytes, len);
}

/* Reads the value at p and compares it with theirs; returns its end. */
static const uint8_t *same(const uint8_t *p, const msgpack_object *o)
{
    const uint8_t *end = fae_mp_skip(p);
    struct fae_mp_token t;
    double d;

    p = fae_mp_read(p, &t);
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: assert_int_equal(t.type, FAE_MP_NIL); break;
    case MSGPACK_OBJECT_BOOLEAN:
        assert_int_equal(t.type, FAE_MP_BOOL);
        assert_int_equal(t.flag, o->via.boolean);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        assert_int_equal(t.type, FAE_MP_UINT);
        assert_true(t.u == o->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        assert_int_equal(t.type, FAE_MP_INT);
        assert_true(t.i == o->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        assert_int_equal(t.type, FAE_MP_FLOAT);
        d = o->via.f64;
        assert_true(t.f == d || (isnan(t.f) && isnan(d)));
        break;
    case MSGPACK_OBJECT_STR: same_body(&t, FAE_MP_STR, o->via.str.ptr, o->via.str.size); break;
    case MSGPACK_OBJECT_BIN: same_body(&t, FAE_MP_BIN, o->via.bin.ptr, o->via.bin.size); break;
    case MSGPACK_OBJECT_EXT:
        same_body(&t, FAE_MP_EXT, o->via.ext.ptr, o->via.ext.size);
        assert_int_equal(t.ext, o->via.ext.type);
        break;
    case MSGPACK_OBJECT_ARRAY:
        assert_int_equal(t.type, FAE_MP_ARRAY);
        assert_int_equal(t.len, o->via.array.size);
        for (uint32_t i = 0; i < t.len; i++)
            p = same(p, &o->via.array.ptr[i]);
        break;
    case MSGPACK_OBJECT_MAP:
        assert_int_equal(t.type, FAE_MP_MAP);
        assert_int_equal(t.len, o->via.map.size);
        for (uint32_t i = 0; i < t.len; i++) {
            p = same(p, &o->via.map.ptr[i].key);
            p = same(p, &o->via.map.ptr[i].val);
        }
        break;
    }
    assert_ptr_equal(p, end);
    return p;
}

static void random_values_are_written_and_read_as_msgpack_c_does(void **state)
{
    struct pair p = { .seed = 0x9e3779b97f4a7c15 };

    (void)state;
    msgpack_sbuffer_init(&p.theirs);
    msgpack_packer_init(&p.packer, &p.theirs, msgpack_sbuffer_write);
    for (unsigned i = 0; i < 20000; i++) {
        msgpack_unpacked theirs;
        size_t pos, off = 0;

        p.ours.len = 0;
        msgpack_sbuffer_clear(&p.theirs);
        random_value(&p, 0);
        assert_int_equal(p.ours.len, p.theirs.size);
        assert_memory_equal(p.ours.data, p.theirs.data, p.theirs.size);
        assert_int_equal(scan_whole(p.ours.data, p.ours.len, 64u << 20, &pos), FAE_OK);
        assert_int_equal(pos, p.ours.len);
        msgpack_unpacked_init(&theirs);
        assert_int_equal(msgpack_unpack_next(&theirs, p.theirs.data, p.theirs.size, &off), MSGPACK_UNPACK_SUCCESS);
        assert_ptr_equal(same(p.ours.data, &theirs.data), p.ours.data + p.ours.len);
        msgpack_unpacked_destroy(&theirs);
        if (p.ours.len < 60)
            scan_in_pieces(p.ours.data, p.ours.len, 64u << 20, FAE_OK, p.ours.len);
    }
    msgpack_sbuffer_destroy(&p.theirs);
    fae_buf_fini(&p.ours);
}

/* Bytes that nobody wrote on purpose: all forms of a number, cut values, nonsense. */
static void random_bytes_are_judged_as_msgpack_c_does(void **state)
{
    unsigned n[3] = { 0 };
    uint64_t seed = 42;

    (void)state;
    for (unsigned i = 0; i < 60000; i++) {
        uint8_t bytes[24];
        size_t len = unit_random(&seed) % (sizeof bytes + 1), pos, off = 0;
        msgpack_unpacked theirs;
        enum fae_err err;

        for (size_t b = 0; b < len; b++) {
            uint64_t r = unit_random(&seed);

            /* Mostly heads of small things, so that values become whole. */
            bytes[b] = (uint8_t)(r % 3 ? r / 3 : r % 2 ? 0xc0 + r / 6 % 32 : r / 6 % 4);
        }
        if (len && i % 2) /* and often several of them */
            bytes[0] = (uint8_t)(0x92 + i / 2 % 5);
        err = scan_whole(bytes, len, 1000, &pos);
        if (err == FAE_LIMIT) /* msgpack-c would ask for the memory */
            continue;
        msgpack_unpacked_init(&theirs);
        switch (msgpack_unpack_next(&theirs, (const char *)bytes, len, &off)) {
        case MSGPACK_UNPACK_SUCCESS:
            assert_int_equal(err, FAE_OK);
            assert_int_equal(pos, off);
            assert_ptr_equal(same(bytes, &theirs.data), bytes + pos);
            n[0]++;
            break;
        case MSGPACK_UNPACK_CONTINUE:
            assert_int_equal(err, FAE_MORE);
            n[1]++;
            break;
        case MSGPACK_UNPACK_PARSE_ERROR:
            assert_int_equal(err, FAE_BAD_MESSAGE);
            n[2]++;
            break;
        default: fail();
        }
        msgpack_unpacked_destroy(&theirs);
        scan_in_pieces(bytes, len, 1000, err, pos);
    }
    for (unsigned i = 0; i < UNIT_N(n); i++)
        assert_true(n[i] > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_values_are_written_and_read_as_msgpack_c_does),
        cmocka_unit_test(random_bytes_are_judged_as_msgpack_c_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
