// The key derivation against known answers that stand here, so that they are checked wherever the project is built: computed
// with Python's hmac module from the formulas of RFC 7296 §2.13 to §2.18. (ike_keys_test.c has the large sets of answers, which
// are read in place.)
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/hex.h"
#include "services/ike/crypto/ike_keys.h"

struct answer {
	struct suite suite;
	const char *skeyseed, *d, *ai, *ar, *ei, *er, *pi, *pr;
	const char *child, *child_plain, *rekey, *auth;
};

static const struct answer answers[] = {
    {
        .suite = {.encryption = ENCRYPTION_AES_GCM16_256, .integrity = INTEGRITY_NONE, .prf = INTEGRITY_SHA2_256, .group = 31},
        .skeyseed = "caac13796f30875a6faffbcbfb3af4b3957713e18f3d6a1ada3663e0abd4ad35",
        .d = "a878b9ed1979eebb7c6f26f64583dd31ed4b97d1552d388609bdea331a2fab76",
        .ai = "",
        .ar = "",
        .ei = "9017b2f374c24562a75f1f4644b54a0127bbe70a821b573f17f8141aa3a35042041e6e51",
        .er = "166004077b40cf130f0789e69dc483849b4cd87c02fb0329342bdc54315c5006d0ff18b2",
        .pi = "717410a2f2b047d97d63131cd5cd690275fa353e3c9b31b0fb1ea8277c840e0d",
        .pr = "2550e6d620608c7de7cea2726e251f681cd8f7cb556ef69f26f78bf447c8ca94",
        .child = "9df5c8037f93632c1e4e4dead6d860f85ae3d798ac5aeeadd21f2fe401e764dd9ed8e4746f043a581d229f4e3646daf6921d919e60719"
                 "bbf69a8de3631f5fc8e880377f210c936a6",
        .child_plain = "552a3be68e3dd9c04a659be8ba7d5b2651957898b00796c2664c683177aae88e5ec01d1c0c7418f966589c2a13911544651080c"
                       "89d534e2b991a92f07c5066990cd2d4e9a877359b",
        .rekey = "ac15762ac00084748ff4ab5868066666bd61ea73124702daef5f42283d34b500",
        .auth = "a1846f5e34da2cfe509269f4f2dcd90b87ab2204dac0145eeba0be268af6e127",
    },
    {
        .suite = {.encryption = ENCRYPTION_AES_CBC_128, .integrity = INTEGRITY_SHA1, .prf = INTEGRITY_SHA1, .group = 14},
        .skeyseed = "b3b9e36f05304d911ed2b5010d4abbea542940c2",
        .d = "58e1a7e165018f60b709f29d84379265db22fba2",
        .ai = "6e37264dc32f0f80feae0187e46c6beb85674e94",
        .ar = "2bce085f77fb6e6d8f2f7df5dc2b2f8b1885c593",
        .ei = "417d6a02a98538dd5f8fa4ccec97a563",
        .er = "b83547b42d1b5f8ce638a49ef9757437",
        .pi = "9fcdfea76af72f14775c248dbf2f5093c1ce9f47",
        .pr = "621113f7386c94d9b850e6698308d32f6a738a9a",
        .child = "38c1aeb89befee647bda2ce767717f006339845f8999a566fbb212377e42e531e9c769884735c3becb54fb923625b50a9abf23eb2a689"
                 "43dea1a6fbfb6cf323600cb011d7cfce95d",
        .child_plain = "baefd21ea61c93c78a8300cadff6669713ad7b68400efa4d56d671d5e39a9564024745b9c8758d640411c1d8ce0908656692efd"
                       "8c2f3dd659b17af0d5d3f0493e97523a49b4070ba",
        .rekey = "0da3b054f15963a8526d8ed44cc3c29ae05d6573",
        .auth = "1d84df72f2a9985fa7c417a102f7dba5db795c97",
    },
};

static uint8_t nonce_i[32], nonce_r[32], shared[32];

