// A peer whose every message is written by the test, so that it may say what no core of ours would: it shares the codec and the
// primitives with the core, and none of its decisions. Include after ike_pair.h; end 1 of the pair is left out, end 0 is the
// one under test.
#ifndef TWINSPAN_TEST_IKE_FAKE_PEER_H
#define TWINSPAN_TEST_IKE_FAKE_PEER_H

#include "services/ike/v2/exchanges.h"

struct fake {
	struct pair *p;
	struct ike core; // a source of randomness
	struct tunnel tunnel;
	struct ike_sa sa; // the keys
	struct nonce nonce_i, nonce_r;
	struct key_exchange exchange;
	struct ke_value value;
	uint8_t request[IKE_MESSAGE_MAX], response[IKE_MESSAGE_MAX]; // IKE_SA_INIT
	size_t request_length, response_length;
	uint16_t local_port, remote_port;
	uint8_t out[IKE_MESSAGE_MAX];
	const char *identity; // what it says of itself
	const char *secret;
	uint8_t method;
	bool spoil_proof;
	void (*spoil)(uint8_t *message, size_t *length); // what is wrong with each message it sends; NULL: nothing
};

static inline struct fake *new_fake(struct pair *p, bool initiator)
{
	struct fake *f = allocate(sizeof *f);
	f->p = p;
	random_init_number(&f->core.random, 77);
	f->tunnel.config = p->ends[1].config;
	f->sa.tunnel = &f->tunnel;
	f->sa.initiator = initiator;
	f->sa.suite =
	    (struct suite){.encryption = ENCRYPTION_AES_GCM16_256, .prf = INTEGRITY_SHA2_256, .group = GROUP_CURVE25519};
	f->local_port = f->remote_port = 500;
	f->identity = p->ends[1].config.local_id;
	f->secret = "the.shared.secret";
	f->method = AUTH_METHOD_SHARED_KEY;
	return f;
}

// A pair whose end 0 has begun, and only the fake hears it.
static inline struct fake *new_asked_fake(void)
{
	struct pair *p = new_pair();
	p->cut = true;
	tell(p, 0);
	return new_fake(p, false);
}

static inline void free_fake(struct fake *f) // with its pair
{
	free_pair(f->p);
	free(f);
}

// What the end under test sent last.
static inline struct bytes fake_last(const struct fake *f)
{
	assert_true(f->p->record_count > 0);
	struct bytes message = f->p->record[f->p->record_count - 1].datagram.octets;
	return f->p->record[f->p->record_count - 1].datagram.local_port == 4500
	           ? (struct bytes){message.data + 4, message.length - 4}
	           : message;
}

static inline void fake_send(struct fake *f, struct bytes message)
{
	uint8_t octets[IKE_MESSAGE_MAX];
	if (f->spoil) {
		memcpy(octets, message.data, message.length);
		message.data = octets;
		f->spoil(octets, &message.length);
	}
	struct ike_datagram d = {.local = f->p->ends[0].config.local,
	                         .remote = f->p->ends[0].config.remote,
	                         .local_port = f->remote_port,
	                         .remote_port = f->local_port,
	                         .octets = message};
	uint8_t with_marker[IKE_MESSAGE_MAX + 4] = {0};
	if (f->remote_port == 4500) {
		memcpy(with_marker + 4, message.data, message.length);
		d.octets = (struct bytes){with_marker, message.length + 4};
	}
	step(f->p, 0, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = d});
}

static inline struct payloads fake_payloads(struct bytes message)
{
	struct payloads payloads;
	assert_int_equal(payloads_read((struct bytes){message.data + IKE_HEADER_LENGTH, message.length - IKE_HEADER_LENGTH},
	                               message.data[16], &payloads),
	                 NOTIFY_NONE);
	return payloads;
}

static inline void fake_keys(struct fake *f, struct shared_secret *shared)
{
	struct key_inputs inputs = {.nonce_i = nonce_bytes(&f->nonce_i),
	                            .nonce_r = nonce_bytes(&f->nonce_r),
	                            .shared = shared_secret_bytes(shared),
	                            .spi_i = f->sa.spi_i,
	                            .spi_r = f->sa.spi_r};
	struct secret skeyseed;
	skeyseed_initial(f->sa.suite.prf, &inputs, &skeyseed);
	ike_keys_derive(&f->sa.suite, &skeyseed, &inputs, &f->sa.keys);
}

