// Key derivation and key exchange against other people's answers: RFC 4231 (HMAC), RFC 5903 (ECP), RFC 7748 (X25519), and,
// where TWINSPAN_VECTORS (or the usual place beside the checkout) has them, NIST's IKEv2 key derivation and Wycheproof's X25519
// and ECDH cases.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/hex.h"
#include "common/base/random.h"
#include "services/ike/crypto/ike_keys.h"
#include "services/ike/wire/ikev2.h"

enum { LINE = 40000, OCTETS = 20000 };

static struct bytes hex(const char *text, uint8_t *out, size_t capacity)
{
	ptrdiff_t length = hex_parse(text, out, capacity);
	assert_true(length >= 0);
	return (struct bytes){out, (size_t)length};
}

// Answers that others have published: a few of them are kept in the project, and all of them are read where somebody has put
// them.
enum answers { KEPT, PUBLISHED };

static FILE *vectors(enum answers answers, const char *name)
{
	const char *folder = getenv("TWINSPAN_VECTORS");
	char path[512];
	snprintf(path, sizeof path, "%s/%s", answers == KEPT ? "tests/unit/data" : folder ? folder : "../shared/vectors", name);
	FILE *file = fopen(path, "r");
	if (!file && answers == PUBLISHED) {
		print_message(
		    "skipped: %s is not there; %s\n", path,
		    strncmp(name, "wycheproof", 10) == 0
		        ? "it is testvectors_v1 of https://github.com/C2SP/wycheproof"
		        : "it is nss/tests/fips/cavs_samples/IKE/fax of https://ftp.mozilla.org/pub/security/nss/releases");
		skip();
	}
	assert_non_null(file); // the kept ones are found from the top of the project
	return file;
}

