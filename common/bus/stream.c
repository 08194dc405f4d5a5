// A stream: one table on its way to one replica. It holds no rows: what the replica lacks is read from the table's history at
// the moment there is credit for it, so a slow replica gets one change per key, and costs the owner the same however slow it
// is.
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/bus/owner_state.h"

static void sent(struct stream *stream, uint64_t sequence, size_t octets)
{
	invariant(stream->flying_count < STREAM_WINDOW);
	invariant(sequence >= stream->sent);
	unsigned last = (stream->flying_first + stream->flying_count++) % STREAM_WINDOW;
	stream->flying[last].sequence = sequence;
	stream->flying[last].octets = octets;
	stream->flying_octets += octets;
	stream->sent = sequence;
}

struct stream *stream_new(struct table *table, struct peer *peer, const Twinspan__BusOpen *open, const char *scope)
{
	struct stream *stream = allocate(sizeof *stream);
	stream->table = table;
	stream->peer = peer;
	stream->id = open->stream;
	stream->follower = open->follower;
	stream->answers_parts = open->parts;
	snprintf(stream->filter, sizeof stream->filter, "%s", open->filter);
	snprintf(stream->scope, sizeof stream->scope, "%s", scope);
	stream->fresh =
	    open->epoch != table->owner->epoch || open->sequence == 0 || open->sequence > table_rows_sequence(table->rows);
	stream->next_of_table = table->streams;
	stream->at_of_table = &table->streams;
	stream->next_of_peer = peer->streams;
	stream->at_of_peer = &peer->streams;
	if (stream->next_of_table) {
		stream->next_of_table->at_of_table = &stream->next_of_table;
	}
	if (stream->next_of_peer) {
		stream->next_of_peer->at_of_peer = &stream->next_of_peer;
	}
	table->streams = peer->streams = stream;
	peer->stream_count++;
	if (!stream->fresh) {
		// It has these rows; whether they are applied is for it to say.
		stream->covered = open->sequence;
		sent(stream, open->sequence, 0);
	}
	return stream;
}

void stream_free(struct stream *stream)
{
	invariant(stream->peer->stream_count > 0 && *stream->at_of_table == stream && *stream->at_of_peer == stream);
	table_walk_free(&stream->snapshot.walk);
	*stream->at_of_table = stream->next_of_table;
	if (stream->next_of_table) {
		stream->next_of_table->at_of_table = stream->at_of_table;
	}
	*stream->at_of_peer = stream->next_of_peer;
	if (stream->next_of_peer) {
		stream->next_of_peer->at_of_peer = stream->at_of_peer;
	}
	stream->peer->stream_count--;
	stream->table->applied_moved = true;
	owner_unsettle(stream->table->owner);
	free(stream);
}

static bool send_frame(void *context, struct bytes frame)
{
	return peer_send(((struct stream *)context)->peer, frame);
}

struct transfer {
	struct batch_writer writer;
	const struct stream *stream;
	bool any;
};

static void add_row(void *context, struct bytes key, struct bytes value, bool removed)
{
	struct transfer *transfer = context;
	transfer->any = true;
	batch_writer_add(&transfer->writer, key, value, removed);
}

static void begin(struct stream *stream, struct transfer *transfer, bool snapshot, uint64_t sequence)
{
	batch_writer_init(&transfer->writer, &stream->table->owner->room, send_frame, stream);
	Twinspan__BusBatch *batch = &transfer->writer.batch;
	batch->table = (char *)(uintptr_t)stream->table->rule->name;
	batch->epoch = stream->table->owner->epoch;
	batch->stream = stream->id;
	batch->snapshot = snapshot;
	batch->lazy = !snapshot && stream->table->rule->marks & TABLE_LAZY;
	batch->previous = snapshot ? table_walk_began(stream->snapshot.walk) : stream->sent;
	batch->sequence = sequence;
	transfer->stream = stream;
	transfer->any = false;
}

static bool add_within_window(void *context, struct bytes key, struct bytes value)
{
	struct transfer *transfer = context;
	const struct stream *stream = transfer->stream;
	bool last = transfer->writer.batch.part + 1 - stream->snapshot.arrived >= SNAPSHOT_WINDOW;
	if (stream->answers_parts && last && !batch_writer_fits(&transfer->writer, key, value)) {
		return false;
	}
	batch_writer_add(&transfer->writer, key, value, false);
	return true;
}

static void end_snapshot(struct stream *stream)
{
	table_walk_free(&stream->snapshot.walk);
	stream->snapshot.part = stream->snapshot.arrived = stream->snapshot.asked = 0;
}

// The rows travel as far as there is credit, while they change; when the walk over them is through, what has changed since it
// began goes with the last part, and the whole is what the table is then.
static void send_snapshot(struct stream *stream)
{
	struct transfer transfer;
	struct table_rows *rows = stream->table->rows;
	uint64_t sequence = table_rows_sequence(rows);
	if (stream->snapshot.part - stream->snapshot.arrived >= SNAPSHOT_WINDOW && stream->answers_parts) {
		return;
	}
	if (!stream->snapshot.walk) {
		stream->snapshot.walk = table_walk_new(rows);
	}
	begin(stream, &transfer, true, sequence);
	transfer.writer.batch.part = stream->snapshot.part;
	transfer.writer.batch.first = stream->snapshot.part == 0;
	if (!table_walk_on(stream->snapshot.walk, stream->scope, add_within_window, &transfer)) {
		batch_writer_pause(&transfer.writer);
		stream->snapshot.part = transfer.writer.batch.part;
		invariant(stream->snapshot.part - stream->snapshot.arrived == SNAPSHOT_WINDOW);
		return;
	}
	table_rows_changes(rows, stream->scope, table_walk_began(stream->snapshot.walk), add_row, &transfer);
	end_snapshot(stream);
	if (batch_writer_finish(&transfer.writer)) {
		stream->fresh = false;
		stream->covered = sequence;
		sent(stream, sequence, transfer.writer.total);
	}
}

