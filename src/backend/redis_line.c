/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Lines: the connections to a server that all calls of the worker share. A line without a connection makes one for the next
 * call, which waits for it in its queue. When one is lost, what was not sent goes out on the next, and of what was sent the
 * idempotent calls, once, and a fifth of all at most. After an attempt that failed there is a pause, in which calls are refused
 * at once; then the tick tries again while anybody wants it, and tells the breaker when the server is back.
 */
#include <stdio.h>
#include <string.h>

#include "backend/redis_impl.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"

#define PAUSE_MS 250u /* after an attempt that failed; doubles */
#define PAUSE_MAX_MS 1000u
#define WANTED_MS 60000u /* so long after the last call it is tried again */
#define TOLD_MS 60000u   /* between two lines of the log while it stays away */
#define CHECK_MS 5000u   /* of lying idle, before a sign of life is asked for, and again */
#define AGAIN_MIN 3u     /* calls that may be sent again, however few there are */
#define AGAIN_SHARE 5u   /* and one in so many */

static const struct fae_redis_conn_ops line_ops;

/* ---- making connections ---- */

static bool take_slot(struct fae_redis_line *line)
{
    if (!line->has_slot)
        line->has_slot = fae_pool_slot_take(line->server->pool);
    return line->has_slot;
}

void fae_redis_lines_reserve(struct fae_redis_server *server)
{
    take_slot(&server->lines[0]);
}

static void give_slot(struct fae_redis_line *line, bool *has_slot)
{
    if (*has_slot)
        fae_pool_slot_give(line->server->pool);
    *has_slot = false;
}

/* A tenth of it is random, so that not all end together. */
static uint64_t with_jitter(uint64_t ms)
{
    return ms - ms / 10 + fae_ticks() % (ms / 5 + 1);
}

static void dial(struct fae_redis_line *line)
{
    struct fae_redis_server *server = line->server;
    uint32_t life_ms = server->redis->rule.life_ms;

    FAE_STAT_ADD(server->conn.cell->n.connects, 1);
    FAE_STAT_ADD(server->conn.cell->now.connecting, 1);
    line->conn = fae_redis_conn_new(&server->conn, &line_ops, line);
    line->ends_ms = life_ms ? line->conn->born_ms + with_jitter(life_ms) : 0;
}

static void on_opened(void *arg, struct fae_redis_conn *conn)
{
    struct fae_redis_line *line = arg;
    struct fae_redis_server *server = line->server;

    (void)conn;
    FAE_STAT_ADD(server->conn.cell->now.connecting, -(uint64_t)1);
    line->retry_ms = 0;
    if (server->told_ms)
        FAE_INFO("%s: is back", server->label);
    server->told_ms = 0;
    if (server->conn.upstream)
        fae_upstream_reached(server->conn.upstream, fae_now_ms());
}

static void count_out(const struct fae_redis_server *server, const struct fae_redis_conn *conn)
{
    if (!conn->opened)
        FAE_STAT_ADD(server->conn.cell->now.connecting, -(uint64_t)1);
}

static void hang_up(struct fae_redis_line *line, struct fae_redis_conn **conn, bool *has_slot)
{
    count_out(line->server, *conn);
    fae_redis_conn_free(conn);
    give_slot(line, has_slot);
}

/* ---- a connection ended ---- */

static void pause_after(struct fae_redis_line *line, const char *why)
{
    snprintf(line->why, sizeof line->why, "%s", why);
    line->pause_ms = line->pause_ms ? line->pause_ms * 2 : PAUSE_MS;
    if (line->pause_ms > PAUSE_MAX_MS)
        line->pause_ms = PAUSE_MAX_MS;
    line->retry_ms = fae_now_ms() + line->pause_ms - fae_ticks() % (line->pause_ms / 4);
}

