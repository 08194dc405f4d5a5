// See net_kernel.h. An operation that fails is logged and counted with its cause; the core then has the namespace read again.
#include "services/vrouter/net_kernel.h"

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/health.h"
#include "common/io/log.h"
#include "common/kernel/namespace.h"
#include "common/kernel/segment.h"
#include "services/vrouter/net_realm.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUBNET_MTU = 1500, RULE_PRIORITY = 1000 };

struct kernel {
	char *start; // of the namespaces' names
	uint32_t segment_mtu;
	int own; // the host's namespace
	struct netlink *host;
	struct map *realms; // open ones, by VPC id
	struct metric *changes[VROUTER_KIND_COUNT], *failures;
};

static const char *const kind_names[VROUTER_KIND_COUNT] = {
    [VROUTER_NAMESPACE] = "namespace", [VROUTER_BRIDGE] = "bridge", [VROUTER_SEGMENT] = "segment",
    [VROUTER_NEXTHOP] = "nexthop",     [VROUTER_GROUP] = "group",   [VROUTER_ROUTE] = "route",
    [VROUTER_RULE] = "rule",
};

static void realm_free(void *value)
{
	struct realm *realm = value;
	if (realm) {
		netlink_free(&realm->netlink);
		close(realm->namespace);
		free(realm);
	}
}

struct kernel *kernel_new(const char *prefix, const char *host, uint32_t fabric_mtu)
{
	struct kernel *kernel = allocate(sizeof *kernel);
	*kernel = (struct kernel){.start = format_text("%s%s-", prefix, host),
	                          .segment_mtu = fabric_mtu - SEGMENT_OVERHEAD,
	                          .own = namespace_current(),
	                          .realms = map_new(NULL)};
	kernel->host = kernel->own >= 0 ? netlink_new(kernel->own) : NULL;
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		char *label = format_text("object=\"%s\"", kind_names[kind]);
		kernel->changes[kind] = metric(METRIC_COUNTER, "twinspan_vrouter_kernel_changes_total", label,
		                               "Objects set or removed in the kernel");
		free(label);
	}
	kernel->failures =
	    metric(METRIC_COUNTER, "twinspan_vrouter_kernel_failures_total", NULL, "Changes that the kernel refused");
	if (!kernel->host) {
		int error = errno;
		kernel_free(&kernel);
		errno = error;
	}
	return kernel;
}

void kernel_free(struct kernel **kernel)
{
	struct kernel *k = *kernel;
	if (!k) {
		return;
	}
	map_free(&k->realms, realm_free);
	netlink_free(&k->host);
	if (k->own >= 0) {
		close(k->own);
	}
	free(k->start);
	free(k);
	*kernel = NULL;
}

struct listing {
	size_t skip;
	void (*found)(void *context, const char *vpc_id);
	void *context;
};

static void list_namespace(void *context, const char *name)
{
	const struct listing *listing = context;
	if (strncmp(name + listing->skip, "vpc-", 4) == 0) {
		listing->found(listing->context, name + listing->skip);
	}
}

void kernel_list(const struct kernel *kernel, void (*found)(void *context, const char *vpc_id), void *context)
{
	struct listing listing = {strlen(kernel->start), found, context};
	namespace_list(kernel->start, list_namespace, &listing);
}

// ---- namespaces ----

static char *namespace_name(const struct kernel *kernel, const char *vpc_id)
{
	return format_text("%s%s", kernel->start, vpc_id);
}

// Opens the VPC's namespace, or makes it; NULL with errno, ENOENT when there is none and none is to be made.
static struct realm *realm_open(struct kernel *kernel, const char *vpc_id, bool make)
{
	struct realm *realm = map_find_text(kernel->realms, vpc_id);
	if (realm) {
		return realm;
	}
	char *name = namespace_name(kernel, vpc_id);
	int namespace = make ? namespace_make(name, NULL) : namespace_open(name);
	free(name);
	if (namespace < 0) {
		return NULL;
	}
	struct netlink *netlink = netlink_new(namespace);
	if (!netlink) {
		int error = errno;
		close(namespace);
		errno = error;
		return NULL;
	}
	realm = allocate(sizeof *realm);
	*realm = (struct realm){namespace, netlink};
	map_insert_text(kernel->realms, vpc_id, realm);
	return realm;
}

