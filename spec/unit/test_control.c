/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/control_verbs: lines and their answers, on a node without processes.
 */
#include "unit.h"

#include "base/alloc.h"
#include "base/log.h"
#include "proc/control_verbs.h"
#include "proc/node.h"

static struct fae_node node; /* large */

static int open_node(void **state)
{
    static const struct fae_log_opts quiet = { .level = FAE_LOG_ERROR };
    static const unsigned one = 1;

    (void)state;
    fae_log_init(&quiet, "test");
    fae_config_init(&node.config);
    strcpy(node.config.admin_token, "secret");
    node.phase = FAE_NODE_SERVING;
    node.shared.slots = aligned_alloc(64, (fae_slots_size(&one) + 63) & ~(size_t)63);
    memset(node.shared.slots, 0, fae_slots_size(&one));
    fae_slots_init(node.shared.slots, &one);
    return 0;
}

static int close_node(void **state)
{
    (void)state;
    fae_config_fini(&node.config);
    free(node.shared.slots);
    return 0;
}

/* What the last line of the answer begins with, and what the lines before it have. */
static const struct {
    const char *line, *end, *has;
} rows[] = {
    { "ping", "OK pong\n", "" },
    { "ping x", "ERR NOT_FOUND no such verb; there are: ping, status,", "" },
    { "pin", "ERR NOT_FOUND no such verb", "" },
    { "", "ERR NOT_FOUND no such verb", "" },
    { "reload  wait", "ERR NOT_FOUND no such verb", "" },
    { "config", "OK\n", "\nlog_level info\n" },
    { "config", "OK\n", "\nadmin_token (set)\n" },
    { "log-level", "ERR BAD_ARGS usage: log-level debug|info|warn|error|reset\n", "" },
    { "log-level ", "ERR BAD_ARGS usage: log-level debug|info|warn|error|reset\n", "" },
    { "log-level inof", "ERR BAD_ARGS log_level must be one of debug|info|warn|error, not \"inof\": did you mean", "" },
    { "log-level  error", "OK error\n", "" },
    { "log-level error x", "ERR BAD_ARGS log_level must be one of", "" },
    { "log-level-x", "ERR NOT_FOUND no such verb", "" },
    { "reopen-log", "ERR NOT_FOUND there is no log_file: the log goes to stderr\n", "" },
};

static void lines_have_answers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_control_client client = { .fd = -1 };
        const char *text, *end;

        fae_control_run(&node, &client, rows[i].line);
        text = fae_buf_text(&client.out);
        end = memrchr(text, '\n', strlen(text) - 1);
        end = end ? end + 1 : text;
        if (strncmp(end, rows[i].end, strlen(rows[i].end)) != 0 || !strstr(text, rows[i].has))
            fail_msg("%s: %s", rows[i].line, text);
        fae_buf_fini(&client.out);
    }
}

static void the_log_level_is_everybodys(void **state)
{
    static const struct {
        const char *line;
        uint32_t level;
    } steps[] = { { "log-level debug", FAE_LOG_DEBUG },
                  { "log-level warn", FAE_LOG_WARN },
                  { "log-level nonsense", FAE_LOG_WARN },
                  { "log-level error", FAE_LOG_ERROR },
                  { "log-level reset", FAE_LOG_INFO } };

    (void)state;
    fae_log_follow(&node.shared.slots->log_level);
    for (unsigned i = 0; i < UNIT_N(steps); i++) {
        struct fae_control_client client = { .fd = -1 };

        fae_control_run(&node, &client, steps[i].line);
        assert_int_equal(node.shared.slots->log_level, steps[i].level);
        assert_true(fae_log_on(steps[i].level));
        assert_false(steps[i].level > 0 && fae_log_on(steps[i].level - 1));
        assert_int_equal(node.config.log_level, FAE_LOG_INFO);
        fae_buf_fini(&client.out);
    }
    fae_log_follow(NULL);
    assert_false(fae_log_on(FAE_LOG_WARN));
}

/* Text from elsewhere must not pass for the last line. */
static void lines_do_not_look_like_the_last(void **state)
{
    static const char text[] = "a\nOK\nERR x\nOKAY\n\nok";
    struct fae_buf out = { 0 };

    (void)state;
    fae_control_lines(&out, text, sizeof text - 1);
    assert_string_equal(fae_buf_text(&out), "a\n OK\n ERR x\n OKAY\n\nok\n");
    fae_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_have_answers),
        cmocka_unit_test(the_log_level_is_everybodys),
        cmocka_unit_test(lines_do_not_look_like_the_last),
    };

    return cmocka_run_group_tests(tests, open_node, close_node);
}
