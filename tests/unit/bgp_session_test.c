// One session through the core's door: the handshake, OPEN errors (RFC 4271 §6.2), timers, collisions (§6.8), NOTIFICATION both
// ways, what is advertised and how it is packed, limits. The test plays the peer, octet by octet.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/hex.h"
#include "services/bgp/bgp.h"

enum { OPEN = 1, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH };

// ---- one speaker and what it did ----
static struct bgp *bgp;
static struct bgp_actions actions;
static instant clock;
static uint32_t connecting; // the transport of the last BGP_ACTION_CONNECT
static uint32_t closed[16]; // transports closed in the last step
static size_t closed_count;
static uint8_t sent[1 << 20]; // octets of the last step, by whichever transport
static size_t sent_length;
static uint32_t sent_transport;
static size_t announced, withdrawn; // route changes of the last step
static char note[512];

static struct bgp_session_config config;

static void step(struct bgp_event event)
{
	connecting = 0;
	closed_count = sent_length = announced = withdrawn = 0;
	note[0] = '\0';
	bgp_actions_clear(&actions);
	bgp_step(bgp, &event, clock, &actions);
	for (size_t i = 0; i < actions.count; i++) {
		const struct bgp_action *a = &actions.list[i];
		if (a->kind == BGP_ACTION_CONNECT) {
			connecting = a->transport;
		} else if (a->kind == BGP_ACTION_CLOSE) {
			closed[closed_count++] = a->transport;
		} else if (a->kind == BGP_ACTION_SEND) {
			memcpy(sent + sent_length, actions.octets + a->offset, a->length);
			sent_length += a->length;
			sent_transport = a->transport;
		} else if (a->kind == BGP_ACTION_NOTE) {
			snprintf(note, sizeof note, "%s", (const char *)actions.octets + a->offset);
		}
	}
	for (size_t i = 0; i < actions.route_count; i++) {
		*(actions.routes[i].attributes ? &announced : &withdrawn) += 1;
	}
}

static struct bgp_session *session(void)
{
	return bgp_session_find(bgp, "tun-1");
}

static struct bgp_session_status status(void)
{
	struct bgp_session_status out;
	bgp_session_status(session(), &out);
	return out;
}

static void configure(void)
{
	step((struct bgp_event){.kind = BGP_EVENT_SESSION, .id = "tun-1", .config = &config});
}

static int setup(void **state)
{
	(void)state;
	static const uint8_t seed[32];
	bgp = bgp_new(seed);
	clock = SECONDS(100);
	config = (struct bgp_session_config){
	    .export = "vpn-1",
	    .local = {4, {169, 254, 10, 1}},
	    .remote = {4, {169, 254, 10, 2}},
	    .local_as = 65000,
	    .remote_as = 65001,
	    .router_id = 0x0a000005,
	    .hold_time = 30,
	    .keepalive = 10,
	    .admin_up = true,
	    .tunnel_up = true,
	    .generation = 1,
	};
	step((struct bgp_event){.kind = BGP_EVENT_ADVERTISED});
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bgp_actions_fini(&actions);
	bgp_free(&bgp);
	return 0;
}

// ---- the peer ----
static void receive_octets(uint32_t transport, const uint8_t *octets, size_t length)
{
	step((struct bgp_event){
	    .kind = BGP_EVENT_RECEIVED, .session = session(), .transport = transport, .octets = {octets, length}});
}

// A message of `type` whose body is hexadecimal text.
static void receive(uint32_t transport, uint8_t type, const char *body)
{
	uint8_t octets[4096];
	memset(octets, 0xff, 16);
	ptrdiff_t length = hex_parse(body, octets + 19, sizeof octets - 19);
	assert_true(length >= 0);
	octets[16] = (uint8_t)((length + 19) >> 8);
	octets[17] = (uint8_t)(length + 19);
	octets[18] = type;
	receive_octets(transport, octets, (size_t)length + 19);
}

// AS 65001, hold 90, identifier 10.0.0.9, multiprotocol IPv4 unicast, route refresh, four-octet AS.
#define CAPABILITIES                                                                                                           \
	"10"                                                                                                                   \
	"020e"                                                                                                                 \
	"010400010001"                                                                                                         \
	"0200"                                                                                                                 \
	"41040000fde9"
#define PEER_OPEN                                                                                                              \
	"04"                                                                                                                   \
	"fde9"                                                                                                                 \
	"005a"                                                                                                                 \
	"0a000009" CAPABILITIES
