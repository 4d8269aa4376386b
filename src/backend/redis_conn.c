/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The queue of one connection, its login, its clock. What is sent and read costs a system call each a turn, whatever the
 * number of calls; a call costs no allocation and no timer.
 */
#include "backend/redis_conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/hist.h"

#define READ_BYTES (16u * FAE_KIB) /* what hiredis takes best at a time */
#define READS_A_TURN 16u
#define TLS_HELD (16u * FAE_KIB) /* of what a send left over, TLS has so much in hand: a record */
#define PLACES_MIN 64u
#define KEEP_BYTES (256u * FAE_KIB) /* an empty buffer larger than this is given back */

/* ---- life ---- */

static void release(struct fae_redis_conn *c)
{
    fae_redis_reader_free(&c->reader);
    fae_buf_fini(&c->login);
    fae_buf_fini(&c->out);
    free(c->places);
    free(c);
}

static void stop(struct fae_redis_conn *c)
{
    c->state = FAE_REDIS_DEAD;
    fae_timer_stop(&c->timer);
    fae_later_cancel(&c->later);
    fae_stream_close(&c->stream);
}

void fae_redis_conn_free(struct fae_redis_conn **conn)
{
    struct fae_redis_conn *c = *conn;

    *conn = NULL;
    if (!c)
        return;
    stop(c);
    if (c->inside)
        c->closed = true;
    else
        release(c);
}

/* From the loop. The connection may be gone when it returns, unless it is `inside`. */
static void end(struct fae_redis_conn *c, enum fae_redis_end how, const char *why)
{
    char text[192];

    snprintf(text, sizeof text, "%s", why); /* it may be the stream's own */
    stop(c);
    c->ops->ended(c->owner, c, how, text);
}

/* ---- out ---- */

static void arm(struct fae_redis_conn *c, uint64_t after_ms)
{
    c->timing = true;
    fae_timer_start(&c->timer, after_ms);
}

/* Takes out what nobody waits for any more, as far as none of it was sent. */
static void prune(struct fae_redis_conn *c)
{
    size_t from = c->base, to = c->base;
    uint32_t kept = c->head;

    for (uint32_t i = c->head; i != c->tail; i++) {
        struct fae_redis_place place = *fae_redis_conn_at(c, i);

        if (place.call || from < c->offered) {
            if (to != from)
                memmove(c->out.data + to, c->out.data + from, place.bytes);
            place.at = c->gone + to;
            if (place.call)
                place.call->place = kept;
            *fae_redis_conn_at(c, kept++) = place;
            to += place.bytes;
        }
        from += place.bytes;
    }
    c->tail = kept;
    c->stamped = c->head;
    c->out.len = to;
    c->unsent_orphans = false;
}

/* All that goes out in a turn goes out at one time. */
static void stamp(struct fae_redis_conn *c)
{
    uint64_t now_ns = fae_now_ns();

    for (; c->stamped != c->tail; c->stamped++)
        if (!fae_redis_conn_at(c, c->stamped)->since_ns)
            fae_redis_conn_at(c, c->stamped)->since_ns = now_ns;
}

static void flush(void *arg)
{
    struct fae_redis_conn *c = arg;
    ssize_t n;

    if (c->state != FAE_REDIS_OPEN || c->broken)
        return;
    if (c->unsent_orphans)
        prune(c);
    if (c->sent == c->out.len)
        return;
    stamp(c);
    n = fae_stream_send(&c->stream, c->out.data + c->sent, c->out.len - c->sent);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        c->broken = true;
        fae_timer_start(&c->timer, 0); /* nobody is resumed from here */
        return;
    }
    if (n > 0)
        c->sent += (size_t)n;
    c->offered = c->sent;
    if (c->stream.tls)
        c->offered = c->out.len - c->sent < TLS_HELD ? c->out.len : c->sent + TLS_HELD;
    if (c->sent < c->out.len || c->stream.wants_write)
        fae_stream_want_write(&c->stream, c->sent < c->out.len);
}

/* Mostly all of it goes out at once. */
static void send_login(struct fae_redis_conn *c)
{
    ssize_t n = fae_stream_send(&c->stream, c->login.data, c->login.len);

    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return; /* what can be read says why */
    if (n > 0)
        fae_buf_shift(&c->login, (size_t)n);
    fae_stream_want_write(&c->stream, c->login.len > 0);
    if (c->login.len == 0)
        fae_buf_fini(&c->login);
}

