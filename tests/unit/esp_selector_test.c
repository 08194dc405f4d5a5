// Traffic selectors: which SA of a tunnel sends a packet (RFC 4301 §5.1), and what comes in outside its SA's (§5.2).
#include "tests/unit/esp_pair.h"

static uint8_t frame[ESP_FRAME_MAX + ESP_TAILROOM];
static struct packet packets[8];

// The cloud side's second SA pair, beside that of esp_pair.h: sends with another SPI, to be told from it.
enum { SECOND = 4, SECOND_OUT = PAIR_SPI + SECOND + 1, FIRST_OUT = PAIR_SPI + 1 };

static struct esp_selector selector(const char *first, const char *last, unsigned protocol, unsigned first_port,
                                    unsigned last_port)
{
	return (struct esp_selector){.first = address_text(first),
	                             .last = address_text(last),
	                             .protocol = (uint8_t)protocol,
	                             .first_port = (uint16_t)first_port,
	                             .last_port = (uint16_t)last_port};
}

static void with(struct esp_sa_row *row, const struct esp_selector *local, size_t locals, const struct esp_selector *remote,
                 size_t remotes)
{
	row->local_selectors = local;
	row->local_selector_count = locals;
	row->remote_selectors = remote;
	row->remote_selector_count = remotes;
}

static struct esp_sa_row second_row(const struct pair *pair)
{
	struct esp_sa_row row = pair->row_a;
	row.inbound.spi = PAIR_SPI + SECOND;
	row.outbound.spi = SECOND_OUT;
	row.generation = 2;
	return row;
}

