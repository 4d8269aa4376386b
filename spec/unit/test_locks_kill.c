/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Processes killed inside the lock table: at each instruction of an operation by single steps, and at random under
 * load. A lock is never anybody's twice, none is forgotten, and the lists are whole again.
 * FAE_LONG=1: every instruction, and half a minute of load.
 */
#include <poll.h>
#include <sys/ptrace.h>

#include "base/clock.h"
#include "base/sanitize.h"
#include "unit_locks.h"

#define SANITIZED (FAE_ASAN || FAE_TSAN)

static bool is_long(void)
{
    const char *text = getenv("FAE_LONG");

    return text && strcmp(text, "1") == 0;
}

/* ---- at every instruction ---- */

/* "k": held by slot 1, waited for by slot 2. "mine": held by the victim. The victim, slot 0, waits for "theirs". */
struct scene {
    struct unit_locks u;
    struct fae_lock_ask holder, waiter, victim, theirs, mine;
    struct fae_lock_place waits, wants;
};

static struct fae_lock_info said;
static struct fae_lock_place nowhere;

static void set_scene(struct scene *s)
{
    unit_locks_open(&s->u, 64);
    s->holder = unit_ask(&s->u, "k", 10000, 1);
    s->waiter = unit_ask(&s->u, "k", 10000, 2);
    s->waiter.waits = true;
    s->theirs = unit_ask(&s->u, "theirs", 10000, 1);
    s->victim = unit_ask(&s->u, "theirs", 10000, 0);
    s->victim.waits = true;
    s->mine = unit_ask(&s->u, "mine", 10000, 0);
    assert_int_equal(fae_lock_acquire(&s->u.stores, 1, &s->holder, &nowhere, &said), FAE_OK);
    assert_int_equal(fae_lock_acquire(&s->u.stores, 1, &s->waiter, &s->waits, &said), FAE_MORE);
    assert_int_equal(fae_lock_acquire(&s->u.stores, 1, &s->theirs, &nowhere, &said), FAE_OK);
    assert_int_equal(fae_lock_acquire(&s->u.stores, 1, &s->victim, &s->wants, &said), FAE_MORE);
    assert_int_equal(fae_lock_acquire(&s->u.stores, 1, &s->mine, &nowhere, &said), FAE_OK);
}

/* What the victim does while it is killed. */
static void releases_to_a_waiter(struct scene *s)
{
    fae_lock_release(&s->u.stores, 2, "k", 1, s->holder.token);
}

static void gives_up(struct scene *s)
{
    fae_lock_leave(&s->u.stores, 2, &s->wants, &said);
}

static void takes_and_releases(struct scene *s)
{
    struct fae_lock_ask ask = unit_ask(&s->u, "new", 10000, 0);

    ask.bound = true;
    fae_lock_acquire(&s->u.stores, 2, &ask, &nowhere, &said);
    fae_lock_release(&s->u.stores, 2, "mine", 4, s->mine.token);
}

static void queues_behind(struct scene *s)
{
    struct fae_lock_ask ask = unit_ask(&s->u, "k", 10000, 0);

    ask.waits = true;
    fae_lock_acquire(&s->u.stores, 2, &ask, &nowhere, &said);
    fae_lock_renew(&s->u.stores, 2, "mine", 4, s->mine.token, 20000);
    fae_locks_sweep(&s->u.stores, 2);
}

/* Runs the victim for so many instructions, and kills it. True: it came to its end before. */
static bool kill_after(struct scene *s, void (*act)(struct scene *), unsigned n)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        act(s);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (unsigned i = 0; i < n && WIFSTOPPED(status); i++) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    if (!WIFSTOPPED(status))
        return true;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return false;
}

static bool has(struct scene *s, const struct fae_lock_ask *ask)
{
    return fae_lock_renew(&s->u.stores, 3, ask->key, ask->key_len, ask->token, 0) == FAE_OK;
}