/* One that was good is made anew at once, and so is the first that ended before it answered. */
static void after(struct fae_redis_line *line, const struct fae_redis_conn *conn, const char *why)
{
    if (conn->proven) {
        line->pause_ms = 0;
        line->n_useless = 0;
    } else if (!conn->opened || ++line->n_useless > 1) {
        pause_after(line, why);
    }
}

static void log_end(struct fae_redis_server *server, const struct fae_redis_conn *conn, const char *why)
{
    uint64_t now_ms = fae_now_ms();

    if (conn->opened && fae_redis_conn_n(conn) == 0) {
        FAE_DEBUG("%s: %s", server->label, why);
        return;
    }
    if (server->told_ms && now_ms < server->told_ms + TOLD_MS)
        return;
    server->told_ms = now_ms;
    FAE_WARN("%s: %s (%u calls in flight)", server->label, why, fae_redis_conn_n(conn));
}

static enum fae_err error_of(const struct fae_redis_conn *conn, const struct fae_redis_place *place,
                             enum fae_redis_end how, bool late)
{
    if (!fae_redis_conn_was_sent(conn, place))
        return FAE_UNAVAILABLE;
    if (how == FAE_REDIS_GARBLED && place == fae_redis_conn_at(conn, conn->head))
        return FAE_BACKEND;
    if (!place->idempotent)
        return FAE_UNKNOWN;
    return late ? FAE_TIMEOUT : FAE_UNAVAILABLE;
}

/* Puts a call of the connection that ended into the queue of the next. */
static void move(struct fae_redis_line *line, const struct fae_redis_conn *from, const struct fae_redis_place *place,
                 struct fae_permit permit)
{
    bool again = fae_redis_conn_was_sent(from, place);
    struct fae_redis_place *moved;

    if (!line->conn)
        dial(line);
    fae_buf_add(&line->conn->out, from->out.data + (place->at - from->gone), place->bytes);
    moved = fae_redis_conn_add(line->conn, place->call, place->bytes, place->n_replies);
    moved->permit = permit;
    moved->again = again || place->again;
    if (again)
        FAE_STAT_ADD(line->server->conn.cell->n.retries, 1);
}

struct ended {
    enum fae_redis_end how;
    uint64_t now_ns;
    unsigned n_again; /* calls that may still be sent again */
    struct fae_list failed;
};

/* May it go out on a new connection? Then with this permit. */
static bool may_move(struct fae_redis_line *line, const struct fae_redis_conn *conn,
                     const struct fae_redis_place *place, struct ended *ended, bool late, struct fae_permit *permit)
{
    const struct fae_redis_server *server = line->server;
    uint64_t now_ms = ended->now_ns / 1000000u;
    uint32_t retry_after_ms;

    if (!conn->opened || (place->call->deadline_ms && place->call->deadline_ms <= now_ms) ||
        (!line->conn && (now_ms < line->retry_ms || !take_slot(line))))
        return false;
    if (!fae_redis_conn_was_sent(conn, place))
        return true;
    if (!place->idempotent || place->again || late || ended->n_again == 0 ||
        (ended->how == FAE_REDIS_GARBLED && place == fae_redis_conn_at(conn, conn->head)) ||
        !fae_redis_enter(&server->conn, now_ms, permit, &retry_after_ms))
        return false;
    ended->n_again--;
    return true;
}

static void settle(struct fae_redis_line *line, const struct fae_redis_conn *conn, struct fae_redis_place *place,
                   struct ended *ended)
{
    const struct fae_redis_conn_opts *o = &line->server->conn;
    bool sent = fae_redis_conn_was_sent(conn, place);
    bool late = ended->how == FAE_REDIS_LATE && sent && place->since_ns &&
                ended->now_ns - place->since_ns >= conn->limit_ms * 1000000ull;
    struct fae_permit permit = place->permit;
    bool moves;

