// VPN tunnels: what a tunnel's fields must be to each other, and to its connection.
#include <stdio.h>
#include <string.h>

#include "services/resource/allocate.h"
#include "services/resource/kind.h"

static bool check_ends(struct draft *draft, struct record *row, const struct record *connection)
{
	const char *cloud = record_text(row, "cloudAddress"), *customer = record_text(row, "customerAddress");
	const struct record *gateway =
	    draft_find(draft, RESOURCE_CUSTOMER_GATEWAY, record_text(connection, "customerGatewayId"));
	const char *node = NULL;
	for (size_t i = 0; i < record_count(connection, "cloudAddresses"); i++) {
		const struct record *end = record_at(connection, "cloudAddresses", i);
		node = record_is(end, "address", cloud) ? record_text(end, "nodeId") : node;
	}
	if (!node) {
		return refuse(draft, 422, "not-allowed", "cloudAddress", cloud,
		              "must be a cloud address of the connection: %s or %s",
		              record_text(record_at(connection, "cloudAddresses", 0), "address"),
		              record_text(record_at(connection, "cloudAddresses", 1), "address"));
	}
	bool known = false;
	for (size_t i = 0; i < record_count(gateway, "publicAddresses"); i++) {
		known = known || strcmp(record_text_at(gateway, "publicAddresses", i), customer) == 0;
	}
	if (!known) {
		return refuse(draft, 422, "not-allowed", "customerAddress", customer,
		              "must be a public address of customer gateway %s", record_text(gateway, "id"));
	}
	char pair[INDEX_PAIR];
	struct index_key ends = {RESOURCE_VPN_TUNNEL, "cloudAddress+customerAddress", index_pair(cloud, customer, pair)};
	const struct record *other = draft_other(draft, ends, "");
	if (other) {
		return refuse(draft, 409, "duplicate", "customerAddress", customer,
		              "has a tunnel to this cloud address already: %s", record_text(other, "id"));
	}
	record_set_text(row, "nodeId", node);
	record_set_text(row, "borderGatewayId", record_text(connection, "borderGatewayId"));
	return true;
}

static bool check_inside(struct draft *draft, const struct record *before, struct record *row)
{
	struct prefix inside;
	const char *gateway = record_text(row, "borderGatewayId");
	if (!record_has(row, "insideCidr")) {
		char text[PREFIX_TEXT];
		if (!allocate_inside(draft, gateway, &inside)) {
			return refuse(draft, 409, "no-free-address", "insideCidr", NULL,
			              "the border gateway has no free inner /30 left");
		}
		record_set_text(row, "insideCidr", prefix_format(&inside, text));
	} else {
		prefix_parse(record_text(row, "insideCidr"), &inside);
		const char *other = inside_taken(draft, gateway, record_text(row, "insideCidr"), record_text(row, "id"));
		if (other) {
			return refuse(draft, 409, "overlap", "insideCidr", record_text(row, "insideCidr"),
			              "must be unique in the border gateway; tunnel %s has it", other);
		}
	}
	bool moved = before && (!record_is(before, "insideCidr", record_text(row, "insideCidr")) ||
	                        record_flag(before, "insideSwapped") != record_flag(row, "insideSwapped"));
	if (moved && !record_is(row, "adminState", "DOWN")) {
		return refuse(draft, 409, "not-down", "insideCidr", record_text(row, "insideCidr"),
		              "changes only while adminState is DOWN");
	}
	char text[ADDRESS_TEXT];
	bool swapped = record_flag(row, "insideSwapped");
	struct address cloud = prefix_nth(&inside, swapped ? 2 : 1), customer = prefix_nth(&inside, swapped ? 1 : 2);
	record_set_text(row, "cloudInsideAddress", address_format(&cloud, text));
	record_set_text(row, "customerInsideAddress", address_format(&customer, text));
	return true;
}

// 0 (off), or at least `least`.
static bool check_zero_or(struct draft *draft, const struct record *row, const char *path, uint64_t least)
{
	uint64_t number = record_number(row, path);
	if (number == 0 || number >= least) {
		return true;
	}
	char text[24];
	snprintf(text, sizeof text, "%llu", (unsigned long long)number);
	return refuse(draft, 422, "out-of-range", path, text, "must be 0, or %llu and more", (unsigned long long)least);
}

