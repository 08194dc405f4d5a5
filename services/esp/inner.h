// What the dataplane wants to know of an inner IP packet: RFC 791, RFC 8200 (a fragment header, and no other extension header
// is looked behind), the ports of TCP and UDP.
#ifndef TWINSPAN_ESP_INNER_H
#define TWINSPAN_ESP_INNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROTOCOL_ICMP = 1,
	PROTOCOL_IPV4 = 4,
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	PROTOCOL_IPV6 = 41,
	PROTOCOL_FRAGMENT = 44,
	PROTOCOL_ICMPV6 = 58,
	PROTOCOL_NONE = 59
};
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32, TCP_ECE = 64, TCP_CWR = 128 };

struct inner {
	uint8_t octets;   // of an address: 4 or 16
	uint8_t protocol; // of what follows the IP header
	uint8_t tos;
	bool fragment;      // any fragment, also the first
	bool dont_fragment; // IPv6: always
	uint16_t header;    // octets of the IP header with its options
	uint16_t transport; // octets of a whole TCP or UDP header; 0 when it is none of them or a fragment
	uint32_t length;    // octets of the packet by its own header
	const uint8_t *source, *destination;
};

// false when the header is malformed or says more than `available` octets. There may be fewer than are available (TFC padding).
bool inner_parse(const uint8_t *packet, size_t available, struct inner *out);
// The same for what an ICMP error quotes: `length` is what is there of it, and `transport` 0.
bool inner_parse_quote(const uint8_t *packet, size_t available, struct inner *out);
// Five-tuple; the addresses alone for fragments and protocols without ports. Never 0.
uint32_t inner_hash(const uint8_t *packet, const struct inner *inner, uint64_t seed);
// The pseudo-header's sum (RFC 9293 §3.1, RFC 8200 §8.1) for an upper-layer length.
uint32_t inner_pseudo_sum(const struct inner *inner, uint32_t upper_length);
// Sets the IPv4 header checksum.
void inner_seal_header(uint8_t *packet, unsigned header);
// Lowers the MSS option of a TCP SYN to `mss` (RFC 9293 §3.7.1); `adjust` keeps a complete checksum right. True when it
// changed.
bool inner_clamp_mss(uint8_t *packet, const struct inner *inner, uint16_t mss, bool adjust);

#endif
