// A process that stands still while its connections stay open: how soon the other side knows, and that nothing else takes a
// quiet connection for a dead one. Owner and reader are processes of their own, stopped by a signal.
#include <signal.h>

#include "tests/unit/bus_bench.h"

#define LATE MILLISECONDS(1500) // what a busy machine may add

static struct stage {
	struct owner here; // "resource", in this process
	struct replica *replica;
	unsigned ends; // how often the owner was lost
	bool alive;
} stage;

static void on_state(void *context)
{
	(void)context;
	bool alive = replica_owner_alive(stage.replica);
	stage.ends += stage.alive && !alive;
	stage.alive = alive;
}

static bool is_connected(struct owner *owner)
{
	(void)owner;
	return stage.alive && replica_has_snapshot(stage.replica);
}

static bool is_lost(struct owner *owner)
{
	(void)owner;
	return stage.ends > 0;
}

static bool reader_has_it(struct owner *owner)
{
	return table_applied(owner->table, "route") == table_sequence(owner->table);
}

static bool reader_is_gone(struct owner *owner)
{
	return table_applied(owner->table, "route") == 0;
}

static void nothing(void *context, const struct replica_row *rows, size_t count)
{
	(void)context, (void)rows, (void)count;
}

static void endpoints_of_all(void)
{
	char *file = path("endpoints");
	FILE *out = fopen(file, "w");
	assert_non_null(out);
	static const char *const owners[] = {"resource", "route", "esp.node-a", "ike.node-a"};
	for (size_t i = 0; i < sizeof owners / sizeof owners[0]; i++) {
		fprintf(out, "%s ipc://%s/%s\n", owners[i], directory, owners[i]);
	}
	fclose(out);
	free(file);
}

// What the process of an owner does: it has an empty table, and stays until it is killed.
static int play_owner(const char *identity, const char *table)
{
	struct loop *loop = loop_new();
	struct bus *bus = bus_new(loop, NULL, identity);
	table_complete(table_own(bus, table));
	loop_run(loop);
	bus_free(&bus);
	loop_free(&loop);
	return 0;
}

static void end(pid_t pid)
{
	int status;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void an_owner_is_lost_within(const char *identity, const char *table, const char *reader, duration idle, duration most)
{
	endpoints_of_all();
	const char *arguments[] = {"own", identity, table, NULL};
	pid_t pid = spawn(arguments);
	stage = (struct stage){.here.loop = loop_new()};
	stage.here.bus = bus_new(stage.here.loop, NULL, reader);
	stage.replica = replica_new(stage.here.bus, identity, table, "", nothing, NULL);
	replica_on_state(stage.replica, on_state, NULL);
	assert_true(run_until(&stage.here, is_connected, SECONDS(30)));
	assert_false(run_until(&stage.here, is_lost, idle)); // it only has nothing to say
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_true(run_until(&stage.here, is_lost, most + LATE));
	end(pid);
	owner_free(&stage.here);
}

static void an_owner_whose_silence_counts_is_lost_within_3_seconds(void **state)
{
	(void)state;
	an_owner_is_lost_within("esp.node-a", "node_status", "route", MILLISECONDS(3500), SECONDS(3));
}

static void any_owner_is_lost_within_10_seconds(void **state)
{
	(void)state;
	an_owner_is_lost_within("ike.node-a", "tunnel_status", "resource", 0, SECONDS(10));
}

// It is known that a connection has ended, and by trying them all, with the next ticks, whose it was.
static void a_reader_is_gone_within_5_seconds(void **state)
{
	(void)state;
	endpoints_of_all();
	stage = (struct stage){.here.loop = loop_new()};
	struct owner *here = &stage.here;
	here->bus = bus_new(here->loop, NULL, "esp.node-a");
	here->table = table_own(here->bus, "node_status");
	table_put(here->table, "", text("node-a"), text("A"));
	table_complete(here->table);
	pid_t pid = start("route", "esp.node-a", "node_status", "", "node-a", 60000);
	assert_true(run_until(here, reader_has_it, SECONDS(30)));
	assert_false(run_until(here, reader_is_gone, SECONDS(4))); // it only has nothing to say
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_true(run_until(here, reader_is_gone, SECONDS(5) + LATE));
	end(pid);
	owner_free(here);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_owner_whose_silence_counts_is_lost_within_3_seconds),
	    cmocka_unit_test(any_owner_is_lost_within_10_seconds),
	    cmocka_unit_test(a_reader_is_gone_within_5_seconds),
	};
	log_init("test", NULL);
	if (argc == 4 && strcmp(argv[1], "own") == 0) {
		return play_owner(argv[2], argv[3]);
	}
	if (argc > 2) {
		return play_reader(argv + 1, argc - 1);
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
