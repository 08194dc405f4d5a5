// What happens to single packets: fragmentation, ICMP, MSS, ECN, trailers, tampering, spoofing; and every drop counter made to
// count.
#include "tests/unit/esp_pair.h"

#include "services/esp/crypto.h"

static uint8_t frame[ESP_FRAME_MAX], plain[ESP_FRAME_MAX];
static struct packet packets[PACKETS_MAX];

static uint64_t all_drops(const struct side *side)
{
	uint64_t sum = 0;
	for (int i = 0; i < ESP_DROPS; i++) {
		sum += esp_drops(side->esp, i);
	}
	return sum;
}

static struct esp_sa_usage found_usage;
static void keep_usage(void *context, const struct esp_sa_usage *usage)
{
	(void)context;
	found_usage = *usage;
}

static struct esp_sa_usage usage_of(const struct side *side)
{
	memset(&found_usage, 0, sizeof found_usage);
	esp_each_sa(side->esp, ESP_SAS_ALL, keep_usage, NULL);
	return found_usage;
}

// A packet from the customer, made by hand: any plaintext, any trailer.
struct forge {
	struct pair *pair;
	struct crypto_engine *engine;
	struct crypto *crypto;
	struct cipher *cipher;
	uint32_t sequence;
};

static struct forge forge_new(struct pair *pair)
{
	static const uint8_t seed[32] = {5};
	struct forge forge = {.pair = pair, .engine = crypto_engine_new(false), .sequence = 1};
	struct suite suite;
	assert_true(suite_of(pair->row_a.encryption, pair->row_a.integrity, &suite));
	forge.crypto = crypto_new(forge.engine, 0, seed);
	forge.cipher = cipher_new(forge.engine, &suite, &pair->row_a.inbound, true, false);
	return forge;
}

static void forge_free(struct forge *forge)
{
	cipher_free(&forge->cipher);
	crypto_free(&forge->crypto);
	crypto_engine_free(&forge->engine);
}

// `text` with its trailer as it is, padded by the caller. Through side a.
static size_t send_forged(struct forge *forge, const uint8_t *text, size_t length, uint8_t tos)
{
	static struct packet packet;
	crypto_seal(forge->crypto, &(struct crypto_op){.cipher = forge->cipher,
	                                               .esp = packet.octets,
	                                               .plain = text,
	                                               .length = (uint32_t)length,
	                                               .sequence = forge->sequence,
	                                               .spi = forge->pair->row_a.inbound.spi});
	forge->sequence++;
	packet.length = 16 + length + 16;
	packet.tos = tos;
	return decap(&forge->pair->a, &packet, plain);
}

static size_t with_trailer(uint8_t *text, size_t length, uint8_t next_header)
{
	size_t padding = (4 - (length + 2) % 4) % 4;
	for (size_t i = 0; i < padding; i++) {
		text[length + i] = (uint8_t)(i + 1);
	}
	text[length + padding] = (uint8_t)padding;
	text[length + padding + 1] = next_header;
	return length + padding + 2;
}

static const struct build from_idc = {.protocol = 17,
                                      .source = "192.168.3.4",
                                      .destination = "10.0.1.5",
                                      .source_port = 2000,
                                      .destination_port = 1000,
                                      .payload = 64};

static size_t send_build(struct forge *forge, const struct build *build, uint8_t tos)
{
	static uint8_t text[4096];
	size_t length = build_packet(build, text);
	return send_forged(forge, text, with_trailer(text, length, build->ipv6 ? 41 : 4), tos);
}

#define assert_drop(side, reason, call)                                                                                        \
	do {                                                                                                                   \
		uint64_t before_ = esp_drops((side)->esp, reason), all_ = all_drops(side);                                     \
		call;                                                                                                          \
		assert_int_equal(esp_drops((side)->esp, reason), before_ + 1);                                                 \
		assert_int_equal(all_drops(side), all_ + 1);                                                                   \
	} while (0)

// ---- sizes ----

