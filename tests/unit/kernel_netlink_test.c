// Namespaces and rtnetlink against the kernel: needs root. Each run uses names of its own.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/kernel/namespace.h"
#include "common/kernel/netlink.h"
#include "common/kernel/segment.h"

struct world {
	char node_name[64], inner_name[64];
	int node, inner;
	struct netlink *in_node, *in_inner;
};

static struct address address_of(const char *text)
{
	struct address address;
	assert_true(address_parse(text, &address));
	return address;
}

static struct prefix prefix_text(const char *text)
{
	struct prefix prefix;
	assert_true(prefix_parse(text, &prefix));
	return prefix;
}

static int make_world(void **state)
{
	struct world *world = calloc(1, sizeof *world);
	snprintf(world->node_name, sizeof world->node_name, "twt-%d-node", getpid());
	snprintf(world->inner_name, sizeof world->inner_name, "twt-%d-inner", getpid());
	bool made;
	world->node = namespace_make(world->node_name, &made);
	assert_true(world->node >= 0 && made);
	world->inner = namespace_make(world->inner_name, &made);
	assert_true(world->inner >= 0 && made);
	world->in_node = netlink_new(world->node);
	world->in_inner = netlink_new(world->inner);
	assert_non_null(world->in_node);
	assert_non_null(world->in_inner);
	*state = world;
	return 0;
}

static int end_world(void **state)
{
	struct world *world = *state;
	netlink_free(&world->in_node);
	netlink_free(&world->in_inner);
	close(world->node);
	close(world->inner);
	assert_true(namespace_remove(world->node_name));
	assert_true(namespace_remove(world->inner_name));
	free(world);
	return 0;
}

static void count_name(void *context, const char *name)
{
	(void)name;
	++*(int *)context;
}

