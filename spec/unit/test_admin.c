/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ops/admin: routes and their answers, without a socket.
 */
#include "unit.h"

#include "ops/admin.h"

static struct fae_slots slots;

static void expect(const char *method, const char *path, int status, const char *text)
{
    struct fae_admin admin = { .slots = &slots };
    struct fae_http_request request = { .method = method, .path = path, .query = "" };
    struct fae_http_answer answer = { .status = 200, .type = "text/plain" };

    fae_admin_answer(&request, &answer, &admin);
    assert_int_equal(answer.status, status);
    assert_string_equal(fae_buf_text(&answer.body), text);
    assert_int_equal(answer.allow != NULL, status == 405);
    assert_int_equal(strcmp(answer.type, "application/json") == 0, status == 404 || status == 405);
    fae_buf_fini(&answer.body);
}

static void routes_answer(void **state)
{
    static const char none[] = "{\"error\":\"NOT_FOUND\",\"message\":\"no such path\"}\n";
    static const char no_method[] = "{\"error\":\"BAD_METHOD\",\"message\":\"this path does not take that method\"}\n";
    static const char *const missing[] = { "",          "/",        "/nope",     "/healthz/", "/healthz/..",
                                           "//healthz", "/HEALTHZ", "/readyz%00" };
    static const char *const methods[] = { "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "" };

    (void)state;
    slots.n_workers = 2;
    expect("GET", "/healthz", 200, "ok\n");
    expect("HEAD", "/healthz", 200, "ok\n");
    for (unsigned i = 0; i < UNIT_N(missing); i++)
        expect("GET", missing[i], 404, none);
    for (unsigned i = 0; i < UNIT_N(methods); i++)
        expect(methods[i], "/readyz", 405, no_method);
}

static void readiness_follows_the_workers(void **state)
{
    static const struct {
        enum fae_slot_state a, b;
        int status;
        const char *text;
    } rows[] = {
        { FAE_SLOT_DEAD, FAE_SLOT_DEAD, 503, "no worker is ready\n" },
        { FAE_SLOT_STARTING, FAE_SLOT_DEAD, 503, "no worker is ready\n" },
        { FAE_SLOT_READY, FAE_SLOT_DEAD, 200, "ok\n" },
        { FAE_SLOT_DEAD, FAE_SLOT_READY, 200, "ok\n" },
        { FAE_SLOT_READY, FAE_SLOT_READY, 200, "ok\n" },
        { FAE_SLOT_READY, FAE_SLOT_DRAINING, 503, "draining\n" },
        { FAE_SLOT_DRAINING, FAE_SLOT_DEAD, 503, "draining\n" },
    };

    (void)state;
    slots.n_workers = 2;
    atomic_store(&slots.slots[2].state, FAE_SLOT_READY); /* ops: does not count */
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        atomic_store(&slots.slots[0].state, rows[i].a);
        atomic_store(&slots.slots[1].state, rows[i].b);
        expect("GET", "/readyz", rows[i].status, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_answer),
        cmocka_unit_test(readiness_follows_the_workers),
    };

    return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
