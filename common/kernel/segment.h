// A VXLAN segment as the gateway nodes and the VPC hosts share it: a device in an inner namespace whose UDP socket is in the
// node's own namespace, no flooding, no ARP, every other member a static entry. A member is known by its IPv4 fabric address
// a.b.c.d: its MAC address is 02:54:a:b:c:d, its next-hop address fe80::a.b.c.d.
#ifndef TWINSPAN_IO_SEGMENT_H
#define TWINSPAN_IO_SEGMENT_H

#include "common/kernel/netlink.h"

enum {
	SEGMENT_PORT = 4789,
	SEGMENT_OVERHEAD = 50
}; // octets that the fabric carries besides the inner packet: Ethernet, VXLAN, UDP, IPv4

struct segment {
	const char *name; // of the device
	uint32_t vni;
	uint32_t mtu;
	struct address local;          // own fabric address
	const struct address *members; // the others; the own one among them is passed over
	size_t member_count;
};

void segment_mac(const struct address *fabric, uint8_t mac[6]);
struct address segment_next_hop(const struct address *fabric);
// Makes the device or brings it to that state; what is right already is not touched. `renewed` says that there is a new device,
// so that routes and nexthops through it are to be set again. `index` gets its index. 0 or a negative errno.
int segment_set(struct netlink *node, struct netlink *inner, int inner_namespace, const struct segment *segment, int *index,
                bool *renewed);

#endif
