// The Internet checksum (RFC 1071, incremental: RFC 1624).
#ifndef TWINSPAN_ESP_CHECKSUM_H
#define TWINSPAN_ESP_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// One's complement sum of the octets as 16-bit words in network order, folded to 16 bits, plus `start`. An odd last octet
// counts as the high half of a word.
uint32_t checksum_add(uint32_t start, const uint8_t *data, size_t length);

// The same for a header: a few whole 32-bit words.
static inline uint32_t checksum_words(uint32_t start, const uint8_t *data, unsigned words)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < words; i++) {
		uint32_t word;
		memcpy(&word, data + 4u * i, sizeof word);
		sum += word;
	}
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return start + __builtin_bswap16((uint16_t)((sum & 0xffff) + (sum >> 16)));
}

static inline uint16_t checksum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

// What goes into the header field.
static inline uint16_t checksum_finish(uint32_t sum)
{
	return (uint16_t)~checksum_fold(sum);
}

// The field after one 16-bit word under it changed (RFC 1624 §3, equation 3).
static inline uint16_t checksum_update(uint16_t field, uint16_t before, uint16_t after)
{
	return checksum_finish((uint32_t)(uint16_t)~field + (uint32_t)(uint16_t)~before + after);
}

#endif
