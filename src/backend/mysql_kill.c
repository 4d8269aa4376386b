/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One victim after the other, on one connection for as long as there are any. go() decides what comes next whenever an
 * answer came, a connection is there, or time is up.
 */
#include "backend/mysql_kill.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/mysql_server.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "wire/msgpack.h"

#define KILL_MS 2000u /* that ending a query may take, once we could be connected */
#define SLACK_MS 2000 /* both clocks count started seconds */
#define AGAIN_MS 100  /* after a connection was not even waited for, until one is looked for again */
#define DEAD_TRIES 8  /* idle connections that turn out to be dead before one is made */
#define UP_SQL "SHOW STATUS LIKE 'Uptime'"

/* A connection whose query is to be ended. */
struct victim {
    struct fae_list node;
    unsigned long id;
    int fd; /* its socket; -1: closed already */
    uint64_t since_ms, until_ms;
    struct fae_addr addr;
};

static void go(struct fae_mysql_kill *k);

/* ---- victims ---- */

static struct victim *front(const struct fae_mysql_kill *k)
{
    return fae_list_empty(&k->victims) ? NULL : FAE_CONTAINER(k->victims.next, struct victim, node);
}

static void drop_front(struct fae_mysql_kill *k)
{
    struct victim *v = front(k);

    fae_list_del(&v->node);
    k->n_victims--;
    if (v->fd >= 0)
        close(v->fd);
    free(v);
}

/* The server closed it, or died: there may be rows before that, which nobody reads. */
static bool has_ended(const struct victim *v)
{
    struct pollfd p = { .fd = v->fd, .events = POLLRDHUP };

    return v->fd >= 0 && poll(&p, 1, 0) > 0;
}

/* Its number is that of a server which has ended since. */
static bool is_older(const struct fae_mysql_kill *k, const struct victim *v)
{
    return (int64_t)(k->asked_ms - v->since_ms) > k->up_s * 1000 + SLACK_MS;
}

/* ---- the connection ---- */

static void release(struct fae_mysql_kill *k, bool sound)
{
    struct fae_mysql_conn *conn = k->conn;

    if (k->state == FAE_MYSQL_K_IN_LINE)
        fae_pool_cancel(k->server->pool, &k->ask);
    k->conn = NULL;
    k->state = FAE_MYSQL_K_NONE;
    k->up_s = -1;
    if (conn && k->is_own)
        fae_mysql_conn_free(conn);
    else if (conn)
        fae_pool_give(fae_mysql_conn_base(conn), sound);
    fae_mysql_run_fini(&k->run); /* no answer is kept, whatever a server says */
}

static void give_up(struct fae_mysql_kill *k, const char *why)
{
    unsigned n = 0;

    release(k, false);
    for (; front(k); drop_front(k))
        n += !has_ended(front(k));
    if (n > 0)
        FAE_WARN("%s: %u queries could not be ended on it: %s", k->server->label, n, why);
    fae_timer_stop(&k->limit);
}

static void use(struct fae_mysql_kill *k, struct fae_mysql_conn *conn)
{
    k->conn = conn;
    k->is_own = false;
}

static bool goes_to(const struct fae_mysql_conn *conn, const struct fae_addr *addr)
{
    const struct fae_addr *other = fae_mysql_conn_addr(conn);

    return other->len == addr->len && memcmp(&other->sa, &addr->sa, addr->len) == 0;
}

/* NULL: there is none, or not to that address. */
static struct fae_mysql_conn *idle_one(struct fae_mysql_kill *k, const struct fae_addr *addr)
{
    for (int i = 0; i < DEAD_TRIES; i++) {
        struct fae_pool_conn *base = fae_pool_borrow_idle(k->server->pool);
        struct fae_mysql_conn *conn = base ? fae_mysql_conn_of(base) : NULL;
        bool fresh = conn && fae_mysql_conn_is_fresh(conn);

        if (!conn || (fresh && goes_to(conn, addr)))
            return conn;
        fae_pool_give(base, fresh);
        if (fresh)
            return NULL;
    }
    return NULL;
}

