// The vrouter core on a kernel of its own: it refuses what the real one refuses (a route to a group that is not there, a group
// of nexthops that are not there, a nexthop in a device that is not there), and drops with an object what stands on it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/base/random.h"
#include "services/vrouter/item.h"
#include "services/vrouter/vrouter.h"

// ---- the kernel ----
struct kernel {
	struct map *items; // of VPC "vpc-1", by item key
	size_t operations, sets[VROUTER_KIND_COUNT], removals[VROUTER_KIND_COUNT];
	size_t fail_at; // the operation that fails; 0: none
};

static struct vrouter_item *held(const struct kernel *kernel, const struct vrouter_item *item)
{
	struct item_key key = item_key(item);
	return map_find(kernel->items, item_key_bytes(&key));
}

static bool has_device(const struct kernel *kernel, enum vrouter_kind kind, const char *device)
{
	struct vrouter_item item = {.kind = kind};
	strcpy(item.device, device);
	return held(kernel, &item) != NULL;
}

static bool has_number(const struct kernel *kernel, enum vrouter_kind kind, uint32_t id)
{
	struct vrouter_item item = {.kind = kind};
	if (kind == VROUTER_GROUP) {
		item.group.id = id;
	} else {
		item.nexthop.id = id;
	}
	return held(kernel, &item) != NULL;
}

static void check_set(const struct kernel *kernel, const struct vrouter_item *item)
{
	assert_true(item->kind == VROUTER_NAMESPACE || held(kernel, &(struct vrouter_item){.kind = VROUTER_NAMESPACE}));
	switch (item->kind) {
	case VROUTER_NEXTHOP:
		assert_true(item->nexthop.id == VROUTER_BLACKHOLE || has_device(kernel, VROUTER_SEGMENT, item->device));
		break;
	case VROUTER_GROUP:
		assert_true(item->member_count > 0);
		for (size_t i = 0; i < item->member_count; i++) {
			assert_true(has_number(kernel, VROUTER_NEXTHOP, item->members[i]));
			assert_true(item->members[i] != VROUTER_BLACKHOLE || item->member_count == 1);
			assert_true(i == 0 || item->members[i - 1] < item->members[i]);
		}
		break;
	case VROUTER_ROUTE:
		if (item->route.group_id != 0) {
			assert_true(has_number(kernel, VROUTER_GROUP, item->route.group_id));
		} else {
			assert_true(item->device[0] == '\0' || has_device(kernel, VROUTER_BRIDGE, item->device));
		}
		break;
	case VROUTER_RULE:
		assert_true(has_device(kernel, VROUTER_BRIDGE, item->device));
		break;
	default:
		break;
	}
}

// Nothing may stand on what goes: it would go with it, and a packet be lost.
static void check_removal(const struct kernel *kernel, const struct vrouter_item *gone)
{
	struct map_cursor cursor = {0};
	while (map_next(kernel->items, &cursor)) {
		const struct vrouter_item *item = cursor.value;
		switch (gone->kind) {
		case VROUTER_GROUP:
			assert_true(item->kind != VROUTER_ROUTE || item->route.group_id != gone->group.id);
			break;
		case VROUTER_NEXTHOP:
			for (size_t i = 0; item->kind == VROUTER_GROUP && i < item->member_count; i++) {
				assert_true(item->members[i] != gone->nexthop.id);
			}
			break;
		default:
			break;
		}
	}
}

static bool apply(void *context, const struct vrouter_operation *operation)
{
	struct kernel *kernel = context;
	assert_string_equal(operation->vpc_id, "vpc-1");
	if (++kernel->operations == kernel->fail_at) {
		return false;
	}
	const struct vrouter_item *item = operation->item;
	struct item_key key = item_key(item);
	assert_true((operation->before == NULL) == (held(kernel, item) == NULL));
	if (!operation->remove) {
		assert_true(!operation->before || !item_equal(operation->before, item)); // only differences
		check_set(kernel, item);
		item_free(map_insert(kernel->items, item_key_bytes(&key), item_copy(item)));
		kernel->sets[item->kind]++;
	} else if (item->kind == VROUTER_NAMESPACE) {
		map_free(&kernel->items, item_free);
		kernel->items = map_new(NULL);
		kernel->removals[item->kind]++;
	} else {
		struct vrouter_item *gone = map_remove(kernel->items, item_key_bytes(&key));
		if (has_number(kernel, VROUTER_NEXTHOP, VROUTER_BLACKHOLE) && item->kind != VROUTER_SEGMENT) {
			check_removal(kernel, gone);
		}
		item_free(gone);
		kernel->removals[item->kind]++;
	}
	return true;
}

