/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/listen: what is bound, what is refused and how that is told.
 */
#include "unit.h"

#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "net/listen.h"

static char dir[200], why[300];

static int set_up(void **state)
{
    (void)state;
    unit_dir(dir, sizeof dir);
    why[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unit_dir_remove(dir);
    return 0;
}

static struct fae_listener at(const char *text)
{
    struct fae_listener ln = { .mode = 0660 };

    assert_int_equal(fae_addr_parse(text, &ln.addr, why, sizeof why), FAE_OK);
    return ln;
}

/* "unix:DIR/s" */
static struct fae_listener at_path(const char *name)
{
    char text[300];

    snprintf(text, sizeof text, "unix:%s/%s", dir, name);
    return at(text);
}

static const char *path_of(const struct fae_listener *ln)
{
    return ((const struct sockaddr_un *)&ln->addr.sa)->sun_path;
}

static const char *sentence(const struct fae_listener *ln, const char *what)
{
    static char text[400];

    snprintf(text, sizeof text, "%s: %s", ln->text, what);
    return text;
}

static enum fae_err open_it(struct fae_listener *ln, unsigned n_workers)
{
    return fae_listener_open(ln, n_workers, 100, why, sizeof why);
}

static int option(int fd, int level, int name)
{
    int v = -1;
    socklen_t len = sizeof v;

    assert_int_equal(getsockopt(fd, level, name, &v, &len), 0);
    return v;
}

/* Connects and returns the accepted end, from whichever socket it came. */
static int accepted(const struct fae_listener *ln)
{
    struct pollfd pfds[FAE_WORKERS_MAX];
    int client, fd = -1;

    assert_int_equal(fae_addr_connect(&ln->addr, 5000, &client), FAE_OK);
    for (unsigned i = 0; i < ln->n_fds; i++)
        pfds[i] = (struct pollfd){ .fd = ln->fds[i], .events = POLLIN };
    assert_int_equal(poll(pfds, ln->n_fds, 5000), 1);
    for (unsigned i = 0; i < ln->n_fds && fd < 0; i++)
        if (pfds[i].revents)
            fd = accept4(ln->fds[i], NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    close(client);
    return fd;
}

static void every_worker_gets_a_tcp_socket(void **state)
{
    unsigned fds = unit_count_fds();
    struct fae_listener ln = at("tcp://127.0.0.1:0");
    char text[FAE_ADDR_TEXT];
    int fd;

    (void)state;
    assert_int_equal(open_it(&ln, 4), FAE_OK);
    assert_string_equal(why, "");
    assert_int_equal(ln.n_fds, 4);
    assert_false(ln.shared);
    assert_int_not_equal(fae_addr_port(&ln.addr), 0);
    snprintf(text, sizeof text, "tcp://127.0.0.1:%u", fae_addr_port(&ln.addr));
    assert_string_equal(ln.text, text);
    for (unsigned i = 0; i < ln.n_fds; i++) {
        struct fae_addr addr = { .len = sizeof addr.sa };

        assert_int_equal(getsockname(ln.fds[i], (struct sockaddr *)&addr.sa, &addr.len), 0);
        assert_int_equal(fae_addr_port(&addr), fae_addr_port(&ln.addr));
        assert_true(fcntl(ln.fds[i], F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(ln.fds[i], F_GETFD) & FD_CLOEXEC);
        assert_int_equal(option(ln.fds[i], SOL_SOCKET, SO_ACCEPTCONN), 1);
    }
    fd = accepted(&ln);
    assert_int_not_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    close(fd);
    fae_listener_close(&ln, true);
    assert_int_equal(ln.n_fds, 0);
    fae_listener_close(&ln, true);
    assert_int_equal(unit_count_fds(), fds);
}

static void connections_reach_every_socket(void **state)
{
    struct fae_listener ln = at("tcp://127.0.0.1:0");
    unsigned got[2] = { 0 };

    (void)state;
    assert_int_equal(open_it(&ln, 2), FAE_OK);
    for (unsigned i = 0; i < 64; i++) {
        int client;

        assert_int_equal(fae_addr_connect(&ln.addr, 5000, &client), FAE_OK);
        for (unsigned w = 0; w < 2; w++) {
            int fd = accept4(ln.fds[w], NULL, NULL, SOCK_CLOEXEC);

            got[w] += fd >= 0;
            if (fd >= 0)
                close(fd);
        }
        close(client);
    }
    assert_int_equal(got[0] + got[1], 64);
    assert_true(got[0] > 5);
    assert_true(got[1] > 5);
    fae_listener_close(&ln, false);
}

static void another_server_on_the_port_is_noticed(void **state)
{
    struct fae_listener first = at("tcp://127.0.0.1:0"), second;
    unsigned fds;

    (void)state;
    assert_int_equal(open_it(&first, 2), FAE_OK);
    second = at(first.text);
    fds = unit_count_fds();
    assert_int_equal(open_it(&second, 2), FAE_ADDR_IN_USE);
    assert_string_equal(why, sentence(&first, "address is in use by another process"));
    assert_int_equal(second.n_fds, 0);
    assert_int_equal(unit_count_fds(), fds);
    close(accepted(&first)); /* and is not disturbed */
    second = at("tcp://*:1");
    ((struct sockaddr_in *)&second.addr.sa)->sin_port = ((struct sockaddr_in *)&first.addr.sa)->sin_port;
    assert_int_equal(open_it(&second, 1), FAE_ADDR_IN_USE);
    fae_listener_close(&first, false);
}

/* A closed server's connections in TIME_WAIT must not keep the next one out. */
static void the_port_is_free_after_close(void **state)
{
    struct fae_listener ln = at("tcp://127.0.0.1:0");
    struct pollfd pfd;
    int client, fd;

    (void)state;
    assert_int_equal(open_it(&ln, 1), FAE_OK);
    assert_int_equal(fae_addr_connect(&ln.addr, 5000, &client), FAE_OK);
    pfd = (struct pollfd){ .fd = ln.fds[0], .events = POLLIN };
    assert_int_equal(poll(&pfd, 1, 5000), 1);
    fd = accept4(ln.fds[0], NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    close(fd); /* the server's side closes first */
    close(client);
    fae_listener_close(&ln, false);
    assert_int_equal(open_it(&ln, 2), FAE_OK);
    fae_listener_close(&ln, false);
}

static void ipv6_is_served(void **state)
{
    struct fae_listener six = at("tcp://[::1]:0");
    enum fae_err err = open_it(&six, 2);

    (void)state;
    if (err == FAE_SYSTEM && (strstr(why, strerror(EADDRNOTAVAIL)) || strstr(why, strerror(EAFNOSUPPORT))))
        skip(); /* no IPv6 on this machine */
    assert_int_equal(err, FAE_OK);
    assert_int_equal(six.n_fds, 2);
    close(accepted(&six));
    fae_listener_close(&six, false);
}

static void an_address_of_another_machine_is_told(void **state)
{
    struct fae_listener ln = at("tcp://192.0.2.1:9001");

    (void)state;
    assert_int_equal(open_it(&ln, 2), FAE_SYSTEM);
    assert_string_equal(why, "tcp://192.0.2.1:9001: Cannot assign requested address");
    assert_int_equal(ln.n_fds, 0);
}

/* ---- unix ---- */

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void a_unix_socket_is_shared_and_has_its_mode(void **state)
{
    static const mode_t modes[] = { 0660, 0600, 0666, 0777 };
    unsigned fds = unit_count_fds();
    mode_t mask = umask(0027);

    (void)state;
    for (unsigned i = 0; i < UNIT_N(modes); i++) {
        struct fae_listener ln = at_path("s");

        ln.mode = modes[i];
        assert_int_equal(open_it(&ln, 4), FAE_OK);
        assert_true(ln.shared);
        assert_int_equal(ln.n_fds, 1);
        assert_int_equal(mode_of(path_of(&ln)), modes[i]);
        assert_true(fcntl(ln.fds[0], F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(ln.fds[0], F_GETFD) & FD_CLOEXEC);
        close(accepted(&ln));
        fae_listener_close(&ln, true);
        assert_int_equal(access(path_of(&ln), F_OK), -1);
    }
    assert_int_equal(umask(mask), 0027); /* put back */
    assert_int_equal(unit_count_fds(), fds);
}

static void a_stale_socket_is_replaced(void **state)
{
    struct fae_listener ln = at_path("s");

    (void)state;
    assert_int_equal(open_it(&ln, 1), FAE_OK);
    fae_listener_close(&ln, false); /* as if killed */
    assert_int_equal(access(path_of(&ln), F_OK), 0);
    assert_int_equal(open_it(&ln, 1), FAE_OK);
    close(accepted(&ln));
    fae_listener_close(&ln, true);
}

static void a_live_socket_is_left_alone(void **state)
{
    struct fae_listener first = at_path("s"), second = at_path("s");
    int fd;

    (void)state;
    assert_int_equal(open_it(&first, 1), FAE_OK);
    assert_int_equal(open_it(&second, 1), FAE_ADDR_IN_USE);
    assert_string_equal(why, sentence(&first, "address is in use by another process"));
    fd = accept4(first.fds[0], NULL, NULL, SOCK_CLOEXEC); /* the question of the second one */
    assert_true(fd >= 0);
    close(fd);
    close(accepted(&first));
    fae_listener_close(&first, true);
}

static void a_live_socket_with_a_full_queue_is_left_alone(void **state)
{
    struct fae_listener first = at_path("s"), second = at_path("s");
    int clients[8], n = 0;

    (void)state;
    assert_int_equal(fae_listener_open(&first, 1, 1, why, sizeof why), FAE_OK);
    while (n < 8 && fae_addr_connect(&first.addr, 10, &clients[n]) == FAE_OK)
        n++;
    assert_true(n < 8);
    assert_int_equal(open_it(&second, 1), FAE_ADDR_IN_USE);
    while (n)
        close(clients[--n]);
    fae_listener_close(&first, true);
}

static void a_datagram_socket_is_left_alone(void **state)
{
    struct fae_listener ln = at_path("s");
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&ln.addr.sa, ln.addr.len), 0);
    assert_int_equal(open_it(&ln, 1), FAE_ADDR_IN_USE);
    assert_int_equal(access(path_of(&ln), F_OK), 0);
    close(fd);
}

static void what_is_no_socket_is_never_removed(void **state)
{
    struct fae_listener file = at_path("file"), link = at_path("link"), stale = at_path("stale");
    int fd = open(path_of(&file), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    (void)state;
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    assert_int_equal(open_it(&file, 1), FAE_SYSTEM);
    assert_string_equal(why, sentence(&file, "there is something in the way that is not a socket"));
    assert_int_equal(access(path_of(&file), F_OK), 0);

    assert_int_equal(open_it(&stale, 1), FAE_OK);
    fae_listener_close(&stale, false);
    assert_int_equal(symlink("stale", path_of(&link)), 0);
    assert_int_equal(open_it(&link, 1), FAE_SYSTEM);
    assert_string_equal(why, sentence(&link, "there is something in the way that is not a socket"));
    assert_int_equal(access(path_of(&stale), F_OK), 0);
}

static void a_missing_folder_is_told(void **state)
{
    struct fae_listener ln = at_path("none/s");
    unsigned fds = unit_count_fds();

    (void)state;
    assert_int_equal(open_it(&ln, 1), FAE_SYSTEM);
    assert_string_equal(why, sentence(&ln, "No such file or directory"));
    assert_int_equal(unit_count_fds(), fds);
}

/* Root may; anyone else must not take over a folder's socket that is not theirs. */
static int open_as_nobody(void *arg)
{
    struct fae_listener *ln = arg;

    if (setgid(65534) != 0 || setuid(65534) != 0)
        return 99;
    return open_it(ln, 1) == FAE_SYSTEM &&
                   strcmp(why, sentence(ln, "the old socket there belongs to another user")) == 0
               ? 0
               : 1;
}

static void a_stale_socket_of_another_user_is_refused(void **state)
{
    struct fae_listener ln = at_path("s");

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(dir, 01777), 0);
    ln.mode = 0666;
    assert_int_equal(open_it(&ln, 1), FAE_OK);
    fae_listener_close(&ln, false);
    assert_int_equal(unit_wait(unit_fork(open_as_nobody, &ln)), 0);
    assert_int_equal(access(path_of(&ln), F_OK), 0);
    /* Nor does root, unless the other is the account that it becomes. */
    assert_int_equal(chown(path_of(&ln), 65534, (gid_t)-1), 0);
    assert_int_equal(open_it(&ln, 1), FAE_SYSTEM);
    assert_string_equal(why, sentence(&ln, "the old socket there belongs to another user"));
    ln.account = 65534;
    assert_int_equal(open_it(&ln, 1), FAE_OK);
    fae_listener_close(&ln, true);
}

static void a_folder_of_everybody_is_refused(void **state)
{
    struct fae_listener ln = at_path("s");

    (void)state;
    assert_int_equal(chmod(dir, 0777), 0);
    assert_int_equal(open_it(&ln, 1), FAE_SYSTEM);
    assert_string_equal(why, sentence(&ln, "everyone may write in its folder, and so put another socket in its place"));
    assert_int_equal(access(path_of(&ln), F_OK), -1);
    assert_int_equal(chmod(dir, 01777), 0); /* there only the owner can remove it */
    assert_int_equal(open_it(&ln, 1), FAE_OK);
    fae_listener_close(&ln, true);
}

/* Without root: a group we are in, and never one we are not in. */
static void a_unix_socket_is_given_to_its_group(void **state)
{
    struct fae_listener ln = at_path("s");
    gid_t groups[64];
    int n = getgroups(64, groups);
    const struct group *group = getgrgid(n > 0 && groups[0] != getegid() ? groups[0] : geteuid() == 0 ? 1 : getegid());
    struct stat st;

    (void)state;
    assert_non_null(group);
    ln.group = group->gr_name;
    assert_int_equal(open_it(&ln, 1), FAE_OK);
    assert_int_equal(stat(path_of(&ln), &st), 0);
    assert_int_equal(st.st_gid, group->gr_gid);
    assert_int_equal(st.st_uid, geteuid());
    assert_int_equal(st.st_mode & 07777, 0660);
    fae_listener_close(&ln, true);
}

static void an_unknown_group_is_told(void **state)
{
    struct fae_listener ln = at_path("s");
    unsigned fds = unit_count_fds();

    (void)state;
    ln.group = "no such group";
    assert_int_equal(open_it(&ln, 1), FAE_BAD_CONFIG);
    assert_string_equal(why, sentence(&ln, "there is no group \"no such group\""));
    assert_int_equal(access(path_of(&ln), F_OK), -1);
    assert_int_equal(unit_count_fds(), fds);
}

static int give_away_as_nobody(void *arg)
{
    struct fae_listener *ln = arg;

    if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
        return 99;
    return open_it(ln, 1) == FAE_SYSTEM &&
                   strcmp(why, sentence(ln, "cannot give it to group \"root\": Operation not permitted")) == 0 &&
                   access(path_of(ln), F_OK) != 0
               ? 0
               : 1;
}

static void a_group_one_is_not_in_is_refused(void **state)
{
    struct fae_listener ln = at_path("s");

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(dir, 01777), 0);
    ln.group = "root";
    assert_int_equal(unit_wait(unit_fork(give_away_as_nobody, &ln)), 0);
}

static void a_sentence_is_cut_to_its_buffer(void **state)
{
    struct fae_listener ln = at_path("none/s");
    char small[8];

    (void)state;
    memset(small, 'Z', sizeof small);
    assert_int_equal(fae_listener_open(&ln, 1, 100, small, 7), FAE_SYSTEM);
    assert_int_equal(strlen(small), 6);
    assert_int_equal(small[7], 'Z');
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(every_worker_gets_a_tcp_socket),
        WITH_DIR(connections_reach_every_socket),
        WITH_DIR(another_server_on_the_port_is_noticed),
        WITH_DIR(the_port_is_free_after_close),
        WITH_DIR(ipv6_is_served),
        WITH_DIR(an_address_of_another_machine_is_told),
        WITH_DIR(a_unix_socket_is_shared_and_has_its_mode),
        WITH_DIR(a_stale_socket_is_replaced),
        WITH_DIR(a_live_socket_is_left_alone),
        WITH_DIR(a_live_socket_with_a_full_queue_is_left_alone),
        WITH_DIR(a_datagram_socket_is_left_alone),
        WITH_DIR(what_is_no_socket_is_never_removed),
        WITH_DIR(a_missing_folder_is_told),
        WITH_DIR(a_stale_socket_of_another_user_is_refused),
        WITH_DIR(a_folder_of_everybody_is_refused),
        WITH_DIR(a_unix_socket_is_given_to_its_group),
        WITH_DIR(an_unknown_group_is_told),
        WITH_DIR(a_group_one_is_not_in_is_refused),
        WITH_DIR(a_sentence_is_cut_to_its_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
