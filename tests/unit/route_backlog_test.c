// What waits to be written, and what is left to the sweep.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/map.h"
#include "common/base/random.h"
#include "services/route/backlog.h"

static void put(struct backlog *backlog, const char *key, uint64_t state)
{
	backlog_put(backlog, key, &(struct backlog_row){state, 2 * state, 3 * state});
}

static void append(void *context, struct bytes key, const struct backlog_row *row)
{
	char *text = context;
	if (row) {
		assert_int_equal(row->since, 2 * row->state);
		assert_int_equal(row->order, 3 * row->state);
		sprintf(text + strlen(text), "%.*s=%d ", (int)key.length, (const char *)key.data, (int)row->state);
	} else {
		sprintf(text + strlen(text), "-%.*s ", (int)key.length, (const char *)key.data);
	}
}

static void expect(struct backlog *backlog, size_t most, const char *wanted)
{
	char text[256] = "";
	backlog_take(backlog, most, append, text);
	assert_string_equal(text, wanted);
}

static void changes_fold(void **state)
{
	(void)state;
	struct backlog *backlog = backlog_new();
	put(backlog, "a", 1);
	put(backlog, "b", 1);
	put(backlog, "a", 2);
	put(backlog, "c", 3);
	backlog_remove(backlog, "b", true);
	assert_int_equal(backlog_count(backlog), 3);
	expect(backlog, 10, "-b ");
	assert_int_equal(backlog_count(backlog), 3); // what is under way is not written yet
	backlog_written(backlog);
	expect(backlog, 1, "a=2 ");
	backlog_written(backlog);
	put(backlog, "a", 4);
	expect(backlog, 10, "c=3 a=4 ");
	backlog_written(backlog);
	expect(backlog, 10, "");
	assert_int_equal(backlog_count(backlog), 0);
	backlog_free(&backlog);
}

static void what_is_lost_waits_again(void **state)
{
	(void)state;
	struct backlog *backlog = backlog_new();
	backlog_sweep_begins(backlog);
	put(backlog, "a", 1);
	put(backlog, "b", 1);
	put(backlog, "c", 1);
	put(backlog, "d", 1);
	expect(backlog, 10, "a=1 b=1 c=1 d=1 ");
	put(backlog, "b", 2);               // newer than what is under way
	backlog_remove(backlog, "c", true); // and gone since
	backlog_remove(backlog, "d", false);
	assert_true(backlog_wants_sweep(backlog));
	backlog_lost(backlog);
	// The database has gone: nobody is told of removals any more, the sweep finds them.
	char text[256] = "";
	backlog_take(backlog, 10, append, text);
	assert_non_null(strstr(text, "a=1 "));
	assert_non_null(strstr(text, "b=2 "));
	assert_null(strstr(text, "-"));
	backlog_free(&backlog);
}

// A removal that was under way when the connection went may not have been done.
static void a_lost_removal_is_swept(void **state)
{
	(void)state;
	struct backlog *backlog = backlog_new();
	assert_true(backlog_wants_sweep(backlog)); // an earlier process may have left rows
	backlog_sweep_begins(backlog);
	assert_false(backlog_wants_sweep(backlog));
	backlog_remove(backlog, "a", true);
	assert_false(backlog_wants_sweep(backlog));
	expect(backlog, 10, "-a ");
	backlog_lost(backlog);
	assert_int_equal(backlog_count(backlog), 0);
	assert_true(backlog_wants_sweep(backlog));
	backlog_sweep_begins(backlog);
	backlog_sweep_fails(backlog);
	assert_true(backlog_wants_sweep(backlog));
	backlog_free(&backlog);
}

// A million keys come and go while nobody can be told: nothing is left of them.
static void nothing_grows_with_the_keys_ever_seen(void **state)
{
	(void)state;
	struct backlog *backlog = backlog_new();
	backlog_sweep_begins(backlog);
	char key[32];
	for (unsigned i = 0; i < 1000000; i++) {
		snprintf(key, sizeof key, "key-%u", i);
		put(backlog, key, i);
		backlog_remove(backlog, key, false);
	}
	assert_int_equal(backlog_count(backlog), 0);
	assert_true(backlog_wants_sweep(backlog));
	// And when it can be told, but not as fast as they go.
	backlog_sweep_begins(backlog);
	for (unsigned i = 0; i < 10 * BACKLOG_REMOVALS; i++) {
		snprintf(key, sizeof key, "key-%u", i);
		backlog_remove(backlog, key, true);
		assert_true(backlog_count(backlog) <= BACKLOG_REMOVALS);
	}
	assert_true(backlog_wants_sweep(backlog));
	backlog_free(&backlog);
}

// A model of the database: random changes, batches and losses; when all is written and swept, it holds what there is.
static void store(void *context, struct bytes key, const struct backlog_row *row)
{
	struct map *stored = context;
	free(row ? map_insert(stored, key, memcpy(malloc(sizeof *row), row, sizeof *row)) : map_remove(stored, key));
}

static void ignore(void *context, struct bytes key, const struct backlog_row *row)
{
	(void)context;
	(void)key;
	(void)row;
}

static void sweep(struct backlog *backlog, struct map *stored, struct map *rows)
{
	backlog_sweep_begins(backlog);
	for (struct map_cursor at = {0}; map_next(stored, &at);) {
		char key[32];
		snprintf(key, sizeof key, "%.*s", (int)at.key.length, (const char *)at.key.data);
		if (!map_find_text(rows, key)) {
			backlog_remove(backlog, key, true);
		}
	}
}

static void random_changes(void **state)
{
	(void)state;
	for (unsigned seed = 0; seed < 50; seed++) {
		struct random random;
		random_init_number(&random, seed);
		struct backlog *backlog = backlog_new();
		struct map *rows = map_new(NULL), *stored = map_new(NULL);
		for (unsigned step = 0; step < 3000; step++) {
			char key[32];
			snprintf(key, sizeof key, "key-%u", random_below(&random, 200));
			bool heard = step / 500 % 2 == 0;
			switch (random_below(&random, 8)) {
			case 0:
			case 1:
			case 2:
			case 3:
				put(backlog, key, step + 1);
				map_insert_text(rows, key, (void *)(uintptr_t)(step + 1));
				break;
			case 4:
			case 5:
				if (map_remove_text(rows, key)) {
					backlog_remove(backlog, key, heard);
				}
				break;
			case 6:
				if (heard && backlog_take(backlog, 1 + random_below(&random, 50), store, stored) > 0) {
					backlog_written(backlog);
				}
				break;
			default: // lost, done or not
				if (backlog_take(backlog, 20, random_below(&random, 2) ? store : ignore, stored) > 0) {
					backlog_lost(backlog);
				}
			}
		}
		while (backlog_count(backlog) > 0 || backlog_wants_sweep(backlog)) {
			if (backlog_take(backlog, 64, store, stored) > 0) {
				backlog_written(backlog);
			} else {
				sweep(backlog, stored, rows);
			}
		}
		assert_int_equal(map_count(stored), map_count(rows));
		for (struct map_cursor at = {0}; map_next(rows, &at);) {
			const struct backlog_row *row = map_find(stored, at.key);
			assert_non_null(row);
			assert_int_equal(row->state, (uintptr_t)at.value);
		}
		backlog_free(&backlog);
		map_free(&rows, NULL);
		map_free(&stored, free);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(changes_fold),
	    cmocka_unit_test(what_is_lost_waits_again),
	    cmocka_unit_test(a_lost_removal_is_swept),
	    cmocka_unit_test(nothing_grows_with_the_keys_ever_seen),
	    cmocka_unit_test(random_changes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
