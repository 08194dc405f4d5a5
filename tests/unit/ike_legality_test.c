// Which payload may be in which message: RFC 7296 appendix C and §1.2, §1.3, §1.4, §2.5, §2.6, written down here a second time,
// so that a row that changes is a row that somebody meant to change. And the octets of proposals (§3.3) that no peer should
// send.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "services/ike/wire/payload.h"
#include "services/ike/wire/proposal.h"

// In the order of PAYLOAD_SA … PAYLOAD_EAP: '1' exactly one, '?' at most one, '*' any number, 'd' up to eight, '-' never.
static const struct {
	enum message_kind kind;
	const char *rules;
} expected[] = {
    //                                  SA KE IDi IDr CERT REQ AUTH N  Not Del Ven TSi TSr SK CP EAP
    {MESSAGE_IKE_SA_INIT_REQUEST, /**/ "11-----1*-*-----"},     {MESSAGE_IKE_SA_INIT_RESPONSE, /**/ "11---*-1*-*-----"},
    {MESSAGE_IKE_AUTH_REQUEST, /**/ "1-1?**1-*-*11-?-"},        {MESSAGE_IKE_AUTH_RESPONSE, /**/ "1--1*-1-*-*11-?-"},
    {MESSAGE_CREATE_CHILD_SA_REQUEST, /**/ "1?-----1*-*11-?-"}, {MESSAGE_CREATE_CHILD_SA_RESPONSE, /**/ "1?-----1*-*11-?-"},
    {MESSAGE_REKEY_IKE_SA_REQUEST, /**/ "11-----1*-*-----"},    {MESSAGE_REKEY_IKE_SA_RESPONSE, /**/ "11-----1*-*-----"},
    {MESSAGE_INFORMATIONAL_REQUEST, /**/ "--------*d*---?-"},   {MESSAGE_INFORMATIONAL_RESPONSE, /**/ "--------*d*---?-"},
};

static void add(struct payloads *payloads, uint8_t type)
{
	static const uint8_t status[4] = {0, 0, 0x40, 0x00}; // INITIAL_CONTACT
	payloads->items[payloads->count++] = (struct payload){.type = type, .body = {status, type == PAYLOAD_NOTIFY ? 4 : 0}};
}