static void on_writable(void *arg)
{
    struct fae_redis_conn *c = arg;

    if (c->state == FAE_REDIS_LOGIN && c->login.len)
        send_login(c);
    else
        flush(c);
}

enum fae_err fae_redis_conn_room(const struct fae_redis_conn *c, size_t bytes)
{
    size_t held = c->out.len - c->base;

    if (fae_redis_conn_n(c) >= FAE_REDIS_IN_FLIGHT || (held && held + bytes > FAE_REDIS_OUT_MAX))
        return FAE_OVERLOAD;
    return FAE_OK;
}

static void grow(struct fae_redis_conn *c)
{
    uint32_t n = c->n_places ? c->n_places * 2 : PLACES_MIN;
    struct fae_redis_place *places = fae_alloc(n * sizeof *places);

    for (uint32_t i = c->head; i != c->tail; i++)
        places[i & (n - 1)] = *fae_redis_conn_at(c, i);
    free(c->places);
    c->places = places;
    c->n_places = n;
}

struct fae_redis_place *fae_redis_conn_add(struct fae_redis_conn *c, struct fae_redis_call *call, size_t bytes,
                                           unsigned n_replies)
{
    struct fae_redis_place *place;

    if (fae_redis_conn_n(c) == c->n_places)
        grow(c);
    place = fae_redis_conn_at(c, c->tail);
    *place = (struct fae_redis_place){ .call = call,
                                       .at = c->gone + c->out.len - bytes,
                                       .bytes = (uint32_t)bytes,
                                       .n_left = n_replies,
                                       .n_replies = n_replies,
                                       .idempotent = call->idempotent };
    call->conn = c;
    call->place = c->tail++;
    if (c->state == FAE_REDIS_OPEN) {
        fae_later(c->o->loop, &c->later);
        if (!c->timing)
            arm(c, c->limit_ms);
    }
    return place;
}

bool fae_redis_conn_forget(struct fae_redis_conn *c, struct fae_redis_call *call)
{
    struct fae_redis_place *place = fae_redis_conn_at(c, call->place);
    bool unsent = !fae_redis_conn_was_sent(c, place);

    FAE_ASSERT(place->call == call);
    place->call = NULL;
    call->conn = NULL;
    if (!unsent)
        return false;
    fae_redis_leave(c->o, place->permit, FAE_BREAKER_VOID, c->o->loop->now_ms);
    c->unsent_orphans = true;
    return true;
}

/* ---- in ---- */

/* The oldest call has all its replies. */
static void finish(struct fae_redis_conn *c, uint64_t now_ns)
{
    struct fae_redis_place *at = fae_redis_conn_at(c, c->head), place = *at;
    struct fae_redis_outcome outcome = { .tape = fae_redis_tape(c->reader)->data, .n_replies = place.n_replies };

    c->head++;
    c->base += place.bytes;
    if (c->head == c->tail) {
        c->gone += c->base;
        c->base = c->sent = c->offered = c->out.len = 0;
        if (c->out.cap > KEEP_BYTES)
            fae_buf_fini(&c->out);
    } else if (c->base > KEEP_BYTES && c->base > c->out.len / 2) {
        fae_buf_shift(&c->out, c->base);
        c->gone += c->base;
        c->sent -= c->base;
        c->offered -= c->base;
        c->base = 0;
    }
    if (now_ns > place.since_ns)
        FAE_STAT_ADD(c->o->cell->n.call_ns, now_ns - place.since_ns);
    fae_redis_leave(c->o, place.permit, FAE_BREAKER_OK, now_ns / 1000000u);
    c->used_ms = now_ns / 1000000u;
    c->proven = true;
    if (!place.call)
        return;
    place.call->conn = NULL;
    place.call->done(place.call, &outcome);
}

static bool starts(const struct fae_redis_item *item, const char *word)
{
    size_t len = strlen(word);

    return item->n >= len && memcmp(item->text, word, len) == 0;
}

/* Is the reply on the tape one of those that a subscriber gets unasked? */
static bool is_message(const struct fae_redis_conn *c)
{
    static const char *const words[] = { "message", "pmessage", "smessage" };
    struct fae_redis_item item;
    const uint8_t *p = fae_redis_item(fae_redis_tape(c->reader)->data, &item);

    if (item.type != FAE_REDIS_ARRAY || item.n < 3)
        return false;
    fae_redis_item(p, &item);
    for (unsigned i = 0; i < 3; i++)
        if (item.type == FAE_REDIS_STRING && item.n == strlen(words[i]) && starts(&item, words[i]))
            return true;
    return false;
}

