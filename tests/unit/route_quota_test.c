// Quotas (what was there first stays, the excess is shown with a reason), the age of routes, and both across a restart.
#include "tests/unit/route_region.h"

static const char quota_reason[] = "EBGP vpn 1 [tun-a] discarded: beyond the quota of 2 learned routes";

static struct region small_region(void)
{
	struct region region = region_new(2, 2);
	gateway(&region, "bgw", false);
	connection(&region, "vpn", "bgw", true);
	tunnel(&region, "tun-a", "vpn", "node-a");
	tunnel(&region, "tun-b", "vpn", "node-b");
	tunnel_is(&region, "tun-a", true);
	tunnel_is(&region, "tun-b", true);
	return region;
}

static void test_learned(void **state)
{
	(void)state;
	struct region region = small_region();
	learn(&region, "tun-a", "192.168.3.0/24", 1);
	learn(&region, "tun-a", "192.168.2.0/24", 1);
	learn(&region, "tun-a", "192.168.1.0/24", 1);
	learn(&region, "tun-a", "192.168.0.0/24", 1);
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.3.0/24/tun-a", "EBGP vpn 1 [tun-a] EFFECTIVE");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.1.0/24/tun-a", quota_reason);
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/24/tun-a", quota_reason);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.1.0/24");
	// A second path to a destination that has its place takes none.
	learn(&region, "tun-b", "192.168.3.0/24", 1);
	assert_string_equal(through(&region, "bgw/192.168.3.0/24"), "tun-a,tun-b of vpn");
	// An update does not lose the place; going does, to the one that waited longest.
	learn(&region, "tun-a", "192.168.2.0/24", 3);
	assert_string_equal(through(&region, "bgw/192.168.2.0/24"), "tun-a of vpn");
	withdraw(&region, "tun-a", "192.168.2.0/24");
	assert_string_equal(through(&region, "bgw/192.168.1.0/24"), "tun-a of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.0.0/24/tun-a", quota_reason);
	region_free(&region);
}

static void test_static(void **state)
{
	(void)state;
	struct region region = small_region();
	static_route(&region, "r3", "172.16.3.0/24", "vpn", "2026-01-03T00:00:00Z");
	static_route(&region, "r2", "172.16.2.0/24", "vpn", "2026-01-02T00:00:00Z");
	static_route(&region, "r1", "172.16.1.0/24", "vpn", "2026-01-01T00:00:00Z"); // snapshots come in any order
	assert_string_equal(through(&region, "bgw/172.16.1.0/24"), "tun-a,tun-b of vpn");
	assert_string_equal(through(&region, "bgw/172.16.2.0/24"), "tun-a,tun-b of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/STATIC/172.16.3.0/24/vpn",
	           "STATIC vpn 0 [] discarded: beyond the quota of 2 static routes");
	drop(&region, ROUTE_STATIC, "r1");
	assert_string_equal(through(&region, "bgw/172.16.3.0/24"), "tun-a,tun-b of vpn");
	region_free(&region);
}

struct told {
	char text[512];
};
static void tell(void *context, const char *gateway_id, enum route_quota_kind kind, const struct route_usage *usage)
{
	static const char *const levels[] = {"ok", "near", "exceeded"};
	struct told *told = context;
	size_t length = strlen(told->text);
	snprintf(told->text + length, sizeof told->text - length, "%s %s %s %zu-%zu/%zu;", gateway_id,
	         kind == ROUTE_QUOTA_STATIC ? "static" : "learned", levels[usage->level], usage->count, usage->discarded,
	         usage->limit);
}

static void assert_told(struct region *region, const char *text)
{
	struct told told = {""};
	route_warnings(region->route, tell, &told);
	assert_string_equal(told.text, text);
}

static void limit(struct region *region, const char *tenant, size_t statics, size_t learned)
{
	region_step(region, (struct route_event){.kind = ROUTE_QUOTA, .id = tenant, .quota = {statics, learned}});
}

