/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Lines of answers are read strictly: what is not exactly an answer means that the stream is out of step, and whoever
 * guesses there gives one caller what another asked for.
 */
#include "wire/mctext.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- answers ---- */

static const struct {
    const char *word;
    enum fae_mctext_type type;
} words[] = {
    { "END", FAE_MCTEXT_END },         { "STORED", FAE_MCTEXT_STORED },       { "NOT_STORED", FAE_MCTEXT_NOT_STORED },
    { "EXISTS", FAE_MCTEXT_EXISTS },   { "NOT_FOUND", FAE_MCTEXT_NOT_FOUND }, { "DELETED", FAE_MCTEXT_DELETED },
    { "TOUCHED", FAE_MCTEXT_TOUCHED },
};

/* These may be followed by a blank and a sentence. */
static const struct {
    const char *word;
    enum fae_mctext_type type;
} errors[] = {
    { "ERROR", FAE_MCTEXT_ERROR },
    { "CLIENT_ERROR", FAE_MCTEXT_CLIENT_ERROR },
    { "SERVER_ERROR", FAE_MCTEXT_SERVER_ERROR },
};

/* Digits from *at on; moves it behind them. False: none, or more than 64 bits. */
static bool digits(const char *p, size_t n, size_t *at, uint64_t *out)
{
    size_t i = *at;
    uint64_t sum = 0;

    for (; i < n && p[i] >= '0' && p[i] <= '9'; i++)
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, (uint64_t)(p[i] - '0'), &sum))
            return false;
    if (i == *at)
        return false;
    *at = i;
    *out = sum;
    return true;
}

/* A blank and digits. */
static bool number(const char *p, size_t n, size_t *at, uint64_t *out)
{
    if (*at >= n || p[*at] != ' ')
        return false;
    ++*at;
    return digits(p, n, at, out);
}

/* "VALUE key flags len" or "VALUE key flags len cas" */
static bool read_value(const char *p, size_t n, struct fae_mctext_line *line)
{
    const char *blank = memchr(p + 6, ' ', n - 6);
    uint64_t flags;
    size_t at;

    if (!blank || !fae_mctext_is_key(p + 6, (size_t)(blank - p) - 6))
        return false;
    *line = (struct fae_mctext_line){ .type = FAE_MCTEXT_VALUE, .text = p + 6, .text_len = (size_t)(blank - p) - 6 };
    at = (size_t)(blank - p);
    if (!number(p, n, &at, &flags) || flags > UINT32_MAX || !number(p, n, &at, &line->len))
        return false;
    line->flags = (uint32_t)flags;
    if (at < n && !number(p, n, &at, &line->cas))
        return false;
    return at == n;
}

/* Of incr and decr. */
static bool read_number(const char *p, size_t n, struct fae_mctext_line *line)
{
    size_t at = 0;

    *line = (struct fae_mctext_line){ .type = FAE_MCTEXT_NUMBER };
    if (!digits(p, n, &at, &line->number))
        return false;
    while (at < n && p[at] == ' ') /* memcached fills up what a decr made shorter */
        at++;
    return at == n;
}

static bool read_word(const char *p, size_t n, struct fae_mctext_line *line)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (n == strlen(words[i].word) && memcmp(p, words[i].word, n) == 0) {
            *line = (struct fae_mctext_line){ .type = words[i].type };
            return true;
        }
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        size_t len = strlen(errors[i].word);

        if (n >= len && memcmp(p, errors[i].word, len) == 0 && (n == len || p[len] == ' ')) {
            *line = (struct fae_mctext_line){ .type = errors[i].type, .text = p, .text_len = n };
            return true;
        }
    }
    return false;
}

enum fae_err fae_mctext_read(const uint8_t *p, size_t n, struct fae_mctext_line *line_out, size_t *used_out)
{
    size_t looked = n < FAE_MCTEXT_LINE_MAX ? n : FAE_MCTEXT_LINE_MAX, len;
    const uint8_t *end = n ? memchr(p, '\n', looked) : NULL;
    const char *text = (const char *)p;
    bool ok;

    if (!end)
        return n < FAE_MCTEXT_LINE_MAX ? FAE_MORE : FAE_BAD_MESSAGE;
    if (end == p || end[-1] != '\r')
        return FAE_BAD_MESSAGE;
    *used_out = (size_t)(end - p) + 1;
    len = *used_out - 2;
    if (len > 6 && memcmp(text, "VALUE ", 6) == 0)
        ok = read_value(text, len, line_out);
    else
        ok =
            len > 0 && *text >= '0' && *text <= '9' ? read_number(text, len, line_out) : read_word(text, len, line_out);
    return ok ? FAE_OK : FAE_BAD_MESSAGE;
}

/* ---- requests ---- */

bool fae_mctext_is_key(const char *key, size_t len)
{
    if (len == 0 || len > FAE_MCTEXT_KEY_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)key[i] <= 0x20 || key[i] == 0x7f)
            return false;
    return true;
}

void fae_mctext_store(struct fae_buf *out, enum fae_mctext_store how, const char *key, size_t key_len, uint32_t flags,
                      int64_t expires, const char *value, size_t value_len, uint64_t cas)
{
    static const char line_end[2] = { '\r', '\n' };
    static const char *const verbs[] = { "set", "add", "replace", "append", "prepend", "cas" };
    char *at = (char *)fae_buf_room(out, FAE_MCTEXT_HEAD_MAX + value_len + 2);
    int n = snprintf(at, FAE_MCTEXT_HEAD_MAX, "%s %.*s %" PRIu32 " %" PRId64 " %zu", verbs[how], (int)key_len, key,
                     flags, expires, value_len);

    if (how == FAE_MCTEXT_CAS)
        n += snprintf(at + n, FAE_MCTEXT_HEAD_MAX - (size_t)n, " %" PRIu64, cas);
    out->len += (size_t)n;
    fae_buf_add(out, line_end, sizeof line_end);
    fae_buf_add(out, value, value_len);
    fae_buf_add(out, line_end, sizeof line_end);
}

void fae_mctext_count(struct fae_buf *out, bool up, const char *key, size_t key_len, uint64_t by)
{
    fae_buf_printf(out, "%s %.*s %" PRIu64 "\r\n", up ? "incr" : "decr", (int)key_len, key, by);
}

void fae_mctext_delete(struct fae_buf *out, const char *key, size_t key_len)
{
    fae_buf_printf(out, "delete %.*s\r\n", (int)key_len, key);
}

void fae_mctext_touch(struct fae_buf *out, const char *key, size_t key_len, int64_t expires)
{
    fae_buf_printf(out, "touch %.*s %" PRId64 "\r\n", (int)key_len, key, expires);
}
