// UPDATE messages that have reset sessions all over the Internet, as they would arrive here: none may cost the session, and all
// but one carry a route that is used.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/bgp_peer.h"

#define ORIGIN "40010100 "
#define PATH "400206 02010000fde9 "
#define NEXT_HOP "400304a9fe0a02 "
#define NET "18c0a801"

// One UPDATE with these attributes and one prefix; `filler` octets of `octet` follow the attributes' text.
static void receive_update(uint32_t transport, const char *attributes, size_t filler, uint8_t octet)
{
	uint8_t octets[4096];
	memset(octets, 0xff, 16);
	size_t length = octets_of(attributes, octets + 23, sizeof octets - 23);
	memset(octets + 23 + length, octet, filler);
	length += filler;
	octets[19] = octets[20] = 0;
	octets[21] = (uint8_t)(length >> 8);
	octets[22] = (uint8_t)length;
	length += 23;
	length += octets_of(NET, octets + length, sizeof octets - length);
	octets[16] = (uint8_t)(length >> 8);
	octets[17] = (uint8_t)length;
	octets[18] = UPDATE;
	receive_octets(transport, octets, length);
}

static void expect_route(const char *what, size_t prefixes)
{
	if (status().state != BGP_ESTABLISHED || status().prefixes_received != prefixes) {
		fail_msg("%s: %s, %zu prefixes, %s", what, bgp_state_name(status().state), status().prefixes_received,
		         status().last_error);
	}
}

static void unknown_attributes(void **state)
{
	(void)state;
	static const struct {
		const char *what, *attributes;
		size_t filler;
		uint8_t octet;
	} rows[] = {
	    // 27 August 2010: RIPE NCC and Duke University announce 93.175.144.0/24 with attribute 99 of some 3,000 octets. IOS
	    // XR passed it on broken.
	    {"attribute 99 of 3,000 octets (2010)", ORIGIN PATH NEXT_HOP "f0630bb8", 3000, 0xab},
	    {"the largest that fits (2010)", ORIGIN PATH NEXT_HOP "f0630fc4", 4036, 0},
	    // 2 June 2023: an Entropy Label Capability (28, deprecated by RFC 7447) of a Brazilian network; Junos reset the
	    // session it came from.
	    {"Entropy Label Capability (2023)", ORIGIN PATH NEXT_HOP "e01c00", 0, 0},
	    {"Entropy Label Capability with a value (2023)", ORIGIN PATH NEXT_HOP "c01c04", 4, 0xff},
	    // The same year's reports of other routers: a tunnel encapsulation (23), an attribute set (128), a lone one of the
	    // reserved type 0 or 255.
	    {"Tunnel Encapsulation, malformed (2023)", ORIGIN PATH NEXT_HOP "c01703", 3, 0xff},
	    {"ATTR_SET, malformed (2023)", ORIGIN PATH NEXT_HOP "c08005", 5, 0xff},
	    {"type 0 (2023)", ORIGIN PATH NEXT_HOP "c00002", 2, 0},
	    {"type 255 (2023)", ORIGIN PATH NEXT_HOP "c0ff02", 2, 0},
	    {"AIGP of one octet (2023)", ORIGIN PATH NEXT_HOP "801a01", 1, 1},
	    {"BGP-LS (2023)", ORIGIN PATH NEXT_HOP "801d03", 3, 0xff},
	    // 20 May 2025: a BGP Prefix-SID (40, RFC 8669) of zeros behind a /16; Junos passed it on, EOS reset its sessions.
	    {"Prefix-SID of zeros (2025)", ORIGIN PATH NEXT_HOP "c02807", 7, 0},
	    {"Prefix-SID, empty (2025)", ORIGIN PATH NEXT_HOP "e02800", 0, 0},
	    {"ONLY_TO_CUSTOMER of 3 octets (2025)", ORIGIN PATH NEXT_HOP "c02303", 3, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint32_t transport = established();
		receive_update(transport, rows[i].attributes, rows[i].filler, rows[i].octet);
		expect_route(rows[i].what, 1);
		teardown(NULL);
		setup(NULL);
	}
}

// 16 February 2009: a Czech network prepends itself 252 times; with what was before, 255 ASes in one segment were too many for
// old IOS.
static void long_paths(void **state)
{
	(void)state;
	for (unsigned count = 250; count <= 255; count++) {
		uint32_t transport = established();
		char text[64 + 2 * 4 * 255];
		size_t at = (size_t)snprintf(text, sizeof text, "%s5002%04x02%02x", ORIGIN, 2 + 4 * count, count);
		for (unsigned i = 0; i < count; i++) {
			at += (size_t)snprintf(text + at, sizeof text - at, "0000fde9");
		}
		snprintf(text + at, sizeof text - at, "%s", NEXT_HOP);
		receive_update(transport, text, 0, 0);
		expect_route("a long path (2009)", 1);
		struct bgp_attributes_view view;
		bgp_attributes_view(actions.routes[0].attributes, &view);
		assert_int_equal(view.as_path_length, count);
		teardown(NULL);
		setup(NULL);
	}
}

// A malformed attribute that is known withdraws the route it came with and costs nothing else (RFC 7606): the reports of 2023
// had them all.
static void known_attributes_malformed(void **state)
{
	(void)state;
	static const char *const rows[] = {
	    ORIGIN PATH NEXT_HOP "c00803000000",                 // COMMUNITIES of 3 octets
	    ORIGIN PATH NEXT_HOP "c0200b0000000000000000000000", // LARGE_COMMUNITY of 11
	    ORIGIN PATH NEXT_HOP "c010040000000000",             // EXTENDED_COMMUNITIES, and an octet too many
	    ORIGIN PATH NEXT_HOP "8004020000",                   // MULTI_EXIT_DISC of 2
	    ORIGIN "400206 02020000fde9 " NEXT_HOP,              // an AS_PATH that is shorter than it says
	};
	uint32_t transport = established();
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		receive_update(transport, ORIGIN PATH NEXT_HOP, 0, 0);
		expect_route("a good route", 1);
		receive_update(transport, rows[i], 0, 0);
		expect_route(rows[i], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    test(unknown_attributes),
	    test(long_paths),
	    test(known_attributes_malformed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
