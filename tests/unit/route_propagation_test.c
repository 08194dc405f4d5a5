// Propagation both ways: what attachments bring into a border gateway (ALL, SUBNETS, NONE; overlaps), what is advertised to
// customers, and what VPC route tables take over.
#include "tests/unit/route_region.h"

static void vpc_table(struct region *region, const char *id, const char *vpc_id, const char *static_destination,
                      const char *range_text, const char *second_gateway)
{
	struct prefix range = range_text ? prefix(range_text) : (struct prefix){.length = 0};
	struct route_vpc_static statics[] = {
	    {static_destination ? prefix(static_destination) : (struct prefix){.length = 0}, "bgw"}};
	struct route_vpc_propagation propagations[] = {{"bgw", &range, 1}, {second_gateway, &range, 1}};
	region_step(region,
	            (struct route_event){.kind = ROUTE_VPC_TABLE,
	                                 .id = id,
	                                 .vpc_table = {.vpc_id = vpc_id,
	                                               .statics = statics,
	                                               .static_count = static_destination ? 1 : 0,
	                                               .propagations = propagations,
	                                               .propagation_count = range_text ? second_gateway ? 2u : 1u : 0}});
}

static void test_subnets_come_and_go(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att");
	subnet(&region, "sub-2", "vpc", "10.0.2.0/24");
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.2.0/24", "att");
	assert_advertised(&region, "vpn", "10.0.2.0/24", " origin 0");
	drop(&region, ROUTE_SUBNET, "sub-2");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.2.0/24");
	assert_advertised(&region, "vpn", "10.0.2.0/24", "(none)");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.0.0/16"); // a VPC's range is not a route; its subnets are
	region_free(&region);
}

static void test_chosen_subnets_and_none(void **state)
{
	(void)state;
	static const char *const chosen[] = {"sub-2"};
	struct region region = region_of_tutorial();
	subnet(&region, "sub-2", "vpc", "10.0.2.0/24");
	struct route_event event = {.kind = ROUTE_ATTACHMENT,
	                            .id = "att",
	                            .attachment = {.gateway_id = "bgw",
	                                           .vpc_id = "vpc",
	                                           .propagation = ROUTE_PROPAGATE_SUBNETS,
	                                           .subnet_ids = chosen,
	                                           .subnet_count = 1,
	                                           .order = 1}};
	region_step(&region, event);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24");
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.2.0/24", "att");
	event.attachment.propagation = ROUTE_PROPAGATE_NONE;
	region_step(&region, event);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.2.0/24");
	region_free(&region);
}

static void test_overlap(void **state)
{
	(void)state;
	static const char *const others[] = {"10.0.1.0/24", "10.0.1.128/25", "10.0.0.0/16"}; // equal, inside, around
	for (size_t i = 0; i < 3; i++) {
		struct region region = region_of_tutorial();
		char key[64], shown_key[64];
		snprintf(key, sizeof key, "bgw/%s", others[i]);
		snprintf(shown_key, sizeof shown_key, "bgw/PROPAGATED/%s/att-2", others[i]);
		vpc(&region, "vpc-2", "10.0.0.0/16");
		attachment(&region, "att-2", "bgw", "vpc-2", 2);
		subnet(&region, "sub-2", "vpc-2", others[i]);
		assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att");
		assert_string_not_equal(row(&region, ROUTE_TABLE_EFFECTIVE, key), "att-2");
		assert_row(&region, ROUTE_TABLE_SHOWN, shown_key,
		           "PROPAGATED att-2 0 [] overlaps 10.0.1.0/24 of vpc, which was propagated first");
		drop(&region, ROUTE_ATTACHMENT, "att");
		assert_row(&region, ROUTE_TABLE_EFFECTIVE, key, "att-2");
		attachment(&region, "att", "bgw", "vpc", 3); // attached again: now it is the later one
		assert_row(&region, ROUTE_TABLE_EFFECTIVE, key, "att-2");
		region_free(&region);
	}
}

static void propagate(struct region *region, const char *id, const char *vpc_id, uint64_t order, enum route_propagation which)
{
	region_step(region, (struct route_event){
	                        .kind = ROUTE_ATTACHMENT,
	                        .id = id,
	                        .attachment = {.gateway_id = "bgw", .vpc_id = vpc_id, .propagation = which, .order = order}});
}