#define GOOD                                                                                                                   \
	"40010100"                                                                                                             \
	"400206"                                                                                                               \
	"02010000fde9"                                                                                                         \
	"400304a9fe0a02"

static void expect_sent(size_t at, const char *text)
{
	char hex[2 * 4096 + 1];
	assert_true(at * 1 + strlen(text) / 2 <= sent_length);
	hex_format((struct bytes){sent + at, strlen(text) / 2}, hex);
	assert_string_equal(hex, text);
}

static void expect_notification(const char *text) // code, subcode and data
{
	assert_true(sent_length >= 21);
	assert_int_equal(sent[18], NOTIFICATION);
	assert_int_equal((size_t)sent[16] << 8 | sent[17], sent_length);
	assert_int_equal(sent_length - 19, strlen(text) / 2);
	expect_sent(19, text);
	assert_int_equal(closed_count, 1);
}

static uint32_t connected(void)
{
	configure();
	uint32_t transport = connecting;
	assert_int_not_equal(transport, 0);
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = transport});
	assert_int_equal(sent[18], OPEN);
	return transport;
}

static uint32_t established(void)
{
	uint32_t transport = connected();
	receive(transport, OPEN, PEER_OPEN);
	assert_int_equal(sent[18], KEEPALIVE);
	receive(transport, KEEPALIVE, "");
	assert_int_equal(status().state, BGP_ESTABLISHED);
	return transport;
}

static uint32_t accepted(void)
{
	uint32_t transport = bgp_transport_new(bgp);
	step((struct bgp_event){.kind = BGP_EVENT_ACCEPTED, .session = session(), .transport = transport});
	return transport;
}

static void pass_time(duration length)
{
	clock += length;
	if (bgp_deadline(bgp) <= clock) {
		step((struct bgp_event){.kind = BGP_EVENT_TIME});
	}
}

static void expect_error(const char *text)
{
	assert_string_equal(status().last_error, text);
}

// ---- tests ----
static void handshake(void **state)
{
	(void)state;
	uint32_t transport = connected();
	expect_sent(19, "04"
	                "fde8"
	                "001e"
	                "0a000005"
	                "10"
	                "020e"
	                "010400010001"
	                "0200"
	                "41040000fde8");
	assert_int_equal(status().state, BGP_OPEN_SENT);
	receive(transport, OPEN, PEER_OPEN);
	assert_int_equal(status().state, BGP_OPEN_CONFIRM);
	receive(transport, KEEPALIVE, "");
	struct bgp_session_status s = status();
	assert_int_equal(s.state, BGP_ESTABLISHED);
	assert_int_equal(s.hold_time, 30);
	assert_int_equal(s.remote_router_id, 0x0a000009);
	assert_int_equal(s.established_count, 1);
	assert_string_equal(note, "session established");
	// End-of-RIB, as there is nothing to advertise.
	assert_int_equal(sent_length, 23);
	expect_sent(16, "00170200000000");
}

