/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A filter on system calls for workers and ops, put on once their libraries are initialised, so that whoever gets hold
 * of such a process finds a smaller kernel: no programs, no other processes' memory, no mounts, modules, keys, bpf.
 * It names what is denied, not what is allowed. An allow list would have to foresee each call of libc, LuaJIT, OpenSSL,
 * LMDB and four database clients with threads of their own, and a miss is a crash in the middle of the night after an
 * upgrade; what is denied here no library of ours has a use for. A denied call gives EPERM, and a line in the kernel's
 * log. The supervisor has no filter (it forks, and will start its own successor), nor has --single (it forks checkers).
 */
#ifndef FAE_PROC_SECCOMP_H
#define FAE_PROC_SECCOMP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/config.h"
#include "base/err.h"

/* For all threads of this process, and for good. With may_start, programs can be started as ever. SYSTEM with a sentence
 * in why_out. */
enum fae_err fae_seccomp_install(bool may_start, char *why_out, size_t why_size);
/* The fence of some servant is open for io.popen or os.execute. */
bool fae_seccomp_may_start(const struct fae_config *config);

#endif
