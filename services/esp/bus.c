// The tables of esp; see bus.h and README.md. Rows may come in any order: the core and net_kernel.c wait for what a row refers
// to.
//
// An SA row counts as applied when its change is published to the workers (the core's tables are read under RCU), which is
// before this file's callback returns; what was replaced the core frees after the workers' grace period, so nobody waits for
// it.
#include "services/esp/bus.h"

#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/base/secret.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/tables.pb-c.h"

enum { GATEWAYS_MAX = 256, REPLICAS = 11, KEY_TEXT = 96 };
#define REPORT_INTERVAL SECONDS(1)

struct esp_bus {
	struct esp_bus_parts parts;
	char *ike; // "ike.node-a"
	struct table *node_status, *held_ike_sa, *sa_usage, *tunnel_counters;
	struct feed {
		struct esp_bus *bus;
		const struct row_kind *kind;
		struct replica *replica;
	} feeds[REPLICAS];
	size_t feed_count;
	struct replica *held;
	struct map *routes; // key of an effective_route row: struct known_route
	struct deadline report;
	bool halfway;        // between two reports of everything
	size_t sas_reported; // in the last of these
	uint64_t started;
	int64_t wall_offset;
	bool swept, sas_complete;
};

static char *text_of(struct bytes octets)
{
	return format_text("%.*s", (int)octets.length, octets.data ? (const char *)octets.data : "");
}

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

static void put(struct table *table, const char *scope, const char *key, const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *packed = allocate(length ? length : 1);
	protobuf_c_message_pack(message, packed);
	table_put(table, scope, text_bytes(key), (struct bytes){packed, length});
	free(packed);
}

static void unusable(const char *table, struct bytes key, const char *why)
{
	char *text = text_of(key);
	log_limited(LOG_ERROR, "row-not-usable", "table", table, "key", text, "why", why, NULL);
	free(text);
}

static void report_node(struct esp_bus *bus)
{
	const char *ids[GATEWAYS_MAX];
	Twinspan__NodeStatus row = TWINSPAN__NODE_STATUS__INIT;
	row.node_id = (char *)(uintptr_t)bus->parts.node;
	row.started = bus->started;
	row.workers = bus->parts.workers;
	row.n_border_gateway_ids = kernel_gateways(bus->parts.kernel, ids, GATEWAYS_MAX);
	row.border_gateway_ids = (char **)(uintptr_t)ids;
	put(bus->node_status, "", bus->parts.node, &row.base);
	table_commit(bus->node_status);
}

// A replica's callback over one kind of row: `unpacked` is called with the message, `removed` with the key.
struct row_kind {
	const char *table;
	const ProtobufCMessageDescriptor *descriptor;
	const char *(*unpacked)(struct esp_bus *bus, const char *key, const void *message); // NULL, or why it is not usable
	void (*removed)(struct esp_bus *bus, const char *key);
};

static void rows_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct esp_bus *bus = ((struct feed *)context)->bus;
	const struct row_kind *kind = ((struct feed *)context)->kind;
	for (size_t i = 0; i < count; i++) {
		char *key = text_of(rows[i].key);
		if (rows[i].removed) {
			kind->removed(bus, key);
		} else {
			ProtobufCMessage *message =
			    protobuf_c_message_unpack(kind->descriptor, NULL, rows[i].value.length, rows[i].value.data);
			const char *why = message ? kind->unpacked(bus, key, message) : "not a message of this table";
			if (why) {
				unusable(kind->table, rows[i].key, why);
			}
			if (message) {
				protobuf_c_message_free_unpacked(message, NULL);
			}
		}
		free(key);
	}
	kernel_settle(bus->parts.kernel);
	report_node(bus);
}

// ---- resource's tables ----

static const char *member(struct esp_bus *bus, const char *key, const char *fabric_address)
{
	struct address fabric;
	if (!address_parse(or_empty(fabric_address), &fabric) || fabric.length != 4) {
		return "fabric_address is no IPv4 address";
	}
	kernel_member_set(bus->parts.kernel, key, &fabric);
	return NULL;
}

static const char *node_set(struct esp_bus *bus, const char *key, const void *message)
{
	return member(bus, key, ((const Twinspan__Node *)message)->fabric_address);
}

static const char *vpc_host_set(struct esp_bus *bus, const char *key, const void *message)
{
	return member(bus, key, ((const Twinspan__VpcHost *)message)->fabric_address);
}