static void tunnel_mtu_by_arithmetic(void **state)
{
	(void)state;
	static const struct {
		enum esp_encryption encryption;
		enum esp_integrity integrity;
		bool udp;
		unsigned mtu;
	} cases[] = {
	    {ESP_AES_GCM16_128, ESP_INTEGRITY_NONE, true, 1438},   // 1500-20-8-8-8-16 = 1440
	    {ESP_AES_GCM16_256, ESP_INTEGRITY_NONE, false, 1446},  // 1448
	    {ESP_AES_CBC_128, ESP_HMAC_SHA1_96, true, 1422},       // 1500-20-8-8-16-12 = 1436 -> 1424
	    {ESP_AES_CBC_256, ESP_HMAC_SHA2_256_128, false, 1438}, // 1440
	    {ESP_AES_CBC_256, ESP_HMAC_SHA2_512_256, true, 1406},  // 1416 -> 1408
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct pair pair;
		pair_init(&pair, &(struct options){
		                     .encryption = cases[i].encryption, .integrity = cases[i].integrity, .udp = cases[i].udp});
		assert_int_equal(esp_tunnel_mtu(pair.a.esp, "tun"), cases[i].mtu);
		// The longest packet fits the outer MTU, and one octet more does not go whole.
		struct build build = to_idc;
		build.fragment = 0x4000;
		build.payload = cases[i].mtu - 28;
		assert_int_equal(encap(&pair.a, frame, build_frame(&build, frame), packets, 8), 1);
		assert_true(packets[0].length + 20 + (cases[i].udp ? 8u : 0) <= 1500);
		assert_int_equal(decap(&pair.b, &packets[0], plain), cases[i].mtu);
		build.payload++;
		assert_int_equal(encap(&pair.a, frame, build_frame(&build, frame), packets, 8), 0);
		pair_fini(&pair);
	}
}

static void fragments_before_encryption(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	for (unsigned payload = 1420; payload < 60000; payload += 1777) {
		struct build build = to_idc;
		build.payload = payload;
		build.id = payload;
		size_t length = build_frame(&build, frame);
		size_t count = encap(&pair.a, frame, length, packets, PACKETS_MAX);
		assert_true(count >= 2);
		static uint8_t whole[65536];
		size_t held = 0;
		for (size_t i = 0; i < count; i++) {
			size_t n = decap(&pair.b, &packets[i], plain);
			assert_true(n > 20 && n <= 1438);
			assert_int_equal(plain_sum(plain, 20, 0), 0xffff);
			assert_int_equal(plain[4] << 8 | plain[5], payload & 0xffff);
			assert_int_equal((plain[6] << 8 | plain[7]) & 0x1fff, held / 8);
			assert_int_equal((plain[6] & 0x20) != 0, i + 1 < count);
			memcpy(whole + held, plain + 20, n - 20);
			held += n - 20;
		}
		assert_int_equal(held, length - ESP_VNET_HEADER - 20);
		assert_memory_equal(whole, frame + ESP_VNET_HEADER + 20, held);
	}
	assert_int_equal(all_drops(&pair.a) + all_drops(&pair.b), 0);
	pair_fini(&pair);
}

static void icmp_says_the_mtu(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		struct build build = {.ipv6 = ipv6,
		                      .protocol = 17,
		                      .source = ipv6 ? "fd00::5" : "10.0.1.5",
		                      .destination = ipv6 ? "fd01::7" : "192.168.3.4",
		                      .fragment = 0x4000,
		                      .payload = 1472};
		size_t length = build_frame(&build, frame);
		assert_drop(&pair.a, ESP_DROP_TOO_BIG, assert_int_equal(encap(&pair.a, frame, length, packets, 8), 0));
		size_t count;
		const struct esp_frame *frames = esp_worker_frames(pair.a.worker, &count);
		assert_int_equal(count, 1);
		assert_ptr_equal(frames->context, &pair.a.context);
		const uint8_t *reply = frames->iov[1].iov_base;
		const uint8_t *icmp = reply + (ipv6 ? 40 : 20);
		size_t upper = frames->length - (ipv6 ? 40 : 20);
		assert_int_equal(icmp[0], ipv6 ? 2 : 3);
		assert_int_equal(icmp[1], ipv6 ? 0 : 4);
		assert_int_equal(icmp[6] << 8 | icmp[7], 1438);
		assert_int_equal(plain_sum(icmp, upper, ipv6 ? pseudo(reply, upper) : 0), 0xffff);
		assert_memory_equal(icmp + 8, frame + ESP_VNET_HEADER, upper - 8);
		assert_true(frames->length <= (ipv6 ? 1280 : 576));
		if (!ipv6) {
			assert_memory_equal(reply + 12, ((uint8_t[]){169, 254, 10, 2, 10, 0, 1, 5}), 8);
			assert_int_equal(plain_sum(reply, 20, 0), 0xffff);
		}
	}
	// No error about an error, and no more than the rate.
	struct build error = to_idc;
	error.protocol = 1;
	error.fragment = 0x4000;
	error.payload = 1600;
	size_t length = build_frame(&error, frame), count;
	frame[ESP_VNET_HEADER + 20] = 3;
	encap(&pair.a, frame, length, packets, 8);
	esp_worker_frames(pair.a.worker, &count);
	assert_int_equal(count, 0);
	size_t replies = 0;
	for (int i = 0; i < 3000; i++) {
		struct build build = to_idc;
		build.fragment = 0x4000;
		build.payload = 1472;
		encap(&pair.a, frame, build_frame(&build, frame), packets, 8);
		esp_worker_frames(pair.a.worker, &count);
		replies += count;
	}
	assert_in_range(replies, 900, 1000);
	pair_fini(&pair);
}

