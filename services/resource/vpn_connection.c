// Customer gateways and VPN connections.
#include <stdio.h>
#include <string.h>

#include "common/base/invariant.h"
#include "services/resource/allocate.h"
#include "services/resource/kind.h"

// ---- CustomerGateway ----
static bool same_addresses(const struct record *a, const struct record *b)
{
	size_t count = record_count(a, "publicAddresses");
	bool same = count == record_count(b, "publicAddresses");
	for (size_t i = 0; same && i < count; i++) {
		same = strcmp(record_text_at(a, "publicAddresses", i), record_text_at(b, "publicAddresses", i)) == 0;
	}
	return same;
}

// A tunnel from a node to itself or its neighbour is never what was meant.
static bool not_of_a_node(struct draft *draft, const struct record *row)
{
	for (size_t i = 0; i < record_count(row, "publicAddresses"); i++) {
		const char *address = record_text_at(row, "publicAddresses", i);
		if (draft_count(draft, RESOURCE_NODE, "publicAddresses", address) > 0) {
			return refuse(draft, 422, "bad-value", "publicAddresses", address,
			              "must not be an address of the cloud");
		}
	}
	return true;
}

static bool check_changes(struct draft *draft, const struct record *before, const struct record *row)
{
	const char *id = record_text(row, "id");
	bool asn = record_number(before, "asn") != record_number(row, "asn"), addresses = !same_addresses(before, row);
	struct index_key users = {RESOURCE_VPN_CONNECTION, "customerGatewayId", id};
	for (struct draft_children c = {0}; draft_next_of(draft, users, &c);) {
		if (asn) {
			return refuse(draft, 409, "in-use", "asn", NULL,
			              "changes only while no VPN connection uses the customer gateway (%s does)",
			              record_text(c.row, "id"));
		}
		if (addresses && draft_count(draft, RESOURCE_VPN_TUNNEL, "vpnConnectionId", record_text(c.row, "id")) > 0) {
			return refuse(draft, 409, "in-use", "publicAddresses", NULL,
			              "change only while no tunnel uses the customer gateway (connection %s has some)",
			              record_text(c.row, "id"));
		}
	}
	return true;
}

// With the AS of every border gateway that the tenant has it could be connected to none. Where there are others, or none yet,
// which one it will meet is known only when it is connected: check_vpn_connection looks again.
static bool check_other_asn(struct draft *draft, const struct record *row)
{
	uint64_t asn = record_number(row, "asn");
	const struct record *same = NULL;
	struct index_key gateways = {RESOURCE_BORDER_GATEWAY, "tenant", record_text(row, "tenant")};
	for (struct draft_children c = {0}; draft_next_of(draft, gateways, &c);) {
		if (record_number(c.row, "asn") != asn) {
			return true;
		}
		same = c.row;
	}
	char text[24];
	snprintf(text, sizeof text, "%llu", (unsigned long long)asn);
	return !same ||
	       refuse(draft, 422, "same-asn", "asn", text,
	              "is the AS number of border gateway %s, and a connection needs two different ones: give the customer's "
	              "own, for instance a private one of 64512 to 65534",
	              record_text(same, "id"));
}

static bool check_customer_gateway(struct draft *draft, const struct record *before, struct record *row)
{
	if (!not_of_a_node(draft, row)) {
		return false;
	}
	if (before) {
		bool asn = record_number(before, "asn") != record_number(row, "asn");
		return check_changes(draft, before, row) && (!asn || check_other_asn(draft, row));
	}
	const char *tenant = record_text(row, "tenant");
	uint64_t limit = quota_of(draft, tenant, "customerGateways");
	if (draft_count(draft, RESOURCE_CUSTOMER_GATEWAY, "tenant", tenant) >= limit) {
		return refuse_quota(draft, "customer gateways of a tenant", limit);
	}
	return check_other_asn(draft, row);
}

static bool remove_customer_gateway(struct draft *draft, const struct record *row)
{
	return !used_by(draft, RESOURCE_VPN_CONNECTION, "customerGatewayId", record_text(row, "id"));
}

