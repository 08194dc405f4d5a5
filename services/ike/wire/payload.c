// See payload.h. RFC 7296 §3.1 (header), §3.2 (generic header), §3.4, §3.8, §3.10, §3.11. A chain is bounded in number, and
// each payload's parser sees its own octets only.
#include "services/ike/wire/payload.h"

#include <string.h>

bool header_read(struct bytes message, struct ike_header *out)
{
	struct reader r = reader_of(message);
	out->spi_i = read_u64(&r);
	out->spi_r = read_u64(&r);
	out->first_payload = read_u8(&r);
	out->version = read_u8(&r);
	out->exchange = read_u8(&r);
	out->flags = read_u8(&r);
	out->message_id = read_u32(&r);
	out->length = read_u32(&r);
	return !r.failed;
}

bool header_fits(const struct ike_header *header, struct bytes message)
{
	return header->length == message.length;
}

void header_write(struct writer *w, const struct ike_header *header)
{
	write_u64(w, header->spi_i);
	write_u64(w, header->spi_r);
	write_u8(w, header->first_payload);
	write_u8(w, header->version);
	write_u8(w, header->exchange);
	write_u8(w, header->flags);
	write_u32(w, header->message_id);
	write_u32(w, header->length);
}

void header_finish(struct writer *w, size_t start)
{
	write_u32_at(w, start + 24, (uint32_t)(writer_length(w) - start));
}

enum notify payloads_read(struct bytes chain, uint8_t first, struct payloads *out)
{
	struct reader r = reader_of(chain);
	uint8_t type = first;
	out->count = 0;
	while (type != PAYLOAD_NONE) {
		if (out->count == PAYLOADS_MAX) {
			return INVALID_SYNTAX;
		}
		struct payload *payload = &out->items[out->count++];
		payload->offset = (size_t)(r.at - chain.data);
		payload->type = type;
		payload->next = read_u8(&r);
		payload->critical = (read_u8(&r) & 0x80) != 0;
		uint16_t length = read_u16(&r);
		if (r.failed || length < 4) {
			return INVALID_SYNTAX;
		}
		payload->body = read_bytes(&r, length - 4u);
		if (r.failed) {
			return INVALID_SYNTAX;
		}
		if (type == PAYLOAD_SK || type == PAYLOAD_SKF) {
			break; // it must be the last (§3.14); its next payload is inside
		}
		type = payload->next;
	}
	return reader_left(&r) == 0 ? NOTIFY_NONE : INVALID_SYNTAX;
}

const struct payload *payloads_find(const struct payloads *payloads, uint8_t type)
{
	for (size_t i = 0; i < payloads->count; i++) {
		if (payloads->items[i].type == type) {
			return &payloads->items[i];
		}
	}
	return NULL;
}

struct bytes payloads_body(const struct payloads *payloads, uint8_t type)
{
	const struct payload *payload = payloads_find(payloads, type);
	return payload ? payload->body : (struct bytes){0};
}

bool notification_read(struct bytes body, struct notification *out)
{
	struct reader r = reader_of(body);
	out->protocol = read_u8(&r);
	uint8_t spi_length = read_u8(&r);
	out->type = read_u16(&r);
	out->spi = read_bytes(&r, spi_length);
	out->data = read_rest(&r);
	return !r.failed;
}

bool notification_find(const struct payloads *payloads, enum notify type, struct notification *out)
{
	for (size_t i = 0; i < payloads->count; i++) {
		if (payloads->items[i].type == PAYLOAD_NOTIFY && notification_read(payloads->items[i].body, out) &&
		    out->type == type) {
			return true;
		}
	}
	return false;
}

bool notification_find_error(const struct payloads *payloads, struct notification *out)
{
	for (size_t i = 0; i < payloads->count; i++) {
		if (payloads->items[i].type == PAYLOAD_NOTIFY && notification_read(payloads->items[i].body, out) &&
		    out->type < NOTIFY_FIRST_STATUS) {
			return true;
		}
	}
	return false;
}

