/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Listening sockets that whoever started us holds open for us, as systemd does: LISTEN_FDS of them from descriptor 3 on,
 * meant for us when LISTEN_PID is our number. Clients wait in them while we are started anew.
 */
#ifndef FAE_NET_GIVEN_H
#define FAE_NET_GIVEN_H

#include "net/addr.h"

/* The one that listens on exactly that address, or -1. It does not block and does not outlive an exec then. */
int fae_given_find(const struct fae_addr *addr);

#endif
