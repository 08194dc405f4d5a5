// The timers of a session (RFC 4271 §8.1.3, §10; RFC 9687): what was negotiated holds, a silent peer and one that reads nothing
// end, attempts and sessions that come to nothing come back more slowly.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/bgp_peer.h"

static void hold_timer(void **state)
{
	(void)state;
	uint32_t transport = established();
	receive(transport, UPDATE, "0000 0014" GOOD "18c0a801");
	size_t keepalives = 0;
	for (int i = 0; i < 290; i++) {
		pass_time(MILLISECONDS(100));
		keepalives += sent_length == 19 && sent[18] == KEEPALIVE;
		sent_length = 0;
	}
	assert_in_range(keepalives, 2, 4);
	assert_int_equal(status().state, BGP_ESTABLISHED);
	receive(transport, KEEPALIVE, "");
	pass_time(SECONDS(10));
	pass_time(SECONDS(10));
	assert_int_equal(status().state, BGP_ESTABLISHED);
	pass_time(SECONDS(10));
	assert_int_equal(status().state, BGP_IDLE);
	assert_int_equal(withdrawn, 1);
	expect_notification("0400");
	expect_error("hold timer expired");
	expect_reason("hold timer expired: nothing came from the peer for 30 s");
	assert_string_equal(note, "BGP hold timer expired: hold timer expired: nothing came from the peer for 30 s");
}

// RFC 4271 §4.2, §4.4: the smaller of the two hold times holds, and keepalives come three times in it whatever is configured.
static void the_peers_hold_time_is_smaller(void **state)
{
	(void)state;
	uint32_t transport = connected();
	receive(transport, OPEN, "04 fde9 0009 0a000009 " CAPABILITIES);
	receive(transport, KEEPALIVE, "");
	assert_int_equal(status().hold_time, 9);
	size_t keepalives = 0;
	for (int i = 0; i < 89; i++) {
		pass_time(MILLISECONDS(100));
		keepalives += sent_length == 19 && sent[18] == KEEPALIVE;
		sent_length = 0;
	}
	assert_in_range(keepalives, 2, 4);
	assert_int_equal(status().state, BGP_ESTABLISHED);
	pass_time(MILLISECONDS(100));
	assert_int_equal(status().state, BGP_IDLE);
	expect_reason("hold timer expired: nothing came from the peer for 9 s");
}

static void our_hold_time_is_smaller(void **state)
{
	(void)state;
	config.hold_time = 9;
	config.keepalive = 2;
	established();
	assert_int_equal(status().hold_time, 9);
	// The configured keepalive is more often than a third.
	size_t keepalives = 0;
	for (int i = 0; i < 89; i++) {
		pass_time(MILLISECONDS(100));
		keepalives += sent_length == 19 && sent[18] == KEEPALIVE;
		sent_length = 0;
	}
	assert_in_range(keepalives, 4, 6);
}

// With a hold time of 0 on our side the peer's 0 is what was asked for; a frozen peer is then nobody's business.
static void no_hold_time(void **state)
{
	(void)state;
	config.hold_time = 0;
	uint32_t transport = connected();
	receive(transport, OPEN, "04 fde9 0000 0a000009 " CAPABILITIES);
	receive(transport, KEEPALIVE, "");
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_int_equal(status().hold_time, 0);
	pass_time(MILLISECONDS(50)); // End-of-RIB
	step((struct bgp_event){.kind = BGP_EVENT_SENT, .session = session(), .transport = transport, .count = 1 << 16});
	pass_time(SECONDS(3600));
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_int_equal(sent_length, 0);
}

static void no_open_comes(void **state)
{
	(void)state;
	connected();
	pass_time(SECONDS(29));
	assert_int_equal(status().state, BGP_OPEN_SENT);
	pass_time(SECONDS(1));
	expect_notification("0400");
	expect_reason("hold timer expired: the peer sent no OPEN within 30 s");
}

