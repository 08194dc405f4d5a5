// The tables of bgp: rows in become sessions and advertised routes of the core, what it learns becomes rows. README.md has the
// list.
//
// A session exists for each tunnel of this node whose connection is BGP, once all the rows that describe it are here; it runs
// while the tunnel's tunnel_status is UP. The four tables of resource change seldom: a change of one looks at every tunnel
// again. tunnel_status looks at its own tunnel only.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/tables.pb-c.h"
#include "services/bgp/shell.h"

enum { DEFAULT_HOLD_TIME = 30, DEFAULT_KEEPALIVE = 10 };

struct bgp_bus {
	struct service *service;
	uint32_t maximum_prefixes;
	struct table *sessions, *routes;
	struct replica *tunnel_replica, *connection_replica, *customer_replica, *gateway_replica, *status_replica,
	    *advertised_replica;
	// Rows by key, unpacked.
	struct map *tunnels, *connections, *customers, *gateways, *statuses;
	struct map *peerings;                   // by tunnel id
	const struct bgp_session *last_session; // bgp_bus_peering's last answer: routes come in runs
	struct peering *last_peering;
	uint8_t *packed; // the row being published
	size_t packed_capacity;
};

static void free_message(void *message)
{
	protobuf_c_message_free_unpacked(message, NULL);
}

// ---- out ----
static void put(struct bgp_bus *bus, struct table *table, struct bytes key, const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	if (length > bus->packed_capacity) {
		bus->packed_capacity = length * 2;
		bus->packed = reallocate(bus->packed, bus->packed_capacity, 1);
	}
	protobuf_c_message_pack(message, bus->packed);
	table_put(table, "", key, (struct bytes){bus->packed, length});
}

static void publish_session(struct bgp_bus *bus, struct peering *peering)
{
	struct bgp_session_status status;
	bgp_session_status(peering->session, &status);
	if (status.state != peering->state || peering->since == 0) {
		peering->state = status.state;
		peering->since = wall_clock();
	}
	uint8_t router_id[4];
	struct writer w = writer_of(router_id, sizeof router_id);
	write_u32(&w, status.remote_router_id);
	Twinspan__BgpSession row = TWINSPAN__BGP_SESSION__INIT;
	row.tunnel_id = peering->tunnel_id;
	row.state = (char *)(uintptr_t)bgp_state_name(status.state);
	row.since = peering->since;
	row.last_error = (char *)(uintptr_t)status.last_error;
	row.remote_asn = status.remote_as;
	if (status.remote_router_id) {
		row.remote_router_id = (ProtobufCBinaryData){sizeof router_id, router_id};
	}
	row.hold_time = status.hold_time;
	row.prefixes_received = (uint32_t)status.prefixes_received;
	row.prefixes_advertised = (uint32_t)status.prefixes_advertised;
	row.established_count = status.established_count;
	put(bus, bus->sessions, text_bytes(peering->tunnel_id), &row.base);
}

enum { AS_PATH_CAPACITY = 2048, COMMUNITIES_CAPACITY = 1024 }; // more than a message of 4,096 octets can hold

static void publish_route(struct bgp_bus *bus, const struct bgp_route_change *change)
{
	struct peering *peering = bgp_bus_peering(bus, change->session);
	struct prefix destination = bgp_prefix_value(change->destination);
	char key[128], prefix_text[PREFIX_TEXT];
	int length = snprintf(key, sizeof key, "%s/%s", peering->tunnel_id, prefix_format(&destination, prefix_text));
	struct bytes key_bytes = {(const uint8_t *)key, (size_t)length};
	if (!change->attributes) {
		table_remove(bus->routes, key_bytes);
		return;
	}
	struct bgp_attributes_view view;
	bgp_attributes_view(change->attributes, &view);
	uint32_t as_path[AS_PATH_CAPACITY], communities[COMMUNITIES_CAPACITY];
	uint8_t next_hop[4];
	struct writer w = writer_of(next_hop, sizeof next_hop);
	write_u32(&w, view.next_hop);
	Twinspan__LearnedRoute row = TWINSPAN__LEARNED_ROUTE__INIT;
	row.tunnel_id = peering->tunnel_id;
	row.destination = (ProtobufCBinaryData){destination.address.length, destination.address.octets};
	row.prefix_length = destination.length;
	row.next_hop = (ProtobufCBinaryData){sizeof next_hop, next_hop};
	row.origin = view.origin;
	row.as_path = as_path;
	size_t ases = bgp_as_path_flatten(view.as_path, as_path, AS_PATH_CAPACITY);
	row.n_as_path = ases < AS_PATH_CAPACITY ? ases : AS_PATH_CAPACITY;
	row.as_path_length = (uint32_t)view.as_path_length;
	row.has_med = view.has_med;
	row.med = view.med;
	struct reader r = reader_of(view.communities);
	row.communities = communities;
	while (row.n_communities < COMMUNITIES_CAPACITY && reader_left(&r) >= 4) {
		communities[row.n_communities++] = read_u32(&r);
	}
	put(bus, bus->routes, key_bytes, &row.base);
}

