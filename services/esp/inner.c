// See inner.h.
#include "services/esp/inner.h"

#include "services/esp/checksum.h"
#include "services/esp/octets.h"

static bool parse_ipv4(const uint8_t *packet, size_t available, struct inner *out)
{
	unsigned header = (packet[0] & 15u) * 4;
	unsigned length = load16(packet + 2);
	unsigned fragment = load16(packet + 6);
	if (header < 20 || length < header || length > available) {
		return false;
	}
	*out = (struct inner){
	    .octets = 4,
	    .protocol = packet[9],
	    .tos = packet[1],
	    .fragment = (fragment & 0x3fff) != 0,
	    .dont_fragment = (fragment & 0x4000) != 0,
	    .header = (uint16_t)header,
	    .length = length,
	    .source = packet + 12,
	    .destination = packet + 16,
	};
	return true;
}

static bool parse_ipv6(const uint8_t *packet, size_t available, struct inner *out)
{
	if (available < 40 || 40u + load16(packet + 4) > available) {
		return false;
	}
	*out = (struct inner){
	    .octets = 16,
	    .protocol = packet[6],
	    .tos = (uint8_t)(packet[0] << 4 | packet[1] >> 4),
	    .fragment = packet[6] == PROTOCOL_FRAGMENT,
	    .dont_fragment = true,
	    .header = 40,
	    .length = 40u + load16(packet + 4),
	    .source = packet + 8,
	    .destination = packet + 24,
	};
	return true;
}

bool inner_parse(const uint8_t *packet, size_t available, struct inner *out)
{
	if (available < 20) {
		return false;
	}
	unsigned version = packet[0] >> 4;
	if (!(version == 4 ? parse_ipv4(packet, available, out) : version == 6 && parse_ipv6(packet, available, out))) {
		return false;
	}
	unsigned left = out->length - out->header;
	const uint8_t *upper = packet + out->header;
	if (out->fragment) {
		return true;
	}
	if (out->protocol == PROTOCOL_TCP && left >= 20) {
		unsigned header = (upper[12] >> 4) * 4u;
		out->transport = header >= 20 && header <= left ? (uint16_t)header : 0;
	} else if (out->protocol == PROTOCOL_UDP && left >= 8) {
		out->transport = 8;
	}
	return true;
}

bool inner_parse_quote(const uint8_t *packet, size_t available, struct inner *out)
{
	unsigned version = available >= 20 ? packet[0] >> 4 : 0;
	bool parsed = version == 4 ? parse_ipv4(packet, UINT32_MAX, out)
	                           : version == 6 && available >= 40 && parse_ipv6(packet, UINT32_MAX, out);
	if (!parsed || out->header > available) {
		return false;
	}
	out->length = out->length < available ? out->length : (uint32_t)available;
	return true;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9fb21c651e98df25u;
	return hash ^ hash >> 32;
}

uint32_t inner_hash(const uint8_t *packet, const struct inner *inner, uint64_t seed)
{
	uint64_t hash = seed;
	for (unsigned i = 0; i < inner->octets; i += 4) {
		hash = mix(hash, (uint64_t)raw32(inner->source + i) << 32 | raw32(inner->destination + i));
	}
	if (inner->transport > 0) {
		hash = mix(hash, (uint64_t)inner->protocol << 32 | raw32(packet + inner->header));
	}
	hash *= 0xbf58476d1ce4e5b9u;
	return (uint32_t)(hash >> 32) | 1;
}

uint32_t inner_pseudo_sum(const struct inner *inner, uint32_t upper_length)
{
	uint32_t sum = checksum_words(0, inner->source, inner->octets / 2u); // the addresses stand side by side
	return sum + inner->protocol + (upper_length >> 16) + (upper_length & 0xffff);
}

void inner_seal_header(uint8_t *packet, unsigned header)
{
	store16(packet + 10, 0);
	store16(packet + 10, checksum_finish(checksum_words(0, packet, header / 4)));
}

bool inner_clamp_mss(uint8_t *packet, const struct inner *inner, uint16_t mss, bool adjust)
{
	uint8_t *tcp = packet + inner->header;
	for (unsigned at = 20; at + 1 < inner->transport && tcp[at] != 0;) {
		if (tcp[at] == 1) {
			at++;
			continue;
		}
		unsigned length = tcp[at + 1];
		if (length < 2 || at + length > inner->transport) {
			return false;
		}
		if (tcp[at] == 2 && length == 4) {
			uint16_t before = load16(tcp + at + 2);
			if (before <= mss) {
				return false;
			}
			store16(tcp + at + 2, mss);
			if (adjust && at % 2 == 0) {
				store16(tcp + 16, checksum_update(load16(tcp + 16), before, mss));
			} else if (adjust) {
				// The value lies across two words of the sum: as if its octets were swapped.
				store16(tcp + 16,
				        checksum_update(load16(tcp + 16), __builtin_bswap16(before), __builtin_bswap16(mss)));
			}
			return true;
		}
		at += length;
	}
	return false;
}
