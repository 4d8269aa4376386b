/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/offload: every job comes back exactly once, in time, whether it ran, was cancelled at any moment or its lane
 * ended; a stuck thread holds up nobody.
 */
#include "unit.h"

#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "backend/offload.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "proc/seccomp.h"

static struct {
    struct fae_loop loop;
    struct fae_lane *lane;
    sem_t go;                 /* a job that blocks waits for it */
    _Atomic unsigned n_began; /* jobs that began to run */
    _Atomic unsigned n_dropped, n_opened, n_closed, n_released;
    _Atomic unsigned n_batches, largest;
    unsigned n_done, n_ok, n_timeout, n_closed_err;
    unsigned want;            /* n_done at which the loop stops */
    _Atomic unsigned n_lanes; /* that were made */
    bool free_inside;
} t;

struct task {
    struct fae_job job;
    bool blocks;
    _Atomic unsigned n_ran;
    unsigned *told; /* counts what became of it; each job has its own */
    struct task *cancels;
};

static void note(struct task *task)
{
    if (task->told)
        ++*task->told;
}

static void on_done(struct fae_job *job, enum fae_err err)
{
    struct task *task = FAE_CONTAINER(job, struct task, job);
    bool ran = atomic_load(&task->n_ran) == 1;

    assert_true(ran == (err == FAE_OK));
    t.n_done++;
    t.n_ok += err == FAE_OK;
    t.n_timeout += err == FAE_TIMEOUT;
    t.n_closed_err += err == FAE_CLOSED;
    note(task);
    if (task->cancels)
        fae_lane_cancel(t.lane, &task->cancels->job);
    free(task);
    if (t.free_inside) {
        t.free_inside = false;
        fae_lane_free(&t.lane);
    }
}

static void on_drop(struct fae_job *job)
{
    struct task *task = FAE_CONTAINER(job, struct task, job);

    note(task);
    free(task);
    atomic_fetch_add(&t.n_dropped, 1);
}

static void run(void *state, struct fae_job *jobs)
{
    unsigned n = 0;

    assert_ptr_equal(state, &t);
    for (struct fae_job *next; jobs; jobs = next, n++) {
        struct task *task = FAE_CONTAINER(jobs, struct task, job);

        next = jobs->next;
        jobs->next = NULL; /* as who sorts them anew would */
        atomic_fetch_add(&t.n_began, 1);
        if (task->blocks)
            while (sem_wait(&t.go) != 0)
                ;
        atomic_fetch_add(&task->n_ran, 1);
    }
    atomic_fetch_add(&t.n_batches, 1);
    if (n > atomic_load(&t.largest))
        atomic_store(&t.largest, n);
}

static void *on_open(void *arg)
{
    sigset_t blocked;

    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    assert_true(sigismember(&blocked, SIGTERM));
    assert_true(sigismember(&blocked, SIGPROF));
    assert_ptr_equal(arg, &t);
    atomic_fetch_add(&t.n_opened, 1);
    return arg;
}

static void on_close(void *state)
{
    assert_ptr_equal(state, &t);
    assert_true(atomic_load(&t.n_released) < atomic_load(&t.n_lanes));
    atomic_fetch_add(&t.n_closed, 1);
}

static void on_release(void *arg)
{
    assert_ptr_equal(arg, &t);
    atomic_fetch_add(&t.n_released, 1);
}

static bool after_turn(void *arg)
{
    (void)arg;
    if (t.n_done >= t.want)
        fae_loop_stop(&t.loop);
    return false;
}

static void on_late(void *arg)
{
    (void)arg;
    fae_loop_stop(&t.loop);
}

/* Until n more are done; how long it took, in ms. Ten seconds is for ever. */
static uint64_t until_done(unsigned n)
{
    uint64_t since_ms = fae_now_ms();
    struct fae_timer late;

    t.want = t.n_done + n;
    fae_timer_init(&late, &t.loop, on_late, NULL);
    fae_timer_start(&late, 10000);
    if (n > 0)
        fae_loop_run(&t.loop);
    fae_timer_stop(&late);
    assert_true(t.n_done >= t.want);
    return fae_now_ms() - since_ms;
}

/* Threads take their time; ten seconds is for ever. */
static void until_is(_Atomic unsigned *count, unsigned n)
{
    for (unsigned i = 0; atomic_load(count) < n && i < 10000; i++)
        unit_sleep_ms(1);
    assert_int_equal(atomic_load(count), n);
}

