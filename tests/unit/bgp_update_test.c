// UPDATE messages: every case of RFC 7606, and RFC 6793's two widths of an AS. The session: AS 65001 at 169.254.10.2 tells AS
// 65000.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "services/bgp/as_path.h"
#include "services/bgp/update.h"
#include "tests/unit/bgp_octets.h"
#include "tests/unit/bgp_prefix.h"

static struct update update;
static uint8_t body[MESSAGE_LIMIT];

// Attributes as hexadecimal text. PATH has AS 65001 in four octets.
#define ORIGIN "40010100"
#define PATH "400206 02010000fde9 "
#define PATH2 "400204 0201fde9 "
#define NEXT_HOP "400304a9fe0a02"
#define GOOD ORIGIN PATH NEXT_HOP
#define NET "18c0a801" // 192.168.1.0/24
#define NET2 "18c0a802"

static struct bytes body_of(const char *withdrawn, const char *attributes, const char *nlri)
{
	struct writer w = writer_of(body, sizeof body);
	const char *parts[] = {withdrawn, attributes, nlri};
	for (size_t i = 0; i < 3; i++) {
		uint8_t octets[MESSAGE_LIMIT];
		size_t length = octets_of(parts[i], octets, sizeof octets);
		if (i < 2) {
			write_u16(&w, (uint16_t)length);
		}
		write_bytes(&w, (struct bytes){octets, length});
	}
	assert_false(w.failed);
	return writer_bytes(&w);
}

static const bool ipv4_alone[FAMILIES] = {[FAMILY_IPV4] = true}, both_families[FAMILIES] = {true, true};
static const struct update_context four = {true, 65000, 65001, {4, {169, 254, 10, 2}}, ipv4_alone};
static const struct update_context two = {false, 65000, 65001, {4, {169, 254, 10, 2}}, ipv4_alone};

struct row {
	const char *what;
	const char *withdrawn, *attributes, *nlri;
	enum update_verdict verdict;
	uint8_t subcode;
	enum update_exclusion exclusion;
};

static void check(const struct row *row, const struct update_context *context)
{
	update_read(body_of(row->withdrawn, row->attributes, row->nlri), context, &update);
	if (update.verdict != row->verdict || (row->subcode && update.error.subcode != row->subcode) ||
	    update.exclusion != row->exclusion) {
		fail_msg("%s: verdict %d subcode %u exclusion %d", row->what, update.verdict, update.error.subcode,
		         update.exclusion);
	}
}

#define W UPDATE_TREAT_AS_WITHDRAW
#define D UPDATE_ATTRIBUTE_DISCARD
#define R UPDATE_SESSION_RESET
#define A UPDATE_ACCEPT

static void check_all(const struct row *rows, size_t count, const struct update_context *context)
{
	for (size_t i = 0; i < count; i++) {
		check(&rows[i], context);
	}
}

