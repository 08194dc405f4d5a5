// What the core publishes becomes rows.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/bus/row.h"
#include "common/io/log.h"
#include "proto/tables.pb-c.h"
#include "services/route/bus_tables.h"

static const char *const table_names[ROUTE_TABLE_COUNT] = {
    [ROUTE_TABLE_GROUP] = "next_hop_group",
    [ROUTE_TABLE_EFFECTIVE] = "effective_route",
    [ROUTE_TABLE_SHOWN] = "border_gateway_route_row",
    [ROUTE_TABLE_ADVERTISED] = "advertised_route",
    [ROUTE_TABLE_VPC] = "vpc_route",
};

// protobuf-c's messages are not const; packing does not change them.
static char *loose(const char *text)
{
	return (char *)(uintptr_t)text;
}

static ProtobufCBinaryData prefix_octets(const struct prefix *prefix)
{
	struct bytes octets = address_bytes(&prefix->address);
	return (ProtobufCBinaryData){.len = octets.length, .data = (uint8_t *)(uintptr_t)octets.data};
}

static void put(struct route_bus *bus, const struct route_action *action, const char *scope, const ProtobufCMessage *message)
{
	row_put(bus->tables[action->table], scope, text_bytes(action->key), message);
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
	put(bus, action, "", &row.base);
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
	put(bus, action, "", &row.base);
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
	row.origin = action->shown.origin;
	row.med = action->shown.med;
	row.communities = (uint32_t *)(uintptr_t)action->shown.communities;
	row.n_communities = action->shown.community_count;
	row.reason = loose(action->shown.reason);
	row.since = action->shown.since;
	put(bus, action, "", &row.base);
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
	row.communities = (uint32_t *)(uintptr_t)action->advertised.communities;
	row.n_communities = action->advertised.community_count;
	put(bus, action, action->advertised.node_id, &row.base);
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
	put(bus, action, action->vpc.host_id, &row.base);
	store_put(bus->service->store, action->key, false, action->vpc.state, action->vpc.since, 0);
}

// A customer's device that announces what is not the customer's is worth a warning, once.
static void warn_of_refusal(struct route_bus *bus, const struct route_action *action)
{
	bool refused = !action->removed && action->shown.refused;
	if (!refused && map_count(bus->refusals) == 0) {
		return;
	}
	bool known = map_find_text(bus->refusals, action->key) != NULL;
	if (refused && !known) {
		char prefix[PREFIX_TEXT];
		map_insert_text(bus->refusals, action->key, bus);
		log_limited(LOG_WARNING, "learned-route-refused", "border-gateway", action->shown.gateway_id, "destination",
		            prefix_format(&action->shown.destination, prefix), "tunnel",
		            action->shown.tunnel_count > 0 ? action->shown.tunnel_ids[0] : "", "reason", action->shown.reason,
		            NULL);
	} else if (known && !refused) {
		map_remove_text(bus->refusals, action->key);
	}
}

void publish_commit(struct route_bus *bus)
{
	// What forwards first, in the order in which rows refer to each other.
	static const enum route_table order[] = {ROUTE_TABLE_GROUP, ROUTE_TABLE_EFFECTIVE, ROUTE_TABLE_VPC,
	                                         ROUTE_TABLE_ADVERTISED, ROUTE_TABLE_SHOWN};
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		table_commit(bus->tables[order[i]]);
	}
}

void publish_row(void *context, const struct route_action *action)
{
	static void (*const puts[ROUTE_TABLE_COUNT])(struct route_bus *, const struct route_action *) = {
	    [ROUTE_TABLE_GROUP] = put_group, [ROUTE_TABLE_EFFECTIVE] = put_effective,
	    [ROUTE_TABLE_SHOWN] = put_shown, [ROUTE_TABLE_ADVERTISED] = put_advertised,
	    [ROUTE_TABLE_VPC] = put_vpc,
	};
	struct route_bus *bus = context;
	metric_add(bus->changes[action->table], 1);
	if (action->table == ROUTE_TABLE_SHOWN) {
		warn_of_refusal(bus, action);
	}
	if (!action->removed) {
		puts[action->table](bus, action);
		return;
	}
	if (action->table == ROUTE_TABLE_GROUP && !bus->reaping) { // the core does this last: first the routes leave the group
		bus->reaping = true;
		publish_commit(bus);
	}
	table_remove(bus->tables[action->table], text_bytes(action->key));
	if (action->table == ROUTE_TABLE_SHOWN || action->table == ROUTE_TABLE_VPC) {
		store_put(bus->service->store, action->key, true, 0, 0, 0);
	}
}

void publish_start(struct route_bus *bus)
{
	bus->refusals = map_new(NULL);
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		bus->tables[i] = table_own(bus->bus, table_names[i]);
		char *label = format_text("table=\"%s\"", table_names[i]);
		bus->changes[i] = metric(METRIC_COUNTER, "twinspan_route_changes_total", label, "Output rows put or removed");
		free(label);
	}
}

void publish_free(struct route_bus *bus)
{
	map_free(&bus->refusals, NULL);
}
