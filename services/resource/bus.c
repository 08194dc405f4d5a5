// The tables of resource, and what it reads of others: tunnel_status and tunnel_event of each node's ike, tunnel_counters of
// its esp, bgp_session of its bgp; the shown routes of route. See README.md.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/address.h"
#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/tables.pb-c.h"
#include "services/resource/shell.h"

enum node_input { NODE_STATUS, NODE_EVENTS, NODE_COUNTERS, NODE_SESSIONS, NODE_BGP_EVENTS, NODE_INPUTS };
struct node {
	struct resource_bus *bus;
	char *id;
	struct replica *replicas[NODE_INPUTS];
};

struct resource_bus {
	struct service *service;
	struct bus *bus;
	struct table *tables[RESOURCE_KINDS]; // NULL: the kind is not on the bus
	struct table *secrets;
	struct replica *shown_routes, *vpc_routes, *groups;
	struct map *nodes; // id -> struct node
	struct metric *unusable;
};

// ---- out ----
void resource_bus_secret(struct resource_bus *bus, const char *tunnel_id, const char *node_id, struct bytes key)
{
	Twinspan__TunnelSecret row = TWINSPAN__TUNNEL_SECRET__INIT;
	row.tunnel_id = (char *)(uintptr_t)tunnel_id;
	row.pre_shared_key = (ProtobufCBinaryData){.len = key.length, .data = (uint8_t *)(uintptr_t)key.data};
	uint8_t packed[256];
	if (twinspan__tunnel_secret__get_packed_size(&row) > sizeof packed) {
		return;
	}
	size_t length = twinspan__tunnel_secret__pack(&row, packed);
	table_put(bus->secrets, node_id, text_bytes(tunnel_id), (struct bytes){packed, length});
	wipe(packed, sizeof packed);
}

static void follow_node(struct resource_bus *bus, const char *id);
static void leave_node(struct resource_bus *bus, const char *id);

void resource_bus_row(struct resource_bus *bus, enum resource_kind kind, const char *id, const struct record *after)
{
	struct table *table = bus->tables[kind];
	if (table && after) {
		uint8_t *packed = allocate(record_packed_size(after) + 1);
		size_t length = record_pack(after, packed);
		const char *scope = kind == RESOURCE_VPN_TUNNEL ? record_text(after, "nodeId") : "";
		table_put(table, scope, text_bytes(id), (struct bytes){packed, length});
		free(packed);
	} else if (table) {
		table_remove(table, text_bytes(id));
	}
	if (kind == RESOURCE_VPN_TUNNEL && !after) {
		table_remove(bus->secrets, text_bytes(id));
	}
	if (kind == RESOURCE_NODE && after) {
		follow_node(bus, id);
	} else if (kind == RESOURCE_NODE) {
		leave_node(bus, id);
	}
}

// The key first: an ike that sees a tunnel finds its key.
void resource_bus_commit(struct resource_bus *bus, bool complete)
{
	struct table *tables[RESOURCE_KINDS + 1] = {bus->secrets};
	memcpy(&tables[1], bus->tables, sizeof bus->tables);
	for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
		if (tables[i]) {
			table_commit(tables[i]);
			if (complete && !table_is_complete(tables[i])) {
				table_complete(tables[i]);
			}
		}
	}
}

// ---- in ----
// A replica's rows, one by one: the key as text; `value` empty when the row is gone.
typedef bool row_fn(struct resource_bus *bus, const char *key, struct bytes value, bool removed);

static void each_row(struct resource_bus *bus, const struct replica_row *rows, size_t count, row_fn *fn)
{
	for (size_t i = 0; i < count; i++) {
		char key[512];
		bool usable = rows[i].key.length < sizeof key;
		if (usable) {
			memcpy(key, rows[i].key.data, rows[i].key.length);
			key[rows[i].key.length] = '\0';
			usable = fn(bus, key, rows[i].value, rows[i].removed);
		}
		if (!usable) {
			metric_add(bus->unusable, 1);
			log_limited(LOG_WARNING, "row-not-usable", NULL);
		}
	}
}

