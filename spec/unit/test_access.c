/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/access: globs, which roles may call what, who has them, what stays the same over a change of the configuration,
 * and that the time it takes to refuse a token tells nothing.
 */
#include "unit.h"

#include "base/clock.h"
#include "net/digest.h"
#include "rpc/access.h"

static struct fae_config config;
static struct fae_access *access_;
static struct fae_buf text;

static int set_up(void **state)
{
    (void)state;
    fae_config_init(&config);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_access_free(&access_);
    fae_config_fini(&config);
    fae_buf_fini(&text);
    return 0;
}

#define SET(field, value) snprintf(field, sizeof(field), "%s", value)

static void add_role(const char *name, const char *allow, const char *deny)
{
    struct fae_config_role *role = &config.role[config.n_role++];

    *role = (struct fae_config_role){ 0 };
    SET(role->name, name);
    SET(role->allow, allow);
    SET(role->deny, deny);
}

static void add_token(const char *name, const char *token, const char *roles)
{
    struct fae_config_token *t = &config.token[config.n_token++];
    uint8_t sha256[FAE_SHA256_BYTES];

    *t = (struct fae_config_token){ 0 };
    fae_sha256(token, strlen(token), sha256);
    fae_sha256_to_hex(sha256, t->sha256);
    SET(t->name, name);
    SET(t->roles, roles);
}

static void add_account(const char *name, const char *roles)
{
    struct fae_config_account *a = &config.account[config.n_account++];

    *a = (struct fae_config_account){ 0 };
    SET(a->name, name);
    SET(a->roles, roles);
}

static void ready(void)
{
    if (access_)
        fae_access_update(access_, &config);
    else
        access_ = fae_access_new(&config);
}

static const char *words(uint32_t roles)
{
    text.len = 0;
    fae_access_words(access_, roles, &text);
    return fae_buf_text(&text);
}

static const char *who(uint32_t id)
{
    text.len = 0;
    return fae_access_who(access_, id, &text) ? fae_buf_text(&text) : NULL;
}

static const char *callers(const char *method, const char *alias)
{
    return words(fae_access_method(access_, method, alias));
}

static uint32_t id_of(const char *token)
{
    return fae_access_find_token(access_, token, strlen(token));
}

static const char *token_roles(uint32_t id)
{
    struct fae_caller caller = { 0 };

    fae_access_token(access_, id, &caller);
    return words(caller.roles);
}

