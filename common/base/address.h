// IPv4 and IPv6 addresses and prefixes as values.
#ifndef TWINSPAN_BASE_ADDRESS_H
#define TWINSPAN_BASE_ADDRESS_H

#include "common/base/bytes.h"

struct address {
	uint8_t length; // 4, 16, or 0: none
	uint8_t octets[16]; // network order; unused octets are zero
};

struct prefix {
	struct address address; // host bits are zero
	uint8_t length; // bits
};

enum { ADDRESS_TEXT = 46, PREFIX_TEXT = 50 }; // buffer sizes with the final zero

bool address_parse(const char *text, struct address *out); // strict: inet_pton forms only
char *address_format(const struct address *address, char out[static ADDRESS_TEXT]);
bool address_from_bytes(struct bytes octets, struct address *out); // 4 or 16 octets
struct bytes address_bytes(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);
int address_compare(const struct address *a, const struct address *b);
// "a.b.c.d/n" (or IPv6). false when malformed or when a host bit is set.
bool prefix_parse(const char *text, struct prefix *out);
char *prefix_format(const struct prefix *prefix, char out[static PREFIX_TEXT]);
struct prefix prefix_of(const struct address *address, uint8_t length); // masks the host bits
bool prefix_contains_address(const struct prefix *prefix, const struct address *address);
bool prefix_contains(const struct prefix *outer, const struct prefix *inner); // equal counts
bool prefix_overlaps(const struct prefix *a, const struct prefix *b);
bool prefix_equal(const struct prefix *a, const struct prefix *b);
int prefix_compare(const struct prefix *a, const struct prefix *b); // by family, address, then length
// The nth address of the prefix, counted from its first (0). Wraps inside the last 32 bits.
struct address prefix_nth(const struct prefix *prefix, uint32_t n);

#endif
