/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The table of hosts. A host lies within WINDOW entries of the place that its hash names, so that a look-up is bounded
 * however full the table is and nothing has to be moved; the seed is random, so that nobody can choose their place.
 */
#include "rpc/hosts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/hist.h"

#define WINDOW 32u

_Static_assert((FAE_HOSTS_MAX & (FAE_HOSTS_MAX - 1)) == 0, "a hash is cut to an index");
_Static_assert(FAE_HOSTS_MAX < UINT16_MAX, "a host is 16 bits of a session");

struct entry {
    struct fae_ip ip; /* written under the lock; all zero: never used */
    fae_bucket full_ns;
};

struct count {
    _Atomic uint32_t n_sessions, n_calls;
};

struct row {
    _Alignas(64) struct count hosts[FAE_HOSTS_MAX];
};

struct fae_hosts {
    struct fae_shmutex lock; /* guards who is where; a half-written entry is an idle one */
    uint64_t seed;
    unsigned n_workers;
    struct entry entries[FAE_HOSTS_MAX];
    struct row workers[];
};

size_t fae_hosts_size(const void *n_workers)
{
    return sizeof(struct fae_hosts) + *(const unsigned *)n_workers * sizeof(struct row);
}

void fae_hosts_init(void *mem, const void *n_workers)
{
    struct fae_hosts *hosts = mem;

    fae_shmutex_init(&hosts->lock);
    hosts->n_workers = *(const unsigned *)n_workers;
    if (getrandom(&hosts->seed, sizeof hosts->seed, 0) != sizeof hosts->seed)
        hosts->seed = fae_now_ns();
}

static struct count *count_of(struct fae_hosts *hosts, uint16_t host, unsigned slot)
{
    FAE_ASSERT(host != FAE_HOST_NONE);
    return &hosts->workers[slot].hosts[host - 1];
}

uint32_t fae_host_sessions(const struct fae_hosts *hosts, uint16_t host)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < hosts->n_workers; i++)
        n += FAE_STAT_GET(hosts->workers[i].hosts[host - 1].n_sessions);
    return n;
}

uint32_t fae_host_calls(const struct fae_hosts *hosts, uint16_t host)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < hosts->n_workers; i++)
        n += FAE_STAT_GET(hosts->workers[i].hosts[host - 1].n_calls);
    return n;
}

/* Nobody is there, and forgetting it would let nobody make more calls than the rate allows. */
static bool is_idle(const struct fae_hosts *hosts, unsigned at, uint64_t now_ns)
{
    return fae_host_sessions(hosts, (uint16_t)(at + 1)) == 0 && FAE_STAT_GET(hosts->entries[at].full_ns) <= now_ns;
}

/* Under the lock. The entry of the address, old or new, or -1. */
static int find(struct fae_hosts *hosts, const struct fae_ip *ip, uint64_t now_ns)
{
    uint64_t hash = XXH3_64bits_withSeed(ip, sizeof *ip, hosts->seed);
    int idle = -1;

    for (unsigned i = 0; i < WINDOW; i++) {
        unsigned at = (unsigned)(hash + i) & (FAE_HOSTS_MAX - 1);

        if (memcmp(&hosts->entries[at].ip, ip, sizeof *ip) == 0)
            return (int)at;
    }
    for (unsigned i = 0; i < WINDOW && idle < 0; i++) {
        unsigned at = (unsigned)(hash + i) & (FAE_HOSTS_MAX - 1);

        if (is_idle(hosts, at, now_ns))
            idle = (int)at;
    }
    if (idle >= 0) {
        hosts->entries[idle].ip = *ip;
        FAE_STAT_SET(hosts->entries[idle].full_ns, 0);
    }
    return idle;
}

enum fae_gate_answer fae_hosts_enter(struct fae_hosts *hosts, const struct fae_ip *client, uint64_t max, unsigned slot,
                                     uint64_t now_ns, uint16_t *host_out)
{
    enum fae_gate_answer answer = FAE_GATE_OPEN;
    struct fae_ip ip = *client;
    uint16_t host;

    if (!fae_ip_is_v4(&ip))
        memset(ip.bytes + 8, 0, 8);
    fae_shmutex_lock(&hosts->lock);
    host = (uint16_t)(find(hosts, &ip, now_ns) + 1);
    if (host != FAE_HOST_NONE && max && fae_host_sessions(hosts, host) >= max)
        answer = FAE_GATE_FULL;
    else if (host != FAE_HOST_NONE)
        FAE_STAT_ADD(count_of(hosts, host, slot)->n_sessions, 1);
    fae_shmutex_unlock(&hosts->lock);
    if (answer == FAE_GATE_OPEN)
        *host_out = host;
    return answer;
}

void fae_hosts_leave(struct fae_hosts *hosts, uint16_t host, unsigned slot)
{
    struct count *count = count_of(hosts, host, slot);

    FAE_ASSERT(FAE_STAT_GET(count->n_sessions) > 0);
    FAE_STAT_ADD(count->n_sessions, (uint32_t)-1);
}

void fae_host_began(struct fae_hosts *hosts, uint16_t host, unsigned slot)
{
    FAE_STAT_ADD(count_of(hosts, host, slot)->n_calls, 1);
}

void fae_host_ended(struct fae_hosts *hosts, uint16_t host, unsigned slot)
{
    struct count *count = count_of(hosts, host, slot);

    FAE_ASSERT(FAE_STAT_GET(count->n_calls) > 0);
    FAE_STAT_ADD(count->n_calls, (uint32_t)-1);
}

bool fae_host_take(struct fae_hosts *hosts, uint16_t host, const struct fae_gate_rule *rule, uint64_t now_ns,
                   uint32_t *retry_after_ms_out)
{
    return fae_bucket_take(&hosts->entries[host - 1].full_ns, rule, now_ns, retry_after_ms_out);
}

void fae_host_give(struct fae_hosts *hosts, uint16_t host, const struct fae_gate_rule *rule)
{
    fae_bucket_give(&hosts->entries[host - 1].full_ns, rule);
}

void fae_hosts_reap(struct fae_hosts *hosts, unsigned slot)
{
    for (unsigned i = 0; i < FAE_HOSTS_MAX; i++) {
        FAE_STAT_SET(hosts->workers[slot].hosts[i].n_sessions, 0);
        FAE_STAT_SET(hosts->workers[slot].hosts[i].n_calls, 0);
    }
}
