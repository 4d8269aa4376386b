/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Routes and their answers. Errors are JSON: {"error":"NOT_FOUND","message":"..."}.
 */
#include "ops/admin.h"
#include "ops/mysql.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "backend/upstream_show.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"
#include "net/digest.h"
#include "ops/forward.h"
#include "rpc/slowlog.h"
#include "rpc/stats.h"
#include "store/locks.h"

#define GUESSES_MAX 10 /* wrong tokens that may come at once */
#define GUESS_MS 1000  /* after which one of them is forgiven */
#define ASK_MS 5000
#define RELOAD_MS 30000
#define SLOWLOG_N 100
#define LOCKS_N 100
#define LOCKS_MOST 1000
#define LOCK_WAIT_MS 100 /* for a worker that is stopped inside the table */

typedef void (*answer_fn)(struct fae_admin *admin, const struct fae_http_request *request,
                          struct fae_http_answer *answer);

static const char json[] = "application/json";

static void say(struct fae_http_answer *answer, int status, const char *text)
{
    answer->status = status;
    fae_buf_printf(&answer->body, "%s\n", text);
}

/* ---- read from shared memory ---- */

/* That this process answers says that the node lives; whether it serves is /readyz. */
static void get_healthz(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    (void)admin;
    (void)request;
    say(answer, 200, "ok");
}

/* Why workers refuse, in words. */
static void say_overloaded(struct fae_http_answer *answer, uint32_t why)
{
    static const struct {
        uint32_t bit;
        const char *text;
    } texts[] = {
        { FAE_OVERLOADED_CONGESTED, "calls wait too long" },
        { FAE_OVERLOADED_FDS, "no descriptors are left" },
        { FAE_OVERLOADED_MEMORY, "memory is used up" },
    };

    answer->status = 503;
    fae_buf_printf(&answer->body, "overloaded:");
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
        if (why & texts[i].bit)
            fae_buf_printf(&answer->body, " %s;", texts[i].text);
    answer->body.len--;
    fae_buf_add(&answer->body, "\n", 1);
}

/* One worker that can take calls is enough: while others are replaced, or refuse, the node is of use. */
static void get_readyz(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    const struct fae_slots *slots = admin->source.slots;
    unsigned n_ready = 0, n_free = 0, n_draining = 0;
    uint32_t why = 0;

    (void)request;
    for (unsigned i = 0; i < slots->n_workers; i++) {
        uint32_t state = FAE_STAT_GET(slots->slots[i].state), refuses = FAE_STAT_GET(slots->slots[i].overloaded);

        n_draining += state == FAE_SLOT_DRAINING;
        if (state != FAE_SLOT_READY)
            continue;
        n_ready++;
        n_free += refuses == 0;
        why |= refuses;
    }
    if (FAE_STAT_GET(slots->doors) == FAE_DOORS_STOPPING)
        say(answer, 503, "stopping");
    else if (FAE_STAT_GET(slots->doors) == FAE_DOORS_CLOSED)
        say(answer, 503, "drained by an operator");
    else if (n_ready == 0)
        say(answer, 503, n_draining ? "draining" : "no worker is ready");
    else if (n_free == 0)
        say_overloaded(answer, why);
    else
        say(answer, 200, "ok");
}

static void get_metrics(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    (void)request;
    answer->type = FAE_METRICS_TYPE;
    fae_metrics_text(&admin->source, &answer->body);
}

static void get_stats(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    (void)request;
    answer->type = json;
    fae_stats_json(admin->source.stats, admin->source.slots, admin->source.stores, &answer->body);
    fae_upstreams_json_member(admin->source.upstreams, fae_now_ms(), &answer->body);
    fae_buf_add(&answer->body, "\n", 1);
}

/* "n=20" of a query; `otherwise` when there is none, 0 when it is something else. */
static unsigned count_of(const char *query, unsigned otherwise)
{
    if (!*query)
        return otherwise;
    if (strncmp(query, "n=", 2) != 0 || !query[2] || query[2 + strspn(query + 2, "0123456789")] || strlen(query) > 8)
        return 0;
    return (unsigned)atoi(query + 2);
}

