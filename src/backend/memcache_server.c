/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Calls of one memcached: how they are asked, and every way they end.
 */
#include "backend/memcache_server.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/memcache_impl.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"

#define ROW_MS 200                  /* between two looks for a row that there was not */
#define ROW_LOOKS 25                /* in vain, until the log is told */
#define QUEUE_BYTES (32u * FAE_MIB) /* of calls that are not answered; one may always be */
#define IDLE_CHECK_MS 5000u         /* of lying idle, before a check, and again */
#define CHECK_MS 1000u              /* between two checks of a server that was silent, or whose breaker is open ... */
#define WANTED_MS 60000u            /* ... which end so long after the last call */

static const uint8_t check_key[] = " fae:check"; /* whether there is such a value does not matter */

static void on_late(void *arg);

/* ---- life ---- */

_Static_assert(sizeof "memcache/" - 1 + 63 + 1 + FAE_ENDPOINT_TEXT - 1 <= FAE_UPSTREAM_NAME_MAX,
               "every server has a name");

/* Its row in shared memory. While a reload replaces many servers there may be none: those that go still have theirs. */
static bool find_row(struct fae_memcache_server *s)
{
    s->up = fae_upstream_get(s->o.upstreams, s->row, s->o.slot);
    s->cell = s->up ? fae_upstream_cell(s->up, s->o.slot) : NULL;
    s->row_ms = s->o.loop->now_ms + ROW_MS;
    if (!s->up && ++s->n_looked == ROW_LOOKS)
        FAE_ERROR("%s: its calls fail, there are %u servers of all pools", s->name, FAE_UPSTREAMS_MAX);
    return s->up != NULL;
}

struct fae_memcache_server *fae_memcache_server_new(const struct fae_memcache_server_opts *opts)
{
    struct fae_memcache_server *s = fae_zalloc(sizeof *s);

    s->o = *opts;
    s->o.pool = NULL; /* copied into name */
    s->endpoint = *opts->endpoint;
    s->o.endpoint = &s->endpoint;
    snprintf(s->name, sizeof s->name, "memcache %s %s", opts->pool, s->endpoint.text);
    snprintf(s->row, sizeof s->row, "memcache/%s/%s", opts->pool, s->endpoint.text);
    find_row(s);
    fae_list_init(&s->waiting);
    fae_list_init(&s->asked);
    fae_timer_init(&s->late, opts->loop, on_late, s);
    fae_memcache_link_init(s);
    return s;
}

const char *fae_memcache_server_name(const struct fae_memcache_server *s)
{
    return s->name;
}

bool fae_memcache_server_quiet(const struct fae_memcache_server *s)
{
    return s->n_live == 0;
}

void fae_memcache_show(const struct fae_memcache_server *s)
{
    FAE_STAT_SET(s->cell->now.connecting, s->state == FAE_MEMCACHE_CONNECTING);
    FAE_STAT_SET(s->cell->now.used, s->state == FAE_MEMCACHE_OPEN && s->n_calls > 0);
    FAE_STAT_SET(s->cell->now.idle, s->state == FAE_MEMCACHE_OPEN && s->n_calls == 0);
    FAE_STAT_SET(s->cell->now.waiting, s->state == FAE_MEMCACHE_OPEN ? 0 : s->n_calls);
}

/* ---- the ends of calls ---- */

const char *fae_memcache_sentence(struct fae_memcache_server *s, const char *what)
{
    snprintf(s->why, sizeof s->why, "%s: %s", s->name, what);
    return s->why;
}

void fae_memcache_settle(struct fae_memcache_server *s, struct fae_memcache_call *call,
                         enum fae_breaker_outcome outcome, const struct fae_memcache_answer *answer)
{
    bool was_telling = s->telling;

    FAE_ASSERT(!call->over);
    call->over = true;
    if (!call->check)
        fae_upstream_end(s->up, &s->o.breaker, s->o.slot, call->permit, outcome, s->o.loop->now_ms);
    if (call->cancelled)
        return;
    s->n_live--;
    s->telling = true;
    call->done(call, answer);
    s->telling = was_telling;
}

void fae_memcache_drop(struct fae_memcache_server *s, struct fae_memcache_call *call)
{
    FAE_ASSERT(call->over);
    if (s->at == call)
        s->at = NULL;
    fae_list_del(&call->node);
    s->n_calls--;
    s->n_bytes -= call->len;
    free(call);
}

void fae_memcache_fail(struct fae_memcache_server *s, struct fae_memcache_call *call, enum fae_breaker_outcome outcome,
                       enum fae_err err, const char *what)
{
    struct fae_memcache_answer answer = { .err = err, .why = fae_memcache_sentence(s, what) };

    fae_memcache_settle(s, call, outcome, &answer);
    fae_memcache_drop(s, call);
}

