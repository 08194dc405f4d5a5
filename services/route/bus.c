// The tables of route: rows of resource, ike, bgp and esp become events of the core, and what the core publishes becomes rows.
// See README.md for the list.
//
// The output tables are complete, and only then sent to anybody, when every input has had its first snapshot: a route that has
// just started must not withdraw what it has not heard of yet. A node's service that is not there is waited for only so long.
//
// When a service of a node dies, its rows stay: whether a tunnel lives is ike's word. When all of a node's services are silent,
// the node counts as gone, and its tunnels as not UP, until one of them is back.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/tables.pb-c.h"
#include "services/route/shell.h"

enum { PORTION = 2048 }; // destinations settled before the loop turns again
#define ABSENT_OWNER_WAIT SECONDS(3)
#define SILENT_TABLE_WAIT SECONDS(10) // the owner lives but does not call its table complete

enum node_input { NODE_TUNNEL_STATUS, NODE_BGP_SESSION, NODE_LEARNED_ROUTE, NODE_STATUS, NODE_INPUTS };
struct gateway_node {
	struct route_bus *bus;
	char *id;
	struct replica *replicas[NODE_INPUTS];
	struct map *keys[NODE_INPUTS]; // of the rows that the core was given, to be taken back when the node goes
	struct deadline silence;
	instant made;
	bool alive, gone;
};

struct route_bus {
	struct service *service;
	struct bus *bus;
	struct table *tables[ROUTE_TABLE_COUNT];
	struct replica *replicas[16];
	size_t replica_count;
	struct map *nodes;
	struct map *quota_warnings; // gateway id -> level warned of
	struct deadline more;       // portions left to settle
	struct deadline wait;       // for inputs
	instant started;
	bool complete;
	bool reaping; // groups are being removed: all else of this portion has been published
	uint8_t *packed;
	size_t packed_capacity;
	struct metric *events, *unusable, *portions, *busy, *changes[ROUTE_TABLE_COUNT];
};

static const char *const table_names[ROUTE_TABLE_COUNT] = {
    [ROUTE_TABLE_GROUP] = "next_hop_group",
    [ROUTE_TABLE_EFFECTIVE] = "effective_route",
    [ROUTE_TABLE_SHOWN] = "border_gateway_route_row",
    [ROUTE_TABLE_ADVERTISED] = "advertised_route",
    [ROUTE_TABLE_VPC] = "vpc_route",
};

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

// protobuf-c's messages are not const; packing does not change them.
static char *loose(const char *text)
{
	return (char *)(uintptr_t)text;
}

// ---- out ----
static ProtobufCBinaryData prefix_octets(const struct prefix *prefix)
{
	struct bytes octets = address_bytes(&prefix->address);
	return (ProtobufCBinaryData){.len = octets.length, .data = (uint8_t *)(uintptr_t)octets.data};
}

static void put(struct route_bus *bus, const struct route_action *action, const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	if (length > bus->packed_capacity) {
		bus->packed_capacity = length * 2;
		bus->packed = reallocate(bus->packed, bus->packed_capacity, 1);
	}
	protobuf_c_message_pack(message, bus->packed);
	table_put(bus->tables[action->table], "", text_bytes(action->key), (struct bytes){bus->packed, length});
}

static void put_group(struct route_bus *bus, const struct route_action *action)
{
	Twinspan__NextHopGroup row = TWINSPAN__NEXT_HOP_GROUP__INIT;
	size_t count = action->group.member_count;
	Twinspan__NextHopMember *members = allocate_array(count + 1, sizeof *members);
	Twinspan__NextHopMember **list = allocate_array(count + 1, sizeof *list);
	for (size_t i = 0; i < count; i++) {
		const struct route_member *member = &action->group.members[i];
		twinspan__next_hop_member__init(&members[i]);
		members[i].tunnel_id = loose(member->tunnel_id);
		members[i].vpn_connection_id = loose(member->connection_id);
		members[i].node_id = loose(member->node_id);
		list[i] = &members[i];
	}
	row.id = loose(action->group.id);
	row.border_gateway_id = loose(action->group.gateway_id);
	row.members = list;
	row.n_members = count;
	row.vpn_connection_ids = (char **)(uintptr_t)action->group.connection_ids;
	row.n_vpn_connection_ids = action->group.connection_count;
	put(bus, action, &row.base);
	free(members);
	free(list);
}

