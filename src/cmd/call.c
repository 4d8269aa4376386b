/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae call`: one call from the command line, its answer as JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "cmd/mpjson.h"

struct opts {
    const char *addr;
    uint64_t timeout_ms;
    bool raw;
    const char *token_file;
    struct fae_trust trust;
    const char *method;
    char **params;
    int n_params;
};

enum { TIMEOUT_MS = 10000, TIMEOUT_MAX_MS = 24 * 3600 * 1000 };

static int read_timeout(const char *name, const char *text, uint64_t *ms_out)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);

    if (end == text || *end || text[0] == '-' || v < 1 || v > TIMEOUT_MAX_MS)
        return fae_cmd_usage(name, "-t takes milliseconds from 1 to %d, not \"%s\"", TIMEOUT_MAX_MS, text);
    *ms_out = v;
    return FAE_EXIT_OK;
}

static int read_args(int argc, char **argv, struct opts *o)
{
    int i;

    *o = (struct opts){ .timeout_ms = TIMEOUT_MS };
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        const char *value;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if ((value = fae_cmd_value(argv[0], argc, argv, &i, "-s"))) {
            o->addr = value;
        } else if ((value = fae_cmd_value(argv[0], argc, argv, &i, "--token-file"))) {
            o->token_file = value;
        } else if ((value = fae_cmd_value(argv[0], argc, argv, &i, "-t"))) {
            int code = read_timeout(argv[0], value, &o->timeout_ms);

            if (code)
                return code;
        } else if (fae_trust_option(argv[0], argc, argv, &i, &o->trust)) {
            continue;
        } else if (strcmp(argv[i], "-r") == 0) {
            o->raw = true;
        } else {
            return fae_cmd_unknown(argv[0], argv[i]);
        }
    }
    if (i >= argc)
        return fae_cmd_usage(argv[0], "which method?");
    o->method = argv[i];
    o->params = argv + i + 1;
    o->n_params = argc - i - 1;
    return FAE_EXIT_OK;
}

static int print_result(const uint8_t *result, bool raw)
{
    struct fae_buf out = { 0 };
    struct fae_mp_token t;
    bool written;

    fae_mp_read(result, &t);
    if (raw && (t.type == FAE_MP_STR || t.type == FAE_MP_BIN))
        fae_buf_add(&out, t.bytes, t.len);
    else
        fae_mpjson_write(&out, result);
    fae_buf_add(&out, "\n", 1);
    written = fwrite(out.data, 1, out.len, stdout) == out.len && fflush(stdout) == 0;
    fae_buf_fini(&out);
    if (!written)
        perror("fae call: cannot write the answer");
    return written ? FAE_EXIT_OK : FAE_EXIT_FAILED;
}

static int print_error(const uint8_t *error)
{
    struct fae_buf text = { 0 };

    fae_client_error_text(&text, error);
    fprintf(stderr, "fae call: %s\n", fae_buf_text(&text));
    fae_buf_fini(&text);
    return FAE_EXIT_FAILED;
}

static int call(const struct opts *o, const struct fae_addr *addr, struct fae_buf *request, const struct fae_buf *token)
{
    uint64_t deadline_ms = fae_now_ms() + o->timeout_ms;
    struct fae_client client;
    struct fae_answer answer;
    enum fae_err err;
    int code;

    fae_client_add_token(request, token);
    fae_client_init(&client);
    client.trust = &o->trust;
    err = fae_client_open(&client, addr, deadline_ms);
    if (!err)
        err = fae_client_call(&client, request, deadline_ms, &answer);
    if (err) {
        fprintf(stderr, "fae call: %s: %s\n", fae_err_name(err), client.why);
        code = FAE_EXIT_FAILED;
    } else {
        code = answer.error ? print_error(answer.error) : print_result(answer.result, o->raw);
    }
    fae_client_fini(&client);
    return code;
}

int fae_cmd_call(int argc, char **argv)
{
    struct fae_buf request = { 0 }, token = { 0 };
    struct fae_addr addr;
    struct opts o;
    char why[256];
    int code = read_args(argc, argv, &o);

    if (code)
        return code;
    if (fae_client_addr(o.addr, &addr, why, sizeof why) ||
        fae_client_request(&request, o.method, o.params, o.n_params, why, sizeof why) ||
        fae_client_token(o.token_file, &token, why, sizeof why))
        code = fae_cmd_usage(argv[0], "%s", why);
    else
        code = call(&o, &addr, &request, &token);
    fae_buf_fini(&token);
    fae_buf_fini(&request);
    return code;
}
