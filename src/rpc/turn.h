/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The accept turn of sockets that all workers share (unix): a word in shared memory names the one worker that watches,
 * since eight workers woken for each connection cost 32 us of cpu and one costs 18. It is passed to another when its
 * holder is busy, and taken by anyone when its holder was silent for FAE_TURN_SILENT_MS.
 */
#ifndef FAE_RPC_TURN_H
#define FAE_RPC_TURN_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

struct fae_turns {
    _Alignas(64) _Atomic uint32_t holder[FAE_LISTENERS_MAX]; /* slot */
};

size_t fae_turns_size(const void *unused);
void fae_turns_init(void *mem, const void *unused);

#endif
