// What the vrouter core makes of the rows, object by object.
#include "tests/unit/vrouter_world.h"

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

// A node whose esp is silent is skipped at once, whatever the group says; a group that has no other keeps it.
static void a_silent_node_is_skipped_without_route(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	uint32_t both[2];
	memcpy(both, group_of(kernel, "192.168.0.0/16")->members, sizeof both);
	set_group(world->vrouter, "nhg-2", "node-a", NULL);
	set_route(world->vrouter, "172.16.0.0/16", "att-1", "nhg-2", false);
	vrouter_settle(world->vrouter, apply, kernel);
	uint32_t of_a = group_of(kernel, "172.16.0.0/16")->members[0];
	forget_counts(kernel);
	vrouter_set_node_gone(world->vrouter, "node-a", true);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(kernel->operations, 1); // one object, whatever the number of routes
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->member_count, 1);
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->members[0], both[0] == of_a ? both[1] : both[0]);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->members[0], of_a); // rather not believed
	set_group(world->vrouter, "nhg-1", "node-a", NULL);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->members[0], of_a);
	vrouter_set_node_gone(world->vrouter, "node-a", false);
	set_group(world->vrouter, "nhg-1", "node-a", "node-b");
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "192.168.0.0/16")->member_count, 2);
}

static void set_propagated(struct vrouter *vrouter, const char *gateway, const char *attachment, const char *group,
                           uint32_t metric)
{
	char key[64];
	snprintf(key, sizeof key, "rtb-1/172.16.0.0/16/PROPAGATED/%s", gateway);
	vrouter_set_route(vrouter, key,
	                  &(struct vrouter_route){.vpc_id = "vpc-1",
	                                          .table_id = "rtb-1",
	                                          .destination = prefix_text("172.16.0.0/16"),
	                                          .attachment_id = attachment,
	                                          .group_id = group,
	                                          .metric = metric});
}

static void equal_routes_through_two_gateways_forward_together(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	set_gateway(world->vrouter, "bgw-2");
	set_attachment(world->vrouter, "att-2", "bgw-2", 78);
	set_group(world->vrouter, "nhg-2", "node-b", NULL);
	set_propagated(world->vrouter, "bgw-1", "att-1", "nhg-1", 1);
	set_propagated(world->vrouter, "bgw-2", "att-2", "nhg-2", 1);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->member_count, 3); // two in one segment, one in the other
	// A member that fails, in either, is one change of the one object.
	forget_counts(kernel);
	set_group(world->vrouter, "nhg-1", "node-a", NULL);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(kernel->sets[VROUTER_GROUP], 2); // that of 192.168.0.0/16 too
	assert_int_equal(kernel->operations, 2);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->member_count, 2);
	set_group(world->vrouter, "nhg-2", NULL, NULL);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->member_count, 1);
	set_group(world->vrouter, "nhg-2", "node-b", NULL);
	// The same group through the same attachments, in whatever order the rows came.
	uint32_t id = route_to(kernel, "172.16.0.0/16")->route.group_id;
	set_propagated(world->vrouter, "bgw-1", "att-1", "nhg-1", 2);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_not_equal(route_to(kernel, "172.16.0.0/16")->route.group_id, id);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->member_count, 1);
	set_propagated(world->vrouter, "bgw-1", "att-1", "nhg-1", 1);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(route_to(kernel, "172.16.0.0/16")->route.group_id, id);
}

// While route changes from one to another both may be here: the shorter AS path counts, whichever came first.
static void of_two_rows_the_shorter_path(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	set_gateway(world->vrouter, "bgw-2");
	set_attachment(world->vrouter, "att-2", "bgw-2", 78);
	set_group(world->vrouter, "nhg-2", "node-b", NULL);
	set_propagated(world->vrouter, "bgw-1", "att-1", "nhg-1", 3);
	set_propagated(world->vrouter, "bgw-2", "att-2", "nhg-2", 2);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->member_count, 1);
	set_propagated(world->vrouter, "bgw-1", "att-1", "nhg-1", 1);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(group_of(kernel, "172.16.0.0/16")->member_count, 2);
	set_route(world->vrouter, "172.16.0.0/16", "att-2", "", true); // and static before all
	vrouter_settle(world->vrouter, apply, kernel);
	struct vrouter_item nexthop = {.kind = VROUTER_NEXTHOP, .nexthop.id = group_of(kernel, "172.16.0.0/16")->members[0]};
	assert_string_equal(held(kernel, &nexthop)->device, "att-2");
}

