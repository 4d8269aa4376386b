/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Values of both protocols.
 */
#include "backend/mysql_value.h"

#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/msgpack.h"

#define NUMBER_MAX 64 /* bytes of a number's text */

/* Of a row, from which is taken in front. */
struct rest {
    const uint8_t *at, *end;
};

static uint64_t little(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    while (n--)
        v = v << 8 | p[n];
    return v;
}

static const uint8_t *take(struct rest *r, uint64_t n)
{
    const uint8_t *p = r->at;

    if (n > (uint64_t)(r->end - r->at))
        return NULL;
    r->at += n;
    return p;
}

/* A length, and so many bytes. */
static const uint8_t *take_bytes(struct rest *r, size_t *len_out)
{
    const uint8_t *head = take(r, 1), *more;
    unsigned n;

    if (!head)
        return NULL;
    *len_out = *head;
    if (*head > 250) {
        n = *head == 252 ? 2 : *head == 253 ? 3 : *head == 254 ? 8 : 0;
        more = n ? take(r, n) : NULL;
        if (!more)
            return NULL;
        *len_out = little(more, n);
    }
    return take(r, *len_out);
}

/* ---- integers and floats ---- */

static bool put_int(struct fae_buf *out, const struct fae_mysql_column *c, struct rest *r, unsigned n)
{
    const uint8_t *p = take(r, n);
    unsigned shift = 64 - 8 * n;

    if (!p)
        return false;
    if (c->is_unsigned)
        fae_mp_uint(out, little(p, n));
    else
        fae_mp_int(out, (int64_t)(little(p, n) << shift) >> shift);
    return true;
}

/* The shortest text that is the same float, as a double: 0.1, not 0.10000000149. */
static double widen(float f)
{
    char text[NUMBER_MAX];

    for (int digits = 6; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f)
            return strtod(text, NULL);
    }
    return (double)f;
}

static bool put_float(struct fae_buf *out, struct rest *r)
{
    const uint8_t *p = take(r, 4);
    uint32_t bits;
    float f;

    if (!p)
        return false;
    bits = (uint32_t)little(p, 4);
    memcpy(&f, &bits, sizeof f);
    fae_mp_float(out, widen(f));
    return true;
}

static bool put_double(struct fae_buf *out, struct rest *r)
{
    const uint8_t *p = take(r, 8);
    uint64_t bits;
    double d;

    if (!p)
        return false;
    bits = little(p, 8);
    memcpy(&d, &bits, sizeof d);
    fae_mp_float(out, d);
    return true;
}

static void put_bits(struct fae_buf *out, const uint8_t *p, size_t len)
{
    uint64_t v = 0;

    for (size_t i = 0; i < len; i++)
        v = v << 8 | p[i];
    fae_mp_uint(out, v);
}

/* ---- dates and times ---- */

static void put_clock(struct fae_buf *out, const struct fae_mysql_column *c, const char *text, uint32_t micro)
{
    char all[NUMBER_MAX + 8], digits[16];
    unsigned n = c->decimals <= 6 ? c->decimals : micro ? 6 : 0;

    snprintf(digits, sizeof digits, ".%06u", micro % 1000000u);
    fae_mp_str(out, all, (size_t)snprintf(all, sizeof all, "%s%.*s", text, n ? (int)n + 1 : 0, digits));
}

static bool put_date(struct fae_buf *out, const struct fae_mysql_column *c, struct rest *r)
{
    uint8_t d[11] = { 0 };
    char text[NUMBER_MAX];
    const uint8_t *p;
    size_t len;
    int n;

    p = take_bytes(r, &len);
    if (!p || len > sizeof d)
        return false;
    memcpy(d, p, len);
    n = snprintf(text, sizeof text, "%04u-%02u-%02u", (unsigned)little(d, 2), d[2], d[3]);
    if (c->type == MYSQL_TYPE_DATE || c->type == MYSQL_TYPE_NEWDATE) {
        fae_mp_str(out, text, (size_t)n);
        return true;
    }
    snprintf(text + n, sizeof text - (size_t)n, " %02u:%02u:%02u", d[4], d[5], d[6]);
    put_clock(out, c, text, (uint32_t)little(d + 7, 4));
    return true;
}