/* Whatever it did or did not do: each lock has one owner, and those who may have it get it. */
static void look_round(struct scene *s, bool ended)
{
    struct fae_lock_ask late = unit_ask(&s->u, "k", 10000, 3), again = unit_ask(&s->u, "mine", 10000, 3);
    bool holder, waiter, mine, held;
    enum fae_err err;

    if (!ended)
        unit_replace(&s->u, 0);
    unit_locks_check(&s->u);
    holder = has(s, &s->holder);
    err = fae_lock_look(&s->u.stores, 3, &s->waits, &held, &said);
    waiter = err == FAE_OK;
    assert_true(waiter || err == FAE_MORE);
    assert_true(holder != waiter);
    assert_int_equal(fae_lock_acquire(&s->u.stores, 3, &late, &nowhere, &said), FAE_LOCKED);
    assert_true(has(s, &s->theirs));
    mine = has(s, &s->mine);
    assert_int_equal(fae_lock_acquire(&s->u.stores, 3, &again, &nowhere, &said), mine ? FAE_LOCKED : FAE_OK);
    if (holder)
        assert_int_equal(fae_lock_release(&s->u.stores, 4, "k", 1, s->holder.token), FAE_OK);
    if (holder)
        assert_int_equal(fae_lock_look(&s->u.stores, 4, &s->waits, &held, &said), FAE_OK);
    assert_int_equal(fae_lock_release(&s->u.stores, 4, "k", 1, s->waiter.token), FAE_OK);
    assert_int_equal(fae_lock_release(&s->u.stores, 4, "theirs", 6, s->theirs.token), FAE_OK);
    if (!ended) { /* nobody waits any more: those of the victim are skipped */
        assert_int_equal(fae_lock_info(&s->u.stores, 4, "theirs", 6, &said), FAE_NOT_FOUND);
        assert_int_equal(fae_lock_info(&s->u.stores, 4, "new", 3, &said), FAE_NOT_FOUND);
    }
    for (unsigned i = 0; i < 3; i++)
        fae_locks_sweep(&s->u.stores, 30000);
    assert_int_equal(fae_locks_n_held(&s->u.stores), 0);
    unit_locks_check(&s->u);
}

static void survives_a_kill_at_any_instruction(void **state)
{
    static void (*const acts[])(struct scene *) = { releases_to_a_waiter, gives_up, takes_and_releases, queues_behind };
    unsigned n_kills = 0, n_repairs = 0, step;
    uint64_t random = 88172645463325252ull;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(acts); i++) {
        bool ended = false;

        for (unsigned n = 0; !ended; n += step) {
            struct scene s;

            step = is_long() ? 1 : 1 + (unsigned)(unit_random(&random) % 40);
            if (SANITIZED) /* whose operations are long */
                step = 1 + n / 2;
            set_scene(&s);
            ended = kill_after(&s, acts[i], n);
            look_round(&s, ended);
            n_kills += !ended;
            n_repairs += (unsigned)fae_locks_shard(s.u.stores.locks, 0)->counts[FAE_LOCKS_REPAIRS];
            unit_locks_close(&s.u);
        }
    }
    print_message("killed at %u instructions, %u of them inside\n", n_kills, n_repairs);
    assert_true(n_kills > (SANITIZED ? 8 : 40));
    assert_true(n_repairs > (SANITIZED ? 1 : 10));
}

/* ---- under load ---- */

#define PROCESSES UNIT_SLOTS
#define KEYS 16u
#define GRANTS (1u << 22)

/* A lock as its holder saw it, by fencing number. */
struct grant {
    _Atomic uint32_t there;
    uint32_t key, slot, incarnation;
    bool bound;
    uint64_t got_ms;
    _Atomic uint64_t end_ms; /* of its lease, or of its release */
};

struct load {
    struct unit_locks u;
    struct grant *grants;
    _Atomic uint64_t dead_ms[UNIT_SLOTS][4096]; /* when an incarnation was killed; 0: it was not */
    uint64_t seed;
};

