/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The ring of slow calls, and their entries as JSON.
 *
 * Ticket t goes to cell t % n. A cell's seq is 2t+1 while the writer with ticket t copies into it and 2t+2 when that
 * one is whole. A cell that its writer left in the middle is taken over by the next one that comes to it; should the
 * old one go on after all (it was stopped), the sum over the bytes no longer fits and nobody shows the cell.
 */
#include "rpc/slowlog.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"

/* After the numbers come the texts, each ended by a NUL, in the order of `texts`. */
struct entry {
    uint64_t sum; /* over what follows */
    uint64_t ticket, at_ms;
    uint64_t total_us, queue_us, run_us;
    uint32_t slot, generation;
    uint32_t sampled, n_text;
    char text[FAE_SLOWLOG_TEXT * 6 + FAE_SLOWLOG_ARGS_MAX];
};

#define ENTRY_WORDS (sizeof(struct entry) / 8)
_Static_assert(sizeof(struct entry) % 8 == 0, "entries are copied by words");

struct cell {
    _Atomic uint64_t seq;
    _Atomic uint64_t words[ENTRY_WORDS];
};

struct fae_slowlog {
    uint64_t n_cells;
    _Atomic uint64_t next;    /* ticket */
    _Atomic uint64_t cleared; /* tickets below are forgotten */
    _Alignas(64) struct cell cells[];
};

size_t fae_slowlog_size(const void *config)
{
    return sizeof(struct fae_slowlog) + ((const struct fae_config *)config)->slowlog_size * sizeof(struct cell);
}

void fae_slowlog_init(void *mem, const void *config)
{
    struct fae_slowlog *log = mem;

    log->n_cells = ((const struct fae_config *)config)->slowlog_size;
    FAE_ASSERT(log->n_cells > 0);
}

/* ---- cells ---- */

/* Bytes that the sum covers. */
static size_t covered(const struct entry *e)
{
    return offsetof(struct entry, text) + e->n_text - sizeof e->sum;
}

static uint64_t sum_of(const struct entry *e)
{
    return XXH3_64bits(&e->ticket, covered(e));
}

static size_t words_of(const struct entry *e)
{
    return (covered(e) + sizeof e->sum + 7) / 8;
}

