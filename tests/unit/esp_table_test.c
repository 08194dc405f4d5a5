// The tables: rows in any order, groups and their members, how flows spread and move, rekeying, and nothing left behind.
#include "tests/unit/esp_pair.h"

#include "common/base/random.h"

static uint8_t frame[ESP_FRAME_MAX], plain[ESP_FRAME_MAX];
static struct packet packets[64];

enum { TUNNELS = 4 };

struct fan {
	struct side side;
	struct pair keys; // only its key material
};

static const char *const tunnels[TUNNELS] = {"tun-a", "tun-b", "tun-c", "tun-d"};
static const char *const connection = "vpn";

static void tunnel_sa(struct fan *fan, unsigned i, bool in_use)
{
	struct esp_sa_row row = {
	    .tunnel = tunnels[i],
	    .inbound = keys_of(&fan->keys, &gcm_udp, 0),
	    .outbound = keys_of(&fan->keys, &gcm_udp, 1),
	    .outbound_in_use = in_use,
	    .generation = 1,
	    .encryption = gcm_udp.encryption,
	    .udp = true,
	    .local = address_text("198.51.100.17"),
	    .remote = (struct address){.length = 4, .octets = {203, 0, 113, (uint8_t)i}},
	    .local_port = 4500,
	    .remote_port = 4500,
	    .replay_window = 64,
	};
	row.inbound.spi = 0x2000 + i;
	row.outbound.spi = 0x3000 + i;
	assert_null(esp_sa_set(fan->side.esp, &row));
}

static void fan_group(struct fan *fan, unsigned members)
{
	const char *held[TUNNELS];
	size_t count = 0;
	for (unsigned i = 0; i < TUNNELS; i++) {
		if (members >> i & 1) {
			held[count++] = tunnels[i];
		}
	}
	esp_group_set(
	    fan->side.esp,
	    &(struct esp_group_row){
	        .id = "nhg", .tunnels = held, .tunnel_count = count, .connections = &connection, .connection_count = 1});
}

static void fan_init(struct fan *fan)
{
	static const uint8_t seed[32] = {1};
	memset(fan, 0, sizeof *fan);
	fan->side.esp = esp_new(&(struct esp_config){.workers = 1, .outer_mtu = 1500, .hash_seed = 99});
	fan->side.worker = esp_worker_new(fan->side.esp, 0, seed);
	esp_worker_register(fan->side.worker);
	// Backwards: SAs, routes, groups, tunnels, the border gateway.
	for (unsigned i = 0; i < TUNNELS; i++) {
		tunnel_sa(fan, i, true);
	}
	route_set(fan->side.esp, "192.168.0.0/16", "nhg");
	fan_group(fan, 15);
	for (unsigned i = 0; i < TUNNELS; i++) {
		esp_tunnel_set(fan->side.esp, &(struct esp_tunnel_row){.id = tunnels[i],
		                                                       .gateway = "bgw",
		                                                       .connection = connection,
		                                                       .cloud_inside = address_text("169.254.10.1"),
		                                                       .customer_inside = address_text("169.254.10.2"),
		                                                       .mss = ESP_MSS_AUTO});
	}
	fan->side.gateway = esp_gateway_set(fan->side.esp, "bgw", false, &fan->side.context);
}

static void fan_fini(struct fan *fan)
{
	esp_worker_unregister(fan->side.worker);
	esp_worker_free(&fan->side.worker);
	esp_free(&fan->side.esp);
}

// The tunnel that one flow takes; -1: dropped.
static int tunnel_of(struct fan *fan, const struct build *build)
{
	size_t length = build_frame(build, frame);
	esp_worker_begin(fan->side.worker, SECONDS(1));
	esp_encap(fan->side.worker, fan->side.gateway, frame, length);
	esp_worker_end(fan->side.worker);
	size_t count;
	const struct esp_datagram *datagrams = esp_worker_datagrams(fan->side.worker, &count);
	return count == 0 ? -1 : datagrams[0].remote.octets[3];
}

