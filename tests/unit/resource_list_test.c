// Lists and route tables in pages: each row once and in order while others come and go, filters by what is shown, nothing of
// another tenant, and no request that looks at everything there is.
#include "services/resource/format.h"
#include "tests/unit/resource_region.h"

#include <regex.h>

enum { SEEN = 300 };
struct seen {
	size_t count;
	char ids[SEEN][64];
};

static void see(void *context, const struct record *row)
{
	struct seen *seen = context;
	assert_true(seen->count < SEEN);
	strcpy(seen->ids[seen->count++], record_text(row, "id"));
}

static struct list_query query_of(struct region *r, enum resource_kind kind, const char *path, const char *value)
{
	struct list_query query = {.actor = &r->actor, .kind = kind};
	if (path) {
		query.filters[query.filter_count++] = (struct list_filter){path, value};
	}
	return query;
}

static size_t count_of(struct region *r, enum resource_kind kind, const char *path, const char *value)
{
	struct list_query query = query_of(r, kind, path, value);
	struct page page = {.limit = SEEN};
	struct seen seen = {0};
	struct problem problem = {0};
	for (size_t i = 0; i < query.filter_count; i++) {
		if (!list_filter_fits(kind, &query.filters[i], &problem)) {
			fail_msg("%s=%s: %s", path, value, problem.rule);
		}
	}
	assert_true(resource_list(r->resource, &query, &page, see, &seen, &problem));
	assert_string_equal(page.next, "");
	return seen.count;
}

static void raise_quota(struct region *r, const char *tenant)
{
	make(r, RESOURCE_QUOTA, "{'name':'%s','vpcs':1000}", tenant);
}

static void test_pages(void **state)
{
	(void)state;
	struct region r = region_new();
	raise_quota(&r, "default");
	static char made[40][64];
	for (size_t i = 0; i < 30; i++) {
		r.now -= i % 3 ? 1000u : 0u; // three in a millisecond
		strcpy(made[i], make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16']}"));
	}
	struct list_query query = query_of(&r, RESOURCE_VPC, NULL, NULL);
	struct seen seen = {0};
	struct problem problem = {0};
	struct page page = {.limit = 7};
	char cursor[CURSOR_TEXT];
	size_t pages = 0;
	do {
		size_t before = seen.count;
		assert_true(resource_list(r.resource, &query, &page, see, &seen, &problem));
		assert_true(seen.count - before <= 7);
		strcpy(cursor, page.next);
		page.cursor = cursor;
		if (pages == 1) {
			// The row where the page ended goes, one that was shown too; others come, at the end.
			assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC, made[13], NULL), 0);
			assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC, made[2], NULL), 0);
			strcpy(made[30], make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16']}"));
			assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC, made[20], "{'name':'changed'}"), 0);
		}
		pages++;
	} while (page.next[0]);
	// Each that was there all the time is seen, in the order of creation; one of the cursor's millisecond may come twice.
	size_t at = 0;
	for (size_t i = 0; i < 31; i++) {
		size_t found = 0;
		for (size_t j = 0; j < seen.count; j++) {
			if (strcmp(seen.ids[j], made[i]) == 0) {
				found++;
				assert_true(j + 2 >= at);
				at = j;
			}
		}
		assert_in_range(found, 1, i == 12 ? 2 : 1);
	}
	region_free(&r);
}

static void test_bad_cursors(void **state)
{
	(void)state;
	struct region r = region_new();
	struct list_query query = query_of(&r, RESOURCE_VPC, NULL, NULL);
	static const char *const bad[] = {"", "x", "abc", "7", "zz", "2020", "00"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct page page = {.limit = 7, .cursor = bad[i]};
		struct problem problem = {0};
		struct seen seen = {0};
		bool fits = resource_list(r.resource, &query, &page, see, &seen, &problem);
		assert_true(fits == (strcmp(bad[i], "2020") == 0)); // two spaces: a place, of nobody
		assert_int_equal(problem.status, fits ? 0 : 400);
	}
	region_free(&r);
}