static void member_removed(struct esp_bus *bus, const char *key)
{
	kernel_member_remove(bus->parts.kernel, key);
}

static const char *gateway_set(struct esp_bus *bus, const char *key, const void *message)
{
	const Twinspan__BorderGateway *row = message;
	kernel_gateway_set(bus->parts.kernel, key, (const char *const *)row->node_ids, row->n_node_ids, row->allow_transit);
	return NULL;
}

static void gateway_removed(struct esp_bus *bus, const char *key)
{
	kernel_gateway_remove(bus->parts.kernel, key);
}

static const char *vpc_set(struct esp_bus *bus, const char *key, const void *message)
{
	kernel_vpc_set(bus->parts.kernel, key, or_empty(((const Twinspan__Vpc *)message)->vpc_host_id));
	return NULL;
}

static void vpc_removed(struct esp_bus *bus, const char *key)
{
	kernel_vpc_remove(bus->parts.kernel, key);
}

static const char *attachment_set(struct esp_bus *bus, const char *key, const void *message)
{
	const Twinspan__VpcAttachment *row = message;
	kernel_attachment_set(bus->parts.kernel, key, or_empty(row->border_gateway_id), or_empty(row->vpc_id), row->vni);
	return NULL;
}

static void attachment_removed(struct esp_bus *bus, const char *key)
{
	kernel_attachment_remove(bus->parts.kernel, key);
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

static const char *tunnel_set(struct esp_bus *bus, const char *key, const void *message)
{
	const Twinspan__VpnTunnel *row = message;
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

static void tunnel_removed(struct esp_bus *bus, const char *key)
{
	esp_tunnel_remove(bus->parts.esp, key);
	kernel_address_remove(bus->parts.kernel, key);
	table_remove(bus->tunnel_counters, text_bytes(key));
	table_commit(bus->tunnel_counters);
}

// ---- route's tables ----

static const char *group_set(struct esp_bus *bus, const char *key, const void *message)
{
	const Twinspan__NextHopGroup *row = message;
	const char **tunnels = allocate_array(row->n_members + 1, sizeof *tunnels);
	struct esp_group_row group = {.id = key,
	                              .tunnels = tunnels,
	                              .connections = (const char *const *)row->vpn_connection_ids,
	                              .connection_count = row->n_vpn_connection_ids};
	for (size_t i = 0; i < row->n_members; i++) {
		if (strcmp(row->members[i]->node_id, bus->parts.node) == 0) {
			tunnels[group.tunnel_count++] = row->members[i]->tunnel_id;
		}
	}
	esp_group_set(bus->parts.esp, &group);
	free(tunnels);
	return NULL;
}

static void group_removed(struct esp_bus *bus, const char *key)
{
	esp_group_remove(bus->parts.esp, key);
}

static bool destination_of(const Twinspan__EffectiveRoute *row, struct prefix *out)
{
	struct address address;
	if (!address_from_bytes((struct bytes){row->destination.data, row->destination.len}, &address) ||
	    row->prefix_length > 8u * address.length) {
		return false;
	}
	*out = prefix_of(&address, (uint8_t)row->prefix_length);
	return true;
}

// What a route row was, for its removal: the gateway and the destination.
struct known_route {
	char *gateway;
	struct prefix destination;
};

static void free_known_route(void *value)
{
	struct known_route *known = value;
	if (known) {
		free(known->gateway);
	}
	free(known);
}

static void route_removed(struct esp_bus *bus, const char *key)
{
	struct known_route *known = map_remove_text(bus->routes, key);
	if (known) {
		esp_route_remove(bus->parts.esp, known->gateway, &known->destination);
		free_known_route(known);
	}
	kernel_route_remove(bus->parts.kernel, key);
}

static const char *route_set(struct esp_bus *bus, const char *key, const void *message)
{
	const Twinspan__EffectiveRoute *row = message;
	struct prefix destination;
	if (!destination_of(row, &destination)) {
		return "its destination";
	}
	bool attachment = row->next_hop_case == TWINSPAN__EFFECTIVE_ROUTE__NEXT_HOP_ATTACHMENT_ID;
	const struct known_route *known = map_find_text(bus->routes, key);
	if (known &&
	    (strcmp(known->gateway, row->border_gateway_id) != 0 || !prefix_equal(&known->destination, &destination))) {
		route_removed(bus, key);
		known = NULL;
	}
	if (!known) {
		struct known_route *fresh = allocate(sizeof *fresh);
		*fresh = (struct known_route){.gateway = duplicate_text(row->border_gateway_id), .destination = destination};
		map_insert_text(bus->routes, key, fresh);
	}
	esp_route_set(bus->parts.esp, row->border_gateway_id, &destination,
	              attachment ? NULL : or_empty(row->next_hop_group_id));
	if (attachment) {
		kernel_route_set(bus->parts.kernel, key, row->border_gateway_id, &destination, or_empty(row->attachment_id));
	} else {
		kernel_route_remove(bus->parts.kernel, key);
	}
	return NULL;
}

// ---- ike's tables ----

static bool spi_of_key(const char *key, char tunnel[static KEY_TEXT], uint32_t *spi)
{
	const char *slash = strrchr(key, '/');
	if (!slash || (size_t)(slash - key) >= KEY_TEXT) {
		return false;
	}
	memcpy(tunnel, key, (size_t)(slash - key));
	tunnel[slash - key] = '\0';
	char *end = NULL;
	*spi = (uint32_t)strtoul(slash + 1, &end, 16);
	return *end == '\0';
}

static struct esp_sa_keys keys_of(const Twinspan__SaDirection *row)
{
	return (struct esp_sa_keys){.spi = row->spi,
	                            .encryption = {row->encryption_key.data, row->encryption_key.len},
	                            .integrity = {row->integrity_key.data, row->integrity_key.len}};
}

static const char *sa_set(struct esp_bus *bus, const char *key, const void *message)
{
	static const enum esp_encryption encryption[] = {
	    [TWINSPAN__CHILD_ENCRYPTION__AES_CBC_128] = ESP_AES_CBC_128,
	    [TWINSPAN__CHILD_ENCRYPTION__AES_CBC_192] = ESP_AES_CBC_192,
	    [TWINSPAN__CHILD_ENCRYPTION__AES_CBC_256] = ESP_AES_CBC_256,
	    [TWINSPAN__CHILD_ENCRYPTION__AES_GCM16_128] = ESP_AES_GCM16_128,
	    [TWINSPAN__CHILD_ENCRYPTION__AES_GCM16_256] = ESP_AES_GCM16_256,
	};
	static const enum esp_integrity integrity[] = {
	    [TWINSPAN__CHILD_INTEGRITY__NONE] = ESP_INTEGRITY_NONE,
	    [TWINSPAN__CHILD_INTEGRITY__HMAC_SHA1_96] = ESP_HMAC_SHA1_96,
	    [TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_256_128] = ESP_HMAC_SHA2_256_128,
	    [TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_384_192] = ESP_HMAC_SHA2_384_192,
	    [TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_512_256] = ESP_HMAC_SHA2_512_256,
	};
	(void)key;
	const Twinspan__ChildSa *row = message;
	if (!row->inbound || !row->outbound || (unsigned)row->encryption >= sizeof encryption / sizeof *encryption ||
	    (unsigned)row->integrity >= sizeof integrity / sizeof *integrity) {
		return "its directions or algorithms";
	}
	struct esp_sa_row sa = {.tunnel = row->tunnel_id,
	                        .inbound = keys_of(row->inbound),
	                        .outbound = keys_of(row->outbound),
	                        .outbound_in_use = row->outbound_in_use,
	                        .generation = row->generation,
	                        .encryption = encryption[row->encryption],
	                        .integrity = integrity[row->integrity],
	                        .udp = row->udp_encapsulation,
	                        .extended = row->extended_sequence_numbers,
	                        .local_port = (uint16_t)row->local_port,
	                        .remote_port = (uint16_t)row->remote_port,
	                        .replay_window = row->replay_window};
	if (!address_from_bytes((struct bytes){row->local_address.data, row->local_address.len}, &sa.local) ||
	    !address_from_bytes((struct bytes){row->remote_address.data, row->remote_address.len}, &sa.remote)) {
		return "its addresses";
	}
	const char *why = esp_sa_set(bus->parts.esp, &sa);
	// The message held keys; the core has its own copy.
	wipe(row->inbound->encryption_key.data, row->inbound->encryption_key.len);
	wipe(row->inbound->integrity_key.data, row->inbound->integrity_key.len);
	wipe(row->outbound->encryption_key.data, row->outbound->encryption_key.len);
	wipe(row->outbound->integrity_key.data, row->outbound->integrity_key.len);
	return why;
}

static void sa_removed(struct esp_bus *bus, const char *key)
{
	char tunnel[KEY_TEXT];
	uint32_t spi = 0;
	if (spi_of_key(key, tunnel, &spi)) {
		esp_sa_remove(bus->parts.esp, tunnel, spi);
	}
	table_remove(bus->sa_usage, text_bytes(key));
	table_commit(bus->sa_usage);
}

// The sealed states of ike's SAs are given back as they are, under another name.
static void ike_sa_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct esp_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		if (rows[i].removed) {
			table_remove(bus->held_ike_sa, rows[i].key);
		} else {
			table_put(bus->held_ike_sa, bus->parts.node, rows[i].key, rows[i].value);
		}
	}
	table_commit(bus->held_ike_sa);
}

