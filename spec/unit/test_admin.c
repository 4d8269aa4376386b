/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ops/admin: routes and their answers, without a socket. What would go to the supervisor is answered as its line.
 */
#include "unit.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/digest.h"
#include "ops/admin.h"

#define TOKEN "Bearer of all things"

static struct fae_slots slots;
static struct fae_config config;
static struct fae_admin admin = { .config = &config, .source = { .slots = &slots } };

static struct {
    int status;
    char text[4096], type[64];
    bool allow;
    unsigned retry_after_s;
} got;

static void ask(const char *method, const char *path, const char *query, const char *token, const char *body)
{
    struct fae_http_request request = {
        .method = method, .path = path, .query = query, .authorization = token, .body = body, .body_len = strlen(body)
    };
    struct fae_http_answer answer = { .status = 200, .type = "text/plain" };

    fae_admin_answer(&request, &answer, &admin);
    got.status = answer.status;
    got.allow = answer.allow != NULL;
    got.retry_after_s = answer.retry_after_s;
    snprintf(got.text, sizeof got.text, "%s", fae_buf_text(&answer.body));
    snprintf(got.type, sizeof got.type, "%s", answer.type);
    fae_buf_fini(&answer.body);
}

static void expect(const char *method, const char *path, int status, const char *text)
{
    ask(method, path, "", "", "");
    assert_int_equal(got.status, status);
    assert_string_equal(got.text, text);
    assert_int_equal(got.allow, status == 405);
    assert_int_equal(strcmp(got.type, "application/json") == 0, status == 404 || status == 405);
}

static void set_token(const char *token)
{
    uint8_t digest[FAE_SHA256_BYTES];

    config.admin_token[0] = '\0';
    if (!token)
        return;
    fae_sha256(token, strlen(token), digest);
    fae_sha256_to_hex(digest, config.admin_token);
}

static void routes_answer(void **state)
{
    static const char none[] = "{\"error\":\"NOT_FOUND\",\"message\":\"no such path; /admin/ lists what there is\"}\n";
    static const char no_method[] = "{\"error\":\"BAD_METHOD\",\"message\":\"this path does not take that method\"}\n";
    static const char *const missing[] = { "",          "/",        "/nope",       "/healthz/",     "/healthz/..",
                                           "//healthz", "/HEALTHZ", "/readyz%00",  "/admin",        "/admin/../stats",
                                           "/..%2f",    "/\xff",    "/admin/stop", "/admin/servant" };
    static const char *const methods[] = { "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "" };

    (void)state;
    slots.n_workers = 2;
    expect("GET", "/healthz", 200, "ok\n");
    expect("HEAD", "/healthz", 200, "ok\n");
    for (unsigned i = 0; i < UNIT_N(missing); i++)
        expect("GET", missing[i], 404, none);
    for (unsigned i = 0; i < UNIT_N(methods); i++)
        expect(methods[i], "/readyz", 405, no_method);
    expect("GET", "/admin/reload", 405, no_method);
    expect("HEAD", "/admin/reload", 405, no_method);
}

static void every_route_is_in_the_list(void **state)
{
    static const char *const paths[] = {
        "GET  /healthz ",        "GET  /readyz ",          "GET  /metrics ",
        "GET  /stats ",          "GET  /admin/ ",          "GET  /admin/servants ",
        "GET  /admin/sessions ", "GET  /admin/config ",    "GET  /admin/slowlog ",
        "POST /admin/reload ",   "POST /admin/rollback ",  "POST /admin/drain ",
        "POST /admin/undrain ",  "POST /admin/log-level ", "POST /admin/session-close ",
        "POST /admin/gc ",       "GET  /admin/locks ",     "POST /admin/lock-release ",
        "GET  /admin/backends ", "GET  /admin/mysql ",     "POST /admin/breaker ",
    };
    unsigned n = 0;

    (void)state;
    set_token(NULL);
    ask("GET", "/admin/", "", "", "");
    assert_int_equal(got.status, 200);
    for (unsigned i = 0; i < UNIT_N(paths); i++)
        if (!strstr(got.text, paths[i]))
            fail_msg("%s is not listed", paths[i]);
    for (const char *p = got.text; *p; p++)
        n += *p == '\n';
    assert_int_equal(n, UNIT_N(paths));
}

static void readiness_follows_the_workers(void **state)
{
    static const struct {
        enum fae_slot_state a, b;
        enum fae_doors doors;
        uint32_t refuses_a, refuses_b;
        int status;
        const char *text;
    } rows[] = {
        { FAE_SLOT_DEAD, FAE_SLOT_DEAD, 0, 0, 0, 503, "no worker is ready\n" },
        { FAE_SLOT_STARTING, FAE_SLOT_DEAD, 0, 0, 0, 503, "no worker is ready\n" },
        { FAE_SLOT_READY, FAE_SLOT_DEAD, 0, 0, 0, 200, "ok\n" },
        { FAE_SLOT_DEAD, FAE_SLOT_READY, 0, 0, 0, 200, "ok\n" },
        { FAE_SLOT_READY, FAE_SLOT_READY, 0, 0, 0, 200, "ok\n" },
        { FAE_SLOT_READY, FAE_SLOT_DRAINING, 0, 0, 0, 200, "ok\n" }, /* that one is being replaced */
        { FAE_SLOT_DRAINING, FAE_SLOT_DEAD, 0, 0, 0, 503, "draining\n" },
        { FAE_SLOT_READY, FAE_SLOT_READY, FAE_DOORS_CLOSED, 0, 0, 503, "drained by an operator\n" },
        { FAE_SLOT_READY, FAE_SLOT_READY, FAE_DOORS_STOPPING, 0, 0, 503, "stopping\n" },
        { FAE_SLOT_READY, FAE_SLOT_READY, 0, 1, 0, 200, "ok\n" },
        { FAE_SLOT_READY, FAE_SLOT_DEAD, 0, 1, 0, 503, "overloaded: calls wait too long\n" },
        { FAE_SLOT_READY, FAE_SLOT_READY, 0, 2, 4, 503, "overloaded: no descriptors are left; memory is used up\n" },
    };

    (void)state;
    slots.n_workers = 2;
    atomic_store(&slots.slots[2].state, FAE_SLOT_READY); /* ops: does not count */
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        atomic_store(&slots.slots[0].state, rows[i].a);
        atomic_store(&slots.slots[1].state, rows[i].b);
        atomic_store(&slots.slots[0].overloaded, rows[i].refuses_a);
        atomic_store(&slots.slots[1].overloaded, rows[i].refuses_b);
        atomic_store(&slots.doors, rows[i].doors);
        expect("GET", "/readyz", rows[i].status, rows[i].text);
    }
}

