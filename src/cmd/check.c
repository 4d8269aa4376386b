/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae check: everything that is wrong with a configuration, the certificates it names and its servants, without starting
 * anything. Configuration and servants run code of the operator's, so both run in checkers, as they do when a node starts.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "backend/mysql_conn.h"
#include "base/buf.h"
#include "base/config.h"
#include "base/config_doc.h"
#include "base/config_rows.h"
#include "cmd/cmd.h"
#include "net/tls.h"
#include "proc/checker.h"
#include "proc/servants.h"
#include "proc/shared.h"
#include "rpc/stats.h"
#include "vm/conf.h"
#include "vm/vm.h"

static const char name[] = "check";

struct check {
    const char *file; /* NULL: every option has its default */
    const char *servants_dir;
    struct fae_config config;
    bool has_errors;
};

/* ---- configuration ---- */

/* A fae_checker_fn. Out: the errors, a NUL, the rows. */
static enum fae_err eval(void *arg, struct fae_buf *out)
{
    const struct check *check = arg;
    struct fae_buf rows = { 0 };
    enum fae_err err = fae_conf_eval_some(check->file, &rows, out);

    fae_buf_add(out, "", 1);
    fae_buf_add(out, rows.data, rows.len);
    fae_buf_fini(&rows);
    return err;
}

/* True when it is known which servants belong to the configuration, wrong as it may be. */
static bool check_config(struct check *check)
{
    struct fae_checker checker = FAE_CHECKER_NONE;
    enum fae_err err = fae_checker_run(&checker, check->file, eval, check, NULL, NULL);
    size_t errors_len = strlen(fae_buf_text(&checker.out));
    size_t rows_at = errors_len + 1;
    bool applied = false;
    char why[512];

    check->has_errors |= err != FAE_OK;
    fwrite(checker.out.data, 1, errors_len, stderr);
    if (rows_at < checker.out.len) {
        applied =
            !fae_config_apply(&check->config, checker.out.data + rows_at, checker.out.len - rows_at, why, sizeof why);
        if (!applied && !err) {
            check->has_errors = true;
            fprintf(stderr, "%s: %s\n", check->file, why);
        }
    }
    fae_checker_fini(&checker);
    return applied;
}

/* ---- certificates ---- */

static void tell_tls(struct check *check, const char *what, const char *which, struct fae_tls_ctx *ctx, const char *why)
{
    if (!ctx) {
        check->has_errors = true;
        fprintf(stderr, "%s: %s%s%s: %s\n", check->file, what, *which ? " " : "", which, why);
    }
    fae_tls_ctx_free(&ctx);
}

/* Where clients come. */
static void check_own(struct check *check)
{
    const struct fae_config *c = &check->config;
    const struct fae_tls_opts admin = { .cert = c->admin_cert, .key = c->admin_key, .client_ca = "" };
    struct fae_tls_ctx *ctx = NULL;
    char why[700];

    if (*admin.cert) {
        fae_tls_ctx_new(&ctx, &admin, why, sizeof why);
        tell_tls(check, "admin", "", ctx, why);
    }
    for (unsigned i = 0; i < c->n_listen; i++) {
        const struct fae_config_listen *l = &c->listen[i];
        const struct fae_tls_opts opts = { l->cert, l->key, l->client_ca, l->client_cert_required };

        ctx = NULL;
        if (!*l->cert)
            continue;
        fae_tls_ctx_new(&ctx, &opts, why, sizeof why);
        tell_tls(check, "listen", l->addr, ctx, why);
    }
}

static void check_pool_tls(struct check *check, const char *kind, const struct fae_config_pool *pool, const char *ca,
                           const char *cert, const char *key)
{
    const struct fae_tls_client_opts opts = { *ca ? ca : NULL, *cert ? cert : NULL, *key ? key : NULL, false };
    struct fae_tls_ctx *ctx = NULL;
    char why[700];

    if (!*ca && !*cert)
        return;
    fae_tls_ctx_new_client(&ctx, &opts, why, sizeof why);
    tell_tls(check, kind, pool->name, ctx, why);
}

/* Names that only the library knows. */
static void check_charsets(struct check *check)
{
    for (unsigned i = 0; i < check->config.n_mysql; i++) {
        const struct fae_config_mysql *m = &check->config.mysql[i];

        if (fae_mysql_charset_is_known(m->charset))
            continue;
        check->has_errors = true;
        fprintf(stderr, "%s: mysql %s: there is no charset %s\n", check->file, m->pool.name, m->charset);
    }
}

