// Two cores joined back to back in memory, for the tests of esp: what one encapsulates is given to the other. The cloud side
// `a` has a border gateway "bgw" with a VPC behind it (10.0.0.0/16); `b` plays the customer's device with the IDC behind it
// (192.168.0.0/16).
#ifndef TWINSPAN_TEST_ESP_PAIR_H
#define TWINSPAN_TEST_ESP_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "services/esp/esp.h"

enum { PACKETS_MAX = 4096, PAIR_SPI = 0x1000 };

struct packet {
	uint8_t octets[2048 + ESP_TAILROOM];
	size_t length;
	uint8_t tos;
};
struct side {
	struct esp *esp;
	struct esp_worker *worker;
	struct esp_gateway *gateway;
	int context;
};
struct pair {
	struct side a, b;
	struct esp_sa_row row_a, row_b;
	uint8_t keys[4][64];
};
struct options {
	enum esp_encryption encryption;
	enum esp_integrity integrity;
	bool openssl, udp, extended;
	uint16_t mss;
	uint32_t window;
	unsigned workers;   // 0: 1
	uint16_t outer_mtu; // 0: 1500
	struct esp_sequence_record *sequences;
	size_t sequence_count;
};

static inline struct prefix prefix_text(const char *text)
{
	struct prefix prefix;
	assert_true(prefix_parse(text, &prefix));
	return prefix;
}

static inline struct address address_text(const char *text)
{
	struct address address;
	assert_true(address_parse(text, &address));
	return address;
}

static inline void group_set(struct esp *esp, const char *id, const char *tunnel, const char *connection)
{
	struct esp_group_row row = {.id = id,
	                            .tunnels = &tunnel,
	                            .tunnel_count = tunnel != NULL,
	                            .connections = &connection,
	                            .connection_count = connection != NULL};
	esp_group_set(esp, &row);
}

static inline void route_set(struct esp *esp, const char *destination, const char *group)
{
	struct prefix prefix = prefix_text(destination);
	esp_route_set(esp, "bgw", &prefix, group);
}

static inline void side_init(struct side *side, const struct options *options, bool cloud)
{
	static const uint8_t seed[32] = {1};
	struct esp_config config = {
	    .workers = options->workers ? options->workers : 1,
	    .outer_mtu = options->outer_mtu ? options->outer_mtu : 1500,
	    .openssl = options->openssl,
	    .hash_seed = 7,
	    .sequences = cloud ? options->sequences : NULL,
	    .sequence_count = cloud ? options->sequence_count : 0,
	};
	side->esp = esp_new(&config);
	side->worker = esp_worker_new(side->esp, 0, seed);
	side->gateway = esp_gateway_set(side->esp, "bgw", false, &side->context);
	esp_tunnel_set(side->esp, &(struct esp_tunnel_row){
	                              .id = "tun",
	                              .gateway = "bgw",
	                              .connection = "vpn",
	                              .cloud_inside = address_text(cloud ? "169.254.10.1" : "169.254.10.2"),
	                              .customer_inside = address_text(cloud ? "169.254.10.2" : "169.254.10.1"),
	                              .mss = options->mss,
	                          });
	group_set(side->esp, "nhg", "tun", "vpn");
	route_set(side->esp, cloud ? "192.168.0.0/16" : "10.0.0.0/16", "nhg");
	route_set(side->esp, cloud ? "10.0.0.0/16" : "192.168.0.0/16", NULL);
	route_set(side->esp, cloud ? "fd01::/64" : "fd00::/64", "nhg");
	route_set(side->esp, cloud ? "fd00::/64" : "fd01::/64", NULL);
}

static inline struct esp_sa_keys keys_of(struct pair *pair, const struct options *options, unsigned direction)
{
	static const uint8_t encryption[] = {16, 24, 32, 20, 36};
	static const uint8_t integrity[] = {0, 20, 32, 48, 64};
	for (unsigned i = 0; i < 64; i++) {
		pair->keys[2 * direction][i] = (uint8_t)(i * 3 + direction * 17 + 1);
		pair->keys[2 * direction + 1][i] = (uint8_t)(i * 5 + direction * 31 + 2);
	}
	return (struct esp_sa_keys){
	    .spi = PAIR_SPI + direction,
	    .encryption = {pair->keys[2 * direction], encryption[options->encryption]},
	    .integrity = {pair->keys[2 * direction + 1], integrity[options->integrity]},
	};
}

