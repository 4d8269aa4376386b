/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a memcached sends, and whom it is for. What is not exactly an answer to what was asked ends the connection.
 */
#include <stdio.h>
#include <string.h>

#include "backend/memcache_impl.h"
#include "wire/mctext.h"

#define SKIP_MAX FAE_MESSAGE_CEILING /* a value longer than this is no value: the connection goes */
#define KEEP_BYTES (256u * FAE_KIB)  /* an empty buffer larger than this is given back */

/* What came is no answer, or came without a question: from here on nothing that comes can be trusted. */
static void out_of_step(struct fae_memcache_server *s)
{
    struct fae_memcache_call *first = NULL;

    FAE_LIST_EACH(node, &s->asked) {
        first = FAE_CONTAINER(node, struct fae_memcache_call, node);
        if (!first->over)
            break;
        first = NULL;
    }
    fae_memcache_tell(s, "what it sent is no answer of memcached's");
    if (first) {
        FAE_MEMCACHE_STAT(s, lost, 1);
        fae_memcache_fail(s, first, FAE_BREAKER_FAILED, FAE_BACKEND, "what it sent is no answer of memcached's");
    }
    fae_memcache_lose(s, "the connection was ended after what was no answer");
}

/* ---- answers ---- */

static void settle_ok(struct fae_memcache_server *s, struct fae_memcache_call *call,
                      const struct fae_memcache_answer *answer)
{
    if (answer->err)
        FAE_MEMCACHE_STAT(s, errors, 1);
    FAE_MEMCACHE_STAT(s, call_ns, s->now_ns - call->sent_ns);
    fae_memcache_settle(s, call, FAE_BREAKER_OK, answer);
}

/* Of the keys that are not answered, this one? Begins where the last was found, since answers mostly come in order. */
static bool find_key(struct fae_memcache_call *call, const char *key, size_t len, unsigned *index_out)
{
    const uint8_t *end = call->bytes + call->len;

    for (unsigned i = 0; i < call->n_keys; i++) {
        const uint8_t *at = call->bytes + call->at_byte + 1, *blank = memchr(at, ' ', (size_t)(end - at));
        size_t n = (size_t)((blank ? blank : end) - at);
        unsigned k = call->at_key;

        call->at_key = blank ? k + 1 : 0;
        call->at_byte = blank ? (uint32_t)(blank - call->bytes) : 0;
        if (n == len && memcmp(at, key, len) == 0 && !(call->answered & (uint64_t)1 << k)) {
            *index_out = k;
            return true;
        }
    }
    return false;
}

/* Among the gets of the command that is being answered. */
static struct fae_memcache_call *find_get(struct fae_memcache_server *s, const char *key, size_t len,
                                          unsigned *index_out)
{
    struct fae_memcache_call *from = s->at ? s->at : FAE_MEMCACHE_FIRST(&s->asked), *call = from;

    do {
        if (!call->over && find_key(call, key, len, index_out))
            return call;
        call = call->last ? FAE_MEMCACHE_FIRST(&s->asked) : FAE_MEMCACHE_FIRST(&call->node);
    } while (call != from);
    return NULL;
}

static void give_value(struct fae_memcache_server *s, struct fae_memcache_call *call, unsigned key,
                       const struct fae_memcache_value *value)
{
    struct fae_memcache_answer answer = { .yes = true, .value = *value };
    bool was_telling = s->telling;

    call->answered |= (uint64_t)1 << key;
    s->at = call;
    if (call->n_keys == 1) {
        settle_ok(s, call, &answer);
        return;
    }
    if (call->cancelled)
        return;
    s->telling = true;
    call->value(call, key, value);
    s->telling = was_telling;
}

