/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The bytes of redis' protocol, on hiredis' reader. Commands are formatted here, into the connection's output itself:
 * hiredis' own formatter makes each in memory of its own (measured 320 ns for a GET, against 20). It is what specs compare
 * with.
 */
#include "backend/redis_wire.h"

#include <hiredis/hiredis.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/limits.h"

#define TEXT_MAX (1u * FAE_MIB)     /* of a status, an error: a script may say anything; more is read past */
#define NUMBER_MAX 64u              /* bytes of a number, or a length */
#define BULK_MAX (512ll * FAE_MIB)  /* redis' own limit (proto-max-bulk-len) */
#define KEEP_BYTES (256u * FAE_KIB) /* an empty buffer larger than this is given back */
#define SHORT_BYTES (16u * FAE_KIB) /* of a string that nobody wants: so much may be kept meanwhile */

struct fae_redis_reader {
    redisReader *r;
    size_t reply_max;
    struct fae_buf tape;
    size_t mark;                /* of the tape: where the reply being read begins */
    size_t n_bytes, n_elements; /* of the tape */
    uint64_t skip;              /* bytes of a string that are not to be kept */
    bool skip_line;             /* up to the line's end nothing is */
    bool skipped_cr;            /* its last byte was a \r */
    bool reading, drop, too_long, too_deep, was_error;
    uint32_t depth;               /* arrays that are open, FAE_DEPTH_MAX at most while the reply is not too deep */
    uint32_t todo[FAE_DEPTH_MAX]; /* elements that each of them still wants */
    const char *why;
};

/* ---- out ---- */

static unsigned n_digits(size_t n)
{
    unsigned digits = 1;

    for (; n >= 10; n /= 10)
        digits++;
    return digits;
}

