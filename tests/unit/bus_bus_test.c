// The bus over real ZeroMQ sockets on ipc: one owner, "resource", in this process; readers in processes of their own, as in a
// region.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "common/base/alloc.h"
#include "common/bus/bus.h"
#include "common/bus/keys.h"
#include "common/bus/replica.h"
#include "common/io/log.h"

static char directory[] = "/tmp/twinspan-bus-XXXXXX";

static struct bytes text(const char *octets)
{
	return (struct bytes){(const uint8_t *)octets, strlen(octets)};
}

static char *path(const char *name)
{
	return format_text("%s/%s", directory, name);
}

static void write_endpoints(void)
{
	char *file = path("endpoints");
	FILE *out = fopen(file, "w");
	assert_non_null(out);
	fprintf(out, "# owners\nresource ipc://%s/resource\nroute ipc://%s/route\n", directory, directory);
	fclose(out);
	setenv("TWINSPAN_BUS", file, 1);
	free(file);
}

static int set_up(void **state)
{
	(void)state;
	static const char *const identities[] = {"resource", "route", "ike.node-a", "ike.node-b", "esp.node-a"};
	assert_non_null(mkdtemp(directory));
	for (size_t i = 0; i < sizeof identities / sizeof identities[0]; i++) {
		assert_true(bus_keys_write(directory, identities[i]));
	}
	write_endpoints();
	setenv("TWINSPAN_KEYS", directory, 1);
	setenv("TWINSPAN_LOG_LEVEL", "error", 1);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	char *command = format_text("rm -rf %s", directory);
	int result = system(command);
	free(command);
	return result;
}

// ---- the owner, in this process ----

struct owner {
	struct loop *loop;
	struct bus *bus;
	struct table *table;
	struct table *secrets;
	bool done;
};

static struct owner owner_new(void)
{
	struct owner owner = {.loop = loop_new()};
	owner.bus = bus_new(owner.loop, NULL, "resource");
	owner.table = table_own(owner.bus, "node");
	owner.secrets = table_own(owner.bus, "tunnel_secret");
	return owner;
}

static void owner_free(struct owner *owner)
{
	bus_free(&owner->bus);
	loop_free(&owner->loop);
}

struct wait {
	struct owner *owner;
	bool (*until)(struct owner *owner);
	instant end;
	bool met;
	struct deadline deadline;
};

static void look(void *context)
{
	struct wait *wait = context;
	wait->met = wait->until(wait->owner);
	if (wait->met || now() >= wait->end) {
		loop_stop(wait->owner->loop);
	} else {
		deadline_arm(&wait->deadline, now() + MILLISECONDS(5));
	}
}

static bool run_until(struct owner *owner, bool (*until)(struct owner *owner), duration most)
{
	struct wait wait = {.owner = owner, .until = until, .end = now() + most};
	deadline_init(&wait.deadline, owner->loop, look, &wait);
	deadline_arm(&wait.deadline, now());
	loop_run(owner->loop);
	deadline_disarm(&wait.deadline);
	return wait.met;
}

static bool never(struct owner *owner)
{
	(void)owner;
	return false;
}

// ---- readers, each a process ----

// Runs this program again in the part that `arguments` name: a forked ZeroMQ context is of no use, so nothing but exec will do.
static pid_t spawn(const char *const *arguments)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char *own[10] = {"io_bus_test"};
		for (size_t i = 0; i < 8 && arguments[i]; i++) {
			own[i + 1] = arguments[i];
		}
		execv("/proc/self/exe", (char *const *)own);
		_exit(9);
	}
	return pid;
}

struct follower {
	struct loop *loop;
	struct bus *bus;
	struct replica *replica;
	const char *until_key; // ends well when this row is there
	struct deadline limit;
	unsigned calls;
	int result;
};

static void on_rows(void *context, const struct replica_row *rows, size_t count)
{
	struct follower *reader = context;
	reader->calls++;
	for (size_t i = 0; i < count; i++) {
		if (reader->until_key && !rows[i].removed && bytes_equal(rows[i].key, text(reader->until_key))) {
			reader->result = 0;
			loop_stop(reader->loop);
		}
	}
}

static void on_limit(void *context)
{
	loop_stop(((struct follower *)context)->loop);
}

