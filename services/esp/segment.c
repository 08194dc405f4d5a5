// What the virtio-net header of a frame asks for: a checksum to be finished, or a TCP (TSO) or UDP (USO) super-frame to be
// split. Segments are made where the frame lies: each one's header is written over the end of the segment before it, which is
// encrypted by then, so the payload is touched by the checksum and the cipher only.
#include <string.h>

#include "services/esp/checksum.h"
#include "services/esp/octets.h"
#include "services/esp/worker.h"

enum { NEEDS_CSUM = 1, GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };
enum { HEADERS_MAX = 60 + 60 };

static uint16_t native16(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

bool offload_read(const uint8_t *frame, const struct inner *inner, struct offload *out)
{
	unsigned type = frame[1] & ~(unsigned)GSO_ECN;
	*out = (struct offload){
	    .partial = (frame[0] & NEEDS_CSUM) != 0,
	    .start = native16(frame + 6),
	    .offset = native16(frame + 8),
	    .packets = 1,
	};
	if (out->partial &&
	    (out->start < inner->header || out->offset > 256 || (uint32_t)out->start + out->offset + 2 > inner->length)) {
		return false;
	}
	if (type == GSO_NONE) {
		return true;
	}
	bool tcp = type == (inner->octets == 4 ? GSO_TCPV4 : GSO_TCPV6) && inner->protocol == PROTOCOL_TCP && out->offset == 16;
	bool udp = type == GSO_UDP_L4 && inner->protocol == PROTOCOL_UDP && out->offset == 6;
	out->segment = native16(frame + 4);
	uint32_t headers = (uint32_t)inner->header + inner->transport;
	if (!(tcp || udp) || inner->transport == 0 || !out->partial || out->start != inner->header || out->segment == 0 ||
	    inner->length <= headers) {
		return false;
	}
	out->packets = (inner->length - headers + out->segment - 1) / out->segment;
	return true;
}

void offload_finish(uint8_t *packet, const struct inner *inner, const struct offload *offload)
{
	if (offload->partial) {
		// The field holds the pseudo-header's sum already.
		uint16_t sum = checksum_finish(checksum_add(0, packet + offload->start, inner->length - offload->start));
		if (sum == 0 && inner->protocol == PROTOCOL_UDP) {
			sum = 0xffff; // RFC 768: 0 would say that there is none
		}
		store16(packet + offload->start + offload->offset, sum);
	}
}

struct splitter {
	uint8_t head[HEADERS_MAX];
	const struct inner *inner;
	unsigned headers;
	uint32_t base; // checksum of all that stays the same
	uint32_t sequence;
	uint16_t id;
	uint8_t flags;
};

static void splitter_init(struct splitter *s, const uint8_t *packet, const struct inner *inner)
{
	s->inner = inner;
	s->headers = (unsigned)inner->header + inner->transport;
	memcpy(s->head, packet, s->headers);
	uint8_t *upper = s->head + inner->header;
	s->id = load16(packet + 4);
	if (inner->protocol == PROTOCOL_TCP) {
		s->sequence = load32(upper + 4);
		s->flags = upper[13];
		store32(upper + 4, 0);
		upper[13] = 0;
		store16(upper + 16, 0);
	} else {
		store16(upper + 4, 0);
		store16(upper + 6, 0);
	}
	s->base = checksum_fold(checksum_add(inner_pseudo_sum(inner, 0), upper, inner->transport));
}

// Writes segment `number`'s headers in front of its payload (RFC 9293 §3.8.1 in spirit: what a sender would have sent).
static void put_headers(const struct splitter *s, uint8_t *packet, uint32_t number, uint32_t offset, uint32_t length, bool last)
{
	memcpy(packet, s->head, s->headers);
	uint32_t upper_length = s->inner->transport + length;
	if (s->inner->octets == 4) {
		store16(packet + 2, s->headers + length);
		store16(packet + 4, s->id + number);
		inner_seal_header(packet, s->inner->header);
	} else {
		store16(packet + 4, upper_length);
	}
	uint8_t *upper = packet + s->inner->header;
	uint32_t sum = checksum_add(s->base + upper_length, packet + s->headers, length);
	if (s->inner->protocol == PROTOCOL_TCP) {
		uint8_t flags = s->flags;
		if (!last) {
			flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
		}
		if (number > 0) {
			flags &= (uint8_t)~TCP_CWR; // RFC 3168 §6.1.2: said once
		}
		store32(upper + 4, s->sequence + offset);
		upper[13] = flags;
		sum += flags + ((s->sequence + offset) >> 16) + ((s->sequence + offset) & 0xffff);
		store16(upper + 16, checksum_finish(sum));
	} else {
		store16(upper + 4, upper_length);
		uint16_t field = checksum_finish(sum + upper_length);
		store16(upper + 6, field ? field : 0xffff);
	}
}

void segment_seal(struct esp_worker *worker, struct sa *sa, uint8_t *packet, const struct inner *inner,
                  const struct offload *offload)
{
	struct splitter s;
	splitter_init(&s, packet, inner);
	// TCP may be cut smaller than the sender asked: it is a stream. (The MSS clamp makes this rare.) UDP was checked
	// before.
	unsigned mtu = tunnel_mtu(sa, inner);
	uint32_t room = mtu > s.headers ? mtu - s.headers : 0;
	uint32_t size = offload->segment < room ? offload->segment : room;
	uint32_t payload = inner->length - s.headers;
	uint32_t segments = size ? (payload + size - 1) / size : 0;
	if (segments == 0 || segments > ENCAP_SEGMENTS) {
		worker_drop(worker, sa->tunnel, ESP_DROP_OFFLOAD, offload->packets);
		return;
	}
	struct seal_run run;
	if (!seal_begin(worker, sa, inner, segments, &run)) {
		return;
	}
	bool deferred = cipher_is_deferred(sa->seal);
	for (uint32_t i = 0, offset = 0; i < segments; i++, offset += size) {
		uint32_t length = payload - offset < size ? payload - offset : size;
		uint8_t *at = packet + offset;
		if (deferred) {
			// The cipher is done with it only at the burst's end: it needs a place of its own.
			at = seal_space(worker, &run);
			memcpy(at + s.headers, packet + s.headers + offset, length);
		}
		put_headers(&s, at, i, offset, length, i + 1 == segments);
		seal_packet(worker, &run, at, s.headers + length);
	}
	seal_end(worker, &run);
}
