/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The writer of a kv store: a thread of the serving process. It takes what all workers have asked for, runs it as one
 * transaction, answers, and takes what has come meanwhile. In between it removes what has expired and frees the places
 * of readers that died.
 */
#ifndef FAE_STORE_KV_WRITER_H
#define FAE_STORE_KV_WRITER_H

#include "store/kv.h"

enum fae_err fae_kv_writer_start(struct fae_kv_store *store, char *why_out, size_t why_size);
/* What was asked for is done first. */
void fae_kv_writer_stop(struct fae_kv_store *store);

#endif
