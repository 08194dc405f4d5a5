// What a peer may fill: the quota of its session, the node's memory, and the events about it; and what is said to it when there
// is room again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/bgp_peer.h"

// Announces 10.x.y.0/24 numbers `first` to `first + count - 1`, or withdraws them.
static void tell(uint32_t transport, uint32_t first, size_t count, bool gone)
{
	char body[4096 * 2];
	size_t at = 0;
	if (gone) {
		at += (size_t)snprintf(body, sizeof body, "%04zx", count * 4);
	} else {
		at += (size_t)snprintf(body, sizeof body, "0000 0014" GOOD);
	}
	for (size_t i = 0; i < count; i++) {
		at += (size_t)snprintf(body + at, sizeof body - at, "180a%04x", (unsigned)(first + i));
	}
	snprintf(body + at, sizeof body - at, "%s", gone ? "0000" : "");
	receive(transport, UPDATE, body);
}

static void the_quota(void **state)
{
	(void)state;
	config.maximum_prefixes = 10;
	uint32_t transport = established();
	tell(transport, 0, 7, false);
	assert_int_equal(notices, 0);
	tell(transport, 7, 1, false);
	assert_string_equal(
	    note, "BGP routes near the limit: 8 routes received; beyond the quota of 10 learned routes they are discarded");
	tell(transport, 8, 2, false);
	assert_int_equal(notices, 0); // said once
	assert_string_equal(status().reason, "");
	tell(transport, 10, 5, false);
	assert_int_equal(announced, 0);
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_int_equal(bgp_count(bgp, BGP_COUNT_OVER_LIMIT), 5);
	assert_string_equal(note,
	                    "BGP routes beyond the limit: more than 10 routes received, which is the quota of learned routes: "
	                    "the excess is discarded");
	assert_int_equal(status().prefixes_discarded, 5);
	expect_reason("5 routes beyond the quota of 10 learned routes are discarded: raise the quota, or announce fewer");
	tell(transport, 10, 5, false); // the same again are no more
	assert_int_equal(status().prefixes_discarded, 5);
	assert_int_equal(notices, 0);
	tell(transport, 14, 1, true);
	assert_int_equal(status().prefixes_discarded, 4);
	// Those that are in may change.
	receive(transport, UPDATE, "0000 001b" GOOD "80040400000005 180a0001");
	assert_int_equal(announced, 1);
	assert_int_equal(sent_length, 0);
	// When there is room the peer is asked for the rest, and not for each route that makes room.
	tell(transport, 0, 1, true);
	assert_int_equal(sent[18], ROUTE_REFRESH);
	expect_sent(19, "00010001");
	assert_int_equal(status().prefixes_discarded, 0);
	tell(transport, 10, 4, false);
	assert_int_equal(status().prefixes_received, 10);
	assert_int_equal(status().prefixes_discarded, 3);
	for (uint32_t i = 1; i < 4; i++) {
		tell(transport, i, 1, true);
		assert_int_equal(sent_length, 0);
	}
	size_t refreshes = 0;
	for (int i = 0; i < 31; i++) {
		pass_time(SECONDS(1));
		refreshes += sent_length >= 23 && sent[18] == ROUTE_REFRESH;
		receive(transport, KEEPALIVE, "");
	}
	assert_int_equal(refreshes, 1);
	assert_string_equal(status().reason, "");
}

static void a_raised_quota(void **state)
{
	(void)state;
	config.maximum_prefixes = 10;
	uint32_t transport = established();
	tell(transport, 0, 20, false);
	assert_int_equal(status().prefixes_discarded, 10);
	config.maximum_prefixes = 40;
	configure();
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_int_equal(sent[18], ROUTE_REFRESH);
	tell(transport, 0, 20, false);
	assert_int_equal(status().prefixes_received, 20);
	// A lowered one takes nothing away, and takes nothing more.
	config.maximum_prefixes = 10;
	configure();
	assert_int_equal(withdrawn, 0);
	tell(transport, 20, 1, false);
	assert_int_equal(announced, 0);
	assert_int_equal(status().state, BGP_ESTABLISHED);
}

static void a_peer_without_route_refresh(void **state)
{
	(void)state;
	config.maximum_prefixes = 2;
	uint32_t transport = connected();
	receive(transport, OPEN, "04 fde9 005a 0a000009 08 0206 41040000fde9");
	receive(transport, KEEPALIVE, "");
	tell(transport, 0, 4, false);
	tell(transport, 0, 1, true);
	pass_time(MILLISECONDS(10));
	assert_int_equal(sent_length, 0);
	expect_reason("2 routes are discarded: the peer must announce them again (it knows no route refresh)");
}

// More than are known by name are counted all the same, and the count does not go below nothing.
static void very_many(void **state)
{
	(void)state;
	config.maximum_prefixes = 1;
	uint32_t transport = established();
	for (uint32_t i = 0; i < 30; i++) {
		tell(transport, i * 100, 100, false);
	}
	assert_int_equal(status().prefixes_discarded, 2999);
	for (uint32_t i = 29; i > 0; i--) {
		tell(transport, i * 100, 100, true);
	}
	assert_int_equal(status().prefixes_discarded, 99);
}

