/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connections of one's own: what blocks, transactions, subscriptions. They come from a pool (pool.h) and go back to it as
 * new, or not at all: whatever a borrower may have left on one, the next never sees.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backend/redis_impl.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hist.h"

struct fae_redis_loan {
    struct fae_pool_conn base;
    struct fae_redis_server *server;
    struct fae_redis_conn *conn; /* NULL: it is lost, and why says how */
    struct fae_redis_call check;
    struct fae_redis_hear *hear;
    struct fae_buf pushed; /* what was published and not taken: a length and a tape each, from pushed_at on */
    size_t pushed_at;
    bool lent, deaf;
    bool in_multi, watching; /* as its borrower's commands leave it ... */
    bool dirty;              /* ... and in a way that nothing takes back */
    bool had_state;          /* it was in a transaction, or watched keys; a reply ... */
    uint32_t errors_before;  /* ... that is an error may have left it so */
    char why[160];
};

static const struct fae_redis_conn_ops conn_ops;

static struct fae_redis_loan *of(struct fae_pool_conn *base)
{
    return FAE_CONTAINER(base, struct fae_redis_loan, base);
}

static enum fae_err refuse(struct fae_redis_outcome *out, enum fae_err err, const char *why)
{
    *out = (struct fae_redis_outcome){ .err = err, .why = why };
    return err;
}

/* ---- for the pool ---- */

static struct fae_pool_conn *on_connect(struct fae_pool *pool, void *arg)
{
    struct fae_redis_loan *loan = fae_zalloc(sizeof *loan);

    (void)pool;
    loan->server = arg;
    loan->conn = fae_redis_conn_new(&loan->server->conn, &conn_ops, loan);
    return &loan->base;
}

/* Takes the calls out of a connection that is no more. */
static void collect(const struct fae_redis_conn *conn, struct fae_list *calls, enum fae_err sent, enum fae_err unsent,
                    enum fae_breaker_outcome outcome)
{
    uint64_t now_ms = fae_now_ms();

    for (uint32_t i = conn->head; i != conn->tail; i++) {
        struct fae_redis_place *place = fae_redis_conn_at(conn, i);
        bool was_sent = fae_redis_conn_was_sent(conn, place);

        if (was_sent || place->call)
            fae_redis_leave(conn->o, place->permit, was_sent ? outcome : FAE_BREAKER_VOID, now_ms);
        if (place->call)
            fae_redis_fail(calls, place->call, was_sent ? sent : unsent);
    }
}

static void on_close(struct fae_pool_conn *base)
{
    struct fae_redis_loan *loan = of(base);
    struct fae_redis_outcome outcome = { .err = FAE_CLOSED, .why = "the connection was closed" };
    struct fae_redis_hear *hear = loan->hear;
    struct fae_list calls;

    fae_list_init(&calls);
    if (loan->conn)
        collect(loan->conn, &calls, FAE_UNKNOWN, FAE_CLOSED, FAE_BREAKER_VOID);
    fae_redis_conn_free(&loan->conn);
    fae_buf_fini(&loan->pushed);
    if (loan->check.done)
        fae_list_del(&loan->check.node); /* the pool knows */
    free(loan);
    if (hear)
        hear->done(hear, &outcome);
    fae_redis_tell(&calls, outcome.why, 0);
}

static void on_checked(struct fae_redis_call *call, const struct fae_redis_outcome *outcome)
{
    struct fae_redis_loan *loan = FAE_CONTAINER(call, struct fae_redis_loan, check);

    call->done = NULL;
    fae_pool_was_checked(&loan->base, outcome->err);
}

static void on_check(struct fae_pool_conn *base)
{
    static const struct fae_redis_arg ping = { "PING", 4 };
    struct fae_redis_loan *loan = of(base);
    struct fae_redis_conn *conn = loan->conn;

    loan->check = (struct fae_redis_call){ .done = on_checked, .idempotent = true };
    fae_list_init(&loan->check.node);
    conn->limit_ms = conn->o->timeout_ms;
    fae_redis_put(&conn->out, &ping, 1);
    fae_redis_conn_add(conn, &loan->check, fae_redis_put_len(&ping, 1), 1);
}

const struct fae_pool_ops fae_redis_loan_ops = { on_connect, on_close, NULL, on_check };

/* ---- the connection ---- */

static void on_opened(void *owner, struct fae_redis_conn *conn)
{
    struct fae_redis_loan *loan = owner;

    (void)conn;
    fae_pool_connected(&loan->base, FAE_OK, NULL);
}

