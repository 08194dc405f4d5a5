// Nodes, hosts, VPCs, subnets, route tables, border gateways, attachments, static routes: rules, defaults, what deletion needs
// and takes along.
#include "tests/unit/resource_region.h"

static void test_vpc(void **state)
{
	(void)state;
	struct region r = region_new();
	make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16']}");
	char vpc[64], table[64];
	strcpy(vpc, r.id);
	assert_int_equal(strlen(vpc), 14);
	assert_memory_equal(vpc, "vpc-", 4);
	assert_int_equal(strspn(vpc + 4, "abcdefghijklmnopqrstuvwxyz234567"), 10);
	assert_int_equal(r.changes, 2); // the default route table is made with it
	strcpy(table, text_of(&r, RESOURCE_VPC, vpc, "defaultRouteTableId"));
	assert_string_equal(text_of(&r, RESOURCE_VPC_ROUTE_TABLE, table, "vpcId"), vpc);
	assert_string_equal(text_of(&r, RESOURCE_VPC, vpc, "vpcHostId"), "");
	make(&r, RESOURCE_VPC_HOST, "{'name':'host-1','fabricAddress':'10.255.0.21'}"); // it waited for one
	assert_string_equal(text_of(&r, RESOURCE_VPC, vpc, "vpcHostId"), "host-1");

	refused(&r, 422, "required-field", "cidrBlocks", RESOURCE_VPC, "{}");
	refused(&r, 422, "overlap", "cidrBlocks", RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16','10.0.1.0/24']}");
	refused(&r, 422, "bad-value", "cidrBlocks", RESOURCE_VPC, "{'cidrBlocks':['169.254.0.0/16']}");
	refused(&r, 422, "bad-value", "cidrBlocks[0]", RESOURCE_VPC, "{'cidrBlocks':['10.0.0.1/16']}");
	refused(&r, 422, "bad-value", "cidrBlocks[0]", RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/30']}");
	refused(&r, 422, "bad-value", "cidrBlocks[0]", RESOURCE_VPC, "{'cidrBlocks':['fd00::/16']}");
	refused(&r, 422, "count", "cidrBlocks", RESOURCE_VPC, "{'cidrBlocks':[]}");
	refused(&r, 422, "output-field", "vpcHostId", RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16'],'vpcHostId':'host-1'}");

	make(&r, RESOURCE_SUBNET, "{'vpcId':'%s','cidr':'10.0.1.0/24'}", vpc);
	assert_string_equal(text_of(&r, RESOURCE_SUBNET, r.id, "gatewayAddress"), "10.0.1.1");
	assert_string_equal(text_of(&r, RESOURCE_SUBNET, r.id, "routeTableId"), table);
	refused(&r, 422, "not-inside", "cidr", RESOURCE_SUBNET, "{'vpcId':'%s','cidr':'10.1.1.0/24'}", vpc);
	refused(&r, 409, "overlap", "cidr", RESOURCE_SUBNET, "{'vpcId':'%s','cidr':'10.0.1.128/25'}", vpc);
	refused(&r, 422, "unknown-reference", "vpcId", RESOURCE_SUBNET, "{'vpcId':'vpc-aaaaaaaaaa','cidr':'10.0.1.128/25'}");
	char subnet[64];
	strcpy(subnet, r.id);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_SUBNET, subnet, "{'cidr':'10.0.2.0/24'}"), 422);
	assert_refused(&r, 422, "immutable-field", "cidr");
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC, vpc, "{'cidrBlocks':['10.1.0.0/16']}"), 409);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC, vpc, "{'cidrBlocks':['10.0.0.0/16','10.1.0.0/16']}"), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC, vpc, NULL), 409);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_ROUTE_TABLE, table, NULL), 409);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_HOST, "host-1", NULL), 409);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_SUBNET, subnet, NULL), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC, vpc, NULL), 0);
	assert_null(resource_find(r.resource, RESOURCE_VPC_ROUTE_TABLE, table));
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_HOST, "host-1", NULL), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC, vpc, NULL), 404);
	region_free(&r);
}

