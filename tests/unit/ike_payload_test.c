// The codec: headers and chains there and back, cut off at every octet, and every rule of the legality table; proposals,
// traffic selectors, identities, NAT detection, cookies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "services/ike/tunnel/identity.h"
#include "services/ike/v2/cookie.h"
#include "services/ike/v2/nat_detection.h"
#include "services/ike/wire/payload.h"
#include "services/ike/wire/proposal.h"
#include "services/ike/wire/traffic_selector.h"

static struct bytes text(const char *t)
{
	return (struct bytes){(const uint8_t *)t, strlen(t)};
}

// ---- header and chain ----
static void header_there_and_back(void **state)
{
	(void)state;
	uint8_t octets[64];
	struct writer w = writer_of(octets, sizeof octets);
	struct ike_header header = {.spi_i = 0x0102030405060708,
	                            .spi_r = 0x1112131415161718,
	                            .first_payload = PAYLOAD_SK,
	                            .version = IKE_VERSION_2,
	                            .exchange = EXCHANGE_CREATE_CHILD_SA,
	                            .flags = FLAG_INITIATOR | FLAG_RESPONSE,
	                            .message_id = 0xdeadbeef};
	header_write(&w, &header);
	write_u32(&w, 0);
	header_finish(&w, 0);
	struct ike_header back;
	assert_true(header_read(writer_bytes(&w), &back));
	assert_int_equal(back.length, 32);
	header.length = 32;
	assert_memory_equal(&back.spi_i, &header.spi_i, 16);
	assert_int_equal(back.message_id, header.message_id);
	assert_int_equal(back.exchange, header.exchange);
	assert_int_equal(back.flags, header.flags);
	assert_true(header_fits(&back, writer_bytes(&w)));
	for (size_t length = 0; length < 32; length++) {
		struct bytes cut = {octets, length};
		bool whole = header_read(cut, &back);
		assert_int_equal(whole, length >= IKE_HEADER_LENGTH);
		assert_false(whole && header_fits(&back, cut));
	}
}

static void chain_there_and_back(void **state)
{
	(void)state;
	uint8_t octets[256];
	struct writer w = writer_of(octets, sizeof octets);
	struct chain chain = chain_begin(&w);
	chain_payload(&chain, PAYLOAD_NONCE, text("a nonce of 16 oc"));
	chain_ke(&chain, GROUP_CURVE25519, text("value"));
	chain_notify(&chain, PROTOCOL_ESP, text("spi4"), REKEY_SA, text("data"));
	chain_delete_child(&chain, 0x01020304);
	chain_delete_ike(&chain);
	struct payloads payloads;
	assert_int_equal(payloads_read(writer_bytes(&w), chain.first, &payloads), NOTIFY_NONE);
	assert_int_equal(payloads.count, 5);
	assert_true(bytes_equal(payloads_body(&payloads, PAYLOAD_NONCE), text("a nonce of 16 oc")));
	struct ke_payload ke;
	assert_true(ke_read(payloads_body(&payloads, PAYLOAD_KE), &ke));
	assert_int_equal(ke.group, GROUP_CURVE25519);
	assert_true(bytes_equal(ke.data, text("value")));
	struct notification n;
	assert_true(notification_find(&payloads, REKEY_SA, &n));
	assert_true(bytes_equal(n.spi, text("spi4")) && bytes_equal(n.data, text("data")));
	assert_false(notification_find_error(&payloads, &n));
	struct delete_payload d;
	assert_true(delete_read(payloads.items[3].body, &d));
	assert_int_equal(d.count, 1);
	assert_int_equal(d.spis[0], 0x01020304);
	assert_true(delete_read(payloads.items[4].body, &d));
	assert_int_equal(d.protocol, PROTOCOL_IKE);
	for (size_t length = 0; length < writer_length(&w); length++) {
		assert_int_equal(payloads_read((struct bytes){octets, length}, chain.first, &payloads), INVALID_SYNTAX);
	}
	// Octets beyond the last payload, a payload shorter than its own header, too many payloads.
	assert_int_equal(payloads_read((struct bytes){octets, writer_length(&w) + 1}, chain.first, &payloads), INVALID_SYNTAX);
	octets[3] = 3;
	assert_int_equal(payloads_read(writer_bytes(&w), chain.first, &payloads), INVALID_SYNTAX);
	uint8_t many[4 * (PAYLOADS_MAX + 1)];
	for (size_t i = 0; i < PAYLOADS_MAX + 1; i++) {
		memcpy(many + 4 * i, (uint8_t[]){PAYLOAD_VENDOR, 0, 0, 4}, 4);
	}
	assert_int_equal(payloads_read((struct bytes){many, sizeof many}, PAYLOAD_VENDOR, &payloads), INVALID_SYNTAX);
}

