/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Mail between processes. Senders take turns by a robust mutex; a sender that dies inside leaves the ring as it was,
 * since its head is published last. The reader takes no lock.
 */
#include "base/mailbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/hist.h"
#include "base/ring.h"
#include "base/shmutex.h"

#define FAE_MAIL_HEAD offsetof(struct fae_mail, body)
#define FAE_MAIL_LOCK_MS 100 /* a push takes well under 1 us: whoever holds longer is stopped */

_Static_assert((FAE_MAIL_HEAD + FAE_MAIL_BODY_MAX) * 4 <= FAE_MAILBOX_BYTES, "a box holds several long mails");

static size_t up64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static size_t box_size(void)
{
    return up64(sizeof(struct fae_shmutex)) + up64(fae_ring_size(FAE_MAILBOX_BYTES));
}

static struct fae_shmutex *box_lock(void *mem, unsigned slot)
{
    return (struct fae_shmutex *)((uint8_t *)mem + slot * box_size());
}

static struct fae_ring *box_ring(void *mem, unsigned slot)
{
    return (struct fae_ring *)((uint8_t *)mem + slot * box_size() + up64(sizeof(struct fae_shmutex)));
}

size_t fae_mailboxes_size(const void *n_workers)
{
    return (*(const unsigned *)n_workers + 2) * box_size();
}

void fae_mailboxes_init(void *mem, const void *n_workers)
{
    for (unsigned i = 0; i < *(const unsigned *)n_workers + 2; i++) {
        fae_shmutex_init(box_lock(mem, i));
        fae_ring_init(box_ring(mem, i), FAE_MAILBOX_BYTES);
    }
}

enum fae_err fae_mailboxes_open(struct fae_mailboxes *m, void *mem, struct fae_slots *slots)
{
    *m = (struct fae_mailboxes){ .mem = mem, .slots = slots, .me = fae_slot_supervisor(slots) };
    for (unsigned want = slots->n_workers + 2; m->n < want; m->n++) {
        m->eventfds[m->n] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (m->eventfds[m->n] < 0) {
            int saved = errno;

            fae_mailboxes_close(m);
            errno = saved;
            return FAE_SYSTEM;
        }
    }
    return FAE_OK;
}

void fae_mailboxes_close(struct fae_mailboxes *m)
{
    while (m->n)
        close(m->eventfds[--m->n]);
}

enum fae_err fae_mail_send(struct fae_mailboxes *m, unsigned slot, uint32_t type, uint64_t arg, const void *body,
                           size_t len)
{
    struct fae_slot *to = &m->slots->slots[slot], *from = &m->slots->slots[m->me];
    struct fae_mail mail;
    enum fae_err err;
    bool died, put;

    FAE_ASSERT(slot < m->n);
    FAE_ASSERT(len <= FAE_MAIL_BODY_MAX);
    mail.type = type;
    mail.from_slot = m->me;
    mail.from_incarnation = FAE_STAT_GET(from->incarnation);
    mail.to_incarnation = FAE_STAT_GET(to->incarnation);
    mail.arg = arg;
    mail.len = (uint32_t)len;
    if (mail.to_incarnation == 0 || FAE_STAT_GET(to->state) == FAE_SLOT_DEAD)
        return FAE_UNAVAILABLE;
    err = fae_shmutex_lock_within(box_lock(m->mem, slot), FAE_MAIL_LOCK_MS, &died);
    if (err)
        return err;
    put = fae_ring_push(box_ring(m->mem, slot), &mail, FAE_MAIL_HEAD, body, len);
    fae_shmutex_unlock(box_lock(m->mem, slot));
    fae_mail_rouse(m, slot); /* when it is full too: perhaps the one who filled it died before this */
    return put ? FAE_OK : FAE_LIMIT;
}

bool fae_mail_next(struct fae_mailboxes *m, struct fae_mail *mail_out)
{
    struct fae_slot *me = &m->slots->slots[m->me];
    uint32_t incarnation = FAE_STAT_GET(me->incarnation);
    long n;

    while ((n = fae_ring_pop(box_ring(m->mem, m->me), mail_out, FAE_MAIL_HEAD + FAE_MAIL_BODY_MAX)) >= 0) {
        if ((size_t)n >= FAE_MAIL_HEAD && mail_out->len == (size_t)n - FAE_MAIL_HEAD &&
            mail_out->to_incarnation == incarnation)
            return true;
        FAE_STAT_ADD(me->n_mail_stale, 1);
    }
    return false;
}

int fae_mail_fd(const struct fae_mailboxes *m)
{
    return m->eventfds[m->me];
}

void fae_mail_quiet(struct fae_mailboxes *m)
{
    uint64_t n;

    while (read(m->eventfds[m->me], &n, sizeof n) < 0 && errno == EINTR)
        ;
}

void fae_mail_rouse(struct fae_mailboxes *m, unsigned slot)
{
    const uint64_t one = 1;

    FAE_ASSERT(slot < m->n);
    /* EAGAIN means that it is readable already. */
    while (write(m->eventfds[slot], &one, sizeof one) < 0 && errno == EINTR)
        ;
}
