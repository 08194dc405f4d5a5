// IPv4 prefixes as numbers.
#ifndef TWINSPAN_TESTS_BGP_PREFIX_H
#define TWINSPAN_TESTS_BGP_PREFIX_H

#include "common/base/address.h"

static inline struct prefix ipv4(uint32_t address, uint8_t length)
{
	struct prefix prefix = {.address.length = 4, .length = length};
	for (unsigned i = 0; i < 4; i++) {
		prefix.address.octets[i] = (uint8_t)(address >> (24 - 8 * i));
	}
	return prefix;
}

#endif
