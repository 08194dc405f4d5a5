// Every quota holds at its limit, and counts only what it is about: the tenant's own, of the one parent.
#include "tests/unit/resource_region.h"

static void set_quota(struct region *r, const char *tenant, const char *field, unsigned limit)
{
	char text[256];
	if (!resource_find(r->resource, RESOURCE_QUOTA, tenant)) {
		make(r, RESOURCE_QUOTA, "{'name':'%s'}", tenant);
	}
	snprintf(text, sizeof text, "{'%s':%u}", field, limit);
	assert_int_equal(request(r, ACTION_UPDATE, RESOURCE_QUOTA, tenant, text), 0);
}

struct quota_case {
	const char *field;
	enum resource_kind kind;
	const char *parent; // which of the tutorial's rows the limit is of; "": the tenant
	const char *body;   // @p the parent's id, @n a number, @c the connection, @k the customer gateway
};

static const struct quota_case cases[] = {
    {"borderGateways", RESOURCE_BORDER_GATEWAY, "", "{}"},
    {"customerGateways", RESOURCE_CUSTOMER_GATEWAY, "", "{'asn':65010,'publicAddresses':['203.0.113.@n']}"},
    {"vpcs", RESOURCE_VPC, "", "{'cidrBlocks':['10.0.0.0/16']}"},
    {"tokens", RESOURCE_TOKEN, "", "{'role':'VIEWER','tenant':'default'}"},
    {"subnets", RESOURCE_SUBNET, "vpc", "{'vpcId':'@p','cidr':'10.0.@n.0/24'}"},
    {"vpcRouteTables", RESOURCE_VPC_ROUTE_TABLE, "vpc", "{'vpcId':'@p'}"},
    {"staticRoutes", RESOURCE_BORDER_GATEWAY_ROUTE, "gateway",
     "{'borderGatewayId':'@p','destination':'172.16.@n.0/24','nextHopType':'VPN_CONNECTION','nextHopId':'@c'}"},
    {"vpnConnections", RESOURCE_VPN_CONNECTION, "gateway", "{'borderGatewayId':'@p','customerGatewayId':'@k'}"},
};

static int create(struct region *r, const struct tutorial *t, const struct quota_case *c, unsigned number)
{
	char text[512], digits[8];
	size_t n = 0;
	snprintf(digits, sizeof digits, "%u", number);
	for (const char *at = c->body; *at; at++) {
		const char *put = at[0] != '@'                    ? NULL
		                  : at[1] == 'n'                  ? digits
		                  : at[1] == 'c'                  ? t->connection
		                  : at[1] == 'k'                  ? t->customer
		                  : strcmp(c->parent, "vpc") == 0 ? t->vpc
		                                                  : t->gateway;
		n += (size_t)snprintf(text + n, sizeof text - n, put ? "%s" : "%.1s", put ? put : at);
		at += put != NULL;
	}
	return request(r, ACTION_CREATE, c->kind, NULL, text);
}

static void test_each_quota_holds(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct region r = region_new();
		struct tutorial t = tutorial_new(&r);
		make(&r, RESOURCE_NODE, "{'name':'node-c','publicAddresses':['198.51.100.65'],'fabricAddress':'10.255.0.13'}");
		make(&r, RESOURCE_NODE, "{'name':'node-d','publicAddresses':['198.51.100.66'],'fabricAddress':'10.255.0.14'}");
		unsigned there = 0;
		for (struct row_cursor c = {0}; resource_next(r.resource, cases[i].kind, &c);) {
			there++;
		}
		set_quota(&r, "default", cases[i].field, there + 1);
		assert_int_equal(create(&r, &t, &cases[i], 50), 0);
		if (create(&r, &t, &cases[i], 51) != 409) {
			fail_msg("%s does not hold", cases[i].field);
		}
		assert_refused(&r, 409, "quota", "");
		assert_non_null(strstr(r.problem.rule, "quota"));
		set_quota(&r, "default", cases[i].field, there + 2);
		assert_int_equal(create(&r, &t, &cases[i], 51), 0);
		region_free(&r);
	}
}