static void deletes_that_lie(void **state)
{
	(void)state;
	struct delete_payload d;
	static const uint8_t cases[][12] = {
	    {4, PROTOCOL_IKE, 8, 0, 1},                // an IKE SPI
	    {4, PROTOCOL_ESP, 4, 0, 1},                // one SPI that is not there
	    {8, PROTOCOL_ESP, 8, 0, 1, 1, 2, 3, 4},    // of eight octets
	    {9, PROTOCOL_ESP, 4, 0, 1, 1, 2, 3, 4, 5}, // and one octet more
	    {8, PROTOCOL_ESP, 4, 0xff, 0xff, 1, 2, 3, 4},
	    {3, PROTOCOL_ESP, 4, 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_false(delete_read((struct bytes){cases[i] + 1, cases[i][0]}, &d));
	}
}

// ---- legality ----
static void add(struct payloads *payloads, uint8_t type, bool critical)
{
	static const uint8_t status[4] = {0, 0, 0x40, 0x00}; // INITIAL_CONTACT
	payloads->items[payloads->count++] =
	    (struct payload){.type = type, .critical = critical, .body = {status, type == PAYLOAD_NOTIFY ? 4 : 0}};
}

static struct payloads least(enum message_kind kind)
{
	struct payloads payloads = {.count = 0};
	size_t count;
	const struct payload_rule *rules = payload_rules(kind, &count);
	for (size_t i = 0; i < count; i++) {
		for (unsigned k = 0; k < rules[i].minimum; k++) {
			add(&payloads, rules[i].type, false);
		}
	}
	return payloads;
}

static const struct payload_rule *rule_of(enum message_kind kind, uint8_t type)
{
	size_t count;
	const struct payload_rule *rules = payload_rules(kind, &count);
	for (size_t i = 0; i < count; i++) {
		if (rules[i].type == type) {
			return &rules[i];
		}
	}
	return NULL;
}

static void every_rule_of_the_legality_table(void **state)
{
	(void)state;
	uint8_t offender = 0;
	for (enum message_kind kind = 0; kind < MESSAGE_KINDS; kind++) {
		struct payloads good = least(kind);
		assert_int_equal(payloads_legal(&good, kind, &offender), NOTIFY_NONE);
		for (uint8_t type = PAYLOAD_SA; type <= PAYLOAD_EAP; type++) {
			const struct payload_rule *rule = rule_of(kind, type);
			struct payloads more = good;
			unsigned have = rule ? rule->minimum : 0, most = rule ? rule->maximum : 0;
			for (; have < most && more.count < PAYLOADS_MAX; have++) {
				add(&more, type, true); // the critical bit means nothing for what is known (§3.2)
				assert_int_equal(payloads_legal(&more, kind, &offender), NOTIFY_NONE);
			}
			if (more.count < PAYLOADS_MAX) {
				add(&more, type, false);
				assert_int_equal(payloads_legal(&more, kind, &offender), INVALID_SYNTAX);
			}
		}
		for (size_t i = 0; i < good.count; i++) {
			struct payloads less = good;
			memmove(&less.items[i], &less.items[i + 1], (less.count - i - 1) * sizeof less.items[0]);
			less.count--;
			assert_int_equal(payloads_legal(&less, kind, &offender), INVALID_SYNTAX);
		}
		struct payloads unknown = good;
		add(&unknown, 200, false);
		assert_int_equal(payloads_legal(&unknown, kind, &offender), NOTIFY_NONE);
		add(&unknown, 201, true);
		assert_int_equal(payloads_legal(&unknown, kind, &offender), UNSUPPORTED_CRITICAL_PAYLOAD);
		assert_int_equal(offender, 201);
		// A response with an error may lack the rest, a request may not.
		static const uint8_t error[4] = {0, 0, 0, NO_PROPOSAL_CHOSEN};
		struct payloads refused = {.count = 1, .items[0] = {.type = PAYLOAD_NOTIFY, .body = {error, 4}}};
		bool lenient = kind % 2 == 1 || kind == MESSAGE_INFORMATIONAL_REQUEST;
		assert_int_equal(payloads_legal(&refused, kind, &offender), lenient ? NOTIFY_NONE : INVALID_SYNTAX);
	}
}

// ---- proposals ----
static const struct algorithms all = {
    .encryption = {ENCRYPTION_AES_GCM16_256, ENCRYPTION_AES_CBC_256, ENCRYPTION_AES_CBC_128},
    .integrity = {INTEGRITY_SHA2_256, INTEGRITY_SHA1},
    .groups = {GROUP_CURVE25519, GROUP_ECP_256, GROUP_MODP_2048},
    .encryption_count = 3,
    .integrity_count = 2,
    .group_count = 3,
};

static struct proposals offer(const struct algorithms *of, uint8_t protocol, enum proposal_groups groups)
{
	static uint8_t octets[4096];
	struct writer w = writer_of(octets, sizeof octets);
	proposals_write(&w, protocol, text("spi4"), of, groups);
	struct proposals proposals;
	assert_true(proposals_read(writer_bytes(&w), &proposals));
	struct proposals cut;
	for (size_t length = 0; length < writer_length(&w); length++) {
		assert_false(proposals_read((struct bytes){octets, length}, &cut));
	}
	return proposals;
}

static void proposals_are_chosen_by_our_preference(void **state)
{
	(void)state;
	struct algorithms theirs = all;
	theirs.encryption[0] = ENCRYPTION_AES_CBC_128;
	theirs.encryption[2] = ENCRYPTION_AES_GCM16_256;
	struct proposals offered = offer(&theirs, PROTOCOL_IKE, GROUPS_COUNT);
	assert_int_equal(offered.count, 2);
	struct suite suite;
	const struct proposal *chosen = proposals_choose(&offered, PROTOCOL_IKE, &all, GROUPS_COUNT, GROUP_NONE, &suite);
	assert_non_null(chosen);
	assert_int_equal(chosen->number, 2); // theirs begins with CBC
	assert_int_equal(suite.encryption, ENCRYPTION_AES_GCM16_256);
	assert_int_equal(suite.integrity, INTEGRITY_NONE);
	assert_int_equal(suite.prf, INTEGRITY_SHA2_256);
	assert_int_equal(suite.group, GROUP_CURVE25519);
	// The group of the KE payload saves a round trip when it is one of ours.
	assert_non_null(proposals_choose(&offered, PROTOCOL_IKE, &all, GROUPS_COUNT, GROUP_MODP_2048, &suite));
	assert_int_equal(suite.group, GROUP_MODP_2048);
	assert_non_null(proposals_choose(&offered, PROTOCOL_IKE, &all, GROUPS_COUNT, GROUP_ECP_384, &suite));
	assert_int_equal(suite.group, GROUP_CURVE25519);
	assert_null(proposals_choose(&offered, PROTOCOL_ESP, &all, GROUPS_COUNT, GROUP_NONE, &suite));
}

static void chosen_proposal_is_accepted_and_nothing_else(void **state)
{
	(void)state;
	struct suite suite = {
	    .encryption = ENCRYPTION_AES_CBC_256, .integrity = INTEGRITY_SHA1, .prf = INTEGRITY_SHA2_256, .group = 19};
	uint8_t octets[256];
	struct writer w = writer_of(octets, sizeof octets);
	proposal_write_chosen(&w, PROTOCOL_IKE, 2, text("12345678"), &suite, GROUPS_COUNT);
	struct proposals answer;
	struct suite back;
	assert_true(proposals_read(writer_bytes(&w), &answer));
	assert_non_null(proposals_accept(&answer, PROTOCOL_IKE, &all, GROUPS_COUNT, &back));
	assert_memory_equal(&back, &suite, sizeof suite);
	struct algorithms fewer = all;
	fewer.integrity_count = 1;
	assert_null(proposals_accept(&answer, PROTOCOL_IKE, &fewer, GROUPS_COUNT, &back));
	struct proposals whole = offer(&all, PROTOCOL_IKE, GROUPS_COUNT);
	assert_null(proposals_accept(&whole, PROTOCOL_IKE, &all, GROUPS_COUNT, &back)); // two proposals
	whole.count = 1;
	assert_null(proposals_accept(&whole, PROTOCOL_IKE, &all, GROUPS_COUNT, &back)); // several groups in one
}

static void groups_of_child_proposals(void **state)
{
	(void)state;
	struct suite suite;
	struct algorithms none = all, mixed = all;
	none.groups[0] = GROUP_NONE;
	none.group_count = 1;
	mixed.groups[1] = GROUP_NONE;
	struct proposals silent = offer(&none, PROTOCOL_ESP, GROUPS_COUNT), both = offer(&mixed, PROTOCOL_ESP, GROUPS_COUNT);
	struct proposals first = offer(&all, PROTOCOL_ESP, GROUPS_IGNORED);
	assert_non_null(proposals_choose(&silent, PROTOCOL_ESP, &none, GROUPS_COUNT, GROUP_NONE, &suite));
	assert_int_equal(suite.group, GROUP_NONE);
	assert_null(proposals_choose(&silent, PROTOCOL_ESP, &all, GROUPS_COUNT, GROUP_NONE, &suite));
	assert_non_null(proposals_choose(&silent, PROTOCOL_ESP, &mixed, GROUPS_COUNT, GROUP_NONE, &suite));
	assert_int_equal(suite.group, GROUP_NONE);
	assert_non_null(proposals_choose(&both, PROTOCOL_ESP, &mixed, GROUPS_COUNT, GROUP_CURVE25519, &suite));
	assert_int_equal(suite.group, GROUP_CURVE25519);
	assert_non_null(proposals_choose(&both, PROTOCOL_ESP, &none, GROUPS_COUNT, GROUP_CURVE25519, &suite));
	assert_int_equal(suite.group, GROUP_NONE);
	assert_non_null(proposals_choose(&first, PROTOCOL_ESP, &all, GROUPS_IGNORED, GROUP_NONE, &suite));
	assert_int_equal(suite.group, GROUP_NONE);
}

static void what_is_not_known_is_not_chosen(void **state)
{
	(void)state;
	struct suite suite;
	struct proposals offered = offer(&all, PROTOCOL_ESP, GROUPS_IGNORED);
	offered.items[0].unusable = true;
	assert_non_null(proposals_choose(&offered, PROTOCOL_ESP, &all, GROUPS_IGNORED, GROUP_NONE, &suite));
	assert_int_equal(suite.encryption, ENCRYPTION_AES_CBC_256);
	offered.items[1].unusable = true;
	assert_null(proposals_choose(&offered, PROTOCOL_ESP, &all, GROUPS_IGNORED, GROUP_NONE, &suite));
	// AES without a key length; a transform type and an attribute from the future; only extended sequence numbers.
	static const uint8_t octets[] = {
	    0, 0,  0, 40, 1, PROTOCOL_ESP,    4,    3,  's', 'p', 'i', '4', 3, 0, 0, 8, 1, 0,      0, ENCR_AES_GCM_16, 3, 0,
	    0, 12, 1, 0,  0, ENCR_AES_GCM_16, 0x80, 14, 1,   0,   0,   0,   0, 8, 5, 0, 0, ESN_YES};
	struct proposals esn;
	assert_true(proposals_read((struct bytes){octets, sizeof octets}, &esn));
	assert_non_null(proposals_choose(&esn, PROTOCOL_ESP, &all, GROUPS_IGNORED, GROUP_NONE, &suite));
	assert_true(suite.esn);
	esn.items[0].transforms[1].key_bits = 0;
	assert_null(proposals_choose(&esn, PROTOCOL_ESP, &all, GROUPS_IGNORED, GROUP_NONE, &suite));
}

static void a_mismatch_is_explained(void **state)
{
	(void)state;
	char reason[REASON_MAX];
	struct algorithms theirs = all;
	theirs.group_count = 1;
	theirs.groups[0] = GROUP_MODP_1024;
	struct proposals offered = offer(&theirs, PROTOCOL_IKE, GROUPS_COUNT);
	proposals_mismatch(&offered, PROTOCOL_IKE, &all, GROUPS_COUNT, reason);
	assert_non_null(strstr(reason, "no common Diffie-Hellman group: the peer offers ["));
	assert_non_null(strstr(reason, "group MODP_1024]"));
	assert_non_null(strstr(reason, "we accept ["));
	theirs = all;
	theirs.encryption_count = 1;
	theirs.encryption[0] = ENCRYPTION_AES_CBC_192;
	offered = offer(&theirs, PROTOCOL_IKE, GROUPS_COUNT);
	proposals_mismatch(&offered, PROTOCOL_IKE, &all, GROUPS_COUNT, reason);
	assert_non_null(strstr(reason, "no common encryption algorithm"));
	theirs = all;
	theirs.integrity_count = 1;
	theirs.integrity[0] = INTEGRITY_SHA2_512;
	offered = offer(&theirs, PROTOCOL_IKE, GROUPS_COUNT);
	proposals_mismatch(&offered, PROTOCOL_IKE, &all, GROUPS_COUNT, reason);
	assert_non_null(strstr(reason, "no common pseudo-random function"));
}

// ---- traffic selectors ----
static struct traffic_selector range(const char *first, const char *last)
{
	struct traffic_selector selector = {.type = TS_IPV4_ADDR_RANGE, .last_port = 65535};
	assert_true(address_parse(first, &selector.first) && address_parse(last, &selector.last));
	selector.type = selector.first.length == 4 ? TS_IPV4_ADDR_RANGE : TS_IPV6_ADDR_RANGE;
	return selector;
}

static void selectors_narrow(void **state)
{
	(void)state;
	struct traffic_selectors any = traffic_selectors_any(), out, back;
	struct traffic_selectors offered = {.count = 2,
	                                    .items = {range("192.168.0.0", "192.168.255.255"), range("fd00::", "fd00::ffff")}};
	offered.items[0].protocol = 6;
	traffic_selectors_narrow(&offered, &any, &out);
	assert_int_equal(out.count, 1);
	assert_memory_equal(&out.items[0], &offered.items[0], sizeof out.items[0]);
	assert_true(traffic_selectors_within(&out, &any) && traffic_selectors_within(&out, &offered));
	assert_false(traffic_selectors_within(&any, &offered));
	struct traffic_selectors six = {.count = 1, .items = {range("fd00::", "fd00::1")}};
	traffic_selectors_narrow(&six, &any, &out);
	assert_int_equal(out.count, 0);
	assert_false(traffic_selectors_within(&out, &any));
	struct traffic_selectors part = {.count = 1, .items = {range("10.0.0.5", "10.0.1.0")}};
	struct traffic_selectors other = {.count = 1, .items = {range("10.0.0.9", "10.0.2.0")}};
	traffic_selectors_narrow(&part, &other, &out);
	struct traffic_selector expected = range("10.0.0.9", "10.0.1.0");
	assert_memory_equal(&out.items[0], &expected, sizeof expected);
	uint8_t octets[128];
	struct writer w = writer_of(octets, sizeof octets);
	traffic_selectors_write(&w, &offered);
	assert_true(traffic_selectors_read(writer_bytes(&w), &back));
	assert_int_equal(back.count, 2);
	assert_memory_equal(back.items, offered.items, 2 * sizeof back.items[0]);
	for (size_t length = 0; length < writer_length(&w); length++) {
		assert_false(traffic_selectors_read((struct bytes){octets, length}, &back));
	}
}

// ---- identities ----
static void identities_match(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint8_t type;
		const char *octets;
	} cases[] = {
	    {"198.51.100.17", ID_IPV4_ADDR, "\xc6\x33\x64\x11"},
	    {"gateway.example", ID_FQDN, "gateway.example"},
	    {"@gateway", ID_FQDN, "gateway"},
	    {"device@idc.example", ID_RFC822_ADDR, "device@idc.example"},
	    {"branch-7", ID_KEY_ID, "branch-7"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		uint8_t body[IDENTITY_BODY_MAX];
		char shown[IDENTITY_TEXT_MAX];
		struct writer w = writer_of(body, sizeof body);
		identity_write(&w, cases[i].text);
		assert_int_equal(body[0], cases[i].type);
		assert_true(bytes_equal((struct bytes){body + 4, writer_length(&w) - 4}, text(cases[i].octets)));
		for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
			assert_int_equal(identity_matches(writer_bytes(&w), cases[k].text), i == k);
		}
		identity_format(writer_bytes(&w), shown);
		assert_string_equal(shown, cases[i].text[0] == '@' ? cases[i].text + 1 : cases[i].text);
		body[0] = ID_DER_ASN1_DN;
		assert_false(identity_matches(writer_bytes(&w), cases[i].text));
	}
	char shown[IDENTITY_TEXT_MAX];
	identity_format((struct bytes){(const uint8_t *)"\x0b\0\0\0\x01\x02", 6}, shown);
	assert_string_equal(shown, "type 11, octets 0102");
	assert_false(identity_matches((struct bytes){0}, "a"));
}