static void test_attachment(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	char text[512];
	const struct record *row = resource_find(r.resource, RESOURCE_VPC_ATTACHMENT, t.attachment);
	assert_true(record_is(row, "propagation", "ALL"));
	assert_int_equal(record_number(row, "order"), 1);
	assert_in_range(record_number(row, "vni"), 4096, 0xffffff);
	refused(&r, 409, "already-attached", "vpcId", RESOURCE_VPC_ATTACHMENT, "{'vpcId':'%s','borderGatewayId':'%s'}", t.vpc,
	        t.gateway);

	// SUBNETS needs subnets of the VPC, and nothing else has any.
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ATTACHMENT, t.attachment, "{'propagation':'SUBNETS'}"), 422);
	assert_refused(&r, 422, "required-field", "subnetIds");
	snprintf(text, sizeof text, "{'propagation':'SUBNETS','subnetIds':['%s']}", t.subnet);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ATTACHMENT, t.attachment, text), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_SUBNET, t.subnet, NULL), 409);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ATTACHMENT, t.attachment, "{'propagation':'NONE'}"), 0);
	assert_int_equal(record_count(resource_find(r.resource, RESOURCE_VPC_ATTACHMENT, t.attachment), "subnetIds"), 0);
	snprintf(text, sizeof text, "{'propagation':'ALL','subnetIds':['%s']}", t.subnet);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ATTACHMENT, t.attachment, text), 422);

	// The propagation relation goes with the attachment; static routes are in the way.
	snprintf(
	    text, sizeof text,
	    "{'propagations':[{'borderGatewayId':'%s'}],'staticRoutes':[{'destination':'192.168.0.0/16','nextHopId':'%s'}]}",
	    t.gateway, t.gateway);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ROUTE_TABLE, t.table, text), 0);
	row = resource_find(r.resource, RESOURCE_VPC_ROUTE_TABLE, t.table);
	assert_string_equal(record_text_at(record_at(row, "propagations", 0), "ranges", 0), "0.0.0.0/0");
	assert_true(record_is(record_at(row, "staticRoutes", 0), "nextHopType", "BORDER_GATEWAY"));
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_ATTACHMENT, t.attachment, NULL), 409);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ROUTE_TABLE, t.table, "{'staticRoutes':[]}"), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_ATTACHMENT, t.attachment, NULL), 0);
	assert_non_null(strstr(r.note, t.gateway)); // said to whoever deleted it
	assert_non_null(strstr(r.note, "does not bring it back"));
	row = resource_find(r.resource, RESOURCE_VPC_ROUTE_TABLE, t.table);
	assert_int_equal(record_count(row, "propagations"), 0);
	snprintf(text, sizeof text, "{'propagations':[{'borderGatewayId':'%s'}]}", t.gateway);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ROUTE_TABLE, t.table, text), 409);
	assert_refused(&r, 409, "not-attached", "propagations[0].borderGatewayId");
	region_free(&r);
}

static void test_route_table(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	char text[512];
	snprintf(text, sizeof text, "{'staticRoutes':[{'destination':'10.0.5.0/24','nextHopId':'%s'}]}", t.gateway);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ROUTE_TABLE, t.table, text), 422);
	assert_refused(&r, 422, "local-route", "staticRoutes[0].destination");
	assert_int_equal(
	    request(&r, ACTION_UPDATE, RESOURCE_VPC_ROUTE_TABLE, t.table, "{'staticRoutes':[{'destination':'1.0.0.0/8'}]}"),
	    422);
	assert_refused(&r, 422, "required-field", "staticRoutes[0].nextHopId");
	snprintf(text, sizeof text, "{'staticRoutes':[{'destination':'1.0.0.0/8','nextHopType':'LOCAL','nextHopId':'%s'}]}",
	         t.gateway);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ROUTE_TABLE, t.table, text), 422);
	assert_refused(&r, 422, "not-allowed", "staticRoutes[0].nextHopType");
	snprintf(text, sizeof text, "{'propagations':[{'borderGatewayId':'%s','ranges':['10.0.0.0/33']}]}", t.gateway);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC_ROUTE_TABLE, t.table, text), 422);
	assert_refused(&r, 422, "bad-value", "propagations[0].ranges[0]");
	// A table of another VPC is not for this one's subnets.
	make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16']}");
	char other[64];
	strcpy(other, text_of(&r, RESOURCE_VPC, r.id, "defaultRouteTableId"));
	refused(&r, 422, "other-vpc", "routeTableId", RESOURCE_SUBNET,
	        "{'vpcId':'%s','cidr':'10.0.9.0/24','routeTableId':'%s'}", t.vpc, other);
	// A table in use stays.
	char table[64];
	strcpy(table, make(&r, RESOURCE_VPC_ROUTE_TABLE, "{'vpcId':'%s'}", t.vpc));
	snprintf(text, sizeof text, "{'routeTableId':'%s'}", table);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_SUBNET, t.subnet, text), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_ROUTE_TABLE, table, NULL), 409);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_SUBNET, t.subnet, "{'routeTableId':null}"),
	                 0); // back to the default
	assert_string_equal(text_of(&r, RESOURCE_SUBNET, t.subnet, "routeTableId"), t.table);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPC_ROUTE_TABLE, table, NULL), 0);
	region_free(&r);
}

