/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A ring is its points in order; jump needs no table, but one of the servers by weight.
 */
#include "backend/selector.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/endpoint.h"
#include "store/kv_record.h"

struct point {
    uint32_t at;
    uint32_t server;
};

struct fae_selector {
    enum fae_select how;
    unsigned n_servers;
    uint32_t crc[256];
    unsigned n_points;
    struct point points[]; /* RING: in order of at, each at once; JUMP: a server as often as it weighs */
};

/* ---- crc32 of IEEE 802.3, as zlib's: one byte a step is fast enough for keys ---- */

static void make_crc(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        table[i] = crc;
    }
}

static uint32_t crc32_of(const uint32_t table[256], const uint8_t *bytes, size_t len)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++)
        crc = table[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

/* ---- making ---- */

/* fae knew servers as host:port. */
static const char *bare(const char *text)
{
    return strncmp(text, "tcp://", 6) == 0 ? text + 6 : text;
}

static struct fae_endpoint parsed(const char *text)
{
    struct fae_endpoint endpoint;
    char why[256];

    if (fae_endpoint_parse(&endpoint, text, why, sizeof why) != FAE_OK) {
        endpoint = (struct fae_endpoint){ .weight = 1 };
        snprintf(endpoint.text, sizeof endpoint.text, "%s", text);
    }
    return endpoint;
}

static void add_server(struct fae_selector *s, const struct fae_endpoint *endpoint, unsigned server)
{
    unsigned n = s->how == FAE_SELECT_RING ? endpoint->weight * FAE_SELECTOR_POINTS : endpoint->weight;

    for (unsigned i = 0; i < n; i++) {
        char label[sizeof endpoint->text + 16];
        int len = snprintf(label, sizeof label, "%u%s", i, bare(endpoint->text));

        s->points[s->n_points++] = (struct point){ crc32_of(s->crc, (const uint8_t *)label, (size_t)len), server };
    }
}

static int by_place(const void *a, const void *b)
{
    const struct point *x = a, *y = b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->server < y->server ? -1 : x->server > y->server;
}

/* Of equal points the server that was named later has it. */
static void sort_points(struct fae_selector *s)
{
    unsigned n = 0;

    qsort(s->points, s->n_points, sizeof *s->points, by_place);
    for (unsigned i = 0; i < s->n_points; i++)
        if (i + 1 == s->n_points || s->points[i].at != s->points[i + 1].at)
            s->points[n++] = s->points[i];
    s->n_points = n;
}

struct fae_selector *fae_selector_new(enum fae_select how, const char *const *servers, unsigned n)
{
    struct fae_selector *s;
    size_t weight = 0;

    FAE_ASSERT(n >= 1);
    for (unsigned i = 0; i < n; i++)
        weight += parsed(servers[i]).weight;
    s = fae_zalloc(sizeof *s + weight * FAE_SELECTOR_POINTS * sizeof *s->points);
    s->how = how;
    s->n_servers = n;
    make_crc(s->crc);
    for (unsigned i = 0; i < n; i++) {
        struct fae_endpoint endpoint = parsed(servers[i]);

        add_server(s, &endpoint, i);
    }
    if (how == FAE_SELECT_RING)
        sort_points(s);
    return s;
}

void fae_selector_free(struct fae_selector **selector)
{
    free(*selector);
    *selector = NULL;
}

/* ---- picking ---- */

/* The first point at or after the place, going round. */
static unsigned next_point(const struct fae_selector *s, uint32_t place)
{
    unsigned low = 0, high = s->n_points;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (s->points[middle].at < place)
            low = middle + 1;
        else
            high = middle;
    }
    return low == s->n_points ? 0 : low;
}

uint32_t fae_selector_jump(uint64_t hash, uint32_t n)
{
    int64_t bucket = -1, next = 0;

    while (next < n) {
        bucket = next;
        hash = hash * 2862933555777941757ull + 1;
        next = (int64_t)((double)(bucket + 1) * ((double)(1ll << 31) / (double)((hash >> 33) + 1)));
    }
    return (uint32_t)bucket;
}

unsigned fae_selector_pick(const struct fae_selector *s, const void *key, size_t len)
{
    const char *part;
    size_t n;

    if (s->n_servers == 1)
        return 0;
    part = fae_kv_hash_part(key, len, &n);
    if (s->how == FAE_SELECT_JUMP)
        return s->points[fae_selector_jump(XXH64(part, n, 0), s->n_points)].server;
    return s->points[next_point(s, crc32_of(s->crc, (const uint8_t *)part, n))].server;
}
