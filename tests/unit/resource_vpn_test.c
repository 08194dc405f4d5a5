// Customer gateways, connections, tunnels: allocation, the layout, the rules between fields, what is shown of what others
// report.
#include "tests/unit/resource_region.h"

#define KEY "Canary.key_12345"

static void test_cloud_addresses(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	static const char form[] = "{'borderGatewayId':'%s','customerGatewayId':'%s'}";
	const struct record *row = resource_find(r.resource, RESOURCE_VPN_CONNECTION, t.connection);
	assert_int_equal(record_count(row, "cloudAddresses"), 2);
	assert_string_equal(record_text(record_at(row, "cloudAddresses", 0), "address"), "198.51.100.17");
	assert_string_equal(record_text(record_at(row, "cloudAddresses", 0), "nodeId"), "node-a");
	assert_string_equal(record_text(record_at(row, "cloudAddresses", 1), "address"), "198.51.100.33");
	assert_string_equal(record_text(record_at(row, "cloudAddresses", 1), "nodeId"), "node-b");
	assert_true(record_is(row, "routing", "BGP"));
	// The second takes the next ones; then a node's pool is empty, and a third node comes in.
	make(&r, RESOURCE_VPN_CONNECTION, form, t.gateway, t.customer);
	refused(&r, 409, "no-free-address", "cloudAddresses", RESOURCE_VPN_CONNECTION, form, t.gateway, t.customer);
	make(&r, RESOURCE_NODE, "{'name':'node-c','publicAddresses':['198.51.100.49'],'fabricAddress':'10.255.0.13'}");
	refused(&r, 409, "no-free-address", "cloudAddresses", RESOURCE_VPN_CONNECTION, form, t.gateway, t.customer);
	make(&r, RESOURCE_NODE, "{'name':'node-d','publicAddresses':['198.51.100.65'],'fabricAddress':'10.255.0.14'}");
	make(&r, RESOURCE_VPN_CONNECTION, form, t.gateway, t.customer);
	assert_int_equal(record_count(resource_find(r.resource, RESOURCE_BORDER_GATEWAY, t.gateway), "nodeIds"), 4);
	// A gateway leaves a node that none of its connections is on, but for its last two.
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_CONNECTION, r.id, NULL), 0);
	row = resource_find(r.resource, RESOURCE_BORDER_GATEWAY, t.gateway);
	assert_int_equal(record_count(row, "nodeIds"), 2);
	assert_string_equal(record_text_at(row, "nodeIds", 0), "node-a");
	assert_string_equal(record_text_at(row, "nodeIds", 1), "node-b");
	// An address that was given back is given out again.
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_CONNECTION, t.connection, NULL), 0);
	make(&r, RESOURCE_VPN_CONNECTION, form, t.gateway, t.customer);
	row = resource_find(r.resource, RESOURCE_VPN_CONNECTION, r.id);
	assert_string_equal(record_text(record_at(row, "cloudAddresses", 0), "address"), "198.51.100.17");
	region_free(&r);
}