static void octet_by_octet(void **state)
{
	(void)state;
	uint32_t transport = connected();
	uint8_t stream[19 + 29 + 19];
	memset(stream, 0xff, sizeof stream);
	ptrdiff_t length = hex_parse("002d01" PEER_OPEN, stream + 16, sizeof stream - 16);
	hex_parse("001304", stream + 16 + length + 16, 3);
	for (size_t i = 0; i < 16 + (size_t)length + 19; i++) {
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
	    {"03"
	     "fde9"
	     "005a"
	     "0a000009"
	     "00",
	     "02010004", "sent OPEN Message Error/Unsupported Version Number"},
	    {"04"
	     "fdea"
	     "005a"
	     "0a000009"
	     "00",
	     "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04"
	     "0000"
	     "005a"
	     "0a000009"
	     "00",
	     "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "08"
	     "0206"
	     "41040000fdea",
	     "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "08"
	     "0206"
	     "410400000000",
	     "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04"
	     "5ba0"
	     "005a"
	     "0a000009"
	     "00",
	     "0202", "sent OPEN Message Error/Bad Peer AS"},
	    {"04"
	     "fde9"
	     "0001"
	     "0a000009"
	     "00",
	     "0206", "sent OPEN Message Error/Unacceptable Hold Time"},
	    {"04"
	     "fde9"
	     "0002"
	     "0a000009"
	     "00",
	     "0206", "sent OPEN Message Error/Unacceptable Hold Time"},
	    {"04"
	     "fde9"
	     "005a"
	     "00000000"
	     "00",
	     "0203", "sent OPEN Message Error/Bad BGP Identifier"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "03"
	     "010100",
	     "0204010100", "sent OPEN Message Error/Unsupported Optional Parameter"},
	    // lengths that lie
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "01",
	     "0200", "sent OPEN Message Error"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "00"
	     "00",
	     "0200", "sent OPEN Message Error"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "02"
	     "0203",
	     "0200", "sent OPEN Message Error"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "01"
	     "02",
	     "0200", "sent OPEN Message Error"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "04"
	     "02024104",
	     "0200", "sent OPEN Message Error"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "07"
	     "0205"
	     "4103000001",
	     "0200", "sent OPEN Message Error"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "07"
	     "0205"
	     "0103000100",
	     "0200", "sent OPEN Message Error"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "05"
	     "0203"
	     "020100",
	     "0200", "sent OPEN Message Error"},
	    // RFC 9072
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "ff"
	     "ff0004"
	     "02000200",
	     "0200", "sent OPEN Message Error"},
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "ff"
	     "ff0003"
	     "010000",
	     "0204010000", "sent OPEN Message Error/Unsupported Optional Parameter"},
	    // only IPv6 unicast
	    {"04"
	     "fde9"
	     "005a"
	     "0a000009"
	     "08"
	     "0206"
	     "010400020001",
	     "0207010400010001", "sent OPEN Message Error/Unsupported Capability"},
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
	    "04"
	    "fde9"
	    "005a"
	    "0a000009"
	    "00", // a peer of 1995
	    "04"
	    "fde9"
	    "0000"
	    "0a000009"
	    "00", // no hold time
	    "04"
	    "fde9"
	    "0003"
	    "0a000005"
	    "00", // our own identifier (RFC 6286)
	    "04"
	    "5ba0"
	    "005a"
	    "0a000009"
	    "08"
	    "0206"
	    "41040000fde9", // AS_TRANS and the capability
	    "04"
	    "fde9"
	    "005a"
	    "0a000009"
	    "04"
	    "0202"
	    "0200", // unknown and known ones in several parameters
	    "04"
	    "fde9"
	    "005a"
	    "0a000009"
	    "0c"
	    "0204"
	    "46028001"
	    "0204"
	    "02000200",
	    "04"
	    "fde9"
	    "005a"
	    "0a000009"
	    "ff"
	    "ff0009"
	    "020006"
	    "41040000fde9", // RFC 9072
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
	    {"fffffffffffffffffffffffffffffffe"
	     "001304",
	     "0101"},
	    {"ffffffffffffffffffffffffffffffff"
	     "001204",
	     "01020012"},
	    {"ffffffffffffffffffffffffffffffff"
	     "000004",
	     "01020000"},
	    {"ffffffffffffffffffffffffffffffff"
	     "100104",
	     "01021001"},
	    {"ffffffffffffffffffffffffffffffff"
	     "001404",
	     "01020014"},
	    {"ffffffffffffffffffffffffffffffff"
	     "001c01",
	     "0102001c"},
	    {"ffffffffffffffffffffffffffffffff"
	     "001602",
	     "01020016"},
	    {"ffffffffffffffffffffffffffffffff"
	     "001403",
	     "01020014"},
	    {"ffffffffffffffffffffffffffffffff"
	     "001605",
	     "01020016"},
	    {"ffffffffffffffffffffffffffffffff"
	     "001300",
	     "010300"},
	    {"ffffffffffffffffffffffffffffffff"
	     "001306",
	     "010306"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		for (int pieces = 0; pieces < 2; pieces++) {
			uint32_t transport = established();
			uint8_t octets[19];
			assert_int_equal(hex_parse(rows[i].header, octets, sizeof octets), 19);
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
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "18c0a801"
	        "18c0a802");
	assert_int_equal(announced, 2);
	assert_int_equal(status().prefixes_received, 2);
	struct bgp_attributes_view view;
	bgp_attributes_view(actions.routes[0].attributes, &view);
	assert_int_equal(view.next_hop, 0xa9fe0a02);
	assert_int_equal(view.as_path_length, 1);
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "18c0a801"); // the same again is no change
	assert_int_equal(announced, 0);
	receive(transport, UPDATE,
	        "0004"
	        "18c0a802"
	        "0000");
	assert_int_equal(withdrawn, 1);
	// Treat-as-withdraw: the session stays, the route goes.
	receive(transport, UPDATE,
	        "0000"
	        "0014"
	        "40010109"
	        "400206"
	        "02010000fde9"
	        "400304a9fe0a02"
	        "18c0a801");
	assert_int_equal(withdrawn, 1);
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_int_equal(bgp_count(bgp, BGP_COUNT_TREATED_AS_WITHDRAW), 1);
	// Our own AS in a route that was good before.
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "18c0a801");
	receive(transport, UPDATE,
	        "0000"
	        "0018"
	        "40010100"
	        "40020a"
	        "02020000fde90000fde8"
	        "400304a9fe0a02"
	        "18c0a801");
	assert_int_equal(withdrawn, 1);
	assert_int_equal(bgp_count(bgp, BGP_COUNT_AS_LOOPS), 1);
	// Withdrawn and announced in one message: it is announced.
	receive(transport, UPDATE,
	        "0004"
	        "18c0a801"
	        "0014" GOOD "18c0a801");
	assert_int_equal(status().prefixes_received, 1);
	// Destinations that are none.
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "20a9fe0a01"
	        "087f"
	        "04e0"
	        "0c0010");
	assert_int_equal(bgp_count(bgp, BGP_COUNT_MARTIANS), 4);
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "00"); // a default route is one
	assert_int_equal(status().prefixes_received, 2);
	// The peer goes: everything in one step.
	step((struct bgp_event){
	    .kind = BGP_EVENT_CLOSED, .session = session(), .transport = transport, .reason = "connection closed by the peer"});
	assert_int_equal(withdrawn, 2);
	expect_error("connection closed by the peer");
	assert_int_equal(status().prefixes_received, 0);
}