/* "*12\r\n" */
static uint8_t *put_head(uint8_t *p, char what, size_t n)
{
    unsigned digits = n_digits(n);

    *p = (uint8_t)what;
    for (unsigned i = digits; i > 0; i--, n /= 10)
        p[i] = (uint8_t)('0' + n % 10);
    p += 1 + digits;
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

size_t fae_redis_put_len(const struct fae_redis_arg *args, unsigned n)
{
    size_t len = 3 + n_digits(n);

    for (unsigned i = 0; i < n; i++)
        len += 5 + n_digits(args[i].len) + args[i].len;
    return len;
}

void fae_redis_put(struct fae_buf *out, const struct fae_redis_arg *args, unsigned n)
{
    size_t len = fae_redis_put_len(args, n);
    uint8_t *p = put_head(fae_buf_room(out, len), '*', n);

    for (unsigned i = 0; i < n; i++) {
        p = put_head(p, '$', args[i].len);
        memcpy(p, args[i].text, args[i].len);
        p += args[i].len;
        *p++ = '\r';
        *p++ = '\n';
    }
    out->len += len;
}

/* ---- the tape ---- */

struct head {
    uint32_t type, n;
};

const uint8_t *fae_redis_item(const uint8_t *p, struct fae_redis_item *item_out)
{
    struct head head;

    memcpy(&head, p, sizeof head);
    p += sizeof head;
    *item_out = (struct fae_redis_item){ .type = (enum fae_redis_type)head.type, .n = head.n };
    switch (item_out->type) {
    case FAE_REDIS_STRING:
    case FAE_REDIS_STATUS:
    case FAE_REDIS_ERROR: item_out->text = (const char *)p; return p + head.n;
    case FAE_REDIS_INTEGER: memcpy(&item_out->integer, p, sizeof item_out->integer); return p + sizeof(int64_t);
    case FAE_REDIS_NIL:
    case FAE_REDIS_ARRAY:
    case FAE_REDIS_TOO_LONG:
    case FAE_REDIS_TOO_DEEP: break;
    }
    return p;
}

/* One value is there, the array it is the last one of is whole, and so on. */
static void count_value(struct fae_redis_reader *reader)
{
    while (reader->depth && --reader->todo[reader->depth - 1] == 0)
        reader->depth--;
}

static void count_array(struct fae_redis_reader *reader, uint32_t n)
{
    if (reader->too_deep)
        return;
    if (n == 0)
        count_value(reader);
    else if (reader->depth == FAE_DEPTH_MAX)
        reader->too_long = reader->too_deep = true;
    else
        reader->todo[reader->depth++] = n;
}

/* hiredis takes any pointer but NULL for an object. */
static void *put_item(struct fae_redis_reader *reader, enum fae_redis_type type, const void *bytes, size_t len,
                      uint32_t n)
{
    struct head head = { type, n };

    if (reader->drop || reader->too_long)
        return reader;
    /* All that is on the tape together: the replies of a batch are as long as one may be. */
    reader->n_bytes += len;
    if (reader->n_bytes > reader->reply_max || ++reader->n_elements > FAE_ELEMENTS_MAX) {
        reader->n_bytes -= len;
        reader->too_long = true;
        return reader;
    }
    fae_buf_room(&reader->tape, sizeof head + len);
    fae_buf_add(&reader->tape, &head, sizeof head);
    fae_buf_add(&reader->tape, bytes, len);
    return reader;
}

static void *on_string(const redisReadTask *task, char *text, size_t len)
{
    struct fae_redis_reader *reader = task->privdata;

    count_value(reader);
    if (task->type == REDIS_REPLY_STATUS)
        return put_item(reader, FAE_REDIS_STATUS, text, len, (uint32_t)len);
    if (task->type == REDIS_REPLY_STRING)
        return put_item(reader, FAE_REDIS_STRING, text, len, (uint32_t)len);
    reader->was_error = reader->was_error || !task->parent;
    return put_item(reader, FAE_REDIS_ERROR, text, len, (uint32_t)len);
}

/* hiredis reads seven levels and gives up. The tape is flat, and so it need not know of more than one: what is inside an
 * inner array becomes elements of the outer one, which has as many more to come. hiredis, which is about to begin a level
 * for them, begins it in the place of this one. */
static void *on_array(const redisReadTask *task, int n)
{
    struct fae_redis_reader *reader = task->privdata;
    redisReadTask *outer = task->parent ? &reader->r->rstack[reader->r->ridx - 1] : NULL;
    int left = outer ? outer->elements - 1 - task->idx : 0;

    if (outer && n > 0 && n <= INT_MAX - left) {
        outer->elements = left + n;
        reader->r->ridx--;
    }
    count_array(reader, (uint32_t)n);
    return put_item(reader, FAE_REDIS_ARRAY, NULL, 0, (uint32_t)n);
}

static void *on_integer(const redisReadTask *task, long long value)
{
    int64_t integer = value;

    count_value(task->privdata);
    return put_item(task->privdata, FAE_REDIS_INTEGER, &integer, sizeof integer, 0);
}

static void *on_nil(const redisReadTask *task)
{
    count_value(task->privdata);
    return put_item(task->privdata, FAE_REDIS_NIL, NULL, 0, 0);
}

static void on_free(void *object)
{
    (void)object;
}

static redisReplyObjectFunctions functions = { on_string, on_array, on_integer, on_nil, on_free };

const struct fae_buf *fae_redis_tape(const struct fae_redis_reader *reader)
{
    return &reader->tape;
}

void fae_redis_tape_clear(struct fae_redis_reader *reader)
{
    reader->tape.len = reader->n_bytes = reader->n_elements = 0;
    if (reader->tape.cap > KEEP_BYTES)
        fae_buf_fini(&reader->tape);
}

bool fae_redis_was_error(const struct fae_redis_reader *reader)
{
    return reader->was_error;
}

/* ---- in ---- */

struct fae_redis_reader *fae_redis_reader_new(size_t reply_max)
{
    struct fae_redis_reader *reader = fae_zalloc(sizeof *reader);

    reader->reply_max = reply_max;
    reader->r = redisReaderCreateWithFunctions(&functions);
    if (!reader->r)
        abort(); /* as fae_alloc does */
    reader->r->privdata = reader;
    reader->r->maxbuf = KEEP_BYTES;
    return reader;
}

void fae_redis_reader_limit(struct fae_redis_reader *reader, size_t reply_max)
{
    reader->reply_max = reply_max;
}

void fae_redis_reader_free(struct fae_redis_reader **reader_io)
{
    struct fae_redis_reader *reader = *reader_io;

    *reader_io = NULL;
    if (!reader)
        return;
    redisReaderFree(reader->r);
    fae_buf_fini(&reader->tape);
    free(reader);
}

const char *fae_redis_reader_why(const struct fae_redis_reader *reader)
{
    return reader->why;
}

bool fae_redis_reader_busy(const struct fae_redis_reader *reader)
{
    return reader->reading || reader->skip || reader->r->len > reader->r->pos;
}

static enum fae_err refuse(struct fae_redis_reader *reader, const char *why)
{
    reader->why = why;
    return FAE_BACKEND;
}

/* What was left out stands in the reply as an empty string. */
static void skip(struct fae_redis_reader *reader, size_t n)
{
    reader->skip -= n;
    if (reader->skip == 0)
        redisReaderFeed(reader->r, "0\r\n\r\n", 5);
}

/* How many of the bytes belong to the line. What it said is left out as well. */
static size_t skip_line(struct fae_redis_reader *reader, const char *bytes, size_t len)
{
    bool was_cr = reader->skipped_cr;

    for (size_t i = 0; i < len; i++) {
        if (was_cr && bytes[i] == '\n') {
            reader->skip_line = false;
            redisReaderFeed(reader->r, "\r\n", 2);
            return i + 1;
        }
        was_cr = bytes[i] == '\r';
    }
    reader->skipped_cr = was_cr;
    return len;
}

void fae_redis_feed(struct fae_redis_reader *reader, const void *bytes, size_t len)
{
    size_t n;

    if (reader->skip_line) {
        n = skip_line(reader, bytes, len);
    } else {
        n = reader->skip < len ? (size_t)reader->skip : len;
        if (n)
            skip(reader, n);
    }
    if (len > n)
        redisReaderFeed(reader->r, (const char *)bytes + n, len - n);
}

/* "123\r\n" at p: how many bytes that takes, and the number, or one beyond what may be. 0: not so, or not yet whole. */
static size_t read_number(const char *p, size_t len, long long *n_out)
{
    long long n = 0;
    size_t i;

    for (i = 0; i < len && p[i] >= '0' && p[i] <= '9'; i++)
        n = n > BULK_MAX ? n : n * 10 + (p[i] - '0');
    if (i == 0 || i + 2 > len || p[i] != '\r' || p[i + 1] != '\n')
        return 0;
    *n_out = n;
    return i + 2;
}

/* Takes what is not read yet out of hiredis' hands. */
static void cut(redisReader *r)
{
    if (r->pos)
        sdsrange(r->buf, 0, (int)r->pos - 1);
    else
        sdsclear(r->buf);
    r->len = r->pos;
}

/* hiredis waits for a line to end. */
static enum fae_err look_at_line(struct fae_redis_reader *reader, int type, size_t len)
{
    redisReader *r = reader->r;

    if (type != REDIS_REPLY_STATUS && type != REDIS_REPLY_ERROR)
        return len > NUMBER_MAX ? refuse(reader, "a line without an end") : FAE_MORE;
    if (len <= (reader->drop || reader->too_long ? SHORT_BYTES : TEXT_MAX))
        return FAE_MORE;
    reader->too_long = reader->skip_line = true;
    reader->skipped_cr = r->buf[r->len - 1] == '\r';
    cut(r);
    return FAE_MORE;
}

/* hiredis waits for a string to be there as a whole, or a line to end: looks what it waits for. A string that will not be
 * kept is taken out of its hands here. */
static enum fae_err look_ahead(struct fae_redis_reader *reader)
{
    redisReader *r = reader->r;
    const char *p = r->buf + r->pos;
    size_t len = r->len - r->pos, head;
    long long n = 0;

    if (r->ridx < 0 || r->rstack[r->ridx].type != REDIS_REPLY_STRING)
        return look_at_line(reader, r->ridx < 0 ? 0 : r->rstack[r->ridx].type, len);
    head = read_number(p, len, &n);
    if (head == 0)
        return len > 32 ? refuse(reader, "a length that is none") : FAE_MORE;
    if (n > BULK_MAX)
        return refuse(reader, "a string longer than redis can have");
    if ((size_t)n <= (reader->drop ? SHORT_BYTES : reader->reply_max))
        return FAE_MORE;
    reader->too_long = true;
    reader->skip = (size_t)n + 2 - (len - head); /* not whole, or hiredis would have taken it */
    cut(r);
    return FAE_MORE;
}

static void begin(struct fae_redis_reader *reader, bool drop)
{
    reader->reading = true;
    reader->drop = drop;
    reader->too_long = reader->too_deep = reader->was_error = false;
    reader->depth = 0;
    reader->mark = reader->tape.len;
}

static void finish(struct fae_redis_reader *reader)
{
    reader->reading = false;
    if (reader->drop || !reader->too_long)
        return;
    reader->tape.len = reader->mark;
    fae_buf_add(&reader->tape, &(struct head){ reader->too_deep ? FAE_REDIS_TOO_DEEP : FAE_REDIS_TOO_LONG, 0 },
                sizeof(struct head));
}

enum fae_err fae_redis_read(struct fae_redis_reader *reader, bool drop)
{
    void *reply = NULL;

    if (reader->skip || reader->skip_line)
        return FAE_MORE;
    if (!reader->reading) {
        if (reader->r->len == reader->r->pos)
            return FAE_MORE;
        begin(reader, drop);
    } else if (drop && !reader->drop) {
        reader->drop = true;
        reader->tape.len = reader->mark;
    }
    if (redisReaderGetReply(reader->r, &reply) != REDIS_OK)
        return refuse(reader, reader->r->errstr);
    if (!reply)
        return look_ahead(reader);
    finish(reader);
    return FAE_OK;
}
