/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/slowlog: what an entry says, how arguments are cut and masked, and that readers only ever see whole entries while
 * many write, some are killed in the middle and some are stopped there and go on later.
 */
#include "unit.h"

#include <jansson.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "rpc/slowlog.h"
#include "wire/msgpack.h"

#define N_CELLS 16
#define WRITERS 3

static struct fae_config config;
static struct fae_slowlog *slow;
static size_t slow_size;

static int set_up(void **state)
{
    (void)state;
    fae_config_init(&config);
    config.slowlog_size = N_CELLS;
    slow_size = fae_slowlog_size(&config);
    slow = mmap(NULL, slow_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (slow == MAP_FAILED)
        return -1;
    fae_slowlog_init(slow, &config);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(slow, slow_size);
}

static struct fae_slow_call call_of(const char *method, uint64_t total_us)
{
    return (struct fae_slow_call){ .at_ms = 1700000000123,
                                   .slot = 3,
                                   .generation = 4,
                                   .total_us = total_us,
                                   .method = method,
                                   .code = "",
                                   .peer = "unix:",
                                   .rid = "",
                                   .reason = "",
                                   .uid = "" };
}

static void add(const struct fae_slow_call *call)
{
    fae_slowlog_add(slow, call, config.secrets, config.slowlog_args);
}

/* The lines as one array. */
static json_t *read_all(unsigned n)
{
    struct fae_buf buf = { 0 };
    unsigned n_put = fae_slowlog_json(slow, n, &buf), n_lines = 0;
    json_t *all = json_array();

    for (char *line = (char *)buf.data, *end; n_lines < n_put; line = end + 1, n_lines++) {
        end = memchr(line, '\n', (size_t)((char *)buf.data + buf.len - line));
        assert_non_null(end);
        json_array_append_new(all, json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL));
    }
    assert_int_equal(json_array_size(all), n_put);
    fae_buf_fini(&buf);
    return all;
}

static const char *text(const json_t *entry, const char *key)
{
    return json_string_value(json_object_get(entry, key));
}

static double number(const json_t *entry, const char *key)
{
    assert_true(json_is_number(json_object_get(entry, key)));
    return json_number_value(json_object_get(entry, key));
}

static void an_entry_says_everything(void **state)
{
    struct fae_slow_call call = call_of("shop.buy", 1500250);
    struct fae_buf params = { 0 };
    json_t *all, *e;

    (void)state;
    fae_mp_array(&params, 2);
    fae_mp_uint(&params, 7);
    FAE_MP_TEXT(&params, "x\"y");
    call.queue_us = 250;
    call.run_us = 500000;
    call.code = "TIMEOUT";
    call.peer = "tcp://10.0.0.7:40312";
    call.rid = "r-1";
    call.reason = "page";
    call.uid = "42";
    call.sampled = true;
    call.params = params.data;
    call.params_len = params.len;
    add(&call);
    all = read_all(10);
    assert_int_equal(json_array_size(all), 1);
    e = json_array_get(all, 0);
    assert_string_equal(text(e, "method"), "shop.buy");
    assert_string_equal(text(e, "code"), "TIMEOUT");
    assert_string_equal(text(e, "peer"), "tcp://10.0.0.7:40312");
    assert_string_equal(text(e, "rid"), "r-1");
    assert_string_equal(text(e, "reason"), "page");
    assert_string_equal(text(e, "uid"), "42");
    assert_string_equal(text(e, "args"), "[7,\"x\\\"y\"]");
    assert_true(number(e, "at_ms") == 1700000000123.0);
    assert_true(number(e, "total_ms") == 1500.25);
    assert_true(number(e, "queue_ms") == 0.25);
    assert_true(number(e, "run_ms") == 500);
    assert_true(number(e, "wait_ms") == 1000);
    assert_true(number(e, "worker") == 3);
    assert_true(number(e, "generation") == 4);
    assert_true(json_is_true(json_object_get(e, "sampled")));
    json_decref(all);
    fae_buf_fini(&params);
}

static void what_is_unknown_is_left_out(void **state)
{
    struct fae_slow_call call = call_of("a.b", 10);
    json_t *all, *e;

    (void)state;
    call.run_us = 30; /* rounding may make it more than the whole */
    add(&call);
    all = read_all(1);
    e = json_array_get(all, 0);
    assert_null(json_object_get(e, "code"));
    assert_null(json_object_get(e, "rid"));
    assert_null(json_object_get(e, "args"));
    assert_true(number(e, "wait_ms") == 0);
    assert_true(json_is_false(json_object_get(e, "sampled")));
    json_decref(all);
}

