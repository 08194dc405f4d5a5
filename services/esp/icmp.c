// Packet too big, to the sender in the VPC. The source is the tunnel's customer inside address: a cloud address is the
// namespace's own, and the kernel refuses its own addresses as sources of what comes in; and the sender's traceroute then shows
// the hop that is the limit.
#include <string.h>

#include "common/base/invariant.h"
#include "services/esp/checksum.h"
#include "services/esp/octets.h"
#include "services/esp/worker.h"

enum { ICMP_RATE = 100, ICMP_QUOTE = 548 }; // a second, worker and tunnel; RFC 1812 §4.3.2.3: the whole message fits 576

// Each tunnel has its own rate: whoever uses his up takes nothing from others.
static bool allowed(const struct esp_worker *worker, struct esp_tunnel *tunnel)
{
	struct tunnel_counters *own = &tunnel->counters[worker->index];
	duration since = worker->now - own->icmp_refilled;
	if (since >= SECONDS(1) || since < 0) {
		own->icmp_tokens = ICMP_RATE;
		own->icmp_refilled = worker->now;
	}
	invariant(own->icmp_tokens <= ICMP_RATE);
	return own->icmp_tokens > 0 && own->icmp_tokens-- > 0;
}

static bool is_unspecified(const uint8_t *address, unsigned octets)
{
	uint8_t any = 0;
	for (unsigned i = 0; i < octets; i++) {
		any |= address[i];
	}
	return any == 0;
}

// RFC 1122 §3.2.2, RFC 4443 §2.4 e: no error about an error, a later fragment, or to somebody who is not one host.
static bool may_answer(const uint8_t *packet, const struct inner *inner)
{
	const uint8_t *upper = packet + inner->header;
	bool has_type = inner->length > inner->header;
	if (inner->octets == 4) {
		bool later = (load16(packet + 6) & 0x1fff) != 0;
		bool error = inner->protocol == PROTOCOL_ICMP && has_type && upper[0] != 0 && upper[0] != 8 && upper[0] < 13;
		return !later && !error && inner->source[0] < 224 && inner->source[0] != 0 && inner->destination[0] < 224;
	}
	bool error = inner->protocol == PROTOCOL_ICMPV6 && has_type && upper[0] < 128;
	return !error && inner->source[0] != 0xff && !is_unspecified(inner->source, 16);
}

static uint32_t build_ipv4(uint8_t *out, uint32_t from, unsigned mtu, const uint8_t *packet, const struct inner *inner,
                           uint32_t quote)
{
	uint8_t *icmp = out + 20;
	memset(out, 0, 28);
	out[0] = 0x45;
	store16(out + 2, 28 + quote);
	out[8] = 64;
	out[9] = PROTOCOL_ICMP;
	memcpy(out + 12, &from, 4);
	memcpy(out + 16, inner->source, 4);
	inner_seal_header(out, 20);
	icmp[0] = 3;
	icmp[1] = 4;
	store16(icmp + 6, mtu); // RFC 1191 §4
	memcpy(icmp + 8, packet, quote);
	store16(icmp + 2, checksum_finish(checksum_add(0, icmp, 8 + quote)));
	return 28 + quote;
}

static uint32_t build_ipv6(uint8_t *out, unsigned mtu, const uint8_t *packet, const struct inner *inner, uint32_t quote)
{
	uint8_t *icmp = out + 40;
	memset(out, 0, 48);
	out[0] = 0x60;
	store16(out + 4, 8 + quote);
	out[6] = PROTOCOL_ICMPV6;
	out[7] = 64;
	memcpy(out + 8, inner->destination, 16);
	memcpy(out + 24, inner->source, 16);
	icmp[0] = 2;
	store32(icmp + 4, mtu);
	memcpy(icmp + 8, packet, quote);
	struct inner reply;
	if (inner_parse(out, 48 + quote, &reply)) {
		store16(icmp + 2, checksum_finish(checksum_add(inner_pseudo_sum(&reply, 8 + quote), icmp, 8 + quote)));
	}
	return 48 + quote;
}

bool icmp_too_big(struct esp_worker *worker, struct esp_gateway *gateway, struct esp_tunnel *tunnel, unsigned mtu,
                  const uint8_t *packet, const struct inner *inner)
{
	void *context = load(gateway->context);
	if (!context || !may_answer(packet, inner)) {
		return true;
	}
	if (!allowed(worker, tunnel)) {
		return false;
	}
	const struct tunnel_config *config = load(tunnel->config);
	uint32_t quote = inner->length < ICMP_QUOTE ? inner->length : ICMP_QUOTE;
	uint8_t *out = worker->arena + worker->arena_used;
	uint32_t from = config && config->customer ? config->customer : raw32(inner->destination);
	uint32_t length =
	    inner->octets == 4 ? build_ipv4(out, from, mtu, packet, inner, quote) : build_ipv6(out, mtu, packet, inner, quote);
	worker->arena_used += (length + 63) & ~63u;
	frame_add(worker, gateway, context, out, length);
	return true;
}
