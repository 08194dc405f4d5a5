// See net_kernel.h. Every wanted thing is a small record with a `settled` mark; a change of something it depends on takes the
// mark away, and kernel_settle does all that is not settled. Few and rare: the hot tables (SAs, groups, routes to tunnels) do
// not come here.
#include "services/esp/net_kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/log.h"

enum { VXLAN_OVERHEAD = 50, MEMBERS_MAX = 64 };

struct wanted_gateway {
	char *id;
	char **nodes;
	size_t node_count;
	bool here, allow_transit;
	bool settled; // the hook was told of the present allow_transit
	struct gateway *gateway;
};
struct wanted_attachment {
	char *id, *gateway, *vpc;
	uint32_t vni;
	bool settled;
};
struct wanted_address {
	char *gateway;
	struct address address;
	uint8_t length;
	bool settled;
};
struct wanted_route {
	char *gateway, *attachment;
	struct prefix destination;
	bool settled;
};

struct kernel {
	char *prefix, *node;
	uint32_t fabric_mtu;
	struct kernel_hooks hooks;
	struct map *gateways, *members, *vpcs, *attachments, *addresses, *routes;
	struct deadline retry;
	bool failed;
};

static void free_gateway(void *value)
{
	struct wanted_gateway *gateway = value;
	for (size_t i = 0; i < gateway->node_count; i++) {
		free(gateway->nodes[i]);
	}
	gateway_free(&gateway->gateway);
	free(gateway->nodes);
	free(gateway->id);
	free(gateway);
}

static void free_attachment(void *value)
{
	struct wanted_attachment *attachment = value;
	free(attachment->id);
	free(attachment->gateway);
	free(attachment->vpc);
	free(attachment);
}

static void free_address(void *value)
{
	struct wanted_address *address = value;
	free(address->gateway);
	free(address);
}

static void free_route(void *value)
{
	struct wanted_route *route = value;
	free(route->gateway);
	free(route->attachment);
	free(route);
}

static void settle_again(void *context)
{
	kernel_settle(context);
}

struct kernel *kernel_new(struct loop *loop, const char *prefix, const char *node, uint32_t fabric_mtu,
                          const struct kernel_hooks *hooks)
{
	struct kernel *kernel = allocate(sizeof *kernel);
	kernel->prefix = duplicate_text(prefix);
	kernel->node = duplicate_text(node);
	kernel->fabric_mtu = fabric_mtu;
	kernel->hooks = *hooks;
	kernel->gateways = map_new(NULL);
	kernel->members = map_new(NULL);
	kernel->vpcs = map_new(NULL);
	kernel->attachments = map_new(NULL);
	kernel->addresses = map_new(NULL);
	kernel->routes = map_new(NULL);
	deadline_init(&kernel->retry, loop, settle_again, kernel);
	return kernel;
}

void kernel_free(struct kernel **kernel)
{
	if (!*kernel) {
		return;
	}
	deadline_disarm(&(*kernel)->retry);
	map_free(&(*kernel)->gateways, free_gateway);
	map_free(&(*kernel)->members, free);
	map_free(&(*kernel)->vpcs, free);
	map_free(&(*kernel)->attachments, free_attachment);
	map_free(&(*kernel)->addresses, free_address);
	map_free(&(*kernel)->routes, free_route);
	free((*kernel)->prefix);
	free((*kernel)->node);
	free(*kernel);
	*kernel = NULL;
}

// ---- what is wanted ----

// Attachments know their members and routes their next hops only through other rows: when one of those changes, all are looked
// at again.
static void unsettle(struct kernel *kernel)
{
	struct map_cursor cursor = {0};
	while (map_next(kernel->attachments, &cursor)) {
		((struct wanted_attachment *)cursor.value)->settled = false;
	}
	cursor = (struct map_cursor){0};
	while (map_next(kernel->routes, &cursor)) {
		((struct wanted_route *)cursor.value)->settled = false;
	}
	cursor = (struct map_cursor){0};
	while (map_next(kernel->addresses, &cursor)) {
		((struct wanted_address *)cursor.value)->settled = false;
	}
}

void kernel_gateway_set(struct kernel *kernel, const char *id, const char *const *nodes, size_t node_count, bool allow_transit)
{
	struct wanted_gateway *gateway = map_find_text(kernel->gateways, id);
	if (!gateway) {
		gateway = allocate(sizeof *gateway);
		gateway->id = duplicate_text(id);
		map_insert_text(kernel->gateways, id, gateway);
	}
	for (size_t i = 0; i < gateway->node_count; i++) {
		free(gateway->nodes[i]);
	}
	gateway->nodes = reallocate(gateway->nodes, node_count ? node_count : 1, sizeof *gateway->nodes);
	gateway->node_count = node_count;
	gateway->here = false;
	for (size_t i = 0; i < node_count; i++) {
		gateway->nodes[i] = duplicate_text(nodes[i]);
		gateway->here |= strcmp(nodes[i], kernel->node) == 0;
	}
	gateway->allow_transit = allow_transit;
	gateway->settled = false;
	unsettle(kernel);
}

