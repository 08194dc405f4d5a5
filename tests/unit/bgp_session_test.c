// One session through the core's door: the handshake, OPEN errors (RFC 4271 §6.2), timers, collisions (§6.8), NOTIFICATION both
// ways, what is received, and its limit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/bgp_peer.h"

static void handshake(void **state)
{
	(void)state;
	uint32_t transport = connected();
	expect_sent(19, "04 fde8 001e 0a000005 10 020e 010400010001 0200 41040000fde8");
	assert_int_equal(status().state, BGP_OPEN_SENT);
	receive(transport, OPEN, PEER_OPEN);
	assert_int_equal(status().state, BGP_OPEN_CONFIRM);
	receive(transport, KEEPALIVE, "");
	struct bgp_session_status s = status();
	assert_int_equal(s.state, BGP_ESTABLISHED);
	assert_int_equal(s.hold_time, 30);
	assert_int_equal(s.remote_router_id, 0x0a000009);
	assert_int_equal(s.established_count, 1);
	assert_string_equal(note, "BGP established: with AS 65001, BGP Identifier 10.0.0.9, hold time 30 s");
	assert_string_equal(s.reason, "");
	// End-of-RIB, as there is nothing to advertise.
	assert_int_equal(sent_length, 0);
	pass_time(MILLISECONDS(50));
	assert_int_equal(sent_length, 23);
	expect_sent(16, "00170200000000");
}

static void octet_by_octet(void **state)
{
	(void)state;
	uint32_t transport = connected();
	uint8_t stream[19 + 29 + 19];
	memset(stream, 0xff, sizeof stream);
	size_t length = octets_of("002d01" PEER_OPEN, stream + 16, sizeof stream - 16);
	octets_of("001304", stream + 16 + length + 16, 3);
	for (size_t i = 0; i < 16 + length + 19; i++) {
		receive_octets(transport, &stream[i], 1);
	}
	assert_int_equal(status().state, BGP_ESTABLISHED);
}