static unsigned mss_of(const uint8_t *packet)
{
	return (unsigned)(packet[20 + 22] << 8 | packet[20 + 23]);
}

static void mss_is_clamped_both_ways(void **state)
{
	(void)state;
	static const struct {
		uint16_t setting;
		unsigned offered, wanted;
	} cases[] = {{ESP_MSS_AUTO, 1460, 1398}, {ESP_MSS_AUTO, 1000, 1000}, {1200, 1460, 1200}, {ESP_MSS_OFF, 1460, 1460}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct options options = gcm_udp;
		options.mss = cases[i].setting;
		struct pair pair;
		pair_init(&pair, &options);
		struct build syn = to_idc;
		syn.protocol = 6;
		syn.flags = 2;
		syn.payload = 0;
		syn.options = 8;
		for (int odd = 0; odd < 2; odd++) {
			size_t length = build_frame(&syn, frame);
			uint8_t *option = frame + ESP_VNET_HEADER + 40;
			memcpy(option, odd ? "\x01\x02\x04\0\0\x01\x01" : "\x02\x04\0\0\x01\x01\x01", 7);
			put16(option + (odd ? 3 : 2), cases[i].offered);
			seal_checksums(frame + ESP_VNET_HEADER, length - ESP_VNET_HEADER);
			assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
			size_t n = decap(&pair.b, &packets[0], plain);
			assert_int_equal(n, 48);
			assert_int_equal(odd ? (unsigned)(plain[43] << 8 | plain[44]) : mss_of(plain), cases[i].wanted);
			assert_int_equal(plain_sum(plain + 20, n - 20, pseudo(plain, n - 20)), 0xffff);
		}
		// Inbound: the customer's SYN, through a forged packet, so that only our side clamps.
		struct forge forge = forge_new(&pair);
		uint8_t text[128];
		struct build back = from_idc;
		back.protocol = 6;
		back.flags = 0x12;
		back.payload = 0;
		back.options = 4;
		size_t length = build_packet(&back, text);
		memcpy(text + 40, "\x02\x04", 2);
		put16(text + 42, cases[i].offered);
		seal_checksums(text, length);
		assert_int_equal(send_forged(&forge, text, with_trailer(text, length, 4), 0), 44);
		assert_int_equal(mss_of(plain), cases[i].wanted);
		assert_int_equal(plain_sum(plain + 20, 24, pseudo(plain, 24)), 0xffff);
		forge_free(&forge);
		pair_fini(&pair);
	}
}

// ---- RFC 6040 ----