static void remove_peering(struct bgp_bus *bus, struct peering *peering)
{
	table_remove(bus->sessions, text_bytes(peering->tunnel_id));
	map_remove_text(bus->peerings, peering->tunnel_id);
	listeners_release(bus->service->listeners, peering->border_gateway_id);
	bus->last_session = NULL;
	free(peering->tunnel_id);
	free(peering->border_gateway_id);
	free(peering);
}

// The session's row goes first: it is one, and says at once what a hundred thousand withdrawn routes say after it.
void bgp_bus_publish(struct bgp_bus *bus, const struct bgp_actions *actions)
{
	bool changed = false, removed = false;
	for (size_t i = 0; i < actions->count; i++) {
		if (actions->list[i].kind == BGP_ACTION_CHANGED) {
			publish_session(bus, bgp_bus_peering(bus, actions->list[i].session));
			changed = true;
		}
	}
	if (changed) {
		table_commit(bus->sessions);
	}
	for (size_t i = 0; i < actions->route_count; i++) {
		publish_route(bus, &actions->routes[i]);
	}
	if (actions->route_count) {
		table_commit(bus->routes);
	}
	for (size_t i = 0; i < actions->count; i++) {
		if (actions->list[i].kind == BGP_ACTION_REMOVED) {
			remove_peering(bus, bgp_bus_peering(bus, actions->list[i].session));
			removed = true;
		}
	}
	if (removed) {
		table_commit(bus->sessions);
	}
}

// ---- sessions ----
struct peering *bgp_bus_peering(const struct bgp_bus *bus, const struct bgp_session *session)
{
	if (session != bus->last_session) {
		struct bgp_bus *cache = (struct bgp_bus *)(uintptr_t)bus;
		cache->last_session = session;
		cache->last_peering = map_find_text(bus->peerings, bgp_session_id(session));
		cache->last_peering->session = (struct bgp_session *)(uintptr_t)session;
	}
	return bus->last_peering;
}

struct peering *bgp_bus_peering_between(const struct bgp_bus *bus, const char *border_gateway_id, const struct address *local,
                                        const struct address *remote)
{
	struct map_cursor cursor = {.position = 0};
	while (map_next(bus->peerings, &cursor)) {
		struct peering *peering = cursor.value;
		if (strcmp(peering->border_gateway_id, border_gateway_id) == 0 && address_equal(&peering->local, local) &&
		    address_equal(&peering->remote, remote)) {
			return peering;
		}
	}
	return NULL;
}

