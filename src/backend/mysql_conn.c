/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connector/C runs each operation on a small stack of the connection's own and comes back where it would wait, with what it
 * waits for: begin() starts the operation of a step, go_on() continues it, complete() draws the conclusion and sets the next
 * step. Nothing of Lua is called here, and what the library calls (fae_mysql_put_row) only adds to a buffer.
 */
#include "backend/mysql_conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "backend/mysql_conn_impl.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/config.h"

#define BUDGET_BYTES (256u * FAE_KIB) /* of rows taken in before the loop turns */
#define BUDGET_ROWS 1000u
#define BLOATED_BYTES FAE_MIB
#define GIVE_UP_TIMES 64 /* an operation is told that it has no time left, before it is left where it stands */

static void drive(struct fae_mysql_conn *c);

void fae_mysql_run_fini(struct fae_mysql_run *run)
{
    fae_buf_fini(&run->columns);
    fae_buf_fini(&run->rows);
}

/* ---- the socket ---- */

void fae_mysql_unwatch(struct fae_mysql_conn *c)
{
    fae_watch_close(&c->watch);
    c->fd = -1;
}

static void on_event(int fd, short what, void *arg)
{
    struct fae_mysql_conn *c = arg;
    int got = (what & FAE_READABLE ? MYSQL_WAIT_READ : 0) | (what & FAE_WRITABLE ? MYSQL_WAIT_WRITE : 0);

    (void)fd;
    if (c->step == FAE_MYSQL_S_IDLE) {
        fae_mysql_unwatch(c);
        c->sound = false;
        c->step = FAE_MYSQL_S_FAILED;
        c->told(c, c->arg, FAE_MYSQL_LOST, FAE_UNAVAILABLE, "closed by the server while nobody used it");
        return;
    }
    c->waits &= got;
    if (c->waits)
        drive(c);
}

/* While it connects the library has it elsewhere. */
static bool has_socket(const struct fae_mysql_conn *c)
{
    return c->my && (c->my->net.pvio || c->waits);
}

void fae_mysql_watch_for(struct fae_mysql_conn *c, int waits)
{
    short what = (short)((waits & MYSQL_WAIT_READ ? FAE_READABLE : 0) | (waits & MYSQL_WAIT_WRITE ? FAE_WRITABLE : 0));
    int fd = has_socket(c) ? (int)mysql_get_socket(c->my) : -1;

    if (fd != c->fd)
        fae_mysql_unwatch(c);
    if (fd < 0)
        return;
    if (c->fd < 0 && fae_watch_open(&c->watch, c->site->loop, fd, what, on_event, c) == FAE_OK)
        c->fd = fd;
    else if (c->watched != what)
        fae_watch_change(&c->watch, c->site->loop, what);
    c->watched = what;
}

/* ---- reading ---- */

/* By the library, on its own stack. It would read for as long as there is something to read, and keep what it reads of a
 * result's columns however many they are: EAGAIN sends it back to the loop, for which there is more to read then. Right
 * after it has asked the server nothing is there yet, and to find that out would take a microsecond. */
static ssize_t read_some(MARIADB_PVIO *pvio, unsigned char *to, size_t len)
{
    struct fae_mysql_conn *c = FAE_CONTAINER(pvio->mysql->methods, struct fae_mysql_conn, methods);
    bool takes_row = c->step == FAE_MYSQL_S_ROW || c->step == FAE_MYSQL_S_FETCH; /* of which the library has a limit */
    ssize_t n;

    if (c->asked || c->turn_read >= BUDGET_BYTES) {
        c->asked = false;
        errno = EAGAIN;
        return -1;
    }
    if (!takes_row && c->step_read >= FAE_MYSQL_HEAD_BYTES) {
        errno = ECONNABORTED;
        return -1;
    }
    if (c->run && !fae_mysql_room_take(c)) {
        errno = ECONNABORTED;
        return -1;
    }
    n = c->read(pvio, to, len);
    if (n > 0) {
        c->turn_read += (size_t)n;
        c->step_read += (size_t)n;
    }
    return n;
}

