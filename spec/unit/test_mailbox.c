/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/mailbox: mail between processes, over deaths on either side.
 */
#include "unit.h"

#include <poll.h>

#include "base/mailbox.h"
#include "base/shmutex.h"

static const unsigned n_workers = 2;

static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },
    { "mail", fae_mailboxes_size, fae_mailboxes_init },
};

static struct fae_shm shm;
static struct fae_slots *slots;
static struct fae_mailboxes boxes;

/* Slot 1 receives here; all four slots live in incarnation 1. */
static int set_up(void **state)
{
    (void)state;
    if (fae_shm_map(&shm, regions, UNIT_N(regions), &n_workers))
        return -1;
    slots = fae_shm_get(&shm, "slots");
    for (unsigned i = 0; i < n_workers + 2; i++) {
        slots->slots[i].incarnation = 1;
        slots->slots[i].state = FAE_SLOT_READY;
    }
    if (fae_mailboxes_open(&boxes, fae_shm_get(&shm, "mail"), slots))
        return -1;
    boxes.me = 1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_mailboxes_close(&boxes);
    fae_shm_unmap(&shm);
    return 0;
}

static bool is_readable(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    return poll(&pfd, 1, 0) == 1;
}

static int send_three(void *unused)
{
    char body[FAE_MAIL_BODY_MAX];

    (void)unused;
    boxes.me = 0;
    memset(body, 'z', sizeof body);
    return fae_mail_send(&boxes, 1, 7, 1ull << 40, "hello", 5) || fae_mail_send(&boxes, 1, 8, 0, NULL, 0) ||
           fae_mail_send(&boxes, 1, 9, 0, body, sizeof body);
}

static void mail_arrives_and_wakes(void **state)
{
    struct fae_mail mail;

    (void)state;
    assert_false(is_readable(fae_mail_fd(&boxes)));
    assert_false(fae_mail_next(&boxes, &mail));
    assert_int_equal(unit_wait(unit_fork(send_three, NULL)), 0);
    assert_true(is_readable(fae_mail_fd(&boxes)));
    fae_mail_quiet(&boxes);
    assert_false(is_readable(fae_mail_fd(&boxes)));
    fae_mail_quiet(&boxes); /* must not wait */
    assert_true(fae_mail_next(&boxes, &mail));
    assert_int_equal(mail.type, 7);
    assert_int_equal(mail.from_slot, 0);
    assert_int_equal(mail.from_incarnation, 1);
    assert_int_equal(mail.to_incarnation, 1);
    assert_int_equal(mail.arg, 1ull << 40);
    assert_int_equal(mail.len, 5);
    assert_memory_equal(mail.body, "hello", 5);
    assert_true(fae_mail_next(&boxes, &mail));
    assert_int_equal(mail.type, 8);
    assert_int_equal(mail.len, 0);
    assert_true(fae_mail_next(&boxes, &mail));
    assert_int_equal(mail.type, 9);
    assert_int_equal(mail.len, FAE_MAIL_BODY_MAX);
    assert_int_equal(mail.body[FAE_MAIL_BODY_MAX - 1], 'z');
    assert_false(fae_mail_next(&boxes, &mail));
}

static void every_slot_has_its_own_box(void **state)
{
    struct fae_mail mail;

    (void)state;
    for (unsigned to = 0; to < n_workers + 2; to++)
        assert_int_equal(fae_mail_send(&boxes, to, to, 0, NULL, 0), FAE_OK);
    for (boxes.me = 0; boxes.me < n_workers + 2; boxes.me++) {
        assert_true(is_readable(fae_mail_fd(&boxes)));
        assert_true(fae_mail_next(&boxes, &mail));
        assert_int_equal(mail.type, boxes.me);
        assert_false(fae_mail_next(&boxes, &mail));
    }
}