static inline void pair_init(struct pair *pair, const struct options *options)
{
	side_init(&pair->a, options, true);
	side_init(&pair->b, options, false);
	pair->row_a = (struct esp_sa_row){
	    .tunnel = "tun",
	    .inbound = keys_of(pair, options, 0),
	    .outbound = keys_of(pair, options, 1),
	    .outbound_in_use = true,
	    .generation = 1,
	    .encryption = options->encryption,
	    .integrity = options->integrity,
	    .udp = options->udp,
	    .extended = options->extended,
	    .local = address_text("198.51.100.17"),
	    .remote = address_text("203.0.113.1"),
	    .local_port = 4500,
	    .remote_port = 4500,
	    .replay_window = options->window,
	};
	pair->row_b = pair->row_a;
	pair->row_b.inbound = pair->row_a.outbound;
	pair->row_b.outbound = pair->row_a.inbound;
	pair->row_b.local = pair->row_a.remote;
	pair->row_b.remote = pair->row_a.local;
	assert_null(esp_sa_set(pair->a.esp, &pair->row_a));
	assert_null(esp_sa_set(pair->b.esp, &pair->row_b));
	esp_worker_register(pair->a.worker);
}

static inline void pair_fini(struct pair *pair)
{
	esp_worker_unregister(pair->a.worker);
	esp_worker_free(&pair->a.worker);
	esp_worker_free(&pair->b.worker);
	esp_free(&pair->a.esp);
	esp_free(&pair->b.esp);
}

static const struct options gcm_udp = {.encryption = ESP_AES_GCM16_128, .udp = true, .window = 1024, .mss = ESP_MSS_AUTO};

// The ESP packets of the worker's burst, one by one.
static inline size_t take_packets(struct esp_worker *worker, struct packet *out, size_t capacity)
{
	size_t count, taken = 0;
	const struct esp_datagram *datagrams = esp_worker_datagrams(worker, &count);
	for (size_t i = 0; i < count; i++) {
		const struct esp_datagram *datagram = &datagrams[i];
		size_t left = datagram->length, packets = 0;
		assert_true(datagram->count <= ESP_SEGMENTS && datagram->length <= ESP_DATAGRAM_MAX);
		for (unsigned v = 0; v < datagram->iov_count; v++) {
			const uint8_t *at = datagram->iov[v].iov_base;
			for (size_t in = datagram->iov[v].iov_len; in > 0;) {
				size_t length = left < datagram->segment ? left : datagram->segment;
				assert_true(length <= in && taken < capacity && length <= 2048);
				memcpy(out[taken].octets, at, length);
				out[taken].length = length;
				out[taken++].tos = datagram->tos;
				at += length;
				in -= length;
				left -= length;
				packets++;
			}
		}
		assert_int_equal(left, 0);
		assert_int_equal(packets, datagram->count);
	}
	return taken;
}

// One frame through `from`; its ESP packets in `out`.
static inline size_t encap(struct side *from, const uint8_t *frame, size_t length, struct packet *out, size_t capacity)
{
	static uint8_t copy[ESP_FRAME_MAX + ESP_TAILROOM];
	memcpy(copy, frame, length);
	esp_worker_begin(from->worker, SECONDS(1));
	esp_encap(from->worker, from->gateway, copy, length);
	esp_worker_end(from->worker);
	size_t count = take_packets(from->worker, out, capacity);
	return count;
}

// One ESP packet through `to`: the octets of the packet for vpn0 (0: none).
static inline size_t decap(struct side *to, const struct packet *packet, uint8_t *out)
{
	static struct packet copy;
	copy = *packet;
	esp_worker_begin(to->worker, SECONDS(1));
	esp_decap(to->worker,
	          &(struct esp_received){
	              .data = copy.octets, .length = copy.length, .from = outer_ipv4(0x010071cb, 4500), .tos = copy.tos});
	esp_worker_end(to->worker);
	size_t count;
	const struct esp_frame *frames = esp_worker_frames(to->worker, &count);
	if (count == 0) {
		return 0;
	}
	size_t length = 0;
	for (unsigned i = 1; i < frames[0].iov_count; i++) {
		memcpy(out + length, frames[0].iov[i].iov_base, frames[0].iov[i].iov_len);
		length += frames[0].iov[i].iov_len;
	}
	return length;
}