static void update_errors_reset(void **state)
{
	(void)state;
	uint32_t transport = established();
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "18c0a801");
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "21c0a80100");
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
	receive(transport, NOTIFICATION,
	        "0602"
	        "08"
	        "6d61696e0a74c3bc");
	expect_error("received Cease/Administrative Shutdown: \"main?t??\"");
	teardown(NULL);
	setup(NULL);
	transport = established();
	receive(transport, NOTIFICATION,
	        "0602"
	        "ff"
	        "6d"); // a length that lies
	expect_error("received Cease/Administrative Shutdown");
	teardown(NULL);
	setup(NULL);
	transport = established();
	receive(transport, NOTIFICATION, "f7f8");
	expect_error("received Unknown Error/247.248");
}

static void hold_timer(void **state)
{
	(void)state;
	uint32_t transport = established();
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "18c0a801");
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
}

static void a_peer_that_reads_nothing(void **state)
{
	(void)state;
	uint32_t transport = established();
	for (int i = 0; i < 600 && status().state == BGP_ESTABLISHED; i++) {
		receive(transport, KEEPALIVE, "");
		pass_time(SECONDS(1));
	}
	expect_error("send hold timer expired");
}

static void tries_again(void **state)
{
	(void)state;
	configure();
	for (int i = 0; i < 8; i++) {
		uint32_t transport = connecting;
		step((struct bgp_event){
		    .kind = BGP_EVENT_CLOSED, .session = session(), .transport = transport, .reason = "connection refused"});
		expect_error("connection refused");
		assert_int_equal(status().state, BGP_IDLE);
		instant before = clock;
		clock = bgp_deadline(bgp);
		step((struct bgp_event){.kind = BGP_EVENT_TIME});
		assert_int_not_equal(connecting, 0);
		assert_in_range(clock - before, 750000, 4000000);
	}
	// No answer at all: the attempt is given up for a new one.
	uint32_t first = connecting;
	pass_time(SECONDS(2));
	assert_int_equal(closed_count, 1);
	assert_int_equal(closed[0], first);
	assert_int_not_equal(connecting, first);
	assert_int_equal(status().state, BGP_CONNECT);
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
	assert_int_equal(sent[18], KEEPALIVE);
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
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "18c0a801");
	config.tunnel_up = false;
	configure();
	expect_notification("0604"
	                    "0b"
	                    "74756e6e656c20646f776e");
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
	expect_notification("0602"
	                    "1c"
	                    "74756e6e656c2061646d696e69737472617469766"
	                    "56c7920646f776e");
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

