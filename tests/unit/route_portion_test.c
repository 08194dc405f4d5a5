// What concerns many destinations is worked off in portions: no settle does more than its limit, whatever changed, and a failed
// tunnel waits for none of it.
#include "tests/unit/route_region.h"

enum { ROUTES = 200, PORTION = 10 };

static struct region big_region(void)
{
	struct region region = region_of_tutorial();
	region_step(&region, (struct route_event){.kind = ROUTE_QUOTA, .id = "", .quota = {50, 1000}});
	for (unsigned i = 0; i < ROUTES; i++) {
		char text[PREFIX_TEXT];
		snprintf(text, sizeof text, "20.0.%u.0/24", i);
		learn(&region, "tun-a", text, 1);
		learn(&region, "tun-b", text, 1);
	}
	struct prefix range = prefix("0.0.0.0/0");
	struct route_vpc_propagation propagations[] = {{"bgw", &range, 1}};
	region_step(&region,
	            (struct route_event){.kind = ROUTE_VPC_TABLE,
	                                 .id = "rtb",
	                                 .vpc_table = {.vpc_id = "vpc", .propagations = propagations, .propagation_count = 1}});
	assert_int_equal(map_count(region.rows[ROUTE_TABLE_VPC]), 1 + ROUTES);
	region_clear_log(&region);
	return region;
}

static bool settle_once(struct region *region)
{
	region_clear_log(region);
	return route_settle(region->route, region->time, PORTION, (struct route_sink){region_publish, region});
}

// Rows of one table in the log of the last call.
static size_t published(const struct region *region, enum route_table table)
{
	size_t count = 0;
	for (size_t i = 0; i < region->log_count; i++) {
		count += region->log[i][0] == (char)('0' + (int)table);
	}
	return count;
}

static void step_only(struct region *region, struct route_event event)
{
	region_clear_log(region);
	assert_true(route_step(region->route, &event, (struct route_sink){region_publish, region}));
}

// Settles in portions and fails when one is too big (`each`: rows of one destination); half-way a tunnel fails, which is one
// row at once.
static void work_off(struct region *region, enum route_table table, size_t each, size_t expected)
{
	size_t all = 0, portions = 0;
	for (bool more = true; more; portions++) {
		more = settle_once(region);
		size_t rows = published(region, table);
		assert_true(rows <= each * PORTION + 1); // and the VPC table's own blocks
		all += rows;
		if (portions == 3) {
			step_only(region, (struct route_event){.kind = ROUTE_TUNNEL_STATE, .id = "tun-a"});
			assert_int_equal(region->log_count, 1);
			step_only(region,
			          (struct route_event){.kind = ROUTE_TUNNEL_STATE, .id = "tun-a", .tunnel_state.up = true});
			assert_int_equal(region->log_count, 1);
		}
		assert_true(portions < 10 * ROUTES);
	}
	assert_true(all >= expected);
	assert_true(portions >= expected / (each * PORTION + 1));
	assert_int_equal(route_pending(region->route), 0);
}

static void test_another_as_number(void **state)
{
	(void)state;
	static const char *const nodes[] = {"node-a", "node-b"};
	struct region region = big_region();
	step_only(&region,
	          (struct route_event){.kind = ROUTE_GATEWAY,
	                               .id = "bgw",
	                               .gateway = {.tenant = "acme", .asn = 65010, .node_ids = nodes, .node_count = 2}});
	assert_int_equal(region.log_count, 0);
	work_off(&region, ROUTE_TABLE_SHOWN, 3, 3 * ROUTES);
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/EFFECTIVE/20.0.7.0/24/vpn", "IBGP vpn 1 [tun-a,tun-b] EFFECTIVE");
	region_free(&region);
}

static void test_a_vpc_table(void **state)
{
	(void)state;
	struct region region = big_region();
	struct prefix blocks[] = {prefix("10.0.0.0/16")};
	step_only(&region, (struct route_event){.kind = ROUTE_VPC, .id = "vpc", .vpc = {"host-2", blocks, 1}});
	work_off(&region, ROUTE_TABLE_VPC, 1, 1 + ROUTES);
	struct prefix range = prefix("0.0.0.0/0");
	struct route_vpc_propagation propagations[] = {{"bgw", &range, 1}};
	step_only(&region,
	          (struct route_event){.kind = ROUTE_VPC_TABLE,
	                               .id = "rtb-2",
	                               .vpc_table = {.vpc_id = "vpc", .propagations = propagations, .propagation_count = 1}});
	work_off(&region, ROUTE_TABLE_VPC, 1, 1 + ROUTES);
	drop(&region, ROUTE_VPC_TABLE, "rtb-2");
	step_only(&region, (struct route_event){.kind = ROUTE_VPC_TABLE, .id = "rtb", .removed = true});
	work_off(&region, ROUTE_TABLE_VPC, 1, 1 + ROUTES);
	assert_int_equal(map_count(region.rows[ROUTE_TABLE_VPC]), 0);
	region_free(&region);
}

static void test_a_vpc_that_holds_them_all(void **state)
{
	(void)state;
	struct region region = big_region();
	struct prefix blocks[] = {prefix("10.0.0.0/16"), prefix("20.0.0.0/16")};
	step_only(&region, (struct route_event){.kind = ROUTE_VPC, .id = "vpc", .vpc = {"host-1", blocks, 2}});
	work_off(&region, ROUTE_TABLE_EFFECTIVE, 1, ROUTES);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/20.0.7.0/24");
	region_free(&region);
}