// Who was propagated first holds the place, not whose attachment was made first.
static void test_overlap_follows_the_order_of_propagation(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	propagate(&region, "att", "vpc", 1, ROUTE_PROPAGATE_NONE);
	vpc(&region, "vpc-2", "10.0.0.0/16");
	attachment(&region, "att-2", "bgw", "vpc-2", 2);
	subnet(&region, "sub-2", "vpc-2", "10.0.1.128/25");
	propagate(&region, "att", "vpc", 1, ROUTE_PROPAGATE_ALL); // the older attachment begins later
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.128/25", "att-2");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/10.0.1.0/24/att",
	           "PROPAGATED att 0 [] overlaps 10.0.1.128/25 of vpc-2, which was propagated first");
	subnet(&region, "sub-3", "vpc", "10.0.2.0/24"); // what does not overlap goes on
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.2.0/24", "att");
	subnet(&region, "sub-4", "vpc-2", "10.0.2.0/25"); // and is first itself
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.2.0/25");
	drop(&region, ROUTE_SUBNET, "sub-2");
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att");
	subnet(&region, "sub-2", "vpc-2", "10.0.1.128/25"); // back: behind
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.128/25");
	region_free(&region);
}

static void note_orders(void *context, const struct route_action *action)
{
	struct {
		struct region *region;
		uint64_t first, second;
	} *noted = context;
	if (action->table == ROUTE_TABLE_SHOWN && !action->removed && action->shown.kind == ROUTE_KIND_PROPAGATED) {
		*(strstr(action->key, "att-2") ? &noted->second : &noted->first) = action->shown.order;
	}
	region_publish(noted->region, action);
}

// The order of propagation survives a restart, in which all begins at once.
static void test_overlap_after_a_restart(void **state)
{
	(void)state;
	struct region region = region_new(50, 300);
	struct {
		struct region *region;
		uint64_t first, second;
	} noted = {.region = &region};
	gateway(&region, "bgw", false);
	vpc(&region, "vpc", "10.0.0.0/16");
	vpc(&region, "vpc-2", "10.0.0.0/16");
	attachment(&region, "att", "bgw", "vpc", 1);
	attachment(&region, "att-2", "bgw", "vpc-2", 2);
	subnet(&region, "sub-2", "vpc-2", "10.0.1.0/24");
	struct route_event event = {.kind = ROUTE_SUBNET, .id = "sub", .subnet = {"vpc", prefix("10.0.1.0/24")}};
	route_step(region.route, &event, (struct route_sink){note_orders, &noted});
	while (route_settle(region.route, 1, 1, (struct route_sink){note_orders, &noted})) {
	}
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att-2");
	gateway(&region, "bgw", false);
	uint64_t later = noted.first;
	assert_true(later > 0);
	region_free(&region);

	region = region_new(50, 300);
	route_remember(region.route, "bgw/PROPAGATED/10.0.1.0/24/att", 0, 0, later);
	route_remember(region.route, "bgw/PROPAGATED/10.0.1.0/24/att-2", 0, 0, later - 1);
	subnet(&region, "sub", "vpc", "10.0.1.0/24");
	subnet(&region, "sub-2", "vpc-2", "10.0.1.0/24");
	gateway(&region, "bgw", false);
	attachment(&region, "att", "bgw", "vpc", 1);
	vpc(&region, "vpc", "10.0.0.0/16"); // the one that was second is here first
	attachment(&region, "att-2", "bgw", "vpc-2", 2);
	vpc(&region, "vpc-2", "10.0.0.0/16");
	route_forget(region.route);
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att-2");
	region_free(&region);
}

