/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Accounts, capabilities, limits; by plain system calls, so that no library is needed for it.
 */
#include "proc/privs.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sanitize.h"

#define STACK_BYTES (96u * 1024 * 1024)

void fae_privs_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    /* A string.gsub whose function calls it again takes 9 KB of C stack each time, and LuaJIT's own limit ends that only
     * after some 2,200 times. The kernel keeps 128 MB free below the stack, whatever the limit was at exec. */
    if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur < STACK_BYTES) {
        limit.rlim_cur = limit.rlim_max < STACK_BYTES ? limit.rlim_max : STACK_BYTES;
        setrlimit(RLIMIT_STACK, &limit);
    }
}

void fae_privs_cores(bool wanted, bool traced)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = wanted ? limit.rlim_max : 0;
        setrlimit(RLIMIT_CORE, &limit);
    }
    prctl(PR_SET_DUMPABLE, wanted || traced || FAE_ASAN || FAE_TSAN, 0, 0, 0); /* a change of accounts has reset it */
}

enum fae_err fae_privs_account(const char *user, uid_t *uid_out, gid_t *gid_out, char *why_out, size_t why_size)
{
    const struct passwd *pw;

    if (!*user) {
        *uid_out = geteuid();
        *gid_out = getegid();
        return FAE_OK;
    }
    errno = 0;
    pw = getpwnam(user);
    if (!pw) {
        snprintf(why_out, why_size, "user: there is no account \"%s\"%s%s", user, errno ? ": " : "",
                 errno ? strerror(errno) : "");
        return FAE_BAD_CONFIG;
    }
    if (geteuid() != 0 && pw->pw_uid != geteuid()) {
        snprintf(why_out, why_size, "user: only root can change to \"%s\"", user);
        return FAE_BAD_CONFIG;
    }
    *uid_out = pw->pw_uid;
    *gid_out = pw->pw_gid;
    return FAE_OK;
}

bool fae_privs_may_write(const char *user, const char *folder)
{
    char why[300];
    uid_t uid;
    gid_t gid;
    bool may;

    if (fae_privs_account(user, &uid, &gid, why, sizeof why))
        return false;
    if (uid != geteuid() && (initgroups(user, gid) != 0 || setegid(gid) != 0 || seteuid(uid) != 0))
        return false;
    may = faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0;
    if (geteuid() != getuid() && (seteuid(getuid()) != 0 || setegid(getgid()) != 0))
        return false;
    return may;
}

static enum fae_err become(const char *user, char *why, size_t size)
{
    uid_t uid;
    gid_t gid;
    enum fae_err err = fae_privs_account(user, &uid, &gid, why, size);

    if (err || uid == geteuid())
        return err;
    if (initgroups(user, gid) != 0 || setgid(gid) != 0 || setuid(uid) != 0 || (uid != 0 && setuid(0) == 0)) {
        snprintf(why, size, "user: cannot change to \"%s\": %s", user, strerror(errno));
        return FAE_SYSTEM;
    }
    return FAE_OK;
}

/* Root too keeps none: what needs one (low ports) is done. */
static void drop_capabilities(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    memset(none, 0, sizeof none);
    syscall(SYS_capset, &head, none);
}

enum fae_err fae_privs_drop(const char *user, char *why_out, size_t why_size)
{
    enum fae_err err;

    /* While we still may: the bounding set needs a capability itself. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    err = become(user, why_out, why_size);
    if (err)
        return err;
    drop_capabilities();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        snprintf(why_out, why_size, "cannot give up new privileges: %s", strerror(errno));
        return FAE_SYSTEM;
    }
    return FAE_OK;
}