// ---- NAT detection ----
static void nat_detection_sees_what_was_changed(void **state)
{
	(void)state;
	struct address a, b, other;
	address_parse("198.51.100.17", &a);
	address_parse("203.0.113.1", &b);
	address_parse("203.0.113.99", &other);
	for (int conceal = 0; conceal < 2; conceal++) {
		uint8_t octets[256];
		struct writer w = writer_of(octets, sizeof octets);
		struct chain chain = chain_begin(&w);
		nat_detection_write(&chain, 1, 0, &a, 500, &b, 500, conceal);
		struct payloads payloads;
		assert_int_equal(payloads_read(writer_bytes(&w), chain.first, &payloads), NOTIFY_NONE);
		struct nat_detection d = nat_detection_read(&payloads, 1, 0, &b, 500, &a, 500);
		assert_true(d.supported && !d.local);
		assert_int_equal(d.remote, conceal);
		d = nat_detection_read(&payloads, 1, 0, &b, 500, &a, 1024);
		assert_true(d.remote && !d.local);
		d = nat_detection_read(&payloads, 1, 0, &other, 500, &a, 500);
		assert_true(d.local);
		d = nat_detection_read(&payloads, 2, 0, &b, 500, &a, 500);
		assert_true(d.local && d.remote);
	}
	struct payloads none = {.count = 0};
	assert_false(nat_detection_read(&none, 1, 0, &b, 500, &a, 500).supported);
}

