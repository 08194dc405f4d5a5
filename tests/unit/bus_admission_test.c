// A service of one node says something of another node's tunnels, or of another node: an owner and a replica with nothing
// between them.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/bus/owner.h"
#include "common/bus/limits.h"
#include "common/bus/replica.h"

enum { FRAMES = 64 };

struct frame {
	bool to_owner;
	struct bytes octets;
};

struct bench {
	const char *owner_identity, *reader;
	struct bus_owner *owner;
	struct bus_link *link;
	struct replica *replica;
	struct bus_admission *admission;
	struct frame frames[FRAMES];
	size_t frame_count;
	unsigned refused, waiting;
	char said[512]; // the last change: "+key=value " and "-key "
};

static void queue(struct bench *bench, bool to_owner, struct bytes octets)
{
	assert_true(bench->frame_count < FRAMES);
	uint8_t *copy = allocate(octets.length + 1);
	memcpy(copy, octets.data, octets.length);
	bench->frames[bench->frame_count++] = (struct frame){to_owner, {copy, octets.length}};
}

static bool owner_send(void *context, struct bytes peer, struct bytes frame)
{
	(void)peer;
	queue(context, false, frame);
	return true;
}

static void link_send(void *context, struct bytes frame)
{
	queue(context, true, frame);
}

static void nothing(void *context)
{
	(void)context;
}

static void refused(void *context, const char *reader, const char *table, const char *reason)
{
	(void)context, (void)reader;
	fail_msg("%s: %s", table, reason);
}

static void ready(void *context, const char *table, bool is)
{
	(void)context, (void)table, (void)is;
}

static enum row_verdict judge(void *context, const char *table, struct bytes key)
{
	struct bench *bench = context;
	enum row_verdict verdict =
	    bus_admission_judge(bench->admission, table_rule_find(table), bench->owner_identity, bench->reader, key);
	bench->refused += verdict == ROW_REFUSED;
	bench->waiting += verdict == ROW_WAITING;
	return verdict;
}

static void changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bench *bench = context;
	size_t length = 0;
	for (size_t i = 0; i < count; i++) {
		length += (size_t)snprintf(bench->said + length, sizeof bench->said - length, "%c%.*s%s%.*s ",
		                           rows[i].removed ? '-' : '+', (int)rows[i].key.length, (const char *)rows[i].key.data,
		                           rows[i].removed ? "" : "=", rows[i].removed ? 0 : (int)rows[i].value.length,
		                           (const char *)rows[i].value.data);
	}
}

static void exchange(struct bench *bench)
{
	bench->said[0] = '\0';
	for (size_t i = 0; i < bench->frame_count; i++) {
		struct frame frame = bench->frames[i];
		if (frame.to_owner) {
			bus_owner_receive(bench->owner, text_bytes("peer"), bench->reader, frame.octets);
		} else {
			bus_link_receive(bench->link, frame.octets);
		}
		free((uint8_t *)(uintptr_t)frame.octets.data);
	}
	bench->frame_count = 0;
}

static struct table *bench_init(struct bench *bench, const char *owner, const char *table, const char *reader)
{
	*bench = (struct bench){.owner_identity = owner, .reader = reader, .admission = bus_admission_new()};
	const struct bus_owner_world owner_world = {
	    .send = owner_send, .refused = refused, .unsettled = nothing, .context = bench};
	const struct bus_link_world link_world = {.send = link_send, .ready = ready, .judge = judge, .context = bench};
	bench->owner = bus_owner_new(owner, 1, &owner_world);
	bench->link = bus_link_new(4, &link_world);
	bench->replica = bus_link_replica(bench->link, table, "", changed, bench);
	bus_link_up(bench->link);
	struct table *own = bus_owner_table(bench->owner, table);
	assert_non_null(own);
	return own;
}

static void bench_fini(struct bench *bench)
{
	bus_link_free(&bench->link);
	bus_owner_free(&bench->owner);
	bus_admission_free(&bench->admission);
	for (size_t i = 0; i < bench->frame_count; i++) {
		free((uint8_t *)(uintptr_t)bench->frames[i].octets.data);
	}
}

static void put(struct table *table, const char *key, const char *value)
{
	table_put(table, "", text_bytes(key), text_bytes(value));
}

static void place(struct bench *bench, const char *tunnel, const char *node)
{
	bool moved;
	bench->said[0] = '\0';
	if (bus_admission_place(bench->admission, text_bytes(tunnel), node, &moved)) {
		struct map *tunnels = map_new(NULL);
		map_insert_text(tunnels, tunnel, moved ? bench : NULL);
		bus_link_reconsider(bench->link, tunnels);
		map_free(&tunnels, NULL);
	}
}

static void another_nodes_tunnels_are_refused(const char *owner, const char *name, const char *suffix)
{
	struct bench bench;
	struct table *table = bench_init(&bench, owner, name, "route");
	char key_a[32], key_b[32];
	snprintf(key_a, sizeof key_a, "tun-a%s", suffix);
	snprintf(key_b, sizeof key_b, "tun-b%s", suffix);
	place(&bench, "tun-a", "node-a");
	place(&bench, "tun-b", "node-b");
	put(table, key_a, "forged");
	put(table, key_b, "true");
	table_complete(table);
	exchange(&bench);
	struct bytes value;
	assert_true(replica_find(bench.replica, text_bytes(key_b), &value));
	assert_false(replica_find(bench.replica, text_bytes(key_a), &value));
	assert_int_equal(bench.refused, 1);
	// Neither a change of it is seen, nor that it goes.
	put(table, key_a, "again");
	table_commit(table);
	exchange(&bench);
	assert_string_equal(bench.said, "");
	assert_int_equal(bench.refused, 2);
	table_remove(table, text_bytes(key_a));
	table_commit(table);
	exchange(&bench);
	assert_string_equal(bench.said, "");
	for (int tick = 0; tick < BUS_LAZY_TICKS; tick++) {
		bus_link_tick(bench.link);
	}
	exchange(&bench);
	assert_int_equal(table_applied(table, "route"), table_sequence(table)); // it was taken, and answered
	bench_fini(&bench);
}