static void put_effective(struct route_bus *bus, const struct route_action *action)
{
	Twinspan__EffectiveRoute row = TWINSPAN__EFFECTIVE_ROUTE__INIT;
	row.border_gateway_id = loose(action->effective.gateway_id);
	row.destination = prefix_octets(&action->effective.destination);
	row.prefix_length = action->effective.destination.length;
	if (action->effective.attachment_id) {
		row.next_hop_case = TWINSPAN__EFFECTIVE_ROUTE__NEXT_HOP_ATTACHMENT_ID;
		row.attachment_id = loose(action->effective.attachment_id);
	} else {
		row.next_hop_case = TWINSPAN__EFFECTIVE_ROUTE__NEXT_HOP_NEXT_HOP_GROUP_ID;
		row.next_hop_group_id = loose(action->effective.group_id);
	}
	put(bus, action, &row.base);
}

static void put_shown(struct route_bus *bus, const struct route_action *action)
{
	static const Twinspan__BorderGatewayRouteRow__Kind kinds[] = {
	    [ROUTE_KIND_STATIC] = TWINSPAN__BORDER_GATEWAY_ROUTE_ROW__KIND__STATIC,
	    [ROUTE_KIND_PROPAGATED] = TWINSPAN__BORDER_GATEWAY_ROUTE_ROW__KIND__PROPAGATED,
	    [ROUTE_KIND_EFFECTIVE] = TWINSPAN__BORDER_GATEWAY_ROUTE_ROW__KIND__EFFECTIVE,
	};
	char destination[PREFIX_TEXT];
	Twinspan__BorderGatewayRouteRow row = TWINSPAN__BORDER_GATEWAY_ROUTE_ROW__INIT;
	row.border_gateway_id = loose(action->shown.gateway_id);
	row.kind = kinds[action->shown.kind];
	row.destination = prefix_format(&action->shown.destination, destination);
	row.next_hop_type = loose(action->shown.to_attachment ? "VPC_ATTACHMENT" : "VPN_CONNECTION");
	row.next_hop_id = loose(action->shown.next_hop_id);
	row.type = loose(action->shown.type);
	row.metric = action->shown.metric;
	row.as_path = (uint32_t *)(uintptr_t)action->shown.as_path;
	row.n_as_path = action->shown.as_count;
	row.tunnel_ids = (char **)(uintptr_t)action->shown.tunnel_ids;
	row.n_tunnel_ids = action->shown.tunnel_count;
	row.effective = action->shown.effective;
	row.reason = loose(action->shown.reason);
	row.since = action->shown.since;
	put(bus, action, &row.base);
	store_put(bus->service->store, action->key, false, action->shown.state, action->shown.since, action->shown.order);
}

static void put_advertised(struct route_bus *bus, const struct route_action *action)
{
	Twinspan__AdvertisedRoute row = TWINSPAN__ADVERTISED_ROUTE__INIT;
	row.vpn_connection_id = loose(action->advertised.connection_id);
	row.destination = prefix_octets(&action->advertised.destination);
	row.prefix_length = action->advertised.destination.length;
	row.as_path = (uint32_t *)(uintptr_t)action->advertised.as_path;
	row.n_as_path = action->advertised.as_count;
	row.origin = action->advertised.origin;
	put(bus, action, &row.base);
}

