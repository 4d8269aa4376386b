/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connect, send, wait for the answer. It reads while it sends: a server that refuses a long message says why and hangs
 * up, and that word would be lost to whoever first wants to get rid of all his bytes.
 */
#include "cmd/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "cmd/mpjson.h"
#include "rpc/access.h"

/* ---- requests ---- */

enum fae_err fae_client_addr(const char *flag, struct fae_addr *addr_out, char *why, size_t size)
{
    const char *env = getenv("FAE_ADDR");

    return fae_addr_parse(flag ? flag : env && *env ? env : FAE_CLIENT_ADDR, addr_out, why, size);
}

enum fae_err fae_client_request(struct fae_buf *out, const char *method, char *const *params, int n, char *why,
                                size_t size)
{
    static const uint8_t head[] = { 0x94, 0x00, 0xce, 0, 0, 0, 0 };
    char reason[160];

    fae_buf_add(out, head, sizeof head);
    fae_mp_str(out, method, strlen(method));
    fae_mp_array(out, (uint32_t)n);
    for (int i = 0; i < n; i++)
        if (fae_mpjson_read(params[i], out, reason, sizeof reason)) {
            snprintf(why, size, "parameter %d is not JSON: %s (a string needs its own quotes: '\"text\"')", i + 1,
                     reason);
            return FAE_BAD_ARGS;
        }
    return FAE_OK;
}

/* ---- tokens ---- */

static void trim(struct fae_buf *text)
{
    size_t front = 0;

    while (text->len && strchr(" \t\r\n", text->data[text->len - 1]))
        text->len--;
    while (front < text->len && strchr(" \t\r\n", text->data[front]))
        front++;
    if (front)
        fae_buf_shift(text, front);
}

enum fae_err fae_client_read_token(int fd, const char *name, struct fae_buf *token_out, char *why, size_t size)
{
    ssize_t n;

    do {
        n = read(fd, fae_buf_room(token_out, FAE_TOKEN_LEN_MAX), FAE_TOKEN_LEN_MAX);
        if (n > 0)
            token_out->len += (size_t)n;
    } while ((n > 0 && token_out->len <= FAE_TOKEN_LEN_MAX) || (n < 0 && errno == EINTR));
    if (n < 0) {
        snprintf(why, size, "%s: %s", name, strerror(errno));
        return FAE_BAD_ARGS;
    }
    trim(token_out);
    if (token_out->len > 0 && token_out->len <= FAE_TOKEN_LEN_MAX)
        return FAE_OK;
    snprintf(why, size, "%s: a token has 1 to %u bytes", name, FAE_TOKEN_LEN_MAX);
    return FAE_BAD_ARGS;
}

enum fae_err fae_client_token(const char *path, struct fae_buf *token_out, char *why, size_t size)
{
    const char *env = getenv("FAE_TOKEN");
    enum fae_err err;
    int fd;

    if (!path) {
        if (env && *env)
            fae_buf_add(token_out, env, strlen(env));
        return FAE_OK;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(why, size, "%s: %s", path, strerror(errno));
        return FAE_BAD_ARGS;
    }
    err = fae_client_read_token(fd, path, token_out, why, size);
    close(fd);
    return err;
}

void fae_client_add_token(struct fae_buf *request, const struct fae_buf *token)
{
    if (token->len == 0)
        return;
    request->data[0] = 0x95;
    fae_mp_map(request, 1);
    fae_mp_str(request, "token", 5);
    fae_mp_str(request, (const char *)token->data, token->len);
}

/* ---- the connection ---- */

void fae_client_init(struct fae_client *client)
{
    memset(client, 0, sizeof *client);
    client->fd = -1;
}