static void ecn_by_the_table(void **state)
{
	(void)state;
	// RFC 6040 figure 4, [inner][outer] with Not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3; 9 is drop.
	static const uint8_t wanted[4][4] = {{0, 0, 0, 9}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct forge forge = forge_new(&pair);
	for (unsigned inner = 0; inner < 4; inner++) {
		struct build out = to_idc;
		out.tos = 0xb8 | inner;
		assert_int_equal(encap(&pair.a, frame, build_frame(&out, frame), packets, 8), 1);
		assert_int_equal(packets[0].tos, 0xb8 | inner);
		for (unsigned outer = 0; outer < 4; outer++) {
			for (int ipv6 = 0; ipv6 < 2; ipv6++) {
				struct build build = from_idc;
				build.ipv6 = ipv6;
				build.source = ipv6 ? "fd01::7" : build.source;
				build.destination = ipv6 ? "fd00::5" : build.destination;
				build.tos = 0x28 | inner;
				size_t n;
				if (wanted[inner][outer] == 9) {
					assert_drop(&pair.a, ESP_DROP_ECN, n = send_build(&forge, &build, (uint8_t)outer));
					assert_int_equal(n, 0);
					continue;
				}
				n = send_build(&forge, &build, (uint8_t)outer);
				assert_true(n > 0);
				unsigned tos = ipv6 ? ((unsigned)plain[0] << 4 | plain[1] >> 4) & 0xff : plain[1];
				assert_int_equal(tos, 0x28u | wanted[inner][outer]);
				if (!ipv6) {
					assert_int_equal(plain_sum(plain, 20, 0), 0xffff);
				}
			}
		}
	}
	forge_free(&forge);
	pair_fini(&pair);
}

// ---- what must not pass ----

static void a_bad_icv_moves_nothing(void **state)
{
	(void)state;
	static const struct options kinds[] = {
	    {.encryption = ESP_AES_GCM16_256, .udp = true, .window = 64},
	    {.encryption = ESP_AES_CBC_128, .integrity = ESP_HMAC_SHA2_256_128, .window = 64},
	    {.encryption = ESP_AES_GCM16_128, .openssl = true, .extended = true, .window = 64},
	};
	for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
		struct pair pair;
		pair_init(&pair, &kinds[k]);
		struct build build = to_idc;
		for (int i = 0; i < 3; i++) {
			assert_int_equal(encap(&pair.a, frame, build_frame(&build, frame), &packets[i], 1), 1);
		}
		assert_true(decap(&pair.b, &packets[0], plain) > 0);
		struct esp_sa_usage before = usage_of(&pair.b);
		assert_int_equal(before.packets_in, 1);
		for (size_t at = 4; at < packets[1].length; at++) {
			// Every octet but the SPI: among them sequence numbers far ahead, which must not slide the window.
			packets[1].octets[at] ^= 0x40;
			assert_int_equal(decap(&pair.b, &packets[1], plain), 0);
			packets[1].octets[at] ^= 0x40;
		}
		struct esp_sa_usage after = usage_of(&pair.b);
		assert_int_equal(after.packets_in, before.packets_in);
		assert_int_equal(after.bytes_in, before.bytes_in);
		assert_int_equal(after.last_in, before.last_in);
		assert_true(decap(&pair.b, &packets[1], plain) > 0);
		assert_drop(&pair.b, ESP_DROP_REPLAY, assert_int_equal(decap(&pair.b, &packets[1], plain), 0));
		assert_true(decap(&pair.b, &packets[2], plain) > 0);
		pair_fini(&pair);
	}
}

static void twice_in_one_burst(void **state)
{
	(void)state;
	for (int cbc = 0; cbc < 2; cbc++) {
		struct options options = gcm_udp;
		if (cbc) {
			options.encryption = ESP_AES_CBC_256;
			options.integrity = ESP_HMAC_SHA1_96;
		}
		struct pair pair;
		pair_init(&pair, &options);
		struct build build = to_idc;
		assert_int_equal(encap(&pair.a, frame, build_frame(&build, frame), packets, 8), 1);
		static uint8_t burst[4096];
		size_t n = packets[0].length, count;
		for (int i = 0; i < 4; i++) {
			memcpy(burst + (size_t)i * n, packets[0].octets, n);
		}
		esp_worker_begin(pair.b.worker, SECONDS(1));
		esp_decap(pair.b.worker, &(struct esp_received){.data = burst, .length = 4 * n, .segment = n});
		esp_worker_end(pair.b.worker);
		esp_worker_frames(pair.b.worker, &count);
		assert_int_equal(count, 1);
		assert_int_equal(esp_drops(pair.b.esp, ESP_DROP_REPLAY), 3);
		pair_fini(&pair);
	}
}

