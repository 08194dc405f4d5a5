// What is shown of tunnels and connections: never more than is confirmed by services that are heard.
#include "tests/unit/resource_region.h"

struct lab {
	struct region r;
	struct tutorial t;
	char one[64], two[64]; // on node-a, on node-b
};

static struct lab lab_new(const char *routing)
{
	struct lab lab = {.r = region_new()};
	char text[64];
	lab.t = tutorial_new(&lab.r);
	snprintf(text, sizeof text, "{'routing':'%s'}", routing);
	assert_int_equal(request(&lab.r, ACTION_UPDATE, RESOURCE_VPN_CONNECTION, lab.t.connection, text), 0);
	assert_int_equal(request(&lab.r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, lab.t.connection, "{}"), 0);
	strcpy(lab.one, lab.r.id);
	strcpy(lab.two, lab.r.second);
	return lab;
}

static void report(struct lab *lab, const char *tunnel, enum tunnel_state state)
{
	struct tunnel_status status = {.state = state, .reason = state == TUNNEL_UP ? "" : "no response", .since = lab->r.now};
	resource_report_status(lab->r.resource, tunnel, &status);
}

static void session(struct lab *lab, const char *tunnel, const char *state, const char *reason, const char *error)
{
	struct bgp_session session = {
	    .state = state, .reason = reason, .last_error = error, .hold_time = 9, .since = lab->r.now};
	resource_report_bgp(lab->r.resource, tunnel, &session);
}

static void all_good(struct lab *lab)
{
	report(lab, lab->one, TUNNEL_UP);
	report(lab, lab->two, TUNNEL_UP);
	session(lab, lab->one, "Established", "", "");
	session(lab, lab->two, "Established", "", "");
}

static void assert_shown(struct lab *lab, enum resource_kind kind, const char *id, const char *path, const char *wanted)
{
	struct record *shown = resource_show(lab->r.resource, resource_find(lab->r.resource, kind, id), true);
	if (!record_is(shown, path, wanted)) {
		fail_msg("%s is \"%s\" and not \"%s\"", path, record_text(shown, path), wanted);
	}
	record_free(&shown);
}

static void assert_tunnel(struct lab *lab, const char *id, const char *running, const char *bgp)
{
	assert_shown(lab, RESOURCE_VPN_TUNNEL, id, "runningStatus", running);
	assert_shown(lab, RESOURCE_VPN_TUNNEL, id, "bgpState", bgp);
}

static void assert_says(struct lab *lab, const char *id, const char *path, const char *part)
{
	struct record *shown = resource_show(lab->r.resource, resource_find(lab->r.resource, RESOURCE_VPN_TUNNEL, id), true);
	if (!strstr(record_text(shown, path), part)) {
		fail_msg("%s \"%s\" does not say \"%s\"", path, record_text(shown, path), part);
	}
	record_free(&shown);
}

static void assert_available(struct lab *lab, bool available)
{
	assert_shown(lab, RESOURCE_VPN_CONNECTION, lab->t.connection, "haStatus",
	             available ? "HIGHLY_AVAILABLE" : "NOT_HIGHLY_AVAILABLE");
}

static void test_availability_needs_sessions(void **state)
{
	(void)state;
	struct lab lab = lab_new("BGP");
	assert_available(&lab, false);
	report(&lab, lab.one, TUNNEL_UP);
	report(&lab, lab.two, TUNNEL_UP);
	assert_available(&lab, false); // no session
	session(&lab, lab.one, "Established", "", "");
	session(&lab, lab.two, "Active", "the customer's device does not answer on TCP port 179", "");
	assert_available(&lab, false); // one session
	assert_tunnel(&lab, lab.two, "UP", "Active");
	assert_says(&lab, lab.two, "bgpReason", "does not answer");
	assert_says(&lab, lab.two, "reason", "BGP is Active: the customer's device does not answer");
	session(&lab, lab.two, "Established", "", "");
	assert_available(&lab, true);
	assert_shown(&lab, RESOURCE_VPN_TUNNEL, lab.two, "reason", "");
	session(&lab, lab.two, "Idle", "", "Cease: administrative shutdown");
	assert_available(&lab, false);
	assert_says(&lab, lab.two, "bgpReason", "administrative shutdown");
	// Without BGP the tunnels are what counts.
	assert_int_equal(request(&lab.r, ACTION_UPDATE, RESOURCE_VPN_CONNECTION, lab.t.connection, "{'routing':'STATIC'}"), 0);
	assert_available(&lab, true);
	assert_tunnel(&lab, lab.two, "UP", "");
	region_free(&lab.r);
}

