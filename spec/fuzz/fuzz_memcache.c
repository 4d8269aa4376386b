/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/memcache_answers: what a memcached sends in answer to gets, a set, a count and a delete. Cut anywhere, everybody who
 * asked is told the same as when it comes whole, once each, and a value has no more bytes than were allowed.
 */
#include "fuzz.h"

#include "backend/memcache_impl.h"
#include "backend/memcache_server.h"

#define CALLS 7u
#define VALUE_MAX 64u

static struct {
    struct fae_loop loop;
    struct fae_resolver *resolver;
    struct fae_upstreams *upstreams;
    struct fae_endpoint endpoint;
    struct fae_buf told; /* what everybody heard, in order */
    unsigned n_done[CALLS];
} t;

struct asked {
    struct fae_memcache_call call;
    unsigned id;
    char bytes[16];
};

static const struct {
    enum fae_memcache_op op;
    unsigned n_keys;
    const char *bytes;
    bool last;
} calls[CALLS] = {
    { FAE_MEMCACHE_GET, 1, " a", false },    { FAE_MEMCACHE_GET, 2, " b c", false },
    { FAE_MEMCACHE_GET, 1, " a", true },     { FAE_MEMCACHE_STORE, 0, "set", true },
    { FAE_MEMCACHE_COUNT, 0, "incr", true }, { FAE_MEMCACHE_DELETE, 0, "delete", true },
    { FAE_MEMCACHE_GET, 1, " d", true },
};

static void note(unsigned id, const struct fae_memcache_value *value)
{
    FAE_ASSERT(value->len <= VALUE_MAX);
    fae_buf_printf(&t.told, "%u %u %llu:", id, value->flags, (unsigned long long)value->cas);
    fae_buf_add(&t.told, value->bytes, value->len);
}

static void on_value(struct fae_memcache_call *call, unsigned key, const struct fae_memcache_value *value)
{
    FAE_ASSERT(key < call->n_keys);
    fae_buf_printf(&t.told, "key %u ", key);
    note(FAE_CONTAINER(call, struct asked, call)->id, value);
}

static void on_done(struct fae_memcache_call *call, const struct fae_memcache_answer *answer)
{
    unsigned id = FAE_CONTAINER(call, struct asked, call)->id;

    t.n_done[id]++;
    fae_buf_printf(&t.told, "done %u %u %d %llu;", id, answer->err, answer->yes, (unsigned long long)answer->number);
    if (answer->value.bytes)
        note(id, &answer->value);
}

static void set_up(void)
{
    unsigned n_workers = 1;
    char why[128];
    enum fae_err err;

    if (t.upstreams)
        return;
    err = fae_loop_init(&t.loop);
    FAE_ASSERT(err == FAE_OK);
    err = fae_endpoint_parse(&t.endpoint, "unix:/nowhere/memcached", why, sizeof why);
    FAE_ASSERT(err == FAE_OK);
    t.resolver = fae_resolver_new(&t.loop);
    t.upstreams = aligned_alloc(64, (fae_upstreams_size(&n_workers) + 63) / 64 * 64);
    memset(t.upstreams, 0, fae_upstreams_size(&n_workers));
    fae_upstreams_init(t.upstreams, &n_workers);
}

/* Everything was asked, and nothing answered yet. */
static struct fae_memcache_server *asked_all(void)
{
    struct fae_memcache_server_opts opts = { .loop = &t.loop,
                                             .resolver = t.resolver,
                                             .upstreams = t.upstreams,
                                             .pool = "fuzz",
                                             .endpoint = &t.endpoint,
                                             .connect_timeout_ms = 1000,
                                             .timeout_ms = 1000,
                                             .waiting_max = 100,
                                             .value_max = VALUE_MAX };
    struct fae_memcache_server *s = fae_memcache_server_new(&opts);

    s->state = FAE_MEMCACHE_OPEN;
    for (unsigned i = 0; i < CALLS; i++) {
        struct asked *a = fae_zalloc(sizeof *a);

        strcpy(a->bytes, calls[i].bytes);
        a->id = i;
        a->call = (struct fae_memcache_call){ .op = calls[i].op,
                                              .n_keys = calls[i].n_keys,
                                              .bytes = (const uint8_t *)a->bytes,
                                              .len = strlen(a->bytes),
                                              .value = on_value,
                                              .done = on_done,
                                              .sent = true,
                                              .on_wire = true,
                                              .last = calls[i].last };
        fae_list_add_tail(&s->asked, &a->call.node);
        s->n_calls++;
        s->n_live++;
        s->n_bytes += a->call.len;
    }
    return s;
}

/* Leaves what was told in t.told. */
static void tell(const uint8_t *bytes, size_t len, uint64_t *random)
{
    struct fae_memcache_server *s = asked_all();
    bool open = true;

    t.told.len = 0;
    memset(t.n_done, 0, sizeof t.n_done);
    while (open && len > 0) {
        size_t n = random ? fuzz_chunk(random, len) : len;

        fae_buf_add(&s->in, bytes, n);
        open = fae_memcache_run_input(s);
        bytes += n;
        len -= n;
    }
    fae_memcache_server_free(&s);
    for (unsigned i = 0; i < CALLS; i++)
        FAE_ASSERT(t.n_done[i] == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint64_t random = fuzz_hash(bytes, len);
    struct fae_buf whole = { 0 };

    set_up();
    tell(bytes, len, NULL);
    fae_buf_add(&whole, t.told.data, t.told.len);
    tell(bytes, len, &random);
    FAE_ASSERT(t.told.len == whole.len);
    FAE_ASSERT(whole.len == 0 || memcmp(t.told.data, whole.data, whole.len) == 0);
    fae_buf_fini(&whole);
    return 0;
}
