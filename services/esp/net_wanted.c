// What the rows want of the kernel: border gateways, and what is in them. A change puts what depends on it in the lists of what
// is to be looked at, and nothing else. The hot tables (SAs, groups, most routes to tunnels) do not come here.
#include "services/esp/net_wanted.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/log.h"

void link_insert(struct link **list, struct link *link)
{
	if (!link->at) {
		*link = (struct link){.next = *list, .at = list};
		if (link->next) {
			link->next->at = &link->next;
		}
		*list = link;
	}
}

void link_remove(struct link *link)
{
	if (link->at) {
		invariant(*link->at == link);
		*link->at = link->next;
		if (link->next) {
			link->next->at = link->at;
		}
		*link = (struct link){0};
	}
}

static struct wanted *of_own(struct link *own)
{
	return (struct wanted *)(void *)((char *)own - offsetof(struct wanted, own));
}

static void look_at(struct kernel *kernel, struct wanted *wanted)
{
	link_insert(&kernel->pending[wanted->kind], &wanted->pending);
}

// ---- border gateways ----

static struct wanted_gateway *gateway_of(struct kernel *kernel, const char *id)
{
	struct wanted_gateway *gateway = map_find_text(kernel->gateways, id);
	if (!gateway) {
		gateway = allocate(sizeof *gateway);
		gateway->id = duplicate_text(id);
		map_insert_text(kernel->gateways, id, gateway);
	}
	return gateway;
}

static void forget_nodes(struct wanted_gateway *gateway)
{
	for (size_t i = 0; i < gateway->node_count; i++) {
		free(gateway->nodes[i]);
	}
	free(gateway->nodes);
	gateway->nodes = NULL;
	gateway->node_count = 0;
}

void wanted_free_gateway(void *value)
{
	struct wanted_gateway *gateway = value;
	link_remove(&gateway->pending);
	forget_nodes(gateway);
	gateway_free(&gateway->gateway);
	free(gateway->id);
	free(gateway);
}

// One without a row stays as long as something refers to it.
static void release(struct kernel *kernel, struct wanted_gateway *gateway)
{
	if (!gateway->known && !gateway->of[KIND_ADDRESS] && !gateway->of[KIND_ATTACHMENT] && !gateway->of[KIND_ROUTE]) {
		invariant(!gateway->gateway);
		map_remove_text(kernel->gateways, gateway->id);
		wanted_free_gateway(gateway);
	}
}

void wanted_look_at_all(struct kernel *kernel, struct wanted_gateway *gateway, enum kind kind)
{
	for (struct link *at = gateway->of[kind]; at; at = at->next) {
		look_at(kernel, of_own(at));
	}
}

static bool has_node(const struct wanted_gateway *gateway, const char *node)
{
	for (size_t i = 0; i < gateway->node_count; i++) {
		if (strcmp(gateway->nodes[i], node) == 0) {
			return true;
		}
	}
	return false;
}

static bool same_nodes(const struct wanted_gateway *gateway, const char *const *nodes, size_t count)
{
	bool same = gateway->node_count == count;
	for (size_t i = 0; same && i < count; i++) {
		same = strcmp(gateway->nodes[i], nodes[i]) == 0;
	}
	return same;
}

void kernel_gateway_set(struct kernel *kernel, const char *id, const char *const *nodes, size_t node_count, bool allow_transit)
{
	struct wanted_gateway *gateway = gateway_of(kernel, id);
	if (gateway->known && gateway->allow_transit == allow_transit && same_nodes(gateway, nodes, node_count)) {
		return;
	}
	forget_nodes(gateway);
	gateway->nodes = allocate_array(node_count + 1, sizeof *gateway->nodes);
	gateway->node_count = node_count;
	for (size_t i = 0; i < node_count; i++) {
		gateway->nodes[i] = duplicate_text(nodes[i]);
	}
	gateway->known = true;
	gateway->here = has_node(gateway, kernel->node);
	gateway->allow_transit = allow_transit;
	link_insert(&kernel->pending[KIND_GATEWAY], &gateway->pending);
	wanted_look_at_all(kernel, gateway, KIND_ATTACHMENT); // its nodes are their members
}

static void fell(struct kernel *kernel, const struct wanted_gateway *gateway)
{
	invariant(kernel->standing > 0);
	kernel->standing--;
	kernel->changed = true;
	kernel->hooks.down(kernel->hooks.context, gateway->id);
}

