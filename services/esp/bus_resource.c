// What resource says: border gateways, their members and attachments go to the kernel, tunnels to the core and the kernel.
#include <stdlib.h>

#include "proto/resource.pb-c.h"
#include "services/esp/bus_shell.h"

static const char *take_member(struct esp_bus *bus, const char *id, const char *fabric_address)
{
	struct address fabric;
	if (!address_parse(or_empty(fabric_address), &fabric) || fabric.length != 4) {
		return "fabric_address is no IPv4 address";
	}
	kernel_member_set(bus->parts.kernel, id, &fabric);
	return NULL;
}

static const char *take_node(void *context, const struct row_key *key, const void *message)
{
	struct esp_bus *bus = context;
	if (message) {
		return take_member(bus, key->text, ((const Twinspan__Node *)message)->fabric_address);
	}
	kernel_member_remove(bus->parts.kernel, key->text);
	return NULL;
}

static const char *take_vpc_host(void *context, const struct row_key *key, const void *message)
{
	struct esp_bus *bus = context;
	if (message) {
		return take_member(bus, key->text, ((const Twinspan__VpcHost *)message)->fabric_address);
	}
	kernel_member_remove(bus->parts.kernel, key->text);
	return NULL;
}

static const char *take_gateway(void *context, const struct row_key *key, const void *message)
{
	struct esp_bus *bus = context;
	const Twinspan__BorderGateway *row = message;
	if (row) {
		kernel_gateway_set(bus->parts.kernel, key->text, (const char *const *)row->node_ids, row->n_node_ids,
		                   row->allow_transit);
	} else {
		kernel_gateway_remove(bus->parts.kernel, key->text);
	}
	return NULL;
}

static const char *take_vpc(void *context, const struct row_key *key, const void *message)
{
	struct esp_bus *bus = context;
	if (message) {
		kernel_vpc_set(bus->parts.kernel, key->text, or_empty(((const Twinspan__Vpc *)message)->vpc_host_id));
	} else {
		kernel_vpc_remove(bus->parts.kernel, key->text);
	}
	return NULL;
}

static const char *take_attachment(void *context, const struct row_key *key, const void *message)
{
	struct esp_bus *bus = context;
	const Twinspan__VpcAttachment *row = message;
	if (row) {
		kernel_attachment_set(bus->parts.kernel, key->text, or_empty(row->border_gateway_id), or_empty(row->vpc_id),
		                      row->vni);
	} else {
		kernel_attachment_remove(bus->parts.kernel, key->text);
	}
	return NULL;
}

// AUTO, OFF, or octets.
static bool mss_of(const char *text, uint16_t *out)
{
	if (strcmp(text, "AUTO") == 0 || text[0] == '\0') {
		*out = ESP_MSS_AUTO;
		return true;
	}
	if (strcmp(text, "OFF") == 0) {
		*out = ESP_MSS_OFF;
		return true;
	}
	char *end = NULL;
	unsigned long octets = strtoul(text, &end, 10);
	*out = (uint16_t)octets;
	return *end == '\0' && octets > 0 && octets < ESP_MSS_AUTO;
}

static const char *set_tunnel(struct esp_bus *bus, const char *key, const Twinspan__VpnTunnel *row)
{
	struct esp_tunnel_row tunnel = {
	    .id = key, .gateway = or_empty(row->border_gateway_id), .connection = or_empty(row->vpn_connection_id)};
	const char *slash = strchr(or_empty(row->inside_cidr), '/');
	int length = slash ? atoi(slash + 1) : 0;
	if (!address_parse(or_empty(row->cloud_inside_address), &tunnel.cloud_inside) ||
	    !address_parse(or_empty(row->customer_inside_address), &tunnel.customer_inside) || length < 1 || length > 128) {
		return "its inside addresses";
	}
	if (!mss_of(or_empty(row->maximum_segment_size), &tunnel.mss)) {
		return "maximum_segment_size";
	}
	esp_tunnel_set(bus->parts.esp, &tunnel);
	kernel_address_set(bus->parts.kernel, key, tunnel.gateway, &tunnel.cloud_inside, (uint8_t)length);
	return NULL;
}

static const char *take_tunnel(void *context, const struct row_key *key, const void *message)
{
	struct esp_bus *bus = context;
	if (message) {
		return set_tunnel(bus, key->text, message);
	}
	esp_tunnel_remove(bus->parts.esp, key->text);
	kernel_address_remove(bus->parts.kernel, key->text);
	table_remove(bus->tunnel_counters, text_bytes(key->text));
	table_commit(bus->tunnel_counters);
	return NULL;
}

const struct feed_kind bus_resource_kinds[] = {
    {"node", &twinspan__node__descriptor, take_node, bus_settled},
    {"vpc_host", &twinspan__vpc_host__descriptor, take_vpc_host, bus_settled},
    {"border_gateway", &twinspan__border_gateway__descriptor, take_gateway, bus_settled},
    {"vpc", &twinspan__vpc__descriptor, take_vpc, bus_settled},
    {"vpc_attachment", &twinspan__vpc_attachment__descriptor, take_attachment, bus_settled},
    {"vpn_tunnel", &twinspan__vpn_tunnel__descriptor, take_tunnel, bus_settled},
};
const size_t bus_resource_count = sizeof bus_resource_kinds / sizeof *bus_resource_kinds;
