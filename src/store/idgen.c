/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The word and its rules. `step` is all of them; the rest reads the clock and swaps.
 */
#include "store/idgen.h"

#include <time.h>

#include "base/assert.h"
#include "base/config.h"
#include "base/hist.h"
#include "base/mailbox.h"
#include "store/marks.h"

#define SEQ_BITS 12
#define NODE_SHIFT 12
#define TAG_SHIFT 17
#define TIME_SHIFT 22
#define TIME_MAX (UINT64_C(1) << 41) /* milliseconds that a layout reaches */
#define FAE_EPOCH_MS UINT64_C(1388834974657)
#define SNOWFLAKE_EPOCH_MS UINT64_C(1288834974657)
/* Reserved at a time. After a crash the next node waits for what is left of it; half of it is left when more is wanted,
 * so that a disk may take that long before a steady stream has to wait. */
#define BLOCK_MS 1000u

_Static_assert(1u << SEQ_BITS == FAE_IDS_PER_MS, "the number in a millisecond has its bits");

size_t fae_ids_size(const void *unused)
{
    (void)unused;
    return sizeof(struct fae_ids);
}

void fae_ids_init(void *mem, const void *unused)
{
    (void)mem;
    (void)unused;
}

void fae_ids_open(const struct fae_stores *stores, const struct fae_config *config)
{
    struct fae_ids *ids = stores->ids;
    uint64_t began_ms = stores->marks->began[FAE_MARK_ID_MS];
    bool snowflake = config->id_layout != 0;

    ids->epoch_ms = snowflake ? SNOWFLAKE_EPOCH_MS : FAE_EPOCH_MS;
    ids->node = (uint32_t)config->node_id;
    ids->node_max = snowflake ? 1023 : FAE_NODE_ID_MAX;
    ids->tag_max = snowflake ? 0 : 31;
    FAE_ASSERT(ids->node <= ids->node_max);
    atomic_store(&ids->last, began_ms ? (began_ms << SEQ_BITS) - 1 : 0);
}

void fae_ids_close(const struct fae_stores *stores)
{
    uint64_t last = atomic_load(&stores->ids->last);

    fae_marks_settle(stores->marks, FAE_MARK_ID_MS, last ? (last >> SEQ_BITS) + 1 : 0);
}

struct fae_ids_cell *fae_ids_cell(const struct fae_stores *stores)
{
    return &stores->ids->cells[stores->mail->me];
}

/* ---- the layout ---- */

static int64_t join(const struct fae_ids *ids, uint64_t ms, uint32_t tag, uint32_t seq)
{
    return (int64_t)((ms - ids->epoch_ms) << TIME_SHIFT | (uint64_t)tag << TAG_SHIFT |
                     (uint64_t)ids->node << NODE_SHIFT | seq);
}

int64_t fae_ids_join(const struct fae_ids *ids, const struct fae_id_parts *parts)
{
    FAE_ASSERT(parts->ms > ids->epoch_ms);
    FAE_ASSERT(parts->ms - ids->epoch_ms < TIME_MAX);
    FAE_ASSERT(parts->tag <= ids->tag_max);
    return (join(ids, parts->ms, parts->tag, parts->seq) & ~((int64_t)ids->node_max << NODE_SHIFT)) |
           (int64_t)parts->node << NODE_SHIFT;
}

bool fae_ids_split(const struct fae_ids *ids, int64_t id, struct fae_id_parts *parts_out)
{
    uint64_t bits = (uint64_t)id;

    if (id < INT64_C(1) << TIME_SHIFT)
        return false;
    parts_out->ms = (bits >> TIME_SHIFT) + ids->epoch_ms;
    parts_out->tag = (uint32_t)(bits >> TAG_SHIFT) & ids->tag_max;
    parts_out->node = (uint32_t)(bits >> NODE_SHIFT) & ids->node_max;
    parts_out->seq = (uint32_t)bits & (FAE_IDS_PER_MS - 1);
    return true;
}

/* ---- the word ---- */

/* What becomes of the word when up to n ids are wanted at that time. READY: *next_out and how many there are. */
static enum fae_id_verdict step(uint64_t last, uint64_t now_ms, uint64_t epoch_ms, uint64_t reserved_ms, uint32_t n,
                                uint64_t *next_out, uint32_t *n_out)
{
    uint64_t last_ms = last >> SEQ_BITS;
    uint32_t room = FAE_IDS_PER_MS;

    if (now_ms < last_ms)
        return FAE_ID_BACK;
    if (now_ms <= epoch_ms || now_ms - epoch_ms >= TIME_MAX)
        return FAE_ID_RANGE;
    if (now_ms == last_ms)
        room = FAE_IDS_PER_MS - 1 - (uint32_t)(last & (FAE_IDS_PER_MS - 1));
    if (room == 0)
        return FAE_ID_FULL;
    if (now_ms >= reserved_ms)
        return FAE_ID_DISK;
    *n_out = n < room ? n : room;
    *next_out = (now_ms == last_ms ? last : (now_ms << SEQ_BITS) - 1) + *n_out;
    return FAE_ID_READY;
}