/* Of a socket that somebody took only what the library knows of it is freed. */
static my_bool close_if_ours(MARIADB_PVIO *pvio)
{
    struct fae_mysql_conn *c = FAE_CONTAINER(pvio->methods, struct fae_mysql_conn, pvio);

    if (!c->taken)
        return c->close(pvio);
    free(pvio->data);
    pvio->data = NULL;
    return 0;
}

void fae_mysql_read_in_turns(struct fae_mysql_conn *c)
{
    MARIADB_PVIO *pvio = c->my->net.pvio;

    c->pvio = *pvio->methods;
    c->read = c->pvio.async_read;
    c->pvio.async_read = read_some;
    c->close = c->pvio.close;
    c->pvio.close = close_if_ours;
    pvio->methods = &c->pvio;
}

/* ---- steps ---- */

/* Does it send something, and read what is said to that? */
static bool asks(enum fae_mysql_step step)
{
    return step == FAE_MYSQL_S_QUERY || step == FAE_MYSQL_S_PREPARE || step == FAE_MYSQL_S_EXECUTE ||
           step == FAE_MYSQL_S_RESET || step == FAE_MYSQL_S_PING;
}

/* 0: it is complete. */
static int begin(struct fae_mysql_conn *c)
{
    c->rc = 0;
    c->row = NULL;
    c->malformed = false;
    c->turn_read = c->step_read = 0;
    c->asked = asks(c->step);
    switch (c->step) {
    case FAE_MYSQL_S_CONNECT: return fae_mysql_begin_connect(c);
    case FAE_MYSQL_S_QUERY:
        c->run->executed = true;
        return mysql_real_query_start(&c->rc, c->my, c->run->sql, c->run->len);
    case FAE_MYSQL_S_ROW: return mysql_fetch_row_start(&c->row, c->res);
    case FAE_MYSQL_S_NEXT:
        return c->stmt ? mysql_stmt_next_result_start(&c->rc, c->stmt->stmt) : mysql_next_result_start(&c->rc, c->my);
    case FAE_MYSQL_S_CLOSE: return mysql_stmt_close_start(&c->flag, c->closing->stmt);
    case FAE_MYSQL_S_PREPARE: return mysql_stmt_prepare_start(&c->rc, c->stmt->stmt, c->run->sql, c->run->len);
    case FAE_MYSQL_S_EXECUTE:
        c->run->executed = true;
        if (!fae_mysql_bind_all(c)) {
            c->rc = 1;
            return 0;
        }
        return mysql_stmt_execute_start(&c->rc, c->stmt->stmt);
    case FAE_MYSQL_S_FETCH: return mysql_stmt_fetch_start(&c->rc, c->stmt->stmt);
    case FAE_MYSQL_S_RESET: return fae_mysql_begin_reset(c);
    case FAE_MYSQL_S_PING: return mysql_ping_start(&c->rc, c->my);
    case FAE_MYSQL_S_IDLE:
    case FAE_MYSQL_S_RESOLVE:
    case FAE_MYSQL_S_PAUSED:
    case FAE_MYSQL_S_FAILED: break;
    }
    FAE_ASSERT(!"nothing to begin");
    return 0;
}

static int go_on(struct fae_mysql_conn *c, int got)
{
    c->turn_read = 0;
    switch (c->step) {
    case FAE_MYSQL_S_CONNECT: return mysql_real_connect_cont(&c->made, c->my, got);
    case FAE_MYSQL_S_QUERY: return mysql_real_query_cont(&c->rc, c->my, got);
    case FAE_MYSQL_S_ROW: return mysql_fetch_row_cont(&c->row, c->res, got);
    case FAE_MYSQL_S_NEXT:
        return c->stmt ? mysql_stmt_next_result_cont(&c->rc, c->stmt->stmt, got)
                       : mysql_next_result_cont(&c->rc, c->my, got);
    case FAE_MYSQL_S_CLOSE: return mysql_stmt_close_cont(&c->flag, c->closing->stmt, got);
    case FAE_MYSQL_S_PREPARE: return mysql_stmt_prepare_cont(&c->rc, c->stmt->stmt, got);
    case FAE_MYSQL_S_EXECUTE: return mysql_stmt_execute_cont(&c->rc, c->stmt->stmt, got);
    case FAE_MYSQL_S_FETCH: return mysql_stmt_fetch_cont(&c->rc, c->stmt->stmt, got);
    case FAE_MYSQL_S_RESET: return mysql_change_user_cont(&c->flag, c->my, got);
    case FAE_MYSQL_S_PING: return mysql_ping_cont(&c->rc, c->my, got);
    case FAE_MYSQL_S_IDLE:
    case FAE_MYSQL_S_RESOLVE:
    case FAE_MYSQL_S_PAUSED:
    case FAE_MYSQL_S_FAILED: break;
    }
    FAE_ASSERT(!"nothing to go on with");
    return 0;
}

