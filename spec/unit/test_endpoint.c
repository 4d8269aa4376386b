/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/endpoint: what a server's text says, and what is none.
 */
#include "base/endpoint.h"
#include "unit.h"

static void test_good(void **state)
{
    static const struct {
        const char *text, *shown, *host;
        unsigned port, weight;
        bool tls;
    } rows[] = {
        { "10.0.0.1:6379", "tcp://10.0.0.1:6379", "10.0.0.1", 6379, 1, false },
        { "tcp://cache-2.internal:1*1000", "tcp://cache-2.internal:1", "cache-2.internal", 1, 1000, false },
        { "tls://redis.internal:65535", "tls://redis.internal:65535", "redis.internal", 65535, 1, true },
        { "[::1]:11211*2", "tcp://[::1]:11211", "::1", 11211, 2, false },
        { "unix:/run/redis.sock", "unix:/run/redis.sock", "/run/redis.sock", 0, 1, false },
        { "/run/mc.sock*3", "unix:/run/mc.sock", "/run/mc.sock", 0, 3, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fae_endpoint e;
        char why[160] = "";

        assert_int_equal(fae_endpoint_parse(&e, rows[i].text, why, sizeof why), FAE_OK);
        assert_string_equal(e.text, rows[i].shown);
        assert_string_equal(e.host, rows[i].host);
        assert_int_equal(e.port, rows[i].port);
        assert_int_equal(e.weight, rows[i].weight);
        assert_int_equal(e.tls, rows[i].tls);
    }
}

static void test_bad(void **state)
{
    static const char *const rows[] = {
        "",         "host",        "host:",    "host:0",   "host:65536", "host:12x",    ":6379",    "a b:1",
        "[::1]",    "[::1]:",      "[::1]x:1", "::1:6379", "udp://h:1",  "unix:",       "unix:rel", "host:1*",
        "host:1*0", "host:1*1001", "h:1*2*3",  "tls://",   "host:1/db",  "host:999999", "[]:1",     "[::1:1",
        "h:+1",     "tcp://h:-1",
    };
    char long_text[400];

    (void)state;
    memset(long_text, 'a', sizeof long_text);
    memcpy(long_text + sizeof long_text - 6, ":6379", 6);
    for (size_t i = 0; i <= sizeof rows / sizeof *rows; i++) {
        const char *text = i < sizeof rows / sizeof *rows ? rows[i] : long_text;
        struct fae_endpoint e = { .port = 7 };
        char why[160] = "";

        assert_int_equal(fae_endpoint_parse(&e, text, why, sizeof why), FAE_BAD_CONFIG);
        assert_memory_equal(why, "must be ", 8);
        assert_int_equal(e.port, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_good), cmocka_unit_test(test_bad) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
