// What a session tells its peer: packing by attribute set, differences only, no more than the peer takes, refreshes, peers of
// two octets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "services/bgp/speaker.h"
#include "tests/unit/bgp_peer.h"

static void advertise(uint32_t first, size_t count, bool gone, const uint32_t *path, size_t path_length)
{
	static struct bgp_advertisement list[2048];
	for (size_t i = 0; i < count; i++) {
		list[i] = (struct bgp_advertisement){.export = "vpn-1",
		                                     .destination = ipv4(first + (uint32_t)i * 256, 24),
		                                     .withdrawn = gone,
		                                     .as_path = path,
		                                     .as_path_length = path_length};
	}
	step((struct bgp_event){.kind = BGP_EVENT_ADVERTISE, .advertisements = list, .count = count});
}

static size_t count_messages(void)
{
	size_t count = 0;
	for (size_t at = 0; at < sent_length; count++) {
		size_t length = (size_t)sent[at + 16] << 8 | sent[at + 17];
		assert_true(length <= 4096 && length >= 19);
		at += length;
	}
	return count;
}

static void packing(void **state)
{
	(void)state;
	uint32_t transport = established();
	// 1,000 prefixes of four octets and 18 + 2 of attributes: 4,096 - 43 octets hold 1,013.
	advertise(0x0a000000, 1000, false, NULL, 0);
	assert_int_equal(count_messages(), 1);
	expect_sent(16, "0fcb 02 0000 0014 40010100 400206 02010000fde8 400304a9fe0a01 180a0000 180a0001");
	assert_int_equal(status().prefixes_advertised, 1000);
	step((struct bgp_event){.kind = BGP_EVENT_SENT, .session = session(), .transport = transport, .count = 1 << 20});
	advertise(0x0a000000, 1000, false, NULL, 0); // no difference, no word
	assert_int_equal(sent_length, 0);
	// Half of it with another path, behind one that is withdrawn again at once.
	advertise(0x0a000000, 500, false, (const uint32_t[]){100000}, 1);
	assert_int_equal(count_messages(), 1);
	expect_sent(19, "0000 0018 40010100 40020a 02020000fde8000186a0 400304a9fe0a01 180a0000");
	advertise(0x0a000000, 1000, true, NULL, 0);
	assert_int_equal(count_messages(), 1);
	expect_sent(19, "0fa0 180a0000");
	assert_int_equal(status().prefixes_advertised, 0);
	// Two attribute sets and a withdrawal in one change: three messages.
	advertise(0x0a000000, 1, false, NULL, 0);
	struct bgp_advertisement list[] = {
	    {.export = "vpn-1", .destination = ipv4(0x0a010000, 16)},
	    {.export = "vpn-1", .destination = ipv4(0x0a020000, 16), .as_path = (const uint32_t[]){7}, .as_path_length = 1},
	    {.export = "vpn-1", .destination = ipv4(0x0a030000, 16)},
	    {.export = "vpn-1", .destination = ipv4(0x0a000000, 24), .withdrawn = true},
	};
	step((struct bgp_event){.kind = BGP_EVENT_ADVERTISE, .advertisements = list, .count = 4});
	assert_int_equal(count_messages(), 3);
}

static void sends_no_more_than_is_taken(void **state)
{
	(void)state;
	uint32_t transport = established();
	for (uint32_t i = 0; i < 100; i++) {
		advertise(0x0a000000 + (i << 19), 2000, false, NULL, 0);
	}
	size_t total = 0, rounds = 0;
	step((struct bgp_event){.kind = BGP_EVENT_SENT, .session = session(), .transport = transport, .count = 1 << 20});
	for (; sent_length > 0; rounds++) {
		assert_true(sent_length <= 65536 + 4096);
		total += sent_length;
		step((struct bgp_event){
		    .kind = BGP_EVENT_SENT, .session = session(), .transport = transport, .count = sent_length});
	}
	assert_true(rounds > 5);
	assert_int_equal(status().prefixes_advertised, 200000);
	assert_true(total > 600000 && total < 900000);
}

static void refresh(void **state)
{
	(void)state;
	advertise(0x0a000000, 10, false, NULL, 0);
	uint32_t transport = established();
	assert_int_equal(status().prefixes_advertised, 10);
	receive(transport, ROUTE_REFRESH, "00010001");
	assert_int_equal(count_messages(), 1);
	expect_sent(43, "180a0000");
	receive(transport, ROUTE_REFRESH, "00020001"); // IPv6: nothing to do with us
	assert_int_equal(sent_length, 0);
	assert_int_equal(bgp_count(bgp, BGP_COUNT_OTHER_FAMILY), 1);
}

static void two_octet_peer(void **state)
{
	(void)state;
	config.local_as = 4200000001;
	advertise(0x0a000000, 1, false, (const uint32_t[]){100000, 7}, 2);
	uint32_t transport = connected();
	expect_sent(19, "04 5ba0"); // AS_TRANS
	receive(transport, OPEN, "04 fde9 005a 0a000009 00");
	receive(transport, KEEPALIVE, "");
	expect_sent(19,
	            "0000 0027 40010100 400208 02035ba05ba00007 400304a9fe0a01 c0110e 0203fa56ea01000186a000000007 180a0000");
	receive(transport, UPDATE, "0000 0012 40010100 400204 0201fde9 400304a9fe0a02 18c0a801");
	assert_int_equal(announced, 1);
}

