/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Whom the server parts with: clients that say nothing, say it too slowly, or do not read what they asked for. Looking
 * at all sessions at every tick would cost more than serving them when they are many and idle, so each tick has a share.
 */
#include <sys/socket.h>

#include "rpc/server_impl.h"

#define TICKS_A_SECOND (1000 / FAE_TICK_MS)
#define CHECKS_MIN 256u /* a tick: small nodes are exact to a tick, large ones to a second */

/* ---- time ---- */

bool fae_session_has_unread(const struct fae_session *s)
{
    char byte;

    return recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static uint32_t later(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0 ? a : b;
}

static void check_idle(struct fae_session *s, uint32_t now_ms)
{
    const struct fae_config *config = s->server->o.config;
    uint64_t limit_ms = !s->heard    ? config->first_byte_timeout_ms
                        : s->is_unix ? config->idle_timeout_unix_ms
                                     : config->idle_timeout_ms;

    if (!limit_ms || s->n_calls || s->in || s->out.len || s->is_ready || s->closing)
        return;
    if (now_ms - later(s->seen_ms, s->out_since) < limit_ms || fae_session_has_unread(s))
        return;
    FAE_STAT_ADD(s->server->stats->n_limit_hits[s->heard ? FAE_LIMIT_idle : FAE_LIMIT_first_byte], 1);
    fae_session_close(s, FAE_TIMEOUT);
}

static bool is_slow(const struct fae_session *s, uint64_t took_ms)
{
    const struct fae_config *config = s->server->o.config;

    if (took_ms < config->partial_timeout_ms)
        return false;
    return !config->partial_rate_min || s->in->bytes.len * 1000 < config->partial_rate_min * took_ms;
}

void fae_session_check(struct fae_session *s, uint64_t now)
{
    uint32_t now_ms = (uint32_t)now;

    if (s->watching & FAE_WRITABLE) { /* what was written this turn has not been offered to the socket yet */
        if (now_ms - s->out_since < s->server->o.config->out_stall_ms)
            return;
        FAE_LIMIT_HIT(s->server, out_stall);
        fae_session_close(s, FAE_TIMEOUT);
    } else if (s->lingering) {
        if (now_ms - s->out_since >= FAE_LINGER_MS)
            fae_session_close(s, FAE_CLOSED);
    } else if (s->partial && is_slow(s, now_ms - s->in_since)) {
        FAE_LIMIT_HIT(s->server, partial);
        fae_session_lose(s, FAE_TIMEOUT, "the rest of a message did not come in time");
    } else {
        check_idle(s, now_ms);
    }
}

void fae_server_check(struct fae_server *server)
{
    unsigned n = server->n_sessions / TICKS_A_SECOND + 1;

    if (n < CHECKS_MIN)
        n = server->n_sessions < CHECKS_MIN ? server->n_sessions : CHECKS_MIN;
    while (n--) {
        struct fae_list *node = server->check_next;

        if (!node || node == &server->sessions)
            node = server->sessions.next;
        if (node == &server->sessions)
            return;
        server->check_next = node->next;
        fae_session_check(FAE_CONTAINER(node, struct fae_session, node), server->o.loop->now_ms);
    }
}

/* ---- memory ---- */

static _Atomic uint64_t *gauge(struct fae_slot *slot, enum fae_held kind)
{
    return kind == FAE_HELD_IN ? &slot->in_bytes : &slot->out_bytes;
}

void fae_session_holds(struct fae_session *s, enum fae_held kind, size_t bytes)
{
    struct fae_server *server = s->server;

    if (bytes == s->held[kind])
        return;
    server->held[kind] += bytes - s->held[kind];
    s->held[kind] = (uint32_t)bytes;
    FAE_STAT_SET(*gauge(server->slot, kind), server->held[kind]);
}

static uint32_t most_held(const struct fae_server *server, enum fae_held kind)
{
    uint32_t most = 0;

    FAE_LIST_EACH(node, &server->sessions) {
        const struct fae_session *s = FAE_CONTAINER(node, struct fae_session, node);

        most = s->held[kind] > most ? s->held[kind] : most;
    }
    return most;
}

/* Those who hold most go first, until `bytes` are free. */
static void cut_some(struct fae_server *server, enum fae_held kind, uint64_t bytes)
{
    uint64_t enough = server->held[kind] > bytes ? server->held[kind] - bytes : 0;

    while (server->held[kind] > enough) {
        uint32_t least = most_held(server, kind) / 2 + 1;

        FAE_LIST_EACH(node, &server->sessions) {
            struct fae_session *s = FAE_CONTAINER(node, struct fae_session, node);

            if (s->held[kind] < least || server->held[kind] <= enough)
                continue;
            if (kind == FAE_HELD_IN)
                FAE_LIMIT_HIT(server, in_max);
            else
                FAE_LIMIT_HIT(server, out_max);
            fae_session_close(s, FAE_LIMIT);
        }
    }
}

static void relieve(struct fae_server *server, enum fae_held kind, uint64_t max)
{
    uint64_t own = server->held[kind], all = 0, n_holding = 0;

    if (own == 0)
        return;
    for (unsigned i = 0; i < server->o.slots->n_workers; i++) {
        uint64_t bytes = FAE_STAT_GET(*gauge(&server->o.slots->slots[i], kind));

        all += bytes;
        n_holding += bytes != 0;
    }
    /* Whoever has more than an equal part cuts; there is always one, and its own tick comes within FAE_TICK_MS. Some
     * more than need be, so that the next answer does not mean looking for the next client. */
    if (all > max && own * n_holding >= all)
        cut_some(server, kind, (uint64_t)((double)(all - max + max / 8) * (double)own / (double)all));
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void fae_server_relieve(struct fae_server *server)
{
    const struct fae_config *config = server->o.config;
    const struct fae_slots *slots = server->o.slots;

    relieve(server, FAE_HELD_IN, least(config->in_max, slots->io_max));
    relieve(server, FAE_HELD_OUT, least(config->out_max, slots->io_max));
}