static void read_back(struct vrouter *vrouter, const struct kernel *kernel)
{
	struct vrouter_item *items = allocate_array(map_count(kernel->items) + 1, sizeof *items);
	size_t count = 0;
	struct map_cursor cursor = {0};
	while (map_next(kernel->items, &cursor)) {
		items[count++] = *(struct vrouter_item *)cursor.value;
	}
	vrouter_read(vrouter, "vpc-1", items, count);
	free(items);
}

static void forget_counts(struct kernel *kernel)
{
	struct map *items = kernel->items;
	*kernel = (struct kernel){.items = items};
}

// ---- a small region ----
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

static void set_group(struct vrouter *vrouter, const char *id, const char *a, const char *b)
{
	const char *nodes[] = {a, b};
	vrouter_set_group(vrouter, id, &(struct vrouter_group){nodes, (size_t)(a != NULL) + (b != NULL)});
}

static void set_subnet(struct vrouter *vrouter, const char *id, const char *cidr, const char *gateway, const char *table)
{
	vrouter_set_subnet(vrouter, id, &(struct vrouter_subnet){"vpc-1", table, prefix_text(cidr), address_of(gateway)});
}

static void set_route(struct vrouter *vrouter, const char *destination, const char *attachment, const char *group,
                      bool is_static)
{
	char key[100];
	snprintf(key, sizeof key, "rtb-1/%s/%s/%s", destination, is_static ? "STATIC" : "PROPAGATED", attachment);
	vrouter_set_route(vrouter, key,
	                  &(struct vrouter_route){.vpc_id = "vpc-1",
	                                          .table_id = "rtb-1",
	                                          .destination = prefix_text(destination),
	                                          .attachment_id = attachment,
	                                          .group_id = group,
	                                          .is_static = is_static});
}

static void remove_route(struct vrouter *vrouter, const char *destination, const char *attachment, bool is_static)
{
	char key[100];
	snprintf(key, sizeof key, "rtb-1/%s/%s/%s", destination, is_static ? "STATIC" : "PROPAGATED", attachment);
	vrouter_set_route(vrouter, key, NULL);
}

static void set_vpc(struct vrouter *vrouter, const char *host)
{
	struct prefix block = prefix_text("10.0.0.0/16");
	vrouter_set_vpc(vrouter, "vpc-1", &(struct vrouter_vpc){host, &block, 1});
}

static void set_attachment(struct vrouter *vrouter, const char *id, const char *gateway, uint32_t vni)
{
	vrouter_set_attachment(vrouter, id, &(struct vrouter_attachment){"vpc-1", gateway, vni});
}

static void set_gateway(struct vrouter *vrouter, const char *id)
{
	const char *nodes[] = {"node-a", "node-b"};
	vrouter_set_gateway(vrouter, id, &(struct vrouter_gateway){nodes, 2});
}

static struct vrouter *region(void)
{
	struct vrouter *vrouter = vrouter_new("host-1");
	struct address host = address_of("10.255.0.21"), a = address_of("10.255.0.11"), b = address_of("10.255.0.12");
	vrouter_set_host(vrouter, "host-1", &host);
	vrouter_set_node(vrouter, "node-a", &a);
	vrouter_set_node(vrouter, "node-b", &b);
	set_gateway(vrouter, "bgw-1");
	set_vpc(vrouter, "host-1");
	vrouter_set_table(vrouter, "rtb-1", "vpc-1");
	set_subnet(vrouter, "sub-1", "10.0.1.0/24", "10.0.1.1", "rtb-1");
	set_attachment(vrouter, "att-1", "bgw-1", 77);
	set_group(vrouter, "nhg-1", "node-a", "node-b");
	set_route(vrouter, "192.168.0.0/16", "att-1", "nhg-1", false);
	return vrouter;
}

