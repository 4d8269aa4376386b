/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Locks that end with the session or the task they were taken for: a list of records at each, which nobody has who has
 * no such locks.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "store/locks.h"
#include "vm/vm_impl.h"

#define OWNED_MANY 64 /* records of one session, when those of locks that are gone are looked for first */

struct fae_owned {
    struct fae_owned *next;
    uint64_t token, fence;
    uint32_t n;       /* of the first: how many there are, and ... */
    uint32_t thin_at; /* ... at how many those that are gone are looked for: twice what was left then */
    uint32_t key_len;
    uint8_t key[];
};

static void set_first(struct fae_owned *first, uint32_t n, uint32_t thin_at)
{
    if (!first)
        return;
    first->n = n;
    first->thin_at = thin_at;
}

void fae_owned_drop(struct fae_owned **list, uint64_t token)
{
    uint32_t n, thin_at;

    for (struct fae_owned **at = list; *at; at = &(*at)->next) {
        struct fae_owned *h = *at;

        if (h->token != token)
            continue;
        n = (*list)->n - 1;
        thin_at = (*list)->thin_at;
        *at = h->next;
        set_first(*list, n, thin_at);
        free(h);
        return;
    }
}

/* Records of locks that expired, or that somebody else released. */
static void thin_out(struct fae_vm *vm, struct fae_owned **list)
{
    uint64_t now_ms = fae_lock_now_ms();
    struct fae_lock_info info;
    uint32_t n = 0;

    for (struct fae_owned **at = list; *at;) {
        struct fae_owned *h = *at;

        if (fae_lock_info(vm->o.stores, now_ms, h->key, h->key_len, &info) == FAE_OK && info.fence == h->fence) {
            n++;
            at = &h->next;
            continue;
        }
        *at = h->next;
        free(h);
    }
    set_first(*list, n, n < OWNED_MANY / 2 ? OWNED_MANY : 2 * n);
}

void fae_owned_add(struct fae_vm *vm, struct fae_owned **list, const struct fae_lock_ask *ask, uint64_t fence)
{
    struct fae_owned *h = fae_alloc(sizeof *h + ask->key_len);

    if (*list && (*list)->n >= (*list)->thin_at)
        thin_out(vm, list);
    *h = (struct fae_owned){ .next = *list,
                             .token = ask->token,
                             .fence = fence,
                             .n = *list ? (*list)->n + 1 : 1,
                             .thin_at = *list ? (*list)->thin_at : OWNED_MANY,
                             .key_len = (uint32_t)ask->key_len };
    memcpy(h->key, ask->key, ask->key_len);
    *list = h;
}

void fae_owned_let_go(struct fae_vm *vm, struct fae_owned **list)
{
    while (*list) {
        struct fae_owned *h = *list;

        *list = h->next;
        fae_lock_release(vm->o.stores, fae_lock_now_ms(), h->key, h->key_len, h->token);
        free(h);
    }
}
