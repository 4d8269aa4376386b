/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The wheel's levels and how time moves over them.
 */
#include "net/wheel.h"

#include <stddef.h>

#define LEVELS 3 /* above level 0 */
#define BITS0 8
#define BITS 6
#define SLOTS0 (1u << BITS0)
#define SLOTS (1u << BITS)

/* How far a time is shifted to get its slot of that level; the level after the last one tells how far the wheel reaches. */
static unsigned shift(unsigned level)
{
    return BITS0 + level * BITS;
}

void fae_wheel_init(struct fae_wheel *w, uint64_t now_ms)
{
    *w = (struct fae_wheel){ .at_ms = now_ms + 1 };
    for (unsigned i = 0; i < SLOTS0; i++)
        fae_list_init(&w->slots0[i]);
    for (unsigned level = 0; level < LEVELS; level++)
        for (unsigned i = 0; i < SLOTS; i++)
            fae_list_init(&w->slots[level][i]);
    fae_list_init(&w->beyond);
    fae_list_init(&w->late);
}

/* ---- starting and stopping ---- */

static bool same_round(const struct fae_wheel *w, uint64_t due_ms, unsigned level)
{
    return due_ms >> shift(level) == w->at_ms >> shift(level);
}

/* Where a timer waits: on the lowest level in whose round its time lies. */
static struct fae_list *slot_of(struct fae_wheel *w, uint64_t due_ms)
{
    unsigned slot = due_ms & (SLOTS0 - 1);

    if (due_ms < w->at_ms)
        return &w->late;
    if (same_round(w, due_ms, 0)) {
        w->used0[slot / 64] |= 1ull << (slot % 64);
        return &w->slots0[slot];
    }
    for (unsigned level = 0; level < LEVELS; level++)
        if (same_round(w, due_ms, level + 1))
            return &w->slots[level][(due_ms >> shift(level)) & (SLOTS - 1)];
    return &w->beyond;
}

bool fae_wheel_running(const struct fae_wheel_node *timer)
{
    return timer->node.next && !fae_list_empty(&timer->node);
}

void fae_wheel_stop(struct fae_wheel *w, struct fae_wheel_node *timer)
{
    if (!fae_wheel_running(timer))
        return;
    fae_list_del(&timer->node); /* its slot's bit stays until somebody looks */
    w->n_timers--;
}

void fae_wheel_start(struct fae_wheel *w, struct fae_wheel_node *timer, uint64_t due_ms)
{
    fae_wheel_stop(w, timer);
    timer->due_ms = due_ms;
    w->n_timers++;
    fae_list_add_tail(slot_of(w, due_ms), &timer->node);
}

/* ---- time ---- */

static void deal_out(struct fae_wheel *w, struct fae_list *slot)
{
    struct fae_list all;

    fae_list_init(&all);
    fae_list_splice(&all, slot);
    while (!fae_list_empty(&all)) {
        struct fae_wheel_node *timer = FAE_CONTAINER(all.next, struct fae_wheel_node, node);

        fae_list_del(&timer->node);
        fae_list_add_tail(slot_of(w, timer->due_ms), &timer->node);
    }
}

/* Where rounds end their next ones are dealt out, the longest first. Nothing may wait in a round that is skipped. */
static void move_to(struct fae_wheel *w, uint64_t at_ms)
{
    bool crossed[LEVELS + 1];

    for (unsigned level = 0; level <= LEVELS; level++)
        crossed[level] = !same_round(w, at_ms, level);
    w->at_ms = at_ms;
    if (crossed[LEVELS])
        deal_out(w, &w->beyond);
    for (unsigned level = LEVELS; level-- > 0;)
        if (crossed[level])
            deal_out(w, &w->slots[level][(at_ms >> shift(level)) & (SLOTS - 1)]);
}

/* The first slot of level 0, from at_ms on, that has something; SLOTS0: none. */
static unsigned first_slot(struct fae_wheel *w)
{
    unsigned from = w->at_ms & (SLOTS0 - 1);

    for (unsigned word = from / 64; word < SLOTS0 / 64; word++) {
        uint64_t bits = w->used0[word];

        if (word == from / 64)
            bits &= ~0ull << (from % 64);
        for (; bits; bits &= bits - 1) {
            unsigned slot = word * 64 + (unsigned)__builtin_ctzll(bits);

            if (!fae_list_empty(&w->slots0[slot]))
                return slot;
            w->used0[word] &= ~(1ull << (slot % 64));
        }
    }
    return SLOTS0;
}

uint64_t fae_wheel_next_ms(struct fae_wheel *w)
{
    unsigned slot;

    if (!fae_list_empty(&w->late))
        return 0;
    if (w->n_timers == 0)
        return FAE_WHEEL_NEVER;
    slot = first_slot(w);
    return (w->at_ms & ~(uint64_t)(SLOTS0 - 1)) + slot; /* none: where the next round begins */
}

void fae_wheel_take(struct fae_wheel *w, uint64_t now_ms, struct fae_list *due)
{
    fae_list_splice(due, &w->late);
    while (w->at_ms <= now_ms) {
        uint64_t next_ms = fae_wheel_next_ms(w);

        if (next_ms > now_ms) {
            move_to(w, now_ms + 1);
            return;
        }
        if (next_ms > w->at_ms)
            move_to(w, next_ms);
        fae_list_splice(due, &w->slots0[next_ms & (SLOTS0 - 1)]);
        move_to(w, next_ms + 1);
    }
}
