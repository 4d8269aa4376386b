/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Binding. The supervisor runs this before its first fork, with no thread beside it (umask belongs to the process).
 */
#include "net/listen.h"

#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/given.h"

struct why {
    char *text;
    size_t size;
};

static void say(const struct fae_listener *, struct why, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void say(const struct fae_listener *ln, struct why why, const char *fmt, ...)
{
    int n = snprintf(why.text, why.size, "%s: ", ln->text);
    va_list ap;

    va_start(ap, fmt);
    if (n >= 0 && (size_t)n < why.size)
        vsnprintf(why.text + n, why.size - (size_t)n, fmt, ap);
    va_end(ap);
}

/* Explains errno. */
static enum fae_err refused(const struct fae_listener *ln, struct why why)
{
    int failed = errno;

    if (failed == EADDRINUSE) {
        say(ln, why, "address is in use by another process");
        return FAE_ADDR_IN_USE;
    }
    say(ln, why, "%s", strerror(failed));
    return FAE_SYSTEM;
}

static int new_socket(const struct fae_listener *ln)
{
    return socket(ln->addr.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static bool set(int fd, int level, int option)
{
    const int one = 1;

    return setsockopt(fd, level, option, &one, sizeof one) == 0;
}

static int bind_to(const struct fae_listener *ln, int fd)
{
    return bind(fd, (const struct sockaddr *)&ln->addr.sa, ln->addr.len);
}

/* ---- tcp ---- */

static bool prepare_tcp(const struct fae_listener *ln, int fd)
{
    if (ln->addr.sa.ss_family == AF_INET6 && !set(fd, IPPROTO_IPV6, IPV6_V6ONLY))
        return false;
    return set(fd, SOL_SOCKET, SO_REUSEADDR);
}

/* SO_REUSEPORT would share the port with another server of the same user; a plain bind is refused while anyone listens.
 * It does not listen itself: a connection that came just now would be reset by the close. */
static enum fae_err probe_tcp(const struct fae_listener *ln, struct why why)
{
    enum fae_err err = FAE_OK;
    int fd = new_socket(ln);

    if (fd < 0)
        return refused(ln, why);
    if (!prepare_tcp(ln, fd) || bind_to(ln, fd) != 0)
        err = refused(ln, why);
    close(fd);
    return err;
}

static bool set_to(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* A client whose machine or network is gone says nothing; the kernel asks it. */
static bool keep_alive(int fd)
{
    return set(fd, SOL_SOCKET, SO_KEEPALIVE) && set_to(fd, IPPROTO_TCP, TCP_KEEPIDLE, FAE_KEEPALIVE_IDLE_S) &&
           set_to(fd, IPPROTO_TCP, TCP_KEEPINTVL, FAE_KEEPALIVE_PAUSE_S) &&
           set_to(fd, IPPROTO_TCP, TCP_KEEPCNT, FAE_KEEPALIVE_PROBES);
}

/* Accepted sockets inherit these from the one that listens. */
static bool listen_tcp(const struct fae_listener *ln, int fd, int backlog)
{
    return prepare_tcp(ln, fd) && set(fd, SOL_SOCKET, SO_REUSEPORT) && set(fd, IPPROTO_TCP, TCP_NODELAY) &&
           keep_alive(fd) && bind_to(ln, fd) == 0 && listen(fd, backlog) == 0;
}

static enum fae_err open_tcp(struct fae_listener *ln, unsigned n_workers, int backlog, struct why why)
{
    enum fae_err err = fae_addr_port(&ln->addr) ? probe_tcp(ln, why) : FAE_OK;

    while (!err && ln->n_fds < n_workers) {
        int fd = new_socket(ln);

        if (fd < 0)
            return refused(ln, why);
        ln->fds[ln->n_fds++] = fd;
        if (!listen_tcp(ln, fd, backlog))
            return refused(ln, why);
        /* Port 0: the first socket is given one, the others follow it. */
        if (getsockname(fd, (struct sockaddr *)&ln->addr.sa, &ln->addr.len) != 0)
            return refused(ln, why);
        fae_addr_format(&ln->addr, ln->text);
    }
    return err;
}

/* ---- unix ---- */

/* Is there a server behind the socket file? ADDR_IN_USE: yes; OK: it is a dead server's. */
static enum fae_err ask_unix(const struct fae_listener *ln, struct why why)
{
    enum fae_err err = FAE_OK;
    int fd = new_socket(ln);

    if (fd < 0)
        return refused(ln, why);
    if (connect(fd, (const struct sockaddr *)&ln->addr.sa, ln->addr.len) == 0 || errno == EAGAIN || errno == EPROTOTYPE)
        errno = EADDRINUSE; /* answered, or too busy to answer, or no stream */
    if (errno != ECONNREFUSED && errno != ENOENT)
        err = refused(ln, why);
    close(fd);
    return err;
}

/* Where everyone may put files, anybody can put a socket of his own in the place of ours. */
static enum fae_err check_folder(const struct fae_listener *ln, const char *path, struct why why)
{
    const char *slash = strrchr(path, '/');
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    struct stat st;

    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (stat(folder, &st) != 0)
        return refused(ln, why);
    if (!(st.st_mode & S_IWOTH) || st.st_mode & S_ISVTX)
        return FAE_OK;
    say(ln, why, "everyone may write in its folder, and so put another socket in its place");
    return FAE_SYSTEM;
}

static enum fae_err clear_path(const struct fae_listener *ln, const char *path, struct why why)
{
    struct stat st;
    enum fae_err err;

    if (lstat(path, &st) != 0)
        return errno == ENOENT ? FAE_OK : refused(ln, why);
    if (!S_ISSOCK(st.st_mode)) {
        say(ln, why, "there is something in the way that is not a socket");
        return FAE_SYSTEM;
    }
    err = ask_unix(ln, why);
    if (err)
        return err;
    if (st.st_uid != geteuid() && !(geteuid() == 0 && st.st_uid == ln->account)) {
        say(ln, why, "the old socket there belongs to another user");
        return FAE_SYSTEM;
    }
    if (unlink(path) != 0 && errno != ENOENT)
        return refused(ln, why);
    return FAE_OK;
}

static enum fae_err find_group(const struct fae_listener *ln, gid_t *gid_out, struct why why)
{
    const struct group *group;

    *gid_out = (gid_t)-1;
    if (!ln->group || !*ln->group)
        return FAE_OK;
    errno = 0;
    group = getgrnam(ln->group);
    if (!group) {
        say(ln, why, "there is no group \"%s\"%s%s", ln->group, errno ? ": " : "", errno ? strerror(errno) : "");
        return FAE_BAD_CONFIG;
    }
    *gid_out = group->gr_gid;
    return FAE_OK;
}

static bool give_group(const struct fae_listener *ln, const char *path, gid_t gid, struct why why)
{
    if (gid == (gid_t)-1 || chown(path, (uid_t)-1, gid) == 0)
        return true;
    say(ln, why, "cannot give it to group \"%s\": %s", ln->group, strerror(errno));
    return false;
}

static enum fae_err open_unix(struct fae_listener *ln, int backlog, struct why why)
{
    const char *path = ((const struct sockaddr_un *)&ln->addr.sa)->sun_path;
    enum fae_err err;
    mode_t mask;
    gid_t gid;
    int fd, rc;

    err = find_group(ln, &gid, why);
    if (!err)
        err = check_folder(ln, path, why);
    if (!err)
        err = clear_path(ln, path, why);
    if (err)
        return err;
    fd = new_socket(ln);
    if (fd < 0)
        return refused(ln, why);
    ln->shared = true;
    ln->fds[ln->n_fds++] = fd;
    /* Never open wider than asked, not even between bind and chmod. */
    mask = umask(0777 & ~ln->mode);
    rc = bind_to(ln, fd);
    umask(mask);
    if (rc != 0)
        return refused(ln, why);
    if (!give_group(ln, path, gid, why))
        err = FAE_SYSTEM;
    else if (chmod(path, ln->mode) != 0 || listen(fd, backlog) != 0)
        err = refused(ln, why);
    if (err)
        unlink(path);
    return err;
}

/* Its owner chose the backlog, a file's mode and its group; the rest accepted sockets inherit from it, as from ours. */
static enum fae_err take_given(struct fae_listener *ln, int fd, struct why why)
{
    ln->given = ln->shared = true;
    ln->fds[ln->n_fds++] = fd;
    if (fae_addr_is_unix(&ln->addr) || (set(fd, IPPROTO_TCP, TCP_NODELAY) && keep_alive(fd)))
        return FAE_OK;
    return refused(ln, why);
}

static enum fae_err open_own(struct fae_listener *ln, unsigned n_workers, int backlog, struct why why)
{
    return fae_addr_is_unix(&ln->addr) ? open_unix(ln, backlog, why) : open_tcp(ln, n_workers, backlog, why);
}

enum fae_err fae_listener_open(struct fae_listener *ln, unsigned n_workers, int backlog, char *why_out, size_t why_size)
{
    struct why why = { why_out, why_size };
    int fd = fae_given_find(&ln->addr);
    enum fae_err err;

    FAE_ASSERT(n_workers >= 1);
    FAE_ASSERT(n_workers <= FAE_WORKERS_MAX);
    ln->n_fds = 0;
    ln->shared = ln->given = false;
    fae_addr_format(&ln->addr, ln->text);
    err = fd >= 0 ? take_given(ln, fd, why) : open_own(ln, n_workers, backlog, why);
    if (err)
        fae_listener_close(ln, false);
    return err;
}

void fae_listener_close(struct fae_listener *ln, bool unlink_path)
{
    while (ln->n_fds)
        close(ln->fds[--ln->n_fds]);
    if (unlink_path && !ln->given && fae_addr_is_unix(&ln->addr))
        unlink(((const struct sockaddr_un *)&ln->addr.sa)->sun_path);
}