// ---- VpnConnection ----
// A connection's nodes are its border gateway's too.
static void place_gateway(struct draft *draft, const struct record *connection)
{
	const char *gateway = record_text(connection, "borderGatewayId");
	for (size_t i = 0; i < record_count(connection, "cloudAddresses"); i++) {
		const char *node = record_text(record_at(connection, "cloudAddresses", i), "nodeId");
		const struct record *row = draft_find(draft, RESOURCE_BORDER_GATEWAY, gateway);
		bool there = false;
		for (size_t j = 0; j < record_count(row, "nodeIds"); j++) {
			there = there || strcmp(record_text_at(row, "nodeIds", j), node) == 0;
		}
		if (!there) {
			record_append_text(draft_edit(draft, RESOURCE_BORDER_GATEWAY, gateway), "nodeIds", node);
		}
	}
}

static bool check_vpn_connection(struct draft *draft, const struct record *before, struct record *row)
{
	if (before) {
		return true; // only `routing` can change, and may
	}
	const struct record *gateway = draft_find(draft, RESOURCE_BORDER_GATEWAY, record_text(row, "borderGatewayId"));
	const struct record *customer = draft_find(draft, RESOURCE_CUSTOMER_GATEWAY, record_text(row, "customerGatewayId"));
	if (record_number(gateway, "asn") == record_number(customer, "asn")) {
		return refuse(draft, 422, "same-asn", "customerGatewayId", record_text(customer, "id"),
		              "the customer gateway's AS number must not be the border gateway's (%llu): change its asn, or "
		              "connect it to a border gateway of another AS",
		              (unsigned long long)record_number(gateway, "asn"));
	}
	uint64_t limit = quota_of(draft, record_text(row, "tenant"), "vpnConnections");
	if (draft_count(draft, RESOURCE_VPN_CONNECTION, "borderGatewayId", record_text(gateway, "id")) >= limit) {
		return refuse_quota(draft, "VPN connections of a border gateway", limit);
	}
	return allocate_cloud_addresses(draft, gateway, row);
}

// A gateway stays on the nodes that its connections are on, and on two at least.
static void leave_nodes(struct draft *draft, const char *gateway)
{
	const struct record *row = draft_find(draft, RESOURCE_BORDER_GATEWAY, gateway);
	for (size_t i = record_count(row, "nodeIds"); i > 0 && record_count(row, "nodeIds") > 2; i--) {
		const char *node = record_text_at(row, "nodeIds", i - 1);
		struct index_key connections = {RESOURCE_VPN_CONNECTION, "borderGatewayId", gateway};
		bool needed = false;
		for (struct draft_children c = {0}; !needed && draft_next_of(draft, connections, &c);) {
			needed = index_holds((struct index_key){RESOURCE_VPN_CONNECTION, "cloudAddresses.nodeId", node}, c.row);
		}
		if (!needed) {
			struct record *after = draft_edit(draft, RESOURCE_BORDER_GATEWAY, gateway);
			record_remove_at(after, "nodeIds", i - 1);
			row = after;
		}
	}
	invariant(record_count(row, "nodeIds") >= 2);
}

static bool made_vpn_connection(struct draft *draft, const struct record *row)
{
	place_gateway(draft, row);
	return true;
}

static bool remove_vpn_connection(struct draft *draft, const struct record *row)
{
	const char *id = record_text(row, "id");
	if (used_by(draft, RESOURCE_VPN_TUNNEL, "vpnConnectionId", id) ||
	    used_by(draft, RESOURCE_BORDER_GATEWAY_ROUTE, "nextHopId", id)) {
		return false;
	}
	draft_remove(draft, RESOURCE_VPN_CONNECTION, id);
	leave_nodes(draft, record_text(row, "borderGatewayId"));
	return true;
}

const struct kind_hooks customer_gateway_hooks = {.check = check_customer_gateway, .remove = remove_customer_gateway};
const struct kind_hooks vpn_connection_hooks = {check_vpn_connection, made_vpn_connection, remove_vpn_connection};
