// See segment.h.
#include "common/kernel/segment.h"

#include <errno.h>
#include <string.h>

void segment_mac(const struct address *fabric, uint8_t mac[6])
{
	mac[0] = 0x02; // locally administered
	mac[1] = 0x54;
	memcpy(mac + 2, fabric->octets, 4);
}

struct address segment_next_hop(const struct address *fabric)
{
	struct address next_hop = {.length = 16, .octets = {0xfe, 0x80}};
	memcpy(next_hop.octets + 12, fabric->octets, 4);
	return next_hop;
}

static bool same_device(const struct netlink_link *link, const struct segment *segment)
{
	return strcmp(link->kind, "vxlan") == 0 && link->vni == segment->vni && link->vxlan_port == SEGMENT_PORT &&
	       address_equal(&link->vxlan_local, &segment->local);
}

// Number, port and local address of a vxlan cannot be changed, so a device with others is replaced.
static int ensure_device(struct netlink *node, struct netlink *inner, int inner_namespace, const struct segment *segment,
                         struct netlink_link *link, bool *renewed)
{
	int error = netlink_link_find(inner, segment->name, link);
	if (error == 0 && same_device(link, segment)) {
		return 0;
	}
	if (error == 0) {
		error = netlink_link_remove(inner, link->index);
	} else if (error == -ENODEV) {
		error = 0;
	}
	if (error != 0) {
		return error;
	}
	struct netlink_vxlan vxlan = {.name = segment->name,
	                              .vni = segment->vni,
	                              .local = segment->local,
	                              .port = SEGMENT_PORT,
	                              .mtu = segment->mtu,
	                              .into = inner_namespace};
	segment_mac(&segment->local, vxlan.mac);
	error = netlink_link_add_vxlan(node, &vxlan);
	*renewed = error == 0;
	return error != 0 ? error : netlink_link_find(inner, segment->name, link);
}

// What stands in the kernel and is not wanted; and which wanted entries stand.
struct comparison {
	const struct segment *segment;
	int index;
	bool *neighbour_stands;
	bool *fdb_stands;
	struct netlink_neighbour stale[64]; // more than that are found by the next round
	size_t stale_count;
};

enum { MEMBERS_MAX = 1024 };

static void compare(void *context, const struct netlink_neighbour *entry)
{
	struct comparison *comparison = context;
	if (entry->index != comparison->index) {
		return;
	}
	const struct segment *segment = comparison->segment;
	for (size_t i = 0; i < segment->member_count; i++) {
		const struct address *member = &segment->members[i];
		struct address next_hop = segment_next_hop(member);
		uint8_t mac[6];
		segment_mac(member, mac);
		if (memcmp(mac, entry->mac, sizeof mac) == 0 &&
		    address_equal(&entry->address, entry->fdb ? member : &next_hop)) {
			*(entry->fdb ? &comparison->fdb_stands[i] : &comparison->neighbour_stands[i]) = true;
			return;
		}
	}
	if (comparison->stale_count < sizeof comparison->stale / sizeof comparison->stale[0]) {
		comparison->stale[comparison->stale_count++] = *entry;
	}
}

static int set_members(struct netlink *inner, const struct segment *segment, int index)
{
	if (segment->member_count > MEMBERS_MAX) {
		return -E2BIG;
	}
	bool neighbour_stands[MEMBERS_MAX] = {0}, fdb_stands[MEMBERS_MAX] = {0};
	struct comparison comparison = {
	    .segment = segment, .index = index, .neighbour_stands = neighbour_stands, .fdb_stands = fdb_stands};
	// A dump that was disturbed may have missed entries: setting those again does no harm.
	int error = netlink_neighbours(inner, compare, &comparison);
	error = error == -EAGAIN ? 0 : error;
	for (size_t i = 0; error == 0 && i < segment->member_count; i++) {
		const struct address *member = &segment->members[i];
		if (address_equal(member, &segment->local)) {
			continue;
		}
		struct netlink_neighbour fdb = {.index = index, .fdb = true, .address = *member};
		struct netlink_neighbour neighbour = {.index = index, .address = segment_next_hop(member)};
		segment_mac(member, fdb.mac);
		segment_mac(member, neighbour.mac);
		error = fdb_stands[i] ? 0 : netlink_neighbour_replace(inner, &fdb);
		if (error == 0 && !neighbour_stands[i]) {
			error = netlink_neighbour_replace(inner, &neighbour);
		}
	}
	for (size_t i = 0; error == 0 && i < comparison.stale_count; i++) {
		error = netlink_neighbour_remove(inner, &comparison.stale[i]);
	}
	return error;
}

int segment_set(struct netlink *node, struct netlink *inner, int inner_namespace, const struct segment *segment, int *index,
                bool *renewed)
{
	*renewed = false;
	struct netlink_link link;
	int error = ensure_device(node, inner, inner_namespace, segment, &link, renewed);
	if (error != 0) {
		return error;
	}
	*index = link.index;
	if (link.mtu != segment->mtu) {
		error = netlink_link_set_mtu(inner, link.index, segment->mtu);
	}
	if (error == 0 && !link.up) {
		error = netlink_link_set_router(inner, link.index);
		error = error != 0 ? error : netlink_link_set_up(inner, link.index, true);
	}
	return error != 0 ? error : set_members(inner, segment, link.index);
}
