/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/log: a line is one line, valid as logfmt and as JSON, whatever is put into it.
 */
#include "unit.h"

#include <jansson.h>
#include <pthread.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

static int pipe_fds[2];
static const unsigned n_workers = 2;

static int set_up(void **state)
{
    (void)state;
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_INFO }, "worker-0");
    fae_log_to_fd(pipe_fds[1]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_log_to_fd(STDERR_FILENO);
    return close(pipe_fds[0]) | close(pipe_fds[1]);
}

static void use_json(void)
{
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_INFO, .json = true }, "ops");
}

/* What was written since, as one read brings it; "" when nothing. */
static const char *written(void)
{
    static char text[70000];
    ssize_t n = read(pipe_fds[0], text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* The part after pid=N. */
static const char *after_pid(const char *line)
{
    char pid[32];
    const char *at;

    snprintf(pid, sizeof pid, " pid=%d ", (int)getpid());
    at = strstr(line, pid);
    assert_non_null(at);
    return at + strlen(pid);
}

static void a_line_says_when_who_and_what(void **state)
{
    unsigned year, month, day, hour, minute, second, ms;
    uint64_t now = fae_wall_ms(), at;
    const char *line;
    struct tm tm = { 0 };
    int end = 0;

    (void)state;
    fae_log(FAE_LOG_WARN, "upstream %s: %d in a row", "redis-a", 3);
    line = written();
    assert_int_equal(
        sscanf(line, "ts=%4u-%2u-%2uT%2u:%2u:%2u.%3uZ %n", &year, &month, &day, &hour, &minute, &second, &ms, &end), 7);
    assert_int_equal(end, strlen("ts=2026-11-22T20:06:47.123Z "));
    tm.tm_year = (int)year - 1900, tm.tm_mon = (int)month - 1, tm.tm_mday = (int)day;
    tm.tm_hour = (int)hour, tm.tm_min = (int)minute, tm.tm_sec = (int)second;
    at = (uint64_t)timegm(&tm) * 1000 + ms;
    assert_true(at + 1 >= now);
    assert_true(at - now < 10000);
    assert_int_equal(strncmp(line + end, "level=warn proc=worker-0 pid=", 29), 0);
    assert_string_equal(after_pid(line), "msg=\"upstream redis-a: 3 in a row\"\n");
}

static void logfmt_quotes_what_needs_it(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        const char *want;
    } rows[] = {
        { "plain", 5, "plain" },
        { "a/b:c,d", 7, "a/b:c,d" },
        { "gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f" },
        { "", 0, "\"\"" },
        { "a b", 3, "\"a b\"" },
        { "a=b", 3, "\"a=b\"" },
        { "a\"b", 3, "\"a\\\"b\"" },
        { "a\\b", 3, "\"a\\\\b\"" },
        { "a\nb\rc\td", 7, "\"a\\nb\\rc\\td\"" },
        { "\x1b[31m", 5, "\"\\u001b[31m\"" },
        { "\0", 1, "\"\\u0000\"" },
        { "\x7f", 1, "\"\\u007f\"" },
        { "\xc2\x9b", 2, "\"\\u009b\"" },
        { "\xc2\xa0", 2, "\xc2\xa0" },
        { "\xff", 1, "\"\xef\xbf\xbd\"" },
        { "x\xc2", 2, "\"x\xef\xbf\xbd\"" },
        { "\nts=1 level=error msg=forged", 28, "\"\\nts=1 level=error msg=forged\"" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        const struct fae_log_field field = { "k", rows[i].text, rows[i].len };
        char want[100];

        fae_log_fields(FAE_LOG_INFO, "m", 1, &field, 1);
        snprintf(want, sizeof want, "msg=m k=%s\n", rows[i].want);
        assert_string_equal(after_pid(written()), want);
        fae_log_fields(FAE_LOG_INFO, rows[i].text, rows[i].len, NULL, 0);
        snprintf(want, sizeof want, "msg=%s\n", rows[i].want);
        assert_string_equal(after_pid(written()), want);
    }
}

static void a_key_is_a_bare_word(void **state)
{
    const struct fae_log_field fields[] = { { "a b=\"c\"\n\xc3\xa4", "1", 1 }, { "", "2", 1 }, { "ok_1", "3", 1 } };

    (void)state;
    fae_log_fields(FAE_LOG_INFO, "m", 1, fields, 3);
    assert_string_equal(after_pid(written()), "msg=m a_b__c____=1 _=2 ok_1=3\n");
}

static json_t *parsed(void)
{
    const char *line = written();
    json_t *j = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);

    assert_non_null(j);
    assert_int_equal(line[strlen(line) - 1], '\n');
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    return j;
}

static void json_lines_parse_back(void **state)
{
    static const char odd[] = "a \"q\" \\ \n \x1b \x7f \xc3\xa4 \0 end";
    const struct fae_log_field fields[] = { { "k\"1\n", odd, sizeof odd - 1 },
                                            { "bad", "\xff", 1 },
                                            { "none", "", 0 } };
    json_t *j;

    (void)state;
    use_json();
    fae_log_fields(FAE_LOG_ERROR, "it broke", 8, fields, 3);
    j = parsed();
    assert_int_equal(json_object_size(j), 8);
    assert_string_equal(json_string_value(json_object_get(j, "level")), "error");
    assert_string_equal(json_string_value(json_object_get(j, "proc")), "ops");
    assert_int_equal(json_integer_value(json_object_get(j, "pid")), getpid());
    assert_string_equal(json_string_value(json_object_get(j, "msg")), "it broke");
    assert_int_equal(json_string_length(json_object_get(j, "k\"1\n")), sizeof odd - 1);
    assert_memory_equal(json_string_value(json_object_get(j, "k\"1\n")), odd, sizeof odd - 1);
    assert_string_equal(json_string_value(json_object_get(j, "bad")), "\xef\xbf\xbd");
    assert_string_equal(json_string_value(json_object_get(j, "none")), "");
    assert_int_equal(strlen(json_string_value(json_object_get(j, "ts"))), 24);
    json_decref(j);
}

static void levels_below_are_silent(void **state)
{
    (void)state;
    assert_false(fae_log_on(FAE_LOG_DEBUG));
    assert_true(fae_log_on(FAE_LOG_INFO));
    FAE_DEBUG("not this");
    fae_log(FAE_LOG_DEBUG, "nor this");
    fae_log_fields(FAE_LOG_DEBUG, "nor this", 8, NULL, 0);
    assert_string_equal(written(), "");
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "x");
    FAE_WARN("nor this");
    FAE_ERROR("this");
    assert_string_equal(after_pid(written()), "msg=this\n");
}