static void trailers_that_lie(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct forge forge = forge_new(&pair);
	uint8_t text[512];
	size_t length = build_packet(&from_idc, text);
	// Longer padding than needed is right as long as it counts (traffic flow confidentiality in the small).
	for (unsigned extra = 0; extra < 252; extra += 4) {
		size_t padding = (4 - (length + 2) % 4) % 4 + extra;
		for (size_t i = 0; i < padding; i++) {
			text[length + i] = (uint8_t)(i + 1);
		}
		text[length + padding] = (uint8_t)padding;
		text[length + padding + 1] = 4;
		assert_int_equal(send_forged(&forge, text, length + padding + 2, 0), length);
		if (padding > 0) {
			text[length + padding / 2] ^= 1;
			assert_drop(&pair.a, ESP_DROP_PADDING,
			            assert_int_equal(send_forged(&forge, text, length + padding + 2, 0), 0));
		}
	}
	// Padding longer than the packet.
	memset(text, 0, 8);
	memcpy(text, "\x01\x02\xff\x04", 4);
	assert_drop(&pair.a, ESP_DROP_PADDING, send_forged(&forge, text, 4, 0));
	// Nothing but a trailer.
	memcpy(text, "\x01\x02\x02\x04", 4);
	assert_drop(&pair.a, ESP_DROP_INNER_MALFORMED, send_forged(&forge, text, 4, 0));
	memcpy(text, "\x01\x02\x02\x3b", 4);
	assert_drop(&pair.a, ESP_DROP_DUMMY, send_forged(&forge, text, 4, 0));
	memcpy(text, "\x01\x02\x02\x06", 4);
	assert_drop(&pair.a, ESP_DROP_NEXT_HEADER, send_forged(&forge, text, 4, 0));
	// TFC padding behind the inner packet is cut off (RFC 4303 section 2.7).
	length = build_packet(&from_idc, text);
	memset(text + length, 0xaa, 100);
	assert_int_equal(send_forged(&forge, text, with_trailer(text, length + 100, 4), 0), length);
	// IPv6 said, IPv4 inside; a header longer than the packet; a length that is too long.
	length = build_packet(&from_idc, text);
	assert_drop(&pair.a, ESP_DROP_INNER_MALFORMED, send_forged(&forge, text, with_trailer(text, length, 41), 0));
	text[0] = 0x4f;
	put16(text + 2, 40);
	assert_drop(&pair.a, ESP_DROP_INNER_MALFORMED, send_forged(&forge, text, with_trailer(text, 40, 4), 0));
	length = build_packet(&from_idc, text);
	put16(text + 2, (unsigned)length + 1);
	assert_drop(&pair.a, ESP_DROP_INNER_MALFORMED, send_forged(&forge, text, with_trailer(text, length, 4), 0));
	forge_free(&forge);
	pair_fini(&pair);
}

