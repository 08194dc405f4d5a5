// One owner and one link, without sockets: several parts of a service follow one table side by side, and what nobody follows any more is let go of.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/bus/owner.h"
#include "common/bus/replica.h"

enum { QUEUE = 64 };

struct frame {
	bool to_owner;
	struct bytes octets;
};

// Frames wait in order until `run` carries them.
static struct bench {
	struct bus_owner *owner;
	struct bus_link *link;
	struct frame queue[QUEUE];
	size_t count;
	unsigned dropped;
} bench;

static struct bytes text(const char *octets)
{
	return (struct bytes){(const uint8_t *)octets, strlen(octets)};
}

static void put(bool to_owner, struct bytes frame)
{
	assert_true(bench.count < QUEUE);
	uint8_t *copy = allocate(frame.length + 1);
	memcpy(copy, frame.data, frame.length);
	bench.queue[bench.count++] = (struct frame){to_owner, {copy, frame.length}};
}

static bool owner_send(void *context, struct bytes peer, struct bytes frame)
{
	(void)context;
	(void)peer;
	put(false, frame);
	return true;
}

static void link_send(void *context, struct bytes frame)
{
	(void)context;
	put(true, frame);
}

static void owner_refused(void *context, const char *reader, const char *table, const char *reason)
{
	(void)context;
	(void)reader;
	(void)table;
	fail_msg("refused: %s", reason);
}

static void owner_dropped(void *context, const char *reader, const char *reason)
{
	(void)context;
	(void)reader;
	(void)reason;
	bench.dropped++;
}

static void link_refused(void *context, const char *table, const char *reason)
{
	(void)context;
	(void)table;
	fail_msg("refused: %s", reason);
}

static void link_dropped(void *context, const char *reason)
{
	(void)context;
	(void)reason;
	bench.dropped++;
}

static void nothing(void *context)
{
	(void)context;
}

static void ready(void *context, const char *table, bool is_ready)
{
	(void)context;
	(void)table;
	(void)is_ready;
}

static void count_rows(void *context, const struct replica_row *rows, size_t count)
{
	(void)rows;
	*(size_t *)context += count;
}

static void run(void)
{
	while (bench.count > 0) {
		struct frame frame = bench.queue[0];
		memmove(&bench.queue[0], &bench.queue[1], --bench.count * sizeof frame);
		if (frame.to_owner) {
			bus_owner_receive(bench.owner, text("1"), "route", frame.octets);
		} else {
			bus_link_receive(bench.link, frame.octets);
		}
		free((void *)(uintptr_t)frame.octets.data);
		bus_owner_settle(bench.owner);
	}
}

static int set_up(void **state)
{
	(void)state;
	bench = (struct bench){.count = 0};
	bench.owner = bus_owner_new("resource", 7,
	                            &(struct bus_owner_world){.send = owner_send, .refused = owner_refused, .dropped = owner_dropped, .unsettled = nothing});
	bench.link = bus_link_new(
	    100, &(struct bus_link_world){.send = link_send, .refused = link_refused, .dropped = link_dropped, .ready = ready});
	bus_link_up(bench.link);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	bus_link_free(&bench.link);
	bus_owner_free(&bench.owner);
	for (size_t i = 0; i < bench.count; i++) {
		free((void *)(uintptr_t)bench.queue[i].octets.data);
	}
	return 0;
}

static void two_follow_one_table(void **state)
{
	(void)state;
	struct table *table = bus_owner_table(bench.owner, "node");
	size_t seen[2] = {0, 0};
	struct replica *first = bus_link_replica(bench.link, "node", "", count_rows, &seen[0]);
	struct replica *second = bus_link_replica(bench.link, "node", "", count_rows, &seen[1]);
	table_put(table, "", text("node-a"), text("1"));
	table_commit(table);
	table_complete(table);
	run();
	assert_int_equal(seen[0], 1);
	assert_int_equal(seen[1], 1);
	table_put(table, "", text("node-b"), text("2"));
	uint64_t sequence = table_commit(table);
	run();
	for (int tick = 0; tick < 5; tick++) { // nor do they take each other's place as time goes by
		bus_owner_tick(bench.owner);
		bus_link_tick(bench.link);
		run();
	}
	assert_int_equal(seen[0], 2);
	assert_int_equal(seen[1], 2);
	assert_int_equal(bus_owner_streams(bench.owner), 2);
	assert_true(table_applied(table, "route") == sequence);
	assert_int_equal(bench.dropped, 0);
	// One that nobody follows any more holds no mark back and takes no room.
	replica_free(&first);
	run();
	assert_int_equal(bus_owner_streams(bench.owner), 1);
	table_put(table, "", text("node-c"), text("3"));
	sequence = table_commit(table);
	run();
	assert_true(table_applied(table, "route") == sequence);
	assert_int_equal(seen[1], 3);
	replica_free(&second);
	run();
	assert_int_equal(bus_owner_streams(bench.owner), 0);
}

static void an_opening_on_another_connection_ends_the_older(void **state)
{
	(void)state;
	struct table *table = bus_owner_table(bench.owner, "node");
	size_t seen = 0;
	bus_link_replica(bench.link, "node", "", count_rows, &seen);
	table_put(table, "", text("node-a"), text("1"));
	table_commit(table);
	table_complete(table);
	run();
	bus_link_down(bench.link);
	bus_link_up(bench.link);
	// The new process, or the new connection of this one, is another peer to the owner.
	while (bench.count > 0) {
		struct frame frame = bench.queue[0];
		memmove(&bench.queue[0], &bench.queue[1], --bench.count * sizeof frame);
		if (frame.to_owner) {
			bus_owner_receive(bench.owner, text("2"), "route", frame.octets);
		} else {
			bus_link_receive(bench.link, frame.octets);
		}
		free((void *)(uintptr_t)frame.octets.data);
	}
	assert_int_equal(bus_owner_streams(bench.owner), 1);
	assert_int_equal(seen, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(two_follow_one_table, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_opening_on_another_connection_ends_the_older, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