    if (sent) {
        fae_redis_leave(o, permit, FAE_BREAKER_FAILED, ended->now_ns / 1000000u);
        if (late)
            FAE_STAT_ADD(o->cell->n.timeouts, 1);
        else
            FAE_STAT_ADD(o->cell->n.lost, 1);
    }
    moves = place->call && may_move(line, conn, place, ended, late, &permit);
    if (!sent && !moves && place->call) /* else it was ended by who gave up on it */
        fae_redis_leave(o, permit, FAE_BREAKER_VOID, ended->now_ns / 1000000u);
    if (moves)
        move(line, conn, place, permit);
    else if (place->call)
        fae_redis_fail(&ended->failed, place->call, error_of(conn, place, ended->how, late));
}

/* A batch whose connection ended in its middle: what came is told with the error. */
static void tell_partial(const struct fae_redis_conn *conn, struct fae_redis_call *call, const char *why)
{
    const struct fae_redis_place *head = fae_redis_conn_at(conn, conn->head);
    struct fae_redis_outcome outcome = { .err = call->err,
                                         .why = why,
                                         .tape = fae_redis_tape(conn->reader)->data,
                                         .n_replies = head->n_replies - head->n_left };

    fae_list_del(&call->node);
    call->done(call, &outcome);
}

static void tell_all(const struct fae_redis_conn *conn, struct ended *ended, const char *why, uint32_t retry_after_ms)
{
    struct fae_redis_place *head = fae_redis_conn_n(conn) ? fae_redis_conn_at(conn, conn->head) : NULL;

    if (head && head->n_left < head->n_replies && head->call && !head->call->conn)
        tell_partial(conn, head->call, why);
    fae_redis_tell(&ended->failed, why, retry_after_ms);
}

static void on_ended(void *arg, struct fae_redis_conn *conn, enum fae_redis_end how, const char *why)
{
    struct fae_redis_line *line = arg;
    struct fae_redis_server *server = line->server;
    const struct fae_redis_conn_opts *o = &server->conn;
    struct ended ended = { .how = how, .now_ns = fae_now_ns(), .n_again = fae_redis_conn_n(conn) / AGAIN_SHARE };
    bool was_old = conn == line->old;
    uint32_t retry_after_ms = 0;

    fae_list_init(&ended.failed);
    if (ended.n_again < AGAIN_MIN)
        ended.n_again = AGAIN_MIN;
    log_end(server, conn, why);
    count_out(server, conn);
    if (was_old) {
        line->old = NULL;
        give_slot(line, &line->old_has_slot);
    } else {
        line->conn = NULL;
        after(line, conn, why);
    }
    if (!conn->opened) {
        FAE_STAT_ADD(o->cell->n.connect_failures, 1);
        retry_after_ms = (uint32_t)(line->retry_ms - ended.now_ns / 1000000u);
        if (how == FAE_REDIS_UNREACHED)
            fae_redis_leave(o, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, ended.now_ns / 1000000u);
    }
    for (uint32_t i = conn->head; i != conn->tail; i++)
        settle(line, conn, fae_redis_conn_at(conn, i), &ended);
    if (!line->conn)
        give_slot(line, &line->has_slot);
    tell_all(conn, &ended, why, retry_after_ms);
    fae_redis_conn_free(&conn);
}

static const struct fae_redis_conn_ops line_ops = { on_opened, on_ended, NULL };

/* ---- calls ---- */

static enum fae_err refuse(struct fae_redis_outcome *out, enum fae_err err, const char *why, uint32_t retry_after_ms)
{
    *out = (struct fae_redis_outcome){ .err = err, .why = why, .retry_after_ms = retry_after_ms };
    return err;
}

static size_t held(const struct fae_redis_line *line)
{
    return line->conn ? line->conn->out.len - line->conn->base : 0;
}

/* The one with the least in flight, so that one large value does not hold up everybody. */
static struct fae_redis_line *pick_line(struct fae_redis_server *server)
{
    struct fae_redis_line *best = &server->lines[0];