// Rows that say the same to routes, as after a change of a description, cost nothing, whatever the size of the table.
static void test_rows_that_say_nothing_new(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	vpc_table(&region, "rtb", "vpc", "172.16.0.0/12", "0.0.0.0/0", NULL);
	struct route_sink sink = {region_publish, &region};
	static const char *const nodes[] = {"node-a", "node-b"};
	struct prefix blocks[] = {prefix("10.0.0.0/16")}, range = prefix("0.0.0.0/0");
	struct route_vpc_static statics[] = {{prefix("172.16.0.0/12"), "bgw"}};
	struct route_vpc_propagation propagations[] = {{"bgw", &range, 1}};
	const struct route_event events[] = {
	    {.kind = ROUTE_GATEWAY,
	     .id = "bgw",
	     .gateway = {.tenant = "acme", .asn = 65000, .node_ids = nodes, .node_count = 2}},
	    {.kind = ROUTE_VPC, .id = "vpc", .vpc = {"host-1", blocks, 1}},
	    {.kind = ROUTE_SUBNET, .id = "sub", .subnet = {"vpc", prefix("10.0.1.0/24")}},
	    {.kind = ROUTE_ATTACHMENT, .id = "att", .attachment = {.gateway_id = "bgw", .vpc_id = "vpc", .order = 1}},
	    {.kind = ROUTE_CONNECTION, .id = "vpn", .connection = {"bgw", true}},
	    {.kind = ROUTE_TUNNEL, .id = "tun-a", .tunnel = {"vpn", "node-a", true}},
	    {.kind = ROUTE_VPC_TABLE,
	     .id = "rtb",
	     .vpc_table = {.vpc_id = "vpc",
	                   .statics = statics,
	                   .static_count = 1,
	                   .propagations = propagations,
	                   .propagation_count = 1}},
	};
	region_clear_log(&region);
	for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
		assert_true(route_step(region.route, &events[i], sink));
		assert_int_equal(route_pending(region.route), 0);
	}
	assert_int_equal(region.log_count, 0);
	region_free(&region);
}

// A gateway's nodes decide only whether static routes of VPC tables forward.
static void test_static_of_vpc_follows_the_nodes(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	for (unsigned i = 0; i < 50; i++) {
		char text[PREFIX_TEXT];
		snprintf(text, sizeof text, "192.168.%u.0/24", i);
		learn(&region, "tun-a", text, 1);
	}
	vpc_table(&region, "rtb", "vpc", "172.16.0.0/12", "0.0.0.0/0", NULL);
	node_is(&region, "node-b", true, false);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/172.16.0.0/12/STATIC/bgw", "att EFFECTIVE");
	struct route_event gone = {.kind = ROUTE_NODE, .id = "node-a", .node = {.gone = true}};
	region_clear_log(&region);
	assert_true(route_step(region.route, &gone, (struct route_sink){region_publish, &region}));
	assert_int_equal(region.log_count, 1); // the one group, at once
	region_settle(&region);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/172.16.0.0/12/STATIC/bgw", "att no node of bgw is alive");
	assert_no_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.7.0/24/PROPAGATED/bgw");
	node_is(&region, "node-a", false, false);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/172.16.0.0/12/STATIC/bgw", "att EFFECTIVE");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.7.0/24/PROPAGATED/bgw", "att EFFECTIVE");
	region_free(&region);
}

static void test_no_overlap_beside_or_in_one_vpc(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	vpc(&region, "vpc-2", "10.0.0.0/16");
	attachment(&region, "att-2", "bgw", "vpc-2", 2);
	subnet(&region, "sub-2", "vpc-2", "10.0.2.0/24"); // neighbours do not overlap
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.2.0/24", "att-2");
	gateway(&region, "bgw-2", false);
	attachment(&region, "att-3", "bgw-2", "vpc-2", 3); // nor does another border gateway matter
	subnet(&region, "sub-3", "vpc-2", "10.0.1.0/24");
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw-2/10.0.1.0/24", "att-3");
	assert_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/10.0.1.0/24", "att");
	region_free(&region);
}

