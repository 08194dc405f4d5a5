// Adding tunnels to a connection. The first time, without ends named, it is the layout for high availability: every customer
// address is used, and both cloud addresses; later, and when the ends are named, it is one tunnel.
#include <stdio.h>
#include <string.h>

#include "services/resource/kind.h"

// Which cloud address meets which customer address, by how many of these there are.
struct pair {
	uint8_t cloud, customer;
};
static const struct {
	size_t count;
	struct pair pairs[4];
} layouts[] = {
    [1] = {2, {{0, 0}, {1, 0}}},
    [2] = {2, {{0, 0}, {1, 1}}},
    [3] = {3, {{0, 0}, {1, 1}, {0, 2}}},
    [4] = {4, {{0, 0}, {0, 1}, {1, 2}, {1, 3}}},
};

static bool add_one(struct draft *draft, const struct record *connection, const struct record *given, const char *cloud,
                    const char *customer, const char *name)
{
	struct record *row = record_copy(given);
	record_set_text(row, "vpnConnectionId", record_text(connection, "id"));
	record_set_text(row, "tenant", record_text(connection, "tenant"));
	record_set_text(row, "cloudAddress", cloud);
	record_set_text(row, "customerAddress", customer);
	if (name) {
		record_set_text(row, "name", name);
	}
	return plan_new(draft, row, true);
}

static bool add_layout(struct draft *draft, const struct record *connection, const struct record *given)
{
	const struct record *gateway =
	    draft_find(draft, RESOURCE_CUSTOMER_GATEWAY, record_text(connection, "customerGatewayId"));
	size_t addresses = record_count(gateway, "publicAddresses");
	for (size_t i = 0; i < layouts[addresses].count; i++) {
		struct pair pair = layouts[addresses].pairs[i];
		char name[PROBLEM_VALUE];
		snprintf(name, sizeof name, "%.100s-%zu", record_text(given, "name"), i + 1);
		const char *cloud = record_text(record_at(connection, "cloudAddresses", pair.cloud), "address");
		const char *customer = record_text_at(gateway, "publicAddresses", pair.customer);
		if (!add_one(draft, connection, given, cloud, customer, record_has(given, "name") ? name : NULL)) {
			return false;
		}
	}
	return true;
}

bool plan_add_tunnels(struct draft *draft, const struct record *connection, const struct record *given)
{
	const char *id = record_text(connection, "id");
	if (record_has(given, "vpnConnectionId") && !record_is(given, "vpnConnectionId", id)) {
		return refuse(draft, 422, "not-allowed", "vpnConnectionId", record_text(given, "vpnConnectionId"),
		              "must be the connection that the tunnels are added to");
	}
	bool cloud = record_has(given, "cloudAddress"), customer = record_has(given, "customerAddress");
	if (cloud && customer) {
		return add_one(draft, connection, given, record_text(given, "cloudAddress"),
		               record_text(given, "customerAddress"), NULL);
	}
	bool first = draft_count(draft, RESOURCE_VPN_TUNNEL, "vpnConnectionId", id) == 0;
	if (cloud || customer || !first) {
		return refuse(draft, 422, "required-field", cloud ? "customerAddress" : "cloudAddress", NULL,
		              first ? "is required together with the other end"
		                    : "is required: the connection has tunnels already, and further ones are added singly");
	}
	if (record_has(given, "insideCidr")) {
		return refuse(draft, 422, "not-allowed", "insideCidr", record_text(given, "insideCidr"),
		              "cannot be the same for several tunnels; leave it out, or add tunnels singly");
	}
	return add_layout(draft, connection, given);
}
