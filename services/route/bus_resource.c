// Rows of resource become events of the core. A row that cannot be used is taken as one that is not there.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/resource_rules.h"
#include "services/route/bus_tables.h"

static void gateway_event(struct route_event *event, const Twinspan__BorderGateway *row)
{
	event->gateway.tenant = row->tenant;
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

static const char *take_border_gateway(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__BorderGateway *row = message;
	struct route_event event = {.kind = ROUTE_GATEWAY, .id = key->text, .removed = !row};
	if (row) {
		gateway_event(&event, row);
	}
	route_bus_step(context, &event);
	return NULL;
}

static const char *take_vpc(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__Vpc *row = message;
	struct route_event event = {.kind = ROUTE_VPC, .id = key->text, .removed = !row};
	struct prefix *blocks = allocate_array((row ? row->n_cidr_blocks : 0) + 1, sizeof *blocks);
	if (row) {
		event.vpc.host_id = row->vpc_host_id;
		event.vpc.blocks = blocks;
		event.vpc.block_count = prefixes_from(row->cidr_blocks, row->n_cidr_blocks, blocks);
	}
	route_bus_step(context, &event);
	free(blocks);
	return NULL;
}

static const char *take_subnet(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__Subnet *row = message;
	struct route_event event = {.kind = ROUTE_SUBNET, .id = key->text, .removed = !row};
	event.removed = !row || !prefix_parse(or_empty(row->cidr), &event.subnet.cidr);
	event.subnet.vpc_id = row ? row->vpc_id : NULL;
	route_bus_step(context, &event);
	return NULL;
}

static const char *take_attachment(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__VpcAttachment *row = message;
	struct route_event event = {.kind = ROUTE_ATTACHMENT, .id = key->text, .removed = !row};
	if (row) {
		event.attachment.gateway_id = row->border_gateway_id;
		event.attachment.vpc_id = row->vpc_id;
		event.attachment.propagation =
		    row->propagation == TWINSPAN__ATTACHMENT_PROPAGATION__ATTACHMENT_PROPAGATION_SUBNETS
		        ? ROUTE_PROPAGATE_SUBNETS
		    : row->propagation == TWINSPAN__ATTACHMENT_PROPAGATION__ATTACHMENT_PROPAGATION_NONE ? ROUTE_PROPAGATE_NONE
		                                                                                        : ROUTE_PROPAGATE_ALL;
		event.attachment.subnet_ids = (const char *const *)row->subnet_ids;
		event.attachment.subnet_count = row->n_subnet_ids;
		event.attachment.order = row->order;
	}
	route_bus_step(context, &event);
	return NULL;
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

static const char *take_vpc_table(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__VpcRouteTable *row = message;
	struct route_event event = {.kind = ROUTE_VPC_TABLE, .id = key->text, .removed = !row};
	struct route_vpc_static *statics = allocate_array((row ? row->n_static_routes : 0) + 1, sizeof *statics);
	struct route_vpc_propagation *propagations = allocate_array((row ? row->n_propagations : 0) + 1, sizeof *propagations);
	if (row) {
		fill_table_event(&event, row, statics, propagations);
	}
	route_bus_step(context, &event);
	for (size_t i = 0; row && i < row->n_propagations; i++) {
		free((void *)(uintptr_t)propagations[i].ranges);
	}
	free(propagations);
	free(statics);
	return NULL;
}

static const char *take_connection(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__VpnConnection *row = message;
	struct route_event event = {.kind = ROUTE_CONNECTION, .id = key->text, .removed = !row};
	if (row) {
		event.connection.gateway_id = row->border_gateway_id;
		event.connection.bgp = row->routing != TWINSPAN__ROUTING__ROUTING_STATIC;
	}
	route_bus_step(context, &event);
	return NULL;
}

// Inside addresses beyond the link-local range (that as a whole is refused anyway).
static void reserve_inside(struct route_bus *bus, const char *tunnel_id, const Twinspan__VpnTunnel *row)
{
	const char *const texts[] = {row ? row->cloud_inside_address : NULL, row ? row->customer_inside_address : NULL};
	struct address addresses[2];
	struct route_event event = {.kind = ROUTE_RESERVED,
	                            .reserved = {.what = "tunnel's inside address", .addresses = addresses}};
	for (size_t i = 0; i < 2; i++) {
		struct address address;
		if (texts[i] && address_parse(texts[i], &address) && address.length == 16) {
			addresses[event.reserved.count++] = address;
		}
	}
	char *id = format_text("inside/%.50s", tunnel_id);
	event.id = id;
	event.removed = event.reserved.count == 0;
	route_bus_step(bus, &event);
	free(id);
}

static const char *take_tunnel(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__VpnTunnel *row = message;
	struct route_event event = {.kind = ROUTE_TUNNEL, .id = key->text, .removed = !row};
	if (row) {
		event.tunnel.connection_id = row->vpn_connection_id;
		event.tunnel.node_id = row->node_id;
		event.tunnel.admin_up = row->admin_state != TWINSPAN__ADMIN_STATE__ADMIN_STATE_DOWN;
	}
	route_bus_step(context, &event);
	reserve_inside(context, key->text, row);
	return NULL;
}

static const char *take_static(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__BorderGatewayRoute *row = message;
	struct route_event event = {.kind = ROUTE_STATIC, .id = key->text, .removed = !row};
	event.removed = !row || !prefix_parse(or_empty(row->destination), &event.static_route.destination);
	if (row) {
		event.static_route.gateway_id = row->border_gateway_id;
		event.static_route.to_attachment = row->next_hop_type == TWINSPAN__NEXT_HOP_TYPE__NEXT_HOP_TYPE_VPC_ATTACHMENT;
		event.static_route.next_hop_id = row->next_hop_id;
		event.static_route.created = row->created_at;
	}
	route_bus_step(context, &event);
	return NULL;
}

static const char *take_host(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__VpcHost *row = message;
	struct address fabric;
	bool usable = row && address_parse(or_empty(row->fabric_address), &fabric);
	char *id = format_text("host/%.50s", key->text);
	struct route_event event = {
	    .kind = ROUTE_RESERVED, .id = id, .removed = !usable, .reserved = {"VPC host's fabric address", &fabric, usable}};
	route_bus_step(context, &event);
	free(id);
	return row && !usable ? "its fabric address is not an address" : NULL;
}

static size_t default_of(const char *field)
{
	return (size_t)strtoull(field_rule_find(RESOURCE_QUOTA, field)->fallback, NULL, 10);
}

static const char *take_quota(void *context, const struct row_key *key, const void *message)
{
	const Twinspan__Quota *row = message;
	struct route_event event = {.kind = ROUTE_QUOTA, .id = key->text, .removed = !row};
	if (row) {
		event.quota.static_routes = row->has_static_routes ? row->static_routes : default_of("staticRoutes");
		event.quota.learned_routes = row->has_learned_routes ? row->learned_routes : default_of("learnedRoutes");
	}
	route_bus_step(context, &event);
	return NULL;
}

enum { INPUT_QUOTA };
static const struct feed_kind inputs[] = {
    [INPUT_QUOTA] = {"quota", &twinspan__quota__descriptor, take_quota, route_bus_settle},
    {"border_gateway", &twinspan__border_gateway__descriptor, take_border_gateway, route_bus_settle},
    {"vpc", &twinspan__vpc__descriptor, take_vpc, route_bus_settle},
    {"subnet", &twinspan__subnet__descriptor, take_subnet, route_bus_settle},
    {"vpc_route_table", &twinspan__vpc_route_table__descriptor, take_vpc_table, route_bus_settle},
    {"vpc_attachment", &twinspan__vpc_attachment__descriptor, take_attachment, route_bus_settle},
    {"vpn_connection", &twinspan__vpn_connection__descriptor, take_connection, route_bus_settle},
    {"vpn_tunnel", &twinspan__vpn_tunnel__descriptor, take_tunnel, route_bus_settle},
    {"border_gateway_route", &twinspan__border_gateway_route__descriptor, take_static, route_bus_settle},
    {"vpc_host", &twinspan__vpc_host__descriptor, take_host, route_bus_settle},
};
enum { INPUTS = sizeof inputs / sizeof inputs[0] };

bool resource_heard(const struct route_bus *bus)
{
	for (size_t i = 0; i < bus->feed_count; i++) {
		if (!feed_has_snapshot(bus->feeds[i])) {
			return false;
		}
	}
	return bus->feed_count == INPUTS;
}

void resource_start(struct route_bus *bus)
{
	for (size_t i = 0; i < INPUTS; i++) {
		bus->feeds[i] = feed_new(bus->bus, "resource", &inputs[i], "", bus);
		bus->feed_count = i + 1;
		feed_on_state(bus->feeds[i], route_bus_check_complete, bus);
	}
	feed_take_empty_key(bus->feeds[INPUT_QUOTA]); // the defaults of a tenant without one
}

void resource_free(struct route_bus *bus)
{
	for (size_t i = 0; i < bus->feed_count; i++) {
		feed_free(&bus->feeds[i]);
	}
}
