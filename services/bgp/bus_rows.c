// The tables that bgp reads: rows become sessions and advertised routes of the core. README.md has the list.
//
// A session exists for each tunnel of this node whose connection is BGP, once all the rows that describe it are here; it runs
// while the tunnel's tunnel_status is UP. tunnel_status looks at its own tunnel only.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/resource_rules.h"
#include "proto/tables.pb-c.h"
#include "services/bgp/bus_state.h"

static void free_message(void *message)
{
	protobuf_c_message_free_unpacked(message, NULL);
}

static uint32_t ipv4_number(const char *text)
{
	struct address address;
	if (!text || !address_parse(text, &address) || address.length != 4) {
		return 0;
	}
	struct reader r = reader_of(address_bytes(&address));
	return read_u32(&r);
}

static bool inside_address(const char *tunnel_id, const char *text, struct address *out)
{
	if (!text || !address_parse(text, out)) {
		return false;
	}
	if (out->length != 4) {
		log_limited(LOG_WARNING, "session-unsupported", "tunnel", tunnel_id, "reason", "inside addresses are not IPv4",
		            NULL);
		return false;
	}
	return true;
}

// What the definition of a field says when a row does not; 0: nothing.
static uint32_t default_of(enum resource_kind kind, const char *path)
{
	const char *text = field_rule_find(kind, path)->fallback;
	return text ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

// How many routes each session of a tenant may learn.
static uint32_t quota_of(struct bgp_bus *bus, const char *tenant)
{
	const Twinspan__Quota *quota = tenant ? map_find_text(bus->rows[ROWS_QUOTAS], tenant) : NULL;
	if (!quota) {
		quota = map_find_text(bus->rows[ROWS_QUOTAS], "");
	}
	return quota && quota->has_learned_routes ? quota->learned_routes : default_of(RESOURCE_QUOTA, "learnedRoutes");
}

// false when there is no such session: a row is missing, or the connection is not BGP.
static bool config_of(struct bgp_bus *bus, const Twinspan__VpnTunnel *tunnel, struct bgp_session_config *out)
{
	const Twinspan__VpnConnection *connection =
	    tunnel->vpn_connection_id ? map_find_text(bus->rows[ROWS_CONNECTIONS], tunnel->vpn_connection_id) : NULL;
	if (!connection || connection->routing != TWINSPAN__ROUTING__ROUTING_BGP || !connection->customer_gateway_id ||
	    !tunnel->border_gateway_id) {
		return false;
	}
	const Twinspan__CustomerGateway *customer = map_find_text(bus->rows[ROWS_CUSTOMERS], connection->customer_gateway_id);
	const Twinspan__BorderGateway *gateway = map_find_text(bus->rows[ROWS_GATEWAYS], tunnel->border_gateway_id);
	const Twinspan__TunnelStatus *status = map_find_text(bus->rows[ROWS_STATUSES], tunnel->id);
	if (!customer || !gateway) {
		return false;
	}
	*out = (struct bgp_session_config){
	    .export = tunnel->vpn_connection_id,
	    .local_as = gateway->asn,
	    .remote_as = customer->asn,
	    .router_id = ipv4_number(tunnel->cloud_address),
	    .hold_time = tunnel->bgp && tunnel->bgp->has_hold_time ? (uint16_t)tunnel->bgp->hold_time
	                                                           : (uint16_t)default_of(RESOURCE_VPN_TUNNEL, "bgp.holdTime"),
	    .keepalive = tunnel->bgp && tunnel->bgp->has_keepalive ? (uint16_t)tunnel->bgp->keepalive
	                                                           : (uint16_t)default_of(RESOURCE_VPN_TUNNEL, "bgp.keepalive"),
	    .maximum_prefixes = quota_of(bus, connection->tenant),
	    .admin_up = tunnel->admin_state != TWINSPAN__ADMIN_STATE__ADMIN_STATE_DOWN,
	    .tunnel_up = status && status->state == TWINSPAN__TUNNEL_STATUS__STATE__UP,
	    .generation = status ? status->generation : 0,
	};
	// The cloud address is the same in all tunnels of the connection on this node, and nobody else's (RFC 6286 §2.1).
	if (out->router_id == 0) {
		out->router_id = ipv4_number(tunnel->cloud_inside_address);
	}
	return inside_address(tunnel->id, tunnel->cloud_inside_address, &out->local) &&
	       inside_address(tunnel->id, tunnel->customer_inside_address, &out->remote);
}

static struct peering *peering_of(struct bgp_bus *bus, const Twinspan__VpnTunnel *tunnel)
{
	struct peering *peering = map_find_text(bus->peerings, tunnel->id);
	if (!peering) {
		peering = allocate(sizeof *peering);
		peering->tunnel_id = duplicate_text(tunnel->id);
		peering->border_gateway_id = duplicate_text(tunnel->border_gateway_id);
		peering->first_event = wall_clock();
		map_insert_text(bus->peerings, tunnel->id, peering);
		listeners_hold(bus->service->listeners, tunnel->border_gateway_id);
	}
	return peering;
}

// Makes the session of a tunnel what the rows say now.
static void reconcile(struct bgp_bus *bus, const char *tunnel_id)
{
	const Twinspan__VpnTunnel *tunnel = map_find_text(bus->rows[ROWS_TUNNELS], tunnel_id);
	struct bgp_session *session = bgp_session_find(bus->service->bgp, tunnel_id);
	struct bgp_session_config config;
	if (tunnel && config_of(bus, tunnel, &config)) {
		struct peering *peering = peering_of(bus, tunnel);
		peering->local = config.local;
		peering->remote = config.remote;
		service_step(bus->service, &(struct bgp_event){.kind = BGP_EVENT_SESSION, .id = tunnel->id, .config = &config});
		peering->session = bgp_session_find(bus->service->bgp, tunnel->id);
	} else if (session) {
		service_step(bus->service, &(struct bgp_event){.kind = BGP_EVENT_SESSION_REMOVED, .session = session});
	}
}

static void reconcile_all(struct bgp_bus *bus)
{
	struct map_cursor cursor = {.position = 0};
	while (map_next(bus->rows[ROWS_TUNNELS], &cursor)) {
		reconcile(bus, ((const Twinspan__VpnTunnel *)cursor.value)->id);
	}
}

// ---- in ----
// Keeps a row as what it says. A row that cannot be read is treated as if it were not there.
static void keep(struct map *rows, const struct replica_row *row, const ProtobufCMessageDescriptor *descriptor)
{
	void *message = row->removed ? NULL : protobuf_c_message_unpack(descriptor, NULL, row->value.length, row->value.data);
	if (!message && !row->removed) {
		log_limited(LOG_ERROR, "row-unreadable", "message", descriptor->short_name, NULL);
	}
	void *before = message ? map_insert(rows, row->key, message) : map_remove(rows, row->key);
	if (before) {
		free_message(before);
	}
}

// The tables of the region change seldom: a change of one looks at every tunnel again.
static void keep_all(struct bgp_bus *bus, int table, const ProtobufCMessageDescriptor *descriptor,
                     const struct replica_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		keep(bus->rows[table], &rows[i], descriptor);
	}
	reconcile_all(bus);
}