// What a reader's process does: follows a table until a row comes or the time is up. Exit code 0: the row came, 1: it did not,
// 3: anything at all came though nothing should.
static int read_table(const char *identity, const char *owner, const char *table, const char *filter, const char *until,
                      int limit_ms)
{
	struct follower reader = {.loop = loop_new(), .until_key = until, .result = until ? 1 : 0};
	reader.bus = bus_new(reader.loop, NULL, identity);
	reader.replica = replica_new(reader.bus, owner, table, filter, on_rows, &reader);
	deadline_init(&reader.limit, reader.loop, on_limit, &reader);
	deadline_arm(&reader.limit, now() + MILLISECONDS(limit_ms));
	loop_run(reader.loop);
	if (!until && (reader.calls > 0 || replica_has_snapshot(reader.replica))) {
		reader.result = 3;
	}
	// It stays until it is let go: what it has applied is looked at meanwhile.
	char *end = format_text("%s/end-%d", getenv("TWINSPAN_KEYS"), (int)getpid());
	for (int i = 0; reader.result == 0 && until && i < 1000 && access(end, F_OK) != 0; i++) {
		deadline_arm(&reader.limit, now() + MILLISECONDS(10));
		loop_run(reader.loop);
	}
	free(end);
	deadline_disarm(&reader.limit);
	replica_free(&reader.replica);
	bus_free(&reader.bus);
	loop_free(&reader.loop);
	return reader.result;
}

static pid_t start(const char *identity, const char *owner, const char *table, const char *filter, const char *until,
                   int limit_ms)
{
	const char *arguments[] = {"read", identity, owner, table, filter, log_number(limit_ms), until, NULL};
	return spawn(arguments);
}

// A reader whose row came may end.
static void let_go(pid_t pid)
{
	char *end = format_text("%s/end-%d", directory, (int)pid);
	FILE *file = fopen(end, "w");
	assert_non_null(file);
	fclose(file);
	free(end);
}

static int result_of(pid_t pid)
{
	int status;
	let_go(pid);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

// ---- tests ----

static bool route_has_first(struct owner *owner)
{
	return table_applied(owner->table, "route") == 1;
}

static bool route_has_second(struct owner *owner)
{
	return table_applied(owner->table, "route") == 2;
}

static bool route_is_gone(struct owner *owner)
{
	return table_applied(owner->table, "route") == 0;
}

static void an_admitted_reader_follows(void **state)
{
	(void)state;
	pid_t reader = start("route", "resource", "node", "", "node-b", 30000); // before its owner: that is allowed
	struct owner owner = owner_new();
	struct stat status;
	char *socket_file = path("resource");
	assert_int_equal(stat(socket_file, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0666);
	free(socket_file);
	table_put(owner.table, "", text("node-a"), text("A"));
	table_commit(owner.table);
	assert_false(run_until(&owner, route_has_first, MILLISECONDS(300))); // not complete: nothing is sent
	table_complete(owner.table);
	assert_true(run_until(&owner, route_has_first, SECONDS(20)));
	table_put(owner.table, "", text("node-b"), text("B"));
	assert_int_equal(table_commit(owner.table), 2);
	assert_true(run_until(&owner, route_has_second, SECONDS(20)));
	let_go(reader);
	assert_true(run_until(&owner, route_is_gone, SECONDS(20)));
	assert_int_equal(result_of(reader), 0);
	owner_free(&owner);
}

static uint64_t counted(const char *name, const char *labels)
{
	return metric_value(metric(METRIC_COUNTER, name, labels, ""));
}

static void the_wrong_table_is_refused_and_counted(void **state)
{
	(void)state;
	static const char labels[] = "table=\"tunnel_secret\",reason=\"not admitted\"";
	static const char scope_labels[] = "table=\"tunnel_secret\",reason=\"foreign scope\"";
	uint64_t before = counted("twinspan_bus_refused_total", labels);
	struct owner owner = owner_new();
	table_put(owner.secrets, "node-a", text("tun-1"), text("secret"));
	table_commit(owner.secrets);
	table_complete(owner.secrets);
	pid_t wrong_service = start("esp.node-a", "resource", "tunnel_secret", "", NULL, 700);
	pid_t wrong_node = start("ike.node-b", "resource", "tunnel_secret", "node-a", NULL, 700);
	pid_t right_node = start("ike.node-a", "resource", "tunnel_secret", "", "tun-1", 5000);
	run_until(&owner, never, MILLISECONDS(1200));
	assert_int_equal(result_of(wrong_service), 0);
	assert_int_equal(result_of(wrong_node), 0);
	assert_int_equal(result_of(right_node), 0);
	assert_true(counted("twinspan_bus_refused_total", labels) == before + 1);
	assert_true(counted("twinspan_bus_refused_total", scope_labels) == 1);
	owner_free(&owner);
}

static void a_node_sees_its_own_rows_only(void **state)
{
	(void)state;
	struct owner owner = owner_new();
	table_put(owner.secrets, "node-a", text("tun-1"), text("secret"));
	table_commit(owner.secrets);
	table_complete(owner.secrets);
	pid_t other = start("ike.node-b", "resource", "tunnel_secret", "", "tun-1", 700);
	run_until(&owner, never, MILLISECONDS(1000));
	assert_int_equal(result_of(other), 1); // an empty snapshot
	owner_free(&owner);
}

// A DEALER with the keys it is given, or none, that asks for a table and counts what comes back.
static int intrude(const char *kind)
{
	bool with_key = strcmp(kind, "no-key") != 0;
	char server[BUS_KEY_TEXT], public_key[BUS_KEY_TEXT], secret_key[BUS_KEY_TEXT];
	void *zmq = zmq_ctx_new(), *dealer = zmq_socket(zmq, ZMQ_DEALER);
	if (with_key) {
		if (!bus_key_read(directory, strcmp(kind, "wrong-server-key") == 0 ? "route" : "resource", "public", server) ||
		    zmq_curve_keypair(public_key, secret_key) != 0) {
			return 4;
		}
		zmq_setsockopt(dealer, ZMQ_CURVE_PUBLICKEY, public_key, BUS_KEY_TEXT);
		zmq_setsockopt(dealer, ZMQ_CURVE_SECRETKEY, secret_key, BUS_KEY_TEXT);
		zmq_setsockopt(dealer, ZMQ_CURVE_SERVERKEY, server, BUS_KEY_TEXT);
	}
	int patience = 500, linger = 0;
	zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &patience, sizeof patience);
	zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof linger);
	char *endpoint = format_text("ipc://%s/resource", directory);
	zmq_connect(dealer, endpoint);
	free(endpoint);
	static const char open[] = "\x0a\x08\x0a\x04node\x28\x01"; // BusFrame{open{table "node", stream 1}}
	zmq_send(dealer, open, sizeof open - 1, 0);
	char got[64];
	int result = zmq_recv(dealer, got, sizeof got, 0) >= 0 ? 3 : 0;
	zmq_close(dealer);
	zmq_ctx_term(zmq);
	return result;
}

