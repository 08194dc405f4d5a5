// Border gateways, their attachments to VPCs and their static routes.
#include <stdio.h>
#include <string.h>

#include "common/base/address.h"
#include "services/resource/allocate.h"
#include "services/resource/kind.h"
#include "services/resource/store.h"

// ---- BorderGateway ----
static bool check_border_gateway(struct draft *draft, const struct record *before, struct record *row)
{
	const char *tenant = record_text(row, "tenant");
	if (!before) {
		uint64_t limit = quota_of(draft, tenant, "borderGateways");
		if (draft_count(draft, RESOURCE_BORDER_GATEWAY, "tenant", tenant) >= limit) {
			return refuse_quota(draft, "border gateways of a tenant", limit);
		}
		allocate_nodes(draft, row);
		return true;
	}
	if (record_number(before, "asn") != record_number(row, "asn") &&
	    draft_count(draft, RESOURCE_VPN_CONNECTION, "borderGatewayId", record_text(row, "id")) > 0) {
		return refuse(draft, 409, "in-use", "asn", NULL, "changes only while the border gateway has no VPN connection");
	}
	return true;
}

static bool remove_border_gateway(struct draft *draft, const struct record *row)
{
	static const enum resource_kind users[] = {RESOURCE_VPC_ATTACHMENT, RESOURCE_VPN_CONNECTION,
	                                           RESOURCE_BORDER_GATEWAY_ROUTE};
	for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
		if (used_by(draft, users[i], "borderGatewayId", record_text(row, "id"))) {
			return false;
		}
	}
	return true;
}

// ---- VpcAttachment ----
const struct record *attachment_of(const struct draft *draft, const char *vpc_id, const char *border_gateway_id)
{
	char pair[INDEX_PAIR];
	struct index_key key = {RESOURCE_VPC_ATTACHMENT, "vpcId+borderGatewayId", index_pair(vpc_id, border_gateway_id, pair)};
	return draft_other(draft, key, "");
}

static bool check_subnets(struct draft *draft, struct record *row)
{
	if (!record_is(row, "propagation", "SUBNETS")) {
		// What was listed for SUBNETS goes with it; a list that is given now would mean nothing.
		if (draft->request->body && record_has(draft->request->body, "subnetIds")) {
			return refuse(draft, 422, "not-allowed", "subnetIds", NULL, "is for propagation SUBNETS");
		}
		record_clear(row, "subnetIds");
		return true;
	}
	if (record_count(row, "subnetIds") == 0) {
		return refuse(draft, 422, "required-field", "subnetIds", NULL, "is required with propagation SUBNETS");
	}
	for (size_t i = 0; i < record_count(row, "subnetIds"); i++) {
		const struct record *subnet = draft_find(draft, RESOURCE_SUBNET, record_text_at(row, "subnetIds", i));
		if (!record_is(subnet, "vpcId", record_text(row, "vpcId"))) {
			return refuse(draft, 422, "other-vpc", "subnetIds", record_text(subnet, "id"),
			              "must be subnets of VPC %s", record_text(row, "vpcId"));
		}
	}
	return true;
}

static bool check_vpc_attachment(struct draft *draft, const struct record *before, struct record *row)
{
	if (!check_subnets(draft, row)) {
		return false;
	}
	if (before) {
		return true;
	}
	const char *gateway = record_text(row, "borderGatewayId");
	const struct record *other = attachment_of(draft, record_text(row, "vpcId"), gateway);
	if (other) {
		return refuse(draft, 409, "already-attached", "vpcId", record_text(row, "vpcId"),
		              "is attached to the border gateway already by %s", record_text(other, "id"));
	}
	uint64_t limit = quota_of(draft, record_text(row, "tenant"), "vpcAttachments");
	if (draft_count(draft, RESOURCE_VPC_ATTACHMENT, "borderGatewayId", gateway) >= limit) {
		return refuse_quota(draft, "attachments of a border gateway", limit);
	}
	record_set_number(row, "vni", allocate_vni(draft));
	record_set_number(row, "order", allocate_order(draft));
	return true;
}

