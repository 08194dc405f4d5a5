// One frame from vpn0 into its tunnel. The TTL is not lowered here: the namespace's kernel forwarded the packet to vpn0 and did
// (RFC 4301 §5.1.2.1).
#include "common/base/invariant.h"
#include "services/esp/octets.h"
#include "services/esp/worker.h"

uint16_t tunnel_mss(const struct tunnel_config *config, const struct sa *sa, const struct inner *inner)
{
	unsigned headers = inner->header + 20u, mtu = tunnel_mtu(sa, inner);
	if (!config || config->mss == ESP_MSS_OFF || mtu <= headers + 8) {
		return 0;
	}
	// AUTO: what fits the tunnel in one packet without TCP options.
	return config->mss == ESP_MSS_AUTO ? (uint16_t)(mtu - headers) : config->mss;
}

static void too_big(struct esp_worker *worker, struct esp_gateway *gateway, struct sa *sa, const uint8_t *packet,
                    const struct inner *inner, uint32_t packets)
{
	bool answered = icmp_too_big(worker, gateway, sa->tunnel, tunnel_mtu(sa, inner), packet, inner);
	worker_drop(worker, sa->tunnel, answered ? ESP_DROP_TOO_BIG : ESP_DROP_TOO_BIG_UNANSWERED, packets);
}

static void encap_one(struct esp_worker *worker, struct esp_gateway *gateway, struct sa *sa, uint8_t *packet,
                      const struct inner *inner)
{
	if (inner->length > tunnel_mtu(sa, inner)) {
		if (inner->dont_fragment) {
			too_big(worker, gateway, sa, packet, inner, 1);
		} else {
			fragment_seal(worker, sa, packet, inner);
		}
		return;
	}
	struct seal_run run;
	if (seal_begin(worker, sa, inner, 1, &run)) {
		seal_packet(worker, &run, packet, inner->length);
		seal_end(worker, &run);
	}
}

// A UDP super-frame whose datagrams are longer than the tunnel takes: UDP has no smaller segments, so each is an IP packet of
// its own.
static void encap_long_datagrams(struct esp_worker *worker, struct esp_gateway *gateway, struct sa *sa, uint8_t *packet,
                                 const struct inner *inner, const struct offload *offload)
{
	unsigned headers = inner->header + 8u;
	uint32_t payload = inner->length - headers;
	if (inner->dont_fragment || offload->packets > ESP_SEGMENTS * 2) {
		too_big(worker, gateway, sa, packet, inner, offload->packets);
		return;
	}
	uint8_t head[60 + 8];
	memcpy(head, packet, headers);
	unsigned id = load16(head + 4);
	for (uint32_t offset = 0; offset < payload; offset += offload->segment, id++) {
		uint32_t length = payload - offset < offload->segment ? payload - offset : offload->segment;
		uint8_t *at = packet + offset;
		memcpy(at, head, headers);
		store16(at + 2, headers + length);
		store16(at + 4, id);
		inner_seal_header(at, inner->header);
		store16(at + inner->header + 4, 8 + length);
		store16(at + inner->header + 6, 0);
		struct inner one;
		if (!inner_parse(at, headers + length, &one)) {
			return;
		}
		uint32_t sum = inner_pseudo_sum(&one, 8 + length);
		sum = (sum & 0xffff) + (sum >> 16);
		store16(at + inner->header + 6, (sum & 0xffff) + (sum >> 16));
		offload_finish(at, &one, &(struct offload){.partial = true, .start = inner->header, .offset = 6});
		encap_one(worker, gateway, sa, at, &one);
	}
}

void esp_encap(struct esp_worker *worker, struct esp_gateway *gateway, uint8_t *frame, size_t length)
{
	uint8_t *packet = frame + ESP_VNET_HEADER;
	struct inner inner;
	if (length < ESP_VNET_HEADER || !inner_parse(packet, length - ESP_VNET_HEADER, &inner)) {
		worker_drop(worker, NULL, ESP_DROP_VPN_MALFORMED, 1);
		return;
	}
	struct offload offload;
	if (!offload_read(frame, &inner, &offload)) {
		worker_drop(worker, NULL, ESP_DROP_OFFLOAD, 1);
		return;
	}
	if (!esp_worker_ready(worker)) {
		worker_drop(worker, NULL, ESP_DROP_NO_SPACE, offload.packets);
		return;
	}
	const struct outbound out = outbound_find(worker->esp, gateway, packet, &inner);
	if (!out.sa) {
		worker_drop(worker, out.tunnel, out.reason, offload.packets);
		return;
	}
	struct sa *sa = out.sa;
	if (inner.protocol == PROTOCOL_TCP && inner.transport > 0 && (packet[inner.header + 13] & TCP_SYN)) {
		uint16_t mss = tunnel_mss(load(sa->tunnel->config), sa, &inner);
		if (mss > 0) {
			inner_clamp_mss(packet, &inner, mss, !offload.partial);
		}
	}
	unsigned headers = (unsigned)inner.header + inner.transport, mtu = tunnel_mtu(sa, &inner);
	if (offload.segment > 0 && inner.protocol == PROTOCOL_UDP && headers + offload.segment > mtu && inner.length > mtu) {
		encap_long_datagrams(worker, gateway, sa, packet, &inner, &offload);
	} else if (offload.segment > 0) {
		segment_seal(worker, sa, packet, &inner, &offload);
	} else {
		offload_finish(packet, &inner, &offload);
		encap_one(worker, gateway, sa, packet, &inner);
	}
	invariant(worker->arena_used <= WORKER_ARENA && worker->datagram_count <= WORKER_DATAGRAMS);
}
