/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A statement on a connection: prepared or as text, its rows taken into a buffer as they come, and how it ended.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/mysql_conn_impl.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/config.h"
#include "wire/msgpack.h"

#define BATCH_BYTES (256u * FAE_KIB) /* after which a stream pauses, however few rows that are */
#define COLUMNS_MAX 4096u
#define FULL "the results that are being read take more than mysql_results_max together"

/* ---- rows ---- */

/* By the library, on its own stack. */
int fae_mysql_put_row(MYSQL_STMT *stmt, unsigned char *row, unsigned long len)
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

static void end_with(struct fae_mysql_conn *c, enum fae_mysql_end end, const char *text);

/* False: it is over. */
static bool take_columns(struct fae_mysql_conn *c, const MYSQL_FIELD *fields, unsigned n)
{
    struct fae_mysql_run *run = c->run;

    if (n > COLUMNS_MAX || (n > 0 && !fields)) {
        end_with(c, n > COLUMNS_MAX ? FAE_MYSQL_END_LIMIT : FAE_MYSQL_END_GARBAGE,
                 n > COLUMNS_MAX ? "a result of more than 4096 columns" : "what came is no answer");
        return false;
    }
    if (n > c->columns_cap) {
        c->columns_cap = n + 16;
        c->columns = fae_realloc(c->columns, c->columns_cap * sizeof *c->columns);
    }
    c->head_read = c->step_read;
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
    fae_mysql_room_rest(c);
    if (c->res) {
        c->my->status = MYSQL_STATUS_READY; /* what is still to come is not waited for */
        mysql_free_result(c->res);
        c->res = NULL;
    }
    c->sound = end <= FAE_MYSQL_END_ARGS && c->my->net.pvio;
    c->step = c->sound ? FAE_MYSQL_S_IDLE : FAE_MYSQL_S_FAILED;
    if (c->sound)
        fae_mysql_watch_for(c, MYSQL_WAIT_READ);
    else
        fae_mysql_unwatch(c);
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
    if (c->full) {
        end = FAE_MYSQL_END_FULL;
        snprintf(run->fault.text, sizeof run->fault.text, FULL);
    } else if (c->step_read >= FAE_MYSQL_HEAD_BYTES && c->step != FAE_MYSQL_S_ROW && c->step != FAE_MYSQL_S_FETCH) {
        end = FAE_MYSQL_END_LIMIT;
        snprintf(run->fault.text, sizeof run->fault.text, "columns of more than %u bytes", FAE_MYSQL_HEAD_BYTES);
    } else if (end == FAE_MYSQL_END_LIMIT && c->my->net.pvio) { /* not sent: what cannot be read ends the connection */
        run->executed = false;
        snprintf(run->fault.text, sizeof run->fault.text, "a statement of more bytes than fit in a packet");
    } else if (end == FAE_MYSQL_END_LIMIT) {
        snprintf(run->fault.text, sizeof run->fault.text, "a row of more than result_max (%llu bytes)",
                 (unsigned long long)c->site->config->result_max);
    }
    if (!c->my->net.pvio && end == FAE_MYSQL_END_ERROR)
        end = FAE_MYSQL_END_LOST;
    if (c->step == FAE_MYSQL_S_PREPARE || (c->stmt && !c->stmt->kept))
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

/* ---- prepared statements ---- */

static void set_bind(MYSQL_BIND *bind, unsigned long *len, const struct fae_mysql_param *p, const char *charset)
{
    static const enum enum_field_types types[] = {
        [FAE_MYSQL_NULL] = MYSQL_TYPE_NULL,       [FAE_MYSQL_INT] = MYSQL_TYPE_LONGLONG,
        [FAE_MYSQL_UINT] = MYSQL_TYPE_LONGLONG,   [FAE_MYSQL_DOUBLE] = MYSQL_TYPE_DOUBLE,
        [FAE_MYSQL_TEXT] = MYSQL_TYPE_VAR_STRING, [FAE_MYSQL_BYTES] = MYSQL_TYPE_VAR_STRING,
        [FAE_MYSQL_BLOB] = MYSQL_TYPE_BLOB,
    };
    bool is_bytes = p->type >= FAE_MYSQL_TEXT;
    bool is_blob = p->type == FAE_MYSQL_BYTES && strncmp(charset, "utf8", 4) == 0;

    *len = p->len;
    *bind = (MYSQL_BIND){ .buffer_type = is_blob ? MYSQL_TYPE_BLOB : types[p->type],
                          .is_unsigned = p->type == FAE_MYSQL_UINT,
                          .buffer = is_bytes ? (void *)(uintptr_t)p->bytes : (void *)(uintptr_t)&p->i,
                          .buffer_length = is_bytes ? p->len : 8,
                          .length = len };
}

bool fae_mysql_bind_all(struct fae_mysql_conn *c)
{
    const struct fae_mysql_run *run = c->run;

    if (run->n_params > c->binds_cap) {
        c->binds_cap = run->n_params + 8;
        c->binds = fae_realloc(c->binds, c->binds_cap * sizeof *c->binds);
        c->lens = fae_realloc(c->lens, c->binds_cap * sizeof *c->lens);
    }
    for (unsigned i = 0; i < run->n_params; i++)
        set_bind(&c->binds[i], &c->lens[i], &run->params[i], c->site->config->charset);
    return !mysql_stmt_bind_param(c->stmt->stmt, c->binds);
}

/* What comes first: a statement that was pushed out is closed, one that is not known is prepared. */
void fae_mysql_set_first_step(struct fae_mysql_conn *c)
{
    c->closing = fae_mysql_stmts_doomed(&c->stmts);
    if (c->closing)
        c->step = FAE_MYSQL_S_CLOSE;
    else if (c->stmt->ready)
        c->step = FAE_MYSQL_S_EXECUTE;
    else
        c->step = FAE_MYSQL_S_PREPARE;
}

void fae_mysql_begin_prepared(struct fae_mysql_conn *c)
{
    c->stmt = fae_mysql_stmts_find(&c->stmts, c->run->sql, c->run->len);
    if (!c->stmt) {
        c->stmt = fae_mysql_stmts_add(&c->stmts, c->run->sql, c->run->len);
        c->stmt->stmt = mysql_stmt_init(c->my);
        FAE_ASSERT(c->stmt->stmt != NULL);
        c->stmt->stmt->user_data = c;
    }
    fae_mysql_set_first_step(c);
}

/* False: it is over. */
bool fae_mysql_prepared(struct fae_mysql_conn *c)
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
    c->step = FAE_MYSQL_S_EXECUTE;
    return true;
}

