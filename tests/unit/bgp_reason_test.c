// What a person is told: why a session is not Established, what is odd about one that is, and the notices of what happened.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/bgp_peer.h"

static void again(void)
{
	teardown(NULL);
	setup(NULL);
}

static void nobody_answers(void **state)
{
	(void)state;
	configure();
	expect_reason("connecting to 169.254.10.2");
	pass_time(SECONDS(2));
	pass_time(SECONDS(2));
	expect_reason("no TCP answer from 169.254.10.2: the address, a filter, or TCP MD5 there");
	assert_int_equal(actions.list[actions.count - 1].kind == BGP_ACTION_CHANGED || actions.count > 1, 1);
	// It answers again.
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = connecting});
	expect_reason("connecting to 169.254.10.2");
}

static void no_connection(void **state)
{
	(void)state;
	static const struct {
		enum bgp_close_cause cause;
		const char *text, *reason;
	} rows[] = {
	    {BGP_CLOSE_REFUSED, "connection refused",
	     "169.254.10.2 refuses TCP connections to port 179: no BGP runs there, or it has no neighbor 169.254.10.1"},
	    {BGP_CLOSE_UNREACHABLE, "no route to host",
	     "169.254.10.2 cannot be reached through the tunnel (no route to host): is it the address on the device's side?"},
	    {BGP_CLOSE_TIMED_OUT, "connection timed out",
	     "no TCP answer from 169.254.10.2: the address, a filter, or TCP MD5 there"},
	    {BGP_CLOSE_NO_SOCKET, "no socket from esp", "this gateway node has no socket for it yet: is esp running?"},
	    {BGP_CLOSE_OTHER, "Permission denied", "no connection to 169.254.10.2: Permission denied"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		configure();
		close_transport(connecting, rows[i].cause, rows[i].text);
		expect_error(rows[i].text);
		expect_reason(rows[i].reason);
		assert_int_equal(notices, 0);
		again();
	}
}

static void closed_without_a_word(void **state)
{
	(void)state;
	uint32_t transport = connected();
	close_transport(transport, BGP_CLOSE_BY_PEER, "connection closed by the peer");
	expect_reason("169.254.10.2 ends the connection after our OPEN without a reason (connection closed by the peer): its "
	              "log may have one");
}

static void refused_opens(void **state)
{
	(void)state;
	static const struct {
		const char *body, *reason;
	} rows[] = {
	    {"04 fde9 005a 0a000009 08 0206 4104000101d0",
	     "the peer says that it is AS 66000, and its customer gateway has AS 65001"},
	    {"04 fde9 0000 0a000009 00",
	     "the peer offers a hold time of 0 s, which means never: it must be 3 s or more (ours is 30 s)"},
	    {"04 fde9 0002 0a000009 00", "the peer offers a hold time of 2 s: it must be 3 s or more (ours is 30 s)"},
	    {"04 fde9 005a 00000000 00", "the peer's OPEN was refused: OPEN Message Error/Bad BGP Identifier"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint32_t transport = connected();
		receive(transport, OPEN, rows[i].body);
		expect_reason(rows[i].reason);
		char expected[300];
		snprintf(expected, sizeof expected, "BGP OPEN refused: %s", rows[i].reason);
		assert_string_equal(note, expected);
		// An attempt that merely does not connect does not hide it.
		next_deadline();
		close_transport(connecting, BGP_CLOSE_REFUSED, "connection refused");
		expect_reason(rows[i].reason);
		again();
	}
}

static void notifications(void **state)
{
	(void)state;
	static const struct {
		bool open; // in OpenSent
		const char *body, *notice, *reason;
	} rows[] = {
	    {true, "0202", "BGP OPEN refused",
	     "the peer sent OPEN Message Error/Bad Peer AS: it expects another AS than ours, which is 65000"},
	    {true, "0206", "BGP OPEN refused",
	     "the peer sent OPEN Message Error/Unacceptable Hold Time: it does not take our hold time of 30 s"},
	    {true, "0605", "BGP OPEN refused",
	     "the peer sent Cease/Connection Rejected: it has no such neighbor, or has not noticed yet that an earlier session "
	     "ended"},
	    {false, "0602 08 6d61696e0a74c3bc", "BGP closed", "the peer sent Cease/Administrative Shutdown: \"main?t??\""},
	    {false, "0601", "BGP closed",
	     "the peer sent Cease/Maximum Number of Prefixes Reached: its limit of prefixes is below what is advertised to it"},
	    {false, "0400", "BGP closed", "the peer sent Hold Timer Expired: what we send does not arrive there"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint32_t transport = rows[i].open ? connected() : established();
		receive(transport, NOTIFICATION, rows[i].body);
		expect_reason(rows[i].reason);
		char expected[300];
		snprintf(expected, sizeof expected, "%s: %s", rows[i].notice, rows[i].reason);
		assert_string_equal(note, expected);
		again();
	}
	// Then the peer is gone altogether.
	uint32_t transport = established();
	receive(transport, NOTIFICATION, "0602");
	next_deadline();
	pass_time(SECONDS(2));
	pass_time(SECONDS(2));
	expect_reason("the peer sent Cease/Administrative Shutdown; since then no TCP answer from 169.254.10.2");
	transport = connecting;
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = transport});
	establish(transport);
	expect_reason("");
}

static void nobody_wants_it(void **state)
{
	(void)state;
	established();
	config.tunnel_up = false;
	configure();
	expect_reason("the tunnel is DOWN: BGP starts when it is UP");
	assert_string_equal(note, "BGP closed: tunnel down");
	config.admin_up = false;
	configure();
	expect_reason("administratively down: the tunnel's adminState is DOWN");
}

static const char no_routes[] =
    "Established, but the peer sends no routes: an eBGP policy may be missing there (FRR: ebgp-requires-policy)";

static void a_peer_without_routes(void **state)
{
	(void)state;
	uint32_t transport = established();
	for (int i = 0; i < 29; i++) {
		pass_time(SECONDS(1));
		receive(transport, KEEPALIVE, "");
	}
	expect_reason("");
	pass_time(SECONDS(1));
	expect_reason(no_routes);
	assert_int_equal(actions.list[0].kind, BGP_ACTION_CHANGED);
	receive(transport, UPDATE, "0000 0014" GOOD "18c0a801");
	expect_reason("");
	// One that has taken its routes back is not odd.
	receive(transport, UPDATE, "0004 18c0a801 0000");
	expect_reason("");
	again();
	// End-of-RIB says it at once (RFC 4724 §2).
	transport = established();
	receive(transport, UPDATE, "0000 0000");
	assert_true(status().end_of_rib);
	expect_reason(no_routes);
	again();
	transport = established();
	receive(transport, UPDATE, "0000 0014" GOOD "18c0a801");
	assert_false(status().end_of_rib);
	receive(transport, UPDATE, "0000 0007 90 0f 0003 000101"); // as RFC 4760 has it
	assert_true(status().end_of_rib);
	expect_reason("");
}

static void routes_that_are_not_accepted(void **state)
{
	(void)state;
	uint32_t transport = established();
	receive(transport, UPDATE, "0000 0014 40010100 400206 02010000fde9 40030408080808 18c0a801");
	expect_reason(
	    "Established, but none of the peer's routes is accepted: their next hop is not the peer's address in the tunnel "
	    "(next-hop-self is missing there)");
	assert_string_equal(note, "BGP routes not accepted: their next hop is not the peer's address in the tunnel");
	receive(transport, UPDATE, "0000 0018 40010100 40020a 02020000fde90000fde8 400304a9fe0a02 18c0a801");
	expect_reason("Established, but none of the peer's routes is accepted: our own AS is in their AS path");
	receive(transport, UPDATE, "0000 0014" GOOD "10a9fe");
	expect_reason("Established, but none of the peer's routes is accepted: the destinations are no unicast networks");
	receive(transport, UPDATE, "0000 0014 40010109 400206 02010000fde9 400304a9fe0a02 18c0a801");
	expect_reason("Established, but none of the peer's routes is accepted: Invalid ORIGIN Attribute");
	assert_string_equal(note, "BGP UPDATE malformed: treated as withdraw (RFC 7606): Invalid ORIGIN Attribute, ORIGIN");
	receive(transport, UPDATE, "0000 0014" GOOD "18c0a801");
	expect_reason("");
}

// A kind that comes too often is left out and counted; the other kinds are not.
static void notices_are_limited(void **state)
{
	(void)state;
	uint32_t transport = established();
	size_t said = 0;
	for (int i = 0; i < 100; i++) {
		receive(transport, UPDATE, "0000 0014 40010109 400206 02010000fde9 400304a9fe0a02 18c0a801");
		said += notices;
	}
	assert_int_equal(said, 4);
	receive(transport, UPDATE, "0000 0014 40010100 400206 02010000fde9 40030408080808 18c0a801");
	assert_int_equal(notices, 1);
	for (int i = 0; i < 15; i++) {
		pass_time(SECONDS(1));
		receive(transport, KEEPALIVE, "");
	}
	receive(transport, UPDATE, "0000 0014 40010109 400206 02010000fde9 400304a9fe0a02 18c0a801");
	assert_string_equal(note, "BGP UPDATE malformed: treated as withdraw (RFC 7606): Invalid ORIGIN Attribute, ORIGIN "
	                          "(96 more of this kind before are not shown)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    test(nobody_answers),      test(no_connection),   test(closed_without_a_word), test(refused_opens),
	    test(notifications),       test(nobody_wants_it), test(a_peer_without_routes), test(routes_that_are_not_accepted),
	    test(notices_are_limited),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