static struct build flow(unsigned i)
{
	struct build build = to_idc;
	build.protocol = i % 2 ? 6 : 17;
	build.flags = 0x10;
	build.source_port = 1024 + i;
	build.destination_port = 80 + i / 7;
	return build;
}

static void flows_spread_evenly_and_stay(void **state)
{
	(void)state;
	struct fan fan;
	fan_init(&fan);
	unsigned load[TUNNELS] = {0};
	for (unsigned i = 0; i < 4000; i++) {
		struct build build = flow(i);
		int first = tunnel_of(&fan, &build);
		build.payload = 200;
		assert_int_equal(tunnel_of(&fan, &build), first); // size does not matter
		load[first]++;
	}
	for (unsigned i = 0; i < TUNNELS; i++) {
		assert_in_range(load[i], 850, 1150);
	}
	fan_fini(&fan);
}

static void fragments_go_by_addresses_alone(void **state)
{
	(void)state;
	struct fan fan;
	fan_init(&fan);
	unsigned used = 0;
	for (unsigned host = 1; host < 60; host++) {
		char source[16];
		snprintf(source, sizeof source, "10.0.1.%u", host);
		int same = -2;
		for (unsigned i = 0; i < 40; i++) {
			struct build build = flow(i);
			build.source = source;
			if (i % 4 < 2) {
				build.fragment = i % 4 ? 0x2000 : 100; // the first one, a later one
			} else {
				build.protocol = i % 4 == 2 ? 50 : 1; // no ports
			}
			int tunnel = tunnel_of(&fan, &build);
			assert_true(same == -2 || tunnel == same);
			same = tunnel;
		}
		used |= 1u << same;
	}
	assert_int_equal(used, 15);
	fan_fini(&fan);
}

static void only_the_lost_members_flows_move(void **state)
{
	(void)state;
	struct fan fan;
	fan_init(&fan);
	int before[1000];
	for (unsigned i = 0; i < 1000; i++) {
		struct build build = flow(i);
		before[i] = tunnel_of(&fan, &build);
	}
	fan_group(&fan, 15 & ~2u); // one change, however many routes there are
	unsigned moved_to[TUNNELS] = {0};
	for (unsigned i = 0; i < 1000; i++) {
		struct build build = flow(i);
		int now = tunnel_of(&fan, &build);
		if (before[i] == 1) {
			assert_int_not_equal(now, 1);
			moved_to[now]++;
		} else {
			assert_int_equal(now, before[i]);
		}
	}
	assert_true(moved_to[0] > 30 && moved_to[2] > 30 && moved_to[3] > 30);
	fan_group(&fan, 15);
	for (unsigned i = 0; i < 1000; i++) {
		struct build build = flow(i);
		assert_int_equal(tunnel_of(&fan, &build), before[i]);
	}
	// A member that has lost its SA is passed over before anybody says so.
	tunnel_sa(&fan, 2, false);
	for (unsigned i = 0; i < 1000; i++) {
		struct build build = flow(i);
		int now = tunnel_of(&fan, &build);
		assert_true(before[i] == 2 ? now != 2 && now >= 0 : now == before[i]);
	}
	fan_fini(&fan);
}

static void longest_prefix_wins(void **state)
{
	(void)state;
	struct fan fan;
	fan_init(&fan);
	const char *other = "tun-c";
	esp_group_set(
	    fan.side.esp,
	    &(struct esp_group_row){
	        .id = "nhg-c", .tunnels = &other, .tunnel_count = 1, .connections = &connection, .connection_count = 1});
	fan_group(&fan, 1);
	struct build build = to_idc;
	assert_int_equal(tunnel_of(&fan, &build), 0);
	route_set(fan.side.esp, "192.168.3.0/24", "nhg-c");
	assert_int_equal(tunnel_of(&fan, &build), 2);
	route_set(fan.side.esp, "192.168.3.4/32", "nhg");
	assert_int_equal(tunnel_of(&fan, &build), 0);
	struct prefix gone = prefix_text("192.168.3.4/32");
	esp_route_remove(fan.side.esp, "bgw", &gone);
	assert_int_equal(tunnel_of(&fan, &build), 2);
	route_set(fan.side.esp, "192.168.3.0/24", "nhg-unknown"); // its group has not come yet
	assert_int_equal(tunnel_of(&fan, &build), -1);
	group_set(fan.side.esp, "nhg-unknown", "tun-d", "vpn");
	assert_int_equal(tunnel_of(&fan, &build), 3);
	assert_int_equal(esp_route_count(fan.side.esp), 2);
	fan_fini(&fan);
}

