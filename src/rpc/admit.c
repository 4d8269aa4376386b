/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What is let in: calls before the service sees them, and sessions. A call is looked at closely only when some limit may
 * be met (server->calls_free), so that a node with room to spare pays one comparison a call.
 *
 * Congestion is found by how long calls wait, not by how many there are. All input that was there when a turn began is in
 * it; when after overload_delay_ms of running FAE_QUEUE_MIN sessions still wait, the turn is behind. The next one begins
 * at once: when it finds nothing to do, that was a burst, or clients who wait for their answers, and no queue that stays.
 * What one session has pipelined is its own queue: it is held back by not being read, and never refused for it alone.
 *
 *   calm --all turns of FAE_CONGESTED_AFTER_MS behind--> congested --none of FAE_CONGESTED_UNTIL_MS behind--> easing
 *   easing --one turn behind--> congested        easing --FAE_CONGESTED_EASE_MS--> calm
 *
 * While congested a turn runs calls for FAE_CONGESTED_RUN_MS: of those first who have few, beginning with anybody, and of
 * nobody more than a share while others wait. What is clearly too much, by what calls took lately, is refused before, and
 * what still waits then at once. So those that run waited little, those that do not hear of it early enough to ask
 * elsewhere, and the worker does nothing in vain.
 */
#include <inttypes.h>

#include "base/log.h"
#include "rpc/server_impl.h"

#define RETRY_MS 100       /* after what is soon over; up to twice that, so that not all come back together */
#define RETRY_BUSY_MS 1000 /* after what takes longer */
#define TELL_MS 1000       /* a line of the log */
#define SHARES 4           /* of a turn's time, while so many sessions have something */
#define FEW 2              /* calls of a session that wait */
#define FEW_MAX 1000       /* calls_max of which what the others take in a millisecond is a large part */
#define WORTH_NS 10000     /* a call takes, for refusing it to be a tenth of the work */

static uint32_t retry_ms(struct fae_server *server, uint32_t at_least_ms)
{
    server->admission.random = server->admission.random * 1664525u + 1013904223u;
    return at_least_ms + (server->admission.random >> 16) % at_least_ms;
}

void fae_admit_configured(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;
    const struct fae_config *c = server->o.config;
    uint64_t run_ms = c->overload_delay_ms < FAE_CONGESTED_RUN_MS ? c->overload_delay_ms : FAE_CONGESTED_RUN_MS;
    char why[160];

    fae_gate_rule(&a->node, 0, c->calls_rate, c->calls_burst);
    fae_gate_rule(&a->host, c->host_calls_max, c->host_rate, c->host_burst);
    a->hosts = server->o.hosts && (c->host_sessions_max || c->host_calls_max || c->host_rate);
    if (fae_nets_parse(c->host_exempt, &a->exempt, why, sizeof why) != FAE_OK)
        FAE_WARN("host_exempt: %s; it stays as it was", why);
    a->delay_ticks = c->overload_delay_ms ? fae_ticks_of_ms(c->overload_delay_ms) : UINT64_MAX / 2;
    a->budget_ticks = fae_ticks_of_ms(run_ms);
    a->full_ticks = fae_ticks_of_ms(FAE_TURN_MS);
    a->random = a->random ? a->random : (uint32_t)fae_ticks();
    server->calls_free = 0;
    a->counted_ms = 0;
}

/* ---- calls in flight ---- */

static uint32_t others_calls(const struct fae_server *server)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < server->o.slots->n_workers; i++)
        if (i != server->o.slot)
            n += FAE_STAT_GET(server->o.slots->slots[i].n_calls);
    return n;
}

/* Up to half of what is left nobody needs to look: the others cannot take the rest before we look again. */
static uint32_t count_free(const struct fae_server *server)
{
    const struct fae_admission *a = &server->admission;
    uint64_t max = server->o.config->calls_max;

    if (server->draining || a->node.step_ns || (a->hosts && (a->host.calls || a->host.step_ns)) ||
        FAE_STAT_GET(server->slot->overloaded) & FAE_OVERLOADED_MEMORY || a->others >= max)
        return 0;
    max = (max - a->others) / 2;
    return max > UINT32_MAX ? UINT32_MAX : (uint32_t)max;
}

static bool has_room(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;
    uint64_t max = server->o.config->calls_max, own = FAE_STAT_GET(server->slot->n_calls);

    if ((own + a->others) * 2 < max)
        return true;
    a->others = others_calls(server);
    return own + a->others < max;
}

/* ---- congestion ---- */