static void rousing_wakes_without_mail(void **state)
{
    struct fae_mail mail;

    (void)state;
    fae_mail_rouse(&boxes, 1);
    fae_mail_rouse(&boxes, 1);
    assert_true(is_readable(fae_mail_fd(&boxes)));
    assert_false(fae_mail_next(&boxes, &mail));
    fae_mail_quiet(&boxes);
    assert_false(is_readable(fae_mail_fd(&boxes)));
}

static void mail_for_an_earlier_incarnation_is_dropped(void **state)
{
    struct fae_mail mail;

    (void)state;
    assert_int_equal(fae_mail_send(&boxes, 1, 1, 0, NULL, 0), FAE_OK);
    assert_int_equal(fae_mail_send(&boxes, 1, 2, 0, NULL, 0), FAE_OK);
    slots->slots[1].incarnation = 2;
    assert_int_equal(fae_mail_send(&boxes, 1, 3, 0, NULL, 0), FAE_OK);
    assert_true(fae_mail_next(&boxes, &mail));
    assert_int_equal(mail.type, 3);
    assert_false(fae_mail_next(&boxes, &mail));
    assert_int_equal(slots->slots[1].n_mail_stale, 2);
}

static void nobody_there_is_told(void **state)
{
    (void)state;
    slots->slots[1].state = FAE_SLOT_DEAD;
    assert_int_equal(fae_mail_send(&boxes, 1, 1, 0, NULL, 0), FAE_UNAVAILABLE);
    slots->slots[1].state = FAE_SLOT_STARTING;
    assert_int_equal(fae_mail_send(&boxes, 1, 1, 0, NULL, 0), FAE_OK);
    slots->slots[1].incarnation = 0;
    assert_int_equal(fae_mail_send(&boxes, 1, 1, 0, NULL, 0), FAE_UNAVAILABLE);
}

static void a_full_box_is_told(void **state)
{
    char body[FAE_MAIL_BODY_MAX] = { 0 };
    unsigned n = 0, got = 0;
    struct fae_mail mail;

    (void)state;
    while (n < 1000 && fae_mail_send(&boxes, 1, n, 0, body, sizeof body) == FAE_OK)
        n++;
    assert_true(n >= 4);
    assert_true(n < 1000);
    assert_int_equal(fae_mail_send(&boxes, 1, n, 0, body, sizeof body), FAE_LIMIT);
    assert_int_equal(fae_mail_send(&boxes, 0, 0, 0, body, sizeof body), FAE_OK);
    for (; fae_mail_next(&boxes, &mail); got++)
        assert_int_equal(mail.type, got);
    assert_int_equal(got, n);
    assert_int_equal(fae_mail_send(&boxes, 1, n, 0, body, sizeof body), FAE_OK);
}

static int send_to_zero(void *unused)
{
    (void)unused;
    return (int)fae_mail_send(&boxes, 0, 1, 0, NULL, 0);
}

static void a_stopped_sender_does_not_stop_the_others(void **state)
{
    struct fae_shmutex *lock = boxes.mem; /* a box begins with its lock, and box 0 comes first */

    (void)state;
    fae_shmutex_lock(lock);
    assert_int_equal(unit_wait(unit_fork(send_to_zero, NULL)), FAE_TIMEOUT);
    fae_shmutex_unlock(lock);
    assert_int_equal(unit_wait(unit_fork(send_to_zero, NULL)), FAE_OK);
}

/* ---- many senders ---- */

static int send_many(void *rounds)
{
    uint32_t n = *(uint32_t *)rounds;
    uint8_t body[300];

    boxes.me = 0;
    for (uint32_t i = 0; i < n;) {
        enum fae_err err;

        memset(body, (int)(i * 13), sizeof body);
        err = fae_mail_send(&boxes, 1, (uint32_t)getpid(), i, body, i % sizeof body);
        if (err == FAE_OK)
            i++;
        else if (err != FAE_LIMIT)
            return 1;
    }
    return 0;
}

