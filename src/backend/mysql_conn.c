/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connector/C runs each operation on a small stack of the connection's own and comes back where it would wait, with what it
 * waits for: begin() starts the operation of a step, go_on() continues it, complete() draws the conclusion and sets the next
 * step. Nothing of Lua is called here, and what the library calls (put_row) only adds to a buffer.
 */
#include "backend/mysql_conn.h"

#include <errno.h>
#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "backend/mysql_stmts.h"
#include "backend/mysql_value.h"
#include "backend/resolve.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/config.h"
#include "wire/msgpack.h"

#define BUDGET_BYTES (256u * FAE_KIB) /* of rows taken in before the loop turns */
#define BUDGET_ROWS 1000u
#define BATCH_BYTES (256u * FAE_KIB) /* after which a stream pauses, however few rows that are */
#define BLOATED_BYTES FAE_MIB
#define GIVE_UP_TIMES 64 /* an operation is told that it has no time left, before it is left where it stands */
#define COLUMNS_MAX 4096u

enum step { IDLE, RESOLVE, CONNECT, QUERY, ROW, NEXT, CLOSE, PREPARE, EXECUTE, FETCH, PAUSED, RESET, PING, FAILED };

struct fae_mysql_conn {
    struct fae_pool_conn base;
    const struct fae_mysql_site *site;
    fae_mysql_told_fn told;
    void *arg;
    MYSQL *my;
    enum step step;
    int waits;   /* what the library waits for: MYSQL_WAIT_READ and so on; 0: nothing is in flight */
    bool begins; /* soon: the step is begun; false: it is complete */
    bool sound;
    struct fae_timer soon;
    struct fae_watch watch;
    int fd;
    short watched;
    /* What operations answer. */
    MYSQL *made;
    MYSQL_ROW row;
    int rc;
    my_bool flag;
    /* Where to. */
    struct fae_resolve resolve;
    struct fae_addr addrs[FAE_RESOLVE_ADDRS];
    unsigned n_addrs, addr;
    char host[FAE_ADDR_TEXT];
    /* The statement that runs. */
    struct fae_mysql_run *run;
    struct fae_mysql_stmts stmts;
    struct fae_mysql_stmt *stmt, *closing;
    MYSQL_RES *res;
    struct fae_mysql_column *columns;
    unsigned columns_cap;
    MYSQL_BIND *binds;
    unsigned long *lens;
    unsigned binds_cap;
    uint64_t n_rows; /* of the whole result */
    unsigned turn_rows;
    size_t turn_bytes;
    bool again;   /* it was prepared anew already */
    bool several; /* more came behind its result */
    bool soiled;
    bool malformed; /* a row was no row */
};

static void drive(struct fae_mysql_conn *c);

void fae_mysql_run_fini(struct fae_mysql_run *run)
{
    fae_buf_fini(&run->columns);
    fae_buf_fini(&run->rows);
}

/* ---- the socket ---- */

static void unwatch(struct fae_mysql_conn *c)
{
    fae_watch_close(&c->watch);
    c->fd = -1;
}

