/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Run folder and pid file.
 */
#include "proc/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 10 /* a pid file that its owner removes while we open it */

/* One folder, or all that lead to it: `run` and /var/lib/shop/run alike. */
static bool make_folders(char *path, uid_t uid, gid_t gid)
{
    for (char *slash = path + 1;; slash++) {
        char *cut = strchr(slash, '/');

        if (cut)
            *cut = '\0';
        if (mkdir(path, 0750) == 0) {
            if (geteuid() == 0 && uid != 0 && chown(path, uid, gid) != 0)
                return false;
        } else if (errno != EEXIST) {
            return false;
        }
        if (!cut)
            return true;
        *cut = '/';
        slash = cut;
    }
}

static enum fae_err settle(struct fae_rundir *dir, const char *path, uid_t uid, gid_t gid, char *why, size_t size)
{
    char wanted[FAE_OPT_TEXT], real[PATH_MAX];

    snprintf(wanted, sizeof wanted, "%s", path);
    if (!make_folders(wanted, uid, gid) || !realpath(path, real)) {
        snprintf(why, size, "%s %s: %s", dir->option, path, strerror(errno));
        return FAE_SYSTEM;
    }
    /* The longest name in a run folder, fae.ctl or fae.sock, must fit a socket's address. */
    if (strcmp(dir->option, "run_dir") == 0 && strlen(real) + sizeof "/fae.sock" > 108) {
        snprintf(why, size, "run_dir %s: its path is too long for sockets in it (at most %zu bytes)", real,
                 108 - sizeof "/fae.sock");
        return FAE_SYSTEM;
    }
    if (strlen(real) >= sizeof dir->path) {
        snprintf(why, size, "%s %s: its path is too long (at most %zu bytes)", dir->option, real, sizeof dir->path - 1);
        return FAE_SYSTEM;
    }
    memcpy(dir->path, real, strlen(real) + 1);
    snprintf(dir->pid_path, sizeof dir->pid_path, "%s/fae.pid", dir->path);
    return FAE_OK;
}

/* A process's own lock, which children do not inherit: a child that outlives us must not keep the next node away. */
static bool lock(int fd, pid_t *holder_out)
{
    struct flock want = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (fcntl(fd, F_SETLK, &want) == 0)
        return true;
    *holder_out = fcntl(fd, F_GETLK, &want) == 0 && want.l_type != F_UNLCK ? want.l_pid : 0;
    return false;
}

static bool is_still(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static bool write_pid(int fd)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    return ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == n;
}

static enum fae_err take_pid_file(struct fae_rundir *dir, uid_t uid, gid_t gid, char *why, size_t size)
{
    pid_t holder = 0;
    struct stat st;

    for (int i = 0; i < TRIES; i++) {
        dir->pid_fd = open(dir->pid_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (dir->pid_fd < 0)
            break;
        if (!lock(dir->pid_fd, &holder)) {
            snprintf(why, size, "a node runs in %s already (pid %ld)", dir->path, (long)holder);
            fae_rundir_close(dir, false);
            return FAE_ADDR_IN_USE;
        }
        if (is_still(dir->pid_fd, dir->pid_path)) {
            dir->stale = fstat(dir->pid_fd, &st) == 0 && st.st_size > 0;
            if (geteuid() == 0 && uid != 0 && fchown(dir->pid_fd, uid, gid) != 0)
                break;
            if (!write_pid(dir->pid_fd))
                break;
            return FAE_OK;
        }
        fae_rundir_close(dir, false);
        errno = EAGAIN;
    }
    snprintf(why, size, "%s: %s", dir->pid_path, strerror(errno));
    fae_rundir_close(dir, false);
    return FAE_SYSTEM;
}

enum fae_err fae_rundir_open(struct fae_rundir *dir, const char *option, const char *path, uid_t uid, gid_t gid,
                             char *why_out, size_t why_size)
{
    enum fae_err err;

    *dir = (struct fae_rundir){ .option = option, .pid_fd = -1 };
    err = settle(dir, path, uid, gid, why_out, why_size);
    return err ? err : take_pid_file(dir, uid, gid, why_out, why_size);
}

void fae_rundir_close(struct fae_rundir *dir, bool unlink_pid_file)
{
    if (dir->pid_fd < 0)
        return;
    if (unlink_pid_file)
        unlink(dir->pid_path);
    close(dir->pid_fd);
    dir->pid_fd = -1;
}