// Rows of four thousand octets each: the node is full at 240 MiB of them, whatever the quotas are.
static void the_node_is_full(void **state)
{
	(void)state;
	char path[4096 * 2] = "0000 0f2b 40010100 50020f1c";
	size_t at = strlen(path);
	for (int segment = 0; segment < 3; segment++) {
		at += (size_t)snprintf(path + at, sizeof path - at, "02ff");
		for (int i = 0; i < 255; i++) {
			at += (size_t)snprintf(path + at, sizeof path - at, "0000fde9");
		}
	}
	at += (size_t)snprintf(path + at, sizeof path - at, "02c8");
	for (int i = 0; i < 200; i++) {
		at += (size_t)snprintf(path + at, sizeof path - at, "0000fde9");
	}
	snprintf(path + at, sizeof path - at, " 400304a9fe0a02 180a0000");
	uint8_t octets[4096];
	memset(octets, 0xff, 16);
	size_t length = octets_of(path, octets + 19, sizeof octets - 19) + 19;
	octets[16] = (uint8_t)(length >> 8);
	octets[17] = (uint8_t)length;
	octets[18] = UPDATE;
	uint32_t transport = established();
	size_t held = 0;
	for (uint32_t i = 0; i < 100000; i++) {
		octets[length - 2] = (uint8_t)(i >> 8);
		octets[length - 1] = (uint8_t)i;
		octets[length - 3] = (uint8_t)(11 + (i >> 16));
		receive_octets(transport, octets, length);
		if (announced == 0) {
			held = i;
			break;
		}
	}
	assert_in_range(held, 40000, 60000);
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_string_equal(
	    note, "BGP routes beyond the limit: this gateway node holds as many routes as it can: more are discarded");
	expect_reason("1 routes are discarded, and asked for again as there is room");
	close_transport(transport, BGP_CLOSE_BY_PEER, "connection closed by the peer");
	// All of them go, a portion in each step.
	size_t gone = withdrawn;
	assert_int_equal(gone, 16384);
	while (gone < held) {
		pass_time(MILLISECONDS(1));
		assert_in_range(withdrawn, 1, 16384);
		gone += withdrawn;
	}
	assert_int_equal(gone, held);
}

static void routes_leave_in_portions(void **state)
{
	(void)state;
	uint32_t transport = established();
	for (uint32_t i = 0; i < 0x10000; i += 512) {
		tell(transport, i, 512, false);
	}
	assert_int_equal(status().prefixes_received, 0x10000);
	close_transport(transport, BGP_CLOSE_BY_PEER, "connection closed by the peer");
	assert_int_equal(status().prefixes_received, 0);
	assert_int_equal(withdrawn, 16384);
	// The session is back before they are gone: what it announces again stays, what it does not leaves.
	transport = accepted();
	establish(transport);
	tell(transport, 0, 512, false);
	size_t kept = announced, gone = 16384;
	assert_int_equal(kept, 512);
	size_t left_behind = 0;
	do {
		pass_time(MILLISECONDS(1));
		gone += withdrawn;
		left_behind = withdrawn;
	} while (left_behind > 0);
	assert_int_equal(status().prefixes_received, 512);
	// Those that were announced again before their turn came have not been withdrawn.
	assert_in_range(gone, 0x10000 - 512, 0x10000);
	// Both at once: some still leave when the rest does.
	for (uint32_t i = 512; i < 0x10000; i += 512) {
		tell(transport, i, 512, false);
	}
	close_transport(transport, BGP_CLOSE_BY_PEER, "connection closed by the peer");
	gone = withdrawn;
	pass_time(SECONDS(1));
	gone += withdrawn;
	transport = connecting ? connecting : accepted();
	if (transport == connecting) {
		step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = transport});
	}
	receive(transport, OPEN, PEER_OPEN);
	gone += withdrawn;
	receive(transport, KEEPALIVE, "");
	tell(transport, 0, 100, false);
	close_transport(transport, BGP_CLOSE_BY_PEER, "connection closed by the peer");
	gone += withdrawn;
	while (bgp_deadline(bgp) <= clock + MILLISECONDS(2)) {
		pass_time(MILLISECONDS(1));
		gone += withdrawn;
	}
	assert_in_range(gone, 0x10000, 0x10000 + 100);
}

static void the_speaker_ends(void **state)
{
	(void)state;
	uint32_t transport = established();
	for (uint32_t i = 0; i < 0x8000; i += 512) {
		tell(transport, i, 512, false);
	}
	step((struct bgp_event){.kind = BGP_EVENT_STOP});
	expect_notification("0602 21 74686520424750207365727669636520 6f662074686973206e6f646520656e6473");
	assert_int_equal(withdrawn, 0x8000);
	expect_reason("the BGP service of this node ends");
	assert_true(bgp_deadline(bgp) == INSTANT_NEVER);
	uint32_t theirs = accepted();
	assert_int_equal(closed[0], theirs);
	config.generation++;
	configure();
	assert_int_equal(connecting, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    test(the_quota),        test(a_raised_quota),   test(a_peer_without_route_refresh),
	    test(very_many),        test(the_node_is_full), test(routes_leave_in_portions),
	    test(the_speaker_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