static void in_every_table_of_tunnels(void **state)
{
	(void)state;
	another_nodes_tunnels_are_refused("ike.node-b", "tunnel_status", "");
	another_nodes_tunnels_are_refused("bgp.node-b", "bgp_session", "");
	another_nodes_tunnels_are_refused("bgp.node-b", "learned_route", "/10.0.0.0/8");
}

static void what_is_not_known_yet_waits(void **state)
{
	(void)state;
	struct bench bench;
	struct table *table = bench_init(&bench, "ike.node-b", "tunnel_event", "resource");
	put(table, "tun-x/1", "one");
	put(table, "tun-x/2", "two");
	put(table, "tun-y/1", "other");
	table_complete(table);
	exchange(&bench);
	assert_int_equal(bench.waiting, 3);
	assert_string_equal(bench.said, "");
	place(&bench, "tun-x", "node-b");
	assert_string_equal(bench.said, "+tun-x/1=one +tun-x/2=two ");
	place(&bench, "tun-x", "node-b"); // no news
	assert_string_equal(bench.said, "");
	place(&bench, "tun-y", "node-a"); // another's: refused now
	assert_string_equal(bench.said, "");
	assert_int_equal(bench.refused, 1);
	// It moves here, and the other one away.
	place(&bench, "tun-y", "node-b");
	assert_string_equal(bench.said, "+tun-y/1=other ");
	place(&bench, "tun-x", "node-a");
	assert_string_equal(bench.said, "-tun-x/1 -tun-x/2 ");
	place(&bench, "tun-x", "node-b");
	assert_string_equal(bench.said, "+tun-x/1=one +tun-x/2=two ");
	// Of a tunnel that is gone nothing new is shown, and what is said then takes the earlier word back.
	place(&bench, "tun-x", NULL);
	put(table, "tun-x/2", "late");
	table_commit(table);
	exchange(&bench);
	assert_string_equal(bench.said, "-tun-x/2 ");
	bench_fini(&bench);
}

static void a_node_speaks_for_itself(void **state)
{
	(void)state;
	struct bench bench;
	struct table *table = bench_init(&bench, "esp.node-b", "node_status", "vrouter");
	put(table, "node-a", "forged");
	put(table, "node-b", "true");
	table_complete(table);
	exchange(&bench);
	struct bytes value;
	assert_false(replica_find(bench.replica, text_bytes("node-a"), &value));
	assert_true(replica_find(bench.replica, text_bytes("node-b"), &value));
	assert_int_equal(bench.refused, 1);
	bench_fini(&bench);
}

static void on_its_own_node_it_is_believed(void **state)
{
	(void)state;
	struct bus_admission *admission = bus_admission_new();
	const struct table_rule *rule = table_rule_find("tunnel_status");
	bool moved;
	bus_admission_place(admission, text_bytes("tun-a"), "node-a", &moved);
	assert_int_equal(bus_admission_judge(admission, rule, "ike.node-b", "bgp.node-b", text_bytes("tun-z")), ROW_SHOWN);
	assert_int_equal(bus_admission_judge(admission, rule, "ike.node-b", "route", text_bytes("tun-z")), ROW_WAITING);
	assert_int_equal(bus_admission_judge(admission, rule, "ike.node-b", "route", text_bytes("tun-a")), ROW_REFUSED);
	assert_int_equal(bus_admission_judge(admission, rule, "ike.node-a", "route", text_bytes("tun-a/x")), ROW_SHOWN);
	assert_int_equal(bus_admission_judge(admission, table_rule_find("node"), "resource", "route", text_bytes("node-a")),
	                 ROW_SHOWN);
	bus_admission_free(&admission);
}

// Two replicas of one table over one connection: both are told of each change.
static void replicas_of_one_table_stand_side_by_side(void **state)
{
	(void)state;
	struct bench bench;
	struct table *table = bench_init(&bench, "resource", "node", "route");
	struct replica *second = bus_link_replica(bench.link, "node", "", changed, &bench);
	put(table, "node-a", "A");
	table_complete(table);
	exchange(&bench);
	assert_int_equal(bus_owner_streams(bench.owner), 2);
	put(table, "node-b", "B");
	table_commit(table);
	exchange(&bench);
	struct bytes value;
	assert_true(replica_find(bench.replica, text_bytes("node-b"), &value));
	assert_true(replica_find(second, text_bytes("node-b"), &value));
	// Each keeps one stream, however often it is opened.
	bus_link_down(bench.link);
	bus_link_up(bench.link);
	exchange(&bench);
	assert_int_equal(bus_owner_streams(bench.owner), 2);
	bench_fini(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(in_every_table_of_tunnels),
	    cmocka_unit_test(what_is_not_known_yet_waits),
	    cmocka_unit_test(a_node_speaks_for_itself),
	    cmocka_unit_test(on_its_own_node_it_is_believed),
	    cmocka_unit_test(replicas_of_one_table_stand_side_by_side),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