static void realm_close(struct kernel *kernel, const char *vpc_id)
{
	realm_free(map_remove_text(kernel->realms, vpc_id));
}

int kernel_read(struct kernel *kernel, struct vrouter *vrouter, const char *vpc_id)
{
	realm_close(kernel, vpc_id); // by its name again: somebody may have replaced it
	struct realm *realm = realm_open(kernel, vpc_id, false);
	if (!realm && errno != ENOENT) {
		return -errno;
	}
	if (!realm) {
		vrouter_read(vrouter, vpc_id, NULL, 0);
		return 0;
	}
	return realm_read(realm, vrouter, vpc_id);
}

static int set_namespace(struct kernel *kernel, const char *vpc_id)
{
	struct realm *realm = realm_open(kernel, vpc_id, true);
	return realm ? realm_set_up(realm) : -errno;
}

static int remove_namespace(struct kernel *kernel, const char *vpc_id)
{
	realm_close(kernel, vpc_id);
	char *name = namespace_name(kernel, vpc_id);
	int error = namespace_remove(name) ? 0 : -errno;
	free(name);
	return error;
}

// ---- devices ----

struct other_addresses {
	struct netlink_address wanted;
	struct netlink_address others[8]; // a second one is a rarity
	size_t count;
};

static void find_other(void *context, const struct netlink_address *address)
{
	struct other_addresses *found = context;
	bool wanted = address->length == found->wanted.length && address_equal(&address->address, &found->wanted.address);
	if (address->index == found->wanted.index && address->address.length == 4 && !wanted && found->count < 8) {
		found->others[found->count++] = *address;
	}
}

static int set_only_address(struct netlink *netlink, const struct netlink_address *wanted)
{
	struct other_addresses found = {.wanted = *wanted};
	int error = netlink_addresses(netlink, find_other, &found);
	for (size_t i = 0; error == 0 && i < found.count; i++) {
		error = netlink_address_remove(netlink, &found.others[i]);
	}
	return error != 0 ? error : netlink_address_add(netlink, wanted);
}

// A subnet's router is known by a MAC address of its own, made of its IPv4 address, so that it does not change with the
// bridge's ports.
static int set_bridge(struct realm *realm, const struct vrouter_item *item)
{
	struct netlink_link link;
	uint8_t mac[6] = {0x02, 0x53};
	memcpy(mac + 2, item->bridge.gateway.octets, 4);
	int error = netlink_link_find(realm->netlink, item->device, &link);
	if (error == 0 && strcmp(link.kind, "bridge") != 0) {
		error = netlink_link_remove(realm->netlink, link.index);
		error = error != 0 ? error : -ENODEV;
	}
	if (error == -ENODEV) {
		error = netlink_link_add_bridge(realm->netlink, item->device, mac, SUBNET_MTU);
		error = error != 0 ? error : netlink_link_find(realm->netlink, item->device, &link);
	}
	if (error == 0) {
		error = netlink_link_set_router(realm->netlink, link.index);
	}
	if (error == 0 && memcmp(link.mac, mac, sizeof mac) != 0) {
		error = netlink_link_set_mac(realm->netlink, link.index, mac);
	}
	const struct netlink_address address = {link.index, item->bridge.gateway, item->bridge.length};
	error = error != 0 ? error : set_only_address(realm->netlink, &address);
	return error != 0 ? error : netlink_link_set_up(realm->netlink, link.index, true);
}

