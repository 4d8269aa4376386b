/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A session: one client connection. It owns its fd, and memory for input only while it holds a partial message and for
 * output only while something is unsent, so that an idle one costs little more than this struct.
 *
 *   open --eof or error--> closing (answers go out) --> closed (freed at the end of the turn)
 *     \--bytes that make no sense--> closing, lost --> lingering (input is thrown away, so that closing does not reset
 *                                                     the connection before the client has read why) --> closed
 */
#ifndef FAE_RPC_SESSION_H
#define FAE_RPC_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "net/loop.h"
#include "rpc/access.h"
#include "rpc/limit.h"
#include "rpc/message.h"
#include "wire/msgpack.h"

struct fae_owned;
struct fae_server;
struct fae_tls;

/* Memory that clients make us hold: input that waits, and answers that they do not read. */
enum fae_held { FAE_HELD_IN, FAE_HELD_OUT, FAE_HELD_KINDS };

/* Input that waits: for the rest of a message, or for calls in flight to become fewer. */
struct fae_inbuf {
    struct fae_mp_scan scan;
    struct fae_buf bytes;
};

struct fae_session {
    struct fae_watch watch;
    struct fae_server *server;
    struct fae_list node;  /* in the server's list of all */
    struct fae_list calls; /* of those that wait; nodes belong to the service */
    struct fae_inbuf *in;  /* NULL while nothing waits */
    const uint8_t *turn;   /* this turn's input, in the server's arena or in `in` */
    uint32_t turn_len;
    uint32_t out_sent;   /* of out.len */
    struct fae_tls *tls; /* NULL: a plain session */
    struct fae_buf out;
    uint64_t got_ticks; /* when this turn's input, or the input that waits, was received */
    uint32_t rid_hash;  /* of the last rid that a context of its calls had; the service's own */
    uint32_t seen_ms;   /* the last bytes came, or it was accepted */
    uint32_t opened_ms;
    uint32_t n_made;               /* calls and notifications that came */
    uint32_t in_since;             /* ms: when the partial message began */
    uint32_t out_since;            /* ms: the last progress of output */
    uint32_t held[FAE_HELD_KINDS]; /* bytes that count in the server's */
    uint32_t id;
    int32_t service_ref;     /* the service's own; 0 at first */
    struct fae_owned *owned; /* the service's own, which it gives up when the session closes; NULL at first */
    int fd;
    struct fae_caller own;         /* who it is by itself */
    struct fae_caller caller;      /* whose calls these are that bring no context: as `own`, and its context's token */
    uint32_t token, context_token; /* ids of those it showed; 0: none */
    uint16_t n_calls;
    uint16_t host; /* rpc/hosts.h; FAE_HOST_NONE: not limited */
    short watching;
    uint8_t error_form; /* enum fae_error_form */
    uint8_t listener;   /* where it connected */
    uint8_t n_guesses;  /* wrong tokens it showed */
    bool is_unix : 1;
    bool heard : 1; /* something came; tls: the handshake is done */
    bool half_close : 1;
    bool is_ready : 1;   /* in the server's ready queue */
    bool is_dirty : 1;   /* in the server's dirty queue */
    bool is_thirsty : 1; /* in the server's thirsty queue */
    bool partial : 1;    /* `in` holds the start of a message */
    bool eof : 1;        /* the client sends no more */
    bool closing : 1;    /* nothing is run any more; closed once output is gone */
    bool lost : 1;       /* closing because its bytes made no sense */
    bool lingering : 1;
    bool closed : 1;
};

/* The buffer that takes whole messages for the client; they are sent at the end of the turn. Lends until the next call. */
struct fae_buf *fae_session_out(struct fae_session *s);

/* Answers an error, and counts the call in the method's row (FAE_METHODS_MAX: none). */
void fae_session_fail(struct fae_session *s, uint32_t msgid, const struct fae_failure *failure);
void fae_session_fail_code(struct fae_session *s, uint32_t msgid, enum fae_err code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Tells the code by sys.error and ends the session. The message that is being run goes with it. */
void fae_session_lose(struct fae_session *s, enum fae_err code, const char *text);

/* Refuses a call for lack of room: answers at once, and counts. A notification is dropped. */
void fae_session_refuse(struct fae_session *s, const struct fae_request *request, enum fae_err code,
                        enum fae_limit limit, uint32_t retry_after_ms);

/* A call was answered: counts it and its time since `ticks`. One read of the clock serves this call's end and the next
 * one's beginning, and is returned. */
uint64_t fae_session_count(struct fae_server *server, unsigned row, uint64_t ticks, bool failed);

/* A call that answers later is in s->calls from began to ended, and holds back reading when there are many. */
void fae_session_began(struct fae_session *s, struct fae_list *node);
void fae_session_ended(struct fae_session *s, struct fae_list *node);

/* "tcp://127.0.0.1:40312" or "unix:" of the client, into text (FAE_ADDR_TEXT bytes). */
void fae_session_peer(const struct fae_session *s, char *text);

#endif