/* Of a batch that was answered in part nothing is told: it was a transaction, or nobody can say what became of the rest. */
static void lose(struct fae_redis_loan *loan, enum fae_redis_end how)
{
    struct fae_redis_conn *conn = loan->conn;
    struct fae_redis_outcome outcome = { .err = FAE_UNAVAILABLE };
    struct fae_redis_hear *hear = loan->hear;
    enum fae_err sent = how == FAE_REDIS_GARBLED ? FAE_BACKEND : FAE_UNKNOWN;
    bool lent = loan->lent;
    struct fae_list calls;
    char why[sizeof loan->why];

    memcpy(why, loan->why, sizeof why); /* the loan may be gone soon */
    outcome.why = why;
    fae_list_init(&calls);
    collect(conn, &calls, sent, FAE_UNAVAILABLE, FAE_BREAKER_FAILED);
    if (how == FAE_REDIS_LATE)
        FAE_STAT_ADD(conn->o->cell->n.timeouts, 1);
    else if (!fae_list_empty(&calls))
        FAE_STAT_ADD(conn->o->cell->n.lost, 1);
    loan->conn = NULL;
    loan->hear = NULL;
    if (!lent && fae_list_empty(&calls))
        fae_pool_lost(&loan->base, why); /* it was idle */
    fae_redis_tell(&calls, why, 0);
    if (hear)
        hear->done(hear, &outcome);
    fae_redis_conn_free(&conn);
}

static void on_ended(void *owner, struct fae_redis_conn *conn, enum fae_redis_end how, const char *why)
{
    struct fae_redis_loan *loan = owner;

    snprintf(loan->why, sizeof loan->why, "%s", why);
    if (conn->opened)
        lose(loan, how);
    else
        fae_pool_connected(&loan->base, how == FAE_REDIS_NO_LOGIN ? FAE_BACKEND : FAE_UNAVAILABLE, why);
}

static void on_pushed(void *owner, struct fae_redis_conn *conn)
{
    struct fae_redis_loan *loan = owner;
    const struct fae_buf *tape = fae_redis_tape(conn->reader);
    struct fae_redis_outcome outcome = { .tape = tape->data, .n_replies = 1 };
    struct fae_redis_hear *hear = loan->hear;
    uint32_t len = (uint32_t)tape->len;

    if (hear) {
        loan->hear = NULL;
        hear->done(hear, &outcome);
        return;
    }
    fae_buf_add(&loan->pushed, &len, sizeof len);
    fae_buf_add(&loan->pushed, tape->data, len);
    if (loan->pushed.len - loan->pushed_at > FAE_REDIS_PUSHED_MAX && !loan->deaf) {
        loan->deaf = true; /* the server's own limit of what it keeps for us is next */
        fae_stream_listen(&conn->stream, false);
    }
}

static const struct fae_redis_conn_ops conn_ops = { on_opened, on_ended, on_pushed };

/* ---- borrowing ---- */

static struct fae_redis_loan *lend(struct fae_pool_conn *base)
{
    struct fae_redis_loan *loan = of(base);

    loan->lent = true;
    loan->had_state = false;
    loan->server->redis->n_loans++;
    return loan;
}

static void explain(const struct fae_redis_server *server, enum fae_err err, struct fae_redis_outcome *out)
{
    refuse(out, err,
           err == FAE_UNAVAILABLE ? fae_pool_why(server->pool)
           : err == FAE_POOL_BUSY ? "no connection was free in time"
           : err == FAE_CLOSED    ? "the pool was closed"
                                  : fae_err_text(err));
}

static void on_asked(struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *base)
{
    struct fae_redis_borrow *borrow = FAE_CONTAINER(ask, struct fae_redis_borrow, ask);
    struct fae_redis_outcome outcome = { 0 };

    fae_redis_leave(&borrow->server->conn, borrow->permit, FAE_BREAKER_VOID, fae_now_ms());
    if (err)
        explain(borrow->server, err, &outcome);
    borrow->done(borrow, err ? NULL : lend(base), &outcome);
}

enum fae_err fae_redis_borrow(struct fae_redis *redis, unsigned i, struct fae_redis_borrow *borrow,
                              uint64_t deadline_ms, struct fae_redis_loan **loan_out, struct fae_redis_outcome *out)
{
    struct fae_redis_server *server = &redis->servers[i];
    const struct fae_redis_conn_opts *o = &server->conn;
    struct fae_pool_conn *base;
    uint32_t retry_after_ms = 0;
    enum fae_err err;

    *out = (struct fae_redis_outcome){ 0 };
    if (server->endpoint.tls && !redis->tls)
        return refuse(out, FAE_UNAVAILABLE, redis->tls_why);
    borrow->permit = (struct fae_permit){ 0 };
    borrow->server = server;
    if (!fae_redis_enter(o, o->loop->now_ms, &borrow->permit, &retry_after_ms)) {
        refuse(out, FAE_CIRCUIT_OPEN, FAE_REDIS_OPEN_WHY);
        out->retry_after_ms = retry_after_ms;
        return out->err;
    }
    fae_redis_lines_reserve(server);
    borrow->ask.done = on_asked;
    err = fae_pool_borrow(server->pool, &borrow->ask, deadline_ms, &base);
    if (err == FAE_MORE)
        return err;
    fae_redis_leave(o, borrow->permit, FAE_BREAKER_VOID, o->loop->now_ms);
    if (err)
        explain(server, err, out);
    else
        *loan_out = lend(base);
    return err;
}

void fae_redis_borrow_cancel(struct fae_redis_borrow *borrow)
{
    fae_redis_leave(&borrow->server->conn, borrow->permit, FAE_BREAKER_VOID, fae_now_ms());
    fae_pool_cancel(borrow->server->pool, &borrow->ask);
}

