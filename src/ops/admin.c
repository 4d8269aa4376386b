/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Routes and their answers. Errors are JSON: {"error":"NOT_FOUND","message":"..."}.
 */
#include "ops/admin.h"

#include <stdbool.h>
#include <string.h>

typedef void (*answer_fn)(struct fae_admin *admin, const struct fae_http_request *request,
                          struct fae_http_answer *answer);

static const char json[] = "application/json";

static void say(struct fae_http_answer *answer, int status, const char *text)
{
    answer->status = status;
    fae_buf_printf(&answer->body, "%s\n", text);
}

static void say_error(struct fae_http_answer *answer, int status, const char *code, const char *message)
{
    answer->status = status;
    answer->type = json;
    fae_buf_printf(&answer->body, "{\"error\":\"%s\",\"message\":\"%s\"}\n", code, message);
}

/* That this process answers says that the node lives; whether it serves is /readyz. */
static void get_healthz(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    (void)admin;
    (void)request;
    say(answer, 200, "ok");
}

static void get_readyz(struct fae_admin *admin, const struct fae_http_request *request, struct fae_http_answer *answer)
{
    unsigned n_ready = 0, n_draining = 0;

    (void)request;
    for (unsigned i = 0; i < admin->slots->n_workers; i++) {
        uint32_t state = atomic_load(&admin->slots->slots[i].state);

        n_ready += state == FAE_SLOT_READY;
        n_draining += state == FAE_SLOT_DRAINING;
    }
    if (n_draining)
        say(answer, 503, "draining");
    else if (n_ready == 0)
        say(answer, 503, "no worker is ready");
    else
        say(answer, 200, "ok");
}

static const struct {
    const char *path, *method;
    answer_fn fn;
} routes[] = {
    { "/healthz", "GET", get_healthz },
    { "/readyz", "GET", get_readyz },
};

/* HEAD is GET whose body the server leaves out. */
static bool is_method(const char *asked, const char *method)
{
    return strcmp(asked, method) == 0 || (strcmp(asked, "HEAD") == 0 && strcmp(method, "GET") == 0);
}

void fae_admin_answer(const struct fae_http_request *request, struct fae_http_answer *answer, void *arg)
{
    const char *allow = NULL;

    for (unsigned i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(routes[i].path, request->path) != 0)
            continue;
        if (is_method(request->method, routes[i].method)) {
            routes[i].fn(arg, request, answer);
            return;
        }
        allow = strcmp(routes[i].method, "GET") == 0 ? "GET, HEAD" : routes[i].method;
    }
    if (!allow) {
        say_error(answer, 404, "NOT_FOUND", "no such path");
        return;
    }
    answer->allow = allow;
    say_error(answer, 405, "BAD_METHOD", "this path does not take that method");
}

enum fae_err fae_admin_open(struct fae_admin *admin, struct fae_loop *loop, int fd, const struct fae_slots *slots)
{
    *admin = (struct fae_admin){ .slots = slots };
    return fae_http_open(&admin->http, loop, fd, fae_admin_answer, admin);
}

void fae_admin_close(struct fae_admin *admin)
{
    fae_http_close(&admin->http);
}
