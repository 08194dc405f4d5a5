// A table's owner and three replicas on a virtual clock, over a network that loses, duplicates, reorders and cuts, while each
// of them may be killed and started again. After every step each replica must show exactly what the owner's table was at one of
// its commits (in its scope), must have been told true differences only, and no mark may say more than was applied; when the
// world calms down all must be equal. A failing seed is replayed by SEED=n; SEEDS=n runs that many.
#include "tests/sim/bus_time.h"

enum {
	CALM_STEPS = 150,                        // until all must be equal: on an orderly network; beyond that,
	ROUGH_CALM_TICKS = 2 * BUS_REPEAT_TICKS, // on one that lost what nobody missed, until a replica has repeated itself,
	LAZY_CALM_TICKS = BUS_LAZY_TICKS,        // and until it has answered what it may answer late
};

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
	for (int step = 0; step < CALM_STEPS; step++) {
		advance(world);
	}
	for (int tick = 0; tick < (world->fifo ? 0 : ROUGH_CALM_TICKS) + (world->lazy ? LAZY_CALM_TICKS : 0); tick++) {
		advance_by(world, BUS_TICK_MS);
	}
	for (int i = 0; i < READERS; i++) {
		const struct follower *reader = &world->readers[i];
		uint64_t sequence = table_sequence(world->table);
		if (replica_epoch(reader->replica) != world->epoch ||
		    !same_seen(&world->history[replica_sequence(reader->replica)], &world->history[sequence], i)) {
			wrong(world, "not equal in the end", i);
		}
		if (table_applied(world->table, reader_names[world->lazy][i]) != sequence) {
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
	world->lazy = seed % 4 >= 2;
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