/* Lines of JSON become one array. */
static void get_slowlog(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    unsigned n = count_of(request->query, SLOWLOG_N);
    struct fae_buf lines = { 0 };

    if (n == 0) {
        fae_http_error(answer, 400, "?n=COUNT says how many calls, newest first");
        return;
    }
    answer->type = json;
    fae_slowlog_json(admin->source.slowlog, n, &lines);
    for (size_t i = 0; i + 1 < lines.len; i++)
        if (lines.data[i] == '\n')
            lines.data[i] = ',';
    fae_buf_printf(&answer->body, "{\"total\":%llu,\"calls\":[",
                   (unsigned long long)fae_slowlog_total(admin->source.slowlog));
    fae_buf_add(&answer->body, lines.data, lines.len);
    fae_buf_printf(&answer->body, "]}\n");
    fae_buf_fini(&lines);
}

static void get_locks(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    unsigned n = count_of(request->query, LOCKS_N);
    struct fae_lock_info *infos;

    if (n == 0 || n > LOCKS_MOST || !admin->source.stores) {
        fae_http_error(answer, 400, "?n=COUNT says how many locks, from 1 to %d", LOCKS_MOST);
        return;
    }
    infos = fae_alloc(n * sizeof *infos);
    n = fae_locks_list(admin->source.stores, fae_lock_now_ms(), LOCK_WAIT_MS, infos, n);
    answer->type = json;
    fae_buf_printf(&answer->body, "{\"held\":%u,\"locks\":[", fae_locks_n_held(admin->source.stores));
    for (unsigned i = 0; i < n; i++) {
        if (i)
            fae_buf_add(&answer->body, ",", 1);
        fae_lock_info_json(&infos[i], &answer->body);
    }
    fae_buf_printf(&answer->body, "]}\n");
    free(infos);
}

static void get_backends(struct fae_admin *admin, const struct fae_http_request *request,
                         struct fae_http_answer *answer)
{
    (void)request;
    answer->type = json;
    fae_buf_printf(&answer->body, "{\"backends\":");
    fae_upstreams_json(admin->source.upstreams, fae_now_ms(), &answer->body);
    fae_buf_printf(&answer->body, "}\n");
}

static void get_mysql(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    (void)request;
    answer->type = json;
    fae_mysql_json(admin->source.stores, &answer->body);
    fae_buf_printf(&answer->body, "\n");
}

static void get_routes(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer);

/* ---- the table ---- */

enum guard { OPEN, TOKEN };

