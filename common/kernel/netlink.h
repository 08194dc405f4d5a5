// rtnetlink for what gateway namespaces and VPC namespaces are made of: links, addresses, routes, nexthop objects, neighbours,
// FDB entries and rules. One struct netlink is one socket in one namespace; each call sends one request and waits for the
// kernel's answer (some microseconds). Every operation returns 0 or a negative errno. Setting what is already so succeeds;
// removing what is not there succeeds. What this project installs carries the routing protocol number NETLINK_PROTOCOL, so that
// what others (the kernel, an operator) put in is left alone.
#ifndef TWINSPAN_IO_NETLINK_H
#define TWINSPAN_IO_NETLINK_H

#include "common/base/address.h"
#include <net/if.h>

enum { NETLINK_PROTOCOL = 0x54, NETLINK_GROUP_MAX = 64, NETLINK_MAIN_TABLE = 254 };

struct netlink;
struct netlink *netlink_new(int namespace); // NULL with errno
void netlink_free(struct netlink **netlink);

// ---- links ----
struct netlink_link {
	int index;
	char name[IF_NAMESIZE];
	char kind[16]; // "bridge", "vxlan", "tun", "veth" or ""
	uint8_t mac[6];
	uint32_t mtu;
	int master; // 0: none
	bool up;
	bool running; // carrier
	uint64_t send_drops; // packets that the device could not take, since it was made
	// of a vxlan
	uint32_t vni;
	struct address vxlan_local;
	uint16_t vxlan_port;
};
struct netlink_vxlan {
	const char *name;
	uint32_t vni;
	struct address local;
	uint16_t port;
	uint32_t mtu;
	uint8_t mac[6];
	int into; // descriptor of the namespace that gets the device; its UDP socket stays in the netlink socket's namespace.
	          // -1: none other
};
int netlink_link_find(struct netlink *netlink, const char *name, struct netlink_link *out); // -ENODEV
int netlink_link_add_bridge(struct netlink *netlink, const char *name, const uint8_t mac[6], uint32_t mtu);
int netlink_link_add_vxlan(struct netlink *netlink, const struct netlink_vxlan *vxlan);
int netlink_link_remove(struct netlink *netlink, int index);
int netlink_link_set_up(struct netlink *netlink, int index, bool up);
int netlink_link_set_mtu(struct netlink *netlink, int index, uint32_t mtu);
int netlink_link_set_mac(struct netlink *netlink, int index, const uint8_t mac[6]);
int netlink_link_set_queue_length(struct netlink *netlink, int index, uint32_t packets);
int netlink_link_rename(struct netlink *netlink, int index, const char *name); // the link must be down
int netlink_link_set_master(struct netlink *netlink, int index, int master);   // 0: none
// A router's device: IPv4 forwarding on, reverse-path filter off, redirects neither sent nor believed, no IPv6 address made by
// itself.
int netlink_link_set_router(struct netlink *netlink, int index);

// ---- addresses ----
struct netlink_address {
	int index;
	struct address address;
	uint8_t length;
};
int netlink_address_add(struct netlink *netlink, const struct netlink_address *address);
int netlink_address_remove(struct netlink *netlink, const struct netlink_address *address);

// ---- nexthop objects ----
struct netlink_nexthop {
	uint32_t id;
	// a single one
	int index;
	struct address via; // may be IPv6 for IPv4 routes
	bool blackhole;
	// a group: ids of single ones, equal weights; then the three above are not used
	uint16_t member_count;
	uint32_t members[NETLINK_GROUP_MAX];
};
int netlink_nexthop_replace(struct netlink *netlink,
                            const struct netlink_nexthop *nexthop); // makes it or changes it, atomically
int netlink_nexthop_remove(struct netlink *netlink, uint32_t id);   // the kernel drops the routes that use it

// ---- routes ----
enum netlink_route_type { NETLINK_ROUTE_UNICAST, NETLINK_ROUTE_UNREACHABLE, NETLINK_ROUTE_BLACKHOLE };
struct netlink_route {
	uint32_t table;
	struct prefix destination;
	uint32_t metric;
	enum netlink_route_type type;
	uint32_t nexthop_id; // or, when 0, the two below
	int index;
	struct address via;    // none: on link
	struct address source; // preferred source address, or none
};
int netlink_route_replace(struct netlink *netlink,
                          const struct netlink_route *route); // by table, destination and metric; atomically
int netlink_route_remove(struct netlink *netlink,
                         const struct netlink_route *route); // only table, destination and metric matter

// ---- many routes at once ----
// From here on changes of routes are put together; any other request, and netlink_batch_end, has them done first. Routes on
// link are found by their device, so devices come before the batch. Beginning again changes nothing.
void netlink_batch_begin(struct netlink *netlink);
int netlink_batch_end(struct netlink *netlink); // 0, or the first refusal; the others were done all the same

// ---- neighbours and the forwarding database of a vxlan ----
struct netlink_neighbour {
	int index;
	bool fdb; // then `address` is the remote VTEP of `mac`, else the neighbour's own address
	struct address address;
	uint8_t mac[6];
};
int netlink_neighbour_replace(struct netlink *netlink, const struct netlink_neighbour *neighbour); // permanent
int netlink_neighbour_remove(struct netlink *netlink, const struct netlink_neighbour *neighbour);

// ---- rules ----
struct netlink_rule {
	uint32_t priority;
	char iif[IF_NAMESIZE];
	uint32_t table;
};
int netlink_rule_add(struct netlink *netlink, const struct netlink_rule *rule); // IPv4
int netlink_rule_remove(struct netlink *netlink, const struct netlink_rule *rule);

// ---- dumps, for comparing what is with what should be ----
// -EAGAIN: the state changed meanwhile; forget what was found and ask again.
// Each item is handed over once. Routes, nexthops and rules: only those of NETLINK_PROTOCOL. Neighbours: only permanent ones.
int netlink_links(struct netlink *netlink, void (*found)(void *context, const struct netlink_link *link), void *context);
int netlink_addresses(struct netlink *netlink, void (*found)(void *context, const struct netlink_address *address),
                      void *context);
int netlink_nexthops(struct netlink *netlink, void (*found)(void *context, const struct netlink_nexthop *nexthop),
                     void *context);
int netlink_routes(struct netlink *netlink, void (*found)(void *context, const struct netlink_route *route), void *context);
int netlink_neighbours(struct netlink *netlink, void (*found)(void *context, const struct netlink_neighbour *neighbour),
                       void *context);
int netlink_rules(struct netlink *netlink, void (*found)(void *context, const struct netlink_rule *rule), void *context);

#endif
