/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a forked process does before anything else, whatever it becomes.
 */
#ifndef FAE_PROC_CHILD_H
#define FAE_PROC_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Signals as a program expects them, except that those an operator sends are left to the supervisor. */
void fae_child_signals(void);
/* The supervisor's death ends this process too: at once, or (grace) within a second even when it is stuck. Ends it here
 * when the supervisor, `parent`, is gone already. */
void fae_child_follow(pid_t parent, bool grace);
/* Keeps this process on the nth core that it may run on, counted round. SYSTEM and errno. */
enum fae_err fae_child_pin(unsigned nth);

#endif