static void spoofed_inner_addresses(void **state)
{
	(void)state;
	static const struct {
		const char *source, *destination;
		bool transit;
		enum esp_drop reason; // ESP_DROPS: passes
	} cases[] = {
	    {"192.168.3.4", "10.0.1.5", false, ESP_DROPS},
	    {"172.16.0.1", "10.0.1.5", false, ESP_DROP_INNER_SOURCE},         // another connection's
	    {"8.8.8.8", "10.0.1.5", false, ESP_DROP_INNER_SOURCE},            // nobody's
	    {"10.0.1.6", "10.0.1.5", false, ESP_DROP_INNER_SOURCE},           // the VPC's own
	    {"192.168.3.4", "172.16.0.1", false, ESP_DROP_INNER_DESTINATION}, // no transit
	    {"192.168.3.4", "172.16.0.1", true, ESP_DROPS},                   // transit
	    {"192.168.3.4", "192.168.9.9", true, ESP_DROP_INNER_DESTINATION}, // back where it came from
	    {"192.168.3.4", "8.8.8.8", true, ESP_DROP_INNER_DESTINATION},
	    {"169.254.10.2", "169.254.10.1", false, ESP_DROPS}, // BGP
	    {"169.254.10.2", "10.0.1.5", false, ESP_DROP_INNER_DESTINATION},
	    {"169.254.20.2", "169.254.10.1", false, ESP_DROP_INNER_SOURCE}, // another tunnel's customer address
	    {"169.254.10.2", "169.254.20.1", false, ESP_DROP_INNER_DESTINATION},
	    {"192.168.3.4", "169.254.10.1", false, ESP_DROP_INNER_DESTINATION},
	};
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	esp_tunnel_set(pair.a.esp, &(struct esp_tunnel_row){.id = "tun-2",
	                                                    .gateway = "bgw",
	                                                    .connection = "vpn-2",
	                                                    .cloud_inside = address_text("169.254.20.1"),
	                                                    .customer_inside = address_text("169.254.20.2")});
	group_set(pair.a.esp, "nhg-2", "tun-2", "vpn-2");
	route_set(pair.a.esp, "172.16.0.0/12", "nhg-2");
	struct forge forge = forge_new(&pair);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		esp_gateway_set(pair.a.esp, "bgw", cases[i].transit, &pair.a.context);
		struct build build = from_idc;
		build.source = cases[i].source;
		build.destination = cases[i].destination;
		if (cases[i].reason == ESP_DROPS) {
			assert_true(send_build(&forge, &build, 0) > 0);
		} else {
			assert_drop(&pair.a, cases[i].reason, assert_int_equal(send_build(&forge, &build, 0), 0));
		}
	}
	forge_free(&forge);
	pair_fini(&pair);
}

static void from_the_vpc_into_inside_addresses(void **state)
{
	(void)state;
	static const struct {
		const char *source, *destination;
		enum esp_drop reason;
	} cases[] = {
	    {"169.254.10.1", "169.254.10.2", ESP_DROPS},       // our own BGP
	    {"169.254.10.1", "192.168.3.4", ESP_DROPS},        // our own ICMP
	    {"10.0.1.5", "169.254.10.2", ESP_DROP_LINK_LOCAL}, // a VPC host to the customer's router
	    {"169.254.9.9", "192.168.3.4", ESP_DROP_LINK_LOCAL}, {"169.254.10.1", "169.254.99.2", ESP_DROP_LINK_LOCAL},
	    {"10.0.1.5", "10.0.7.7", ESP_DROP_NOT_TUNNEL},       {"10.0.1.5", "8.8.8.8", ESP_DROP_NO_ROUTE},
	};
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct build build = to_idc;
		build.source = cases[i].source;
		build.destination = cases[i].destination;
		size_t length = build_frame(&build, frame);
		if (cases[i].reason == ESP_DROPS) {
			assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
		} else {
			assert_drop(&pair.a, cases[i].reason, encap(&pair.a, frame, length, packets, 8));
		}
	}
	pair_fini(&pair);
}

// ---- the rest of the counters ----

static void receive(struct side *side, const void *octets, size_t length)
{
	static struct packet packet;
	memcpy(packet.octets, octets, length);
	packet.length = length;
	packet.tos = 0;
	assert_int_equal(decap(side, &packet, plain), 0);
}

static void outer_drops(void **state)
{
	(void)state;
	struct pair pair;
	struct options options = gcm_udp;
	options.workers = 2;
	pair_init(&pair, &options);
	uint8_t junk[64] = {0, 0, 0x10, 0, 0, 0, 0, 1};
	assert_drop(&pair.a, ESP_DROP_KEEPALIVE, receive(&pair.a, "\xff", 1));
	assert_drop(&pair.a, ESP_DROP_SHORT, receive(&pair.a, "\xfe", 1));
	assert_drop(&pair.a, ESP_DROP_SHORT, receive(&pair.a, junk, 7));
	assert_drop(&pair.a, ESP_DROP_SHORT, receive(&pair.a, junk, 0));
	assert_drop(&pair.a, ESP_DROP_SHORT, receive(&pair.a, junk, 35)); // no payload
	assert_drop(&pair.a, ESP_DROP_SHORT, receive(&pair.a, junk, 37)); // not on four octets
	assert_drop(&pair.a, ESP_DROP_AUTHENTICATION, receive(&pair.a, junk, 36));
	junk[2] = 0;
	assert_drop(&pair.a, ESP_DROP_NON_ESP, receive(&pair.a, junk, 64));
	junk[2] = 0x77;
	assert_drop(&pair.a, ESP_DROP_NO_SA, receive(&pair.a, junk, 64));
	put32(junk, PAIR_SPI + 1); // odd: worker 1's
	assert_drop(&pair.b, ESP_DROP_WRONG_WORKER, receive(&pair.b, junk, 64));
	pair_fini(&pair);
}

