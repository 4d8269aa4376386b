/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The admin HTTP API: one table of routes. /healthz and /readyz are what a service manager and a balancer ask.
 */
#ifndef FAE_OPS_ADMIN_H
#define FAE_OPS_ADMIN_H

#include "base/err.h"
#include "base/slot.h"
#include "net/http.h"

struct fae_admin {
    struct fae_http *http;
    const struct fae_slots *slots;
};

/* Borrows the listening fd and the slots. */
enum fae_err fae_admin_open(struct fae_admin *admin, struct fae_loop *loop, int fd, const struct fae_slots *slots);
void fae_admin_close(struct fae_admin *admin);
/* Answers one request; for fae_http, and for specs without a socket. */
void fae_admin_answer(const struct fae_http_request *request, struct fae_http_answer *answer, void *admin);

#endif
