// Carries out what net_wanted.c says is to be looked at: see net_kernel.h.
#include "services/esp/net_kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/log.h"
#include "services/esp/net_wanted.h"

enum { VXLAN_OVERHEAD = 50, MEMBERS_MAX = 64 };

// Each settle_... says whether the kernel did it, or it waits for something that is on its way. false: it is tried again.

static bool refused(int result, const char *what, const char *id)
{
	if (result < 0) {
		log_limited(LOG_WARNING, "kernel-refused", "what", what, "id", id, "error", strerror(-result), NULL);
	}
	return result < 0;
}

static bool settle_gateway(struct kernel *kernel, struct wanted_gateway *wanted)
{
	if (!wanted->here) {
		wanted_take_down(kernel, wanted);
		return true;
	}
	if (!wanted->gateway) {
		wanted->gateway = gateway_open(kernel->prefix, kernel->node, wanted->id);
		if (refused(wanted->gateway ? 0 : -errno, "border-gateway", wanted->id)) {
			return false;
		}
		kernel->standing++;
		kernel->changed = true;
		log_event(LOG_INFO, "border-gateway-stands", "borderGateway", wanted->id, NULL);
		for (enum kind kind = KIND_ADDRESS; kind < KINDS; kind++) {
			wanted_look_at_all(kernel, wanted, kind);
		}
	}
	return kernel->hooks.up(kernel->hooks.context, wanted->id, wanted->gateway, wanted->allow_transit);
}

static bool settle_address(struct wanted_address *wanted)
{
	struct gateway *gateway = wanted->wanted.gateway->gateway;
	return !gateway ||
	       !refused(gateway_address_set(gateway, &wanted->address, wanted->length), "inside-address", gateway_id(gateway));
}

static const struct address *vtep_of_vpc(const struct kernel *kernel, const char *vpc)
{
	const char *host = map_find_text(kernel->vpcs, vpc);
	return host ? map_find_text(kernel->members, host) : NULL;
}

static bool settle_attachment(struct kernel *kernel, struct wanted_attachment *wanted)
{
	const struct wanted_gateway *gateway = wanted->wanted.gateway;
	const struct address *local = map_find_text(kernel->members, kernel->node);
	if (!gateway->gateway || !local) {
		return true;
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
	invariant(count <= MEMBERS_MAX);
	struct gateway_attachment attachment = {.id = wanted->id,
	                                        .vni = wanted->vni,
	                                        .mtu = kernel->fabric_mtu - VXLAN_OVERHEAD,
	                                        .local = *local,
	                                        .members = members,
	                                        .member_count = count};
	return !refused(gateway_attachment_set(gateway->gateway, &attachment), "attachment", wanted->id);
}

static bool settle_route(struct kernel *kernel, struct wanted_route *wanted)
{
	struct gateway *gateway = wanted->wanted.gateway->gateway;
	if (!gateway) {
		return true;
	}
	if (!wanted->attachment) {
		return !refused(gateway_route_set(gateway, &wanted->destination, NULL, NULL), "route", "vpn0");
	}
	const struct wanted_attachment *attachment = map_find_text(kernel->attachments, wanted->attachment);
	const struct address *vtep = attachment ? vtep_of_vpc(kernel, attachment->vpc) : NULL;
	return !vtep || !refused(gateway_route_set(gateway, &wanted->destination, wanted->attachment, vtep), "route",
	                         wanted->attachment);
}

static bool settle_one(struct kernel *kernel, enum kind kind, struct link *thing)
{
	switch (kind) {
	case KIND_GATEWAY:
		return settle_gateway(kernel, (struct wanted_gateway *)(void *)thing);
	case KIND_ADDRESS:
		return settle_address((struct wanted_address *)(void *)thing);
	case KIND_ATTACHMENT:
		return settle_attachment(kernel, (struct wanted_attachment *)(void *)thing);
	default:
		return settle_route(kernel, (struct wanted_route *)(void *)thing);
	}
}

void kernel_settle(struct kernel *kernel)
{
	bool again = false;
	for (enum kind kind = KIND_GATEWAY; kind < KINDS; kind++) {
		struct link *failed = NULL;
		while (kernel->pending[kind]) {
			struct link *thing = kernel->pending[kind];
			link_remove(thing);
			if (!settle_one(kernel, kind, thing)) {
				link_insert(&failed, thing);
			}
		}
		again |= failed != NULL;
		kernel->pending[kind] = failed;
		if (failed) {
			failed->at = &kernel->pending[kind];
		}
	}
	if (again) {
		deadline_arm(&kernel->retry, now() + SECONDS(1));
	}
	if (kernel->changed) {
		kernel->changed = false;
		kernel->hooks.changed(kernel->hooks.context);
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

// ---- all of it ----

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
	map_free(&(*kernel)->members, free);
	map_free(&(*kernel)->vpcs, free);
	map_free(&(*kernel)->attachments, wanted_free_attachment);
	map_free(&(*kernel)->addresses, free);
	map_free(&(*kernel)->routes, wanted_free_route);
	struct map_cursor cursor = {0};
	while (map_next((*kernel)->gateways, &cursor)) {
		((struct wanted_gateway *)cursor.value)->pending = (struct link){0};
	}
	map_free(&(*kernel)->gateways, wanted_free_gateway);
	free((*kernel)->prefix);
	free((*kernel)->node);
	free(*kernel);
	*kernel = NULL;
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

size_t kernel_gateway_count(const struct kernel *kernel)
{
	return kernel->standing;
}

uint64_t kernel_queue_drops(const struct kernel *kernel)
{
	uint64_t sum = 0;
	struct map_cursor cursor = {0};
	while (map_next(kernel->gateways, &cursor)) {
		const struct wanted_gateway *gateway = cursor.value;
		sum += gateway->gateway ? gateway_queue_drops(gateway->gateway) : 0;
	}
	return sum;
}