// ---- what the workers counted ----

// The wall clock's zero on the monotonic clock, in milliseconds. Kept as long as it is about right: read anew each time it
// would tremble, and every idle SA's row would change every second.
static void set_wall_offset(struct esp_bus *bus)
{
	int64_t offset = (int64_t)wall_clock() - now() / 1000;
	int64_t error = offset - bus->wall_offset;
	if (error > 500 || error < -500) {
		bus->wall_offset = offset;
	}
}

static uint64_t wall_of(const struct esp_bus *bus, instant at)
{
	return at == 0 ? 0 : (uint64_t)(bus->wall_offset + at / 1000);
}

static void report_sa(void *context, const struct esp_sa_usage *usage)
{
	struct esp_bus *bus = context;
	Twinspan__SaUsage row = TWINSPAN__SA_USAGE__INIT;
	row.tunnel_id = (char *)(uintptr_t)usage->tunnel;
	row.inbound_spi = usage->inbound_spi;
	row.bytes_in = usage->bytes_in;
	row.packets_in = usage->packets_in;
	row.bytes_out = usage->bytes_out;
	row.packets_out = usage->packets_out;
	row.last_in = wall_of(bus, usage->last_in);
	row.sequence_out = usage->sequence_out;
	if (usage->seen.length != 0) {
		row.seen_remote_address =
		    (ProtobufCBinaryData){.len = usage->seen.length, .data = (uint8_t *)(uintptr_t)usage->seen.octets};
		row.seen_remote_port = usage->seen.port;
	}
	char key[KEY_TEXT + 16];
	snprintf(key, sizeof key, "%s/%08" PRIx32, usage->tunnel, usage->inbound_spi);
	put(bus->sa_usage, bus->parts.node, key, &row.base);
	bus->sas_reported++;
}