static void open_errors(void **state)
{
	(void)state;
	static const struct {
		const char *body, *notification, *error;
	} rows[] = {
	    {"03 fde9 005a 0a000009 00", "02010004", "sent OPEN Message Error/Unsupported Version Number"},
	    {"04 fdea 005a 0a000009 00", "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04 0000 005a 0a000009 00", "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04 fde9 005a 0a000009 08 0206 41040000fdea", "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04 fde9 005a 0a000009 08 0206 410400000000", "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04 5ba0 005a 0a000009 00", "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04 fde9 0001 0a000009 00", "0206", "sent OPEN Message Error/Unacceptable Hold Time"},
	    {"04 fde9 0002 0a000009 00", "0206", "sent OPEN Message Error/Unacceptable Hold Time"},
	    {"04 fde9 0000 0a000009 00", "0206", "sent OPEN Message Error/Unacceptable Hold Time"}, // none, where ours is 30 s
	    {"04 fde9 005a 00000000 00", "0203", "sent OPEN Message Error/Bad BGP Identifier"},
	    {"04 fde9 005a 0a000009 03 010100", "0204010100", "sent OPEN Message Error/Unsupported Optional Parameter"},
	    // lengths that lie
	    {"04 fde9 005a 0a000009 01", "0200", "sent OPEN Message Error"},
	    {"04 fde9 005a 0a000009 00 00", "0200", "sent OPEN Message Error"},
	    {"04 fde9 005a 0a000009 02 0203", "0200", "sent OPEN Message Error"},
	    {"04 fde9 005a 0a000009 01 02", "0200", "sent OPEN Message Error"},
	    {"04 fde9 005a 0a000009 04 02024104", "0200", "sent OPEN Message Error"},
	    {"04 fde9 005a 0a000009 07 0205 4103000001", "0200", "sent OPEN Message Error"},
	    {"04 fde9 005a 0a000009 07 0205 0103000100", "0200", "sent OPEN Message Error"},
	    {"04 fde9 005a 0a000009 05 0203 020100", "0200", "sent OPEN Message Error"},
	    // RFC 9072
	    {"04 fde9 005a 0a000009 ff ff0004 02000200", "0200", "sent OPEN Message Error"},
	    {"04 fde9 005a 0a000009 ff ff0003 010000", "0204010000", "sent OPEN Message Error/Unsupported Optional Parameter"},
	    // only IPv6 unicast
	    {"04 fde9 005a 0a000009 08 0206 010400020001", "0207010400010001",
	     "sent OPEN Message Error/Unsupported Capability"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint32_t transport = connected();
		receive(transport, OPEN, rows[i].body);
		expect_notification(rows[i].notification);
		expect_error(rows[i].error);
		assert_int_equal(status().state, BGP_IDLE);
		teardown(NULL);
		setup(NULL);
	}
}

static void open_accepted(void **state)
{
	(void)state;
	static const char *const rows[] = {
	    "04 fde9 005a 0a000009 00",                   // a peer of 1995
	    "04 fde9 0003 0a000005 00",                   // our own identifier (RFC 6286)
	    "04 5ba0 005a 0a000009 08 0206 41040000fde9", // AS_TRANS and the capability
	    "04 fde9 005a 0a000009 04 0202 0200",         // unknown and known ones in several parameters
	    "04 fde9 005a 0a000009 0c 0204 46028001 0204 02000200",
	    "04 fde9 005a 0a000009 ff ff0009 020006 41040000fde9", // RFC 9072
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint32_t transport = connected();
		receive(transport, OPEN, rows[i]);
		assert_int_equal(status().state, BGP_OPEN_CONFIRM);
		teardown(NULL);
		setup(NULL);
	}
}

static void header_errors(void **state)
{
	(void)state;
	static const struct {
		const char *header, *notification;
	} rows[] = {
	    {"fffffffffffffffffffffffffffffffe 001304", "0101"},     {"ffffffffffffffffffffffffffffffff 001204", "01020012"},
	    {"ffffffffffffffffffffffffffffffff 000004", "01020000"}, {"ffffffffffffffffffffffffffffffff 100104", "01021001"},
	    {"ffffffffffffffffffffffffffffffff 001404", "01020014"}, {"ffffffffffffffffffffffffffffffff 001c01", "0102001c"},
	    {"ffffffffffffffffffffffffffffffff 001602", "01020016"}, {"ffffffffffffffffffffffffffffffff 001403", "01020014"},
	    {"ffffffffffffffffffffffffffffffff 001605", "01020016"}, {"ffffffffffffffffffffffffffffffff 001300", "010300"},
	    {"ffffffffffffffffffffffffffffffff 001306", "010306"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		for (int pieces = 0; pieces < 2; pieces++) {
			uint32_t transport = established();
			uint8_t octets[19];
			assert_int_equal(octets_of(rows[i].header, octets, sizeof octets), 19);
			if (pieces) {
				receive_octets(transport, octets, 7);
				receive_octets(transport, octets + 7, 12);
			} else {
				receive_octets(transport, octets, 19);
			}
			expect_notification(rows[i].notification);
			assert_int_equal(status().state, BGP_IDLE);
			teardown(NULL);
			setup(NULL);
		}
	}
}

static void messages_out_of_place(void **state)
{
	(void)state;
	uint32_t transport = connected();
	receive(transport, KEEPALIVE, "");
	expect_notification("0501");
	expect_error("sent Finite State Machine Error/Receive Unexpected Message in OpenSent State");
	teardown(NULL);
	setup(NULL);
	transport = connected();
	receive(transport, OPEN, PEER_OPEN);
	receive(transport, UPDATE, "00000000");
	expect_notification("0502");
	teardown(NULL);
	setup(NULL);
	transport = established();
	receive(transport, OPEN, PEER_OPEN);
	expect_notification("0503");
}

static void routes_come_and_go(void **state)
{
	(void)state;
	uint32_t transport = established();
	receive(transport, UPDATE, "0000 0014" GOOD "18c0a801 18c0a802");
	assert_int_equal(announced, 2);
	assert_int_equal(status().prefixes_received, 2);
	struct bgp_attributes_view view;
	bgp_attributes_view(actions.routes[0].attributes, &view);
	assert_true(address_equal(&view.next_hop, &config.remote));
	assert_int_equal(view.as_path_length, 1);
	receive(transport, UPDATE,
	        "0000 0014" GOOD "18c0a801"); // the same again is no change
	assert_int_equal(announced, 0);
	receive(transport, UPDATE, "0004 18c0a802 0000");
	assert_int_equal(withdrawn, 1);
	// Treat-as-withdraw: the session stays, the route goes.
	receive(transport, UPDATE, "0000 0014 40010109 400206 02010000fde9 400304a9fe0a02 18c0a801");
	assert_int_equal(withdrawn, 1);
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_int_equal(bgp_count(bgp, BGP_COUNT_TREATED_AS_WITHDRAW), 1);
	// Our own AS in a route that was good before.
	receive(transport, UPDATE, "0000 0014" GOOD "18c0a801");
	receive(transport, UPDATE, "0000 0018 40010100 40020a 02020000fde90000fde8 400304a9fe0a02 18c0a801");
	assert_int_equal(withdrawn, 1);
	assert_int_equal(bgp_count(bgp, BGP_COUNT_AS_LOOPS), 1);
	// Withdrawn and announced in one message: it is announced.
	receive(transport, UPDATE, "0004 18c0a801 0014" GOOD "18c0a801");
	assert_int_equal(status().prefixes_received, 1);
	// Destinations that are none.
	receive(transport, UPDATE, "0000 0014" GOOD "20a9fe0a01 087f 04e0 0c0010");
	assert_int_equal(bgp_count(bgp, BGP_COUNT_MARTIANS), 4);
	receive(transport, UPDATE,
	        "0000 0014" GOOD "00"); // a default route is one
	assert_int_equal(status().prefixes_received, 2);
	// The peer goes: everything in one step.
	step((struct bgp_event){
	    .kind = BGP_EVENT_CLOSED, .session = session(), .transport = transport, .reason = "connection closed by the peer"});
	assert_int_equal(withdrawn, 2);
	expect_error("connection closed by the peer");
	assert_int_equal(status().prefixes_received, 0);
}

static void martians(void **state)
{
	(void)state;
	static const char *const refused[] = {"08 00", "10 0001", "08 7f", "20 7f000001", "10 a9fe",    "20 a9fe0a01",
	                                      "03 e0", "04 e0",   "04 f0", "08 f0",       "20 ffffffff"};
	static const char *const taken[] = {"00",      "08 01",   "08 0a", "08 7e", "08 80",
	                                    "10 a9fd", "10 a9ff", "08 df", "02 c0", "01 00"};
	uint32_t transport = established();
	char body[128];
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		snprintf(body, sizeof body, "0000 0014" GOOD "%s", refused[i]);
		receive(transport, UPDATE, body);
		assert_int_equal(announced, 0);
		assert_int_equal(bgp_count(bgp, BGP_COUNT_MARTIANS), i + 1);
	}
	for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
		snprintf(body, sizeof body, "0000 0014" GOOD "%s", taken[i]);
		receive(transport, UPDATE, body);
		assert_int_equal(announced, 1);
	}
}