/* All files are read as a start reads them, by whoever asks now. */
static void check_certificates(struct check *check)
{
    const struct fae_config *c = &check->config;

    check_own(check);
    for (unsigned i = 0; i < c->n_redis; i++)
        check_pool_tls(check, "redis", &c->redis[i].pool, c->redis[i].ca, c->redis[i].cert, c->redis[i].key);
    for (unsigned i = 0; i < c->n_mysql; i++)
        check_pool_tls(check, "mysql", &c->mysql[i].pool, c->mysql[i].ca, c->mysql[i].cert, c->mysql[i].key);
}

/* ---- servants ---- */

static unsigned count_servants(const struct fae_stats *stats, unsigned n_methods)
{
    unsigned n = 0;

    for (unsigned i = 0; i < n_methods; i++) {
        size_t len = strcspn(stats->names[i], ".") + 1;
        unsigned before = 0;

        while (before < i && strncmp(stats->names[before], stats->names[i], len) != 0)
            before++;
        n += before == i;
    }
    return n;
}

static enum fae_err load(const struct check *check, const struct fae_bundle *bundle, struct fae_buf *out)
{
    struct fae_vm_opts opts = { .config = &check->config };
    struct fae_shared shared;
    struct fae_vm *vm;
    enum fae_err err = fae_shared_open(&shared, 1, &check->config, UINT64_MAX);

    if (err)
        return err;
    opts.slots = shared.slots;
    opts.stats = shared.stats;
    vm = fae_vm_new(&opts);
    err = vm ? fae_vm_prepare(vm, bundle, 1, out) : FAE_NO_MEMORY;
    if (!err)
        fae_buf_printf(out, "%u servants, %u methods", count_servants(shared.stats, shared.stats->n_names),
                       (unsigned)shared.stats->n_names);
    fae_vm_free(&vm);
    fae_shared_close(&shared);
    return err;
}

/* A fae_checker_fn. Out: what there is, or the errors. */
static enum fae_err load_servants(void *arg, struct fae_buf *out)
{
    const struct check *check = arg;
    struct fae_buf bytes = { 0 };
    struct fae_bundle bundle;
    enum fae_err err = fae_servants_read(&check->config, &bytes, out);

    if (!err)
        err = fae_bundle_open(&bundle, bytes.data, bytes.len);
    if (!err)
        err = load(check, &bundle, out);
    fae_buf_fini(&bytes);
    return err;
}

static void check_servants(struct check *check)
{
    struct fae_checker checker = FAE_CHECKER_NONE;
    enum fae_err err = fae_checker_run(&checker, "servants", load_servants, check, NULL, NULL);

    if (err) {
        check->has_errors = true;
        fwrite(checker.out.data, 1, checker.out.len, stderr);
    } else if (!check->has_errors) {
        printf("ok: %s%s%s\n", check->file ? check->file : "", check->file ? ", " : "", fae_buf_text(&checker.out));
    }
    fae_checker_fini(&checker);
}

/* ---- the command ---- */

static int run(struct check *check)
{
    bool knows_servants = true;

    fae_config_init(&check->config);
    if (check->file)
        knows_servants = check_config(check);
    if (check->file && knows_servants) {
        check_certificates(check);
        check_charsets(check);
    }
    if (check->servants_dir) {
        snprintf(check->config.servants_dir, sizeof check->config.servants_dir, "%s", check->servants_dir);
        knows_servants = true;
    }
    if (knows_servants)
        check_servants(check);
    else
        fprintf(stderr, "servants: not checked until the configuration is right\n");
    fae_config_fini(&check->config);
    if (fflush(stdout) != 0)
        return FAE_EXIT_FAILED;
    return check->has_errors ? FAE_EXIT_CONFIG : FAE_EXIT_OK;
}

static int print(void (*write)(struct fae_buf *out))
{
    struct fae_buf text = { 0 };

    write(&text);
    fwrite(text.data, 1, text.len, stdout);
    fae_buf_fini(&text);
    return fflush(stdout) ? FAE_EXIT_FAILED : FAE_EXIT_OK;
}

int fae_cmd_check(int argc, char **argv)
{
    struct check check = { 0 };
    const char *value;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--print-defaults") == 0)
            return print(fae_config_doc_defaults);
        if (strcmp(argv[i], "--print-reference") == 0)
            return print(fae_config_doc_reference);
        if ((value = fae_cmd_value(name, argc, argv, &i, "-c")))
            check.file = value;
        else if ((value = fae_cmd_value(name, argc, argv, &i, "--servants")))
            check.servants_dir = value;
        else
            return fae_cmd_unknown(name, argv[i]);
    }
    if (check.servants_dir && strlen(check.servants_dir) >= FAE_OPT_TEXT)
        return fae_cmd_usage(name, "--servants: a path may have %d bytes", FAE_OPT_TEXT - 1);
    return run(&check);
}