static void make_lane(unsigned n_threads, unsigned queue_max, unsigned batch_max)
{
    t.n_lanes++;
    t.lane = fae_lane_new(&(struct fae_lane_opts){ .loop = &t.loop,
                                                   .name = "lane-of-the-unit-test",
                                                   .n_threads = n_threads,
                                                   .queue_max = queue_max,
                                                   .batch_max = batch_max,
                                                   .run = run,
                                                   .open = on_open,
                                                   .close = on_close,
                                                   .release = on_release,
                                                   .arg = &t });
}

static int set_up(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "unit");
    sem_init(&t.go, 0, 0);
    assert_int_equal(fae_loop_init(&t.loop), FAE_OK);
    t.loop.after_turn = after_turn;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_lane_free(&t.lane);
    until_is(&t.n_released, t.n_lanes);
    assert_int_equal(atomic_load(&t.n_closed), atomic_load(&t.n_opened));
    fae_loop_fini(&t.loop);
    sem_destroy(&t.go);
    return 0;
}

static struct task *task_new(uint64_t deadline_ms)
{
    struct task *task = fae_zalloc(sizeof *task);

    task->job.done = on_done;
    task->job.drop = on_drop;
    task->job.deadline_ms = deadline_ms;
    return task;
}

static struct task *put(uint64_t deadline_ms)
{
    struct task *task = task_new(deadline_ms);

    assert_int_equal(fae_lane_put(t.lane, &task->job), FAE_OK);
    return task;
}

/* A job that runs until t.go is posted; returns once it runs. */
static struct task *put_blocker(void)
{
    struct task *task = task_new(0);
    unsigned n = atomic_load(&t.n_began);

    task->blocks = true;
    assert_int_equal(fae_lane_put(t.lane, &task->job), FAE_OK);
    until_is(&t.n_began, n + 1);
    return task;
}

/* ---- running ---- */

/* As a worker that may start no process: threads still start, and names are looked up there. */
static int behind_the_filter(void *arg)
{
    struct addrinfo *info = NULL;
    char why[200];
    int rc;

    (void)arg;
    alarm(20);
    if (fae_seccomp_install(false, why, sizeof why))
        return 1;
    make_lane(2, 8, 1);
    for (unsigned i = 0; i < 4; i++)
        if (fae_lane_put(t.lane, &task_new(0)->job))
            return 2;
    while (atomic_load(&t.n_batches) < 4)
        unit_sleep_ms(1);
    fae_lane_free(&t.lane);
    rc = getaddrinfo("localhost", NULL, NULL, &info);
    if (rc == 0)
        freeaddrinfo(info);
    return rc == 0 || rc == EAI_NONAME || rc == EAI_AGAIN ? 0 : 3;
}

static void it_works_behind_the_filter_of_system_calls(void **state)
{
    (void)state;
    assert_int_equal(unit_wait(unit_fork(behind_the_filter, NULL)), 0);
}

static void a_lane_without_jobs_has_no_threads(void **state)
{
    (void)state;
    make_lane(2, 8, 1);
    assert_int_equal(fae_lane_n_waiting(t.lane), 0);
    assert_int_equal(fae_lane_busy_since_ms(t.lane), 0);
    unit_sleep_ms(1);
    assert_int_equal(atomic_load(&t.n_opened), 0);
}

static void runs_each_once(void **state)
{
    (void)state;
    make_lane(3, 1000, 7);
    for (unsigned i = 0; i < 500; i++)
        put(0);
    until_done(500);
    assert_int_equal(t.n_ok, 500);
    assert_int_equal(atomic_load(&t.n_began), 500);
    assert_true(atomic_load(&t.largest) <= 7);
}

static void takes_what_waits_in_one_batch(void **state)
{
    (void)state;
    make_lane(1, 100, 64);
    put_blocker();
    for (unsigned i = 0; i < 80; i++)
        put(0);
    assert_int_equal(fae_lane_n_waiting(t.lane), 80);
    sem_post(&t.go);
    until_done(81);
    assert_int_equal(atomic_load(&t.n_batches), 3);
    assert_int_equal(atomic_load(&t.largest), 64);
}

static void no_wake_up_is_lost(void **state)
{
    (void)state;
    make_lane(2, 16, 4);
    for (unsigned i = 0; i < 3000; i++) {
        unsigned n = 1 + i % 3;

        for (unsigned j = 0; j < n; j++)
            put(0);
        until_done(n);
    }
    assert_int_equal(t.n_ok, 6000);
}

static void a_full_queue_refuses(void **state)
{
    struct task *task = task_new(0);

    (void)state;
    make_lane(1, 2, 1);
    put_blocker();
    put(0);
    put(0);
    assert_int_equal(fae_lane_put(t.lane, &task->job), FAE_OVERLOAD);
    free(task);
    sem_post(&t.go);
    until_done(3);
}