// ---- HMAC and prf+ ----
static void hmac_answers_rfc_4231(void **state)
{
	(void)state;
	static const struct {
		uint8_t hash;
		const char *answer;
	} cases[] = {
	    {INTEGRITY_SHA2_256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
	    {INTEGRITY_SHA2_384,
	     "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"},
	    {INTEGRITY_SHA2_512,
	     "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a"
	     "34d4a6b4b636e070a38bce737"},
	    {INTEGRITY_SHA1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"}, // RFC 2202 case 2
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		uint8_t answer[HASH_MAX], out[HASH_MAX];
		struct bytes good = hex(cases[i].answer, answer, sizeof answer);
		hmac(cases[i].hash, (struct bytes){(const uint8_t *)"Jefe", 4},
		     (struct bytes){(const uint8_t *)"what do ya want for nothing?", 28}, out);
		assert_int_equal(good.length, hash_algorithm(cases[i].hash)->length);
		assert_memory_equal(out, good.data, good.length);
	}
}

static void prf_plus_is_its_definition(void **state)
{
	(void)state;
	uint8_t out[100], block[HASH_MAX], input[HASH_MAX + 5];
	struct bytes key = {(const uint8_t *)"key", 3};
	prf_plus(INTEGRITY_SHA2_256, key, (struct bytes){(const uint8_t *)"seed", 4}, out, sizeof out);
	memcpy(input, "seed\001", 5);
	hmac(INTEGRITY_SHA2_256, key, (struct bytes){input, 5}, block);
	assert_memory_equal(out, block, 32);
	memcpy(input, block, 32);
	memcpy(input + 32, "seed\002", 5);
	hmac(INTEGRITY_SHA2_256, key, (struct bytes){input, 37}, block);
	assert_memory_equal(out + 32, block, 32);
}

// ---- NIST CAVS: SKEYSEED, the key material of IKE and child SAs, rekeying ----
struct nist_case {
	uint8_t ni[512], nr[512], shared[1024], shared_new[1024], skeyseed[64], dkm[512], child[512], child_dh[512], rekey[64];
	struct bytes ni_b, nr_b, shared_b, shared_new_b, skeyseed_b, dkm_b, child_b, child_dh_b, rekey_b;
	uint64_t spi_i, spi_r;
};

static void check_nist(const struct nist_case *c, unsigned hash)
{
	struct key_inputs first = {
	    .nonce_i = c->ni_b, .nonce_r = c->nr_b, .shared = c->shared_b, .spi_i = c->spi_i, .spi_r = c->spi_r};
	struct secret skeyseed, d, rekey;
	skeyseed_initial(hash, &first, &skeyseed);
	assert_true(bytes_equal(secret_bytes(&skeyseed), c->skeyseed_b));
	// The octets as prf+ gives them; how they are cut is ike_keys_derive's, which the exchange tests and strongSwan check.
	uint8_t seed[1100], out[512];
	struct writer w = writer_of(seed, sizeof seed);
	write_bytes(&w, c->ni_b);
	write_bytes(&w, c->nr_b);
	write_u64(&w, c->spi_i);
	write_u64(&w, c->spi_r);
	prf_plus(hash, secret_bytes(&skeyseed), writer_bytes(&w), out, c->dkm_b.length);
	assert_memory_equal(out, c->dkm_b.data, c->dkm_b.length);
	assert_true(secret_set(&d, (struct bytes){out, hash_algorithm(hash)->length}));
	struct key_inputs child = {.nonce_i = c->ni_b, .nonce_r = c->nr_b};
	child_keymat(hash, &d, &child, out, c->child_b.length);
	assert_memory_equal(out, c->child_b.data, c->child_b.length);
	child.shared = c->shared_new_b;
	child_keymat(hash, &d, &child, out, c->child_dh_b.length);
	assert_memory_equal(out, c->child_dh_b.data, c->child_dh_b.length);
	skeyseed_rekey(hash, &d, &child, &rekey);
	assert_true(bytes_equal(secret_bytes(&rekey), c->rekey_b));
}

static uint64_t number(struct bytes octets)
{
	struct reader r = reader_of(octets);
	return read_u64(&r);
}

static void nist_key_derivation(enum answers answers, unsigned least)
{
	FILE *file = vectors(answers, "nist-ike-kdf/ikev2.fax");
	static char line[LINE];
	static struct nist_case c;
	unsigned hash = 0, count = 0;
	while (fgets(line, sizeof line, file)) {
		line[strcspn(line, "\r\n")] = '\0';
		char *value = strstr(line, " = ");
		if (strcmp(line, "[SHA-1]") == 0) {
			hash = INTEGRITY_SHA1;
		} else if (strcmp(line, "[SHA-256]") == 0) {
			hash = INTEGRITY_SHA2_256;
		} else if (strcmp(line, "[SHA-384]") == 0) {
			hash = INTEGRITY_SHA2_384;
		} else if (strcmp(line, "[SHA-512]") == 0) {
			hash = INTEGRITY_SHA2_512;
		} else if (strncmp(line, "[SHA", 4) == 0) {
			hash = 0;
		}
		if (!value || line[0] == '[') {
			continue;
		}
		*value = '\0';
		value += 3;
		uint8_t spi[8];
#define FIELD(name, field)                                                                                                     \
	if (strcmp(line, name) == 0) {                                                                                         \
		c.field##_b = hex(value, c.field, sizeof c.field);                                                             \
	}
		FIELD("Ni", ni)
		FIELD("Nr", nr)
		FIELD("g^ir", shared)
		FIELD("g^ir (new)", shared_new)
		FIELD("SKEYSEED", skeyseed)
		FIELD("DKM", dkm)
		FIELD("DKM(Child SA)", child)
		FIELD("DKM(Child SA D-H)", child_dh)
		FIELD("SKEYSEED(Rekey)", rekey)
#undef FIELD
		if (strcmp(line, "SPIi") == 0) {
			c.spi_i = number(hex(value, spi, sizeof spi));
		} else if (strcmp(line, "SPIr") == 0) {
			c.spi_r = number(hex(value, spi, sizeof spi));
		} else if (strcmp(line, "SKEYSEED(Rekey)") == 0 && hash != 0 && c.ni_b.length <= NONCE_MAX &&
		           c.nr_b.length <= NONCE_MAX) {
			check_nist(&c, hash);
			count++;
		}
	}
	fclose(file);
	print_message("%u cases\n", count);
	assert_true(count >= least);
}

static void nist_kept(void **state)
{
	(void)state;
	nist_key_derivation(KEPT, 4); // one for each hash
}

static void nist_published(void **state)
{
	(void)state;
	nist_key_derivation(PUBLISHED, 900);
}

// ---- key exchange ----
static void check_pair(unsigned group, const char *private_a, const char *public_a, const char *public_b, const char *answer)
{
	uint8_t octets[KE_VALUE_MAX], peer[KE_VALUE_MAX], good[KE_VALUE_MAX];
	struct ke_value value;
	struct key_exchange exchange = {.group = (uint8_t)group};
	secret_set(&exchange.private_value, hex(private_a, octets, sizeof octets));
	struct bytes expected = hex(public_a, peer, sizeof peer);
	assert_true(key_exchange_value(&exchange, &value));
	assert_true(bytes_equal(ke_value_bytes(&value), expected));
	struct shared_secret shared;
	assert_true(key_exchange_finish(&exchange, hex(public_b, peer, sizeof peer), &shared));
	assert_true(bytes_equal(shared_secret_bytes(&shared), hex(answer, good, sizeof good)));
}

static void published_exchanges(void **state)
{
	(void)state;
	// RFC 5903 §8.1
	check_pair(
	    GROUP_ECP_256, "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
	    "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c37725811805271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f5838"
	    "9e"
	    "0577b8990bb3",
	    "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf6356fbf3ca366cc23e8157854c13c58d6aac23f046ada30f835"
	    "3e74f33039872ab",
	    "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de");
	// RFC 5903 §8.2
	check_pair(GROUP_ECP_384,
	           "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
	           "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa9482ed1fc0e"
	           "eb9cafc49"
	           "84625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
	           "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571dcfbec7aacf"
	           "3196472169"
	           "e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
	           "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746");
	// RFC 7748 §6.1
	check_pair(GROUP_CURVE25519, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
	           "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
	           "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
	           "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
}

static void both_ends_agree_in_every_group(void **state)
{
	(void)state;
	static const uint8_t groups[] = {2, 5, 14, 15, 16, 17, 18, 19, 20, 21, 31};
	struct random random;
	random_init_number(&random, 5);
	for (size_t i = 0; i < sizeof groups; i++) {
		struct key_exchange a;
		struct ke_value public_a, public_b;
		struct shared_secret shared_a, shared_b;
		key_exchange_begin(&a, groups[i], &random, &public_a);
		assert_true(key_exchange_respond(groups[i], ke_value_bytes(&public_a), &random, &public_b, &shared_b));
		assert_true(key_exchange_finish(&a, ke_value_bytes(&public_b), &shared_a));
		assert_true(bytes_equal(shared_secret_bytes(&shared_a), shared_secret_bytes(&shared_b)));
		size_t length = public_a.length;
		assert_int_equal(length, group_public_length(groups[i]));
		assert_int_equal(public_b.length, length);
		assert_false(key_exchange_finish(&a, (struct bytes){public_b.octets, length - 1}, &shared_a));
		// 0, 1, p-1 and the like, and all ones.
		static const uint8_t zero[KE_VALUE_MAX];
		assert_false(key_exchange_finish(&a, (struct bytes){zero, length}, &shared_a));
		memset(public_b.octets, 0, length);
		public_b.octets[length - 1] = 1;
		if (groups[i] != GROUP_CURVE25519) {
			assert_false(key_exchange_finish(&a, ke_value_bytes(&public_b), &shared_a));
			memset(public_b.octets, 0xff, length);
			assert_false(key_exchange_finish(&a, ke_value_bytes(&public_b), &shared_a));
		}
	}
}

// Found without computing with it: the values of small order of Curve25519 (RFC 7748 §6.1), with and without the bit that is
// ignored.
static void points_of_small_order_are_not_acceptable(void **state)
{
	(void)state;
	static const char *const small[] = {
	    "0000000000000000000000000000000000000000000000000000000000000000",
	    "0100000000000000000000000000000000000000000000000000000000000000",
	    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	};
	struct random random;
	random_init_number(&random, 6);
	for (size_t i = 0; i < 2 * sizeof small / sizeof small[0]; i++) {
		uint8_t octets[32];
		struct bytes value = hex(small[i / 2], octets, sizeof octets);
		octets[31] = (uint8_t)(octets[31] | (i % 2 ? 0x80 : 0));
		assert_false(key_exchange_acceptable(GROUP_CURVE25519, value));
		// libcrypto says the same, after computing.
		struct ke_value ours;
		struct shared_secret shared;
		assert_false(key_exchange_respond(GROUP_CURVE25519, value, &random, &ours, &shared));
	}
	static const uint8_t fine[32] = {9};
	assert_true(key_exchange_acceptable(GROUP_CURVE25519, (struct bytes){fine, sizeof fine}));
	assert_false(key_exchange_acceptable(GROUP_CURVE25519, (struct bytes){fine, 31}));
	assert_false(key_exchange_acceptable(99, (struct bytes){fine, sizeof fine}));
}

// ---- Wycheproof: one field a line, "tcId" begins a case and "result" ends it ----
static const char *field(const char *line, const char *name, char *out, size_t capacity)
{
	char key[32];
	snprintf(key, sizeof key, "\"%s\": \"", name);
	const char *at = strstr(line, key);
	if (!at) {
		return NULL;
	}
	at += strlen(key);
	size_t length = strcspn(at, "\"");
	snprintf(out, capacity, "%.*s", (int)length, at);
	return out;
}

static void wycheproof(enum answers answers, const char *name, unsigned group, size_t scalar)
{
	FILE *file = vectors(answers, name);
	static char line[LINE], public_value[LINE], private_value[LINE], answer[LINE], result[64];
	unsigned valid = 0, refused = 0;
	while (fgets(line, sizeof line, file)) {
		field(line, "public", public_value, sizeof public_value);
		field(line, "private", private_value, sizeof private_value);
		field(line, "shared", answer, sizeof answer);
		if (!field(line, "result", result, sizeof result)) {
			continue;
		}
		static uint8_t peer[OCTETS], secret_octets[OCTETS], good[OCTETS];
		struct bytes p = hex(public_value, peer, sizeof peer),
		             s = hex(private_value, secret_octets, sizeof secret_octets);
		struct bytes g = hex(answer, good, sizeof good);
		struct key_exchange exchange = {.group = (uint8_t)group, .private_value.length = (uint16_t)scalar};
		for (size_t i = 0; i < scalar && i < s.length; i++) {
			exchange.private_value.octets[scalar - 1 - i] = s.data[s.length - 1 - i];
		}
		bool encoded = group == GROUP_CURVE25519 || (p.length > 0 && p.data[0] == 4);
		if (group != GROUP_CURVE25519 && p.length > 0) {
			p = (struct bytes){p.data + 1, p.length - 1};
		}
		struct shared_secret shared;
		bool done = encoded && key_exchange_finish(&exchange, p, &shared);
		if (strcmp(result, "valid") == 0 && encoded) {
			assert_true(done);
		}
		if (strcmp(result, "invalid") == 0) {
			assert_false(done);
		}
		if (done) {
			assert_true(bytes_equal(shared_secret_bytes(&shared), g));
			valid++;
		} else {
			refused++;
		}
	}
	fclose(file);
	print_message("%s: %u computed, %u refused\n", name, valid, refused);
	assert_true(answers == KEPT ? valid >= 4 && refused >= 1 : valid > 100);
}

static void wycheproof_kept(void **state)
{
	(void)state;
	wycheproof(KEPT, "wycheproof/x25519_test.json", GROUP_CURVE25519, 32);
	wycheproof(KEPT, "wycheproof/ecdh_secp256r1_ecpoint_test.json", GROUP_ECP_256, 32);
	wycheproof(KEPT, "wycheproof/ecdh_secp384r1_ecpoint_test.json", GROUP_ECP_384, 48);
	wycheproof(KEPT, "wycheproof/ecdh_secp521r1_ecpoint_test.json", GROUP_ECP_521, 66);
}

static void wycheproof_x25519(void **state)
{
	(void)state;
	wycheproof(PUBLISHED, "wycheproof/x25519_test.json", GROUP_CURVE25519, 32);
}

static void wycheproof_ecp_256(void **state)
{
	(void)state;
	wycheproof(PUBLISHED, "wycheproof/ecdh_secp256r1_ecpoint_test.json", GROUP_ECP_256, 32);
}

static void wycheproof_ecp_384(void **state)
{
	(void)state;
	wycheproof(PUBLISHED, "wycheproof/ecdh_secp384r1_ecpoint_test.json", GROUP_ECP_384, 48);
}

static void wycheproof_ecp_521(void **state)
{
	(void)state;
	wycheproof(PUBLISHED, "wycheproof/ecdh_secp521r1_ecpoint_test.json", GROUP_ECP_521, 66);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(hmac_answers_rfc_4231),
	    cmocka_unit_test(prf_plus_is_its_definition),
	    cmocka_unit_test(nist_kept),
	    cmocka_unit_test(nist_published),
	    cmocka_unit_test(published_exchanges),
	    cmocka_unit_test(both_ends_agree_in_every_group),
	    cmocka_unit_test(points_of_small_order_are_not_acceptable),
	    cmocka_unit_test(wycheproof_kept),
	    cmocka_unit_test(wycheproof_x25519),
	    cmocka_unit_test(wycheproof_ecp_256),
	    cmocka_unit_test(wycheproof_ecp_384),
	    cmocka_unit_test(wycheproof_ecp_521),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