/* Whole messages in the session's input, up to `max`. */
static unsigned count_messages(struct fae_server *server, const struct fae_session *s, unsigned max)
{
    const uint8_t *bytes = s->turn;
    size_t left = s->turn_len;
    unsigned n = 0;

    if (s->partial)
        return 1; /* the rest of one, perhaps: not worth joining for a count */
    if (s->in && !fae_session_runs_kept(s)) {
        bytes = s->in->bytes.data;
        left = s->in->bytes.len;
    }
    while (left && n < max) {
        struct fae_mp_scan scan;

        fae_mp_scan_init(&scan);
        if (fae_mp_scan(&scan, bytes, left, server->o.config->message_max) != FAE_OK)
            break;
        bytes += scan.pos;
        left -= scan.pos;
        n++;
    }
    return n;
}

/* Calls that this turn ran. */
static uint64_t n_run(const struct fae_server *server)
{
    return server->admission.n_done + server->n_run - server->admission.n_refused;
}

/* Do so many sessions wait that it is a queue? And is it one of calls that it would help to refuse? */
static bool is_queue(const struct fae_server *server)
{
    const struct fae_admission *a = &server->admission;

    return server->running.n - server->run_at >= (a->congested ? 2 : FAE_QUEUE_MIN) &&
           fae_ticks_to_ns(server->ticks - a->run_ticks) >= n_run(server) * WORTH_NS;
}

void fae_admit_overloaded(struct fae_server *server, uint32_t why, bool is)
{
    uint32_t was = FAE_STAT_GET(server->slot->overloaded);

    if (((was & why) != 0) != is)
        FAE_STAT_SET(server->slot->overloaded, is ? was | why : was & ~why);
}

static void refuse_rest(struct fae_server *server)
{
    server->admission.refusing = true;
    server->calls_free = 0;
    server->late_ticks = UINT64_MAX; /* refusing takes no time worth measuring */
}

static void set_congested(struct fae_server *server, bool is)
{
    server->admission.congested = is;
    server->admission.cost_ticks = 0;
    server->admission.ease_ticks = is ? 0 : server->ticks + fae_ticks_of_ms(FAE_CONGESTED_EASE_MS);
    fae_admit_overloaded(server, FAE_OVERLOADED_CONGESTED, is);
}

/* Congestion ended a moment ago. */
static bool is_easing(const struct fae_server *server)
{
    return server->admission.turn_ticks < server->admission.ease_ticks;
}

/* Whoever came first in one turn shall not come first in all of them. */
static void reverse(struct fae_session **items, uint32_t n)
{
    for (uint32_t i = 0; i < n / 2; i++) {
        struct fae_session *item = items[i];

        items[i] = items[n - 1 - i];
        items[n - 1 - i] = item;
    }
}

/* Those who ask for few go first: they are not to blame for the others. */
static void few_first(struct fae_server *server)
{
    struct fae_session **items = server->running.items, *item;

    for (uint32_t i = 0, at = 0; i < server->running.n; i++) {
        item = items[i];
        if (count_messages(server, item, FEW + 1) > FEW)
            continue;
        items[i] = items[at];
        items[at++] = item;
    }
}

static void rotate(struct fae_server *server)
{
    struct fae_queue *q = &server->running;
    uint32_t by;

    if (q->n < 2)
        return;
    server->admission.random = server->admission.random * 1664525u + 1013904223u;
    by = (server->admission.random >> 8) % q->n;
    reverse(q->items, by);
    reverse(q->items + by, q->n - by);
    reverse(q->items, q->n);
}

/* More than twice of what the turn can run: the rest goes before it. */
static void refuse_first(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;
    uint64_t n = a->cost_ticks ? a->budget_ticks / a->cost_ticks + 1 : UINT32_MAX;

    if (server->running.n <= 2 * n || fae_ticks_to_ns(a->cost_ticks) < WORTH_NS)
        return;
    reverse(server->running.items, server->running.n);
    a->refuse_until = server->running.n - (uint32_t)n;
    a->behind = true;
    refuse_rest(server);
}

/* What a call took in this turn; quick to believe that it is less. */
static void learn_cost(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;
    uint64_t n = n_run(server), cost_ticks = n ? (server->ticks - a->run_ticks) / n : 0;

    if (cost_ticks)
        a->cost_ticks = cost_ticks < a->cost_ticks ? cost_ticks : (a->cost_ticks + cost_ticks) / 2;
}