static bool take_status(struct resource_bus *bus, const char *key, struct bytes value, bool removed)
{
	if (removed) {
		resource_report_status(bus->service->resource, key, NULL);
		return true;
	}
	static const enum tunnel_state states[] = {[TWINSPAN__TUNNEL_STATUS__STATE__DOWN] = TUNNEL_DOWN,
	                                           [TWINSPAN__TUNNEL_STATUS__STATE__CONNECTING] = TUNNEL_CONNECTING,
	                                           [TWINSPAN__TUNNEL_STATUS__STATE__UP] = TUNNEL_UP};
	Twinspan__TunnelStatus *row = twinspan__tunnel_status__unpack(NULL, value.length, value.data);
	bool usable = row && (unsigned)row->state < sizeof states / sizeof states[0];
	if (usable) {
		struct tunnel_status status = {states[row->state], row->reason, row->since, row->ike_suite, row->child_suite};
		resource_report_status(bus->service->resource, key, &status);
	}
	if (row) {
		twinspan__tunnel_status__free_unpacked(row, NULL);
	}
	return usable;
}

static bool take_event_of(struct resource_bus *bus, enum node_service service, struct bytes value, bool removed)
{
	if (removed) {
		return true; // the core keeps as many as its owner does, and the last ones of a tunnel that is gone go with it
	}
	Twinspan__TunnelEvent *row = twinspan__tunnel_event__unpack(NULL, value.length, value.data);
	if (!row) {
		return false;
	}
	struct tunnel_event event = {service, row->number, row->time, row->event, row->detail};
	resource_report_event(bus->service->resource, row->tunnel_id, &event);
	twinspan__tunnel_event__free_unpacked(row, NULL);
	return true;
}

static bool take_event(struct resource_bus *bus, const char *key, struct bytes value, bool removed)
{
	(void)key;
	return take_event_of(bus, SERVICE_IKE, value, removed);
}

static bool take_bgp_event(struct resource_bus *bus, const char *key, struct bytes value, bool removed)
{
	(void)key;
	return take_event_of(bus, SERVICE_BGP, value, removed);
}

static bool take_counters(struct resource_bus *bus, const char *key, struct bytes value, bool removed)
{
	if (removed) {
		resource_report_counters(bus->service->resource, key, NULL);
		return true;
	}
	Twinspan__TunnelCounters *row = twinspan__tunnel_counters__unpack(NULL, value.length, value.data);
	if (!row) {
		return false;
	}
	struct tunnel_counters counters = {row->packets_in, row->bytes_in, row->packets_out, row->bytes_out, row->drops};
	resource_report_counters(bus->service->resource, key, &counters);
	twinspan__tunnel_counters__free_unpacked(row, NULL);
	return true;
}

static bool take_session(struct resource_bus *bus, const char *key, struct bytes value, bool removed)
{
	if (removed) {
		resource_report_bgp(bus->service->resource, key, NULL);
		return true;
	}
	Twinspan__BgpSession *row = twinspan__bgp_session__unpack(NULL, value.length, value.data);
	bool usable = row && in_list(BGP_STATE_VALUES, row->state);
	if (usable) {
		struct bgp_session session = {.state = row->state,
		                              .reason = row->reason,
		                              .last_error = row->last_error,
		                              .since = row->since,
		                              .hold_time = row->hold_time,
		                              .remote_asn = row->remote_asn,
		                              .prefixes_received = row->prefixes_received,
		                              .prefixes_advertised = row->prefixes_advertised,
		                              .prefixes_discarded = row->prefixes_discarded};
		resource_report_bgp(bus->service->resource, key, &session);
	}
	if (row) {
		twinspan__bgp_session__free_unpacked(row, NULL);
	}
	return usable;
}

static bool take_shown(struct resource_bus *bus, const char *key, struct bytes value, bool removed)
{
	static const enum shown_table tables[] = {[TWINSPAN__BORDER_GATEWAY_ROUTE_ROW__KIND__STATIC] = SHOWN_STATIC,
	                                          [TWINSPAN__BORDER_GATEWAY_ROUTE_ROW__KIND__PROPAGATED] = SHOWN_PROPAGATED,
	                                          [TWINSPAN__BORDER_GATEWAY_ROUTE_ROW__KIND__EFFECTIVE] = SHOWN_EFFECTIVE};
	if (removed) {
		resource_report_route(bus->service->resource, text_bytes(key), NULL);
		return true;
	}
	Twinspan__BorderGatewayRouteRow *row = twinspan__border_gateway_route_row__unpack(NULL, value.length, value.data);
	bool usable = row && (unsigned)row->kind < sizeof tables / sizeof tables[0];
	if (usable) {
		struct shown_route route = {
		    .table = tables[row->kind],
		    .owner = row->border_gateway_id,
		    .destination = row->destination,
		    .next_hop_type = row->next_hop_type,
		    .next_hop_id = row->next_hop_id,
		    .type = row->type,
		    .metric = row->metric,
		    .as_path = row->as_path,
		    .as_path_length = row->n_as_path,
		    .learned = strcmp(row->type, "EBGP") == 0 || strcmp(row->type, "IBGP") == 0,
		    .origin = row->origin,
		    .med = row->med,
		    .communities = row->communities,
		    .community_count = row->n_communities,
		    .tunnel_ids = (const char *const *)row->tunnel_ids,
		    .tunnel_count = row->n_tunnel_ids,
		    .effective = row->effective,
		    .reason = row->reason,
		    .since = row->since,
		};
		usable = resource_report_route(bus->service->resource, text_bytes(key), &route);
	}
	if (row) {
		twinspan__border_gateway_route_row__free_unpacked(row, NULL);
	}
	return usable;
}