/* Takes the cell for the ticket; false when a later one has it. */
static bool claim(struct cell *cell, uint64_t ticket)
{
    uint64_t seq = atomic_load_explicit(&cell->seq, memory_order_relaxed);

    while (seq < 2 * ticket + 1)
        if (atomic_compare_exchange_weak_explicit(&cell->seq, &seq, 2 * ticket + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static void put(struct fae_slowlog *log, struct entry *e)
{
    uint64_t ticket = atomic_fetch_add_explicit(&log->next, 1, memory_order_relaxed), seq = 2 * ticket + 1;
    struct cell *cell = &log->cells[ticket % log->n_cells];
    size_t n;

    e->ticket = ticket;
    e->sum = sum_of(e);
    if (!claim(cell, ticket))
        return;
    atomic_thread_fence(memory_order_release); /* the claim is seen before any of the words */
    n = words_of(e);
    for (size_t i = 0; i < n; i++) {
        uint64_t word;

        memcpy(&word, (const char *)e + 8 * i, 8);
        atomic_store_explicit(&cell->words[i], word, memory_order_relaxed);
    }
    atomic_compare_exchange_strong_explicit(&cell->seq, &seq, 2 * ticket + 2, memory_order_release,
                                            memory_order_relaxed);
}

/* A copy of the whole entry of that ticket; false when there is none (any more). */
static bool get(const struct fae_slowlog *log, uint64_t ticket, struct entry *e)
{
    const struct cell *cell = &log->cells[ticket % log->n_cells];

    if (atomic_load_explicit(&cell->seq, memory_order_acquire) != 2 * ticket + 2)
        return false;
    for (size_t i = 0; i < ENTRY_WORDS; i++) {
        uint64_t word = atomic_load_explicit(&cell->words[i], memory_order_relaxed);

        memcpy((char *)e + 8 * i, &word, 8);
    }
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&cell->seq, memory_order_relaxed) == 2 * ticket + 2 && e->ticket == ticket &&
           e->n_text <= sizeof e->text && e->sum == sum_of(e);
}

uint64_t fae_slowlog_total(const struct fae_slowlog *log)
{
    return atomic_load_explicit(&log->next, memory_order_relaxed);
}

void fae_slowlog_clear(struct fae_slowlog *log)
{
    atomic_store_explicit(&log->cleared, fae_slowlog_total(log), memory_order_relaxed);
}

/* ---- entries ---- */

/* The texts of an entry, in their order: what JSON calls them. */
static const char *const texts[] = { "method", "code", "peer", "rid", "reason", "uid", "args" };

#define N_TEXTS (sizeof texts / sizeof *texts)
#define ARGS (N_TEXTS - 1)

static void add_text(struct entry *e, const char *text, size_t len, size_t max)
{
    if (len >= max)
        len = max - 1;
    FAE_ASSERT(e->n_text + len < sizeof e->text);
    if (len)
        memcpy(e->text + e->n_text, text, len);
    e->n_text += (uint32_t)len;
    e->text[e->n_text++] = '\0';
}

void fae_slowlog_add(struct fae_slowlog *log, const struct fae_slow_call *call, const char *secrets, size_t args_max)
{
    const char *const values[ARGS] = { call->method, call->code, call->peer, call->rid, call->reason, call->uid };
    struct entry e = { 0 };
    struct fae_buf args = { 0 };

    e.at_ms = call->at_ms;
    e.total_us = call->total_us;
    e.queue_us = call->queue_us;
    e.run_us = call->run_us;
    e.slot = call->slot;
    e.generation = call->generation;
    e.sampled = call->sampled;
    for (size_t i = 0; i < ARGS; i++)
        add_text(&e, values[i], strlen(values[i]), FAE_SLOWLOG_TEXT);
    if (call->params && args_max)
        fae_slowlog_args(call->params, call->params_len, secrets,
                         args_max < FAE_SLOWLOG_ARGS_MAX ? args_max : FAE_SLOWLOG_ARGS_MAX - 1, &args);
    add_text(&e, (const char *)args.data, args.len, FAE_SLOWLOG_ARGS_MAX);
    fae_buf_fini(&args);
    put(log, &e);
}

static void add_us(struct fae_buf *out, const char *key, uint64_t us)
{
    fae_buf_printf(out, ",\"%s\":%" PRIu64 ".%03u", key, us / 1000, (unsigned)(us % 1000));
}

static void add_json(const struct entry *e, struct fae_buf *out)
{
    const char *text = e->text, *end = e->text + e->n_text;
    uint64_t done_us = e->queue_us + e->run_us;

    fae_buf_printf(out, "{\"id\":%" PRIu64 ",\"at_ms\":%" PRIu64, e->ticket, e->at_ms);
    for (size_t i = 0; i < N_TEXTS && text < end; i++) {
        size_t len = strnlen(text, (size_t)(end - text));

        if (len || i == 0) {
            fae_buf_printf(out, ",\"%s\":", texts[i]);
            fae_buf_json(out, text, len);
        }
        text += len + 1;
    }
    add_us(out, "total_ms", e->total_us);
    add_us(out, "queue_ms", e->queue_us);
    add_us(out, "run_ms", e->run_us);
    add_us(out, "wait_ms", e->total_us > done_us ? e->total_us - done_us : 0);
    fae_buf_printf(out, ",\"worker\":%" PRIu32 ",\"generation\":%" PRIu32 ",\"sampled\":%s}\n", e->slot, e->generation,
                   e->sampled ? "true" : "false");
}

unsigned fae_slowlog_json(const struct fae_slowlog *log, unsigned n, struct fae_buf *out)
{
    uint64_t end = fae_slowlog_total(log), from = atomic_load_explicit(&log->cleared, memory_order_relaxed);
    unsigned n_put = 0;
    struct entry e;

    if (end > log->n_cells && from < end - log->n_cells)
        from = end - log->n_cells;
    for (uint64_t ticket = end; ticket > from && n_put < n; ticket--)
        if (get(log, ticket - 1, &e)) {
            add_json(&e, out);
            n_put++;
        }
    return n_put;
}
