// The map against a plain model, its order, its removal rules, and SipHash-2-4 against the vectors of its authors.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/base/random.h"

static void siphash_vectors(void **state)
{
	(void)state;
	// vectors.h of the reference implementation: key 00…0f, text 00, 01, … of the given length.
	static const struct {
		size_t length;
		uint64_t hash;
	} vectors[] = {{0, 0x726fdb47dd0e0e31},
	               {1, 0x74f839c593dc67fd},
	               {7, 0xab0200f58b01d137},
	               {8, 0x93f5f5799a932462},
	               {15, 0xa129ca6149be45e5}};
	uint8_t key[16], text[16];
	for (uint8_t i = 0; i < 16; i++) {
		key[i] = text[i] = i;
	}
	for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
		assert_true(siphash(key, (struct bytes){text, vectors[i].length}) == vectors[i].hash);
	}
}

static void keeps_order_and_replaces(void **state)
{
	(void)state;
	int values[4];
	struct map *map = map_new(NULL);
	assert_null(map_find_text(map, "a"));
	assert_null(map_insert_text(map, "a", &values[0]));
	assert_null(map_insert_text(map, "b", &values[1]));
	assert_null(map_insert_text(map, "", &values[2]));
	assert_ptr_equal(map_insert_text(map, "a", &values[3]), &values[0]);
	assert_ptr_equal(map_find_text(map, ""), &values[2]);
	assert_int_equal(map_count(map), 3);
	struct map_cursor cursor = {0};
	void *expected[] = {&values[3], &values[1], &values[2]};
	for (int i = 0; i < 3; i++) {
		assert_true(map_next(map, &cursor));
		assert_ptr_equal(cursor.value, expected[i]);
	}
	assert_false(map_next(map, &cursor));
	assert_null(map_remove_text(map, "c"));
	map_free(&map, NULL);
	assert_null(map);
	map_free(&map, free);
}

static void removes_while_iterating(void **state)
{
	(void)state;
	struct map *map = map_new(NULL);
	int value;
	for (uint32_t i = 0; i < 1000; i++) {
		map_insert(map, (struct bytes){(const uint8_t *)&i, sizeof i}, &value);
	}
	uint32_t seen = 0;
	for (struct map_cursor cursor = {0}; map_next(map, &cursor); seen++) {
		if (seen % 3 != 0) {
			assert_ptr_equal(map_remove(map, cursor.key), &value);
		}
	}
	assert_int_equal(seen, 1000);
	assert_int_equal(map_count(map), 334);
	for (struct map_cursor cursor = {0}; map_next(map, &cursor);) {
		map_remove(map, cursor.key);
	}
	assert_int_equal(map_count(map), 0);
	map_free(&map, NULL);
}

// Random insertions and removals over a small key space; the model is an array.
static void agrees_with_a_model(void **state)
{
	(void)state;
	enum { KEYS = 300 };
	struct random random;
	random_init_number(&random, 1);
	char *model[KEYS] = {0};
	uint8_t hash_key[16];
	random_fill(&random, hash_key, sizeof hash_key);
	struct map *map = map_new(hash_key);
	size_t count = 0;
	for (int step = 0; step < 100000; step++) {
		uint16_t key = (uint16_t)random_below(&random, KEYS);
		struct bytes run = {(const uint8_t *)&key, sizeof key};
		// Phases of growing and of shrinking.
		bool insert = random_below(&random, 100) < (step / 10000 % 2 ? 30u : 70u);
		char *had = insert ? NULL : map_remove(map, run);
		char *fresh = insert ? format_text("%d", step) : NULL;
		if (insert) {
			had = map_insert(map, run, fresh);
		}
		assert_ptr_equal(had, model[key]);
		count = count - (had != NULL) + (fresh != NULL);
		free(had);
		model[key] = fresh;
		assert_int_equal(map_count(map), count);
		key = (uint16_t)random_below(&random, KEYS);
		assert_ptr_equal(map_find(map, run), model[key]);
	}
	size_t visited = 0;
	for (struct map_cursor cursor = {0}; map_next(map, &cursor); visited++) {
		uint16_t key;
		memcpy(&key, cursor.key.data, sizeof key);
		assert_ptr_equal(cursor.value, model[key]);
	}
	assert_int_equal(visited, count);
	map_free(&map, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(siphash_vectors),
	    cmocka_unit_test(keeps_order_and_replaces),
	    cmocka_unit_test(removes_while_iterating),
	    cmocka_unit_test(agrees_with_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