// A service that is silent vouches for nothing: each one by itself, on its own node alone.
static void test_silent_services(void **state)
{
	(void)state;
	static const struct {
		enum node_service service;
		const char *running, *bgp, *path, *part;
	} cases[] = {
	    {SERVICE_IKE, "UNKNOWN", "Unknown", "reason", "ike of node node-b does not answer; before that the tunnel was UP"},
	    {SERVICE_ESP, "UNKNOWN", "Unknown", "reason", "esp of node node-b does not answer"},
	    {SERVICE_BGP, "UP", "Unknown", "bgpReason",
	     "bgp of node node-b does not answer; before that the session was Established"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct lab lab = lab_new("BGP");
		all_good(&lab);
		assert_available(&lab, true);
		resource_report_service(lab.r.resource, "node-b", cases[i].service, false);
		assert_tunnel(&lab, lab.two, cases[i].running, cases[i].bgp);
		assert_says(&lab, lab.two, cases[i].path, cases[i].part);
		assert_tunnel(&lab, lab.one, "UP", "Established");
		assert_available(&lab, false);
		struct record *node =
		    resource_show(lab.r.resource, resource_find(lab.r.resource, RESOURCE_NODE, "node-b"), true);
		assert_int_equal(record_count(node, "silentServices"), 1);
		assert_string_equal(record_text_at(node, "silentServices", 0), node_service_names[cases[i].service]);
		record_free(&node);
		resource_report_service(lab.r.resource, "node-b", cases[i].service, true);
		assert_tunnel(&lab, lab.two, "UP", "Established");
		assert_available(&lab, true);
		region_free(&lab.r);
	}
	struct lab lab = lab_new("BGP");
	all_good(&lab);
	for (size_t i = 0; i < NODE_SERVICES; i++) {
		resource_report_service(lab.r.resource, "node-b", (enum node_service)i, false);
	}
	assert_tunnel(&lab, lab.two, "DOWN", "Idle");
	assert_says(&lab, lab.two, "reason", "no service of node node-b answers");
	resource_forget_node(lab.r.resource, "node-b");
	assert_tunnel(&lab, lab.two, "UP", "Established");
	region_free(&lab.r);
}

// The answer to the change already says so, whatever ike reported last; and nothing is Established through a tunnel that is not
// UP.
static void test_administratively_down(void **state)
{
	(void)state;
	struct lab lab = lab_new("BGP");
	all_good(&lab);
	assert_int_equal(request(&lab.r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, lab.one, "{'adminState':'DOWN'}"), 0);
	assert_tunnel(&lab, lab.one, "DOWN", "Idle");
	assert_says(&lab, lab.one, "reason", "administratively down");
	assert_available(&lab, false);
	struct record *shown = resource_show(lab.r.resource, resource_find(lab.r.resource, RESOURCE_VPN_TUNNEL, lab.one), true);
	assert_false(record_has(shown, "runningSince")); // ike's "since" is that of UP
	record_free(&shown);
	assert_int_equal(request(&lab.r, ACTION_UPDATE, RESOURCE_VPN_TUNNEL, lab.one, "{'adminState':'UP'}"), 0);
	report(&lab, lab.one, TUNNEL_CONNECTING);
	assert_tunnel(&lab, lab.one, "CONNECTING", "Unknown");
	assert_says(&lab, lab.one, "reason", "no response");
	region_free(&lab.r);
}

// Both tunnels to one customer address, or both on one cloud address, are not highly available, whatever else there is.
static void test_different_addresses(void **state)
{
	(void)state;
	static const char *const ends[4] = {"'cloudAddress':'198.51.100.17','customerAddress':'203.0.113.1'",
	                                    "'cloudAddress':'198.51.100.33','customerAddress':'203.0.113.1'",
	                                    "'cloudAddress':'198.51.100.17','customerAddress':'203.0.113.2'",
	                                    "'cloudAddress':'198.51.100.33','customerAddress':'203.0.113.2'"};
	for (unsigned up = 0; up < 16; up++) {
		struct lab lab = {.r = region_new()};
		lab.t = tutorial_new(&lab.r);
		for (unsigned i = 0; i < 4; i++) {
			char text[160];
			snprintf(text, sizeof text, "{%s}", ends[i]);
			assert_int_equal(request(&lab.r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, lab.t.connection, text),
			                 0);
			strcpy(lab.one, lab.r.id);
			report(&lab, lab.one, up >> i & 1 ? TUNNEL_UP : TUNNEL_DOWN);
			session(&lab, lab.one, "Established", "", "");
		}
		// 17-1 with 33-2, or 33-1 with 17-2.
		assert_available(&lab, (up & 9) == 9 || (up & 6) == 6);
		region_free(&lab.r);
	}
}

static void event(struct lab *lab, enum node_service service, uint64_t number, uint64_t time, const char *what)
{
	struct tunnel_event event = {service, number, time, what, ""};
	resource_report_event(lab->r.resource, lab->one, &event);
}

// The events of ike and bgp are one story by time; a service that talks much does not push the other's words out.
static void test_events(void **state)
{
	(void)state;
	struct lab lab = lab_new("BGP");
	struct tunnel_event events[2 * TUNNEL_EVENTS];
	event(&lab, SERVICE_BGP, 1, 150, "established");
	event(&lab, SERVICE_IKE, 1, 100, "up");
	event(&lab, SERVICE_IKE, 2, 200, "down");
	event(&lab, SERVICE_BGP, 2, 210, "idle");
	event(&lab, SERVICE_BGP, 2, 999, "heard twice");
	static const char *const story[] = {"up", "established", "down", "idle"};
	assert_int_equal(resource_events(lab.r.resource, lab.one, events), 4);
	for (size_t i = 0; i < 4; i++) {
		assert_string_equal(events[i].event, story[i]);
	}
	assert_int_equal(events[1].service, SERVICE_BGP);
	for (uint64_t i = 3; i < 200; i++) {
		event(&lab, SERVICE_BGP, i, 300 + i, "idle");
	}
	assert_int_equal(resource_events(lab.r.resource, lab.one, events), 2 + TUNNEL_EVENTS);
	assert_string_equal(events[0].event, "up");
	region_free(&lab.r);
}

// Every value that is shown is one of those that the rules list.
static void test_values_are_listed(void **state)
{
	(void)state;
	assert_string_equal(field_rule_find(RESOURCE_VPN_TUNNEL, "runningStatus")->values, RUNNING_STATUS_VALUES);
	assert_string_equal(field_rule_find(RESOURCE_VPN_TUNNEL, "bgpState")->values, BGP_STATE_VALUES);
	assert_string_equal(field_rule_find(RESOURCE_VPN_CONNECTION, "haStatus")->values, HA_STATUS_VALUES);
	for (size_t i = 0; i < NODE_SERVICES; i++) {
		assert_true(in_list(field_rule_find(RESOURCE_NODE, "silentServices")->values, node_service_names[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_availability_needs_sessions),
	    cmocka_unit_test(test_silent_services),
	    cmocka_unit_test(test_administratively_down),
	    cmocka_unit_test(test_different_addresses),
	    cmocka_unit_test(test_events),
	    cmocka_unit_test(test_values_are_listed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
