// Puts decrypted neighbours of one TCP or UDP flow together, so that one write to vpn0 carries many packets (virtio-net TSO and
// USO). Only what splitting gives back octet for octet is joined: the rules of the kernel's own GRO. Checksums are verified
// first, since the joined frame vouches for its parts.
#include <string.h>

#include "services/esp/checksum.h"
#include "services/esp/octets.h"
#include "services/esp/worker.h"

enum { NEEDS_CSUM = 1, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, FRAME_LENGTH_MAX = 65535 };

static uint32_t payload_of(const struct inner *inner)
{
	return inner->length - inner->header - inner->transport;
}

// May anything ever be joined to a flow through this packet?
static bool eligible(const struct esp *esp, const uint8_t *packet, const struct inner *inner)
{
	if (inner->transport == 0 || payload_of(inner) == 0 || (inner->octets == 4 && inner->header != 20)) {
		return false;
	}
	const uint8_t *upper = packet + inner->header;
	if (inner->protocol == PROTOCOL_TCP) {
		// The bits beside the data offset are AccECN's AE (RFC 9768) and reserved ones: splitting gives them to all or
		// to none.
		return (upper[12] & 0x0f) == 0 && (upper[13] & ~(TCP_PSH | TCP_FIN | TCP_ECE)) == TCP_ACK;
	}
	if (atomic_load_explicit(&esp->keeps_udp_apart, memory_order_relaxed)) {
		return false;
	}
	return load16(upper + 4) == inner->length - inner->header && load16(upper + 6) != 0;
}

static bool verify(const uint8_t *packet, const struct inner *inner)
{
	uint32_t upper = inner->length - inner->header;
	if (inner->octets == 4 && checksum_finish(checksum_words(0, packet, inner->header / 4u)) != 0) {
		return false;
	}
	return checksum_finish(checksum_add(inner_pseudo_sum(inner, upper), packet + inner->header, upper)) == 0;
}

// The IP headers differ only in length, identification and checksum.
static bool same_ip(const struct merge *m, const uint8_t *packet, const struct inner *inner)
{
	if (m->inner.octets != inner->octets || m->inner.protocol != inner->protocol) {
		return false;
	}
	if (inner->octets == 16) {
		return raw32(m->packet) == raw32(packet) && memcmp(m->packet + 6, packet + 6, 34) == 0;
	}
	// Without DF the identification must continue: splitting counts it up. With DF it says nothing (RFC 6864 §4.1).
	bool id = inner->dont_fragment || load16(packet + 4) == m->next_id;
	return id && load16(m->packet) == load16(packet) && load16(m->packet + 6) == load16(packet + 6) &&
	       load16(m->packet + 8) == load16(packet + 8) && raw64(m->packet + 12) == raw64(packet + 12);
}

static bool same_flow(const struct merge *m, const uint8_t *packet, const struct inner *inner)
{
	return m->inner.octets == inner->octets && m->inner.protocol == inner->protocol &&
	       memcmp(m->inner.source, inner->source, 2u * inner->octets) == 0 &&
	       raw32(m->packet + m->inner.header) == raw32(packet + inner->header);
}

static bool continues(const struct merge *m, const struct esp_frame *frame, const uint8_t *packet, const struct inner *inner)
{
	uint32_t payload = payload_of(inner);
	if (!m->open || payload > m->segment || frame->length + payload > FRAME_LENGTH_MAX || frame->packets == ESP_SEGMENTS ||
	    m->inner.transport != inner->transport || !same_ip(m, packet, inner)) {
		return false;
	}
	if (inner->protocol == PROTOCOL_UDP) {
		return true;
	}
	const uint8_t *a = m->packet + m->inner.header;
	const uint8_t *b = packet + inner->header;
	uint8_t ignored = TCP_PSH | TCP_FIN;
	return load32(b + 4) == m->next_sequence && raw32(a + 8) == raw32(b + 8) && ((a[13] ^ b[13]) & ~ignored) == 0 &&
	       load16(a + 14) == load16(b + 14) && load16(a + 18) == load16(b + 18) &&
	       memcmp(a + 20, b + 20, inner->transport - 20u) == 0;
}

