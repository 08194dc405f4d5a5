// Frames of a hostile peer into the owner's and into the replica's side of the table protocol. An input is a list of steps: one
// octet that says what happens, two of length, and that many octets of a frame. A frame for the replica may be cooked: it is
// read, given the stream and the epoch that the replica expects, and written again, so that the fuzzer gets beyond the first
// check.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/bus/frame.h"
#include "common/bus/owner.h"
#include "common/bus/replica.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bench {
	struct bus_owner *owner;
	struct table *table;
	struct bus_link *link;
	struct replica *replica;
	uint64_t stream; // as the replica last opened
	size_t rows;     // as the service was told
	unsigned held;
};

static const char *const readers[] = {"esp.node-a", "esp.node-b", "route", "ike.node-a"};

static bool owner_send(void *context, struct bytes peer, struct bytes frame)
{
	(void)context;
	(void)frame;
	return peer.data[0] % 5 != 4;
}

static void owner_refused(void *context, const char *reader, const char *table, const char *reason)
{
	(void)context;
	(void)reader;
	(void)table;
	(void)reason;
}

static void owner_dropped(void *context, const char *reader, const char *reason)
{
	(void)context;
	(void)reader;
	(void)reason;
}

static void nothing(void *context)
{
	(void)context;
}

static void owner_question(void *context, struct bytes peer, const char *asker, const char *name, struct bytes body,
                           uint64_t id, uint64_t deadline_ms)
{
	(void)context;
	(void)peer;
	(void)asker;
	(void)name;
	(void)body;
	(void)id;
	(void)deadline_ms;
	abort(); // no question is in the matrix
}

static void link_send(void *context, struct bytes octets)
{
	struct bench *bench = context;
	Twinspan__BusFrame *frame = bus_frame_read(octets);
	if (!frame) {
		abort();
	}
	if (frame->kind_case == TWINSPAN__BUS_FRAME__KIND_OPEN) {
		bench->stream = frame->open->stream;
	}
	bus_frame_free(&frame);
}

static void link_refused(void *context, const char *table, const char *reason)
{
	(void)context;
	(void)table;
	(void)reason;
}

static void link_dropped(void *context, const char *reason)
{
	(void)context;
	(void)reason;
}

static void link_ready(void *context, const char *table, bool ready)
{
	(void)context;
	(void)table;
	(void)ready;
}

static void link_answer(void *context, uint64_t id, const char *error, struct bytes body)
{
	(void)context;
	(void)id;
	(void)error;
	(void)body;
}

static void on_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bench *bench = context;
	for (size_t i = 0; i < count; i++) {
		struct bytes held;
		bool had = replica_find(bench->replica, rows[i].key, &held);
		if (rows[i].removed ? !had : had && bytes_equal(held, rows[i].value)) {
			abort(); // a difference that is none
		}
		bench->rows += rows[i].removed ? (size_t)-1 : !had;
	}
	if (count % 2) {
		uint64_t number = replica_hold(bench->replica);
		if (bench->held++ % 3 == 0) {
			replica_release(bench->replica, number);
		}
	}
}

static void cooked(struct bench *bench, struct bytes octets)
{
	Twinspan__BusFrame *frame = bus_frame_read(octets);
	if (!frame) {
		return;
	}
	char *name = duplicate_text("node");
	char **table = frame->kind_case == TWINSPAN__BUS_FRAME__KIND_BATCH     ? &frame->batch->table
	               : frame->kind_case == TWINSPAN__BUS_FRAME__KIND_REFUSED ? &frame->refused->table
	                                                                       : NULL;
	char *kept = NULL;
	if (table) {
		kept = *table;
		*table = name;
	}
	if (frame->kind_case == TWINSPAN__BUS_FRAME__KIND_BATCH) {
		frame->batch->stream = bench->stream;
		frame->batch->epoch &= 1; // few incarnations
		frame->batch->sequence &= 15;
		frame->batch->previous &= 15;
	} else if (frame->kind_case == TWINSPAN__BUS_FRAME__KIND_REFUSED) {
		frame->refused->stream = bench->stream;
	}
	struct frame_room room = {0};
	bus_link_receive(bench->link, bus_frame_write(&room, frame));
	frame_room_free(&room);
	if (table) {
		*table = kept;
	}
	free(name);
	bus_frame_free(&frame);
}

static void step(struct bench *bench, uint8_t what, struct bytes frame)
{
	uint8_t peer[1] = {what >> 4};
	struct bytes row = {frame.data, frame.length < 3 ? frame.length : 3};
	switch (what % 8) {
	case 0:
	case 1:
		bus_owner_receive(bench->owner, (struct bytes){peer, 1}, readers[(what >> 4) % 4], frame);
		bus_owner_settle(bench->owner);
		break;
	case 2:
		bus_link_receive(bench->link, frame);
		break;
	case 3:
	case 4:
		cooked(bench, frame);
		break;
	case 5:
		bus_owner_tick(bench->owner);
		bus_owner_settle(bench->owner);
		bus_link_tick(bench->link);
		break;
	case 6:
		if (what & 0x80) {
			table_remove(bench->table, row);
		} else {
			table_put(bench->table, what & 0x40 ? "node-a" : "", row, frame);
		}
		table_commit(bench->table);
		break;
	default:
		if (what & 0x80) {
			bus_link_down(bench->link);
		}
		bus_link_up(bench->link);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bench bench = {0};
	const struct bus_owner_world owner_world = {.send = owner_send,
	                                            .refused = owner_refused,
	                                            .dropped = owner_dropped,
	                                            .unsettled = nothing,
	                                            .question = owner_question,
	                                            .context = &bench};
	const struct bus_link_world link_world = {.send = link_send,
	                                          .refused = link_refused,
	                                          .dropped = link_dropped,
	                                          .ready = link_ready,
	                                          .answer = link_answer,
	                                          .context = &bench};
	bench.owner = bus_owner_new("resource", 1, &owner_world);
	bench.table = bus_owner_table(bench.owner, "vpn_tunnel");
	table_put(bench.table, "node-a", (struct bytes){(const uint8_t *)"a", 1}, (struct bytes){(const uint8_t *)"v", 1});
	table_complete(bench.table);
	bench.link = bus_link_new(1, &link_world);
	bench.replica = bus_link_replica(bench.link, "node", "", on_changed, &bench);
	bus_link_up(bench.link);
	struct reader r = reader_of((struct bytes){data, size});
	while (reader_left(&r) > 0) {
		uint8_t what = read_u8(&r);
		size_t length = read_u16(&r);
		step(&bench, what, read_bytes(&r, length < reader_left(&r) ? length : reader_left(&r)));
		if (bench.rows != replica_count(bench.replica) || bus_owner_streams(bench.owner) > 64 * 16) {
			abort();
		}
	}
	bus_link_free(&bench.link);
	bus_owner_free(&bench.owner);
	return 0;
}
