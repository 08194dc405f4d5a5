// The TCP sockets of a border gateway that bgp gets (net_gateway.h). All send with TTL 255, so that a peer may ask for it (RFC
// 5082), and in the traffic class of routing protocols (RFC 4594 §3.2: CS6); sockets accepted by the listener inherit both. The
// limit on what comes in is bgp's to set.
#include "common/kernel/namespace.h"
#include "services/esp/net_gateway.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TTL = 255, CLASS_SELECTOR_6 = 0xc0, BACKLOG = 64 };

static bool set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

static int open_tcp(struct gateway *gateway)
{
	int fd = namespace_socket(gateway_namespace(gateway), AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (fd >= 0 && (!set(fd, SOL_SOCKET, SO_REUSEADDR, 1) || !set(fd, IPPROTO_IP, IP_TTL, TTL) ||
	                !set(fd, IPPROTO_IP, IP_TOS, CLASS_SELECTOR_6) || !set(fd, IPPROTO_TCP, TCP_NODELAY, 1))) {
		close(fd);
		return -1;
	}
	return fd;
}

static int failed(int fd)
{
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

// bgp may hold the listener that an earlier esp gave it until it has this one: hence SO_REUSEPORT.
int gateway_listen(struct gateway *gateway)
{
	int fd = open_tcp(gateway);
	if (fd < 0) {
		return -1;
	}
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(GATEWAY_BGP_PORT)};
	if (!set(fd, SOL_SOCKET, SO_REUSEPORT, 1) || bind(fd, (struct sockaddr *)&any, sizeof any) != 0 ||
	    listen(fd, BACKLOG) != 0) {
		return failed(fd);
	}
	return fd;
}

int gateway_socket(struct gateway *gateway, const struct address *local)
{
	if (local->length != 4) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	int fd = open_tcp(gateway);
	if (fd < 0) {
		return -1;
	}
	struct sockaddr_in from = {.sin_family = AF_INET};
	memcpy(&from.sin_addr, local->octets, sizeof from.sin_addr);
	if (!set(fd, IPPROTO_IP, IP_FREEBIND, 1) || !set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1) ||
	    bind(fd, (struct sockaddr *)&from, sizeof from) != 0) {
		return failed(fd);
	}
	return fd;
}