/* The length that was announced is more than we take. */
static void refuse_value(struct fae_memcache_server *s, struct fae_memcache_call *call, unsigned key, uint64_t len)
{
    struct fae_memcache_answer answer = { .err = FAE_LIMIT };
    char text[128];

    call->answered |= (uint64_t)1 << key;
    call->too_long = true;
    s->at = call;
    if (call->n_keys > 1)
        return; /* told at its end */
    snprintf(text, sizeof text, "the value has %llu bytes, more than value_max (%zu)", (unsigned long long)len,
             s->o.value_max);
    answer.why = fae_memcache_sentence(s, text);
    settle_ok(s, call, &answer);
}

/* A command of gets is through, by END or an error: those of its keys that did not come are not there. Each answer's sentence
 * is made anew, since who was told before may have asked again and made another. */
static void end_gets(struct fae_memcache_server *s, const struct fae_memcache_answer *answer)
{
    bool last = false;

    while (!last) {
        struct fae_memcache_call *call = FAE_MEMCACHE_FIRST(&s->asked);
        struct fae_memcache_answer own = *answer;

        last = call->last;
        if (!own.err && call->too_long)
            own.err = FAE_LIMIT;
        if (own.err)
            own.why = fae_memcache_sentence(s, own.error ? own.error : "a value has more bytes than value_max");
        if (!call->over)
            settle_ok(s, call, &own);
        fae_memcache_drop(s, call);
    }
}

/* False: that is no answer to such a call. */
static bool fits(const struct fae_memcache_call *call, const struct fae_mctext_line *line,
                 struct fae_memcache_answer *answer)
{
    switch (line->type) {
    case FAE_MCTEXT_VALUE: return false;
    case FAE_MCTEXT_END: return call->op == FAE_MEMCACHE_GET;
    case FAE_MCTEXT_STORED: answer->yes = true; return call->op == FAE_MEMCACHE_STORE;
    case FAE_MCTEXT_NOT_STORED:
    case FAE_MCTEXT_EXISTS: return call->op == FAE_MEMCACHE_STORE;
    case FAE_MCTEXT_NOT_FOUND: return call->op != FAE_MEMCACHE_GET;
    case FAE_MCTEXT_DELETED: answer->yes = true; return call->op == FAE_MEMCACHE_DELETE;
    case FAE_MCTEXT_TOUCHED: answer->yes = true; return call->op == FAE_MEMCACHE_TOUCH;
    case FAE_MCTEXT_NUMBER:
        answer->yes = true;
        answer->number = line->number;
        return call->op == FAE_MEMCACHE_COUNT;
    case FAE_MCTEXT_ERROR:
    case FAE_MCTEXT_CLIENT_ERROR:
    case FAE_MCTEXT_SERVER_ERROR: return true;
    }
    return false;
}

static bool is_too_large(const char *error)
{
    return strncmp(error, "SERVER_ERROR object too large", 29) == 0;
}

/* An error that the server tells. False: the connection is lost: when it does not even take the command of a value, it may take
 * the value for commands, and answer those. */
static bool answer_error(struct fae_memcache_server *s, struct fae_memcache_call *call,
                         const struct fae_mctext_line *line)
{
    struct fae_memcache_answer answer = { .err = FAE_BACKEND };
    bool out = call->op == FAE_MEMCACHE_STORE && line->type != FAE_MCTEXT_SERVER_ERROR;
    char text[256];

    snprintf(text, sizeof text, "%.*s", (int)line->text_len, line->text);
    if (is_too_large(text))
        answer.err = FAE_LIMIT;
    answer.why = fae_memcache_sentence(s, text);
    answer.error = text;
    if (call->op == FAE_MEMCACHE_GET) {
        end_gets(s, &answer);
    } else {
        settle_ok(s, call, &answer);
        fae_memcache_drop(s, call);
    }
    if (out)
        fae_memcache_lose(s, "the connection was ended after an error");
    return !out;
}

