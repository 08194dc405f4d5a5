// See net_gateway.h. What is wanted is kept here (addresses, attachments, routes), so that routes may come before their
// attachment, a VXLAN device that had to be made anew gets its routes back, and gateway_sweep knows what an earlier process
// left behind.
//
// No packet but those it is asked to forward leaves by vpn0: no IPv6 address is made there (so no router solicitation, no
// duplicate address detection, no MLD report), and IPv4 redirects are off. The default route points into the dataplane.
#include "services/esp/net_gateway.h"

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/log.h"
#include "common/kernel/namespace.h"
#include "common/kernel/netlink.h"
#include "common/kernel/segment.h"
#include "services/esp/net_queue.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUEUE_LENGTH = 4096 }; // of vpn0, packets of up to 64 KiB

struct attachment {
	char *id;
	int index;
};

struct route {
	struct prefix destination;
	char *attachment_id; // NULL: to vpn0
	struct address vtep;
};

struct gateway {
	char *id;
	char *name; // of the namespace
	int namespace;
	struct netlink *node, *inner;
	int vpn0;
	struct map *addresses;   // netlink_address by its text
	struct map *attachments; // by id
	struct map *routes;      // by destination
};

static void free_attachment(void *value)
{
	struct attachment *attachment = value;
	free(attachment->id);
	free(attachment);
}

static void free_route(void *value)
{
	struct route *route = value;
	free(route->attachment_id);
	free(route);
}

// ---- namespace and vpn0 ----

int gateway_queue(struct gateway *gateway)
{
	return queue_open(gateway->namespace);
}

static void set_defaults(struct gateway *gateway)
{
	static const char *const settings[][2] = {
	    {"ipv4/conf/all/rp_filter", "0"},
	    {"ipv4/conf/default/rp_filter", "0"},
	    {"ipv4/ip_forward", "1"},
	    {"ipv4/conf/all/send_redirects", "0"},
	    {"ipv4/conf/default/send_redirects", "0"},
	    {"ipv6/conf/default/accept_ra", "0"},
	    {"ipv6/conf/default/addr_gen_mode", "1"},
	};
	for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
		if (!namespace_sysctl(gateway->namespace, settings[i][0], settings[i][1])) {
			log_event(LOG_WARNING, "gateway-setting-failed", "gateway", gateway->id, "setting", settings[i][0],
			          "error", strerror(errno), NULL);
		}
	}
}

// Into the dataplane, unless a route to an attachment takes its place.
static int set_default(struct gateway *gateway)
{
	struct netlink_route all = {.table = NETLINK_MAIN_TABLE, .destination.address.length = 4, .index = gateway->vpn0};
	return netlink_route_replace(gateway->inner, &all);
}

static bool is_default(const struct netlink_route *route)
{
	return route->table == NETLINK_MAIN_TABLE && route->destination.length == 0 && route->destination.address.length == 4;
}

static void note_default(void *context, const struct netlink_route *route)
{
	*(bool *)context |= is_default(route);
}

static int set_up_device(struct gateway *gateway)
{
	struct netlink_link link;
	int error = netlink_link_find(gateway->inner, QUEUE_DEVICE, &link);
	if (error == -ENODEV) {
		error = queue_make_device(gateway->namespace);
		error = error != 0 ? error : netlink_link_find(gateway->inner, QUEUE_DEVICE, &link);
	}
	if (error != 0) {
		return error;
	}
	gateway->vpn0 = link.index;
	if (!link.up) {
		error = netlink_link_set_router(gateway->inner, link.index);
		error = error != 0 ? error : netlink_link_set_queue_length(gateway->inner, link.index, QUEUE_LENGTH);
		error = error != 0 ? error : netlink_link_set_up(gateway->inner, link.index, true);
	}
	if (error == 0 && link.mtu != GATEWAY_MTU) {
		error = netlink_link_set_mtu(gateway->inner, link.index, GATEWAY_MTU);
	}
	bool present = false;
	error = error != 0 ? error : netlink_routes(gateway->inner, note_default, &present);
	return error != 0 || present ? error : set_default(gateway);
}

static int open_parts(struct gateway *gateway)
{
	bool made;
	gateway->namespace = namespace_make(gateway->name, &made);
	if (gateway->namespace < 0) {
		return -errno;
	}
	int own = namespace_current();
	if (own < 0) {
		return -errno;
	}
	gateway->node = netlink_new(own);
	int error = -errno;
	close(own);
	if (!gateway->node) {
		return error;
	}
	gateway->inner = netlink_new(gateway->namespace);
	if (!gateway->inner) {
		return -errno;
	}
	if (made) {
		set_defaults(gateway);
	}
	return set_up_device(gateway);
}