void fae_admit_turn(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;
    uint64_t now_ms = server->o.loop->now_ms;

    if (a->counted_ms != now_ms || server->o.config->calls_max < FEW_MAX) {
        a->counted_ms = now_ms;
        a->others = others_calls(server);
    }
    server->calls_free = count_free(server);
    a->turn_ticks = server->ticks;
    a->behind = a->refusing = false;
    a->n_done = a->n_refused = server->n_run = 0;
    a->run_ticks = server->ticks;
    server->late_ticks = server->ticks + (a->delay_ticks < a->full_ticks ? a->delay_ticks : a->full_ticks);
    if (__builtin_expect(!a->congested && !is_easing(server), 1))
        return;
    rotate(server);
    few_first(server);
    if (!a->congested)
        return;
    a->share_ticks = a->budget_ticks / (server->running.n < SHARES ? server->running.n + 1 : SHARES);
    refuse_first(server);
    fae_admit_next(server);
}

/* Those who were refused first shall hear of it before the others are run. */
static void end_refusing(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;

    a->refusing = false;
    a->refuse_until = 0;
    server->calls_free = count_free(server);
    server->n_fresh = FAE_BATCH_BYTES;
    server->ticks = a->run_ticks = fae_ticks();
}

void fae_admit_next(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;
    uint64_t share_end, end;

    if (a->refuse_until && server->run_at >= a->refuse_until)
        end_refusing(server);
    if (a->refusing)
        return;
    share_end = server->ticks + a->share_ticks;
    end = a->run_ticks + a->budget_ticks;
    server->late_ticks = share_end < end ? share_end : end;
}

/* Its share is used: the others first. */
static void go_last(struct fae_server *server)
{
    if (server->run_at + 1 == server->running.n) {
        server->late_ticks = server->admission.run_ticks + server->admission.budget_ticks;
        return;
    }
    fae_queue_push(&server->running, server->running.items[server->run_at++]);
    fae_admit_next(server);
}

bool fae_admit_late(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;
    uint64_t took = server->ticks - a->turn_ticks;
    bool through = server->ticks - a->run_ticks >= (a->congested ? a->budget_ticks : a->delay_ticks);

    if (!through && a->congested) {
        go_last(server);
        return true;
    }
    if (through && (a->congested || !a->behind) && is_queue(server)) {
        a->behind = true;
        if (!a->congested && is_easing(server))
            set_congested(server, true);
        if (a->congested) {
            refuse_rest(server);
            return true;
        }
    }
    server->late_ticks = a->turn_ticks + a->full_ticks;
    return took < a->full_ticks;
}

void fae_admit_turn_ended(struct fae_server *server)
{
    struct fae_admission *a = &server->admission;

    if (__builtin_expect(a->congested, 0))
        learn_cost(server);
    if (__builtin_expect(a->behind, 0)) {
        a->calm_ticks = 0;
        if (!a->behind_ticks)
            a->behind_ticks = a->turn_ticks;
        else if (!a->congested && server->ticks - a->behind_ticks >= fae_ticks_of_ms(FAE_CONGESTED_AFTER_MS))
            set_congested(server, true);
        return;
    }
    a->behind_ticks = 0;
    if (__builtin_expect(!a->congested, 1))
        return;
    if (!a->calm_ticks)
        a->calm_ticks = a->turn_ticks;
    else if (server->ticks - a->calm_ticks >= fae_ticks_of_ms(FAE_CONGESTED_UNTIL_MS))
        set_congested(server, false);
}

/* ---- one call ---- */

static bool host_admits(struct fae_session *s, const struct fae_request *req, uint64_t now_ns)
{
    struct fae_server *server = s->server;
    const struct fae_gate_rule *rule = &server->admission.host;
    uint32_t after_ms;

    if (s->host == FAE_HOST_NONE)
        return true;
    if (rule->calls && fae_host_calls(server->o.hosts, s->host) >= rule->calls) {
        fae_session_refuse(s, req, FAE_HOST_OVERLOAD, FAE_LIMIT_host_calls_max, retry_ms(server, RETRY_MS));
        return false;
    }
    if (rule->step_ns && !fae_host_take(server->o.hosts, s->host, rule, now_ns, &after_ms)) {
        fae_session_refuse(s, req, FAE_HOST_RATE_LIMITED, FAE_LIMIT_host_rate, after_ms);
        return false;
    }
    return true;
}

static bool rate_admits(struct fae_session *s, const struct fae_request *req, uint64_t now_ns)
{
    struct fae_server *server = s->server;
    const struct fae_admission *a = &server->admission;
    uint32_t after_ms;

    if (!a->node.step_ns || !server->o.gates ||
        fae_bucket_take(&server->o.gates->buckets[FAE_GATE_NODE].full_ns, &a->node, now_ns, &after_ms))
        return true;
    if (s->host != FAE_HOST_NONE && a->host.step_ns)
        fae_host_give(server->o.hosts, s->host, &a->host);
    fae_session_refuse(s, req, FAE_RATE_LIMITED, FAE_LIMIT_calls_rate, after_ms);
    return false;
}

