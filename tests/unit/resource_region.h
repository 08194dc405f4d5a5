// What the tests of the resource core share: a store, and requests written as JSON.
#ifndef TWINSPAN_TESTS_RESOURCE_REGION_H
#define TWINSPAN_TESTS_RESOURCE_REGION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message_json.h"
#include "services/resource/resource.h"

struct region {
	struct resource *resource;
	struct random random;
	struct actor actor;
	uint64_t now;
	char id[64];     // of the last row that was made or changed
	char second[64]; // and of the one after it
	struct secret secret;
	bool generated;
	size_t changes;
	char note[192];    // of the last consequence that had one
	uint64_t if_match; // of the next requests; 0: none
	struct problem problem;
};

static inline struct region region_new(void)
{
	struct region region = {.resource = resource_new("test"), .actor = {.role = ROLE_ADMIN}, .now = 1700000000000};
	random_init_number(&region.random, 1);
	return region;
}

static inline void region_free(struct region *region)
{
	resource_free(&region->resource);
}

// Carries a request out; `text` is JSON with ' for ". Returns the status of the problem, or 0.
static inline int request(struct region *region, enum action action, enum resource_kind kind, const char *id, const char *text)
{
	struct cleared cleared = {0};
	char json_text[4096];
	snprintf(json_text, sizeof json_text, "%s", text ? text : "{}");
	for (char *c = json_text; *c; c++) {
		*c = *c == '\'' ? '"' : *c;
	}
	json_t *json = json_loads(json_text, 0, NULL);
	assert_non_null(json);
	region->problem = (struct problem){0};
	struct record *body =
	    record_from_json(action == ACTION_ADD_TUNNELS ? RESOURCE_VPN_TUNNEL : kind, json, &cleared, &region->problem);
	json_decref(json);
	if (!body) {
		return region->problem.status;
	}
	struct request r = {.actor = region->actor,
	                    .action = action,
	                    .kind = kind,
	                    .id = id,
	                    .body = text ? body : NULL,
	                    .cleared = text ? &cleared : NULL,
	                    .now = region->now += 1000,
	                    .random = &region->random};
	const struct record *row = id ? resource_find(region->resource, kind, id) : NULL;
	if (region->if_match) {
		r.has_revision = true;
		r.revision = region->if_match;
	} else if (action == ACTION_UPDATE && row && !record_has(body, "revision")) {
		r.has_revision = true;
		r.revision = record_number(row, "revision");
	}
	struct plan plan;
	bool done = resource_plan(region->resource, &r, &plan);
	region->problem = plan.problem;
	assert_int_equal(done, plan.problem.status == 0);
	if (done) {
		region->changes = plan.count;
		size_t n = 0;
		region->note[0] = '\0';
		for (size_t i = 0; i < plan.count; i++) {
			if (plan.changes[i].note[0]) {
				strcpy(region->note, plan.changes[i].note);
			}
			if (plan.changes[i].answer && n < 2) {
				strcpy(n++ == 0 ? region->id : region->second, plan.changes[i].id);
				region->secret = plan.changes[i].secret;
				region->generated = plan.changes[i].generated;
			}
		}
		resource_apply(region->resource, &plan);
	}
	plan_free(&plan);
	record_free(&body);
	return done ? 0 : region->problem.status;
}

static inline const char *make(struct region *region, enum resource_kind kind, const char *format, ...)
{
	char text[2048];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (request(region, ACTION_CREATE, kind, NULL, text) != 0) {
		fail_msg("%s: %s %s: %s", kind_rules[kind].singular, region->problem.field, region->problem.value,
		         region->problem.rule);
	}
	return region->id;
}

static inline void assert_refused(struct region *region, int status, const char *type, const char *field)
{
	assert_int_equal(region->problem.status, status);
	assert_string_equal(region->problem.type, type);
	assert_string_equal(region->problem.field, field);
	assert_true(region->problem.rule[0]);
}

// Refused creation: the status, the type and the field of the problem.
static inline void refused(struct region *region, int status, const char *type, const char *field, enum resource_kind kind,
                           const char *format, ...)
{
	char text[2048];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	assert_int_not_equal(request(region, ACTION_CREATE, kind, NULL, text), 0);
	assert_refused(region, status, type, field);
}

static inline const char *text_of(struct region *region, enum resource_kind kind, const char *id, const char *path)
{
	const struct record *row = resource_find(region->resource, kind, id);
	assert_non_null(row);
	return record_text(row, path);
}

// The tutorial's region: two nodes, a host, a VPC with a subnet, a border gateway, an attachment, a customer gateway with two
// addresses, a connection.
struct tutorial {
	char vpc[64], subnet[64], table[64], gateway[64], attachment[64], customer[64], connection[64];
};

static inline struct tutorial tutorial_new(struct region *region)
{
	struct tutorial t;
	make(region, RESOURCE_NODE,
	     "{'name':'node-a','publicAddresses':['198.51.100.17','198.51.100.18'],'fabricAddress':'10.255.0.11'}");
	make(region, RESOURCE_NODE,
	     "{'name':'node-b','publicAddresses':['198.51.100.33','198.51.100.34'],'fabricAddress':'10.255.0.12'}");
	make(region, RESOURCE_VPC_HOST, "{'name':'host-1','fabricAddress':'10.255.0.21'}");
	strcpy(t.vpc, make(region, RESOURCE_VPC, "{'cidrBlocks':['10.0.0.0/16']}"));
	strcpy(t.table, text_of(region, RESOURCE_VPC, t.vpc, "defaultRouteTableId"));
	strcpy(t.subnet, make(region, RESOURCE_SUBNET, "{'vpcId':'%s','cidr':'10.0.1.0/24'}", t.vpc));
	strcpy(t.gateway, make(region, RESOURCE_BORDER_GATEWAY, "{}"));
	strcpy(t.attachment, make(region, RESOURCE_VPC_ATTACHMENT, "{'vpcId':'%s','borderGatewayId':'%s'}", t.vpc, t.gateway));
	strcpy(t.customer,
	       make(region, RESOURCE_CUSTOMER_GATEWAY, "{'asn':65010,'publicAddresses':['203.0.113.1','203.0.113.2']}"));
	strcpy(t.connection, make(region, RESOURCE_VPN_CONNECTION, "{'borderGatewayId':'%s','customerGatewayId':'%s'}",
	                          t.gateway, t.customer));
	return t;
}

#endif