// Which of the two sides notices first that they do not speak the same mechanism is a race: closed or protocol.
static uint64_t handshake_failures(void)
{
	static const char *const labels[] = {"reason=\"protocol\"", "reason=\"unknown key\"", "reason=\"closed\""};
	uint64_t sum = 0;
	for (size_t i = 0; i < 3; i++) {
		sum += counted("twinspan_bus_handshake_failures_total", labels[i]);
	}
	return sum;
}

static void an_intruder_gets_nothing_and_is_counted(void **state)
{
	(void)state;
	static const char *const kinds[] = {"no-key", "unknown-key", "wrong-server-key"};
	struct owner owner = owner_new();
	table_put(owner.table, "", text("node-a"), text("A"));
	table_complete(owner.table);
	for (size_t i = 0; i < 3; i++) {
		uint64_t before = handshake_failures();
		const char *arguments[] = {"intrude", kinds[i], NULL};
		pid_t pid = spawn(arguments);
		run_until(&owner, never, MILLISECONDS(700));
		assert_int_equal(result_of(pid), 0);
		assert_true(handshake_failures() > before);
	}
	assert_true(counted("twinspan_bus_handshake_failures_total", "reason=\"unknown key\"") > 0);
	owner_free(&owner);
}

static void a_new_key_is_admitted_without_a_restart(void **state)
{
	(void)state;
	struct owner owner = owner_new();
	table_put(owner.table, "", text("node-a"), text("A"));
	table_complete(owner.table);
	run_until(&owner, never, MILLISECONDS(50));
	assert_true(bus_keys_write(directory, "vrouter.host-9"));
	pid_t pid = start("vrouter.host-9", "resource", "node", "", "node-a", 5000);
	run_until(&owner, never, MILLISECONDS(3000)); // the child's, on a busy machine
	assert_int_equal(result_of(pid), 0);
	owner_free(&owner);
}

// ---- an owner that is killed ----

struct survivor {
	struct loop *loop;
	struct replica *replica;
	struct deadline limit;
	unsigned calls;
	bool died, came_back, saw_difference, saw_more;
};