static inline uint32_t plain_sum(const uint8_t *data, size_t length, uint32_t sum)
{
	for (size_t i = 0; i + 1 < length; i += 2) {
		sum += (uint32_t)(data[i] << 8 | data[i + 1]);
	}
	if (length % 2) {
		sum += (uint32_t)data[length - 1] << 8;
	}
	while (sum >> 16) {
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static inline void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

static inline uint32_t pseudo(const uint8_t *packet, size_t upper)
{
	bool four = packet[0] >> 4 == 4;
	uint8_t end[4] = {0, four ? packet[9] : packet[6]};
	put16(end + 2, (unsigned)upper);
	return plain_sum(end, 4, plain_sum(packet + (four ? 12 : 8), four ? 8 : 32, 0));
}

// Fills the checksums of an IP packet in, the slow way.
static inline void seal_checksums(uint8_t *packet, size_t length)
{
	bool four = packet[0] >> 4 == 4;
	size_t header = four ? (packet[0] & 15u) * 4u : 40;
	unsigned protocol = four ? packet[9] : packet[6];
	if (four) {
		put16(packet + 10, 0);
		put16(packet + 10, ~plain_sum(packet, header, 0) & 0xffff);
	}
	size_t field = header + (protocol == 6 ? 16 : 6);
	if (protocol == 6 || protocol == 17) {
		put16(packet + field, 0);
		unsigned sum = ~plain_sum(packet + header, length - header, pseudo(packet, length - header)) & 0xffff;
		put16(packet + field, sum == 0 && protocol == 17 ? 0xffff : sum);
	}
}

struct build {
	bool ipv6;
	unsigned protocol, tos, fragment, id, ttl;
	const char *source, *destination; // IPv4 text, or IPv6
	unsigned source_port, destination_port;
	unsigned flags, options; // TCP; octets of options (NOP)
	uint32_t sequence;
	size_t payload;
};

// Builds an IP packet with right checksums. Returns its octets.
static inline size_t build_packet(const struct build *b, uint8_t *out)
{
	struct address source = address_text(b->source), destination = address_text(b->destination);
	size_t header = b->ipv6 ? 40 : 20;
	size_t transport = b->protocol == 6 ? 20 + b->options : b->protocol == 17 ? 8 : 0;
	size_t length = header + transport + b->payload;
	memset(out, 0, header + transport);
	if (b->ipv6) {
		out[0] = (uint8_t)(0x60 | b->tos >> 4);
		out[1] = (uint8_t)(b->tos << 4);
		put16(out + 4, (unsigned)(transport + b->payload));
		out[6] = (uint8_t)b->protocol;
		out[7] = 64;
		memcpy(out + 8, source.octets, 16);
		memcpy(out + 24, destination.octets, 16);
	} else {
		out[0] = 0x45;
		out[1] = (uint8_t)b->tos;
		put16(out + 2, (unsigned)length);
		put16(out + 4, b->id);
		put16(out + 6, b->fragment);
		out[8] = b->ttl ? (uint8_t)b->ttl : 64;
		out[9] = (uint8_t)b->protocol;
		memcpy(out + 12, source.octets, 4);
		memcpy(out + 16, destination.octets, 4);
	}
	uint8_t *upper = out + header;
	if (transport) {
		put16(upper, b->source_port);
		put16(upper + 2, b->destination_port);
	}
	if (b->protocol == 6) {
		put32(upper + 4, b->sequence);
		put32(upper + 8, 0x01020304);
		upper[12] = (uint8_t)((transport / 4) << 4);
		upper[13] = (uint8_t)b->flags;
		put16(upper + 14, 500);
		memset(upper + 20, 1, b->options);
	} else if (b->protocol == 17) {
		put16(upper + 4, (unsigned)(8 + b->payload));
	}
	for (size_t i = 0; i < b->payload; i++) {
		out[header + transport + i] = (uint8_t)(i * 7 + i / 256 + b->sequence);
	}
	seal_checksums(out, length);
	return length;
}

// The same as a frame of vpn0 without offload.
static inline size_t build_frame(const struct build *b, uint8_t *out)
{
	memset(out, 0, ESP_VNET_HEADER);
	return ESP_VNET_HEADER + build_packet(b, out + ESP_VNET_HEADER);
}

static const struct build to_idc = {.protocol = 17,
                                    .source = "10.0.1.5",
                                    .destination = "192.168.3.4",
                                    .source_port = 1000,
                                    .destination_port = 2000,
                                    .payload = 64};

#endif