static void put_vpc(struct route_bus *bus, const struct route_action *action)
{
	Twinspan__VpcRoute row = TWINSPAN__VPC_ROUTE__INIT;
	row.vpc_route_table_id = loose(action->vpc.table_id);
	row.vpc_id = loose(action->vpc.vpc_id);
	row.destination = prefix_octets(&action->vpc.destination);
	row.prefix_length = action->vpc.destination.length;
	row.type = loose(action->vpc.type);
	row.border_gateway_id = loose(action->vpc.gateway_id);
	row.attachment_id = loose(action->vpc.attachment_id);
	row.next_hop_group_id = loose(action->vpc.group_id);
	row.effective = action->vpc.effective;
	row.reason = loose(action->vpc.reason);
	row.metric = action->vpc.metric;
	row.as_path = (uint32_t *)(uintptr_t)action->vpc.as_path;
	row.n_as_path = action->vpc.as_count;
	row.since = action->vpc.since;
	put(bus, action, &row.base);
	store_put(bus->service->store, action->key, false, action->vpc.state, action->vpc.since, 0);
}

static void commit(struct route_bus *bus)
{
	// What forwards first, in the order in which rows refer to each other.
	static const enum route_table order[] = {ROUTE_TABLE_GROUP, ROUTE_TABLE_EFFECTIVE, ROUTE_TABLE_VPC,
	                                         ROUTE_TABLE_ADVERTISED, ROUTE_TABLE_SHOWN};
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		table_commit(bus->tables[order[i]]);
	}
}

static void publish(void *context, const struct route_action *action)
{
	static void (*const puts[ROUTE_TABLE_COUNT])(struct route_bus *, const struct route_action *) = {
	    [ROUTE_TABLE_GROUP] = put_group, [ROUTE_TABLE_EFFECTIVE] = put_effective,
	    [ROUTE_TABLE_SHOWN] = put_shown, [ROUTE_TABLE_ADVERTISED] = put_advertised,
	    [ROUTE_TABLE_VPC] = put_vpc,
	};
	struct route_bus *bus = context;
	metric_add(bus->changes[action->table], 1);
	if (!action->removed) {
		puts[action->table](bus, action);
		return;
	}
	if (action->table == ROUTE_TABLE_GROUP && !bus->reaping) { // the core does this last: first the routes leave the group
		bus->reaping = true;
		commit(bus);
	}
	table_remove(bus->tables[action->table], text_bytes(action->key));
	if (action->table == ROUTE_TABLE_SHOWN || action->table == ROUTE_TABLE_VPC) {
		store_put(bus->service->store, action->key, true, 0, 0, 0);
	}
}

static void warn_of_quota(struct route_bus *bus, const char *gateway_id, const char *what, size_t count, size_t discarded,
                          size_t quota)
{
	static const char *const levels[] = {"quota-ok", "quota-nearly-reached", "quota-exceeded"};
	const char *level = levels[discarded > 0 ? 2 : count * 5 >= quota * 4 ? 1 : 0];
	char *key = format_text("%s/%s", gateway_id, what);
	const char *before = map_find_text(bus->quota_warnings, key);
	if (level != (before ? before : levels[0])) {
		map_insert_text(bus->quota_warnings, key, loose(level));
		log_event(level == levels[0] ? LOG_INFO : LOG_WARNING, level, "border-gateway", gateway_id, "what", what,
		          "count", log_number((int64_t)count), "discarded", log_number((int64_t)discarded), NULL);
	}
	free(key);
}

static void check_usage(void *context, const struct route_usage *usage)
{
	struct route_bus *bus = context;
	const struct route_settings *settings = &bus->service->settings;
	warn_of_quota(bus, usage->gateway_id, "static routes", usage->statics, usage->statics_discarded,
	              settings->static_routes);
	warn_of_quota(bus, usage->gateway_id, "learned routes", usage->learned, usage->learned_discarded,
	              settings->learned_routes);
}

static void settle(void *context)
{
	struct route_bus *bus = context;
	instant start = now();
	table_commit(bus->tables[ROUTE_TABLE_GROUP]); // failed tunnels wait for nothing
	bus->reaping = false;
	bool more = route_settle(bus->service->route, wall_clock(), PORTION, (struct route_sink){publish, bus});
	commit(bus);
	metric_add(bus->portions, 1);
	metric_add(bus->busy, (uint64_t)(now() - start));
	if (more) {
		deadline_arm(&bus->more, now());
	} else {
		route_usage(bus->service->route, check_usage, bus);
	}
}