static void on_survivor_rows(void *context, const struct replica_row *rows, size_t count)
{
	struct survivor *survivor = context;
	survivor->calls++;
	if (survivor->died) {
		// Of 1,000 rows the second incarnation lacks one and changed one.
		survivor->saw_difference = count == 2 && rows[0].removed && bytes_equal(rows[0].key, text("node-7")) &&
		                           !rows[1].removed && bytes_equal(rows[1].key, text("node-8"));
		survivor->saw_more = count != 2;
	}
	loop_stop(survivor->loop);
}

static void on_survivor_state(void *context)
{
	struct survivor *survivor = context;
	bool alive = replica_owner_alive(survivor->replica);
	if (!alive && survivor->calls > 0) {
		survivor->died = true;
		loop_stop(survivor->loop);
	}
	survivor->came_back = survivor->died && alive;
}

static void on_survivor_limit(void *context)
{
	loop_stop(((struct survivor *)context)->loop);
}

static int own(bool second)
{
	struct owner owner = owner_new();
	for (int i = 0; i < 1000; i++) {
		char key[16];
		snprintf(key, sizeof key, "node-%d", i);
		if (!second || i != 7) {
			table_put(owner.table, "", text(key), text(second && i == 8 ? "changed" : "row"));
		}
	}
	table_complete(owner.table);
	run_until(&owner, never, SECONDS(10));
	owner_free(&owner);
	return 0;
}

static pid_t start_owner(const char *incarnation)
{
	const char *arguments[] = {"own", incarnation, NULL};
	return spawn(arguments);
}

static void a_killed_owner_comes_back_with_the_differences(void **state)
{
	(void)state;
	pid_t first = start_owner("first");
	struct survivor survivor = {.loop = loop_new()};
	struct bus *bus = bus_new(survivor.loop, NULL, "esp.node-a");
	survivor.replica = replica_new(bus, "resource", "node", "", on_survivor_rows, &survivor);
	replica_on_state(survivor.replica, on_survivor_state, &survivor);
	deadline_init(&survivor.limit, survivor.loop, on_survivor_limit, &survivor);
	deadline_arm(&survivor.limit, now() + SECONDS(5));
	loop_run(survivor.loop);
	assert_int_equal(survivor.calls, 1);
	assert_int_equal(replica_count(survivor.replica), 1000);
	assert_true(replica_owner_alive(survivor.replica));

	kill(first, SIGKILL);
	result_of(first);
	deadline_arm(&survivor.limit, now() + SECONDS(5));
	loop_run(survivor.loop);
	assert_true(survivor.died);
	assert_int_equal(replica_count(survivor.replica), 1000); // losing the owner is not losing the rows

	instant restarted = now();
	pid_t second = start_owner("second");
	deadline_arm(&survivor.limit, now() + SECONDS(5));
	loop_run(survivor.loop);
	assert_true(survivor.came_back && survivor.saw_difference && !survivor.saw_more);
	assert_true(now() - restarted < SECONDS(1));
	kill(second, SIGTERM);
	instant asked = now();
	assert_int_equal(result_of(second), 0);
	assert_true(now() - asked < SECONDS(1));
	deadline_disarm(&survivor.limit);
	bus_free(&bus);
	loop_free(&survivor.loop);
}

// ---- how long a change takes ----

struct clocked {
	struct loop *loop;
	struct table *table;
	struct deadline next;
	instant sent;
	duration worst, sum;
	int count;
};

static void on_clocked_row(void *context, const struct replica_row *rows, size_t count)
{
	struct clocked *clocked = context;
	(void)rows;
	(void)count;
	if (clocked->sent) {
		duration took = now() - clocked->sent;
		clocked->sum += took;
		clocked->worst = took > clocked->worst ? took : clocked->worst;
		clocked->count++;
	}
	clocked->sent = 0;
	deadline_arm(&clocked->next, now() + MILLISECONDS(2));
}

static void send_clocked(void *context)
{
	struct clocked *clocked = context;
	if (clocked->count == 200) {
		loop_stop(clocked->loop);
		return;
	}
	char value[16];
	snprintf(value, sizeof value, "%d", clocked->count);
	table_put(clocked->table, "", text("node-a"), text(value));
	clocked->sent = now();
	table_commit(clocked->table);
}

