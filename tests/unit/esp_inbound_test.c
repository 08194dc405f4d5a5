// What a hostile or moved peer sends: tampering, replays, trailers that lie, spoofed inner addresses.
#include "tests/unit/esp_forge.h"

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

// What two tenants send in one burst: each SA is judged by its own tunnel, and each packet goes to its own border gateway, also
// where addresses, ports and numbers are the same.
static void overlapping_tenants_stay_apart(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	int other_context = 0;
	struct prefix vpc = prefix_text("10.0.0.0/16"), idc = prefix_text("192.168.0.0/16"),
	              far = prefix_text("192.168.9.0/24");
	esp_gateway_set(pair.a.esp, "bgw-2", false, &other_context);
	esp_tunnel_set(pair.a.esp, &(struct esp_tunnel_row){.id = "tun-2",
	                                                    .gateway = "bgw-2",
	                                                    .connection = "vpn-2",
	                                                    .cloud_inside = address_text("169.254.10.1"),
	                                                    .customer_inside = address_text("169.254.10.2")});
	group_set(pair.a.esp, "nhg-2", "tun-2", "vpn-2");
	esp_route_set(pair.a.esp, "bgw-2", &vpc, NULL);
	esp_route_set(pair.a.esp, "bgw-2", &idc, "nhg-2");
	// In the first tenant's table 192.168.9/24 is another connection's.
	group_set(pair.a.esp, "nhg-3", "tun-3", "vpn-3");
	esp_route_set(pair.a.esp, "bgw", &far, "nhg-3");
	struct pair keys = pair;
	keys.row_a.tunnel = "tun-2";
	keys.row_a.inbound.spi = 0x8000;
	keys.row_a.outbound.spi = 0x8001;
	assert_null(esp_sa_set(pair.a.esp, &keys.row_a));
	struct forge forge = forge_new(&pair);
	static uint8_t burst[64][2048];
	struct build build = from_idc;
	build.protocol = 6;
	build.flags = 0x10;
	esp_worker_begin(pair.a.worker, SECONDS(1));
	unsigned sent = 0;
	for (unsigned i = 0; i < 32; i++) {
		uint8_t text[512];
		build.source = i < 16 ? "192.168.3.4" : "192.168.9.4";
		// What one tenant sends continues what the other sent before.
		build.sequence = i * 64;
		build.fragment = 0x4000;
		size_t length = build_packet(&build, text);
		length = with_trailer(text, length, 4);
		crypto_seal(forge.crypto, &(struct crypto_op){.cipher = forge.cipher,
		                                              .esp = burst[sent],
		                                              .plain = text,
		                                              .length = (uint32_t)length,
		                                              .sequence = i / 2 + 1,
		                                              .spi = i % 2 ? 0x8000 : PAIR_SPI});
		esp_decap(pair.a.worker, &(struct esp_received){.data = burst[sent++], .length = 16 + length + 16});
	}
	esp_worker_end(pair.a.worker);
	size_t count;
	unsigned first = 0, second = 0;
	const struct esp_frame *frames = esp_worker_frames(pair.a.worker, &count);
	for (size_t i = 0; i < count; i++) {
		*(frames[i].context == &other_context ? &second : &first) += frames[i].packets;
		assert_true(frames[i].context == &other_context || frames[i].context == &pair.a.context);
	}
	assert_int_equal(first, 8);   // of 192.168.3.4
	assert_int_equal(second, 16); // of both
	assert_int_equal(esp_drops(pair.a.esp, ESP_DROP_INNER_SOURCE), 8);
	forge_free(&forge);
	pair_fini(&pair);
}

