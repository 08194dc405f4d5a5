// What the border gateways of this node want of the kernel, gathered from rows that come in any order, and carried out by
// net_gateway.h as soon as all that a thing needs is known: a namespace with vpn0 per border gateway, inside addresses, a VXLAN
// segment per attachment, and the routes into the VPCs.
#ifndef TWINSPAN_ESP_NET_KERNEL_H
#define TWINSPAN_ESP_NET_KERNEL_H

#include "common/io/loop.h"
#include "services/esp/net_gateway.h"

struct kernel;
struct kernel_hooks {
	// A border gateway's namespace stands: opens the workers' queues and tells the core. false: it is tried again later.
	bool (*up)(void *context, const char *id, struct gateway *gateway, bool allow_transit);
	// It is about to be removed.
	void (*down)(void *context, const char *id);
	void (*changed)(void *context); // which border gateways stand
	void *context;
};

// `fabric_mtu`: octets of the longest outer packet between nodes and VPC hosts.
struct kernel *kernel_new(struct loop *loop, const char *prefix, const char *node, uint32_t fabric_mtu,
                          const struct kernel_hooks *hooks);
void kernel_free(struct kernel **kernel); // all stays standing

void kernel_gateway_set(struct kernel *kernel, const char *id, const char *const *nodes, size_t node_count, bool allow_transit);
void kernel_gateway_remove(struct kernel *kernel, const char *id);
// Somebody removed its vpn0: it is made anew, with all that belongs to it.
void kernel_gateway_lost(struct kernel *kernel, const char *id);
// Nodes and VPC hosts, whose names are of one kind here: the members of segments, by their fabric address.
void kernel_member_set(struct kernel *kernel, const char *id, const struct address *fabric);
void kernel_member_remove(struct kernel *kernel, const char *id);
void kernel_vpc_set(struct kernel *kernel, const char *id, const char *host);
void kernel_vpc_remove(struct kernel *kernel, const char *id);
void kernel_attachment_set(struct kernel *kernel, const char *id, const char *gateway, const char *vpc, uint32_t vni);
void kernel_attachment_remove(struct kernel *kernel, const char *id);
void kernel_address_set(struct kernel *kernel, const char *tunnel, const char *gateway, const struct address *address,
                        uint8_t length);
void kernel_address_remove(struct kernel *kernel, const char *tunnel);
// `attachment` NULL: to vpn0, because the destination lies inside a route to an attachment (esp_on_beneath).
void kernel_route_set(struct kernel *kernel, const char *gateway, const struct prefix *destination, const char *attachment);
void kernel_route_remove(struct kernel *kernel, const char *gateway, const struct prefix *destination);

// Carries out what can be, and tries again in a second what failed. To be called after each change of a table. hooks.changed is
// called when another border gateway stands than before.
void kernel_settle(struct kernel *kernel);
// Every table has been told once: removes what an earlier process left and nothing wants.
void kernel_sweep(struct kernel *kernel);
// The border gateways that stand, for node_status.
size_t kernel_gateways(const struct kernel *kernel, const char **ids, size_t capacity);
size_t kernel_gateway_count(const struct kernel *kernel);
// Packets that found a queue of a vpn0 full, since these devices were made.
uint64_t kernel_queue_drops(const struct kernel *kernel);
struct gateway *kernel_gateway(const struct kernel *kernel, const char *id); // NULL when it does not stand

#endif
