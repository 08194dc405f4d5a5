// See checksum.h. The loop adds 32-bit words into 64-bit lanes, so that no carry is lost for any length below 2^32 words; the
// sum is taken in the machine's byte order and turned once at the end (RFC 1071 §2, byte order independence).
#include "services/esp/checksum.h"

typedef uint64_t lanes __attribute__((vector_size(64)));

// The compiler makes one body per instruction set and the loader picks it: no vector unit is assumed. Not with ThreadSanitizer,
// which is not ready yet when the loader picks.
#ifndef __SANITIZE_THREAD__
__attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#endif
static uint64_t sum_blocks(const uint8_t *data, size_t blocks)
{
	lanes low = {0}, high = {0};
	for (size_t i = 0; i < blocks; i++) {
		lanes words;
		memcpy(&words, data + i * sizeof words, sizeof words);
		low += words & 0xffffffff;
		high += words >> 32;
	}
	low += high;
	uint64_t sum = 0;
	for (size_t i = 0; i < sizeof low / sizeof low[0]; i++) {
		sum += low[i];
	}
	return sum;
}

uint32_t checksum_add(uint32_t start, const uint8_t *data, size_t length)
{
	size_t blocks = length / sizeof(lanes);
	uint64_t sum = blocks > 0 ? sum_blocks(data, blocks) : 0;
	data += blocks * sizeof(lanes);
	length -= blocks * sizeof(lanes);
	for (; length >= 8; data += 8, length -= 8) {
		uint64_t word;
		memcpy(&word, data, sizeof word);
		sum += (word & 0xffffffff) + (word >> 32);
	}
	if (length > 0) {
		uint64_t word = 0;
		memcpy(&word, data, length);
		sum += (word & 0xffffffff) + (word >> 32);
	}
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	uint32_t folded = (uint32_t)(sum & 0xffff) + (uint32_t)(sum >> 16);
	folded = checksum_fold(folded);
	return start + __builtin_bswap16((uint16_t)folded);
}
