// A stream: one table on its way to one replica. It holds no rows: what the replica lacks is read from the table's history at
// the moment there is credit for it, so a slow replica gets one change per key, and costs the owner the same however slow it
// is.
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/bus/owner_state.h"

static void sent(struct stream *stream, uint64_t sequence, size_t octets)
{
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
	batch->previous = snapshot ? 0 : stream->sent;
	batch->sequence = sequence;
	transfer->any = false;
}

static void send_snapshot(struct stream *stream)
{
	struct transfer transfer;
	uint64_t sequence = table_rows_sequence(stream->table->rows);
	begin(stream, &transfer, true, sequence);
	table_rows_all(stream->table->rows, stream->scope, add_row, &transfer);
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
	if (stream->fresh || !table_rows_has_history(table->rows, stream->covered)) {
		send_snapshot(stream);
	} else if (stream->covered < table_rows_sequence(table->rows)) {
		send_changes(stream);
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
	while (stream->flying_count > 0 && stream->flying[stream->flying_first].sequence <= sequence) {
		stream->flying_octets -= stream->flying[stream->flying_first].octets;
		stream->flying_first = (stream->flying_first + 1) % STREAM_WINDOW;
		stream->flying_count--;
	}
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
	batch.sequence = batch.previous = stream->sent;
	batch.first = batch.last = true;
	peer_send(stream->peer, bus_frame_write(&stream->table->owner->room, &frame));
}

void stream_tick(struct stream *stream)
{
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