static void rekeying_by_generation(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct esp_sa_row next_a = pair.row_a, next_b = pair.row_b;
	next_a.inbound.spi = next_b.outbound.spi = 0x5000;
	next_a.outbound.spi = next_b.inbound.spi = 0x5001;
	next_a.generation = next_b.generation = 2;
	next_a.outbound_in_use = false;
	size_t length = build_frame(&to_idc, frame);
	assert_null(esp_sa_set(pair.a.esp, &next_a));
	assert_null(esp_sa_set(pair.b.esp, &next_b));
	assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
	assert_int_equal(packets[0].octets[2] << 8 | packets[0].octets[3],
	                 PAIR_SPI + 1); // the peer is not known to have the new one
	static struct packet late;
	late = packets[0];
	next_a.outbound_in_use = true;
	assert_null(esp_sa_set(pair.a.esp, &next_a));
	assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
	assert_int_equal(packets[0].octets[2] << 8 | packets[0].octets[3], 0x5001);
	assert_true(decap(&pair.b, &packets[0], plain) > 0);
	assert_true(decap(&pair.b, &late, plain) > 0); // what was under way still arrives
	esp_sa_remove(pair.a.esp, "tun", pair.row_a.inbound.spi);
	esp_sa_remove(pair.b.esp, "tun", pair.row_b.inbound.spi);
	assert_int_equal(decap(&pair.b, &late, plain), 0);
	assert_int_equal(encap(&pair.a, frame, length, packets, 8), 1);
	assert_int_equal(packets[0].octets[2] << 8 | packets[0].octets[3], 0x5001);
	assert_int_equal(esp_sa_count(pair.a.esp), 1);
	pair_fini(&pair);
}

// The replay window and UDP encapsulation are not the SA: a row that changes them changes no window, counter or number.
static void a_changed_row_keeps_the_sa(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	static struct packet old;
	size_t length = build_frame(
	    &(struct build){.protocol = 17, .source = "192.168.3.4", .destination = "10.0.1.5", .payload = 40}, frame);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(encap(&pair.b, frame, length, &old, 1), 1);
		assert_true(decap(&pair.a, &old, plain) > 0);
		assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
		length = build_frame(
		    &(struct build){.protocol = 17, .source = "192.168.3.4", .destination = "10.0.1.5", .payload = 40}, frame);
	}
	unsigned mtu = esp_tunnel_mtu(pair.a.esp, "tun");
	pair.row_a.replay_window = 64;
	pair.row_a.udp = false;
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_int_equal(esp_tunnel_mtu(pair.a.esp, "tun"), mtu + 8);
	assert_int_equal(decap(&pair.a, &old, plain), 0);
	assert_int_equal(esp_drops(pair.a.esp, ESP_DROP_REPLAY), 1);
	assert_int_equal(encap(&pair.a, frame, build_frame(&to_idc, frame), packets, 8), 1);
	assert_int_equal(packets[0].octets[7], 6);
	size_t count;
	assert_int_equal(esp_worker_datagrams(pair.a.worker, &count)->remote.port, 0);
	pair_fini(&pair);
}

