// The node's outer sockets: IKE on UDP 500 and 4500, and for each worker one for ESP in UDP (4500) and one for plain ESP
// (protocol 50). On port 4500 the kernel itself tells IKE from ESP and one worker's SAs from another's: see net_steering.c.
#ifndef TWINSPAN_ESP_NET_SOCKETS_H
#define TWINSPAN_ESP_NET_SOCKETS_H

#include "common/base/bytes.h"
#include "services/esp/limits.h"
#include <netinet/in.h>

// Unused ones are -1. All are IPv4, non-blocking, close-on-exec, bound to any address, with IP_PKTINFO on and big buffers. None
// sets DF, and none believes what ICMP says of the path's MTU.
struct node_sockets {
	unsigned workers;
	int udp500;
	int udp4500_ike;
	// With UDP_GRO and IP_RECVTOS. What comes out begins with an SPI, or is shorter than four octets: a keepalive (0xff),
	// to worker 0.
	int udp4500_esp[ESP_WORKERS_MAX];
	int raw_esp[ESP_WORKERS_MAX]; // whole IPv4 packets, header first, as raw sockets give them
	int again;                    // for node_sockets_again
};

// In the calling thread's namespace. An ESP packet comes to worker SPI % workers. An ike that still holds sockets of an earlier
// esp takes nothing away from the new ones: from then on its old sockets hear nothing new, and what is queued in them is still
// there to be read. 0 or a negative errno; then nothing is left open.
int node_sockets_open(struct node_sockets *sockets, unsigned workers);
// Packets that found a worker's socket full, since these sockets were opened.
uint64_t node_sockets_drops(const struct node_sockets *sockets);
void node_sockets_close(struct node_sockets *sockets);
// Sends a received UDP datagram through this machine's own stack once more, as if it had come alone. UDP_GRO joins neighbours
// of one flow before the steering sees them, by the first one: a later one in the run that is IKE's (four zero octets) or
// another worker's SPI finds its way by this. false with errno.
bool node_sockets_again(const struct node_sockets *sockets, const struct sockaddr_in *from, const struct sockaddr_in *to,
                        struct bytes payload);

#endif