static void test_filters_by_what_is_shown(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection, "{'ike':{'dhGroups':[2]}}"), 0);
	struct tunnel_status up = {.state = TUNNEL_UP, .reason = "", .ike_suite = "AES"};
	struct bgp_session established = {.state = "Established"};
	resource_report_status(r.resource, r.id, &up);
	resource_report_bgp(r.resource, r.id, &established);
	static const struct {
		enum resource_kind kind;
		const char *path, *value;
		size_t count;
	} cases[] = {
	    {RESOURCE_VPN_TUNNEL, "runningStatus", "UP", 1},
	    {RESOURCE_VPN_TUNNEL, "runningStatus", "DOWN", 1},
	    {RESOURCE_VPN_TUNNEL, "runningStatus", "CONNECTING", 0},
	    {RESOURCE_VPN_TUNNEL, "bgpState", "Established", 1},
	    {RESOURCE_VPN_TUNNEL, "bgpState", "Idle", 1},
	    {RESOURCE_VPN_TUNNEL, "reason", "its node has not reported on it yet", 1},
	    {RESOURCE_VPN_TUNNEL, "ikeSuite", "AES", 1},
	    {RESOURCE_VPN_TUNNEL, "weak", "ike.dhGroups 2", 2},
	    {RESOURCE_VPN_TUNNEL, "adminState", "UP", 2},
	    {RESOURCE_VPN_TUNNEL, "adminState", "DOWN", 0},
	    {RESOURCE_VPN_TUNNEL, "nodeId", "node-b", 1},
	    {RESOURCE_VPN_TUNNEL, "insideSwapped", "false", 2},
	    {RESOURCE_VPN_TUNNEL, "name", "", 2},
	    {RESOURCE_VPN_CONNECTION, "haStatus", "NOT_HIGHLY_AVAILABLE", 1},
	    {RESOURCE_VPN_CONNECTION, "haStatus", "HIGHLY_AVAILABLE", 0},
	    {RESOURCE_BORDER_GATEWAY, "asn", "65000", 1},
	    {RESOURCE_BORDER_GATEWAY, "asn", "65001", 0},
	    {RESOURCE_BORDER_GATEWAY, "nodeIds", "node-a", 1},
	    {RESOURCE_CUSTOMER_GATEWAY, "publicAddresses", "203.0.113.2", 1},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (count_of(&r, cases[i].kind, cases[i].path, cases[i].value) != cases[i].count) {
			fail_msg("%s=%s", cases[i].path, cases[i].value);
		}
	}
	// Both filters hold, the one with an index and the one without.
	struct list_query query = query_of(&r, RESOURCE_VPN_TUNNEL, "vpnConnectionId", t.connection);
	query.filters[query.filter_count++] = (struct list_filter){"runningStatus", "UP"};
	struct page page = {.limit = 10};
	struct seen seen = {0};
	struct problem problem = {0};
	assert_true(resource_list(r.resource, &query, &page, see, &seen, &problem));
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.ids[0], r.id);
	static const struct list_filter bad[] = {{"nothing", "1"},          {"ike", "x"},         {"ike.version", "V2"},
	                                         {"runningStatus", "GOOD"}, {"adminState", "ON"}, {"revision", "one"},
	                                         {"insideSwapped", "1"},    {"bgpState", ""}};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		problem = (struct problem){0};
		assert_false(list_filter_fits(RESOURCE_VPN_TUNNEL, &bad[i], &problem));
		assert_int_equal(problem.status, 400);
		assert_string_equal(problem.field, bad[i].path);
	}
	assert_false(list_filter_fits(RESOURCE_TOKEN, &(struct list_filter){"token", "x"}, &problem));
	region_free(&r);
}

// Whatever is filtered for, and through whichever index: a tenant sees its own.
static void test_tenants_apart(void **state)
{
	(void)state;
	struct region r = region_new();
	static const char *const tenants[] = {"acme", "other"};
	for (size_t i = 0; i < 2; i++) {
		make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16'],'name':'same','tenant':'%s'}", tenants[i]);
	}
	char id[64];
	strcpy(id, r.id);
	strcpy(r.actor.tenant, "acme");
	assert_int_equal(count_of(&r, RESOURCE_VPC, NULL, NULL), 1);
	assert_int_equal(count_of(&r, RESOURCE_VPC, "name", "same"), 1);
	assert_int_equal(count_of(&r, RESOURCE_VPC, "id", id), 0);
	assert_int_equal(count_of(&r, RESOURCE_VPC, "tenant", "other"), 0);
	assert_int_equal(count_of(&r, RESOURCE_VPC_ROUTE_TABLE, "vpcId", id), 0);
	r.actor.tenant[0] = '\0';
	assert_int_equal(count_of(&r, RESOURCE_VPC, "tenant", "other"), 1);
	assert_int_equal(count_of(&r, RESOURCE_VPC, NULL, NULL), 2);
	region_free(&r);
}

