// The virtual clock of the world of bus_world.h, and what must be true of an owner and its replicas after every step.
#ifndef TWINSPAN_TESTS_BUS_TIME_H
#define TWINSPAN_TESTS_BUS_TIME_H

#include "tests/sim/bus_world.h"

// ---- invariants ----

static inline int seen(const struct state *state, int key, int reader)
{
	bool visible = reader_scopes[reader][0] == '\0' || scopes[state->scope[key]][0] == '\0' ||
	               strcmp(scopes[state->scope[key]], reader_scopes[reader]) == 0;
	return visible ? state->value[key] : ABSENT;
}

static inline bool same_seen(const struct state *a, const struct state *b, int reader)
{
	for (int key = 0; key < KEYS; key++) {
		if (seen(a, key, reader) != seen(b, key, reader)) {
			return false;
		}
	}
	return true;
}

static inline uint64_t applied_by(const struct follower *reader)
{
	if (reader->held_count == 0) {
		return replica_sequence(reader->replica);
	}
	return reader->held_epoch[0] == reader->world->epoch ? reader->held_before[0] : 0;
}

static inline void check_reader(struct world *world, struct follower *reader)
{
	uint64_t epoch = replica_epoch(reader->replica), sequence = replica_sequence(reader->replica);
	size_t rows = 0;
	for (int key = 0; key < KEYS; key++) {
		uint8_t octets[2] = {(uint8_t)key, 'k'};
		struct bytes value;
		int held = ABSENT;
		if (replica_find(reader->replica, (struct bytes){octets, 2}, &value)) {
			memcpy(&held, value.data, sizeof held);
			rows++;
		}
		if (held != reader->view[key]) {
			wrong(world, "the service was not told what the replica holds", reader->number);
		}
		if (epoch == world->epoch && held != seen(&world->history[sequence], key, reader->number)) {
			wrong(world, "not what the table was at that commit", reader->number);
		}
	}
	if (rows != replica_count(reader->replica)) {
		wrong(world, "rows too many", reader->number);
	}
	if (epoch == world->epoch && (world->complete_at == 0 || sequence < world->complete_at)) {
		wrong(world, "shown before it was complete", reader->number);
	}
	if (epoch == reader->epoch && sequence < reader->sequence) {
		wrong(world, "back in time", reader->number);
	}
	reader->epoch = epoch;
	reader->sequence = sequence;
	if (epoch == world->epoch && applied_by(reader) > reader->applied_ever) {
		reader->applied_ever = applied_by(reader);
	}
	uint64_t mark = table_applied(world->table, reader_names[world->lazy][reader->number]);
	if (mark > reader->applied_ever &&
	    (reader->applied_ever == 0 ||
	     !same_seen(&world->history[mark], &world->history[reader->applied_ever], reader->number))) {
		wrong(world, "the mark says more than was applied", reader->number);
	}
}

static inline void check(struct world *world)
{
	bus_owner_settle(world->owner);
	for (int i = 0; i < READERS; i++) {
		check_reader(world, &world->readers[i]);
	}
}

// ---- time ----

static inline struct packet *next_due(struct world *world)
{
	struct packet *next = NULL;
	for (int i = 0; i < PACKETS; i++) {
		struct packet *packet = &world->packets[i];
		if (packet->used && packet->due <= world->time &&
		    (!next || packet->due < next->due || (packet->due == next->due && packet->order < next->order))) {
			next = packet;
		}
	}
	return next;
}

static inline void deliver(struct world *world, struct packet *slot)
{
	const struct packet packet = *slot; // the slot is free for what the delivery causes
	struct follower *reader = &world->readers[packet.reader];
	struct bytes frame = {packet.octets, packet.length};
	slot->used = false;
	if (packet.connection == reader->connection) {
		if (packet.to_owner) {
			bus_owner_receive(world->owner,
			                  (struct bytes){(const uint8_t *)&packet.connection, sizeof packet.connection},
			                  reader_names[world->lazy][packet.reader], frame);
		} else {
			bus_link_receive(reader->link, frame);
		}
	}
	free(packet.octets);
	if (world->checked) {
		check(world);
	}
}

static inline void release_some(struct world *world, struct follower *reader)
{
	while (reader->held_count > 0 && (world->calm || chance(world, 60))) {
		uint64_t number = reader->held[0];
		size_t left = (size_t)--reader->held_count * sizeof reader->held[0];
		memmove(reader->held, reader->held + 1, left);
		memmove(reader->held_epoch, reader->held_epoch + 1, left);
		memmove(reader->held_before, reader->held_before + 1, left);
		replica_release(reader->replica, number);
		check_reader(world, reader);
	}
}

static inline void advance_by(struct world *world, int64_t milliseconds)
{
	world->time += milliseconds;
	for (struct packet *packet = next_due(world); packet; packet = next_due(world)) {
		deliver(world, packet);
	}
	if (world->time >= world->next_tick) {
		world->next_tick = world->time + BUS_TICK_MS;
		bus_owner_tick(world->owner);
		for (int i = 0; i < READERS; i++) {
			bus_link_tick(world->readers[i].link);
		}
		check(world);
	}
	for (int i = 0; i < READERS; i++) {
		release_some(world, &world->readers[i]);
	}
}

static inline void advance(struct world *world)
{
	advance_by(world, random_below(&world->random, 120));
}

#endif
