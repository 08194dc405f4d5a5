// See secret.h.
#include "common/base/secret.h"

#include <string.h>

void wipe(void *memory, size_t length)
{
	if (length > 0) { // nothing may be NULL
		explicit_bzero(memory, length);
	}
}

bool secret_set(struct secret *secret, struct bytes octets)
{
	secret_wipe(secret);
	if (octets.length > SECRET_CAPACITY) {
		return false;
	}
	if (octets.length > 0) {
		memcpy(secret->octets, octets.data, octets.length);
	}
	secret->length = (uint16_t)octets.length;
	return true;
}

struct bytes secret_bytes(const struct secret *secret)
{
	return (struct bytes){secret->octets, secret->length};
}

bool constant_time_equal(struct bytes a, struct bytes b)
{
	if (a.length != b.length) {
		return false;
	}
	// volatile: the compiler may not leave the loop at the first difference.
	volatile uint8_t difference = 0;
	for (size_t i = 0; i < a.length; i++) {
		difference = (uint8_t)(difference | (a.data[i] ^ b.data[i]));
	}
	return difference == 0;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	return constant_time_equal(secret_bytes(a), secret_bytes(b));
}

void secret_wipe(struct secret *secret)
{
	wipe(secret, sizeof *secret);
}