static void check_cut_json(const char *line)
{
    json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    const char *last;

    assert_non_null(j);
    last = json_string_value(json_object_get(j, "last"));
    assert_int_equal(!last || strcmp(last, "v") != 0, json_is_true(json_object_get(j, "cut")));
    json_decref(j);
}

/* Words, each with its "=": in a text of x and quoted text alone that is all there can be. */
static void check_cut_logfmt(const char *line)
{
    bool quoted = false, has_equals = false;

    for (const char *p = line; *p; p++) {
        if (*p == '\\')
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (*p == '=')
            has_equals = true;
        else if (!quoted && (*p == ' ' || *p == '\n')) {
            assert_true(has_equals);
            has_equals = false;
        }
    }
    assert_false(quoted);
    assert_int_equal(!strstr(line, " last=v\n"), !!strstr(line, " cut=true\n"));
}

static void log_long(bool json, const char *text, size_t len)
{
    const struct fae_log_field fields[] = { { "k", text, 10 }, { "k2", "v w", 3 }, { "last", "v", 1 } };
    const char *line;
    size_t n;

    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_INFO, .json = json }, "worker-0");
    fae_log_fields(FAE_LOG_INFO, text, len, fields, 3);
    line = written();
    n = strlen(line);
    assert_true(n > 100);
    assert_true(n <= FAE_LOG_LINE_MAX);
    assert_ptr_equal(strchr(line, '\n'), line + n - 1);
    if (json)
        check_cut_json(line);
    else
        check_cut_logfmt(line);
}

/* Every length around the limit, so that the cut falls on every byte of every part of a line. */
static void a_long_line_is_cut_and_stays_valid(void **state)
{
    static const struct {
        const char *fill;
        unsigned width; /* of a byte once it is written */
    } rows[] = { { "x", 1 }, { "\n", 2 }, { "\xc3\xa4", 1 }, { "\xff", 3 }, { "\"", 2 }, { "\x01", 6 } };
    char text[FAE_LOG_LINE_MAX + 100];

    (void)state;
    for (unsigned row = 0; row < UNIT_N(rows); row++) {
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = rows[row].fill[i % strlen(rows[row].fill)];
        for (unsigned json = 0; json < 2; json++) {
            for (size_t len = 10; len < sizeof text; len += 307)
                log_long(json, text, len);
            for (size_t len = (FAE_LOG_LINE_MAX - 400) / rows[row].width; len < FAE_LOG_LINE_MAX / rows[row].width;
                 len++)
                log_long(json, text, len);
        }
    }
}