static bool take_vpc_route(struct resource_bus *bus, const char *key, struct bytes value, bool removed)
{
	char *own_key = format_text("vpc/%s", key); // beside the border gateways' keys
	Twinspan__VpcRoute *row = removed ? NULL : twinspan__vpc_route__unpack(NULL, value.length, value.data);
	struct prefix destination = {0};
	bool usable = row && row->prefix_length <= 128 &&
	              address_from_bytes((struct bytes){row->destination.data, row->destination.len}, &destination.address);
	if (removed) {
		resource_report_route(bus->service->resource, text_bytes(own_key), NULL);
	} else if (usable) {
		char text[PREFIX_TEXT];
		destination.length = (uint8_t)row->prefix_length;
		bool local = row->border_gateway_id[0] == '\0';
		struct shown_route route = {
		    .table = SHOWN_VPC,
		    .owner = row->vpc_route_table_id,
		    .destination = prefix_format(&destination, text),
		    .next_hop_type = local ? "LOCAL" : "BORDER_GATEWAY",
		    .next_hop_id = local ? row->vpc_id : row->border_gateway_id,
		    .type = row->type,
		    .metric = row->metric,
		    .as_path = row->as_path,
		    .as_path_length = row->n_as_path,
		    .group_id = row->next_hop_group_id,
		    .effective = row->effective,
		    .reason = row->reason,
		    .since = row->since,
		};
		usable = resource_report_route(bus->service->resource, text_bytes(own_key), &route);
	}
	if (row) {
		twinspan__vpc_route__free_unpacked(row, NULL);
	}
	free(own_key);
	return removed || usable;
}

static bool take_group(struct resource_bus *bus, const char *key, struct bytes value, bool removed)
{
	if (removed) {
		resource_report_group(bus->service->resource, key, NULL, 0);
		return true;
	}
	Twinspan__NextHopGroup *row = twinspan__next_hop_group__unpack(NULL, value.length, value.data);
	if (!row) {
		return false;
	}
	const char **tunnels = allocate_array(row->n_members + 1, sizeof *tunnels);
	for (size_t i = 0; i < row->n_members; i++) {
		tunnels[i] = row->members[i]->tunnel_id;
	}
	resource_report_group(bus->service->resource, key, tunnels, row->n_members);
	free(tunnels);
	twinspan__next_hop_group__free_unpacked(row, NULL);
	return true;
}

static void status_changed(void *context, const struct replica_row *rows, size_t count)
{
	each_row(((struct node *)context)->bus, rows, count, take_status);
}

static void events_changed(void *context, const struct replica_row *rows, size_t count)
{
	each_row(((struct node *)context)->bus, rows, count, take_event);
}

static void counters_changed(void *context, const struct replica_row *rows, size_t count)
{
	each_row(((struct node *)context)->bus, rows, count, take_counters);
}

static void sessions_changed(void *context, const struct replica_row *rows, size_t count)
{
	each_row(((struct node *)context)->bus, rows, count, take_session);
}

static void bgp_events_changed(void *context, const struct replica_row *rows, size_t count)
{
	each_row(((struct node *)context)->bus, rows, count, take_bgp_event);
}

static void shown_changed(void *context, const struct replica_row *rows, size_t count)
{
	each_row(context, rows, count, take_shown);
}

static void vpc_routes_changed(void *context, const struct replica_row *rows, size_t count)
{
	each_row(context, rows, count, take_vpc_route);
}

static void groups_changed(void *context, const struct replica_row *rows, size_t count)
{
	each_row(context, rows, count, take_group);
}

// ---- nodes ----
static const char heard_metric[] = "twinspan_resource_node_service_heard";

