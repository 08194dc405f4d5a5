// Hostile frames from vpn0: inner headers and virtio-net headers both lie. What leaves must be whole ESP packets of the
// tunnel's size, each decrypting at the other end to a packet that parses.
#include <stdlib.h>
#include <string.h>

#include "services/esp/checksum.h"
#include "services/esp/esp.h"
#include "services/esp/inner.h"

// One pair with GCM, one with CBC.
static struct ends {
	struct esp *near_end, *far_end;
	struct esp_worker *near_worker, *far_worker;
	struct esp_gateway *gateway, *far_gateway;
} ends[2];
static int context;

static const uint8_t key[64] = {1, 2, 3, 4};

static struct esp *make(struct esp_worker **worker, struct esp_gateway **gateway, unsigned spi_in, unsigned spi_out, bool cbc)
{
	static const uint8_t seed[32] = {1};
	struct esp *esp = esp_new(&(struct esp_config){.workers = 1, .outer_mtu = 1500});
	*worker = esp_worker_new(esp, 0, seed);
	*gateway = esp_gateway_set(esp, "bgw", true, &context);
	esp_tunnel_set(
	    esp, &(struct esp_tunnel_row){"tun", "bgw", "vpn", {4, {169, 254, 9, 1}}, {4, {169, 254, 9, 2}}, ESP_MSS_AUTO});
	const char *tunnel = "tun", *connection = "vpn";
	esp_group_set(esp, &(struct esp_group_row){"nhg", &tunnel, 1, &connection, 1});
	for (unsigned i = 0; i < 2; i++) {
		struct prefix all = {.address.length = i ? 16 : 4};
		esp_route_set(esp, "bgw", &all, "nhg");
	}
	struct esp_sa_row row = {
	    .tunnel = "tun",
	    .inbound = {spi_in, {key, cbc ? 16 : 20}, {key, cbc ? 64 : 0}},
	    .outbound = {spi_out, {key, cbc ? 16 : 20}, {key, cbc ? 64 : 0}},
	    .outbound_in_use = true,
	    .generation = 1,
	    .encryption = cbc ? ESP_AES_CBC_128 : ESP_AES_GCM16_128,
	    .integrity = cbc ? ESP_HMAC_SHA2_512_256 : ESP_INTEGRITY_NONE,
	    .udp = true,
	    .local = {4, {1, 1, 1, 1}},
	    .remote = {4, {2, 2, 2, 2}},
	};
	if (esp_sa_set(esp, &row)) {
		abort();
	}
	return esp;
}

static void setup(struct ends *e, bool cbc)
{
	e->near_end = make(&e->near_worker, &e->gateway, 0x1000, 0x1001, cbc);
	e->far_end = make(&e->far_worker, &e->far_gateway, 0x1001, 0x1000, cbc);
}

static void check(const struct ends *e, const struct esp_datagram *datagram)
{
	static uint8_t whole[ESP_DATAGRAM_MAX + ESP_TAILROOM];
	size_t length = 0;
	for (unsigned v = 0; v < datagram->iov_count; v++) {
		memcpy(whole + length, datagram->iov[v].iov_base, datagram->iov[v].iov_len);
		length += datagram->iov[v].iov_len;
	}
	if (length != datagram->length || length > ESP_DATAGRAM_MAX || datagram->segment > 1472 ||
	    datagram->count > ESP_SEGMENTS) {
		abort();
	}
	uint64_t refused = esp_drops(e->far_end, ESP_DROP_AUTHENTICATION) + esp_drops(e->far_end, ESP_DROP_SHORT) +
	                   esp_drops(e->far_end, ESP_DROP_PADDING) + esp_drops(e->far_end, ESP_DROP_INNER_MALFORMED) +
	                   esp_drops(e->far_end, ESP_DROP_REPLAY);
	if (refused != 0) {
		abort();
	}
	esp_worker_begin(e->far_worker, SECONDS(1));
	esp_decap(e->far_worker,
	          &(struct esp_received){
	              .data = whole, .length = length, .segment = datagram->segment, .from = outer_ipv4(0x02020202, 4500)});
	esp_worker_end(e->far_worker);
}

// What goes back to vpn0 are ICMP errors alone: whole packets to whoever sent the frame, with right checksums.
static void check_answers(const struct ends *e)
{
	size_t count;
	const struct esp_frame *frames = esp_worker_frames(e->near_worker, &count);
	for (size_t i = 0; i < count; i++) {
		const uint8_t *packet = frames[i].iov[1].iov_base;
		struct inner inner;
		if (frames[i].iov_count != 2 || frames[i].iov[1].iov_len != frames[i].length || frames[i].packets != 1 ||
		    !inner_parse(packet, frames[i].length, &inner) || inner.length != frames[i].length ||
		    frames[i].length > 1280) {
			abort();
		}
		bool ipv4 = inner.octets == 4;
		uint32_t upper = inner.length - inner.header;
		uint32_t sum = ipv4 ? 0 : inner_pseudo_sum(&inner, upper);
		if (inner.protocol != (ipv4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6) ||
		    checksum_finish(checksum_add(sum, packet + inner.header, upper)) != 0 ||
		    (ipv4 && checksum_finish(checksum_add(0, packet, inner.header)) != 0)) {
			abort();
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t frame[ESP_FRAME_MAX + ESP_TAILROOM];
	if (size < 3) {
		return 0;
	}
	struct ends *e = &ends[data[0] & 1];
	if (!e->near_end) {
		setup(e, data[0] & 1);
	}
	// Long frames from short inputs: the rest is filled with what is there.
	size_t extra = (size_t)data[1] << 8;
	size_t length = size - 2 + extra;
	if (length > ESP_FRAME_MAX) {
		return 0;
	}
	memcpy(frame, data + 2, size - 2);
	memset(frame + size - 2, data[2], extra);
	// Some inputs fill a whole burst, so that what one frame becomes meets the ends of the worker's buffers.
	static uint8_t copy[ESP_FRAME_MAX + ESP_TAILROOM];
	unsigned frames = data[0] & 2 ? 4096 : 1;
	esp_worker_begin(e->near_worker, SECONDS(1));
	for (unsigned i = 0; i < frames && esp_worker_ready(e->near_worker); i++) {
		memcpy(copy, frame, length);
		esp_encap(e->near_worker, e->gateway, copy, length);
	}
	esp_worker_end(e->near_worker);
	check_answers(e);
	size_t count;
	const struct esp_datagram *datagrams = esp_worker_datagrams(e->near_worker, &count);
	for (size_t i = 0; i < count; i++) {
		check(e, &datagrams[i]);
	}
	return 0;
}
