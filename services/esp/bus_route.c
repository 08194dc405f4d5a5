// What route says: next-hop groups and routes. Routes to attachments are the kernel's too, and so are routes to tunnels that
// lie inside one of these.
#include <stdlib.h>

#include "common/base/alloc.h"
#include "services/esp/bus_shell.h"

static void set_group(struct esp_bus *bus, const char *key, const Twinspan__NextHopGroup *row)
{
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
}

static const char *take_group(void *context, const struct row_key *key, const void *message)
{
	struct esp_bus *bus = context;
	if (message) {
		set_group(bus, key->text, message);
	} else {
		esp_group_remove(bus->parts.esp, key->text);
	}
	return NULL;
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

// What a route row was, for its removal.
struct known_route {
	char *gateway;
	struct prefix destination;
	bool attachment;
};

void bus_free_known_route(void *value)
{
	struct known_route *known = value;
	free(known->gateway);
	free(known);
}

static void remove_route(struct esp_bus *bus, const char *key)
{
	struct known_route *known = map_remove_text(bus->routes, key);
	if (known) {
		if (known->attachment) {
			kernel_route_remove(bus->parts.kernel, known->gateway, &known->destination);
		}
		esp_route_remove(bus->parts.esp, known->gateway, &known->destination);
		bus_free_known_route(known);
	}
}

static const char *set_route(struct esp_bus *bus, const char *key, const Twinspan__EffectiveRoute *row)
{
	struct prefix destination;
	if (!destination_of(row, &destination)) {
		return "its destination";
	}
	bool attachment = row->next_hop_case == TWINSPAN__EFFECTIVE_ROUTE__NEXT_HOP_ATTACHMENT_ID;
	struct known_route *known = map_find_text(bus->routes, key);
	if (known &&
	    (strcmp(known->gateway, row->border_gateway_id) != 0 || !prefix_equal(&known->destination, &destination))) {
		remove_route(bus, key);
		known = NULL;
	}
	if (!known) {
		known = allocate(sizeof *known);
		*known = (struct known_route){.gateway = duplicate_text(row->border_gateway_id), .destination = destination};
		map_insert_text(bus->routes, key, known);
	}
	// The kernel has one route for a destination: first goes what it was, whether the attachment's or that of a prefix
	// inside an attachment's (bus_beneath, from within esp_route_set), then comes what it is.
	if (known->attachment && !attachment) {
		kernel_route_remove(bus->parts.kernel, known->gateway, &destination);
	}
	esp_route_set(bus->parts.esp, known->gateway, &destination, attachment ? NULL : or_empty(row->next_hop_group_id));
	if (attachment) {
		kernel_route_set(bus->parts.kernel, known->gateway, &destination, or_empty(row->attachment_id));
	}
	known->attachment = attachment;
	return NULL;
}

void bus_beneath(void *context, const char *gateway, const struct prefix *destination, bool wanted)
{
	struct esp_bus *bus = context;
	if (wanted) {
		kernel_route_set(bus->parts.kernel, gateway, destination, NULL);
	} else {
		kernel_route_remove(bus->parts.kernel, gateway, destination);
	}
}

static const char *take_route(void *context, const struct row_key *key, const void *message)
{
	if (message) {
		return set_route(context, key->text, message);
	}
	remove_route(context, key->text);
	return NULL;
}

const struct feed_kind bus_route_kinds[] = {
    {"next_hop_group", &twinspan__next_hop_group__descriptor, take_group, bus_settled},
    {"effective_route", &twinspan__effective_route__descriptor, take_route, bus_settled},
};
const size_t bus_route_count = sizeof bus_route_kinds / sizeof *bus_route_kinds;