static void step(struct route_bus *bus, const struct route_event *event)
{
	metric_add(bus->events, 1);
	if (!route_step(bus->service->route, event, (struct route_sink){publish, bus})) {
		metric_add(bus->unusable, 1);
		log_limited(LOG_ERROR, "row-not-usable", "id", or_empty(event->id), NULL);
	}
}

// ---- in: from resource. A row that cannot be used is taken as one that is not there. ----
static void gateway_event(struct route_event *event, const Twinspan__BorderGateway *row)
{
	event->gateway.asn = row->asn;
	event->gateway.allow_transit = row->allow_transit;
	event->gateway.node_ids = (const char *const *)row->node_ids;
	event->gateway.node_count = row->n_node_ids;
}

static size_t prefixes_from(char *const *texts, size_t count, struct prefix *out)
{
	size_t usable = 0;
	for (size_t i = 0; i < count; i++) {
		usable += prefix_parse(or_empty(texts[i]), &out[usable]);
	}
	return usable;
}

static void step_border_gateway(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__BorderGateway *row = twinspan__border_gateway__unpack(NULL, value.length, value.data);
	event->removed = !row;
	if (row) {
		gateway_event(event, row);
	}
	step(bus, event);
	twinspan__border_gateway__free_unpacked(row, NULL);
}

static void step_vpc(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__Vpc *row = twinspan__vpc__unpack(NULL, value.length, value.data);
	event->removed = !row;
	struct prefix *blocks = allocate_array((row ? row->n_cidr_blocks : 0) + 1, sizeof *blocks);
	if (row) {
		event->vpc.blocks = blocks;
		event->vpc.block_count = prefixes_from(row->cidr_blocks, row->n_cidr_blocks, blocks);
	}
	step(bus, event);
	free(blocks);
	twinspan__vpc__free_unpacked(row, NULL);
}

static void step_subnet(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__Subnet *row = twinspan__subnet__unpack(NULL, value.length, value.data);
	event->removed = !row || !prefix_parse(or_empty(row->cidr), &event->subnet.cidr);
	event->subnet.vpc_id = row ? row->vpc_id : NULL;
	step(bus, event);
	twinspan__subnet__free_unpacked(row, NULL);
}

static void step_attachment(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__VpcAttachment *row = twinspan__vpc_attachment__unpack(NULL, value.length, value.data);
	event->removed = !row;
	if (row) {
		event->attachment.gateway_id = row->border_gateway_id;
		event->attachment.vpc_id = row->vpc_id;
		event->attachment.propagation =
		    row->propagation == TWINSPAN__ATTACHMENT_PROPAGATION__ATTACHMENT_PROPAGATION_SUBNETS
		        ? ROUTE_PROPAGATE_SUBNETS
		    : row->propagation == TWINSPAN__ATTACHMENT_PROPAGATION__ATTACHMENT_PROPAGATION_NONE ? ROUTE_PROPAGATE_NONE
		                                                                                        : ROUTE_PROPAGATE_ALL;
		event->attachment.subnet_ids = (const char *const *)row->subnet_ids;
		event->attachment.subnet_count = row->n_subnet_ids;
		event->attachment.order = row->order;
	}
	step(bus, event);
	twinspan__vpc_attachment__free_unpacked(row, NULL);
}

static void fill_table_event(struct route_event *event, const Twinspan__VpcRouteTable *row, struct route_vpc_static *statics,
                             struct route_vpc_propagation *propagations)
{
	event->vpc_table.vpc_id = row->vpc_id;
	event->vpc_table.statics = statics;
	event->vpc_table.propagations = propagations;
	for (size_t i = 0; i < row->n_static_routes; i++) {
		struct route_vpc_static *out = &statics[event->vpc_table.static_count];
		out->gateway_id = row->static_routes[i]->next_hop_id;
		event->vpc_table.static_count += prefix_parse(or_empty(row->static_routes[i]->destination), &out->destination);
	}
	for (size_t i = 0; i < row->n_propagations; i++) {
		const Twinspan__Propagation *from = row->propagations[i];
		struct prefix *ranges = allocate_array(from->n_ranges + 1, sizeof *ranges);
		propagations[i] = (struct route_vpc_propagation){from->border_gateway_id, ranges,
		                                                 prefixes_from(from->ranges, from->n_ranges, ranges)};
	}
	event->vpc_table.propagation_count = row->n_propagations;
}