// The SPI that sends it; 0: dropped for its selectors, and nothing else.
static uint32_t sent_by(struct pair *pair, const struct build *build)
{
	uint64_t before = esp_drops(pair->a.esp, ESP_DROP_OUTBOUND_SELECTORS);
	size_t count = encap(&pair->a, frame, build_frame(build, frame), packets, 8);
	assert_int_equal(esp_drops(pair->a.esp, ESP_DROP_OUTBOUND_SELECTORS) - before, count == 0);
	const uint8_t *at = packets[0].octets;
	return count == 0 ? 0 : (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static struct build udp(const char *source, unsigned source_port, const char *destination, unsigned destination_port)
{
	return (struct build){.protocol = 17,
	                      .source = source,
	                      .destination = destination,
	                      .source_port = source_port,
	                      .destination_port = destination_port,
	                      .payload = 40};
}

static void the_newest_sa_that_has_the_packet_sends_it(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct esp_selector local = selector("10.0.0.0", "10.0.255.255", 0, 0, 65535);
	struct esp_selector low = selector("192.168.0.0", "192.168.0.255", 0, 0, 65535);
	struct esp_selector high = selector("192.168.0.128", "192.168.7.9", 0, 0, 65535);
	with(&pair.row_a, &local, 1, &low, 1);
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	struct esp_sa_row second = second_row(&pair);
	with(&second, &local, 1, &high, 1);
	assert_null(esp_sa_set(pair.a.esp, &second));
	static const struct {
		const char *destination;
		uint32_t first, second; // which sends when the one or the other is newer
	} rows[] = {
	    {"192.168.0.0", FIRST_OUT, FIRST_OUT},
	    {"192.168.0.127", FIRST_OUT, FIRST_OUT},
	    {"192.168.0.128", FIRST_OUT, SECOND_OUT},
	    {"192.168.0.255", FIRST_OUT, SECOND_OUT},
	    {"192.168.1.0", SECOND_OUT, SECOND_OUT},
	    {"192.168.7.9", SECOND_OUT, SECOND_OUT},
	    {"192.168.7.10", 0, 0},
	};
	for (int newer = 1; newer >= 0; newer--) {
		for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
			struct build to = udp("10.0.3.4", 5000, rows[i].destination, 6000);
			assert_int_equal(sent_by(&pair, &to), newer ? rows[i].second : rows[i].first);
		}
		second.generation = 0;
		assert_null(esp_sa_set(pair.a.esp, &second));
	}
	// What the cloud's side may not send.
	struct build foreign = udp("10.1.0.1", 5000, "192.168.0.5", 6000);
	assert_int_equal(sent_by(&pair, &foreign), 0);
	// One that is not in use sends nothing, newer or not; nor one that is gone.
	struct build both = udp("10.0.3.4", 5000, "192.168.0.200", 6000),
	             only_second = udp("10.0.3.4", 5000, "192.168.1.1", 6000);
	second.generation = 9;
	second.outbound_in_use = false;
	assert_null(esp_sa_set(pair.a.esp, &second));
	assert_int_equal(sent_by(&pair, &both), FIRST_OUT);
	assert_int_equal(sent_by(&pair, &only_second), 0);
	second.generation = 0;
	assert_null(esp_sa_set(pair.a.esp, &second));
	assert_int_equal(sent_by(&pair, &only_second), 0);
	second.generation = 9;
	second.outbound_in_use = true;
	assert_null(esp_sa_set(pair.a.esp, &second));
	assert_int_equal(sent_by(&pair, &both), SECOND_OUT);
	assert_int_equal(sent_by(&pair, &only_second), SECOND_OUT);
	esp_sa_remove(pair.a.esp, "tun", PAIR_SPI + SECOND);
	assert_int_equal(sent_by(&pair, &both), FIRST_OUT);
	assert_int_equal(sent_by(&pair, &only_second), 0);
	// Other selectors for the same SA, and none: everything.
	with(&pair.row_a, &local, 1, &high, 1);
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_int_equal(sent_by(&pair, &only_second), FIRST_OUT);
	with(&pair.row_a, NULL, 0, NULL, 0);
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_int_equal(sent_by(&pair, &foreign), FIRST_OUT);
	pair_fini(&pair);
}

static void protocol_and_ports(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct esp_selector local = selector("10.0.0.0", "10.0.255.255", 17, 0, 65535);
	struct esp_selector remote = selector("192.168.0.0", "192.168.255.255", 17, 6000, 6010);
	with(&pair.row_a, &local, 1, &remote, 1);
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	struct build build = udp("10.0.3.4", 1, "192.168.0.5", 6000);
	assert_int_equal(sent_by(&pair, &build), FIRST_OUT);
	build.destination_port = 6010;
	assert_int_equal(sent_by(&pair, &build), FIRST_OUT);
	build.destination_port = 6011;
	assert_int_equal(sent_by(&pair, &build), 0);
	build.destination_port = 5999;
	assert_int_equal(sent_by(&pair, &build), 0);
	build.source_port = 6005; // of the other end
	assert_int_equal(sent_by(&pair, &build), 0);
	build.destination_port = 6005;
	build.fragment = 0x2000; // ports are not looked for in fragments
	assert_int_equal(sent_by(&pair, &build), 0);
	build.fragment = 0;
	build.protocol = 6;
	assert_int_equal(sent_by(&pair, &build), 0);
	// OPAQUE: those that have none to see.
	remote = selector("192.168.0.0", "192.168.255.255", 17, 65535, 0);
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	build.protocol = 17;
	assert_int_equal(sent_by(&pair, &build), 0);
	build.fragment = 0x2000;
	assert_int_equal(sent_by(&pair, &build), FIRST_OUT);
	pair_fini(&pair);
}

// Everything of IPv4 is nothing of IPv6.
static void families(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct esp_selector all[] = {selector("0.0.0.0", "255.255.255.255", 0, 0, 65535),
	                             selector("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0, 0, 65535)};
	struct build four = udp("10.0.3.4", 5000, "192.168.0.5", 6000), six = udp("fd00::1", 5000, "fd01::2", 6000);
	six.ipv6 = true;
	with(&pair.row_a, all, 1, all, 1);
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_int_equal(sent_by(&pair, &four), FIRST_OUT);
	assert_int_equal(sent_by(&pair, &six), 0);
	with(&pair.row_a, all, 2, all, 2);
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_int_equal(sent_by(&pair, &four), FIRST_OUT);
	assert_int_equal(sent_by(&pair, &six), FIRST_OUT);
	// Rows that say nothing sensible.
	all[0].last = all[1].last;
	assert_non_null(esp_sa_set(pair.a.esp, &pair.row_a));
	with(&pair.row_a, all, ESP_SELECTORS_MAX + 1, all, 1);
	assert_non_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_int_equal(sent_by(&pair, &six), FIRST_OUT); // the SA stays as it was
	pair_fini(&pair);
}

// Does what the customer sends come out at the cloud's side? If not it was dropped for its selectors, and nothing else.
static bool comes_in(struct pair *pair, size_t length)
{
	uint64_t before = esp_drops(pair->a.esp, ESP_DROP_INNER_SELECTORS);
	assert_int_equal(encap(&pair->b, frame, length, packets, 8), 1);
	static uint8_t out[ESP_FRAME_MAX];
	bool came = decap(&pair->a, &packets[0], out) > 0;
	assert_int_equal(esp_drops(pair->a.esp, ESP_DROP_INNER_SELECTORS) - before, !came);
	return came;
}

static bool udp_comes_in(struct pair *pair, const char *source, unsigned source_port, const char *destination)
{
	struct build build = udp(source, source_port, destination, 6000);
	return comes_in(pair, build_frame(&build, frame));
}

static void what_comes_in_outside_is_dropped(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	assert_true(udp_comes_in(&pair, "192.168.9.9", 7, "10.0.200.1"));
	struct esp_selector local = selector("10.0.0.0", "10.0.127.255", 0, 0, 65535);
	struct esp_selector remote = selector("192.168.0.0", "192.168.0.255", 0, 50, 60);
	with(&pair.row_a, &local, 1, &remote, 1);
	pair.row_a.outbound_in_use = false; // what sends has nothing to do with it
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	assert_true(udp_comes_in(&pair, "192.168.0.9", 50, "10.0.0.1"));
	assert_true(udp_comes_in(&pair, "192.168.0.9", 60, "10.0.0.1"));
	assert_false(udp_comes_in(&pair, "192.168.0.9", 61, "10.0.0.1")); // the addresses before were those, and passed
	assert_false(udp_comes_in(&pair, "192.168.1.9", 50, "10.0.0.1"));
	assert_false(udp_comes_in(&pair, "192.168.0.9", 50, "10.0.128.1"));
	pair_fini(&pair);
}

// RFC 4301 §6: an ICMP error is carried for the packet that it is about.
static void icmp_errors_about_what_is_carried_come_in(void **state)
{
	(void)state;
	struct pair pair;
	pair_init(&pair, &gcm_udp);
	struct esp_selector local = selector("10.0.0.0", "10.0.127.255", 17, 0, 65535);
	struct esp_selector remote = selector("192.168.0.0", "192.168.0.255", 17, 6000, 6000);
	with(&pair.row_a, &local, 1, &remote, 1);
	assert_null(esp_sa_set(pair.a.esp, &pair.row_a));
	for (unsigned port = 5999; port <= 6000; port++) {
		for (unsigned type = 0; type <= 3; type += 3) {
			struct build error = {
			    .protocol = 1, .source = "192.168.0.9", .destination = "10.0.3.4", .payload = 8 + 28};
			struct build about = udp("10.0.3.4", 5000, "192.168.0.9", port);
			size_t length = build_frame(&error, frame);
			uint8_t *icmp = frame + ESP_VNET_HEADER + 20, quoted[128];
			memset(icmp, 0, 8);
			icmp[0] = (uint8_t)type;
			build_packet(&about, quoted);
			memcpy(icmp + 8, quoted, 28); // RFC 792: the header and 8 octets
			assert_int_equal(comes_in(&pair, length), port == 6000 && type == 3);
		}
	}
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_newest_sa_that_has_the_packet_sends_it),
	    cmocka_unit_test(protocol_and_ports),
	    cmocka_unit_test(families),
	    cmocka_unit_test(what_comes_in_outside_is_dropped),
	    cmocka_unit_test(icmp_errors_about_what_is_carried_come_in),
	};
	return cmocka_run_group_tests_name("esp_selector", tests, NULL, NULL);
}
