// Rows in any order, with operations that fail on the way.
#include "tests/unit/vrouter_world.h"

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
	const struct CMUnitTest tests[] = {cmocka_unit_test(any_order_ends_the_same)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