static bool routes_to(const struct record *table, const char *gateway)
{
	for (size_t i = 0; i < record_count(table, "staticRoutes"); i++) {
		if (record_is(record_at(table, "staticRoutes", i), "nextHopId", gateway)) {
			return true;
		}
	}
	return false;
}

// The propagation relations of the VPC with the border gateway go along; static routes, which somebody wrote, are in the way.
static bool remove_vpc_attachment(struct draft *draft, const struct record *row)
{
	const char *gateway = record_text(row, "borderGatewayId"), *vpc = record_text(row, "vpcId");
	if (used_by(draft, RESOURCE_BORDER_GATEWAY_ROUTE, "nextHopId", record_text(row, "id"))) {
		return false;
	}
	struct index_key tables = {RESOURCE_VPC_ROUTE_TABLE, "vpcId", vpc};
	for (struct index_cursor c = {0}; index_next(draft->store->index, tables, &c);) {
		if (routes_to(c.row, gateway)) {
			return refuse_in_use(draft, "static route of vpc-route-table", record_text(c.row, "id"));
		}
		for (size_t i = 0; i < record_count(c.row, "propagations"); i++) {
			if (record_is(record_at(c.row, "propagations", i), "borderGatewayId", gateway)) {
				const char *table = record_text(c.row, "id");
				record_remove_at(draft_edit(draft, RESOURCE_VPC_ROUTE_TABLE, table), "propagations", i);
				struct change *change = draft_change(draft, RESOURCE_VPC_ROUTE_TABLE, table);
				snprintf(change->note, sizeof change->note,
				         "its propagation from %s, and the routes that came with it; attaching again does not "
				         "bring it "
				         "back: set the table's propagations",
				         gateway);
				break; // a border gateway comes once in a table
			}
		}
	}
	return true;
}

// ---- BorderGatewayRoute ----
static bool check_border_gateway_route(struct draft *draft, const struct record *before, struct record *row)
{
	if (before) {
		return true; // all that matters is immutable
	}
	const char *gateway = record_text(row, "borderGatewayId"), *hop = record_text(row, "nextHopId");
	const char *text = record_text(row, "destination");
	enum resource_kind kind =
	    record_is(row, "nextHopType", "VPC_ATTACHMENT") ? RESOURCE_VPC_ATTACHMENT : RESOURCE_VPN_CONNECTION;
	const struct record *found = draft_find(draft, kind, hop);
	if (!found || !record_is(found, "borderGatewayId", gateway)) {
		return refuse(draft, 422, "unknown-reference", "nextHopId", hop, "must be a %s of border gateway %s",
		              kind_rules[kind].singular, gateway);
	}
	struct prefix destination, inner;
	if (prefix_parse(text, &destination) && prefix_parse("169.254.0.0/16", &inner) &&
	    prefix_contains(&inner, &destination)) {
		return refuse(draft, 422, "bad-value", "destination", text,
		              "must not be part of 169.254.0.0/16: these are inner addresses");
	}
	char pair[INDEX_PAIR];
	struct index_key same = {RESOURCE_BORDER_GATEWAY_ROUTE, "borderGatewayId+destination", index_pair(gateway, text, pair)};
	for (struct draft_children c = {0}; draft_next_of(draft, same, &c);) {
		if (record_is(c.row, "nextHopId", hop)) {
			return refuse(draft, 409, "duplicate", "destination", text, "has this next hop already by %s",
			              record_text(c.row, "id"));
		}
	}
	uint64_t limit = quota_of(draft, record_text(row, "tenant"), "staticRoutes");
	if (draft_count(draft, RESOURCE_BORDER_GATEWAY_ROUTE, "borderGatewayId", gateway) >= limit) {
		return refuse_quota(draft, "static routes of a border gateway", limit);
	}
	return true;
}

const struct kind_hooks border_gateway_hooks = {.check = check_border_gateway, .remove = remove_border_gateway};
const struct kind_hooks vpc_attachment_hooks = {.check = check_vpc_attachment, .remove = remove_vpc_attachment};
const struct kind_hooks border_gateway_route_hooks = {.check = check_border_gateway_route};
