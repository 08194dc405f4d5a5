// VPCs, their subnets and route tables.
#include <stdio.h>
#include <string.h>

#include "common/base/address.h"
#include "services/resource/allocate.h"
#include "services/resource/kind.h"

static struct prefix parsed(const char *text)
{
	struct prefix prefix = {0};
	prefix_parse(text, &prefix);
	return prefix;
}

static bool inside_vpc(const struct record *vpc, const struct prefix *inner)
{
	for (size_t i = 0, count = record_count(vpc, "cidrBlocks"); i < count; i++) {
		struct prefix block = parsed(record_text_at(vpc, "cidrBlocks", i));
		if (prefix_contains(&block, inner)) {
			return true;
		}
	}
	return false;
}

// ---- Vpc ----
static bool check_blocks(struct draft *draft, const struct record *row)
{
	static const char *const reserved[] = {"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"};
	for (size_t i = 0, count = record_count(row, "cidrBlocks"); i < count; i++) {
		const char *text = record_text_at(row, "cidrBlocks", i);
		struct prefix block = parsed(text);
		for (size_t j = 0; j < sizeof reserved / sizeof reserved[0]; j++) {
			struct prefix other = parsed(reserved[j]);
			if (prefix_overlaps(&block, &other)) {
				return refuse(draft, 422, "bad-value", "cidrBlocks", text, "must not overlap %s", reserved[j]);
			}
		}
		for (size_t j = 0; j < i; j++) {
			struct prefix other = parsed(record_text_at(row, "cidrBlocks", j));
			if (prefix_overlaps(&block, &other)) {
				return refuse(draft, 422, "overlap", "cidrBlocks", text, "must not overlap %s",
				              record_text_at(row, "cidrBlocks", j));
			}
		}
	}
	return true;
}

static bool check_vpc(struct draft *draft, const struct record *before, struct record *row)
{
	if (!check_blocks(draft, row)) {
		return false;
	}
	if (!before) {
		char table[32];
		uint64_t limit = quota_of(draft, record_text(row, "tenant"), "vpcs");
		if (draft_count(draft, RESOURCE_VPC, "tenant", record_text(row, "tenant")) >= limit) {
			return refuse_quota(draft, "VPCs of a tenant", limit);
		}
		allocate_host(draft, row);
		record_set_text(row, "defaultRouteTableId", allocate_id(draft, RESOURCE_VPC_ROUTE_TABLE, table));
		return true;
	}
	const char *id = record_text(row, "id");
	for (struct draft_children c = {0}; draft_next_of(draft, (struct index_key){RESOURCE_SUBNET, "vpcId", id}, &c);) {
		struct prefix cidr = parsed(record_text(c.row, "cidr"));
		if (!inside_vpc(row, &cidr)) {
			return refuse(draft, 409, "in-use", "cidrBlocks", record_text(c.row, "cidr"),
			              "must still hold subnet %s", record_text(c.row, "id"));
		}
	}
	struct index_key tables = {RESOURCE_VPC_ROUTE_TABLE, "vpcId", id};
	for (struct draft_children c = {0}; draft_next_of(draft, tables, &c);) {
		for (size_t i = 0; i < record_count(c.row, "staticRoutes"); i++) {
			const char *text = record_text(record_at(c.row, "staticRoutes", i), "destination");
			struct prefix destination = parsed(text);
			if (inside_vpc(row, &destination)) {
				return refuse(draft, 409, "overlap", "cidrBlocks", text,
				              "must not hold the static route in table %s", record_text(c.row, "id"));
			}
		}
	}
	return true;
}

static bool made_vpc(struct draft *draft, const struct record *row)
{
	struct record *table = record_new(RESOURCE_VPC_ROUTE_TABLE);
	record_set_text(table, "id", record_text(row, "defaultRouteTableId"));
	record_set_text(table, "name", "default");
	record_set_text(table, "tenant", record_text(row, "tenant"));
	record_set_text(table, "vpcId", record_text(row, "id"));
	return plan_new(draft, table, false);
}

static bool remove_vpc(struct draft *draft, const struct record *row)
{
	static const enum resource_kind users[] = {RESOURCE_SUBNET, RESOURCE_VPC_ATTACHMENT, RESOURCE_VPC_ROUTE_TABLE};
	const char *table = record_text(row, "defaultRouteTableId");
	for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
		const struct record *user =
		    draft_other(draft, (struct index_key){users[i], "vpcId", record_text(row, "id")}, table);
		if (user) {
			return refuse_in_use(draft, kind_rules[users[i]].singular, record_text(user, "id"));
		}
	}
	draft_remove(draft, RESOURCE_VPC_ROUTE_TABLE, table);
	return true;
}

