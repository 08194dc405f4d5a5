// The IKE header and the payloads (RFC 7296 §3) as octets: reading them within their bounds, and writing a chain of them.
#ifndef TWINSPAN_IKE_PAYLOAD_H
#define TWINSPAN_IKE_PAYLOAD_H

#include "common/base/bytes.h"
#include "services/ike/wire/ikev2.h"

enum { PAYLOADS_MAX = 48, DELETE_SPIS_MAX = 32 };

struct ike_header {
	uint64_t spi_i, spi_r;
	uint8_t first_payload;
	uint8_t version;
	uint8_t exchange;
	uint8_t flags;
	uint32_t message_id;
	uint32_t length;
};
bool header_read(struct bytes message, struct ike_header *out);          // false: shorter than a header
bool header_fits(const struct ike_header *header, struct bytes message); // the message is as long as its header says
void header_write(struct writer *w, const struct ike_header *header);    // length 0: to be set by header_finish
void header_finish(struct writer *w, size_t start);

struct payload {
	uint8_t type;
	bool critical;
	uint8_t next; // for SK: the first payload inside
	struct bytes body;
	size_t offset; // of the generic header in what was parsed
};
struct payloads {
	struct payload items[PAYLOADS_MAX];
	size_t count;
};
// Splits a chain whose first payload has type `first`. An SK payload ends it. NOTIFY_NONE, or INVALID_SYNTAX.
enum notify payloads_read(struct bytes chain, uint8_t first, struct payloads *out);
const struct payload *payloads_find(const struct payloads *payloads, uint8_t type); // the first, or NULL
struct bytes payloads_body(const struct payloads *payloads, uint8_t type);          // empty when absent

// ---- legality: which payload may be where (one table, payload_legality.c) ----
enum message_kind {
	MESSAGE_IKE_SA_INIT_REQUEST,
	MESSAGE_IKE_SA_INIT_RESPONSE,
	MESSAGE_IKE_AUTH_REQUEST,
	MESSAGE_IKE_AUTH_RESPONSE,
	MESSAGE_CREATE_CHILD_SA_REQUEST, // a child SA, new or rekeyed
	MESSAGE_CREATE_CHILD_SA_RESPONSE,
	MESSAGE_REKEY_IKE_SA_REQUEST,
	MESSAGE_REKEY_IKE_SA_RESPONSE,
	MESSAGE_INFORMATIONAL_REQUEST,
	MESSAGE_INFORMATIONAL_RESPONSE,
	MESSAGE_KINDS,
};
struct payload_rule {
	uint8_t type;
	uint8_t minimum, maximum;
};
const struct payload_rule *payload_rules(enum message_kind kind, size_t *count);
// NOTIFY_NONE; UNSUPPORTED_CRITICAL_PAYLOAD with `*offender` set; INVALID_SYNTAX. A response that carries an error notification
// may lack what a good one must have (§2.21).
enum notify payloads_legal(const struct payloads *payloads, enum message_kind kind, uint8_t *offender);

// ---- single payloads ----
struct notification {
	uint8_t protocol;
	struct bytes spi;
	uint16_t type;
	struct bytes data;
};
bool notification_read(struct bytes body, struct notification *out);
// The first notification of this type among the payloads.
bool notification_find(const struct payloads *payloads, enum notify type, struct notification *out);
// The first error notification.
bool notification_find_error(const struct payloads *payloads, struct notification *out);
const char *notify_name(unsigned type);

struct ke_payload {
	uint16_t group;
	struct bytes data;
};
bool ke_read(struct bytes body, struct ke_payload *out);

struct delete_payload {
	uint8_t protocol;
	uint8_t count;
	uint32_t spis[DELETE_SPIS_MAX]; // ESP
};
bool delete_read(struct bytes body, struct delete_payload *out);

struct auth_payload {
	uint8_t method;
	struct bytes data;
};
bool auth_read(struct bytes body, struct auth_payload *out);

// ---- writing a chain ----
// Each payload's type goes into the "next payload" octet before it: `next` is where that is, outside the writer for the first.
struct chain {
	struct writer *w;
	uint8_t first; // type of the first payload, for the header or the SK payload
	size_t last;   // offset of the last payload's "next payload" octet
	size_t open;   // offset of the open payload's header
	bool any;
};
struct chain chain_begin(struct writer *w);
void chain_open(struct chain *chain, uint8_t type);
void chain_close(struct chain *chain); // sets the length
void chain_payload(struct chain *chain, uint8_t type, struct bytes body);
void chain_notify(struct chain *chain, uint8_t protocol, struct bytes spi, uint16_t type, struct bytes data);
void chain_delete_ike(struct chain *chain);
void chain_delete_child(struct chain *chain, uint32_t spi);
void chain_ke(struct chain *chain, uint16_t group, struct bytes data);

#endif
