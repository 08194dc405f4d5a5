// What link.c, replica.c and assembly.c share.
#ifndef TWINSPAN_BUS_REPLICA_STATE_H
#define TWINSPAN_BUS_REPLICA_STATE_H

#include "common/bus/assembly.h"
#include "common/bus/frame.h"
#include "common/bus/replica.h"

struct held_change {
	uint64_t number; // the replica's own count of changes
	uint64_t epoch;
	uint64_t before; // the owner's sequence before it: what is applied while it is held
};

struct bus_link {
	struct bus_link_world world;
	struct replica *replicas;
	uint64_t next_stream;
	uint64_t followers; // replicas made so far
	bool up;            // connected
	bool heard;         // since then
	bool alive;         // as told to the replicas
	struct frame_room room;
};

struct replica {
	struct bus_link *link;
	struct replica *next;
	char *table;
	char *filter;
	replica_fn *changed;
	void *context;
	loop_fn *state; // replica_on_state
	void *state_context;

	uint64_t follower; // this replica's number among those of the link
	uint64_t stream;   // 0: not open
	bool answered;     // a batch of this stream has come
	bool refused;
	unsigned retry_ticks;     // until a refused one is opened again
	unsigned too_large_ticks; // the pause after a change that was too large; 0: the last one was not
	bool said_too_large;      // to /readyz
	bool optional;
	struct {
		unsigned batches, ticks;
		size_t octets;
	} unanswered;             // lazy ones
	unsigned ticks;           // since the stream was opened, refused or last spoken for
	struct map *rows;         // key → struct held_row
	uint64_t epoch, sequence; // that the rows are of; epoch 0: none
	bool judged;              // its rows are for the services of their node to say
	bool places;              // its rows say where tunnels are
	struct map *hidden;       // tunnel id → set of the keys of rows that are held and not shown
	struct assembly assembly;

	uint64_t changes;         // counted
	struct held_change *held; // what waits for replica_release, oldest first; the owner's window bounds it
	size_t held_count, held_capacity;
	bool hold_asked; // by the callback that runs
	bool in_callback;
	bool freed; // in the callback
};

void replica_open(struct replica *replica);
void replica_receive(struct replica *replica, const Twinspan__BusBatch *batch);
void replica_refuse(struct replica *replica, const char *reason);
// Looks at the rows of `tunnels` again (replica.h, bus_link_reconsider).
void replica_reconsider(struct replica *replica, const struct map *tunnels);
// Judges the rows that are put together, before they are shown.
void replica_judge(struct replica *replica);
void replica_forget_hidden(struct replica *replica);
void replica_tick(struct replica *replica);
void replica_tell_state(struct replica *replica);
void replica_delete(struct replica *replica);

#endif
