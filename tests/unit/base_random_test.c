// ChaCha20 against RFC 8439, and what the generator promises.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/hex.h"
#include "common/base/random.h"

static void block_of_rfc_8439_section_2_3_2(void **state)
{
	(void)state;
	uint8_t key[32], out[64], expected[64];
	for (uint8_t i = 0; i < 32; i++) {
		key[i] = i;
	}
	const uint8_t nonce[12] = {0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0};
	assert_int_equal(hex_parse("10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
	                           "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
	                           expected, sizeof expected),
	                 64);
	chacha20_block(key, 1, nonce, out);
	assert_memory_equal(out, expected, 64);
}

static void block_of_rfc_8439_appendix_a_1(void **state)
{
	(void)state;
	const uint8_t key[32] = {0}, nonce[12] = {0};
	uint8_t out[64], expected[64];
	assert_int_equal(hex_parse("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
	                           "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
	                           expected, sizeof expected),
	                 64);
	chacha20_block(key, 0, nonce, out);
	assert_memory_equal(out, expected, 64);
	// The generator under the zero seed gives out the second half first, and erases what it has given out.
	struct random random;
	random_init(&random, key);
	uint8_t first[32], zero[32] = {0};
	random_fill(&random, first, sizeof first);
	assert_memory_equal(first, expected + 32, 32);
	assert_memory_equal(random.ready, zero, 32);
	assert_memory_equal(random.key, expected, 32);
}

static void same_seed_same_stream(void **state)
{
	(void)state;
	struct random a, b, c;
	random_init_number(&a, 7);
	random_init_number(&b, 7);
	random_init_number(&c, 8);
	uint8_t whole[200], parts[200], other[200];
	random_fill(&a, whole, sizeof whole);
	for (size_t i = 0; i < sizeof parts; i += 25) {
		random_fill(&b, parts + i, 25);
	}
	random_fill(&c, other, sizeof other);
	assert_memory_equal(whole, parts, sizeof whole);
	assert_memory_not_equal(whole, other, sizeof whole);
}

static void below_its_bound(void **state)
{
	(void)state;
	struct random random;
	random_init_number(&random, 3);
	assert_int_equal(random_below(&random, 0), 0);
	assert_int_equal(random_below(&random, 1), 0);
	int counts[6] = {0};
	for (int i = 0; i < 60000; i++) {
		uint32_t value = random_below(&random, 6);
		assert_true(value < 6);
		counts[value]++;
	}
	for (int i = 0; i < 6; i++) {
		assert_in_range(counts[i], 9500, 10500);
	}
	assert_true(random_below(&random, UINT32_MAX) < UINT32_MAX);
	assert_true(random_u64(&random) != random_u64(&random));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(block_of_rfc_8439_section_2_3_2),
	    cmocka_unit_test(block_of_rfc_8439_appendix_a_1),
	    cmocka_unit_test(same_seed_same_stream),
	    cmocka_unit_test(below_its_bound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