static void report_tunnel(void *context, const struct esp_tunnel_usage *usage)
{
	struct esp_bus *bus = context;
	Twinspan__TunnelCounters row = TWINSPAN__TUNNEL_COUNTERS__INIT;
	row.tunnel_id = (char *)(uintptr_t)usage->id;
	row.packets_in = usage->packets_in;
	row.bytes_in = usage->bytes_in;
	row.packets_out = usage->packets_out;
	row.bytes_out = usage->bytes_out;
	row.drops = usage->drops;
	put(bus->tunnel_counters, "", usage->id, &row.base);
}

// Every second what has changed; and halfway, where there is traffic, the SAs whose peer has fallen silent: by these ike
// decides to ask it (RFC 7296 §2.4). Traffic both ways and an idle node cost nothing for that.
static void report(void *context)
{
	struct esp_bus *bus = context;
	set_wall_offset(bus);
	if (bus->halfway) {
		bus->halfway = false;
		esp_each_sa(bus->parts.esp, ESP_SAS_SILENT, report_sa, bus);
		table_commit(bus->sa_usage);
		deadline_arm(&bus->report, now() + REPORT_INTERVAL / 2);
		return;
	}
	bus->sas_reported = 0;
	esp_each_sa(bus->parts.esp, ESP_SAS_CHANGED, report_sa, bus);
	table_commit(bus->sa_usage);
	esp_each_tunnel(bus->parts.esp, true, report_tunnel, bus);
	table_commit(bus->tunnel_counters);
	bus->halfway = bus->sas_reported > 0;
	deadline_arm(&bus->report, now() + (bus->halfway ? REPORT_INTERVAL / 2 : REPORT_INTERVAL));
}

