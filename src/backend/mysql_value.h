/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A row of a result as msgpack: what a column's type becomes, from either form a server sends it in.
 *   integers, YEAR, BIT -> int      FLOAT, DOUBLE -> float       NULL -> nil
 *   DATE, TIME, DATETIME, TIMESTAMP -> "2026-01-02 03:04:05", with as many digits of a second as the column has
 *   DECIMAL, ENUM, SET, JSON, texts and blobs -> bytes as they are
 * Bytes come from the network: whatever they are, nothing is read beyond them.
 */
#ifndef FAE_BACKEND_MYSQL_VALUE_H
#define FAE_BACKEND_MYSQL_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct fae_mysql_column {
    uint8_t type;     /* enum enum_field_types */
    uint8_t decimals; /* of a time: digits of a second */
    bool is_unsigned;
};

/* A row of a prepared statement: an array of n values is added to out. False: it is none, and out is as before. */
bool fae_mysql_put_binary_row(struct fae_buf *out, const struct fae_mysql_column *columns, unsigned n,
                              const uint8_t *row, size_t len);
/* A value of a row that came as text; NULL is nil. */
void fae_mysql_put_text(struct fae_buf *out, const struct fae_mysql_column *column, const char *text, size_t len);

#endif