static void test_customer_gateway(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	refused(&r, 422, "required-field", "asn", RESOURCE_CUSTOMER_GATEWAY, "{'publicAddresses':['203.0.113.9']}");
	refused(&r, 422, "count", "publicAddresses", RESOURCE_CUSTOMER_GATEWAY,
	        "{'asn':65010,'publicAddresses':['203.0.113.1','203.0.113.2','203.0.113.3','203.0.113.4','203.0.113.5']}");
	refused(&r, 422, "bad-value", "publicAddresses", RESOURCE_CUSTOMER_GATEWAY,
	        "{'asn':65010,'publicAddresses':['198.51.100.18']}");
	refused(&r, 422, "bad-value", "publicAddresses[0]", RESOURCE_CUSTOMER_GATEWAY,
	        "{'asn':65010,'publicAddresses':['2001:db8::1']}");
	refused(&r, 422, "out-of-range", "asn", RESOURCE_CUSTOMER_GATEWAY, "{'asn':0,'publicAddresses':['203.0.113.9']}");
	// The AS of the tenant's only border gateway cannot be right; that of one of two may be, and the connection says so.
	refused(&r, 422, "same-asn", "asn", RESOURCE_CUSTOMER_GATEWAY, "{'asn':65000,'publicAddresses':['203.0.113.9']}");
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_CUSTOMER_GATEWAY, t.customer, "{'asn':65000}"), 409); // in use
	make(&r, RESOURCE_CUSTOMER_GATEWAY, "{'asn':65009,'publicAddresses':['203.0.113.9']}");
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_CUSTOMER_GATEWAY, r.id, "{'asn':65000}"), 422);
	make(&r, RESOURCE_CUSTOMER_GATEWAY, "{'asn':65000,'publicAddresses':['203.0.113.9'],'tenant':'other'}"); // has none
	make(&r, RESOURCE_BORDER_GATEWAY, "{'asn':65001}");
	make(&r, RESOURCE_CUSTOMER_GATEWAY, "{'asn':65000,'publicAddresses':['203.0.113.9']}");
	char same[64];
	strcpy(same, r.id);
	refused(&r, 422, "same-asn", "customerGatewayId", RESOURCE_VPN_CONNECTION,
	        "{'borderGatewayId':'%s','customerGatewayId':'%s'}", t.gateway, same);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_CUSTOMER_GATEWAY, same, "{'asn':65011}"), 0);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_CUSTOMER_GATEWAY, t.customer, "{'asn':65011}"), 409);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_CUSTOMER_GATEWAY, t.customer,
	                         "{'publicAddresses':['203.0.113.1','203.0.113.3']}"),
	                 0);
	assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection, "{}"), 0);
	assert_int_equal(
	    request(&r, ACTION_UPDATE, RESOURCE_CUSTOMER_GATEWAY, t.customer, "{'publicAddresses':['203.0.113.1']}"), 409);
	assert_refused(&r, 409, "in-use", "publicAddresses");
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_CUSTOMER_GATEWAY, t.customer, NULL), 409);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_CONNECTION, t.connection, NULL), 409);
	region_free(&r);
}

static void test_layouts(void **state)
{
	(void)state;
	static const struct {
		const char *addresses;
		size_t tunnels;
		const char *pairs[4];
	} cases[] = {
	    {"'203.0.113.1'", 2, {"198.51.100.17 203.0.113.1", "198.51.100.33 203.0.113.1"}},
	    {"'203.0.113.1','203.0.113.2'", 2, {"198.51.100.17 203.0.113.1", "198.51.100.33 203.0.113.2"}},
	    {"'203.0.113.1','203.0.113.2','203.0.113.3'",
	     3,
	     {"198.51.100.17 203.0.113.1", "198.51.100.33 203.0.113.2", "198.51.100.17 203.0.113.3"}},
	    {"'203.0.113.1','203.0.113.2','203.0.113.3','203.0.113.4'",
	     4,
	     {"198.51.100.17 203.0.113.1", "198.51.100.17 203.0.113.2", "198.51.100.33 203.0.113.3",
	      "198.51.100.33 203.0.113.4"}},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct region r = region_new();
		struct tutorial t = tutorial_new(&r);
		char text[256];
		snprintf(text, sizeof text, "{'publicAddresses':[%s]}", cases[i].addresses);
		assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_CUSTOMER_GATEWAY, t.customer, text), 0);
		assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection,
		                         "{'name':'t','dpd':{'intervalSeconds':2}}"),
		                 0);
		size_t n = 0;
		for (struct row_cursor c = {0}; resource_next(r.resource, RESOURCE_VPN_TUNNEL, &c); n++) {
			char pair[64], name[16];
			snprintf(pair, sizeof pair, "%s %s", record_text(c.row, "cloudAddress"),
			         record_text(c.row, "customerAddress"));
			snprintf(name, sizeof name, "t-%zu", n + 1);
			assert_string_equal(pair, cases[i].pairs[n]);
			assert_string_equal(record_text(c.row, "name"), name);
			assert_int_equal(record_number(c.row, "dpd.intervalSeconds"), 2);
		}
		assert_int_equal(n, cases[i].tunnels);
		// Later ones are added singly.
		assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection, "{}"), 422);
		assert_refused(&r, 422, "required-field", "cloudAddress");
		assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection,
		                         "{'cloudAddress':'198.51.100.17','customerAddress':'203.0.113.1'}"),
		                 409);
		if (cases[i].tunnels == 2 && i == 1) {
			assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection,
			                         "{'cloudAddress':'198.51.100.17','customerAddress':'203.0.113.2'}"),
			                 0);
		}
		region_free(&r);
	}
}