void wanted_take_down(struct kernel *kernel, struct wanted_gateway *gateway)
{
	if (gateway->gateway) {
		fell(kernel, gateway);
		gateway_close(&gateway->gateway);
		log_event(LOG_INFO, "border-gateway-removed", "borderGateway", gateway->id, NULL);
	}
}

void kernel_gateway_remove(struct kernel *kernel, const char *id)
{
	struct wanted_gateway *gateway = map_find_text(kernel->gateways, id);
	if (gateway && gateway->known) {
		wanted_take_down(kernel, gateway);
		link_remove(&gateway->pending);
		gateway->known = gateway->here = false;
		release(kernel, gateway);
	}
}

void kernel_gateway_lost(struct kernel *kernel, const char *id)
{
	struct wanted_gateway *gateway = map_find_text(kernel->gateways, id);
	if (!gateway || !gateway->gateway) {
		return;
	}
	log_event(LOG_ERROR, "vpn0-vanished", "borderGateway", id, NULL);
	fell(kernel, gateway);
	gateway_free(&gateway->gateway);
	link_insert(&kernel->pending[KIND_GATEWAY], &gateway->pending);
	kernel_settle(kernel);
}

struct gateway *kernel_gateway(const struct kernel *kernel, const char *id)
{
	const struct wanted_gateway *gateway = map_find_text(kernel->gateways, id);
	return gateway ? gateway->gateway : NULL;
}

// ---- what is in them ----

static void own(struct kernel *kernel, struct wanted *wanted, enum kind kind, const char *gateway)
{
	wanted->kind = kind;
	wanted->gateway = gateway_of(kernel, gateway);
	link_insert(&wanted->gateway->of[kind], &wanted->own);
	look_at(kernel, wanted);
}

static void disown(struct kernel *kernel, struct wanted *wanted)
{
	link_remove(&wanted->own);
	link_remove(&wanted->pending);
	release(kernel, wanted->gateway);
}

void wanted_free_attachment(void *value)
{
	struct wanted_attachment *attachment = value;
	free(attachment->id);
	free(attachment->vpc);
	free(attachment);
}

void wanted_free_route(void *value)
{
	struct wanted_route *route = value;
	free(route->attachment);
	free(route);
}

// Its segment has other members, or its routes another next hop.
static void attachment_touched(struct kernel *kernel, struct wanted_attachment *attachment)
{
	look_at(kernel, &attachment->wanted);
	for (struct link *at = attachment->wanted.gateway->of[KIND_ROUTE]; at; at = at->next) {
		struct wanted_route *route = (struct wanted_route *)of_own(at);
		if (route->attachment && strcmp(route->attachment, attachment->id) == 0) {
			look_at(kernel, &route->wanted);
		}
	}
}

// A node's or host's fabric address is new, or another: of the attachments that have it as a member.
static void member_touched(struct kernel *kernel, const char *id)
{
	struct map_cursor cursor = {0};
	while (map_next(kernel->attachments, &cursor)) {
		struct wanted_attachment *attachment = cursor.value;
		const char *host = map_find_text(kernel->vpcs, attachment->vpc);
		if (strcmp(id, kernel->node) == 0 || has_node(attachment->wanted.gateway, id) ||
		    (host && strcmp(host, id) == 0)) {
			attachment_touched(kernel, attachment);
		}
	}
}

void kernel_member_set(struct kernel *kernel, const char *id, const struct address *fabric)
{
	const struct address *old = map_find_text(kernel->members, id);
	if (old && address_equal(old, fabric)) {
		return;
	}
	struct address *copy = allocate(sizeof *copy);
	*copy = *fabric;
	free(map_insert_text(kernel->members, id, copy));
	member_touched(kernel, id);
}

void kernel_member_remove(struct kernel *kernel, const char *id)
{
	free(map_remove_text(kernel->members, id));
	member_touched(kernel, id);
}

static void vpc_touched(struct kernel *kernel, const char *id)
{
	struct map_cursor cursor = {0};
	while (map_next(kernel->attachments, &cursor)) {
		struct wanted_attachment *attachment = cursor.value;
		if (strcmp(attachment->vpc, id) == 0) {
			attachment_touched(kernel, attachment);
		}
	}
}

