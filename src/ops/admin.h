/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The admin HTTP API: one table of routes. What can be read from shared memory is read there; what only the supervisor
 * knows or may do goes to it through fae.ctl, so that reload and stop need no HTTP and this process may die.
 * /healthz, /readyz, /metrics and /stats are for machines on this host and ask for nothing. The rest asks for the token
 * whose SHA-256 is the option admin_token, and what changes something is off until there is one.
 */
#ifndef FAE_OPS_ADMIN_H
#define FAE_OPS_ADMIN_H

#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "net/http.h"
#include "ops/ctl.h"
#include "ops/metrics.h"

struct fae_admin {
    struct fae_http *http;
    struct fae_ctl ctl;
    const struct fae_config *config; /* admin_token is looked at anew for each request */
    struct fae_metrics_source source;
    uint64_t guesses_ms; /* when all wrong tokens so far will be forgiven */
};

/* Borrows the listening fd, the configuration and what the source points at. */
enum fae_err fae_admin_open(struct fae_admin *admin, struct fae_loop *loop, int fd, const struct fae_config *config,
                            const struct fae_metrics_source *source);
void fae_admin_close(struct fae_admin *admin);
/* Answers one request; for fae_http, and for specs without a socket. */
void fae_admin_answer(const struct fae_http_request *request, struct fae_http_answer *answer, void *admin);

#endif