static void test_border_gateway(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	const struct record *row = resource_find(r.resource, RESOURCE_BORDER_GATEWAY, t.gateway);
	assert_int_equal(record_number(row, "asn"), 65000);
	assert_true(record_has(row, "allowTransit") && !record_flag(row, "allowTransit"));
	assert_int_equal(record_count(row, "nodeIds"), 2);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_BORDER_GATEWAY, t.gateway, "{'asn':65001}"), 409);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_BORDER_GATEWAY, t.gateway, "{'asn':23456}"), 422);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_BORDER_GATEWAY, t.gateway, NULL), 409);
	for (int i = 0; i < 4; i++) {
		make(&r, RESOURCE_BORDER_GATEWAY, "{}");
	}
	refused(&r, 409, "quota", "", RESOURCE_BORDER_GATEWAY, "{}");
	make(&r, RESOURCE_QUOTA, "{'name':'default','borderGateways':6}");
	assert_int_equal(record_number(resource_find(r.resource, RESOURCE_QUOTA, "default"), "vpnConnections"), 10);
	make(&r, RESOURCE_BORDER_GATEWAY, "{'asn':65001}");
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_BORDER_GATEWAY, r.id, "{'asn':null}"), 0);
	assert_int_equal(record_number(resource_find(r.resource, RESOURCE_BORDER_GATEWAY, r.id), "asn"), 65000);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_BORDER_GATEWAY, r.id, NULL), 0);
	region_free(&r);
}

static void test_border_gateway_route(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	static const char form[] = "{'borderGatewayId':'%s','destination':'%s','nextHopType':'%s','nextHopId':'%s'}";
	char route[64];
	strcpy(route,
	       make(&r, RESOURCE_BORDER_GATEWAY_ROUTE, form, t.gateway, "192.168.0.0/16", "VPN_CONNECTION", t.connection));
	make(&r, RESOURCE_BORDER_GATEWAY_ROUTE, form, t.gateway, "10.9.0.0/16", "VPC_ATTACHMENT", t.attachment);
	refused(&r, 409, "duplicate", "destination", RESOURCE_BORDER_GATEWAY_ROUTE, form, t.gateway, "192.168.0.0/16",
	        "VPN_CONNECTION", t.connection);
	refused(&r, 422, "unknown-reference", "nextHopId", RESOURCE_BORDER_GATEWAY_ROUTE, form, t.gateway, "192.168.0.0/16",
	        "VPN_CONNECTION", t.attachment);
	refused(&r, 422, "not-allowed", "nextHopType", RESOURCE_BORDER_GATEWAY_ROUTE, form, t.gateway, "192.168.0.0/16",
	        "LOCAL", t.attachment);
	refused(&r, 422, "bad-value", "destination", RESOURCE_BORDER_GATEWAY_ROUTE, form, t.gateway, "169.254.6.0/30",
	        "VPN_CONNECTION", t.connection);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_CONNECTION, t.connection, NULL), 409);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_BORDER_GATEWAY_ROUTE, route, NULL), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_CONNECTION, t.connection, NULL), 0);
	region_free(&r);
}

static void test_nodes(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	refused(&r, 409, "duplicate", "name", RESOURCE_NODE,
	        "{'name':'node-a','publicAddresses':['198.51.100.99'],'fabricAddress':'10.255.0.99'}");
	refused(&r, 409, "overlap", "publicAddresses", RESOURCE_NODE,
	        "{'name':'node-c','publicAddresses':['198.51.100.17'],'fabricAddress':'10.255.0.99'}");
	refused(&r, 409, "in-use", "fabricAddress", RESOURCE_NODE,
	        "{'name':'node-c','publicAddresses':['198.51.100.99'],'fabricAddress':'10.255.0.21'}");
	refused(&r, 422, "bad-value", "name", RESOURCE_NODE,
	        "{'name':'Node C','publicAddresses':['198.51.100.99'],'fabricAddress':'10.255.0.99'}");
	refused(&r, 422, "bad-value", "fabricAddress", RESOURCE_NODE,
	        "{'name':'node-c','publicAddresses':['198.51.100.99'],'fabricAddress':'224.0.0.1'}");
	refused(&r, 422, "duplicate", "publicAddresses[1]", RESOURCE_NODE,
	        "{'name':'node-c','publicAddresses':['198.51.100.99','198.51.100.99'],'fabricAddress':'10.255.0.99'}");
	// An address in use stays; a node in use stays.
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_NODE, "node-a", "{'publicAddresses':['198.51.100.18']}"), 409);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_NODE, "node-a", "{'publicAddresses':['198.51.100.17']}"), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_NODE, "node-a", NULL), 409);
	// Without the connection it may go, and another node takes its place.
	make(&r, RESOURCE_NODE, "{'name':'node-c','publicAddresses':['198.51.100.49'],'fabricAddress':'10.255.0.13'}");
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_VPN_CONNECTION, t.connection, NULL), 0);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_NODE, "node-a", NULL), 0);
	const struct record *gateway = resource_find(r.resource, RESOURCE_BORDER_GATEWAY, t.gateway);
	assert_int_equal(record_count(gateway, "nodeIds"), 2);
	assert_string_equal(record_text_at(gateway, "nodeIds", 0), "node-b");
	assert_string_equal(record_text_at(gateway, "nodeIds", 1), "node-c");
	region_free(&r);
}

