// The sealing of saved IKE SA states: what was sealed opens, and nothing else does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "services/ike/crypto/seal.h"

static const struct seal_key key = {.octets = {1, 2, 3}};
static const uint8_t incarnation[SEAL_INCARNATION] = {9, 8, 7};

static struct bytes text(const char *t)
{
	return (struct bytes){(const uint8_t *)t, strlen(t)};
}

static void opens_what_was_sealed(void **state)
{
	(void)state;
	uint8_t sealed[96], plain[96];
	struct sealer *sealer = sealer_new(&key, incarnation);
	struct bytes message = text("a state of an SA");
	seal(sealer, text("00000000000000aa"), message, sealed);
	assert_true(unseal(&key, text("00000000000000aa"), (struct bytes){sealed, message.length + SEAL_OVERHEAD}, plain));
	assert_memory_equal(plain, message.data, message.length);
	assert_memory_not_equal(sealed + SEAL_OVERHEAD - SEAL_TAG, message.data, message.length);
	sealer_free(&sealer);
}

// No nonce is used twice under one key: it counts, and another incarnation has another key.
static void counts_its_nonces_under_a_key_of_its_own(void **state)
{
	(void)state;
	static const uint8_t other[SEAL_INCARNATION] = {1};
	struct sealer *a = sealer_new(&key, incarnation), *b = sealer_new(&key, other);
	struct bytes message = text("the same message"), name = text("00000000000000aa");
	uint8_t first[96], second[96], third[96], plain[96];
	size_t length = message.length + SEAL_OVERHEAD;
	seal(a, name, message, first);
	seal(a, name, message, second);
	seal(b, name, message, third);
	const size_t nonce = 1 + SEAL_INCARNATION, body = nonce + SEAL_NONCE;
	assert_memory_not_equal(first + nonce, second + nonce, SEAL_NONCE);
	assert_memory_equal(first + nonce, third + nonce, SEAL_NONCE); // the same number of another key
	assert_memory_not_equal(first + body, second + body, message.length);
	assert_memory_not_equal(first + body, third + body, message.length);
	assert_true(unseal(&key, name, (struct bytes){third, length}, plain));
	assert_memory_equal(plain, message.data, message.length);
	sealer_free(&a);
	sealer_free(&b);
}

static void refuses_every_changed_octet_and_another_name(void **state)
{
	(void)state;
	uint8_t sealed[96], plain[96];
	struct sealer *sealer = sealer_new(&key, incarnation);
	struct bytes message = text("a state of an SA");
	size_t length = message.length + SEAL_OVERHEAD;
	seal(sealer, text("00000000000000aa"), message, sealed);
	assert_false(unseal(&key, text("00000000000000ab"), (struct bytes){sealed, length}, plain));
	for (size_t i = 0; i < length; i++) {
		sealed[i] ^= 0x40;
		assert_false(unseal(&key, text("00000000000000aa"), (struct bytes){sealed, length}, plain));
		sealed[i] ^= 0x40;
	}
	for (size_t i = 0; i < length; i++) {
		assert_false(unseal(&key, text("00000000000000aa"), (struct bytes){sealed, i}, plain));
	}
	sealer_free(&sealer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(opens_what_was_sealed),
	    cmocka_unit_test(counts_its_nonces_under_a_key_of_its_own),
	    cmocka_unit_test(refuses_every_changed_octet_and_another_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
