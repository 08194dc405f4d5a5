// See message.h.
#include "services/bgp/message.h"

#include <string.h>

static const struct {
	uint16_t minimum, maximum;
} lengths[] = {
    [MESSAGE_OPEN] = {29, MESSAGE_LIMIT}, [MESSAGE_UPDATE] = {23, MESSAGE_LIMIT}, [MESSAGE_NOTIFICATION] = {21, MESSAGE_LIMIT},
    [MESSAGE_KEEPALIVE] = {19, 19},       [MESSAGE_ROUTE_REFRESH] = {23, 23}, // RFC 2918 §3
};

size_t message_header_read(const uint8_t header[static MESSAGE_HEADER], enum message_type *type, struct bgp_error *error)
{
	for (size_t i = 0; i < 16; i++) {
		if (header[i] != 0xff) {
			*error = (struct bgp_error){.code = ERROR_HEADER, .subcode = HEADER_NOT_SYNCHRONIZED};
			return 0;
		}
	}
	size_t length = (size_t)header[16] << 8 | header[17];
	uint8_t number = header[18];
	// RFC 4271 §6.1: the length is looked at first; the data of each error is the field that was wrong.
	bool known = number >= MESSAGE_OPEN && number <= MESSAGE_ROUTE_REFRESH;
	if (length < MESSAGE_HEADER || length > MESSAGE_LIMIT ||
	    (known && (length < lengths[number].minimum || length > lengths[number].maximum))) {
		*error = (struct bgp_error){ERROR_HEADER, HEADER_BAD_LENGTH, {header + 16, 2}};
		return 0;
	}
	if (!known) {
		*error = (struct bgp_error){ERROR_HEADER, HEADER_BAD_TYPE, {header + 18, 1}};
		return 0;
	}
	*type = (enum message_type)number;
	return length;
}

void message_begin(struct writer *w, enum message_type type)
{
	uint8_t *marker = write_space(w, 16);
	if (marker) {
		memset(marker, 0xff, 16);
	}
	write_u16(w, 0);
	write_u8(w, (uint8_t)type);
}

void message_end(struct writer *w, size_t start)
{
	write_u16_at(w, start + 16, (uint16_t)(writer_length(w) - start));
}

void notification_write(struct writer *w, const struct bgp_error *error)
{
	size_t start = writer_length(w);
	message_begin(w, MESSAGE_NOTIFICATION);
	write_u8(w, error->code);
	write_u8(w, error->subcode);
	struct bytes data = error->data;
	if (data.length > MESSAGE_LIMIT - MESSAGE_HEADER - 2) {
		data.length = MESSAGE_LIMIT - MESSAGE_HEADER - 2;
	}
	write_bytes(w, data);
	message_end(w, start);
}

struct bgp_error notification_read(struct bytes body)
{
	struct reader r = reader_of(body);
	struct bgp_error error = {.code = read_u8(&r), .subcode = read_u8(&r)};
	error.data = read_rest(&r);
	return error;
}