// RFC 4301 section 6: routers behind the customer tell of packets that were sent there, from addresses that no prefix covers.
static void icmp_errors_of_routers_behind_the_customer(void **state)
{
	(void)state;
	static const struct {
		const char *source, *to;
		unsigned type;
		const char *quoted_source, *quoted_destination;
		bool passes;
	} cases[] = {
	    {"203.0.113.9", "10.0.1.5", 11, "10.0.1.5", "192.168.3.4", true},
	    {"203.0.113.9", "10.0.1.5", 3, "10.0.1.5", "192.168.3.4", true},
	    {"203.0.113.9", "10.0.1.5", 12, "10.0.1.5", "192.168.3.4", true},
	    {"203.0.113.9", "10.0.1.5", 0, "10.0.1.5", "192.168.3.4", false},  // no error
	    {"203.0.113.9", "10.0.1.5", 5, "10.0.1.5", "192.168.3.4", false},  // a redirect
	    {"203.0.113.9", "10.0.1.6", 11, "10.0.1.5", "192.168.3.4", false}, // to somebody who did not send that
	    {"203.0.113.9", "10.0.1.5", 11, "10.0.1.5", "172.16.0.1", false},  // about another connection's packet
	    {"203.0.113.9", "10.0.1.5", 11, "10.0.1.5", "10.0.7.7", false},    // about the VPC's own
	    {"10.0.1.6", "10.0.1.5", 11, "10.0.1.5", "192.168.3.4", false},    // from an address of the VPC
	    {"172.16.0.1", "10.0.1.5", 11, "10.0.1.5", "192.168.3.4", false},  // from another connection's
	    {"127.0.0.1", "10.0.1.5", 11, "10.0.1.5", "192.168.3.4", false},
	    {"224.0.0.1", "10.0.1.5", 11, "10.0.1.5", "192.168.3.4", false},
	    {"203.0.113.9", "172.16.0.1", 11, "172.16.0.1", "192.168.3.4", false}, // no transit
	    {"192.168.3.9", "10.0.1.5", 11, "8.8.8.8", "9.9.9.9", true},           // from inside the prefix, as ever
	};
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	group_set(pair.a.esp, "nhg-2", "tun-2", "vpn-2");
	route_set(pair.a.esp, "172.16.0.0/12", "nhg-2");
	struct forge forge = forge_new(&pair);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct build quoted = to_idc, build = from_idc;
		quoted.source = cases[i].quoted_source;
		quoted.destination = cases[i].quoted_destination;
		build.protocol = 1;
		build.source = cases[i].source;
		build.destination = cases[i].to;
		build.payload = 8 + 28;
		static uint8_t text[512];
		size_t length = build_packet(&build, text);
		memset(text + 20, 0, 8);
		text[20] = (uint8_t)cases[i].type;
		build_packet(&quoted, plain);
		memcpy(text + 28, plain, 28);
		size_t sent = send_forged(&forge, text, with_trailer(text, length, 4), 0);
		assert_int_equal(sent, cases[i].passes ? length : 0);
		// It vouches for nothing else between the same addresses.
		if (cases[i].passes && i < 3) {
			build.protocol = 17;
			assert_drop(&pair.a, ESP_DROP_INNER_SOURCE, assert_int_equal(send_build(&forge, &build, 0), 0));
		}
	}
	// Too short to say what it is about.
	struct build build = from_idc;
	build.protocol = 1;
	build.source = "203.0.113.9";
	for (size_t payload = 0; payload < 28; payload++) {
		static uint8_t text[512];
		build.payload = payload;
		size_t length = build_packet(&build, text);
		text[20] = 11;
		assert_drop(&pair.a, ESP_DROP_INNER_SOURCE, send_forged(&forge, text, with_trailer(text, length, 4), 0));
	}
	forge_free(&forge);
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
		                                                .from = outer_ipv4(from, i ? 61234 : 4500)});
		esp_worker_end(pair.b.worker);
		struct esp_sa_usage usage = usage_of(&pair.b);
		struct outer seen = i ? outer_ipv4(from, 61234) : (struct outer){0};
		assert_memory_equal(&usage.seen, &seen, sizeof seen);
		assert_int_equal(usage.last_in, SECONDS(9));
	}
	// A late packet from where the peer was says nothing of where it is.
	assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 1), 1);
	assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets + 1, 1), 1);
	for (int i = 1; i >= 0; i--) {
		esp_worker_begin(pair.b.worker, SECONDS(9));
		esp_decap(pair.b.worker, &(struct esp_received){.data = packets[i].octets,
		                                                .length = packets[i].length,
		                                                .from = outer_ipv4(0x090909, i ? 61234 : 4500)});
		esp_worker_end(pair.b.worker);
		assert_int_equal(usage_of(&pair.b).seen.port, 61234);
	}
	// ike says where the peer is now: the same SA, the same numbers, another path.
	struct esp_sa_usage before = usage_of(&pair.b);
	pair.row_b.remote = (struct address){.length = 4};
	memcpy(pair.row_b.remote.octets, usage_of(&pair.b).seen.octets, 4);
	pair.row_b.remote_port = 61234;
	assert_null(esp_sa_set(pair.b.esp, &pair.row_b));
	struct esp_sa_usage after = usage_of(&pair.b);
	assert_int_equal(after.packets_in, before.packets_in);
	assert_int_equal(after.seen.length, 0);
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_bad_icv_moves_nothing),
	    cmocka_unit_test(twice_in_one_burst),
	    cmocka_unit_test(trailers_that_lie),
	    cmocka_unit_test(spoofed_inner_addresses),
	    cmocka_unit_test(overlapping_tenants_stay_apart),
	    cmocka_unit_test(icmp_errors_of_routers_behind_the_customer),
	    cmocka_unit_test(a_moved_peer_is_seen),
	};
	return cmocka_run_group_tests_name("esp_inbound", tests, NULL, NULL);
}
