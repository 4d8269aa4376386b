/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Answers against the calls they belong to.
 */
#include "cmd/tally.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cmd/client.h"

/* A good answer is 94 01 ce <msgid> c0 <result>. */
static const uint8_t head[] = { 0x94, 0x01, 0xce };
enum { ID_AT = sizeof head, REST_AT = ID_AT + 4 };

/* ---- errors ---- */

void fae_tally_fini(struct fae_tally *tally)
{
    for (unsigned i = 0; i < FAE_TALLY_METHODS; i++)
        fae_buf_fini(&tally->methods[i].template);
}

void fae_tally_error(struct fae_tally *tally, const char *code, const char *text, uint64_t n)
{
    unsigned row = 0;

    while (row < tally->n_rows && strcmp(tally->rows[row].code, code) != 0)
        row++;
    if (row == FAE_TALLY_ROWS)
        row--;
    if (row == tally->n_rows) {
        bool last = row == FAE_TALLY_ROWS - 1;

        snprintf(tally->rows[row].code, sizeof tally->rows[row].code, "%s", last ? "OTHER" : code);
        snprintf(tally->rows[row].text, sizeof tally->rows[row].text, "%s", last ? "further kinds of errors" : text);
        tally->n_rows++;
    }
    tally->rows[row].n += n;
    tally->n_failed += n;
}

void fae_tally_merge(struct fae_tally *into, const struct fae_tally *from)
{
    into->n_ok += from->n_ok;
    into->n_stray += from->n_stray;
    for (unsigned i = 0; i < FAE_TALLY_METHODS; i++)
        into->methods[i].n_ok += from->methods[i].n_ok;
    for (unsigned i = 0; i < from->n_rows; i++)
        fae_tally_error(into, from->rows[i].code, from->rows[i].text, from->rows[i].n);
}