static void the_newest_come_first_and_the_oldest_go(void **state)
{
    char name[16];
    json_t *all;

    (void)state;
    for (unsigned i = 0; i < N_CELLS * 2 + 5; i++) {
        struct fae_slow_call call = call_of(name, i);

        snprintf(name, sizeof name, "m.%u", i);
        add(&call);
    }
    assert_int_equal(fae_slowlog_total(slow), N_CELLS * 2 + 5);
    all = read_all(1000);
    assert_int_equal(json_array_size(all), N_CELLS);
    assert_string_equal(text(json_array_get(all, 0), "method"), "m.36");
    assert_string_equal(text(json_array_get(all, N_CELLS - 1), "method"), "m.21");
    json_decref(all);
    all = read_all(2);
    assert_int_equal(json_array_size(all), 2);
    assert_string_equal(text(json_array_get(all, 1), "method"), "m.35");
    json_decref(all);
}

static void cleared_is_forgotten(void **state)
{
    struct fae_slow_call call = call_of("old.one", 1);
    json_t *all;

    (void)state;
    add(&call);
    fae_slowlog_clear(slow);
    all = read_all(10);
    assert_int_equal(json_array_size(all), 0);
    json_decref(all);
    call.method = "new.one";
    add(&call);
    all = read_all(10);
    assert_int_equal(json_array_size(all), 1);
    assert_string_equal(text(json_array_get(all, 0), "method"), "new.one");
    assert_int_equal(fae_slowlog_total(slow), 2);
    json_decref(all);
}

static void long_texts_are_cut(void **state)
{
    char name[1000];
    struct fae_slow_call call = call_of(name, 1);
    struct fae_buf params = { 0 };
    json_t *all;

    (void)state;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    fae_mp_array(&params, 1);
    fae_mp_str(&params, name, sizeof name - 1);
    call.code = call.peer = call.rid = call.reason = call.uid = name;
    call.params = params.data;
    call.params_len = params.len;
    config.slowlog_args = FAE_SLOWLOG_ARGS_MAX;
    add(&call);
    all = read_all(1);
    assert_int_equal(json_array_size(all), 1);
    assert_int_equal(strlen(text(json_array_get(all, 0), "method")), FAE_SLOWLOG_TEXT - 1);
    assert_int_equal(strlen(text(json_array_get(all, 0), "uid")), FAE_SLOWLOG_TEXT - 1);
    assert_int_equal(strlen(text(json_array_get(all, 0), "args")), 1 + 1 + 999 + 1 + 1);
    json_decref(all);
    fae_buf_fini(&params);
}

/* A writer that was stopped in a cell goes on after another had it. */
static void what_two_wrote_is_not_shown(void **state)
{
    struct fae_slow_call first = call_of("first.one", 1), second = call_of("second.one", 2);
    char *at;
    json_t *all;

    (void)state;
    add(&first);
    add(&second);
    at = memmem(slow, slow_size, "second.one", 10);
    assert_non_null(at);
    *at = 'f';
    all = read_all(10);
    assert_int_equal(json_array_size(all), 1);
    assert_string_equal(text(json_array_get(all, 0), "method"), "first.one");
    json_decref(all);
}

/* ---- arguments ---- */

