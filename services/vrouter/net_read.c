// Reads what a VPC's namespace holds, as items of the core. What is not quite as the core would have it (a bridge that is down
// or has two addresses) is shown in a way that equals nothing wanted, so that it is set again; a segment's members are not
// shown, since setting it compares them itself.
#include "common/base/alloc.h"
#include "common/kernel/namespace.h"
#include "services/vrouter/net_realm.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// ---- the namespace's own settings ----

static const char *const settings[][2] = {
    {"ipv4/conf/all/rp_filter", "0"},
    {"ipv4/conf/default/rp_filter", "0"},
    {"ipv4/conf/all/send_redirects", "0"},
    {"ipv4/conf/default/send_redirects", "0"},
    {"ipv6/conf/default/accept_ra", "0"},
    {"ipv6/conf/default/addr_gen_mode", "1"},
    {"ipv4/fib_multipath_hash_policy", "1"}, // by five-tuple
    {"ipv4/nexthop_compat_mode", "0"},       // else a changed group is announced anew for each route that uses it
    {"ipv4/ip_forward", "1"},                // last: it says that the others are made
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

int realm_set_up(const struct realm *realm)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		if (!namespace_sysctl(realm->namespace, settings[i][0], settings[i][1])) {
			return -errno;
		}
	}
	return 0;
}

static bool is_set_up(const struct realm *realm)
{
	char value[16];
	return namespace_sysctl_read(realm->namespace, settings[SETTINGS - 1][0], value, sizeof value) &&
	       strcmp(value, settings[SETTINGS - 1][1]) == 0;
}

// ---- items ----

struct reading {
	struct vrouter_item *items;
	size_t count, capacity;
	struct netlink_link *links;
	size_t link_count;
};

static struct vrouter_item *add(struct reading *reading, enum vrouter_kind kind)
{
	if (reading->count == reading->capacity) {
		reading->capacity = reading->capacity ? 2 * reading->capacity : 64;
		reading->items = reallocate(reading->items, reading->capacity, sizeof *reading->items);
	}
	struct vrouter_item *item = &reading->items[reading->count++];
	memset(item, 0, sizeof *item);
	item->kind = kind;
	return item;
}

static void clear(struct reading *reading)
{
	for (size_t i = 0; i < reading->count; i++) {
		free((void *)(uintptr_t)reading->items[i].members);
	}
	reading->count = reading->link_count = 0;
}

static const struct netlink_link *link_of(const struct reading *reading, int index)
{
	for (size_t i = 0; i < reading->link_count; i++) {
		if (reading->links[i].index == index) {
			return &reading->links[i];
		}
	}
	return NULL;
}

static void read_link(void *context, const struct netlink_link *link)
{
	struct reading *reading = context;
	reading->links = reallocate(reading->links, reading->link_count + 1, sizeof *reading->links);
	reading->links[reading->link_count++] = *link;
	bool bridge = strcmp(link->kind, "bridge") == 0;
	if (bridge || strcmp(link->kind, "vxlan") == 0) {
		struct vrouter_item *item = add(reading, bridge ? VROUTER_BRIDGE : VROUTER_SEGMENT);
		strcpy(item->device, link->name);
		if (!bridge) {
			item->segment.vni = link->vni;
			item->segment.local = link->vxlan_local;
		}
	}
}

static void read_address(void *context, const struct netlink_address *address)
{
	struct reading *reading = context;
	const struct netlink_link *link = link_of(reading, address->index);
	for (size_t i = 0; link && address->address.length == 4 && i < reading->count; i++) {
		struct vrouter_item *item = &reading->items[i];
		if (item->kind == VROUTER_BRIDGE && strcmp(item->device, link->name) == 0 && link->up) {
			bool second = item->bridge.gateway.length != 0;
			item->bridge.gateway = second ? (struct address){.length = 4} : address->address;
			item->bridge.length = address->length;
		}
	}
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void read_nexthop(void *context, const struct netlink_nexthop *nexthop)
{
	struct reading *reading = context;
	if (nexthop->member_count > 0) {
		struct vrouter_item *group = add(reading, VROUTER_GROUP);
		group->group.id = nexthop->id;
		uint32_t *members = allocate_array(nexthop->member_count, sizeof *members);
		memcpy(members, nexthop->members, nexthop->member_count * sizeof *members);
		qsort(members, nexthop->member_count, sizeof *members, compare_numbers);
		group->members = members;
		group->member_count = nexthop->member_count;
		return;
	}
	struct vrouter_item *item = add(reading, VROUTER_NEXTHOP);
	item->nexthop.id = nexthop->id;
	const struct netlink_link *link = link_of(reading, nexthop->index);
	if (link) {
		strcpy(item->device, link->name);
	}
	if (nexthop->via.length == 16) {
		item->nexthop.fabric.length = 4;
		memcpy(item->nexthop.fabric.octets, nexthop->via.octets + 12, 4);
	}
}

static void read_route(void *context, const struct netlink_route *route)
{
	struct reading *reading = context;
	if (route->metric != 0) {
		return; // not one of ours
	}
	struct vrouter_item *item = add(reading, VROUTER_ROUTE);
	item->route.table = route->table;
	item->route.destination = route->destination;
	item->route.group_id = route->nexthop_id;
	const struct netlink_link *link = link_of(reading, route->index);
	if (route->type == NETLINK_ROUTE_BLACKHOLE || (link && route->via.length > 0)) {
		strcpy(item->device, "?");
	} else if (route->type == NETLINK_ROUTE_UNICAST && link) {
		strcpy(item->device, link->name);
	}
}

// Two for one bridge are what a rule's change leaves that was cut short.
static void read_rule(void *context, const struct netlink_rule *rule)
{
	struct reading *reading = context;
	for (size_t i = 0; i < reading->count; i++) {
		if (reading->items[i].kind == VROUTER_RULE && strcmp(reading->items[i].device, rule->iif) == 0) {
			reading->items[i].rule.table = 0;
			return;
		}
	}
	struct vrouter_item *item = add(reading, VROUTER_RULE);
	memcpy(item->device, rule->iif, sizeof item->device);
	item->rule.table = rule->table;
}

static int read_all(const struct realm *realm, struct reading *reading)
{
	strcpy(add(reading, VROUTER_NAMESPACE)->device, is_set_up(realm) ? "" : "?");
	int error = netlink_links(realm->netlink, read_link, reading);
	error = error != 0 ? error : netlink_addresses(realm->netlink, read_address, reading);
	error = error != 0 ? error : netlink_nexthops(realm->netlink, read_nexthop, reading);
	error = error != 0 ? error : netlink_routes(realm->netlink, read_route, reading);
	return error != 0 ? error : netlink_rules(realm->netlink, read_rule, reading);
}

int realm_read(struct realm *realm, struct vrouter *vrouter, const char *vpc_id)
{
	struct reading reading = {0};
	int error = -EAGAIN;
	for (int attempt = 0; attempt < 10 && error == -EAGAIN; attempt++) {
		clear(&reading);
		error = read_all(realm, &reading);
	}
	if (error == 0) {
		vrouter_read(vrouter, vpc_id, reading.items, reading.count);
	}
	clear(&reading);
	free(reading.items);
	free(reading.links);
	return error;
}
