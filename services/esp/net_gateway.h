// A border gateway's network namespace on this node: `vpn0`, its inside addresses, one VXLAN device per VPC attachment and the
// kernel routes into the VPCs. It outlives the process: gateway_open takes over what stands, and what is set is compared with
// what is there, so that setting the same again changes nothing. Calls return 0 or a negative errno; they are for the control
// thread.
#ifndef TWINSPAN_ESP_NET_GATEWAY_H
#define TWINSPAN_ESP_NET_GATEWAY_H

#include "common/base/address.h"

enum { GATEWAY_MTU = 1500, GATEWAY_BGP_PORT = 179 };

struct gateway;

// Makes the namespace "<prefix><node>-<bgw id>" and `vpn0` in it, or takes them over. The calling thread is in the node's
// namespace, where the VXLAN devices' UDP sockets live. NULL with errno.
struct gateway *gateway_open(const char *prefix, const char *node, const char *bgw_id);
void gateway_free(struct gateway **gateway);  // everything stays standing in the kernel
void gateway_close(struct gateway **gateway); // removes namespace and devices: the border gateway is deleted
// The border gateways whose namespaces stand, from an earlier life too.
void gateway_list(const char *prefix, const char *node, void (*found)(void *context, const char *bgw_id), void *context);

const char *gateway_id(const struct gateway *gateway);
int gateway_namespace(const struct gateway *gateway); // descriptor, the gateway's

// One more queue of vpn0: non-blocking, close-on-exec, each packet with a struct virtio_net_hdr (10 octets, little-endian) in
// front, and TSO4, TSO6, USO4, USO6 and checksum offload on in both directions. The caller's. -1 with errno.
int gateway_queue(struct gateway *gateway);

// Packets that found a queue full since the device was made.
uint64_t gateway_queue_drops(const struct gateway *gateway);

// An inside address on vpn0: the cloud's own address of a tunnel with the length of its inside CIDR.
int gateway_address_set(struct gateway *gateway, const struct address *address, uint8_t length);
int gateway_address_remove(struct gateway *gateway, const struct address *address, uint8_t length);

struct gateway_attachment {
	const char *id; // name of the device
	uint32_t vni;
	uint32_t mtu;
	struct address local;          // own fabric address (IPv4)
	const struct address *members; // fabric addresses of the others (own one among them does no harm)
	size_t member_count;
};
int gateway_attachment_set(struct gateway *gateway, const struct gateway_attachment *attachment);
int gateway_attachment_remove(struct gateway *gateway, const char *id);

// A route into a VPC. It may be set before its attachment is: it is then installed together with it. `attachment_id` and `vtep`
// NULL: a route to vpn0. Removing the default route gives it back to vpn0.
int gateway_route_set(struct gateway *gateway, const struct prefix *destination, const char *attachment_id,
                      const struct address *vtep);
int gateway_route_remove(struct gateway *gateway, const struct prefix *destination);

// Removes the addresses, attachments and routes that an earlier process left and this one has not set. To be called when all of
// its tables are complete.
void gateway_sweep(struct gateway *gateway);

// A non-blocking TCP listener on port 179 of all addresses in the namespace; the old one, if another process still has it, does
// no harm. -1 with errno.
int gateway_listen(struct gateway *gateway);
// A non-blocking TCP socket bound to `local` (which vpn0 may get later), not connected: NODELAY, sends with TTL 255. -1 with
// errno.
int gateway_socket(struct gateway *gateway, const struct address *local);

#endif