static void join(struct merge *m, struct esp_frame *frame, uint8_t *packet, const struct inner *inner)
{
	uint32_t payload = payload_of(inner);
	frame->iov[frame->iov_count++] = (struct iovec){packet + inner->header + inner->transport, payload};
	frame->length += payload;
	frame->packets++;
	m->next_sequence += payload;
	m->next_id++;
	m->flags = packet[inner->header + 13];
	bool ends = inner->protocol == PROTOCOL_TCP && (m->flags & (TCP_PSH | TCP_FIN));
	m->open = payload == m->segment && !ends;
}

static void start(struct esp_worker *worker, struct esp_gateway *gateway, void *context, uint8_t *packet,
                  const struct inner *inner, uint16_t *flow, uint32_t hash)
{
	struct esp_frame *frame = frame_add(worker, gateway, context, packet, inner->length);
	struct merge *m = &worker->merges[frame - worker->frames];
	bool tcp = inner->protocol == PROTOCOL_TCP;
	const uint8_t *upper = packet + inner->header;
	*m = (struct merge){
	    .inner = *inner,
	    .packet = packet,
	    .hash = hash,
	    .next_sequence = tcp ? load32(upper + 4) + payload_of(inner) : 0,
	    .segment = (uint16_t)payload_of(inner),
	    .headers = (uint16_t)(inner->header + inner->transport),
	    .next_id = (uint16_t)(load16(packet + 4) + 1),
	    .flags = upper[13],
	    .open = !tcp || (upper[13] & (TCP_PSH | TCP_FIN)) == 0,
	};
	*flow = (uint16_t)(frame - worker->frames + 1);
}

void coalesce_add(struct esp_worker *worker, struct esp_gateway *gateway, void *context, uint8_t *packet,
                  const struct inner *inner)
{
	uint32_t hash = inner_hash(packet, inner, worker->esp->config.hash_seed);
	uint16_t *flow = &worker->flows[hash % WORKER_FLOWS];
	if (!eligible(worker->esp, packet, inner)) {
		// It must not be overtaken by a later segment of its flow.
		frame_add(worker, gateway, context, packet, inner->length);
		*flow = 0;
		return;
	}
	if (*flow > 0) {
		struct merge *m = &worker->merges[*flow - 1];
		struct esp_frame *frame = &worker->frames[*flow - 1];
		if (m->hash == hash && frame->gateway == gateway && same_flow(m, packet, inner) &&
		    continues(m, frame, packet, inner)) {
			if (!m->verified) {
				m->verified = verify(m->packet, &m->inner);
				m->open = m->verified;
			}
			if (m->open && verify(packet, inner)) {
				join(m, frame, packet, inner);
				return;
			}
		}
	}
	start(worker, gateway, context, packet, inner, flow, hash);
}

static void native16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)value;
	at[1] = (uint8_t)(value >> 8);
}

// Makes the first packet's headers those of the whole and says how to split it.
static void seal_frame(struct esp_frame *frame, const struct merge *m)
{
	uint8_t *packet = m->packet;
	uint8_t *upper = packet + m->inner.header;
	bool tcp = m->inner.protocol == PROTOCOL_TCP;
	uint32_t upper_length = frame->length - m->inner.header;
	if (m->inner.octets == 4) {
		store16(packet + 2, frame->length);
		inner_seal_header(packet, m->inner.header);
	} else {
		store16(packet + 4, upper_length);
	}
	uint16_t sum = checksum_fold(inner_pseudo_sum(&m->inner, upper_length));
	if (tcp) {
		upper[13] |= m->flags & (TCP_PSH | TCP_FIN);
		store16(upper + 16, sum);
	} else {
		store16(upper + 4, upper_length);
		store16(upper + 6, sum);
	}
	frame->header[0] = NEEDS_CSUM;
	frame->header[1] = !tcp ? GSO_UDP_L4 : m->inner.octets == 4 ? GSO_TCPV4 : GSO_TCPV6;
	native16(frame->header + 2, m->headers);
	native16(frame->header + 4, m->segment);
	native16(frame->header + 6, m->inner.header);
	native16(frame->header + 8, tcp ? 16 : 6);
}

void coalesce_finish(struct esp_worker *worker)
{
	for (size_t i = 0; i < worker->frame_count; i++) {
		if (worker->frames[i].packets > 1) {
			seal_frame(&worker->frames[i], &worker->merges[i]);
		}
	}
}
