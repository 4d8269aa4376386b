/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The trace in a slot is text: "SIGSEGV at 0x10:" then " 0x..." a frame. Its handlers use nothing that takes a lock.
 * Lua frames are not in it; the method's name stands for them.
 */
#include "proc/crash.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hist.h"
#include "base/log.h"
#include "base/sanitize.h"
#include "proc/stackscan.h"
#include "rpc/stats.h"

#define FRAMES_MAX 32
#define STACK_BYTES (64 * 1024)

static const struct {
    int number;
    const char *name;
} signals[] = {
    { SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" }, { SIGILL, "SIGILL" }, { SIGABRT, "SIGABRT" },
};

static struct {
    struct fae_slot *slot;
    void (*nudged)(void *arg);
    void *arg;
} self;

/* ---- in the child, inside a signal handler ---- */

struct note {
    struct fae_slot *slot;
    uint32_t len;
};

static void put(struct note *n, const char *text)
{
    while (*text && n->len < FAE_SLOT_TRACE)
        n->slot->trace[n->len++] = *text++;
}

static void put_address(struct note *n, uintptr_t address)
{
    char digits[2 * sizeof address + 4];
    unsigned i = sizeof digits;

    digits[--i] = '\0';
    do
        digits[--i] = "0123456789abcdef"[address & 15];
    while (address >>= 4);
    digits[--i] = 'x';
    digits[--i] = '0';
    put(n, digits + i);
}

static void where(const void *context, uintptr_t *pc_out, uintptr_t *sp_out)
{
    const mcontext_t *m = &((const ucontext_t *)context)->uc_mcontext;

#if defined(__x86_64__)
    *pc_out = (uintptr_t)m->gregs[REG_RIP];
    *sp_out = (uintptr_t)m->gregs[REG_RSP];
#elif defined(__aarch64__)
    *pc_out = m->pc;
    *sp_out = m->sp;
#else
    (void)m;
    *pc_out = *sp_out = 0;
#endif
}

/* Where the signal hit, then who called it. */
static void put_frames(struct note *n, const void *context)
{
    uintptr_t frames[FRAMES_MAX], sp;
    size_t count;

    where(context, &frames[0], &sp);
    count = 1 + fae_stackscan(sp, frames + 1, FRAMES_MAX - 1);
    for (size_t i = 0; i < count; i++) {
        put(n, " ");
        put_address(n, frames[i]);
    }
}

static void publish(const struct note *n)
{
    atomic_store_explicit(&n->slot->trace_len, n->len, memory_order_release);
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    struct note n = { .slot = self.slot };
    unsigned i;

    for (i = 0; i < sizeof signals / sizeof *signals; i++)
        if (signals[i].number == number)
            put(&n, signals[i].name);
    if (info->si_code > 0 && number != SIGABRT) {
        put(&n, " at ");
        put_address(&n, (uintptr_t)info->si_addr);
    }
    put(&n, ":");
    put_frames(&n, context);
    publish(&n);
    /* It is blocked while we are here, so this ends the process on return. */
    signal(number, SIG_DFL);
    raise(number);
}

static void on_nudge(int number, siginfo_t *info, void *context)
{
    struct note n = { .slot = self.slot };
    int saved = errno;

    (void)number;
    (void)info;
    if (atomic_load_explicit(&self.slot->trace_len, memory_order_acquire) == 0) {
        put(&n, "stuck:");
        put_frames(&n, context);
        publish(&n);
    }
    if (self.nudged)
        self.nudged(self.arg);
    errno = saved;
}

static void handle(int number, void (*fn)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | SA_ONSTACK | flags };

    sigfillset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

void fae_crash_install(struct fae_slot *slot, void (*nudged)(void *arg), void *arg)
{
    static char stack[STACK_BYTES]; /* a stack overflow leaves no other place to run the handler */
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };

    self.slot = slot;
    self.nudged = nudged;
    self.arg = arg;
    fae_stackscan_init();
    sigaltstack(&alternate, NULL);
    handle(SIGUSR2, on_nudge, SA_RESTART);
#if !FAE_ASAN && !FAE_TSAN
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        handle(signals[i].number, on_crash, 0);
#else
    (void)on_crash; /* the sanitizer's own report says more */
#endif
}

/* ---- in the supervisor ---- */

static const char *base_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;

    return slash ? slash + 1 : path ? path : "?";
}

static void add_frame(struct fae_buf *out, uintptr_t address)
{
    Dl_info info;

    if (!dladdr((void *)address, &info) || !info.dli_fname)
        fae_buf_printf(out, " 0x%" PRIxPTR, address); /* code that the JIT made, or of a library loaded later */
    else if (info.dli_sname)
        fae_buf_printf(out, " %s(%s+0x%" PRIxPTR ")", base_name(info.dli_fname), info.dli_sname,
                       address - (uintptr_t)info.dli_saddr);
    else
        fae_buf_printf(out, " %s+0x%" PRIxPTR, base_name(info.dli_fname), address - (uintptr_t)info.dli_fbase);
}

/* The head up to ':' is words, what follows are addresses; whoever wrote it may have been broken. */
static void add_trace(struct fae_buf *out, char *trace)
{
    char *colon = strchr(trace, ':'), *end;

    if (!colon) {
        fae_buf_printf(out, "%s", trace);
        return;
    }
    fae_buf_printf(out, "%.*s:", (int)(colon - trace), trace);
    for (char *p = colon + 1; *p; p = end) {
        unsigned long long address = strtoull(p, &end, 16);

        if (end == p)
            return;
        add_frame(out, (uintptr_t)address);
    }
}

const char *fae_crash_method(const struct fae_slots *slots, const struct fae_stats *stats, unsigned slot, char *text)
{
    uint32_t row = FAE_STAT_GET(slots->slots[slot].method);

    if (row == 0 || row > FAE_METHODS_MAX)
        snprintf(text, FAE_METHOD_NAME_MAX + 1, "no method");
    else
        snprintf(text, FAE_METHOD_NAME_MAX + 1, "%.*s", FAE_METHOD_NAME_MAX, stats->names[row - 1]);
    return text;
}

void fae_crash_report(struct fae_slots *slots, const struct fae_stats *stats, unsigned slot)
{
    struct fae_slot *s = &slots->slots[slot];
    uint32_t len = atomic_load_explicit(&s->trace_len, memory_order_acquire);
    char trace[FAE_SLOT_TRACE + 1], name[16], method[FAE_METHOD_NAME_MAX + 1];
    struct fae_buf out = { 0 };

    if (len == 0)
        return;
    if (len > FAE_SLOT_TRACE)
        len = FAE_SLOT_TRACE;
    memcpy(trace, s->trace, len);
    trace[len] = '\0';
    atomic_store_explicit(&s->trace_len, 0, memory_order_release);
    add_trace(&out, trace);
    FAE_ERROR("%s in %s: %s", fae_slot_name(slots, slot, name), fae_crash_method(slots, stats, slot, method),
              fae_buf_text(&out));
    fae_buf_fini(&out);
}
