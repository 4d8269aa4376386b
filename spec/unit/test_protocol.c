/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The examples of lib/README.md, sent to a server with the bundled servants: what the page says is what a client sees.
 * Each ```wire block is one session; "> json" is sent, "< json" must come, their bytes follow; "< closed" ends it.
 */
#include "unit.h"

#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/shm.h"
#include "rpc/server_impl.h"
#include "rpc/turn.h"
#include "vm/vm.h"

static const unsigned n_workers = 1;
static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },
    { "stats", fae_stats_size, fae_stats_init },
    { "turns", fae_turns_size, fae_turns_init },
};

static struct fae_shm shm;
static struct fae_config config;
static struct fae_loop loop;
static struct fae_timer kick;
static struct fae_vm *vm;
static struct fae_server *server;

static void on_kick(void *arg)
{
    (void)arg;
}

static bool after_turn(void *arg)
{
    bool more = fae_server_turn(server);

    (void)arg;
    fae_vm_tick(vm);
    if (!more)
        fae_loop_stop(&loop);
    return more;
}

static void turn(void)
{
    for (int i = 0; i < 3; i++) {
        fae_timer_start(&kick, 0);
        fae_loop_run(&loop);
    }
}

static int set_up(void **state)
{
    struct fae_buf bytes = { 0 }, why = { 0 };
    struct fae_bundle bundle;
    enum fae_err err;

    (void)state;
    fae_config_init(&config);
    if (fae_shm_map(&shm, regions, UNIT_N(regions), &n_workers) || fae_loop_init(&loop))
        return -1;
    fae_timer_init(&kick, &loop, on_kick, NULL);
    loop.after_turn = after_turn;
    vm = fae_vm_new(&(struct fae_vm_opts){
        .config = &config, .loop = &loop, .slots = fae_shm_get(&shm, "slots"), .stats = fae_shm_get(&shm, "stats") });
    fae_bundle_begin(&bytes);
    err = fae_bundle_open(&bundle, bytes.data, bytes.len);
    if (!err)
        err = fae_vm_prepare(vm, &bundle, 1, &why);
    if (err)
        print_message("%s", fae_buf_text(&why));
    else
        fae_vm_switch(vm);
    server = fae_server_new(&(struct fae_server_opts){ .config = &config,
                                                       .loop = &loop,
                                                       .slots = fae_shm_get(&shm, "slots"),
                                                       .stats = fae_shm_get(&shm, "stats"),
                                                       .turns = fae_shm_get(&shm, "turns"),
                                                       .ops = &fae_vm_service,
                                                       .service = vm });
    fae_buf_fini(&bytes);
    fae_buf_fini(&why);
    return err ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_server_free(&server);
    fae_vm_free(&vm);
    fae_timer_stop(&kick);
    fae_loop_fini(&loop);
    fae_shm_unmap(&shm);
    fae_config_fini(&config);
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
    int pair[2], n_lines = 0;
    uint8_t more;
    bool closed = false;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    assert_non_null(fae_session_open(server, pair[0], false));
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
            assert_int_equal(send(pair[1], bytes.data, bytes.len, MSG_NOSIGNAL), bytes.len);
        else if (!closed)
            must_come(pair[1], &bytes, what);
        fae_buf_fini(&bytes);
        n_lines++;
    }
    turn();
    assert_int_equal(recv(pair[1], &more, 1, MSG_DONTWAIT), closed ? 0 : -1); /* and nothing besides */
    close(pair[1]);
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
