// The tables that bgp reads about its sessions: which there are and what they are like (bus_advertised.c has what they tell).
// README.md has the list.
//
// A session exists for each tunnel of this node whose connection is BGP, once all the rows that describe it are here; it runs
// while the tunnel's tunnel_status is UP. A row looks only at the tunnels of this node that it is about.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/resource_rules.h"
#include "proto/tables.pb-c.h"
#include "services/bgp/bus_state.h"

// What of each row counts here.
struct tunnel_row {
	char *id, *connection, *gateway;
	struct address local, remote; // inside addresses; `length` 0: none
	uint32_t router_id;
	uint16_t hold_time, keepalive;
	bool admin_up;
};
struct connection_row {
	char *customer, *tenant;
	bool is_bgp;
};
struct speaker_row { // a border gateway or a customer gateway
	uint32_t as;
};
struct status_row {
	bool up;
	uint64_t generation;
};
struct quota_row {
	uint32_t learned_routes;
};

static const char *text_or_empty(const char *text)
{
	return text ? text : "";
}

// ---- a session as the rows describe it ----
// What the definition of a field says when a row does not; 0: nothing.
static uint32_t default_of(enum resource_kind kind, const char *path)
{
	const char *text = field_rule_find(kind, path)->fallback;
	return text ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

// How many routes each session of a tenant may learn.
static uint32_t quota_of(const struct bgp_bus *bus, const char *tenant)
{
	const struct quota_row *quota = map_find_text(bus->rows[ROWS_QUOTAS], tenant);
	if (!quota) {
		quota = map_find_text(bus->rows[ROWS_QUOTAS], "");
	}
	return quota ? quota->learned_routes : default_of(RESOURCE_QUOTA, "learnedRoutes");
}

// false when there is no such session: a row is missing, or the connection is not BGP.
static bool config_of(const struct bgp_bus *bus, const struct tunnel_row *tunnel, struct bgp_session_config *out)
{
	const struct connection_row *connection = map_find_text(bus->rows[ROWS_CONNECTIONS], tunnel->connection);
	if (!connection || !connection->is_bgp) {
		return false;
	}
	const struct speaker_row *customer = map_find_text(bus->rows[ROWS_CUSTOMERS], connection->customer);
	const struct speaker_row *gateway = map_find_text(bus->rows[ROWS_GATEWAYS], tunnel->gateway);
	const struct status_row *status = map_find_text(bus->rows[ROWS_STATUSES], tunnel->id);
	if (!customer || !gateway || tunnel->local.length == 0 || tunnel->remote.length == 0) {
		return false;
	}
	if (tunnel->local.length != 4 || tunnel->remote.length != 4) {
		log_limited(LOG_WARNING, "session-unsupported", "tunnel", tunnel->id, "reason", "inside addresses are not IPv4",
		            NULL);
		return false;
	}
	*out = (struct bgp_session_config){
	    .export = tunnel->connection,
	    .local = tunnel->local,
	    .remote = tunnel->remote,
	    .local_as = gateway->as,
	    .remote_as = customer->as,
	    .router_id = tunnel->router_id,
	    .hold_time = tunnel->hold_time,
	    .keepalive = tunnel->keepalive,
	    .maximum_prefixes = quota_of(bus, connection->tenant),
	    .admin_up = tunnel->admin_up,
	    .tunnel_up = status && status->up,
	    .generation = status ? status->generation : 0,
	};
	return true;
}

static struct peering *peering_of(struct bgp_bus *bus, const struct tunnel_row *tunnel)
{
	struct peering *peering = map_find_text(bus->peerings, tunnel->id);
	if (!peering) {
		peering = allocate(sizeof *peering);
		peering->tunnel_id = duplicate_text(tunnel->id);
		peering->border_gateway_id = duplicate_text(tunnel->gateway);
		peering->first_event = wall_clock();
		map_insert_text(bus->peerings, tunnel->id, peering);
		listeners_hold(bus->service->listeners, tunnel->gateway);
	}
	return peering;
}

// Makes the session of a tunnel what the rows say now.
static void reconcile(struct bgp_bus *bus, const char *tunnel_id)
{
	const struct tunnel_row *tunnel = map_find_text(bus->rows[ROWS_TUNNELS], tunnel_id);
	struct bgp_session *session = bgp_session_find(bus->service->bgp, tunnel_id);
	struct bgp_session_config config;
	bool wanted = tunnel && config_of(bus, tunnel, &config);
	struct peering *peering = map_find_text(bus->peerings, tunnel_id);
	bool moved = peering && wanted && strcmp(peering->border_gateway_id, tunnel->gateway) != 0;
	if (session && (!wanted || moved)) {
		service_step(bus->service, &(struct bgp_event){.kind = BGP_EVENT_SESSION_REMOVED, .session = session});
	}
	if (wanted) {
		peering = peering_of(bus, tunnel);
		peering->local = config.local;
		peering->remote = config.remote;
		service_step(bus->service, &(struct bgp_event){.kind = BGP_EVENT_SESSION, .id = tunnel->id, .config = &config});
		peering->session = bgp_session_find(bus->service->bgp, tunnel->id);
	}
}

// The tunnels of this node that a row of one of the region's tables is about.
static bool is_about(const struct bgp_bus *bus, enum rows table, const char *id, const struct tunnel_row *tunnel)
{
	const struct connection_row *connection = map_find_text(bus->rows[ROWS_CONNECTIONS], tunnel->connection);
	switch (table) {
	case ROWS_GATEWAYS:
		return strcmp(tunnel->gateway, id) == 0;
	case ROWS_CONNECTIONS:
		return strcmp(tunnel->connection, id) == 0;
	case ROWS_CUSTOMERS:
		return connection && strcmp(connection->customer, id) == 0;
	case ROWS_QUOTAS:
		return id[0] == '\0' || (connection && strcmp(connection->tenant, id) == 0);
	default:
		return false;
	}
}

static void reconcile_those_of(struct bgp_bus *bus, enum rows table, const char *id)
{
	struct map_cursor cursor = {.position = 0};
	while (map_next(bus->rows[ROWS_TUNNELS], &cursor)) {
		const struct tunnel_row *tunnel = cursor.value;
		if (is_about(bus, table, id, tunnel)) {
			reconcile(bus, tunnel->id);
		}
	}
}

// ---- rows ----
static void free_tunnel(void *value)
{
	struct tunnel_row *tunnel = value;
	free(tunnel->id);
	free(tunnel->connection);
	free(tunnel->gateway);
	free(tunnel);
}

static void free_connection(void *value)
{
	struct connection_row *connection = value;
	free(connection->customer);
	free(connection->tenant);
	free(connection);
}

// Keeps what a row says; NULL: it is gone.
static void keep(struct bgp_bus *bus, enum rows table, const char *id, void *value)
{
	static void (*const free_row[ROWS_TABLES])(void *) = {
	    [ROWS_TUNNELS] = free_tunnel, [ROWS_CONNECTIONS] = free_connection};
	void *before = value ? map_insert_text(bus->rows[table], id, value) : map_remove_text(bus->rows[table], id);
	if (before) {
		(free_row[table] ? free_row[table] : free)(before);
	}
}

static const char *take_speaker(struct bgp_bus *bus, enum rows table, const char *id, bool there, uint32_t as)
{
	struct speaker_row *row = NULL;
	if (there) {
		row = allocate(sizeof *row);
		row->as = as;
	}
	keep(bus, table, id, row);
	reconcile_those_of(bus, table, id);
	return NULL;
}

static const char *take_gateway(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__BorderGateway *row = message;
	return take_speaker(context, ROWS_GATEWAYS, key->text, row, row ? row->asn : 0);
}

static const char *take_customer(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__CustomerGateway *row = message;
	return take_speaker(context, ROWS_CUSTOMERS, key->text, row, row ? row->asn : 0);
}

static const char *take_connection(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__VpnConnection *row = message;
	struct connection_row *connection = NULL;
	if (row) {
		connection = allocate(sizeof *connection);
		connection->customer = duplicate_text(text_or_empty(row->customer_gateway_id));
		connection->tenant = duplicate_text(text_or_empty(row->tenant));
		connection->is_bgp = row->routing == TWINSPAN__ROUTING__ROUTING_BGP;
	}
	keep(context, ROWS_CONNECTIONS, key->text, connection);
	reconcile_those_of(context, ROWS_CONNECTIONS, key->text);
	return NULL;
}

static const char *take_quota(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__Quota *row = message;
	struct quota_row *quota = NULL;
	if (row) {
		quota = allocate(sizeof *quota);
		quota->learned_routes =
		    row->has_learned_routes ? row->learned_routes : default_of(RESOURCE_QUOTA, "learnedRoutes");
	}
	keep(context, ROWS_QUOTAS, key->text, quota);
	reconcile_those_of(context, ROWS_QUOTAS, key->text);
	return NULL;
}

static bool read_address(const char *text, struct address *out)
{
	*out = (struct address){.length = 0};
	return !text || !text[0] || address_parse(text, out);
}

static uint32_t ipv4_number(const struct address *address)
{
	struct reader r = reader_of(address_bytes(address));
	return address->length == 4 ? read_u32(&r) : 0;
}

static const char *take_tunnel(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__VpnTunnel *row = message;
	struct tunnel_row tunnel = {.id = NULL}, *kept = NULL;
	if (row) {
		struct address cloud;
		if (!read_address(row->cloud_inside_address, &tunnel.local) ||
		    !read_address(row->customer_inside_address, &tunnel.remote) || !read_address(row->cloud_address, &cloud)) {
			return "one of its addresses is none";
		}
		const Twinspan__BgpOptions *options = row->bgp;
		tunnel.id = duplicate_text(key->text);
		tunnel.connection = duplicate_text(text_or_empty(row->vpn_connection_id));
		tunnel.gateway = duplicate_text(text_or_empty(row->border_gateway_id));
		// The cloud address is the same in all tunnels of the connection on this node, and nobody else's (RFC 6286
		// §2.1).
		tunnel.router_id = ipv4_number(cloud.length == 4 ? &cloud : &tunnel.local);
		tunnel.hold_time =
		    (uint16_t)(options && options->has_hold_time ? options->hold_time
		                                                 : default_of(RESOURCE_VPN_TUNNEL, "bgp.holdTime"));
		tunnel.keepalive =
		    (uint16_t)(options && options->has_keepalive ? options->keepalive
		                                                 : default_of(RESOURCE_VPN_TUNNEL, "bgp.keepalive"));
		tunnel.admin_up = row->admin_state != TWINSPAN__ADMIN_STATE__ADMIN_STATE_DOWN;
		kept = allocate(sizeof *kept);
		*kept = tunnel;
	}
	keep(context, ROWS_TUNNELS, key->text, kept);
	reconcile(context, key->text);
	return NULL;
}

static const char *take_status(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__TunnelStatus *row = message;
	struct status_row *status = NULL;
	if (row) {
		status = allocate(sizeof *status);
		*status = (struct status_row){row->state == TWINSPAN__TUNNEL_STATUS__STATE__UP, row->generation};
	}
	keep(context, ROWS_STATUSES, key->text, status);
	reconcile(context, key->text);
	return NULL;
}

void rows_begin(struct bgp_bus *bus, struct bus *from, const char *node)
{
	static const struct feed_kind kinds[ROWS_TABLES] = {
	    [ROWS_GATEWAYS] = {"border_gateway", &twinspan__border_gateway__descriptor, take_gateway, NULL},
	    [ROWS_CUSTOMERS] = {"customer_gateway", &twinspan__customer_gateway__descriptor, take_customer, NULL},
	    [ROWS_QUOTAS] = {"quota", &twinspan__quota__descriptor, take_quota, NULL},
	    [ROWS_CONNECTIONS] = {"vpn_connection", &twinspan__vpn_connection__descriptor, take_connection, NULL},
	    [ROWS_TUNNELS] = {"vpn_tunnel", &twinspan__vpn_tunnel__descriptor, take_tunnel, NULL},
	    [ROWS_STATUSES] = {"tunnel_status", &twinspan__tunnel_status__descriptor, take_status, NULL},
	};
	char *ike = format_text("ike.%s", node);
	for (enum rows i = 0; i < ROWS_TABLES; i++) {
		bus->rows[i] = map_new(NULL);
	}
	for (enum rows i = 0; i < ROWS_TABLES; i++) {
		bool of_node = i == ROWS_TUNNELS || i == ROWS_STATUSES;
		bus->feeds[i] = feed_new(from, i == ROWS_STATUSES ? ike : "resource", &kinds[i], of_node ? node : "", bus);
	}
	feed_take_empty_key(bus->feeds[ROWS_QUOTAS]); // the defaults
	free(ike);
}

void rows_end(struct bgp_bus *bus)
{
	for (enum rows i = 0; i < ROWS_TABLES; i++) {
		feed_free(&bus->feeds[i]);
		map_free(&bus->rows[i], i == ROWS_TUNNELS ? free_tunnel : i == ROWS_CONNECTIONS ? free_connection : free);
	}
}
