// What happens to single packets on their way out and in: sizes, fragments, ICMP, MSS, ECN.
#include "tests/unit/esp_forge.h"

#include "services/esp/worker.h"

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

// RFC 791 section 3.1: options with the copied flag go into every fragment, the others into the first only.
static void fragments_carry_copied_options(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct build build = to_idc;
	build.payload = 4000;
	size_t length = build_packet(&build, plain);
	uint8_t *ip = frame + ESP_VNET_HEADER;
	memset(frame, 0, ESP_VNET_HEADER);
	memcpy(ip, plain, 20);
	// A no-operation, a record route (7, not copied), a router alert (0x94, copied), the end.
	static const uint8_t options[16] = {1, 7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0, 0, 0, 0};
	memcpy(ip + 20, options, sizeof options);
	memcpy(ip + 36, plain + 20, length - 20);
	ip[0] = 0x49;
	put16(ip + 2, (unsigned)length + 16);
	seal_checksums(ip, length + 16);
	size_t count = encap(&pair.a, frame, ESP_VNET_HEADER + length + 16, packets, 8);
	assert_true(count >= 3);
	for (size_t i = 0; i < count; i++) {
		size_t n = decap(&pair.b, &packets[i], plain);
		assert_true(n > 24);
		assert_int_equal(plain_sum(plain, (plain[0] & 15u) * 4u, 0), 0xffff);
		assert_int_equal(plain[0], i == 0 ? 0x49 : 0x46);
		assert_memory_equal(plain + 20, i == 0 ? options : options + 8, i == 0 ? 16 : 4);
	}
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
	pair_fini(&pair);
}

static size_t answers(struct side *side, const struct build *build, unsigned first_of_upper)
{
	size_t length = build_frame(build, frame), count;
	if (build->protocol != 17) {
		frame[ESP_VNET_HEADER + (build->ipv6 ? 40 : 20)] = (uint8_t)first_of_upper;
	}
	encap(side, frame, length, packets, 8);
	esp_worker_frames(side->worker, &count);
	return count;
}

// RFC 1122 section 3.2.2, RFC 4443 section 2.4 e.
static void icmp_only_where_it_may_answer(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct build build = to_idc;
	build.fragment = 0x4000;
	build.payload = 1600;
	assert_int_equal(answers(&pair.a, &build, 0), 1);
	static const char *const nobody[] = {"0.0.0.0", "0.1.2.3", "224.0.0.5", "255.255.255.255"};
	for (size_t i = 0; i < sizeof nobody / sizeof nobody[0]; i++) {
		build.source = nobody[i];
		assert_int_equal(answers(&pair.a, &build, 0), 0);
	}
	build.source = to_idc.source;
	build.fragment = 0x4000 | 100; // a later fragment
	assert_int_equal(answers(&pair.a, &build, 0), 0);
	build.fragment = 0x4000;
	route_set(pair.a.esp, "239.1.2.0/24", "nhg");
	build.destination = "239.1.2.3";
	assert_int_equal(answers(&pair.a, &build, 0), 0);
	build.destination = to_idc.destination;
	build.protocol = 1;
	for (unsigned type = 0; type < 20; type++) {
		bool error = type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
		bool query = type == 0 || type == 8 || type >= 13;
		if (error || query) {
			assert_int_equal(answers(&pair.a, &build, type), query);
		}
	}
	build = (struct build){.ipv6 = true, .protocol = 58, .source = "fd00::5", .destination = "fd01::7", .payload = 1600};
	for (unsigned type = 1; type < 256; type += 3) {
		assert_int_equal(answers(&pair.a, &build, type), type >= 128);
	}
	static const char *const nobody6[] = {"::", "ff02::1"};
	for (size_t i = 0; i < sizeof nobody6 / sizeof nobody6[0]; i++) {
		build.source = nobody6[i];
		assert_int_equal(answers(&pair.a, &build, 128), 0);
	}
	pair_fini(&pair);
}