static const struct vrouter_item *route_to(const struct kernel *kernel, const char *destination)
{
	struct prefix prefix = prefix_text(destination);
	struct map_cursor cursor = {0};
	while (map_next(kernel->items, &cursor)) {
		const struct vrouter_item *item = cursor.value;
		if (item->kind == VROUTER_ROUTE && prefix_equal(&item->route.destination, &prefix)) {
			return item;
		}
	}
	return NULL;
}

static const struct vrouter_item *group_of(const struct kernel *kernel, const char *destination)
{
	const struct vrouter_item *route = route_to(kernel, destination);
	assert_non_null(route);
	struct vrouter_item group = {.kind = VROUTER_GROUP, .group.id = route->route.group_id};
	return held(kernel, &group);
}

struct world {
	struct kernel kernel;
	struct vrouter *vrouter;
};

static int make_world(void **state)
{
	struct world *world = calloc(1, sizeof *world);
	world->kernel.items = map_new(NULL);
	world->vrouter = region();
	vrouter_read(world->vrouter, "vpc-1", NULL, 0);
	vrouter_settle(world->vrouter, apply, &world->kernel);
	*state = world;
	return 0;
}

static int end_world(void **state)
{
	struct world *world = *state;
	vrouter_free(&world->vrouter);
	map_free(&world->kernel.items, item_free);
	free(world);
	return 0;
}

static void a_vpc_is_realised(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	assert_int_equal(kernel->sets[VROUTER_NAMESPACE], 1);
	assert_int_equal(kernel->sets[VROUTER_BRIDGE], 1);
	assert_int_equal(kernel->sets[VROUTER_SEGMENT], 1);
	assert_int_equal(kernel->sets[VROUTER_NEXTHOP], 3);
	assert_int_equal(kernel->sets[VROUTER_GROUP], 1);
	assert_int_equal(kernel->sets[VROUTER_RULE], 1);
	assert_string_equal(route_to(kernel, "10.0.1.0/24")->device, "sub-1");
	assert_string_equal(route_to(kernel, "10.0.0.0/16")->device, ""); // what is no subnet: unreachable
	assert_int_equal(route_to(kernel, "10.0.0.0/16")->route.group_id, 0);
	assert_string_equal(route_to(kernel, "169.254.0.0/16")->device, "");
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->member_count, 2);
	struct vrouter_item rule = {.kind = VROUTER_RULE, .device = "sub-1"};
	assert_int_equal(held(kernel, &rule)->rule.table, route_to(kernel, "192.168.0.0/16")->route.table);
	forget_counts(kernel);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(kernel->operations, 0);
}

static void a_lost_node_is_one_operation(void **state)
{
	struct world *world = *state;
	for (int i = 0; i < 50; i++) {
		char text[32];
		snprintf(text, sizeof text, "172.16.%d.0/24", i);
		set_route(world->vrouter, text, "att-1", "nhg-1", false);
	}
	vrouter_settle(world->vrouter, apply, &world->kernel);
	forget_counts(&world->kernel);
	set_group(world->vrouter, "nhg-1", "node-b", NULL);
	vrouter_settle(world->vrouter, apply, &world->kernel);
	assert_int_equal(world->kernel.operations, 1);
	assert_int_equal(world->kernel.sets[VROUTER_GROUP], 1);
	assert_int_equal(group_of(&world->kernel, "172.16.7.0/24")->member_count, 1);
	// Two tunnels on one node are one next hop.
	forget_counts(&world->kernel);
	set_group(world->vrouter, "nhg-1", "node-b", "node-b");
	vrouter_settle(world->vrouter, apply, &world->kernel);
	assert_int_equal(world->kernel.operations, 0);
	// None alive: the routes stay and drop.
	set_group(world->vrouter, "nhg-1", NULL, NULL);
	vrouter_settle(world->vrouter, apply, &world->kernel);
	assert_int_equal(world->kernel.operations, 1);
	assert_int_equal(group_of(&world->kernel, "172.16.7.0/24")->members[0], VROUTER_BLACKHOLE);
	set_group(world->vrouter, "nhg-1", "node-a", NULL);
	vrouter_settle(world->vrouter, apply, &world->kernel);
	assert_int_equal(world->kernel.operations, 2);
	assert_int_not_equal(group_of(&world->kernel, "172.16.7.0/24")->members[0], VROUTER_BLACKHOLE);
}