static void connections_changed(void *context, const struct replica_row *rows, size_t count)
{
	keep_all(context, ROWS_CONNECTIONS, &twinspan__vpn_connection__descriptor, rows, count);
}

static void customers_changed(void *context, const struct replica_row *rows, size_t count)
{
	keep_all(context, ROWS_CUSTOMERS, &twinspan__customer_gateway__descriptor, rows, count);
}

static void gateways_changed(void *context, const struct replica_row *rows, size_t count)
{
	keep_all(context, ROWS_GATEWAYS, &twinspan__border_gateway__descriptor, rows, count);
}

static void quotas_changed(void *context, const struct replica_row *rows, size_t count)
{
	keep_all(context, ROWS_QUOTAS, &twinspan__quota__descriptor, rows, count);
}

static void reconcile_key(struct bgp_bus *bus, struct bytes key)
{
	char id[64];
	if (key.length < sizeof id) {
		memcpy(id, key.data, key.length);
		id[key.length] = '\0';
		reconcile(bus, id);
	}
}

static void tunnels_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bgp_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		keep(bus->rows[ROWS_TUNNELS], &rows[i], &twinspan__vpn_tunnel__descriptor);
		reconcile_key(bus, rows[i].key);
	}
}

static void statuses_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bgp_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		keep(bus->rows[ROWS_STATUSES], &rows[i], &twinspan__tunnel_status__descriptor);
		reconcile_key(bus, rows[i].key);
	}
}

