// Addresses of the core as the kernel takes and gives them, of either family.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "services/bgp/shell.h"

socklen_t socket_address(const struct address *address, uint16_t port, struct sockaddr_storage *out)
{
	*out = (struct sockaddr_storage){.ss_family = address->length == 4 ? AF_INET : AF_INET6};
	if (address->length == 4) {
		struct sockaddr_in *ipv4 = (struct sockaddr_in *)out;
		ipv4->sin_port = htons(port);
		memcpy(&ipv4->sin_addr, address->octets, 4);
		return sizeof *ipv4;
	}
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)out;
	ipv6->sin6_port = htons(port);
	memcpy(&ipv6->sin6_addr, address->octets, 16);
	return sizeof *ipv6;
}

bool socket_address_read(const struct sockaddr_storage *from, struct address *out)
{
	if (from->ss_family == AF_INET) {
		return address_from_bytes((struct bytes){(const uint8_t *)&((const struct sockaddr_in *)from)->sin_addr, 4},
		                          out);
	}
	return from->ss_family == AF_INET6 &&
	       address_from_bytes((struct bytes){(const uint8_t *)&((const struct sockaddr_in6 *)from)->sin6_addr, 16}, out);
}
