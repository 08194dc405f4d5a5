// A table's owner and three replicas on a virtual clock, over a network that loses, duplicates, reorders and cuts, while each
// of them may be killed and started again. After every step each replica must show exactly what the owner's table was at one of
// its commits (in its scope), must have been told true differences only, and no mark may say more than was applied; when the
// world calms down all must be equal. A failing seed is replayed by SEED=n; SEEDS=n runs that many.
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
	CALM_STEPS = 150,        // until all must be equal: on an orderly network; on one that lost what nobody missed,
	ROUGH_CALM_STEPS = 1000, // until a replica has repeated what it applied (BUS_REPEAT_TICKS)
	ABSENT = 0,      // a value
	PADDING = 15000, // octets of a value in some seeds: then a change takes several frames
};

static const char *const reader_names[READERS] = {"route", "esp.node-a", "esp.node-b"};
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

static void wrong(const struct world *world, const char *what, int reader)
{
	fail_msg("seed %llu, time %lld: %s (reader %d)", (unsigned long long)world->seed, (long long)world->time, what, reader);
}

static bool chance(struct world *world, uint32_t percent)
{
	return random_below(&world->random, 100) < percent;
}

// ---- the network ----

static void put_packet(struct world *world, int reader, uint64_t connection, bool to_owner, struct bytes frame, int64_t due)
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

static void transmit(struct world *world, int reader, bool to_owner, struct bytes frame)
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

static void clear_packets(struct world *world, int reader) // -1: all
{
	for (int i = 0; i < PACKETS; i++) {
		if (world->packets[i].used && (reader < 0 || world->packets[i].reader == reader)) {
			free(world->packets[i].octets);
			world->packets[i].used = false;
		}
	}
}

static bool owner_send(void *context, struct bytes peer, struct bytes frame)
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

static void link_send(void *context, struct bytes frame)
{
	struct follower *reader = context;
	if (reader->connection) {
		transmit(reader->world, reader->number, true, frame);
	}
}

// ---- what the two sides want of the world ----

static void on_refused_owner(void *context, const char *name, const char *table, const char *reason)
{
	(void)name;
	(void)table;
	(void)reason;
	wrong(context, "an admitted reader was refused", -1);
}

static void on_dropped_owner(void *context, const char *name, const char *reason)
{
	(void)name;
	const struct world *world = context;
	if (!world->fifo && strcmp(reason, "impossible") == 0) {
		return; // a duplicate of an open came after its stream had moved on
	}
	wrong(context, "the owner did not believe a frame of a true replica", -1);
}

static void on_unsettled(void *context)
{
	(void)context; // settled after each step
}

static void on_refused_link(void *context, const char *table, const char *reason)
{
	struct follower *reader = context;
	(void)table;
	(void)reason;
	wrong(reader->world, "refused", reader->number);
}

static void on_dropped_link(void *context, const char *reason)
{
	struct follower *reader = context;
	if (reader->world->fifo && strcmp(reason, "stale") != 0) {
		wrong(reader->world, reason, reader->number); // an orderly network has no gaps
	}
}

static void on_ready(void *context, const char *table, bool ready)
{
	(void)context;
	(void)table;
	(void)ready;
}

static void on_answer(void *context, uint64_t id, const char *error, struct bytes body)
{
	(void)context;
	(void)id;
	(void)error;
	(void)body;
}

static int key_number(const struct world *world, struct bytes key)
{
	int number = -1;
	if (key.length != 2 || (number = key.data[0]) >= KEYS) {
		wrong(world, "a key that never was", -1);
	}
	return number;
}

static void on_changed(void *context, const struct replica_row *rows, size_t count)
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

static void owner_start(struct world *world)
{
	const struct bus_owner_world callbacks = {.send = owner_send,
	                                          .refused = on_refused_owner,
	                                          .dropped = on_dropped_owner,
	                                          .unsettled = on_unsettled,
	                                          .context = world};
	bus_owner_free(&world->owner);
	world->epoch = random_u64(&world->random) | 1;
	world->owner = bus_owner_new("resource", world->epoch, &callbacks);
	world->table = bus_owner_table(world->owner, "vpn_tunnel");
	world->complete_at = 0;
	memset(&world->now, 0, sizeof world->now);
	memset(&world->history[0], 0, sizeof world->history[0]);
	for (int i = 0; i < READERS; i++) {
		world->readers[i].applied_ever = 0;
	}
}