static void tell(struct fae_mysql_conn *c, enum fae_mysql_event event)
{
    char why[600];

    if (event == FAE_MYSQL_RESET)
        c->rc = c->flag;
    snprintf(why, sizeof why, "%s", c->rc ? mysql_error(c->my) : "");
    if (event == FAE_MYSQL_RESET)
        fae_mysql_stmts_clear(&c->stmts); /* the server forgot them */
    if (event == FAE_MYSQL_RESET && !c->rc)
        c->soiled = false;
    c->sound = !c->rc;
    c->step = c->sound ? FAE_MYSQL_S_IDLE : FAE_MYSQL_S_FAILED;
    if (c->sound)
        fae_mysql_watch_for(c, MYSQL_WAIT_READ);
    else
        fae_mysql_unwatch(c);
    c->told(c, c->arg, event, c->sound ? FAE_OK : FAE_UNAVAILABLE, why);
}

/* True: there is a step to begin. False: somebody was told, and the connection may be gone. */
static bool complete(struct fae_mysql_conn *c)
{
    switch (c->step) {
    case FAE_MYSQL_S_CONNECT: return fae_mysql_connected(c);
    case FAE_MYSQL_S_QUERY: return fae_mysql_queried(c);
    case FAE_MYSQL_S_ROW: return fae_mysql_rowed(c);
    case FAE_MYSQL_S_NEXT: return fae_mysql_nexted(c);
    case FAE_MYSQL_S_CLOSE:
        fae_mysql_stmts_closed(&c->stmts, c->closing);
        c->closing = NULL;
        fae_mysql_set_first_step(c);
        return true;
    case FAE_MYSQL_S_PREPARE: return fae_mysql_prepared(c);
    case FAE_MYSQL_S_EXECUTE: return fae_mysql_executed(c);
    case FAE_MYSQL_S_FETCH: return fae_mysql_fetched(c);
    case FAE_MYSQL_S_RESET: tell(c, FAE_MYSQL_RESET); return false;
    case FAE_MYSQL_S_PING: tell(c, FAE_MYSQL_CHECKED); return false;
    case FAE_MYSQL_S_IDLE:
    case FAE_MYSQL_S_RESOLVE:
    case FAE_MYSQL_S_PAUSED:
    case FAE_MYSQL_S_FAILED: break;
    }
    FAE_ASSERT(!"nothing is complete");
    return false;
}

static void wait_soon(struct fae_mysql_conn *c, bool begins)
{
    c->begins = begins;
    fae_mysql_watch_for(c, 0);
    fae_timer_start(&c->soon, 0);
}

static bool is_spent(const struct fae_mysql_conn *c)
{
    return c->run && (c->turn_rows >= BUDGET_ROWS || c->run->rows.len - c->turn_bytes >= BUDGET_BYTES);
}

static void open_budget(struct fae_mysql_conn *c)
{
    c->turn_rows = 0;
    c->turn_bytes = c->run ? c->run->rows.len : 0;
}

/* From a step that is complete until something is waited for. */
static void run_steps(struct fae_mysql_conn *c)
{
    open_budget(c);
    while (complete(c)) {
        if (is_spent(c)) {
            wait_soon(c, true);
            return;
        }
        c->waits = begin(c);
        if (c->waits) {
            fae_mysql_watch_for(c, c->waits);
            return;
        }
    }
}

/* What was waited for is there: c->waits. */
static void drive(struct fae_mysql_conn *c)
{
    c->waits = go_on(c, c->waits);
    if (c->waits)
        fae_mysql_watch_for(c, c->waits);
    else
        run_steps(c);
}

static void on_soon(void *arg)
{
    struct fae_mysql_conn *c = arg;

    if (c->begins) {
        open_budget(c);
        c->waits = begin(c);
        if (c->waits) {
            fae_mysql_watch_for(c, c->waits);
            return;
        }
    }
    run_steps(c);
}

