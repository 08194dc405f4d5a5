// See identity.h. Left out: distinguished and general names, which go with certificates.
#include "services/ike/tunnel/identity.h"

#include "common/base/hex.h"
#include "services/ike/wire/ikev2.h"
#include <stdio.h>
#include <string.h>

static uint8_t identity_of(const char *text, struct address *address, struct bytes *octets)
{
	if (address_parse(text, address)) {
		*octets = address_bytes(address);
		return address->length == 4 ? ID_IPV4_ADDR : ID_IPV6_ADDR;
	}
	const char *at = strchr(text, '@');
	if (at == text) {
		text++; // "@name" says FQDN, as strongSwan writes it
	}
	*octets = (struct bytes){(const uint8_t *)text, strlen(text)};
	if (at == text - 1) {
		return ID_FQDN;
	}
	return at ? ID_RFC822_ADDR : strchr(text, '.') ? ID_FQDN : ID_KEY_ID;
}

void identity_write(struct writer *w, const char *text)
{
	struct address address;
	struct bytes octets;
	write_u8(w, identity_of(text, &address, &octets));
	write_u24(w, 0);
	write_bytes(w, octets);
}

bool identity_matches(struct bytes body, const char *text)
{
	struct address address;
	struct bytes octets;
	uint8_t wanted = identity_of(text, &address, &octets);
	struct reader r = reader_of(body);
	uint8_t type = read_u8(&r);
	read_u24(&r);
	if (r.failed || !bytes_equal(read_rest(&r), octets)) {
		return false;
	}
	bool named = type == ID_FQDN || type == ID_RFC822_ADDR || type == ID_KEY_ID;
	return type == wanted || (named && wanted != ID_IPV4_ADDR && wanted != ID_IPV6_ADDR);
}

char *identity_format(struct bytes body, char out[static IDENTITY_TEXT_MAX])
{
	struct reader r = reader_of(body);
	uint8_t type = read_u8(&r);
	read_u24(&r);
	struct bytes octets = read_rest(&r);
	struct address address;
	if ((type == ID_IPV4_ADDR || type == ID_IPV6_ADDR) && address_from_bytes(octets, &address)) {
		char text[ADDRESS_TEXT];
		snprintf(out, IDENTITY_TEXT_MAX, "%s", address_format(&address, text));
		return out;
	}
	bool printable = octets.length > 0 && octets.length < IDENTITY_TEXT_MAX;
	for (size_t i = 0; i < octets.length && printable; i++) {
		printable = octets.data[i] > 0x20 && octets.data[i] < 0x7f;
	}
	if (printable) {
		snprintf(out, IDENTITY_TEXT_MAX, "%.*s", (int)octets.length, (const char *)octets.data);
	} else {
		char hex[2 * 64 + 1];
		size_t length = octets.length < 64 ? octets.length : 64;
		hex_format((struct bytes){octets.data, length}, hex);
		snprintf(out, IDENTITY_TEXT_MAX, "type %u, octets %s", type, hex);
	}
	return out;
}