void fae_memcache_server_free(struct fae_memcache_server **server)
{
    struct fae_memcache_server *s = *server;

    *server = NULL;
    if (!s)
        return;
    FAE_ASSERT(!s->telling);
    fae_memcache_link_fini(s);
    fae_list_splice(&s->asked, &s->waiting);
    while (!fae_list_empty(&s->asked)) {
        struct fae_memcache_call *call = FAE_MEMCACHE_FIRST(&s->asked);

        if (call->over)
            fae_memcache_drop(s, call);
        else
            fae_memcache_fail(s, call, FAE_BREAKER_VOID, FAE_CLOSED, "the pool ended");
    }
    fae_timer_stop(&s->late);
    if (s->up) {
        fae_memcache_show(s);
        fae_upstream_put(s->up, s->o.slot);
    }
    free(s);
}

/* ---- deadlines ---- */

static uint64_t due_ms(const struct fae_memcache_server *s, const struct fae_memcache_call *call)
{
    return call->asked_ms + s->o.timeout_ms;
}

/* The oldest: what is asked is older than what waits, and both are in order. One that is answered counts too, since its
 * command must end. */
static struct fae_memcache_call *oldest(struct fae_memcache_server *s)
{
    if (!fae_list_empty(&s->asked))
        return FAE_MEMCACHE_FIRST(&s->asked);
    return fae_list_empty(&s->waiting) ? NULL : FAE_MEMCACHE_FIRST(&s->waiting);
}

static void time_out(struct fae_memcache_server *s, struct fae_memcache_call *call)
{
    char text[64];

    if (!call->on_wire && !call->again) {
        snprintf(text, sizeof text, "no connection within %u ms", s->o.timeout_ms);
        FAE_MEMCACHE_STAT(s, busy, 1);
        fae_memcache_fail(s, call, FAE_BREAKER_VOID, FAE_UNAVAILABLE, text);
        return;
    }
    snprintf(text, sizeof text, "no answer within %u ms", s->o.timeout_ms);
    FAE_MEMCACHE_STAT(s, timeouts, 1);
    fae_memcache_fail(s, call, FAE_BREAKER_FAILED, call->op == FAE_MEMCACHE_GET ? FAE_TIMEOUT : FAE_UNKNOWN, text);
}

static void on_late(void *arg)
{
    struct fae_memcache_server *s = arg;
    struct fae_memcache_call *call;
    uint64_t now_ms = fae_now_ms();
    bool asked = false;

    while ((call = oldest(s)) && due_ms(s, call) <= now_ms) {
        asked |= call->sent;
        if (call->over)
            fae_memcache_drop(s, call);
        else
            time_out(s, call);
    }
    if (asked) {
        fae_memcache_tell(s, "it does not answer");
        if (s->state == FAE_MEMCACHE_OPEN)
            fae_memcache_lose(s, "the connection was ended, since it does not answer");
    }
    call = oldest(s);
    if (call)
        fae_timer_start_at(&s->late, due_ms(s, call));
}

/* ---- asking ---- */

static enum fae_err refused(struct fae_memcache_server *s, struct fae_memcache_answer *answer, enum fae_err err,
                            const char *what, uint32_t retry_after_ms)
{
    *answer = (struct fae_memcache_answer){ .err = err,
                                            .why = fae_memcache_sentence(s, what),
                                            .retry_after_ms = retry_after_ms };
    return err;
}

static void enqueue(struct fae_memcache_server *s, struct fae_memcache_call *call, uint64_t now_ms)
{
    call->asked_ms = now_ms; /* more exactly when it goes out */
    call->answered = call->at_key = call->at_byte = 0;
    call->sent = call->on_wire = call->last = call->again = call->over = call->cancelled = call->too_long = false;
    fae_list_add_tail(&s->waiting, &call->node);
    s->n_calls++;
    s->n_live++;
    s->n_bytes += call->len;
    if (s->state == FAE_MEMCACHE_OPEN)
        fae_later(s->o.loop, &s->flush);
    else if (s->state == FAE_MEMCACHE_DOWN)
        fae_memcache_dial(s);
    if (!fae_timer_running(&s->late))
        fae_timer_start_at(&s->late, due_ms(s, call));
}

enum fae_err fae_memcache_ask(struct fae_memcache_server *s, struct fae_memcache_call *call,
                              struct fae_memcache_answer *answer_out)
{
    uint64_t now_ms = s->o.loop->now_ms;
    uint32_t retry_after_ms = 0;