    for (unsigned i = 1; i < server->n_lines && held(best); i++)
        if (held(&server->lines[i]) < held(best) && (server->lines[i].conn || take_slot(&server->lines[i])))
            best = &server->lines[i];
    return best;
}

/* Is there, or will there soon be, a connection with room? */
static enum fae_err ready(struct fae_redis_line *line, size_t bytes, struct fae_redis_outcome *out)
{
    struct fae_redis *redis = line->server->redis;
    uint64_t now_ms;

    if (line->conn)
        return fae_redis_conn_room(line->conn, bytes)
                   ? refuse(out, FAE_OVERLOAD, "too many calls are in flight on its connection", 0)
                   : FAE_OK;
    now_ms = fae_now_ms();
    line->wanted_ms = now_ms;
    if (line->server->endpoint.tls && !redis->tls)
        return refuse(out, FAE_UNAVAILABLE, redis->tls_why, 0);
    if (now_ms < line->retry_ms)
        return refuse(out, FAE_UNAVAILABLE, line->why, (uint32_t)(line->retry_ms - now_ms));
    if (!take_slot(line))
        return refuse(out, FAE_POOL_BUSY, "all connections the node may have are in use", 0);
    return FAE_OK;
}

enum fae_err fae_redis_lines_call(struct fae_redis_server *server, struct fae_redis_call *call,
                                  const struct fae_redis_command *commands, unsigned n, struct fae_redis_outcome *out)
{
    struct fae_redis_line *line = server->n_lines == 1 ? server->lines : pick_line(server);
    const struct fae_redis_conn_opts *o = &server->conn;
    struct fae_permit permit = { 0 };
    uint32_t retry_after_ms = 0;
    size_t bytes = 0;
    enum fae_err err;

    for (unsigned i = 0; i < n; i++)
        bytes += fae_redis_put_len(commands[i].args, commands[i].n);
    if (bytes > fae_redis_message_max(server->redis))
        return refuse(out, FAE_LIMIT, "the command is longer than message_max", 0);
    err = ready(line, bytes, out);
    if (err && err != FAE_UNAVAILABLE)
        return err;
    if (!fae_redis_enter(o, o->loop->now_ms, &permit, &retry_after_ms))
        return refuse(out, FAE_CIRCUIT_OPEN, FAE_REDIS_OPEN_WHY, retry_after_ms);
    if (err) {
        fae_redis_leave(o, permit, FAE_BREAKER_VOID, o->loop->now_ms);
        return err;
    }
    FAE_STAT_ADD(o->cell->n.calls, 1);
    if (!line->conn)
        dial(line);
    for (unsigned i = 0; i < n; i++)
        fae_redis_put(&line->conn->out, commands[i].args, commands[i].n);
    fae_redis_conn_add(line->conn, call, bytes, n)->permit = permit;
    return FAE_OK;
}

/* ---- life ---- */

void fae_redis_lines_init(struct fae_redis_server *server, unsigned n)
{
    server->n_lines = n;
    for (unsigned i = 0; i < n; i++)
        server->lines[i].server = server;
}

static void close_down(struct fae_redis_line *line, struct fae_redis_conn **conn, bool *has_slot)
{
    struct fae_list calls;

    if (!*conn)
        return;
    fae_list_init(&calls);
    for (uint32_t i = (*conn)->head; i != (*conn)->tail; i++)
        if (fae_redis_conn_at(*conn, i)->call)
            fae_redis_fail(&calls, fae_redis_conn_at(*conn, i)->call, FAE_CLOSED);
    hang_up(line, conn, has_slot);
    fae_redis_tell(&calls, "the pool was closed", 0);
}

void fae_redis_lines_fini(struct fae_redis_server *server)
{
    for (unsigned i = 0; i < server->n_lines; i++) {
        close_down(&server->lines[i], &server->lines[i].old, &server->lines[i].old_has_slot);
        close_down(&server->lines[i], &server->lines[i].conn, &server->lines[i].has_slot);
        give_slot(&server->lines[i], &server->lines[i].has_slot);
    }
}