// RFC 7606 §3 to §5.
static void generic_rules(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"good", "", GOOD, NET, A, 0, 0},
	    {"withdraw alone", NET NET2, "", "", A, 0, 0},
	    {"attributes without routes", "", GOOD, "", A, 0, 0},
	    // §3 c: flags
	    {"ORIGIN optional", "", "c0010100" PATH NEXT_HOP, NET, W, 4, 0},
	    {"ORIGIN not transitive", "", "00010100" PATH NEXT_HOP, NET, W, 4, 0},
	    {"MED transitive", "", GOOD "c00404 00000005", NET, W, 4, 0},
	    {"communities well-known", "", GOOD "400804 fde90001", NET, W, 4, 0},
	    {"partial and extended length are no conflict", "", "50010001 00" PATH NEXT_HOP "e00804 fde90001", NET, A, 0, 0},
	    {"the unused low four bits", "", "4f010100" PATH NEXT_HOP, NET, A, 0, 0},
	    // §3 d: mandatory ones missing
	    {"no ORIGIN", "", PATH NEXT_HOP, NET, W, 3, 0},
	    {"no AS_PATH", "", ORIGIN NEXT_HOP, NET, W, 3, 0},
	    {"no NEXT_HOP", "", ORIGIN PATH, NET, W, 3, 0},
	    {"no attribute at all", "", "", NET, W, 3, 0},
	    // §3 g: duplicates
	    {"ORIGIN twice", "", GOOD "40010101", NET, D, 1, 0},
	    {"MP_REACH_NLRI twice", "", GOOD "800e0d 00010104a9fe0a02 00" NET "800e0d 00010104a9fe0a02 00" NET2, "", R, 1, 0},
	    {"MP_UNREACH_NLRI twice", "", "800f07 000101" NET "800f07 000101" NET2, "", R, 1, 0},
	    // §3 h: the strongest wins
	    {"a discard and a withdraw", "", GOOD "c0070400000000 800403 000000", NET, W, 5, 0},
	    {"a withdraw and a reset", "", "40010103" PATH NEXT_HOP "800e0400010104", NET, R, 9, 0},
	    // §3 i, j and §5.3: prefixes
	    {"withdrawn prefix of 33 bits", "21c0a8010000", "", "", R, 10, 0},
	    {"withdrawn prefix cut", "18c0a8", "", "", R, 10, 0},
	    {"NLRI of 33 bits", "", GOOD, "21c0a8010000", R, 10, 0},
	    {"NLRI cut", "", GOOD, NET "18c0", R, 10, 0},
	    {"NLRI cut beside a withdraw error", "", PATH NEXT_HOP, NET "18c0", R, 10, 0},
	    {"MP_REACH_NLRI prefix of 33 bits", "", ORIGIN PATH "800e0f 00010104a9fe0a02 00 21c0a8010000", "", R, 9, 0},
	    {"MP_UNREACH_NLRI prefix cut", "", "800f05 000101 18c0", "", R, 9, 0},
	    // §4: lengths
	    {"attribute beyond the list", "", GOOD "800404 0000", NET, W, 1, 0},
	    {"one octet left", "", GOOD "80", NET, W, 1, 0},
	    {"two octets left", "", GOOD "8004", NET, W, 1, 0},
	    {"three octets left with the extended length", "", GOOD "900400", NET, W, 1, 0},
	    {"empty ORIGIN", "", "400100" PATH NEXT_HOP, NET, W, 5, 0},
	    {"empty NEXT_HOP", "", ORIGIN PATH "400300", NET, W, 5, 0},
	    {"empty COMMUNITIES", "", GOOD "c00800", NET, W, 9, 0},
	    // §5.2: no reachable NLRI in sight
	    {"withdraw error without NLRI", "", "40010103", "", R, 6, 0},
	    {"withdraw error beside withdrawn routes", NET, "40010103", "", R, 6, 0},
	    {"discard without NLRI", "", GOOD "400601 00", "", D, 5, 0},
	    {"withdraw error with NLRI in MP_REACH_NLRI", "", PATH "40010103 800e0d 00010104a9fe0a02 00" NET, "", W, 6, 0},
	    {"flags of a lone MP_UNREACH_NLRI", "", "c00f07 000101" NET, "", W, 4, 0},
	};
	check_all(rows, sizeof rows / sizeof rows[0], &four);
}

