/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ops/logwriter: lines come out whole and in order; who cannot be written to costs lines, never time.
 */
#include "unit.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/log.h"
#include "ops/logwriter.h"

static const unsigned one_worker = 1;
static void *rings;
static char dir[200], path[256];

static int setup(void **state)
{
    (void)state;
    rings = fae_zalloc(fae_log_rings_size(&one_worker));
    fae_log_rings_init(rings, &one_worker);
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_INFO }, "unit");
    fae_log_to_ring(fae_log_ring(rings, 1));
    unit_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/log", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fae_log_to_fd(STDERR_FILENO);
    free(rings);
    unlink(path);
    unit_dir_remove(dir);
    return 0;
}

static void say(unsigned ring, const char *line)
{
    fae_ring_push(fae_log_ring(rings, ring), line, strlen(line), NULL, 0);
}

static int open_log(void)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static size_t read_file(const char *from, char *text, size_t size)
{
    int fd = open(from, O_RDONLY);
    ssize_t n;

    assert_true(fd >= 0);
    n = read(fd, text, size - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    close(fd);
    return (size_t)n;
}

static void lines_of_all_slots_come_out(void **state)
{
    struct fae_logwriter w;
    char text[200];
    int fd = open_log();

    (void)state;
    say(0, "a1\n");
    say(0, "a2\n");
    say(2, "c1"); /* the end of the line is ours to give */
    fae_logwriter_init(&w, rings, 3, fd, path);
    fae_logwriter_turn(&w);
    read_file(path, text, sizeof text);
    assert_string_equal(text, "a1\nc1\na2\n");
    say(1, "b1\n");
    fae_logwriter_finish(&w);
    read_file(path, text, sizeof text);
    assert_string_equal(text, "a1\nc1\na2\nb1\n");
    fae_logwriter_fini(&w);
    close(fd);
}

static void rotated_files_are_followed(void **state)
{
    struct fae_logwriter w;
    char moved[300], text[200];
    int fd = open_log();

    (void)state;
    snprintf(moved, sizeof moved, "%s.1", path);
    fae_logwriter_init(&w, rings, 3, fd, path);
    say(0, "before\n");
    fae_logwriter_turn(&w);
    assert_int_equal(rename(path, moved), 0);
    say(0, "between\n");
    fae_logwriter_turn(&w);
    w.look_ms = 0;
    say(0, "after\n");
    fae_logwriter_turn(&w);
    read_file(moved, text, sizeof text);
    assert_string_equal(text, "before\nbetween\n");
    read_file(path, text, sizeof text);
    assert_string_equal(text, "after\n");
    fae_logwriter_fini(&w);
    close(fd);
    unlink(moved);
}

/* Fills the rings against a reader that does not read, then reads. */
static void expect_no_wait(int writer, int reader)
{
    char line[1001], in[65536];
    struct fae_logwriter w;
    uint64_t start_ms = fae_now_ms(), n_lines = 0;
    bool told = false;
    ssize_t n;

    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\0';
    line[sizeof line - 2] = '\n';
    fcntl(reader, F_SETFL, O_NONBLOCK);
    fae_logwriter_init(&w, rings, 3, writer, "");
    alarm(20);
    for (unsigned i = 0; i < 3000; i++) {
        say(0, line);
        fae_logwriter_turn(&w);
    }
    assert_true(fae_now_ms() - start_ms < 5000);
    assert_true(fae_log_ring(rings, 0)->n_dropped > 0);
    for (unsigned i = 0; i < 2000 && !told; i++) {
        fae_logwriter_turn(&w);
        n = read(reader, in, sizeof in - 1);
        in[n > 0 ? n : 0] = '\0';
        for (const char *p = in; *p; p++)
            n_lines += *p == '\n';
        told = strstr(in, "lines dropped") != NULL;
    }
    alarm(0);
    assert_true(told);
    assert_int_equal(n_lines, 3000 - fae_log_ring(rings, 0)->n_dropped + 1);
    fae_logwriter_fini(&w);
}

static void a_pipe_nobody_reads_does_not_hold_us(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    expect_no_wait(fds[1], fds[0]);
    assert_false(fcntl(fds[1], F_GETFL) & O_NONBLOCK); /* others write to it too */
    close(fds[0]);
    close(fds[1]);
}

static void nor_does_a_socket(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    expect_no_wait(fds[1], fds[0]);
    assert_false(fcntl(fds[1], F_GETFL) & O_NONBLOCK);
    close(fds[0]);
    close(fds[1]);
}

static void a_reader_that_left_is_not_waited_for(void **state)
{
    struct fae_logwriter w;
    int fds[2];
    uint64_t start_ms;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    fae_logwriter_init(&w, rings, 3, fds[1], "");
    say(0, "gone\n");
    start_ms = fae_now_ms();
    fae_logwriter_finish(&w);
    assert_true(fae_now_ms() - start_ms < 1500);
    fae_logwriter_fini(&w);
    close(fds[1]);
}

/* A limit on the size of files stands for a disk without room: a write is cut short, then fails. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_costs_the_newest_lines_alone(void **state)
{
    enum { N = 100000, ROOM = 20000 };
    static char text[2 * FAE_LOG_RING_BYTES];
    struct fae_logwriter w;
    const struct fae_ring *ring = fae_log_ring(rings, 0);
    unsigned n_lines = 0;
    char line[32];
    int fd = open_log();

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    fae_logwriter_init(&w, rings, 3, fd, path);
    limit_files(ROOM);
    for (unsigned i = 0; i < N; i++) {
        snprintf(line, sizeof line, "line %06u\n", i);
        say(0, line);
        if (i % 1000 == 0)
            fae_logwriter_turn(&w);
    }
    limit_files(RLIM_INFINITY);
    assert_int_equal(read_file(path, text, sizeof text), ROOM);
    assert_true(FAE_STAT_GET(ring->n_dropped) > 0);

    say(0, "never seen\n");
    fae_logwriter_turn(&w);
    say(0, "line 100000\n");
    fae_logwriter_finish(&w);
    read_file(path, text, sizeof text);
    /* Whole lines in their order, without a gap until the ring was full. */
    for (char *at = text; sscanf(at, "line %u\n", &n_lines) == 1; at += strlen("line 000000\n"))
        assert_int_equal(n_lines, n_lines < N ? (at - text) / 12 : N);
    assert_int_equal(n_lines, N);
    assert_non_null(strstr(text, "lines dropped"));
    fae_logwriter_fini(&w);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_of_all_slots_come_out, setup, teardown),
        cmocka_unit_test_setup_teardown(rotated_files_are_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pipe_nobody_reads_does_not_hold_us, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_costs_the_newest_lines_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(nor_does_a_socket, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_that_left_is_not_waited_for, setup, teardown),
    };

    return cmocka_run_group_tests_name("logwriter", tests, NULL, NULL);
}