static void test_tunnel_defaults(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection, "{}"), 0);
	assert_true(r.generated);
	assert_int_equal(r.secret.length, 32);
	const struct record *row = resource_find(r.resource, RESOURCE_VPN_TUNNEL, r.id);
	assert_true(record_is(row, "adminState", "UP"));
	assert_true(record_is(row, "localId", "198.51.100.17"));
	assert_true(record_is(row, "remoteId", "203.0.113.1"));
	assert_true(record_is(row, "insideCidr", "169.254.6.0/30"));
	assert_true(record_is(row, "cloudInsideAddress", "169.254.6.1"));
	assert_true(record_is(row, "customerInsideAddress", "169.254.6.2"));
	assert_true(record_is(row, "nodeId", "node-a"));
	assert_true(record_is(row, "borderGatewayId", t.gateway));
	assert_true(record_is(row, "ike.version", "V2"));
	assert_int_equal(record_count(row, "ike.encryption"), 4);
	assert_int_equal(record_number_at(row, "ike.dhGroups", 0), 31);
	assert_int_equal(record_number(row, "rekeyMarginSeconds"), 270);
	assert_int_equal(record_number(row, "dpd.intervalSeconds"), 3);
	assert_int_equal(record_number(row, "dpd.timeoutSeconds"), 9);
	assert_int_equal(record_number(row, "bgp.holdTime"), 9);
	assert_int_equal(record_number(row, "bgp.keepalive"), 3);
	assert_true(record_is(row, "maximumSegmentSize", "AUTO"));
	assert_false(record_has(row, "ike.preSharedKey"));
	assert_true(record_is(resource_find(r.resource, RESOURCE_VPN_TUNNEL, r.second), "insideCidr", "169.254.6.4/30"));
	region_free(&r);
}

// One tunnel with these fields beside its ends; the connection has no other.
static int add(struct region *r, const struct tutorial *t, const char *fields)
{
	char text[1024];
	snprintf(text, sizeof text, "{'cloudAddress':'198.51.100.17','customerAddress':'203.0.113.1'%s%s}", *fields ? "," : "",
	         fields);
	return request(r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t->connection, text);
}