// RFC 7606 §7.1 to §7.6: the attributes of the path.
static void path_and_next_hop(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    // §7.1 ORIGIN
	    {"ORIGIN 3", "", "40010103" PATH NEXT_HOP, NET, W, 6, 0},
	    {"ORIGIN of 2 octets", "", "4001020000" PATH NEXT_HOP, NET, W, 5, 0},
	    {"ORIGIN 2", "", "40010102" PATH NEXT_HOP, NET, A, 0, 0},
	    // §7.2 AS_PATH
	    {"AS_PATH segment of type 0", "", ORIGIN "400206 00010000fde9" NEXT_HOP, NET, W, 11, 0},
	    {"AS_PATH segment of type 5", "", ORIGIN "400206 05010000fde9" NEXT_HOP, NET, W, 11, 0},
	    {"AS_PATH confederation segment", "", ORIGIN "400206 03010000fde9" NEXT_HOP, NET, W, 11, 0},
	    {"AS_PATH segment of length 0", "", ORIGIN "400208 0200 02010000fde9" NEXT_HOP, NET, W, 11, 0},
	    {"AS_PATH segment overrun", "", ORIGIN "400206 02020000fde9" NEXT_HOP, NET, W, 11, 0},
	    {"AS_PATH underrun", "", ORIGIN "400207 02010000fde902" NEXT_HOP, NET, W, 11, 0},
	    {"AS_PATH with AS 0", "", ORIGIN "40020a 02020000fde900000000" NEXT_HOP, NET, W, 11, 0},
	    {"empty AS_PATH from outside", "", ORIGIN "400200" NEXT_HOP, NET, W, 11, 0},
	    {"AS_PATH of another neighbour", "", ORIGIN "400206 02010000fdea" NEXT_HOP, NET, W, 11, 0},
	    {"AS_PATH with a set behind", "", ORIGIN "400210 02010000fde9 0102 00000001 00000002" NEXT_HOP, NET, A, 0, 0},
	    {"our own AS", "", ORIGIN "40020a 02020000fde90000fde8" NEXT_HOP, NET, A, 0, EXCLUSION_AS_LOOP},
	    {"our own AS in a set", "", ORIGIN "40020c 02010000fde9 01010000fde8" NEXT_HOP, NET, A, 0, EXCLUSION_AS_LOOP},
	    // §7.3 NEXT_HOP
	    {"NEXT_HOP of 5 octets", "", ORIGIN PATH "400305a9fe0a0200", NET, W, 5, 0},
	    {"NEXT_HOP is ours", "", ORIGIN PATH "400304a9fe0a01", NET, A, 0, EXCLUSION_NEXT_HOP},
	    {"NEXT_HOP elsewhere", "", ORIGIN PATH "40030408080808", NET, A, 0, EXCLUSION_NEXT_HOP},
	    {"NEXT_HOP 0.0.0.0", "", ORIGIN PATH "40030400000000", NET, A, 0, EXCLUSION_NEXT_HOP},
	    // §7.4 MULTI_EXIT_DISC
	    {"MED of 3 octets", "", GOOD "800403 000000", NET, W, 5, 0},
	    {"MED", "", GOOD "800404 00000005", NET, A, 0, 0},
	    // §7.5 LOCAL_PREF from outside: discarded whatever it is
	    {"LOCAL_PREF", "", GOOD "40050400000064", NET, D, 0, 0},
	    {"LOCAL_PREF of 1 octet", "", GOOD "40050164", NET, D, 0, 0},
	    // §7.6 ATOMIC_AGGREGATE
	    {"ATOMIC_AGGREGATE", "", GOOD "400600", NET, A, 0, 0},
	    {"ATOMIC_AGGREGATE of 1 octet", "", GOOD "40060100", NET, D, 5, 0},
	    {"ATOMIC_AGGREGATE optional", "", GOOD "c00600", NET, W, 4, 0},
	};
	check_all(rows, sizeof rows / sizeof rows[0], &four);
}

