/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rows of fixed size: a head, then what each worker writes. A row's name changes under the lock and only while nobody wants
 * the row; who looks on without it may then see a mixed name once, which is text all the same. Slots are given by counting
 * oneself first and looking whether that was too many, so nothing is left behind by who dies.
 */
#include "backend/upstream.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"

#define LOCK_MS 20 /* at start and reload; what is guarded takes microseconds */

struct fae_upstream {
    _Atomic uint32_t named;               /* the name may be read */
    uint32_t n_workers;                   /* 0: not made yet */
    char name[FAE_UPSTREAM_NAME_MAX + 1]; /* its last byte is always 0 */
    struct fae_breaker breaker;
    /* Then a fae_breaker_cell a worker, and a fae_upstream_cell a worker. */
};

struct fae_upstreams {
    struct fae_shmutex lock; /* of names */
    uint32_t n_workers;
    _Atomic uint32_t n_rows; /* that ever had a name; no page of the others is touched */
    size_t row_bytes;
};

static size_t lines(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static size_t row_bytes(unsigned n_workers)
{
    return lines(sizeof(struct fae_upstream)) +
           n_workers * (sizeof(struct fae_breaker_cell) + sizeof(struct fae_upstream_cell));
}

size_t fae_upstreams_size(const void *arg)
{
    return lines(sizeof(struct fae_upstreams)) + FAE_UPSTREAMS_MAX * row_bytes(*(const unsigned *)arg);
}

static struct fae_upstream *row(const struct fae_upstreams *ups, unsigned i)
{
    return (struct fae_upstream *)((char *)ups + lines(sizeof *ups) + i * ups->row_bytes);
}

void fae_upstreams_init(void *mem, const void *arg)
{
    struct fae_upstreams *ups = mem;

    fae_shmutex_init(&ups->lock);
    ups->n_workers = *(const unsigned *)arg;
    ups->row_bytes = row_bytes(ups->n_workers);
}

static unsigned n_rows(const struct fae_upstreams *ups)
{
    unsigned n = atomic_load_explicit(&ups->n_rows, memory_order_acquire);

    return n < FAE_UPSTREAMS_MAX ? n : FAE_UPSTREAMS_MAX;
}

static struct fae_breaker_cell *window_of(const struct fae_upstream *up)
{
    return (struct fae_breaker_cell *)((char *)up + lines(sizeof *up));
}

static struct fae_upstream_cell *cells_of(const struct fae_upstream *up)
{
    return (struct fae_upstream_cell *)(window_of(up) + up->n_workers);
}

struct fae_upstream_cell *fae_upstream_cell(struct fae_upstream *up, unsigned slot)
{
    FAE_ASSERT(slot < up->n_workers);
    return &cells_of(up)[slot];
}

unsigned fae_upstream_workers(const struct fae_upstream *up)
{
    return up->n_workers;
}

const char *fae_upstream_name(const struct fae_upstream *up)
{
    return up->name;
}

const struct fae_breaker *fae_upstream_breaker(const struct fae_upstream *up)
{
    return &up->breaker;
}

/* ---- names ---- */

static bool is_named(const struct fae_upstream *up)
{
    return atomic_load_explicit(&up->named, memory_order_acquire) != 0;
}

static bool is_wanted(const struct fae_upstream *up)
{
    for (unsigned i = 0; i < up->n_workers; i++)
        if (atomic_load(&cells_of(up)[i].wants) != 0)
            return true;
    return false;
}

struct fae_upstream *fae_upstreams_find(struct fae_upstreams *ups, const char *name)
{
    for (unsigned i = 0; i < n_rows(ups); i++)
        if (is_named(row(ups, i)) && strcmp(row(ups, i)->name, name) == 0)
            return row(ups, i);
    return NULL;
}

struct fae_upstream *fae_upstreams_at(struct fae_upstreams *ups, unsigned i)
{
    struct fae_upstream *up;

    if (i >= n_rows(ups))
        return NULL;
    up = row(ups, i);
    return is_named(up) && is_wanted(up) ? up : NULL;
}

static void clear_cell(struct fae_upstream_cell *cell)
{
#define FAE_UPSTREAM_CLEAR(name, help) FAE_STAT_SET(cell->n.name, 0);
    FAE_UPSTREAM_COUNTERS(FAE_UPSTREAM_CLEAR)
#undef FAE_UPSTREAM_CLEAR
}

/* Under the lock; nobody wants the row. False: somebody is stopped who has to do with its breaker. */
static bool rename_row(struct fae_upstream *up, const char *name)
{
    atomic_store(&up->named, 0);
    if (!fae_breaker_forget(&up->breaker))
        return false;
    for (unsigned i = 0; i < up->n_workers; i++)
        clear_cell(&cells_of(up)[i]);
    strncpy(up->name, name, FAE_UPSTREAM_NAME_MAX);
    atomic_store_explicit(&up->named, 1, memory_order_release);
    return true;
}

static void make_row(struct fae_upstreams *ups, struct fae_upstream *up)
{
    if (up->n_workers)
        return;
    fae_breaker_init(&up->breaker);
    up->n_workers = ups->n_workers;
}

/* Under the lock: a row that never had a name, or, when there is none, one that nobody wants. */
static struct fae_upstream *add(struct fae_upstreams *ups, const char *name)
{
    unsigned n = n_rows(ups);

    if (n < FAE_UPSTREAMS_MAX) {
        make_row(ups, row(ups, n));
        if (rename_row(row(ups, n), name)) {
            atomic_store_explicit(&ups->n_rows, n + 1, memory_order_release);
            return row(ups, n);
        }
    }
    for (unsigned i = 0; i < n; i++)
        if (!is_wanted(row(ups, i)) && rename_row(row(ups, i), name))
            return row(ups, i);
    return NULL;
}

struct fae_upstream *fae_upstream_get(struct fae_upstreams *ups, const char *name, unsigned slot)
{
    struct fae_upstream *up;
    bool died;

    /* Who died inside left a row without a name at worst, and that is found again as such. */
    if (strlen(name) > FAE_UPSTREAM_NAME_MAX || fae_shmutex_lock_within(&ups->lock, LOCK_MS, &died) != FAE_OK)
        return NULL;
    up = fae_upstreams_find(ups, name);
    if (!up)
        up = add(ups, name);
    if (up)
        atomic_fetch_add(&fae_upstream_cell(up, slot)->wants, 1);
    fae_shmutex_unlock(&ups->lock);
    return up;
}

/* What memory that others write says is no reason to stop: never below 0. */
static void one_less(_Atomic uint32_t *n)
{
    uint32_t had = atomic_load(n);

    while (had && !atomic_compare_exchange_weak(n, &had, had - 1))
        ;
}

void fae_upstream_put(struct fae_upstream *up, unsigned slot)
{
    one_less(&fae_upstream_cell(up, slot)->wants);
}

void fae_upstreams_reap(struct fae_upstreams *ups, unsigned slot)
{
    for (unsigned i = 0; i < n_rows(ups); i++) {
        struct fae_upstream *up = row(ups, i);
        struct fae_upstream_cell *cell = fae_upstream_cell(up, slot);

        if (!is_named(up))
            continue;
        fae_breaker_reap(&up->breaker, slot);
#define FAE_UPSTREAM_CLEAR(name, help) FAE_STAT_SET(cell->now.name, 0);
        FAE_UPSTREAM_GAUGES(FAE_UPSTREAM_CLEAR)
#undef FAE_UPSTREAM_CLEAR
        atomic_store(&cell->n_slots, 0);
        atomic_store(&cell->wants, 0);
    }
}

/* ---- slots ---- */

static unsigned slots_of_all(const struct fae_upstream *up)
{
    unsigned n = 0;

    for (unsigned i = 0; i < up->n_workers; i++) {
        unsigned has = atomic_load(&cells_of(up)[i].n_slots);

        n += has ? has : 1;
    }
    return n;
}

bool fae_upstream_slot_take(struct fae_upstream *up, unsigned slot, unsigned max)
{
    struct fae_upstream_cell *cell = fae_upstream_cell(up, slot);

    if (atomic_fetch_add(&cell->n_slots, 1) == 0)
        return true;
    if (slots_of_all(up) <= max)
        return true;
    /* Another who tried at the same moment may have given up for the same reason: then one is free, and asked for again. */
    one_less(&cell->n_slots);
    return false;
}

void fae_upstream_slot_give(struct fae_upstream *up, unsigned slot)
{
    one_less(&fae_upstream_cell(up, slot)->n_slots);
}

/* ---- the breaker ---- */

/* "redis/main/tcp://10.0.0.1:6379" is told as "redis main tcp://10.0.0.1:6379". */
static const char *words(const struct fae_upstream *up, char text[FAE_UPSTREAM_NAME_MAX + 1])
{
    char *at = text;

    memcpy(text, up->name, FAE_UPSTREAM_NAME_MAX + 1);
    for (unsigned i = 0; i < 2 && (at = strchr(at, '/')); i++)
        *at = ' ';
    return text;
}

static void why(const struct fae_breaker *b, char *text, size_t size)
{
    unsigned failed = FAE_STAT_GET(b->why.failed), calls = FAE_STAT_GET(b->why.calls);

    switch ((enum fae_breaker_reason)FAE_STAT_GET(b->why.reason)) {
    case FAE_BREAKER_BY_SHARE:
        snprintf(text, size, "%u of %u calls in %u s failed", failed, calls, FAE_BREAKER_WINDOW_S);
        break;
    case FAE_BREAKER_BY_REFUSALS: snprintf(text, size, "%u connections in a row were refused", failed); break;
    case FAE_BREAKER_BY_PROBE: snprintf(text, size, "it failed when it was tried again"); break;
    case FAE_BREAKER_BY_OPERATOR: snprintf(text, size, "an operator said so"); break;
    }
}

static double seconds(uint64_t from_ms, uint64_t to_ms)
{
    return to_ms > from_ms ? (double)(to_ms - from_ms) / 1000 : 0;
}

static void tell(const struct fae_upstream *up, enum fae_breaker_change change, uint64_t now_ms)
{
    const struct fae_breaker *b = &up->breaker;
    char name[FAE_UPSTREAM_NAME_MAX + 1], text[96] = "";

    switch (change) {
    case FAE_BREAKER_STAYS: break;
    case FAE_BREAKER_OPENS:
        why(b, text, sizeof text);
        FAE_WARN("%s: left alone for %.1f s: %s", words(up, name), seconds(now_ms, FAE_STAT_GET(b->until_ms)), text);
        break;
    case FAE_BREAKER_HALF_OPENS: FAE_INFO("%s: is tried again", words(up, name)); break;
    case FAE_BREAKER_CLOSES:
        FAE_INFO("%s: is fine again after %.1f s", words(up, name), seconds(FAE_STAT_GET(b->left_ms), now_ms));
        break;
    }
}

bool fae_upstream_enter(struct fae_upstream *up, const struct fae_breaker_rule *rule, unsigned slot, uint64_t now_ms,
                        struct fae_permit *permit_out, uint32_t *retry_after_ms_out)
{
    enum fae_breaker_change change;
    bool entered = fae_breaker_enter(&up->breaker, rule, slot, now_ms, permit_out, retry_after_ms_out, &change);

    if (__builtin_expect(!entered, 0))
        FAE_STAT_ADD(fae_upstream_cell(up, slot)->n.rejected, 1);
    if (__builtin_expect(change != FAE_BREAKER_STAYS, 0))
        tell(up, change, now_ms);
    return entered;
}

void fae_upstream_end(struct fae_upstream *up, const struct fae_breaker_rule *rule, unsigned slot,
                      struct fae_permit permit, enum fae_breaker_outcome outcome, uint64_t now_ms)
{
    uint32_t random = 0;
    enum fae_breaker_change change;

    FAE_ASSERT(slot < up->n_workers);
    if (__builtin_expect(outcome != FAE_BREAKER_OK, 0))
        random = (uint32_t)((fae_now_ns() + slot) * 0x9e3779b97f4a7c15u >> 32);
    change = fae_breaker_end(&up->breaker, rule, window_of(up), up->n_workers, slot, permit, outcome, now_ms, random);
    if (__builtin_expect(change != FAE_BREAKER_STAYS, 0))
        tell(up, change, now_ms);
}

void fae_upstream_reached(struct fae_upstream *up, uint64_t now_ms)
{
    tell(up, fae_breaker_reached(&up->breaker, now_ms), now_ms);
}

void fae_upstream_window(const struct fae_upstream *up, uint64_t now_ms, uint32_t *n_calls_out, uint32_t *n_failed_out)
{
    fae_breaker_window(&up->breaker, window_of(up), up->n_workers, now_ms, n_calls_out, n_failed_out);
}

void fae_upstream_why(const struct fae_upstream *up, char *text, size_t size)
{
    why(&up->breaker, text, size);
}

bool fae_upstream_force_as(struct fae_upstream *up, enum fae_breaker_mode mode, const char *who, uint64_t now_ms)
{
    static const char *const said[] = {
        [FAE_BREAKER_AUTO] = "left to itself again",
        [FAE_BREAKER_FORCED_OPEN] = "left alone",
        [FAE_BREAKER_FORCED_CLOSED] = "called whatever happens",
    };
    char name[FAE_UPSTREAM_NAME_MAX + 1];

    fae_breaker_force(&up->breaker, mode, now_ms);
    if (atomic_load(&up->breaker.mode) != mode)
        return false;
    FAE_WARN("%s: %s: %s said so", words(up, name), said[mode], who);
    return true;
}

void fae_upstream_force(struct fae_upstream *up, enum fae_breaker_mode mode, uint64_t now_ms)
{
    fae_upstream_force_as(up, mode, "an operator", now_ms);
}
