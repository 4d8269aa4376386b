/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The life socket between the supervisor and one child: its end of file tells the child that the supervisor is gone,
 * and descriptors of bundles travel over it, since a mailbox carries bytes only.
 */
#ifndef FAE_PROC_LIFE_H
#define FAE_PROC_LIFE_H

#include <stdint.h>

#include "base/err.h"

/* Both ends do not block and close on exec. */
enum fae_err fae_life_pair(int *supervisor_out, int *child_out);
/* Borrows fd. UNAVAILABLE: the child does not take it. */
enum fae_err fae_life_send(int life, uint64_t ticket, int fd);
/* OK: fd_out is the caller's. NOT_FOUND: nothing there now. CLOSED: the supervisor is gone. */
enum fae_err fae_life_recv(int life, uint64_t *ticket_out, int *fd_out);

#endif
