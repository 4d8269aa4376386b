/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae token`: a new token, or one that is there already, as the line of the configuration that knows it by its hash.
 * The token itself is written once and kept nowhere.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/limits.h"
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "net/digest.h"

#define TOKEN_BYTES 32 /* 256 bits, written as hex digits */
#define NAME_MAX_BYTES 63

struct opts {
    bool hash;
    const char *name;
    char **roles;
    int n_roles;
};

static bool is_word(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t len = strlen(text);

    return len > 0 && len <= NAME_MAX_BYTES && strspn(text, letters) == len;
}

static int read_args(int argc, char **argv, struct opts *o)
{
    int i;

    *o = (struct opts){ .name = "NAME" };
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--hash") != 0)
            return fae_cmd_unknown(argv[0], argv[i]);
        o->hash = true;
    }
    if (i < argc)
        o->name = argv[i++];
    o->roles = argv + i;
    o->n_roles = argc - i;
    for (int k = -1; k < o->n_roles; k++) {
        const char *word = k < 0 ? o->name : o->roles[k];

        if (!is_word(word))
            return fae_cmd_usage(argv[0], "a name or role is a word of at most %d letters, digits and _.-, not \"%s\"",
                                 NAME_MAX_BYTES, word);
    }
    return FAE_EXIT_OK;
}

static void print_line(FILE *to, const struct opts *o, const void *token, size_t len)
{
    uint8_t sha256[FAE_SHA256_BYTES];
    char hex[FAE_SHA256_HEX + 1];

    fae_sha256(token, len, sha256);
    fae_sha256_to_hex(sha256, hex);
    fprintf(to, "token \"%s\" { sha256 = \"%s\", roles = {", o->name, hex);
    for (int i = 0; i < o->n_roles; i++)
        fprintf(to, "%s \"%s\"", i ? "," : "", o->roles[i]);
    fprintf(to, "%s} }\n", o->n_roles ? " " : "");
}

/* The token alone goes to stdout, so that it can go into a file while the line is still to be seen. */
static int make_token(const struct opts *o)
{
    uint8_t bytes[TOKEN_BYTES];
    char token[2 * TOKEN_BYTES + 1];

    _Static_assert(TOKEN_BYTES == FAE_SHA256_BYTES, "written as a hash is");
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) {
        fprintf(stderr, "fae token: no random bytes: %s\n", strerror(errno));
        return FAE_EXIT_FAILED;
    }
    fae_sha256_to_hex(bytes, token);
    printf("%s\n", token);
    if (fflush(stdout)) {
        perror("fae token: cannot write the token");
        return FAE_EXIT_FAILED;
    }
    print_line(stderr, o, token, sizeof token - 1);
    return FAE_EXIT_OK;
}

static int hash_token(const struct opts *o)
{
    struct fae_buf token = { 0 };
    char why[256];
    int code = FAE_EXIT_OK;

    if (fae_client_read_token(STDIN_FILENO, "stdin", &token, why, sizeof why)) {
        fprintf(stderr, "fae token: %s\n", why);
        code = FAE_EXIT_FAILED;
    } else {
        print_line(stdout, o, token.data, token.len);
        code = fflush(stdout) ? FAE_EXIT_FAILED : FAE_EXIT_OK;
    }
    fae_buf_fini(&token);
    return code;
}

int fae_cmd_token(int argc, char **argv)
{
    struct opts o;
    int code = read_args(argc, argv, &o);

    if (code)
        return code;
    return o.hash ? hash_token(&o) : make_token(&o);
}