static void update_errors_reset(void **state)
{
	(void)state;
	uint32_t transport = established();
	receive(transport, UPDATE, "0000 0014" GOOD "18c0a801");
	receive(transport, UPDATE, "0000 0014" GOOD "21c0a80100");
	expect_notification("030a");
	expect_error("sent UPDATE Message Error/Invalid Network Field");
	assert_int_equal(withdrawn, 1);
}

static void notifications_received(void **state)
{
	(void)state;
	uint32_t transport = established();
	receive(transport, NOTIFICATION, "0602");
	expect_error("received Cease/Administrative Shutdown");
	assert_int_equal(sent_length, 0);
	assert_int_equal(closed_count, 1);
	// What the peer said is not forgotten for a refused connection.
	pass_time(SECONDS(2));
	assert_int_not_equal(connecting, 0);
	step((struct bgp_event){
	    .kind = BGP_EVENT_CLOSED, .session = session(), .transport = connecting, .reason = "connection refused"});
	expect_error("received Cease/Administrative Shutdown");
	teardown(NULL);
	setup(NULL);
	transport = established();
	receive(transport, NOTIFICATION, "0602 08 6d61696e0a74c3bc");
	expect_error("received Cease/Administrative Shutdown: \"main?t??\"");
	teardown(NULL);
	setup(NULL);
	transport = established();
	receive(transport, NOTIFICATION,
	        "0602 ff 6d"); // a length that lies
	expect_error("received Cease/Administrative Shutdown");
	teardown(NULL);
	setup(NULL);
	transport = established();
	receive(transport, NOTIFICATION, "f7f8");
	expect_error("received Unknown Error/247.248");
}

