/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Families and children are names (base/names.h): of a declaration, and of a family's row with the label values. What a
 * name's row stands for is filled in after it and tells by itself whether that was done, so a death in between costs
 * nothing but a few cells.
 */
#include "rpc/series.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/hist.h"
#include "base/names.h"
#include "base/utf8.h"

#define DECLARATION_MAX 1200 /* bytes: name, kind, labels and bounds as text */
#define CHILD_MAX (4 + FAE_SERIES_VALUES_MAX)

struct family {
    struct fae_series_family f;
    _Atomic uint64_t declared; /* when, as a number that rises; 0: not filled in yet */
};

struct fae_series {
    uint32_t n_workers, cells_max;
    _Atomic uint32_t n_cells;
    _Atomic uint64_t n_declared;
    size_t names_at, children_at, firsts_at, cells_at, worker_bytes; /* where the parts are, from here */
    _Atomic uint64_t n_dropped[FAE_WORKERS_MAX];
    struct family families[FAE_SERIES_FAMILIES_MAX];
};

static size_t aligned(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static size_t lay_out(struct fae_series *s, const struct fae_series_arg *arg)
{
    s->n_workers = arg->n_workers;
    s->cells_max = arg->cells_max;
    s->names_at = aligned(sizeof *s);
    s->children_at = s->names_at + aligned(fae_names_size(FAE_SERIES_FAMILIES_MAX, DECLARATION_MAX));
    s->firsts_at = s->children_at + aligned(fae_names_size(arg->cells_max, CHILD_MAX));
    s->cells_at = s->firsts_at + aligned(arg->cells_max * sizeof(uint32_t));
    s->worker_bytes = aligned(arg->cells_max * sizeof(double));
    return s->cells_at + arg->n_workers * s->worker_bytes;
}

size_t fae_series_size(const void *arg)
{
    static struct fae_series s; /* large, and only its numbers are wanted */

    return lay_out(&s, arg);
}

static struct fae_names *names_of(const struct fae_series *s)
{
    return (struct fae_names *)((char *)s + s->names_at);
}

static struct fae_names *children_of(const struct fae_series *s)
{
    return (struct fae_names *)((char *)s + s->children_at);
}

/* A child's first cell + 1; 0: it has none yet. */
static _Atomic uint32_t *firsts_of(const struct fae_series *s)
{
    return (_Atomic uint32_t *)((char *)s + s->firsts_at);
}

_Atomic double *fae_series_cells(struct fae_series *s, unsigned slot)
{
    FAE_ASSERT(slot < s->n_workers);
    return (_Atomic double *)((char *)s + s->cells_at + slot * s->worker_bytes);
}

void fae_series_init(void *mem, const void *arg)
{
    struct fae_series *s = mem;

    lay_out(s, arg);
    fae_names_init(names_of(s), FAE_SERIES_FAMILIES_MAX, DECLARATION_MAX);
    fae_names_init(children_of(s), s->cells_max, CHILD_MAX);
}

/* ---- families ---- */

/* What two declarations must share to be one: everything but the help. 0: too long. */
static size_t declaration(const struct fae_series_family *f, char *text)
{
    size_t n = (size_t)snprintf(text, DECLARATION_MAX, "%s %u", f->name, f->kind);

    for (uint32_t i = 0; i < f->n_labels && n < DECLARATION_MAX; i++)
        n += (size_t)snprintf(text + n, DECLARATION_MAX - n, " %s", f->labels[i]);
    for (uint32_t i = 0; i < f->n_bounds && n < DECLARATION_MAX; i++)
        n += (size_t)snprintf(text + n, DECLARATION_MAX - n, " %a", f->bounds[i]);
    return n < DECLARATION_MAX ? n : 0;
}

uint32_t fae_series_declare(struct fae_series *s, const struct fae_series_family *f)
{
    char text[DECLARATION_MAX];
    size_t len = declaration(f, text);
    uint32_t row = len ? fae_names_add(names_of(s), text, len) : FAE_NAMES_NONE;
    struct family *family;

    if (row == FAE_NAMES_NONE)
        return FAE_SERIES_NONE;
    family = &s->families[row];
    /* Whoever else fills it in at this moment writes the same, but for the help, which stays as it was first. */
    if (atomic_load_explicit(&family->declared, memory_order_acquire) == 0)
        family->f = *f;
    atomic_store_explicit(&family->declared, atomic_fetch_add(&s->n_declared, 1) + 1, memory_order_release);
    return row;
}

uint32_t fae_series_n_families(const struct fae_series *s)
{
    return fae_names_count(names_of(s));
}

const struct fae_series_family *fae_series_family(const struct fae_series *s, uint32_t row)
{
    const struct family *family = &s->families[row];
    uint64_t declared = atomic_load_explicit(&family->declared, memory_order_acquire);
    uint32_t n = fae_series_n_families(s);

    if (declared == 0)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load_explicit(&s->families[i].declared, memory_order_acquire) > declared &&
            strcmp(s->families[i].f.name, family->f.name) == 0)
            return NULL;
    return &family->f;
}

/* ---- children ---- */

static uint32_t cells_of_family(const struct fae_series_family *f)
{
    return f->kind == FAE_SERIES_HISTOGRAM ? f->n_bounds + 3 : 1; /* buckets, one more, sum, count */
}

/* The name of a child: its family's row, then each value after its length. */
static size_t child_name(uint32_t family, const struct fae_series_value *values, unsigned n, uint8_t *name)
{
    size_t at = 4, max = FAE_SERIES_VALUES_MAX / (n ? n : 1) - 2;

    memcpy(name, &family, 4);
    for (unsigned i = 0; i < n; i++) {
        size_t len = values[i].len < max ? values[i].len : max;

        name[at++] = (uint8_t)len;
        memcpy(name + at, values[i].text, len);
        at += len;
    }
    return at;
}

