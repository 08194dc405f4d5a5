// The address families (RFC 4760). What differs between them is a row of this table; what is held for each of them is an array
// with the family as its index.
#ifndef TWINSPAN_BGP_FAMILY_H
#define TWINSPAN_BGP_FAMILY_H

#include "common/base/address.h"

enum family { FAMILY_IPV4, FAMILY_IPV6, FAMILIES };

struct family_rule {
	uint16_t afi;
	uint8_t safi;
	bool offered; // to our peers. IPv6 is not yet: sessions are over IPv4 inside addresses and have no IPv6 next hop
	// Destinations that no customer's network has, ended by one of length 0.
	const struct prefix *martians;
};
extern const struct family_rule family_rules[FAMILIES];

enum family family_find(uint16_t afi, uint8_t safi); // FAMILIES: none of these
bool family_is_martian(const struct prefix *prefix);

// Of an address. Not in the table: where a table of routes is gone through, the compiler has to know it.
static inline uint8_t family_octets(enum family family)
{
	return family == FAMILY_IPV4 ? 4 : 16;
}

static inline enum family family_of(const struct prefix *prefix)
{
	return prefix->address.length == 16 ? FAMILY_IPV6 : FAMILY_IPV4;
}

#endif