static void reader_start(struct world *world, int number)
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
	reader->replica = bus_link_replica(reader->link, "vpn_tunnel", "", on_changed, reader);
	clear_packets(world, number);
}

static void reader_connect(struct world *world, int number)
{
	world->readers[number].connection = ++world->connections;
	bus_link_up(world->readers[number].link);
}

static void reader_cut(struct world *world, int number)
{
	world->readers[number].connection = 0;
	clear_packets(world, number);
	bus_link_down(world->readers[number].link);
}

// ---- what the owner's service does ----

static void change_row(struct world *world)
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

static void commit(struct world *world)
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

static void complete(struct world *world)
{
	commit(world);
	if (table_sequence(world->table) == 0) {
		world->history[1] = world->now;
	}
	table_complete(world->table);
	world->complete_at = world->complete_at ? world->complete_at : table_sequence(world->table);
}

// ---- invariants ----

static int seen(const struct state *state, int key, int reader)
{
	bool visible = reader_scopes[reader][0] == '\0' || scopes[state->scope[key]][0] == '\0' ||
	               strcmp(scopes[state->scope[key]], reader_scopes[reader]) == 0;
	return visible ? state->value[key] : ABSENT;
}

static bool same_seen(const struct state *a, const struct state *b, int reader)
{
	for (int key = 0; key < KEYS; key++) {
		if (seen(a, key, reader) != seen(b, key, reader)) {
			return false;
		}
	}
	return true;
}

static uint64_t applied_by(const struct follower *reader)
{
	if (reader->held_count == 0) {
		return replica_sequence(reader->replica);
	}
	return reader->held_epoch[0] == reader->world->epoch ? reader->held_before[0] : 0;
}

static void check_reader(struct world *world, struct follower *reader)
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
	uint64_t mark = table_applied(world->table, reader_names[reader->number]);
	if (mark > reader->applied_ever &&
	    (reader->applied_ever == 0 ||
	     !same_seen(&world->history[mark], &world->history[reader->applied_ever], reader->number))) {
		wrong(world, "the mark says more than was applied", reader->number);
	}
}

static void check(struct world *world)
{
	bus_owner_settle(world->owner);
	for (int i = 0; i < READERS; i++) {
		check_reader(world, &world->readers[i]);
	}
}

// ---- time ----

static struct packet *next_due(struct world *world)
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

static void deliver(struct world *world, struct packet *slot)
{
	const struct packet packet = *slot; // the slot is free for what the delivery causes
	struct follower *reader = &world->readers[packet.reader];
	struct bytes frame = {packet.octets, packet.length};
	slot->used = false;
	if (packet.connection == reader->connection) {
		if (packet.to_owner) {
			bus_owner_receive(world->owner,
			                  (struct bytes){(const uint8_t *)&packet.connection, sizeof packet.connection},
			                  reader_names[packet.reader], frame);
		} else {
			bus_link_receive(reader->link, frame);
		}
	}
	free(packet.octets);
	if (world->checked) {
		check(world);
	}
}

static void release_some(struct world *world, struct follower *reader)
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

