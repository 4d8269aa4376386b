/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The list of pools of one worker, and the table of kinds.
 */
#include "backend/backends.h"

#include <stdlib.h>
#include <string.h>

#include "backend/resolve.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/config.h"
#include "base/list.h"

static const struct fae_backend_kind *const kinds[] = {
    &fae_redis_kind,
    &fae_memcache_kind,
    &fae_mysql_kind,
};

/* One pool. Its entry is what it was made from, so that a reload sees whether it is still the same. */
struct backend {
    struct fae_list node; /* in live or in retired */
    const struct fae_backend_kind *kind;
    const struct fae_config_section *section;
    void *entry;
    void *pool;
    bool seen; /* in the configuration that is being adopted */
};

struct fae_backends {
    struct fae_backend_env env;
    struct fae_backend_room results;
    struct fae_list live, retired;
    uint32_t version;
};

struct fae_backends *fae_backends_new(const struct fae_backends_opts *opts)
{
    struct fae_backends *b = fae_zalloc(sizeof *b);

    b->env.o = *opts;
    b->env.results = &b->results;
    b->env.resolver = fae_resolver_new(opts->loop);
    fae_list_init(&b->live);
    fae_list_init(&b->retired);
    return b;
}

static void end(struct backend *backend)
{
    fae_list_del(&backend->node);
    backend->kind->free(backend->pool);
    free(backend->entry);
    free(backend);
}

static void end_all(struct fae_list *list)
{
    while (!fae_list_empty(list))
        end(FAE_CONTAINER(list->next, struct backend, node));
}

void fae_backends_free(struct fae_backends **backends)
{
    struct fae_backends *b = *backends;

    *backends = NULL;
    if (!b)
        return;
    end_all(&b->live);
    end_all(&b->retired);
    FAE_ASSERT(b->results.held == 0);
    fae_resolver_free(&b->env.resolver);
    free(b);
}

/* ---- configuration ---- */

/* Every entry of a section of pools begins with its struct fae_config_pool. */
static const char *name_of(const void *entry)
{
    return ((const struct fae_config_pool *)entry)->name;
}

static struct backend *find(const struct fae_backends *b, const struct fae_backend_kind *kind, const char *name)
{
    for (struct fae_list *at = b->live.next; at != &b->live; at = at->next) {
        struct backend *backend = FAE_CONTAINER(at, struct backend, node);

        if (backend->kind == kind && strcmp(name_of(backend->entry), name) == 0)
            return backend;
    }
    return NULL;
}

static bool same(const struct fae_config_section *section, const void *a, const void *b)
{
    for (unsigned i = 0; i < *section->n_opts; i++)
        if (!fae_opt_equal(&section->opts[i], a, b))
            return false;
    return true;
}

static void retire(struct fae_backends *b, struct backend *backend)
{
    fae_list_del(&backend->node);
    fae_list_add_tail(&b->retired, &backend->node);
    if (backend->kind->retire)
        backend->kind->retire(backend->pool);
}

static void adopt(struct fae_backends *b, const struct fae_backend_kind *kind, const struct fae_config_section *section,
                  const void *entry)
{
    struct backend *backend = find(b, kind, name_of(entry));

    if (backend && same(section, backend->entry, entry)) {
        backend->seen = true;
        return;
    }
    if (backend)
        retire(b, backend);
    backend = fae_alloc(sizeof *backend);
    *backend = (struct backend){ .kind = kind, .section = section, .entry = fae_alloc(section->size), .seen = true };
    memcpy(backend->entry, entry, section->size);
    backend->pool = kind->make(&b->env, backend->entry);
    fae_list_add_tail(&b->live, &backend->node);
}

void fae_backends_configured(struct fae_backends *b)
{
    uint64_t results_max = b->env.o.config->mysql_results_max;
    struct fae_list *next;

    b->results.max = results_max < b->env.o.results_max ? results_max : b->env.o.results_max;
    for (struct fae_list *at = b->live.next; at != &b->live; at = at->next)
        FAE_CONTAINER(at, struct backend, node)->seen = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct fae_config_section *section = fae_config_section(kinds[i]->section);

        for (unsigned j = 0; j < *fae_config_count(section, b->env.o.config); j++)
            adopt(b, kinds[i], section, fae_config_entry(section, b->env.o.config, j));
    }
    for (struct fae_list *at = b->live.next; at != &b->live; at = next) {
        struct backend *backend = FAE_CONTAINER(at, struct backend, node);

        next = at->next;
        if (!backend->seen)
            retire(b, backend);
    }
    b->version++;
}

/* ---- life ---- */

void fae_backends_tick(struct fae_backends *b)
{
    struct fae_list *next;

    for (struct fae_list *at = b->live.next; at != &b->live; at = at->next) {
        struct backend *backend = FAE_CONTAINER(at, struct backend, node);

        backend->kind->tick(backend->pool);
    }
    for (struct fae_list *at = b->retired.next; at != &b->retired; at = next) {
        struct backend *backend = FAE_CONTAINER(at, struct backend, node);

        next = at->next;
        if (backend->kind->quiet(backend->pool))
            end(backend);
        else
            backend->kind->tick(backend->pool);
    }
}

void *fae_backends_find(const struct fae_backends *b, const struct fae_backend_kind *kind, const char *name)
{
    struct backend *backend = find(b, kind, name);

    return backend ? backend->pool : NULL;
}

uint32_t fae_backends_version(const struct fae_backends *b)
{
    return b->version;
}

const struct fae_backend_env *fae_backends_env(const struct fae_backends *b)
{
    return &b->env;
}