// A device that had to be made anew takes the nexthops, groups and routes of the old one with it: that counts as a failure,
// after which all is read and set again.
static int set_segment(struct kernel *kernel, struct realm *realm, const struct vrouter_operation *operation)
{
	const struct vrouter_item *item = operation->item;
	struct address members[VROUTER_MEMBERS_MAX];
	for (size_t i = 0; i < item->member_count; i++) {
		members[i] = (struct address){.length = 4};
		uint32_t octets = htonl(item->members[i]);
		memcpy(members[i].octets, &octets, sizeof octets);
	}
	const struct segment segment = {.name = item->device,
	                                .vni = item->segment.vni,
	                                .mtu = kernel->segment_mtu,
	                                .local = item->segment.local,
	                                .members = members,
	                                .member_count = item->member_count};
	int index;
	bool renewed;
	int error = segment_set(kernel->host, realm->netlink, realm->namespace, &segment, &index, &renewed);
	return error != 0 ? error : renewed && operation->before ? -ESTALE : 0;
}

static int remove_device(struct realm *realm, const char *name)
{
	struct netlink_link link;
	int error = netlink_link_find(realm->netlink, name, &link);
	return error == -ENODEV ? 0 : error != 0 ? error : netlink_link_remove(realm->netlink, link.index);
}

// ---- nexthops, routes, rules ----

static int set_nexthop(struct realm *realm, const struct vrouter_item *item)
{
	struct netlink_nexthop nexthop = {.id = item->nexthop.id, .blackhole = item->nexthop.fabric.length == 0};
	if (!nexthop.blackhole) {
		struct netlink_link link;
		int error = netlink_link_find(realm->netlink, item->device, &link);
		if (error != 0) {
			return error;
		}
		nexthop.index = link.index;
		nexthop.via = segment_next_hop(&item->nexthop.fabric);
	}
	return netlink_nexthop_replace(realm->netlink, &nexthop);
}

static int set_group(struct realm *realm, const struct vrouter_item *item)
{
	struct netlink_nexthop group = {.id = item->group.id, .member_count = (uint16_t)item->member_count};
	memcpy(group.members, item->members, item->member_count * sizeof group.members[0]);
	return netlink_nexthop_replace(realm->netlink, &group);
}

static int set_route(struct realm *realm, const struct vrouter_item *item, bool remove)
{
	struct netlink_route route = {
	    .table = item->route.table, .destination = item->route.destination, .nexthop_id = item->route.group_id};
	if (remove) {
		return netlink_route_remove(realm->netlink, &route);
	}
	if (item->route.group_id == 0 && item->device[0] == '\0') {
		route.type = NETLINK_ROUTE_UNREACHABLE;
	} else if (item->route.group_id == 0) {
		struct netlink_link link;
		int error = netlink_link_find(realm->netlink, item->device, &link);
		if (error != 0) {
			return error;
		}
		route.index = link.index;
	}
	return netlink_route_replace(realm->netlink, &route);
}

struct other_rules {
	const char *device;
	uint32_t table;                // 0: none is wanted
	struct netlink_rule others[8]; // a second one is a rarity
	size_t count;
};

static void find_other_rule(void *context, const struct netlink_rule *rule)
{
	struct other_rules *found = context;
	if (strcmp(rule->iif, found->device) == 0 && rule->table != found->table && found->count < 8) {
		found->others[found->count++] = *rule;
	}
}

static int remove_rules_but(struct realm *realm, const char *device, uint32_t table)
{
	struct other_rules found = {.device = device, .table = table};
	int error = netlink_rules(realm->netlink, find_other_rule, &found);
	for (size_t i = 0; error == 0 && i < found.count; i++) {
		error = netlink_rule_remove(realm->netlink, &found.others[i]);
	}
	return error;
}

