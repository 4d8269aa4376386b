/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One table of verbs, one function each.
 */
#include "proc/control_verbs.h"
#include "ops/mysql.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/upstream_show.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/config_report.h"
#include "base/hist.h"
#include "proc/control_backends.h"
#include "proc/node.h"
#include "proc/supervisor.h"
#include "rpc/slowlog.h"
#include "rpc/stats.h"
#include "store/lcache.h"
#include "store/locks.h"

#define SLOWLOG_SHOWN 20 /* calls, when nobody says how many */
#define LOCKS_SHOWN 100
#define LOCKS_MOST 1000
#define LOCK_WAIT_MS 20 /* for a worker that is stopped inside the table */

/* ---- answers ---- */

void fae_control_lines(struct fae_buf *out, const char *text, size_t len)
{
    const char *end;

    if (len == 0)
        return;
    for (end = text + len; text < end;) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((nl ? nl : end) - text);

        if ((n >= 2 && memcmp(text, "OK", 2) == 0) || (n >= 3 && memcmp(text, "ERR", 3) == 0))
            fae_buf_add(out, " ", 1);
        fae_buf_add(out, text, n);
        fae_buf_add(out, "\n", 1);
        text += n + 1;
    }
}

void fae_control_ok(struct fae_control_client *client, const char *text)
{
    fae_buf_printf(&client->out, "OK%s%s\n", *text ? " " : "", text);
}

void fae_control_err(struct fae_control_client *client, enum fae_err err, const char *text)
{
    fae_buf_printf(&client->out, "ERR %s %s\n", fae_err_name(err), text);
}

/* ---- verbs ---- */

static void do_ping(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    (void)node;
    (void)arg;
    (void)tail;
    fae_control_ok(client, "pong");
}

static void do_reload(struct fae_node *node, struct fae_control_client *client, int kind, const char *tail)
{
    (void)tail;
    if (node->phase != FAE_NODE_SERVING) {
        fae_control_err(client, node->phase == FAE_NODE_STARTING ? FAE_UNAVAILABLE : FAE_DRAINING,
                        node->phase == FAE_NODE_STARTING ? "the node is starting" : "the node is stopping");
        return;
    }
    client->kind = kind;
    client->queued = true;
}

static void do_reload_wait(struct fae_node *node, struct fae_control_client *client, int kind, const char *tail)
{
    do_reload(node, client, kind, tail);
    client->wants_old_ended = client->queued;
}

static void do_stop(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    (void)arg;
    (void)tail;
    client->stays = true;
    fae_control_ok(client, "stopping");
    fae_supervisor_stop(node, false);
}

static void do_stats(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    struct fae_buf json = { 0 };

    (void)arg;
    (void)tail;
    fae_stats_json(node->shared.stats, node->shared.slots, &node->shared.stores, &json);
    fae_upstreams_json_member(node->shared.upstreams, fae_now_ms(), &json);
    fae_mysql_json_member(&node->shared.stores, &json);
    fae_control_lines(&client->out, (const char *)json.data, json.len);
    fae_buf_fini(&json);
    fae_control_ok(client, "");
}

static void do_slowlog(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    struct fae_buf json = { 0 };
    unsigned n = SLOWLOG_SHOWN;
    char *end;

    (void)arg;
    if (*tail) {
        unsigned long asked = strtoul(tail, &end, 10);

        if (*tail < '0' || *tail > '9' || *end || asked == 0) {
            fae_control_err(client, FAE_BAD_ARGS, "slowlog takes how many calls to show, or clear");
            return;
        }
        n = asked < UINT32_MAX ? (unsigned)asked : UINT32_MAX;
    }
    fae_slowlog_json(node->shared.slowlog, n, &json);
    fae_control_lines(&client->out, (const char *)json.data, json.len);
    fae_buf_fini(&json);
    fae_control_ok(client, "");
}

static void do_slowlog_clear(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    (void)arg;
    (void)tail;
    fae_slowlog_clear(node->shared.slowlog);
    fae_control_ok(client, "cleared");
}

/* ---- the cache ---- */

