// A snapshot of many parts: what is on its way is bounded, what changes meanwhile is in it, and one that is larger than a
// replica takes is refused with a pause.
#include "tests/unit/bus_pair.h"

#include "common/base/random.h"

enum {
	ROWS = 200, // of ROW_OCTETS each: two to a part
	ROW_OCTETS = 30000,
};

static struct { // what a service was told
	int value[2 * ROWS];
	unsigned changes;
} told;

static struct bytes key_of(int row)
{
	static char key[16];
	snprintf(key, sizeof key, "node-%d", row);
	return text_bytes(key);
}

static void put_row(struct table *table, const char *scope, int row, int value)
{
	static uint8_t octets[ROW_OCTETS];
	memcpy(octets, &value, sizeof value);
	table_put(table, scope, key_of(row), (struct bytes){octets, sizeof octets});
}

// A key is not ended by a NUL.
static int row_number(struct bytes key)
{
	char text[32];
	assert_true(key.length < sizeof text);
	memcpy(text, key.data, key.length);
	text[key.length] = '\0';
	return atoi(text + 5);
}

static void note(void *context, const struct replica_row *rows, size_t count)
{
	(void)context;
	told.changes++;
	for (size_t i = 0; i < count; i++) {
		int row = row_number(rows[i].key), value = 0;
		if (!rows[i].removed) {
			memcpy(&value, rows[i].value.data, sizeof value);
		}
		told.value[row] = value;
	}
}

static struct table *full_table(void)
{
	memset(&told, 0, sizeof told);
	struct table *table = bus_owner_table(bench.owner, "node");
	for (int row = 0; row < ROWS; row++) {
		put_row(table, "", row, 1);
	}
	table_commit(table);
	table_complete(table);
	return table;
}

static void no_more_than_the_window_is_on_its_way(void **state)
{
	(void)state;
	struct table *table = full_table();
	struct replica *replica = bus_link_replica(bench.link, "node", "", note, NULL);
	while (bench_carry(&bench.to_owner)) {
	}
	size_t most = 0, parts = 0;
	do {
		most = bench.to_link.count > most ? bench.to_link.count : most;
		parts++;
		assert_true(told.changes == 0);
		bench_carry(&bench.to_link);
		assert_true(table_applied(table, "route") == 0 || told.changes == 1);
		while (bench_carry(&bench.to_owner)) {
		}
	} while (bench.to_link.count > 0);
	assert_true(parts >= ROWS / 2);
	assert_true(most <= 16 + 1); // and the owner's greeting
	assert_true(most >= 16);     // nor is it one at a time
	assert_int_equal(told.changes, 1);
	assert_int_equal(replica_count(replica), ROWS);
	assert_true(table_applied(table, "route") == table_sequence(table));
	assert_int_equal(bench.link_dropped + bench.owner_dropped, 0);
}

static void a_replica_that_does_not_speak_of_parts_gets_all(void **state)
{
	(void)state;
	full_table();
	struct frame_room room = {0};
	Twinspan__BusFrame frame = TWINSPAN__BUS_FRAME__INIT;
	Twinspan__BusOpen open = TWINSPAN__BUS_OPEN__INIT;
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_OPEN;
	frame.open = &open;
	open.table = "node";
	open.stream = 5;
	bus_owner_receive(bench.owner, text_bytes("1"), "route", bus_frame_write(&room, &frame));
	assert_true(bench.to_link.count >= ROWS / 2);
	frame_room_free(&room);
}

