/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a node may do: raised where it can be before sockets are bound, given away for good afterwards.
 */
#ifndef FAE_PROC_PRIVS_H
#define FAE_PROC_PRIVS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* Raises the limit of open files as far as it goes. */
void fae_privs_limits(void);
/* A core file holds what clients sent, and so does what a debugger of the same account can read. Cores are left only if
 * `wanted`; unless they are, or somebody is to trace the process, no other process of the account may look into it. To be
 * called once the account is what it stays. */
void fae_privs_cores(bool wanted, bool traced);
/* The account's ids; BAD_CONFIG with a sentence in why_out. "" is the account we have. */
enum fae_err fae_privs_account(const char *user, uid_t *uid_out, gid_t *gid_out, char *why_out, size_t why_size);
/* Could that account make and remove files in the folder? To be asked while there is still a way back. */
bool fae_privs_may_write(const char *user, const char *folder);
/* Becomes `user` ("" stays), and gives up every capability and the way to new ones. */
enum fae_err fae_privs_drop(const char *user, char *why_out, size_t why_size);

#endif