static void test_warnings_of_learned(void **state)
{
	(void)state;
	struct region region = small_region();
	limit(&region, "", 5, 5);
	char text[PREFIX_TEXT];
	for (unsigned i = 0; i < 3; i++) {
		snprintf(text, sizeof text, "192.168.%u.0/24", i);
		learn(&region, "tun-a", text, 1);
		learn(&region, "tun-b", text, 1); // a second path to the same destination counts once
	}
	assert_told(&region, "");
	learn(&region, "tun-a", "192.168.3.0/24", 1);
	assert_told(&region, "bgw learned near 4-0/5;"); // 80 %
	learn(&region, "tun-a", "192.168.4.0/24", 1);
	assert_told(&region, ""); // once for each level
	learn(&region, "tun-a", "192.168.5.0/24", 1);
	assert_told(&region, "bgw learned exceeded 6-1/5;");
	assert_int_equal(route_usage(region.route, ROUTE_QUOTA_LEARNED).discarded, 1);
	withdraw(&region, "tun-a", "192.168.5.0/24");
	assert_told(&region, "bgw learned near 5-0/5;");
	withdraw(&region, "tun-a", "192.168.4.0/24");
	withdraw(&region, "tun-a", "192.168.3.0/24");
	assert_told(&region, "bgw learned ok 3-0/5;");
	region_free(&region);
}

static void test_warnings_of_static(void **state)
{
	(void)state;
	struct region region = small_region();
	limit(&region, "", 5, 5);
	char id[8], text[PREFIX_TEXT];
	for (unsigned i = 0; i < 3; i++) {
		snprintf(id, sizeof id, "r%u", i);
		snprintf(text, sizeof text, "172.16.%u.0/24", i);
		static_route(&region, id, text, "vpn", "1");
	}
	assert_told(&region, "");
	static_route(&region, "r3", "172.16.3.0/24", "vpn", "1");
	assert_told(&region, "bgw static near 4-0/5;");
	static_route(&region, "r4", "172.16.4.0/24", "vpn", "1");
	static_route(&region, "r5", "172.16.5.0/24", "vpn", "1");
	assert_told(&region, "bgw static exceeded 6-1/5;");
	drop(&region, ROUTE_STATIC, "r5");
	assert_told(&region, "bgw static near 5-0/5;");
	assert_int_equal(route_usage(region.route, ROUTE_QUOTA_STATIC).count, 5);
	region_free(&region);
}

// The Quota resource is where limits are defined: a tenant's own, or that of those without one; a change takes effect at once.
static void test_limits_of_the_tenant(void **state)
{
	(void)state;
	struct region region = small_region();
	for (unsigned i = 0; i < 4; i++) {
		char id[8], text[PREFIX_TEXT];
		snprintf(id, sizeof id, "r%u", i);
		snprintf(text, sizeof text, "172.16.%u.0/24", i);
		static_route(&region, id, text, "vpn", id);
		snprintf(text, sizeof text, "192.168.%u.0/24", i);
		learn(&region, "tun-a", text, 1);
	}
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/172.16.2.0/24");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.2.0/24");
	limit(&region, "other", 9, 9);
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.2.0/24");
	limit(&region, "acme", 3, 4);
	assert_string_equal(through(&region, "bgw/172.16.2.0/24"), "tun-a,tun-b of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/STATIC/172.16.3.0/24/vpn",
	           "STATIC vpn 0 [] discarded: beyond the quota of 3 static routes");
	assert_string_equal(through(&region, "bgw/192.168.3.0/24"), "tun-a of vpn");
	limit(&region, "acme", 1, 1); // lowered: who came last is out first
	assert_string_equal(through(&region, "bgw/172.16.0.0/24"), "tun-a,tun-b of vpn");
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/172.16.1.0/24");
	assert_string_equal(through(&region, "bgw/192.168.0.0/24"), "tun-a of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.1.0/24/tun-a",
	           "EBGP vpn 1 [tun-a] discarded: beyond the quota of 1 learned routes");
	limit(&region, "", 9, 9); // its own counts
	assert_no_row(&region, ROUTE_TABLE_EFFECTIVE, "bgw/192.168.1.0/24");
	drop(&region, ROUTE_QUOTA, "acme");
	assert_string_equal(through(&region, "bgw/192.168.3.0/24"), "tun-a of vpn");
	region_free(&region);
}