void fae_tally_wire_error(struct fae_tally *tally, const uint8_t *error, uint64_t n)
{
    struct fae_buf text = { 0 };
    char code[32] = "ERROR";
    const char *message;
    size_t len;

    fae_client_error_text(&text, error);
    message = fae_buf_text(&text);
    len = strspn(message, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (len > 0 && len < sizeof code && message[len] == ':') {
        memcpy(code, message, len);
        code[len] = '\0';
        message += len + 1;
        message += strspn(message, " ");
    }
    fae_tally_error(tally, code, message, n);
    fae_buf_fini(&text);
}

/* ---- batches ---- */

void fae_batch_init(struct fae_batch *batch, uint32_t n_max, bool each)
{
    *batch = (struct fae_batch){ .open = fae_zalloc(((size_t)n_max + 63) / 64 * sizeof *batch->open) };
    if (each) {
        batch->methods = fae_zalloc(n_max * sizeof *batch->methods);
        batch->settled = fae_zalloc(n_max * sizeof *batch->settled);
    }
    fae_mp_scan_init(&batch->scan);
}

void fae_batch_fini(struct fae_batch *batch)
{
    free(batch->open);
    free(batch->methods);
    free(batch->settled);
    fae_buf_fini(&batch->part);
}

void fae_batch_reset(struct fae_batch *batch, const struct fae_tally *tally)
{
    batch->part.len = 0;
    batch->greeting = tally->raw.greeting_bytes;
    fae_mp_scan_init(&batch->scan);
}

void fae_batch_begin(struct fae_batch *batch, uint32_t base, uint32_t n)
{
    uint32_t words = (n + 63) / 64;

    batch->base = base;
    batch->n = batch->n_open = n;
    batch->n_refused = 0;
    for (uint32_t i = 0; i < words; i++)
        batch->open[i] = i == words - 1 && n % 64 ? (1ull << n % 64) - 1 : ~0ull;
}

static inline unsigned method_of(const struct fae_batch *batch, uint64_t i)
{
    return batch->methods ? batch->methods[i] : 0;
}

static inline void count_settled(struct fae_batch *batch, uint32_t i)
{
    if (batch->settled)
        batch->settled[batch->n_settled] = i;
    batch->n_settled++;
    batch->n_open--;
}

/* Takes the call with that msgid off the list; false when it is not on it. */
static inline bool settle(struct fae_batch *batch, uint64_t msgid)
{
    uint64_t i = msgid - batch->base;
    uint64_t bit = 1ull << (i & 63);

    if (msgid < batch->base || i >= batch->n || !(batch->open[i / 64] & bit))
        return false;
    batch->open[i / 64] &= ~bit;
    count_settled(batch, (uint32_t)i);
    return true;
}

static inline void count_ok(struct fae_tally *tally, unsigned method)
{
    tally->n_ok++;
    tally->methods[method].n_ok++;
}

static void keep_template(struct fae_buf *template, const uint8_t *answer, size_t len)
{
    if (template->len == 0 && len > REST_AT && memcmp(answer, head, sizeof head) == 0)
        fae_buf_add(template, answer, len);
}

/* [2, method, params]: sys.error gives the batch up, others are not for us. */
static enum fae_err judge_notification(struct fae_batch *batch, struct fae_tally *tally, const uint8_t *p)
{
    struct fae_mp_token method, params;

    p = fae_mp_read(fae_mp_read(p, &method), &params);
    if (method.type != FAE_MP_STR || method.len != 9 || memcmp(method.bytes, "sys.error", 9) != 0 ||
        params.type != FAE_MP_ARRAY || params.len == 0)
        return FAE_OK;
    if (batch->n_open)
        fae_tally_wire_error(tally, p, batch->n_open);
    batch->n_refused = batch->n_open;
    batch->n_open = 0;
    return FAE_CLOSED;
}

static enum fae_err judge(struct fae_batch *batch, struct fae_tally *tally, const uint8_t *message, size_t len)
{
    struct fae_mp_token array, type, id, error;
    const uint8_t *p = fae_mp_read(message, &array);
    unsigned method;

    if (array.type != FAE_MP_ARRAY || array.len < 3)
        goto stray;
    p = fae_mp_read(p, &type);
    if (type.type == FAE_MP_UINT && type.u == 2 && array.len == 3)
        return judge_notification(batch, tally, p);
    if (type.type != FAE_MP_UINT || type.u != 1 || array.len != 4)
        goto stray;
    p = fae_mp_read(p, &id);
    if (id.type != FAE_MP_UINT || !settle(batch, id.u))
        goto stray;
    fae_mp_read(p, &error);
    if (error.type != FAE_MP_NIL) {
        fae_tally_wire_error(tally, p, 1);
        return FAE_OK;
    }
    method = method_of(batch, id.u - batch->base);
    count_ok(tally, method);
    keep_template(&tally->methods[method].template, message, len);
    return FAE_OK;
stray:
    tally->n_stray++;
    return FAE_OK;
}

/* Is what lies at p an answer like the one its method gave before? Settles its call, and returns its length; 0: look
 * closer. */
static inline size_t take_known(struct fae_batch *batch, struct fae_tally *tally, const uint8_t *p, size_t len)
{
    const struct fae_buf *template;
    uint64_t i;
    unsigned method;

    if (len < REST_AT || memcmp(p, head, sizeof head) != 0)
        return 0;
    i = (uint64_t)fae_be32(p + ID_AT) - batch->base;
    if (i >= batch->n)
        return 0;
    method = method_of(batch, i);
    template = &tally->methods[method].template;
    if (template->len == 0 || len < template->len ||
        memcmp(p + REST_AT, template->data + REST_AT, template->len - REST_AT) != 0 || !settle(batch, batch->base + i))
        return 0;
    count_ok(tally, method);
    return template->len;
}

/* Goes through messages; *used_out is where the first one begins that is not whole. */
static enum fae_err feed_messages(struct fae_batch *batch, struct fae_tally *tally, const uint8_t *bytes, size_t len,
                                  size_t *used_out)
{
    size_t pos = 0;
    enum fae_err err = FAE_OK;

    while (pos < len && !err) {
        const uint8_t *p = bytes + pos;
        size_t known = batch->scan.pos == 0 ? take_known(batch, tally, p, len - pos) : 0;

        if (known) {
            pos += known;
            continue;
        }
        err = fae_mp_scan(&batch->scan, p, len - pos, FAE_MESSAGE_CEILING);
        if (err)
            break;
        err = judge(batch, tally, p, batch->scan.pos);
        pos += batch->scan.pos;
        fae_mp_scan_init(&batch->scan);
    }
    *used_out = pos;
    return err == FAE_MORE ? FAE_OK : err;
}

/* Answers of a protocol we do not know: all must be equal, as far as they are compared. */
static void feed_raw(struct fae_batch *batch, struct fae_tally *tally, const uint8_t *bytes, size_t len,
                     size_t *used_out)
{
    size_t n = tally->raw.answer_bytes, n_compared = tally->raw.compare_bytes, pos;
    struct fae_buf *template = &tally->methods[0].template;

    if (n_compared == 0 || n_compared > n)
        n_compared = n;
    for (pos = 0; len - pos >= n; pos += n) {
        if (batch->n_open == 0) {
            tally->n_stray++;
            continue;
        }
        count_settled(batch, batch->n - batch->n_open);
        if (template->len == 0)
            fae_buf_add(template, bytes + pos, n);
        if (memcmp(bytes + pos, template->data, n_compared) == 0)
            count_ok(tally, 0);
        else
            fae_tally_error(tally, "DIFFERENT", "an answer is not like the first one", 1);
    }
    *used_out = pos;
}

static size_t skip_greeting(struct fae_batch *batch, size_t len)
{
    size_t n = batch->greeting < len ? batch->greeting : len;

    batch->greeting -= (uint32_t)n;
    return n;
}

enum fae_err fae_batch_feed(struct fae_batch *batch, struct fae_tally *tally, const uint8_t *bytes, size_t len)
{
    bool joined = batch->part.len > 0;
    enum fae_err err = FAE_OK;
    size_t used = skip_greeting(batch, len);

    bytes += used;
    len -= used;
    batch->n_settled = 0;
    if (joined) {
        fae_buf_add(&batch->part, bytes, len);
        bytes = batch->part.data;
        len = batch->part.len;
    }
    if (tally->raw.answer_bytes)
        feed_raw(batch, tally, bytes, len, &used);
    else
        err = feed_messages(batch, tally, bytes, len, &used);
    if (joined && used)
        fae_buf_shift(&batch->part, used);
    else if (!joined)
        fae_buf_add(&batch->part, bytes + used, len - used);
    return err;
}