static const struct {
    const char *bytes;
    size_t len, max;
    const char *want;
} rows[] = {
#define ROW(bytes, max, want)                                                                                          \
    {                                                                                                                  \
        bytes, sizeof(bytes) - 1, max, want                                                                            \
    }
    ROW("\x90", 100, "[]"),
    ROW("\x93\xc0\xc2\xc3", 100, "[null,false,true]"),
    ROW("\x93\x07\xff\xcd\x01\x00", 100, "[7,-1,256]"),
    ROW("\x91\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", 100, "[1.5]"),
    ROW("\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", 100, "[null]"),
    ROW("\x91\xc4\x02\xff\xfe", 100, "[\"<2 bytes>\"]"),
    ROW("\x91\xc7\x03\x05"
        "abc",
        100, "[\"<ext 3 bytes>\"]"),
    ROW("\x91\xa2\x01\"", 100, "[\"\\u0001\\\"\"]"),
    ROW("\x91\x82\x01\xa1"
        "a\xa1"
        "b\x90",
        100, "[{1:\"a\",\"b\":[]}]"),
    /* masked, in any case, at any depth, whatever the value is */
    ROW("\x91\x82\xa8"
        "password\xa3"
        "abc\xa1"
        "x\x01",
        100, "[{\"password\":\"***\",\"x\":1}]"),
    ROW("\x91\x81\xa5"
        "ToKeN\x93\x01\x02\x81\xa1"
        "a\xa1"
        "b",
        100, "[{\"ToKeN\":\"***\"}]"),
    ROW("\x91\x81\xa1"
        "a\x91\x81\xa3"
        "pwd\xc0",
        100, "[{\"a\":[{\"pwd\":\"***\"}]}]"),
    ROW("\x91\x81\xc4\x04"
        "auth\xa3"
        "abc",
        100, "[{\"auth\":\"***\"}]"),
    ROW("\x92\x81\xa6"
        "secret\x81\xa1"
        "k\xa6"
        "canary\x05",
        100, "[{\"secret\":\"***\"},5]"),
    ROW("\x91\x81\xa9"
        "passwords\xa3"
        "abc",
        100, "[{\"passwords\":\"abc\"}]"),
    ROW("\x91\xa3\xc3\xa9\xc3", 100, "[\"<3 bytes>\"]"),
    /* bytes that end in the middle */
    ROW("", 100, "..."),
    ROW("\x93\x01", 100, "[1,..."),
    ROW("\x91\xcd\x01", 100, "[..."),
    ROW("\x91\xd9", 100, "[..."),
    ROW("\x91\xa9"
        "abc",
        100, "[\"abc\"..."),
    ROW("\x91\xc5\x01\x00"
        "abc",
        100, "[\"abc\"..."),
    ROW("\x91\x81\xa8"
        "password\xa3"
        "ab",
        100, "[{\"password\":\"***\"..."),
    ROW("\x91\x81\xa8"
        "password\x92\x01",
        100, "[{\"password\":\"***\"..."),
    ROW("\x91\x81\xa8"
        "passwo",
        100, "[{\"passwo\"..."),
    ROW("\x91\xa4\xc3\xa9\xc3", 100, "[\"\xc3\xa9\"..."),
    ROW("\x91\xdd\xff\xff\xff\xff\x01", 100, "[[1,..."),
    ROW("\x91\xdf\xff\xff\xff\xff\x01", 100, "[{1:..."),
    ROW("\x91\xc1", 100, "[..."),
    /* no room */
    ROW("\x93\x01\x02\x03", 7, "[1,2,3]"),
    ROW("\x93\x01\x02\x03", 6, "[1,..."),
    ROW("\x91\xaa"
        "0123456789",
        8, "[\"012..."),
    ROW("\x91\xa8\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 8, "[\"\xc3\xa9..."),
    ROW("\x91\x01", 2, ".."),
    ROW("\x91\x01", 0, ""),
};

static void arguments_are_shown_masked_and_cut(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_buf out = { 0 };
        uint8_t *bytes = malloc(rows[i].len + 1); /* of their own, so that a sanitizer sees who reads beyond */

        assert_non_null(bytes);
        memcpy(bytes, rows[i].bytes, rows[i].len);
        bytes = realloc(bytes, rows[i].len ? rows[i].len : 1);
        fae_buf_add(&out, "kept:", 5);
        fae_slowlog_args(bytes, rows[i].len, config.secrets, rows[i].max, &out);
        assert_true(out.len <= 5 + rows[i].max);
        assert_string_equal(fae_buf_text(&out) + 5, rows[i].want);
        free(bytes);
        fae_buf_fini(&out);
    }
}

/* Whatever the bytes, nothing is read beyond them, the room is kept, and the text is text. */
static void any_bytes_are_survived(void **state)
{
    static const uint8_t heads[] = { 0x81, 0x92, 0xa3, 0xc4, 0xc7, 0xcb, 0xd4, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf };
    uint64_t random = 7;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        size_t len = unit_random(&random) % 40, max = unit_random(&random) % 60;
        uint8_t *bytes = malloc(len ? len : 1);
        struct fae_buf out = { 0 };
        char *quoted;
        json_t *j;

        assert_non_null(bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] =
                unit_random(&random) % 3 ? heads[unit_random(&random) % sizeof heads] : (uint8_t)unit_random(&random);
        fae_slowlog_args(bytes, len, config.secrets, max, &out);
        assert_true(out.len <= max);
        j = json_stringn((const char *)out.data, out.len); /* NULL when it is not UTF-8 */
        assert_true(j || out.len == 0);
        quoted = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
        free(quoted);
        json_decref(j);
        fae_buf_fini(&out);
        free(bytes);
    }
}