static bool is_idle(const struct fae_redis_conn *conn)
{
    return conn && conn->state == FAE_REDIS_OPEN && fae_redis_conn_n(conn) == 0;
}

/* One that is too old goes when nothing is in flight on it; the next call makes another meanwhile. */
static void renew(struct fae_redis_line *line)
{
    if (is_idle(line->conn)) {
        hang_up(line, &line->conn, &line->has_slot);
        return;
    }
    if (line->old || line->conn->state != FAE_REDIS_OPEN || !fae_pool_slot_take(line->server->pool))
        return;
    line->old = line->conn;
    line->old_has_slot = line->has_slot;
    line->conn = NULL;
    line->has_slot = true;
}

/* Lying idle is what it did before the check as well. A server that says nothing is tried anew from the tick, so that nobody
 * waits for it meanwhile. */
static void on_checked(struct fae_redis_call *call, const struct fae_redis_outcome *outcome)
{
    struct fae_redis_line *line = FAE_CONTAINER(call, struct fae_redis_line, check);

    if (outcome->err == FAE_OK)
        line->checked->used_ms = line->used_ms;
    line->checked = NULL;
    if (outcome->err == FAE_TIMEOUT && !line->conn) {
        line->wanted_ms = fae_now_ms();
        pause_after(line, outcome->why);
    }
}

static void check(struct fae_redis_line *line, uint64_t now_ms)
{
    static const struct fae_redis_arg ping = { "PING", 4 };
    struct fae_redis_conn *conn = line->conn;
    size_t bytes = fae_redis_put_len(&ping, 1);

    if (!is_idle(conn) || line->checked || now_ms < conn->used_ms + CHECK_MS || now_ms < line->checked_ms + CHECK_MS)
        return;
    line->checked = conn;
    line->checked_ms = now_ms;
    line->used_ms = conn->used_ms;
    /* Its deadline has passed: on another connection it is of no use. */
    line->check = (struct fae_redis_call){ .done = on_checked, .idempotent = true, .deadline_ms = 1 };
    fae_redis_put(&conn->out, &ping, 1);
    fae_redis_conn_add(conn, &line->check, bytes, 1);
}

void fae_redis_lines_tick(struct fae_redis_server *server, uint64_t now_ms)
{
    const struct fae_pool_rule *rule = &server->redis->rule;

    for (unsigned i = 0; i < server->n_lines; i++) {
        struct fae_redis_line *line = &server->lines[i];
        bool warm = rule->warm > i && !server->redis->retired;

        if (line->old && fae_redis_conn_n(line->old) == 0)
            hang_up(line, &line->old, &line->old_has_slot);
        if (line->conn && line->ends_ms && now_ms >= line->ends_ms)
            renew(line);
        if (is_idle(line->conn) && rule->idle_ms && now_ms >= line->conn->used_ms + rule->idle_ms && !warm)
            hang_up(line, &line->conn, &line->has_slot);
        check(line, now_ms);
        if (!line->conn && !server->redis->retired &&
            (warm || (line->retry_ms && now_ms < line->wanted_ms + WANTED_MS)) && now_ms >= line->retry_ms &&
            (!server->endpoint.tls || server->redis->tls) && take_slot(line))
            dial(line);
    }
}

void fae_redis_lines_retire(struct fae_redis_server *server)
{
    for (unsigned i = 0; i < server->n_lines; i++) {
        struct fae_redis_line *line = &server->lines[i];

        if (is_idle(line->conn))
            hang_up(line, &line->conn, &line->has_slot);
        if (!line->conn)
            give_slot(line, &line->has_slot);
    }
}

bool fae_redis_lines_quiet(const struct fae_redis_server *server)
{
    for (unsigned i = 0; i < server->n_lines; i++)
        if ((server->lines[i].conn && fae_redis_conn_n(server->lines[i].conn)) || server->lines[i].old)
            return false;
    return true;
}