bool fae_admit(struct fae_session *s, const struct fae_request *req)
{
    struct fae_server *server = s->server;
    struct fae_admission *a = &server->admission;
    uint64_t now_ns;

    if (server->draining && !req->notification) {
        fae_session_fail_code(s, req->msgid, FAE_DRAINING, "%s", fae_err_text(FAE_DRAINING));
        return false;
    }
    if (a->refusing) {
        a->n_refused++;
        fae_session_refuse(s, req, FAE_CONGESTED, FAE_LIMIT_congested, retry_ms(server, RETRY_MS));
        return false;
    }
    if (FAE_STAT_GET(server->slot->overloaded) & FAE_OVERLOADED_MEMORY) {
        fae_session_refuse(s, req, FAE_NO_MEMORY, FAE_LIMIT_memory, retry_ms(server, RETRY_BUSY_MS));
        return false;
    }
    if (!has_room(server)) {
        fae_session_refuse(s, req, FAE_OVERLOAD, FAE_LIMIT_calls_max, retry_ms(server, RETRY_MS));
        return false;
    }
    if (!a->node.step_ns && (s->host == FAE_HOST_NONE || !(a->host.calls || a->host.step_ns)))
        return true;
    now_ns = fae_now_ns();
    return host_admits(s, req, now_ns) && rate_admits(s, req, now_ns);
}

/* ---- one session ---- */

static uint64_t node_sessions(const struct fae_server *server)
{
    uint64_t n = server->n_sessions;

    for (unsigned i = 0; i < server->o.slots->n_workers; i++)
        if (i != server->o.slot)
            n += FAE_STAT_GET(server->o.slots->slots[i].n_sessions);
    return n;
}

enum fae_err fae_admit_session(struct fae_server *server, const struct fae_addr *peer, uint16_t *host_out)
{
    const struct fae_admission *a = &server->admission;
    struct fae_ip ip;

    *host_out = FAE_HOST_NONE;
    if (node_sessions(server) >= server->o.config->sessions_max) {
        FAE_LIMIT_HIT(server, sessions_max);
        return FAE_BUSY;
    }
    if (!a->hosts || !fae_addr_ip(peer, &ip) || fae_nets_have(&a->exempt, &ip))
        return FAE_OK;
    if (fae_hosts_enter(server->o.hosts, &ip, server->o.config->host_sessions_max, server->o.slot, fae_now_ns(),
                        host_out) != FAE_GATE_OPEN) {
        FAE_LIMIT_HIT(server, host_sessions_max);
        return FAE_HOST_BUSY;
    }
    if (*host_out == FAE_HOST_NONE)
        FAE_LIMIT_HIT(server, hosts_full);
    return FAE_OK;
}

/* ---- the log ---- */

static uint64_t node_hits(const struct fae_server *server, unsigned limit)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < server->o.slots->n_workers; i++)
        n += FAE_STAT_GET(server->o.stats->workers[i].n_limit_hits[limit]);
    return n;
}

static uint64_t own_hits(const struct fae_server *server)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < FAE_LIMIT_COUNT; i++)
        if (fae_limit_is_news((enum fae_limit)i))
            n += FAE_STAT_GET(server->stats->n_limit_hits[i]);
    return n;
}

void fae_admit_tell(struct fae_server *server)
{
    struct fae_gates *gates = server->o.gates;
    uint64_t now_ms = server->o.loop->now_ms, own = own_hits(server), was_ms;
    struct fae_buf line = { 0 };

    if (own == server->admission.told || !gates)
        return;
    was_ms = atomic_load(&gates->told_ms);
    if (now_ms < was_ms + TELL_MS || !atomic_compare_exchange_strong(&gates->told_ms, &was_ms, now_ms))
        return; /* another worker may tell of ours as well; we see at our next tick */
    server->admission.told = own;
    for (unsigned i = 0; i < FAE_LIMIT_COUNT; i++) {
        uint64_t n = node_hits(server, i), told = FAE_STAT_GET(gates->told[i]);

        if (n == told || !fae_limit_is_news((enum fae_limit)i))
            continue;
        FAE_STAT_SET(gates->told[i], n);
        fae_buf_printf(&line, "%s%s %" PRIu64, line.len ? ", " : "", fae_limit_name((enum fae_limit)i), n - told);
    }
    if (line.len)
        FAE_WARN("limits met: %s", fae_buf_text(&line));
    fae_buf_fini(&line);
}