static void send_changes(struct stream *stream)
{
	struct transfer transfer;
	uint64_t sequence = table_rows_sequence(stream->table->rows);
	begin(stream, &transfer, false, sequence);
	table_rows_changes(stream->table->rows, stream->scope, stream->covered, add_row, &transfer);
	if (!transfer.any) {
		stream->covered = sequence; // nothing that this reader may see: its mark moves without an answer
		stream->table->applied_moved = true;
		owner_unsettle(stream->table->owner);
		return;
	}
	if (batch_writer_finish(&transfer.writer)) {
		stream->covered = sequence;
		sent(stream, sequence, transfer.writer.total);
	}
}

void stream_push(struct stream *stream)
{
	const struct table *table = stream->table;
	bool credit =
	    stream->flying_count < STREAM_WINDOW && (stream->flying_count == 0 || stream->flying_octets < STREAM_WINDOW_OCTETS);
	// Half a commit is never sent: its beginning may already have taken the place of what the batch should say.
	if (!table->complete || table_rows_pending(table->rows) || !credit || stream->peer->gone) {
		return;
	}
	invariant(stream->covered <= table_rows_sequence(table->rows));
	if (stream->snapshot.walk && !table_rows_has_history(table->rows, table_walk_began(stream->snapshot.walk))) {
		end_snapshot(stream); // what was removed meanwhile is not known any more: from the beginning
	}
	if (stream->snapshot.walk || stream->fresh || !table_rows_has_history(table->rows, stream->covered)) {
		send_snapshot(stream);
	} else if (stream->covered < table_rows_sequence(table->rows)) {
		send_changes(stream);
	}
}

void stream_arrived(struct stream *stream, uint64_t parts)
{
	if (stream->snapshot.walk && parts > stream->snapshot.arrived && parts <= stream->snapshot.part) {
		stream->snapshot.arrived = (uint32_t)parts;
		stream_push(stream);
	}
}

bool stream_applied(struct stream *stream, uint64_t epoch, uint64_t sequence)
{
	if (epoch != stream->table->owner->epoch || sequence <= stream->applied) {
		return true; // of the incarnation before, or said again
	}
	if (sequence > stream->sent) {
		return false;
	}
	stream->applied = sequence;
	invariant(stream->flying_count <= STREAM_WINDOW && stream->flying_first < STREAM_WINDOW);
	while (stream->flying_count > 0 && stream->flying[stream->flying_first].sequence <= sequence) {
		invariant(stream->flying_octets >= stream->flying[stream->flying_first].octets);
		stream->flying_octets -= stream->flying[stream->flying_first].octets;
		stream->flying_first = (stream->flying_first + 1) % STREAM_WINDOW;
		stream->flying_count--;
	}
	invariant(stream->flying_count > 0 || stream->flying_octets == 0);
	stream->table->applied_moved = true;
	owner_unsettle(stream->table->owner);
	stream_push(stream);
	return true;
}

void stream_ask(struct stream *stream)
{
	Twinspan__BusFrame frame;
	Twinspan__BusBatch batch;
	twinspan__bus_frame__init(&frame);
	twinspan__bus_batch__init(&batch);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_BATCH;
	frame.batch = &batch;
	batch.table = (char *)(uintptr_t)stream->table->rule->name;
	batch.epoch = stream->table->owner->epoch;
	batch.stream = stream->id;
	if (stream->snapshot.walk) {
		batch.snapshot = true;
		batch.part = stream->snapshot.part;
		batch.previous = table_walk_began(stream->snapshot.walk);
		batch.sequence = table_rows_sequence(stream->table->rows);
	} else {
		batch.sequence = batch.previous = stream->sent;
		batch.first = batch.last = true;
	}
	peer_send(stream->peer, bus_frame_write(&stream->table->owner->room, &frame));
}

void stream_tick(struct stream *stream)
{
	if (stream->snapshot.walk && stream->answers_parts) {
		if (stream->snapshot.arrived == stream->snapshot.asked) {
			stream_ask(stream); // nothing has arrived for a second
		}
		stream_push(stream);
		stream->snapshot.asked = stream->snapshot.arrived;
		return;
	}
	if (stream->flying_count == 0) {
		stream_push(stream);
		stream->waited = 0;
		return;
	}
	uint64_t oldest = stream->flying[stream->flying_first].sequence;
	stream->waited = oldest == stream->oldest ? stream->waited + 1 : 0;
	stream->oldest = oldest;
	bool lazy = stream->table->rule->marks & TABLE_LAZY;
	if (stream->waited > (lazy ? 2 * BUS_LAZY_TICKS : 0)) {
		stream_ask(stream);
	}
}

uint64_t stream_mark(const struct stream *stream)
{
	if (stream->fresh) {
		return 0;
	}
	// What was not for this reader's eyes needs no answer from it.
	return stream->flying_count == 0 ? stream->covered : stream->applied;
}
