// Every drop counter made to count, and what the workers counted as it is told.
#include "tests/unit/esp_forge.h"

// A super-frame that goes nowhere is as many dropped packets as it stands for.
static void dropped_super_frames_count_their_packets(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct build build = to_idc;
	build.protocol = 6;
	build.flags = 0x10;
	build.payload = 10 * 1000 + 1;
	build.destination = "8.8.8.8";
	size_t length = build_frame(&build, frame);
	memcpy(frame, (uint8_t[]){1, 1, 0, 0, 1000 & 0xff, 1000 >> 8, 20, 0, 16, 0}, ESP_VNET_HEADER);
	assert_drops(&pair.a, ESP_DROP_NO_ROUTE, 11, encap(&pair.a, frame, length, packets, 8));
	build.destination = "192.168.3.4";
	build_packet(&build, frame + ESP_VNET_HEADER);
	esp_sa_remove(pair.a.esp, "tun", pair.row_a.inbound.spi);
	assert_drops(&pair.a, ESP_DROP_NO_OUTBOUND_SA, 11, encap(&pair.a, frame, length, packets, 8));
	// A UDP super-frame whose datagrams do not fit and must not be fragmented.
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	build.protocol = 17;
	build.fragment = 0x4000;
	build.payload = 4 * 1450;
	length = build_frame(&build, frame);
	memcpy(frame, (uint8_t[]){1, 5, 0, 0, 1450 & 0xff, 1450 >> 8, 20, 0, 6, 0}, ESP_VNET_HEADER);
	assert_drops(&pair.a, ESP_DROP_TOO_BIG, 4, encap(&pair.a, frame, length, packets, 8));
	pair_fini(&pair);
}