static void table_drops(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	size_t length = build_frame(&to_idc, frame);
	assert_int_equal(encap(&pair.b, frame, 0, packets, 8), 0);
	assert_int_equal(esp_drops(pair.b.esp, ESP_DROP_VPN_MALFORMED), 1);
	// The gateway that a packet came for goes while it is under way.
	assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
	esp_gateway_remove(pair.b.esp, "bgw");
	assert_drop(&pair.b, ESP_DROP_NO_TUNNEL, assert_int_equal(decap(&pair.b, &packets[0], plain), 0));
	pair.b.gateway = esp_gateway_set(pair.b.esp, "bgw", false, &pair.b.context);
	assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
	esp_tunnel_remove(pair.b.esp, "tun");
	assert_drop(&pair.b, ESP_DROP_NO_TUNNEL, assert_int_equal(decap(&pair.b, &packets[0], plain), 0));
	// No outbound SA; no member; no group.
	pair.row_a.outbound_in_use = false;
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_drop(&pair.a, ESP_DROP_NO_OUTBOUND_SA, encap(&pair.a, frame, length, packets, 8));
	group_set(pair.a.esp, "nhg", NULL, "vpn");
	assert_drop(&pair.a, ESP_DROP_NO_MEMBER, encap(&pair.a, frame, length, packets, 8));
	esp_group_remove(pair.a.esp, "nhg");
	assert_drop(&pair.a, ESP_DROP_NO_MEMBER, encap(&pair.a, frame, length, packets, 8));
	pair_fini(&pair);
}

static void frames_from_vpn0_that_lie(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct build build = to_idc;
	build.protocol = 6;
	build.flags = 0x10;
	build.payload = 3000;
	size_t length = build_frame(&build, frame);
	// {flags, type, segment, start, offset}
	static const unsigned lies[][5] = {
	    {0, 1, 1000, 20, 16}, {1, 1, 0, 20, 16},   {1, 1, 1000, 21, 16}, {1, 1, 1000, 20, 6},
	    {1, 4, 1000, 20, 16}, {1, 5, 1000, 20, 6}, {1, 3, 1000, 20, 16}, {1, 0, 0, 4000, 16},
	    {1, 0, 0, 20, 65535}, {1, 0, 0, 0, 10},    {1, 1, 1, 20, 16},
	};
	for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
		frame[0] = (uint8_t)lies[i][0];
		frame[1] = (uint8_t)lies[i][1];
		for (int k = 0; k < 3; k++) {
			frame[4 + 2 * k] = (uint8_t)lies[i][2 + k];
			frame[5 + 2 * k] = (uint8_t)(lies[i][2 + k] >> 8);
		}
		assert_drop(&pair.a, ESP_DROP_OFFLOAD, assert_int_equal(encap(&pair.a, frame, length, packets, 8), 0));
	}
	memset(frame, 0, ESP_VNET_HEADER);
	put16(frame + ESP_VNET_HEADER + 2, 9000);
	assert_drop(&pair.a, ESP_DROP_VPN_MALFORMED, encap(&pair.a, frame, length, packets, 8));
	// A burst that is not sent in time: the worker's buffers fill, and what does not fit is counted.
	length = build_frame(&to_idc, frame);
	static uint8_t copy[ESP_FRAME_MAX];
	esp_worker_begin(pair.a.worker, SECONDS(1));
	while (esp_worker_ready(pair.a.worker)) {
		memcpy(copy, frame, length);
		esp_encap(pair.a.worker, pair.a.gateway, copy, length);
	}
	memcpy(copy, frame, length);
	assert_drop(&pair.a, ESP_DROP_NO_SPACE, esp_encap(pair.a.worker, pair.a.gateway, copy, length));
	esp_worker_end(pair.a.worker);
	// What only the shell meets.
	assert_drop(&pair.a, ESP_DROP_TRUNCATED, esp_worker_drop(pair.a.worker, ESP_DROP_TRUNCATED, 1));
	assert_drop(&pair.a, ESP_DROP_SEND_FULL, esp_worker_drop(pair.a.worker, ESP_DROP_SEND_FULL, 1));
	assert_drop(&pair.a, ESP_DROP_SEND_FAILED, esp_worker_drop(pair.a.worker, ESP_DROP_SEND_FAILED, 1));
	assert_drop(&pair.a, ESP_DROP_WRITE_FAILED, esp_worker_drop(pair.a.worker, ESP_DROP_WRITE_FAILED, 1));
	pair_fini(&pair);
}

