/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Mailboxes: the only way processes talk. One a slot, made before the first fork: a bounded ring in shared memory and
 * an eventfd, so that they outlive a respawn. Any process sends, the slot's process receives. Mail is addressed to an
 * incarnation: what a dead one did not read is dropped and counted by the next.
 */
#ifndef FAE_BASE_MAILBOX_H
#define FAE_BASE_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/shm.h"
#include "base/slot.h"

#define FAE_MAIL_BODY_MAX 4096

struct fae_mail {
    uint32_t type; /* enum of whoever uses it: proc/mail.h */
    uint32_t from_slot, from_incarnation;
    uint32_t to_incarnation;
    uint64_t arg;
    uint32_t len;
    uint8_t body[FAE_MAIL_BODY_MAX];
};

/* One process's view; copied by fork. */
struct fae_mailboxes {
    void *mem; /* the region */
    struct fae_slots *slots;
    unsigned n;
    int eventfds[FAE_SLOTS_MAX];
    unsigned me; /* the supervisor at first; set after fork */
};

/* Region functions; arg: pointer to the number of workers (unsigned). */
size_t fae_mailboxes_size(const void *n_workers);
void fae_mailboxes_init(void *mem, const void *n_workers);

/* Before the first fork: makes the eventfds. */
enum fae_err fae_mailboxes_open(struct fae_mailboxes *m, void *mem, struct fae_slots *slots);
void fae_mailboxes_close(struct fae_mailboxes *m);

/* Sends to the incarnation that fills the slot now; any thread may. LIMIT: its box is full; UNAVAILABLE: nobody is
 * there (the slot's state is DEAD, or nobody ever was); TIMEOUT: another sender is stopped with its hand in the box. */
enum fae_err fae_mail_send(struct fae_mailboxes *m, unsigned slot, uint32_t type, uint64_t arg, const void *body,
                           size_t len);
/* Takes the next mail for me. False: none. Mail for an earlier incarnation is dropped and counted on the way. Look at
 * every tick too: a sender may be killed between putting a mail in and waking me. */
bool fae_mail_next(struct fae_mailboxes *m, struct fae_mail *mail_out);
/* The fd that becomes readable when mail comes; fae_mail_quiet before reading on, so that no wake-up is lost. */
int fae_mail_fd(const struct fae_mailboxes *m);
void fae_mail_quiet(struct fae_mailboxes *m);
/* Wakes the slot's loop without a mail. */
void fae_mail_rouse(struct fae_mailboxes *m, unsigned slot);

#endif