static void test_tunnel_refusals(void **state)
{
	(void)state;
	static const struct {
		const char *fields, *type, *field;
	} cases[] = {
	    {"'insideCidr':'169.254.0.0/30'", "bad-value", "insideCidr"},
	    {"'insideCidr':'169.254.5.0/30'", "bad-value", "insideCidr"},
	    {"'insideCidr':'169.254.169.252/30'", "bad-value", "insideCidr"},
	    {"'insideCidr':'169.254.8.0/29'", "bad-value", "insideCidr"},
	    {"'insideCidr':'169.254.8.1/30'", "bad-value", "insideCidr"},
	    {"'insideCidr':'10.0.0.0/30'", "bad-value", "insideCidr"},
	    {"'insideCidr':'fd00::/126'", "bad-value", "insideCidr"},
	    {"'ike':{'version':'V1'}", "not-available", "ike.version"},
	    {"'ike':{'preSharedKey':'short'}", "bad-value", "ike.preSharedKey"},
	    {"'ike':{'preSharedKey':'0xabcdefgh'}", "bad-value", "ike.preSharedKey"},
	    {"'ike':{'preSharedKey':'white space'}", "bad-value", "ike.preSharedKey"},
	    {"'ike':{'dhGroups':[1]}", "not-allowed", "ike.dhGroups[0]"},
	    {"'ike':{'dhGroups':[0]}", "not-allowed", "ike.dhGroups[0]"},
	    {"'ike':{'dhGroups':[]}", "count", "ike.dhGroups"},
	    {"'ike':{'dhGroups':[14,14]}", "duplicate", "ike.dhGroups[1]"},
	    {"'ike':{'encryption':['AES128','AES128']}", "duplicate", "ike.encryption[1]"},
	    {"'ike':{'lifetimeSeconds':899}", "out-of-range", "ike.lifetimeSeconds"},
	    {"'ipsec':{'lifetimeSeconds':86401}", "out-of-range", "ipsec.lifetimeSeconds"},
	    {"'ipsec':{'lifetimeBytes':1048575}", "out-of-range", "ipsec.lifetimeBytes"},
	    {"'ipsec':{'lifetimePackets':9999}", "out-of-range", "ipsec.lifetimePackets"},
	    {"'ipsec':{'replayWindow':63}", "out-of-range", "ipsec.replayWindow"},
	    {"'ipsec':{'replayWindow':4097}", "out-of-range", "ipsec.replayWindow"},
	    {"'rekeyMarginSeconds':59", "out-of-range", "rekeyMarginSeconds"},
	    {"'rekeyMarginSeconds':1801", "out-of-range", "rekeyMarginSeconds"},
	    {"'rekeyFuzzPercent':101", "out-of-range", "rekeyFuzzPercent"},
	    {"'dpd':{'intervalSeconds':30,'timeoutSeconds':30}", "out-of-range", "dpd.timeoutSeconds"},
	    {"'bgp':{'holdTime':2}", "out-of-range", "bgp.holdTime"},
	    {"'bgp':{'holdTime':9,'keepalive':4}", "out-of-range", "bgp.keepalive"},
	    {"'maximumSegmentSize':'535'", "bad-value", "maximumSegmentSize"},
	    {"'maximumSegmentSize':'auto'", "bad-value", "maximumSegmentSize"},
	    {"'localId':'two words'", "bad-value", "localId"},
	    {"'localId':'10.0.0'", "bad-value", "localId"},
	    {"'runningStatus':'UP'", "output-field", "runningStatus"},
	    {"'statistics':{'drops':1}", "output-field", "statistics"},
	};
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (add(&r, &t, cases[i].fields) == 0) {
			fail_msg("accepted: %s", cases[i].fields);
		}
		assert_string_equal(r.problem.type, cases[i].type);
		assert_string_equal(r.problem.field, cases[i].field);
		assert_null(strstr(r.problem.value, "abcdefgh")); // never a key
	}
	struct row_cursor none = {0};
	assert_false(resource_next(r.resource, RESOURCE_VPN_TUNNEL, &none)); // nothing changed
	static const char *const accepted[] = {"'localId':'vpn.example.com','remoteId':'me@example.com'",
	                                       "'localId':'branch-1'",
	                                       "'ipsec':{'pfsGroups':[0]}",
	                                       "'maximumSegmentSize':'1360'",
	                                       "'insideCidr':'169.254.0.4/30','insideSwapped':true",
	                                       "'ipsec':{'lifetimeSeconds':300}",
	                                       "'ipsec':{'lifetimeBytes':1048576,'lifetimePackets':10000,'replayWindow':0}",
	                                       "'bgp':{'holdTime':9}"};
	for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
		assert_int_equal(add(&r, &t, accepted[i]), 0);
		const struct record *row = resource_find(r.resource, RESOURCE_VPN_TUNNEL, r.id);
		if (i == 4) {
			assert_true(record_is(row, "cloudInsideAddress", "169.254.0.6") &&
			            record_is(row, "customerInsideAddress", "169.254.0.5"));
		}
		if (i == 5) {
			assert_int_equal(record_number(row, "rekeyMarginSeconds"), 150);
		}
		if (i == 7) {
			assert_int_equal(record_number(row, "bgp.keepalive"), 3);
		}
		char id[64];
		strcpy(id, r.id);
		assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_TUNNEL, id, NULL), 409);
		assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'adminState':'DOWN'}"), 0);
		assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_TUNNEL, id, NULL), 0);
	}
	region_free(&r);
}

