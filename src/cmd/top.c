/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae top`: asks a node for its counters again and again and shows what happened between. On a terminal it is a screen
 * of its own, which q leaves; in a pipe it is plain text or JSON. A node that goes away is waited for.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cmd/cmd.h"
#include "cmd/ctl.h"
#include "cmd/top_view.h"
#include "proc/ctlclient.h"

#define PIPE_LINES 1000000u /* of a frame that is not cut to a screen */
#define PIPE_COLUMNS 1000u

struct top {
    const char *run_dir;
    uint64_t interval_ms;
    uint64_t n_frames; /* 0: until it is ended */
    bool json, screen;
    struct fae_top_sample before, now;
    char why[200]; /* the node is not there */
};

/* ---- the terminal ---- */

static struct termios old_modes;
static volatile sig_atomic_t entered, keys, stopped;

static void put(const char *text, size_t len)
{
    while (len) {
        ssize_t n = write(STDOUT_FILENO, text, len);

        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return;
        if (n > 0)
            text += n, len -= (size_t)n;
    }
}

/* Async-signal-safe. */
static void leave(void)
{
    static const char text[] = "\033[?25h\033[?1049l";

    if (entered)
        put(text, sizeof text - 1);
    if (keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &old_modes);
    entered = keys = 0;
}

static void enter(void)
{
    static const char text[] = "\033[?1049h\033[?25l";
    struct termios modes;

    put(text, sizeof text - 1);
    entered = 1;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &old_modes) != 0)
        return;
    modes = old_modes;
    modes.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    modes.c_cc[VMIN] = 1;
    modes.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &modes) == 0)
        keys = 1;
}

static void on_end(int number)
{
    leave();
    signal(number, SIG_DFL);
    raise(number);
}

static void on_stop(int number)
{
    (void)number;
    stopped = 1;
}

static void on_resize(int number)
{
    (void)number; /* it ends the wait: that is all */
}

static void catch_signals(void)
{
    static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
    struct sigaction sa = { .sa_handler = on_end };

    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++)
        sigaction(ends[i], &sa, NULL);
    sa.sa_handler = on_stop;
    sigaction(SIGTSTP, &sa, NULL);
    sa.sa_handler = on_resize;
    sigaction(SIGWINCH, &sa, NULL);
}

/* Ctrl-Z: the shell gets its screen back meanwhile. */
static void stop_here(void)
{
    stopped = 0;
    leave();
    raise(SIGSTOP);
    enter();
}

static void screen_size(unsigned *lines_out, unsigned *columns_out)
{
    struct winsize size = { 0 };

    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    *lines_out = size.ws_row ? size.ws_row : 24;
    *columns_out = size.ws_col ? size.ws_col : 80;
}

/* ---- frames ---- */

static uint64_t cpu_ms_of(unsigned pid)
{
    char path[40], text[1024], *at;
    unsigned long user, system;
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    f = pid ? fopen(path, "re") : NULL;
    if (!f)
        return UINT64_MAX;
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    at = strrchr(text, ')'); /* the name in front of it may hold anything */
    if (!at || sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return UINT64_MAX;
    return (uint64_t)(user + system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* False: top->why tells. */
static bool take_sample(struct top *top)
{
    struct fae_buf stats = { 0 }, hist = { 0 }, last = { 0 };
    struct fae_top_sample sample;
    enum fae_err err = fae_ctl_ask(top->run_dir, "stats", &stats, &last);

    if (!err)
        err = fae_ctl_ask(top->run_dir, "hist", &hist, &last);
    if (err)
        snprintf(top->why, sizeof top->why, "%s", fae_buf_text(&last));
    if (!err) {
        err =
            fae_top_read(&sample, (const char *)stats.data, stats.len, (const char *)hist.data, hist.len, fae_now_ns());
        if (err)
            snprintf(top->why, sizeof top->why, "the node's answer makes no sense: is it of another release?");
    }
    if (!err) {
        for (unsigned i = 0; i < fae_top_n_workers(&sample); i++)
            sample.cpu_ms[i] = cpu_ms_of(fae_top_pid(&sample, i));
        fae_top_fini(&top->before);
        top->before = top->now;
        top->now = sample;
    }
    fae_buf_fini(&stats);
    fae_buf_fini(&hist);
    fae_buf_fini(&last);
    return !err;
}

static const struct fae_top_sample *before(const struct top *top)
{
    return fae_top_follows(&top->before, &top->now) ? &top->before : NULL;
}

/* Every line clears what the last frame left behind it. */
static void show_screen(struct top *top, bool there)
{
    struct fae_buf text = { 0 }, out = { 0 };
    unsigned lines, columns;

    screen_size(&lines, &columns);
    if (!there)
        fae_buf_printf(&text, "waiting for the node: %.*s\n", (int)(columns > 23 ? columns - 23 : 0), top->why);
    else
        fae_top_text(before(top), &top->now, lines - 1, columns, &text);
    fae_buf_printf(&out, "\033[H");
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '\n')
            fae_buf_printf(&out, "\033[K\r");
        fae_buf_add(&out, &text.data[i], 1);
    }
    fae_buf_printf(&out, "\033[J");
    put((const char *)out.data, out.len);
    fae_buf_fini(&text);
    fae_buf_fini(&out);
}

static bool show_plain(struct top *top, bool first)
{
    struct fae_buf text = { 0 };
    bool ok;

    if (top->json)
        fae_top_json(before(top), &top->now, &text);
    else
        fae_top_text(before(top), &top->now, PIPE_LINES, PIPE_COLUMNS, &text);
    if (!first && !top->json)
        putchar('\n');
    ok = fwrite(text.data, 1, text.len, stdout) == text.len && fflush(stdout) == 0;
    fae_buf_fini(&text);
    return ok;
}

/* Waits until `until_ms`; false when q was pressed. True early when the screen has another size. */
static bool wait_for(const struct top *top, uint64_t until_ms)
{
    uint64_t now_ms = fae_now_ms();
    struct pollfd pfd = { .fd = keys ? STDIN_FILENO : -1, .events = POLLIN };
    char key = 0;
    int rc;

    while (now_ms < until_ms) {
        rc = poll(&pfd, 1, (int)(until_ms - now_ms));
        if (rc < 0 && top->screen)
            return true;
        if (rc > 0 && (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q' || key == 3))
            return false;
        now_ms = fae_now_ms();
    }
    return true;
}

static int run_screen(struct top *top)
{
    uint64_t n = 0, next_ms = 0;
    bool there = false;

    catch_signals();
    atexit(leave);
    enter();
    for (;;) {
        if (fae_now_ms() >= next_ms) {
            there = take_sample(top);
            next_ms = fae_now_ms() + top->interval_ms;
            n += there;
        }
        show_screen(top, there);
        if ((top->n_frames && n >= top->n_frames) || !wait_for(top, next_ms))
            return FAE_EXIT_OK;
        if (stopped)
            stop_here();
    }
}

/* The first frame comes after an interval: what happened before we looked is another story. */
static int run_plain(struct top *top, bool once)
{
    uint64_t next_ms = fae_now_ms();
    bool said = false;

    for (uint64_t n = 0; !top->n_frames || n < top->n_frames;) {
        bool there = take_sample(top);

        if (!there && once) {
            fprintf(stderr, "fae top: %s\n", top->why);
            return FAE_EXIT_FAILED;
        }
        if (!there && !said)
            fprintf(stderr, "fae top: waiting for the node: %s\n", top->why);
        said = !there;
        if (there && before(top)) {
            if (!show_plain(top, n == 0))
                return FAE_EXIT_FAILED;
            n++;
        }
        if (top->n_frames && n >= top->n_frames)
            break;
        next_ms += top->interval_ms;
        wait_for(top, next_ms);
    }
    return FAE_EXIT_OK;
}

/* ---- arguments ---- */

static bool read_seconds(const char *text, uint64_t *ms_out)
{
    char *end;
    double s = strtod(text, &end);

    if (end == text || *end || !(s >= 0.1 && s <= 3600))
        return false;
    *ms_out = (uint64_t)(s * 1000 + 0.5);
    return true;
}

static bool read_count(const char *text, uint64_t *n_out)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);

    if (end == text || *end || text[0] == '-' || n < 1 || n > 1000000000)
        return false;
    *n_out = n;
    return true;
}

int fae_cmd_top(int argc, char **argv)
{
    struct top top = { .run_dir = fae_cmd_run_dir(), .interval_ms = 1000 };
    const char *value;
    bool once = false;
    int code;

    fae_clock_init();
    for (int i = 1; i < argc; i++) {
        if ((value = fae_cmd_value(argv[0], argc, argv, &i, "--run-dir"))) {
            top.run_dir = value;
        } else if ((value = fae_cmd_value(argv[0], argc, argv, &i, "-i"))) {
            if (!read_seconds(value, &top.interval_ms))
                return fae_cmd_usage(argv[0], "-i: seconds from 0.1 to 3600");
        } else if ((value = fae_cmd_value(argv[0], argc, argv, &i, "-n"))) {
            if (!read_count(value, &top.n_frames))
                return fae_cmd_usage(argv[0], "-n: a whole number from 1");
        } else if (strcmp(argv[i], "--once") == 0) {
            once = true;
        } else if (strcmp(argv[i], "--json") == 0) {
            top.json = true;
        } else {
            return fae_cmd_unknown(argv[0], argv[i]);
        }
    }
    if (once)
        top.n_frames = 1;
    top.screen = isatty(STDOUT_FILENO) && !once && !top.json;
    code = top.screen ? run_screen(&top) : run_plain(&top, once);
    fae_top_fini(&top.before);
    fae_top_fini(&top.now);
    return code;
}