static void test_advertised_never_back(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	connection(&region, "vpn-2", "bgw", true);
	tunnel(&region, "tun-c", "vpn-2", "node-a");
	tunnel_is(&region, "tun-c", true);
	connection(&region, "vpn-3", "bgw", false);
	tunnel(&region, "tun-d", "vpn-3", "node-a");
	learn(&region, "tun-a", "192.168.0.0/16", 2);
	assert_advertised(&region, "vpn", "10.0.1.0/24", " origin 0");
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/10.0.1.0/24", " origin 0");
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-3/node-a/10.0.1.0/24"); // it has no session
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/192.168.0.0/16");
	gateway(&region, "bgw", true);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/192.168.0.0/16", "65010 65011 origin 0");
	assert_advertised(&region, "vpn", "192.168.0.0/16", "(none)");
	// Equally good through both: back to neither.
	learn(&region, "tun-c", "192.168.0.0/16", 2);
	assert_advertised(&region, "vpn", "192.168.0.0/16", "(none)");
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/192.168.0.0/16");
	gateway(&region, "bgw", false);
	tunnel_is(&region, "tun-a", false);
	assert_advertised(&region, "vpn", "192.168.0.0/16", "(none)");
	connection(&region, "vpn", "bgw", false);
	assert_advertised(&region, "vpn", "10.0.1.0/24", "(none)");
	region_free(&region);
}

// A node is told the routes of the connections that have a tunnel there, and of no other.
static void test_advertised_where_a_tunnel_is(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	connection(&region, "vpn-2", "bgw", true);
	assert_int_equal(map_count(region.rows[ROUTE_TABLE_ADVERTISED]), 2); // of "vpn", on both nodes
	tunnel(&region, "tun-c", "vpn-2", "node-a");
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/10.0.1.0/24", " origin 0");
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/10.0.1.0/24");
	assert_string_equal(region_scope(&region, "vpn-2/node-a/10.0.1.0/24"), "node-a");
	assert_string_equal(region_scope(&region, "vpn/node-b/10.0.1.0/24"), "node-b");
	// A second one beside it changes nothing, and the first may go.
	tunnel(&region, "tun-d", "vpn-2", "node-a");
	assert_int_equal(region.log_count, 0);
	drop(&region, ROUTE_TUNNEL, "tun-c");
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/10.0.1.0/24", " origin 0");
	// The last one moves, and goes.
	tunnel(&region, "tun-d", "vpn-2", "node-b");
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/10.0.1.0/24");
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/10.0.1.0/24", " origin 0");
	tunnel(&region, "tun-d", "vpn", "node-b"); // to another connection
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-b/10.0.1.0/24");
	drop(&region, ROUTE_TUNNEL, "tun-b");
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn/node-b/10.0.1.0/24", " origin 0");
	drop(&region, ROUTE_TUNNEL, "tun-d");
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn/node-b/10.0.1.0/24");
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn/node-a/10.0.1.0/24", " origin 0");
	region_free(&region);
}

static void test_vpc_table(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	vpc_table(&region, "rtb", "vpc", "172.16.0.0/12", "0.0.0.0/0", NULL);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/10.0.0.0/16/LOCAL/", " EFFECTIVE");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/172.16.0.0/12/STATIC/bgw", "att EFFECTIVE");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw", "att EFFECTIVE");
	assert_no_row(&region, ROUTE_TABLE_VPC, "rtb/10.0.1.0/24/PROPAGATED/bgw"); // comes from the VPC itself
	tunnel_is(&region, "tun-a", false);
	assert_no_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw");
	tunnel_is(&region, "tun-a", true);
	drop(&region, ROUTE_ATTACHMENT, "att"); // takes the propagation relation with it
	assert_no_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/172.16.0.0/12/STATIC/bgw", " the VPC has no attachment to bgw");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/10.0.0.0/16/LOCAL/", " EFFECTIVE");
	drop(&region, ROUTE_VPC_TABLE, "rtb");
	assert_int_equal(map_count(region.rows[ROUTE_TABLE_VPC]), 0);
	region_free(&region);
}

