/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/session: a client's bytes, cut anywhere, over a real socket into a server whose service is a few lines of C.
 * What has to come back follows from reading the same bytes whole, message by message: every answer, once, and none
 * besides; in order where no call waited. Afterwards nothing of the session is left.
 * The method's first byte says how a call is answered: later, at length, with an error, or at once with its params.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "rpc/message.h"
#include "rpc/server_impl.h"
#include "rpc/turn.h"

#define MESSAGE_MAX 1024u
#define LONG_ANSWER (64u * FAE_KIB)
#define LONG_ANSWERS 20 /* in one session: enough to stop reading, and no more since they take most of the time */
#define ROUNDS_MAX 4000

/* Messages, whatever their order. */
struct tally {
    unsigned n;
    uint64_t sum;
};

struct parked {
    struct fae_list node; /* in session->calls */
    struct fae_session *session;
    struct fae_buf answer;
};

static struct {
    struct parked *parked[FAE_SESSION_CALLS];
    unsigned n_parked;
    unsigned n_parked_ever;
    unsigned n_long;
    struct tally dropped; /* answers of calls that were cancelled */
} service;

static struct {
    struct fae_loop loop;
    struct fae_config config;
    struct fae_slots *slots;
    struct fae_server *server;
} world;

static struct {
    int fd;
    struct fae_buf got;
    bool eof;
} client;

static void add_message(struct tally *tally, const uint8_t *bytes, size_t len)
{
    tally->n++;
    tally->sum += fuzz_hash(bytes, len < 80 ? len : 80) * (len | 1);
}

/* ---- the service ---- */

static unsigned kind_of(const struct fae_request *req)
{
    return (uint8_t)req->method[0] % 8;
}

enum { LATER, AT_LENGTH, WITH_ERROR };

/* What has to be answered; also the reference's. */
static void write_answer(struct fae_buf *out, const struct fae_request *req, unsigned *n_long)
{
    static const uint8_t zeros[LONG_ANSWER];
    struct fae_failure failure = {
        .code = "BAD_ARGS", .code_len = 8, .text = req->method, .text_len = req->method_len, .retry_after_ms = -1
    };

    if (req->context)
        FAE_ASSERT(fae_mp_skip(req->context) > req->context);
    if (kind_of(req) == WITH_ERROR) {
        fae_message_error(out, FAE_ERROR_STRING, req->msgid, &failure);
        return;
    }
    fae_message_result(out, req->msgid);
    if (kind_of(req) == AT_LENGTH && (*n_long)++ < LONG_ANSWERS)
        fae_mp_bin(out, zeros, sizeof zeros);
    else
        fae_buf_add(out, req->params, (size_t)(fae_mp_skip(req->params) - req->params));
}

static bool guard(void *arg, void (*fn)(void *), void *fn_arg)
{
    (void)arg;
    fn(fn_arg);
    return true;
}

static void call(void *arg, struct fae_session *s, const struct fae_request *req)
{
    struct parked *p;

    (void)arg;
    if (req->notification)
        return;
    if (kind_of(req) != LATER) {
        write_answer(fae_session_out(s), req, &service.n_long);
        return;
    }
    FAE_ASSERT(service.n_parked < FAE_SESSION_CALLS);
    p = fae_zalloc(sizeof *p);
    p->session = s;
    write_answer(&p->answer, req, &service.n_long);
    service.parked[service.n_parked++] = p;
    service.n_parked_ever++;
    fae_session_began(s, &p->node);
}

static void end_parked(unsigned i, bool answers)
{
    struct parked *p = service.parked[i];

    service.parked[i] = service.parked[--service.n_parked];
    if (answers)
        fae_buf_add(fae_session_out(p->session), p->answer.data, p->answer.len);
    else
        add_message(&service.dropped, p->answer.data, p->answer.len);
    fae_session_ended(p->session, &p->node);
    fae_buf_fini(&p->answer);
    free(p);
}

static void hangup(void *arg, struct fae_session *s, enum fae_err code)
{
    (void)arg;
    (void)s;
    (void)code;
    while (service.n_parked)
        end_parked(service.n_parked - 1, false);
}

static const struct fae_service_ops ops = { .guard = guard, .call = call, .hangup = hangup };

/* ---- the server ---- */