static struct key_inputs inputs(bool with_exchange)
{
	for (unsigned i = 0; i < 32; i++) {
		nonce_i[i] = (uint8_t)(0x10 + i);
		nonce_r[i] = (uint8_t)(0x80 + i);
		shared[i] = (uint8_t)(7 * i + 3);
	}
	return (struct key_inputs){.nonce_i = {nonce_i, 32},
	                           .nonce_r = {nonce_r, 32},
	                           .shared = {shared, with_exchange ? 32 : 0},
	                           .spi_i = 0x0102030405060708,
	                           .spi_r = 0xa1a2a3a4a5a6a7a8};
}

static void assert_octets(struct bytes octets, const char *hex)
{
	char text[2 * 256 + 1];
	assert_true(octets.length <= 256);
	assert_string_equal(hex_format(octets, text), hex);
}

static void keys_of_an_ike_sa(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		const struct answer *answer = &answers[i];
		struct key_inputs all = inputs(true);
		struct secret skeyseed, rekeyed;
		struct ike_keys keys = {.d = {.length = 0}};
		skeyseed_initial(answer->suite.prf, &all, &skeyseed);
		assert_octets(secret_bytes(&skeyseed), answer->skeyseed);
		ike_keys_derive(&answer->suite, &skeyseed, &all, &keys);
		assert_octets(secret_bytes(&keys.d), answer->d);
		assert_octets(secret_bytes(&keys.ai), answer->ai);
		assert_octets(secret_bytes(&keys.ar), answer->ar);
		assert_octets(secret_bytes(&keys.ei), answer->ei);
		assert_octets(secret_bytes(&keys.er), answer->er);
		assert_octets(secret_bytes(&keys.pi), answer->pi);
		assert_octets(secret_bytes(&keys.pr), answer->pr);
		skeyseed_rekey(answer->suite.prf, &keys.d, &all, &rekeyed);
		assert_octets(secret_bytes(&rekeyed), answer->rekey);
	}
}

static void keys_of_a_child_sa(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		const struct answer *answer = &answers[i];
		uint8_t d_octets[HASH_MAX], keymat[256];
		ptrdiff_t d_length = hex_parse(answer->d, d_octets, sizeof d_octets);
		struct secret d;
		assert_true(secret_set(&d, (struct bytes){d_octets, (size_t)d_length}));
		for (int with_exchange = 0; with_exchange < 2; with_exchange++) {
			const char *expected = with_exchange ? answer->child : answer->child_plain;
			struct key_inputs all = inputs(with_exchange);
			size_t length = strlen(expected) / 2;
			child_keymat(answer->suite.prf, &d, &all, keymat, length);
			assert_octets((struct bytes){keymat, length}, expected);
			// RFC 7296 §2.17: the initiator's keys first, encryption before integrity.
			struct child_keys keys;
			child_keys_derive(&answer->suite, answer->suite.prf, &d, &all, &keys);
			struct reader r = reader_of((struct bytes){keymat, length});
			const struct secret *order[] = {&keys.encryption_i, &keys.integrity_i, &keys.encryption_r,
			                                &keys.integrity_r};
			for (size_t k = 0; k < 4; k++) {
				assert_true(bytes_equal(secret_bytes(order[k]), read_bytes(&r, order[k]->length)));
			}
			assert_int_equal(reader_left(&r), 0);
		}
	}
}

static void authentication_with_a_shared_key(void **state)
{
	(void)state;
	static const char text[] = "a shared secret", message[] = "the first message";
	static const uint8_t identity[] = {1, 0, 0, 0, 198, 51, 100, 17};
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		const struct answer *answer = &answers[i];
		struct key_inputs all = inputs(true);
		uint8_t p_octets[HASH_MAX], auth[HASH_MAX];
		ptrdiff_t p_length = hex_parse(answer->pi, p_octets, sizeof p_octets);
		struct secret key, p;
		secret_set(&key, (struct bytes){(const uint8_t *)text, sizeof text - 1});
		secret_set(&p, (struct bytes){p_octets, (size_t)p_length});
		shared_key_auth(answer->suite.prf, &key, (struct bytes){(const uint8_t *)message, sizeof message - 1},
		                all.nonce_r, &p, (struct bytes){identity, sizeof identity}, auth);
		assert_octets((struct bytes){auth, hash_algorithm(answer->suite.prf)->length}, answer->auth);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(keys_of_an_ike_sa),
	    cmocka_unit_test(keys_of_a_child_sa),
	    cmocka_unit_test(authentication_with_a_shared_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