static void take_down(struct kernel *kernel, struct wanted_gateway *gateway)
{
	if (gateway->gateway) {
		kernel->hooks.down(kernel->hooks.context, gateway->id);
		gateway_close(&gateway->gateway);
		log_event(LOG_INFO, "border-gateway-removed", "borderGateway", gateway->id, NULL);
	}
}

void kernel_gateway_remove(struct kernel *kernel, const char *id)
{
	struct wanted_gateway *gateway = map_remove_text(kernel->gateways, id);
	if (gateway) {
		take_down(kernel, gateway);
		free_gateway(gateway);
	}
}

void kernel_member_set(struct kernel *kernel, const char *id, const struct address *fabric)
{
	struct address *copy = allocate(sizeof *copy);
	*copy = *fabric;
	free(map_insert_text(kernel->members, id, copy));
	unsettle(kernel);
}

void kernel_member_remove(struct kernel *kernel, const char *id)
{
	free(map_remove_text(kernel->members, id));
	unsettle(kernel);
}

void kernel_vpc_set(struct kernel *kernel, const char *id, const char *host)
{
	free(map_insert_text(kernel->vpcs, id, duplicate_text(host)));
	unsettle(kernel);
}

void kernel_vpc_remove(struct kernel *kernel, const char *id)
{
	free(map_remove_text(kernel->vpcs, id));
	unsettle(kernel);
}

struct gateway *kernel_gateway(const struct kernel *kernel, const char *id)
{
	const struct wanted_gateway *gateway = map_find_text(kernel->gateways, id);
	return gateway ? gateway->gateway : NULL;
}

void kernel_attachment_set(struct kernel *kernel, const char *id, const char *gateway, const char *vpc, uint32_t vni)
{
	struct wanted_attachment *old = map_find_text(kernel->attachments, id);
	if (old && (old->vni != vni || strcmp(old->gateway, gateway) != 0)) {
		kernel_attachment_remove(kernel, id);
	}
	struct wanted_attachment *attachment = allocate(sizeof *attachment);
	attachment->id = duplicate_text(id);
	attachment->gateway = duplicate_text(gateway);
	attachment->vpc = duplicate_text(vpc);
	attachment->vni = vni;
	old = map_insert_text(kernel->attachments, id, attachment);
	if (old) {
		free_attachment(old);
	}
	unsettle(kernel);
}

void kernel_attachment_remove(struct kernel *kernel, const char *id)
{
	struct wanted_attachment *attachment = map_remove_text(kernel->attachments, id);
	if (!attachment) {
		return;
	}
	struct gateway *gateway = kernel_gateway(kernel, attachment->gateway);
	if (gateway) {
		gateway_attachment_remove(gateway, id);
	}
	free_attachment(attachment);
}

void kernel_address_set(struct kernel *kernel, const char *tunnel, const char *gateway, const struct address *address,
                        uint8_t length)
{
	struct wanted_address *old = map_find_text(kernel->addresses, tunnel);
	if (old && strcmp(old->gateway, gateway) == 0 && address_equal(&old->address, address) && old->length == length) {
		return;
	}
	kernel_address_remove(kernel, tunnel);
	struct wanted_address *wanted = allocate(sizeof *wanted);
	*wanted = (struct wanted_address){.gateway = duplicate_text(gateway), .address = *address, .length = length};
	map_insert_text(kernel->addresses, tunnel, wanted);
}

void kernel_address_remove(struct kernel *kernel, const char *tunnel)
{
	struct wanted_address *address = map_remove_text(kernel->addresses, tunnel);
	if (!address) {
		return;
	}
	struct gateway *gateway = kernel_gateway(kernel, address->gateway);
	if (gateway) {
		gateway_address_remove(gateway, &address->address, address->length);
	}
	free_address(address);
}

void kernel_route_set(struct kernel *kernel, const char *key, const char *gateway, const struct prefix *destination,
                      const char *attachment)
{
	struct wanted_route *route = allocate(sizeof *route);
	*route = (struct wanted_route){
	    .gateway = duplicate_text(gateway), .attachment = duplicate_text(attachment), .destination = *destination};
	// The same key is the same destination: the kernel's route is replaced when this one is settled.
	struct wanted_route *old = map_insert_text(kernel->routes, key, route);
	if (old) {
		free_route(old);
	}
}

void kernel_route_remove(struct kernel *kernel, const char *key)
{
	struct wanted_route *route = map_remove_text(kernel->routes, key);
	if (!route) {
		return;
	}
	struct gateway *gateway = kernel_gateway(kernel, route->gateway);
	if (gateway) {
		gateway_route_remove(gateway, &route->destination);
	}
	free_route(route);
}

// ---- carrying it out ----

// Notes a failure, which is tried again; ENOENT and the like come from things that are on their way.
static bool done(struct kernel *kernel, int result, const char *what, const char *id)
{
	if (result < 0) {
		kernel->failed = true;
		log_limited(LOG_WARNING, "kernel-refused", "what", what, "id", id, "error", strerror(-result), NULL);
	}
	return result >= 0;
}

