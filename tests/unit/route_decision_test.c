// The order of the routes to one destination (product: "Route tables"): each adjacent pair of criteria, ECMP, and that nothing
// whose next hop is not alive is effective.
#include "tests/unit/route_region.h"

static void test_attachment_before_static_to_connection(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	static_route(&region, "r1", "10.0.1.0/24", "vpn", "1");
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/STATIC/10.0.1.0/24/vpn",
	           "STATIC vpn 0 [] the PROPAGATED route to att is preferred");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/EFFECTIVE/10.0.1.0/24/att", "PROPAGATED att 0 [] EFFECTIVE");
	region_free(&region);
}

static void test_static_before_propagated(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	vpc(&region, "vpc-2", "10.9.0.0/16");
	attachment(&region, "att-2", "bgw", "vpc-2", 2);
	static_route(&region, "r1", "10.0.1.0/24", "att-2", "1");
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att-2");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/10.0.1.0/24/att",
	           "PROPAGATED att 0 [] the STATIC route to att-2 is preferred");
	drop(&region, ROUTE_STATIC, "r1");
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att");
	region_free(&region);
}

static void test_static_before_ebgp(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	connection(&region, "vpn-2", "bgw", true);
	tunnel(&region, "tun-c", "vpn-2", "node-a");
	tunnel_is(&region, "tun-c", true);
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	static_route(&region, "r1", "192.168.0.0/16", "vpn-2", "1");
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-c of vpn-2,vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/16/tun-a",
	           "EBGP vpn 1 [tun-a] the STATIC route to vpn-2 is preferred");
	tunnel_is(&region, "tun-c", false); // then the next best, by the same group
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a of vpn-2,vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/STATIC/192.168.0.0/16/vpn-2", "STATIC vpn-2 0 [] no tunnel of vpn-2 is UP");
	region_free(&region);
}

static void test_ebgp_before_ibgp(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	session(&region, "tun-a", 65000, true);
	session(&region, "tun-b", 65010, true);
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	learn(&region, "tun-b", "192.168.0.0/16", 4); // type comes before metric
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-b of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/16/tun-a",
	           "IBGP vpn 1 [tun-a] the EBGP route to vpn is preferred");
	session(&region, "tun-a", 65010, true);
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a of vpn");
	region_free(&region);
}

static void test_metric(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 2);
	learn(&region, "tun-b", "192.168.0.0/16", 1);
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-b of vpn");
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a,tun-b of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/EFFECTIVE/192.168.0.0/16/vpn", "EBGP vpn 1 [tun-a,tun-b] EFFECTIVE");
	region_free(&region);
}

static void test_equals_of_two_connections(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	connection(&region, "vpn-2", "bgw", true);
	tunnel(&region, "tun-c", "vpn-2", "node-a");
	tunnel_is(&region, "tun-c", true);
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	learn(&region, "tun-c", "192.168.0.0/16", 1);
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a,tun-c of vpn,vpn-2");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/EFFECTIVE/192.168.0.0/16/vpn", "EBGP vpn 1 [tun-a] EFFECTIVE");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/EFFECTIVE/192.168.0.0/16/vpn-2", "EBGP vpn-2 1 [tun-c] EFFECTIVE");
	region_free(&region);
}

static void test_static_uses_all_tunnels_that_are_up(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	static_route(&region, "r1", "172.16.0.0/12", "vpn", "1");
	assert_string_equal(through(&region, "bgw/172.16.0.0/12"), "tun-a,tun-b of vpn");
	tunnel_is(&region, "tun-a", false);
	assert_string_equal(through(&region, "bgw/172.16.0.0/12"), "tun-b of vpn");
	tunnel_is(&region, "tun-b", false);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/172.16.0.0/12");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/STATIC/172.16.0.0/12/vpn", "STATIC vpn 0 [] no tunnel of vpn is UP");
	tunnel(&region, "tun-c", "vpn", "node-a"); // a new one joins
	tunnel_is(&region, "tun-c", true);
	assert_string_equal(through(&region, "bgw/172.16.0.0/12"), "tun-c of vpn");
	region_free(&region);
}

static void test_learned_uses_its_tunnel_only(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a of vpn");
	tunnel_is(&region, "tun-a", false); // tun-b is UP, but did not say that it goes there
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/16/tun-a",
	           "EBGP vpn 1 [tun-a] tunnel tun-a is not UP");
	region_free(&region);
}

static void test_static_connection_ignores_learned(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	connection(&region, "vpn", "bgw", false);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/16/tun-a",
	           "EBGP vpn 1 [tun-a] the VPN connection is routed statically");
	static_route(&region, "r1", "192.168.0.0/16", "vpn", "1");
	assert_string_equal(through(&region, "bgw/192.168.0.0/16"), "tun-a,tun-b of vpn");
	region_free(&region);
}

static void test_next_hops_of_others(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	gateway(&region, "bgw-2", false);
	connection(&region, "vpn-2", "bgw-2", true);
	static_route(&region, "r1", "192.168.0.0/16", "vpn-2", "1");
	static_route(&region, "r2", "192.168.1.0/24", "att-9", "1");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/STATIC/192.168.0.0/16/vpn-2",
	           "STATIC vpn-2 0 [] the border gateway has no VPN connection vpn-2");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/STATIC/192.168.1.0/24/att-9",
	           "STATIC att-9 0 [] the border gateway has no VPC attachment att-9");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.0.0/16");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.1.0/24");
	region_free(&region);
}

static void test_ids_out_of_range(void **state)
{
	(void)state;
	struct region region = region_new(50, 300);
	char longest[ROUTE_ID_TEXT + 1];
	memset(longest, 'x', sizeof longest);
	longest[ROUTE_ID_TEXT] = '\0';
	struct route_sink sink = {region_publish, &region};
	assert_false(route_step(region.route, &(struct route_event){.kind = ROUTE_VPC, .id = ""}, sink));
	assert_false(route_step(region.route, &(struct route_event){.kind = ROUTE_VPC, .id = longest}, sink));
	longest[ROUTE_ID_TEXT - 1] = '\0';
	assert_true(route_step(region.route, &(struct route_event){.kind = ROUTE_VPC, .id = longest}, sink));
	region_free(&region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_attachment_before_static_to_connection),
	    cmocka_unit_test(test_static_before_propagated),
	    cmocka_unit_test(test_static_before_ebgp),
	    cmocka_unit_test(test_ebgp_before_ibgp),
	    cmocka_unit_test(test_metric),
	    cmocka_unit_test(test_equals_of_two_connections),
	    cmocka_unit_test(test_static_uses_all_tunnels_that_are_up),
	    cmocka_unit_test(test_learned_uses_its_tunnel_only),
	    cmocka_unit_test(test_static_connection_ignores_learned),
	    cmocka_unit_test(test_next_hops_of_others),
	    cmocka_unit_test(test_ids_out_of_range),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
