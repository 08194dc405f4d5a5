// Next-hop groups: a tunnel that leaves UP is first of all one change per group, whatever the number of prefixes; a group stays
// the same while its tunnels come and go; it is there before the routes that refer to it, and goes after them.
#include "tests/unit/route_region.h"

static size_t lines_of(const struct region *region, enum route_table table, size_t from, size_t to)
{
	size_t count = 0;
	for (size_t i = from; i < to && i < region->log_count; i++) {
		count += region->log[i][0] == (char)('0' + (int)table);
	}
	return count;
}

static void learn_many(struct region *region, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char text[PREFIX_TEXT];
		snprintf(text, sizeof text, "192.168.%u.0/24", i);
		learn(region, "tun-a", text, 1);
		learn(region, "tun-b", text, 1);
	}
}

static void test_one_change_for_all_prefixes(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn_many(&region, 100);
	char *before = duplicate_text(row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/24"));
	region_clear_log(&region);
	// The step alone, before anything is settled: one row, the group's.
	struct route_event down = {.kind = ROUTE_TUNNEL_STATE, .id = "tun-a", .tunnel_state.up = false};
	assert_true(route_step(region.route, &down, (struct route_sink){region_publish, &region}));
	assert_int_equal(region.log_count, 1);
	assert_string_equal(row(&region, ROUTE_TABLE_GROUP, before), "tun-b of vpn");
	region_settle(&region);
	assert_int_equal(lines_of(&region, ROUTE_TABLE_EFFECTIVE, 0, LOG_LINES), 0); // no prefix was touched
	assert_int_equal(lines_of(&region, ROUTE_TABLE_VPC, 0, LOG_LINES), 0);
	assert_string_equal(row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.99.0/24"), before);
	tunnel_is(&region, "tun-a", true); // and back
	assert_string_equal(row(&region, ROUTE_TABLE_GROUP, before), "tun-a,tun-b of vpn");
	assert_int_equal(lines_of(&region, ROUTE_TABLE_GROUP, 0, LOG_LINES), 1);
	free(before);
	region_free(&region);
}

static void test_failover_to_longer_path_is_one_change(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	learn(&region, "tun-b", "192.168.0.0/16", 3); // prepended: the spare
	char *group = duplicate_text(row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16"));
	assert_string_equal(row(&region, ROUTE_TABLE_GROUP, group), "tun-a of vpn");
	tunnel_is(&region, "tun-a", false);
	assert_string_equal(region.log[0] + 2, strchr(region.log[0], 'n')); // the first row is the group's ("0 nhg-…")
	assert_string_equal(row(&region, ROUTE_TABLE_GROUP, group), "tun-b of vpn");
	assert_string_equal(row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16"), group);
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/EFFECTIVE/192.168.0.0/16/vpn", "EBGP vpn 3 [tun-b] EFFECTIVE");
	free(group);
	region_free(&region);
}

static void test_withdrawal_changes_the_candidates(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	learn(&region, "tun-b", "192.168.0.0/16", 1);
	char *both = duplicate_text(row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16"));
	withdraw(&region, "tun-a", "192.168.0.0/16");
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-b of vpn");
	assert_no_row(&region, ROUTE_TABLE_GROUP, both);
	// The new group first, then the routes, then the old group goes.
	assert_int_equal(region.log[0][0], '0' + ROUTE_TABLE_GROUP);
	assert_non_null(strstr(region.log[region.log_count - 1], "removed"));
	assert_int_equal(region.log[region.log_count - 1][0], '0' + ROUTE_TABLE_GROUP);
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16", both); // the same candidates: the same id
	free(both);
	region_free(&region);
}

static void test_row_stays_while_a_candidate_lives(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	learn(&region, "tun-b", "192.168.0.0/16", 1);
	char *group = duplicate_text(row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16"));
	tunnel_is(&region, "tun-a", false);
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16", group);
	tunnel_is(&region, "tun-b", false);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16");
	assert_row(&region, ROUTE_TABLE_GROUP, group, " of vpn"); // still there for the tunnels to come back to
	tunnel_is(&region, "tun-b", true);
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16", group);
	free(group);
	region_free(&region);
}

static void test_node_gone(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	learn(&region, "tun-b", "192.168.0.0/16", 1);
	node_is(&region, "node-b", true, true);
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a of vpn");
	drop(&region, ROUTE_NODE, "node-b"); // the row alone: nobody says that it is gone
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a,tun-b of vpn");
	region_free(&region);
}

// The session that ended is one change, whatever the number of prefixes; a static route does not need the session.
static void test_session_down_is_one_change(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn_many(&region, 100);
	static_route(&region, "r1", "172.16.0.0/12", "vpn", "1");
	char *group = duplicate_text(row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/24"));
	region_clear_log(&region);
	struct route_event down = {.kind = ROUTE_SESSION, .id = "tun-a", .session = {65010, false}};
	assert_true(route_step(region.route, &down, (struct route_sink){region_publish, &region}));
	assert_int_equal(region.log_count, 1);
	assert_string_equal(row(&region, ROUTE_TABLE_GROUP, group), "tun-b of vpn");
	region_settle(&region);
	assert_int_equal(lines_of(&region, ROUTE_TABLE_EFFECTIVE, 0, LOG_LINES), 0); // no prefix was touched
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.7.0/24/tun-a",
	           "EBGP vpn 1 [tun-a] the BGP session of tunnel tun-a is not Established");
	assert_string_equal(through(&region, "bgw/172.16.0.0/12"), "tun-a,tun-b of vpn");
	session(&region, "tun-a", 65010, true);
	assert_string_equal(row(&region, ROUTE_TABLE_GROUP, group), "tun-a,tun-b of vpn");
	drop(&region, ROUTE_SESSION, "tun-a"); // its row goes: as good as down
	assert_string_equal(row(&region, ROUTE_TABLE_GROUP, group), "tun-b of vpn");
	free(group);
	region_free(&region);
}

// bgp alone silent: what it learned no longer holds. esp alone silent: nothing passes through the node.
static void test_silent_services(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	learn(&region, "tun-b", "192.168.0.0/16", 1);
	learn(&region, "tun-b", "192.168.1.0/24", 1);
	static_route(&region, "r1", "172.16.0.0/12", "vpn", "1");
	node_is(&region, "node-b", false, true);
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a of vpn");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.1.0/24");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.1.0/24/tun-b",
	           "EBGP vpn 1 [tun-b] the BGP service of node node-b is silent");
	assert_string_equal(through(&region, "bgw/172.16.0.0/12"), "tun-a,tun-b of vpn");
	node_is(&region, "node-b", true, false);
	assert_string_equal(through(&region, "bgw/172.16.0.0/12"), "tun-a of vpn");
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.1.0/24/tun-b",
	           "EBGP vpn 1 [tun-b] node node-b of tunnel tun-b is silent");
	node_is(&region, "node-b", false, false);
	assert_string_equal(through(&region, "bgw/192.168.1.0/24"), "tun-b of vpn");
	region_free(&region);
}

static void test_admin_down_leaves_before_the_tunnel(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	learn(&region, "tun-b", "192.168.0.0/16", 1);
	region_step(&region, (struct route_event){.kind = ROUTE_TUNNEL, .id = "tun-a", .tunnel = {"vpn", "node-a", false}});
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-b of vpn"); // ike still says UP
	region_free(&region);
}

static void test_rows_in_any_order(void **state)
{
	(void)state;
	struct region region = region_new(50, 300);
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	tunnel_is(&region, "tun-a", true);
	tunnel(&region, "tun-a", "vpn", "node-a");
	assert_int_equal(map_count(region.rows[ROUTE_TABLE_SHOWN]), 0);
	connection(&region, "vpn", "bgw", true);
	assert_int_equal(map_count(region.rows[ROUTE_TABLE_EFFECTIVE]), 0);
	gateway(&region, "bgw", false);
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a of vpn");
	drop(&region, ROUTE_TUNNEL, "tun-a");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16");
	assert_int_equal(map_count(region.rows[ROUTE_TABLE_GROUP]), 0);
	region_free(&region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_one_change_for_all_prefixes),
	    cmocka_unit_test(test_failover_to_longer_path_is_one_change),
	    cmocka_unit_test(test_withdrawal_changes_the_candidates),
	    cmocka_unit_test(test_row_stays_while_a_candidate_lives),
	    cmocka_unit_test(test_node_gone),
	    cmocka_unit_test(test_session_down_is_one_change),
	    cmocka_unit_test(test_silent_services),
	    cmocka_unit_test(test_admin_down_leaves_before_the_tunnel),
	    cmocka_unit_test(test_rows_in_any_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
