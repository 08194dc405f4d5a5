// The world of a table's owner and its replicas: their processes, and a network that loses, duplicates, reorders and cuts.
#ifndef TWINSPAN_TESTS_BUS_WORLD_H
#define TWINSPAN_TESTS_BUS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/random.h"
#include "common/bus/frame.h"
#include "common/bus/owner.h"
#include "common/bus/replica.h"

enum {
	KEYS = 12,
	READERS = 3,
	MOST_COMMITS = 600, // of one incarnation
	PACKETS = 1024,
	STEPS = 250,
	ABSENT = 0,      // a value
	PADDING = 15000, // octets of a value in some seeds: then a change takes several frames
};

static const char *const reader_names[2][READERS] = {{"route", "esp.node-a", "esp.node-b"}, // by `lazy`
                                                     {"resource", "vrouter.node-a", "vrouter.node-b"}};
static const char *const reader_scopes[READERS] = {"", "node-a", "node-b"};
static const char *const scopes[] = {"", "node-a", "node-b"};

struct state { // a table, or what of it is seen
	int value[KEYS];
	int scope[KEYS]; // index of scopes
};

struct packet {
	bool used;
	int reader;
	uint64_t connection;
	bool to_owner;
	int64_t due;
	uint64_t order;
	uint8_t *octets;
	size_t length;
};

struct follower {
	struct world *world;
	int number;
	struct bus_link *link;
	struct replica *replica;
	uint64_t connection;      // 0: none
	int view[KEYS];           // what the service was told
	uint64_t epoch, sequence; // of the last callback's change, for monotony
	bool holding;             // this process holds every change for a while
	uint64_t held[64];
	uint64_t held_epoch[64], held_before[64]; // what had been applied when it came
	int held_count;
	uint64_t applied_ever; // by any process of this reader, of the owner's present incarnation
};

struct world {
	uint64_t seed;
	struct random random;
	int64_t time, next_tick;
	uint64_t order, connections;
	bool fifo; // as ZeroMQ is; else loss and disorder too
	bool lazy; // the table is one whose changes are answered many at a time
	bool calm;
	bool checked;
	bool padded;
	struct packet packets[PACKETS];

	struct bus_owner *owner;
	struct table *table;
	uint64_t epoch;
	uint64_t complete_at;                   // sequence; 0: not complete yet
	struct state now;                       // with what is not committed
	struct state history[MOST_COMMITS + 2]; // by sequence
	struct follower readers[READERS];
	uint64_t shown; // changes that services saw, over all seeds not too few
};

static inline void wrong(const struct world *world, const char *what, int reader)
{
	fail_msg("seed %llu, time %lld: %s (reader %d)", (unsigned long long)world->seed, (long long)world->time, what, reader);
}

static inline bool chance(struct world *world, uint32_t percent)
{
	return random_below(&world->random, 100) < percent;
}

static inline const char *table_name(const struct world *world)
{
	return world->lazy ? "vpc_route" : "vpn_tunnel";
}

// ---- the network ----

static inline void put_packet(struct world *world, int reader, uint64_t connection, bool to_owner, struct bytes frame,
                              int64_t due)
{
	for (int i = 0; i < PACKETS; i++) {
		struct packet *packet = &world->packets[i];
		if (!packet->used) {
			*packet = (struct packet){
			    true, reader, connection, to_owner, due, world->order++, malloc(frame.length + 1), frame.length};
			memcpy(packet->octets, frame.data, frame.length);
			return;
		}
	}
	wrong(world, "the network is full: something grows", reader);
}

static inline void transmit(struct world *world, int reader, bool to_owner, struct bytes frame)
{
	uint64_t connection = world->readers[reader].connection;
	bool rough = !world->fifo && !world->calm;
	if (rough && chance(world, 15)) {
		return;
	}
	int copies = rough && chance(world, 10) ? 2 : 1;
	for (int i = 0; i < copies; i++) {
		int64_t delay = rough ? random_below(&world->random, 400) : 20;
		put_packet(world, reader, connection, to_owner, frame, world->time + delay);
	}
}

static inline void clear_packets(struct world *world, int reader) // -1: all
{
	for (int i = 0; i < PACKETS; i++) {
		if (world->packets[i].used && (reader < 0 || world->packets[i].reader == reader)) {
			free(world->packets[i].octets);
			world->packets[i].used = false;
		}
	}
}

static inline bool owner_send(void *context, struct bytes peer, struct bytes frame)
{
	struct world *world = context;
	uint64_t connection;
	assert_int_equal(peer.length, sizeof connection);
	memcpy(&connection, peer.data, sizeof connection);
	for (int i = 0; i < READERS; i++) {
		if (world->readers[i].connection == connection) {
			transmit(world, i, false, frame);
			return true;
		}
	}
	return chance(world, 50); // noticed, or not yet
}

static inline void link_send(void *context, struct bytes frame)
{
	struct follower *reader = context;
	if (reader->connection) {
		transmit(reader->world, reader->number, true, frame);
	}
}

// ---- what the two sides want of the world ----

static inline void on_refused_owner(void *context, const char *name, const char *table, const char *reason)
{
	(void)name;
	(void)table;
	(void)reason;
	wrong(context, "an admitted reader was refused", -1);
}

static inline void on_dropped_owner(void *context, const char *name, const char *reason)
{
	(void)name;
	const struct world *world = context;
	if (!world->fifo && strcmp(reason, "impossible") == 0) {
		return; // a duplicate of an open came after its stream had moved on
	}
	wrong(context, "the owner did not believe a frame of a true replica", -1);
}

