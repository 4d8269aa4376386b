/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Walks the option tables and writes a comment and a call, or a row of a table, for each.
 */
#include "base/config_doc.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/config.h"

static const char lua_head[] =
    "-- SPDX-License-Identifier: BSD-2-Clause\n"
    "-- The configuration of a fae node: every option with its default. What is left out keeps its default.\n"
    "-- This is Lua, run once when the node starts: it may compute, use string, table and math, and read the\n"
    "-- environment with os.getenv. `fae check -c FILE` lists what is wrong with a file. Made by\n"
    "-- `fae check --print-defaults`; conf/README.md is the reference.\n";

static const char lua_listen[] =
    "\n-- Where calls are served; once for each address, 16 at most. Other keys and their defaults stand in a table:\n"
    "-- listen { \"unix:fae.sock\", mode = \"0660\", group = \"\", half_close = false }\n"
    "listen \"tcp://127.0.0.1:9001\"\n"
    "listen \"unix:fae.sock\"\n";

static const char lua_servant[] = "\n-- Settings of a servant, which reads them as fae.config \"shop\":\n"
                                  "-- servant \"shop\" { cache_ttl = 60, names = { \"a\", \"b\" } }\n";

static const char reference_head[] =
    "# Configuration\n"
    "\n"
    "`fae.lua` here has every option at its default. This page is made from the same table by\n"
    "`fae check --print-reference`, the file by `fae check --print-defaults`; a test fails when they differ.\n"
    "\n"
    "A configuration is a Lua file, run once when the node starts, in a process of its own that has 2 s and\n"
    "64 MiB. Options are calls at the top level, so that every error can name its line:\n"
    "\n"
    "```lua\n"
    "workers(4)\n"
    "run_dir \"run\"\n"
    "message_max \"4MiB\"\n"
    "listen \"tcp://127.0.0.1:9001\"\n"
    "listen { \"unix:fae.sock\", mode = \"0660\" }\n"
    "servant \"shop\" { cache_ttl = 60, names = { \"a\", \"b\" } }\n"
    "```\n"
    "\n"
    "The file may use `string`, `table`, `math`, `pairs`, `ipairs`, `tonumber`, `tostring` and `os.getenv`; its own\n"
    "variables begin with `local`. `pairs` goes through keys in order, so that the same file always means the same.\n"
    "`fae check -c FILE` lists every error, with line, option and \"did you mean\", and exits 78; a node does not\n"
    "start with a wrong configuration. An option given twice is an error.\n"
    "\n"
    "## Options\n"
    "\n";

static const char reference_listen[] =
    "\n"
    "Sizes are numbers of bytes or text such as `\"64KiB\"`, `\"4MiB\"`, `\"1GiB\"`; a name that ends in `_ms` takes\n"
    "milliseconds. `watchdog_warn_ms` must be less than `watchdog_kill_ms`, `drain_spread_ms` at most `drain_ms`.\n"
    "\n"
    "## listen\n"
    "\n"
    "`listen \"ADDR\"` or `listen { \"ADDR\", key = value }`, once for each address, 16 at most. ADDR is\n"
    "`tcp://HOST:PORT` with HOST an IP address, `*` or `localhost` (no names are looked up), or `unix:PATH`.\n"
    "\n";

static const char reference_servant[] =
    "\n"
    "## servant\n"
    "\n"
    "`servant \"NAME\" { ... }` holds settings for one servant, which reads them with `fae.config \"NAME\"`. The\n"
    "table may hold text, numbers, true, false, lists and tables with names, 32 levels deep and 1 MiB in all. The\n"
    "server knows nothing of its keys: checking them is the servant's business.\n";

_Static_assert(FAE_LISTENERS_MAX == 16, "the texts above say so");

static void add(struct fae_buf *out, const char *text)
{
    fae_buf_add(out, text, strlen(text));
}

/* "4" and "true" stand bare, everything else in quotes. */
static bool is_bare(const struct fae_opt *opt)
{
    if (opt->type == FAE_OPT_UINT)
        return opt->init[0] != '0' || !opt->init[1];
    return opt->type == FAE_OPT_MS || opt->type == FAE_OPT_BOOL;
}

static void add_size(struct fae_buf *out, uint64_t bytes)
{
    static const char *const units[] = { "", "KiB", "MiB", "GiB" };
    unsigned unit = 0;

    for (; bytes && bytes % 1024 == 0 && unit < 3; unit++)
        bytes /= 1024;
    fae_buf_printf(out, "%" PRIu64 "%s", bytes, units[unit]);
}

/* "0 to 64", "logfmt or json"; nothing for a type that says it all. */
static void add_range(struct fae_buf *out, const struct fae_opt *opt)
{
    switch (opt->type) {
    case FAE_OPT_UINT:
    case FAE_OPT_MS:
        if (is_bare(opt))
            fae_buf_printf(out, "%" PRIu64 " to %" PRIu64, opt->min, opt->max);
        else
            fae_buf_printf(out, "0%" PRIo64 " to 0%" PRIo64, opt->min, opt->max);
        return;
    case FAE_OPT_BYTES:
        add_size(out, opt->min);
        add(out, " to ");
        add_size(out, opt->max);
        return;
    case FAE_OPT_BOOL: add(out, "true or false"); return;
    case FAE_OPT_ENUM:
        for (const char *p = opt->words; *p; p++)
            if (*p == '|')
                add(out, ", ");
            else
                fae_buf_add(out, p, 1);
        return;
    case FAE_OPT_STRING: add(out, "text"); return;
    }
}

void fae_config_doc_defaults(struct fae_buf *out)
{
    add(out, lua_head);
    for (unsigned i = 0; i < fae_config_n_opts; i++) {
        const struct fae_opt *opt = &fae_config_opts[i];

        fae_buf_printf(out, "\n-- %s", opt->help);
        if (opt->type != FAE_OPT_STRING && opt->type != FAE_OPT_BOOL) {
            add(out, " (");
            add_range(out, opt);
            add(out, ")");
        }
        fae_buf_printf(out, is_bare(opt) ? "\n%s(%s)\n" : "\n%s \"%s\"\n", opt->name, opt->init);
    }
    add(out, lua_listen);
    add(out, lua_servant);
}

static void add_table(struct fae_buf *out, const struct fae_opt *opts, unsigned n)
{
    add(out, "| name | default | values | meaning |\n|---|---|---|---|\n");
    for (unsigned i = 0; i < n; i++) {
        const char *quote = is_bare(&opts[i]) ? "" : "\"";

        fae_buf_printf(out, "| `%s` | `%s%s%s` | ", opts[i].name, quote, opts[i].init, quote);
        add_range(out, &opts[i]);
        fae_buf_printf(out, " | %s |\n", opts[i].help);
    }
}

void fae_config_doc_reference(struct fae_buf *out)
{
    add(out, reference_head);
    add_table(out, fae_config_opts, fae_config_n_opts);
    add(out, reference_listen);
    add_table(out, fae_config_listen_opts, fae_config_n_listen_opts);
    add(out, reference_servant);
}