const char *notify_name(unsigned type)
{
	switch (type) {
	case UNSUPPORTED_CRITICAL_PAYLOAD:
		return "UNSUPPORTED_CRITICAL_PAYLOAD";
	case INVALID_IKE_SPI:
		return "INVALID_IKE_SPI";
	case INVALID_MAJOR_VERSION:
		return "INVALID_MAJOR_VERSION";
	case INVALID_SYNTAX:
		return "INVALID_SYNTAX";
	case INVALID_MESSAGE_ID:
		return "INVALID_MESSAGE_ID";
	case INVALID_SPI:
		return "INVALID_SPI";
	case NO_PROPOSAL_CHOSEN:
		return "NO_PROPOSAL_CHOSEN";
	case INVALID_KE_PAYLOAD:
		return "INVALID_KE_PAYLOAD";
	case AUTHENTICATION_FAILED:
		return "AUTHENTICATION_FAILED";
	case SINGLE_PAIR_REQUIRED:
		return "SINGLE_PAIR_REQUIRED";
	case NO_ADDITIONAL_SAS:
		return "NO_ADDITIONAL_SAS";
	case INTERNAL_ADDRESS_FAILURE:
		return "INTERNAL_ADDRESS_FAILURE";
	case FAILED_CP_REQUIRED:
		return "FAILED_CP_REQUIRED";
	case TS_UNACCEPTABLE:
		return "TS_UNACCEPTABLE";
	case INVALID_SELECTORS:
		return "INVALID_SELECTORS";
	case TEMPORARY_FAILURE:
		return "TEMPORARY_FAILURE";
	case CHILD_SA_NOT_FOUND:
		return "CHILD_SA_NOT_FOUND";
	default:
		return type < NOTIFY_FIRST_STATUS ? "an unknown error" : "a status";
	}
}

bool ke_read(struct bytes body, struct ke_payload *out)
{
	struct reader r = reader_of(body);
	out->group = read_u16(&r);
	read_u16(&r); // reserved
	out->data = read_rest(&r);
	return !r.failed;
}

bool delete_read(struct bytes body, struct delete_payload *out)
{
	struct reader r = reader_of(body);
	out->protocol = read_u8(&r);
	uint8_t spi_length = read_u8(&r);
	uint16_t count = read_u16(&r);
	out->count = 0;
	if (r.failed) {
		return false;
	}
	if (out->protocol == PROTOCOL_IKE) {
		return spi_length == 0 && count == 0 && reader_left(&r) == 0; // §3.11
	}
	if (spi_length != 4 || count > DELETE_SPIS_MAX || reader_left(&r) != count * 4u) {
		return false;
	}
	for (; out->count < count; out->count++) {
		out->spis[out->count] = read_u32(&r);
	}
	return true;
}

bool auth_read(struct bytes body, struct auth_payload *out)
{
	struct reader r = reader_of(body);
	out->method = read_u8(&r);
	read_u24(&r); // reserved
	out->data = read_rest(&r);
	return !r.failed;
}

struct chain chain_begin(struct writer *w)
{
	return (struct chain){.w = w};
}

void chain_open(struct chain *chain, uint8_t type)
{
	if (!chain->any) {
		chain->first = type;
	} else if (!chain->w->failed) {
		chain->w->start[chain->last] = type;
	}
	chain->any = true;
	chain->open = chain->last = writer_length(chain->w);
	write_u8(chain->w, PAYLOAD_NONE);
	write_u8(chain->w, 0);
	write_u16(chain->w, 0);
}

void chain_close(struct chain *chain)
{
	write_u16_at(chain->w, chain->open + 2, (uint16_t)(writer_length(chain->w) - chain->open));
}

void chain_payload(struct chain *chain, uint8_t type, struct bytes body)
{
	chain_open(chain, type);
	write_bytes(chain->w, body);
	chain_close(chain);
}

void chain_notify(struct chain *chain, uint8_t protocol, struct bytes spi, uint16_t type, struct bytes data)
{
	chain_open(chain, PAYLOAD_NOTIFY);
	write_u8(chain->w, protocol);
	write_u8(chain->w, (uint8_t)spi.length);
	write_u16(chain->w, type);
	write_bytes(chain->w, spi);
	write_bytes(chain->w, data);
	chain_close(chain);
}

void chain_delete_ike(struct chain *chain)
{
	chain_open(chain, PAYLOAD_DELETE);
	write_u8(chain->w, PROTOCOL_IKE);
	write_u8(chain->w, 0);
	write_u16(chain->w, 0);
	chain_close(chain);
}

void chain_delete_child(struct chain *chain, uint32_t spi)
{
	chain_open(chain, PAYLOAD_DELETE);
	write_u8(chain->w, PROTOCOL_ESP);
	write_u8(chain->w, 4);
	write_u16(chain->w, 1);
	write_u32(chain->w, spi);
	chain_close(chain);
}

void chain_ke(struct chain *chain, uint16_t group, struct bytes data)
{
	chain_open(chain, PAYLOAD_KE);
	write_u16(chain->w, group);
	write_u16(chain->w, 0);
	write_bytes(chain->w, data);
	chain_close(chain);
}
