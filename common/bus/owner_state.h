// What owner.c and stream.c share.
#ifndef TWINSPAN_BUS_OWNER_STATE_H
#define TWINSPAN_BUS_OWNER_STATE_H

#include "common/bus/frame.h"
#include "common/bus/owner.h"
#include "common/bus/table_rows.h"
#include "common/bus/tables.h"
#include "common/io/loop.h"

struct peer {
	struct bus_owner *owner;
	struct bytes id; // own copy
	char *reader;
	struct stream *streams;
	unsigned stream_count;
	unsigned silent_ticks;
	bool gone;
};

struct stream { // one table as one peer follows it
	struct table *table;
	struct peer *peer;
	struct stream *next_of_table, **at_of_table;
	struct stream *next_of_peer, **at_of_peer;
	uint64_t id;
	uint64_t follower;        // of the reader's replicas
	char filter[STREAM_NAME]; // as asked for
	char scope[STREAM_NAME];  // what the reader gets to see
	bool fresh;               // has nothing of this incarnation: gets a snapshot
	uint64_t covered;         // the owner's sequence up to which it was sent all it may see
	uint64_t sent;            // the sequence that was last told to it
	uint64_t applied;         // what it said
	struct {
		uint64_t sequence;
		size_t octets;
	} flying[STREAM_WINDOW]; // sent, not applied; a ring
	unsigned flying_first, flying_count;
	size_t flying_octets;
	uint64_t oldest;    // of them at the last tick
	unsigned waited;    // ticks that it has been the oldest
	bool answers_parts; // says how much of a snapshot has arrived
	struct {
		struct table_walk *walk; // NULL: none is on its way
		uint32_t part;           // the next one
		uint32_t arrived;        // parts
		uint32_t asked;          // `arrived` at the last tick
	} snapshot;
};

struct table {
	struct bus_owner *owner;
	const struct table_rule *rule;
	struct table_rows *rows;
	bool complete;
	struct stream *streams;
	loop_fn *applied; // table_on_applied
	void *applied_context;
	bool applied_moved;
	struct table *next;
};

struct bus_owner {
	char *identity;
	uint64_t epoch;
	struct bus_owner_world world;
	struct map *peers; // transport's name → struct peer
	struct table *tables;
	struct frame_room room;
	bool unsettled;
};

void owner_unsettle(struct bus_owner *owner);
// Sends; a peer that is not there any more is marked gone.
bool peer_send(struct peer *peer, struct bytes frame);

struct stream *stream_new(struct table *table, struct peer *peer, const Twinspan__BusOpen *open, const char *scope);
void stream_free(struct stream *stream);
// Sends what the stream lacks, as far as its credit goes.
void stream_push(struct stream *stream);
// So many parts of the snapshot that is on its way have arrived.
void stream_arrived(struct stream *stream, uint64_t parts);
// false when it says what can't be.
bool stream_applied(struct stream *stream, uint64_t epoch, uint64_t sequence);
// Says where the replica should be by now.
void stream_ask(struct stream *stream);
// The second is over: what has been out for all of it and is not applied is asked for.
void stream_tick(struct stream *stream);
// The owner's sequence that the reader has applied; 0 for nothing.
uint64_t stream_mark(const struct stream *stream);

#endif