/* Hours may be more than a day's. */
static bool put_time(struct fae_buf *out, const struct fae_mysql_column *c, struct rest *r)
{
    uint8_t d[12] = { 0 };
    char text[NUMBER_MAX];
    const uint8_t *p;
    size_t len;

    p = take_bytes(r, &len);
    if (!p || len > sizeof d)
        return false;
    memcpy(d, p, len);
    snprintf(text, sizeof text, "%s%02llu:%02u:%02u", d[0] ? "-" : "", (unsigned long long)little(d + 1, 4) * 24 + d[5],
             d[6], d[7]);
    put_clock(out, c, text, (uint32_t)little(d + 8, 4));
    return true;
}

/* ---- rows ---- */

static bool put_bytes(struct fae_buf *out, const struct fae_mysql_column *c, struct rest *r)
{
    size_t len;
    const uint8_t *p = take_bytes(r, &len);

    if (!p)
        return false;
    if (c->type == MYSQL_TYPE_BIT && len <= 8)
        put_bits(out, p, len);
    else
        fae_mp_str(out, (const char *)p, len);
    return true;
}

static bool put_value(struct fae_buf *out, const struct fae_mysql_column *c, struct rest *r)
{
    switch (c->type) {
    case MYSQL_TYPE_TINY: return put_int(out, c, r, 1);
    case MYSQL_TYPE_YEAR:
    case MYSQL_TYPE_SHORT: return put_int(out, c, r, 2);
    case MYSQL_TYPE_INT24:
    case MYSQL_TYPE_LONG: return put_int(out, c, r, 4);
    case MYSQL_TYPE_LONGLONG: return put_int(out, c, r, 8);
    case MYSQL_TYPE_FLOAT: return put_float(out, r);
    case MYSQL_TYPE_DOUBLE: return put_double(out, r);
    case MYSQL_TYPE_NULL: fae_mp_nil(out); return true;
    case MYSQL_TYPE_DATE:
    case MYSQL_TYPE_NEWDATE:
    case MYSQL_TYPE_DATETIME:
    case MYSQL_TYPE_TIMESTAMP: return put_date(out, c, r);
    case MYSQL_TYPE_TIME: return put_time(out, c, r);
    default: return put_bytes(out, c, r);
    }
}

bool fae_mysql_put_binary_row(struct fae_buf *out, const struct fae_mysql_column *columns, unsigned n,
                              const uint8_t *row, size_t len)
{
    struct rest r = { row, row + len };
    const uint8_t *nulls;
    size_t was = out->len;

    if (!take(&r, 1)) /* a zero */
        return false;
    nulls = take(&r, (n + 9) / 8);
    if (!nulls)
        return false;
    fae_mp_array(out, n);
    for (unsigned i = 0; i < n; i++) {
        bool is_null = nulls[(i + 2) / 8] >> ((i + 2) % 8) & 1;

        if (is_null)
            fae_mp_nil(out);
        else if (!put_value(out, &columns[i], &r)) {
            out->len = was;
            return false;
        }
    }
    return true;
}

static void put_number(struct fae_buf *out, const struct fae_mysql_column *c, const char *text, size_t len)
{
    char copy[NUMBER_MAX], *end;

    if (len == 0 || len >= sizeof copy) {
        fae_mp_str(out, text, len);
        return;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (c->type == MYSQL_TYPE_FLOAT || c->type == MYSQL_TYPE_DOUBLE)
        fae_mp_float(out, strtod(copy, &end));
    else if (c->is_unsigned)
        fae_mp_uint(out, strtoull(copy, &end, 10));
    else
        fae_mp_int(out, strtoll(copy, &end, 10));
}

void fae_mysql_put_text(struct fae_buf *out, const struct fae_mysql_column *c, const char *text, size_t len)
{
    switch (text ? c->type : MYSQL_TYPE_NULL) {
    case MYSQL_TYPE_NULL: fae_mp_nil(out); return;
    case MYSQL_TYPE_TINY:
    case MYSQL_TYPE_SHORT:
    case MYSQL_TYPE_YEAR:
    case MYSQL_TYPE_INT24:
    case MYSQL_TYPE_LONG:
    case MYSQL_TYPE_LONGLONG:
    case MYSQL_TYPE_FLOAT:
    case MYSQL_TYPE_DOUBLE: put_number(out, c, text, len); return;
    case MYSQL_TYPE_BIT:
        if (len <= 8) {
            put_bits(out, (const uint8_t *)text, len);
            return;
        }
        break;
    default: break;
    }
    fae_mp_str(out, text, len);
}