static void open_world(void)
{
    static const unsigned one = 1;
    struct fae_server_opts o = { .config = &world.config, .loop = &world.loop, .ops = &ops };

    fae_clock_init();
    fae_config_init(&world.config);
    world.config.message_max = MESSAGE_MAX;
    world.slots = aligned_alloc(64, (fae_slots_size(&one) + 63) & ~(size_t)63);
    memset(world.slots, 0, fae_slots_size(&one));
    fae_slots_init(world.slots, &one);
    o.stats = aligned_alloc(64, (fae_stats_size(&one) + 63) & ~(size_t)63);
    memset(o.stats, 0, fae_stats_size(&one));
    fae_stats_init(o.stats, &one);
    o.slots = world.slots;
    FAE_ASSERT(fae_loop_init(&world.loop) == FAE_OK);
    world.server = fae_server_new(&o);
}

/* One turn of the loop, as fae_loop_run has it, but it never sleeps. */
static bool turn(void)
{
    event_base_loop(world.loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    return fae_server_turn(world.server);
}

/* What closed is to be seen by a sanitizer, so nothing is kept for the next session. */
static void free_spares(void)
{
    struct fae_server *server = world.server;

    while (server->n_spare_sessions)
        free(server->spare_sessions[--server->n_spare_sessions]);
    while (server->n_spare_bufs)
        fae_buf_fini(&server->spare_bufs[--server->n_spare_bufs]);
}

/* ---- the client ---- */

static bool receive(void)
{
    bool any = false;

    while (!client.eof) {
        ssize_t n = recv(client.fd, fae_buf_room(&client.got, 64 * FAE_KIB), 64 * FAE_KIB, 0);

        if (n < 0)
            break;
        client.eof = n == 0;
        client.got.len += (size_t)n;
        any = true;
    }
    return any;
}

/* Turns until nothing moves; answers what waits, if asked to. */
static void settle(bool answer)
{
    unsigned quiet = 0;

    for (unsigned round = 0; quiet < 3; round++) {
        bool moved = turn();

        FAE_ASSERT(round < ROUNDS_MAX);
        moved |= receive();
        while (answer && service.n_parked) {
            end_parked(0, true);
            moved = true;
        }
        quiet = moved ? 0 : quiet + 1;
    }
}

/* All of it in chunks; the server's turns, and answers to what waits, come in between as chance has it. */
static void send_all(const uint8_t *bytes, size_t len, uint64_t *random)
{
    for (size_t at = 0; at < len;) {
        size_t n = fuzz_chunk(random, len - at);
        ssize_t sent = send(client.fd, bytes + at, n, MSG_NOSIGNAL);

        if (sent < 0 && errno != EAGAIN)
            return;
        at += sent > 0 ? (size_t)sent : 0;
        turn();
        if (service.n_parked && fuzz_random(random) % 2)
            end_parked(fuzz_random(random) % service.n_parked, true);
        if (fuzz_random(random) % 4 == 0 || sent < 0)
            receive();
        if (sent < 0)
            settle(true);
    }
}

/* ---- what it should be ---- */

struct reference {
    struct fae_buf out;
    unsigned n_long;
    bool lost;
    bool partial;
};

static void expect_complaint(struct reference *ref, enum fae_err code, const char *text)
{
    struct fae_failure f = { .code = fae_err_name(code), .text = text, .text_len = strlen(text), .retry_after_ms = -1 };

    f.code_len = strlen(f.code);
    fae_message_complaint(&ref->out, FAE_ERROR_STRING, &f);
}

static void expect_message(struct reference *ref, const uint8_t *bytes)
{
    struct fae_request req;
    const char *why = "";
    struct fae_failure f = { .code = "BAD_MESSAGE", .code_len = 11, .retry_after_ms = -1 };

    switch (fae_message_parse(bytes, &req, &why)) {
    case FAE_MESSAGE_CALL:
        if (!req.notification)
            write_answer(&ref->out, &req, &ref->n_long);
        return;
    case FAE_MESSAGE_REFUSE:
        f.text = why;
        f.text_len = strlen(why);
        fae_message_error(&ref->out, FAE_ERROR_STRING, req.msgid, &f);
        return;
    case FAE_MESSAGE_LOST:
        expect_complaint(ref, FAE_BAD_MESSAGE, why);
        ref->lost = true;
        return;
    case FAE_MESSAGE_COMPLAIN: expect_complaint(ref, FAE_BAD_MESSAGE, why); return;
    case FAE_MESSAGE_IGNORE: return;
    }
}

static void read_whole(struct reference *ref, const uint8_t *bytes, size_t len)
{
    static const char too_long[] = "message is too long, too deep or has too many elements";

    for (size_t at = 0; at < len && !ref->lost;) {
        struct fae_mp_scan scan;
        enum fae_err err;

        fae_mp_scan_init(&scan);
        err = fae_mp_scan(&scan, bytes + at, len - at, MESSAGE_MAX);
        if (err == FAE_OK) {
            expect_message(ref, bytes + at);
            at += scan.pos;
        } else if (err == FAE_MORE) {
            ref->partial = true;
            return;
        } else {
            expect_complaint(ref, err, err == FAE_LIMIT ? too_long : "not msgpack");
            ref->lost = true;
        }
    }
}

/* `cut`: the last message may be unfinished. */
static struct tally tally_of(const struct fae_buf *bytes, bool cut)
{
    struct tally tally = { 0 };

    for (size_t at = 0; at < bytes->len;) {
        struct fae_mp_scan scan;
        enum fae_err err;

        fae_mp_scan_init(&scan);
        err = fae_mp_scan(&scan, bytes->data + at, bytes->len - at, FAE_MIB);
        if (err == FAE_MORE && cut)
            break;
        FAE_ASSERT(err == FAE_OK);
        add_message(&tally, bytes->data + at, scan.pos);
        at += scan.pos;
    }
    return tally;
}

static void compare(const struct reference *ref, bool exact)
{
    struct tally want = tally_of(&ref->out, false), got = tally_of(&client.got, !exact);

    got.n += service.dropped.n;
    got.sum += service.dropped.sum;
    FAE_ASSERT(got.n <= want.n);
    if (!exact)
        return;
    FAE_ASSERT(got.n == want.n);
    FAE_ASSERT(got.sum == want.sum);
    FAE_ASSERT(service.dropped.n || client.got.len == ref->out.len);
    if (!service.n_parked_ever && ref->out.len)
        FAE_ASSERT(memcmp(client.got.data, ref->out.data, ref->out.len) == 0);
}

/* ---- one session ---- */

static void open_session(bool half_close)
{
    int fds[2];

    FAE_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    client.fd = fds[0];
    client.got.len = 0;
    client.eof = false;
    service.n_parked_ever = 0;
    service.n_long = 0;
    service.dropped = (struct tally){ 0 };
    world.loop.now_ms = 1000;
    FAE_ASSERT(fae_session_open(world.server, fds[1], half_close));
}

static void check_nothing_left(void)
{
    const struct fae_server *server = world.server;

    FAE_ASSERT(client.eof);
    FAE_ASSERT(server->n_sessions == 0 && fae_list_empty(&server->sessions));
    FAE_ASSERT(server->ready.n == 0 && server->running.n == 0 && server->dirty.n == 0 && server->grave.n == 0);
    FAE_ASSERT(service.n_parked == 0);
    FAE_ASSERT(FAE_STAT_GET(world.slots->slots[0].n_calls) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint64_t random = fuzz_hash(bytes, len);
    bool half_close = fuzz_random(&random) % 2;
    bool hasty = fuzz_random(&random) % 8 == 0;  /* hangs up before it has all answers */
    bool stalls = fuzz_random(&random) % 4 == 0; /* leaves its last message unfinished */
    struct reference ref = { 0 };

    if (!world.server)
        open_world();
    read_whole(&ref, bytes, len);
    open_session(half_close);
    send_all(bytes, len, &random);
    if (!hasty)
        settle(true);
    if (!hasty && stalls && ref.partial) {
        expect_complaint(&ref, FAE_TIMEOUT, "the rest of a message did not come in time");
        world.loop.now_ms += world.config.partial_timeout_ms;
        fae_server_tick(world.server);
        settle(true);
        FAE_ASSERT(client.eof);
    }
    FAE_ASSERT(hasty || client.eof == (ref.lost || (stalls && ref.partial)));
    shutdown(client.fd, SHUT_WR);
    settle(half_close);
    if (!half_close)
        FAE_ASSERT(service.n_parked == 0);
    settle(true);
    compare(&ref, half_close || !hasty);
    check_nothing_left();
    close(client.fd);
    free_spares();
    fae_buf_fini(&ref.out);
    return 0;
}
