// Each limit of the bus (common/bus/limits.h) from both sides: what it lets in, and that what is beyond is turned away and
// counted.
#include "tests/unit/bus_pair.h"

#include "common/bus/assembly.h"
#include "common/bus/owner_state.h"

static void ignore(void *context, const struct replica_row *rows, size_t count)
{
	(void)context, (void)rows, (void)count;
}

static struct bytes open_frame(struct frame_room *room, const char *filter, uint64_t stream)
{
	Twinspan__BusFrame frame = TWINSPAN__BUS_FRAME__INIT;
	Twinspan__BusOpen open = TWINSPAN__BUS_OPEN__INIT;
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_OPEN;
	frame.open = &open;
	open.table = "node";
	open.filter = (char *)(uintptr_t)filter;
	open.stream = open.follower = stream;
	return bus_frame_write(room, &frame);
}

static bool no_send(void *context, struct bytes peer, struct bytes frame)
{
	(void)context, (void)peer, (void)frame;
	return true;
}

static void connections(void **state)
{
	(void)state;
	struct bus_owner *owner = bus_owner_new(
	    "resource", 7,
	    &(struct bus_owner_world){.send = no_send, .dropped = bench_owner_dropped, .unsettled = bench_nothing});
	bus_owner_table(owner, "node");
	struct frame_room room = {0};
	for (uint32_t peer = 0; peer < 4096 + 2; peer++) {
		char reader[32];
		snprintf(reader, sizeof reader, "vrouter.host-%u", peer);
		bus_owner_receive(owner, (struct bytes){(const uint8_t *)&peer, sizeof peer}, reader, open_frame(&room, "", 1));
		assert_int_equal(bench.owner_dropped, peer < 4096 ? 0 : peer - 4095);
	}
	assert_string_equal(bench.last_drop, "too many connections");
	// Those that are there are heard.
	uint32_t first = 0;
	bus_owner_receive(owner, (struct bytes){(const uint8_t *)&first, sizeof first}, "vrouter.host-0",
	                  open_frame(&room, "", 2));
	assert_int_equal(bench.owner_dropped, 2);
	frame_room_free(&room);
	bus_owner_free(&owner);
}

static void streams(void **state)
{
	(void)state;
	struct table *table = bus_owner_table(bench.owner, "node");
	table_complete(table);
	struct replica *replicas[65];
	for (int i = 0; i < 65; i++) {
		replicas[i] = bus_link_replica(bench.link, "node", "", ignore, NULL);
		bench_run();
		assert_int_equal(bus_owner_streams(bench.owner), i < 64 ? i + 1 : 64);
		assert_int_equal(bench.owner_refused, i < 64 ? 0 : 1);
	}
	assert_string_equal(bench.last_refusal, "too many streams");
	// When there is room the one that was refused comes in.
	replica_free(&replicas[0]);
	for (int tick = 0; tick < 10; tick++) {
		assert_int_equal(bus_owner_streams(bench.owner), tick == 0 ? 64 : 63);
		bench_run();
		bus_link_tick(bench.link);
	}
	bench_run();
	assert_int_equal(bus_owner_streams(bench.owner), 64);
	assert_true(replica_has_snapshot(replicas[64]));
}

static void a_filter(void **state)
{
	(void)state;
	bus_owner_table(bench.owner, "node");
	struct frame_room room = {0};
	char filter[65] = {0};
	memset(filter, 'f', 63);
	bus_owner_receive(bench.owner, text_bytes("1"), "route", open_frame(&room, filter, 1));
	assert_int_equal(bench.owner_refused, 0);
	filter[63] = 'f';
	bus_owner_receive(bench.owner, text_bytes("1"), "route", open_frame(&room, filter, 2));
	assert_int_equal(bench.owner_refused, 1);
	frame_room_free(&room);
}

// Changes that are not answered: `count` frames are on their way after `commits` commits of `octets` each.
static size_t under_way(unsigned commits, size_t octets)
{
	struct table *table = bus_owner_table(bench.owner, "node");
	table_complete(table);
	bus_link_replica(bench.link, "node", "", ignore, NULL);
	bench_run();
	uint8_t *value = allocate(octets);
	for (unsigned i = 0; i < commits; i++) {
		memcpy(value, &i, sizeof i);
		table_put(table, "", text_bytes("node-a"), (struct bytes){value, octets});
		table_commit(table);
	}
	free(value);
	size_t count = bench.to_link.count;
	bench_run();
	assert_true(table_applied(table, "route") == table_sequence(table)); // and the rest comes as one change
	return count;
}

static void changes_not_applied(void **state)
{
	(void)state;
	assert_int_equal(under_way(63, 8), 63);
}

static void more_changes_wait(void **state)
{
	(void)state;
	assert_int_equal(under_way(100, 8), 64);
}

static void octets_not_applied(void **state)
{
	(void)state;
	assert_int_equal(under_way(10, 60000), 5); // the one that crosses 256 KiB is the last
}

static Twinspan__BusRow *row_of(size_t octets)
{
	static uint8_t value[64];
	static Twinspan__BusRow row;
	twinspan__bus_row__init(&row);
	row.key = (ProtobufCBinaryData){1, (uint8_t *)"k"};
	row.value = (ProtobufCBinaryData){octets, value};
	return &row;
}

static void a_change_in_memory(void **state)
{
	(void)state;
	const size_t most = (size_t)4 * 1024 * 1024 * 1024;
	for (int beyond = 0; beyond < 2; beyond++) {
		struct assembly assembly = {0};
		Twinspan__BusBatch batch = TWINSPAN__BUS_BATCH__INIT;
		Twinspan__BusRow *row = row_of(63);
		batch.snapshot = true;
		batch.rows = &row;
		batch.n_rows = 1;
		assembly_begin(&assembly, &batch);
		assembly.octets = most - (1 + 63 + 128) + (size_t)beyond; // key, value, and what a row costs
		assert_true(assembly_add(&assembly, &batch) == (beyond == 0));
		assembly_clear(&assembly);
	}
}

static void a_frame(void **state)
{
	(void)state;
	struct frame_room room = {0};
	Twinspan__BusFrame frame = TWINSPAN__BUS_FRAME__INIT;
	Twinspan__BusAnswer answer = TWINSPAN__BUS_ANSWER__INIT;
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_ANSWER;
	frame.answer = &answer;
	uint8_t *body = allocate(BUS_FRAME);
	answer.body = (ProtobufCBinaryData){BUS_FRAME - 8, body};
	size_t length = bus_frame_write(&room, &frame).length;
	answer.body.len -= length - BUS_FRAME; // what stands around it
	struct bytes octets = bus_frame_write(&room, &frame);
	assert_int_equal(octets.length, BUS_FRAME);
	Twinspan__BusFrame *read = bus_frame_read(octets);
	assert_non_null(read);
	bus_frame_free(&read);
	answer.body.len++;
	assert_null(bus_frame_read(bus_frame_write(&room, &frame)));
	free(body);
	frame_room_free(&room);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(connections, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(streams, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(a_filter, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(changes_not_applied, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(more_changes_wait, bench_begin, bench_end),
	    cmocka_unit_test_setup_teardown(octets_not_applied, bench_begin, bench_end),
	    cmocka_unit_test(a_change_in_memory),
	    cmocka_unit_test(a_frame),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
