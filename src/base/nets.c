/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Networks read from text, and looked up by comparing bits.
 */
#include "base/nets.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define BLANKS " \t\n,"

static const uint8_t v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

bool fae_ip_is_v4(const struct fae_ip *ip)
{
    return memcmp(ip->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

void fae_ip_of_v4(struct fae_ip *ip, const void *bytes)
{
    memcpy(ip->bytes, v4_prefix, sizeof v4_prefix);
    memcpy(ip->bytes + 12, bytes, 4);
}

static bool parse_ip(const char *text, struct fae_ip *ip)
{
    memcpy(ip->bytes, v4_prefix, sizeof v4_prefix);
    return inet_pton(AF_INET, text, ip->bytes + 12) == 1 || inet_pton(AF_INET6, text, ip->bytes) == 1;
}

/* "24" of at most `max`; -1: no such number. */
static int parse_bits(const char *text, int max)
{
    int n = 0;

    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        n = n * 10 + (*text - '0');
        if (n > max)
            return -1;
    }
    return n;
}

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned n_bits)
{
    unsigned n = n_bits / 8, rest = n_bits % 8;

    return memcmp(a, b, n) == 0 && (rest == 0 || (a[n] ^ b[n]) >> (8 - rest) == 0);
}

static bool has_host_bits(const struct fae_ip *ip, unsigned n_bits)
{
    for (unsigned i = n_bits; i < 128; i++)
        if (ip->bytes[i / 8] & (0x80 >> i % 8))
            return true;
    return false;
}

static enum fae_err parse_net(char *word, struct fae_ip *ip, unsigned *n_bits, char *why, size_t size)
{
    char *slash = strchr(word, '/');
    bool v4;
    int n;

    if (slash)
        *slash = '\0';
    if (!parse_ip(word, ip)) {
        snprintf(why, size, "\"%s\" is not an IP address", word);
        return FAE_BAD_CONFIG;
    }
    v4 = fae_ip_is_v4(ip);
    *n_bits = 128;
    if (!slash)
        return FAE_OK;
    n = parse_bits(slash + 1, v4 ? 32 : 128);
    if (n < 0) {
        snprintf(why, size, "\"%s/%s\": after the / comes a number from 0 to %d", word, slash + 1, v4 ? 32 : 128);
        return FAE_BAD_CONFIG;
    }
    *n_bits = (unsigned)n + (v4 ? 96 : 0);
    if (has_host_bits(ip, *n_bits)) {
        snprintf(why, size, "\"%s/%d\": the address has more bits than the network", word, n);
        return FAE_BAD_CONFIG;
    }
    return FAE_OK;
}

enum fae_err fae_nets_parse(const char *list, struct fae_nets *nets_out, char *why, size_t size)
{
    struct fae_nets nets = { 0 };

    for (;;) {
        char word[64];
        size_t len;
        enum fae_err err;

        list += strspn(list, BLANKS);
        len = strcspn(list, BLANKS);
        if (len == 0)
            break;
        if (nets.n == FAE_NETS_MAX) {
            snprintf(why, size, "more than %u networks", FAE_NETS_MAX);
            return FAE_BAD_CONFIG;
        }
        snprintf(word, sizeof word, "%.*s", (int)(len < sizeof word ? len : sizeof word - 1), list);
        list += len;
        err = parse_net(word, &nets.nets[nets.n].ip, &nets.nets[nets.n].n_bits, why, size);
        if (err)
            return err;
        nets.n++;
    }
    *nets_out = nets;
    return FAE_OK;
}

bool fae_nets_have(const struct fae_nets *nets, const struct fae_ip *ip)
{
    for (unsigned i = 0; i < nets->n; i++)
        if (bits_equal(nets->nets[i].ip.bytes, ip->bytes, nets->nets[i].n_bits))
            return true;
    return false;
}
