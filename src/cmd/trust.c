/* SPDX-License-Identifier: BSD-2-Clause
 *
 * From words of the command line to a TLS context.
 */
#include "cmd/trust.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

static const struct {
    const char *flag;
    size_t offset;
} options[] = {
    { "--ca", offsetof(struct fae_trust, files.ca) },
    { "--cert", offsetof(struct fae_trust, files.cert) },
    { "--key", offsetof(struct fae_trust, files.key) },
    { "--tls-name", offsetof(struct fae_trust, name) },
};

bool fae_trust_option(const char *command, int argc, char **argv, int *i, struct fae_trust *trust)
{
    if (strcmp(argv[*i], "--insecure") == 0) {
        trust->files.insecure = true;
        return true;
    }
    for (unsigned k = 0; k < sizeof options / sizeof *options; k++) {
        const char *value = fae_cmd_value(command, argc, argv, i, options[k].flag);

        if (value) {
            *(const char **)((char *)trust + options[k].offset) = value;
            return true;
        }
    }
    return false;
}

enum fae_err fae_trust_open(const struct fae_trust *trust, const struct fae_addr *addr, struct fae_tls_ctx **ctx_out,
                            char *why_out, size_t why_size)
{
    const struct fae_tls_client_opts *files = &trust->files;
    char text[FAE_ADDR_TEXT];

    *ctx_out = NULL;
    if (addr->tls && files->key && !files->cert) {
        snprintf(why_out, why_size, "--key needs --cert");
        return FAE_BAD_ARGS;
    }
    if (addr->tls)
        return fae_tls_ctx_new_client(ctx_out, files, why_out, why_size);
    if (!files->ca && !files->cert && !files->key && !files->insecure && !trust->name)
        return FAE_OK;
    fae_addr_format(addr, text);
    snprintf(why_out, why_size, "--ca, --cert, --key, --tls-name and --insecure are for tls:// addresses, %s is none",
             text);
    return FAE_BAD_ARGS;
}

struct fae_tls *fae_trust_connect(const struct fae_trust *trust, const struct fae_addr *addr, struct fae_tls_ctx *ctx,
                                  int fd)
{
    char host[FAE_ADDR_TEXT];

    fae_addr_host(addr, host);
    return fae_tls_connect(ctx, fd, trust->name ? trust->name : host);
}