// One tunnel's flood of packets that are too big takes no answer from another tunnel.
static void icmp_has_a_rate_for_each_tunnel(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct esp_sa_row row = pair.row_a;
	row.tunnel = "tun-2";
	row.inbound.spi = row.outbound.spi = 0x7000;
	pair.keys[0][0] ^= 1;
	assert_null(esp_sa_set(pair.a.esp, &row));
	group_set(pair.a.esp, "nhg-2", "tun-2", "vpn-2");
	route_set(pair.a.esp, "172.16.0.0/12", "nhg-2");
	struct build build = to_idc;
	build.fragment = 0x4000;
	build.payload = 1600;
	size_t replies = 0;
	for (int i = 0; i < 1000; i++) {
		replies += answers(&pair.a, &build, 0);
	}
	assert_in_range(replies, 50, 200);
	assert_int_equal(esp_drops(pair.a.esp, ESP_DROP_TOO_BIG), replies);
	assert_int_equal(esp_drops(pair.a.esp, ESP_DROP_TOO_BIG_UNANSWERED), 1000 - replies);
	build.destination = "172.16.0.1";
	for (int i = 0; i < 50; i++) {
		assert_int_equal(answers(&pair.a, &build, 0), 1);
	}
	pair_fini(&pair);
}

// RFC 8200 section 5: an IPv6 link takes 1,280 octets, whatever is below it.
static void ipv6_has_its_smallest_mtu(void **state)
{
	(void)state;
	struct options options = gcm_udp;
	options.outer_mtu = 1200;
	struct pair pair;
	pair_init(&pair, &options);
	assert_true(esp_tunnel_mtu(pair.a.esp, "tun") < 1280);
	struct build build = {
	    .ipv6 = true, .protocol = 17, .source = "fd00::5", .destination = "fd01::7", .payload = 1280 - 48};
	assert_int_equal(encap(&pair.a, frame, build_frame(&build, frame), packets, 8), 1);
	assert_int_equal(decap(&pair.b, &packets[0], plain), 1280);
	build.payload++;
	assert_int_equal(answers(&pair.a, &build, 0), 1);
	size_t count;
	const uint8_t *icmp = (const uint8_t *)esp_worker_frames(pair.a.worker, &count)->iov[1].iov_base + 40;
	assert_int_equal(icmp[6] << 8 | icmp[7], 1280);
	pair_fini(&pair);
}

// Every octet of options that there may be, the smallest segments, the longest IV and ICV: what one frame becomes fits what is
// kept free for it.
static void the_longest_burst_fits(void **state)
{
	(void)state;
	struct options options = gcm_udp;
	options.encryption = ESP_AES_CBC_256;
	options.integrity = ESP_HMAC_SHA2_512_256;
	struct pair pair;
	pair_init(&pair, &options);
	struct build build = to_idc;
	build.protocol = 6;
	build.flags = 0x10;
	build.options = 40;
	build.payload = 65000;
	size_t length = build_packet(&build, plain);
	// Forty octets of IP options in between: a record route (RFC 791) that is full.
	uint8_t *ip = frame + ESP_VNET_HEADER;
	memcpy(ip, plain, 20);
	memset(ip + 20, 1, 40);
	memcpy(ip + 60, plain + 20, length - 20);
	ip[0] = 0x4f;
	length += 40;
	put16(ip + 2, (unsigned)length);
	static uint8_t copy[ESP_FRAME_MAX + ESP_TAILROOM];
	for (unsigned segment = 32; segment < 48; segment++) {
		memcpy(frame, (uint8_t[]){1, 1, 0, 0, (uint8_t)segment, 0, 60, 0, 16, 0}, ESP_VNET_HEADER);
		esp_worker_begin(pair.a.worker, SECONDS(1));
		while (esp_worker_ready(pair.a.worker)) {
			size_t before = pair.a.worker->arena_used;
			memcpy(copy, frame, ESP_VNET_HEADER + length);
			esp_encap(pair.a.worker, pair.a.gateway, copy, ESP_VNET_HEADER + length);
			assert_in_range(pair.a.worker->arena_used - before, 100000, ENCAP_ARENA);
		}
		esp_worker_end(pair.a.worker);
	}
	assert_int_equal(all_drops(&pair.a), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tunnel_mtu_by_arithmetic),       cmocka_unit_test(fragments_before_encryption),
	    cmocka_unit_test(fragments_carry_copied_options), cmocka_unit_test(icmp_says_the_mtu),
	    cmocka_unit_test(icmp_only_where_it_may_answer),  cmocka_unit_test(icmp_has_a_rate_for_each_tunnel),
	    cmocka_unit_test(ipv6_has_its_smallest_mtu),      cmocka_unit_test(the_longest_burst_fits),
	    cmocka_unit_test(mss_is_clamped_both_ways),       cmocka_unit_test(ecn_by_the_table),
	};
	return cmocka_run_group_tests_name("esp_path", tests, NULL, NULL);
}