static void deep_arguments_end_somewhere(void **state)
{
    uint8_t bytes[500];
    struct fae_buf out = { 0 };

    (void)state;
    memset(bytes, 0x91, sizeof bytes);
    fae_slowlog_args(bytes, sizeof bytes, config.secrets, 1000, &out);
    assert_int_equal(out.len, FAE_DEPTH_MAX + 3);
    fae_buf_fini(&out);
}

static void no_words_mask_nothing(void **state)
{
    struct fae_buf out = { 0 };

    (void)state;
    fae_slowlog_args((const uint8_t *)"\x91\x82\xa3"
                                      "pwd\x01\xa0\x02",
                     9, "", 100, &out);
    assert_string_equal(fae_buf_text(&out), "[{\"pwd\":1,\"\":2}]");
    fae_buf_fini(&out);
}

/* ---- under load ---- */

/* Every text of an entry says the same number, so that a mixture shows. */
static int write_on(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg * 77 + 1;
    char name[100];

    for (unsigned i = 0;; i++) {
        uint64_t n = unit_random(&random) % 1000000;
        struct fae_slow_call call = call_of(name, n);

        memset(name, '-', sizeof name);
        snprintf(name, sizeof name, "%07llu", (unsigned long long)n);
        name[7] = '-';
        name[8 + unit_random(&random) % 90] = '\0';
        call.code = call.peer = call.rid = call.reason = call.uid = name;
        add(&call);
        if (i % 64 == 0)
            unit_sleep_ms(1); /* or no entry would stay long enough to be read */
    }
    return 0;
}

static unsigned check_entries(void)
{
    json_t *all = read_all(N_CELLS);
    unsigned n = (unsigned)json_array_size(all);
    uint64_t before = UINT64_MAX;

    for (unsigned i = 0; i < n; i++) {
        json_t *e = json_array_get(all, i);
        unsigned long us = (unsigned long)(number(e, "total_ms") * 1000 + 0.5);
        uint64_t id = (uint64_t)number(e, "id");

        assert_true(id < before);
        before = id;
        assert_int_equal(strtoul(text(e, "method"), NULL, 10), us);
        assert_string_equal(text(e, "method"), text(e, "uid"));
        assert_string_equal(text(e, "method"), text(e, "rid"));
    }
    json_decref(all);
    return n;
}

/* Writers are killed, or stopped and started again, wherever they are; a reader looks on. */
static void readers_get_whole_entries_only(void **state)
{
    unsigned rounds = getenv("FAE_LONG") ? 2000 : 60, n_seen = 0;
    uint64_t random = 99;
    pid_t pids[WRITERS];

    (void)state;
    for (unsigned i = 0; i < WRITERS; i++)
        pids[i] = unit_fork(write_on, (void *)(uintptr_t)(i + 1));
    for (unsigned round = 0; round < rounds; round++) {
        unsigned who = (unsigned)(unit_random(&random) % WRITERS);

        if (round % 3 == 0) {
            kill(pids[who], SIGKILL);
            assert_int_equal(unit_wait(pids[who]), -SIGKILL);
            pids[who] = unit_fork(write_on, (void *)(uintptr_t)(round + 10));
        } else {
            kill(pids[who], SIGSTOP);
            for (unsigned i = 0; i < 3; i++)
                n_seen += check_entries();
            kill(pids[who], SIGCONT);
        }
        for (unsigned i = 0; i < 3; i++)
            n_seen += check_entries();
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        kill(pids[i], SIGKILL);
        unit_wait(pids[i]);
    }
    assert_true(n_seen > 0);
    /* Whatever they left half-done is written over. */
    for (unsigned i = 0; i < N_CELLS; i++) {
        struct fae_slow_call call = call_of("0000001", 1);

        call.code = call.peer = call.rid = call.reason = call.uid = call.method;
        add(&call);
    }
    assert_int_equal(check_entries(), N_CELLS);
}

#define WITH_LOG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LOG(an_entry_says_everything),
        WITH_LOG(what_is_unknown_is_left_out),
        WITH_LOG(the_newest_come_first_and_the_oldest_go),
        WITH_LOG(cleared_is_forgotten),
        WITH_LOG(long_texts_are_cut),
        WITH_LOG(what_two_wrote_is_not_shown),
        WITH_LOG(arguments_are_shown_masked_and_cut),
        WITH_LOG(any_bytes_are_survived),
        WITH_LOG(deep_arguments_end_somewhere),
        WITH_LOG(no_words_mask_nothing),
        WITH_LOG(readers_get_whole_entries_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