static void step_vpc_table(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__VpcRouteTable *row = twinspan__vpc_route_table__unpack(NULL, value.length, value.data);
	event->removed = !row;
	struct route_vpc_static *statics = allocate_array((row ? row->n_static_routes : 0) + 1, sizeof *statics);
	struct route_vpc_propagation *propagations = allocate_array((row ? row->n_propagations : 0) + 1, sizeof *propagations);
	if (row) {
		fill_table_event(event, row, statics, propagations);
	}
	step(bus, event);
	for (size_t i = 0; row && i < row->n_propagations; i++) {
		free((void *)(uintptr_t)propagations[i].ranges);
	}
	free(propagations);
	free(statics);
	twinspan__vpc_route_table__free_unpacked(row, NULL);
}

static void step_connection(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__VpnConnection *row = twinspan__vpn_connection__unpack(NULL, value.length, value.data);
	event->removed = !row;
	if (row) {
		event->connection.gateway_id = row->border_gateway_id;
		event->connection.bgp = row->routing != TWINSPAN__ROUTING__ROUTING_STATIC;
	}
	step(bus, event);
	twinspan__vpn_connection__free_unpacked(row, NULL);
}

static void step_tunnel(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__VpnTunnel *row = twinspan__vpn_tunnel__unpack(NULL, value.length, value.data);
	event->removed = !row;
	if (row) {
		event->tunnel.connection_id = row->vpn_connection_id;
		event->tunnel.node_id = row->node_id;
		event->tunnel.admin_up = row->admin_state != TWINSPAN__ADMIN_STATE__ADMIN_STATE_DOWN;
	}
	step(bus, event);
	twinspan__vpn_tunnel__free_unpacked(row, NULL);
}

static void step_static(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__BorderGatewayRoute *row = twinspan__border_gateway_route__unpack(NULL, value.length, value.data);
	event->removed = !row || !prefix_parse(or_empty(row->destination), &event->static_route.destination);
	if (row) {
		event->static_route.gateway_id = row->border_gateway_id;
		event->static_route.to_attachment = row->next_hop_type == TWINSPAN__NEXT_HOP_TYPE__NEXT_HOP_TYPE_VPC_ATTACHMENT;
		event->static_route.next_hop_id = row->next_hop_id;
		event->static_route.created = row->created_at;
	}
	step(bus, event);
	twinspan__border_gateway_route__free_unpacked(row, NULL);
}

typedef void step_fn(struct route_bus *bus, struct route_event *event, struct bytes value);
struct input {
	const char *table;
	enum route_event_kind kind;
	step_fn *step;
};
static const struct input inputs[] = {
    {"border_gateway", ROUTE_GATEWAY, step_border_gateway},
    {"vpc", ROUTE_VPC, step_vpc},
    {"subnet", ROUTE_SUBNET, step_subnet},
    {"vpc_route_table", ROUTE_VPC_TABLE, step_vpc_table},
    {"vpc_attachment", ROUTE_ATTACHMENT, step_attachment},
    {"vpn_connection", ROUTE_CONNECTION, step_connection},
    {"vpn_tunnel", ROUTE_TUNNEL, step_tunnel},
    {"border_gateway_route", ROUTE_STATIC, step_static},
};

static void rows_in(struct route_bus *bus, const struct input *input, const struct replica_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char *id = format_text("%.*s", (int)rows[i].key.length, (const char *)rows[i].key.data);
		struct route_event event = {.kind = input->kind, .id = id, .removed = rows[i].removed};
		if (rows[i].removed) {
			step(bus, &event);
		} else {
			input->step(bus, &event, rows[i].value);
		}
		free(id);
	}
	settle(bus);
}

