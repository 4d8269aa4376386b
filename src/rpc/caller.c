/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sessions' roles, and the tokens in messages.
 */
#include "rpc/caller.h"

#include <string.h>
#include <sys/socket.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/nets.h"
#include "net/digest.h"
#include "net/tls.h"
#include "rpc/server_impl.h"

#define WARN_EVERY_MS 1000

/* ---- roles of a session ---- */

static void add_account(struct fae_session *s, const struct fae_access *access, struct fae_caller *caller)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    /* A tcp socket answers too, with a uid of -1. */
    if (fae_access_has_accounts(access) && getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        fae_access_account(access, peer.uid, caller);
}

static void add_certificate(struct fae_session *s, const struct fae_access *access, struct fae_caller *caller)
{
    char name[FAE_TLS_NAME_MAX + 1];

    if (s->tls && fae_tls_established(s->tls) && fae_tls_client_name(s->tls, name))
        fae_access_certificate(access, name, caller);
}

void fae_caller_identify(struct fae_session *s)
{
    const struct fae_access *access = s->server->o.access;
    struct fae_caller caller = { .roles = FAE_ROLES_EVERYBODY };

    fae_access_listener(access, s->listener, &caller);
    add_account(s, access, &caller);
    add_certificate(s, access, &caller);
    fae_access_token(access, s->token, &caller);
    s->own = caller;
    fae_access_token(access, s->context_token, &caller);
    s->caller = caller;
}

struct fae_caller fae_caller_with(const struct fae_session *s, const struct fae_claims *claims)
{
    struct fae_caller caller = s->own;

    fae_access_token(s->server->o.access, claims->token, &caller);
    return caller;
}

/* ---- wrong tokens ---- */

void fae_guesses_init(struct fae_guesses *guesses)
{
    fae_random_bytes(&guesses->seed, sizeof guesses->seed);
}

static fae_bucket *bucket_of(struct fae_session *s)
{
    struct fae_guesses *guesses = &s->server->o.stats->guesses;
    struct fae_addr addr = { .len = sizeof addr.sa };
    struct ucred peer;
    socklen_t len = sizeof peer;
    uint64_t hash = 0;
    struct fae_ip ip;

    if (getpeername(s->fd, (struct sockaddr *)&addr.sa, &addr.len) == 0 && fae_addr_ip(&addr, &ip))
        hash = XXH3_64bits_withSeed(ip.bytes, fae_ip_is_v4(&ip) ? sizeof ip.bytes : 8, guesses->seed);
    else if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        hash = XXH3_64bits_withSeed(&peer.uid, sizeof peer.uid, guesses->seed);
    return &guesses->sources[hash % FAE_GUESS_SOURCES];
}

static void refuse(struct fae_session *s, const struct fae_request *req, uint32_t retry_after_ms)
{
    static const char wrong[] = "the token is not known", late[] = "too many wrong tokens from your address";
    struct fae_failure f = { .code = fae_err_name(FAE_UNAUTHORIZED),
                             .text = retry_after_ms ? late : wrong,
                             .retryable = retry_after_ms > 0,
                             .retry_after_ms = retry_after_ms ? (int64_t)retry_after_ms : -1 };

    FAE_STAT_ADD(s->server->stats->n_unauthorized, 1);
    if (req->notification)
        return;
    f.code_len = strlen(f.code);
    f.text_len = strlen(f.text);
    fae_session_fail(s, req->msgid, &f);
}

static void warn(struct fae_session *s)
{
    struct fae_server *server = s->server;
    uint64_t now_ms = server->o.loop->now_ms;
    char peer[FAE_ADDR_TEXT];

    server->n_guesses++;
    if (now_ms - server->guess_warned_ms < WARN_EVERY_MS)
        return;
    fae_session_peer(s, peer);
    FAE_WARN("access: %s showed a wrong token (%u since the last such line)", peer, server->n_guesses);
    server->guess_warned_ms = now_ms;
    server->n_guesses = 0;
}

/* One token: its id into *id_out. It is paid for before it is looked at, and paid back if it was right: whoever guesses
 * too fast does not learn when he is right. */
static bool look_at(struct fae_session *s, const struct fae_request *req, const struct fae_mp_token *t,
                    uint32_t *id_out)
{
    static const struct fae_gate_rule rule = { .step_ns = 1000000000u / FAE_GUESS_RATE, .burst_ns = 1000000000u };
    fae_bucket *bucket = bucket_of(s);
    uint32_t retry_after_ms = 0;

    if (!fae_bucket_take(bucket, &rule, fae_now_ns(), &retry_after_ms)) {
        refuse(s, req, retry_after_ms ? retry_after_ms : 1);
        return false;
    }
    *id_out = t->type == FAE_MP_STR || t->type == FAE_MP_BIN
                  ? fae_access_find_token(s->server->o.access, t->bytes, t->len)
                  : 0;
    if (*id_out) {
        atomic_fetch_sub_explicit(bucket, rule.step_ns, memory_order_relaxed);
        return true;
    }
    s->n_guesses++;
    warn(s);
    refuse(s, req, 0);
    return false;
}

/* ---- tokens in messages ---- */

static bool is_key(const struct fae_mp_token *t, const char *key, uint32_t len)
{
    return (t->type == FAE_MP_STR || t->type == FAE_MP_BIN) && t->len == len && memcmp(t->bytes, key, len) == 0;
}

/* The message lies in memory of ours, and whoever decodes it later finds a value of the same length there. */
static void blank(const struct fae_mp_token *t)
{
    if (t->type == FAE_MP_STR || t->type == FAE_MP_BIN || t->type == FAE_MP_EXT)
        memset((uint8_t *)t->bytes, '*', t->len);
}

bool fae_caller_claims(struct fae_session *s, const struct fae_request *req, const uint8_t *p,
                       struct fae_claims *claims)
{
    bool on = fae_access_on(s->server->o.access), ok = true;
    struct fae_mp_token map, key, value;

    p = fae_mp_read(p, &map);
    for (uint32_t i = 0; i < map.len; i++) {
        const uint8_t *at = fae_mp_skip(p);

        fae_mp_read(p, &key);
        p = fae_mp_skip(at);
        if (is_key(&key, "sticky", 6)) {
            claims->has_sticky = true;
        } else if (is_key(&key, "token", 5)) {
            fae_mp_read(at, &value);
            claims->has_token = true;
            if (on && ok && value.type != FAE_MP_NIL)
                ok = look_at(s, req, &value, &claims->token);
            blank(&value);
        }
    }
    if (!ok && s->n_guesses >= FAE_GUESSES_MAX)
        fae_session_lose(s, FAE_UNAUTHORIZED, "too many wrong tokens"); /* the message goes with it */
    return ok;
}