size_t bgp_bus_sessions(const struct bgp_bus *bus, size_t *established)
{
	*established = 0;
	struct map_cursor cursor = {.position = 0};
	while (map_next(bus->peerings, &cursor)) {
		*established += ((struct peering *)cursor.value)->state == BGP_ESTABLISHED;
	}
	return map_count(bus->peerings);
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

// false when there is no such session: a row is missing, or the connection is not BGP.
static bool config_of(struct bgp_bus *bus, const Twinspan__VpnTunnel *tunnel, struct bgp_session_config *out)
{
	const Twinspan__VpnConnection *connection =
	    tunnel->vpn_connection_id ? map_find_text(bus->connections, tunnel->vpn_connection_id) : NULL;
	if (!connection || connection->routing != TWINSPAN__ROUTING__ROUTING_BGP || !connection->customer_gateway_id ||
	    !tunnel->border_gateway_id) {
		return false;
	}
	const Twinspan__CustomerGateway *customer = map_find_text(bus->customers, connection->customer_gateway_id);
	const Twinspan__BorderGateway *gateway = map_find_text(bus->gateways, tunnel->border_gateway_id);
	const Twinspan__TunnelStatus *status = map_find_text(bus->statuses, tunnel->id);
	if (!customer || !gateway) {
		return false;
	}
	*out = (struct bgp_session_config){
	    .export = tunnel->vpn_connection_id,
	    .local_as = gateway->asn,
	    .remote_as = customer->asn,
	    .router_id = ipv4_number(tunnel->cloud_address),
	    .hold_time = tunnel->bgp && tunnel->bgp->has_hold_time ? (uint16_t)tunnel->bgp->hold_time : DEFAULT_HOLD_TIME,
	    .keepalive = tunnel->bgp && tunnel->bgp->has_keepalive ? (uint16_t)tunnel->bgp->keepalive : DEFAULT_KEEPALIVE,
	    .maximum_prefixes = bus->maximum_prefixes,
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
		map_insert_text(bus->peerings, tunnel->id, peering);
		listeners_hold(bus->service->listeners, tunnel->border_gateway_id);
	}
	return peering;
}

// Makes the session of a tunnel what the rows say now.
static void reconcile(struct bgp_bus *bus, const char *tunnel_id)
{
	const Twinspan__VpnTunnel *tunnel = map_find_text(bus->tunnels, tunnel_id);
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
	while (map_next(bus->tunnels, &cursor)) {
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

static void connections_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bgp_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		keep(bus->connections, &rows[i], &twinspan__vpn_connection__descriptor);
	}
	reconcile_all(bus);
}

static void customers_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bgp_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		keep(bus->customers, &rows[i], &twinspan__customer_gateway__descriptor);
	}
	reconcile_all(bus);
}

static void gateways_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bgp_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		keep(bus->gateways, &rows[i], &twinspan__border_gateway__descriptor);
	}
	reconcile_all(bus);
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
		keep(bus->tunnels, &rows[i], &twinspan__vpn_tunnel__descriptor);
		reconcile_key(bus, rows[i].key);
	}
}

static void statuses_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct bgp_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		keep(bus->statuses, &rows[i], &twinspan__tunnel_status__descriptor);
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
	if (replica_has_snapshot(bus->advertised_replica)) {
		service_step(bus->service, &(struct bgp_event){.kind = BGP_EVENT_ADVERTISED});
	}
}

struct bgp_bus *bgp_bus_new(struct service *service, struct bus *bus, const char *node, uint32_t maximum_prefixes)
{
	struct bgp_bus *b = allocate(sizeof *b);
	b->service = service;
	b->maximum_prefixes = maximum_prefixes;
	service->bus = b; // the callbacks below may step
	b->tunnels = map_new(NULL);
	b->connections = map_new(NULL);
	b->customers = map_new(NULL);
	b->gateways = map_new(NULL);
	b->statuses = map_new(NULL);
	b->peerings = map_new(NULL);
	b->sessions = table_own(bus, "bgp_session");
	b->routes = table_own(bus, "learned_route");
	table_complete(b->sessions);
	table_complete(b->routes);
	char *ike = format_text("ike.%s", node);
	b->gateway_replica = replica_new(bus, "resource", "border_gateway", "", gateways_changed, b);
	b->customer_replica = replica_new(bus, "resource", "customer_gateway", "", customers_changed, b);
	b->connection_replica = replica_new(bus, "resource", "vpn_connection", "", connections_changed, b);
	b->tunnel_replica = replica_new(bus, "resource", "vpn_tunnel", node, tunnels_changed, b);
	b->status_replica = replica_new(bus, ike, "tunnel_status", node, statuses_changed, b);
	b->advertised_replica = replica_new(bus, "route", "advertised_route", "", advertised_changed, b);
	replica_on_state(b->advertised_replica, advertised_state, b);
	free(ike);
	return b;
}

static void free_peering(void *value)
{
	struct peering *peering = value;
	free(peering->tunnel_id);
	free(peering->border_gateway_id);
	free(peering);
}

void bgp_bus_free(struct bgp_bus **bus)
{
	struct bgp_bus *b = *bus;
	replica_free(&b->tunnel_replica);
	replica_free(&b->connection_replica);
	replica_free(&b->customer_replica);
	replica_free(&b->gateway_replica);
	replica_free(&b->status_replica);
	replica_free(&b->advertised_replica);
	map_free(&b->tunnels, free_message);
	map_free(&b->connections, free_message);
	map_free(&b->customers, free_message);
	map_free(&b->gateways, free_message);
	map_free(&b->statuses, free_message);
	map_free(&b->peerings, free_peering);
	free(b->packed);
	free(b);
	*bus = NULL;
}
