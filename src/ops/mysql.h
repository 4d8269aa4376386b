/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Statements of mysql by digest, as the first worker left them in the node's cache (lua/fae/querystats.lua). Clients of lc
 * may have put anything there, so it is shown only when it is JSON.
 */
#ifndef FAE_OPS_MYSQL_H
#define FAE_OPS_MYSQL_H

#include "base/buf.h"

struct fae_stores;

/* Adds `{"digests":[...]}`, those first that took the most time, at most 200; none when nobody told of any. stores may be
 * NULL. */
void fae_mysql_json(const struct fae_stores *stores, struct fae_buf *out);
/* Adds the first 20 as the member "mysql" to the object that ends `out`. */
void fae_mysql_json_member(const struct fae_stores *stores, struct fae_buf *out);

#endif