static void wait_again(struct fae_mysql_kill *k)
{
    k->state = FAE_MYSQL_K_WAITING;
    fae_timer_start(&k->limit, AGAIN_MS);
}

/* The server that just said that it is full says so to the pool as well: one of its queries may have ended by then. */
static void pooled(struct fae_mysql_kill *k, enum fae_err err, struct fae_pool_conn *base)
{
    if (err == FAE_POOL_BUSY || err == FAE_UNAVAILABLE) {
        wait_again(k);
    } else if (err) {
        give_up(k, fae_err_text(err));
    } else {
        use(k, fae_mysql_conn_of(base));
        go(k);
    }
}

static void on_pooled(struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *base)
{
    struct fae_mysql_kill *k = FAE_CONTAINER(ask, struct fae_mysql_kill, ask);

    k->state = FAE_MYSQL_K_NONE;
    pooled(k, err, base);
}

static void stand_in_line(struct fae_mysql_kill *k)
{
    struct fae_pool_conn *base = NULL;
    enum fae_err err;

    k->ask.done = on_pooled;
    err = fae_pool_borrow(k->server->pool, &k->ask, 0, &base); /* k->limit ends it */
    if (err == FAE_MORE)
        k->state = FAE_MYSQL_K_IN_LINE;
    else
        pooled(k, err, base);
}

static void on_own_told(struct fae_mysql_conn *conn, void *arg, enum fae_mysql_event event, enum fae_err err,
                        const char *why)
{
    struct fae_mysql_kill *k = arg;

    (void)conn;
    k->state = FAE_MYSQL_K_NONE;
    if (event != FAE_MYSQL_CONNECTED) {
        give_up(k, why);
    } else if (!err) {
        go(k);
    } else if (err == FAE_BACKEND) { /* it is full, as it may well be */
        release(k, false);
        stand_in_line(k);
    } else {
        give_up(k, why);
    }
}

static void find_conn(struct fae_mysql_kill *k)
{
    struct victim *v = front(k);
    struct fae_mysql_conn *conn = idle_one(k, &v->addr);

    if (conn) {
        use(k, conn);
        go(k);
        return;
    }
    k->is_own = true;
    k->state = FAE_MYSQL_K_CONNECTING;
    k->conn = fae_mysql_conn_new_at(&k->server->site, &v->addr, on_own_told, k);
}

/* ---- on it ---- */

/* Of a row of a name and a number as texts; -1: it is none. */
static int64_t number_behind_name(const struct fae_mysql_run *run)
{
    const uint8_t *row = run->rows.data;
    struct fae_mp_token head, name, value;
    char text[24];

    if (run->n_rows != 1 || run->n_columns != 2)
        return -1;
    row = fae_mp_read(row, &head);
    row = fae_mp_read(row, &name);
    fae_mp_read(row, &value);
    if (value.type != FAE_MP_STR || value.len == 0 || value.len >= sizeof text || *value.bytes < '0' ||
        *value.bytes > '9')
        return -1;
    memcpy(text, value.bytes, value.len);
    text[value.len] = '\0';
    return strtoll(text, NULL, 10);
}

static void on_up(struct fae_mysql_run *run, enum fae_mysql_end end)
{
    struct fae_mysql_kill *k = FAE_CONTAINER(run, struct fae_mysql_kill, run);

    k->state = FAE_MYSQL_K_NONE;
    k->up_s = end == FAE_MYSQL_END_OK ? number_behind_name(run) : -1;
    if (k->up_s < 0 || k->up_s > INT64_MAX / 1000 - SLACK_MS)
        give_up(k, *run->fault.text ? run->fault.text : "it does not say how long it is up");
    else
        go(k);
}