static void test_attachments_of_a_gateway(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	static const char form[] = "{'vpcId':'%s','borderGatewayId':'%s'}";
	set_quota(&r, "default", "vpcAttachments", 1);
	char vpc[64], gateway[64];
	strcpy(vpc, make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.1.0.0/16']}"));
	refused(&r, 409, "quota", "", RESOURCE_VPC_ATTACHMENT, form, vpc, t.gateway);
	strcpy(gateway, make(&r, RESOURCE_BORDER_GATEWAY, "{}"));
	make(&r, RESOURCE_VPC_ATTACHMENT, form, vpc, gateway); // another gateway has its own
	region_free(&r);
}

static void test_tunnels_of_a_connection(void **state)
{
	(void)state;
	struct region r = region_new();
	struct tutorial t = tutorial_new(&r);
	set_quota(&r, "default", "vpnTunnels", 1);
	assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection, "{}"), 409);
	assert_refused(&r, 409, "quota", "");
	struct row_cursor none = {0};
	assert_false(resource_next(r.resource, RESOURCE_VPN_TUNNEL, &none)); // the layout is made whole or not at all
	set_quota(&r, "default", "vpnTunnels", 2);
	assert_int_equal(request(&r, ACTION_ADD_TUNNELS, RESOURCE_VPN_CONNECTION, t.connection, "{}"), 0);
	region_free(&r);
}

// A tenant's quota is about its own rows, and a tenant without one has the defaults of the rules.
static void test_whose(void **state)
{
	(void)state;
	struct region r = region_new();
	set_quota(&r, "acme", "vpcs", 1);
	make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16'],'tenant':'other'}");
	make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16'],'tenant':'acme'}");
	refused(&r, 409, "quota", "", RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16'],'tenant':'acme'}");
	make(&r, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16'],'tenant':'other'}");
	struct record *defaults = quota_defaults();
	assert_int_equal(record_number(defaults, "borderGateways"), 5);
	assert_int_equal(record_number(defaults, "staticRoutes"), 50);
	assert_int_equal(record_number(defaults, "learnedRoutes"), 300);
	for (unsigned i = 0; i < 5; i++) {
		make(&r, RESOURCE_BORDER_GATEWAY, "{'tenant':'other'}");
	}
	refused(&r, 409, "quota", "", RESOURCE_BORDER_GATEWAY, "{'tenant':'other'}");
	record_free(&defaults);
	// A tenant sees its own, with what it has of it, and changes none.
	struct record *shown = resource_show(r.resource, resource_find(r.resource, RESOURCE_QUOTA, "acme"), true);
	assert_int_equal(record_number(shown, "vpcs"), 1);
	assert_int_equal(record_number(shown, "usage.vpcs"), 1);
	assert_int_equal(record_number(shown, "usage.borderGateways"), 0);
	record_free(&shown);
	strcpy(r.actor.tenant, "acme");
	assert_true(resource_may_read(&r.actor, RESOURCE_QUOTA, &r.problem));
	assert_true(resource_visible(&r.actor, resource_find(r.resource, RESOURCE_QUOTA, "acme")));
	assert_int_equal(request(&r, ACTION_UPDATE, RESOURCE_QUOTA, "acme", "{'vpcs':100}"), 403);
	assert_int_equal(request(&r, ACTION_CREATE, RESOURCE_QUOTA, NULL, "{'name':'third'}"), 403);
	strcpy(r.actor.tenant, "other");
	assert_false(resource_visible(&r.actor, resource_find(r.resource, RESOURCE_QUOTA, "acme")));
	region_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_quota_holds),
	    cmocka_unit_test(test_attachments_of_a_gateway),
	    cmocka_unit_test(test_tunnels_of_a_connection),
	    cmocka_unit_test(test_whose),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