static void rows_that_cannot_be_taken(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct esp_sa_row row = pair.row_a;
	row.inbound.spi = 200;
	assert_non_null(esp_sa_set(pair.a.esp, &row));
	row.inbound.spi = 0x6000;
	row.inbound.encryption.length = 19;
	assert_non_null(esp_sa_set(pair.a.esp, &row));
	row = pair.row_a;
	row.tunnel = "tun-other"; // the same inbound SPI
	assert_non_null(esp_sa_set(pair.a.esp, &row));
	row = pair.row_a;
	row.inbound.spi = 0x6000;
	row.remote = address_text("fd00::1");
	assert_non_null(esp_sa_set(pair.a.esp, &row));
	row = pair.row_a;
	row.inbound.spi = 0x6000;
	row.encryption = ESP_AES_CBC_128;
	assert_non_null(esp_sa_set(pair.a.esp, &row));
	assert_int_equal(esp_sa_count(pair.a.esp), 1);
	// Another key under the same SPI: nothing of the old SA's state may remain.
	assert_int_equal(
	    encap(&pair.b, frame,
	          build_frame(&(struct build){.protocol = 17, .source = "192.168.3.4", .destination = "10.0.1.5"}, frame),
	          packets, 8),
	    1);
	assert_true(decap(&pair.a, &packets[0], plain) > 0);
	pair.keys[0][0] ^= 1;
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_int_equal(decap(&pair.a, &packets[0], plain), 0);
	assert_int_equal(esp_drops(pair.a.esp, ESP_DROP_AUTHENTICATION), 1);
	pair_fini(&pair);
}

// Random churn of all tables with packets in between: no crash, no leak (the sanitizers look), and at the end nothing is left.
static void churn(void **state)
{
	(void)state;
	struct fan fan;
	fan_init(&fan);
	struct random random;
	random_init_number(&random, 31);
	char names[64][16];
	for (unsigned i = 0; i < 64; i++) {
		snprintf(names[i], sizeof names[i], "nhg-%u", i);
	}
	for (int step = 0; step < 30000; step++) {
		const char *group = names[random_below(&random, 64)];
		struct address address = {.length = 4, .octets = {192, 168, (uint8_t)random_below(&random, 8), 0}};
		struct prefix prefix = prefix_of(&address, (uint8_t)(16 + random_below(&random, 9)));
		switch (random_below(&random, 8)) {
		case 0:
			esp_route_set(fan.side.esp, "bgw", &prefix, random_below(&random, 5) ? group : NULL);
			break;
		case 1:
			esp_route_remove(fan.side.esp, "bgw", &prefix);
			break;
		case 2:
			group_set(fan.side.esp, group, tunnels[random_below(&random, TUNNELS)], connection);
			break;
		case 3:
			esp_group_remove(fan.side.esp, group);
			break;
		case 4:
			tunnel_sa(&fan, random_below(&random, TUNNELS), random_below(&random, 2));
			break;
		case 5: {
			unsigned i = random_below(&random, TUNNELS);
			esp_sa_remove(fan.side.esp, tunnels[i], 0x2000 + i);
			break;
		}
		case 6: {
			struct build build = to_idc;
			char destination[16];
			snprintf(destination, sizeof destination, "192.168.%u.%u", random_below(&random, 8),
			         random_below(&random, 255));
			build.destination = destination;
			tunnel_of(&fan, &build);
			break;
		}
		default:
			if (random_below(&random, 2)) {
				esp_tunnel_remove(fan.side.esp, tunnels[random_below(&random, TUNNELS)]);
			} else {
				esp_tunnel_set(fan.side.esp,
				               &(struct esp_tunnel_row){.id = tunnels[random_below(&random, TUNNELS)],
				                                        .gateway = "bgw",
				                                        .connection = connection,
				                                        .cloud_inside = address_text("169.254.10.1"),
				                                        .customer_inside = address_text("169.254.10.2")});
			}
		}
		esp_worker_quiescent(fan.side.worker);
	}
	fan_fini(&fan);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(flows_spread_evenly_and_stay),     cmocka_unit_test(fragments_go_by_addresses_alone),
	    cmocka_unit_test(only_the_lost_members_flows_move), cmocka_unit_test(longest_prefix_wins),
	    cmocka_unit_test(rekeying_by_generation),           cmocka_unit_test(a_changed_row_keeps_the_sa),
	    cmocka_unit_test(rows_that_cannot_be_taken),        cmocka_unit_test(churn),
	};
	return cmocka_run_group_tests_name("esp_table", tests, NULL, NULL);
}