_Static_assert(FAE_SERIES_VALUES_MAX - 2 <= UINT8_MAX, "a value's length is a byte");

/* Makes every value UTF-8 that ends with a whole character, in place: what is shown must be text. */
static void clean(uint8_t *name, size_t len)
{
    for (size_t at = 4; at < len; at += 1 + name[at])
        for (size_t i = 0; i < name[at];) {
            unsigned n = fae_utf8_char(name + at + 1 + i, name[at] - i);

            if (n == 0)
                name[at + 1 + i] = '?';
            i += n ? n : 1;
        }
}

/* Gives the child its cells, unless there are too few. */
static uint32_t first_cell(struct fae_series *s, uint32_t child, uint32_t n_wanted)
{
    _Atomic uint32_t *first = &firsts_of(s)[child];
    uint32_t have = atomic_load_explicit(first, memory_order_acquire);
    uint32_t n = atomic_load_explicit(&s->n_cells, memory_order_relaxed);

    if (have)
        return have - 1;
    do
        if (n_wanted > s->cells_max - n)
            return FAE_SERIES_NONE;
    while (!atomic_compare_exchange_weak(&s->n_cells, &n, n + n_wanted));
    if (atomic_compare_exchange_strong(first, &have, n + 1)) /* else another worker was quicker, and these are lost */
        return n;
    return have - 1;
}

uint32_t fae_series_child(struct fae_series *s, uint32_t family, const struct fae_series_value *values)
{
    const struct fae_series_family *f = &s->families[family].f;
    uint8_t name[CHILD_MAX];
    size_t len = child_name(family, values, f->n_labels, name);
    uint32_t child = fae_names_find(children_of(s), name, len), first;

    if (__builtin_expect(child != FAE_NAMES_NONE, 1)) {
        first = atomic_load_explicit(&firsts_of(s)[child], memory_order_acquire);
        if (first)
            return first - 1;
    }
    clean(name, len);
    /* A full node makes no names either. */
    if (cells_of_family(f) > s->cells_max - atomic_load_explicit(&s->n_cells, memory_order_relaxed))
        child = fae_names_find(children_of(s), name, len);
    else
        child = fae_names_add(children_of(s), name, len);
    return child == FAE_NAMES_NONE ? FAE_SERIES_NONE : first_cell(s, child, cells_of_family(f));
}

uint32_t fae_series_n_children(const struct fae_series *s)
{
    return fae_names_count(children_of(s));
}

bool fae_series_read_child(const struct fae_series *s, uint32_t child, uint32_t *family_out, uint32_t *cell_out,
                           struct fae_series_value values_out[FAE_SERIES_LABELS_MAX], unsigned *n_out)
{
    uint32_t first = atomic_load_explicit(&firsts_of(s)[child], memory_order_acquire);
    const char *name;
    unsigned n = 0;
    size_t len;

    if (!first)
        return false;
    name = fae_names_text(children_of(s), child, &len);
    memcpy(family_out, name, 4);
    for (size_t at = 4; at < len && n < FAE_SERIES_LABELS_MAX; n++) {
        values_out[n] = (struct fae_series_value){ name + at + 1, (uint8_t)name[at] };
        at += 1 + values_out[n].len;
    }
    *n_out = n;
    *cell_out = first - 1;
    return true;
}

/* ---- values ---- */

void fae_series_add(struct fae_series *s, unsigned slot, uint32_t cell, double by)
{
    _Atomic double *cells = fae_series_cells(s, slot);

    FAE_STAT_ADD(cells[cell], by);
}

void fae_series_set(struct fae_series *s, unsigned slot, uint32_t cell, double to)
{
    FAE_STAT_SET(fae_series_cells(s, slot)[cell], to == 0 ? -0.0 : to);
}

void fae_series_observe(struct fae_series *s, unsigned slot, uint32_t cell, const struct fae_series_family *f,
                        double value)
{
    _Atomic double *cells = &fae_series_cells(s, slot)[cell];
    uint32_t bucket = 0;

    while (bucket < f->n_bounds && value > f->bounds[bucket])
        bucket++;
    FAE_STAT_ADD(cells[bucket], 1);
    FAE_STAT_ADD(cells[f->n_bounds + 1], value);
    FAE_STAT_ADD(cells[f->n_bounds + 2], 1);
}

double fae_series_value(const struct fae_series *s, unsigned slot, uint32_t cell)
{
    return FAE_STAT_GET(fae_series_cells((struct fae_series *)s, slot)[cell]);
}

void fae_series_drop(struct fae_series *s, unsigned slot)
{
    FAE_STAT_ADD(s->n_dropped[slot], 1);
}

uint64_t fae_series_dropped(const struct fae_series *s)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < s->n_workers; i++)
        n += FAE_STAT_GET(s->n_dropped[i]);
    return n;
}

uint32_t fae_series_n_cells(const struct fae_series *s)
{
    return atomic_load_explicit(&s->n_cells, memory_order_relaxed);
}

void fae_series_reap(struct fae_series *s, unsigned slot)
{
    uint32_t n = fae_series_n_children(s), family, cell;
    struct fae_series_value values[FAE_SERIES_LABELS_MAX];
    unsigned n_values;

    for (uint32_t i = 0; i < n; i++)
        if (fae_series_read_child(s, i, &family, &cell, values, &n_values) &&
            s->families[family].f.kind == FAE_SERIES_GAUGE)
            FAE_STAT_SET(fae_series_cells(s, slot)[cell], 0.0);
}
