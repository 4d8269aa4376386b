/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A list of names, the one used last at its end. A name has at most one lookup on the lane; everybody who asks meanwhile
 * waits for that one. When it takes long, those who wait are given the last good answer; when there is none, they are
 * told after FAE_RESOLVE_LIMIT_MS, whatever the name server does.
 */
#include "backend/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "backend/offload.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define THREADS 2u
#define NAMES_MAX 256u
#define QUEUE_MAX 4096u /* one a name; more names than NAMES_MAX there are only while they are being looked up */
#define WHY_MAX (FAE_ENDPOINT_TEXT + 128)

struct answer {
    unsigned n;
    struct fae_addr addrs[FAE_RESOLVE_ADDRS];
};

struct name {
    struct fae_list node;
    struct fae_resolver *resolver;
    struct fae_endpoint endpoint;
    struct answer good; /* the last; n 0: there never was one */
    uint64_t until_ms;  /* good until then */
    struct lookup *lookup;
    bool slow;              /* the lookup lost our patience */
    bool told;              /* a line of the log says that it fails */
    char why[WHY_MAX];      /* for the timer: what to fail with; "" when it is for patience */
    struct fae_timer timer; /* while somebody waits */
    struct fae_list waiting;
};

/* What a thread works on; nothing of the name's is touched there. */
struct lookup {
    struct fae_job job;
    struct name *name; /* the loop's */
    struct fae_endpoint endpoint;
    struct answer answer;
    char why[WHY_MAX];
};

struct fae_resolver {
    struct fae_loop *loop;
    struct fae_lane *lane;
    struct fae_list names;
    unsigned n_names;
    unsigned hurry;
    struct fae_list telling; /* who is being told, one after another */
    bool *gone;              /* set when it is freed while it tells */
};

/* ---- addresses ---- */

static void set_port(struct fae_addr *addr, const struct fae_endpoint *e)
{
    addr->tls = e->tls;
    if (addr->sa.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&addr->sa)->sin6_port = htons((uint16_t)e->port);
    else
        ((struct sockaddr_in *)&addr->sa)->sin_port = htons((uint16_t)e->port);
}

static void unix_addr(struct fae_addr *addr, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&addr->sa;

    *addr = (struct fae_addr){ .sa.ss_family = AF_UNIX, .len = sizeof *un };
    memcpy(un->sun_path, path, strnlen(path, sizeof un->sun_path - 1)); /* which an endpoint's path fits */
}

/* What needs nobody to ask. localhost is 127.0.0.1, as it is where we listen. */
static bool is_known(const struct fae_endpoint *e, struct fae_addr *addr)
{
    const char *host = strcmp(e->host, "localhost") == 0 ? "127.0.0.1" : e->host;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr->sa;
    struct sockaddr_in *in = (struct sockaddr_in *)&addr->sa;

    if (e->port == 0) {
        unix_addr(addr, e->host);
        return true;
    }
    *addr = (struct fae_addr){ 0 };
    if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        addr->len = sizeof *in;
    } else if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        addr->len = sizeof *in6;
    } else {
        return false;
    }
    set_port(addr, e);
    return true;
}

/* ---- on the threads ---- */

static void take_addrs(struct lookup *l, const struct addrinfo *info)
{
    for (; info && l->answer.n < FAE_RESOLVE_ADDRS; info = info->ai_next) {
        struct fae_addr *addr = &l->answer.addrs[l->answer.n];

        if ((info->ai_family != AF_INET && info->ai_family != AF_INET6) || info->ai_addrlen > sizeof addr->sa)
            continue;
        *addr = (struct fae_addr){ .len = info->ai_addrlen };
        memcpy(&addr->sa, info->ai_addr, info->ai_addrlen);
        set_port(addr, &l->endpoint);
        l->answer.n++;
    }
}