static void a_path_that_is_too_long(void **state)
{
	(void)state;
	uint32_t path[600];
	for (size_t i = 0; i < 600; i++) {
		path[i] = 7;
	}
	established();
	advertise(0x0a000000, 1, false, path, 500);
	assert_int_equal(count_messages(), 1);
	assert_int_equal(sent_length, 19 + 4 + 4 + (4 + 3 * 2 + 501 * 4) + 7 + 4);
	advertise(0x0a000000, 1, false, path, 501);
	expect_sent(19, "0004 180a0000 0000");
	assert_int_equal(bgp_count(bgp, BGP_COUNT_UNADVERTISABLE), 1);
}

static void advertise_with(const uint32_t *path, size_t path_length, const uint32_t *communities, size_t count)
{
	struct bgp_advertisement one = {.export = "vpn-1",
	                                .destination = ipv4(0x0a000000, 24),
	                                .as_path = path,
	                                .as_path_length = path_length,
	                                .communities = communities,
	                                .community_count = count};
	step((struct bgp_event){.kind = BGP_EVENT_ADVERTISE, .advertisements = &one, .count = 1});
}

static void communities(void **state)
{
	(void)state;
	uint32_t many[1000], path[500];
	for (uint32_t i = 0; i < 1000; i++) {
		many[i] = 65010u << 16 | i;
		path[i / 2] = 100000;
	}
	established();
	advertise_with(path, 1, many + 7, 2);
	expect_sent(19, "0000 0023 40010100 40020a 02020000fde8000186a0 400304a9fe0a01 c00808 fdf20007 fdf20008 180a0000");
	advertise_with(path, 1, many + 7, 1); // one of them less is news
	expect_sent(19, "0000 001f 40010100 40020a 02020000fde8000186a0 400304a9fe0a01 c00804 fdf20007 180a0000");
	// As many as go into one UPDATE beside the path.
	advertise_with(path, 0, many, 1000);
	assert_int_equal(sent_length, 19 + 4 + 4 + (3 + 2 + 4) + 7 + (4 + 4000) + 4);
	advertise_with(path, 1, many, 999);
	expect_sent(19, "0004 180a0000 0000");
	assert_int_equal(bgp_count(bgp, BGP_COUNT_UNADVERTISABLE), 1);
	advertise_with(path, 500, many, 250);
	assert_int_equal(count_messages(), 1);
	advertise_with(path, 500, many, 251);
	expect_sent(19, "0004 180a0000 0000");
	assert_int_equal(bgp_count(bgp, BGP_COUNT_UNADVERTISABLE), 2);
}

// End-of-RIB waits until all there is has been said to us: before, the peer would drop what it still has from us as stale (RFC
// 4724 §4.1, §4.2).
static void end_of_rib_waits(void **state)
{
	(void)state;
	static const uint8_t seed[32];
	bgp_free(&bgp);
	bgp = bgp_new(seed); // without BGP_EVENT_ADVERTISED
	uint32_t transport = established();
	advertise(0x0a000000, 1, false, NULL, 0);
	assert_int_equal(count_messages(), 1);
	pass_time(SECONDS(5));
	receive(transport, KEEPALIVE, "");
	assert_int_equal(sent_length, 0);
	step((struct bgp_event){.kind = BGP_EVENT_ADVERTISED});
	assert_int_equal(sent_length, 23);
	expect_sent(16, "00170200000000");
	// Once.
	step((struct bgp_event){.kind = BGP_EVENT_ADVERTISED});
	assert_int_equal(sent_length, 0);
}

// A family that is not offered is said to nobody, and is not held either.
static void another_family(void **state)
{
	(void)state;
	established();
	struct bgp_advertisement one = {.export = "vpn-1"};
	assert_true(prefix_parse("fd00:1::/64", &one.destination));
	step((struct bgp_event){.kind = BGP_EVENT_ADVERTISE, .advertisements = &one, .count = 1});
	assert_int_equal(sent_length, 0);
	assert_int_equal(status().prefixes_advertised, 0);
}

// Connections come to a node and leave it: nothing is left of one that has no session and no route any more.
static void a_connection_that_leaves(void **state)
{
	(void)state;
	established();
	advertise(0x0a000000, 3, false, NULL, 0);
	step((struct bgp_event){.kind = BGP_EVENT_SESSION_REMOVED, .session = session()});
	assert_int_equal(map_count(bgp->exports), 1);
	advertise(0x0a000000, 2, true, NULL, 0);
	assert_int_equal(map_count(bgp->exports), 1);
	advertise(0x0a000000, 3, true, NULL, 0);
	assert_int_equal(map_count(bgp->exports), 0);
	// Routes first, and its session when the table is empty again.
	established();
	advertise(0x0a000000, 1, false, NULL, 0);
	advertise(0x0a000000, 1, true, NULL, 0);
	assert_int_equal(map_count(bgp->exports), 1);
	step((struct bgp_event){.kind = BGP_EVENT_SESSION_REMOVED, .session = session()});
	assert_int_equal(map_count(bgp->exports), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    test(packing),
	    test(sends_no_more_than_is_taken),
	    test(refresh),
	    test(two_octet_peer),
	    test(a_path_that_is_too_long),
	    test(end_of_rib_waits),
	    test(a_connection_that_leaves),
	    test(communities),
	    test(another_family),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
