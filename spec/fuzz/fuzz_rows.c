/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/config_rows: what a checker sends the supervisor, and a checker may have gone mad. Rows that are refused change
 * nothing and come with a reason; rows that are taken leave every option within its limits.
 */
#include "fuzz.h"

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
        case FAE_OPT_BOOL: FAE_ASSERT(*(const uint8_t *)field <= 1); break;
        default:
            memcpy(&value, field, sizeof value);
            FAE_ASSERT(value >= opts[i].min && value <= (opts[i].words ? n_words(opts[i].words) - 1 : opts[i].max));
        }
    }
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
        FAE_ASSERT(config.n_listen <= FAE_LISTENERS_MAX);
        for (unsigned i = 0; i < config.n_listen; i++)
            check_options(fae_config_listen_opts, fae_config_n_listen_opts, &config.listen[i]);
        FAE_ASSERT(fae_config_agrees(&config, &name, why, sizeof why) == FAE_OK);
        FAE_ASSERT(!config.servants_json || fae_json_valid(config.servants_json, strlen(config.servants_json)));
    }
    fae_config_fini(&config);
    return 0;
}