struct resource_input {
	struct route_bus *bus;
	const struct input *input;
};

static void resource_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct resource_input *in = context;
	rows_in(in->bus, in->input, rows, count);
}

// ---- in: from the services of a node ----
static void step_status(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__TunnelStatus *row = twinspan__tunnel_status__unpack(NULL, value.length, value.data);
	event->tunnel_state.up = row && row->state == TWINSPAN__TUNNEL_STATUS__STATE__UP;
	step(bus, event);
	twinspan__tunnel_status__free_unpacked(row, NULL);
}

static void step_session(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	Twinspan__BgpSession *row = twinspan__bgp_session__unpack(NULL, value.length, value.data);
	event->session.remote_asn = row ? row->remote_asn : 0;
	step(bus, event);
	twinspan__bgp_session__free_unpacked(row, NULL);
}

// The key says which tunnel and destination, also for a row that is gone.
static void step_learned(struct route_bus *bus, struct route_event *event, struct bytes value)
{
	char *key = duplicate_text(event->id);
	char *slash = strchr(key, '/');
	if (!slash || !prefix_parse(slash + 1, &event->learned.destination)) {
		metric_add(bus->unusable, 1);
		log_limited(LOG_ERROR, "row-not-usable", "table", "learned_route", "key", key, NULL);
		free(key);
		return;
	}
	*slash = '\0';
	event->id = key;
	Twinspan__LearnedRoute *row = event->removed ? NULL : twinspan__learned_route__unpack(NULL, value.length, value.data);
	event->removed = !row;
	if (row) {
		event->learned.metric = row->as_path_length;
		event->learned.origin = row->origin;
		event->learned.as_path = row->as_path;
		event->learned.as_count = row->n_as_path;
	}
	step(bus, event);
	twinspan__learned_route__free_unpacked(row, NULL);
	free(key);
}

struct node_rule {
	const char *service, *table;
	enum route_event_kind kind;
	step_fn *step; // NULL: only the owner's liveness counts
};
static const struct node_rule node_rules[NODE_INPUTS] = {
    [NODE_TUNNEL_STATUS] = {"ike", "tunnel_status", ROUTE_TUNNEL_STATE, step_status},
    [NODE_BGP_SESSION] = {"bgp", "bgp_session", ROUTE_SESSION, step_session},
    [NODE_LEARNED_ROUTE] = {"bgp", "learned_route", ROUTE_LEARNED, step_learned},
    [NODE_STATUS] = {"esp", "node_status", ROUTE_NODE, NULL},
};

static void node_row(struct gateway_node *node, enum node_input input, const char *key, bool removed, struct bytes value)
{
	const struct node_rule *rule = &node_rules[input];
	struct route_event event = {.kind = rule->kind, .id = key, .removed = removed};
	if (removed) {
		map_remove_text(node->keys[input], key);
	} else {
		map_insert_text(node->keys[input], key, node);
	}
	if (removed && input != NODE_LEARNED_ROUTE) {
		step(node->bus, &event);
	} else {
		rule->step(node->bus, &event, value);
	}
}

static void node_rows(struct gateway_node *node, enum node_input input, const struct replica_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char *key = format_text("%.*s", (int)rows[i].key.length, (const char *)rows[i].key.data);
		node_row(node, input, key, rows[i].removed, rows[i].value);
		free(key);
	}
	settle(node->bus);
}

static void status_changed(void *context, const struct replica_row *rows, size_t count)
{
	node_rows(context, NODE_TUNNEL_STATUS, rows, count);
}

static void session_changed(void *context, const struct replica_row *rows, size_t count)
{
	node_rows(context, NODE_BGP_SESSION, rows, count);
}

static void learned_changed(void *context, const struct replica_row *rows, size_t count)
{
	node_rows(context, NODE_LEARNED_ROUTE, rows, count);
}

