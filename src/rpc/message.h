/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The shape of msgpack-RPC messages: [0, msgid, method, params, context?] and [2, method, params]. Pure; works on bytes
 * that a scan has proven, so only the shape can be wrong.
 */
#ifndef FAE_RPC_MESSAGE_H
#define FAE_RPC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "rpc/service.h"

/* How a message ended up. */
enum fae_message_kind {
    FAE_MESSAGE_CALL,     /* request or notification, in *request_out */
    FAE_MESSAGE_REFUSE,   /* malformed request: answer its msgid with `why` */
    FAE_MESSAGE_COMPLAIN, /* malformed, and no msgid to answer: tell by sys.error */
    FAE_MESSAGE_IGNORE,   /* malformed notification, or a response: counted only */
    FAE_MESSAGE_LOST,     /* not an array: this is not our protocol; tell, then close */
};

enum fae_message_kind fae_message_parse(const uint8_t *bytes, struct fae_request *request_out, const char **why_out);

/* How a session wants its errors (sys.hello). */
enum fae_error_form { FAE_ERROR_STRING, FAE_ERROR_MAP, FAE_ERROR_ARRAY };

/* Longer code or text is cut: an error says what went wrong, it does not carry data. */
#define FAE_ERROR_TEXT_MAX (8 * FAE_KIB)

/* An error as it travels; all borrowed. Bytes that are not UTF-8 go out as U+FFFD. */
struct fae_failure {
    const char *code; /* UPPER_SNAKE */
    size_t code_len;
    const char *text;
    size_t text_len;
    bool retryable;
    int64_t retry_after_ms;       /* below 0: not told */
    const struct fae_buf *detail; /* one msgpack value, or NULL; only the map form has it */
};

/* Appends [1, msgid, error, nil]. */
void fae_message_error(struct fae_buf *out, enum fae_error_form form, uint32_t msgid,
                       const struct fae_failure *failure);
/* The error of a call that is not let in: the code's own text, made without memory of its own. */
void fae_message_refuse(struct fae_buf *out, enum fae_error_form form, uint32_t msgid, enum fae_err code,
                        uint32_t retry_after_ms);
/* Appends [2, "sys.error", [error]]: for what cannot be answered. */
void fae_message_complaint(struct fae_buf *out, enum fae_error_form form, const struct fae_failure *failure);
/* Appends [1, msgid, nil, and the result is the next value written. */
void fae_message_result(struct fae_buf *out, uint32_t msgid);

#endif