static void test_tunnel_changes(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	assert_int_equal(add(&r, &t, "'ike':{'preSharedKey':'" KEY "'}"), 0);
	assert_false(r.generated);
	assert_int_equal(r.secret.length, strlen(KEY));
	char id[64];
	strcpy(id, r.id);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'insideCidr':'169.254.8.0/30'}"), 409);
	assert_int_equal(
	    request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'insideCidr':'169.254.8.0/30','adminState':'DOWN'}"), 0);
	assert_string_equal(text_of(&r, RESOURCE_VPN_TUNNEL, id, "customerInsideAddress"), "169.254.8.2");
	assert_int_equal(request(&r, ACTION_REKEY_CHILD, RESOURCE_VPN_TUNNEL, id, NULL), 409);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'adminState':'UP'}"), 0);
	assert_int_equal(request(&r, ACTION_REKEY_CHILD, RESOURCE_VPN_TUNNEL, id, NULL), 0);
	assert_int_equal(request(&r, ACTION_REKEY_CHILD, RESOURCE_VPN_TUNNEL, id, NULL), 0);
	assert_int_equal(request(&r, ACTION_REKEY_IKE, RESOURCE_VPN_TUNNEL, id, NULL), 0);
	assert_int_equal(request(&r, ACTION_RESTART, RESOURCE_VPN_TUNNEL, id, NULL), 0);
	// An action that names a revision is for that one.
	r.if_match = 1;
	assert_int_equal(request(&r, ACTION_RESTART, RESOURCE_VPN_TUNNEL, id, NULL), 412);
	assert_int_equal(request(&r, ACTION_REKEY_IKE, RESOURCE_VPN_TUNNEL, id, NULL), 412);
	assert_int_equal(request(&r, ACTION_REKEY_CHILD, RESOURCE_VPN_TUNNEL, id, NULL), 412);
	r.if_match = 9;
	assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection, "{}"), 412);
	r.if_match = 0;
	const struct record *row = resource_find(r.resource, RESOURCE_VPN_TUNNEL, id);
	assert_int_equal(record_number(row, "rekeyChildRequests"), 2);
	assert_int_equal(record_number(row, "rekeyIkeRequests"), 1);
	assert_int_equal(record_number(row, "restartRequests"), 1);
	// A new key is a change, even where nothing of the row is.
	uint64_t revision = record_number(row, "revision");
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'ike':{'preSharedKey':'Another.key_1'}}"), 0);
	assert_int_equal(r.secret.length, 13);
	row = resource_find(r.resource, RESOURCE_VPN_TUNNEL, id);
	assert_int_equal(record_number(row, "revision"), revision + 1);
	assert_false(record_has(row, "ike.preSharedKey"));
	// null is the default again, a list too.
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'ike':{'dhGroups':[2]},'localId':'a.example'}"),
	                 0);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'ike':{'dhGroups':null},'localId':null}"), 0);
	row = resource_find(r.resource, RESOURCE_VPN_TUNNEL, id);
	assert_int_equal(record_count(row, "ike.dhGroups"), 4);
	assert_true(record_is(row, "localId", "198.51.100.17"));
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'ike':{'dhGroups':[]}}"), 422);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, id, "{'cloudAddress':null}"), 422);
	region_free(&r);
}

static void test_shown(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection,
	                         "{'ike':{'integrity':['SHA2_256','SHA1'],'dhGroups':[14,2]}}"),
	                 0);
	char one[64], two[64];
	strcpy(one, r.id);
	strcpy(two, r.second);
	struct tunnel_status up = {.state = TUNNEL_UP, .reason = "", .since = r.now, .ike_suite = "AES", .child_suite = "AES"};
	resource_report_status(r.resource, one, &up);
	struct bgp_session session = {.state = "Established", .since = r.now, .hold_time = 9, .prefixes_received = 2};
	resource_report_bgp(r.resource, one, &session);
	resource_report_counters(r.resource, one, &(struct tunnel_counters){1, 2, 3, 4, 5});
	struct record *shown = resource_show(r.resource, resource_find(r.resource, RESOURCE_VPN_TUNNEL, one), true);
	assert_true(record_is(shown, "runningStatus", "UP"));
	assert_true(record_is(shown, "bgpState", "Established"));
	assert_int_equal(record_number(shown, "statistics.bytesOut"), 4);
	assert_int_equal(record_count(shown, "weak"), 2);
	assert_string_equal(record_text_at(shown, "weak", 0), "ike.integrity SHA1");
	assert_string_equal(record_text_at(shown, "weak", 1), "ike.dhGroups 2");
	record_free(&shown);
	const struct record *connection = resource_find(r.resource, RESOURCE_VPN_CONNECTION, t.connection);
	shown = resource_show(r.resource, connection, true);
	assert_true(record_is(shown, "haStatus", "NOT_HIGHLY_AVAILABLE"));
	record_free(&shown);
	// Revisions are the user's: reports do not touch them, and nothing of them is in the row.
	assert_int_equal(record_number(resource_find(r.resource, RESOURCE_VPN_TUNNEL, one), "revision"), 1);
	assert_false(record_has(resource_find(r.resource, RESOURCE_VPN_TUNNEL, one), "runningStatus"));
	for (uint64_t i = 1; i <= 70; i++) {
		resource_report_event(r.resource, one,
		                      &(struct tunnel_event){.number = i, .time = r.now, .event = "up", .detail = ""});
	}
	struct tunnel_event events[2 * TUNNEL_EVENTS];
	assert_int_equal(resource_events(r.resource, one, events), TUNNEL_EVENTS);
	assert_int_equal(events[0].number, 7);
	assert_int_equal(events[63].number, 70);
	region_free(&r);
}