static void node_status_changed(void *context, const struct replica_row *rows, size_t count)
{
	(void)context;
	(void)rows;
	(void)count;
}

static void set_gone(struct gateway_node *node, bool gone)
{
	if (node->gone == gone) {
		return;
	}
	node->gone = gone;
	log_event(gone ? LOG_ERROR : LOG_INFO, gone ? "node-gone" : "node-back", "node", node->id, NULL);
	char *label = format_text("node=\"%s\"", node->id);
	metric_set(metric(METRIC_GAUGE, "twinspan_route_node_gone", label, "1 while all services of the node are silent"),
	           gone);
	free(label);
	step(node->bus, &(struct route_event){.kind = ROUTE_NODE, .id = node->id, .node.gone = gone});
	settle(node->bus);
}

static void node_silent(void *context)
{
	set_gone(context, true);
}

static void check_complete(void *context);

static void node_state(void *context)
{
	struct gateway_node *node = context;
	bool alive = false;
	for (size_t i = 0; i < NODE_INPUTS; i++) {
		alive = alive || (node->replicas[i] && replica_owner_alive(node->replicas[i]));
	}
	if (alive) {
		deadline_disarm(&node->silence);
		set_gone(node, false);
	} else if (node->alive) {
		deadline_arm(&node->silence, now() + node->bus->service->node_timeout);
	}
	node->alive = alive;
	check_complete(node->bus);
}

static void node_add(struct route_bus *bus, const char *id)
{
	static replica_fn *const changed[NODE_INPUTS] = {
	    [NODE_TUNNEL_STATUS] = status_changed,
	    [NODE_BGP_SESSION] = session_changed,
	    [NODE_LEARNED_ROUTE] = learned_changed,
	    [NODE_STATUS] = node_status_changed,
	};
	struct gateway_node *node = allocate(sizeof *node);
	node->bus = bus;
	node->id = duplicate_text(id);
	node->made = now();
	deadline_init(&node->silence, bus->service->loop, node_silent, node);
	deadline_arm(&node->silence, node->made + bus->service->node_timeout);
	map_insert_text(bus->nodes, id, node);
	for (size_t i = 0; i < NODE_INPUTS; i++) {
		char *owner = format_text("%s.%s", node_rules[i].service, id);
		node->keys[i] = map_new(NULL);
		node->replicas[i] = replica_new(bus->bus, owner, node_rules[i].table, "", changed[i], node);
		replica_on_state(node->replicas[i], node_state, node);
		free(owner);
	}
}

static void node_free(struct gateway_node *node)
{
	deadline_disarm(&node->silence);
	for (size_t i = 0; i < NODE_INPUTS; i++) {
		replica_free(&node->replicas[i]);
		map_free(&node->keys[i], NULL);
	}
	free(node->id);
	free(node);
}

static void node_remove(struct route_bus *bus, const char *id)
{
	struct gateway_node *node = map_remove_text(bus->nodes, id);
	if (!node) {
		return;
	}
	for (size_t i = 0; i < NODE_INPUTS; i++) {
		struct map_cursor cursor = {0};
		while (map_next(node->keys[i], &cursor)) {
			char *key = format_text("%.*s", (int)cursor.key.length, (const char *)cursor.key.data);
			node_row(node, (enum node_input)i, key, true, (struct bytes){0});
			free(key);
		}
	}
	step(bus, &(struct route_event){.kind = ROUTE_NODE, .id = id, .removed = true});
	node_free(node);
}

static void nodes_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct route_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		char *id = format_text("%.*s", (int)rows[i].key.length, (const char *)rows[i].key.data);
		if (rows[i].removed) {
			node_remove(bus, id);
		} else if (!map_find_text(bus->nodes, id)) {
			node_add(bus, id);
		}
		free(id);
	}
	settle(bus);
	check_complete(bus);
}

// ---- completing the output tables ----
static bool resource_heard(const struct route_bus *bus)
{
	for (size_t i = 0; i < bus->replica_count; i++) {
		if (!replica_has_snapshot(bus->replicas[i])) {
			return false;
		}
	}
	return true;
}

