/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/life and proc/stored: bundles travel as sealed descriptors, and an end of file is seen.
 */
#include "unit.h"

#include <sys/mman.h>

#include "proc/life.h"
#include "proc/mail.h"
#include "proc/stored.h"

static int new_bundle(void)
{
    struct fae_buf bytes = { 0 };
    int fd = fae_stored_new();

    assert_true(fd >= 0);
    fae_bundle_begin(&bytes);
    fae_bundle_add(&bytes, "servants/a.lua", "return 1", 8);
    assert_int_equal(write(fd, bytes.data, bytes.len), (ssize_t)bytes.len);
    fae_buf_fini(&bytes);
    return fd;
}

static void sealed_bundles_cannot_change(void **state)
{
    int fd = new_bundle();
    struct fae_bundle bundle;
    struct fae_bundle_file file;

    (void)state;
    assert_int_equal(fae_stored_seal(fd), FAE_OK);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_int_equal(fae_stored_map(fd, &bundle), FAE_OK);
    assert_true(fae_bundle_find(&bundle, "servants/a.lua", &file));
    assert_string_equal(file.body, "return 1");
    fae_stored_unmap(&bundle);
    close(fd);
}

static void what_is_no_bundle_is_refused(void **state)
{
    int fd = fae_stored_new();

    (void)state;
    assert_int_equal(fae_stored_seal(fd), FAE_BAD_MESSAGE); /* empty */
    close(fd);
    fd = fae_stored_new();
    assert_int_equal(write(fd, "garbage that is long enough", 27), 27);
    assert_int_equal(fae_stored_seal(fd), FAE_BAD_MESSAGE);
    close(fd);
}

static void descriptors_arrive_with_their_ticket(void **state)
{
    uint64_t ticket = 0, sent = fae_ticket(7, 42);
    int ours, theirs, bundle = new_bundle(), got = -1;
    unsigned fds = unit_count_fds();

    (void)state;
    assert_int_equal(fae_ticket_generation(sent), 42);
    assert_int_equal(fae_life_pair(&ours, &theirs), FAE_OK);
    assert_int_equal(fae_life_recv(theirs, &ticket, &got), FAE_NOT_FOUND);
    assert_int_equal(fae_life_send(ours, sent, bundle), FAE_OK);
    assert_int_equal(fae_life_recv(theirs, &ticket, &got), FAE_OK);
    assert_int_equal(ticket, sent);
    assert_true(got >= 0 && got != bundle);
    assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
    close(got);
    assert_int_equal(fae_life_recv(theirs, &ticket, &got), FAE_NOT_FOUND);
    close(ours);
    assert_int_equal(fae_life_recv(theirs, &ticket, &got), FAE_CLOSED);
    close(theirs);
    assert_int_equal(unit_count_fds(), fds);
    close(bundle);
}

static void sending_never_waits(void **state)
{
    int ours, theirs, bundle = new_bundle();
    unsigned n = 0;

    (void)state;
    assert_int_equal(fae_life_pair(&ours, &theirs), FAE_OK);
    alarm(10);
    while (n < 100000 && fae_life_send(ours, n, bundle) == FAE_OK)
        n++;
    alarm(0);
    assert_true(n > 0 && n < 100000);
    close(theirs);
    assert_int_equal(fae_life_send(ours, 1, bundle), FAE_UNAVAILABLE);
    close(ours);
    close(bundle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sealed_bundles_cannot_change),
        cmocka_unit_test(what_is_no_bundle_is_refused),
        cmocka_unit_test(descriptors_arrive_with_their_ticket),
        cmocka_unit_test(sending_never_waits),
    };

    return cmocka_run_group_tests_name("life", tests, NULL, NULL);
}
