/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Intrusive doubly linked list. A node that is in no list points at itself, so removing it twice is harmless.
 */
#ifndef FAE_BASE_LIST_H
#define FAE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct fae_list {
    struct fae_list *next, *prev;
};

static inline void fae_list_init(struct fae_list *l)
{
    l->next = l->prev = l;
}

static inline bool fae_list_empty(const struct fae_list *l)
{
    return l->next == l;
}

static inline void fae_list_add_tail(struct fae_list *l, struct fae_list *node)
{
    node->prev = l->prev;
    node->next = l;
    l->prev->next = node;
    l->prev = node;
}

static inline void fae_list_del(struct fae_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    fae_list_init(node);
}

/* Moves all nodes of `from` to the end of `to`. */
static inline void fae_list_splice(struct fae_list *to, struct fae_list *from)
{
    if (fae_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    fae_list_init(from);
}

#define FAE_CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Body may delete `node` itself, and nothing else. */
#define FAE_LIST_EACH(node, list)                                                                                      \
    for (struct fae_list *node = (list)->next, *node##_next = node->next; node != (list);                              \
         node = node##_next, node##_next = node->next)

#endif
