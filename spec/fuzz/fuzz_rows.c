/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/config_rows: what a checker sends the supervisor, and a checker may have gone mad. Rows that are refused change
 * nothing and come with a reason; rows that are taken leave every option within its limits.
 */
#include "fuzz.h"

#include "base/config_check.h"
#include "base/config_report.h"
#include "base/config_rows.h"
#include "base/json_valid.h"

static uint64_t n_words(const char *words)
{
    uint64_t n = 1;

    for (; *words; words++)
        n += *words == '|';
    return n;
}

/* Every option's value is one that the option itself would take. */
static void check_options(const struct fae_opt *opts, unsigned n, const void *from)
{
    for (unsigned i = 0; i < n; i++) {
        const char *field = (const char *)from + opts[i].offset;
        uint64_t value;

        switch (opts[i].type) {
        case FAE_OPT_STRING: FAE_ASSERT(memchr(field, '\0', FAE_OPT_TEXT)); break;
        case FAE_OPT_LIST:
            FAE_ASSERT(memchr(field, '\0', FAE_OPT_LIST_TEXT));
            FAE_ASSERT(*field != ' ' && !strstr(field, "  "));
            break;
        case FAE_OPT_BOOL: FAE_ASSERT(*(const uint8_t *)field <= 1); break;
        default:
            memcpy(&value, field, sizeof value);
            FAE_ASSERT(value >= opts[i].min && value <= (opts[i].words ? n_words(opts[i].words) - 1 : opts[i].max));
        }
    }
}

static void check_sections(const struct fae_config *config)
{
    for (unsigned i = 0; i < fae_config_n_sections; i++) {
        const struct fae_config_section *section = &fae_config_sections[i];

        FAE_ASSERT(*fae_config_count(section, config) <= section->max);
        for (unsigned at = 0; at < *fae_config_count(section, config); at++) {
            check_options(section->opts, *section->n_opts, fae_config_entry(section, config, at));
            FAE_ASSERT(!fae_config_missing(section, fae_config_entry(section, config, at)));
        }
    }
}

/* Written and read again it is the same. */
static void check_again(const struct fae_config *config)
{
    static struct fae_config again;
    struct fae_buf rows = { 0 }, diff = { 0 };
    char why[512] = "";

    fae_config_init(&again);
    fae_config_write(&rows, config);
    if (fae_config_apply(&again, rows.data, rows.len, why, sizeof why))
        FAE_ASSERT(rows.len > FAE_CONFIG_ROWS_MAX);
    else
        fae_config_diff(&diff, config, &again);
    FAE_ASSERT(diff.len == 0);
    fae_config_fini(&again);
    fae_buf_fini(&rows);
    fae_buf_fini(&diff);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct fae_config config, before;
    char why[512] = "";
    const char *name;
    enum fae_err err;

    fae_config_init(&config);
    before = config;
    err = fae_config_apply(&config, bytes, len, why, sizeof why);
    if (err) {
        FAE_ASSERT(err == FAE_BAD_CONFIG);
        FAE_ASSERT(*why);
        FAE_ASSERT(memcmp(&config, &before, sizeof config) == 0);
    } else {
        check_options(fae_config_opts, fae_config_n_opts, &config);
        check_sections(&config);
        check_again(&config);
        FAE_ASSERT(fae_config_agrees(&config, &name, why, sizeof why) == FAE_OK);
        FAE_ASSERT(!config.servants_json || fae_json_valid(config.servants_json, strlen(config.servants_json)));
        FAE_ASSERT(!config.plugins_json || fae_json_valid(config.plugins_json, strlen(config.plugins_json)));
    }
    fae_config_fini(&config);
    return 0;
}
