/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The lists, and libseccomp, which only this file sees.
 */
#include "proc/seccomp.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/config_check.h"
#include "base/sanitize.h"

/* Names the system does not know are passed over: they cannot be called. */
static const char *const denied[] = {
    /* other processes and their memory */
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    "move_pages",
    "migrate_pages",
    /* doors that many holes in kernels were found behind */
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "fanotify_init",
    "modify_ldt",
    "personality",
    "remap_file_pages",
    "vmsplice",
    "lookup_dcookie",
    "uselib",
    "sysfs",
    "ustat",
    "nfsservctl",
    "add_key",
    "request_key",
    "keyctl",
    /* the shape of the file system */
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "unshare",
    "setns",
    "mknod",
    "mknodat",
    "open_by_handle_at",
    "name_to_handle_at",
    "quotactl",
    "quotactl_fd",
    /* the machine */
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "syslog",
    "vhangup",
    "iopl",
    "ioperm",
    "sethostname",
    "setdomainname",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "stime",
    /* programs, but by the way that is opened for them */
    "execveat",
};

static const char *const starting[] = { "execve", "fork", "vfork" };

/* Families of sockets that lead into parts of the kernel nobody here needs. */
static const int
    families[] = { AF_ALG, AF_PACKET, AF_KEY, AF_VSOCK, AF_BLUETOOTH, AF_CAN, AF_TIPC, AF_RDS, 44 /* XDP */ };

static int deny(scmp_filter_ctx ctx, const char *name, int error)
{
    int number = seccomp_syscall_resolve_name(name);

    return number < 0 ? 0 : seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)error), number, 0);
}

static int deny_all(scmp_filter_ctx ctx, const char *const *names, size_t n)
{
    int rc = 0;

    for (size_t i = 0; i < n && !rc; i++)
        rc = deny(ctx, names[i], EPERM);
    return rc;
}

/* A new thread is no new process. Who asks by clone3 is told that there is none, as an older kernel would, and comes
 * again by clone, whose flags can be seen. */
static int deny_processes(scmp_filter_ctx ctx)
{
    int rc = deny_all(ctx, starting, sizeof starting / sizeof *starting);

    if (!rc)
        rc = deny(ctx, "clone3", ENOSYS);
    if (!rc)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    return rc;
}

static int deny_arguments(scmp_filter_ctx ctx)
{
    int rc = 0;

    for (size_t i = 0; i < sizeof families / sizeof *families && !rc; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0));
    if (!rc) /* typing into the terminal that started us */
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, TIOCSTI));
    return rc;
}

static void set_manners(scmp_filter_ctx ctx)
{
    /* A tree instead of a list: the path of the calls we make ten thousand times a second. */
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    /* Older kernels would slow every filtered process down against a leak between strangers' code in one process. */
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1);
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, 1);
    /* 32-bit system calls, which have other numbers. */
    seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
}

static int install(scmp_filter_ctx ctx, bool may_start)
{
    int rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);

    set_manners(ctx);
    if (!rc)
        rc = deny_all(ctx, denied, sizeof denied / sizeof *denied);
    if (!rc && !may_start)
        rc = deny_processes(ctx);
    if (!rc)
        rc = deny_arguments(ctx);
    return rc ? rc : seccomp_load(ctx);
}

enum fae_err fae_seccomp_install(bool may_start, char *why_out, size_t why_size)
{
    scmp_filter_ctx ctx;
    int rc;

    if (FAE_ASAN || FAE_TSAN)
        return FAE_OK; /* they look for leaks by tracing, and start a program to name lines */
    ctx = seccomp_init(SCMP_ACT_ALLOW);
    rc = ctx ? install(ctx, may_start) : -ENOMEM;
    if (ctx)
        seccomp_release(ctx);
    if (rc == 0)
        return FAE_OK;
    snprintf(why_out, why_size, "cannot install the filter of system calls: %s; seccomp(false) does without",
             strerror(-rc));
    return FAE_SYSTEM;
}

bool fae_seccomp_may_start(const struct fae_config *config)
{
    char word[FAE_OPT_LIST_TEXT];

    for (unsigned i = 0; i < config->n_fence; i++)
        for (const char *list = config->fence[i].allow; fae_config_word(&list, word);)
            if (strcmp(word, "io.popen") == 0 || strcmp(word, "os.execute") == 0)
                return true;
    return false;
}