// A filter that hardly anything passes does not make one request look at everything: the page is short and has a next one.
static void test_work_is_bounded(void **state)
{
	(void)state;
	struct region r = region_new();
	enum { ROWS = LIST_EXAMINED + 50 };
	for (unsigned i = 0; i < ROWS; i++) {
		struct record *row = record_new(RESOURCE_CUSTOMER_GATEWAY);
		char id[32];
		snprintf(id, sizeof id, "cgw-%010u", i);
		record_set_text(row, "id", id);
		record_set_text(row, "createdAt", "2026-01-01T00:00:00.000Z");
		record_set_number(row, "asn", i == ROWS - 1 ? 65001 : 65000);
		resource_load(r.resource, row);
	}
	struct list_query query = query_of(&r, RESOURCE_CUSTOMER_GATEWAY, "asn", "65001");
	struct page page = {.limit = 10};
	struct seen seen = {0};
	struct problem problem = {0};
	char cursor[CURSOR_TEXT];
	assert_true(resource_list(r.resource, &query, &page, see, &seen, &problem));
	assert_int_equal(seen.count, 0);
	assert_true(page.next[0]);
	strcpy(cursor, page.next);
	page.cursor = cursor;
	assert_true(resource_list(r.resource, &query, &page, see, &seen, &problem));
	assert_int_equal(seen.count, 1);
	assert_false(page.next[0]);
	region_free(&r);
}

// ---- routes ----
static void report_route(struct region *r, const char *owner, enum shown_table table, const char *destination, const char *hop,
                         const char *type, bool effective)
{
	char key[128];
	snprintf(key, sizeof key, "%s/%d/%s/%s", owner, (int)table, destination, hop);
	struct shown_route route = {.table = table,
	                            .owner = owner,
	                            .destination = destination,
	                            .next_hop_type = "VPN_CONNECTION",
	                            .next_hop_id = hop,
	                            .type = type,
	                            .effective = effective};
	assert_true(resource_report_route(r->resource, text_bytes(key), &route));
}

static size_t page_of_routes(struct region *r, const char *gateway, struct route_query query, struct page *page, char first[64],
                             char last[64])
{
	struct problem problem = {0};
	const struct record *row = resource_find(r->resource, RESOURCE_BORDER_GATEWAY, gateway);
	struct record *routes = resource_routes(r->resource, row, &query, page, &problem);
	assert_non_null(routes);
	const char *path = route_list_path(query.table);
	size_t count = record_count(routes, path);
	if (count) {
		strcpy(first, record_text(record_at(routes, path, 0), "destination"));
		strcpy(last, record_text(record_at(routes, path, count - 1), "destination"));
	}
	record_free(&routes);
	return count;
}