struct player {
    struct load *load;
    unsigned slot;
    uint64_t random;
};

static bool note(struct player *p, unsigned key, const struct fae_lock_ask *ask, uint64_t now_ms, uint64_t end_ms)
{
    struct grant *g = &p->load->grants[said.fence % GRANTS];

    if (said.fence >= GRANTS || atomic_load(&g->there))
        return false; /* a number that was given twice */
    g->key = key;
    g->slot = ask->slot;
    g->incarnation = ask->incarnation;
    g->bound = ask->bound;
    g->got_ms = now_ms;
    atomic_store(&g->end_ms, end_ms);
    atomic_store(&g->there, 1);
    return true;
}

static void let_go(struct player *p, const struct fae_lock_ask *ask, uint64_t fence)
{
    struct grant *g = &p->load->grants[fence % GRANTS];
    uint64_t now_ms = fae_lock_now_ms();

    if (now_ms < atomic_load(&g->end_ms))
        atomic_store(&g->end_ms, now_ms);
    fae_lock_release(&p->load->u.stores, now_ms, ask->key, ask->key_len, ask->token);
}

/* Waits for a while. OK: it has the lock, and its lease began then. */
static enum fae_err await(struct player *p, const struct fae_lock_place *place, uint64_t *then_ms_out)
{
    struct fae_stores *stores = &p->load->u.stores;
    uint64_t until_ms = fae_lock_now_ms() + unit_random(&p->random) % 2;
    bool held;

    while (fae_lock_now_ms() <= until_ms) {
        if (fae_lock_stirs(stores, fae_lock_now_ms(), place)) {
            enum fae_err err;

            *then_ms_out = fae_lock_now_ms();
            err = fae_lock_look(stores, *then_ms_out, place, &held, &said);
            if (err != FAE_MORE)
                return err;
        }
        sched_yield();
    }
    fae_lock_leave(stores, fae_lock_now_ms(), place, &said);
    return FAE_TIMEOUT;
}

static bool play_once(struct player *p)
{
    static const char keys[KEYS][2] = {
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"
    };
    struct fae_stores *stores = &p->load->u.stores;
    unsigned k = (unsigned)(unit_random(&p->random) % KEYS);
    struct fae_lock_ask ask = unit_ask(&p->load->u, keys[k], 1 + unit_random(&p->random) % 8, p->slot);
    struct fae_lock_place place;
    uint64_t now_ms, fence;
    enum fae_err err;

    ask.bound = unit_random(&p->random) % 2;
    ask.waits = unit_random(&p->random) % 4 == 0;
    now_ms = fae_lock_now_ms();
    err = fae_lock_acquire(stores, now_ms, &ask, &place, &said);
    if (err == FAE_MORE) {
        err = await(p, &place, &now_ms);
        if (err == FAE_OK && said.left_ms > ask.lease_ms)
            return false;
    }
    if (err)
        return err == FAE_LOCKED || err == FAE_TIMEOUT || err == FAE_NOT_FOUND;
    fence = said.fence;
    if (!note(p, k, &ask, fae_lock_now_ms(), now_ms + ask.lease_ms))
        return false;
    if (unit_random(&p->random) % 16 == 0)
        sched_yield();
    if (unit_random(&p->random) % 256)
        let_go(p, &ask, fence);
    return true;
}

static int play(void *arg)
{
    struct player *p = arg;

    while (play_once(p))
        ;
    return 1;
}

static pid_t start(struct load *load, struct player *p, unsigned slot)
{
    *p = (struct player){ load, slot, load->seed = load->seed * 6364136223846793005ull + 1442695040888963407ull };
    p->random |= 1;
    return unit_fork(play, p);
}