static void tells_since_when_all_are_at_work(void **state)
{
    uint64_t since_ms;

    (void)state;
    make_lane(2, 8, 1);
    put_blocker();
    assert_int_equal(fae_lane_busy_since_ms(t.lane), 0);
    since_ms = fae_now_ms();
    put_blocker();
    assert_true(fae_lane_busy_since_ms(t.lane) >= since_ms);
    assert_true(fae_lane_busy_since_ms(t.lane) <= fae_now_ms());
    sem_post(&t.go);
    sem_post(&t.go);
    until_done(2);
    assert_int_equal(fae_lane_busy_since_ms(t.lane), 0);
}

static void a_stuck_lane_holds_up_no_other(void **state)
{
    struct fae_lane *stuck;

    (void)state;
    make_lane(1, 8, 1);
    put_blocker();
    stuck = t.lane;
    make_lane(1, 8, 1);
    put(0);
    put(0);
    until_done(2);
    assert_int_equal(t.n_ok, 2);
    sem_post(&t.go);
    until_done(1);
    fae_lane_free(&stuck);
}

/* ---- deadlines ---- */

static void a_stuck_lane_tells_timeouts(void **state)
{
    uint64_t now_ms = fae_now_ms();

    (void)state;
    make_lane(1, 100, 1);
    put_blocker();
    for (unsigned i = 0; i < 20; i++)
        put(now_ms + 60 - i); /* each before the last */
    put(0);
    until_done(20);
    assert_true(fae_now_ms() >= now_ms + 41);
    assert_int_equal(t.n_timeout, 20);
    assert_int_equal(fae_lane_n_waiting(t.lane), 1);
    sem_post(&t.go);
    until_done(2);
    assert_int_equal(t.n_ok, 2);
}

static void a_thread_does_not_begin_what_is_late(void **state)
{
    (void)state;
    make_lane(1, 100, 4);
    put_blocker();
    put(fae_now_ms() + 1);
    put(0);
    unit_sleep_ms(5); /* the loop does not turn meanwhile */
    sem_post(&t.go);
    until_done(3);
    assert_int_equal(t.n_timeout, 1);
    assert_int_equal(t.n_ok, 2);
}

static void late_ones_alone_wake_the_loop(void **state)
{
    (void)state;
    make_lane(1, 100, 4);
    put_blocker();
    put(1);
    sem_post(&t.go);
    until_done(2);
    assert_int_equal(t.n_timeout, 1);
}

/* ---- cancelling ---- */

static void cancels_what_waits(void **state)
{
    struct task *task;
    unsigned told[3] = { 0 };

    (void)state;
    make_lane(1, 3, 1);
    put_blocker();
    for (unsigned i = 0; i < 3; i++) { /* the last, the middle, the first */
        struct task *tasks[3];

        for (unsigned j = 0; j < 3; j++)
            (tasks[j] = put(0))->told = &told[j];
        fae_lane_cancel(t.lane, &tasks[2 - i]->job);
        assert_int_equal(told[2 - i], 1);
        assert_int_equal(fae_lane_n_waiting(t.lane), 2);
        task = put(0); /* there is room again, and the tail is right */
        sem_post(&t.go);
        until_done(4);
        put_blocker();
        memset(told, 0, sizeof told);
    }
    (void)task;
    sem_post(&t.go);
    until_done(1);
    assert_int_equal(atomic_load(&t.n_dropped), 3);
}

static void cancels_what_runs(void **state)
{
    (void)state;
    make_lane(1, 8, 1);
    fae_lane_cancel(t.lane, &put_blocker()->job);
    assert_int_equal(atomic_load(&t.n_dropped), 0);
    sem_post(&t.go);
    until_is(&t.n_dropped, 1);
    put(0);
    until_done(1);
    assert_int_equal(t.n_done, 1);
}

static void cancels_what_ran(void **state)
{
    struct task *first, *second;

    (void)state;
    make_lane(1, 8, 2);
    put_blocker();
    first = put(0);
    second = put(0);
    sem_post(&t.go);
    until_is(&t.n_batches, 2); /* all wait to be told */
    fae_lane_cancel(t.lane, &second->job);
    first->cancels = NULL;
    until_done(2);
    until_is(&t.n_dropped, 1);
}

static void one_cancels_another_as_it_is_told(void **state)
{
    struct task *first, *second;

    (void)state;
    make_lane(1, 8, 2);
    put_blocker();
    first = put(0);
    second = put(0);
    first->cancels = second;
    sem_post(&t.go);
    until_is(&t.n_batches, 2);
    until_done(2);
    until_is(&t.n_dropped, 1);
    assert_int_equal(t.n_done, 2);
}

/* ---- the end ---- */

