/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The run folder, the data folder, and the pid file in each, whose lock says that a node runs there. The lock belongs to the supervisor's
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
    const char *option;
    char path[FAE_OPT_TEXT]; /* absolute */
    char pid_path[FAE_OPT_TEXT + 16];
    int pid_fd; /* -1: none */
    bool stale; /* the node before us did not end well: its children may be about to finish */
};

/* option: "run_dir", or "data_dir", in which there are no sockets. Makes the folder when missing (0750, owned by uid and gid) and takes the pid file. ADDR_IN_USE: another node has it. */
enum fae_err fae_rundir_open(struct fae_rundir *dir, const char *option, const char *path, uid_t uid, gid_t gid,
                             char *why_out, size_t why_size);
void fae_rundir_close(struct fae_rundir *dir, bool unlink_pid_file);

#endif