static bool node_heard(const struct gateway_node *node)
{
	for (size_t i = 0; i < NODE_INPUTS; i++) {
		const struct replica *replica = node->replicas[i];
		duration patience = replica_owner_alive(replica) ? SILENT_TABLE_WAIT : ABSENT_OWNER_WAIT;
		if (!replica_has_snapshot(replica) && now() < node->made + patience) {
			return false;
		}
	}
	return true;
}

static void check_complete(void *context)
{
	struct route_bus *bus = context;
	if (bus->complete || !resource_heard(bus)) {
		return;
	}
	struct map_cursor cursor = {0};
	while (map_next(bus->nodes, &cursor)) {
		if (!node_heard(cursor.value)) {
			deadline_arm(&bus->wait, now() + MILLISECONDS(50));
			return;
		}
	}
	while (route_pending(bus->service->route) > 0) {
		settle(bus);
	}
	bus->complete = true;
	deadline_disarm(&bus->wait);
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		table_complete(bus->tables[i]);
	}
	route_forget(bus->service->route);
	health_wait(bus->service->health, "its inputs", false);
	log_event(LOG_INFO, "complete", "milliseconds", log_number((now() - bus->started) / 1000), NULL);
}

bool route_bus_complete(const struct route_bus *bus)
{
	return bus->complete;
}

// ---- life ----
static void make_metrics(struct route_bus *bus)
{
	bus->events = metric(METRIC_COUNTER, "twinspan_route_events_total", NULL, "Input rows taken in");
	bus->unusable = metric(METRIC_COUNTER, "twinspan_route_rows_unusable_total", NULL, "Input rows that could not be used");
	bus->portions = metric(METRIC_COUNTER, "twinspan_route_portions_total", NULL, "Portions of changes published");
	bus->busy =
	    metric(METRIC_COUNTER, "twinspan_route_busy_microseconds_total", NULL, "Time spent settling and publishing");
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		char *label = format_text("table=\"%s\"", table_names[i]);
		bus->changes[i] = metric(METRIC_COUNTER, "twinspan_route_changes_total", label, "Output rows put or removed");
		free(label);
	}
}

struct route_bus *route_bus_new(struct service *service, struct bus *from)
{
	struct route_bus *bus = allocate(sizeof *bus);
	bus->service = service;
	bus->bus = from;
	bus->nodes = map_new(NULL);
	bus->quota_warnings = map_new(NULL);
	deadline_init(&bus->more, service->loop, settle, bus);
	deadline_init(&bus->wait, service->loop, check_complete, bus);
	make_metrics(bus);
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		bus->tables[i] = table_own(from, table_names[i]);
	}
	health_wait(service->health, "its inputs", true);
	return bus;
}

void route_bus_start(struct route_bus *bus)
{
	static struct resource_input contexts[sizeof inputs / sizeof inputs[0]];
	bus->started = now();
	for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
		contexts[i] = (struct resource_input){bus, &inputs[i]};
		struct replica *replica =
		    replica_new(bus->bus, "resource", inputs[i].table, "", resource_changed, &contexts[i]);
		replica_on_state(replica, check_complete, bus);
		bus->replicas[bus->replica_count++] = replica;
	}
	struct replica *nodes = replica_new(bus->bus, "resource", "node", "", nodes_changed, bus);
	replica_on_state(nodes, check_complete, bus);
	bus->replicas[bus->replica_count++] = nodes;
}

void route_bus_free(struct route_bus **bus)
{
	struct route_bus *b = *bus;
	if (!b) {
		return;
	}
	deadline_disarm(&b->more);
	deadline_disarm(&b->wait);
	for (size_t i = 0; i < b->replica_count; i++) {
		replica_free(&b->replicas[i]);
	}
	struct map_cursor cursor = {0};
	while (map_next(b->nodes, &cursor)) {
		node_free(cursor.value);
	}
	map_free(&b->nodes, NULL);
	map_free(&b->quota_warnings, NULL);
	free(b->packed);
	free(b);
	*bus = NULL;
}
