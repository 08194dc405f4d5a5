// The node's outer sockets: IKE on UDP 500 and 4500, and for each worker one for ESP in UDP (4500) and one for plain ESP
// (protocol 50). On port 4500 the kernel itself tells IKE from ESP: see net_sockets.c.
#ifndef TWINSPAN_ESP_NET_SOCKETS_H
#define TWINSPAN_ESP_NET_SOCKETS_H

#include "limits.h"
#include <stdbool.h>

// Unused ones are -1. All are IPv4, non-blocking, close-on-exec, bound to any address, with IP_PKTINFO on and big buffers.
// udp4500_esp have UDP_GRO on; what comes out of them begins with the ESP header's SPI (or is a keepalive of one octet, 0xff).
// raw_esp give whole IPv4 packets, as raw sockets do.
struct node_sockets {
	unsigned workers;
	int udp500;
	int udp4500_ike;
	int udp4500_esp[ESP_WORKERS_MAX];
	int raw_esp[ESP_WORKERS_MAX];
	bool steered; // the reuseport program stands; when false (a kernel without it) all of port 4500 comes to udp4500_ike
};

// In the calling thread's namespace. An ESP packet comes to worker SPI % workers. An ike that still holds sockets of an earlier
// esp does not take anything away from the new ones. 0 or a negative errno; then nothing is left open.
int node_sockets_open(struct node_sockets *sockets, unsigned workers);
void node_sockets_close(struct node_sockets *sockets);

#endif
