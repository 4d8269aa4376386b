/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The run folder and the pid file in it, whose lock says that a node runs there. The lock belongs to the supervisor's
 * process alone and ends with it, however it ends.
 */
#ifndef FAE_PROC_RUNDIR_H
#define FAE_PROC_RUNDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/opt.h"

struct fae_rundir {
    char path[FAE_OPT_TEXT]; /* absolute */
    char pid_path[FAE_OPT_TEXT + 16];
    int pid_fd; /* -1: none */
    bool stale; /* the node before us did not end well: its children may be about to finish */
};

/* Makes the folder when missing (0750, owned by uid and gid) and takes the pid file. ADDR_IN_USE: another node has it. */
enum fae_err fae_rundir_open(struct fae_rundir *dir, const char *path, uid_t uid, gid_t gid, char *why_out,
                             size_t why_size);
void fae_rundir_close(struct fae_rundir *dir, bool unlink_pid_file);

#endif