// RFC 9687: a peer that is alive and takes nothing ends after 8 minutes, and TCP does not end it before.
static void a_peer_that_reads_nothing(void **state)
{
	(void)state;
	uint32_t transport = connected();
	receive(transport, OPEN, PEER_OPEN);
	assert_int_equal(patience, 480000);
	receive(transport, KEEPALIVE, "");
	for (int i = 0; i < 479; i++) {
		receive(transport, KEEPALIVE, "");
		pass_time(SECONDS(1));
		assert_int_equal(status().state, BGP_ESTABLISHED);
	}
	receive(transport, KEEPALIVE, "");
	pass_time(SECONDS(2));
	expect_error("send hold timer expired");
	expect_reason("send hold timer expired: the peer took nothing for 480 s");
	teardown(NULL);
	setup(NULL);
	// Twice a long hold time is more.
	config.hold_time = 600;
	transport = connected();
	receive(transport, OPEN, "04 fde9 0258 0a000009 " CAPABILITIES);
	assert_int_equal(patience, 1200000);
}

static void tries_again(void **state)
{
	(void)state;
	static const struct {
		duration least, most;
	} pauses[] = {{750000, 1000000}, {1500000, 2000000}, {3000000, 4000000}, {3000000, 4000000}};
	configure();
	for (size_t i = 0; i < 8; i++) {
		close_transport(connecting, BGP_CLOSE_REFUSED, "connection refused");
		expect_error("connection refused");
		assert_int_equal(status().state, BGP_IDLE);
		duration pause = next_deadline();
		assert_int_not_equal(connecting, 0);
		assert_in_range(pause, pauses[i < 3 ? i : 3].least, pauses[i < 3 ? i : 3].most);
	}
	// No answer at all: the attempt is given up for a new one.
	uint32_t first = connecting;
	pass_time(SECONDS(2));
	assert_int_equal(closed_count, 1);
	assert_int_equal(closed[0], first);
	assert_int_not_equal(connecting, first);
	assert_int_equal(status().state, BGP_CONNECT);
}

// A peer that ends each session soon after it stands (its limit of prefixes, a broken policy) is met less and less often, and
// may not come itself.
static void sessions_that_do_not_last(void **state)
{
	(void)state;
	uint32_t transport = established();
	for (unsigned i = 0; i < 8; i++) {
		pass_time(SECONDS(1));
		receive(transport, NOTIFICATION, "0601");
		unsigned doublings = i < 5 ? i : 5;
		assert_int_equal(status().state, BGP_IDLE);
		if (i > 0) { // after the first it may come back at once
			uint32_t theirs = accepted();
			assert_int_equal(closed[0], theirs);
			assert_int_equal(sent_length, 21);
			expect_sent(18, "03 0605"); // RFC 4486: Connection Rejected
		}
		assert_in_range(next_deadline(), 750000 << doublings, 1000000 << doublings);
		transport = connecting;
		assert_int_not_equal(transport, 0);
		step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = transport});
		establish(transport);
	}
	receive(transport, NOTIFICATION, "0601");
	expect_reason(
	    "the peer sent Cease/Maximum Number of Prefixes Reached: its limit of prefixes is below what is advertised to it; "
	    "9 sessions in a row lasted less than 60 s, so attempts pause up to 32 s");
	next_deadline();
	transport = connecting;
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = transport});
	establish(transport);
	// One that has lasted begins anew.
	for (int i = 0; i < 60; i++) {
		pass_time(SECONDS(1));
		receive(transport, KEEPALIVE, "");
	}
	receive(transport, NOTIFICATION, "0601");
	assert_in_range(next_deadline(), 750000, 1000000);
}

// What our own side ends is no flap: the tunnel that is UP again has its session at once.
static void a_restarted_tunnel_is_not_paused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		config.generation++;
		configure();
		assert_int_not_equal(connecting, 0);
		uint32_t transport = connecting;
		step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = transport});
		establish(transport);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    test(hold_timer),
	    test(the_peers_hold_time_is_smaller),
	    test(our_hold_time_is_smaller),
	    test(no_hold_time),
	    test(no_open_comes),
	    test(a_peer_that_reads_nothing),
	    test(tries_again),
	    test(sessions_that_do_not_last),
	    test(a_restarted_tunnel_is_not_paused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
