// Addresses and prefixes (address.h). Text forms are those of inet_pton and inet_ntop (RFC 4291 §2.2, RFC 5952 for writing).
#include "common/base/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static int family(const struct address *address)
{
	return address->length == 16 ? AF_INET6 : AF_INET;
}

bool address_parse(const char *text, struct address *out)
{
	*out = (struct address){0};
	if (inet_pton(AF_INET, text, out->octets) == 1) {
		out->length = 4;
	} else if (inet_pton(AF_INET6, text, out->octets) == 1) {
		out->length = 16;
	} else {
		*out = (struct address){0};
	}
	return out->length != 0;
}

char *address_format(const struct address *address, char out[static ADDRESS_TEXT])
{
	if (address->length == 0 || !inet_ntop(family(address), address->octets, out, ADDRESS_TEXT)) {
		out[0] = '\0';
	}
	return out;
}

bool address_from_bytes(struct bytes octets, struct address *out)
{
	*out = (struct address){0};
	if (octets.length != 4 && octets.length != 16) {
		return false;
	}
	out->length = (uint8_t)octets.length;
	memcpy(out->octets, octets.data, octets.length);
	return true;
}

struct bytes address_bytes(const struct address *address)
{
	return (struct bytes){address->octets, address->length};
}

int address_compare(const struct address *a, const struct address *b)
{
	if (a->length != b->length) {
		return a->length < b->length ? -1 : 1;
	}
	return memcmp(a->octets, b->octets, a->length);
}

bool address_equal(const struct address *a, const struct address *b)
{
	return address_compare(a, b) == 0;
}

struct prefix prefix_of(const struct address *address, uint8_t length)
{
	unsigned bits = address->length * 8u;
	struct prefix prefix = {.address = *address, .length = (uint8_t)(length < bits ? length : bits)};
	for (unsigned i = 0; i < address->length; i++) {
		unsigned kept = prefix.length > i * 8 ? prefix.length - i * 8 : 0;
		if (kept < 8) {
			prefix.address.octets[i] &= (uint8_t)(0xff00u >> kept);
		}
	}
	return prefix;
}

// Decimal, without sign or leading zeros: one text form for one length.
static bool parse_length(const char *text, unsigned maximum, uint8_t *out)
{
	unsigned value = 0;
	size_t digits = strlen(text);
	if (digits < 1 || digits > 3 || (digits > 1 && text[0] == '0')) {
		return false;
	}
	for (size_t i = 0; i < digits; i++) {
		if (text[i] < '0' || text[i] > '9') {
			return false;
		}
		value = value * 10 + (unsigned)(text[i] - '0');
	}
	*out = (uint8_t)value;
	return value <= maximum;
}

bool prefix_parse(const char *text, struct prefix *out)
{
	*out = (struct prefix){0};
	char head[ADDRESS_TEXT];
	const char *slash = strchr(text, '/');
	if (!slash || (size_t)(slash - text) >= sizeof head) {
		return false;
	}
	memcpy(head, text, (size_t)(slash - text));
	head[slash - text] = '\0';
	struct address address;
	uint8_t length;
	if (!address_parse(head, &address) || !parse_length(slash + 1, address.length * 8u, &length)) {
		return false;
	}
	struct prefix prefix = prefix_of(&address, length);
	if (!address_equal(&prefix.address, &address)) {
		return false;
	}
	*out = prefix;
	return true;
}

char *prefix_format(const struct prefix *prefix, char out[static PREFIX_TEXT])
{
	char head[ADDRESS_TEXT];
	out[0] = '\0';
	if (address_format(&prefix->address, head)[0]) {
		snprintf(out, PREFIX_TEXT, "%s/%u", head, prefix->length);
	}
	return out;
}

bool prefix_equal(const struct prefix *a, const struct prefix *b)
{
	return a->length == b->length && address_equal(&a->address, &b->address);
}

bool prefix_contains_address(const struct prefix *prefix, const struct address *address)
{
	if (prefix->address.length != address->length || address->length == 0) {
		return false;
	}
	struct prefix masked = prefix_of(address, prefix->length);
	return address_equal(&masked.address, &prefix->address);
}

bool prefix_contains(const struct prefix *outer, const struct prefix *inner)
{
	return outer->length <= inner->length && prefix_contains_address(outer, &inner->address);
}

bool prefix_overlaps(const struct prefix *a, const struct prefix *b)
{
	return prefix_contains(a, b) || prefix_contains(b, a);
}

int prefix_compare(const struct prefix *a, const struct prefix *b)
{
	int order = address_compare(&a->address, &b->address);
	return order ? order : (a->length > b->length) - (a->length < b->length);
}

struct address prefix_nth(const struct prefix *prefix, uint32_t n)
{
	struct address address = prefix->address;
	if (address.length == 0) {
		return address;
	}
	uint8_t *last = address.octets + address.length - 4;
	uint32_t value = ((uint32_t)last[0] << 24 | (uint32_t)last[1] << 16 | (uint32_t)last[2] << 8 | last[3]) + n;
	for (int i = 3; i >= 0; i--, value >>= 8) {
		last[i] = (uint8_t)value;
	}
	return address;
}