static void test_routes_shown(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	const char *tunnels[] = {"tun-1"};
	struct shown_route route = {.table = SHOWN_EFFECTIVE,
	                            .owner = t.gateway,
	                            .destination = "192.168.0.0/16",
	                            .next_hop_type = "VPN_CONNECTION",
	                            .next_hop_id = t.connection,
	                            .type = "EBGP",
	                            .metric = 1,
	                            .as_path = (uint32_t[]){65010},
	                            .as_path_length = 1,
	                            .learned = true,
	                            .origin = 2,
	                            .med = 77,
	                            .communities = (uint32_t[]){65010u << 16 | 7, 0xffffff01, 0xffff0000, 65010u << 16 | 65535},
	                            .community_count = 4,
	                            .tunnel_ids = tunnels,
	                            .tunnel_count = 1,
	                            .effective = true,
	                            .reason = "",
	                            .since = r.now};
	struct bytes key = {(const uint8_t *)"k", 1}, vpc_key = {(const uint8_t *)"v", 1};
	resource_report_route(r.resource, key, &route);
	struct record *shown = resource_show(r.resource, resource_find(r.resource, RESOURCE_BORDER_GATEWAY, t.gateway), true);
	const struct record *view = record_at(shown, "routeTables.effectiveRoutes", 0);
	assert_true(record_is(view, "state", "EFFECTIVE") && record_is(view, "nextHopType", "VPN_CONNECTION"));
	assert_int_equal(record_number_at(view, "asPath", 0), 65010);
	assert_true(record_is(view, "origin", "INCOMPLETE") && record_number(view, "med") == 77);
	static const char *const communities[] = {"65010:7", "NO_EXPORT", "GRACEFUL_SHUTDOWN", "65010:65535"};
	assert_int_equal(record_count(view, "communities"), 4);
	for (size_t i = 0; i < 4; i++) {
		assert_string_equal(record_text_at(view, "communities", i), communities[i]);
	}
	assert_string_equal(record_text_at(view, "tunnelIds", 0), "tun-1");
	record_free(&shown);
	// A VPC's route names a group; its members are looked up when it is shown.
	struct shown_route vpc = {.table = SHOWN_VPC,
	                          .owner = t.table,
	                          .destination = "192.168.0.0/16",
	                          .next_hop_type = "BORDER_GATEWAY",
	                          .next_hop_id = t.gateway,
	                          .type = "PROPAGATED",
	                          .group_id = "nhg-1",
	                          .effective = true,
	                          .reason = ""};
	resource_report_group(r.resource, "nhg-1", tunnels, 1);
	resource_report_route(r.resource, vpc_key, &vpc);
	shown = resource_show(r.resource, resource_find(r.resource, RESOURCE_VPC_ROUTE_TABLE, t.table), true);
	assert_string_equal(record_text_at(record_at(shown, "routes", 0), "tunnelIds", 0), "tun-1");
	record_free(&shown);
	route.effective = false;
	route.reason = "tunnel is down";
	resource_report_route(r.resource, key, &route);
	shown = resource_show(r.resource, resource_find(r.resource, RESOURCE_BORDER_GATEWAY, t.gateway), true);
	assert_int_equal(record_count(shown, "routeTables.effectiveRoutes"), 1);
	assert_true(record_is(record_at(shown, "routeTables.effectiveRoutes", 0), "reason", "tunnel is down"));
	record_free(&shown);
	resource_report_route(r.resource, key, NULL);
	resource_report_route(r.resource, vpc_key, NULL);
	shown = resource_show(r.resource, resource_find(r.resource, RESOURCE_BORDER_GATEWAY, t.gateway), true);
	assert_int_equal(record_count(shown, "routeTables.effectiveRoutes"), 0);
	record_free(&shown);
	region_free(&r);
}