static void test_ranges(void **state)
{
	(void)state;
	static const struct {
		const char *range, *destination;
		bool inside;
	} cases[] = {
	    {"0.0.0.0/0", "0.0.0.0/0", true},
	    {"0.0.0.0/0", "192.168.0.0/16", true},
	    {"192.168.0.0/16", "192.168.0.0/16", true},
	    {"192.168.0.0/16", "192.168.255.255/32", true},
	    {"192.168.0.0/16", "192.169.0.0/24", false},
	    {"192.168.0.0/16", "192.167.255.0/24", false},
	    {"192.168.0.0/16", "192.168.0.0/15", false},
	    {"192.168.0.0/16", "0.0.0.0/0", false},
	    {"0.0.0.0/0", "fd00::/8", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct region region = region_of_tutorial();
		char key[96];
		snprintf(key, sizeof key, "rtb/%s/PROPAGATED/bgw", cases[i].destination);
		vpc_table(&region, "rtb", "vpc", NULL, cases[i].range, NULL);
		learn(&region, "tun-a", cases[i].destination, 1);
		assert_row(&region, ROUTE_TABLE_VPC, key, cases[i].inside ? "att EFFECTIVE" : "(none)");
		vpc_table(&region, "rtb", "vpc", NULL, NULL, NULL); // no propagation at all
		assert_no_row(&region, ROUTE_TABLE_VPC, key);
		region_free(&region);
	}
}

static void test_vpc_preference(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	learn(&region, "tun-a", "192.168.0.0/16", 1);
	static_route(&region, "r1", "10.0.7.0/24", "vpn", "1");
	vpc_table(&region, "rtb", "vpc", "192.168.0.0/16", "0.0.0.0/0", NULL);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/STATIC/bgw", "att EFFECTIVE");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw", "att the STATIC route to bgw is preferred");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/10.0.7.0/24/PROPAGATED/bgw",
	           "att inside 10.0.0.0/16 of the VPC itself, where the local route is always first");
	region_free(&region);
}

static void test_two_gateways(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	gateway(&region, "bgw-2", false);
	attachment(&region, "att-2", "bgw-2", "vpc", 2);
	connection(&region, "vpn-2", "bgw-2", true);
	tunnel(&region, "tun-c", "vpn-2", "node-a");
	tunnel_is(&region, "tun-c", true);
	vpc_table(&region, "rtb", "vpc", NULL, "0.0.0.0/0", "bgw-2");
	learn(&region, "tun-c", "192.168.0.0/16", 1);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw-2", "att-2 EFFECTIVE");
	learn(&region, "tun-a", "192.168.0.0/16", 1); // the same through both: together
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw", "att EFFECTIVE");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw-2", "att-2 EFFECTIVE");
	learn(&region, "tun-a", "192.168.0.0/16", 2); // a longer path through one of them
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw",
	           "att the PROPAGATED route to bgw-2 is preferred: its AS path is shorter");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw-2", "att-2 EFFECTIVE");
	tunnel_is(&region, "tun-c", false);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/192.168.0.0/16/PROPAGATED/bgw", "att EFFECTIVE");
	region_free(&region);
}

static void test_other_vpc_behind_the_gateway(void **state)
{
	(void)state;
	struct region region = region_of_tutorial();
	vpc(&region, "vpc-2", "10.9.0.0/16");
	subnet(&region, "sub-2", "vpc-2", "10.9.1.0/24");
	attachment(&region, "att-2", "bgw", "vpc-2", 2);
	vpc_table(&region, "rtb", "vpc", NULL, "0.0.0.0/0", NULL);
	vpc_table(&region, "rtb-2", "vpc-2", NULL, "0.0.0.0/0", NULL);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb/10.9.1.0/24/PROPAGATED/bgw", "att EFFECTIVE");
	assert_row(&region, ROUTE_TABLE_VPC, "rtb-2/10.0.1.0/24/PROPAGATED/bgw", "att-2 EFFECTIVE");
	assert_no_row(&region, ROUTE_TABLE_VPC, "rtb-2/10.9.1.0/24/PROPAGATED/bgw");
	region_free(&region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_subnets_come_and_go),
	    cmocka_unit_test(test_chosen_subnets_and_none),
	    cmocka_unit_test(test_overlap),
	    cmocka_unit_test(test_overlap_follows_the_order_of_propagation),
	    cmocka_unit_test(test_overlap_after_a_restart),
	    cmocka_unit_test(test_rows_that_say_nothing_new),
	    cmocka_unit_test(test_static_of_vpc_follows_the_nodes),
	    cmocka_unit_test(test_no_overlap_beside_or_in_one_vpc),
	    cmocka_unit_test(test_advertised_never_back),
	    cmocka_unit_test(test_advertised_where_a_tunnel_is),
	    cmocka_unit_test(test_vpc_table),
	    cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_vpc_preference),
	    cmocka_unit_test(test_two_gateways),
	    cmocka_unit_test(test_other_vpc_behind_the_gateway),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