/* Begins a step for somebody who is not to be told before this returns. */
static void start(struct fae_mysql_conn *c)
{
    c->waits = begin(c);
    if (c->waits)
        fae_mysql_watch_for(c, c->waits);
    else
        wait_soon(c, false);
}

/* ---- for whoever has it ---- */

void fae_mysql_conn_run(struct fae_mysql_conn *c, struct fae_mysql_run *run)
{
    FAE_ASSERT(c->step == FAE_MYSQL_S_IDLE);
    c->run = run;
    c->again = c->several = c->full = false;
    c->head_read = 0;
    c->stmt = NULL;
    run->columns.len = run->rows.len = 0;
    run->n_columns = run->n_rows = 0;
    run->affected = run->insert_id = run->warnings = 0;
    run->fault.number = 0;
    run->fault.state[0] = run->fault.text[0] = '\0';
    run->executed = run->answered = false;
    if (run->n_params > 0)
        fae_mysql_begin_prepared(c);
    else
        c->step = FAE_MYSQL_S_QUERY;
    open_budget(c);
    start(c);
}

void fae_mysql_conn_more(struct fae_mysql_conn *c, unsigned want)
{
    FAE_ASSERT(c->step == FAE_MYSQL_S_PAUSED);
    c->run->want = want;
    c->run->rows.len = 0;
    c->run->n_rows = 0;
    c->step = c->res ? FAE_MYSQL_S_ROW : FAE_MYSQL_S_FETCH;
    open_budget(c);
    wait_soon(c, true);
}

void fae_mysql_conn_reset(struct fae_mysql_conn *c)
{
    FAE_ASSERT(c->step == FAE_MYSQL_S_IDLE);
    c->step = FAE_MYSQL_S_RESET;
    start(c);
}

void fae_mysql_conn_check(struct fae_mysql_conn *c)
{
    FAE_ASSERT(c->step == FAE_MYSQL_S_IDLE);
    c->step = FAE_MYSQL_S_PING;
    start(c);
}

struct fae_pool_conn *fae_mysql_conn_base(struct fae_mysql_conn *c)
{
    return &c->base;
}

struct fae_mysql_conn *fae_mysql_conn_of(struct fae_pool_conn *base)
{
    return FAE_CONTAINER(base, struct fae_mysql_conn, base);
}

unsigned long fae_mysql_conn_id(const struct fae_mysql_conn *c)
{
    return c->my ? c->my->thread_id : 0;
}

const struct fae_addr *fae_mysql_conn_addr(const struct fae_mysql_conn *c)
{
    return &c->addrs[c->addr];
}

uint64_t fae_mysql_conn_since_ms(const struct fae_mysql_conn *c)
{
    return c->since_ms;
}

int fae_mysql_conn_take_socket(struct fae_mysql_conn *c)
{
    int fd = !has_socket(c) ? -1 : c->tls ? fae_mysql_tls_take_socket(c->tls) : (int)mysql_get_socket(c->my);

    c->taken = fd >= 0 && !c->tls;
    fae_mysql_conn_break(c);
    return fd;
}

bool fae_mysql_conn_is_idle(const struct fae_mysql_conn *c)
{
    return c->step == FAE_MYSQL_S_IDLE;
}

bool fae_mysql_conn_is_fresh(const struct fae_mysql_conn *c)
{
    char byte;

    return c->step == FAE_MYSQL_S_IDLE && c->fd >= 0 && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EINTR);
}

bool fae_mysql_conn_is_bloated(const struct fae_mysql_conn *c)
{
    return c->my && c->my->net.max_packet > BLOATED_BYTES;
}

void fae_mysql_conn_soil(struct fae_mysql_conn *c)
{
    c->soiled = true;
}

bool fae_mysql_conn_is_soiled(const struct fae_mysql_conn *c)
{
    return c->soiled || fae_mysql_conn_in_transaction(c);
}

bool fae_mysql_conn_in_transaction(const struct fae_mysql_conn *c)
{
    return (c->my->server_status & SERVER_STATUS_IN_TRANS) || !(c->my->server_status & SERVER_STATUS_AUTOCOMMIT);
}