// What waits is found by what it waits for; what nobody names any more has no number.
static void waiting_and_forgetting(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	for (int i = 0; i < 40; i++) {
		char text[32], group[16];
		snprintf(text, sizeof text, "172.16.%d.0/24", i);
		snprintf(group, sizeof group, "nhg-w%d", i % 2);
		set_route(world->vrouter, text, "att-2", group, false);
	}
	set_gateway(world->vrouter, "bgw-2");
	set_group(world->vrouter, "nhg-w1", "node-a", NULL); // still without the attachment
	vrouter_settle(world->vrouter, apply, kernel);
	assert_null(route_to(kernel, "172.16.1.0/24"));
	remove_route(world->vrouter, "172.16.3.0/24", "att-2", false); // one that waits goes
	set_attachment(world->vrouter, "att-2", "bgw-2", 78);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_non_null(route_to(kernel, "172.16.1.0/24"));
	assert_null(route_to(kernel, "172.16.3.0/24"));
	assert_null(route_to(kernel, "172.16.2.0/24"));
	set_group(world->vrouter, "nhg-w0", "node-b", NULL);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(vrouter_counts(world->vrouter).items[VROUTER_ROUTE], 4 + 39);
	size_t numbers = vrouter_counts(world->vrouter).numbers;
	// Groups come and go by the thousand in the life of a host.
	for (int i = 0; i < 1000; i++) {
		char group[16];
		snprintf(group, sizeof group, "nhg-x%d", i);
		set_group(world->vrouter, group, "node-a", NULL);
		set_route(world->vrouter, "172.17.0.0/16", "att-1", group, false);
		vrouter_settle(world->vrouter, apply, kernel);
		remove_route(world->vrouter, "172.17.0.0/16", "att-1", false);
		vrouter_set_group(world->vrouter, group, NULL);
		vrouter_set_table(world->vrouter, group, "vpc-1");
		vrouter_settle(world->vrouter, apply, kernel);
		vrouter_set_table(world->vrouter, group, NULL);
		vrouter_set_node(world->vrouter, "node-a", NULL);
		vrouter_settle(world->vrouter, apply, kernel);
		struct address a = address_of("10.255.0.11");
		vrouter_set_node(world->vrouter, "node-a", &a);
		vrouter_settle(world->vrouter, apply, kernel);
	}
	assert_int_equal(vrouter_counts(world->vrouter).numbers, numbers);
}

static void rows_that_say_nothing_new_cost_nothing(void **state)
{
	struct world *world = *state;
	struct kernel *kernel = &world->kernel;
	struct address a = address_of("10.255.0.11"), elsewhere = address_of("10.255.0.13");
	forget_counts(kernel);
	size_t plans = vrouter_counts(world->vrouter).plans;
	vrouter_set_node(world->vrouter, "node-a", &a);
	set_gateway(world->vrouter, "bgw-1");
	set_vpc(world->vrouter, "host-1");
	vrouter_set_table(world->vrouter, "rtb-1", "vpc-1");
	set_subnet(world->vrouter, "sub-1", "10.0.1.0/24", "10.0.1.1", "rtb-1");
	set_attachment(world->vrouter, "att-1", "bgw-1", 77);
	vrouter_set_node(world->vrouter, "node-z", &elsewhere); // of another border gateway
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(vrouter_counts(world->vrouter).plans, plans);
	assert_int_equal(kernel->operations, 0);
	vrouter_set_node(world->vrouter, "node-a", &elsewhere);
	vrouter_settle(world->vrouter, apply, kernel);
	assert_int_equal(vrouter_counts(world->vrouter).plans, plans + 1);
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
	    cmocka_unit_test_setup_teardown(a_silent_node_is_skipped_without_route, make_world, end_world),
	    cmocka_unit_test_setup_teardown(equal_routes_through_two_gateways_forward_together, make_world, end_world),
	    cmocka_unit_test_setup_teardown(of_two_rows_the_shorter_path, make_world, end_world),
	    cmocka_unit_test_setup_teardown(waiting_and_forgetting, make_world, end_world),
	    cmocka_unit_test_setup_teardown(rows_that_say_nothing_new_cost_nothing, make_world, end_world),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