static void look_up(struct lookup *l)
{
    /* ADDRCONFIG: no IPv6 addresses on a machine that has no IPv6. */
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    struct addrinfo *info = NULL;
    char text[100];
    int rc = getaddrinfo(l->endpoint.host, NULL, &hints, &info);

    if (rc == 0) {
        take_addrs(l, info);
        freeaddrinfo(info);
    }
    if (rc == EAI_SYSTEM)
        snprintf(l->why, sizeof l->why, "%s: %s", l->endpoint.host, strerror_r(errno, text, sizeof text));
    else
        snprintf(l->why, sizeof l->why, "%s: %s", l->endpoint.host, rc ? gai_strerror(rc) : "it has no address");
}

static void run(void *state, struct fae_job *jobs)
{
    (void)state;
    for (struct fae_job *next; jobs; jobs = next) {
        next = jobs->next;
        look_up(FAE_CONTAINER(jobs, struct lookup, job));
    }
}

/* ---- telling ---- */

static void forget(struct name *name)
{
    fae_list_del(&name->node);
    name->resolver->n_names--;
    fae_timer_stop(&name->timer);
    free(name);
}

/* Tells all who wait for the name; who is told may ask again, cancel others, or free the resolver. False: he did. */
static bool tell(struct name *name, enum fae_err err, const struct answer *answer, const char *why)
{
    struct fae_resolver *r = name->resolver;
    struct answer copy = answer ? *answer : (struct answer){ 0 };
    char sentence[WHY_MAX];
    bool gone = false;

    snprintf(sentence, sizeof sentence, "%s", why ? why : "");
    fae_timer_stop(&name->timer);
    fae_list_splice(&r->telling, &name->waiting);
    r->gone = &gone;
    while (!gone && !fae_list_empty(&r->telling)) {
        struct fae_resolve *ask = FAE_CONTAINER(r->telling.next, struct fae_resolve, node);

        fae_list_del(&ask->node);
        ask->done(ask, err, copy.addrs, copy.n, err ? sentence : NULL);
    }
    if (gone)
        return false;
    r->gone = NULL;
    return true;
}

static void tell_failed(struct name *name, const char *why)
{
    if (name->good.n == 0) {
        tell(name, FAE_UNAVAILABLE, NULL, why);
        return;
    }
    name->until_ms = fae_now_ms() + FAE_RESOLVE_AGAIN_MS / name->resolver->hurry;
    if (!name->told)
        FAE_WARN("%s; the address it had last is used on", why);
    name->told = true;
    tell(name, FAE_OK, &name->good, NULL);
}

/* Somebody has waited long enough, or the lookup could not even begin. */
static void on_timer(void *arg)
{
    struct name *name = arg;
    char why[WHY_MAX];

    if (name->why[0]) {
        snprintf(why, sizeof why, "%s", name->why);
        name->why[0] = '\0';
        tell_failed(name, why);
        return;
    }
    name->slow = true;
    snprintf(why, sizeof why, "%s: no answer from the name server", name->endpoint.host);
    tell_failed(name, why);
}

static void on_looked_up(struct fae_job *job, enum fae_err err)
{
    struct lookup *l = FAE_CONTAINER(job, struct lookup, job);
    struct name *name = l->name;

    if (err) { /* CLOSED: we are being freed, and nobody is told */
        free(l);
        return;
    }
    name->lookup = NULL;
    name->slow = false;
    if (l->answer.n == 0) {
        tell_failed(name, l->why);
        free(l);
        return;
    }
    if (name->told)
        FAE_INFO("%s: the name is found again", name->endpoint.host);
    name->told = false;
    name->good = l->answer;
    name->until_ms = fae_now_ms() + FAE_RESOLVE_KEEP_MS / name->resolver->hurry;
    free(l);
    tell(name, FAE_OK, &name->good, NULL);
}

static void on_dropped(struct fae_job *job)
{
    free(FAE_CONTAINER(job, struct lookup, job));
}

/* ---- asking ---- */

/* Names that nobody waits for, the one used longest ago first. */
static void make_room(struct fae_resolver *r)
{
    FAE_LIST_EACH(node, &r->names) {
        struct name *name = FAE_CONTAINER(node, struct name, node);

        if (r->n_names < NAMES_MAX)
            return;
        if (!name->lookup && fae_list_empty(&name->waiting))
            forget(name);
    }
}

