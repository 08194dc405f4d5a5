// The deterministic generator of random.h: ChaCha20 blocks (RFC 8439 §2.3) with counter and nonce zero, whose first half is the
// next key
// ("fast key erasure") and whose second half is given out.
#include "common/base/random.h"

#include <string.h>

#include "common/base/secret.h"

static uint32_t load(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t rotate(uint32_t value, int bits)
{
	return value << bits | value >> (32 - bits);
}

static void quarter_round(uint32_t s[static 16], int a, int b, int c, int d)
{
	s[a] += s[b];
	s[d] = rotate(s[d] ^ s[a], 16);
	s[c] += s[d];
	s[b] = rotate(s[b] ^ s[c], 12);
	s[a] += s[b];
	s[d] = rotate(s[d] ^ s[a], 8);
	s[c] += s[d];
	s[b] = rotate(s[b] ^ s[c], 7);
}

void chacha20_block(const uint8_t key[static 32], uint32_t counter, const uint8_t nonce[static 12], uint8_t out[static 64])
{
	uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
	for (int i = 0; i < 8; i++) {
		start[4 + i] = load(key + 4 * i);
	}
	start[12] = counter;
	for (int i = 0; i < 3; i++) {
		start[13 + i] = load(nonce + 4 * i);
	}
	uint32_t s[16];
	memcpy(s, start, sizeof s);
	for (int round = 0; round < 10; round++) {
		quarter_round(s, 0, 4, 8, 12);
		quarter_round(s, 1, 5, 9, 13);
		quarter_round(s, 2, 6, 10, 14);
		quarter_round(s, 3, 7, 11, 15);
		quarter_round(s, 0, 5, 10, 15);
		quarter_round(s, 1, 6, 11, 12);
		quarter_round(s, 2, 7, 8, 13);
		quarter_round(s, 3, 4, 9, 14);
	}
	for (int i = 0; i < 16; i++) {
		uint32_t word = s[i] + start[i];
		for (int octet = 0; octet < 4; octet++, word >>= 8) {
			out[4 * i + octet] = (uint8_t)word;
		}
	}
	wipe(start, sizeof start);
	wipe(s, sizeof s);
}

void random_init(struct random *random, const uint8_t seed[static 32])
{
	*random = (struct random){.used = sizeof random->ready};
	memcpy(random->key, seed, sizeof random->key);
}

void random_init_number(struct random *random, uint64_t seed)
{
	uint8_t octets[32] = {0};
	for (int i = 0; i < 8; i++, seed >>= 8) {
		octets[i] = (uint8_t)seed;
	}
	random_init(random, octets);
}

static void refill(struct random *random)
{
	static const uint8_t nonce[12];
	uint8_t block[64];
	chacha20_block(random->key, 0, nonce, block);
	memcpy(random->key, block, 32);
	memcpy(random->ready, block + 32, 32);
	random->used = 0;
	wipe(block, sizeof block);
}

void random_fill(struct random *random, void *out, size_t length)
{
	uint8_t *at = out;
	while (length > 0) {
		if (random->used >= sizeof random->ready) {
			refill(random);
		}
		size_t left = sizeof random->ready - random->used;
		size_t part = length < left ? length : left;
		memcpy(at, random->ready + random->used, part);
		wipe(random->ready + random->used, part);
		random->used = (uint8_t)(random->used + part);
		at += part;
		length -= part;
	}
}

uint32_t random_u32(struct random *random)
{
	uint8_t octets[4];
	random_fill(random, octets, sizeof octets);
	return load(octets);
}

uint64_t random_u64(struct random *random)
{
	uint64_t low = random_u32(random);
	return low | (uint64_t)random_u32(random) << 32;
}

uint32_t random_below(struct random *random, uint32_t bound)
{
	if (bound == 0) {
		return 0;
	}
	// Values below 2^32 mod bound would make the small results likelier: draw again.
	uint32_t uneven = (0u - bound) % bound;
	uint32_t value;
	do {
		value = random_u32(random);
	} while (value < uneven);
	return value % bound;
}