// RFC 7606 §7.7 on, RFC 4760, 4360, 8092, 6793, and unknown ones.
static void further_attributes(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    // §7.7 AGGREGATOR
	    {"AGGREGATOR", "", GOOD "c007080000fde90a000001", NET, A, 0, 0},
	    {"AGGREGATOR of the other width", "", GOOD "c00706fde90a000001", NET, D, 5, 0},
	    {"AGGREGATOR with AS 0 (RFC 7607)", "", GOOD "c00708000000000a000001", NET, D, 5, 0},
	    {"AGGREGATOR of 4 octets", "", GOOD "c0070400000000", NET, D, 5, 0},
	    // §7.8 COMMUNITIES
	    {"COMMUNITIES", "", GOOD "c00808 fde90001fde90002", NET, A, 0, 0},
	    {"COMMUNITIES of 5 octets", "", GOOD "c00805 fde9000100", NET, W, 9, 0},
	    // §7.9, §7.10 from outside
	    {"ORIGINATOR_ID", "", GOOD "8009040a000001", NET, D, 0, 0},
	    {"CLUSTER_LIST of 3 octets", "", GOOD "800a030a0000", NET, D, 0, 0},
	    // §7.11 MP_REACH_NLRI
	    {"MP_REACH_NLRI of IPv4 unicast", "", ORIGIN PATH "800e0d 00010104a9fe0a02 00" NET, "", A, 0, 0},
	    {"MP_REACH_NLRI too short", "", GOOD "800e04 00010100", NET, R, 9, 0},
	    {"MP_REACH_NLRI next hop beyond", "", GOOD "800e06 000101ff0a00", NET, R, 9, 0},
	    {"MP_REACH_NLRI next hop of 5", "", ORIGIN PATH "800e0e 00010105a9fe0a0200 00" NET, "", R, 9, 0},
	    {"MP_REACH_NLRI next hop of 0", "", ORIGIN PATH "800e09 00010100 00" NET, "", R, 9, 0},
	    {"MP_REACH_NLRI transitive", "", ORIGIN PATH "c00e0d 00010104a9fe0a02 00" NET, "", W, 4, 0},
	    {"MP_REACH_NLRI of another family", "", ORIGIN PATH "800e16 00020110 20010db8000000000000000000000001 00 00", "", A,
	     0, 0},
	    {"NEXT_HOP beside MP_REACH_NLRI is not looked at", "", ORIGIN PATH "40030408080808 800e0d 00010104a9fe0a02 00" NET,
	     "", A, 0, 0},
	    // §7.12 MP_UNREACH_NLRI
	    {"MP_UNREACH_NLRI", "", "800f07 000101" NET, "", A, 0, 0},
	    {"MP_UNREACH_NLRI of 2 octets", "", "800f020001", "", R, 9, 0},
	    {"MP_UNREACH_NLRI End-of-RIB", "", "800f03000101", "", A, 0, 0},
	    // §7.14, §7.15 and RFC 8092
	    {"EXTENDED_COMMUNITIES", "", GOOD "c01008 0002fde900000001", NET, A, 0, 0},
	    {"EXTENDED_COMMUNITIES of 7 octets", "", GOOD "c01007 0002fde9000000", NET, W, 9, 0},
	    {"IPV6_EXTENDED_COMMUNITIES of 8 octets", "", GOOD "c01908 0002fde900000001", NET, W, 9, 0},
	    {"LARGE_COMMUNITY", "", GOOD "c0200c 0000fde90000000100000002", NET, A, 0, 0},
	    {"LARGE_COMMUNITY of 13 octets", "", GOOD "c0200d 0000fde9000000010000000200", NET, W, 9, 0},
	    // RFC 6793 §6: from a speaker of four octets
	    {"AS4_PATH", "", GOOD "c01106 02010000fde9", NET, D, 9, 0},
	    {"AS4_AGGREGATOR", "", GOOD "c012080000fde90a000001", NET, D, 9, 0},
	    // RFC 4271 §5, §6.3: unknown ones
	    {"unknown well-known", "", GOOD "406301 00", NET, R, 2, 0},
	    {"unknown optional", "", GOOD "806301 00", NET, A, 0, 0},
	    {"unknown optional transitive", "", GOOD "c06301 00", NET, A, 0, 0},
	    {"unknown optional transitive, empty", "", GOOD "c06300", NET, A, 0, 0},
	};
	check_all(rows, sizeof rows / sizeof rows[0], &four);
}

static void lengths_of_the_parts(void **state)
{
	(void)state;
	static const char *const bodies[] = {"", "00", "0000", "000000", "00050000", "00000005", "0001ff", "ffff0000"};
	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
		size_t length = octets_of(bodies[i], body, sizeof body);
		update_read((struct bytes){body, length}, &four, &update);
		assert_int_equal(update.verdict, R);
		assert_int_equal(update.error.subcode, 1);
	}
	update_read(body_of("", "", ""), &four, &update);
	assert_int_equal(update.verdict, A);
	assert_true(update.end_of_rib);
}

static void withdraw_keeps_the_nlri(void **state)
{
	(void)state;
	update_read(body_of(NET2, "40010103" PATH NEXT_HOP "8004", NET "00"), &four, &update);
	assert_int_equal(update.verdict, W);
	struct reader r = reader_of(update.nlri.octets);
	struct prefix prefix, expected = ipv4(0xc0a80100, 24);
	assert_true(prefix_read(&r, update.nlri.family, &prefix));
	assert_true(prefix_equal(&prefix, &expected));
	assert_true(prefix_read(&r, update.nlri.family, &prefix));
	assert_int_equal(prefix.length, 0);
	assert_false(prefix_read(&r, update.nlri.family, &prefix));
	assert_false(r.failed);
}

static void host_bits_do_not_matter(void **state)
{
	(void)state;
	uint8_t octets[] = {20, 10, 1, 0xff};
	struct reader r = reader_of((struct bytes){octets, sizeof octets});
	struct prefix prefix, expected = ipv4(0x0a01f000, 20);
	assert_true(prefix_read(&r, FAMILY_IPV4, &prefix));
	assert_true(prefix_equal(&prefix, &expected));
}