static void collisions(void **state)
{
	(void)state;
	// Both ways at once. Ours is 10.0.0.5, the peer's 10.0.0.9: the peer's connection stays.
	uint32_t ours = connected();
	receive(ours, OPEN, PEER_OPEN);
	assert_int_equal(status().state, BGP_OPEN_CONFIRM);
	uint32_t theirs = accepted();
	assert_int_equal(sent_transport, theirs);
	receive(theirs, OPEN, PEER_OPEN);
	assert_int_equal(closed_count, 1);
	assert_int_equal(closed[0], ours);
	expect_sent(19, "0607");
	receive(theirs, KEEPALIVE, "");
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_string_equal(status().last_error, "");
	// A third one while Established: refused, and a KEEPALIVE finds out whether the peer still knows of the session.
	uint32_t third = accepted();
	assert_int_equal(closed[0], third);
	assert_int_equal(sent_transport, theirs);
	assert_int_equal(expect_sent(18, "03 0605"), 3);
	assert_int_equal(sent_length, 21 + 19);
	assert_int_equal(sent[21 + 18], KEEPALIVE);
	teardown(NULL);
	setup(NULL);
	// The higher identifier is ours.
	config.router_id = 0x0a00000a;
	ours = connected();
	theirs = accepted();
	receive(theirs, OPEN, PEER_OPEN);
	receive(ours, OPEN, PEER_OPEN);
	assert_int_equal(closed[0], theirs);
	teardown(NULL);
	setup(NULL);
	// Equal ones: the higher AS's (RFC 6286), which is the peer's.
	config.router_id = 0x0a000009;
	ours = connected();
	theirs = accepted();
	receive(theirs, OPEN, PEER_OPEN);
	receive(ours, OPEN, PEER_OPEN);
	assert_int_equal(closed[0], ours);
	expect_sent(19, "0607");
	assert_int_equal(bgp_count(bgp, BGP_COUNT_COLLISIONS), 1);
}

static void accepted_before_our_own_arrives(void **state)
{
	(void)state;
	configure();
	uint32_t ours = connecting;
	uint32_t theirs = accepted();
	receive(theirs, OPEN, PEER_OPEN);
	receive(theirs, KEEPALIVE, "");
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_int_equal(closed[0], ours);
	// An event of the transport that is gone is nothing.
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = ours});
	assert_int_equal(actions.count, 0);
}

static void the_tunnel_and_people(void **state)
{
	(void)state;
	uint32_t transport = established();
	receive(transport, UPDATE, "0000 0014" GOOD "18c0a801");
	config.tunnel_up = false;
	configure();
	expect_notification("0604 0b 74756e6e656c20646f776e");
	expect_error("tunnel down");
	assert_int_equal(withdrawn, 1);
	assert_true(bgp_deadline(bgp) == INSTANT_NEVER);
	uint32_t early = accepted();
	assert_int_equal(closed[0], early);
	config.tunnel_up = true;
	config.generation = 2;
	transport = connected();
	receive(transport, OPEN, PEER_OPEN);
	receive(transport, KEEPALIVE, "");
	config.generation = 3;
	configure();
	expect_error("tunnel restarted");
	assert_int_not_equal(connecting, 0); // at once
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = connecting});
	config.admin_up = false;
	configure();
	expect_notification("0602 1c 74756e6e656c2061646d696e69737472617469766 56c7920646f776e");
	expect_error("sent Cease/Administrative Shutdown");
	config.admin_up = true;
	transport = connected();
	config.remote_as = 65009;
	configure();
	expect_notification("0606");
	assert_int_not_equal(connecting, 0);
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = connecting});
	step((struct bgp_event){.kind = BGP_EVENT_SESSION_REMOVED, .session = session()});
	expect_notification("0603");
	assert_null(session());
	(void)transport;
}

// What both ends have to agree about begins anew when it changes; what only we go by does not.
static void a_changed_peering(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		established();
		config.export = i == 0 ? "vpn-2" : config.export;
		config.local.octets[3] = i == 1 ? 5 : 1;
		config.remote.octets[3] = i == 2 ? 6 : 2;
		config.local_as += i == 3;
		config.remote_as += i == 4;
		config.router_id += i == 5;
		config.hold_time = i == 6 ? 60 : config.hold_time;
		config.keepalive = i == 7 ? 5 : config.keepalive;
		config.maximum_prefixes = i == 8 ? 7 : 0;
		configure();
		if (i < 8) {
			assert_int_equal(status().state, BGP_CONNECT);
			expect_notification("0606");
			expect_error("sent Cease/Other Configuration Change");
			assert_int_not_equal(connecting, 0);
		} else {
			assert_int_equal(status().state, BGP_ESTABLISHED);
			assert_int_equal(sent_length, 0);
		}
		teardown(NULL);
		setup(NULL);
	}
}

static void a_peer_without_optional_parameters(void **state)
{
	(void)state;
	uint32_t transport = connected();
	receive(transport, NOTIFICATION, "0204");
	pass_time(SECONDS(2));
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = connecting});
	assert_int_equal(sent_length, 29);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    test(handshake),
	    test(octet_by_octet),
	    test(open_errors),
	    test(open_accepted),
	    test(header_errors),
	    test(messages_out_of_place),
	    test(routes_come_and_go),
	    test(martians),
	    test(update_errors_reset),
	    test(notifications_received),
	    test(collisions),
	    test(accepted_before_our_own_arrives),
	    test(the_tunnel_and_people),
	    test(a_changed_peering),
	    test(a_peer_without_optional_parameters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