static void a_route_waits_for_its_group_and_keeps_the_old_one(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	set_route(world->vrouter, "172.16.0.0/16", "att-1", "nhg-2", false); // the group's row comes later
	set_route(world->vrouter, "192.168.0.0/16", "att-1", "nhg-2", false);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_null(route_to(kernel, "172.16.0.0/16"));
	uint32_t old = route_to(kernel, "192.168.0.0/16")->route.group_id;
	set_group(world->vrouter, "nhg-2", "node-a", NULL);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_not_equal(route_to(kernel, "192.168.0.0/16")->route.group_id, old);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->member_count, 1);
	assert_int_equal(kernel->removals[VROUTER_GROUP], 1); // the old group, unused
	// A group whose row goes while routes use it drops their traffic.
	vrouter_set_group(world->vrouter, "nhg-2", NULL);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->members[0], VROUTER_BLACKHOLE);
	remove_route(world->vrouter, "172.16.0.0/16", "att-1", false);
	remove_route(world->vrouter, "192.168.0.0/16", "att-1", false);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_null(route_to(kernel, "172.16.0.0/16"));
	assert_int_equal(vrouter_counts(world->vrouter).items[VROUTER_GROUP], 0);
}

static void a_static_route_uses_the_nodes_that_are_not_gone(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	set_route(world->vrouter, "192.168.0.0/16", "att-1", "", true); // before the propagated one
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->member_count, 2);
	vrouter_set_node_gone(world->vrouter, "node-a", true);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->member_count, 1);
	vrouter_set_node_gone(world->vrouter, "node-b", true); // rather we are cut off than all of them
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->member_count, 2);
	set_group(world->vrouter, "nhg-1", "node-b", NULL);
	remove_route(world->vrouter, "192.168.0.0/16", "att-1", true);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->member_count, 1); // the propagated one again
}

static void the_vpcs_own_ranges_come_first(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	set_route(world->vrouter, "10.0.0.0/16", "att-1", "nhg-1", true);
	set_route(world->vrouter, "169.254.0.0/16", "att-1", "nhg-1", true);
	set_route(world->vrouter, "10.0.2.0/24", "att-1", "nhg-1", true);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(route_to(kernel, "10.0.0.0/16")->route.group_id, 0);
	assert_int_equal(route_to(kernel, "169.254.0.0/16")->route.group_id, 0);
	set_subnet(world->vrouter, "sub-2", "10.0.2.0/24", "10.0.2.1", "rtb-1");
	vrouter_settle(world->vrouter, apply, kernel);
	assert_string_equal(route_to(kernel, "10.0.2.0/24")->device, "sub-2");
	vrouter_set_subnet(world->vrouter, "sub-2", NULL);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_not_equal(route_to(kernel, "10.0.2.0/24")->route.group_id, 0);
	// A subnet as large as its VPC.
	set_subnet(world->vrouter, "sub-1", "10.0.0.0/16", "10.0.0.1", "rtb-1");
	vrouter_settle(world->vrouter, apply, kernel);
	assert_string_equal(route_to(kernel, "10.0.0.0/16")->device, "sub-1");
}