static void namespaces_are_made_taken_over_and_removed(void **state)
{
	struct world *world = *state;
	int before = namespace_current();
	struct stat a, b;
	fstat(before, &a);
	bool made;
	int again = namespace_make(world->node_name, &made);
	assert_true(again >= 0 && !made);
	fstat(again, &b);
	struct stat first;
	fstat(world->node, &first);
	assert_int_equal(first.st_ino, b.st_ino);
	close(again);
	int after = namespace_current();
	fstat(after, &b);
	assert_int_equal(a.st_ino, b.st_ino); // we never left ours
	close(before);
	close(after);

	char prefix[64];
	snprintf(prefix, sizeof prefix, "twt-%d-", getpid());
	int count = 0;
	namespace_list(prefix, count_name, &count);
	assert_int_equal(count, 2);
	assert_int_equal(namespace_open("twt-not-there"), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(namespace_make("../escape", NULL), -1);
	assert_int_equal(errno, EINVAL);
	assert_true(namespace_remove("twt-not-there"));

	// What a maker killed half-way leaves behind: a file that nothing is mounted on.
	char name[80], path[128];
	snprintf(name, sizeof name, "%shalf", prefix);
	snprintf(path, sizeof path, "/run/netns/%s", name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fclose(file);
	assert_int_equal(namespace_open(name), -1);
	int half = namespace_make(name, &made);
	assert_true(half >= 0 && made);
	close(half);
	assert_true(namespace_remove(name));
	assert_int_not_equal(access(path, F_OK), 0);
}

static void sysctls_are_the_namespaces_own(void **state)
{
	struct world *world = *state;
	char value[16];
	assert_true(namespace_sysctl(world->inner, "ipv4/fib_multipath_hash_policy", "1"));
	assert_true(namespace_sysctl_read(world->inner, "ipv4/fib_multipath_hash_policy", value, sizeof value));
	assert_string_equal(value, "1");
	assert_true(namespace_sysctl_read(world->node, "ipv4/fib_multipath_hash_policy", value, sizeof value));
	assert_string_equal(value, "0");
	assert_false(namespace_sysctl(world->inner, "ipv4/no_such_thing", "1"));
}

static struct netlink_vxlan segment(struct world *world)
{
	struct netlink_vxlan vxlan = {
	    .name = "att-test", .vni = 77, .local = address_of("10.255.0.11"), .port = 4789, .mtu = 1500};
	segment_mac(&vxlan.local, vxlan.mac);
	vxlan.into = world->inner;
	return vxlan;
}

static void a_vxlan_is_made_across_namespaces(void **state)
{
	struct world *world = *state;
	struct netlink_vxlan vxlan = segment(world);
	assert_int_equal(netlink_link_add_vxlan(world->in_node, &vxlan), 0);
	assert_int_equal(netlink_link_add_vxlan(world->in_node, &vxlan), -EEXIST);
	struct netlink_link link;
	assert_int_equal(netlink_link_find(world->in_node, "att-test", &link), -ENODEV);
	assert_int_equal(netlink_link_find(world->in_inner, "att-test", &link), 0);
	assert_string_equal(link.kind, "vxlan");
	assert_int_equal(link.vni, 77);
	assert_int_equal(link.vxlan_port, 4789);
	assert_int_equal(link.mtu, 1500);
	assert_true(address_equal(&link.vxlan_local, &vxlan.local));
	assert_memory_equal(link.mac, "\x02\x54\x0a\xff\x00\x0b", 6);
	assert_false(link.up);

	assert_int_equal(netlink_link_set_router(world->in_inner, link.index), 0);
	char value[16];
	assert_true(namespace_sysctl_read(world->inner, "ipv4/conf/att-test/forwarding", value, sizeof value));
	assert_string_equal(value, "1");
	assert_true(namespace_sysctl_read(world->inner, "ipv4/conf/att-test/rp_filter", value, sizeof value));
	assert_string_equal(value, "0");
	assert_true(namespace_sysctl_read(world->inner, "ipv6/conf/att-test/addr_gen_mode", value, sizeof value));
	assert_string_equal(value, "1");

	assert_int_equal(netlink_link_set_mtu(world->in_inner, link.index, 1400), 0);
	assert_int_equal(netlink_link_set_mac(world->in_inner, link.index, (const uint8_t *)"\x02\0\0\0\0\x09"), 0);
	assert_int_equal(netlink_link_rename(world->in_inner, link.index, "att-other"), 0);
	assert_int_equal(netlink_link_set_up(world->in_inner, link.index, true), 0);
	assert_int_equal(netlink_link_find(world->in_inner, "att-other", &link), 0);
	assert_true(link.up);
	assert_int_equal(link.mtu, 1400);
	assert_int_equal(link.mac[5], 9);
	assert_int_equal(netlink_link_remove(world->in_inner, link.index), 0);
	assert_int_equal(netlink_link_remove(world->in_inner, link.index), 0);
}

static void take_nexthop(void *context, const struct netlink_nexthop *nexthop)
{
	struct netlink_nexthop *out = context;
	if (nexthop->id == out->id) {
		*out = *nexthop;
	}
}

static void take_route(void *context, const struct netlink_route *route)
{
	struct netlink_route *out = context;
	if (prefix_equal(&route->destination, &out->destination) && route->table == out->table) {
		*out = *route;
	}
}

static void take_neighbour(void *context, const struct netlink_neighbour *neighbour)
{
	struct netlink_neighbour *out = context;
	if (neighbour->fdb == out->fdb && neighbour->index == out->index && address_equal(&neighbour->address, &out->address)) {
		*out = *neighbour;
	}
}

static void take_rule(void *context, const struct netlink_rule *rule)
{
	*(struct netlink_rule *)context = *rule;
}

static void take_address(void *context, const struct netlink_address *address)
{
	struct netlink_address *out = context;
	if (address->index == out->index && address->address.length == 4) {
		*out = *address;
	}
}

// Makes the device that the next tests use; the kernel takes nexthops only on a device that is up.
static int segment_up(struct world *world)
{
	struct netlink_vxlan vxlan = segment(world);
	struct netlink_link link;
	assert_int_equal(netlink_link_add_vxlan(world->in_node, &vxlan), 0);
	assert_int_equal(netlink_link_find(world->in_inner, "att-test", &link), 0);
	assert_int_equal(netlink_link_set_router(world->in_inner, link.index), 0);
	assert_int_equal(netlink_link_set_up(world->in_inner, link.index, true), 0);
	return link.index;
}

static void routes_go_through_groups_of_ipv6_nexthops(void **state)
{
	struct world *world = *state;
	struct netlink *netlink = world->in_inner;
	int index = segment_up(world);
	struct address a = address_of("10.255.0.12"), b = address_of("10.255.0.13");
	struct netlink_nexthop one = {.id = 1, .index = index, .via = segment_next_hop(&a)};
	struct netlink_nexthop two = {.id = 2, .index = index, .via = segment_next_hop(&b)};
	struct netlink_nexthop group = {.id = 100, .member_count = 2, .members = {1, 2}};
	assert_int_equal(netlink_nexthop_replace(netlink, &one), 0);
	assert_int_equal(netlink_nexthop_replace(netlink, &two), 0);
	assert_int_equal(netlink_nexthop_replace(netlink, &group), 0);
	struct netlink_nexthop got = {.id = 2};
	assert_int_equal(netlink_nexthops(netlink, take_nexthop, &got), 0);
	assert_true(address_equal(&got.via, &two.via) && got.index == index && got.member_count == 0);
	got = (struct netlink_nexthop){.id = 100};
	netlink_nexthops(netlink, take_nexthop, &got);
	assert_int_equal(got.member_count, 2);
	assert_int_equal(got.members[1], 2);

	struct netlink_route route = {
	    .table = 1000, .destination = prefix_text("192.168.0.0/16"), .nexthop_id = 100, .metric = 20};
	assert_int_equal(netlink_route_replace(netlink, &route), 0);
	assert_int_equal(netlink_route_replace(netlink, &route), 0);
	struct netlink_route found = {.table = 1000, .destination = route.destination};
	assert_int_equal(netlink_routes(netlink, take_route, &found), 0);
	assert_int_equal(found.nexthop_id, 100);
	assert_int_equal(found.metric, 20);
	assert_int_equal(found.index, 0);

	group.member_count = 1;
	assert_int_equal(netlink_nexthop_replace(netlink, &group), 0); // the route stays
	netlink_routes(netlink, take_route, &found);
	assert_int_equal(found.nexthop_id, 100);

	struct netlink_route plain = {.table = 1000, .destination = prefix_text("10.1.0.0/16"), .index = index, .via = one.via};
	assert_int_equal(netlink_route_replace(netlink, &plain), 0);
	found = (struct netlink_route){.table = 1000, .destination = plain.destination};
	netlink_routes(netlink, take_route, &found);
	assert_int_equal(found.index, index);
	assert_true(address_equal(&found.via, &one.via));
	plain.type = NETLINK_ROUTE_UNREACHABLE;
	assert_int_equal(netlink_route_replace(netlink, &plain), 0);
	found = (struct netlink_route){.table = 1000, .destination = plain.destination};
	netlink_routes(netlink, take_route, &found);
	assert_int_equal(found.type, NETLINK_ROUTE_UNREACHABLE);
	assert_int_equal(netlink_route_remove(netlink, &plain), 0);
	assert_int_equal(netlink_route_remove(netlink, &plain), 0);
	assert_int_equal(netlink_nexthop_remove(netlink, 100), 0);
	assert_int_equal(netlink_nexthop_remove(netlink, 100), 0);
	found = (struct netlink_route){.table = 1000, .destination = route.destination};
	netlink_routes(netlink, take_route, &found);
	assert_int_equal(found.nexthop_id, 0); // went with its group
}

static void count_route(void *context, const struct netlink_route *route)
{
	*(size_t *)context += route->table == 1000;
}

static size_t routes_of(struct netlink *netlink)
{
	size_t count = 0;
	assert_int_equal(netlink_routes(netlink, count_route, &count), 0);
	return count;
}

static struct netlink_route numbered_route(unsigned i, uint32_t nexthop_id)
{
	struct netlink_route route = {.table = 1000, .nexthop_id = nexthop_id};
	route.destination =
	    (struct prefix){.address = {.length = 4, .octets = {172, 16, (uint8_t)(i >> 8), (uint8_t)i}}, .length = 32};
	return route;
}

// Thousands of routes with few calls; a refusal among them is told, and the others are done.
static void routes_by_the_batch(void **state)
{
	struct world *world = *state;
	struct netlink *netlink = world->in_inner;
	struct address a = address_of("10.255.0.12");
	struct netlink_nexthop one = {.id = 1, .index = segment_up(world), .via = segment_next_hop(&a)};
	assert_int_equal(netlink_nexthop_replace(netlink, &one), 0);
	enum { ROUTES = 1234 };
	netlink_batch_begin(netlink);
	for (unsigned i = 0; i < ROUTES; i++) {
		struct netlink_route route = numbered_route(i, 1);
		netlink_batch_begin(netlink);
		assert_int_equal(netlink_route_replace(netlink, &route), 0);
	}
	assert_int_equal(routes_of(netlink), ROUTES); // another request has them done first
	assert_int_equal(netlink_batch_end(netlink), 0);
	netlink_batch_begin(netlink);
	for (unsigned i = 0; i < 300; i++) {
		struct netlink_route route = numbered_route(ROUTES + i, i == 150 ? 4711 : 1); // there is no nexthop 4711
		netlink_route_replace(netlink, &route);
	}
	assert_int_equal(netlink_batch_end(netlink), -EINVAL);
	assert_int_equal(routes_of(netlink), ROUTES + 299);
	assert_int_equal(netlink_batch_end(netlink), 0); // told once
	netlink_batch_begin(netlink);
	for (unsigned i = 0; i < ROUTES + 300; i++) { // what is not there is gone already
		struct netlink_route route = numbered_route(i, 0);
		netlink_route_remove(netlink, &route);
	}
	assert_int_equal(netlink_batch_end(netlink), 0);
	assert_int_equal(routes_of(netlink), 0);
	struct netlink_route route = numbered_route(7, 4711); // and each by itself again
	assert_int_equal(netlink_route_replace(netlink, &route), -EINVAL);
}

static void neighbours_addresses_and_rules(void **state)
{
	struct world *world = *state;
	struct netlink *netlink = world->in_inner;
	int index = segment_up(world);
	struct address member = address_of("10.255.0.12");
	struct netlink_neighbour neighbour = {.index = index, .address = segment_next_hop(&member)};
	struct netlink_neighbour fdb = {.index = index, .fdb = true, .address = member};
	segment_mac(&member, neighbour.mac);
	segment_mac(&member, fdb.mac);
	assert_int_equal(netlink_neighbour_replace(netlink, &neighbour), 0);
	assert_int_equal(netlink_neighbour_replace(netlink, &neighbour), 0);
	assert_int_equal(netlink_neighbour_replace(netlink, &fdb), 0);
	struct netlink_neighbour got = {.index = index, .address = neighbour.address};
	assert_int_equal(netlink_neighbours(netlink, take_neighbour, &got), 0);
	assert_memory_equal(got.mac, neighbour.mac, 6);
	got = (struct netlink_neighbour){.index = index, .fdb = true, .address = member};
	assert_int_equal(netlink_neighbours(netlink, take_neighbour, &got), 0);
	assert_memory_equal(got.mac, fdb.mac, 6);
	assert_int_equal(netlink_neighbour_remove(netlink, &neighbour), 0);
	assert_int_equal(netlink_neighbour_remove(netlink, &neighbour), 0);
	assert_int_equal(netlink_neighbour_remove(netlink, &fdb), 0);
	assert_int_equal(netlink_neighbour_remove(netlink, &fdb), 0);

	struct netlink_link bridge;
	assert_int_equal(netlink_link_add_bridge(netlink, "sub-test", (const uint8_t *)"\x02\0\0\0\0\x01", 1400), 0);
	assert_int_equal(netlink_link_find(netlink, "sub-test", &bridge), 0);
	assert_string_equal(bridge.kind, "bridge");
	struct netlink_address address = {.index = bridge.index, .address = address_of("10.0.1.1"), .length = 24};
	assert_int_equal(netlink_address_add(netlink, &address), 0);
	assert_int_equal(netlink_address_add(netlink, &address), 0);
	struct netlink_address found = {.index = bridge.index};
	assert_int_equal(netlink_addresses(netlink, take_address, &found), 0);
	assert_true(address_equal(&found.address, &address.address));
	assert_int_equal(found.length, 24);
	assert_int_equal(netlink_address_remove(netlink, &address), 0);
	assert_int_equal(netlink_address_remove(netlink, &address), 0);

	struct netlink_rule rule = {.priority = 100, .iif = "sub-test", .table = 1000}, listed = {0};
	assert_int_equal(netlink_rule_add(netlink, &rule), 0);
	assert_int_equal(netlink_rule_add(netlink, &rule), 0);
	assert_int_equal(netlink_rules(netlink, take_rule, &listed), 0);
	assert_int_equal(listed.table, 1000);
	assert_int_equal(listed.priority, 100);
	assert_string_equal(listed.iif, "sub-test");
	assert_int_equal(netlink_rule_remove(netlink, &rule), 0);
	assert_int_equal(netlink_rule_remove(netlink, &rule), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(namespaces_are_made_taken_over_and_removed, make_world, end_world),
	    cmocka_unit_test_setup_teardown(sysctls_are_the_namespaces_own, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_vxlan_is_made_across_namespaces, make_world, end_world),
	    cmocka_unit_test_setup_teardown(routes_go_through_groups_of_ipv6_nexthops, make_world, end_world),
	    cmocka_unit_test_setup_teardown(routes_by_the_batch, make_world, end_world),
	    cmocka_unit_test_setup_teardown(neighbours_addresses_and_rules, make_world, end_world),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
