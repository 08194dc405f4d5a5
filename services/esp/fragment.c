// Fragmentation before encryption, so that the peer can decrypt each packet as it comes.
#include <string.h>

#include "services/esp/octets.h"
#include "services/esp/worker.h"

enum { MORE_FRAGMENTS = 0x2000, OFFSET_MASK = 0x1fff };

// The options that every fragment carries (RFC 791 §3.1: the copied flag). Returns their octets, padded to four; 0 too when
// they are malformed.
static unsigned copied_options(const uint8_t *packet, unsigned header, uint8_t out[static 40])
{
	unsigned length = 0;
	for (unsigned at = 20; at < header && packet[at] != 0;) {
		unsigned size = packet[at] == 1 ? 1 : at + 1 < header ? packet[at + 1] : 0;
		if (size == 0 || at + size > header || (packet[at] != 1 && size < 2)) {
			break;
		}
		if (packet[at] & 0x80) {
			memcpy(out + length, packet + at, size);
			length += size;
		}
		at += size;
	}
	while (length % 4 != 0) {
		out[length++] = 0;
	}
	return length;
}

void fragment_seal(struct esp_worker *worker, struct sa *sa, const uint8_t *packet, const struct inner *inner)
{
	uint8_t options[40];
	unsigned later = 20 + copied_options(packet, inner->header, options);
	// One size for all, so that they go out in one segmented send.
	unsigned mtu = tunnel_mtu(sa, inner);
	uint32_t size = mtu > inner->header + 8u ? (mtu - inner->header) & ~7u : 0;
	uint32_t payload = inner->length - inner->header;
	if (size == 0) {
		worker_drop(worker, sa->tunnel, ESP_DROP_TOO_BIG, 1);
		return;
	}
	uint32_t fragments = (payload + size - 1) / size;
	struct seal_run run;
	if (!seal_begin(worker, sa, inner, fragments, &run)) {
		return;
	}
	unsigned field = load16(packet + 6);
	for (uint32_t i = 0; i < fragments; i++) {
		bool last = i + 1 == fragments;
		uint32_t offset = i * size;
		uint32_t length = last ? payload - offset : size;
		unsigned header = i == 0 ? inner->header : later;
		uint8_t *at = seal_space(worker, &run);
		memcpy(at, packet, i == 0 ? inner->header : 20u);
		memcpy(at + 20, i == 0 ? packet + 20 : options, header - 20);
		at[0] = (uint8_t)(0x40 | header / 4);
		store16(at + 2, header + length);
		unsigned more = last ? field & MORE_FRAGMENTS : MORE_FRAGMENTS;
		store16(at + 6, ((field & OFFSET_MASK) + offset / 8) | more);
		inner_seal_header(at, header);
		memcpy(at + header, packet + inner->header + offset, length);
		seal_packet(worker, &run, at, header + length);
	}
	seal_end(worker, &run);
}