static void open_up(struct fae_redis_conn *c)
{
    c->state = FAE_REDIS_OPEN;
    c->opened = true;
    fae_timer_stop(&c->timer);
    c->used_ms = fae_now_ms();
    if (c->head != c->tail)
        arm(c, c->limit_ms);
    c->ops->opened(c->owner, c);
    if (c->state == FAE_REDIS_OPEN)
        fae_later(c->o->loop, &c->later);
}

/* Who does not know AUTH may repeat what it was sent. */
static bool tells(const struct fae_redis_item *item, const char *secret)
{
    return *secret && memmem(item->text, item->n, secret, strlen(secret)) != NULL;
}

/* One reply of the login. A PING says that a redis is there, whatever it thinks of being asked now. */
static void logged_in(struct fae_redis_conn *c)
{
    static const char *const fine[] = { "LOADING", "MASTERDOWN", "BUSY", "NOPERM" };
    struct fae_redis_item item;
    bool ok;
    char why[160];

    fae_redis_item(fae_redis_tape(c->reader)->data, &item);
    ok = item.type != FAE_REDIS_ERROR;
    for (unsigned i = 0; i < 4 && !ok && c->pings; i++)
        ok = starts(&item, fine[i]);
    if (!ok) {
        if (tells(&item, c->o->password))
            snprintf(why, sizeof why, "login: refused, in words that repeat the password");
        else
            snprintf(why, sizeof why, "login: %.*s", (int)item.n, item.text);
        end(c, starts(&item, "ERR max number of clients") ? FAE_REDIS_UNREACHED : FAE_REDIS_NO_LOGIN, why);
        return;
    }
    fae_redis_tape_clear(c->reader);
    if (--c->n_login == 0)
        open_up(c);
}

static void unasked(struct fae_redis_conn *c)
{
    if (!c->ops->pushed || !c->subscribed) {
        end(c, FAE_REDIS_GARBLED, "a reply that nobody asked for");
        return;
    }
    c->ops->pushed(c->owner, c);
    fae_redis_tape_clear(c->reader);
}

static bool nobody_waits(const struct fae_redis_conn *c)
{
    return c->state == FAE_REDIS_OPEN && c->head != c->tail && !fae_redis_conn_at(c, c->head)->call;
}

/* A reply before all of its command was sent: the server did not like how it began, and is about to close. */
static void too_early(struct fae_redis_conn *c)
{
    struct fae_redis_item item;
    char why[160];

    if (nobody_waits(c)) {
        end(c, FAE_REDIS_GARBLED, "a reply to what was not sent yet");
        return;
    }
    fae_redis_item(fae_redis_tape(c->reader)->data, &item);
    snprintf(why, sizeof why, "a reply to what was not sent yet%s%.*s", item.type == FAE_REDIS_ERROR ? ": " : "",
             item.type == FAE_REDIS_ERROR ? (int)item.n : 0, item.text ? item.text : "");
    end(c, FAE_REDIS_GARBLED, why);
}

/* One more reply is on the tape. */
static void answered(struct fae_redis_conn *c, uint64_t now_ns)
{
    struct fae_redis_place *place;

    if (c->state == FAE_REDIS_LOGIN) {
        logged_in(c);
        return;
    }
    if (c->head == c->tail || (c->subscribed && is_message(c))) {
        unasked(c);
        return;
    }
    place = fae_redis_conn_at(c, c->head);
    if (c->base >= c->sent || (place->n_left == 1 && c->base + place->bytes > c->sent)) {
        too_early(c);
        return;
    }
    if (fae_redis_was_error(c->reader)) {
        c->n_errors++;
        FAE_STAT_ADD(c->o->cell->n.errors, 1);
    }
    if (--place->n_left)
        return;
    finish(c, now_ns);
    if (c->state != FAE_REDIS_DEAD)
        fae_redis_tape_clear(c->reader);
}

static void run_replies(struct fae_redis_conn *c, uint64_t now_ns)
{
    while (c->state != FAE_REDIS_DEAD) {
        enum fae_err err = fae_redis_read(c->reader, nobody_waits(c));

        if (err == FAE_OK)
            answered(c, now_ns);
        else if (err == FAE_MORE)
            return;
        else
            end(c, FAE_REDIS_GARBLED, fae_redis_reader_why(c->reader));
    }
}