static void limit(void **state)
{
	(void)state;
	config.maximum_prefixes = 3;
	uint32_t transport = established();
	receive(transport, UPDATE,
	        "0000"
	        "0014" GOOD "18c0a801"
	        "18c0a802"
	        "18c0a803"
	        "18c0a804"
	        "18c0a805");
	assert_int_equal(announced, 3);
	assert_int_equal(status().state, BGP_ESTABLISHED);
	assert_int_equal(bgp_count(bgp, BGP_COUNT_OVER_LIMIT), 2);
	assert_string_equal(note, "more than 3 prefixes received, the excess is discarded");
	// Those that are in may change; when one goes the peer is asked for the rest.
	receive(transport, UPDATE,
	        "0000"
	        "001b" GOOD "80040400000005"
	        "18c0a801");
	assert_int_equal(announced, 1);
	assert_int_equal(sent_length, 0);
	receive(transport, UPDATE,
	        "0004"
	        "18c0a802"
	        "0000");
	assert_int_equal(sent[18], ROUTE_REFRESH);
	expect_sent(19, "00010001");
}

// ---- what we send ----
static void advertise(uint32_t first, size_t count, bool gone, const uint32_t *path, size_t path_length)
{
	static struct bgp_advertisement list[2048];
	for (size_t i = 0; i < count; i++) {
		list[i] = (struct bgp_advertisement){.export = "vpn-1",
		                                     .destination = {first + (uint32_t)i * 256, 24},
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
	expect_sent(16, "0fcb"
	                "02"
	                "0000"
	                "0014"
	                "40010100"
	                "400206"
	                "02010000fde8"
	                "400304a9fe0a01"
	                "180a0000"
	                "180a0001");
	assert_int_equal(status().prefixes_advertised, 1000);
	step((struct bgp_event){.kind = BGP_EVENT_SENT, .session = session(), .transport = transport, .count = 1 << 20});
	advertise(0x0a000000, 1000, false, NULL, 0); // no difference, no word
	assert_int_equal(sent_length, 0);
	// Half of it with another path, behind one that is withdrawn again at once.
	advertise(0x0a000000, 500, false, (const uint32_t[]){100000}, 1);
	assert_int_equal(count_messages(), 1);
	expect_sent(19, "0000"
	                "0018"
	                "40010100"
	                "40020a"
	                "02020000fde8000186a0"
	                "400304a9fe0a01"
	                "180a0000");
	advertise(0x0a000000, 1000, true, NULL, 0);
	assert_int_equal(count_messages(), 1);
	expect_sent(19, "0fa0"
	                "180a0000");
	assert_int_equal(status().prefixes_advertised, 0);
	// Two attribute sets and a withdrawal in one change: three messages.
	advertise(0x0a000000, 1, false, NULL, 0);
	struct bgp_advertisement list[] = {
	    {.export = "vpn-1", .destination = {0x0a010000, 16}},
	    {.export = "vpn-1", .destination = {0x0a020000, 16}, .as_path = (const uint32_t[]){7}, .as_path_length = 1},
	    {.export = "vpn-1", .destination = {0x0a030000, 16}},
	    {.export = "vpn-1", .destination = {0x0a000000, 24}, .withdrawn = true},
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
	expect_sent(19, "04"
	                "5ba0"); // AS_TRANS
	receive(transport, OPEN,
	        "04"
	        "fde9"
	        "005a"
	        "0a000009"
	        "00");
	receive(transport, KEEPALIVE, "");
	expect_sent(19, "0000"
	                "0027"
	                "40010100"
	                "400208"
	                "02035ba05ba00007"
	                "400304a9fe0a01"
	                "c0110e"
	                "0203fa56ea01000186a000000007"
	                "180a0000");
	receive(transport, UPDATE,
	        "0000"
	        "0012"
	        "40010100"
	        "400204"
	        "0201fde9"
	        "400304a9fe0a02"
	        "18c0a801");
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
	expect_sent(19, "0004"
	                "180a0000"
	                "0000");
	assert_int_equal(bgp_count(bgp, BGP_COUNT_UNADVERTISABLE), 1);
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

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

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
	    test(update_errors_reset),
	    test(notifications_received),
	    test(hold_timer),
	    test(a_peer_that_reads_nothing),
	    test(tries_again),
	    test(collisions),
	    test(accepted_before_our_own_arrives),
	    test(the_tunnel_and_people),
	    test(limit),
	    test(packing),
	    test(sends_no_more_than_is_taken),
	    test(refresh),
	    test(two_octet_peer),
	    test(a_path_that_is_too_long),
	    test(a_peer_without_optional_parameters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
