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

static const char lua_listen[] = "listen \"tcp://127.0.0.1:9001\"\n"
                                 "listen \"unix:fae.sock\"\n";

/* What stands there may come with any name. */
static const struct {
    const char *word, *help, *example, *about;
} tables[] = {
    { "servant", "settings of a servant, which reads them as fae.config \"shop\"",
      "servant \"shop\" { cache_ttl = 60, names = { \"a\", \"b\" } }",
      "`servant \"NAME\" { ... }` holds settings for one servant, which reads them with `fae.config \"NAME\"`. The\n"
      "table may hold text, numbers, true, false, lists and tables with names, 32 levels deep and 1 MiB in all. The\n"
      "server knows nothing of its keys: checking them is the servant's business.\n" },
    { "plugin", "a plugin with its settings; they run in the order of this file",
      "plugin \"access_log\" { file = \"access.log\" }",
      "`plugin \"NAME\" { ... }` switches a plugin on and holds its settings, as with `servant`. Plugins run in the\n"
      "order in which the file names them.\n" },
};

#define N_TABLES (sizeof tables / sizeof *tables)

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
    "limit \"shop.*\" { rate = 5000 }\n"
    "servant \"shop\" { cache_ttl = 60, names = { \"a\", \"b\" } }\n"
    "```\n"
    "\n"
    "The file may use `string`, `table`, `math`, `pairs`, `ipairs`, `tonumber`, `tostring` and `os.getenv`; its own\n"
    "variables begin with `local`. `pairs` goes through keys in order, so that the same file always means the same.\n"
    "`fae check -c FILE` lists every error, with line, option and \"did you mean\", then every certificate that\n"
    "is missing, no PEM, out of date or of another key, and every charset that is none, and exits 78. A node\n"
    "does not start with a wrong configuration; with files or a charset of a pool that are wrong it does, and\n"
    "calls of that pool say why they fail. An option given twice is an error.\n"
    "\n"
    "`fae reload` and SIGHUP read the file anew, together with the servants. Whatever is wrong with it, nothing\n"
    "changes; else the answer tells what did. Options marked `start` below keep the value they had when the node\n"
    "was started until it is started again; those marked `reload` take effect at once, without closing a session.\n"
    "What was given to `fae serve` on the command line wins over the file then as well.\n"
    "\n"
    "## Options\n"
    "\n";

static const char reference_sections[] =
    "\n"
    "Sizes are numbers of bytes or text such as `\"64KiB\"`, `\"4MiB\"`, `\"1GiB\"`; a name that ends in `_ms` takes\n"
    "milliseconds; words are one text (`\"a b\"`) or a list (`{ \"a\", \"b\" }`). `watchdog_warn_ms` must be\n"
    "less than `watchdog_kill_ms`, `drain_spread_ms` at most `drain_ms`.\n"
    "\n"
    "The sections below are calls that may be made several times, each with a key of its own:\n"
    "`limit \"shop.*\" { rate = 5000 }`. The first row of their tables is that key.\n";

static const char about_listen[] =
    "`listen \"ADDR\"` or `listen { \"ADDR\", key = value }`. ADDR is `tcp://HOST:PORT` or `tls://HOST:PORT` with HOST\n"
    "an IP address, `*` or `localhost` (no names are looked up), or `unix:PATH`. Without any, a node listens on\n"
    "`tcp://127.0.0.1:9001` and `unix:fae.sock`.\n"
    "\n";

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
    case FAE_OPT_LIST: add(out, "words"); return;
    }
}

void fae_config_doc_defaults(struct fae_buf *out)
{
    add(out, lua_head);
    for (unsigned i = 0; i < fae_config_n_opts; i++) {
        const struct fae_opt *opt = &fae_config_opts[i];

        fae_buf_printf(out, "\n-- %s", opt->help);
        if (opt->type != FAE_OPT_STRING && opt->type != FAE_OPT_BOOL && opt->type != FAE_OPT_LIST) {
            add(out, " (");
            add_range(out, opt);
            add(out, ")");
        }
        fae_buf_printf(out, is_bare(opt) ? "\n%s(%s)\n" : "\n%s \"%s\"\n", opt->name, opt->init);
    }
    for (unsigned i = 0; i < fae_config_n_sections; i++) {
        const struct fae_config_section *section = &fae_config_sections[i];

        fae_buf_printf(out, "\n-- %s (at most %u)\n-- %s\n", section->help, section->max, section->example);
        if (section->alone)
            add(out, lua_listen);
    }
    for (unsigned i = 0; i < N_TABLES; i++)
        fae_buf_printf(out, "\n-- %s\n-- %s\n", tables[i].help, tables[i].example);
}

static void add_table(struct fae_buf *out, const struct fae_opt *opts, unsigned n)
{
    add(out, "| name | default | values | changes at | meaning |\n|---|---|---|---|---|\n");
    for (unsigned i = 0; i < n; i++) {
        const char *quote = is_bare(&opts[i]) ? "" : "\"";

        if (opts[i].type == FAE_OPT_STRING && opts[i].min && !*opts[i].init)
            fae_buf_printf(out, "| `%s` | must be given | ", opts[i].name);
        else
            fae_buf_printf(out, "| `%s` | `%s%s%s` | ", opts[i].name, quote, opts[i].init, quote);
        add_range(out, &opts[i]);
        fae_buf_printf(out, " | %s | %s |\n", opts[i].at_start ? "start" : "reload", opts[i].help);
    }
}

static void add_section(struct fae_buf *out, const struct fae_config_section *section)
{
    fae_buf_printf(out, "\n## %s\n\n%c%s; at most %u.\n\n", section->name, section->help[0] - 'a' + 'A',
                   section->help + 1, section->max);
    if (section->alone)
        add(out, about_listen);
    fae_buf_printf(out, "```lua\n%s\n```\n\n", section->example);
    add_table(out, section->opts, *section->n_opts);
}

void fae_config_doc_reference(struct fae_buf *out)
{
    add(out, reference_head);
    add_table(out, fae_config_opts, fae_config_n_opts);
    add(out, reference_sections);
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        add_section(out, &fae_config_sections[i]);
    for (unsigned i = 0; i < N_TABLES; i++)
        fae_buf_printf(out, "\n## %s\n\n%s\n```lua\n%s\n```\n", tables[i].word, tables[i].about, tables[i].example);
}
