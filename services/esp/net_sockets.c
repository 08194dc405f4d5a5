// See net_sockets.h.
//
// The reuseport group of port 4500 outlives esp while ike still holds a socket of it. Its program and table are then those of
// the dead esp. So the order here is: IKE's new socket joins the group and is put into a new table, the new program replaces
// the old one, and then the workers' sockets join and get their indexes. At no moment does the group choose by hash. Port 500
// has the same program without workers, for the same reason: the newest socket hears everything.
#include "services/esp/net_sockets.h"

#include "services/esp/net_steering.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IKE_PORT = 500, NAT_PORT = 4500, IKE_BUFFER = 4 << 20, ESP_BUFFER = 16 << 20, UDP_MAXIMUM = 65507 };

static bool enable(int fd, int level, int option)
{
	int on = 1;
	return setsockopt(fd, level, option, &on, sizeof on) == 0;
}

// Beyond net.core.rmem_max where the process may, up to it where not.
static void buffers(int fd, int octets)
{
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets) != 0) {
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
	}
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &octets, sizeof octets) != 0) {
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &octets, sizeof octets);
	}
}

// Never DF, and no size but the device's: an ICMP error from the network, which anybody can forge, changes nothing. Routers on
// the way may fragment.
static bool ignore_path_mtu(int fd)
{
	int how = IP_PMTUDISC_OMIT;
	return setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof how) == 0;
}

// Returns the descriptor or a negative errno, and closes it then.
static int ready_or_closed(int fd, bool ready)
{
	if (fd >= 0 && ready) {
		return fd;
	}
	int error = -errno;
	if (fd >= 0) {
		close(fd);
	}
	return error;
}

static int open_udp(uint16_t port, int octets)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return -errno;
	}
	buffers(fd, octets);
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	return ready_or_closed(fd, enable(fd, SOL_SOCKET, SO_REUSEPORT) && enable(fd, IPPROTO_IP, IP_PKTINFO) &&
	                               ignore_path_mtu(fd) && bind(fd, (struct sockaddr *)&any, sizeof any) == 0);
}

// An IKE message may be larger than the path carries: routers on the way may fragment it (RFC 7296 §2; RFC 7383 is the better
// way).
static int open_ike(uint16_t port, const struct steering *steering)
{
	int fd = open_udp(port, IKE_BUFFER);
	if (fd < 0) {
		return fd;
	}
	int error = steering_set(steering, 0, fd);
	error = error < 0 ? error : steering_attach(steering, fd);
	errno = -error;
	return ready_or_closed(fd, error == 0);
}

static int open_worker(struct node_sockets *sockets, unsigned worker, const struct steering *steering)
{
	int fd = open_udp(NAT_PORT, ESP_BUFFER);
	if (fd < 0) {
		return fd;
	}
	sockets->udp4500_esp[worker] = fd;
	if (!enable(fd, IPPROTO_UDP, UDP_GRO) || !enable(fd, IPPROTO_IP, IP_RECVTOS)) {
		return -errno;
	}
	int error = steering_set(steering, 1 + worker, fd);
	if (error < 0) {
		return error;
	}
	fd = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ESP);
	if (fd < 0) {
		return -errno;
	}
	sockets->raw_esp[worker] = fd;
	buffers(fd, ESP_BUFFER);
	if (!enable(fd, IPPROTO_IP, IP_PKTINFO) || !ignore_path_mtu(fd)) {
		return -errno;
	}
	return steering_filter_raw(fd, worker, sockets->workers);
}

// A port's IKE socket with its program; `workers` of them besides.
static int open_port(struct node_sockets *sockets, uint16_t port, unsigned workers, int *ike)
{
	struct steering steering;
	int error = steering_open(&steering, workers);
	if (error < 0) {
		return error;
	}
	int fd = open_ike(port, &steering);
	if (fd < 0) {
		error = fd;
	} else {
		*ike = fd;
	}
	for (unsigned i = 0; error == 0 && i < workers; i++) {
		error = open_worker(sockets, i, &steering);
	}
	steering_close(&steering); // the group keeps them
	return error;
}

int node_sockets_open(struct node_sockets *sockets, unsigned workers)
{
	*sockets = (struct node_sockets){.workers = workers, .udp500 = -1, .udp4500_ike = -1, .again = -1};
	for (unsigned i = 0; i < ESP_WORKERS_MAX; i++) {
		sockets->udp4500_esp[i] = sockets->raw_esp[i] = -1;
	}
	if (workers == 0 || workers > ESP_WORKERS_MAX) {
		return -EINVAL;
	}
	int error = open_port(sockets, IKE_PORT, 0, &sockets->udp500);
	error = error < 0 ? error : open_port(sockets, NAT_PORT, workers, &sockets->udp4500_ike);
	if (error == 0) {
		sockets->again = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW);
		error = sockets->again < 0 ? -errno : 0;
	}
	if (error < 0) {
		node_sockets_close(sockets);
	}
	return error;
}

static uint32_t drops_of(int fd)
{
	uint32_t values[SK_MEMINFO_VARS] = {0};
	socklen_t size = sizeof values;
	return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &size) == 0 ? values[SK_MEMINFO_DROPS] : 0;
}

uint64_t node_sockets_drops(const struct node_sockets *sockets)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < sockets->workers; i++) {
		sum += (uint64_t)drops_of(sockets->udp4500_esp[i]) + drops_of(sockets->raw_esp[i]);
	}
	return sum;
}

static void close_one(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
	}
	*fd = -1;
}

void node_sockets_close(struct node_sockets *sockets)
{
	close_one(&sockets->udp500);
	close_one(&sockets->udp4500_ike);
	close_one(&sockets->again);
	for (unsigned i = 0; i < ESP_WORKERS_MAX; i++) {
		close_one(&sockets->udp4500_esp[i]);
		close_one(&sockets->raw_esp[i]);
	}
}

bool node_sockets_again(const struct node_sockets *sockets, const struct sockaddr_in *from, const struct sockaddr_in *to,
                        struct bytes payload)
{
	if (payload.length > UDP_MAXIMUM) {
		errno = EMSGSIZE;
		return false;
	}
	// The kernel fills in total length, identification and checksum of the IPv4 header; a UDP checksum of zero means none
	// (RFC 768).
	struct {
		struct iphdr ip;
		struct udphdr udp;
	} header = {
	    .ip = {.version = 4,
	           .ihl = 5,
	           .ttl = 1,
	           .protocol = IPPROTO_UDP,
	           .saddr = from->sin_addr.s_addr,
	           .daddr = to->sin_addr.s_addr},
	    .udp = {.source = from->sin_port,
	            .dest = to->sin_port,
	            .len = htons((uint16_t)(sizeof header.udp + payload.length))},
	};
	struct iovec parts[] = {{&header, sizeof header}, {(void *)(uintptr_t)payload.data, payload.length}};
	struct sockaddr_in destination = *to;
	destination.sin_port = 0;
	struct msghdr message = {.msg_name = &destination,
	                         .msg_namelen = sizeof destination,
	                         .msg_iov = parts,
	                         .msg_iovlen = sizeof parts / sizeof parts[0]};
	return sendmsg(sockets->again, &message, 0) >= 0;
}