static void a_restart_changes_nothing_that_is_right(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	set_route(world->vrouter, "172.16.0.0/16", "att-1", "", true);
	vrouter_settle(world->vrouter, apply, kernel);
	forget_counts(kernel);
	struct vrouter *second = region();
	set_route(second, "172.16.0.0/16", "att-1", "", true);
	vrouter_settle(second, apply, kernel);
	assert_int_equal(kernel->operations, 0); // it has not read yet
	assert_string_equal(vrouter_unread(second), "vpc-1");
	read_back(second, kernel);
	assert_null(vrouter_unread(second));
	vrouter_settle(second, apply, kernel);
	assert_int_equal(kernel->operations, 0);
	// What the earlier one left and nobody wants goes; what is missing comes.
	struct vrouter *third = region();
	remove_route(third, "192.168.0.0/16", "att-1", false);
	set_route(third, "192.168.1.0/24", "att-1", "nhg-1", false);
	read_back(third, kernel);
	vrouter_settle(third, apply, kernel);
	assert_null(route_to(kernel, "192.168.0.0/16"));
	assert_null(route_to(kernel, "172.16.0.0/16"));
	assert_non_null(route_to(kernel, "192.168.1.0/24"));
	assert_int_equal(kernel->operations, 4);
	vrouter_free(&second);
	vrouter_free(&third);
}

static void a_failed_operation_is_followed_by_a_reading(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	forget_counts(kernel);
	kernel->fail_at = 2;
	set_attachment(world->vrouter, "att-2", "bgw-1", 78);
	set_route(world->vrouter, "172.16.0.0/16", "att-2", "nhg-1", false);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(kernel->operations, 2);
	assert_string_equal(vrouter_unread(world->vrouter), "vpc-1");
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(kernel->operations, 2);
	read_back(world->vrouter, kernel);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->member_count, 2);
}

static void a_vpc_that_moves_away_leaves_nothing(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	set_vpc(world->vrouter, "host-2");
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(map_count(kernel->items), 0);
	assert_int_equal(kernel->removals[VROUTER_NAMESPACE], 1);
	assert_int_equal(vrouter_counts(world->vrouter).vpcs, 0);
	set_vpc(world->vrouter, "host-1");
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->member_count, 2);
	vrouter_set_vpc(world->vrouter, "vpc-1", NULL);
	remove_route(world->vrouter, "192.168.0.0/16", "att-1", false);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(map_count(kernel->items), 0);
	assert_null(vrouter_unread(world->vrouter));
}

// One random change of the region; the same numbers make the same change.
static void change(struct vrouter *vrouter, struct random *random)
{
	static const char *const nodes[] = {"node-a", "node-b", "node-c", NULL};
	static const char *const gateways[] = {"bgw-1", "bgw-2"}, *const attachments[] = {"att-1", "att-2", "att-3"};
	static const char *const groups[] = {"nhg-1", "nhg-2", "nhg-3", ""}, *const tables[] = {"rtb-1", "rtb-2"};
	static const char *const subnets[] = {"sub-1", "sub-2"}, *const cidrs[] = {"10.0.1.0/24", "10.0.2.0/24"};
	static const char *const gateway_addresses[] = {"10.0.1.1", "10.0.2.1"};
	bool removed = random_below(random, 3) == 0;
	uint32_t what = random_below(random, 12), x = random_below(random, 3), y = random_below(random, 4),
	         z = random_below(random, 4);
	const char *names[] = {nodes[x], nodes[y]};
	size_t count = random_below(random, nodes[y] ? 3 : 2);
	struct address fabric = address_of("10.255.0.0");
	char text[64], key[100];
	switch (what) {
	case 0:
		fabric.octets[3] = (uint8_t)(11 + x);
		vrouter_set_node(vrouter, nodes[x], removed ? NULL : &fabric);
		break;
	case 1:
		vrouter_set_node_gone(vrouter, nodes[x], removed);
		break;
	case 2:
		vrouter_set_gateway(vrouter, gateways[x % 2], removed ? NULL : &(struct vrouter_gateway){names, count});
		break;
	case 3:
		if (removed && z == 0) {
			vrouter_set_vpc(vrouter, "vpc-1", NULL);
		} else {
			set_vpc(vrouter, z == 1 ? "host-2" : "host-1");
		}
		break;
	case 4:
		vrouter_set_table(vrouter, tables[x % 2], removed ? NULL : "vpc-1");
		break;
	case 5:
		if (removed) {
			vrouter_set_subnet(vrouter, subnets[x % 2], NULL);
		} else {
			set_subnet(vrouter, subnets[x % 2], cidrs[x % 2], gateway_addresses[x % 2], tables[y % 2]);
		}
		break;
	case 6:
		if (removed) {
			vrouter_set_attachment(vrouter, attachments[x], NULL);
		} else {
			set_attachment(vrouter, attachments[x], gateways[y % 2], 70 + x);
		}
		break;
	case 7:
	case 8:
		vrouter_set_group(vrouter, groups[x], removed ? NULL : &(struct vrouter_group){names, count});
		break;
	default:
		snprintf(text, sizeof text, "172.16.%u.0/24", z);
		snprintf(key, sizeof key, "%s/%s/%u", tables[x % 2], text, y % 2);
		vrouter_set_route(vrouter, key,
		                  removed ? NULL
		                          : &(struct vrouter_route){.vpc_id = "vpc-1",
		                                                    .table_id = tables[x % 2],
		                                                    .destination = prefix_text(text),
		                                                    .attachment_id = attachments[x],
		                                                    .group_id = groups[random_below(random, 4)],
		                                                    .is_static = y % 2,
		                                                    .metric = y});
		break;
	}
}