// A family is read by its own row of the table once it is negotiated, and is another's business before (RFC 4760 §7).
static void another_family(void **state)
{
	(void)state;
	static const char next_hop[] = "fd000000000000000000000000000002", prefixes[] = "40 fd00000000000001";
	const struct update_context ipv6 = {true, 65000, 65001, {16, {0xfd, [15] = 2}}, both_families};
	char attributes[512];
	snprintf(attributes, sizeof attributes, ORIGIN PATH "800e1e 00020110 %s 00 %s", next_hop, prefixes);
	struct bytes body_octets = body_of("", attributes, "");
	update_read(body_octets, &four, &update);
	assert_int_equal(update.other_family, 1);
	assert_int_equal(update.mp_nlri.octets.length, 0);
	update_read(body_octets, &ipv6, &update);
	assert_int_equal(update.verdict, A);
	assert_int_equal(update.other_family, 0);
	assert_int_equal(update.exclusion, EXCLUSION_NONE);
	assert_true(address_equal(&update.draft.next_hop, &ipv6.remote));
	struct reader r = reader_of(update.mp_nlri.octets);
	struct prefix prefix;
	char text[PREFIX_TEXT];
	assert_true(prefix_read(&r, update.mp_nlri.family, &prefix));
	assert_string_equal(prefix_format(&prefix, text), "fd00:0:0:1::/64");
	uint8_t octets[16];
	struct writer w = writer_of(octets, sizeof octets);
	prefix_write(&w, &prefix);
	assert_true(bytes_equal(writer_bytes(&w), update.mp_nlri.octets));
	// A next hop of the other family's length leaves no way to find the prefixes; one of 129 bits is none.
	update_read(body_of("", ORIGIN PATH "800e12 00020104a9fe0a02 00 40fd00000000000001", ""), &ipv6, &update);
	assert_int_equal(update.verdict, R);
	snprintf(attributes, sizeof attributes, ORIGIN PATH "800e27 00020110 %s 00 81 %s00", next_hop, next_hop);
	update_read(body_of("", attributes, ""), &ipv6, &update);
	assert_int_equal(update.verdict, R);
	// Withdrawn by their own attribute.
	update_read(body_of("", "800f0c 000201 40fd00000000000001", ""), &ipv6, &update);
	assert_int_equal(update.mp_withdrawn.family, FAMILY_IPV6);
	assert_int_equal(update.mp_withdrawn.octets.length, 9);
}

static void values_arrive(void **state)
{
	(void)state;
	update_read(body_of("", "40010102" PATH NEXT_HOP "80040400000007 c00804fde90009 c0630401020304", NET), &four, &update);
	assert_int_equal(update.verdict, A);
	assert_int_equal(update.draft.origin, 2);
	assert_true(update.draft.has_med);
	assert_int_equal(update.draft.med, 7);
	assert_int_equal(update.draft.communities.length, 4);
	// Kept as it came, with the Partial bit.
	static const uint8_t unknown[] = {0xe0, 0x63, 4, 1, 2, 3, 4};
	assert_true(bytes_equal(update.draft.others, (struct bytes){unknown, sizeof unknown}));
	// The first of two is the one that counts.
	update_read(body_of("", GOOD "80040400000007 80040400000008", NET), &four, &update);
	assert_int_equal(update.draft.med, 7);
	assert_int_equal(update.discarded, 1);
}

static void expect_path(const uint32_t *expected, size_t count)
{
	uint32_t path[64];
	assert_int_equal(bgp_as_path_flatten(update.draft.as_path, path, 64), count);
	assert_memory_equal(path, expected, count * sizeof *expected);
}