static void add_cache_stat(void *out, const char *name, const char *help, bool counter, uint64_t value)
{
    (void)help;
    (void)counter;
    fae_buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void do_cache_stats(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    (void)arg;
    (void)tail;
    for (unsigned i = 0; i < FAE_CACHES; i++)
        if (node->shared.stores.caches[i])
            fae_lcache_stats(node->shared.stores.caches[i], add_cache_stat, &client->out);
    fae_control_ok(client, "");
}

/* Of that name, or all. A shard that a stopped worker holds costs the supervisor 10 ms. */
static void do_cache_flush(struct fae_node *node, struct fae_control_client *client, int arg, const char *name)
{
    unsigned n = 0, n_held = 0;

    (void)arg;
    for (unsigned i = 0; i < FAE_CACHES; i++) {
        struct fae_lcache *cache = node->shared.stores.caches[i];

        if (!cache || (*name && strcmp(name, fae_cache_names[i]) != 0))
            continue;
        n++;
        n_held += fae_lcache_flush(fae_lcache_user(cache, node->n_children)) != FAE_LCACHE_YES;
    }
    if (n == 0)
        fae_control_err(client, FAE_NOT_FOUND, "there is no cache of that name");
    else if (n_held)
        fae_control_err(client, FAE_UNAVAILABLE,
                        "a part of the cache is held by a process that is stopped; the rest is empty");
    else
        fae_control_ok(client, "empty");
}

static void add_slot(struct fae_node *node, unsigned slot, uint64_t now_ms, struct fae_buf *out)
{
    static const char *const states[] = { [FAE_SLOT_DEAD] = "dead",
                                          [FAE_SLOT_STARTING] = "starting",
                                          [FAE_SLOT_READY] = "ready",
                                          [FAE_SLOT_DRAINING] = "draining" };
    const struct fae_slot *s = fae_node_slot(node, slot);
    uint32_t state = atomic_load(&s->state);
    uint64_t beat_ms = FAE_STAT_GET(s->heartbeat_ms);
    char name[16];

    fae_buf_printf(out,
                   "%s pid=%" PRIu32 " state=%s generation=%" PRIu32 " incarnation=%" PRIu32 " deaths=%" PRIu32
                   " sessions=%" PRIu32 " calls=%" PRIu32 " silent_ms=%" PRIu64 "\n",
                   fae_slot_name(node->shared.slots, slot, name), FAE_STAT_GET(s->pid),
                   state <= FAE_SLOT_DRAINING ? states[state] : "?", FAE_STAT_GET(s->generation),
                   FAE_STAT_GET(s->incarnation), FAE_STAT_GET(s->n_deaths), FAE_STAT_GET(s->n_sessions),
                   FAE_STAT_GET(s->n_calls), beat_ms && now_ms > beat_ms ? now_ms - beat_ms : 0);
}

static void do_status(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    static const char *const phases[] = { [FAE_NODE_STARTING] = "starting",
                                          [FAE_NODE_SERVING] = "serving",
                                          [FAE_NODE_DRAINING] = "draining",
                                          [FAE_NODE_CLOSING] = "closing",
                                          [FAE_NODE_DONE] = "done" };
    uint64_t now_ms = fae_now_ms();

    (void)arg;
    (void)tail;
    fae_buf_printf(&client->out, "node pid=%ld state=%s generation=%" PRIu32 " uptime_s=%" PRIu64 "%s%s\n",
                   (long)getpid(), phases[node->phase], node->committed.generation,
                   (now_ms - node->shared.slots->started_ms) / 1000, fae_reload_busy(&node->reload) ? " reloading" : "",
                   FAE_STAT_GET(node->shared.slots->doors) == FAE_DOORS_CLOSED ? " drained" : "");
    for (unsigned i = 0; i < node->n_listeners; i++)
        fae_buf_printf(&client->out, "listen %s\n", node->listeners[i].text);
    if (node->has_admin)
        fae_buf_printf(&client->out, "admin %s://%s\n", node->admin.tls ? "https" : "http",
                       node->admin.text + sizeof "tcp://" - 1);
    for (unsigned i = 0; i < node->n_children; i++)
        add_slot(node, i, now_ms, &client->out);
    fae_control_ok(client, "");
}

/* ---- configuration and log ---- */

static void do_config(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    struct fae_buf text = { 0 };

    (void)arg;
    (void)tail;
    fae_config_show(&text, &node->config);
    fae_control_lines(&client->out, (const char *)text.data, text.len);
    fae_buf_fini(&text);
    fae_control_ok(client, "");
}

/* The line that tells of it is seen where the old or the new level lets it. */
static void set_log_level(struct fae_node *node, const struct fae_control_client *client, enum fae_log_level level)
{
    _Atomic uint32_t *word = &node->shared.slots->log_level;
    enum fae_log_level was = (enum fae_log_level)atomic_load(word);
    struct ucred who = { .uid = (uid_t)-1 };
    socklen_t len = sizeof who;

    getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
    if (level < was)
        atomic_store(word, level);
    FAE_WARN("log_level: %s -> %s by uid %ld (pid %ld), until the next reload", fae_log_level_word(was),
             fae_log_level_word(level), (long)who.uid, (long)who.pid);
    atomic_store(word, level);
}

static void do_log_level(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    struct fae_opt opt = *fae_opt_find(fae_config_opts, fae_config_n_opts, "log_level");
    uint64_t level = node->config.log_level;
    char why[256];

    (void)arg;
    opt.offset = 0; /* of level alone */
    if (strcmp(tail, "reset") != 0 && fae_opt_set(&opt, &level, tail, why, sizeof why)) {
        fae_control_err(client, FAE_BAD_ARGS, why);
        return;
    }
    set_log_level(node, client, (enum fae_log_level)level);
    fae_control_ok(client, fae_log_level_word((enum fae_log_level)level));
}

static void do_reopen_log(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    enum fae_err err = fae_supervisor_reopen_log(node);
    char why[FAE_OPT_TEXT + 128];

    (void)arg;
    (void)tail;
    if (err == FAE_NOT_FOUND)
        snprintf(why, sizeof why, "there is no log_file: the log goes to stderr");
    else if (err)
        snprintf(why, sizeof why, "log_file %s: %s; the old one goes on", node->config.log_file, strerror(errno));
    if (err)
        fae_control_err(client, err, why);
    else
        fae_control_ok(client, "");
}

/* ---- locks ---- */

static void do_locks(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail)
{
    unsigned long n = *tail ? strtoul(tail, NULL, 10) : LOCKS_SHOWN;
    struct fae_lock_info *infos;
    struct fae_buf lines = { 0 };
    char total[64];

    (void)arg;
    if (tail[strspn(tail, "0123456789")] || n == 0 || n > LOCKS_MOST) {
        fae_control_err(client, FAE_BAD_ARGS, "locks takes how many to show, from 1 to 1000");
        return;
    }
    infos = fae_alloc(n * sizeof *infos);
    n = fae_locks_list(&node->shared.stores, fae_lock_now_ms(), LOCK_WAIT_MS, infos, (unsigned)n);
    for (unsigned long i = 0; i < n; i++) {
        fae_lock_info_json(&infos[i], &lines);
        fae_buf_add(&lines, "\n", 1);
    }
    free(infos);
    fae_control_lines(&client->out, (const char *)lines.data, lines.len);
    fae_buf_fini(&lines);
    snprintf(total, sizeof total, "%u held", fae_locks_n_held(&node->shared.stores));
    fae_control_ok(client, total);
}

static void log_forced(const struct fae_control_client *client, const char *key, const struct fae_lock_info *info)
{
    struct ucred who = { .uid = (uid_t)-1 };
    struct fae_buf line = { 0 };
    socklen_t len = sizeof who;

    getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
    fae_buf_json(&line, key, strlen(key));
    FAE_WARN("lock %s, held by %.*s (%.*s), was released by force by uid %ld (pid %ld)", fae_buf_text(&line),
             info->who.len ? info->who.len : 11, info->who.len ? info->who.bytes : "this node's", info->reason.len,
             info->reason.bytes, (long)who.uid, (long)who.pid);
    fae_buf_fini(&line);
}

static void do_lock_release(struct fae_node *node, struct fae_control_client *client, int arg, const char *key)
{
    struct fae_buf text = { 0 };
    struct fae_lock_info info;
    size_t len = strlen(key);
    enum fae_err err;

    (void)arg;
    if (len > FAE_LOCK_KEY_MAX) {
        fae_control_err(client, FAE_LIMIT, "a lock's key has at most 512 bytes");
        return;
    }
    err = fae_lock_force(&node->shared.stores, fae_lock_now_ms(), key, len, LOCK_WAIT_MS, &info);
    if (err) {
        fae_control_err(client, err, err == FAE_NOT_FOUND ? "nobody holds that lock" : "a worker is stopped in there");
        return;
    }
    log_forced(client, key, &info);
    fae_buf_printf(&text, "held for %" PRIu64 " ms", info.held_ms);
    fae_control_ok(client, fae_buf_text(&text));
    fae_buf_fini(&text);
}

/* ---- the table ---- */

/* A verb with `takes` is given what follows it as tail ("" when nothing does): "LEVEL" must be there, "[N]" may. A verb
 * without is the line as a whole. */
static const struct verb {
    const char *name;
    void (*run)(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail);
    int arg;
    const char *takes;
} verbs[] = {
    { "ping", do_ping, 0, NULL },
    { "status", do_status, 0, NULL },
    { "stats", do_stats, 0, NULL },
    { "slowlog clear", do_slowlog_clear, 0, NULL },
    { "slowlog", do_slowlog, 0, "[N]" },
    { "cache stats", do_cache_stats, 0, NULL },
    { "cache flush", do_cache_flush, 0, "[cache|query_cache]" },
    { "reload", do_reload, FAE_RELOAD, NULL },
    { "reload wait", do_reload_wait, FAE_RELOAD, NULL },
    { "reload dry-run", do_reload, FAE_RELOAD_DRY_RUN, NULL },
    { "rollback", do_reload, FAE_RELOAD_ROLLBACK, NULL },
    { "stop", do_stop, 0, NULL },
    { "config", do_config, 0, NULL },
    { "log-level", do_log_level, 0, "debug|info|warn|error|reset" },
    { "reopen-log", do_reopen_log, 0, NULL },
    { "sessions", fae_control_do_ask, FAE_ASK_SESSIONS, "[N]" },
    { "session-close", fae_control_do_ask, FAE_ASK_SESSION_CLOSE, "WORKER:ID|peer=ADDRESS" },
    { "gc", fae_control_do_ask, FAE_ASK_GC, NULL },
    { "drain", fae_control_do_drain, 0, "[WORKER]" },
    { "undrain", fae_control_do_undrain, 0, NULL },
    { "servants", fae_control_do_servants, 0, NULL },
    { "locks", do_locks, 0, "[N]" },
    { "lock-release", do_lock_release, 0, "KEY" },
    { "backends", fae_control_do_backends, 0, NULL },
    { "breaker", fae_control_do_breaker, 0, "NAME open|close|auto" },
    { "hist", fae_control_do_hist, 0, NULL },
    { "kv", fae_control_do_kv, 0, "backup DIR|check|stats" },
};

#define N_VERBS (sizeof verbs / sizeof *verbs)

/* What follows the verb in the line, or NULL when the line is not this verb's. */
static const char *tail_of(const struct verb *verb, const char *line)
{
    size_t len = strlen(verb->name);

    if (strncmp(line, verb->name, len) != 0 || (line[len] != '\0' && line[len] != ' '))
        return NULL;
    if (!verb->takes)
        return line[len] ? NULL : "";
    return line + len + strspn(line + len, " ");
}

static void list_verbs(struct fae_buf *out)
{
    for (unsigned i = 0; i < N_VERBS; i++)
        fae_buf_printf(out, "%s%s%s%s", i ? ", " : "no such verb; there are: ", verbs[i].name,
                       verbs[i].takes ? " " : "", verbs[i].takes ? verbs[i].takes : "");
}

void fae_control_run(struct fae_node *node, struct fae_control_client *client, const char *line)
{
    struct fae_buf why = { 0 };

    for (unsigned i = 0; i < N_VERBS; i++) {
        const char *tail = tail_of(&verbs[i], line);

        if (!tail)
            continue;
        if (*tail || !verbs[i].takes || *verbs[i].takes == '[') {
            verbs[i].run(node, client, verbs[i].arg, tail);
            return;
        }
        fae_buf_printf(&why, "usage: %s %s", verbs[i].name, verbs[i].takes);
        fae_control_err(client, FAE_BAD_ARGS, fae_buf_text(&why));
        fae_buf_fini(&why);
        return;
    }
    list_verbs(&why);
    fae_control_err(client, FAE_NOT_FOUND, fae_buf_text(&why));
    fae_buf_fini(&why);
}
