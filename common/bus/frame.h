// The frames of the table protocol (proto/bus.proto) as octets. Reading takes a stranger's octets: what is not a frame gives
// NULL.
#ifndef TWINSPAN_BUS_FRAME_H
#define TWINSPAN_BUS_FRAME_H

#include "common/base/bytes.h"
#include "common/bus/limits.h"
#include "proto/bus.pb-c.h"

enum {
	BUS_TICK_MS = 1000,
	// Nothing is said while there is nothing to say. What is out and not answered is asked for with the next tick; beyond
	// that a replica repeats what it has applied now and then, so that an owner that does not know it any more says so. No
	// connection loses anything and lives on, so this is for what nobody thought of, and seldom.
	BUS_REPEAT_TICKS = 300,
	BUS_SILENT_TICKS = 1000, // without a word from a peer, until the owner lets go of it
};

Twinspan__BusFrame *bus_frame_read(struct bytes octets);
void bus_frame_free(Twinspan__BusFrame **frame);

// A room for frames to be packed in, used again and again.
struct frame_room {
	uint8_t *octets;
	size_t capacity;
};
void frame_room_reserve(struct frame_room *room, size_t length);
struct bytes bus_frame_write(struct frame_room *room, const Twinspan__BusFrame *frame);
void frame_room_free(struct frame_room *room);

// Rows on their way into batches of one transfer; each full frame goes to `send`.
struct batch_writer {
	Twinspan__BusBatch batch;
	Twinspan__BusRow *rows;
	Twinspan__BusRow **row_pointers;
	size_t capacity;
	size_t octets; // of the rows in the batch
	size_t total;  // of all rows so far
	struct frame_room *room;
	bool (*send)(void *context, struct bytes frame);
	void *context;
	bool failed; // send said no
};
void batch_writer_init(struct batch_writer *writer, struct frame_room *room, bool (*send)(void *context, struct bytes frame),
                       void *context);
// The key and value are referred to, not copied: they must stay until the batch is sent.
void batch_writer_add(struct batch_writer *writer, struct bytes key, struct bytes value, bool removed);
// Does another row go into the frame that is being filled?
bool batch_writer_fits(const struct batch_writer *writer, struct bytes key, struct bytes value);
// Sends what there is; the transfer goes on with another writer, from `batch.part` on. false when any frame was not sent.
bool batch_writer_pause(struct batch_writer *writer);
bool batch_writer_finish(struct batch_writer *writer); // sends the last frame; false when any was not sent

#endif
