/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The examples of lib/README.md, sent to a server with the bundled servants: what the page says is what a client sees.
 * Each ```wire block is one session; "> json" is sent, "< json" must come, their bytes follow; "< closed" ends it.
 */
#include "unit_server.h"

#include "vm/vm.h"

static struct fae_vm *vm;

static void tick(void)
{
    fae_vm_tick(vm);
}

static int set_up(void **state)
{
    struct fae_buf bytes = { 0 }, why = { 0 };
    struct fae_bundle bundle;
    enum fae_err err;

    (void)state;
    if (!start_ground())
        return -1;
    each_turn = tick;
    vm = fae_vm_new(&(struct fae_vm_opts){ .config = &config, .loop = &loop, .slots = slots, .stats = stats });
    fae_bundle_begin(&bytes);
    err = fae_bundle_open(&bundle, bytes.data, bytes.len);
    if (!err)
        err = fae_vm_prepare(vm, &bundle, 1, &why);
    if (err)
        print_message("%s", fae_buf_text(&why));
    else
        fae_vm_switch(vm);
    fae_buf_fini(&bytes);
    fae_buf_fini(&why);
    return start_server(&fae_vm_service, vm) && !err ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    stop_server();
    fae_vm_free(&vm);
    stop_ground();
    return 0;
}

/* ---- the page ---- */

static char *read_page(void)
{
    FILE *file = fopen("lib/README.md", "r");
    char *text = calloc(1, 65536);

    if (!file)
        fail_msg("run from the project's folder");
    assert_in_range(fread(text, 1, 65535, file), 1, 65534);
    fclose(file);
    return text;
}

/* The bytes of the lines that follow *line and hold only hex; *line moves behind them. */
static void take_hex(char **line, struct fae_buf *out)
{
    while (**line == ' ') {
        char *p = *line;

        for (; *p != '\n'; p++) {
            unsigned byte;

            if (*p == ' ')
                continue;
            assert_int_equal(sscanf(p, "%2x", &byte), 1);
            fae_buf_add(out, &(uint8_t){ (uint8_t)byte }, 1);
            p++;
        }
        *line = p + 1;
    }
}

static void must_come(int client, const struct fae_buf *want, const char *what)
{
    uint8_t got[4096];
    ssize_t n;

    turn();
    assert_in_range(want->len, 1, sizeof got);
    n = recv(client, got, want->len, MSG_DONTWAIT);
    if (n != (ssize_t)want->len || memcmp(got, want->data, want->len) != 0)
        fail_msg("something else came (%zd bytes) than %.*s", n, (int)strcspn(what, "\n"), what);
}

/* Runs one block; how many lines of bytes it had. */
static int run_block(char *line)
{
    int client, n_lines = 0;
    uint8_t more;
    bool closed = false;

    open_session(&client, false);
    while (strncmp(line, "```", 3) != 0) {
        struct fae_buf bytes = { 0 };
        char *what = line;
        bool sent = line[0] == '>';

        assert_true(sent || line[0] == '<');
        closed = strncmp(line, "< closed", 8) == 0;
        if (sent && strspn(line + 2, "0123456789abcdef") == strcspn(line + 2, "\n"))
            line[0] = ' '; /* bytes that are no JSON stand for themselves */
        else
            line += strcspn(line, "\n") + 1;
        take_hex(&line, &bytes);
        if (sent)
            assert_int_equal(send(client, bytes.data, bytes.len, MSG_NOSIGNAL), bytes.len);
        else if (!closed)
            must_come(client, &bytes, what);
        fae_buf_fini(&bytes);
        n_lines++;
    }
    turn();
    assert_int_equal(recv(client, &more, 1, MSG_DONTWAIT), closed ? 0 : -1); /* and nothing besides */
    close(client);
    turn();
    return n_lines;
}

static void the_examples_are_true(void **state)
{
    char *page = read_page();
    int n_blocks = 0, n_lines = 0;

    (void)state;
    for (char *p = page; (p = strstr(p, "```wire\n")); p++, n_blocks++)
        n_lines += run_block(p + strlen("```wire\n"));
    assert_in_range(n_blocks, 6, 100);
    assert_in_range(n_lines, 25, 1000);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(the_examples_are_true, set_up, tear_down) };

    fae_clock_init();
    return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