static void test_route_pages(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	for (unsigned i = 0; i < 250; i++) {
		char destination[32];
		unsigned n = i * 7 % 250; // not in order
		snprintf(destination, sizeof destination, "10.%u.0.0/16", n);
		report_route(&r, t.gateway, SHOWN_PROPAGATED, destination, "vpn-1", "EBGP", n % 50 != 0);
		report_route(&r, t.gateway, SHOWN_EFFECTIVE, destination, "vpn-1", "EBGP", true);
	}
	report_route(&r, t.gateway, SHOWN_PROPAGATED, "10.3.0.0/16", "vpn-0", "EBGP", false);
	report_route(&r, t.gateway, SHOWN_PROPAGATED, "9.0.0.0/8", "att-1", "PROPAGATED", true);
	report_route(&r, t.gateway, SHOWN_STATIC, "10.3.0.0/17", "vpn-0", "STATIC", true);
	const struct record *row = resource_find(r.resource, RESOURCE_BORDER_GATEWAY, t.gateway);
	struct record *shown = resource_show(r.resource, row, true);
	assert_int_equal(record_count(shown, "routeTables.effectiveRoutes"), ROUTES_SHOWN);
	assert_int_equal(record_number(shown, "routeTables.staticCount"), 1);
	assert_int_equal(record_number(shown, "routeTables.propagatedCount"), 252);
	assert_int_equal(record_number(shown, "routeTables.learnedCount"), 251);
	assert_int_equal(record_number(shown, "routeTables.effectiveCount"), 250);
	assert_int_equal(record_number(shown, "routeTables.notEffectiveCount"), 6);
	assert_true(record_flag(shown, "routeTables.truncated"));
	record_free(&shown);

	struct page page = {.limit = 100};
	char first[64], last[64], cursor[CURSOR_TEXT];
	struct route_query all = {.table = SHOWN_PROPAGATED};
	assert_int_equal(page_of_routes(&r, t.gateway, all, &page, first, last), 100);
	assert_string_equal(first, "9.0.0.0/8");
	assert_string_equal(last, "10.97.0.0/16");
	// What is withdrawn where the page ended does not stop the next one, and what comes before it is not shown again.
	strcpy(cursor, page.next);
	page.cursor = cursor;
	char key[128];
	snprintf(key, sizeof key, "%s/%d/10.97.0.0/16/vpn-1", t.gateway, (int)SHOWN_PROPAGATED);
	assert_true(resource_report_route(r.resource, text_bytes(key), NULL));
	assert_int_equal(page_of_routes(&r, t.gateway, all, &page, first, last), 100);
	assert_string_equal(first, "10.98.0.0/16");
	// A cursor of one table is none of another.
	strcpy(cursor, page.next);
	struct problem problem = {0};
	assert_null(resource_routes(r.resource, row, &(struct route_query){.table = SHOWN_EFFECTIVE}, &page, &problem));
	assert_int_equal(problem.status, 400);
	assert_int_equal(page_of_routes(&r, t.gateway, all, &page, first, last), 52);
	assert_string_equal(last, "10.249.0.0/16");
	assert_string_equal(page.next, "");
	// One destination: all its next hops, the effective one first.
	page = (struct page){.limit = 1};
	struct route_query one = {SHOWN_PROPAGATED, "10.3.0.0/16"};
	shown = resource_routes(r.resource, row, &one, &page, &problem);
	assert_int_equal(record_count(shown, "routeTables.propagatedRoutes"), 1);
	assert_true(record_is(record_at(shown, "routeTables.propagatedRoutes", 0), "nextHopId", "vpn-1"));
	record_free(&shown);
	strcpy(cursor, page.next);
	page.cursor = cursor;
	assert_int_equal(page_of_routes(&r, t.gateway, one, &page, first, last), 1);
	assert_string_equal(page.next, "");
	one.destination = "10.3.0.1/16";
	page.cursor = NULL;
	assert_null(resource_routes(r.resource, row, &one, &page, &problem));
	assert_string_equal(problem.field, "destination");
	struct shown_route odd = {.owner = t.gateway, .destination = "nowhere", .type = "EBGP"};
	assert_false(resource_report_route(r.resource, text_bytes("odd"), &odd));
	region_free(&r);
}

// ---- forms ----
// What the rules' pattern says of a form is true of what is accepted, and where it is exact, of what is not.
static void test_patterns(void **state)
{
	(void)state;
	static const char *const texts[] = {"a",
	                                    "node-a",
	                                    "-a",
	                                    "a-",
	                                    "A",
	                                    "",
	                                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	                                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	                                    "203.0.113.1",
	                                    "256.0.0.1",
	                                    "10.0.0.0/8",
	                                    "10.0.0.0/33",
	                                    "169.254.9.0/30",
	                                    "169.254.9.4/29",
	                                    "Abcdefg1",
	                                    "0bcdefg1",
	                                    "Abcdef1",
	                                    "Abc def1",
	                                    "AUTO",
	                                    "OFF",
	                                    "1400",
	                                    "0536",
	                                    "9001"};
	for (size_t format = 0; format < FORMATS; format++) {
		regex_t pattern;
		if (!form_rules[format].pattern) {
			continue;
		}
		assert_int_equal(regcomp(&pattern, form_rules[format].pattern, REG_EXTENDED | REG_NOSUB), 0);
		for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
			struct field_rule rule = {.format = (enum field_format)format, .maximum = 32};
			bool accepted = format_check(&rule, texts[i]) == NULL,
			     matches = regexec(&pattern, texts[i], 0, NULL, 0) == 0;
			if ((accepted && !matches) || (form_rules[format].exact && accepted != matches)) {
				fail_msg("%s: %s", form_rules[format].pattern, texts[i]);
			}
		}
		regfree(&pattern);
	}
	struct field_rule label = {.format = FORMAT_LABEL, .maximum = 64};
	assert_null(format_check(&label, "Zürich ünd 東京"));
	static const char *const controls[] = {"a\nb", "a\x1b[2J", "a\x7f", "a\xc2\x80",
	                                       "a\xc2\x9b"
	                                       "2J"};
	for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
		assert_non_null(format_check(&label, controls[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pages),
	    cmocka_unit_test(test_bad_cursors),
	    cmocka_unit_test(test_filters_by_what_is_shown),
	    cmocka_unit_test(test_tenants_apart),
	    cmocka_unit_test(test_work_is_bounded),
	    cmocka_unit_test(test_route_pages),
	    cmocka_unit_test(test_patterns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