// The new one first: until the old one is gone that is the one that counts.
static int set_rule(struct realm *realm, const struct vrouter_item *item)
{
	struct netlink_rule rule = {.priority = RULE_PRIORITY, .table = item->rule.table};
	memcpy(rule.iif, item->device, sizeof rule.iif);
	int error = netlink_rule_add(realm->netlink, &rule);
	return error != 0 ? error : remove_rules_but(realm, item->device, item->rule.table);
}

// ---- operations ----

static int apply_set(struct kernel *kernel, struct realm *realm, const struct vrouter_operation *operation)
{
	switch (operation->item->kind) {
	case VROUTER_BRIDGE:
		return set_bridge(realm, operation->item);
	case VROUTER_SEGMENT:
		return set_segment(kernel, realm, operation);
	case VROUTER_NEXTHOP:
		return set_nexthop(realm, operation->item);
	case VROUTER_GROUP:
		return set_group(realm, operation->item);
	case VROUTER_ROUTE:
		return set_route(realm, operation->item, false);
	case VROUTER_RULE:
		return set_rule(realm, operation->item);
	case VROUTER_NAMESPACE:
	case VROUTER_KIND_COUNT:
		break;
	}
	return -EINVAL;
}

static int apply_removal(struct realm *realm, const struct vrouter_item *item)
{
	switch (item->kind) {
	case VROUTER_BRIDGE:
	case VROUTER_SEGMENT:
		return remove_device(realm, item->device);
	case VROUTER_NEXTHOP:
		return netlink_nexthop_remove(realm->netlink, item->nexthop.id);
	case VROUTER_GROUP:
		return netlink_nexthop_remove(realm->netlink, item->group.id);
	case VROUTER_ROUTE:
		return set_route(realm, item, true);
	case VROUTER_RULE:
		return remove_rules_but(realm, item->device, 0);
	case VROUTER_NAMESPACE:
	case VROUTER_KIND_COUNT:
		break;
	}
	return -EINVAL;
}

static int apply(struct kernel *kernel, const struct vrouter_operation *operation)
{
	if (operation->item->kind == VROUTER_NAMESPACE) {
		return operation->remove ? remove_namespace(kernel, operation->vpc_id)
		                         : set_namespace(kernel, operation->vpc_id);
	}
	struct realm *realm = realm_open(kernel, operation->vpc_id, false);
	if (!realm) {
		return -errno;
	}
	if (operation->item->kind == VROUTER_ROUTE) {
		netlink_batch_begin(realm->netlink);
	}
	return operation->remove ? apply_removal(realm, operation->item) : apply_set(kernel, realm, operation);
}

// Routes are sent to the kernel many at a time; here are the answers.
static bool finish_routes(struct kernel *kernel, const char *vpc_id)
{
	struct realm *realm = map_find_text(kernel->realms, vpc_id);
	int error = realm ? netlink_batch_end(realm->netlink) : 0;
	if (error != 0) {
		metric_add(kernel->failures, 1);
		log_limited(LOG_ERROR, "kernel-change-failed", "vpc", vpc_id, "object", "route", "error", strerror(-error),
		            NULL);
	}
	return error == 0;
}

bool kernel_apply(void *context, const struct vrouter_operation *operation)
{
	struct kernel *kernel = context;
	if (!operation->item) {
		return finish_routes(kernel, operation->vpc_id);
	}
	enum vrouter_kind kind = operation->item->kind;
	int error = apply(kernel, operation);
	if (error == 0) {
		metric_add(kernel->changes[kind], 1);
		return true;
	}
	if (error == -ESTALE) {
		log_event(LOG_INFO, "segment-renewed", "vpc", operation->vpc_id, "segment", operation->item->device, NULL);
		return false;
	}
	metric_add(kernel->failures, 1);
	log_limited(LOG_ERROR, "kernel-change-failed", "vpc", operation->vpc_id, "object", kind_names[kind], "device",
	            operation->item->device, "change", operation->remove ? "remove" : "set", "error", strerror(-error), NULL);
	return false;
}