static inline void fake_nonce(struct fake *f, struct nonce *nonce)
{
	nonce->length = NONCE_OURS;
	random_fill(&f->core.random, nonce->octets, NONCE_OURS);
}

// ---- as responder ----
// Answers IKE_SA_INIT, the last message of the end under test.
static inline void fake_answer_init(struct fake *f)
{
	struct bytes request = fake_last(f);
	memcpy(f->request, request.data, request.length);
	f->request_length = request.length;
	struct payloads payloads = fake_payloads(request);
	struct ike_header header;
	struct ke_payload ke;
	struct shared_secret shared;
	assert_true(header_read(request, &header) && ke_read(payloads_body(&payloads, PAYLOAD_KE), &ke));
	f->sa.spi_i = header.spi_i;
	f->sa.spi_r = random_u64(&f->core.random);
	nonce_set(&f->nonce_i, payloads_body(&payloads, PAYLOAD_NONCE));
	fake_nonce(f, &f->nonce_r);
	f->sa.suite.group = (uint8_t)ke.group;
	assert_true(key_exchange_respond(ke.group, ke.data, &f->core.random, &f->value, &shared));
	struct writer w = writer_of(f->response, sizeof f->response);
	struct chain chain = init_message_begin(&w, f->sa.spi_i, f->sa.spi_r, FLAG_RESPONSE);
	chain_open(&chain, PAYLOAD_SA);
	proposal_write_chosen(chain.w, PROTOCOL_IKE, 1, (struct bytes){0}, &f->sa.suite, GROUPS_COUNT);
	chain_close(&chain);
	chain_ke(&chain, ke.group, ke_value_bytes(&f->value));
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&f->nonce_r));
	f->response_length = init_message_end(&w, &chain).length;
	fake_keys(f, &shared);
	fake_send(f, (struct bytes){f->response, f->response_length});
}

// The identity and its proof, as f says.
static inline void fake_identity(struct fake *f, struct chain *chain)
{
	uint8_t body[IDENTITY_BODY_MAX], auth[4 + HASH_MAX] = {f->method};
	struct writer w = writer_of(body, sizeof body);
	identity_write(&w, f->identity);
	chain_payload(chain, f->sa.initiator ? PAYLOAD_IDI : PAYLOAD_IDR, writer_bytes(&w));
	struct secret secret;
	secret_set(&secret, text_bytes(f->secret));
	bool i = f->sa.initiator;
	shared_key_auth(f->sa.suite.prf, &secret,
	                i ? (struct bytes){f->request, f->request_length} : (struct bytes){f->response, f->response_length},
	                nonce_bytes(i ? &f->nonce_r : &f->nonce_i), i ? &f->sa.keys.pi : &f->sa.keys.pr, writer_bytes(&w),
	                auth + 4);
	auth[4] ^= f->spoil_proof;
	chain_payload(chain, PAYLOAD_AUTH, (struct bytes){auth, 4 + 32});
}

static inline void fake_child(struct chain *chain, uint8_t protocol, uint16_t notify)
{
	static const uint8_t spi[4] = {0xc0, 0, 0, 1};
	struct suite suite = {.encryption = ENCRYPTION_AES_GCM16_256};
	struct traffic_selectors any = traffic_selectors_any();
	chain_open(chain, PAYLOAD_SA);
	proposal_write_chosen(chain->w, PROTOCOL_ESP, 1, (struct bytes){spi, 4}, &suite, GROUPS_IGNORED);
	size_t at = writer_length(chain->w);
	chain_close(chain);
	chain->w->start[at - 4u - 8u - 12u - 3u] = protocol; // the proposal's: before its SPI and its two transforms
	selectors_write(chain, PAYLOAD_TSI, &any);
	selectors_write(chain, PAYLOAD_TSR, &any);
	if (notify) {
		chain_notify(chain, 0, (struct bytes){0}, notify, (struct bytes){0});
	}
}

static inline void fake_seal(struct fake *f, uint8_t exchange, bool response, uint32_t id, const struct chain *chain)
{
	size_t length = message_seal(&f->core, &f->sa, exchange, response, id, chain, f->out);
	assert_true(length > 0);
	fake_send(f, (struct bytes){f->out, length});
}

static inline void fake_answer_auth(struct fake *f)
{
	uint8_t inner[IKE_MESSAGE_MAX];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	fake_identity(f, &chain);
	fake_child(&chain, PROTOCOL_ESP, 0);
	fake_seal(f, EXCHANGE_IKE_AUTH, true, 1, &chain);
}