static void a_long_format_is_cut(void **state)
{
    char text[3 * FAE_LOG_LINE_MAX];
    const char *line;

    (void)state;
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    FAE_INFO("%s", text);
    line = written();
    assert_true(strlen(line) <= FAE_LOG_LINE_MAX);
    assert_true(strlen(line) > FAE_LOG_LINE_MAX - 100);
    assert_string_equal(line + strlen(line) - 10, " cut=true\n");
}

static void errno_is_kept(void **state)
{
    (void)state;
    fae_log_to_fd(-1);
    errno = ENOENT;
    FAE_INFO("nowhere to go");
    assert_int_equal(errno, ENOENT);
    fae_log_to_fd(pipe_fds[1]);
}

/* ---- rings ---- */

static void lines_go_to_the_slots_ring(void **state)
{
    size_t size = fae_log_rings_size(&n_workers);
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char record[FAE_LOG_LINE_MAX + 1];

    (void)state;
    assert_true(mem != MAP_FAILED);
    fae_log_rings_init(mem, &n_workers);
    for (unsigned slot = 0; slot < n_workers + 2; slot++) {
        struct fae_ring *ring = fae_log_ring(mem, slot);
        long n;

        assert_true((char *)ring + fae_ring_size(FAE_LOG_RING_BYTES) <= (char *)mem + size);
        fae_log_to_ring(ring);
        FAE_INFO("slot-%u", slot);
        n = fae_ring_pop(ring, record, sizeof record - 1);
        assert_true(n > 0);
        record[n] = '\0';
        assert_non_null(strstr(record, slot == 3 ? "msg=slot-3\n" : slot == 2 ? "msg=slot-2\n" : "msg=slot-"));
        assert_int_equal(record[n - 1], '\n');
        assert_true(fae_ring_empty(ring));
    }
    assert_string_equal(written(), "");
    munmap(mem, size);
}

static void *log_lines(void *who)
{
    for (unsigned i = 0; i < 300; i++)
        FAE_INFO("thread=%u line=%u", *(unsigned *)who, i);
    return NULL;
}

static void threads_share_the_ring(void **state)
{
    static const unsigned one = 1;
    size_t size = fae_log_rings_size(&one);
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned who[4] = { 0, 1, 2, 3 }, next[4] = { 0 };
    char record[FAE_LOG_LINE_MAX + 1];
    pthread_t threads[4];
    long n;

    (void)state;
    assert_true(mem != MAP_FAILED);
    fae_log_rings_init(mem, &one);
    fae_log_to_ring(fae_log_ring(mem, 0));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &who[i]), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    while ((n = fae_ring_pop(fae_log_ring(mem, 0), record, sizeof record - 1)) > 0) {
        unsigned thread, line;

        record[n] = '\0';
        assert_int_equal(sscanf(after_pid(record), "msg=\"thread=%u line=%u\"", &thread, &line), 2);
        assert_true(thread < 4);
        assert_int_equal(line, next[thread]++);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(next[i], 300);
    munmap(mem, size);
}

static _Atomic bool stop;

static void *log_for_ever(void *unused)
{
    (void)unused;
    while (!stop)
        FAE_INFO("busy");
    return NULL;
}

static int log_after_fork(void *unused)
{
    (void)unused;
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_INFO }, "child");
    alarm(5);
    FAE_INFO("here");
    return 0;
}

/* The lock may be held by a thread that the child does not have. */
static void a_fork_while_logging_is_safe(void **state)
{
    static const unsigned one = 1;
    size_t size = fae_log_rings_size(&one);
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;

    (void)state;
    assert_true(mem != MAP_FAILED);
    fae_log_rings_init(mem, &one);
    fae_log_to_ring(fae_log_ring(mem, 0));
    stop = false;
    assert_int_equal(pthread_create(&thread, NULL, log_for_ever, NULL), 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(unit_wait(unit_fork(log_after_fork, NULL)), 0);
    stop = true;
    pthread_join(thread, NULL);
    munmap(mem, size);
}

#define WITH_PIPE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PIPE(a_line_says_when_who_and_what), WITH_PIPE(logfmt_quotes_what_needs_it),
        WITH_PIPE(a_key_is_a_bare_word),          WITH_PIPE(json_lines_parse_back),
        WITH_PIPE(levels_below_are_silent),       WITH_PIPE(a_long_line_is_cut_and_stays_valid),
        WITH_PIPE(a_long_format_is_cut),          WITH_PIPE(errno_is_kept),
        WITH_PIPE(lines_go_to_the_slots_ring),    WITH_PIPE(threads_share_the_ring),
        WITH_PIPE(a_fork_while_logging_is_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
