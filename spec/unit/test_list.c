/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/list: the intrusive list.
 */
#include "unit.h"

#include "base/list.h"

struct item {
    int n;
    struct fae_list node;
};

/* "1 2 3" */
static const char *shown(const struct fae_list *list)
{
    static char text[64];

    text[0] = '\0';
    FAE_LIST_EACH(node, list)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", text[0] ? " " : "",
                 FAE_CONTAINER(node, struct item, node)->n);
    return text;
}

static void fill(struct fae_list *list, struct item *items, int from, int n)
{
    fae_list_init(list);
    for (int i = 0; i < n; i++) {
        items[i].n = from + i;
        fae_list_add_tail(list, &items[i].node);
    }
}

static void adds_in_order_and_deletes(void **state)
{
    struct fae_list list;
    struct item items[3];

    (void)state;
    fae_list_init(&list);
    assert_true(fae_list_empty(&list));
    fill(&list, items, 1, 3);
    assert_false(fae_list_empty(&list));
    assert_string_equal(shown(&list), "1 2 3");
    fae_list_del(&items[1].node);
    assert_string_equal(shown(&list), "1 3");
    fae_list_del(&items[1].node); /* harmless */
    assert_string_equal(shown(&list), "1 3");
    fae_list_add_tail(&list, &items[1].node);
    assert_string_equal(shown(&list), "1 3 2");
    for (int i = 0; i < 3; i++)
        fae_list_del(&items[i].node);
    assert_true(fae_list_empty(&list));
}

static void splices(void **state)
{
    struct fae_list a, b;
    struct item as[2], bs[2];

    (void)state;
    fill(&a, as, 1, 2);
    fill(&b, bs, 3, 2);
    fae_list_splice(&a, &b);
    assert_string_equal(shown(&a), "1 2 3 4");
    assert_true(fae_list_empty(&b));
    fae_list_splice(&a, &b);
    assert_string_equal(shown(&a), "1 2 3 4");
    fae_list_splice(&b, &a);
    assert_string_equal(shown(&b), "1 2 3 4");
    assert_true(fae_list_empty(&a));
}

static void the_body_may_delete_its_node(void **state)
{
    struct fae_list list;
    struct item items[4];

    (void)state;
    fill(&list, items, 1, 4);
    FAE_LIST_EACH(node, &list)
        if (FAE_CONTAINER(node, struct item, node)->n % 2)
            fae_list_del(node);
    assert_string_equal(shown(&list), "2 4");
    FAE_LIST_EACH(node, &list)
        fae_list_del(node);
    assert_true(fae_list_empty(&list));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_in_order_and_deletes),
        cmocka_unit_test(splices),
        cmocka_unit_test(the_body_may_delete_its_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