static inline void on_unsettled(void *context)
{
	(void)context; // settled after each step
}

static inline void on_refused_link(void *context, const char *table, const char *reason)
{
	struct follower *reader = context;
	(void)table;
	(void)reason;
	wrong(reader->world, "refused", reader->number);
}

static inline void on_dropped_link(void *context, const char *reason)
{
	struct follower *reader = context;
	if (reader->world->fifo && strcmp(reason, "stale") != 0) {
		wrong(reader->world, reason, reader->number); // an orderly network has no gaps
	}
}

static inline void on_ready(void *context, const char *table, bool ready)
{
	(void)context;
	(void)table;
	(void)ready;
}

static inline void on_answer(void *context, uint64_t id, const char *error, struct bytes body)
{
	(void)context;
	(void)id;
	(void)error;
	(void)body;
}

static inline int key_number(const struct world *world, struct bytes key)
{
	int number = -1;
	if (key.length != 2 || (number = key.data[0]) >= KEYS) {
		wrong(world, "a key that never was", -1);
	}
	return number;
}

static inline void on_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct follower *reader = context;
	struct world *world = reader->world;
	world->shown++;
	for (size_t i = 0; i < count; i++) {
		int key = key_number(world, rows[i].key);
		int value = ABSENT;
		if (!rows[i].removed) {
			memcpy(&value, rows[i].value.data, sizeof value);
		}
		if (reader->view[key] == value) {
			wrong(world, "a difference that is none", reader->number);
		}
		reader->view[key] = value;
	}
	if (reader->holding && reader->held_count < 64) {
		reader->held_epoch[reader->held_count] = replica_epoch(reader->replica);
		reader->held_before[reader->held_count] = replica_sequence(reader->replica);
		reader->held[reader->held_count++] = replica_hold(reader->replica);
	}
}

// ---- processes ----

static inline void owner_start(struct world *world)
{
	const struct bus_owner_world callbacks = {.send = owner_send,
	                                          .refused = on_refused_owner,
	                                          .dropped = on_dropped_owner,
	                                          .unsettled = on_unsettled,
	                                          .context = world};
	bus_owner_free(&world->owner);
	world->epoch = random_u64(&world->random) | 1;
	world->owner = bus_owner_new(world->lazy ? "route" : "resource", world->epoch, &callbacks);
	world->table = bus_owner_table(world->owner, table_name(world));
	world->complete_at = 0;
	memset(&world->now, 0, sizeof world->now);
	memset(&world->history[0], 0, sizeof world->history[0]);
	for (int i = 0; i < READERS; i++) {
		world->readers[i].applied_ever = 0;
	}
}

static inline void reader_start(struct world *world, int number)
{
	struct follower *reader = &world->readers[number];
	const struct bus_link_world callbacks = {.send = link_send,
	                                         .refused = on_refused_link,
	                                         .dropped = on_dropped_link,
	                                         .ready = on_ready,
	                                         .answer = on_answer,
	                                         .context = reader};
	bus_link_free(&reader->link);
	uint64_t applied_ever = reader->applied_ever;
	*reader = (struct follower){.world = world, .number = number, .applied_ever = applied_ever};
	reader->holding = chance(world, 30);
	reader->link = bus_link_new(random_u64(&world->random), &callbacks);
	reader->replica = bus_link_replica(reader->link, table_name(world), "", on_changed, reader);
	clear_packets(world, number);
}

static inline void reader_connect(struct world *world, int number)
{
	world->readers[number].connection = ++world->connections;
	bus_link_up(world->readers[number].link);
}

static inline void reader_cut(struct world *world, int number)
{
	world->readers[number].connection = 0;
	clear_packets(world, number);
	bus_link_down(world->readers[number].link);
}

// ---- what the owner's service does ----

static inline void change_row(struct world *world)
{
	int key = (int)random_below(&world->random, KEYS);
	uint8_t octets[2] = {(uint8_t)key, 'k'};
	if (chance(world, 30)) {
		table_remove(world->table, (struct bytes){octets, 2});
		world->now.value[key] = ABSENT;
		return;
	}
	int value = 1 + (int)random_below(&world->random, 4);
	int scope = (int)random_below(&world->random, 3);
	static uint8_t padded[PADDING];
	memcpy(padded, &value, sizeof value);
	table_put(world->table, scopes[scope], (struct bytes){octets, 2},
	          (struct bytes){padded, world->padded ? sizeof padded : sizeof value});
	world->now.value[key] = value;
	world->now.scope[key] = scope;
}

static inline void commit(struct world *world)
{
	// What the commit will be is known before it is made: replicas may answer within it.
	uint64_t next = table_sequence(world->table) + 1;
	if (next > MOST_COMMITS) {
		return;
	}
	world->history[next] = world->now;
	uint64_t sequence = table_commit(world->table);
	if (sequence != next && memcmp(&world->history[sequence], &world->now, sizeof world->now) != 0) {
		// Not counted as a commit: then nothing may have changed. (A removed key's old scope is of no importance.)
		for (int key = 0; key < KEYS; key++) {
			if (world->history[sequence].value[key] != world->now.value[key]) {
				wrong(world, "a change was not counted", -1);
			}
		}
	}
}

static inline void complete(struct world *world)
{
	commit(world);
	if (table_sequence(world->table) == 0) {
		world->history[1] = world->now;
	}
	table_complete(world->table);
	world->complete_at = world->complete_at ? world->complete_at : table_sequence(world->table);
}

#endif
