/* SPDX-License-Identifier: BSD-2-Clause
 *
 * An open-addressed hash table whose entries appear in one store each. A name counts once a slot points to it; n
 * follows, so whoever adds after a death first looks whether the last row was already pointed to.
 */
#include "base/names.h"

#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/clock.h"

#define LOCK_MS 2 /* a holder that takes longer is stopped; calls must not wait for it */

struct row {
    uint16_t len;
    char text[];
};

static uint32_t slots_of(uint32_t cap)
{
    uint32_t n = 2;

    while (n < 2 * cap)
        n *= 2;
    return n;
}

static size_t row_at(uint32_t n_slots, uint32_t width, uint32_t row)
{
    return sizeof(struct fae_names) + n_slots * sizeof(uint32_t) + row * (size_t)FAE_NAMES_STRIDE(width);
}

size_t fae_names_size(uint32_t cap, uint32_t width)
{
    return row_at(slots_of(cap), width, cap);
}

void fae_names_init(struct fae_names *names, uint32_t cap, uint32_t width)
{
    fae_shmutex_init(&names->lock);
    names->cap = cap;
    names->width = width;
    names->n_slots = slots_of(cap);
    if (getrandom(&names->seed, sizeof names->seed, 0) != sizeof names->seed)
        names->seed = fae_now_ns() * 0x9e3779b97f4a7c15u;
}

static struct row *row_of(const struct fae_names *names, uint32_t row)
{
    return (struct row *)((char *)names + row_at(names->n_slots, names->width, row));
}

/* The row of the name, or the slot it would have. */
static uint32_t look(const struct fae_names *names, const void *name, size_t len, uint32_t *slot_out)
{
    uint32_t mask = names->n_slots - 1;

    for (uint32_t i = (uint32_t)XXH3_64bits_withSeed(name, len, names->seed) & mask;; i = (i + 1) & mask) {
        uint32_t at = atomic_load_explicit(&names->slots[i], memory_order_acquire);
        const struct row *row;

        *slot_out = i;
        if (at == 0)
            return FAE_NAMES_NONE;
        row = row_of(names, at - 1);
        if (row->len == len && memcmp(row->text, name, len) == 0)
            return at - 1;
    }
}

uint32_t fae_names_find(const struct fae_names *names, const void *name, size_t len)
{
    uint32_t slot;

    return look(names, name, len, &slot);
}

/* The last one who added died: its row may be pointed to and not be counted. */
static void repair(struct fae_names *names, uint32_t n)
{
    for (uint32_t i = 0; i < names->n_slots; i++)
        if (atomic_load(&names->slots[i]) == n + 1) {
            atomic_store(&names->n, n + 1);
            return;
        }
}

static uint32_t add(struct fae_names *names, const void *name, size_t len)
{
    uint32_t n = atomic_load_explicit(&names->n, memory_order_relaxed), slot;
    uint32_t row = look(names, name, len, &slot);
    struct row *to;

    if (row != FAE_NAMES_NONE || n == names->cap)
        return row;
    to = row_of(names, n);
    to->len = (uint16_t)len;
    memcpy(to->text, name, len);
    to->text[len] = '\0';
    atomic_store_explicit(&names->slots[slot], n + 1, memory_order_release);
    atomic_store_explicit(&names->n, n + 1, memory_order_release);
    return n;
}

uint32_t fae_names_add(struct fae_names *names, const void *name, size_t len)
{
    uint32_t row = fae_names_find(names, name, len);
    bool died;

    if (row != FAE_NAMES_NONE || len > names->width ||
        atomic_load_explicit(&names->n, memory_order_relaxed) >= names->cap)
        return row;
    if (fae_shmutex_lock_within(&names->lock, LOCK_MS, &died) != FAE_OK)
        return FAE_NAMES_NONE;
    if (died)
        repair(names, atomic_load_explicit(&names->n, memory_order_relaxed));
    row = add(names, name, len);
    fae_shmutex_unlock(&names->lock);
    return row;
}

uint32_t fae_names_count(const struct fae_names *names)
{
    uint32_t n = atomic_load_explicit(&names->n, memory_order_acquire);

    return n < names->cap ? n : names->cap;
}

const char *fae_names_text(const struct fae_names *names, uint32_t row, size_t *len_out)
{
    const struct row *at = row_of(names, row);

    *len_out = at->len;
    return at->text;
}