    if (!s->up)
        return refused(s, answer_out, FAE_UNAVAILABLE, "the node has too many servers in all pools", 0);
    if (s->n_calls >= s->o.waiting_max || (s->n_bytes && s->n_bytes + call->len > QUEUE_BYTES)) {
        FAE_MEMCACHE_STAT(s, busy, 1);
        return refused(s, answer_out, FAE_POOL_BUSY, "too many calls wait for its answers", 0);
    }
    s->wanted_ms = now_ms;
    if (!fae_upstream_enter(s->up, &s->o.breaker, s->o.slot, now_ms, &call->permit, &retry_after_ms))
        return refused(s, answer_out, FAE_CIRCUIT_OPEN, fae_err_text(FAE_CIRCUIT_OPEN), retry_after_ms);
    if (s->state == FAE_MEMCACHE_DOWN && now_ms < s->retry_ms) {
        fae_upstream_end(s->up, &s->o.breaker, s->o.slot, call->permit, FAE_BREAKER_VOID, now_ms);
        return refused(s, answer_out, FAE_UNAVAILABLE, "it was not reached a moment ago",
                       (uint32_t)(s->retry_ms - now_ms));
    }
    call->check = false;
    enqueue(s, call, now_ms);
    return FAE_OK;
}

bool fae_memcache_cancel(struct fae_memcache_server *s, struct fae_memcache_call *call)
{
    if (call->over)
        return false;
    call->cancelled = true;
    s->n_live--;
    if (call->sent)
        return true; /* its answer will come, and is for nobody */
    fae_memcache_settle(s, call, FAE_BREAKER_VOID, NULL);
    fae_memcache_drop(s, call);
    return false;
}

/* ---- checks ---- */

/* A get of our own: it passes an open breaker, and counts for nothing. */
struct check {
    struct fae_memcache_call call;
    struct fae_memcache_server *server;
};

static void on_checked(struct fae_memcache_call *call, const struct fae_memcache_answer *answer)
{
    struct fae_memcache_server *s = FAE_CONTAINER(call, struct check, call)->server;

    s->checking = false;
    if (answer->err == FAE_TIMEOUT) {
        s->wanted_ms = s->silent ? s->wanted_ms : s->o.loop->now_ms; /* it is looked after for so long */
        s->silent = true;
        fae_upstream_end(s->up, &s->o.breaker, s->o.slot, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED,
                         s->o.loop->now_ms);
    }
    if (answer->err != FAE_OK && !answer->error)
        return;
    s->silent = false;
    fae_upstream_reached(s->up, s->o.loop->now_ms);
}

/* A connection that lies idle is asked now and then; a server that may be away, more often and as long as it is wanted. */
static bool is_check_due(const struct fae_memcache_server *s, uint64_t now_ms)
{
    if (s->checking || now_ms < s->check_ms)
        return false;
    if (s->silent || atomic_load(&fae_upstream_breaker(s->up)->state) == FAE_BREAKER_OPEN)
        return now_ms <= s->wanted_ms + WANTED_MS && (s->state != FAE_MEMCACHE_DOWN || now_ms >= s->retry_ms);
    return s->state == FAE_MEMCACHE_OPEN && s->n_calls == 0 && now_ms >= s->quiet_ms + IDLE_CHECK_MS &&
           now_ms >= s->check_ms - CHECK_MS + IDLE_CHECK_MS;
}

/* Nobody is let through to a server whose breaker is open, so that nobody would see it come back before its time is up. That
 * it takes connections says nothing: a machine does that for a server that is frozen. */
static void check(struct fae_memcache_server *s, uint64_t now_ms)
{
    struct check *check;

    if (!is_check_due(s, now_ms))
        return;
    check = fae_zalloc(sizeof *check);
    check->server = s;
    check->call = (struct fae_memcache_call){ .op = FAE_MEMCACHE_GET,
                                              .n_keys = 1,
                                              .bytes = check_key,
                                              .len = sizeof check_key - 1,
                                              .done = on_checked,
                                              .check = true };
    s->checking = true;
    s->check_ms = now_ms + CHECK_MS;
    enqueue(s, &check->call, s->o.loop->now_ms);
}

void fae_memcache_server_skip(struct fae_memcache_server *s, uint64_t ms)
{
    s->skipped_ms += ms;
}

void fae_memcache_server_tick(struct fae_memcache_server *s)
{
    uint64_t now_ms = s->o.loop->now_ms + s->skipped_ms;

    if (!s->up && (now_ms < s->row_ms || !find_row(s)))
        return;
    if (s->n_calls > s->checking) /* that it was asked does not make it less idle */
        s->quiet_ms = now_ms;
    if (s->state == FAE_MEMCACHE_OPEN && s->n_calls == 0 &&
        ((s->o.idle_ms && now_ms >= s->quiet_ms + s->o.idle_ms) || (s->ends_ms && now_ms >= s->ends_ms)))
        fae_memcache_hang_up(s);
    check(s, now_ms);
    fae_memcache_show(s);
}