static void receive(struct fae_redis_conn *c)
{
    uint8_t bytes[READ_BYTES];

    fae_redis_reader_limit(c->reader, c->o->message_max);
    for (unsigned i = 0; c->state != FAE_REDIS_DEAD && i < READS_A_TURN && !c->stream.deaf; i++) {
        ssize_t n = fae_stream_recv(&c->stream, bytes, sizeof bytes);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            end(c, c->state == FAE_REDIS_LOGIN ? FAE_REDIS_UNREACHED : FAE_REDIS_LOST,
                n == 0 ? "it closed the connection" : fae_stream_why(&c->stream));
            return;
        }
        fae_redis_feed(c->reader, bytes, (size_t)n);
        run_replies(c, fae_now_ns());
        if (c->state == FAE_REDIS_DEAD || ((size_t)n < sizeof bytes && !fae_stream_pending(&c->stream)))
            return;
    }
    if (c->state != FAE_REDIS_DEAD && fae_stream_pending(&c->stream) && !c->stream.deaf)
        fae_stream_again(&c->stream);
}

static void on_readable(void *arg)
{
    struct fae_redis_conn *c = arg;

    c->inside = true;
    receive(c);
    c->inside = false;
    if (c->closed)
        release(c);
}

/* ---- connecting ---- */

static void put(struct fae_buf *out, const char *a, const char *b, const char *c)
{
    struct fae_redis_arg args[3] = { { a, strlen(a) }, { b, b ? strlen(b) : 0 }, { c, c ? strlen(c) : 0 } };

    fae_redis_put(out, args, c ? 3 : b ? 2 : 1);
}

static void on_open(void *arg)
{
    struct fae_redis_conn *c = arg;
    const struct fae_redis_conn_opts *o = c->o;
    char db[24];

    c->state = FAE_REDIS_LOGIN;
    if (*o->password) {
        put(&c->login, "AUTH", *o->user ? o->user : o->password, *o->user ? o->password : NULL);
        c->n_login++;
    }
    snprintf(db, sizeof db, "%llu", (unsigned long long)o->db);
    if (o->db) {
        put(&c->login, "SELECT", db, NULL);
        c->n_login++;
    }
    c->pings = c->n_login == 0;
    if (c->pings) {
        put(&c->login, "PING", NULL, NULL);
        c->n_login++;
    }
    send_login(c);
}

static void on_failed(void *arg, const char *why)
{
    end(arg, FAE_REDIS_UNREACHED, why);
}

static void on_timer(void *arg)
{
    struct fae_redis_conn *c = arg;
    uint64_t since_ns, age_ms;
    char why[64];

    c->timing = false;
    if (c->state != FAE_REDIS_OPEN) {
        snprintf(why, sizeof why, "not ready within %u ms", c->o->connect_timeout_ms);
        end(c, FAE_REDIS_UNREACHED, why);
        return;
    }
    if (c->broken) {
        end(c, FAE_REDIS_LOST, "it closed the connection");
        return;
    }
    if (c->head == c->tail)
        return;
    since_ns = fae_redis_conn_at(c, c->head)->since_ns;
    age_ms = since_ns ? (fae_now_ns() - since_ns) / 1000000u : 0;
    if (age_ms < c->limit_ms) {
        arm(c, c->limit_ms - age_ms);
        return;
    }
    snprintf(why, sizeof why, "no answer within %u ms", c->limit_ms);
    end(c, FAE_REDIS_LATE, why);
}

static const struct fae_stream_ops stream_ops = { on_open, on_failed, on_readable, on_writable };

struct fae_redis_conn *fae_redis_conn_new(const struct fae_redis_conn_opts *opts, const struct fae_redis_conn_ops *ops,
                                          void *owner)
{
    struct fae_redis_conn *c = fae_zalloc(sizeof *c);
    struct fae_stream_opts stream = { .loop = opts->loop,
                                      .resolver = opts->resolver,
                                      .endpoint = opts->endpoint,
                                      .tls = opts->tls,
                                      .within_ms = opts->connect_timeout_ms,
                                      .ops = &stream_ops,
                                      .arg = c };

    c->o = opts;
    c->ops = ops;
    c->owner = owner;
    c->limit_ms = opts->timeout_ms;
    c->born_ms = c->used_ms = fae_now_ms();
    c->reader = fae_redis_reader_new(opts->message_max);
    fae_later_init(&c->later, flush, c);
    fae_timer_init(&c->timer, opts->loop, on_timer, c);
    fae_timer_start(&c->timer, opts->connect_timeout_ms);
    fae_stream_open(&c->stream, &stream);
    return c;
}