struct gateway *gateway_open(const char *prefix, const char *node, const char *bgw_id)
{
	struct gateway *gateway = allocate(sizeof *gateway);
	gateway->id = duplicate_text(bgw_id);
	gateway->name = format_text("%s%s-%s", prefix, node, bgw_id);
	gateway->namespace = -1;
	gateway->addresses = map_new(NULL);
	gateway->attachments = map_new(NULL);
	gateway->routes = map_new(NULL);
	int error = open_parts(gateway);
	if (error != 0) {
		gateway_free(&gateway);
		errno = -error;
	}
	return gateway;
}

void gateway_free(struct gateway **gateway)
{
	struct gateway *g = *gateway;
	if (!g) {
		return;
	}
	map_free(&g->addresses, free);
	map_free(&g->attachments, free_attachment);
	map_free(&g->routes, free_route);
	netlink_free(&g->node);
	netlink_free(&g->inner);
	if (g->namespace >= 0) {
		close(g->namespace);
	}
	free(g->id);
	free(g->name);
	free(g);
	*gateway = NULL;
}

// The devices are removed by name: sockets that others still hold in the namespace would keep it, and them, alive.
void gateway_close(struct gateway **gateway)
{
	struct gateway *g = *gateway;
	if (!g) {
		return;
	}
	netlink_link_remove(g->inner, g->vpn0);
	struct map_cursor cursor = {0};
	while (map_next(g->attachments, &cursor)) {
		netlink_link_remove(g->inner, ((struct attachment *)cursor.value)->index);
	}
	namespace_remove(g->name);
	gateway_free(gateway);
}

struct gateway_listing {
	size_t skip;
	void (*found)(void *context, const char *bgw_id);
	void *context;
};

static void list_gateway(void *context, const char *name)
{
	struct gateway_listing *listing = context;
	if (strncmp(name + listing->skip, "bgw-", 4) == 0) {
		listing->found(listing->context, name + listing->skip);
	}
}

void gateway_list(const char *prefix, const char *node, void (*found)(void *context, const char *bgw_id), void *context)
{
	char *start = format_text("%s%s-", prefix, node);
	struct gateway_listing listing = {strlen(start), found, context};
	namespace_list(start, list_gateway, &listing);
	free(start);
}

const char *gateway_id(const struct gateway *gateway)
{
	return gateway->id;
}

int gateway_namespace(const struct gateway *gateway)
{
	return gateway->namespace;
}

uint64_t gateway_queue_drops(const struct gateway *gateway)
{
	struct netlink_link link;
	return netlink_link_find(gateway->inner, QUEUE_DEVICE, &link) == 0 ? link.send_drops : 0;
}

// ---- addresses ----

static void address_key(const struct address *address, uint8_t length, char key[static PREFIX_TEXT])
{
	char text[ADDRESS_TEXT];
	snprintf(key, PREFIX_TEXT, "%s/%u", address_format(address, text), length);
}

int gateway_address_set(struct gateway *gateway, const struct address *address, uint8_t length)
{
	char key[PREFIX_TEXT];
	address_key(address, length, key);
	if (map_find_text(gateway->addresses, key)) {
		return 0;
	}
	struct netlink_address wanted = {.index = gateway->vpn0, .address = *address, .length = length};
	int error = netlink_address_add(gateway->inner, &wanted);
	if (error == 0) {
		struct netlink_address *kept = allocate(sizeof *kept);
		*kept = wanted;
		map_insert_text(gateway->addresses, key, kept);
	}
	return error;
}

int gateway_address_remove(struct gateway *gateway, const struct address *address, uint8_t length)
{
	char key[PREFIX_TEXT];
	address_key(address, length, key);
	free(map_remove_text(gateway->addresses, key));
	struct netlink_address gone = {.index = gateway->vpn0, .address = *address, .length = length};
	return netlink_address_remove(gateway->inner, &gone);
}

// ---- attachments and routes ----

static int install_route(struct gateway *gateway, const struct route *route)
{
	if (!route->attachment_id) {
		struct netlink_route wanted = {
		    .table = NETLINK_MAIN_TABLE, .destination = route->destination, .index = gateway->vpn0};
		return netlink_route_replace(gateway->inner, &wanted);
	}
	const struct attachment *attachment = map_find_text(gateway->attachments, route->attachment_id);
	if (!attachment) {
		return 0; // waits for it
	}
	struct netlink_route wanted = {.table = NETLINK_MAIN_TABLE,
	                               .destination = route->destination,
	                               .index = attachment->index,
	                               .via = segment_next_hop(&route->vtep)};
	return netlink_route_replace(gateway->inner, &wanted);
}

static int install_routes_of(struct gateway *gateway, const char *attachment_id)
{
	int result = 0;
	struct map_cursor cursor = {0};
	while (map_next(gateway->routes, &cursor)) {
		const struct route *route = cursor.value;
		if (route->attachment_id && strcmp(route->attachment_id, attachment_id) == 0) {
			int error = install_route(gateway, route);
			result = result != 0 ? result : error;
		}
	}
	return result;
}

