// See format.h.
#include "services/resource/format.h"

#include <string.h>

static bool only(const char *text, const char *allowed)
{
	return text[strspn(text, allowed)] == '\0';
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static const char *check_label(const char *text, uint64_t maximum)
{
	if (strlen(text) > maximum) {
		return maximum == 64 ? "at most 64 octets of text" : "at most 256 octets of text";
	}
	for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
		bool c1 = at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f; // U+0080 to U+009F: terminals obey them too
		if (*at < 0x20 || *at == 0x7f || c1) {
			return "text without control characters";
		}
	}
	return NULL;
}

static const char *check_node_name(const char *text)
{
	size_t length = strlen(text);
	bool fits = length >= 1 && length <= 32 && only(text, LOWER DIGITS "-") && text[0] != '-' && text[length - 1] != '-';
	return fits ? NULL : "1 to 32 of a-z 0-9 -, beginning and ending with a letter or digit";
}

static bool within(const struct address *address, const char *prefix_text)
{
	struct prefix prefix;
	return prefix_parse(prefix_text, &prefix) && prefix_contains_address(&prefix, address);
}

bool address_is_unicast(const struct address *address)
{
	return address->length == 4 && !within(address, "0.0.0.0/8") && !within(address, "127.0.0.0/8") &&
	       !within(address, "169.254.0.0/16") && !within(address, "224.0.0.0/3");
}

static const char *check_unicast(const char *text)
{
	struct address address;
	bool fits = address_parse(text, &address) && address_is_unicast(&address);
	return fits ? NULL : "an IPv4 unicast address such as 203.0.113.1 (IPv6 is not available yet)";
}

static const char *check_prefix(const struct field_rule *rule, const char *text)
{
	struct prefix prefix;
	if (!prefix_parse(text, &prefix) || prefix.address.length != 4) {
		return "an IPv4 prefix a.b.c.d/n without host bits (IPv6 is not available yet)";
	}
	if (prefix.length < rule->minimum || prefix.length > rule->maximum) {
		return "a prefix of /8 to /29";
	}
	return NULL;
}

// 169.254.0.0/30 to 169.254.5.0/30 and the metadata service's 169.254.169.252/30.
bool inside_is_reserved(const struct prefix *inside)
{
	const uint8_t *o = inside->address.octets;
	return (o[2] <= 5 && o[3] < 4) || (o[2] == 169 && o[3] >= 252);
}

static const char *check_inside(const char *text)
{
	struct prefix prefix, range;
	prefix_parse("169.254.0.0/16", &range);
	if (!prefix_parse(text, &prefix) || prefix.length != 30 || !prefix_contains(&range, &prefix)) {
		return "a /30 in 169.254.0.0/16 without host bits (IPv6 is not available yet)";
	}
	return inside_is_reserved(&prefix)
	           ? "not 169.254.0.0/30 to 169.254.5.0/30, and not 169.254.169.252/30: they are reserved"
	           : NULL;
}

static bool is_domain_name(const char *text)
{
	size_t label = 0;
	bool letter = false;
	for (const char *c = text;; c++) {
		if (*c == '.' || *c == '\0') {
			if (label == 0 || label > 63 || text[c - text - 1] == '-') {
				return false;
			}
			if (*c == '\0') {
				return letter; // digits alone are a broken address rather than a name
			}
			label = 0;
		} else if (strchr(LOWER UPPER DIGITS "-_", *c) && !(label == 0 && *c == '-')) {
			label++;
			letter = letter || !strchr(DIGITS, *c);
		} else {
			return false;
		}
	}
}

// The forms of RFC 7296 §3.5 that a pre-shared key goes with, told apart by what is in the text as ike does it: an address;
// user@domain; @name or a name with a dot is a domain name; any other word is a key id.
static const char *check_ike_id(const char *text)
{
	static const char rule[] =
	    "an IPv4 address, a domain name (@name when it has no dot), user@domain, or a key id of A-Z a-z 0-9 _ -";
	struct address address;
	size_t length = strlen(text);
	if (length == 0 || length > 255) {
		return rule;
	}
	if (address_parse(text, &address)) {
		return address.length == 4 ? NULL : rule;
	}
	const char *at = strchr(text, '@');
	if (at) {
		size_t user = (size_t)(at - text);
		return strspn(text, LOWER UPPER DIGITS "._+-") == user && is_domain_name(at + 1) ? NULL : rule;
	}
	return is_domain_name(text) || only(text, LOWER UPPER DIGITS "_-") ? NULL : rule;
}

static const char *check_psk(const char *text)
{
	size_t length = strlen(text);
	bool fits = length >= 8 && length <= 64 && only(text, LOWER UPPER DIGITS "._") && text[0] != '0';
	return fits ? NULL : "8 to 64 of A-Z a-z 0-9 . _, not beginning with 0";
}

static const char *check_mss(const char *text)
{
	if (strcmp(text, "AUTO") == 0 || strcmp(text, "OFF") == 0) {
		return NULL;
	}
	unsigned number = 0;
	size_t length = strlen(text);
	if (length >= 3 && length <= 4 && only(text, DIGITS) && text[0] != '0') {
		for (const char *c = text; *c; c++) {
			number = number * 10 + (unsigned)(*c - '0');
		}
	}
	return number >= 536 && number <= 8960 ? NULL : "AUTO, OFF, or a number from 536 to 8960";
}

// Not AS_TRANS (RFC 6793 §9), not the last of each size (RFC 7300), not 0 (RFC 7607).
bool asn_allowed(uint64_t asn)
{
	return asn != 0 && asn != 23456 && asn != 65535 && asn < UINT32_MAX;
}

const char *format_check(const struct field_rule *rule, const char *text)
{
	switch (rule->format) {
	case FORMAT_LABEL:
		return check_label(text, rule->maximum);
	case FORMAT_NODE_NAME:
		return check_node_name(text);
	case FORMAT_UNICAST:
		return check_unicast(text);
	case FORMAT_PREFIX:
		return check_prefix(rule, text);
	case FORMAT_INSIDE:
		return check_inside(text);
	case FORMAT_IKE_ID:
		return check_ike_id(text);
	case FORMAT_PSK:
		return check_psk(text);
	case FORMAT_MSS:
		return check_mss(text);
	default:
		return NULL;
	}
}
