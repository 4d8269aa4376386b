/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One breaker in memory that is shared, as workers have it, and a clock that tests move.
 */
#ifndef FAE_UNIT_BREAKER_H
#define FAE_UNIT_BREAKER_H

#include "unit.h"

#include <sys/mman.h>

#include "backend/breaker.h"

#define WORKERS 3u

static const struct fae_breaker_rule rule = { .percent = 50, .calls = 20, .refusals = 5, .open_ms = 5000 };

struct shared {
    struct fae_breaker breaker;
    _Alignas(64) struct fae_breaker_cell cells[WORKERS];
    _Atomic unsigned n_entered;
};

static struct shared *s;
static uint64_t now;

UNIT_FN int set_up(void **state)
{
    (void)state;
    s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return -1;
    fae_breaker_init(&s->breaker);
    now = 1000000;
    return 0;
}

UNIT_FN int tear_down(void **state)
{
    (void)state;
    return munmap(s, sizeof *s);
}

UNIT_FN enum fae_breaker_change end_as(unsigned slot, struct fae_permit permit, enum fae_breaker_outcome outcome)
{
    return fae_breaker_end(&s->breaker, &rule, s->cells, WORKERS, slot, permit, outcome, now, 0);
}

UNIT_FN bool enter_as(unsigned slot, struct fae_permit *permit, uint32_t *retry_ms, enum fae_breaker_change *change)
{
    *retry_ms = 0;
    return fae_breaker_enter(&s->breaker, &rule, slot, now, permit, retry_ms, change);
}

UNIT_FN bool enter(struct fae_permit *permit)
{
    enum fae_breaker_change change;
    uint32_t retry_ms;

    return enter_as(0, permit, &retry_ms, &change);
}

/* One call from its start to its end. */
UNIT_FN enum fae_breaker_change call(unsigned slot, enum fae_breaker_outcome outcome)
{
    enum fae_breaker_change change;
    struct fae_permit permit;
    uint32_t retry_ms;

    assert_true(enter_as(slot, &permit, &retry_ms, &change));
    return end_as(slot, permit, outcome);
}

UNIT_FN void open_it(void)
{
    for (unsigned i = 0; i < rule.refusals; i++)
        end_as(0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED);
    assert_int_equal(s->breaker.state, FAE_BREAKER_OPEN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
