// The sealing of saved IKE SA states: what was sealed opens, and nothing else does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "services/ike/crypto/seal.h"

static const struct seal_key key = {.octets = {1, 2, 3}};
static const uint8_t nonce[SEAL_NONCE] = {9, 8, 7};

static struct bytes text(const char *t)
{
	return (struct bytes){(const uint8_t *)t, strlen(t)};
}

static void opens_what_was_sealed(void **state)
{
	(void)state;
	uint8_t sealed[64], plain[64];
	struct bytes message = text("a state of an SA");
	seal(&key, nonce, text("00000000000000aa"), message, sealed);
	assert_true(unseal(&key, text("00000000000000aa"), (struct bytes){sealed, message.length + SEAL_OVERHEAD}, plain));
	assert_memory_equal(plain, message.data, message.length);
	assert_memory_not_equal(sealed + SEAL_NONCE, message.data, message.length);
}

static void refuses_every_changed_octet_and_another_name(void **state)
{
	(void)state;
	uint8_t sealed[64], plain[64];
	struct bytes message = text("a state of an SA");
	size_t length = message.length + SEAL_OVERHEAD;
	seal(&key, nonce, text("00000000000000aa"), message, sealed);
	assert_false(unseal(&key, text("00000000000000ab"), (struct bytes){sealed, length}, plain));
	for (size_t i = 0; i < length; i++) {
		sealed[i] ^= 0x40;
		assert_false(unseal(&key, text("00000000000000aa"), (struct bytes){sealed, length}, plain));
		sealed[i] ^= 0x40;
	}
	for (size_t i = 0; i < length; i++) {
		assert_false(unseal(&key, text("00000000000000aa"), (struct bytes){sealed, i}, plain));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(opens_what_was_sealed),
	    cmocka_unit_test(refuses_every_changed_octet_and_another_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