/* Without fn the supervisor is asked. A POST always needs the token. */
static const struct route {
    const char *path, *method;
    enum guard guard; /* TOKEN: when there is one */
    answer_fn fn;
    const char *help;
    struct fae_forward forward;
} routes[] = {
    { "/healthz", "GET", OPEN, get_healthz, "this process is there", { 0 } },
    { "/readyz", "GET", OPEN, get_readyz, "the node takes calls; 503 and why when it does not", { 0 } },
    { "/metrics", "GET", OPEN, get_metrics, "everything that is counted, for Prometheus", { 0 } },
    { "/stats", "GET", OPEN, get_stats, "methods and workers", { 0 } },
    { "/admin/", "GET", TOKEN, get_routes, "this list", { 0 } },
    { "/admin/servants",
      "GET",
      TOKEN,
      NULL,
      "generations and the files of the one that serves",
      { .verb = "servants", .rows = "servants", .within_ms = ASK_MS } },
    { "/admin/sessions",
      "GET",
      TOKEN,
      NULL,
      "connections, the busiest first; ?n=COUNT a worker",
      { .verb = "sessions", .params = { { "n", FAE_FORWARD_WORD, "" } }, .rows = "sessions", .within_ms = ASK_MS } },
    { "/admin/config",
      "GET",
      TOKEN,
      NULL,
      "every option's value, secrets left out",
      { .verb = "config", .within_ms = ASK_MS } },
    { "/admin/locks", "GET", TOKEN, get_locks, "locks that are held, in no order; ?n=COUNT", { 0 } },
    { "/admin/backends", "GET", TOKEN, get_backends, "servers that are called, and their breakers", { 0 } },
    { "/admin/mysql", "GET", TOKEN, get_mysql, "mysql statements without their values, and how long they take", { 0 } },
    { "/admin/slowlog", "GET", TOKEN, get_slowlog, "the last slow and sampled calls; ?n=COUNT", { 0 } },
    { "/admin/reload",
      "POST",
      TOKEN,
      NULL,
      "load the servants anew; {\"dry_run\":true} only checks them",
      { .verb = "reload", .params = { { "dry_run", FAE_FORWARD_FLAG, "dry-run" } }, .within_ms = RELOAD_MS } },
    { "/admin/rollback",
      "POST",
      TOKEN,
      NULL,
      "back to the servants before the last reload",
      { .verb = "rollback", .within_ms = RELOAD_MS } },
    { "/admin/drain",
      "POST",
      TOKEN,
      NULL,
      "refuse new connections until /admin/undrain; {\"worker\":N} replaces that worker instead",
      { .verb = "drain", .params = { { "worker", FAE_FORWARD_WORD, "" } }, .within_ms = ASK_MS } },
    { "/admin/undrain", "POST", TOKEN, NULL, "take connections again", { .verb = "undrain", .within_ms = ASK_MS } },
    { "/admin/log-level",
      "POST",
      TOKEN,
      NULL,
      "{\"level\":\"debug\"}: what is logged from now on",
      { .verb = "log-level", .params = { { "level", FAE_FORWARD_WORD, "" } }, .within_ms = ASK_MS } },
    { "/admin/session-close",
      "POST",
      TOKEN,
      NULL,
      "{\"session\":\"WORKER:ID\"} or {\"peer\":\"ADDRESS\"}: close that connection, or all of that address",
      { .verb = "session-close",
        .params = { { "session", FAE_FORWARD_WORD, "" }, { "peer", FAE_FORWARD_WORD, "peer=" } },
        .within_ms = ASK_MS } },
    { "/admin/lock-release",
      "POST",
      TOKEN,
      NULL,
      "{\"key\":\"KEY\"}: release a lock whoever holds it",
      { .verb = "lock-release", .params = { { "key", FAE_FORWARD_WORD, "" } }, .within_ms = ASK_MS } },
    { "/admin/breaker",
      "POST",
      TOKEN,
      NULL,
      "{\"name\":\"redis/main/tcp://10.0.0.1:6379\",\"to\":\"open\"}, or close, auto: of a server, or of all of redis/main",
      { .verb = "breaker",
        .params = { { "name", FAE_FORWARD_WORD, "" }, { "to", FAE_FORWARD_WORD, "" } },
        .within_ms = ASK_MS } },
    { "/admin/gc",
      "POST",
      TOKEN,
      NULL,
      "collect the Lua garbage of one worker after the other",
      { .verb = "gc", .rows = "workers", .within_ms = RELOAD_MS } },
};

#define N_ROUTES (sizeof routes / sizeof *routes)

static void get_routes(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    (void)admin;
    (void)request;
    for (unsigned i = 0; i < N_ROUTES; i++)
        fae_buf_printf(&answer->body, "%-4s %-20s  %s\n", routes[i].method, routes[i].path, routes[i].help);
}

/* ---- the token ---- */

