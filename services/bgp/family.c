// See family.h.
#include "services/bgp/family.h"

enum { AFI_IPV4 = 1, AFI_IPV6 = 2, SAFI_UNICAST = 1 };

// "This network" (but the default route), loopback, link-local (the tunnels' own addresses), multicast and above.
static const struct prefix ipv4_martians[] = {
    {{4, {0}}, 8}, {{4, {127}}, 8}, {{4, {169, 254}}, 16}, {{4, {224}}, 3}, {{0, {0}}, 0}};
// Unspecified, loopback and IPv4-mapped (RFC 4291 §2.5), link-local, multicast.
static const struct prefix ipv6_martians[] = {{{16, {0}}, 8}, {{16, {0xfe, 0x80}}, 10}, {{16, {0xff}}, 8}, {{0, {0}}, 0}};

const struct family_rule family_rules[FAMILIES] = {
    [FAMILY_IPV4] = {AFI_IPV4, SAFI_UNICAST, true, ipv4_martians},
    [FAMILY_IPV6] = {AFI_IPV6, SAFI_UNICAST, false, ipv6_martians},
};

enum family family_find(uint16_t afi, uint8_t safi)
{
	enum family family = 0;
	while (family < FAMILIES && (family_rules[family].afi != afi || family_rules[family].safi != safi)) {
		family++;
	}
	return family;
}

bool family_is_martian(const struct prefix *prefix)
{
	const struct prefix *martian = family_rules[family_of(prefix)].martians;
	while (martian->length > 0 && !prefix_contains(martian, prefix)) {
		martian++;
	}
	return martian->length > 0;
}