void kernel_vpc_set(struct kernel *kernel, const char *id, const char *host)
{
	const char *old = map_find_text(kernel->vpcs, id);
	if (!old || strcmp(old, host) != 0) {
		free(map_insert_text(kernel->vpcs, id, duplicate_text(host)));
		vpc_touched(kernel, id);
	}
}

void kernel_vpc_remove(struct kernel *kernel, const char *id)
{
	free(map_remove_text(kernel->vpcs, id));
	vpc_touched(kernel, id);
}

void kernel_attachment_set(struct kernel *kernel, const char *id, const char *gateway, const char *vpc, uint32_t vni)
{
	struct wanted_attachment *attachment = map_find_text(kernel->attachments, id);
	if (attachment && (attachment->vni != vni || strcmp(attachment->wanted.gateway->id, gateway) != 0)) {
		kernel_attachment_remove(kernel, id);
		attachment = NULL;
	}
	if (!attachment) {
		attachment = allocate(sizeof *attachment);
		attachment->id = duplicate_text(id);
		attachment->vni = vni;
		map_insert_text(kernel->attachments, id, attachment);
		own(kernel, &attachment->wanted, KIND_ATTACHMENT, gateway);
	} else if (strcmp(attachment->vpc, vpc) == 0) {
		return;
	}
	free(attachment->vpc);
	attachment->vpc = duplicate_text(vpc);
	attachment_touched(kernel, attachment);
}

void kernel_attachment_remove(struct kernel *kernel, const char *id)
{
	struct wanted_attachment *attachment = map_remove_text(kernel->attachments, id);
	if (!attachment) {
		return;
	}
	if (attachment->wanted.gateway->gateway) {
		gateway_attachment_remove(attachment->wanted.gateway->gateway, id);
	}
	disown(kernel, &attachment->wanted);
	wanted_free_attachment(attachment);
}

void kernel_address_set(struct kernel *kernel, const char *tunnel, const char *gateway, const struct address *address,
                        uint8_t length)
{
	struct wanted_address *old = map_find_text(kernel->addresses, tunnel);
	if (old && strcmp(old->wanted.gateway->id, gateway) == 0 && address_equal(&old->address, address) &&
	    old->length == length) {
		return;
	}
	kernel_address_remove(kernel, tunnel);
	struct wanted_address *wanted = allocate(sizeof *wanted);
	wanted->address = *address;
	wanted->length = length;
	map_insert_text(kernel->addresses, tunnel, wanted);
	own(kernel, &wanted->wanted, KIND_ADDRESS, gateway);
}

void kernel_address_remove(struct kernel *kernel, const char *tunnel)
{
	struct wanted_address *address = map_remove_text(kernel->addresses, tunnel);
	if (!address) {
		return;
	}
	if (address->wanted.gateway->gateway) {
		gateway_address_remove(address->wanted.gateway->gateway, &address->address, address->length);
	}
	disown(kernel, &address->wanted);
	free(address);
}

static char *route_key(const char *gateway, const struct prefix *destination)
{
	char text[PREFIX_TEXT];
	return format_text("%s %s", gateway, prefix_format(destination, text));
}

void kernel_route_set(struct kernel *kernel, const char *gateway, const struct prefix *destination, const char *attachment)
{
	char *key = route_key(gateway, destination);
	struct wanted_route *route = map_find_text(kernel->routes, key);
	if (!route) {
		route = allocate(sizeof *route);
		route->destination = *destination;
		map_insert_text(kernel->routes, key, route);
		own(kernel, &route->wanted, KIND_ROUTE, gateway);
	}
	free(key);
	free(route->attachment);
	route->attachment = attachment ? duplicate_text(attachment) : NULL;
	look_at(kernel, &route->wanted); // the kernel's route is replaced
}

void kernel_route_remove(struct kernel *kernel, const char *gateway, const struct prefix *destination)
{
	char *key = route_key(gateway, destination);
	struct wanted_route *route = map_remove_text(kernel->routes, key);
	free(key);
	if (!route) {
		return;
	}
	if (route->wanted.gateway->gateway) {
		gateway_route_remove(route->wanted.gateway->gateway, destination);
	}
	disown(kernel, &route->wanted);
	wanted_free_route(route);
}
