// See entropy.h.
#include "common/io/entropy.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/base/secret.h"

void entropy_fill(void *out, size_t length)
{
	uint8_t *at = out;
	while (length > 0) {
		ssize_t got = getrandom(at, length, 0);
		if (got < 0 && errno != EINTR) {
			abort();
		}
		if (got > 0) {
			at += got;
			length -= (size_t)got;
		}
	}
}

void entropy_seed(struct random *random)
{
	uint8_t seed[32];
	entropy_fill(seed, sizeof seed);
	random_init(random, seed);
	wipe(seed, sizeof seed);
}