static void a_moved_peer_is_seen(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
		esp_worker_begin(pair.b.worker, SECONDS(9));
		uint32_t from;
		memcpy(&from, (uint8_t[]){198, 51, 100, 17}, 4);
		esp_decap(pair.b.worker, &(struct esp_received){.data = packets[0].octets,
		                                                .length = packets[0].length,
		                                                .address = from,
		                                                .port = i ? 61234 : 4500});
		esp_worker_end(pair.b.worker);
		struct esp_sa_usage usage = usage_of(&pair.b);
		assert_int_equal(usage.seen_port, i ? 61234 : 0);
		assert_int_equal(usage.seen_address, i ? from : 0);
		assert_int_equal(usage.last_in, SECONDS(9));
	}
	// ike says where the peer is now: the same SA, the same numbers, another path.
	struct esp_sa_usage before = usage_of(&pair.b);
	pair.row_b.remote_port = 61234;
	assert_null(esp_sa_set(pair.b.esp, &pair.row_b));
	struct esp_sa_usage after = usage_of(&pair.b);
	assert_int_equal(after.packets_in, before.packets_in);
	assert_int_equal(after.seen_port, 0);
	pair_fini(&pair);
}

static void count_calls(void *context, const struct esp_sa_usage *usage)
{
	(void)usage;
	++*(int *)context;
}

static void count_tunnels(void *context, const struct esp_tunnel_usage *usage)
{
	(void)usage;
	++*(int *)context;
}

static void only_what_changed_is_told(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	for (int round = 0; round < 3; round++) {
		int sas = 0, counters = 0;
		esp_each_sa(pair.a.esp, ESP_SAS_CHANGED, count_calls, &sas);
		esp_each_tunnel(pair.a.esp, true, count_tunnels, &counters);
		assert_int_equal(sas, round != 1); // the first time all
		assert_int_equal(counters, round != 1);
		if (round == 1) {
			assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
		}
	}
	// A peer that is sent to and sends nothing is silent, and told of once.
	int silent = 0;
	esp_each_sa(pair.a.esp, ESP_SAS_SILENT, count_calls, &silent);
	assert_int_equal(silent, 0);
	assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
	esp_each_sa(pair.a.esp, ESP_SAS_SILENT, count_calls, &silent);
	esp_each_sa(pair.a.esp, ESP_SAS_SILENT, count_calls, &silent);
	esp_each_sa(pair.a.esp, ESP_SAS_CHANGED, count_calls, &silent);
	assert_int_equal(silent, 1);
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tunnel_mtu_by_arithmetic),
	    cmocka_unit_test(fragments_before_encryption),
	    cmocka_unit_test(icmp_says_the_mtu),
	    cmocka_unit_test(mss_is_clamped_both_ways),
	    cmocka_unit_test(ecn_by_the_table),
	    cmocka_unit_test(a_bad_icv_moves_nothing),
	    cmocka_unit_test(twice_in_one_burst),
	    cmocka_unit_test(trailers_that_lie),
	    cmocka_unit_test(spoofed_inner_addresses),
	    cmocka_unit_test(from_the_vpc_into_inside_addresses),
	    cmocka_unit_test(outer_drops),
	    cmocka_unit_test(table_drops),
	    cmocka_unit_test(frames_from_vpn0_that_lie),
	    cmocka_unit_test(a_moved_peer_is_seen),
	    cmocka_unit_test(only_what_changed_is_told),
	};
	return cmocka_run_group_tests_name("esp_path", tests, NULL, NULL);
}