// What every message of this kind must have, and `count` of `type` instead of what it has of that.
static enum notify judged(enum message_kind kind, const char *rules, uint8_t type, unsigned count)
{
	struct payloads payloads = {.count = 0};
	uint8_t offender;
	for (uint8_t other = PAYLOAD_SA; other <= PAYLOAD_EAP; other++) {
		if (other != type && rules[other - PAYLOAD_SA] == '1') {
			add(&payloads, other);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		add(&payloads, type);
	}
	return payloads_legal(&payloads, kind, &offender);
}

static void what_the_rfc_allows_and_nothing_else(void **state)
{
	(void)state;
	assert_int_equal(sizeof expected / sizeof expected[0], MESSAGE_KINDS);
	for (size_t i = 0; i < MESSAGE_KINDS; i++) {
		const char *rules = expected[i].rules;
		assert_int_equal(strlen(rules), PAYLOAD_EAP - PAYLOAD_SA + 1);
		for (uint8_t type = PAYLOAD_SA; type <= PAYLOAD_EAP; type++) {
			char rule = rules[type - PAYLOAD_SA];
			unsigned least = rule == '1', most = rule == '-' ? 0 : rule == '*' ? 30 : rule == 'd' ? 8 : 1;
			for (unsigned count = 0; count <= (most < 30 ? most + 1 : most); count++) {
				enum notify good = count >= least && count <= most ? NOTIFY_NONE : INVALID_SYNTAX;
				if (judged(expected[i].kind, rules, type, count) != good) {
					fail_msg("message %d: %u of payload %u", expected[i].kind, count, type);
				}
			}
		}
	}
}

static const struct algorithms ours = {.encryption = {ENCRYPTION_AES_GCM16_256, ENCRYPTION_AES_CBC_256},
                                       .integrity = {INTEGRITY_SHA2_256},
                                       .groups = {GROUP_CURVE25519},
                                       .encryption_count = 2,
                                       .integrity_count = 1,
                                       .group_count = 1};

// An ESP proposal of one encryption transform, with these attributes, and ESN.
static bool read_esp(const uint8_t *attributes, uint8_t length, uint8_t esn, struct proposals *out)
{
	uint8_t octets[128];
	struct writer w = writer_of(octets, sizeof octets);
	write_bytes(&w, (struct bytes){
	                    (const uint8_t[]){0, 0, 0, (uint8_t)(12 + 8 + length + 8), 1, PROTOCOL_ESP, 4, 2, 1, 2, 3, 4}, 12});
	write_bytes(&w, (struct bytes){(const uint8_t[]){3, 0, 0, (uint8_t)(8 + length), 1, 0, 0, ENCR_AES_GCM_16}, 8});
	write_bytes(&w, (struct bytes){attributes, length});
	write_bytes(&w, (struct bytes){(const uint8_t[]){0, 0, 0, 8, 5, 0, 0, esn}, 8});
	return proposals_read(writer_bytes(&w), out);
}

static void a_key_length_that_is_given_twice_is_none(void **state)
{
	(void)state;
	struct proposals p;
	struct suite suite;
	static const uint8_t once[] = {0x80, 14, 1, 0}, same[] = {0x80, 14, 1, 0, 0x80, 14, 1, 0},
	                     other[] = {0x80, 14, 0, 128, 0x80, 14, 1, 0};
	assert_true(read_esp(once, sizeof once, ESN_NO, &p));
	assert_non_null(proposals_choose(&p, PROTOCOL_ESP, &ours, GROUPS_IGNORED, GROUP_NONE, &suite));
	assert_true(read_esp(same, sizeof same, ESN_NO, &p));
	assert_null(proposals_choose(&p, PROTOCOL_ESP, &ours, GROUPS_IGNORED, GROUP_NONE, &suite));
	assert_true(read_esp(other, sizeof other, ESN_NO, &p));
	assert_null(proposals_choose(&p, PROTOCOL_ESP, &ours, GROUPS_IGNORED, GROUP_NONE, &suite));
	// ESN is taken from a peer that insists, and refused in an answer: it was never offered.
	assert_true(read_esp(once, sizeof once, ESN_YES, &p));
	assert_non_null(proposals_choose(&p, PROTOCOL_ESP, &ours, GROUPS_IGNORED, GROUP_NONE, &suite));
	assert_null(proposals_accept(&p, PROTOCOL_ESP, &ours, GROUPS_IGNORED, &suite));
}

static void a_group_beyond_eight_bits_is_not_one_of_ours(void **state)
{
	(void)state;
	assert_true(algorithms_have_group(&ours, GROUP_CURVE25519));
	assert_false(algorithms_have_group(&ours, 256 + GROUP_CURVE25519));
	assert_false(algorithms_have_group(&ours, 0xff00 + GROUP_CURVE25519));
}

// What a device offers is shown by name, also when it is nothing of ours.
static void what_is_foreign_has_a_name(void **state)
{
	(void)state;
	struct proposals offered = {.count = 1,
	                            .items[0] = {.number = 1,
	                                         .protocol = PROTOCOL_IKE,
	                                         .transforms = {{TRANSFORM_ENCRYPTION, 23, 256},
	                                                        {TRANSFORM_ENCRYPTION, 3, 0},
	                                                        {TRANSFORM_ENCRYPTION, ENCR_AES_GCM_16, 192},
	                                                        {TRANSFORM_PRF, 8, 0},
	                                                        {TRANSFORM_GROUP, 36, 0},
	                                                        {TRANSFORM_GROUP, 999, 0}},
	                                         .count = 6}};
	char reason[REASON_MAX];
	proposals_mismatch(&offered, PROTOCOL_IKE, &ours, GROUPS_COUNT, reason);
	assert_non_null(strstr(
	    reason, "the peer offers [encryption CAMELLIA_CBC_256,3DES,AES_GCM_16_192 prf AES128_CMAC group ML_KEM_768,999]"));
	offered.items[0].protocol = PROTOCOL_AH;
	proposals_mismatch(&offered, PROTOCOL_ESP, &ours, GROUPS_COUNT, reason);
	assert_string_equal(reason, "no common protocol: the peer offers AH; we accept ESP");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_the_rfc_allows_and_nothing_else),
	    cmocka_unit_test(a_key_length_that_is_given_twice_is_none),
	    cmocka_unit_test(a_group_beyond_eight_bits_is_not_one_of_ours),
	    cmocka_unit_test(what_is_foreign_has_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