static bool check_at_most(struct draft *draft, const struct record *row, const char *path, uint64_t most, const char *what)
{
	uint64_t number = record_number(row, path);
	if (number <= most) {
		return true;
	}
	char text[24];
	snprintf(text, sizeof text, "%llu", (unsigned long long)number);
	return refuse(draft, 422, "out-of-range", path, text, "must be at most %llu: %s", (unsigned long long)most, what);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

// Defaults that depend on other fields, and the bounds between fields.
static bool check_times(struct draft *draft, struct record *row)
{
	uint64_t lifetime = smaller(record_number(row, "ike.lifetimeSeconds"), record_number(row, "ipsec.lifetimeSeconds"));
	uint64_t interval = record_number(row, "dpd.intervalSeconds"), hold = record_number(row, "bgp.holdTime");
	if (!record_has(row, "rekeyMarginSeconds")) {
		record_set_number(row, "rekeyMarginSeconds", smaller(270, lifetime / 2));
	}
	if (!record_has(row, "dpd.timeoutSeconds")) {
		record_set_number(row, "dpd.timeoutSeconds", smaller(3 * interval, 7200));
	}
	if (!record_has(row, "bgp.keepalive")) {
		record_set_number(row, "bgp.keepalive", smaller(10, hold / 3));
	}
	if (record_number(row, "dpd.timeoutSeconds") <= interval) {
		return refuse(draft, 422, "out-of-range", "dpd.timeoutSeconds", NULL,
		              "must be more than dpd.intervalSeconds (%llu)", (unsigned long long)interval);
	}
	return check_at_most(draft, row, "rekeyMarginSeconds", lifetime / 2, "half the shorter lifetime") &&
	       check_at_most(draft, row, "bgp.keepalive", hold / 3, "a third of bgp.holdTime") &&
	       check_zero_or(draft, row, "ipsec.lifetimeBytes", 1 << 20) &&
	       check_zero_or(draft, row, "ipsec.lifetimePackets", 10000) && check_zero_or(draft, row, "ipsec.replayWindow", 64);
}

static bool check_vpn_tunnel(struct draft *draft, const struct record *before, struct record *row)
{
	const struct record *connection = draft_find(draft, RESOURCE_VPN_CONNECTION, record_text(row, "vpnConnectionId"));
	if (!before) {
		uint64_t limit = quota_of(draft, record_text(row, "tenant"), "vpnTunnels");
		if (draft_count(draft, RESOURCE_VPN_TUNNEL, "vpnConnectionId", record_text(connection, "id")) >= limit) {
			return refuse_quota(draft, "tunnels of a VPN connection", limit);
		}
		if (!check_ends(draft, row, connection)) {
			return false;
		}
	}
	if (!record_has(row, "localId")) {
		record_set_text(row, "localId", record_text(row, "cloudAddress"));
	}
	if (!record_has(row, "remoteId")) {
		record_set_text(row, "remoteId", record_text(row, "customerAddress"));
	}
	return check_inside(draft, before, row) && check_times(draft, row);
}

// A pre-shared key of 190 bits when none was given.
static bool made_vpn_tunnel(struct draft *draft, const struct record *row)
{
	struct change *change = draft_change(draft, RESOURCE_VPN_TUNNEL, record_text(row, "id"));
	if (change->secret.length > 0) {
		return true;
	}
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._";
	char key[32];
	for (size_t i = 0; i < sizeof key; i++) {
		key[i] = letters[random_below(draft->request->random, i == 0 ? 52 : 64)];
	}
	change->generated = secret_set(&change->secret, (struct bytes){(const uint8_t *)key, sizeof key});
	wipe(key, sizeof key);
	return true;
}

static bool remove_vpn_tunnel(struct draft *draft, const struct record *row)
{
	if (!record_is(row, "adminState", "DOWN")) {
		return refuse(draft, 409, "not-down", "adminState", "UP", "must be DOWN before the tunnel is deleted");
	}
	return true;
}

const struct kind_hooks vpn_tunnel_hooks = {check_vpn_tunnel, made_vpn_tunnel, remove_vpn_tunnel};