static void test_actors(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	char text[256];
	// A tenant sees and changes only its own; a foreign id is no id, in the path and in a body.
	strcpy(r.actor.tenant, "acme");
	r.actor.role = ROLE_OPERATOR;
	assert_false(resource_visible(&r.actor, resource_find(r.resource, RESOURCE_VPC, t.vpc)));
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC, t.vpc, "{'name':'mine'}"), 404);
	assert_int_equal(request(&r, ACTION_DELETE, RESOURCE_SUBNET, t.subnet, NULL), 404);
	refused(&r, 422, "unknown-reference", "vpcId", RESOURCE_SUBNET, "{'vpcId':'%s','cidr':'10.0.2.0/24'}", t.vpc);
	refused(&r, 422, "foreign-tenant", "tenant", RESOURCE_VPC, "{'tenant':'default','cidrBlocks':['10.0.0.0/16']}");
	refused(&r, 403, "forbidden", "", RESOURCE_NODE,
	        "{'name':'node-z','publicAddresses':['198.51.100.99'],'fabricAddress':'10.255.0.99'}");
	refused(&r, 403, "forbidden", "", RESOURCE_TOKEN, "{'role':'VIEWER'}");
	char vpc[64];
	strcpy(vpc, make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16']}"));
	assert_string_equal(text_of(&r, RESOURCE_VPC, vpc, "tenant"), "acme");
	r.actor.role = ROLE_VIEWER;
	refused(&r, 403, "forbidden", "", RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16']}");
	// An administrator of a tenant makes tokens of that tenant alone.
	r.actor.role = ROLE_ADMIN;
	refused(&r, 403, "forbidden", "", RESOURCE_QUOTA, "{'name':'acme'}");
	refused(&r, 422, "foreign-tenant", "tenant", RESOURCE_TOKEN, "{'role':'ADMIN','tenant':'other'}");
	char token[64];
	strcpy(token, make(&r, RESOURCE_TOKEN, "{'role':'OPERATOR'}"));
	assert_true(r.generated && r.secret.length == 37);
	struct actor actor = actor_of_token(resource_find(r.resource, RESOURCE_TOKEN, token));
	assert_string_equal(actor.tenant, "acme");
	assert_int_equal(actor.role, ROLE_OPERATOR);
	struct problem problem;
	assert_false(resource_may_read(&actor, RESOURCE_TOKEN, &problem));
	assert_false(resource_may_read(&actor, RESOURCE_NODE, &problem));
	assert_true(resource_may_read(&actor, RESOURCE_VPN_TUNNEL, &problem));
	// What the region's administrator makes below a tenant's resource is the tenant's.
	r.actor = (struct actor){.role = ROLE_ADMIN};
	make(&r, RESOURCE_SUBNET, "{'vpcId':'%s','cidr':'10.0.2.0/24'}", vpc);
	assert_string_equal(text_of(&r, RESOURCE_SUBNET, r.id, "tenant"), "acme");
	snprintf(text, sizeof text, "{'vpcId':'%s','borderGatewayId':'%s'}", vpc, t.gateway);
	assert_int_equal(request(&r, ACTION_CREATE, RESOURCE_VPC_ATTACHMENT, NULL, text), 422); // of two tenants
	region_free(&r);
}

static void test_revisions(void **state)
{
	(void)state;
	struct region r = region_new();
	make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16']}");
	char vpc[64];
	strcpy(vpc, r.id);
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC, vpc, "{'name':'a','revision':1}"), 0);
	const struct record *row = resource_find(r.resource, RESOURCE_VPC, vpc);
	assert_int_equal(record_number(row, "revision"), 2);
	assert_string_equal(record_text(row, "createdAt"), "2023-11-14T22:13:21.000Z");
	assert_string_equal(record_text(row, "updatedAt"), "2023-11-14T22:13:22.000Z");
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC, vpc, "{'name':'b','revision':1}"), 412);
	assert_string_equal(text_of(&r, RESOURCE_VPC, vpc, "name"), "a");
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_VPC, vpc, "{'name':'a'}"), 0); // nothing changes
	assert_int_equal(record_number(resource_find(r.resource, RESOURCE_VPC, vpc), "revision"), 2);
	region_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_vpc),
	    cmocka_unit_test(test_attachment),
	    cmocka_unit_test(test_route_table),
	    cmocka_unit_test(test_border_gateway),
	    cmocka_unit_test(test_border_gateway_route),
	    cmocka_unit_test(test_nodes),
	    cmocka_unit_test(test_actors),
	    cmocka_unit_test(test_revisions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