static bool is_clean(const struct fae_redis_loan *loan)
{
    return loan->conn && !loan->in_multi && !loan->watching && !loan->dirty && !loan->hear &&
           fae_redis_conn_n(loan->conn) == 0 && !fae_redis_reader_busy(loan->conn->reader) &&
           (!loan->had_state || loan->errors_before == loan->conn->n_errors);
}

void fae_redis_give(struct fae_redis_loan *loan, bool sound)
{
    loan->lent = false;
    loan->server->redis->n_loans--;
    fae_pool_give(&loan->base, sound && is_clean(loan));
}

/* ---- calls ---- */

static bool is_word(const struct fae_redis_arg *arg, const char *word)
{
    return arg->len == strlen(word) && strncasecmp(arg->text, word, arg->len) == 0;
}

static bool is_one_of(const struct fae_redis_arg *arg, const char *const *words)
{
    for (; *words; words++)
        if (is_word(arg, *words))
            return true;
    return false;
}

/* What the command leaves behind. */
static void note(struct fae_redis_loan *loan, const struct fae_redis_arg *name)
{
    static const char *const listening[] = { "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", NULL };
    static const char *const lasting[] = { "SELECT",   "AUTH",      "HELLO",        "CLIENT",       "RESET", "QUIT",
                                           "READONLY", "READWRITE", "ASKING",       "UNSUBSCRIBE",  "SYNC",  "PSYNC",
                                           "REPLCONF", "SHUTDOWN",  "PUNSUBSCRIBE", "SUNSUBSCRIBE", NULL };
    bool begins = is_word(name, "MULTI"), watches = is_word(name, "WATCH");

    if ((begins || watches) && !loan->had_state) {
        loan->had_state = true;
        loan->errors_before = loan->conn->n_errors;
    }
    loan->in_multi = loan->in_multi || begins;
    loan->watching = loan->watching || watches;
    if (loan->in_multi && (is_word(name, "EXEC") || is_word(name, "DISCARD")))
        loan->in_multi = loan->watching = false;
    if (is_word(name, "UNWATCH") && !loan->in_multi)
        loan->watching = false;
    if (is_one_of(name, listening))
        loan->dirty = loan->conn->subscribed = true;
    loan->dirty = loan->dirty || is_one_of(name, lasting);
}

enum fae_err fae_redis_loan_call(struct fae_redis_loan *loan, struct fae_redis_call *call,
                                 const struct fae_redis_command *commands, unsigned n, uint32_t within_ms,
                                 struct fae_redis_outcome *out)
{
    struct fae_redis_conn *conn = loan->conn;
    struct fae_permit permit = { 0 };
    uint32_t retry_after_ms = 0;
    size_t bytes = 0;

    for (unsigned i = 0; i < n; i++)
        bytes += fae_redis_put_len(commands[i].args, commands[i].n);
    if (bytes > fae_redis_message_max(loan->server->redis))
        return refuse(out, FAE_LIMIT, "the command is longer than message_max");
    if (!conn)
        return refuse(out, FAE_UNAVAILABLE, loan->why);
    if (!fae_redis_enter(conn->o, conn->o->loop->now_ms, &permit, &retry_after_ms)) {
        refuse(out, FAE_CIRCUIT_OPEN, FAE_REDIS_OPEN_WHY);
        out->retry_after_ms = retry_after_ms;
        return out->err;
    }
    FAE_STAT_ADD(conn->o->cell->n.calls, 1);
    for (unsigned i = 0; i < n; i++) {
        note(loan, &commands[i].args[0]);
        fae_redis_put(&conn->out, commands[i].args, commands[i].n);
    }
    conn->limit_ms = within_ms ? within_ms : conn->o->timeout_ms;
    conn->timing = false; /* the limit is another one */
    fae_redis_conn_add(conn, call, bytes, n)->permit = permit;
    return FAE_OK;
}

/* ---- what is published ---- */

enum fae_err fae_redis_hear(struct fae_redis_loan *loan, struct fae_redis_hear *hear, struct fae_redis_outcome *out)
{
    uint32_t len;

    if (loan->pushed_at < loan->pushed.len) {
        memcpy(&len, loan->pushed.data + loan->pushed_at, sizeof len);
        *out = (struct fae_redis_outcome){ .tape = loan->pushed.data + loan->pushed_at + sizeof len, .n_replies = 1 };
        loan->pushed_at += sizeof len + len;
        if (loan->pushed_at == loan->pushed.len)
            loan->pushed_at = loan->pushed.len = 0;
        if (loan->deaf && loan->pushed.len - loan->pushed_at < FAE_REDIS_PUSHED_MAX / 2 && loan->conn) {
            loan->deaf = false;
            fae_stream_listen(&loan->conn->stream, true);
        }
        return FAE_OK;
    }
    if (!loan->conn)
        return refuse(out, FAE_UNAVAILABLE, loan->why);
    loan->hear = hear;
    return FAE_MORE;
}

void fae_redis_hear_cancel(struct fae_redis_loan *loan)
{
    loan->hear = NULL;
}