static const struct {
	enum node_service service;
	const char *table;
	replica_fn *changed;
} inputs[NODE_INPUTS] = {
    [NODE_STATUS] = {SERVICE_IKE, "tunnel_status", status_changed},
    [NODE_EVENTS] = {SERVICE_IKE, "tunnel_event", events_changed},
    [NODE_COUNTERS] = {SERVICE_ESP, "tunnel_counters", counters_changed},
    [NODE_SESSIONS] = {SERVICE_BGP, "bgp_session", sessions_changed},
    [NODE_BGP_EVENTS] = {SERVICE_BGP, "bgp_event", bgp_events_changed},
};

// Of one service all tables come over one connection.
static void liveness_changed(void *context)
{
	struct node *node = context;
	for (size_t service = 0; service < NODE_SERVICES; service++) {
		bool heard = false;
		for (size_t i = 0; i < NODE_INPUTS; i++) {
			heard = heard ||
			        (inputs[i].service == service && node->replicas[i] && replica_owner_alive(node->replicas[i]));
		}
		resource_report_service(node->bus->service->resource, node->id, (enum node_service)service, heard);
		char labels[160];
		snprintf(labels, sizeof labels, "node=\"%s\",service=\"%s\"", node->id, node_service_names[service]);
		metric_set(metric(METRIC_GAUGE, heard_metric, labels, "1 while the node's service is heard"), heard);
	}
}

static void follow_node(struct resource_bus *bus, const char *id)
{
	if (map_find_text(bus->nodes, id)) {
		return;
	}
	struct node *node = allocate(sizeof *node);
	node->bus = bus;
	node->id = duplicate_text(id);
	map_insert_text(bus->nodes, id, node);
	for (size_t i = 0; i < NODE_INPUTS; i++) {
		char *owner = format_text("%s.%s", node_service_names[inputs[i].service], id);
		node->replicas[i] = replica_new(bus->bus, owner, inputs[i].table, "", inputs[i].changed, node);
		replica_on_state(node->replicas[i], liveness_changed, node);
		replica_optional(node->replicas[i]); // a node that is away keeps nobody from the API
		free(owner);
	}
	liveness_changed(node); // nobody has been heard yet
}

static void free_node(void *at)
{
	struct node *node = at;
	for (size_t i = 0; i < NODE_INPUTS; i++) {
		replica_free(&node->replicas[i]);
	}
	free(node->id);
	free(node);
}

// A node goes only when no tunnel is on it: there is nothing of it to take back.
static void leave_node(struct resource_bus *bus, const char *id)
{
	struct node *node = map_remove_text(bus->nodes, id);
	if (node) {
		resource_forget_node(bus->service->resource, id);
		for (size_t service = 0; service < NODE_SERVICES; service++) {
			char labels[160];
			snprintf(labels, sizeof labels, "node=\"%s\",service=\"%s\"", id, node_service_names[service]);
			metric_remove(heard_metric, labels);
		}
		free_node(node);
	}
}

// ---- life ----
// The limits of a tenant that has no quota of its own.
static void put_default_quota(struct resource_bus *bus)
{
	struct record *row = quota_defaults();
	resource_bus_row(bus, RESOURCE_QUOTA, "", row);
	record_free(&row);
}

struct resource_bus *resource_bus_new(struct service *service, struct bus *bus)
{
	struct resource_bus *own = allocate(sizeof *own);
	own->service = service;
	own->bus = bus;
	own->nodes = map_new(NULL);
	own->unusable = metric(METRIC_COUNTER, "twinspan_resource_unusable_rows_total", NULL,
	                       "Rows of other services that could not be read");
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		own->tables[i] = kind_rules[i].table ? table_own(bus, kind_rules[i].table) : NULL;
	}
	own->secrets = table_own(bus, "tunnel_secret");
	put_default_quota(own);
	own->groups = replica_new(bus, "route", "next_hop_group", "", groups_changed, own);
	own->shown_routes = replica_new(bus, "route", "border_gateway_route_row", "", shown_changed, own);
	own->vpc_routes = replica_new(bus, "route", "vpc_route", "", vpc_routes_changed, own);
	replica_optional(own->groups);
	replica_optional(own->shown_routes);
	replica_optional(own->vpc_routes);
	return own;
}

void resource_bus_free(struct resource_bus **bus)
{
	if (!*bus) {
		return;
	}
	map_free(&(*bus)->nodes, free_node);
	replica_free(&(*bus)->groups);
	replica_free(&(*bus)->shown_routes);
	replica_free(&(*bus)->vpc_routes);
	free(*bus);
	*bus = NULL;
}