static void two_octets(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"plain", "", ORIGIN PATH2 NEXT_HOP, NET, A, 0, 0},
	    {"AGGREGATOR", "", ORIGIN PATH2 NEXT_HOP "c00706fde90a000001", NET, A, 0, 0},
	    {"AGGREGATOR of the other width", "", ORIGIN PATH2 NEXT_HOP "c007080000fde90a000001", NET, D, 5, 0},
	    {"AGGREGATOR with AS 0 (RFC 7607)", "", ORIGIN PATH2 NEXT_HOP "c00706 00000a000001", NET, D, 5, 0},
	    {"AS4_AGGREGATOR with AS 0", "", ORIGIN PATH2 NEXT_HOP "c01208 000000000a000001", NET, D, 9, 0},
	    {"AS4_PATH with AS 0", "", ORIGIN PATH2 NEXT_HOP "c01106 020100000000", NET, D, 9, 0},
	    {"AS4_PATH with a confederation segment of length 0", "", ORIGIN PATH2 NEXT_HOP "c01108 0300 0201000186a0", NET, D,
	     9, 0},
	    {"AS4_PATH with a confederation segment beyond", "", ORIGIN PATH2 NEXT_HOP "c01106 03020000fde9", NET, D, 9, 0},
	    {"AS4_PATH malformed", "", ORIGIN PATH2 NEXT_HOP "c01106 02020000fde9", NET, D, 9, 0},
	    {"AS4_PATH of 2 octets", "", ORIGIN PATH2 NEXT_HOP "c01102 0200", NET, D, 9, 0},
	    {"AS4_AGGREGATOR of 6 octets", "", ORIGIN PATH2 NEXT_HOP "c01206fde90a000001", NET, D, 9, 0},
	    {"our own AS behind AS_TRANS", "", ORIGIN "400206 0202fde95ba0" NEXT_HOP "c01106 02010000fde8", NET, A, 0,
	     EXCLUSION_AS_LOOP},
	};
	check_all(rows, sizeof rows / sizeof rows[0], &two);
	// RFC 6793 §4.2.3: 65001 23456 23456 with AS4_PATH 100000 100001.
	update_read(body_of("", ORIGIN "400208 0203fde95ba05ba0" NEXT_HOP "c0110a 0202000186a0000186a1", NET), &two, &update);
	expect_path((const uint32_t[]){65001, 100000, 100001}, 3);
	// An AS4_PATH that is longer is ignored.
	update_read(body_of("", ORIGIN PATH2 NEXT_HOP "c0110a 0202000186a0000186a1", NET), &two, &update);
	expect_path((const uint32_t[]){65001}, 1);
	// Aggregated by one that does not know four octets: AS4_PATH is about something else.
	update_read(
	    body_of("", ORIGIN "400206 0202fde95ba0" NEXT_HOP "c00706fde90a000001 c01106 0201000186a0 c012080000fde90a000001",
	            NET),
	    &two, &update);
	expect_path((const uint32_t[]){65001, 23456}, 2);
	update_read(
	    body_of("", ORIGIN "400206 0202fde95ba0" NEXT_HOP "c007065ba00a000001 c01106 0201000186a0 c01208000186a00a000001",
	            NET),
	    &two, &update);
	expect_path((const uint32_t[]){65001, 100000}, 2);
}

// RFC 6793 §6: what an old speaker has carried on unseen from inside a confederation is left out of AS4_PATH, and the rest of
// it holds. In December 2008 and January 2009 such paths reset sessions all over the world.
static void confederation_segments_in_as4_path(void **state)
{
	(void)state;
	update_read(body_of("",
	                    ORIGIN "400208 0203fde95ba05ba0" NEXT_HOP
	                           "c0111a 0302 0000fc000000fc01 0401 0000fc02 0202000186a0000186a1",
	                    NET),
	            &two, &update);
	assert_int_equal(update.verdict, A);
	assert_int_equal(update.discarded, 0);
	expect_path((const uint32_t[]){65001, 100000, 100001}, 3);
	// Nothing else in it: as if it had not come.
	update_read(body_of("", ORIGIN "400206 0202fde95ba0" NEXT_HOP "c0110a 0302 0000fc000000fc01", NET), &two, &update);
	assert_int_equal(update.verdict, A);
	expect_path((const uint32_t[]){65001, 23456}, 2);
}

static void path_length(void **state)
{
	(void)state;
	update_read(body_of("", ORIGIN "400210 02010000fde9 0102 00000001 00000002" NEXT_HOP, NET), &four, &update);
	assert_int_equal(as_path_length(update.draft.as_path), 2);
	expect_path((const uint32_t[]){65001, 1, 2}, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(generic_rules),        cmocka_unit_test(path_and_next_hop),
	    cmocka_unit_test(another_family),       cmocka_unit_test(further_attributes),
	    cmocka_unit_test(lengths_of_the_parts), cmocka_unit_test(withdraw_keeps_the_nlri),
	    cmocka_unit_test(values_arrive),        cmocka_unit_test(host_bits_do_not_matter),
	    cmocka_unit_test(two_octets),           cmocka_unit_test(confederation_segments_in_as4_path),
	    cmocka_unit_test(path_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
