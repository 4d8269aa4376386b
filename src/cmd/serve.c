/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae serve`: the command line of a node. Every flag but three is an option of the config by another name.
 */
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "cmd/cmd.h"
#include "proc/serve.h"

static const struct {
    const char *flag, *option;
} flags[] = {
    { "--admin", "admin" },
    { "--run-dir", "run_dir" },
    { "--servants", "servants_dir" },
    { "--workers", "workers" },
};

static int take_option(const char *name, struct fae_serve_opts *o, const char *flag, const char *option,
                       const char *value)
{
    const struct fae_opt *opt = fae_opt_find(fae_config_opts, fae_config_n_opts, option);
    struct fae_config scratch;
    char why[300];
    enum fae_err err;

    if (o->n_flags == FAE_SERVE_FLAGS_MAX)
        return fae_cmd_usage(name, "too many options");
    fae_config_init(&scratch);
    err = fae_opt_set(opt, &scratch, value, why, sizeof why);
    fae_config_fini(&scratch);
    if (err)
        return fae_cmd_usage(name, "%s: %s", flag, why);
    o->flags[o->n_flags].option = option;
    o->flags[o->n_flags++].value = value;
    return FAE_EXIT_OK;
}

static int take_listen(const char *name, struct fae_serve_opts *o, const char *value)
{
    if (!*value || strlen(value) >= FAE_OPT_TEXT)
        return fae_cmd_usage(name, "--listen: \"%.40s\" is no address", value);
    if (o->n_listen == FAE_LISTENERS_MAX)
        return fae_cmd_usage(name, "--listen: at most %d", FAE_LISTENERS_MAX);
    o->listen[o->n_listen++] = value;
    return FAE_EXIT_OK;
}

/* One word of the command line. */
static int take(int argc, char **argv, int *i, struct fae_serve_opts *o)
{
    const char *value;

    if (strcmp(argv[*i], "--single") == 0) {
        o->single = true;
        return FAE_EXIT_OK;
    }
    if ((value = fae_cmd_value(argv[0], argc, argv, i, "-c"))) {
        o->conf_path = value;
        return FAE_EXIT_OK;
    }
    if ((value = fae_cmd_value(argv[0], argc, argv, i, "--listen")))
        return take_listen(argv[0], o, value);
    for (unsigned f = 0; f < sizeof flags / sizeof *flags; f++)
        if ((value = fae_cmd_value(argv[0], argc, argv, i, flags[f].flag)))
            return take_option(argv[0], o, flags[f].flag, flags[f].option, value);
    return fae_cmd_unknown(argv[0], argv[*i]);
}

int fae_cmd_serve(int argc, char **argv)
{
    struct fae_serve_opts o = { 0 };
    int code;

    for (int i = 1; i < argc; i++) {
        code = take(argc, argv, &i, &o);
        if (code)
            return code;
    }
    return o.single ? fae_single_run(&o) : fae_supervisor_run(&o);
}
