/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The circle of ketama is made as libmemcached 1.1 makes it, down to the rounding of its floats, which decides how many
 * points a server has; spec/unit/test_selector_memcache.c asks the library itself.
 */
#include "backend/selector_memcache.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/limits.h"
#include "net/digest.h"

#define POINTS 160          /* of a server of average weight */
#define POINTS_A_DIGEST 4   /* an md5 has as many 32-bit words */
#define DEFAULT_PORT 11211u /* is left out of a server's text; PHP's addServer takes it for a unix socket too */
#define POINT_TEXT (FAE_ENDPOINT_TEXT + 32)

struct point {
    uint32_t at;
    uint32_t server;
};

struct fae_selector_memcache {
    enum fae_select_memcache how;
    unsigned n_servers;
    unsigned n_points;
    struct point points[]; /* KETAMA: in order of at, then server */
};

/* ---- hashes ---- */

/* crc32 of IEEE 802.3, as zlib's. */
static uint32_t crc32_of(const uint8_t *bytes, size_t len)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static uint32_t word(const uint8_t digest[FAE_MD5_BYTES], unsigned i)
{
    const uint8_t *p = digest + i * 4;

    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* ---- making ---- */

static unsigned n_points_of(const struct fae_endpoint *server, unsigned n, unsigned total_weight)
{
    float share = (float)server->weight / (float)total_weight;
    float digests = (float)(share * POINTS / POINTS_A_DIGEST * (float)n + 0.0000000001F);

    return (unsigned)floor(digests) * POINTS_A_DIGEST;
}

static void add_points(struct fae_selector_memcache *s, const struct fae_endpoint *server, uint32_t index, unsigned n)
{
    uint8_t digest[FAE_MD5_BYTES];
    char text[POINT_TEXT];

    for (unsigned i = 0; i < n / POINTS_A_DIGEST; i++) {
        int len = !server->port || server->port == DEFAULT_PORT
                      ? snprintf(text, sizeof text, "%s-%u", server->host, i)
                      : snprintf(text, sizeof text, "%s:%u-%u", server->host, server->port, i);

        fae_md5(text, (size_t)len, digest);
        for (unsigned j = 0; j < POINTS_A_DIGEST; j++)
            s->points[s->n_points++] = (struct point){ word(digest, j), index };
    }
}

static int by_place(const void *a, const void *b)
{
    const struct point *p = a, *q = b;

    if (p->at != q->at)
        return p->at < q->at ? -1 : 1;
    return p->server < q->server ? -1 : p->server > q->server;
}

struct fae_selector_memcache *fae_selector_memcache_new(enum fae_select_memcache how,
                                                        const struct fae_endpoint *servers, unsigned n)
{
    struct fae_selector_memcache *s;
    unsigned total_weight = 0, n_points = 0;

    FAE_ASSERT(n >= 1);
    FAE_ASSERT(n <= FAE_POOL_SERVERS_MAX);
    for (unsigned i = 0; i < n; i++)
        total_weight += servers[i].weight;
    for (unsigned i = 0; i < n && how == FAE_SELECT_KETAMA; i++)
        n_points += n_points_of(&servers[i], n, total_weight);
    s = fae_alloc(sizeof *s + n_points * sizeof *s->points);
    *s = (struct fae_selector_memcache){ .how = how, .n_servers = n };
    for (unsigned i = 0; i < n && how == FAE_SELECT_KETAMA; i++)
        add_points(s, &servers[i], i, n_points_of(&servers[i], n, total_weight));
    qsort(s->points, s->n_points, sizeof *s->points, by_place);
    return s;
}

void fae_selector_memcache_free(struct fae_selector_memcache **selector)
{
    free(*selector);
    *selector = NULL;
}

/* ---- picking ---- */

/* The first point at or after the key's, else the first of all. */
static unsigned point_of(const struct fae_selector_memcache *s, const void *key, size_t len)
{
    unsigned left = 0, right = s->n_points;
    uint8_t digest[FAE_MD5_BYTES];
    uint32_t at;

    fae_md5(key, len, digest);
    at = word(digest, 0);
    while (left < right) {
        unsigned middle = left + (right - left) / 2;

        if (s->points[middle].at < at)
            left = middle + 1;
        else
            right = middle;
    }
    return right == s->n_points ? 0 : right;
}

unsigned fae_selector_memcache_pick(const struct fae_selector_memcache *s, const void *key, size_t len)
{
    if (s->n_servers == 1)
        return 0;
    if (s->how == FAE_SELECT_MODULO)
        return (crc32_of(key, len) >> 16 & 0x7fff) % s->n_servers;
    return s->n_points ? s->points[point_of(s, key, len)].server : 0;
}

static bool has(const unsigned *servers, unsigned n, unsigned server)
{
    for (unsigned i = 0; i < n; i++)
        if (servers[i] == server)
            return true;
    return false;
}

/* Those that the circle leaves out, as one of little weight may have no point, follow in the list's order. */
static void picks_of_list(const struct fae_selector_memcache *s, unsigned first, unsigned n, unsigned n_wanted,
                          unsigned *out)
{
    for (unsigned i = 0; n < n_wanted; i++) {
        unsigned server = (first + i) % s->n_servers;

        if (!has(out, n, server))
            out[n++] = server;
    }
}

void fae_selector_memcache_picks(const struct fae_selector_memcache *s, const void *key, size_t len, unsigned n_wanted,
                                 unsigned *servers_out)
{
    unsigned n = 0, point;

    FAE_ASSERT(n_wanted <= s->n_servers);
    if (n_wanted == 1 || s->n_points == 0) {
        servers_out[0] = fae_selector_memcache_pick(s, key, len);
        picks_of_list(s, servers_out[0], 1, n_wanted, servers_out);
        return;
    }
    point = point_of(s, key, len);
    for (unsigned i = 0; i < s->n_points && n < n_wanted; i++) {
        unsigned server = s->points[(point + i) % s->n_points].server;

        if (!has(servers_out, n, server))
            servers_out[n++] = server;
    }
    picks_of_list(s, 0, n, n_wanted, servers_out);
}