static void hang_up(struct fae_client *client)
{
    fae_tls_free(&client->tls);
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

void fae_client_fini(struct fae_client *client)
{
    hang_up(client);
    fae_tls_ctx_free(&client->tls_ctx);
    fae_buf_fini(&client->in);
    fae_buf_fini(&client->farewell);
}

static enum fae_err fail(struct fae_client *client, enum fae_err err, const char *why)
{
    snprintf(client->why, sizeof client->why, "%s", why);
    hang_up(client);
    return err;
}

static int ms_left(uint64_t deadline_ms)
{
    uint64_t now_ms = fae_now_ms();

    return now_ms >= deadline_ms ? 0 : deadline_ms - now_ms > 1000000 ? 1000000 : (int)(deadline_ms - now_ms);
}

static enum fae_err shake_hands(struct fae_client *client, uint64_t deadline_ms)
{
    int rc;

    while ((rc = fae_tls_handshake(client->tls)) < 0 && errno == EAGAIN) {
        struct pollfd pfd = { .fd = client->fd, .events = fae_tls_wants_write(client->tls) ? POLLOUT : POLLIN };

        if (poll(&pfd, 1, ms_left(deadline_ms)) == 0)
            return fail(client, FAE_TIMEOUT, "the TLS handshake did not end in time (see -t)");
    }
    if (rc > 0)
        return FAE_OK;
    return fail(client, FAE_UNAVAILABLE, rc == 0 ? "handshake: the node hung up" : fae_tls_why());
}

static enum fae_err open_tls(struct fae_client *client, const struct fae_addr *addr, uint64_t deadline_ms)
{
    static const struct fae_trust nothing;
    const struct fae_trust *trust = client->trust ? client->trust : &nothing;
    enum fae_err err = FAE_OK;

    if (!client->tls_ctx)
        err = fae_trust_open(trust, addr, &client->tls_ctx, client->why, sizeof client->why);
    if (err) {
        hang_up(client);
        return err;
    }
    client->tls = fae_trust_connect(trust, addr, client->tls_ctx, client->fd);
    if (!client->tls)
        return fail(client, FAE_BAD_ARGS, "TLS: no memory, or a name that cannot be asked for");
    return shake_hands(client, deadline_ms);
}

enum fae_err fae_client_open(struct fae_client *client, const struct fae_addr *addr, uint64_t deadline_ms)
{
    const struct timespec pause = { .tv_nsec = 2000000 };
    char text[FAE_ADDR_TEXT];
    enum fae_err err;

    /* A unix socket's full queue is told at once where tcp would try again. */
    while ((err = fae_addr_connect(addr, ms_left(deadline_ms), &client->fd)) != FAE_OK && errno == EAGAIN &&
           ms_left(deadline_ms) > 0)
        nanosleep(&pause, NULL);
    if (!err)
        return addr->tls ? open_tls(client, addr, deadline_ms) : FAE_OK;
    client->fd = -1;
    fae_addr_format(addr, text);
    snprintf(client->why, sizeof client->why, "%s: %s%s", text, strerror(errno),
             errno == ECONNREFUSED || errno == ENOENT ? " (is `fae serve` running?)" : "");
    return FAE_UNAVAILABLE;
}

static bool is_text(const struct fae_mp_token *t, const char *text)
{
    return (t->type == FAE_MP_STR || t->type == FAE_MP_BIN) && t->len == strlen(text) &&
           memcmp(t->bytes, text, t->len) == 0;
}

/* [2, "sys.error", [error]]: keeps the error. */
static void on_notification(struct fae_client *client, const uint8_t *p)
{
    struct fae_mp_token t;
    const uint8_t *end;

    p = fae_mp_read(p, &t);
    if (!is_text(&t, "sys.error"))
        return;
    p = fae_mp_read(p, &t);
    if (t.type != FAE_MP_ARRAY || t.len == 0)
        return;
    end = fae_mp_skip(p);
    client->farewell.len = 0;
    fae_buf_add(&client->farewell, p, (size_t)(end - p));
}

/* Reads one whole message. FAE_MORE: it was not the answer. */
static enum fae_err on_message(struct fae_client *client, const uint8_t *p, struct fae_answer *answer_out)
{
    struct fae_mp_token array, type, id, error;
    const uint8_t *at;

    p = fae_mp_read(p, &array);
    if (array.type != FAE_MP_ARRAY || array.len < 3)
        return FAE_BAD_MESSAGE;
    p = fae_mp_read(p, &type);
    if (type.type != FAE_MP_UINT)
        return FAE_BAD_MESSAGE;
    if (type.u == 2) {
        on_notification(client, p);
        return FAE_MORE;
    }
    if (type.u != 1 || array.len != 4)
        return FAE_BAD_MESSAGE;
    at = fae_mp_read(p, &id);
    if (id.type != FAE_MP_UINT)
        return FAE_BAD_MESSAGE;
    if (id.u != client->msgid)
        return FAE_MORE;
    fae_mp_read(at, &error);
    answer_out->error = error.type == FAE_MP_NIL ? NULL : at;
    answer_out->result = fae_mp_skip(at);
    return FAE_OK;
}

/* Goes through what came in. FAE_MORE: the answer is not there yet. */
static enum fae_err take(struct fae_client *client, struct fae_answer *answer_out)
{
    enum fae_err err;

    do {
        err = fae_mp_scan(&client->scan, client->in.data + client->spent, client->in.len - client->spent,
                          FAE_MESSAGE_CEILING);
        if (err)
            return err;
        err = on_message(client, client->in.data + client->spent, answer_out);
        client->spent += client->scan.pos;
        fae_mp_scan_init(&client->scan);
    } while (err == FAE_MORE && client->in.len > client->spent);
    return err;
}

static enum fae_err on_end(struct fae_client *client, struct fae_answer *answer_out)
{
    if (client->farewell.len == 0)
        return fail(client, FAE_WORKER_LOST, fae_err_text(FAE_WORKER_LOST));
    hang_up(client);
    *answer_out = (struct fae_answer){ .error = client->farewell.data };
    return FAE_OK;
}

static enum fae_err receive(struct fae_client *client, struct fae_answer *answer_out)
{
    uint8_t *room = fae_buf_room(&client->in, FAE_READ_CHUNK);
    ssize_t n = client->tls ? fae_tls_recv(client->tls, room, FAE_READ_CHUNK)
                            : recv(client->fd, room, FAE_READ_CHUNK, MSG_DONTWAIT);
    enum fae_err err;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return FAE_MORE;
    if (n < 0 && errno == EPROTO) /* such as: the node wants a certificate */
        return fail(client, FAE_UNAVAILABLE, fae_tls_why());
    if (n <= 0)
        return on_end(client, answer_out);
    client->in.len += (size_t)n;
    err = take(client, answer_out);
    if (err == FAE_BAD_MESSAGE)
        return fail(client, err, "what came back is not msgpack-RPC");
    if (err == FAE_LIMIT)
        return fail(client, err, "the answer is larger than any that fae sends");
    return err;
}

static ssize_t send_some(struct fae_client *client, const uint8_t *bytes, size_t len)
{
    return client->tls ? fae_tls_send(client->tls, bytes, len)
                       : send(client->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void set_msgid(struct fae_client *client, struct fae_buf *request)
{
    uint32_t id = __builtin_bswap32(++client->msgid);

    memcpy(request->data + FAE_REQUEST_MSGID_AT, &id, 4);
}

enum fae_err fae_client_call(struct fae_client *client, struct fae_buf *request, uint64_t deadline_ms,
                             struct fae_answer *answer_out)
{
    enum fae_err err = FAE_MORE;
    size_t sent = 0;

    fae_buf_shift(&client->in, client->spent);
    client->spent = 0;
    set_msgid(client, request);
    while (err == FAE_MORE) {
        struct pollfd pfd = { .fd = client->fd, .events = POLLIN };
        bool pending = client->tls && fae_tls_pending(client->tls);
        int ready;

        if (sent < request->len)
            pfd.events |= POLLOUT;
        ready = poll(&pfd, 1, pending ? 0 : ms_left(deadline_ms));
        if (ready < 0 && errno != EINTR)
            return fail(client, FAE_SYSTEM, strerror(errno));
        if (ready <= 0 && ms_left(deadline_ms) == 0)
            return fail(client, FAE_TIMEOUT, "no answer came in time (see -t)");
        if (ready <= 0 && !pending)
            continue;
        if (pfd.revents & POLLOUT) {
            ssize_t n = send_some(client, request->data + sent, request->len - sent);

            if (n > 0)
                sent += (size_t)n;
            else if (n < 0 && errno != EAGAIN && errno != EINTR)
                sent = request->len; /* nobody takes the rest, but the reason may lie there to be read */
        }
        if (pfd.revents & ~POLLOUT || pending)
            err = receive(client, answer_out);
    }
    return err;
}

/* ---- errors in words ---- */

static bool is_str(const struct fae_mp_token *t)
{
    return t->type == FAE_MP_STR || t->type == FAE_MP_BIN;
}

/* [code, message, ...] */
static bool read_array(const uint8_t *p, uint32_t n, struct fae_mp_token *code, struct fae_mp_token *message)
{
    if (n < 2)
        return false;
    fae_mp_read(fae_mp_read(p, code), message);
    return is_str(code) && is_str(message);
}

/* {code = , message = , ...} */
static bool read_map(const uint8_t *p, uint32_t n, struct fae_mp_token *code, struct fae_mp_token *message)
{
    struct fae_mp_token key;

    code->type = message->type = FAE_MP_NIL;
    while (n--) {
        const uint8_t *value = fae_mp_skip(p);

        fae_mp_read(p, &key);
        if (is_text(&key, "code"))
            fae_mp_read(value, code);
        else if (is_text(&key, "message"))
            fae_mp_read(value, message);
        p = fae_mp_skip(value);
    }
    return is_str(code) && is_str(message);
}

void fae_client_error_text(struct fae_buf *out, const uint8_t *error)
{
    struct fae_mp_token t, code, message;
    const uint8_t *p = fae_mp_read(error, &t);
    size_t from = out->len;

    if (is_str(&t)) {
        fae_buf_add(out, t.bytes, t.len);
    } else if ((t.type == FAE_MP_ARRAY && read_array(p, t.len, &code, &message)) ||
               (t.type == FAE_MP_MAP && read_map(p, t.len, &code, &message))) {
        fae_buf_add(out, code.bytes, code.len);
        fae_buf_add(out, ": ", 2);
        fae_buf_add(out, message.bytes, message.len);
    } else {
        fae_mpjson_write(out, error);
    }
    /* It goes to somebody's terminal. */
    for (size_t i = from; i < out->len; i++)
        if ((out->data[i] < 0x20 && out->data[i] != '\n' && out->data[i] != '\t') || out->data[i] == 0x7f)
            out->data[i] = '?';
}