// Destinations that come and go while a sweep is at them.
static void test_changes_under_a_sweep(void **state)
{
	(void)state;
	struct region region = big_region();
	struct prefix blocks[] = {prefix("10.0.0.0/16"), prefix("20.0.0.0/16")};
	step_only(&region, (struct route_event){.kind = ROUTE_VPC, .id = "vpc", .vpc = {"host-1", blocks, 2}});
	for (unsigned i = 0; i < ROUTES; i++) {
		char text[PREFIX_TEXT];
		snprintf(text, sizeof text, "20.0.%u.0/24", i % 2 ? i : ROUTES - i);
		struct route_event gone = {.kind = ROUTE_LEARNED, .id = i % 3 ? "tun-a" : "tun-b", .removed = true};
		gone.learned.destination = prefix(text);
		step_only(&region, gone);
		gone.id = i % 3 ? "tun-b" : "tun-a";
		step_only(&region, gone);
		settle_once(&region);
	}
	region_settle(&region);
	blocks[1] = prefix("20.1.0.0/16");
	region_step(&region, (struct route_event){.kind = ROUTE_VPC, .id = "vpc", .vpc = {"host-1", blocks, 2}});
	struct map_cursor cursor = {0};
	while (map_next(region.rows[ROUTE_TABLE_SHOWN], &cursor)) { // what is left forwards again
		assert_non_null(strstr(cursor.value, "EFFECTIVE"));
	}
	region_free(&region);
}

// The static routes of many VPC tables follow a border gateway's nodes, some tables at a time.
static void test_statics_of_many_vpc_tables(void **state)
{
	(void)state;
	enum { TABLES = 100 };
	struct region region = big_region();
	struct route_vpc_static statics[] = {{prefix("172.16.0.0/12"), "bgw"}};
	for (unsigned i = 0; i < TABLES; i++) {
		char id[16];
		snprintf(id, sizeof id, "rtb-%u", i);
		region_step(&region,
		            (struct route_event){.kind = ROUTE_VPC_TABLE,
		                                 .id = id,
		                                 .vpc_table = {.vpc_id = "vpc", .statics = statics, .static_count = 1}});
	}
	static const char *const nodes[] = {"node-a", "node-b"};
	for (size_t i = 0; i < 2; i++) {
		step_only(&region, (struct route_event){.kind = ROUTE_NODE, .id = nodes[i], .node = {.gone = true}});
		while (settle_once(&region)) {
		}
	}
	assert_row(&region, ROUTE_TABLE_VPC, "rtb-7/172.16.0.0/12/STATIC/bgw", "att no node of bgw is alive");
	step_only(&region, (struct route_event){.kind = ROUTE_NODE, .id = "node-a"});
	region_clear_log(&region);
	size_t changed = 0;
	for (bool more = true; more;) {
		more = settle_once(&region);
		assert_true(published(&region, ROUTE_TABLE_VPC) <= PORTION);
		changed += published(&region, ROUTE_TABLE_VPC);
	}
	assert_true(changed >= TABLES);
	assert_row(&region, ROUTE_TABLE_VPC, "rtb-7/172.16.0.0/12/STATIC/bgw", "att EFFECTIVE");
	region_free(&region);
}

// A connection comes to a node: what it is told is told there in portions.
static void test_a_connection_on_another_node(void **state)
{
	(void)state;
	struct region region = big_region();
	gateway(&region, "bgw", true);
	connection(&region, "vpn-2", "bgw", true);
	step_only(&region,
	          (struct route_event){.kind = ROUTE_TUNNEL, .id = "tun-c", .tunnel = {"vpn-2", "node-a", .admin_up = true}});
	work_off(&region, ROUTE_TABLE_ADVERTISED, 1, 1 + ROUTES);
	assert_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/20.0.7.0/24", "65010 origin 0");
	step_only(&region, (struct route_event){.kind = ROUTE_TUNNEL, .id = "tun-c", .removed = true});
	work_off(&region, ROUTE_TABLE_ADVERTISED, 1, 1 + ROUTES);
	assert_no_row(&region, ROUTE_TABLE_ADVERTISED, "vpn-2/node-a/20.0.7.0/24");
	region_free(&region);
}

// Of a tunnel that is taken down the groups are told at once, and what was learned through it is looked at afterwards.
static void test_a_tunnel_that_is_taken_down(void **state)
{
	(void)state;
	struct region region = big_region();
	step_only(&region, (struct route_event){.kind = ROUTE_TUNNEL, .id = "tun-a", .tunnel = {"vpn", "node-a"}});
	assert_int_equal(region.log_count, 1);
	assert_int_equal(route_pending(region.route), 1); // the group, which has them all
	region_settle(&region);
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/20.0.7.0/24/tun-a",
	           "EBGP vpn 1 [tun-a] adminState of tunnel tun-a is DOWN");
	region_free(&region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_another_as_number),           cmocka_unit_test(test_a_vpc_table),
	    cmocka_unit_test(test_a_vpc_that_holds_them_all),   cmocka_unit_test(test_changes_under_a_sweep),
	    cmocka_unit_test(test_statics_of_many_vpc_tables),  cmocka_unit_test(test_a_connection_on_another_node),
	    cmocka_unit_test(test_a_tunnel_that_is_taken_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
