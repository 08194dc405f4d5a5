// What a reader has applied is what the furthest behind of its streams has.
#include "tests/unit/bus_pair.h"

static void ignore(void *context, const struct replica_row *rows, size_t count)
{
	(void)context, (void)rows, (void)count;
}

static void hold(void *context, const struct replica_row *rows, size_t count)
{
	(void)rows, (void)count;
	struct replica **replica = context;
	replica_hold(*replica);
}

static void the_one_behind_decides(void **state)
{
	(void)state;
	for (int order = 0; order < 2; order++) { // whichever of the two was there first
		struct table *table = bus_owner_table(bench.owner, "node");
		table_complete(table);
		struct replica *behind = NULL, *ahead = NULL;
		if (order == 0) {
			behind = bus_link_replica(bench.link, "node", "", hold, &behind);
			ahead = bus_link_replica(bench.link, "node", "", ignore, NULL);
		} else {
			ahead = bus_link_replica(bench.link, "node", "", ignore, NULL);
			behind = bus_link_replica(bench.link, "node", "", hold, &behind);
		}
		bench_run();
		uint64_t before = table_sequence(table);
		assert_true(table_applied(table, "route") == before);
		table_put(table, "", text_bytes("node-a"), text_bytes("1"));
		table_commit(table);
		bench_run();
		assert_true(table_applied(table, "route") == before);
		replica_release(behind, behind->changes);
		bench_run();
		assert_true(table_applied(table, "route") == table_sequence(table));
		replica_free(&ahead);
		replica_free(&behind);
		bench_end(NULL);
		bench_begin(NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(the_one_behind_decides, bench_begin, bench_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
