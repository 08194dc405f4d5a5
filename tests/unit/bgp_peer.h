// One speaker with one session, and the test as its peer, octet by octet. Included by one test program each.
#ifndef TWINSPAN_TESTS_BGP_PEER_H
#define TWINSPAN_TESTS_BGP_PEER_H

#include "services/bgp/bgp.h"
#include "tests/unit/bgp_octets.h"
#include "tests/unit/bgp_prefix.h"

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
static char note[BGP_REASON_TEXT];  // the last notice: "<name>: <text>"
static size_t notices;
static size_t patience; // milliseconds

static struct bgp_session_config config;

static inline void step(struct bgp_event event)
{
	connecting = 0;
	closed_count = sent_length = announced = withdrawn = 0;
	note[0] = '\0';
	notices = patience = 0;
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
		} else if (a->kind == BGP_ACTION_PATIENCE) {
			patience = a->length;
		} else if (a->kind == BGP_ACTION_NOTICE) {
			notices++;
			snprintf(note, sizeof note, "%s: %.500s", bgp_notice_name(a->notice),
			         (const char *)actions.octets + a->offset);
		}
	}
	for (size_t i = 0; i < actions.route_count; i++) {
		*(actions.routes[i].attributes ? &announced : &withdrawn) += 1;
	}
}

static inline struct bgp_session *session(void)
{
	return bgp_session_find(bgp, "tun-1");
}

static inline struct bgp_session_status status(void)
{
	struct bgp_session_status out;
	bgp_session_status(session(), &out);
	return out;
}

static inline void configure(void)
{
	step((struct bgp_event){.kind = BGP_EVENT_SESSION, .id = "tun-1", .config = &config});
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	(void)state;
	bgp_actions_fini(&actions);
	bgp_free(&bgp);
	return 0;
}

// ---- the peer ----
static inline void receive_octets(uint32_t transport, const uint8_t *octets, size_t length)
{
	step((struct bgp_event){
	    .kind = BGP_EVENT_RECEIVED, .session = session(), .transport = transport, .octets = {octets, length}});
}

// A message of `type` whose body is hexadecimal text.
static inline void receive(uint32_t transport, uint8_t type, const char *body)
{
	uint8_t octets[4096];
	memset(octets, 0xff, 16);
	size_t length = octets_of(body, octets + 19, sizeof octets - 19);
	octets[16] = (uint8_t)((length + 19) >> 8);
	octets[17] = (uint8_t)(length + 19);
	octets[18] = type;
	receive_octets(transport, octets, length + 19);
}

// AS 65001, hold 90, identifier 10.0.0.9, multiprotocol IPv4 unicast, route refresh, four-octet AS.
#define CAPABILITIES "10 020e 010400010001 0200 41040000fde9"
#define PEER_OPEN "04 fde9 005a 0a000009 " CAPABILITIES
#define GOOD "40010100 400206 02010000fde9 400304a9fe0a02 "

static inline size_t expect_sent(size_t at, const char *text) // returns how many octets that is
{
	uint8_t expected[4096];
	size_t length = octets_of(text, expected, sizeof expected);
	assert_true(at + length <= sent_length);
	assert_memory_equal(sent + at, expected, length);
	return length;
}

static inline void expect_notification(const char *text) // code, subcode and data
{
	assert_true(sent_length >= 21);
	assert_int_equal(sent[18], NOTIFICATION);
	assert_int_equal((size_t)sent[16] << 8 | sent[17], sent_length);
	assert_int_equal(sent_length - 19, expect_sent(19, text));
	assert_int_equal(closed_count, 1);
}

static inline uint32_t connected(void)
{
	configure();
	uint32_t transport = connecting;
	assert_int_not_equal(transport, 0);
	step((struct bgp_event){.kind = BGP_EVENT_CONNECTED, .session = session(), .transport = transport});
	assert_int_equal(sent[18], OPEN);
	return transport;
}

static inline uint32_t established(void)
{
	uint32_t transport = connected();
	receive(transport, OPEN, PEER_OPEN);
	assert_int_equal(sent[18], KEEPALIVE);
	receive(transport, KEEPALIVE, "");
	assert_int_equal(status().state, BGP_ESTABLISHED);
	return transport;
}

static inline uint32_t accepted(void)
{
	uint32_t transport = bgp_transport_new(bgp);
	step((struct bgp_event){.kind = BGP_EVENT_ACCEPTED, .session = session(), .transport = transport});
	return transport;
}

static inline void pass_time(duration length)
{
	clock += length;
	announced = withdrawn = sent_length = 0;
	if (bgp_deadline(bgp) <= clock) {
		step((struct bgp_event){.kind = BGP_EVENT_TIME});
	}
}

static inline void expect_error(const char *text)
{
	assert_string_equal(status().last_error, text);
}

static inline void expect_reason(const char *text)
{
	struct bgp_session_status now = status();
	assert_string_equal(now.reason, text);
}

// The transport ends, from outside.
static inline void close_transport(uint32_t transport, enum bgp_close_cause cause, const char *reason)
{
	step((struct bgp_event){
	    .kind = BGP_EVENT_CLOSED, .session = session(), .transport = transport, .cause = cause, .reason = reason});
}

// Time passes to the next deadline.
static inline duration next_deadline(void)
{
	instant before = clock;
	clock = bgp_deadline(bgp);
	step((struct bgp_event){.kind = BGP_EVENT_TIME});
	return clock - before;
}

// The peer's answers on a transport that we have opened or taken, up to Established.
static inline void establish(uint32_t transport)
{
	receive(transport, OPEN, PEER_OPEN);
	receive(transport, KEEPALIVE, "");
	assert_int_equal(status().state, BGP_ESTABLISHED);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