// ---- cookies ----
static void cookies_hold_for_a_while(void **state)
{
	(void)state;
	struct cookie_jar *jar = cookie_jar_new();
	struct random random;
	random_init_number(&random, 1);
	struct address a, b;
	address_parse("203.0.113.1", &a);
	address_parse("203.0.113.2", &b);
	struct bytes nonce = text("0123456789abcdef"), other = text("0123456789abcdeF");
	struct cookie_of of = {nonce, &a, 7};
	uint8_t cookie[COOKIE_LENGTH];
	instant t = SECONDS(10);
	cookie_make(jar, &random, t, &of, cookie);
	struct bytes c = {cookie, sizeof cookie};
	assert_true(cookie_good(jar, &random, t, &of, c));
	assert_false(cookie_good(jar, &random, t, &(struct cookie_of){other, &a, 7}, c));
	assert_false(cookie_good(jar, &random, t, &(struct cookie_of){nonce, &b, 7}, c));
	assert_false(cookie_good(jar, &random, t, &(struct cookie_of){nonce, &a, 8}, c));
	assert_false(cookie_good(jar, &random, t, &of, (struct bytes){cookie, sizeof cookie - 1}));
	assert_true(cookie_good(jar, &random, t + SECONDS(61), &of, c)); // under the secret before
	assert_false(cookie_good(jar, &random, t + SECONDS(122), &of, c));
	cookie_make(jar, &random, t + SECONDS(122), &of, cookie);
	assert_false(cookie_good(jar, &random, t + SECONDS(1000), &of, c));
	cookie_jar_free(&jar);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(header_there_and_back),
	    cmocka_unit_test(chain_there_and_back),
	    cmocka_unit_test(deletes_that_lie),
	    cmocka_unit_test(every_rule_of_the_legality_table),
	    cmocka_unit_test(proposals_are_chosen_by_our_preference),
	    cmocka_unit_test(chosen_proposal_is_accepted_and_nothing_else),
	    cmocka_unit_test(groups_of_child_proposals),
	    cmocka_unit_test(what_is_not_known_is_not_chosen),
	    cmocka_unit_test(a_mismatch_is_explained),
	    cmocka_unit_test(selectors_narrow),
	    cmocka_unit_test(identities_match),
	    cmocka_unit_test(nat_detection_sees_what_was_changed),
	    cmocka_unit_test(cookies_hold_for_a_while),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