// ---- as initiator ----
struct fake_init {            // how its IKE_SA_INIT differs from a good one
	const uint8_t *value; // key exchange value instead of its own
	size_t value_length;
	bool no_nat_detection;
	struct bytes cookie;
	const struct algorithms *offer; // NULL: what the end under test accepts
};
static inline struct bytes fake_init(struct fake *f, const struct fake_init *how, uint8_t group)
{
	static const struct algorithms good = {.encryption = {ENCRYPTION_AES_GCM16_256},
	                                       .integrity = {INTEGRITY_SHA2_256},
	                                       .encryption_count = 1,
	                                       .integrity_count = 1,
	                                       .group_count = 1};
	struct algorithms offer = how->offer ? *how->offer : good;
	if (!how->offer) {
		offer.groups[0] = group;
	}
	f->sa.suite.group = group;
	if (f->value.length == 0 || f->exchange.group != group) {
		key_exchange_begin(&f->exchange, group, &f->core.random, &f->value);
	}
	f->sa.spi_r = 0;
	if (how->cookie.length == 0) { // otherwise the same once more (§2.6)
		f->sa.spi_i = random_u64(&f->core.random);
		fake_nonce(f, &f->nonce_i);
	}
	struct writer w = writer_of(f->request, sizeof f->request);
	struct chain chain = init_message_begin(&w, f->sa.spi_i, 0, FLAG_INITIATOR);
	if (how->cookie.length > 0) {
		chain_notify(&chain, 0, (struct bytes){0}, COOKIE, how->cookie);
	}
	chain_open(&chain, PAYLOAD_SA);
	proposals_write(chain.w, PROTOCOL_IKE, (struct bytes){0}, &offer, GROUPS_COUNT);
	chain_close(&chain);
	chain_ke(&chain, group, how->value ? (struct bytes){how->value, how->value_length} : ke_value_bytes(&f->value));
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&f->nonce_i));
	if (!how->no_nat_detection) {
		nat_detection_write(&chain, f->sa.spi_i, 0, &f->p->ends[0].config.remote, f->local_port,
		                    &f->p->ends[0].config.local, f->remote_port, false);
	}
	f->request_length = init_message_end(&w, &chain).length;
	return (struct bytes){f->request, f->request_length};
}

// Sends its IKE_SA_INIT, with a cookie when one is asked for, and takes the answer.
static inline void fake_begin(struct fake *f)
{
	struct notification n;
	struct payloads payloads;
	uint8_t cookie[COOKIE_MAX];
	size_t before = f->p->record_count;
	fake_send(f, fake_init(f, &(struct fake_init){0}, GROUP_CURVE25519));
	assert_int_equal(f->p->record_count, before + 1);
	payloads = fake_payloads(fake_last(f));
	if (notification_find(&payloads, COOKIE, &n)) {
		memcpy(cookie, n.data.data, n.data.length);
		fake_send(f, fake_init(f, &(struct fake_init){.cookie = {cookie, n.data.length}}, GROUP_CURVE25519));
		assert_int_equal(f->p->record_count, before + 2);
	}
	struct bytes response = fake_last(f);
	memcpy(f->response, response.data, response.length);
	f->response_length = response.length;
	payloads = fake_payloads(response);
	struct ike_header header;
	struct ke_payload ke;
	struct shared_secret shared;
	assert_true(header_read(response, &header) && ke_read(payloads_body(&payloads, PAYLOAD_KE), &ke));
	f->sa.spi_r = header.spi_r;
	nonce_set(&f->nonce_r, payloads_body(&payloads, PAYLOAD_NONCE));
	assert_true(key_exchange_finish(&f->exchange, ke.data, &shared));
	fake_keys(f, &shared);
}

static inline void fake_auth(struct fake *f, uint8_t protocol, uint16_t notify)
{
	uint8_t inner[IKE_MESSAGE_MAX];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	fake_identity(f, &chain);
	fake_child(&chain, protocol, notify);
	fake_seal(f, EXCHANGE_IKE_AUTH, false, 1, &chain);
}

// Decrypts the last message of the end under test.
static inline enum notify fake_open(const struct fake *f, uint8_t plain[static IKE_MESSAGE_MAX], struct payloads *out)
{
	struct ike_header header;
	assert_true(header_read(fake_last(f), &header));
	return message_open(&f->sa, fake_last(f), &header, plain, out);
}

#endif
