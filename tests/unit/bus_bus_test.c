// The bus over real ZeroMQ sockets on ipc: one owner, "resource", in this process; readers in processes of their own, as in a
// region.
#include "tests/unit/bus_bench.h"

#include <zmq.h>

#include "common/bus/replica.h"

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

static uint64_t refused_before;

static bool all_three_have_their_answer(struct owner *owner)
{
	return counted("twinspan_bus_refused_total", "table=\"tunnel_secret\",reason=\"not admitted\"") > refused_before &&
	       counted("twinspan_bus_refused_total", "table=\"tunnel_secret\",reason=\"foreign scope\"") > 0 &&
	       table_applied(owner->secrets, "ike.node-a") > 0;
}

static void the_wrong_table_is_refused_and_counted(void **state)
{
	(void)state;
	static const char labels[] = "table=\"tunnel_secret\",reason=\"not admitted\"";
	static const char scope_labels[] = "table=\"tunnel_secret\",reason=\"foreign scope\"";
	refused_before = counted("twinspan_bus_refused_total", labels);
	struct owner owner = owner_new();
	table_put(owner.secrets, "node-a", text("tun-1"), text("secret"));
	table_commit(owner.secrets);
	table_complete(owner.secrets);
	pid_t wrong_service = start("esp.node-a", "resource", "tunnel_secret", "", NULL, 60000);
	pid_t wrong_node = start("ike.node-b", "resource", "tunnel_secret", "node-a", NULL, 60000);
	pid_t right_node = start("ike.node-a", "resource", "tunnel_secret", "", "tun-1", 60000);
	assert_true(run_until(&owner, all_three_have_their_answer, SECONDS(30)));
	run_until(&owner, never, MILLISECONDS(100)); // for what should not come
	assert_int_equal(result_of(wrong_service), 0);
	assert_int_equal(result_of(wrong_node), 0);
	assert_int_equal(result_of(right_node), 0);
	assert_true(counted("twinspan_bus_refused_total", labels) == refused_before + 1);
	assert_true(counted("twinspan_bus_refused_total", scope_labels) == 1);
	owner_free(&owner);
}

static bool other_node_has_its_snapshot(struct owner *owner)
{
	return table_applied(owner->secrets, "ike.node-b") > 0;
}

static void a_node_sees_its_own_rows_only(void **state)
{
	(void)state;
	struct owner owner = owner_new();
	table_put(owner.secrets, "node-a", text("tun-1"), text("secret"));
	table_commit(owner.secrets);
	table_complete(owner.secrets);
	pid_t other = start("ike.node-b", "resource", "tunnel_secret", "", "tun-1", 60000);
	assert_true(run_until(&owner, other_node_has_its_snapshot, SECONDS(30)));
	run_until(&owner, never, MILLISECONDS(100)); // for what should not come
	assert_int_equal(result_of(other), 1);       // an empty snapshot
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

static uint64_t failures_before;

static bool handshake_failed(struct owner *owner)
{
	(void)owner;
	return handshake_failures() > failures_before;
}

static void an_intruder_gets_nothing_and_is_counted(void **state)
{
	(void)state;
	static const char *const kinds[] = {"no-key", "unknown-key", "wrong-server-key"};
	struct owner owner = owner_new();
	table_put(owner.table, "", text("node-a"), text("A"));
	table_complete(owner.table);
	for (size_t i = 0; i < 3; i++) {
		failures_before = handshake_failures();
		const char *arguments[] = {"intrude", kinds[i], NULL};
		pid_t pid = spawn(arguments);
		assert_true(run_until(&owner, handshake_failed, SECONDS(30)));
		run_until(&owner, never, MILLISECONDS(100)); // for what should not come
		assert_int_equal(result_of(pid), 0);
	}
	assert_true(counted("twinspan_bus_handshake_failures_total", "reason=\"unknown key\"") > 0);
	owner_free(&owner);
}

static bool host_has_its_row(struct owner *owner)
{
	return table_applied(owner->table, "vrouter.host-9") > 0;
}

static void a_new_key_is_admitted_without_a_restart(void **state)
{
	(void)state;
	struct owner owner = owner_new();
	table_put(owner.table, "", text("node-a"), text("A"));
	table_complete(owner.table);
	run_until(&owner, never, MILLISECONDS(50));
	assert_true(bus_keys_write(directory, "vrouter.host-9"));
	pid_t pid = start("vrouter.host-9", "resource", "node", "", "node-a", 60000);
	assert_true(run_until(&owner, host_has_its_row, SECONDS(30)));
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
	deadline_arm(&survivor.limit, now() + SECONDS(30));
	loop_run(survivor.loop);
	assert_int_equal(survivor.calls, 1);
	assert_int_equal(replica_count(survivor.replica), 1000);
	assert_true(replica_owner_alive(survivor.replica));

	kill(first, SIGKILL);
	result_of(first);
	deadline_arm(&survivor.limit, now() + SECONDS(30));
	loop_run(survivor.loop);
	assert_true(survivor.died);
	assert_int_equal(replica_count(survivor.replica), 1000); // losing the owner is not losing the rows

	pid_t second = start_owner("second");
	deadline_arm(&survivor.limit, now() + SECONDS(30));
	loop_run(survivor.loop);
	assert_true(survivor.came_back && survivor.saw_difference && !survivor.saw_more);
	kill(second, SIGTERM);
	assert_int_equal(result_of(second), 0);
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
	struct bus *reader = bus_new(owner.loop, NULL, "esp.node-a");
	struct replica *replica = replica_new(reader, "resource", "node", "", on_clocked_row, &clocked);
	loop_run(owner.loop);
	assert_int_equal(clocked.count, 200);
	print_message("commit to callback: mean %lld us, worst %lld us\n", (long long)clocked.sum / 200,
	              (long long)clocked.worst);
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
	struct bus *asker = bus_new(owner.loop, NULL, "esp.node-a");
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
	int result = play_reader(arguments, count);
	if (result >= 0) {
		return result;
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
