// A deterministic generator (the ChaCha20 stream of RFC 8439 under a 32-octet seed, each block's first half replacing the key, so that
// what was given out cannot be found from what is kept). A shell seeds it from the kernel; a simulation seeds it with a number.
#ifndef TWINSPAN_BASE_RANDOM_H
#define TWINSPAN_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
	uint8_t key[32];
	uint8_t ready[32];
	uint8_t used; // octets of `ready` given out
};

void random_init(struct random *random, const uint8_t seed[static 32]);
void random_init_number(struct random *random, uint64_t seed); // for tests and simulations
void random_fill(struct random *random, void *out, size_t length);
uint32_t random_u32(struct random *random);
uint64_t random_u64(struct random *random);
// Uniform in 0 … bound-1; bound 0 gives 0.
uint32_t random_below(struct random *random, uint32_t bound);

// One block of ChaCha20 (RFC 8439 §2.3), what the generator is made of.
void chacha20_block(const uint8_t key[static 32], uint32_t counter, const uint8_t nonce[static 12], uint8_t out[static 64]);

#endif
