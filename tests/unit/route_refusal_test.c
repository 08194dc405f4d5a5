// Learned prefixes that never forward: inside an attached VPC, or holding an address of the region itself (protocols: "BGP").
// What a customer announces around them, as 0.0.0.0/0, goes on forwarding.
#include "tests/unit/route_region.h"

static void reserve(struct region *region, const char *id, const char *what, const char *text)
{
	struct address address;
	assert_true(address_parse(text, &address));
	region_step(region, (struct route_event){.kind = ROUTE_RESERVED, .id = id, .reserved = {what, &address, 1}});
}

static void test_inside_an_attached_vpc(void **state)
{
	(void)state;
	static const struct {
		const char *destination;
		bool refused;
	} cases[] = {
	    {"10.0.1.10/32", true}, {"10.0.1.128/25", true}, {"10.0.0.0/16", true}, {"10.0.200.0/24", true},
	    {"10.0.0.0/15", false}, {"10.0.0.0/8", false},   {"0.0.0.0/0", false},  {"10.1.0.0/24", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct region region = region_of_tutorial();
		char key[64], shown[96];
		snprintf(key, sizeof key, "bgw/%s", cases[i].destination);
		snprintf(shown, sizeof shown, "bgw/PROPAGATED/%s/tun-a", cases[i].destination);
		learn(&region, "tun-a", cases[i].destination, 1);
		assert_string_equal(through(&region, key), cases[i].refused ? "(none)" : "tun-a of vpn");
		assert_row(&region, ROUTE_TABLE_SHOWN, shown,
		           cases[i].refused
		               ? "EBGP vpn 1 [tun-a] inside 10.0.0.0/16 of vpc, which is attached: it would take traffic "
		                 "away from the VPC"
		               : "EBGP vpn 1 [tun-a] EFFECTIVE");
		assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att");
		region_free(&region);
	}
}

// The refusal comes and goes with what it is about.
static void test_follows_the_attachment(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	gateway(&region, "bgw-2", false);
	connection(&region, "vpn-2", "bgw-2", true);
	tunnel(&region, "tun-c", "vpn-2", "node-a");
	tunnel_is(&region, "tun-c", true);
	learn(&region, "tun-a", "10.0.7.0/24", 1);
	learn(&region, "tun-a", "10.9.7.0/24", 1);
	learn(&region, "tun-c", "10.0.7.0/24", 1);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.7.0/24");
	assert_string_equal(through(&region, "bgw-2/10.0.7.0/24"), "tun-c of vpn-2"); // the VPC is not attached there
	drop(&region, ROUTE_ATTACHMENT, "att");
	assert_string_equal(through(&region, "bgw/10.0.7.0/24"), "tun-a of vpn");
	attachment(&region, "att", "bgw", "vpc", 1);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.7.0/24");
	struct prefix blocks[] = {prefix("10.0.0.0/16"), prefix("10.9.0.0/16")};
	region_step(&region, (struct route_event){.kind = ROUTE_VPC, .id = "vpc", .vpc = {"host-1", blocks, 2}});
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.9.7.0/24");
	vpc(&region, "vpc", "10.0.0.0/16");
	assert_string_equal(through(&region, "bgw/10.9.7.0/24"), "tun-a of vpn");
	drop(&region, ROUTE_VPC, "vpc");
	assert_string_equal(through(&region, "bgw/10.0.7.0/24"), "tun-a of vpn");
	region_free(&region);
}

static void test_addresses_of_the_region(void **state)
{
	(void)state;
	static const struct {
		const char *destination, *reason;
	} cases[] = {
	    {"169.254.6.0/30", "inside the link-local range, where the tunnels' inside addresses are"},
	    {"169.254.0.0/16", "inside the link-local range, where the tunnels' inside addresses are"},
	    {"198.51.100.17/32", "holds 198.51.100.17, a cloud address"},
	    {"198.51.100.0/24", "holds 198.51.100.17, a cloud address"},
	    {"198.51.0.0/17", "holds 198.51.100.17, a cloud address"},
	    {"10.255.0.0/24", "holds 10.255.0.11, a fabric address of a node"},
	    {"fd00:9::/64", "holds fd00:9::1, a inside address of a tunnel"},
	    {"198.51.100.18/32", NULL},
	    {"198.51.0.0/16", NULL}, // an aggregate holds it by its size
	    {"169.252.0.0/14", NULL},
	    {"10.0.0.0/8", NULL},
	    {"0.0.0.0/0", NULL},
	    {"fd00::/8", NULL},
	    {"::/0", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct region region = region_of_tutorial();
		char shown[96], expected[192];
		snprintf(shown, sizeof shown, "bgw/PROPAGATED/%s/tun-a", cases[i].destination);
		snprintf(expected, sizeof expected, "EBGP vpn 1 [tun-a] %s", cases[i].reason ? cases[i].reason : "EFFECTIVE");
		learn(&region, "tun-a", cases[i].destination, 1); // before the addresses are known
		reserve(&region, "cloud/node-a", "cloud address", "198.51.100.17");
		reserve(&region, "fabric/node-a", "fabric address of a node", "10.255.0.11");
		reserve(&region, "inside/tun-a", "inside address of a tunnel", "fd00:9::1");
		assert_row(&region, ROUTE_TABLE_SHOWN, shown, expected);
		withdraw(&region, "tun-a", cases[i].destination);
		learn(&region, "tun-a", cases[i].destination, 1); // and after
		assert_row(&region, ROUTE_TABLE_SHOWN, shown, expected);
		drop(&region, ROUTE_RESERVED, "cloud/node-a");
		drop(&region, ROUTE_RESERVED, "inside/tun-a");
		reserve(&region, "fabric/node-a", "fabric address of a node", "10.254.0.11");
		bool link_local = strncmp(cases[i].destination, "169.254", 7) == 0;
		assert_row(&region, ROUTE_TABLE_SHOWN, shown, link_local ? expected : "EBGP vpn 1 [tun-a] EFFECTIVE");
		region_free(&region);
	}
}

// Only what was learned: a user who adds a static route knows why.
static void test_static_routes_are_the_users(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	static_route(&region, "r1", "10.0.7.0/24", "vpn", "1");
	assert_string_equal(through(&region, "bgw/10.0.7.0/24"), "tun-a,tun-b of vpn");
	learn(&region, "tun-a", "10.0.7.0/24", 1);
	assert_string_equal(through(&region, "bgw/10.0.7.0/24"), "tun-a,tun-b of vpn");
	drop(&region, ROUTE_STATIC, "r1");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.7.0/24");
	region_free(&region);
}

static bool refused;
static void note(void *context, const struct route_action *action)
{
	region_publish(context, action);
	refused = refused || (action->table == ROUTE_TABLE_SHOWN && !action->removed && action->shown.refused);
}

static void test_worth_a_warning(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	static const uint32_t path[] = {65010};
	struct route_event event = {
	    .kind = ROUTE_LEARNED,
	    .id = "tun-a",
	    .learned = {.destination = prefix("10.9.0.0/16"), .metric = 1, .as_path = path, .as_count = 1}};
	struct route_sink sink = {note, &region};
	route_step(region.route, &event, sink);
	route_settle(region.route, 1, 10, sink);
	assert_false(refused);
	event.learned.destination = prefix("10.0.1.10/32");
	route_step(region.route, &event, sink);
	route_settle(region.route, 1, 10, sink);
	assert_true(refused);
	region_free(&region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_inside_an_attached_vpc),  cmocka_unit_test(test_follows_the_attachment),
	    cmocka_unit_test(test_addresses_of_the_region), cmocka_unit_test(test_static_routes_are_the_users),
	    cmocka_unit_test(test_worth_a_warning),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
