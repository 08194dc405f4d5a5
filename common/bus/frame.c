// See frame.h.
#include "common/bus/frame.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

Twinspan__BusFrame *bus_frame_read(struct bytes octets)
{
	if (octets.length > BUS_FRAME) {
		return NULL;
	}
	Twinspan__BusFrame *frame = twinspan__bus_frame__unpack(NULL, octets.length, octets.data);
	if (frame && frame->kind_case == TWINSPAN__BUS_FRAME__KIND__NOT_SET) {
		bus_frame_free(&frame);
	}
	return frame;
}

void bus_frame_free(Twinspan__BusFrame **frame)
{
	if (*frame) {
		twinspan__bus_frame__free_unpacked(*frame, NULL);
		*frame = NULL;
	}
}

void frame_room_reserve(struct frame_room *room, size_t length)
{
	if (length > room->capacity) {
		room->capacity = length < 1024 ? 1024 : length;
		room->octets = reallocate(room->octets, room->capacity, 1);
	}
}

struct bytes bus_frame_write(struct frame_room *room, const Twinspan__BusFrame *frame)
{
	size_t length = twinspan__bus_frame__get_packed_size(frame);
	frame_room_reserve(room, length);
	twinspan__bus_frame__pack(frame, room->octets);
	return (struct bytes){room->octets, length};
}

void frame_room_free(struct frame_room *room)
{
	free(room->octets);
	*room = (struct frame_room){0};
}

void batch_writer_init(struct batch_writer *writer, struct frame_room *room, bool (*send)(void *context, struct bytes frame),
                       void *context)
{
	*writer = (struct batch_writer){.room = room, .send = send, .context = context};
	twinspan__bus_batch__init(&writer->batch);
	writer->batch.first = true;
}

static void send_batch(struct batch_writer *writer)
{
	Twinspan__BusFrame frame;
	twinspan__bus_frame__init(&frame);
	frame.kind_case = TWINSPAN__BUS_FRAME__KIND_BATCH;
	frame.batch = &writer->batch;
	for (size_t i = 0; i < writer->batch.n_rows; i++) {
		writer->row_pointers[i] = &writer->rows[i];
	}
	writer->batch.rows = writer->row_pointers;
	// Once one could not be sent the replica has lost its connection: the rest would be a gap to it.
	if (!writer->failed && !writer->send(writer->context, bus_frame_write(writer->room, &frame))) {
		writer->failed = true;
	}
	writer->batch.first = false;
	writer->batch.part++;
	writer->batch.n_rows = 0;
	writer->octets = 0;
}

static ProtobufCBinaryData binary(struct bytes run)
{
	return (ProtobufCBinaryData){.len = run.length, .data = (uint8_t *)(uintptr_t)run.data};
}

static size_t octets_of(struct bytes key, struct bytes value)
{
	enum { OVERHEAD = 16 }; // of a row in the frame: tags and lengths
	return key.length + value.length + OVERHEAD;
}

bool batch_writer_fits(const struct batch_writer *writer, struct bytes key, struct bytes value)
{
	return writer->batch.n_rows == 0 || writer->octets + octets_of(key, value) <= BUS_BATCH;
}

void batch_writer_add(struct batch_writer *writer, struct bytes key, struct bytes value, bool removed)
{
	size_t octets = octets_of(key, value);
	if (!batch_writer_fits(writer, key, value)) {
		send_batch(writer);
	}
	if (writer->batch.n_rows == writer->capacity) {
		writer->capacity = writer->capacity ? writer->capacity * 2 : 16;
		writer->rows = reallocate(writer->rows, writer->capacity, sizeof *writer->rows);
		writer->row_pointers = reallocate(writer->row_pointers, writer->capacity, sizeof *writer->row_pointers);
	}
	Twinspan__BusRow *row = &writer->rows[writer->batch.n_rows++];
	twinspan__bus_row__init(row);
	row->key = binary(key);
	row->value = binary(value);
	row->removed = removed;
	writer->octets += octets;
	writer->total += octets;
}

bool batch_writer_finish(struct batch_writer *writer)
{
	writer->batch.last = true;
	return batch_writer_pause(writer);
}

bool batch_writer_pause(struct batch_writer *writer)
{
	send_batch(writer);
	free(writer->rows);
	free(writer->row_pointers);
	return !writer->failed;
}