static void check_body(const struct fae_mail *mail)
{
    assert_int_equal(mail->len, mail->arg % 300);
    for (uint32_t i = 0; i < mail->len; i++)
        assert_int_equal(mail->body[i], (uint8_t)(mail->arg * 13));
}

static void processes_send_at_once(void **state)
{
    uint32_t rounds = 5000;
    uint64_t next[3] = { 0 };
    pid_t pids[3];
    struct fae_mail mail;
    struct pollfd pfd = { .fd = fae_mail_fd(&boxes), .events = POLLIN };

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        pids[i] = unit_fork(send_many, &rounds);
    while (next[0] + next[1] + next[2] < 3 * rounds) {
        assert_int_equal(poll(&pfd, 1, 20000), 1); /* a lost wake-up would end here */
        fae_mail_quiet(&boxes);
        while (fae_mail_next(&boxes, &mail))
            for (unsigned i = 0; i < 3; i++)
                if ((uint32_t)pids[i] == mail.type) {
                    check_body(&mail);
                    assert_int_equal(mail.arg, next[i]++);
                }
    }
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(unit_wait(pids[i]), 0);
    assert_false(fae_mail_next(&boxes, &mail));
}

static void killed_senders_leave_whole_mail(void **state)
{
    uint32_t for_ever = UINT32_MAX;
    uint64_t seed = 5;
    struct fae_mail mail;

    (void)state;
    for (unsigned round = 0; round < 16; round++) {
        pid_t pids[2] = { unit_fork(send_many, &for_ever), unit_fork(send_many, &for_ever) };
        uint64_t next[2] = { 0 };
        unsigned want = (unsigned)(unit_random(&seed) % 500), got = 0;

        for (time_t end = time(NULL) + 20; got < want && time(NULL) < end;)
            for (; fae_mail_next(&boxes, &mail); got++) {
                check_body(&mail);
                assert_int_equal(mail.arg, next[mail.type == (uint32_t)pids[1]]++);
            }
        assert_int_equal(kill(pids[round % 2], SIGKILL), 0);
        assert_int_equal(unit_wait(pids[round % 2]), -SIGKILL);
        assert_true(got >= want);
        /* The other one goes on, and so do new senders. */
        for (unsigned i = 0; i < 2; i++)
            while (fae_mail_next(&boxes, &mail))
                check_body(&mail);
        assert_int_equal(kill(pids[(round + 1) % 2], SIGKILL), 0);
        assert_int_equal(unit_wait(pids[(round + 1) % 2]), -SIGKILL);
        while (fae_mail_next(&boxes, &mail))
            check_body(&mail);
        assert_int_equal(fae_mail_send(&boxes, 1, 0, 0, NULL, 0), FAE_OK);
        assert_true(fae_mail_next(&boxes, &mail));
    }
    assert_int_equal(slots->slots[1].n_mail_stale, 0);
}

static void send_too_long(void *unused)
{
    static char body[FAE_MAIL_BODY_MAX + 1];

    (void)unused;
    fae_mail_send(&boxes, 1, 0, 0, body, sizeof body);
}

static void too_long_a_body_is_a_bug(void **state)
{
    (void)state;
    assert_true(unit_aborts(send_too_long, NULL));
}

#define WITH_BOXES(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BOXES(mail_arrives_and_wakes),
        WITH_BOXES(every_slot_has_its_own_box),
        WITH_BOXES(rousing_wakes_without_mail),
        WITH_BOXES(mail_for_an_earlier_incarnation_is_dropped),
        WITH_BOXES(nobody_there_is_told),
        WITH_BOXES(a_full_box_is_told),
        WITH_BOXES(a_stopped_sender_does_not_stop_the_others),
        WITH_BOXES(processes_send_at_once),
        WITH_BOXES(killed_senders_leave_whole_mail),
        WITH_BOXES(too_long_a_body_is_a_bug),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