/* Kills it; nobody takes it for dead before that is written down. */
static void end(struct load *load, unsigned slot, pid_t pid)
{
    uint32_t incarnation = load->u.stores.slots->slots[slot].incarnation;

    kill(pid, SIGKILL);
    assert_int_equal(unit_wait(pid), -SIGKILL); /* it found nothing wrong itself */
    if (incarnation < 4096)
        load->dead_ms[slot][incarnation] = fae_lock_now_ms();
    unit_replace(&load->u, slot);
}

/* The end of a grant as far as anybody must respect it. */
static uint64_t end_of(const struct load *load, const struct grant *g)
{
    uint64_t end_ms = g->end_ms, dead_ms = g->incarnation < 4096 ? load->dead_ms[g->slot][g->incarnation] : 0;

    return g->bound && dead_ms && dead_ms < end_ms ? dead_ms : end_ms;
}

static void check_grants(struct load *load, unsigned *n_out)
{
    const struct grant *last[KEYS] = { NULL };
    unsigned n_wrong = 0;

    for (unsigned i = 0; i < GRANTS; i++) {
        const struct grant *g = &load->grants[i];

        if (!g->there)
            continue;
        ++*n_out;
        if (last[g->key] && g->got_ms < end_of(load, last[g->key])) {
            const struct grant *b = last[g->key];

            print_message("lock %u: number %u at %llu ms by %u.%u; number %u at %llu ms by %u.%u%s ends at %llu ms\n",
                          g->key, i, (unsigned long long)g->got_ms, g->slot, g->incarnation,
                          (unsigned)(b - load->grants), (unsigned long long)b->got_ms, b->slot, b->incarnation,
                          b->bound ? " (bound)" : "", (unsigned long long)end_of(load, b));
            n_wrong++;
        }
        last[g->key] = g;
    }
    assert_int_equal(n_wrong, 0);
}

static void nobody_has_it_twice_under_kills(void **state)
{
    unsigned ms = is_long() ? 30000 : 1500, n_grants = 0, n_kills = 0;
    struct load *load = unit_region(sizeof *load);
    struct player *players = unit_region(PROCESSES * sizeof *players);
    uint64_t random = 88172645463325252ull, until_ms;
    pid_t pids[PROCESSES];

    (void)state;
    unit_locks_open(&load->u, 64);
    load->grants = unit_region(GRANTS * sizeof *load->grants);
    load->seed = 1;
    for (unsigned i = 0; i < PROCESSES; i++)
        pids[i] = start(load, &players[i], i);
    until_ms = fae_now_ms() + ms;
    while (fae_now_ms() < until_ms && atomic_load(&load->u.stores.locks->next_fence) < GRANTS - 10000) {
        unsigned slot = (unsigned)(unit_random(&random) % PROCESSES);

        unit_sleep_ms((unsigned)(unit_random(&random) % (is_long() ? 20 : 4)));
        end(load, slot, pids[slot]);
        pids[slot] = start(load, &players[slot], slot);
        n_kills++;
    }
    for (unsigned i = 0; i < PROCESSES; i++)
        end(load, i, pids[i]);
    unit_locks_check(&load->u);
    check_grants(load, &n_grants);
    for (unsigned i = 0; i < 4; i++)
        fae_locks_sweep(&load->u.stores, fae_lock_now_ms() + 60000);
    assert_int_equal(fae_locks_n_held(&load->u.stores), 0);
    unit_locks_check(&load->u);
    print_message("%u kills, %u repairs, %u grants\n", n_kills,
                  (unsigned)fae_locks_shard(load->u.stores.locks, 0)->counts[FAE_LOCKS_REPAIRS], n_grants);
    assert_true(n_grants > 1000);
    munmap(load->grants, GRANTS * sizeof *load->grants);
    unit_locks_close(&load->u);
    munmap(players, PROCESSES * sizeof *players);
    munmap(load, sizeof *load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_a_kill_at_any_instruction),
        cmocka_unit_test(nobody_has_it_twice_under_kills),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
