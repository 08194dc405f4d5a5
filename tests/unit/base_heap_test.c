// The heap against a linear search, with entries moved, removed and set to never, at random.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/heap.h"
#include "common/base/random.h"

enum { ENTRIES = 97, STEPS = 20000 };

static void agrees_with_a_search(void **state)
{
	(void)state;
	struct random random;
	random_init_number(&random, 7);
	struct heap heap = {0};
	struct heap_entry entries[ENTRIES] = {0};
	size_t held = 0;
	for (int step = 0; step < STEPS; step++) {
		struct heap_entry *entry = &entries[random_below(&random, ENTRIES)];
		bool was = entry->position != 0;
		switch (random_below(&random, 4)) {
		case 0:
			heap_remove(&heap, entry);
			held -= was ? 1 : 0;
			break;
		case 1:
			heap_set(&heap, entry, INSTANT_NEVER);
			held -= was ? 1 : 0;
			break;
		default:
			heap_set(&heap, entry, (instant)random_below(&random, 1000));
			held += was ? 0 : 1;
		}
		assert_int_equal(heap.count, held);
		instant due = INSTANT_NEVER;
		for (size_t i = 0; i < ENTRIES; i++) {
			assert_true(entries[i].position == 0 || heap.entries[entries[i].position] == &entries[i]);
			if (entries[i].position != 0) {
				due = instant_min(due, entries[i].at);
			}
		}
		assert_true(heap_due(&heap) == due);
		assert_true(held == 0 ? heap_first(&heap) == NULL : heap_first(&heap)->at == due);
	}
	heap_fini(&heap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_a_search)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
