/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/series: what servants count keeps its cells, whoever declares it again, and there is an end to what they may
 * make.
 */
#include "unit.h"

#include <math.h>
#include <sys/mman.h>

#include "rpc/series.h"

#define CELLS 40

static const struct fae_series_arg arg = { .n_workers = 2, .cells_max = CELLS };
static struct fae_series *series;
static size_t size;

static int set_up(void **state)
{
    (void)state;
    size = fae_series_size(&arg);
    series = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (series == MAP_FAILED)
        return -1;
    fae_series_init(series, &arg);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(series, size);
}

static struct fae_series_family family(const char *name, enum fae_series_kind kind, unsigned n_labels)
{
    struct fae_series_family f = { .help = "Help.", .kind = kind, .n_labels = n_labels };

    snprintf(f.name, sizeof f.name, "%s", name);
    for (unsigned i = 0; i < n_labels; i++)
        snprintf(f.labels[i], sizeof f.labels[i], "l%u", i);
    return f;
}

static uint32_t declare(const char *name, enum fae_series_kind kind, unsigned n_labels)
{
    struct fae_series_family f = family(name, kind, n_labels);

    return fae_series_declare(series, &f);
}

static uint32_t child(uint32_t row, const char *a, const char *b)
{
    struct fae_series_value values[] = { { a, strlen(a) }, { b, strlen(b) } };

    return fae_series_child(series, row, values);
}

static void a_declaration_keeps_its_row(void **state)
{
    uint32_t hits = declare("hits_total", FAE_SERIES_COUNTER, 1);

    (void)state;
    assert_int_equal(hits, 0);
    assert_int_equal(declare("hits_total", FAE_SERIES_COUNTER, 1), 0);
    assert_int_equal(declare("hit_total", FAE_SERIES_COUNTER, 1), 1);
    assert_int_equal(fae_series_n_families(series), 2);
    assert_string_equal(fae_series_family(series, hits)->name, "hits_total");
    assert_string_equal(fae_series_family(series, hits)->labels[0], "l0");
}

/* A servant that was changed: what it counts now is shown, what it counted then is kept. */
static void the_last_declaration_of_a_name_is_shown(void **state)
{
    uint32_t before = declare("hits_total", FAE_SERIES_COUNTER, 0), after;
    uint32_t other = declare("other_total", FAE_SERIES_COUNTER, 0);

    (void)state;
    after = declare("hits_total", FAE_SERIES_COUNTER, 2);
    assert_int_not_equal(before, after);
    assert_null(fae_series_family(series, before));
    assert_non_null(fae_series_family(series, after));
    assert_non_null(fae_series_family(series, other));
    assert_int_equal(declare("hits_total", FAE_SERIES_COUNTER, 0), before); /* rolled back */
    assert_null(fae_series_family(series, after));
    assert_non_null(fae_series_family(series, before));
}

static void bounds_are_part_of_it(void **state)
{
    struct fae_series_family a = family("size", FAE_SERIES_HISTOGRAM, 0), b = a;

    (void)state;
    a.n_bounds = b.n_bounds = 2;
    a.bounds[0] = b.bounds[0] = 0.1;
    a.bounds[1] = 0.3;
    b.bounds[1] = 0.1 + 0.2;
    assert_int_not_equal(fae_series_declare(series, &a), fae_series_declare(series, &b));
}

static void too_many_families_are_none(void **state)
{
    char name[32];

    (void)state;
    for (unsigned i = 0; i < FAE_SERIES_FAMILIES_MAX; i++) {
        snprintf(name, sizeof name, "m%u_total", i);
        assert_int_equal(declare(name, FAE_SERIES_COUNTER, 0), i);
    }
    assert_int_equal(declare("one_more_total", FAE_SERIES_COUNTER, 0), FAE_SERIES_NONE);
}

/* The longest there may be of everything. */
static void the_longest_declaration_fits(void **state)
{
    struct fae_series_family f = { .kind = FAE_SERIES_HISTOGRAM, .n_labels = FAE_SERIES_LABELS_MAX };

    (void)state;
    memset(f.name, 'n', FAE_SERIES_NAME_MAX);
    memset(f.help, 'h', FAE_SERIES_HELP_MAX);
    for (unsigned i = 0; i < FAE_SERIES_LABELS_MAX; i++)
        memset(f.labels[i], 'a' + (int)i, FAE_SERIES_LABEL_MAX);
    f.n_bounds = FAE_SERIES_BOUNDS_MAX;
    for (unsigned i = 0; i < FAE_SERIES_BOUNDS_MAX; i++)
        f.bounds[i] = -1.0 / 3 * pow(2, -1000.0 - i);
    assert_int_equal(fae_series_declare(series, &f), 0);
    assert_memory_equal(fae_series_family(series, 0)->labels, f.labels, sizeof f.labels);
}