// However the rows came, and whatever failed on the way, the kernel ends up as one that got a restarted vrouter's whole view at
// once, but for routes that wait for a row: those a restarted one has not, so groups are all made known first.
static void any_order_ends_the_same(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 400; seed++) {
		struct random random;
		random_init_number(&random, seed);
		struct kernel kernel = {.items = map_new(NULL)};
		struct vrouter *vrouter = region();
		read_back(vrouter, &kernel);
		for (int step = 0; step < 60; step++) {
			change(vrouter, &random);
			if (random_below(&random, 4) > 0) {
				kernel.fail_at =
				    random_below(&random, 20) == 0 ? kernel.operations + 1 + random_below(&random, 5) : 0;
				vrouter_settle(vrouter, apply, &kernel);
				if (vrouter_unread(vrouter)) {
					read_back(vrouter, &kernel);
				}
			}
		}
		kernel.fail_at = 0;
		vrouter_settle(vrouter, apply, &kernel);
		if (vrouter_unread(vrouter)) {
			read_back(vrouter, &kernel);
			vrouter_settle(vrouter, apply, &kernel);
		}
		// Again from nothing: the same changes, then one settle on an empty kernel.
		struct kernel fresh = {.items = map_new(NULL)};
		struct vrouter *other = region();
		random_init_number(&random, seed);
		for (int step = 0; step < 60; step++) {
			change(other, &random);
			if (random_below(&random, 4) > 0) {
				if (random_below(&random, 20) == 0) {
					random_below(&random, 5);
				}
			}
		}
		read_back(other, &fresh);
		vrouter_settle(other, apply, &fresh);
		struct map_cursor cursor = {0};
		while (map_next(fresh.items, &cursor)) {
			const struct vrouter_item *expected = cursor.value, *got = held(&kernel, expected);
			assert_non_null(got);
			if (expected->kind != VROUTER_ROUTE) {
				assert_true(item_equal(expected, got));
			}
		}
		struct vrouter_counts counts = vrouter_counts(vrouter), others = vrouter_counts(other);
		assert_int_equal(counts.vpcs, others.vpcs);
		for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
			assert_true(kind == VROUTER_ROUTE || kind == VROUTER_GROUP || counts.items[kind] == others.items[kind]);
		}
		vrouter_free(&vrouter);
		vrouter_free(&other);
		map_free(&kernel.items, item_free);
		map_free(&fresh.items, item_free);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_vpc_is_realised, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_lost_node_is_one_operation, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_route_waits_for_its_group_and_keeps_the_old_one, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_static_route_uses_the_nodes_that_are_not_gone, make_world, end_world),
	    cmocka_unit_test_setup_teardown(the_vpcs_own_ranges_come_first, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_restart_changes_nothing_that_is_right, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_failed_operation_is_followed_by_a_reading, make_world, end_world),
	    cmocka_unit_test_setup_teardown(a_vpc_that_moves_away_leaves_nothing, make_world, end_world),
	    cmocka_unit_test(any_order_ends_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
