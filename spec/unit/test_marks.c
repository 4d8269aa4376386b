/* SPDX-License-Identifier: BSD-2-Clause
 *
 * src/store/marks.c: what was reserved is never given out again, whatever a crash left of the file.
 */
#include "store/marks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mailbox.h"
#include "store/store.h"
#include "unit.h"

#define PLACE 4096

/* A node's part that marks need: one worker, and a folder. */
struct world {
    char dir[32];
    struct fae_slots *slots;
    struct fae_mailboxes mail;
    void *boxes;
    struct fae_marks *marks;
    struct fae_stores stores;
};

static void *region(size_t size)
{
    void *mem = aligned_alloc(64, (size + 63) & ~63ul);

    assert_non_null(mem);
    memset(mem, 0, size);
    return mem;
}

static void open_world(struct world *w)
{
    unsigned n_workers = 1;

    strcpy(w->dir, "/tmp/fae-marks-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->slots = region(fae_slots_size(&n_workers));
    fae_slots_init(w->slots, &n_workers);
    w->boxes = region(fae_mailboxes_size(&n_workers));
    fae_mailboxes_init(w->boxes, &n_workers);
    assert_int_equal(fae_mailboxes_open(&w->mail, w->boxes, w->slots), FAE_OK);
    w->marks = region(fae_marks_size(NULL));
    w->stores = (struct fae_stores){ .slots = w->slots,
                                     .mail = &w->mail,
                                     .data_dir = w->dir,
                                     .marks = w->marks,
                                     .marks_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    assert_true(w->stores.marks_fd >= 0);
}

static const char *path_of(const struct world *w)
{
    static char path[64];

    snprintf(path, sizeof path, "%s/marks", w->dir);
    return path;
}

static void close_world(struct world *w)
{
    unlink(path_of(w));
    rmdir(w->dir);
    close(w->stores.marks_fd);
    fae_mailboxes_close(&w->mail);
    free(w->boxes);
    free(w->slots);
    free(w->marks);
}

/* A node starts: shared memory is new, the file is what it was. */
static enum fae_err start(struct world *w, char why[300])
{
    memset(w->marks, 0, sizeof *w->marks);
    return fae_marks_open(w->marks, w->dir, why, 300);
}

static void reserve(struct world *w, enum fae_mark_row mark, uint64_t upto)
{
    fae_marks_want(&w->stores, mark, upto);
    for (int i = 0; i < 5000 && fae_marks_reserved(w->marks, mark) < upto; i++)
        poll(NULL, 0, 1);
    assert_true(fae_marks_reserved(w->marks, mark) >= upto);
}

static void damage(struct world *w, unsigned place)
{
    int fd = open(path_of(w), O_WRONLY);

    assert_int_equal(pwrite(fd, "x", 1, (off_t)place * PLACE + 20), 1);
    close(fd);
}

static bool is_locked(struct world *w)
{
    int fd = open(path_of(w), O_RDWR);
    bool is = flock(fd, LOCK_EX | LOCK_NB) != 0;

    close(fd);
    return is;
}

/* A node that was killed, but for its writer. */
static int writes_a_while(void *arg)
{
    struct fae_marks_writer *writer = NULL;
    struct world *w = arg;

    if (fae_marks_writer_start(&writer, &w->stores))
        return 1;
    poll(NULL, 0, 200);
    fae_marks_want(&w->stores, FAE_MARK_FENCE, 9);
    fae_marks_writer_stop(&writer);
    return 0;
}

static void goes_on_where_it_was(void **state)
{
    struct fae_marks_writer *writer = NULL;
    struct world w;
    char why[300];

    (void)state;
    open_world(&w);
    assert_int_equal(start(&w, why), FAE_OK);
    assert_int_equal(fae_marks_reserved(w.marks, FAE_MARK_ID_MS), 0);
    assert_int_equal(fae_marks_writer_start(&writer, &w.stores), FAE_OK);
    reserve(&w, FAE_MARK_ID_MS, 1000);
    reserve(&w, FAE_MARK_FENCE, 7);
    fae_marks_want(&w.stores, FAE_MARK_ID_MS, 10); /* never lowers */
    fae_marks_writer_stop(&writer);
    /* no close: a crash */
    assert_int_equal(start(&w, why), FAE_OK);
    assert_int_equal(w.marks->began[FAE_MARK_ID_MS], 1000);
    assert_int_equal(w.marks->began[FAE_MARK_FENCE], 7);
    fae_marks_settle(w.marks, FAE_MARK_ID_MS, 990);
    fae_marks_close(w.marks, w.dir);
    assert_int_equal(start(&w, why), FAE_OK);
    assert_int_equal(w.marks->began[FAE_MARK_ID_MS], 990);
    assert_int_equal(w.marks->began[FAE_MARK_FENCE], 7);
    close_world(&w);
}

static void waits_for_the_writer_before(void **state)
{
    struct fae_marks_writer *writer = NULL;
    struct world w;
    char why[300];
    pid_t pid;

    (void)state;
    open_world(&w);
    assert_int_equal(start(&w, why), FAE_OK);
    pid = unit_fork(writes_a_while, &w);
    for (int i = 0; i < 5000 && !is_locked(&w); i++)
        poll(NULL, 0, 1);
    assert_true(is_locked(&w));
    assert_int_equal(start(&w, why), FAE_OK);
    assert_int_equal(unit_wait(pid), 0);
    assert_int_equal(w.marks->began[FAE_MARK_FENCE], 9); /* what it wrote at its end */
    assert_int_equal(fae_marks_writer_start(&writer, &w.stores), FAE_OK);
    assert_int_equal(start(&w, why), FAE_SYSTEM);
    assert_non_null(strstr(why, "still has it"));
    fae_marks_writer_stop(&writer);
    close_world(&w);
}

static void wakes_who_waits(void **state)
{
    struct fae_marks_writer *writer = NULL;
    struct world w;
    char why[300];

    (void)state;
    open_world(&w);
    w.mail.me = 0;
    assert_int_equal(start(&w, why), FAE_OK);
    assert_int_equal(fae_marks_writer_start(&writer, &w.stores), FAE_OK);
    fae_marks_want(&w.stores, FAE_MARK_FENCE, 5);
    assert_int_equal(poll(&(struct pollfd){ .fd = fae_mail_fd(&w.mail), .events = POLLIN }, 1, 10000), 1);
    assert_int_equal(fae_marks_reserved(w.marks, FAE_MARK_FENCE), 5);
    fae_marks_writer_stop(&writer);
    close_world(&w);
}

/* Whichever copy a crash has cut, the other one is taken; of two that are cut nothing is guessed. */
static void a_cut_copy_is_not_taken(void **state)
{
    struct fae_marks_writer *writer = NULL;
    struct world w;
    char why[300];

    (void)state;
    open_world(&w);
    for (unsigned place = 0; place < 2; place++) {
        unlink(path_of(&w));
        assert_int_equal(start(&w, why), FAE_OK);
        assert_int_equal(fae_marks_writer_start(&writer, &w.stores), FAE_OK);
        reserve(&w, FAE_MARK_FENCE, 10);
        reserve(&w, FAE_MARK_FENCE, 20);
        fae_marks_writer_stop(&writer);
        unsigned newest = (unsigned)(w.marks->sequence & 1);
        damage(&w, place);
        assert_int_equal(start(&w, why), FAE_OK);
        assert_int_equal(w.marks->began[FAE_MARK_FENCE], place == newest ? 10 : 20);
        damage(&w, !place);
        assert_int_equal(start(&w, why), FAE_SYSTEM);
        assert_non_null(strstr(why, "damaged"));
    }
    close_world(&w);
}

static void refuses_what_is_no_file(void **state)
{
    struct world w;
    char why[300];

    (void)state;
    open_world(&w);
    assert_int_equal(mkdir(path_of(&w), 0700), 0);
    assert_int_equal(start(&w, why), FAE_SYSTEM);
    assert_non_null(strstr(why, "/marks: "));
    rmdir(path_of(&w));
    close(open(path_of(&w), O_WRONLY | O_CREAT, 0600)); /* made, and nothing written yet */
    assert_int_equal(start(&w, why), FAE_OK);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_on_where_it_was),    cmocka_unit_test(waits_for_the_writer_before),
        cmocka_unit_test(wakes_who_waits),         cmocka_unit_test(a_cut_copy_is_not_taken),
        cmocka_unit_test(refuses_what_is_no_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
