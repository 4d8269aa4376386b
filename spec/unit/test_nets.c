/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/nets: which addresses lie in a list of networks, and what is said of a list that is wrong.
 */
#include "unit.h"

#include <arpa/inet.h>

#include "base/nets.h"

static struct fae_ip ip_of(const char *text)
{
    struct fae_ip ip;
    uint8_t v4[4];

    if (inet_pton(AF_INET, text, v4) == 1)
        fae_ip_of_v4(&ip, v4);
    else
        assert_int_equal(inet_pton(AF_INET6, text, ip.bytes), 1);
    return ip;
}

static void an_address_lies_in_a_network_or_not(void **state)
{
    static const struct {
        const char *list, *ip;
        bool in;
    } rows[] = {
        { "", "127.0.0.1", false },
        { "127.0.0.0/8", "127.0.0.1", true },
        { "127.0.0.0/8", "127.255.255.255", true },
        { "127.0.0.0/8", "128.0.0.0", false },
        { "10.1.2.3", "10.1.2.3", true },
        { "10.1.2.3", "10.1.2.2", false },
        { "10.0.0.0/9", "10.127.0.1", true },
        { "10.0.0.0/9", "10.128.0.1", false },
        { "192.168.1.4/30", "192.168.1.7", true },
        { "192.168.1.4/30", "192.168.1.8", false },
        { "0.0.0.0/0", "8.8.8.8", true },
        { "0.0.0.0/0", "2001:db8::1", false },
        { "::/0", "8.8.8.8", true },
        { "::/0", "2001:db8::1", true },
        { "::1", "::1", true },
        { "::1", "::2", false },
        { "::1", "0.0.0.1", false },
        { "2001:db8::/33", "2001:db8:7fff::1", true },
        { "2001:db8::/33", "2001:db8:8000::1", false },
        { "::ffff:10.0.0.1", "10.0.0.1", true },
        { "127.0.0.0/8 ::1", "::1", true },
        { " 10.0.0.1,\t10.0.0.2\n", "10.0.0.2", true },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        struct fae_nets nets;
        struct fae_ip ip = ip_of(rows[i].ip);
        char why[160];

        assert_int_equal(fae_nets_parse(rows[i].list, &nets, why, sizeof why), FAE_OK);
        if (fae_nets_have(&nets, &ip) != rows[i].in)
            fail_msg("\"%s\" and %s", rows[i].list, rows[i].ip);
    }
}

static void a_wrong_list_is_told_and_changes_nothing(void **state)
{
    static const struct {
        const char *list, *why;
    } rows[] = {
        { "localhost", "\"localhost\" is not an IP address" },
        { "10.0.0.0/8 10.0.0", "\"10.0.0\" is not an IP address" },
        { "10.0.0.0/33", "\"10.0.0.0/33\": after the / comes a number from 0 to 32" },
        { "10.0.0.0/", "\"10.0.0.0/\": after the / comes a number from 0 to 32" },
        { "10.0.0.0/+8", "\"10.0.0.0/+8\": after the / comes a number from 0 to 32" },
        { "10.0.0.0/99999999999", "\"10.0.0.0/99999999999\": after the / comes a number from 0 to 32" },
        { "::/129", "\"::/129\": after the / comes a number from 0 to 128" },
        { "10.0.0.1/8", "\"10.0.0.1/8\": the address has more bits than the network" },
        { "2001:db8::1/64", "\"2001:db8::1/64\": the address has more bits than the network" },
    };
    struct fae_nets nets = { .n = 7 };
    char why[160];

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        assert_int_equal(fae_nets_parse(rows[i].list, &nets, why, sizeof why), FAE_BAD_CONFIG);
        assert_string_equal(why, rows[i].why);
        assert_int_equal(nets.n, 7);
    }
}

static void a_list_has_an_end(void **state)
{
    char list[FAE_NETS_MAX * 12 + 32] = "", why[160];
    struct fae_nets nets;

    (void)state;
    for (unsigned i = 0; i < FAE_NETS_MAX; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "10.0.0.%u ", i);
    assert_int_equal(fae_nets_parse(list, &nets, why, sizeof why), FAE_OK);
    assert_int_equal(nets.n, FAE_NETS_MAX);
    strcat(list, "10.0.1.1");
    assert_int_equal(fae_nets_parse(list, &nets, why, sizeof why), FAE_BAD_CONFIG);
    assert_string_equal(why, "more than 64 networks");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_lies_in_a_network_or_not),
        cmocka_unit_test(a_wrong_list_is_told_and_changes_nothing),
        cmocka_unit_test(a_list_has_an_end),
    };

    return cmocka_run_group_tests_name("nets", tests, NULL, NULL);
}