// A row of advertised_route: key "<connection id>/<prefix>". The key alone says what is withdrawn.
struct advertised_row {
	char key[128]; // cut after the connection id
	Twinspan__AdvertisedRoute *row;
};

static bool read_advertised(const struct replica_row *from, struct advertised_row *room, struct bgp_advertisement *out)
{
	struct prefix prefix;
	if (from->key.length >= sizeof room->key) {
		return false;
	}
	memcpy(room->key, from->key.data, from->key.length);
	room->key[from->key.length] = '\0';
	char *slash = strchr(room->key, '/');
	if (!slash || !prefix_parse(slash + 1, &prefix)) {
		return false;
	}
	*slash = '\0';
	*out = (struct bgp_advertisement){.export = room->key, .withdrawn = from->removed};
	if (!bgp_prefix_from(&prefix, &out->destination)) {
		return false; // IPv6: not said over a session of IPv4
	}
	if (!from->removed) {
		room->row = twinspan__advertised_route__unpack(NULL, from->value.length, from->value.data);
		out->withdrawn = room->row == NULL || room->row->origin > 2;
	}
	if (room->row) {
		out->origin = (uint8_t)room->row->origin;
		out->as_path = room->row->as_path;
		out->as_path_length = room->row->n_as_path;
	}
	return true;
}

static void advertised_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bgp_bus *bus = context;
	struct bgp_advertisement *list = allocate_array(count + 1, sizeof *list);
	struct advertised_row *rooms = allocate_array(count + 1, sizeof *rooms);
	size_t used = 0;
	for (size_t i = 0; i < count; i++) {
		used += read_advertised(&rows[i], &rooms[i], &list[used]);
	}
	service_step(bus->service, &(struct bgp_event){.kind = BGP_EVENT_ADVERTISE, .advertisements = list, .count = used});
	for (size_t i = 0; i < count; i++) {
		twinspan__advertised_route__free_unpacked(rooms[i].row, NULL);
	}
	free(rooms);
	free(list);
}

static void advertised_state(void *context)
{
	struct bgp_bus *bus = context;
	if (replica_has_snapshot(bus->advertised)) {
		service_step(bus->service, &(struct bgp_event){.kind = BGP_EVENT_ADVERTISED});
	}
}

void rows_begin(struct bgp_bus *bus, struct bus *from, const char *node)
{
	static const struct {
		const char *table;
		replica_fn *changed;
		bool of_node;
	} tables[ROWS_TABLES] = {
	    [ROWS_GATEWAYS] = {"border_gateway", gateways_changed, false},
	    [ROWS_CUSTOMERS] = {"customer_gateway", customers_changed, false},
	    [ROWS_CONNECTIONS] = {"vpn_connection", connections_changed, false},
	    [ROWS_TUNNELS] = {"vpn_tunnel", tunnels_changed, true},
	    [ROWS_QUOTAS] = {"quota", quotas_changed, false},
	    [ROWS_STATUSES] = {"tunnel_status", statuses_changed, true},
	};
	char *ike = format_text("ike.%s", node);
	for (size_t i = 0; i < ROWS_TABLES; i++) {
		bus->rows[i] = map_new(NULL);
	}
	for (size_t i = 0; i < ROWS_TABLES; i++) {
		bus->replicas[i] = replica_new(from, i == ROWS_STATUSES ? ike : "resource", tables[i].table,
		                               tables[i].of_node ? node : "", tables[i].changed, bus);
	}
	bus->advertised = replica_new(from, "route", "advertised_route", "", advertised_changed, bus);
	replica_on_state(bus->advertised, advertised_state, bus);
	free(ike);
}

void rows_end(struct bgp_bus *bus)
{
	for (size_t i = 0; i < ROWS_TABLES; i++) {
		replica_free(&bus->replicas[i]);
		map_free(&bus->rows[i], free_message);
	}
	replica_free(&bus->advertised);
}