static void a_change_is_there_at_once(void **state)
{
	(void)state;
	// Owner and reader in one process and loop, over the same sockets: both ends' work is in the time.
	struct owner owner = owner_new();
	struct clocked clocked = {.loop = owner.loop, .table = owner.table};
	deadline_init(&clocked.next, owner.loop, send_clocked, &clocked);
	table_put(owner.table, "", text("node-a"), text("first"));
	table_complete(owner.table);
	struct bus *reader = bus_new(owner.loop, NULL, "ike.node-a");
	struct replica *replica = replica_new(reader, "resource", "node", "", on_clocked_row, &clocked);
	loop_run(owner.loop);
	assert_int_equal(clocked.count, 200);
	print_message("commit to callback: mean %lld us, worst %lld us\n", (long long)clocked.sum / 200,
	              (long long)clocked.worst);
	assert_true(clocked.sum / 200 < MILLISECONDS(2)); // a loaded machine is not a slow bus; well under 1 ms when idle
	deadline_disarm(&clocked.next);
	replica_free(&replica);
	bus_free(&reader);
	owner_free(&owner);
}

struct asking {
	struct loop *loop;
	char error[64];
	int answers;
};

static void on_answer(void *context, const char *error, struct bytes body)
{
	struct asking *asking = context;
	assert_int_equal(body.length, 0);
	snprintf(asking->error, sizeof asking->error, "%s", error ? error : "");
	asking->answers++;
	loop_stop(asking->loop);
}

// The matrix admits no question yet: what is left to see is that each is answered, once, and in time.
static void a_question_is_answered_once(void **state)
{
	(void)state;
	struct owner owner = owner_new();
	struct bus *asker = bus_new(owner.loop, NULL, "ike.node-a");
	struct asking asking = {.loop = owner.loop};
	struct replica *replica = replica_new(asker, "resource", "node", "", on_rows, &(struct follower){.loop = owner.loop});
	run_until(&owner, never, MILLISECONDS(300)); // until it is connected
	bus_ask(asker, "resource", "diagnosis", text("why"), SECONDS(5), on_answer, &asking);
	loop_run(owner.loop);
	assert_string_equal(asking.error, "not admitted");
	bus_ask(asker, "route", "diagnosis", text("why"), SECONDS(5), on_answer, &asking); // there is no route here
	assert_int_equal(asking.answers, 1);                                               // never within the call
	loop_run(owner.loop);
	assert_string_equal(asking.error, "no answer in time");
	assert_int_equal(asking.answers, 2);
	bus_ask(asker, "resource", "diagnosis", text("why"), SECONDS(5), on_answer, &asking);
	replica_free(&replica);
	bus_free(&asker); // with a question open
	owner_free(&owner);
	assert_int_equal(asking.answers, 2);
}

static void keys(void **state)
{
	(void)state;
	struct stat status;
	char *secret = path("route.secret");
	assert_int_equal(stat(secret, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	free(secret);
	assert_false(bus_keys_write(directory, "route"));
	assert_false(bus_keys_write(directory, "../route"));
	assert_false(bus_keys_write(directory, ""));
	assert_false(bus_keys_write(directory, "ike."));
	char key[BUS_KEY_TEXT];
	assert_true(bus_key_read(directory, "route", "public", key));
	assert_false(bus_key_read(directory, "nobody", "public", key));
}

// The parts that spawn starts.
static int play(char **arguments, int count)
{
	snprintf(directory, sizeof directory, "%s", getenv("TWINSPAN_KEYS"));
	if (strcmp(arguments[0], "read") == 0 && count >= 6) {
		return read_table(arguments[1], arguments[2], arguments[3], arguments[4], count > 6 ? arguments[6] : NULL,
		                  atoi(arguments[5]));
	}
	return strcmp(arguments[0], "own") == 0 ? own(strcmp(arguments[1], "second") == 0) : intrude(arguments[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(keys),
	    cmocka_unit_test(an_admitted_reader_follows),
	    cmocka_unit_test(the_wrong_table_is_refused_and_counted),
	    cmocka_unit_test(a_node_sees_its_own_rows_only),
	    cmocka_unit_test(an_intruder_gets_nothing_and_is_counted),
	    cmocka_unit_test(a_new_key_is_admitted_without_a_restart),
	    cmocka_unit_test(a_killed_owner_comes_back_with_the_differences),
	    cmocka_unit_test(a_change_is_there_at_once),
	    cmocka_unit_test(a_question_is_answered_once),
	};
	log_init("test", NULL);
	if (argc > 2) {
		return play(argv + 1, argc - 1);
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
