/* SPDX-License-Identifier: BSD-2-Clause
 *
 * File, command line and what stays, in this order.
 */
#include "proc/runconf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/config_check.h"
#include "base/config_report.h"
#include "base/config_rows.h"
#include "proc/checker.h"
#include "proc/seccomp.h"
#include "proc/stored.h"
#include "rpc/access.h"
#include "vm/conf.h"

static const char *const default_listeners[] = { FAE_DEFAULT_TCP, FAE_DEFAULT_UNIX };

#define N_DEFAULT (sizeof default_listeners / sizeof *default_listeners)

enum fae_err fae_runconf_flags(struct fae_config *config, const struct fae_serve_opts *opts, struct fae_buf *why)
{
    char text[512];
    const char *name;
    enum fae_err err = FAE_OK;

    for (unsigned i = 0; i < opts->n_flags; i++) {
        const struct fae_opt *opt = fae_opt_find(fae_config_opts, fae_config_n_opts, opts->flags[i].option);

        if (opt && fae_opt_set(opt, config, opts->flags[i].value, text, sizeof text)) {
            fae_buf_printf(why, "fae serve: %s: %s\n", opts->flags[i].option, text);
            err = FAE_BAD_CONFIG;
        }
    }
    if (!err && fae_config_agrees(config, &name, text, sizeof text)) {
        fae_buf_printf(why, "fae serve: %s: %s\n", name, text);
        err = FAE_BAD_CONFIG;
    }
    return err;
}

void fae_runconf_listeners(struct fae_config *config, const struct fae_serve_opts *opts)
{
    unsigned n = opts->n_listen ? opts->n_listen : config->n_listen ? 0 : N_DEFAULT;

    if (n == 0)
        return;
    config->n_listen = n;
    for (unsigned i = 0; i < n; i++) {
        struct fae_config_listen *listen = &config->listen[i];

        fae_opt_defaults(fae_config_listen_opts, fae_config_n_listen_opts, listen);
        snprintf(listen->addr, sizeof listen->addr, "%s", opts->n_listen ? opts->listen[i] : default_listeners[i]);
    }
}

/* ---- reading it ---- */

static enum fae_err eval_job(void *path, struct fae_buf *out)
{
    struct fae_buf rows = { 0 }, errors = { 0 };
    enum fae_err err = fae_conf_eval(path, &rows, &errors);

    fae_buf_add(out, err ? errors.data : rows.data, err ? errors.len : rows.len);
    fae_buf_fini(&rows);
    fae_buf_fini(&errors);
    return err;
}

enum fae_err fae_runconf_read(struct fae_config *config, const char *path, struct fae_buf *why)
{
    struct fae_checker c;
    enum fae_err err = fae_checker_run(&c, path, eval_job, (void *)path, NULL, NULL);
    char text[512];

    if (err)
        fae_buf_add(why, c.out.data, c.out.len);
    else if ((err = fae_config_apply(config, c.out.data, c.out.len, text, sizeof text)))
        fae_buf_printf(why, "%s: %s\n", path, text);
    fae_access_resolve(config);
    fae_checker_fini(&c);
    return err ? FAE_BAD_CONFIG : FAE_OK;
}

/* ---- reading it anew ---- */

static enum fae_err eval(struct fae_config *config, const char *path, struct fae_buf *why)
{
    struct fae_buf rows = { 0 };
    enum fae_err err = fae_conf_eval(path, &rows, why);
    char text[512];

    if (!err && fae_config_apply(config, rows.data, rows.len, text, sizeof text)) {
        fae_buf_printf(why, "%s: %s\n", path, text);
        err = FAE_BAD_CONFIG;
    }
    if (!err)
        fae_access_resolve(config);
    fae_buf_fini(&rows);
    return err ? FAE_BAD_CONFIG : FAE_OK; /* a file that is gone is no better than a wrong one */
}

/* A worker's seccomp filter is never taken off. */
static void tell_of_seccomp(const struct fae_config *now, const struct fae_config *next, struct fae_buf *out)
{
    if (now->seccomp && fae_seccomp_may_start(next) && !fae_seccomp_may_start(now))
        fae_buf_printf(out, "fence: only workers that start from now on may start programs\n");
}

/* What only a start can change stays, and has to get on with what is new: a role that a listener gives is needed. */
static enum fae_err keep(struct fae_config *next, const struct fae_config *now, const char *path, struct fae_buf *why)
{
    char text[512];
    const char *name;

    fae_config_keep(next, now);
    if (!fae_config_agrees(next, &name, text, sizeof text))
        return FAE_OK;
    fae_buf_printf(why, "%s: needs a restart: with what only a start can change, %s\n", path, text);
    return FAE_BAD_CONFIG;
}

enum fae_err fae_runconf_reread(struct fae_config *next_out, const struct fae_serve_opts *opts,
                                const struct fae_config *now, struct fae_buf *text)
{
    struct fae_buf diff = { 0 };
    enum fae_err err;

    fae_config_init(next_out);
    err = eval(next_out, opts->conf_path, text);
    if (!err)
        err = fae_runconf_flags(next_out, opts, text);
    if (!err) {
        fae_runconf_listeners(next_out, opts);
        fae_config_diff(&diff, now, next_out);
        tell_of_seccomp(now, next_out, &diff);
        err = keep(next_out, now, opts->conf_path, text);
    }
    if (err)
        fae_config_fini(next_out);
    else
        fae_buf_add(text, diff.data, diff.len);
    fae_buf_fini(&diff);
    return err;
}

/* ---- with the bundle ---- */

void fae_runconf_store(struct fae_buf *bundle, const struct fae_config *config)
{
    struct fae_buf rows = { 0 };

    fae_config_write(&rows, config);
    fae_bundle_add(bundle, FAE_RUNCONF_PATH, rows.data, rows.len);
    fae_buf_fini(&rows);
}

enum fae_err fae_runconf_load(struct fae_config *next_out, const struct fae_bundle *bundle, char *why_out,
                              size_t why_size)
{
    struct fae_bundle_file file;

    if (!fae_bundle_find(bundle, FAE_RUNCONF_PATH, &file))
        return FAE_NOT_FOUND;
    fae_config_init(next_out);
    return fae_config_apply(next_out, file.body, file.len, why_out, why_size);
}

enum fae_err fae_runconf_load_fd(struct fae_config **next_out, int fd, char *why_out, size_t why_size)
{
    struct fae_config *next = fae_alloc(sizeof *next);
    struct fae_bundle bundle;
    enum fae_err err = fae_stored_map(fd, &bundle);

    if (err) {
        snprintf(why_out, why_size, "cannot map the bundle: %s", fae_err_text(err));
    } else {
        err = fae_runconf_load(next, &bundle, why_out, why_size);
        fae_stored_unmap(&bundle);
    }
    if (err) {
        free(next);
        next = NULL;
    }
    if (err == FAE_OK || err == FAE_NOT_FOUND)
        *next_out = next;
    return err == FAE_NOT_FOUND ? FAE_OK : err;
}

void fae_runconf_adopt(struct fae_config *running, struct fae_config **next)
{
    if (!*next)
        return;
    fae_config_fini(running);
    *running = **next;
    free(*next);
    *next = NULL;
}

void fae_runconf_free(struct fae_config **config)
{
    if (*config)
        fae_config_fini(*config);
    free(*config);
    *config = NULL;
}