// ---- the whole ----

static const struct row_kind resource_kinds[] = {
    {"node", &twinspan__node__descriptor, node_set, member_removed},
    {"vpc_host", &twinspan__vpc_host__descriptor, vpc_host_set, member_removed},
    {"border_gateway", &twinspan__border_gateway__descriptor, gateway_set, gateway_removed},
    {"vpc", &twinspan__vpc__descriptor, vpc_set, vpc_removed},
    {"vpc_attachment", &twinspan__vpc_attachment__descriptor, attachment_set, attachment_removed},
    {"vpn_tunnel", &twinspan__vpn_tunnel__descriptor, tunnel_set, tunnel_removed},
};
static const struct row_kind route_kinds[] = {
    {"next_hop_group", &twinspan__next_hop_group__descriptor, group_set, group_removed},
    {"effective_route", &twinspan__effective_route__descriptor, route_set, route_removed},
};
static const struct row_kind child_sa_kind = {"child_sa", &twinspan__child_sa__descriptor, sa_set, sa_removed};

// When every table has been told once, what an earlier process left in the kernel and nobody wants can go.
static void replica_state(void *context)
{
	struct esp_bus *bus = context;
	if (!bus->sas_complete && replica_has_snapshot(bus->feeds[bus->feed_count - 1].replica)) {
		bus->sas_complete = true; // child_sa is the last feed
		esp_sa_complete(bus->parts.esp);
	}
	for (size_t i = 0; i < bus->feed_count; i++) {
		if (!replica_has_snapshot(bus->feeds[i].replica)) {
			return;
		}
	}
	if (!bus->swept) {
		bus->swept = true;
		kernel_sweep(bus->parts.kernel);
		log_event(LOG_INFO, "tables-complete", NULL);
	}
}

static void feed(struct esp_bus *bus, const char *owner, const struct row_kind *kind)
{
	struct feed *feed = &bus->feeds[bus->feed_count];
	feed->bus = bus;
	feed->kind = kind;
	feed->replica = replica_new(bus->parts.bus, owner, kind->table, bus->parts.node, rows_changed, feed);
	bus->feed_count++;
	replica_on_state(feed->replica, replica_state, bus);
}

struct esp_bus *esp_bus_new(const struct esp_bus_parts *parts)
{
	struct esp_bus *bus = allocate(sizeof *bus);
	bus->parts = *parts;
	bus->ike = format_text("ike.%s", parts->node);
	bus->routes = map_new(NULL);
	bus->started = wall_clock();
	bus->node_status = table_own(parts->bus, "node_status");
	bus->held_ike_sa = table_own(parts->bus, "held_ike_sa");
	bus->sa_usage = table_own(parts->bus, "sa_usage");
	bus->tunnel_counters = table_own(parts->bus, "tunnel_counters");
	deadline_init(&bus->report, parts->loop, report, bus);
	// Complete at once, held_ike_sa too: after the node's start there is nothing to hold, and an ike that lives tells its
	// states again.
	report_node(bus);
	table_complete(bus->node_status);
	table_complete(bus->held_ike_sa);
	table_complete(bus->sa_usage);
	table_complete(bus->tunnel_counters);
	for (size_t i = 0; i < sizeof resource_kinds / sizeof *resource_kinds; i++) {
		feed(bus, "resource", &resource_kinds[i]);
	}
	for (size_t i = 0; i < sizeof route_kinds / sizeof *route_kinds; i++) {
		feed(bus, "route", &route_kinds[i]);
	}
	feed(bus, bus->ike, &child_sa_kind);
	bus->held = replica_new(parts->bus, bus->ike, "ike_sa", parts->node, ike_sa_changed, bus);
	deadline_arm(&bus->report, now() + REPORT_INTERVAL);
	return bus;
}

void esp_bus_free(struct esp_bus **bus)
{
	if (!*bus) {
		return;
	}
	deadline_disarm(&(*bus)->report);
	for (size_t i = 0; i < (*bus)->feed_count; i++) {
		replica_free(&(*bus)->feeds[i].replica);
	}
	replica_free(&(*bus)->held);
	map_free(&(*bus)->routes, free_known_route);
	free((*bus)->ike);
	free(*bus);
	*bus = NULL;
}