static void settle_gateway(struct kernel *kernel, struct wanted_gateway *wanted)
{
	if (!wanted->here) {
		take_down(kernel, wanted);
		wanted->settled = true;
		return;
	}
	if (!wanted->gateway) {
		wanted->gateway = gateway_open(kernel->prefix, kernel->node, wanted->id);
		if (!done(kernel, wanted->gateway ? 0 : -errno, "border-gateway", wanted->id)) {
			return;
		}
		log_event(LOG_INFO, "border-gateway-stands", "borderGateway", wanted->id, NULL);
	}
	wanted->settled = kernel->hooks.up(kernel->hooks.context, wanted->id, wanted->gateway, wanted->allow_transit);
	kernel->failed |= !wanted->settled;
}

static const struct address *vtep_of_vpc(const struct kernel *kernel, const char *vpc)
{
	const char *host = map_find_text(kernel->vpcs, vpc);
	return host ? map_find_text(kernel->members, host) : NULL;
}

static void settle_attachment(struct kernel *kernel, struct wanted_attachment *wanted)
{
	const struct wanted_gateway *gateway = map_find_text(kernel->gateways, wanted->gateway);
	const struct address *own = map_find_text(kernel->members, kernel->node);
	if (!gateway || !gateway->gateway || !own) {
		return;
	}
	struct address members[MEMBERS_MAX];
	size_t count = 0;
	for (size_t i = 0; i < gateway->node_count && count < MEMBERS_MAX - 1; i++) {
		const struct address *fabric = map_find_text(kernel->members, gateway->nodes[i]);
		if (fabric) {
			members[count++] = *fabric;
		}
	}
	const struct address *host = vtep_of_vpc(kernel, wanted->vpc);
	if (host) {
		members[count++] = *host;
	}
	struct gateway_attachment attachment = {.id = wanted->id,
	                                        .vni = wanted->vni,
	                                        .mtu = kernel->fabric_mtu - VXLAN_OVERHEAD,
	                                        .local = *own,
	                                        .members = members,
	                                        .member_count = count};
	wanted->settled = done(kernel, gateway_attachment_set(gateway->gateway, &attachment), "attachment", wanted->id);
}

static void settle_route(struct kernel *kernel, struct wanted_route *wanted)
{
	struct gateway *gateway = kernel_gateway(kernel, wanted->gateway);
	const struct wanted_attachment *attachment = map_find_text(kernel->attachments, wanted->attachment);
	const struct address *vtep = attachment ? vtep_of_vpc(kernel, attachment->vpc) : NULL;
	if (gateway && vtep) {
		wanted->settled = done(kernel, gateway_route_set(gateway, &wanted->destination, wanted->attachment, vtep),
		                       "route", wanted->attachment);
	}
}

void kernel_settle(struct kernel *kernel)
{
	kernel->failed = false;
	struct map_cursor cursor = {0};
	while (map_next(kernel->gateways, &cursor)) {
		struct wanted_gateway *gateway = cursor.value;
		if (!gateway->settled) {
			settle_gateway(kernel, gateway);
		}
	}
	cursor = (struct map_cursor){0};
	while (map_next(kernel->addresses, &cursor)) {
		struct wanted_address *address = cursor.value;
		struct gateway *gateway = kernel_gateway(kernel, address->gateway);
		if (!address->settled && gateway) {
			address->settled = done(kernel, gateway_address_set(gateway, &address->address, address->length),
			                        "inside-address", address->gateway);
		}
	}
	cursor = (struct map_cursor){0};
	while (map_next(kernel->attachments, &cursor)) {
		struct wanted_attachment *attachment = cursor.value;
		if (!attachment->settled) {
			settle_attachment(kernel, attachment);
		}
	}
	cursor = (struct map_cursor){0};
	while (map_next(kernel->routes, &cursor)) {
		struct wanted_route *route = cursor.value;
		if (!route->settled) {
			settle_route(kernel, route);
		}
	}
	if (kernel->failed) {
		deadline_arm(&kernel->retry, now() + SECONDS(1));
	}
}

static void remove_unwanted(void *context, const char *id)
{
	struct kernel *kernel = context;
	const struct wanted_gateway *wanted = map_find_text(kernel->gateways, id);
	if (wanted && wanted->here) {
		return;
	}
	struct gateway *left = gateway_open(kernel->prefix, kernel->node, id);
	if (left) {
		gateway_close(&left);
		log_event(LOG_INFO, "border-gateway-removed", "borderGateway", id, NULL);
	}
}

void kernel_sweep(struct kernel *kernel)
{
	gateway_list(kernel->prefix, kernel->node, remove_unwanted, kernel);
	struct map_cursor cursor = {0};
	while (map_next(kernel->gateways, &cursor)) {
		struct wanted_gateway *gateway = cursor.value;
		if (gateway->gateway) {
			gateway_sweep(gateway->gateway);
		}
	}
}

size_t kernel_gateways(const struct kernel *kernel, const char **ids, size_t capacity)
{
	size_t count = 0;
	struct map_cursor cursor = {0};
	while (map_next(kernel->gateways, &cursor) && count < capacity) {
		const struct wanted_gateway *gateway = cursor.value;
		if (gateway->gateway) {
			ids[count++] = gateway->id;
		}
	}
	return count;
}