// ---- Subnet ----
static bool check_subnet(struct draft *draft, const struct record *before, struct record *row)
{
	const struct record *vpc = draft_find(draft, RESOURCE_VPC, record_text(row, "vpcId"));
	const char *text = record_text(row, "cidr");
	struct prefix cidr = parsed(text);
	if (!inside_vpc(vpc, &cidr)) {
		return refuse(draft, 422, "not-inside", "cidr", text, "must be inside a CIDR block of VPC %s",
		              record_text(vpc, "id"));
	}
	uint64_t limit = quota_of(draft, record_text(row, "tenant"), "subnets");
	if (!before && draft_count(draft, RESOURCE_SUBNET, "vpcId", record_text(vpc, "id")) >= limit) {
		return refuse_quota(draft, "subnets of a VPC", limit);
	}
	struct index_key subnets = {RESOURCE_SUBNET, "vpcId", record_text(vpc, "id")};
	for (struct draft_children c = {0}; draft_next_of(draft, subnets, &c);) {
		struct prefix other = parsed(record_text(c.row, "cidr"));
		if (!record_is(c.row, "id", record_text(row, "id")) && prefix_overlaps(&cidr, &other)) {
			return refuse(draft, 409, "overlap", "cidr", text, "must not overlap %s of subnet %s",
			              record_text(c.row, "cidr"), record_text(c.row, "id"));
		}
	}
	if (!record_has(row, "routeTableId")) {
		record_set_text(row, "routeTableId", record_text(vpc, "defaultRouteTableId"));
	}
	const struct record *table = draft_find(draft, RESOURCE_VPC_ROUTE_TABLE, record_text(row, "routeTableId"));
	if (!record_is(table, "vpcId", record_text(vpc, "id"))) {
		return refuse(draft, 422, "other-vpc", "routeTableId", record_text(table, "id"),
		              "must be a route table of VPC %s", record_text(vpc, "id"));
	}
	char gateway[ADDRESS_TEXT];
	struct address first = prefix_nth(&cidr, 1);
	record_set_text(row, "gatewayAddress", address_format(&first, gateway));
	return true;
}

static bool remove_subnet(struct draft *draft, const struct record *row)
{
	return !used_by(draft, RESOURCE_VPC_ATTACHMENT, "subnetIds", record_text(row, "id"));
}

// ---- VpcRouteTable ----
static bool check_attached(struct draft *draft, const struct record *table, const char *gateway, const char *list, size_t index,
                           const char *field)
{
	if (attachment_of(draft, record_text(table, "vpcId"), gateway)) {
		return true;
	}
	char place[PROBLEM_FIELD];
	snprintf(place, sizeof place, "%s[%zu].%s", list, index, field);
	return refuse(draft, 409, "not-attached", place, gateway, "needs an attachment of VPC %s to this border gateway",
	              record_text(table, "vpcId"));
}

static bool check_static_routes(struct draft *draft, const struct record *row)
{
	const struct record *vpc = draft_find(draft, RESOURCE_VPC, record_text(row, "vpcId"));
	for (size_t i = 0, count = record_count(row, "staticRoutes"); i < count; i++) {
		const struct record *route = record_at(row, "staticRoutes", i);
		const char *text = record_text(route, "destination");
		struct prefix destination = parsed(text);
		char place[PROBLEM_FIELD];
		snprintf(place, sizeof place, "staticRoutes[%zu].destination", i);
		if (inside_vpc(vpc, &destination)) {
			return refuse(draft, 422, "local-route", place, text,
			              "must not be part of the VPC, whose own routes come first");
		}
		for (size_t j = 0; j < i; j++) {
			const struct record *other = record_at(row, "staticRoutes", j);
			if (record_is(other, "destination", text) &&
			    record_is(other, "nextHopId", record_text(route, "nextHopId"))) {
				return refuse(draft, 422, "duplicate", place, text, "must not come twice with one next hop");
			}
		}
		if (!check_attached(draft, row, record_text(route, "nextHopId"), "staticRoutes", i, "nextHopId")) {
			return false;
		}
	}
	return true;
}

static bool check_vpc_route_table(struct draft *draft, const struct record *before, struct record *row)
{
	uint64_t limit = quota_of(draft, record_text(row, "tenant"), "vpcRouteTables");
	if (!before && draft_count(draft, RESOURCE_VPC_ROUTE_TABLE, "vpcId", record_text(row, "vpcId")) >= limit) {
		return refuse_quota(draft, "route tables of a VPC", limit);
	}
	for (size_t i = 0, count = record_count(row, "propagations"); i < count; i++) {
		const char *gateway = record_text(record_at(row, "propagations", i), "borderGatewayId");
		for (size_t j = 0; j < i; j++) {
			if (record_is(record_at(row, "propagations", j), "borderGatewayId", gateway)) {
				return refuse(draft, 422, "duplicate", "propagations", gateway, "must not come twice");
			}
		}
		if (!check_attached(draft, row, gateway, "propagations", i, "borderGatewayId")) {
			return false;
		}
	}
	return check_static_routes(draft, row);
}

static bool remove_vpc_route_table(struct draft *draft, const struct record *row)
{
	const char *id = record_text(row, "id");
	const struct record *vpc = draft_find(draft, RESOURCE_VPC, record_text(row, "vpcId"));
	if (record_is(vpc, "defaultRouteTableId", id)) {
		return refuse(draft, 409, "in-use", NULL, NULL, "it is the VPC's default route table, and goes with the VPC");
	}
	return !used_by(draft, RESOURCE_SUBNET, "routeTableId", id);
}

const struct kind_hooks vpc_hooks = {check_vpc, made_vpc, remove_vpc};
const struct kind_hooks subnet_hooks = {.check = check_subnet, .remove = remove_subnet};
const struct kind_hooks vpc_route_table_hooks = {.check = check_vpc_route_table, .remove = remove_vpc_route_table};