static void lines_go_to_the_supervisor(void **state)
{
    static const struct {
        const char *method, *path, *query, *body;
        int status;
        const char *line;
    } rows[] = {
        { "GET", "/admin/sessions", "", "", 200, "sessions\n" },
        { "GET", "/admin/sessions", "n=7", "", 200, "sessions 7\n" },
        { "GET", "/admin/sessions", "m=7", "", 400, NULL },
        { "GET", "/admin/servants", "", "", 200, "servants\n" },
        { "GET", "/admin/servants", "n=7", "", 400, NULL },
        { "POST", "/admin/reload", "", "", 200, "reload\n" },
        { "POST", "/admin/reload", "", "{\"dry_run\":true}", 200, "reload dry-run\n" },
        { "POST", "/admin/reload", "", "{\"wet_run\":true}", 400, NULL },
        { "POST", "/admin/rollback", "", "{}", 200, "rollback\n" },
        { "POST", "/admin/drain", "", "", 200, "drain\n" },
        { "POST", "/admin/drain", "", "{\"worker\":1}", 200, "drain 1\n" },
        { "POST", "/admin/undrain", "", "", 200, "undrain\n" },
        { "POST", "/admin/log-level", "", "{\"level\":\"debug\"}", 200, "log-level debug\n" },
        { "POST", "/admin/log-level", "", "{\"level\":\"debug\\nstop\"}", 400, NULL },
        { "POST", "/admin/session-close", "", "{\"session\":\"0:9\"}", 200, "session-close 0:9\n" },
        { "POST", "/admin/session-close", "", "{\"peer\":\"10.0.0.1\"}", 200, "session-close peer=10.0.0.1\n" },
        { "POST", "/admin/gc", "", "", 200, "gc\n" },
        { "POST", "/admin/gc", "", "now", 400, NULL },
    };

    (void)state;
    set_token("of all things");
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        ask(rows[i].method, rows[i].path, rows[i].query, TOKEN, rows[i].body);
        assert_int_equal(got.status, rows[i].status);
        if (rows[i].line)
            assert_string_equal(got.text, rows[i].line);
    }
}

static void without_a_token_nothing_is_changed(void **state)
{
    (void)state;
    set_token(NULL);
    ask("POST", "/admin/gc", "", TOKEN, "");
    assert_int_equal(got.status, 403);
    assert_non_null(strstr(got.text, "fae token"));
    ask("GET", "/admin/sessions", "", "", "");
    assert_int_equal(got.status, 200);
    set_token("of all things");
    ask("POST", "/admin/gc", "", "", "");
    assert_int_equal(got.status, 403);
    ask("GET", "/admin/sessions", "", "", "");
    assert_int_equal(got.status, 403);
    ask("GET", "/healthz", "", "", "");
    assert_int_equal(got.status, 200);
}

static void wrong_tokens_are_told_apart_from_right_ones(void **state)
{
    static const char *const wrong[] = { "Bearer",     "Bearer ",       "Bearer of all thing",  "Bearer of all things ",
                                         "Basic eA==", "of all things", "Bearer  of all things" };

    (void)state;
    set_token("of all things");
    admin.guesses_ms = 0;
    for (unsigned i = 0; i < UNIT_N(wrong); i++) {
        ask("POST", "/admin/gc", "", wrong[i], "");
        assert_int_equal(got.status, 401);
    }
    ask("POST", "/admin/gc", "", "bearer of all things", "");
    assert_int_equal(got.status, 200);
}

static void guessing_is_slow(void **state)
{
    unsigned n = 0;

    (void)state;
    set_token("of all things");
    admin.guesses_ms = 0;
    do {
        ask("POST", "/admin/gc", "", "Bearer x", "");
        n++;
    } while (got.status == 401 && n < 100);
    assert_int_equal(got.status, 429);
    assert_in_range(n, 11, 20);
    assert_in_range(got.retry_after_s, 1, 2);
    ask("POST", "/admin/gc", "", TOKEN, ""); /* not even looked at */
    assert_int_equal(got.status, 429);
    admin.guesses_ms -= 2000; /* time passes */
    ask("POST", "/admin/gc", "", TOKEN, "");
    assert_int_equal(got.status, 200);
    admin.guesses_ms = 0;
}

int main(void)
{
    static const struct fae_log_opts quiet = { .level = FAE_LOG_ERROR };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_answer),
        cmocka_unit_test(every_route_is_in_the_list),
        cmocka_unit_test(readiness_follows_the_workers),
        cmocka_unit_test(lines_go_to_the_supervisor),
        cmocka_unit_test(without_a_token_nothing_is_changed),
        cmocka_unit_test(wrong_tokens_are_told_apart_from_right_ones),
        cmocka_unit_test(guessing_is_slow),
    };

    fae_clock_init();
    fae_log_init(&quiet, "test");
    return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