static void take_counts(struct fae_mysql_conn *c)
{
    struct fae_mysql_run *run = c->run;
    uint64_t affected = c->stmt ? mysql_stmt_affected_rows(c->stmt->stmt) : mysql_affected_rows(c->my);

    run->affected = affected == MYSQL_COUNT_ERROR ? 0 : affected;
    run->insert_id = c->stmt ? mysql_stmt_insert_id(c->stmt->stmt) : mysql_insert_id(c->my);
    run->warnings = c->stmt ? (unsigned)mysql_stmt_warning_count(c->stmt->stmt) : mysql_warning_count(c->my);
    run->answered = true;
}

/* After a result, or after what has none. False: it is over. */
static bool after_result(struct fae_mysql_conn *c)
{
    if (c->my->server_status & SERVER_MORE_RESULTS_EXIST) {
        c->several = true;
        c->step = FAE_MYSQL_S_NEXT;
        return true;
    }
    end_well(c);
    return false;
}

bool fae_mysql_executed(struct fae_mysql_conn *c)
{
    unsigned number = c->rc ? mysql_stmt_errno(c->stmt->stmt) : 0, n;

    if ((number == 1615 || number == 1243) && !c->again) { /* ER_NEED_REPREPARE, ER_UNKNOWN_STMT_HANDLER: not done */
        c->again = true;
        drop_stmt(c);
        fae_mysql_begin_prepared(c);
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
    if (!take_columns(c, mariadb_stmt_fetch_fields(c->stmt->stmt), n))
        return false;
    c->step = FAE_MYSQL_S_FETCH;
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
    if (!fae_mysql_room_take(c)) {
        end_with(c, FAE_MYSQL_END_FULL, FULL);
        return false;
    }
    if (run->streams && (run->n_rows >= run->want || run->rows.len >= BATCH_BYTES)) {
        c->step = FAE_MYSQL_S_PAUSED;
        fae_mysql_watch_for(c, 0);
        run->done(run, FAE_MYSQL_END_MORE);
        return false;
    }
    return true;
}

bool fae_mysql_fetched(struct fae_mysql_conn *c)
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

bool fae_mysql_queried(struct fae_mysql_conn *c)
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
    if (!take_columns(c, mysql_fetch_fields(c->res), mysql_num_fields(c->res)))
        return false;
    c->step = FAE_MYSQL_S_ROW;
    return true;
}

bool fae_mysql_rowed(struct fae_mysql_conn *c)
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
bool fae_mysql_nexted(struct fae_mysql_conn *c)
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