int gateway_attachment_set(struct gateway *gateway, const struct gateway_attachment *wanted)
{
	struct segment segment = {.name = wanted->id,
	                          .vni = wanted->vni,
	                          .mtu = wanted->mtu,
	                          .local = wanted->local,
	                          .members = wanted->members,
	                          .member_count = wanted->member_count};
	int index;
	bool renewed;
	int error = segment_set(gateway->node, gateway->inner, gateway->namespace, &segment, &index, &renewed);
	if (error != 0) {
		return error;
	}
	struct attachment *attachment = map_find_text(gateway->attachments, wanted->id);
	bool first = !attachment;
	if (first) {
		attachment = allocate(sizeof *attachment);
		attachment->id = duplicate_text(wanted->id);
		map_insert_text(gateway->attachments, wanted->id, attachment);
	}
	attachment->index = index;
	return first || renewed ? install_routes_of(gateway, wanted->id) : 0;
}

int gateway_attachment_remove(struct gateway *gateway, const char *id)
{
	struct attachment *attachment = map_remove_text(gateway->attachments, id);
	if (attachment) {
		free_attachment(attachment);
	}
	struct netlink_link link;
	int error = netlink_link_find(gateway->inner, id, &link);
	return error == -ENODEV ? 0 : error != 0 ? error : netlink_link_remove(gateway->inner, link.index);
}

static bool same_attachment(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

int gateway_route_set(struct gateway *gateway, const struct prefix *destination, const char *attachment_id,
                      const struct address *vtep)
{
	char key[PREFIX_TEXT];
	prefix_format(destination, key);
	struct route *route = map_find_text(gateway->routes, key);
	struct route wanted = {.destination = *destination, .vtep = vtep ? *vtep : (struct address){0}};
	if (route && same_attachment(route->attachment_id, attachment_id) && address_equal(&route->vtep, &wanted.vtep)) {
		return 0;
	}
	if (!route) {
		route = allocate(sizeof *route);
		map_insert_text(gateway->routes, key, route);
	}
	free(route->attachment_id);
	*route = wanted;
	route->attachment_id = attachment_id ? duplicate_text(attachment_id) : NULL;
	return install_route(gateway, route);
}

int gateway_route_remove(struct gateway *gateway, const struct prefix *destination)
{
	char key[PREFIX_TEXT];
	struct route *route = map_remove_text(gateway->routes, prefix_format(destination, key));
	if (route) {
		free_route(route);
	}
	struct netlink_route gone = {.table = NETLINK_MAIN_TABLE, .destination = *destination};
	if (is_default(&gone)) {
		return set_default(gateway);
	}
	return netlink_route_remove(gateway->inner, &gone);
}

// ---- what an earlier process left ----

// Removing while a dump runs would disturb it: what is stale is gathered first.
struct stale {
	struct gateway *gateway;
	struct netlink_link *links;
	size_t link_count;
	struct netlink_address *addresses;
	size_t address_count;
	struct netlink_route *routes;
	size_t route_count;
};

static void stale_link(void *context, const struct netlink_link *link)
{
	struct stale *stale = context;
	if (strcmp(link->kind, "vxlan") == 0 && !map_find_text(stale->gateway->attachments, link->name)) {
		stale->links = reallocate(stale->links, stale->link_count + 1, sizeof *stale->links);
		stale->links[stale->link_count++] = *link;
	}
}

static void stale_address(void *context, const struct netlink_address *address)
{
	struct stale *stale = context;
	char key[PREFIX_TEXT];
	address_key(&address->address, address->length, key);
	if (address->index == stale->gateway->vpn0 && !map_find_text(stale->gateway->addresses, key)) {
		stale->addresses = reallocate(stale->addresses, stale->address_count + 1, sizeof *stale->addresses);
		stale->addresses[stale->address_count++] = *address;
	}
}

static void stale_route(void *context, const struct netlink_route *route)
{
	struct stale *stale = context;
	char key[PREFIX_TEXT];
	bool own_default = is_default(route) && route->index == stale->gateway->vpn0;
	if (route->table == NETLINK_MAIN_TABLE && !own_default &&
	    !map_find_text(stale->gateway->routes, prefix_format(&route->destination, key))) {
		stale->routes = reallocate(stale->routes, stale->route_count + 1, sizeof *stale->routes);
		stale->routes[stale->route_count++] = *route;
	}
}

void gateway_sweep(struct gateway *gateway)
{
	struct stale stale = {.gateway = gateway};
	netlink_links(gateway->inner, stale_link, &stale);
	netlink_addresses(gateway->inner, stale_address, &stale);
	netlink_routes(gateway->inner, stale_route, &stale);
	for (size_t i = 0; i < stale.route_count; i++) {
		gateway_route_remove(gateway, &stale.routes[i].destination);
	}
	for (size_t i = 0; i < stale.address_count; i++) {
		netlink_address_remove(gateway->inner, &stale.addresses[i]);
	}
	for (size_t i = 0; i < stale.link_count; i++) {
		netlink_link_remove(gateway->inner, stale.links[i].index);
	}
	free(stale.links);
	free(stale.addresses);
	free(stale.routes);
}
