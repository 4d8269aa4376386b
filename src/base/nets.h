/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Networks in text ("10.0.0.0/8 ::1 192.168.1.7") and whether an address lies in one of them. Pure.
 */
#ifndef FAE_BASE_NETS_H
#define FAE_BASE_NETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FAE_NETS_MAX 64u

/* An address as 16 bytes; IPv4 as ::ffff:a.b.c.d, so that both families are compared alike. */
struct fae_ip {
    uint8_t bytes[16];
};

struct fae_nets {
    unsigned n;
    struct {
        struct fae_ip ip;
        unsigned n_bits; /* of ip that count */
    } nets[FAE_NETS_MAX];
};

/* Words apart by blanks or commas, each an address or a network. BAD_CONFIG with a sentence in why_out. */
enum fae_err fae_nets_parse(const char *list, struct fae_nets *nets_out, char *why_out, size_t why_size);
bool fae_nets_have(const struct fae_nets *nets, const struct fae_ip *ip);

bool fae_ip_is_v4(const struct fae_ip *ip);
/* From the 4 bytes of an IPv4 address as it travels. */
void fae_ip_of_v4(struct fae_ip *ip_out, const void *bytes);

#endif
