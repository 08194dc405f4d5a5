// See open.h. Left out: capabilities other than multiprotocol, route refresh and four-octet AS are read over.
#include "services/bgp/open.h"

#include "services/bgp/as_path.h"

enum { VERSION = 4, PARAMETER_CAPABILITIES = 2, PARAMETER_EXTENDED = 255 };
enum { CAPABILITY_MULTIPROTOCOL = 1, CAPABILITY_ROUTE_REFRESH = 2, CAPABILITY_FOUR_OCTET_AS = 65 };

static const uint8_t supported_version[] = {0, VERSION};

// Those of the families that we offer (RFC 4760 §8).
static void write_multiprotocol(struct writer *w)
{
	for (enum family family = 0; family < FAMILIES; family++) {
		if (family_rules[family].offered) {
			write_u8(w, CAPABILITY_MULTIPROTOCOL);
			write_u8(w, 4);
			write_u16(w, family_rules[family].afi);
			write_u8(w, 0);
			write_u8(w, family_rules[family].safi);
		}
	}
}

void open_write(struct writer *w, const struct open_message *open, bool capabilities)
{
	size_t start = writer_length(w);
	message_begin(w, MESSAGE_OPEN);
	write_u8(w, VERSION);
	write_u16(w, open->as > UINT16_MAX ? AS_TRANS : (uint16_t)open->as);
	write_u16(w, open->hold_time);
	write_u32(w, open->router_id);
	if (capabilities) {
		uint8_t octets[FAMILIES * 6 + 2 + 6];
		struct writer list = writer_of(octets, sizeof octets);
		write_multiprotocol(&list);
		write_u8(&list, CAPABILITY_ROUTE_REFRESH);
		write_u8(&list, 0);
		write_u8(&list, CAPABILITY_FOUR_OCTET_AS);
		write_u8(&list, 4);
		write_u32(&list, open->as);
		write_u8(w, (uint8_t)(2 + writer_length(&list)));
		write_u8(w, PARAMETER_CAPABILITIES);
		write_u8(w, (uint8_t)writer_length(&list));
		write_bytes(w, writer_bytes(&list));
	} else {
		write_u8(w, 0);
	}
	message_end(w, start);
}

// RFC 5492 §4: a capability may come several times and in several parameters; one with a length that is not its own is a
// malformed parameter.
static bool read_capabilities(struct reader r, struct open_message *out)
{
	while (reader_left(&r) > 0) {
		uint8_t code = read_u8(&r);
		struct reader value = read_sub(&r, read_u8(&r));
		if (r.failed) {
			return false;
		}
		switch (code) {
		case CAPABILITY_MULTIPROTOCOL: {
			uint16_t afi = read_u16(&value);
			read_u8(&value); // reserved
			uint8_t safi = read_u8(&value);
			if (value.failed || reader_left(&value) > 0) {
				return false;
			}
			enum family family = family_find(afi, safi);
			out->multiprotocol = true;
			if (family < FAMILIES) {
				out->families[family] = family_rules[family].offered;
			}
			break;
		}
		case CAPABILITY_ROUTE_REFRESH:
			if (reader_left(&value) > 0) {
				return false;
			}
			out->route_refresh = true;
			break;
		case CAPABILITY_FOUR_OCTET_AS: {
			uint32_t as = read_u32(&value);
			if (value.failed || reader_left(&value) > 0) {
				return false;
			}
			out->four_octet_as = true;
			out->as = as;
			break;
		}
		default:
			break; // RFC 5492 §3: unknown ones are ignored
		}
	}
	return true;
}

static struct bgp_error open_error(uint8_t subcode, struct bytes data)
{
	return (struct bgp_error){ERROR_OPEN, subcode, data};
}

static struct bgp_error read_parameters(struct reader *r, struct open_message *out)
{
	static const struct bytes none;
	uint8_t length = read_u8(r);
	bool extended = false;
	struct reader parameters;
	// RFC 9072 §2: the first parameter's type tells, whatever the one-octet length says, as long as it is not 0.
	if (length != 0 && reader_left(r) >= 3 && r->at[0] == PARAMETER_EXTENDED) {
		extended = true;
		read_u8(r);
		parameters = read_sub(r, read_u16(r));
	} else {
		parameters = read_sub(r, length);
	}
	if (r->failed || reader_left(r) > 0) {
		return open_error(OPEN_UNSPECIFIC, none);
	}
	while (reader_left(&parameters) > 0) {
		const uint8_t *at = parameters.at;
		uint8_t type = read_u8(&parameters);
		struct reader value = read_sub(&parameters, extended ? read_u16(&parameters) : read_u8(&parameters));
		if (parameters.failed) {
			return open_error(OPEN_UNSPECIFIC, none);
		}
		if (type != PARAMETER_CAPABILITIES) {
			return open_error(OPEN_UNSUPPORTED_PARAMETER, (struct bytes){at, (size_t)(parameters.at - at)});
		}
		if (!read_capabilities(value, out)) {
			return open_error(OPEN_UNSPECIFIC, none);
		}
	}
	return (struct bgp_error){.code = ERROR_NONE};
}

struct bgp_error open_read(struct bytes body, const struct bgp_session_config *config, struct open_message *out)
{
	static const struct bytes none;
	*out = (struct open_message){.as = 0};
	struct reader r = reader_of(body);
	uint8_t version = read_u8(&r);
	if (version != VERSION) {
		return open_error(OPEN_UNSUPPORTED_VERSION, (struct bytes){supported_version, sizeof supported_version});
	}
	out->as = read_u16(&r);
	out->hold_time = read_u16(&r);
	out->router_id = read_u32(&r);
	struct bgp_error error = read_parameters(&r, out);
	if (error.code != ERROR_NONE) {
		return error;
	}
	// RFC 6793 §4.1 and RFC 7607: AS 0 equals no configured AS, so one comparison does both.
	if (out->as != config->remote_as) {
		return open_error(OPEN_BAD_PEER_AS, none);
	}
	// RFC 4271 §6.2: 1 and 2 are refused by everybody, others at our discretion. With 0 the smaller of the two would be
	// none at all: a peer that freezes would keep its routes for ever, which is nobody's wish whose own hold time is not 0.
	if (out->hold_time < 3 && (out->hold_time != 0 || config->hold_time != 0)) {
		return open_error(OPEN_UNACCEPTABLE_HOLD_TIME, none);
	}
	// RFC 6286 §2.2: any value but 0; only within one AS must the two differ.
	if (out->router_id == 0) {
		return open_error(OPEN_BAD_IDENTIFIER, none);
	}
	// RFC 4760 §8: without any such capability IPv4 unicast is what BGP-4 is.
	out->families[FAMILY_IPV4] |= !out->multiprotocol;
	for (enum family family = 0; family < FAMILIES; family++) {
		if (out->families[family]) {
			return error;
		}
	}
	static uint8_t wanted[FAMILIES * 6]; // the error refers to it; each time the same octets
	struct writer w = writer_of(wanted, sizeof wanted);
	write_multiprotocol(&w);
	return open_error(OPEN_UNSUPPORTED_CAPABILITY, writer_bytes(&w));
}