struct noted {
	struct region *region;
	uint64_t state, since, order;
};
static void note(void *context, const struct route_action *action)
{
	struct noted *noted = context;
	region_publish(noted->region, action);
	if (action->table == ROUTE_TABLE_SHOWN && !action->removed && strstr(action->key, "PROPAGATED/192.168.1.0/24")) {
		*noted = (struct noted){noted->region, action->shown.state, action->shown.since, action->shown.order};
	}
}

static struct noted noted_at(struct region *region, uint64_t time, struct route_event event)
{
	struct noted noted = {.region = region};
	struct route_sink sink = {note, &noted};
	route_step(region->route, &event, sink);
	while (route_settle(region->route, time, 1, sink)) {
	}
	return noted;
}

static struct route_event learned_event(uint32_t metric)
{
	static const uint32_t path[4] = {1, 2, 3, 4};
	return (struct route_event){
	    .kind = ROUTE_LEARNED,
	    .id = "tun-a",
	    .learned = {.destination = prefix("192.168.1.0/24"), .metric = metric, .as_path = path, .as_count = metric}};
}

static void test_since(void **state)
{
	(void)state;
	struct region region = small_region();
	struct noted first = noted_at(&region, 5000, learned_event(1));
	assert_int_equal(first.since, 5000);
	struct route_event down = {.kind = ROUTE_TUNNEL_STATE, .id = "tun-a"};
	assert_int_equal(noted_at(&region, 6000, down).since, 6000); // no longer effective
	down.tunnel_state.up = true;
	assert_int_equal(noted_at(&region, 7000, down).since, 7000);
	assert_int_equal(noted_at(&region, 8000, learned_event(1)).since, 0); // nothing changed: nothing published
	assert_int_equal(noted_at(&region, 9000, learned_event(2)).since, 9000);
	region_free(&region);
}

static void test_restart(void **state)
{
	(void)state;
	struct region region = small_region();
	struct noted first = noted_at(&region, 5000, learned_event(1));
	region_free(&region);

	region = small_region();
	route_remember(region.route, "bgw/PROPAGATED/192.168.1.0/24/tun-a", first.state, first.since, first.order);
	route_remember(region.route, "bgw/PROPAGATED/192.168.9.0/24/tun-a", 1, 1, first.order + 1);
	// The snapshot brings others first; the two that were there keep their places.
	learn(&region, "tun-a", "192.168.7.0/24", 1);
	learn(&region, "tun-a", "192.168.8.0/24", 1);
	struct noted again = noted_at(&region, 90000, learned_event(1));
	assert_int_equal(again.since, 5000);
	assert_int_equal(again.order, first.order);
	learn(&region, "tun-a", "192.168.9.0/24", 1);
	assert_string_equal(through(&region, "bgw/192.168.9.0/24"), "tun-a of vpn");
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.7.0/24/tun-a", quota_reason);
	assert_row(&region, ROUTE_TABLE_SHOWN, "bgw/PROPAGATED/192.168.8.0/24/tun-a", quota_reason);
	route_forget(region.route);
	region_free(&region);
}

static void test_restart_in_another_state(void **state)
{
	(void)state;
	struct region region = small_region();
	route_remember(region.route, "bgw/PROPAGATED/192.168.1.0/24/tun-a", 12345, 5000, 0);
	assert_int_equal(noted_at(&region, 90000, learned_event(1)).since, 90000);
	region_free(&region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_learned),
	    cmocka_unit_test(test_static),
	    cmocka_unit_test(test_warnings_of_learned),
	    cmocka_unit_test(test_warnings_of_static),
	    cmocka_unit_test(test_limits_of_the_tenant),
	    cmocka_unit_test(test_since),
	    cmocka_unit_test(test_restart),
	    cmocka_unit_test(test_restart_in_another_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
