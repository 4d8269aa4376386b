/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who a session's calls come from: from where it connected, its account, its certificate and the tokens it shows. A
 * token is blanked in the message as soon as it was looked at, so that nothing which reads the message later can show it.
 *
 *   sys.hello {token}              the session's own, until another is shown
 *   sys.ctx {token}                of the calls that bring no context of their own, until the next sys.ctx
 *   [0, msgid, method, params, {token}]   of that call
 */
#ifndef FAE_RPC_CALLER_H
#define FAE_RPC_CALLER_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/access.h"
#include "rpc/gate.h"
#include "rpc/service.h"

struct fae_session;

#define FAE_GUESS_SOURCES 256u /* addresses share a bucket by chance only: the seed is random */
#define FAE_GUESS_RATE 100u    /* wrong tokens a second of a source that are looked at; the bucket holds a second's */
#define FAE_GUESSES_MAX 5u     /* wrong tokens after which a session is closed */

/* Wrong tokens lately, by source address; in shared memory. */
struct fae_guesses {
    uint64_t seed;
    fae_bucket sources[FAE_GUESS_SOURCES];
};

void fae_guesses_init(struct fae_guesses *guesses);

/* What a context map says of who calls. */
struct fae_claims {
    bool has_token, has_sticky; /* the map has such keys */
    uint32_t token;             /* its id; 0: none */
};

/* Sets the session's roles anew: when it is accepted, its handshake is through, it showed a token, or the configuration
 * changed. */
void fae_caller_identify(struct fae_session *session);

/* Reads the map, adds what it claims to *claims, and blanks its tokens. False: a token was wrong, or too many were
 * lately; the request was answered, the session is perhaps closing, and the message may be gone. */
bool fae_caller_claims(struct fae_session *session, const struct fae_request *request, const uint8_t *map,
                       struct fae_claims *claims);

/* Who makes a call that brought these claims. */
struct fae_caller fae_caller_with(const struct fae_session *session, const struct fae_claims *claims);

#endif