static void globs_match_whole_names(void **state)
{
    static const struct {
        const char *glob, *name;
        bool fits;
    } rows[] = {
        { "*", "shop.buy", true },
        { "*", "", true },
        { "", "", true },
        { "", "a", false },
        { "shop.buy", "shop.buy", true },
        { "shop.buy", "shop.buyer", false },
        { "shop.buy", "ashop.buy", false },
        { "shop.buyer", "shop.buy", false },
        { "shop.*", "shop.", true },
        { "shop.*", "shop.buy", true },
        { "shop.*", "shop", false },
        { "shop.*", "shopping.buy", false },
        { "*.get", "lc.get", true },
        { "*.get", "lc.getx", false },
        { "*.get", "lc.get.get", true },
        { "*get*", "lc.getmulti", true },
        { "*get*", "lc.set", false },
        { "lc*multi", "lc.getmultimulti", true },
        { "a*b*c", "aXbXbXc", true },
        { "a*b*c", "aXbXbX", false },
        { "a**c", "abc", true },
        { "**", "x", true },
        { "?", "x", false },
        { "[a-z]", "a", false },
        { "Shop.*", "shop.buy", false },
        { "\xff*", "\xff\xfe", true },
        { "*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++)
        if (fae_access_glob(rows[i].glob, rows[i].name) != rows[i].fits)
            fail_msg("\"%s\" against \"%s\"", rows[i].glob, rows[i].name);
}

static void without_roles_everybody_may(void **state)
{
    (void)state;
    add_token("web", "secret", "nobody");
    ready();
    assert_false(fae_access_on(access_));
    assert_false(fae_access_on(NULL));
    assert_int_equal(fae_access_method(access_, "shop.buy", ""), FAE_ROLES_ALL);
    assert_int_equal(fae_access_method(NULL, "shop.buy", ""), FAE_ROLES_ALL);
    assert_int_equal(fae_access_find_token(NULL, "secret", 6), 0);
    assert_false(fae_access_is_peer(NULL, FAE_ROLES_ALL));
    assert_true(FAE_ROLES_ALL & FAE_ROLES_EVERYBODY);
}

/* Methods and the roles that may call them. */
static void deny_wins_within_a_role_only(void **state)
{
    static const struct {
        const char *method, *alias, *roles;
    } rows[] = {
        { "shop.buy", "", "web all" },       { "shop.refund", "", "all boss" }, { "lc.get", "lc_get", "cache all old" },
        { "lc.set", "lc_set", "cache all" }, { "lc.clear", "", "all" },         { "kv.get", "kv_get", "all" },
        { "kv.drop", "kv_drop", "" }, /* denied by its alias */
        { "sys.stats", "", "all" },          { "sys.noop", "noop", "all" },     { "nobody.knows", "", "all" },
    };
    static const char *const open[] = { "sys.hello", "sys.ctx", "sys.ping" };

    (void)state;
    add_role("web", "shop.*", "shop.refund shop.list*");
    add_role("cache", "lc.*", "lc.clear");
    add_role("all", "*", "kv_drop");
    add_role("boss", "shop.refund", "");
    add_role("old", "lc_get", "");
    add_role("none", "", "");
    add_role("never", "*", "*");
    ready();
    assert_true(fae_access_on(access_));
    for (size_t i = 0; i < UNIT_N(rows); i++)
        if (strcmp(callers(rows[i].method, rows[i].alias), rows[i].roles) != 0)
            fail_msg("%s may be called by \"%s\", not \"%s\"", rows[i].method, fae_buf_text(&text), rows[i].roles);
    for (size_t i = 0; i < UNIT_N(open); i++)
        assert_int_equal(fae_access_method(access_, open[i], ""), FAE_ROLES_ALL);
    /* What everybody has by itself opens nothing else. */
    for (size_t i = 0; i < UNIT_N(rows); i++)
        assert_false(fae_access_method(access_, rows[i].method, rows[i].alias) & FAE_ROLES_EVERYBODY);
    assert_string_equal(words(fae_access_roles(access_, "web boss nonsense web")), "web boss");
    assert_int_equal(fae_access_roles(access_, ""), 0);
    assert_int_equal(fae_access_roles(access_, "we"), 0);
}

static void as_many_roles_as_there_are_bits(void **state)
{
    char name[16], allow[24];

    (void)state;
    for (unsigned i = 0; i < FAE_ROLES_MAX; i++) {
        snprintf(name, sizeof name, "role%u", i);
        snprintf(allow, sizeof allow, "m%u.x", i);
        add_role(name, allow, "");
    }
    ready();
    for (unsigned i = 0; i < FAE_ROLES_MAX; i++) {
        snprintf(name, sizeof name, "role%u", i);
        snprintf(allow, sizeof allow, "m%u.x", i);
        assert_string_equal(callers(allow, ""), name);
    }
    config.n_role = 0; /* all others, at once */
    for (unsigned i = 0; i < FAE_ROLES_MAX; i++) {
        snprintf(name, sizeof name, "other%u", i);
        add_role(name, "*", "");
    }
    ready();
    assert_int_equal(fae_access_method(access_, "a.b", ""), FAE_ROLES_ALL & ~FAE_ROLES_EVERYBODY);
}

static void everybody_is_known_by_what_he_has(void **state)
{
    struct fae_caller caller = { 0 };
    uint32_t web, ops;

    (void)state;
    add_role("web", "shop.*", "");
    add_role("admin", "*", "");
    add_role("node", "*", "");
    config.role[2].peer = true;
    add_token("shop-web", "the web's token", "web");
    add_token("ops", "", "web admin");
    add_account("4711", "web");
    add_account("root", "admin");
    add_account("no-such-account-here", "admin");
    add_account("elsewhere", "web");
    SET(config.account[3].uid, "815");
    fae_access_resolve(&config);
    assert_string_equal(config.account[0].uid, "");
    assert_string_equal(config.account[1].uid, "0");
    assert_string_equal(config.account[2].uid, "");
    assert_string_equal(config.account[3].uid, "815");
    SET(config.certificate[0].name, "db1.example");
    SET(config.certificate[0].roles, "node");
    config.n_certificate = 1;
    SET(config.listen[0].roles, "web");
    SET(config.listen[1].roles, "");
    config.n_listen = 2;
    ready();

    web = id_of("the web's token"), ops = id_of("");
    assert_true(web && ops && web != ops);
    assert_int_equal(id_of("the web's toke"), 0);
    assert_int_equal(id_of("the web's token "), 0);
    assert_int_equal(id_of("The web's token"), 0);
    assert_int_equal(fae_access_find_token(access_, "the web's token\0", 16), 0);
    assert_int_equal(fae_access_find_token(access_, config.token[0].sha256, 64), 0); /* the hash opens nothing */
    assert_string_equal(token_roles(web), "web");
    assert_string_equal(token_roles(ops), "web admin");
    assert_string_equal(token_roles(0), "");
    assert_string_equal(token_roles(12345), "");
    assert_string_equal(who(web), "token:shop-web");
    assert_null(who(0));
    assert_null(who(12345));

    fae_access_listener(access_, 0, &caller);
    assert_string_equal(words(caller.roles), "web");
    assert_int_equal(caller.who, 0);
    fae_access_listener(access_, 1, &caller);
    fae_access_listener(access_, 99, &caller);
    assert_string_equal(words(caller.roles), "web");
    fae_access_account(access_, 0, &caller);
    assert_string_equal(words(caller.roles), "web admin");
    assert_string_equal(who(caller.who), "account:root");
    fae_access_token(access_, web, &caller);
    assert_string_equal(words(caller.roles), "web admin");
    assert_string_equal(who(caller.who), "token:shop-web");

    caller = (struct fae_caller){ 0 };
    fae_access_account(access_, 4711, &caller);
    assert_string_equal(words(caller.roles), "web");
    fae_access_account(access_, 4712, &caller);
    fae_access_account(access_, (uid_t)-1, &caller); /* what a tcp socket says, and an account that is none */
    assert_string_equal(words(caller.roles), "web");
    fae_access_account(access_, 815, &caller);
    assert_string_equal(who(caller.who), "account:elsewhere");
    assert_string_equal(words(caller.roles), "web");
    assert_false(fae_access_is_peer(access_, caller.roles));
    fae_access_certificate(access_, "db1.example.org", &caller);
    fae_access_certificate(access_, "", &caller);
    assert_string_equal(words(caller.roles), "web");
    fae_access_certificate(access_, "db1.example", &caller);
    assert_string_equal(words(caller.roles), "web node");
    assert_string_equal(who(caller.who), "certificate:db1.example");
    assert_true(fae_access_is_peer(access_, caller.roles));
    assert_false(fae_access_is_peer(access_, FAE_ROLES_EVERYBODY));
}

static void a_token_has_an_end(void **state)
{
    static char longest[FAE_TOKEN_LEN_MAX + 2];

    (void)state;
    memset(longest, 't', FAE_TOKEN_LEN_MAX);
    add_token("longest", longest, "");
    longest[FAE_TOKEN_LEN_MAX] = 't';
    add_token("too long", longest, "");
    ready();
    assert_int_equal(id_of(longest), 0);
    longest[FAE_TOKEN_LEN_MAX] = '\0';
    assert_string_equal(who(id_of(longest)), "token:longest");
}

static void a_change_keeps_what_is_the_same(void **state)
{
    uint32_t one, two, two_roles;

    (void)state;
    add_role("a", "*", "");
    add_role("b", "*", "");
    add_token("one", "1", "a");
    add_token("two", "2", "b");
    ready();
    one = id_of("1"), two = id_of("2");
    two_roles = fae_access_roles(access_, "b");

    config.n_role = config.n_token = 0;
    add_role("c", "*", "");
    add_role("b", "x.*", "");
    add_token("renamed", "2", "b c");
    add_token("three", "3", "c");
    ready();
    assert_int_equal(id_of("1"), 0);
    assert_string_equal(token_roles(one), "");
    assert_null(who(one));
    assert_int_equal(id_of("2"), two);
    assert_string_equal(who(two), "token:renamed");
    assert_int_equal(fae_access_roles(access_, "b"), two_roles);
    assert_int_equal(fae_access_roles(access_, "a"), 0);
    assert_false(fae_access_roles(access_, "c") & 1u); /* a's bit rests for a while */
    assert_true(id_of("3") != one && id_of("3") != two && id_of("3") != 0);

    add_token("again", "1", "c"); /* who had it must show it again */
    ready();
    assert_true(id_of("1") != one && id_of("1") != 0);
    config.n_role = 0;
    ready();
    assert_false(fae_access_on(access_));
    assert_int_equal(fae_access_method(access_, "a.b", ""), FAE_ROLES_ALL);
}

static void what_cannot_be_opens_nothing(void **state)
{
    (void)state;
    add_role("admin", "*", "");
    add_token("web", "x", "");
    add_token("ops", "x", "admin"); /* the same: the first one has it */
    add_token("bad", "y", "admin");
    config.token[2].sha256[63] = 'g';
    add_token("odd", "z", "amdin");
    ready();
    assert_string_equal(who(id_of("x")), "token:web");
    assert_string_equal(token_roles(id_of("x")), "");
    assert_int_equal(id_of("y"), 0);
    assert_string_equal(token_roles(id_of("z")), "");
}

/* ---- time ---- */

enum { ROUNDS = 400, BATCH = 16 };

static double look_ns(const char *token)
{
    uint64_t ticks = fae_ticks();

    for (int i = 0; i < BATCH; i++)
        if (fae_access_find_token(access_, token, 64))
            fail_msg("a wrong token was right");
    return (double)fae_ticks_to_ns(fae_ticks() - ticks) / BATCH;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Wrong tokens that begin like a right one, and others, in turns: the medians must not tell them apart. */
static void time_tells_nothing(void **state)
{
    static double near[ROUNDS], far[ROUNDS];
    char right[65], wrong[65], prefix[65];

    (void)state;
    memset(right, 'r', 64), memset(wrong, 'w', 64), memset(prefix, 'r', 64);
    right[64] = wrong[64] = prefix[64] = '\0';
    prefix[63] = 'w';
    add_role("a", "*", "");
    for (int i = 0; i < 100; i++) {
        char name[16], token[16];

        snprintf(name, sizeof name, "t%d", i);
        snprintf(token, sizeof token, "token %d", i);
        add_token(name, i == 50 ? right : token, "a");
    }
    ready();
    assert_true(id_of(right));
    for (int attempt = 0;; attempt++) {
        double difference;

        for (int i = 0; i < ROUNDS; i++)
            near[i] = look_ns(prefix), far[i] = look_ns(wrong);
        qsort(near, ROUNDS, sizeof *near, by_value);
        qsort(far, ROUNDS, sizeof *far, by_value);
        difference = near[ROUNDS / 2] - far[ROUNDS / 2];
        if (difference < 0)
            difference = -difference;
        if (difference < 1000 && difference < far[ROUNDS / 2] / 10)
            return;
        if (attempt == 4) /* a busy machine may spoil one measurement, not five */
            fail_msg("%.0f ns like a right one, %.0f ns otherwise", near[ROUNDS / 2], far[ROUNDS / 2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(globs_match_whole_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_roles_everybody_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deny_wins_within_a_role_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(as_many_roles_as_there_are_bits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(everybody_is_known_by_what_he_has, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_token_has_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_change_keeps_what_is_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_opens_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(time_tells_nothing, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
