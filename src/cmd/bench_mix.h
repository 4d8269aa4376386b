/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a load sends: methods with weights, and parameters that may change from call to call. Pure. A parameter is JSON
 * in which these stand for values, bare or within a string:
 *   {{seq}}            the number of the call, from 1
 *   {{rand:LOW:HIGH}}  a number, both ends included
 *   {{str:LENGTH}}     so many random letters and digits
 * They are compiled once; a request is then put together without looking at JSON again.
 */
#ifndef FAE_CMD_BENCH_MIX_H
#define FAE_CMD_BENCH_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cmd/tally.h"

#define FAE_BENCH_WEIGHT_MAX 1000000
#define FAE_BENCH_PARAMS_MAX 64
#define FAE_BENCH_STR_MAX (1u << 20)
#define FAE_BENCH_FILE_MAX (1u << 20)

struct fae_bench_op;

struct fae_bench_method {
    char *name;
    uint32_t weight;
    bool varies;          /* requests differ in more than the msgid */
    size_t bytes_max;     /* of a request */
    struct fae_buf bytes; /* what stays the same */
    struct fae_buf ops;   /* struct fae_bench_op: how a request is put together */
};

struct fae_bench_mix {
    unsigned n;
    uint64_t weights;     /* their sum */
    struct fae_buf token; /* goes along with every call; empty: none. Set before methods are added */
    struct fae_bench_method methods[FAE_TALLY_METHODS];
};

/* All three: FAE_BAD_ARGS or FAE_LIMIT with a sentence. */
enum fae_err fae_bench_mix_add(struct fae_bench_mix *mix, uint32_t weight, const char *method, char *const *params,
                               int n, char *why_out, size_t why_size);
/* "WEIGHT METHOD [JSON]..." */
enum fae_err fae_bench_mix_add_line(struct fae_bench_mix *mix, const char *line, char *why_out, size_t why_size);
/* A file of such lines; empty ones and those that begin with # are skipped. FAE_SYSTEM when it cannot be read. */
enum fae_err fae_bench_mix_add_file(struct fae_bench_mix *mix, const char *path, char *why_out, size_t why_size);
void fae_bench_mix_fini(struct fae_bench_mix *mix);

/* The index of a method, each as often as its weight says; moves the random state on. */
unsigned fae_bench_mix_pick(const struct fae_bench_mix *mix, uint64_t *random);
/* Appends a request. */
void fae_bench_mix_request(const struct fae_bench_method *method, struct fae_buf *out, uint32_t msgid, uint64_t seq,
                           uint64_t *random);

#endif