static void freeing_tells_who_waits(void **state)
{
    (void)state;
    make_lane(1, 8, 1);
    put_blocker();
    put(0);
    put(0);
    fae_lane_free(&t.lane);
    assert_int_equal(t.n_closed_err, 2);
    assert_int_equal(atomic_load(&t.n_released), 0); /* the stuck thread has it still */
    assert_int_equal(atomic_load(&t.n_dropped), 0);
    sem_post(&t.go);
    until_is(&t.n_dropped, 1);
}

static void freeing_tells_what_ran(void **state)
{
    (void)state;
    make_lane(1, 8, 1);
    put(0);
    until_is(&t.n_batches, 1);
    put(0);
    until_is(&t.n_batches, 2);
    unit_sleep_ms(2); /* to be put away */
    fae_lane_free(&t.lane);
    assert_int_equal(t.n_ok + atomic_load(&t.n_dropped), 2);
}

static void freed_as_it_tells(void **state)
{
    (void)state;
    make_lane(1, 8, 4);
    put_blocker();
    put(0);
    put(0);
    put(0);
    t.free_inside = true;
    sem_post(&t.go);
    until_done(1);
    assert_null(t.lane);
    assert_int_equal(t.n_done + atomic_load(&t.n_dropped), 4);
}

static void freed_as_it_tells_timeouts(void **state)
{
    (void)state;
    make_lane(1, 8, 4);
    put_blocker();
    put(fae_now_ms() + 5);
    put(fae_now_ms() + 5);
    put(0);
    t.free_inside = true;
    until_done(1);
    assert_null(t.lane);
    assert_int_equal(t.n_done, 3);
    sem_post(&t.go);
    until_is(&t.n_dropped, 1);
}

/* A process ends although a thread of it is stuck: by exit, and by _exit. */
static int stuck(void *arg)
{
    void (*end)(int) = *(void (**)(int))arg;
    struct task *task = task_new(0);

    alarm(20);
    make_lane(1, 8, 1);
    task->blocks = true;
    if (fae_lane_put(t.lane, &task->job))
        return 1;
    while (atomic_load(&t.n_began) == 0)
        unit_sleep_ms(1);
    fae_lane_free(&t.lane);
    end(7);
    return 2;
}

static void exit_waits_for_nobody(void **state)
{
    void (*ends[])(int) = { exit, _exit };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(ends); i++)
        assert_int_equal(unit_wait(unit_fork(stuck, &ends[i])), 7);
}

/* ---- all at once ---- */

/* Jobs of every kind in random order, with four threads; each is told of exactly once. */
static void in_random_order(void **state)
{
    enum { N = 20000 };
    unsigned *told = fae_zalloc(N * sizeof *told), seed = 1;
    struct task *last = NULL;

    (void)state;
    make_lane(4, 64, 5);
    t.want = UINT32_MAX;
    for (unsigned i = 0; i < N; i++) {
        struct task *task = task_new(rand_r(&seed) % 4 ? 0 : fae_now_ms() + (unsigned)rand_r(&seed) % 3);

        task->told = &told[i];
        task->cancels = NULL;
        if (fae_lane_put(t.lane, &task->job)) {
            told[i] = 1;
            free(task);
            last = NULL;
            event_base_loop(t.loop.base, EVLOOP_NONBLOCK);
            continue;
        }
        if (last && rand_r(&seed) % 3 == 0) /* nobody has turned since: it was not told of */
            fae_lane_cancel(t.lane, &last->job);
        last = task;
        if (rand_r(&seed) % 8 == 0) {
            event_base_loop(t.loop.base, EVLOOP_NONBLOCK);
            last = NULL;
        }
    }
    fae_lane_free(&t.lane);
    until_is(&t.n_released, 1);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(told[i], 1);
    free(told);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(exit_waits_for_nobody), /* first: it forks, and there is no thread yet */
        TEST(it_works_behind_the_filter_of_system_calls),
        TEST(a_lane_without_jobs_has_no_threads),
        TEST(runs_each_once),
        TEST(takes_what_waits_in_one_batch),
        TEST(no_wake_up_is_lost),
        TEST(a_full_queue_refuses),
        TEST(tells_since_when_all_are_at_work),
        TEST(a_stuck_lane_holds_up_no_other),
        TEST(a_stuck_lane_tells_timeouts),
        TEST(a_thread_does_not_begin_what_is_late),
        TEST(late_ones_alone_wake_the_loop),
        TEST(cancels_what_waits),
        TEST(cancels_what_runs),
        TEST(cancels_what_ran),
        TEST(one_cancels_another_as_it_is_told),
        TEST(freeing_tells_who_waits),
        TEST(freeing_tells_what_ran),
        TEST(freed_as_it_tells),
        TEST(freed_as_it_tells_timeouts),
        TEST(in_random_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