/* Its bytes are compared as digests, and those in constant time: how long it takes tells nothing. */
static bool is_token(const uint8_t *want, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    uint8_t got[FAE_SHA256_BYTES];
    const char *token = authorization + sizeof scheme - 1;

    if (strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    fae_sha256(token, strlen(token), got);
    return fae_ct_equal(want, got, sizeof got);
}

/* False: the answer says why not. */
static bool shows_token(struct fae_admin *admin, const struct fae_http_request *request, bool changes,
                        struct fae_http_answer *answer)
{
    uint64_t now_ms = fae_now_ms(), most_ms = now_ms + GUESSES_MAX * GUESS_MS;
    uint8_t want[FAE_SHA256_BYTES];

    if (!fae_sha256_from_hex(admin->config->admin_token, want)) {
        if (!changes)
            return true;
        fae_http_error(answer, 403,
                       "what changes the node is off: `fae token` makes a token, and the option admin_token "
                       "with its SHA-256 turns it on");
        return false;
    }
    if (!*request->authorization) {
        fae_http_error(answer, 403, "this needs the header \"Authorization: Bearer TOKEN\"");
        return false;
    }
    if (admin->guesses_ms >= most_ms) {
        answer->retry_after_s = (unsigned)((admin->guesses_ms - most_ms) / 1000 + 1);
        fae_http_error(answer, 429, "too many wrong tokens; fae.ctl works meanwhile");
        return false;
    }
    if (is_token(want, request->authorization))
        return true;
    admin->guesses_ms = (admin->guesses_ms > now_ms ? admin->guesses_ms : now_ms) + GUESS_MS;
    FAE_WARN("admin: a wrong token for %s", request->path);
    fae_http_error(answer, 401, "the token is not known");
    return false;
}

/* ---- asking the supervisor ---- */

struct pending {
    const struct fae_forward *forward;
    struct fae_http_later *later;
};

static void on_said(const struct fae_ctl_answer *said, void *arg)
{
    struct pending *pending = arg;
    struct fae_http_answer answer = { 0 };

    fae_forward_answer(pending->forward, said, &answer);
    fae_http_reply(pending->later, &answer);
    free(pending);
}

static void forward(struct fae_admin *admin, const struct route *route, const struct fae_http_request *request,
                    struct fae_http_answer *answer)
{
    const struct fae_forward *f = &route->forward;
    struct fae_buf line = { 0 };
    struct pending *pending;
    char why[200];
    enum fae_err err;

    if (strcmp(route->method, "POST") == 0)
        err = fae_forward_line(f, request->body, request->body_len, &line, why, sizeof why);
    else
        err = fae_forward_query(f, request->query, &line, why, sizeof why);
    if (err) {
        fae_http_error(answer, 400, "%s", why);
    } else if (!request->later) {
        say(answer, 200, fae_buf_text(&line)); /* a spec without a socket looks at the line */
    } else {
        pending = fae_zalloc(sizeof *pending);
        *pending = (struct pending){ .forward = f, .later = request->later };
        answer->later = true;
        fae_ctl_ask_later(&admin->ctl, fae_buf_text(&line), f->within_ms, on_said, pending);
    }
    fae_buf_fini(&line);
}

/* ---- dispatch ---- */

/* HEAD is GET whose body the server leaves out. */
static bool is_method(const char *asked, const char *method)
{
    return strcmp(asked, method) == 0 || (strcmp(asked, "HEAD") == 0 && strcmp(method, "GET") == 0);
}

static void run(struct fae_admin *admin, const struct route *route, const struct fae_http_request *request,
                struct fae_http_answer *answer)
{
    bool changes = strcmp(route->method, "POST") == 0;

    if (route->guard == TOKEN && !shows_token(admin, request, changes, answer))
        return;
    if (route->fn)
        route->fn(admin, request, answer);
    else
        forward(admin, route, request, answer);
}

void fae_admin_answer(const struct fae_http_request *request, struct fae_http_answer *answer, void *arg)
{
    const char *allow = NULL;

    for (unsigned i = 0; i < N_ROUTES; i++) {
        if (strcmp(routes[i].path, request->path) != 0)
            continue;
        if (is_method(request->method, routes[i].method)) {
            run(arg, &routes[i], request, answer);
            return;
        }
        allow = strcmp(routes[i].method, "GET") == 0 ? "GET, HEAD" : routes[i].method;
    }
    if (!allow) {
        fae_http_error(answer, 404, "no such path; /admin/ lists what there is");
        return;
    }
    answer->allow = allow;
    fae_http_error(answer, 405, "this path does not take that method");
}

enum fae_err fae_admin_open(struct fae_admin *admin, struct fae_loop *loop, int fd, const struct fae_config *config,
                            const struct fae_metrics_source *source)
{
    *admin = (struct fae_admin){ .config = config, .source = *source };
    fae_ctl_init(&admin->ctl, loop, config->run_dir);
    return fae_http_open(&admin->http, loop, fd, fae_admin_answer, admin);
}

void fae_admin_close(struct fae_admin *admin)
{
    fae_ctl_fini(&admin->ctl);
    fae_http_close(&admin->http);
}
