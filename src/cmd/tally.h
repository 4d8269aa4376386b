/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The load generator's bookkeeping, pure: which calls of a connection's batch are still open, is this byte run their
 * answers, what went wrong how often. A method's first good answer becomes its template: others are compared with it,
 * msgid aside, and only those that differ are looked at in full.
 */
#ifndef FAE_CMD_TALLY_H
#define FAE_CMD_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "wire/msgpack.h"

#define FAE_TALLY_METHODS 64
#define FAE_TALLY_ROWS 32
#define FAE_TALLY_TEXT 200

/* msgids from here on take five bytes in the shortest form too, so that answers have one length. */
#define FAE_TALLY_MSGID_MIN 0x10000u

/* Another protocol: answers that all have one length, in order. */
struct fae_tally_raw {
    uint32_t answer_bytes;   /* 0: msgpack-RPC */
    uint32_t compare_bytes;  /* of each answer, that must equal those of the first; 0: all */
    uint32_t greeting_bytes; /* that the server sends first on every connection */
};

/* What became of the calls of a run. */
struct fae_tally {
    uint64_t n_ok;
    uint64_t n_failed; /* the sum of the rows */
    uint64_t n_stray;  /* answers that nobody waits for */
    struct fae_tally_raw raw;
    struct {
        uint64_t n_ok;
        struct fae_buf template; /* of a good answer; empty until there was one */
    } methods[FAE_TALLY_METHODS];
    unsigned n_rows; /* of errors; the last row takes what finds no other */
    struct {
        uint64_t n;
        char code[32];
        char text[FAE_TALLY_TEXT]; /* of the first one */
    } rows[FAE_TALLY_ROWS];
};

/* The calls that one connection sent together. */
struct fae_batch {
    uint32_t base;           /* msgid of the first */
    uint32_t n;              /* how many */
    uint32_t n_open;         /* not answered yet */
    uint32_t n_refused;      /* the server said sys.error and hangs up: no answers of their own for these */
    uint32_t n_settled;      /* answered by the last feed, well or not */
    uint32_t greeting;       /* bytes of it that are still to come */
    uint64_t *open;          /* a bit each */
    uint8_t *methods;        /* each call's index into a tally's methods; NULL: all are 0 */
    uint32_t *settled;       /* which n_settled calls those were; NULL: nobody asks */
    struct fae_buf part;     /* a message that has not come in whole */
    struct fae_mp_scan scan; /* of it */
};

void fae_tally_fini(struct fae_tally *tally);
/* Counts n failures of one kind. */
void fae_tally_error(struct fae_tally *tally, const char *code, const char *text, uint64_t n);
/* The same from the wire; "CODE: message" is split. */
void fae_tally_wire_error(struct fae_tally *tally, const uint8_t *error, uint64_t n);
/* Adds the counts of another thread's. */
void fae_tally_merge(struct fae_tally *into, const struct fae_tally *from);

/* `each`: calls are told apart, by methods and in settled. */
void fae_batch_init(struct fae_batch *batch, uint32_t n_max, bool each);
void fae_batch_fini(struct fae_batch *batch);
/* The connection is a new one: what came in part over the last one is dropped. */
void fae_batch_reset(struct fae_batch *batch, const struct fae_tally *tally);
/* Starts a batch; n <= n_max. */
void fae_batch_begin(struct fae_batch *batch, uint32_t base, uint32_t n);
/* Takes received bytes. FAE_OK; FAE_CLOSED: the server gave the rest of the batch up; FAE_BAD_MESSAGE or FAE_LIMIT: the
 * stream cannot be followed any more. */
enum fae_err fae_batch_feed(struct fae_batch *batch, struct fae_tally *tally, const uint8_t *bytes, size_t len);

#endif