static void on_event(int fd, short what, void *arg)
{
    struct fae_mysql_conn *c = arg;
    int got = (what & FAE_READABLE ? MYSQL_WAIT_READ : 0) | (what & FAE_WRITABLE ? MYSQL_WAIT_WRITE : 0);

    (void)fd;
    if (c->step == IDLE) {
        unwatch(c);
        c->sound = false;
        c->step = FAILED;
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

static void watch_for(struct fae_mysql_conn *c, int waits)
{
    short what = (short)((waits & MYSQL_WAIT_READ ? FAE_READABLE : 0) | (waits & MYSQL_WAIT_WRITE ? FAE_WRITABLE : 0));
    int fd = has_socket(c) ? (int)mysql_get_socket(c->my) : -1;

    if (fd != c->fd)
        unwatch(c);
    if (fd < 0)
        return;
    if (c->fd < 0 && fae_watch_open(&c->watch, c->site->loop, fd, what, on_event, c) == FAE_OK)
        c->fd = fd;
    else if (c->watched != what)
        fae_watch_change(&c->watch, c->site->loop, what);
    c->watched = what;
}

/* ---- rows ---- */

/* By the library, on its own stack. */
static int put_row(MYSQL_STMT *stmt, unsigned char *row, unsigned long len)
{
    struct fae_mysql_conn *c = stmt->user_data;
    struct fae_mysql_run *run = c->run;

    c->malformed = !run || !fae_mysql_put_binary_row(&run->rows, c->columns, run->n_columns, row, len);
    return 0;
}

static void put_text_row(struct fae_mysql_conn *c)
{
    const unsigned long *lens = mysql_fetch_lengths(c->res);
    struct fae_mysql_run *run = c->run;

    fae_mp_array(&run->rows, run->n_columns);
    for (unsigned i = 0; i < run->n_columns; i++)
        fae_mysql_put_text(&run->rows, &c->columns[i], c->row[i], c->row[i] ? lens[i] : 0);
}

static bool take_columns(struct fae_mysql_conn *c, const MYSQL_FIELD *fields, unsigned n)
{
    struct fae_mysql_run *run = c->run;

    if (n > COLUMNS_MAX || (n > 0 && !fields))
        return false;
    if (n > c->columns_cap) {
        c->columns_cap = n + 16;
        c->columns = fae_realloc(c->columns, c->columns_cap * sizeof *c->columns);
    }
    run->n_columns = n;
    run->columns.len = 0;
    fae_mp_array(&run->columns, n);
    for (unsigned i = 0; i < n; i++) {
        c->columns[i] =
            (struct fae_mysql_column){ .type = (uint8_t)fields[i].type,
                                       .decimals = (uint8_t)(fields[i].decimals > 255 ? 255 : fields[i].decimals),
                                       .is_unsigned = fields[i].flags & UNSIGNED_FLAG };
        fae_mp_str(&run->columns, fields[i].name ? fields[i].name : "", fields[i].name ? fields[i].name_length : 0);
    }
    run->answered = true;
    return true;
}

static bool is_over(struct fae_mysql_conn *c)
{
    const struct fae_config_mysql *config = c->site->config;
    struct fae_mysql_run *run = c->run;

    if (run->rows.len > config->result_max)
        snprintf(run->fault.text, sizeof run->fault.text, "a result of more than result_max (%llu bytes)",
                 (unsigned long long)config->result_max);
    else if (!run->streams && run->n_rows > config->rows_max)
        snprintf(run->fault.text, sizeof run->fault.text, "a result of more than rows_max (%llu rows)",
                 (unsigned long long)config->rows_max);
    else
        return false;
    return true;
}

/* ---- the end of a statement ---- */

static void end_run(struct fae_mysql_conn *c, enum fae_mysql_end end)
{
    struct fae_mysql_run *run = c->run;

    c->run = NULL;
    if (c->res) {
        c->my->status = MYSQL_STATUS_READY; /* what is still to come is not waited for */
        mysql_free_result(c->res);
        c->res = NULL;
    }
    c->sound = end <= FAE_MYSQL_END_ARGS && c->my->net.pvio;
    c->step = c->sound ? IDLE : FAILED;
    if (c->sound)
        watch_for(c, MYSQL_WAIT_READ);
    else
        unwatch(c);
    run->done(run, end);
}

/* A statement that is not to be kept: closed before the next one. */
static void drop_stmt(struct fae_mysql_conn *c)
{
    if (c->stmt)
        fae_mysql_stmts_take(&c->stmts, c->stmt);
    if (c->stmt)
        fae_mysql_stmts_doom(&c->stmts, c->stmt);
    c->stmt = NULL;
}

static void end_well(struct fae_mysql_conn *c)
{
    if (c->stmt && (!c->stmt->kept || c->several))
        drop_stmt(c);
    c->stmt = NULL;
    end_run(c, FAE_MYSQL_END_OK);
}

static enum fae_mysql_end kind_of(unsigned number)
{
    switch (number) {
    case 1053: /* ER_SERVER_SHUTDOWN */
    case 1927: /* ER_CONNECTION_KILLED */
    case 4031: /* ER_CLIENT_INTERACTION_TIMEOUT, of MySQL */ return FAE_MYSQL_END_LOST;
    case 2020: /* CR_NET_PACKET_TOO_LARGE */ return FAE_MYSQL_END_LIMIT;
    case 2000: /* CR_UNKNOWN_ERROR */
    case 2014: /* CR_COMMANDS_OUT_OF_SYNC */
    case 2027: /* CR_MALFORMED_PACKET */ return FAE_MYSQL_END_GARBAGE;
    default: return number >= 2000 && number < 3000 ? FAE_MYSQL_END_LOST : FAE_MYSQL_END_ERROR;
    }
}

static void set_fault(struct fae_mysql_run *run, unsigned number, const char *state, const char *text)
{
    run->fault.number = number;
    snprintf(run->fault.state, sizeof run->fault.state, "%s", state);
    snprintf(run->fault.text, sizeof run->fault.text, "%s", text);
}

/* The operation that is complete has failed. */
static void end_ill(struct fae_mysql_conn *c)
{
    MYSQL_STMT *stmt = c->stmt ? c->stmt->stmt : NULL;
    unsigned number = stmt && mysql_stmt_errno(stmt) ? mysql_stmt_errno(stmt) : mysql_errno(c->my);
    struct fae_mysql_run *run = c->run;
    enum fae_mysql_end end = kind_of(number ? number : 2000);

    if (stmt && mysql_stmt_errno(stmt))
        set_fault(run, number, mysql_stmt_sqlstate(stmt), mysql_stmt_error(stmt));
    else
        set_fault(run, number, mysql_sqlstate(c->my), number ? mysql_error(c->my) : "what came is no answer");
    if (number == 2006) /* CR_SERVER_GONE_ERROR: not all of it was sent */
        run->executed = false;
    if (end == FAE_MYSQL_END_LIMIT)
        snprintf(run->fault.text, sizeof run->fault.text, "a row of more than result_max (%llu bytes)",
                 (unsigned long long)c->site->config->result_max);
    if (!c->my->net.pvio && end == FAE_MYSQL_END_ERROR)
        end = FAE_MYSQL_END_LOST;
    if (c->step == PREPARE || (c->stmt && !c->stmt->kept))
        drop_stmt(c);
    c->stmt = NULL;
    end_run(c, end);
}

static void end_with(struct fae_mysql_conn *c, enum fae_mysql_end end, const char *text)
{
    if (*text)
        snprintf(c->run->fault.text, sizeof c->run->fault.text, "%s", text);
    c->stmt = NULL;
    end_run(c, end);
}

/* ---- connecting ---- */

static struct st_mariadb_methods methods;

static void new_handle(struct fae_mysql_conn *c)
{
    const struct fae_config_mysql *config = c->site->config;
    /* The largest packet in either direction. */
    size_t packet_max = config->result_max + FAE_KIB > 16 * FAE_MIB ? config->result_max + FAE_KIB : 16 * FAE_MIB;
    unsigned off = 0;

    c->my = mysql_init(NULL);
    FAE_ASSERT(c->my != NULL);
    if (!methods.db_connect) {
        methods = *c->my->methods;
        methods.db_stmt_fetch_to_bind = put_row;
    }
    c->my->methods = &methods;
    mysql_options(c->my, MYSQL_OPT_NONBLOCK, NULL);
    mysql_options(c->my, MYSQL_SET_CHARSET_NAME, config->charset);
    mysql_options(c->my, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet_max);
    mysql_options(c->my, MYSQL_OPT_LOCAL_INFILE, &off);
    /* None that would show the password to whoever asks for it. */
    mysql_optionsv(c->my, MARIADB_OPT_RESTRICTED_AUTH,
                   "mysql_native_password,client_ed25519,caching_sha2_password,sha256_password");
}

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

static int begin_connect(struct fae_mysql_conn *c)
{
    const struct fae_config_mysql *config = c->site->config;
    const struct fae_addr *addr = &c->addrs[c->addr];
    bool is_unix = fae_addr_is_unix(addr);

    new_handle(c);
    if (is_unix)
        snprintf(c->host, sizeof c->host, "%s", ((const struct sockaddr_un *)&addr->sa)->sun_path);
    else
        fae_addr_host(addr, c->host);
    return mysql_real_connect_start(&c->made, c->my, is_unix ? "localhost" : c->host, config->user,
                                    or_null(config->password), or_null(config->db), fae_addr_port(addr),
                                    is_unix ? c->host : NULL, 0);
}

static void tell_connected(struct fae_mysql_conn *c, enum fae_err err, const char *why)
{
    char text[600];

    snprintf(text, sizeof text, "%s", why);
    c->sound = !err;
    c->step = err ? FAILED : IDLE;
    c->told(c, c->arg, FAE_MYSQL_CONNECTED, err, text);
}

/* True: another address is tried. */
static bool connected(struct fae_mysql_conn *c)
{
    unsigned number = mysql_errno(c->my);

    if (c->made) {
        watch_for(c, MYSQL_WAIT_READ);
        tell_connected(c, FAE_OK, "");
        return false;
    }
    unwatch(c);
    if (c->addr + 1 < c->n_addrs && number >= 2000 && number < 3000) {
        c->addr++;
        mysql_close(c->my);
        c->my = NULL;
        return true;
    }
    /* The server's own words, other than that it is full or ends: it is there, and does not let us in. */
    tell_connected(c,
                   number >= 2000 && number < 3000               ? FAE_UNAVAILABLE
                   : number == 1040 || number == 1053 || !number ? FAE_UNAVAILABLE
                                                                 : FAE_BACKEND,
                   number ? mysql_error(c->my) : "what came is no answer");
    return false;
}

static void connect_to(struct fae_mysql_conn *c, const struct fae_addr *addrs, unsigned n)
{
    memcpy(c->addrs, addrs, n * sizeof *addrs);
    c->n_addrs = n;
    c->step = CONNECT;
    c->begins = true;
    fae_timer_start(&c->soon, 0);
}

static void on_resolved(struct fae_resolve *resolve, enum fae_err err, const struct fae_addr *addrs, unsigned n,
                        const char *why)
{
    struct fae_mysql_conn *c = FAE_CONTAINER(resolve, struct fae_mysql_conn, resolve);

    if (err)
        tell_connected(c, err, why);
    else
        connect_to(c, addrs, n);
}

/* ---- prepared statements ---- */

static void set_bind(MYSQL_BIND *bind, unsigned long *len, const struct fae_mysql_param *p)
{
    static const enum enum_field_types types[] = {
        [FAE_MYSQL_NULL] = MYSQL_TYPE_NULL,       [FAE_MYSQL_INT] = MYSQL_TYPE_LONGLONG,
        [FAE_MYSQL_UINT] = MYSQL_TYPE_LONGLONG,   [FAE_MYSQL_DOUBLE] = MYSQL_TYPE_DOUBLE,
        [FAE_MYSQL_TEXT] = MYSQL_TYPE_VAR_STRING, [FAE_MYSQL_BLOB] = MYSQL_TYPE_BLOB,
    };
    bool is_bytes = p->type == FAE_MYSQL_TEXT || p->type == FAE_MYSQL_BLOB;

    *len = p->len;
    *bind = (MYSQL_BIND){ .buffer_type = types[p->type],
                          .is_unsigned = p->type == FAE_MYSQL_UINT,
                          .buffer = is_bytes ? (void *)(uintptr_t)p->bytes : (void *)(uintptr_t)&p->i,
                          .buffer_length = is_bytes ? p->len : 8,
                          .length = len };
}

static bool bind_all(struct fae_mysql_conn *c)
{
    const struct fae_mysql_run *run = c->run;

    if (run->n_params > c->binds_cap) {
        c->binds_cap = run->n_params + 8;
        c->binds = fae_realloc(c->binds, c->binds_cap * sizeof *c->binds);
        c->lens = fae_realloc(c->lens, c->binds_cap * sizeof *c->lens);
    }
    for (unsigned i = 0; i < run->n_params; i++)
        set_bind(&c->binds[i], &c->lens[i], &run->params[i]);
    return !mysql_stmt_bind_param(c->stmt->stmt, c->binds);
}

/* What comes first: a statement that was pushed out is closed, one that is not known is prepared. */
static void set_first_step(struct fae_mysql_conn *c)
{
    c->closing = fae_mysql_stmts_doomed(&c->stmts);
    if (c->closing)
        c->step = CLOSE;
    else if (c->stmt->ready)
        c->step = EXECUTE;
    else
        c->step = PREPARE;
}

static void begin_prepared(struct fae_mysql_conn *c)
{
    c->stmt = fae_mysql_stmts_find(&c->stmts, c->run->sql, c->run->len);
    if (!c->stmt) {
        c->stmt = fae_mysql_stmts_add(&c->stmts, c->run->sql, c->run->len);
        c->stmt->stmt = mysql_stmt_init(c->my);
        FAE_ASSERT(c->stmt->stmt != NULL);
        c->stmt->stmt->user_data = c;
    }
    set_first_step(c);
}

/* False: it is over. */
static bool prepared(struct fae_mysql_conn *c)
{
    unsigned long n;

    if (c->rc) {
        end_ill(c);
        return false;
    }
    c->stmt->ready = true;
    n = mysql_stmt_param_count(c->stmt->stmt);
    if (n != c->run->n_params) {
        snprintf(c->run->fault.text, sizeof c->run->fault.text, "the statement has %lu parameters, and %u were given",
                 n, c->run->n_params);
        if (!c->stmt->kept)
            drop_stmt(c);
        end_with(c, FAE_MYSQL_END_ARGS, "");
        return false;
    }
    c->step = EXECUTE;
    return true;
}

static void take_counts(struct fae_mysql_conn *c)
{
    struct fae_mysql_run *run = c->run;
    uint64_t affected = c->stmt ? mysql_stmt_affected_rows(c->stmt->stmt) : mysql_affected_rows(c->my);

    run->affected = affected == MYSQL_COUNT_ERROR ? 0 : affected;
    run->insert_id = c->stmt ? mysql_stmt_insert_id(c->stmt->stmt) : mysql_insert_id(c->my);
    run->answered = true;
}

/* After a result, or after what has none. False: it is over. */
static bool after_result(struct fae_mysql_conn *c)
{
    if (c->my->server_status & SERVER_MORE_RESULTS_EXIST) {
        c->several = true;
        c->step = NEXT;
        return true;
    }
    end_well(c);
    return false;
}

static bool executed(struct fae_mysql_conn *c)
{
    unsigned number = c->rc ? mysql_stmt_errno(c->stmt->stmt) : 0, n;

    if ((number == 1615 || number == 1243) && !c->again) { /* ER_NEED_REPREPARE, ER_UNKNOWN_STMT_HANDLER: not done */
        c->again = true;
        drop_stmt(c);
        begin_prepared(c);
        return true;
    }
    if (c->rc) {
        end_ill(c);
        return false;
    }
    n = mysql_stmt_field_count(c->stmt->stmt);
    if (n == 0) {
        take_counts(c);
        return after_result(c);
    }
    if (!take_columns(c, mariadb_stmt_fetch_fields(c->stmt->stmt), n)) {
        end_with(c, FAE_MYSQL_END_GARBAGE, "what came is no answer");
        return false;
    }
    c->step = FETCH;
    return true;
}

/* ---- results ---- */

/* A row was added. False: it is over, or pauses. */
static bool added(struct fae_mysql_conn *c)
{
    struct fae_mysql_run *run = c->run;

    run->n_rows++;
    c->turn_rows++;
    if (is_over(c)) {
        end_with(c, FAE_MYSQL_END_LIMIT, "");
        return false;
    }
    if (run->streams && (run->n_rows >= run->want || run->rows.len >= BATCH_BYTES)) {
        c->step = PAUSED;
        watch_for(c, 0);
        run->done(run, FAE_MYSQL_END_MORE);
        return false;
    }
    return true;
}

static bool fetched(struct fae_mysql_conn *c)
{
    if (c->malformed) {
        end_with(c, FAE_MYSQL_END_GARBAGE, "a row is malformed");
        return false;
    }
    if (c->rc == 0)
        return added(c);
    if (c->rc == MYSQL_NO_DATA)
        return after_result(c);
    end_ill(c);
    return false;
}

static bool queried(struct fae_mysql_conn *c)
{
    if (c->rc) {
        end_ill(c);
        return false;
    }
    if (mysql_field_count(c->my) == 0) {
        take_counts(c);
        return after_result(c);
    }
    c->res = mysql_use_result(c->my);
    if (!c->res) {
        end_ill(c);
        return false;
    }
    if (!take_columns(c, mysql_fetch_fields(c->res), mysql_num_fields(c->res))) {
        end_with(c, FAE_MYSQL_END_GARBAGE, "what came is no answer");
        return false;
    }
    c->step = ROW;
    return true;
}

static bool rowed(struct fae_mysql_conn *c)
{
    if (c->row) {
        put_text_row(c);
        return added(c);
    }
    if (mysql_errno(c->my)) {
        end_ill(c);
        return false;
    }
    mysql_free_result(c->res); /* all of it is here: nothing is read */
    c->res = NULL;
    return after_result(c);
}

/* Behind the result of a procedure comes what it did; another result has no place here. */
static bool nexted(struct fae_mysql_conn *c)
{
    if (c->rc > 0) {
        end_ill(c);
        return false;
    }
    if (c->rc == 0 && (c->stmt ? mysql_stmt_field_count(c->stmt->stmt) : mysql_field_count(c->my)) > 0) {
        end_with(c, FAE_MYSQL_END_RESULTS, "the statement has several results");
        return false;
    }
    return after_result(c);
}

/* ---- steps ---- */

/* COM_RESET_CONNECTION would leave the database of a USE, and forget the character set of the login. */
static int begin_reset(struct fae_mysql_conn *c)
{
    const struct fae_config_mysql *config = c->site->config;

    return mysql_change_user_start(&c->flag, c->my, config->user, or_null(config->password), or_null(config->db));
}

/* 0: it is complete. */
static int begin(struct fae_mysql_conn *c)
{
    c->rc = 0;
    c->row = NULL;
    c->malformed = false;
    switch (c->step) {
    case CONNECT: return begin_connect(c);
    case QUERY: c->run->executed = true; return mysql_real_query_start(&c->rc, c->my, c->run->sql, c->run->len);
    case ROW: return mysql_fetch_row_start(&c->row, c->res);
    case NEXT:
        return c->stmt ? mysql_stmt_next_result_start(&c->rc, c->stmt->stmt) : mysql_next_result_start(&c->rc, c->my);
    case CLOSE: return mysql_stmt_close_start(&c->flag, c->closing->stmt);
    case PREPARE: return mysql_stmt_prepare_start(&c->rc, c->stmt->stmt, c->run->sql, c->run->len);
    case EXECUTE:
        c->run->executed = true;
        if (!bind_all(c)) {
            c->rc = 1;
            return 0;
        }
        return mysql_stmt_execute_start(&c->rc, c->stmt->stmt);
    case FETCH: return mysql_stmt_fetch_start(&c->rc, c->stmt->stmt);
    case RESET: return begin_reset(c);
    case PING: return mysql_ping_start(&c->rc, c->my);
    case IDLE:
    case RESOLVE:
    case PAUSED:
    case FAILED: break;
    }
    FAE_ASSERT(!"nothing to begin");
    return 0;
}

static int go_on(struct fae_mysql_conn *c, int got)
{
    switch (c->step) {
    case CONNECT: return mysql_real_connect_cont(&c->made, c->my, got);
    case QUERY: return mysql_real_query_cont(&c->rc, c->my, got);
    case ROW: return mysql_fetch_row_cont(&c->row, c->res, got);
    case NEXT:
        return c->stmt ? mysql_stmt_next_result_cont(&c->rc, c->stmt->stmt, got)
                       : mysql_next_result_cont(&c->rc, c->my, got);
    case CLOSE: return mysql_stmt_close_cont(&c->flag, c->closing->stmt, got);
    case PREPARE: return mysql_stmt_prepare_cont(&c->rc, c->stmt->stmt, got);
    case EXECUTE: return mysql_stmt_execute_cont(&c->rc, c->stmt->stmt, got);
    case FETCH: return mysql_stmt_fetch_cont(&c->rc, c->stmt->stmt, got);
    case RESET: return mysql_change_user_cont(&c->flag, c->my, got);
    case PING: return mysql_ping_cont(&c->rc, c->my, got);
    case IDLE:
    case RESOLVE:
    case PAUSED:
    case FAILED: break;
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
    c->step = c->sound ? IDLE : FAILED;
    if (c->sound)
        watch_for(c, MYSQL_WAIT_READ);
    else
        unwatch(c);
    c->told(c, c->arg, event, c->sound ? FAE_OK : FAE_UNAVAILABLE, why);
}

/* True: there is a step to begin. False: somebody was told, and the connection may be gone. */
static bool complete(struct fae_mysql_conn *c)
{
    switch (c->step) {
    case CONNECT: return connected(c);
    case QUERY: return queried(c);
    case ROW: return rowed(c);
    case NEXT: return nexted(c);
    case CLOSE:
        fae_mysql_stmts_closed(&c->stmts, c->closing);
        c->closing = NULL;
        set_first_step(c);
        return true;
    case PREPARE: return prepared(c);
    case EXECUTE: return executed(c);
    case FETCH: return fetched(c);
    case RESET: tell(c, FAE_MYSQL_RESET); return false;
    case PING: tell(c, FAE_MYSQL_CHECKED); return false;
    case IDLE:
    case RESOLVE:
    case PAUSED:
    case FAILED: break;
    }
    FAE_ASSERT(!"nothing is complete");
    return false;
}

static void wait_soon(struct fae_mysql_conn *c, bool begins)
{
    c->begins = begins;
    watch_for(c, 0);
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
            watch_for(c, c->waits);
            return;
        }
    }
}

/* What was waited for is there: c->waits. */
static void drive(struct fae_mysql_conn *c)
{
    c->waits = go_on(c, c->waits);
    if (c->waits)
        watch_for(c, c->waits);
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
            watch_for(c, c->waits);
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
        watch_for(c, c->waits);
    else
        wait_soon(c, false);
}

/* ---- for whoever has it ---- */

void fae_mysql_conn_run(struct fae_mysql_conn *c, struct fae_mysql_run *run)
{
    FAE_ASSERT(c->step == IDLE);
    c->run = run;
    c->again = c->several = false;
    c->stmt = NULL;
    run->columns.len = run->rows.len = 0;
    run->n_columns = run->n_rows = 0;
    run->affected = run->insert_id = 0;
    run->fault.number = 0;
    run->fault.state[0] = run->fault.text[0] = '\0';
    run->executed = run->answered = false;
    if (run->n_params > 0)
        begin_prepared(c);
    else
        c->step = QUERY;
    open_budget(c);
    start(c);
}

void fae_mysql_conn_more(struct fae_mysql_conn *c, unsigned want)
{
    FAE_ASSERT(c->step == PAUSED);
    c->run->want = want;
    c->run->rows.len = 0;
    c->run->n_rows = 0;
    c->step = c->res ? ROW : FETCH;
    open_budget(c);
    wait_soon(c, true);
}

void fae_mysql_conn_reset(struct fae_mysql_conn *c)
{
    FAE_ASSERT(c->step == IDLE);
    c->step = RESET;
    start(c);
}

void fae_mysql_conn_check(struct fae_mysql_conn *c)
{
    FAE_ASSERT(c->step == IDLE);
    c->step = PING;
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

bool fae_mysql_conn_is_idle(const struct fae_mysql_conn *c)
{
    return c->step == IDLE;
}

bool fae_mysql_conn_is_fresh(const struct fae_mysql_conn *c)
{
    char byte;

    return c->step == IDLE && c->fd >= 0 && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
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

struct fae_mysql_conn *fae_mysql_conn_new(const struct fae_mysql_site *site, fae_mysql_told_fn told, void *arg)
{
    struct fae_mysql_conn *c = fae_zalloc(sizeof *c);
    struct fae_addr addrs[FAE_RESOLVE_ADDRS];
    unsigned n;

    c->site = site;
    c->told = told;
    c->arg = arg;
    c->fd = -1;
    c->resolve.done = on_resolved;
    fae_mysql_stmts_init(&c->stmts, (unsigned)site->config->statements);
    fae_timer_init(&c->soon, site->loop, on_soon, c);
    c->step = RESOLVE;
    if (fae_resolve(site->resolver, &site->endpoint, &c->resolve, addrs, &n) == FAE_OK)
        connect_to(c, addrs, n);
    return c;
}

/* An operation that is in the middle ends with an error, so that what it has on its stack is freed. */
static void give_up(struct fae_mysql_conn *c)
{
    for (int i = 0; c->waits && i < GIVE_UP_TIMES; i++)
        c->waits = go_on(c, MYSQL_WAIT_TIMEOUT);
}

void fae_mysql_conn_break(struct fae_mysql_conn *c)
{
    c->run = NULL; /* put_row has nowhere to put anything */
    fae_timer_stop(&c->soon);
    unwatch(c);
    if (has_socket(c))
        shutdown((int)mysql_get_socket(c->my), SHUT_RDWR); /* whatever is tried on it ends at once */
    give_up(c);
    if (c->closing)
        fae_mysql_stmts_closed(&c->stmts, c->closing);
    c->closing = NULL;
    c->stmt = NULL;
    c->sound = false;
    c->step = FAILED;
}

static void hang_up(struct fae_mysql_conn *c)
{
    if (c->step != IDLE || !c->sound)
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
    if (c->step == RESOLVE)
        fae_resolve_cancel(c->site->resolver, &c->resolve);
    fae_timer_stop(&c->soon);
    unwatch(c);
    if (c->my)
        hang_up(c);
    fae_mysql_stmts_clear(&c->stmts); /* after the connection: nothing is sent any more */
    free(c->columns);
    free(c->binds);
    free(c->lens);
    free(c);
}
