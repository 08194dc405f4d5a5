// The owner's rows: what each scope sees after each change, how far the memory of removals goes, and that work goes with the
// changes.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/bus/table_rows.h"

static struct bytes text(const char *octets)
{
	return (struct bytes){(const uint8_t *)octets, strlen(octets)};
}

static void note(void *context, struct bytes key, struct bytes value, bool removed)
{
	char *out = context;
	size_t length = strlen(out);
	snprintf(out + length, 256 - length, removed ? "-%.*s " : "%.*s=%.*s ", (int)key.length, (const char *)key.data,
	         (int)value.length, (const char *)value.data);
}

static const char *changes(const struct table_rows *rows, const char *scope, uint64_t since)
{
	static char out[256];
	out[0] = '\0';
	table_rows_changes(rows, scope, since, note, out);
	return out;
}

static void puts_and_removes(void **state)
{
	(void)state;
	struct table_rows *rows = table_rows_new(false);
	assert_true(table_rows_put(rows, "", text("a"), text("1")));
	assert_true(table_rows_put(rows, "", text("b"), text("1")));
	assert_true(table_rows_pending(rows));
	assert_true(table_rows_commit(rows, false) == 1);
	assert_false(table_rows_put(rows, "", text("a"), text("1")));
	assert_true(table_rows_commit(rows, false) == 1);
	assert_true(table_rows_put(rows, "", text("a"), text("")));
	assert_true(table_rows_remove(rows, text("b")));
	assert_false(table_rows_remove(rows, text("b")));
	assert_true(table_rows_commit(rows, false) == 2);
	assert_string_equal(changes(rows, "", 1), "-b a= ");
	assert_string_equal(changes(rows, "", 2), "");
	assert_true(table_rows_put(rows, "", text("b"), text("2")));
	table_rows_commit(rows, false);
	assert_string_equal(changes(rows, "", 1), "a= b=2 "); // b is back: its departure is of no interest
	assert_int_equal(table_rows_count(rows), 2);
	table_rows_free(&rows);
}

static void moving_between_scopes(void **state)
{
	(void)state;
	struct table_rows *rows = table_rows_new(false);
	table_rows_put(rows, "node-a", text("k"), text("1"));
	table_rows_commit(rows, false);
	table_rows_put(rows, "node-b", text("k"), text("1"));
	table_rows_commit(rows, false);
	assert_string_equal(changes(rows, "node-a", 1), "-k ");
	assert_string_equal(changes(rows, "node-b", 1), "k=1 ");
	assert_string_equal(changes(rows, "", 1), "k=1 ");
	assert_string_equal(changes(rows, "node-c", 0), "");
	table_rows_put(rows, "", text("k"), text("1"));
	table_rows_commit(rows, false);
	assert_string_equal(changes(rows, "node-a", 1), "k=1 ");
	assert_string_equal(changes(rows, "node-c", 2), "k=1 ");
	table_rows_put(rows, "node-a", text("k"), text("1"));
	table_rows_commit(rows, false);
	assert_string_equal(changes(rows, "node-c", 3), "-k ");
	assert_string_equal(changes(rows, "node-b", 1), "-k -k "); // once from its own scope, once from everyone's
	assert_string_equal(changes(rows, "node-a", 1), "k=1 ");
	table_rows_free(&rows);
}

static void removals_are_forgotten_in_the_end(void **state)
{
	(void)state;
	struct table_rows *rows = table_rows_new(false);
	char key[16];
	for (int i = 0; i < 3000; i++) {
		snprintf(key, sizeof key, "%d", i);
		table_rows_put(rows, "", text(key), text("x"));
	}
	table_rows_commit(rows, false);
	for (int i = 0; i < 3000; i++) {
		snprintf(key, sizeof key, "%d", i);
		table_rows_remove(rows, text(key));
		table_rows_commit(rows, false);
	}
	assert_false(table_rows_has_history(rows, 1));
	assert_false(table_rows_has_history(rows, 3001 - 1025));
	assert_true(table_rows_has_history(rows, 3001 - 1024));
	assert_true(table_rows_has_history(rows, 3001));
	assert_false(table_rows_has_history(rows, 3002));
	table_rows_free(&rows);
}

static void count_one(void *context, struct bytes key, struct bytes value, bool removed)
{
	(void)key;
	(void)value;
	(void)removed;
	++*(size_t *)context;
}

static void the_work_goes_with_the_changes(void **state)
{
	(void)state;
	enum { ROWS = 100000 };
	struct table_rows *rows = table_rows_new(false);
	char key[16], value[16];
	for (int i = 0; i < ROWS; i++) {
		snprintf(key, sizeof key, "%d", i);
		table_rows_put(rows, "", text(key), text("x"));
	}
	table_rows_commit(rows, false);
	clock_t started = clock();
	size_t seen = 0;
	for (int i = 0; i < ROWS; i++) {
		snprintf(key, sizeof key, "%d", (i * 7919) % ROWS);
		snprintf(value, sizeof value, "%d", i);
		table_rows_put(rows, "", text(key), text(value));
		uint64_t sequence = table_rows_commit(rows, false);
		table_rows_changes(rows, "", sequence - 1, count_one, &seen);
	}
	double seconds = (double)(clock() - started) / CLOCKS_PER_SEC;
	assert_int_equal(seen, ROWS);
	assert_true(seconds < 2); // were a commit to look at all rows, it would be hours
	seen = 0;
	table_rows_changes(rows, "", 0, count_one, &seen);
	assert_int_equal(seen, ROWS);
	table_rows_free(&rows);
}

#ifndef __SANITIZE_ADDRESS__
// The C library's own free, looked over: what is there of a value when its memory is given back.
extern void __libc_free(void *memory);

static const uint8_t *watched;
static size_t watched_length;
static int given_back, given_back_in_clear;

void free(void *memory)
{
	if (memory && memory == watched) {
		given_back++;
		for (size_t i = 0; i < watched_length; i++) {
			if (watched[i] != 0) {
				given_back_in_clear++;
				break;
			}
		}
		watched = NULL;
	}
	__libc_free(memory);
}

static void watch_value(void *context, struct bytes key, struct bytes value, bool removed)
{
	(void)context;
	(void)key;
	(void)removed;
	watched = value.data;
	watched_length = value.length;
}

static void values_that_hold_keys_are_wiped(void **state)
{
	(void)state;
	for (int secret = 0; secret < 2; secret++) {
		struct table_rows *rows = table_rows_new(secret);
		given_back = given_back_in_clear = 0;
		table_rows_put(rows, "", text("a"), text("a first key"));
		table_rows_changes(rows, "", 0, watch_value, NULL);
		table_rows_put(rows, "", text("a"), text("another key")); // changed
		assert_int_equal(given_back, 1);
		table_rows_changes(rows, "", 0, watch_value, NULL);
		table_rows_remove(rows, text("a"));
		assert_int_equal(given_back, 2);
		table_rows_put(rows, "", text("b"), text("a third key"));
		table_rows_changes(rows, "", 0, watch_value, NULL);
		table_rows_free(&rows);
		assert_int_equal(given_back, 3);
		assert_int_equal(given_back_in_clear, secret ? 0 : 3);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(puts_and_removes),
	    cmocka_unit_test(moving_between_scopes),
	    cmocka_unit_test(removals_are_forgotten_in_the_end),
	    cmocka_unit_test(the_work_goes_with_the_changes),
#ifndef __SANITIZE_ADDRESS__
	    cmocka_unit_test(values_that_hold_keys_are_wiped),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