static void what_changes_under_way_is_in_it(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct random random;
		random_init_number(&random, seed);
		struct table *table = full_table();
		int now[2 * ROWS] = {0};
		for (int row = 0; row < ROWS; row++) {
			now[row] = 1;
		}
		struct replica *replica = bus_link_replica(bench.link, "node", "", note, NULL);
		while (bench_carry(&bench.to_owner)) {
		}
		while (told.changes == 0) {
			for (int i = (int)random_below(&random, 4); i > 0; i--) {
				int row = (int)random_below(&random, 2 * ROWS);
				now[row] = random_below(&random, 2) ? 0 : (int)random_below(&random, 1000) + 2;
				if (now[row]) {
					put_row(table, "", row, now[row]);
				} else {
					table_remove(table, key_of(row));
				}
			}
			table_commit(table);
			bench_carry(random_below(&random, 3) ? &bench.to_link : &bench.to_owner);
			if (bench.to_link.count == 0) {
				bench_carry(&bench.to_owner);
			}
		}
		bench_run();
		assert_memory_equal(told.value, now, sizeof now);
		assert_true(table_applied(table, "route") == table_sequence(table));
		assert_int_equal(bench.link_dropped + bench.owner_dropped, 0);
		replica_free(&replica);
		bench_run();
		bench_end(NULL);
		bench_begin(NULL);
	}
}

static void removals_beyond_memory_begin_it_anew(void **state)
{
	(void)state;
	struct table *table = full_table();
	struct replica *replica = bus_link_replica(bench.link, "node", "", note, NULL);
	while (bench_carry(&bench.to_owner)) {
	}
	table_remove(table, key_of(0)); // its part is on its way already
	table_commit(table);
	for (int row = ROWS; row < ROWS + 1100; row++) { // more removals than are remembered
		table_put(table, "", key_of(row), text_bytes("x"));
		table_commit(table);
		table_remove(table, key_of(row));
		table_commit(table);
	}
	bench_run();
	assert_int_equal(replica_count(replica), ROWS - 1);
	assert_int_equal(told.value[0], 0);
	assert_true(table_applied(table, "route") == table_sequence(table));
}

static void a_lost_part_is_missed(void **state)
{
	(void)state;
	struct table *table = full_table();
	struct replica *replica = bus_link_replica(bench.link, "node", "", note, NULL);
	while (bench_carry(&bench.to_owner)) {
	}
	while (bench.to_link.count > 0) { // all that the window has
		free((void *)(uintptr_t)bench.to_link.frames[--bench.to_link.count].data);
	}
	for (int tick = 0; tick < 3; tick++) {
		bus_owner_tick(bench.owner);
		bench_run();
	}
	assert_int_equal(replica_count(replica), ROWS);
	assert_true(table_applied(table, "route") == table_sequence(table));
}

static void one_that_is_too_large_is_asked_for_after_a_pause_that_doubles(void **state)
{
	(void)state;
	struct table *table = full_table();
	struct replica *replica = bus_link_replica(bench.link, "node", "", note, NULL);
	unsigned expected[] = {30, 60, 120};
	for (int time = 0; time < 3; time++) {
		while (bench_carry(&bench.to_owner)) {
		}
		while (!replica->assembly.active) {
			assert_true(bench_carry(&bench.to_link));
		}
		replica->assembly.octets = (size_t)4 * 1024 * 1024 * 1024 - 100; // as after four million large rows
		bench_run();
		assert_int_equal(bench.link_refused, time + 1);
		assert_string_equal(bench.last_refusal, "larger than this process takes");
		assert_true(bench_waits("node (larger than this process takes)"));
		assert_false(bench_waits("node"));
		assert_int_equal(bus_owner_streams(bench.owner), 0);
		assert_int_equal(bench.opened, time + 1);
		for (unsigned tick = 0; tick < expected[time]; tick++) {
			assert_int_equal(bench.opened, time + 1); // not once before the pause is over
			bus_link_tick(bench.link);
			bus_owner_tick(bench.owner);
			if (tick + 1 < expected[time]) {
				bench_run();
			}
		}
		assert_int_equal(bench.opened, time + 2);
	}
	bench_run(); // it has shrunk
	assert_int_equal(replica_count(replica), ROWS);
	assert_false(bench_waits("node (larger than this process takes)"));
	assert_true(table_applied(table, "route") == table_sequence(table));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(no_more_than_the_window_is_on_its_way, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(a_replica_that_does_not_speak_of_parts_gets_all, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(what_changes_under_way_is_in_it, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(removals_beyond_memory_begin_it_anew, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(a_lost_part_is_missed, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(one_that_is_too_large_is_asked_for_after_a_pause_that_doubles, bench_begin,
	                                    bench_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