/* False: the connection is lost. */
static bool answer(struct fae_memcache_server *s, const struct fae_mctext_line *line)
{
    struct fae_memcache_answer answer = { 0 };
    struct fae_memcache_call *call = FAE_MEMCACHE_FIRST(&s->asked);

    if (fae_list_empty(&s->asked) || !fits(call, line, &answer)) {
        out_of_step(s);
        return false;
    }
    if (line->type >= FAE_MCTEXT_ERROR)
        return answer_error(s, call, line);
    if (call->op == FAE_MEMCACHE_GET) {
        end_gets(s, &answer);
    } else {
        settle_ok(s, call, &answer);
        fae_memcache_drop(s, call);
    }
    return true;
}

/* ---- in ---- */

/* A value begins at p, of which n bytes are there, behind its line. MORE: not all of it. BAD_MESSAGE: the connection is lost. */
static enum fae_err take_value(struct fae_memcache_server *s, const struct fae_mctext_line *line, const uint8_t *p,
                               size_t n, size_t *used_out)
{
    struct fae_memcache_value value = { (const char *)p, (size_t)line->len, line->flags, line->cas };
    struct fae_memcache_call *call = NULL;
    bool too_long = line->len > s->o.value_max;
    unsigned key;

    if (!too_long && n < line->len + 2)
        return FAE_MORE;
    if (!fae_list_empty(&s->asked) && FAE_MEMCACHE_FIRST(&s->asked)->op == FAE_MEMCACHE_GET && line->len <= SKIP_MAX)
        call = find_get(s, line->text, line->text_len, &key);
    if (!call || (!too_long && memcmp(p + line->len, "\r\n", 2) != 0)) {
        out_of_step(s);
        return FAE_BAD_MESSAGE;
    }
    *used_out = 0;
    if (too_long) {
        s->skip = line->len + 2;
        refuse_value(s, call, key, line->len);
    } else {
        *used_out = (size_t)line->len + 2;
        give_value(s, call, key, &value);
    }
    return FAE_OK;
}

/* Memcached takes a connection that is one too many, says so and closes it, whatever was asked on it. */
static bool is_too_many(const struct fae_memcache_server *s, const struct fae_mctext_line *line)
{
    static const char text[] = "ERROR Too many open connections";

    return !s->heard && line->type == FAE_MCTEXT_ERROR && line->text_len == sizeof text - 1 &&
           memcmp(line->text, text, sizeof text - 1) == 0;
}

/* One line, and its value. MORE, or BAD_MESSAGE: the connection is lost. */
static enum fae_err take_line(struct fae_memcache_server *s, const uint8_t *p, size_t n, size_t *used_out)
{
    struct fae_mctext_line line;
    enum fae_err err = fae_mctext_read(p, n, &line, used_out);
    size_t used;

    if (err == FAE_MORE)
        return err;
    if (err) {
        out_of_step(s);
        return err;
    }
    if (is_too_many(s, &line)) {
        fae_memcache_turned_away(s, "it has too many connections");
        return FAE_BAD_MESSAGE;
    }
    s->heard = true;
    if (line.type != FAE_MCTEXT_VALUE)
        return answer(s, &line) ? FAE_OK : FAE_BAD_MESSAGE;
    err = take_value(s, &line, p + *used_out, n - *used_out, &used);
    if (!err)
        *used_out += used;
    return err;
}

static size_t skip(struct fae_memcache_server *s, size_t n)
{
    if (n > s->skip)
        n = (size_t)s->skip;
    s->skip -= n;
    return n;
}

bool fae_memcache_run_input(struct fae_memcache_server *s)
{
    enum fae_err err = FAE_OK;
    size_t at = 0, used;

    while (!err && at < s->in.len) {
        if (s->skip) {
            at += skip(s, s->in.len - at);
            continue;
        }
        err = take_line(s, s->in.data + at, s->in.len - at, &used);
        if (!err)
            at += used;
    }
    if (err && err != FAE_MORE)
        return false;
    fae_buf_shift(&s->in, at);
    if (s->in.len == 0 && s->in.cap > KEEP_BYTES)
        fae_buf_fini(&s->in);
    return true;
}