static void on_killed(struct fae_mysql_run *run, enum fae_mysql_end end)
{
    struct fae_mysql_kill *k = FAE_CONTAINER(run, struct fae_mysql_kill, run);

    k->state = FAE_MYSQL_K_NONE;
    drop_front(k);
    if (end <= FAE_MYSQL_END_ARGS) /* an error: it has ended by itself */
        go(k);
    else
        give_up(k, run->fault.text);
}

static void ask(struct fae_mysql_kill *k, enum fae_mysql_kill_state state, const char *sql,
                void (*done)(struct fae_mysql_run *, enum fae_mysql_end))
{
    k->state = state;
    k->run.sql = sql;
    k->run.len = strlen(sql);
    k->run.done = done;
    fae_mysql_conn_run(k->conn, &k->run);
}

static void ask_up(struct fae_mysql_kill *k)
{
    k->asked_ms = fae_now_ms();
    ask(k, FAE_MYSQL_K_ASKING, UP_SQL, on_up);
}

static void kill_front(struct fae_mysql_kill *k)
{
    snprintf(k->sql, sizeof k->sql, "KILL %lu", front(k)->id);
    ask(k, FAE_MYSQL_K_KILLING, k->sql, on_killed);
}

/* Nothing is under way. */
static void go(struct fae_mysql_kill *k)
{
    while (front(k) && (has_ended(front(k)) || (k->up_s >= 0 && is_older(k, front(k)))))
        drop_front(k);
    if (!front(k)) {
        release(k, true);
        fae_timer_stop(&k->limit);
        return;
    }
    fae_timer_start_at(&k->limit, front(k)->until_ms);
    if (k->conn && !goes_to(k->conn, &front(k)->addr))
        release(k, true);
    if (!k->conn)
        find_conn(k);
    else if (k->up_s < 0)
        ask_up(k);
    else
        kill_front(k);
}

/* ---- for whoever has it ---- */

static void on_limit(void *arg)
{
    struct fae_mysql_kill *k = arg;
    uint64_t now_ms = fae_now_ms();
    unsigned n = 0;

    release(k, false);
    /* With those whose time is almost up, for which there is no time to connect again. */
    for (; front(k) && front(k)->until_ms <= now_ms + AGAIN_MS; n++)
        drop_front(k);
    if (n > 0)
        FAE_WARN("%s: %u queries could not be ended on it in time", k->server->label, n);
    go(k);
}

void fae_mysql_kill_init(struct fae_mysql_kill *k, struct fae_mysql_server *server)
{
    *k = (struct fae_mysql_kill){ .server = server, .up_s = -1 };
    fae_list_init(&k->victims);
    fae_timer_init(&k->limit, server->site.loop, on_limit, k);
}

void fae_mysql_kill_fini(struct fae_mysql_kill *k)
{
    release(k, false);
    while (k->n_victims > 0)
        drop_front(k);
    fae_timer_stop(&k->limit);
    fae_mysql_run_fini(&k->run);
}

void fae_mysql_kill_add(struct fae_mysql_kill *k, struct fae_mysql_conn *conn)
{
    unsigned long id = fae_mysql_conn_id(conn);
    struct victim *v;

    if (id == 0 || k->n_victims == FAE_MYSQL_KILLS_MAX)
        return;
    v = fae_alloc(sizeof *v);
    *v = (struct victim){ .id = id,
                          .fd = fae_mysql_conn_take_socket(conn),
                          .since_ms = fae_mysql_conn_since_ms(conn),
                          .until_ms = fae_now_ms() + k->server->mysql->rule.connect_timeout_ms + KILL_MS,
                          .addr = *fae_mysql_conn_addr(conn) };
    fae_list_add_tail(&k->victims, &v->node);
    k->n_victims++;
    if (k->state == FAE_MYSQL_K_NONE)
        go(k);
}

bool fae_mysql_kill_quiet(const struct fae_mysql_kill *k)
{
    return k->n_victims == 0;
}