static void test_configuration(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	assert_int_equal(add(&r, &t,
	                     "'ike':{'encryption':['AES128'],'integrity':['SHA1'],'dhGroups':[2],'preSharedKey':'" KEY "'},"
	                     "'ipsec':{'encryption':['AES128','AES256_GCM16'],'integrity':['SHA2_256'],'pfsGroups':[0]},'"
	                     "remoteId':'me@example.com'"),
	                 0);
	const struct record *row = resource_find(r.resource, RESOURCE_VPN_TUNNEL, r.id);
	struct problem problem = {0};
	assert_null(resource_configuration(r.resource, row, "cisco", &problem));
	assert_int_equal(problem.status, 422);
	char *text = resource_configuration(r.resource, row, "strongswan-bird", &problem);
	static const char *const parts[] = {"#### strongswan.conf\n",
	                                    "#### swanctl.conf\n",
	                                    "#### setup.sh\n",
	                                    "#### bird.conf\n",
	                                    "secret = \"@PRE_SHARED_KEY@\"",
	                                    "\tproposals = aes128-sha1-modp1024\n",
	                                    "esp_proposals = aes128-sha256,aes256gcm16\n",
	                                    "id = me@example.com\n",
	                                    "\t\tunique = replace\n",
	                                    "neighbor 169.254.6.1 as 65000;",
	                                    "local 169.254.6.2 as 65010;"};
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		if (!strstr(text, parts[i])) {
			fail_msg("missing: %s", parts[i]);
		}
	}
	assert_null(strstr(text, KEY));
	free(text);
	region_free(&r);
}

// The hold time that a device is given is a third of the tunnel's, which the cloud's end accepts at most, and 3 s at least.
static void test_hold_time_of_a_device(void **state)
{
	(void)state;
	static const struct {
		const char *bgp, *printed, *comment;
	} cases[] = {
	    {"{}", "\n\thold time 3;\n\tkeepalive time 1;\n", "the tunnel's own is 9."},
	    {"{'holdTime':4,'keepalive':1}", "\n\thold time 3;\n\tkeepalive time 1;\n", "the tunnel's own is 4."},
	    {"{'holdTime':90}", "\n\thold time 30;\n\tkeepalive time 10;\n", "the tunnel's own is 90."},
	    {"{'holdTime':90,'keepalive':2}", "\n\thold time 30;\n\tkeepalive time 2;\n", "the tunnel's own is 90."},
	    {"{'holdTime':65535}", "\n\thold time 21845;\n\tkeepalive time 10;\n", "the tunnel's own is 65535."},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct region r = region_new();
		struct tutorial t = tutorial_new(&r);
		char options[256];
		snprintf(options, sizeof options, "'bgp':%s", cases[i].bgp);
		assert_int_equal(add(&r, &t, options), 0);
		struct problem problem = {0};
		char *text = resource_configuration(r.resource, resource_find(r.resource, RESOURCE_VPN_TUNNEL, r.id),
		                                    "strongswan-bird", &problem);
		if (!strstr(text, cases[i].printed) || !strstr(text, cases[i].comment)) {
			fail_msg("with bgp %s the device is given\n%s", cases[i].bgp, strstr(text, "#### bird.conf"));
		}
		free(text);
		region_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cloud_addresses), cmocka_unit_test(test_customer_gateway),
	    cmocka_unit_test(test_layouts),         cmocka_unit_test(test_tunnel_defaults),
	    cmocka_unit_test(test_tunnel_refusals), cmocka_unit_test(test_tunnel_changes),
	    cmocka_unit_test(test_shown),           cmocka_unit_test(test_routes_shown),
	    cmocka_unit_test(test_configuration),   cmocka_unit_test(test_hold_time_of_a_device),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