static void children_have_cells_of_their_own(void **state)
{
    uint32_t hits = declare("hits_total", FAE_SERIES_COUNTER, 2), row, cell;
    uint32_t others = declare("others_total", FAE_SERIES_COUNTER, 2);
    struct fae_series_value values[FAE_SERIES_LABELS_MAX];
    unsigned n;

    (void)state;
    assert_int_equal(child(hits, "a", "bc"), 0);
    assert_int_equal(child(hits, "ab", "c"), 1);
    assert_int_equal(child(hits, "", ""), 2);
    assert_int_equal(child(others, "a", "bc"), 3);
    assert_int_equal(child(hits, "a", "bc"), 0);
    fae_series_add(series, 0, 1, 2);
    fae_series_add(series, 1, 1, 0.5);
    fae_series_add(series, 1, 1, 0.5);
    assert_true(fae_series_value(series, 0, 1) == 2);
    assert_true(fae_series_value(series, 1, 1) == 1);
    assert_true(fae_series_value(series, 1, 0) == 0);
    assert_int_equal(fae_series_n_children(series), 4);
    assert_true(fae_series_read_child(series, 1, &row, &cell, values, &n));
    assert_int_equal(row, hits);
    assert_int_equal(cell, 1);
    assert_int_equal(n, 2);
    assert_int_equal(values[0].len, 2);
    assert_memory_equal(values[0].text, "ab", 2);
    assert_memory_equal(values[1].text, "c", 1);
}

static void long_and_broken_values_become_text(void **state)
{
    uint32_t hits = declare("hits_total", FAE_SERIES_COUNTER, 2), row, cell;
    struct fae_series_value values[FAE_SERIES_LABELS_MAX];
    char longest[300];
    unsigned n;

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest + 122, "\xc3\xa9", 2); /* is cut in its middle */
    assert_int_equal(child(hits, longest, "\xff\xc3\xa9\xc3"), 0);
    assert_int_equal(child(hits, longest, "\xfe\xc3\xa9\xc2"), 0);
    assert_true(fae_series_read_child(series, 0, &row, &cell, values, &n));
    assert_int_equal(values[0].len, FAE_SERIES_VALUES_MAX / 2 - 2);
    assert_int_equal(values[0].text[122], '?');
    assert_int_equal(values[1].len, 4);
    assert_memory_equal(values[1].text, "?\xc3\xa9?", 4);
}

static void what_is_beyond_is_left_out(void **state)
{
    struct fae_series_family f = family("size", FAE_SERIES_HISTOGRAM, 1);
    uint32_t hits = declare("hits_total", FAE_SERIES_COUNTER, 1), sizes;
    char name[16];

    (void)state;
    f.n_bounds = 3;
    sizes = fae_series_declare(series, &f);
    for (unsigned i = 0; i < CELLS - 5; i++) {
        snprintf(name, sizeof name, "%u", i);
        assert_int_equal(child(hits, name, ""), i);
    }
    assert_int_equal(child(sizes, "six cells", ""), FAE_SERIES_NONE);
    for (unsigned i = CELLS - 5; i < CELLS; i++) {
        snprintf(name, sizeof name, "%u", i);
        assert_int_equal(child(hits, name, ""), i);
    }
    assert_int_equal(child(hits, "one more", ""), FAE_SERIES_NONE);
    assert_int_equal(child(hits, "7", ""), 7);
    assert_int_equal(fae_series_n_cells(series), CELLS);
    assert_int_equal(fae_series_n_children(series), CELLS);
    fae_series_drop(series, 0);
    fae_series_drop(series, 1);
    assert_int_equal(fae_series_dropped(series), 2);
}

static void histograms_have_a_cell_a_bucket(void **state)
{
    struct fae_series_family f = family("size", FAE_SERIES_HISTOGRAM, 0);
    static const double seen[] = { 0.5, 1, 1.5, 2, 2, 7, -1 }, want[] = { 3, 3, 1, 13, 7 };
    uint32_t row;

    (void)state;
    f.n_bounds = 2;
    f.bounds[0] = 1;
    f.bounds[1] = 2;
    row = fae_series_declare(series, &f);
    assert_int_equal(fae_series_child(series, row, NULL), 0);
    for (unsigned i = 0; i < UNIT_N(seen); i++)
        fae_series_observe(series, 1, 0, &f, seen[i]);
    for (unsigned i = 0; i < UNIT_N(want); i++)
        assert_true(fae_series_value(series, 1, i) == want[i]);
    assert_int_equal(fae_series_n_cells(series), UNIT_N(want));
}

static void a_new_worker_empties_its_gauges_alone(void **state)
{
    uint32_t hits = declare("hits_total", FAE_SERIES_COUNTER, 0), open = declare("open", FAE_SERIES_GAUGE, 0);
    uint32_t hit, gauge;

    (void)state;
    hit = fae_series_child(series, hits, NULL);
    gauge = fae_series_child(series, open, NULL);
    fae_series_add(series, 0, hit, 3);
    fae_series_set(series, 0, gauge, 5);
    fae_series_set(series, 1, gauge, 0);
    assert_true(signbit(fae_series_value(series, 1, gauge))); /* set, to 0 */
    fae_series_reap(series, 0);
    assert_true(fae_series_value(series, 0, hit) == 3);
    assert_false(signbit(fae_series_value(series, 0, gauge)));
    assert_true(fae_series_value(series, 0, gauge) == 0);
    assert_true(signbit(fae_series_value(series, 1, gauge)));
}

#define WITH_SERIES(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERIES(a_declaration_keeps_its_row),
        WITH_SERIES(the_last_declaration_of_a_name_is_shown),
        WITH_SERIES(bounds_are_part_of_it),
        WITH_SERIES(too_many_families_are_none),
        WITH_SERIES(the_longest_declaration_fits),
        WITH_SERIES(children_have_cells_of_their_own),
        WITH_SERIES(long_and_broken_values_become_text),
        WITH_SERIES(what_is_beyond_is_left_out),
        WITH_SERIES(histograms_have_a_cell_a_bucket),
        WITH_SERIES(a_new_worker_empties_its_gauges_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