/* ---- life ---- */

static struct fae_mysql_conn *new_conn(const struct fae_mysql_site *site, fae_mysql_told_fn told, void *arg)
{
    struct fae_mysql_conn *c = fae_zalloc(sizeof *c);

    c->site = site;
    c->told = told;
    c->arg = arg;
    c->fd = -1;
    c->resolve.done = fae_mysql_on_resolved;
    fae_mysql_stmts_init(&c->stmts, (unsigned)site->config->statements);
    fae_timer_init(&c->soon, site->loop, on_soon, c);
    return c;
}

struct fae_mysql_conn *fae_mysql_conn_new(const struct fae_mysql_site *site, fae_mysql_told_fn told, void *arg)
{
    struct fae_mysql_conn *c = new_conn(site, told, arg);
    struct fae_addr addrs[FAE_RESOLVE_ADDRS];
    unsigned n;

    c->step = FAE_MYSQL_S_RESOLVE;
    if (fae_resolve(site->resolver, &site->endpoint, &c->resolve, addrs, &n) == FAE_OK)
        fae_mysql_connect_to(c, addrs, n);
    return c;
}

struct fae_mysql_conn *fae_mysql_conn_new_at(const struct fae_mysql_site *site, const struct fae_addr *addr,
                                             fae_mysql_told_fn told, void *arg)
{
    struct fae_mysql_conn *c = new_conn(site, told, arg);

    fae_mysql_connect_to(c, addr, 1);
    return c;
}

/* An operation that is in the middle ends with an error, so that what it has on its stack is freed. */
static void give_up(struct fae_mysql_conn *c)
{
    for (int i = 0; c->waits && i < GIVE_UP_TIMES; i++)
        c->waits = go_on(c, MYSQL_WAIT_TIMEOUT);
}

/* As ma_pvio_close, which the library does not export. A second descriptor of the socket (dup) would be easier, but libevent
 * tells epoll of what is no longer watched when it waits next: a descriptor that is closed by then must take its socket
 * with it, or events of it come to whoever has that descriptor next. */
static void forget_socket(struct fae_mysql_conn *c)
{
    MARIADB_PVIO *pvio = c->my->net.pvio;

    c->my->net.pvio = NULL;
    c->waits = 0; /* an operation that is left where it stands is never gone on with */
    if (!pvio)
        return;
    pvio->methods->close(pvio);
    free(pvio->cache);
    free(pvio);
}

void fae_mysql_conn_break(struct fae_mysql_conn *c)
{
    c->run = NULL; /* put_row has nowhere to put anything */
    fae_mysql_room_rest(c);
    fae_timer_stop(&c->soon);
    fae_mysql_unwatch(c);
    /* Whatever is tried on it ends at once. Where somebody took the socket the server's end of it must still be seen. */
    if (has_socket(c))
        shutdown((int)mysql_get_socket(c->my), c->taken ? SHUT_WR : SHUT_RDWR);
    give_up(c);
    if (c->taken)
        forget_socket(c);
    if (c->closing)
        fae_mysql_stmts_closed(&c->stmts, c->closing);
    c->closing = NULL;
    c->stmt = NULL;
    c->sound = false;
    c->step = FAE_MYSQL_S_FAILED;
}

static void hang_up(struct fae_mysql_conn *c)
{
    if (c->step != FAE_MYSQL_S_IDLE || !c->sound)
        fae_mysql_conn_break(c);
    c->my->status = MYSQL_STATUS_READY; /* what is still to come is not waited for */
    if (c->res)
        mysql_free_result(c->res);
    mysql_close(c->my);
}

void fae_mysql_conn_free(struct fae_mysql_conn *c)
{
    if (!c)
        return;
    if (c->step == FAE_MYSQL_S_RESOLVE)
        fae_resolve_cancel(c->site->resolver, &c->resolve);
    fae_timer_stop(&c->soon);
    fae_mysql_unwatch(c);
    if (c->my)
        hang_up(c);
    fae_mysql_room_leave(c);
    fae_mysql_tls_free(&c->tls);
    fae_mysql_stmts_clear(&c->stmts); /* after the connection: nothing is sent any more */
    free(c->columns);
    free(c->binds);
    free(c->lens);
    free(c);
}