static struct name *name_of(struct fae_resolver *r, const struct fae_endpoint *e)
{
    struct name *name;

    for (struct fae_list *at = r->names.prev; at != &r->names; at = at->prev) {
        name = FAE_CONTAINER(at, struct name, node);
        if (strcmp(name->endpoint.text, e->text) == 0) {
            fae_list_del(&name->node);
            fae_list_add_tail(&r->names, &name->node);
            return name;
        }
    }
    make_room(r);
    name = fae_zalloc(sizeof *name);
    name->resolver = r;
    name->endpoint = *e;
    fae_list_init(&name->waiting);
    fae_timer_init(&name->timer, r->loop, on_timer, name);
    fae_list_add_tail(&r->names, &name->node);
    r->n_names++;
    return name;
}

static void begin(struct name *name)
{
    struct lookup *l = fae_zalloc(sizeof *l);
    enum fae_err err;

    l->job.done = on_looked_up;
    l->job.drop = on_dropped;
    l->name = name;
    l->endpoint = name->endpoint;
    err = fae_lane_put(name->resolver->lane, &l->job);
    if (!err) {
        name->lookup = l;
        return;
    }
    free(l);
    snprintf(name->why, sizeof name->why, "%s: it cannot be looked up: %s", name->endpoint.host, fae_err_text(err));
    fae_timer_start(&name->timer, 0);
}

enum fae_err fae_resolve(struct fae_resolver *r, const struct fae_endpoint *endpoint, struct fae_resolve *resolve,
                         struct fae_addr *addrs_out, unsigned *n_out)
{
    struct fae_addr known;
    struct name *name;

    if (is_known(endpoint, &known)) {
        addrs_out[0] = known;
        *n_out = 1;
        return FAE_OK;
    }
    name = name_of(r, endpoint);
    if (!name->lookup && (name->good.n == 0 || fae_now_ms() >= name->until_ms))
        begin(name);
    if (name->good.n > 0 && (name->slow || fae_now_ms() < name->until_ms)) {
        memcpy(addrs_out, name->good.addrs, name->good.n * sizeof *addrs_out);
        *n_out = name->good.n;
        return FAE_OK;
    }
    fae_list_add_tail(&name->waiting, &resolve->node);
    if (!fae_timer_running(&name->timer))
        fae_timer_start(&name->timer, (name->good.n > 0 ? FAE_RESOLVE_PATIENCE_MS : FAE_RESOLVE_LIMIT_MS) / r->hurry);
    return FAE_MORE;
}

void fae_resolve_cancel(struct fae_resolver *r, struct fae_resolve *resolve)
{
    (void)r;
    fae_list_del(&resolve->node);
}

/* ---- life ---- */

struct fae_resolver *fae_resolver_new(struct fae_loop *loop)
{
    struct fae_resolver *r = fae_zalloc(sizeof *r);

    r->loop = loop;
    r->hurry = 1;
    fae_list_init(&r->names);
    fae_list_init(&r->telling);
    r->lane = fae_lane_new(&(struct fae_lane_opts){
        .loop = loop, .name = "resolve", .n_threads = THREADS, .queue_max = QUEUE_MAX, .batch_max = 1, .run = run });
    return r;
}

void fae_resolver_hurry(struct fae_resolver *r, unsigned times)
{
    r->hurry = times;
}

static void leave(struct fae_list *waiting)
{
    while (!fae_list_empty(waiting))
        fae_list_del(waiting->next);
}

void fae_resolver_free(struct fae_resolver **resolver)
{
    struct fae_resolver *r = *resolver;

    *resolver = NULL;
    if (!r)
        return;
    if (r->gone)
        *r->gone = true;
    leave(&r->telling);
    for (struct fae_list *at = r->names.next; at != &r->names; at = at->next)
        leave(&FAE_CONTAINER(at, struct name, node)->waiting);
    fae_lane_free(&r->lane);
    FAE_LIST_EACH(node, &r->names)
        forget(FAE_CONTAINER(node, struct name, node));
    free(r);
}