// The octets of a lifetime are those of the inner packets, on both sides: no padding, no trailer, no dummy packets.
static void octets_are_those_of_inner_packets(void **state)
{
	(void)state;
	struct pair pair;
	struct options options = gcm_udp;
	options.encryption = ESP_AES_CBC_256;
	options.integrity = ESP_HMAC_SHA1_96;
	pair_init(&pair, &options);
	uint64_t octets = 0;
	for (unsigned i = 0; i < 40; i++) {
		struct build build = to_idc;
		build.payload = i * 31;
		size_t length = build_frame(&build, frame);
		octets += length - ESP_VNET_HEADER;
		assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
		assert_true(decap(&pair.b, &packets[0], plain) > 0);
	}
	assert_int_equal(usage_of(&pair.a).bytes_out, octets);
	assert_int_equal(usage_of(&pair.b).bytes_in, octets);
	assert_int_equal(usage_of(&pair.b).packets_in, 40);
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
		// The last one is a super-frame of more packets than any sender makes: each is counted.
		uint64_t stands_for = i + 1 == sizeof lies / sizeof lies[0] ? 3000 : 1;
		assert_drops(&pair.a, ESP_DROP_OFFLOAD, stands_for,
		             assert_int_equal(encap(&pair.a, frame, length, packets, 8), 0));
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

static void only_changed_counters_are_told(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	for (int round = 0; round < 3; round++) {
		int counters = 0;
		esp_each_tunnel(pair.a.esp, true, count_tunnels, &counters);
		assert_int_equal(counters, round != 1); // the first time all
		if (round == 1) {
			assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
		}
	}
	pair_fini(&pair);
}

static void send_out(struct pair *pair, unsigned count)
{
	while (count-- > 0) {
		assert_int_equal(encap(&pair->a, frame, build_frame(&to_idc, frame), packets, 8), 1);
	}
}

static void send_in(struct pair *pair)
{
	static uint8_t out[ESP_FRAME_MAX];
	struct build back = to_idc;
	back.source = to_idc.destination;
	back.destination = to_idc.source;
	assert_int_equal(encap(&pair->b, frame, build_frame(&back, frame), packets, 8), 1);
	assert_true(decap(&pair->a, &packets[0], out) > 0);
}

// Looks once: what was told by it.
static int looks(struct pair *pair, bool at_rest)
{
	int told = 0;
	size_t open = esp_look(pair->a.esp, count_calls, &told);
	assert_int_equal(open == 0, at_rest);
	return told;
}

enum { REST = 7 }; // looks

static void begin_told(struct pair *pair)
{
	pair_init(pair, &gcm_udp);
	assert_int_equal(looks(pair, true), 1); // a new SA
	send_in(pair);
	assert_int_equal(looks(pair, false), 1); // the peer sends on it: at once
}

static void keepalives_cost_a_row_now_and_then(void **state)
{
	(void)state;
	struct pair pair;
	begin_told(&pair);
	int told = 0;
	for (int i = 0; i < 100; i++) {
		if (i % 2 == 0) {
			send_out(&pair, 1);
			send_in(&pair);
		}
		told += looks(&pair, false);
	}
	assert_int_equal(told, 5); // every ten seconds
	// An answer that a look comes before is no silence.
	send_out(&pair, 1);
	assert_int_equal(looks(&pair, false), 0);
	send_in(&pair);
	assert_int_equal(looks(&pair, false), 0);
	pair_fini(&pair);
}

static void rest_and_its_end_are_told(void **state)
{
	(void)state;
	struct pair pair;
	begin_told(&pair);
	for (int turn = 0; turn < 3; turn++) {
		for (int still = 1; still <= REST; still++) {
			assert_int_equal(looks(&pair, still == REST), still == REST);
		}
		assert_int_equal(looks(&pair, true), 0);
		if (turn == 1) {
			send_out(&pair, 1);
		}
		send_in(&pair);
		assert_int_equal(looks(&pair, false), 1);
	}
	pair_fini(&pair);
}

static void silence_and_its_end_are_told_at_once(void **state)
{
	(void)state;
	struct pair pair;
	begin_told(&pair);
	send_out(&pair, 1);
	assert_int_equal(looks(&pair, false), 0);
	assert_int_equal(looks(&pair, false), 1); // nothing has come for two looks
	send_out(&pair, 1);
	assert_int_equal(looks(&pair, false), 0);
	send_out(&pair, 1);
	assert_int_equal(looks(&pair, false), 1); // still, every second look
	send_in(&pair);
	assert_int_equal(looks(&pair, false), 1); // it speaks
	assert_int_equal(looks(&pair, false), 0);
	send_out(&pair, 4);
	assert_int_equal(looks(&pair, false), 1); // that many are not on their way
	pair_fini(&pair);
}

static void much_traffic_is_told_each_second(void **state)
{
	(void)state;
	struct pair pair;
	begin_told(&pair);
	int told = 0;
	for (int i = 0; i < 10; i++) {
		send_out(&pair, 1000);
		send_in(&pair);
		told += looks(&pair, false);
	}
	assert_int_equal(told, 5);
	pair_fini(&pair);
}

// At the end of a process that must not go on: keys are overwritten while workers may still be in a burst, of which nothing
// leaves.
static void wiped_keys_open_and_seal_nothing(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct build back = to_idc;
	back.source = to_idc.destination;
	back.destination = to_idc.source;
	size_t length = build_frame(&back, frame), count;
	static uint8_t out[ESP_FRAME_MAX];
	for (int round = 0; round < 2; round++) {
		assert_int_equal(encap(&pair.b, frame, length, packets, 8), 1);
		assert_int_equal(decap(&pair.a, &packets[0], out) > 0, round == 0);
		assert_int_equal(esp_drops(pair.a.esp, ESP_DROP_AUTHENTICATION), round);
		esp_wipe(pair.a.esp);
	}
	assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 0);
	// What the worker made all the same, and does not give away, was not made with the key.
	const struct esp_datagram *kept = esp_worker_datagrams(pair.a.worker, &count);
	memcpy(packets[0].octets, kept[0].iov[0].iov_base, kept[0].iov[0].iov_len);
	packets[0].length = kept[0].iov[0].iov_len;
	assert_drop(&pair.b, ESP_DROP_AUTHENTICATION, assert_int_equal(decap(&pair.b, &packets[0], out), 0));
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(from_the_vpc_into_inside_addresses),
	    cmocka_unit_test(dropped_super_frames_count_their_packets),
	    cmocka_unit_test(octets_are_those_of_inner_packets),
	    cmocka_unit_test(outer_drops),
	    cmocka_unit_test(table_drops),
	    cmocka_unit_test(frames_from_vpn0_that_lie),
	    cmocka_unit_test(only_changed_counters_are_told),
	    cmocka_unit_test(keepalives_cost_a_row_now_and_then),
	    cmocka_unit_test(rest_and_its_end_are_told),
	    cmocka_unit_test(silence_and_its_end_are_told_at_once),
	    cmocka_unit_test(much_traffic_is_told_each_second),
	    cmocka_unit_test(wiped_keys_open_and_seal_nothing),
	};
	return cmocka_run_group_tests_name("esp_counters", tests, NULL, NULL);
}