static void want_more(const struct fae_stores *stores, uint64_t now_ms)
{
    /* What is wanted, not what is reserved: else everyone would ask while the disk is at it. */
    if (now_ms + BLOCK_MS / 2 > FAE_STAT_GET(stores->marks->rows[FAE_MARK_ID_MS].wanted))
        fae_marks_want(stores, FAE_MARK_ID_MS, now_ms + BLOCK_MS);
}

int64_t fae_ids_next_run_at(const struct fae_stores *stores, fae_id_clock_fn clock, uint32_t tag, uint32_t n,
                            uint32_t *n_out)
{
    struct fae_ids *ids = stores->ids;
    uint64_t last = atomic_load_explicit(&ids->last, memory_order_acquire), next, now_ms;
    struct fae_ids_cell *cell;

    FAE_ASSERT(n > 0);
    FAE_ASSERT(tag <= ids->tag_max);
    do {
        /* The clock after the word: what another process gave meanwhile would look like a clock that was set back. */
        now_ms = clock(NULL);
        if (step(last, now_ms, ids->epoch_ms, fae_marks_reserved(stores->marks, FAE_MARK_ID_MS), n, &next, n_out) !=
            FAE_ID_READY)
            return 0;
    } while (
        !atomic_compare_exchange_weak_explicit(&ids->last, &last, next, memory_order_acq_rel, memory_order_acquire));
    want_more(stores, now_ms);
    cell = fae_ids_cell(stores);
    FAE_STAT_ADD(cell->n_made, *n_out);
    return join(ids, now_ms, tag, (uint32_t)(next & (FAE_IDS_PER_MS - 1)) + 1 - *n_out);
}

void fae_ids_look_at(const struct fae_stores *stores, fae_id_clock_fn clock, struct fae_id_wait *wait_out)
{
    const struct fae_ids *ids = stores->ids;
    uint64_t last = atomic_load_explicit(&ids->last, memory_order_acquire), next;
    uint32_t ns, n;
    uint64_t now_ms = clock(&ns);

    *wait_out = (struct fae_id_wait){ 0 };
    wait_out->verdict =
        step(last, now_ms, ids->epoch_ms, fae_marks_reserved(stores->marks, FAE_MARK_ID_MS), 1, &next, &n);
    if (wait_out->verdict == FAE_ID_FULL)
        wait_out->wait_ns = 1000000 - ns;
    if (wait_out->verdict == FAE_ID_BACK)
        wait_out->wait_ns = ((last >> SEQ_BITS) - now_ms) * 1000000 - ns;
    if (wait_out->verdict == FAE_ID_DISK) {
        wait_out->error = (enum fae_err)FAE_STAT_GET(stores->marks->error);
        want_more(stores, now_ms);
    }
}

/* ---- by the system's clock ---- */

static uint64_t wall(uint32_t *ns_out)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    if (ns_out)
        *ns_out = (uint32_t)(ts.tv_nsec % 1000000);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int64_t fae_ids_next(const struct fae_stores *stores, uint32_t tag)
{
    uint32_t n;

    return fae_ids_next_run_at(stores, wall, tag, 1, &n);
}

int64_t fae_ids_next_run(const struct fae_stores *stores, uint32_t tag, uint32_t n, uint32_t *n_out)
{
    return fae_ids_next_run_at(stores, wall, tag, n, n_out);
}

void fae_ids_look(const struct fae_stores *stores, struct fae_id_wait *wait_out)
{
    fae_ids_look_at(stores, wall, wait_out);
}

/* ---- counters ---- */

void fae_ids_stats(const struct fae_stores *stores, fae_store_stat_fn tell, void *arg)
{
    uint64_t n_made = 0, n_waits[FAE_ID_BACK + 1] = { 0 }, n_back = 0;

    for (unsigned i = 0; i < FAE_SLOTS_MAX; i++) {
        const struct fae_ids_cell *cell = &stores->ids->cells[i];

        n_made += FAE_STAT_GET(cell->n_made);
        n_back += FAE_STAT_GET(cell->n_back);
        for (unsigned v = FAE_ID_FULL; v <= FAE_ID_BACK; v++)
            n_waits[v] += FAE_STAT_GET(cell->n_waits[v]);
    }
    tell(arg, "ids_made_total", "Ids that were made.", true, n_made);
    tell(arg, "ids_waits_next_total", "Times a call for ids waited for the next millisecond.", true,
         n_waits[FAE_ID_FULL]);
    tell(arg, "ids_waits_disk_total", "Times a call for ids waited for the disk.", true, n_waits[FAE_ID_DISK]);
    tell(arg, "ids_waits_clock_total", "Times a call for ids waited for a clock that was set back.", true,
         n_waits[FAE_ID_BACK]);
    tell(arg, "ids_clock_back_total", "Calls for ids that were refused because the clock was set back.", true, n_back);
}