static void advance(struct world *world)
{
	world->time += random_below(&world->random, 120);
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

static void act(struct world *world)
{
	int number = (int)random_below(&world->random, READERS);
	uint32_t what = random_below(&world->random, 100);
	if (what < 45) {
		change_row(world);
	} else if (what < 75) {
		commit(world);
	} else if (what < 80) {
		complete(world);
	} else if (what < 84) {
		if (world->readers[number].connection) {
			reader_cut(world, number);
		}
	} else if (what < 92) {
		if (!world->readers[number].connection) {
			reader_connect(world, number);
		}
	} else if (what < 93) {
		reader_start(world, number);
	} else if (what < 94) {
		for (int i = 0; i < READERS; i++) {
			if (world->readers[i].connection) {
				reader_cut(world, i);
			}
		}
		owner_start(world);
	}
	check(world);
}

static void calm_down(struct world *world)
{
	world->calm = true;
	for (int i = 0; i < READERS; i++) {
		if (!world->readers[i].connection) {
			reader_connect(world, i);
		}
	}
	complete(world);
	commit(world);
	for (int step = 0; step < (world->fifo ? CALM_STEPS : ROUGH_CALM_STEPS); step++) {
		advance(world);
	}
	for (int i = 0; i < READERS; i++) {
		const struct follower *reader = &world->readers[i];
		uint64_t sequence = table_sequence(world->table);
		if (replica_epoch(reader->replica) != world->epoch ||
		    !same_seen(&world->history[replica_sequence(reader->replica)], &world->history[sequence], i)) {
			wrong(world, "not equal in the end", i);
		}
		if (table_applied(world->table, reader_names[i]) != sequence) {
			wrong(world, "the mark is not there in the end", i);
		}
		if (!replica_owner_alive(reader->replica)) {
			wrong(world, "the owner lives and nobody knows", i);
		}
	}
	if (bus_owner_streams(world->owner) != READERS) {
		wrong(world, "streams left over", -1);
	}
}

static uint64_t run_seed(struct world *world, uint64_t seed)
{
	memset(world, 0, sizeof *world);
	world->seed = seed;
	world->checked = true;
	world->padded = seed % 8 == 3 || seed % 8 == 6;
	random_init_number(&world->random, seed);
	world->fifo = seed % 2 == 0;
	owner_start(world);
	for (int i = 0; i < READERS; i++) {
		reader_start(world, i);
	}
	for (int step = 0; step < STEPS; step++) {
		act(world);
		if (chance(world, 50)) {
			advance(world);
		}
	}
	calm_down(world);
	for (int i = 0; i < READERS; i++) {
		bus_link_free(&world->readers[i].link);
	}
	bus_owner_free(&world->owner);
	clear_packets(world, -1);
	return world->shown;
}

static void replicas_equal_the_owner(void **state)
{
	(void)state;
	static struct world world;
	const char *one = getenv("SEED"), *many = getenv("SEEDS");
	uint64_t first = one ? strtoull(one, NULL, 10) : 1;
	uint64_t count = one ? 1 : many ? strtoull(many, NULL, 10) : 3000;
	uint64_t shown = 0;
	for (uint64_t seed = first; seed < first + count; seed++) {
		shown += run_seed(&world, seed);
	}
	print_message("%llu seeds, %llu changes shown\n", (unsigned long long)count, (unsigned long long)shown);
	assert_true(shown > count * 5);
}

// ---- a replica that does not answer ----

static void a_slow_replica_costs_nothing(void **state)
{
	(void)state;
	static struct world world;
	memset(&world, 0, sizeof world);
	random_init_number(&world.random, 1);
	world.calm = world.checked = true;
	owner_start(&world);
	for (int i = 0; i < READERS; i++) {
		reader_start(&world, i);
	}
	world.readers[0].holding = false;
	complete(&world);
	reader_connect(&world, 0);
	for (int step = 0; step < 10; step++) {
		advance(&world);
	}
	uint64_t shown = world.shown;
	for (int i = 0; i < 100000; i++) {
		int value = 1 + i;
		uint8_t key[2] = {(uint8_t)(i % KEYS), 'k'};
		table_put(world.table, "", (struct bytes){key, 2}, (struct bytes){(const uint8_t *)&value, sizeof value});
		table_commit(world.table);
		world.now.value[i % KEYS] = value;
	}
	int waiting = 0;
	for (int i = 0; i < PACKETS; i++) {
		waiting += world.packets[i].used;
	}
	assert_in_range(waiting, 1, 64); // the window
	world.checked = false;           // no history is kept of so many commits
	for (int step = 0; step < 20; step++) {
		world.time += 50;
		for (struct packet *packet = next_due(&world); packet; packet = next_due(&world)) {
			deliver(&world, packet);
		}
	}
	for (int key = 0; key < KEYS; key++) {
		assert_int_equal(world.readers[0].view[key], world.now.value[key]);
	}
	assert_in_range(world.shown - shown, 1, 70); // and not 100,000
	for (int i = 0; i < READERS; i++) {
		bus_link_free(&world.readers[i].link);
	}
	bus_owner_free(&world.owner);
	clear_packets(&world, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(replicas_equal_the_owner),
	    cmocka_unit_test(a_slow_replica_costs_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
