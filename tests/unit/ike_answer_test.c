// A peer that answers, and whose answers to IKE_SA_INIT and IKE_AUTH are none: cut, of wrong lengths, without what must be in
// them, with a critical payload that nobody knows, not to be decrypted. Once it answers well again, the tunnel is UP within a
// second; and a single answer that is none, which anybody may have sent, ends nothing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ike_pair.h"

#include "tests/unit/ike_fake_peer.h"

// ---- what is wrong with the octets of a message ----
typedef void spoil_fn(uint8_t *message, size_t *length);

static void set_length(uint8_t *message, size_t length)
{
	message[26] = (uint8_t)(length >> 8);
	message[27] = (uint8_t)length;
}

static void cut(uint8_t *message, size_t *length)
{
	(void)message;
	*length -= 5;
}
static void cut_with_its_header(uint8_t *message, size_t *length)
{
	*length -= 5;
	set_length(message, *length);
}
static void longer_than_it_is(uint8_t *message, size_t *length)
{
	set_length(message, *length + 4);
}
static void only_a_header(uint8_t *message, size_t *length)
{
	*length = IKE_HEADER_LENGTH;
	message[16] = 0;
	set_length(message, *length);
}
static void payload_beyond_the_end(uint8_t *message, size_t *length)
{
	(void)length;
	message[IKE_HEADER_LENGTH + 2] = 0x7f;
}
static void payload_without_length(uint8_t *message, size_t *length)
{
	(void)length;
	message[IKE_HEADER_LENGTH + 2] = message[IKE_HEADER_LENGTH + 3] = 0;
}
static void critical_payload(uint8_t *message, size_t *length)
{
	memmove(message + IKE_HEADER_LENGTH + 4, message + IKE_HEADER_LENGTH, *length - IKE_HEADER_LENGTH);
	memcpy(message + IKE_HEADER_LENGTH, (uint8_t[]){message[16], 0x80, 0, 4}, 4);
	message[16] = 99;
	*length += 4;
	set_length(message, *length);
}
static void another_message_id(uint8_t *message, size_t *length)
{
	(void)length;
	message[23] += 7;
}
static void another_exchange(uint8_t *message, size_t *length)
{
	(void)length;
	message[18] = EXCHANGE_INFORMATIONAL;
}
static void no_exchange(uint8_t *message, size_t *length)
{
	(void)length;
	message[18] = 99;
}
static void changed_octet(uint8_t *message, size_t *length)
{
	message[*length - 20] ^= 1;
}

// ---- of IKE_SA_INIT only ----
static void no_spi(uint8_t *message, size_t *length)
{
	(void)length;
	memset(message + 8, 0, 8);
}
// The chain is SA, KE, nonce: of the last nothing is left.
static void no_nonce(uint8_t *message, size_t *length)
{
	size_t sa = IKE_HEADER_LENGTH, ke = sa + ((size_t)message[sa + 2] << 8 | message[sa + 3]);
	message[ke] = 0;
	*length = ke + ((size_t)message[ke + 2] << 8 | message[ke + 3]);
	set_length(message, *length);
}
static void value_of_zeros(uint8_t *message, size_t *length)
{
	(void)length;
	size_t sa = IKE_HEADER_LENGTH, ke = sa + ((size_t)message[sa + 2] << 8 | message[sa + 3]);
	memset(message + ke + 8, 0, 32);
}
static void value_of_another_group(uint8_t *message, size_t *length)
{
	(void)length;
	size_t sa = IKE_HEADER_LENGTH, ke = sa + ((size_t)message[sa + 2] << 8 | message[sa + 3]);
	message[ke + 5] = GROUP_ECP_384;
}
static void no_proposal(uint8_t *message, size_t *length)
{
	(void)length;
	message[IKE_HEADER_LENGTH + 4 + 5] = PROTOCOL_AH;
}
static void empty_cookie(uint8_t *message, size_t *length)
{
	struct ike_header header;
	header_read((struct bytes){message, *length}, &header);
	struct writer w = writer_of(message, *length);
	struct chain chain = init_message_begin(&w, header.spi_i, 0, FLAG_RESPONSE);
	chain_notify(&chain, 0, (struct bytes){0}, COOKIE, (struct bytes){0});
	*length = init_message_end(&w, &chain).length;
}
static void always_another_cookie(uint8_t *message, size_t *length)
{
	static uint8_t number;
	struct ike_header header;
	header_read((struct bytes){message, *length}, &header);
	number++;
	struct writer w = writer_of(message, *length);
	struct chain chain = init_message_begin(&w, header.spi_i, 0, FLAG_RESPONSE);
	chain_notify(&chain, 0, (struct bytes){0}, COOKIE, (struct bytes){&number, 1});
	*length = init_message_end(&w, &chain).length;
}

// ---- of IKE_AUTH only: octets around and inside what is encrypted ----
static void not_encrypted(uint8_t *message, size_t *length)
{
	struct writer w = writer_of(message + IKE_HEADER_LENGTH, 64);
	struct chain chain = chain_begin(&w);
	chain_notify(&chain, 0, (struct bytes){0}, INVALID_SYNTAX, (struct bytes){0});
	message[16] = chain.first;
	*length = IKE_HEADER_LENGTH + writer_length(&w);
	set_length(message, *length);
}
static void too_short_to_decrypt(uint8_t *message, size_t *length)
{
	*length = IKE_HEADER_LENGTH + 4 + 10;
	message[IKE_HEADER_LENGTH + 2] = 0;
	message[IKE_HEADER_LENGTH + 3] = 14;
	set_length(message, *length);
}

enum inside {
	WHOLE,
	EMPTY,
	WITHOUT_PROOF,
	WITHOUT_IDENTITY,
	WITHOUT_PROPOSAL,
	WITHOUT_SELECTORS,
	CRITICAL,
	LENGTH,
	BAD_SELECTORS
};

static void inside_all(struct fake *f, struct chain *chain, enum inside inside)
{
	static const uint8_t spi[4] = {0xc0, 0, 0, 1}, junk[8] = {1, 0, 0, 0, 9, 9};
	struct suite suite = {.encryption = ENCRYPTION_AES_GCM16_256};
	struct traffic_selectors any = traffic_selectors_any();
	uint8_t octets[1024];
	struct writer w = writer_of(octets, sizeof octets);
	struct chain proven = chain_begin(&w);
	fake_identity(f, &proven);
	struct payloads payloads;
	assert_int_equal(payloads_read(writer_bytes(&w), proven.first, &payloads), NOTIFY_NONE);
	if (inside != WITHOUT_IDENTITY) {
		chain_payload(chain, PAYLOAD_IDR, payloads_body(&payloads, PAYLOAD_IDR));
	}
	if (inside != WITHOUT_PROOF) {
		chain_payload(chain, PAYLOAD_AUTH, payloads_body(&payloads, PAYLOAD_AUTH));
	}
	if (inside != WITHOUT_PROPOSAL) {
		chain_open(chain, PAYLOAD_SA);
		proposal_write_chosen(chain->w, PROTOCOL_ESP, 1, (struct bytes){spi, 4}, &suite, GROUPS_IGNORED);
		chain_close(chain);
	}
	selectors_write(chain, PAYLOAD_TSI, &any);
	if (inside == BAD_SELECTORS) {
		chain_payload(chain, PAYLOAD_TSR, (struct bytes){junk, sizeof junk});
	} else if (inside != WITHOUT_SELECTORS) {
		selectors_write(chain, PAYLOAD_TSR, &any);
	}
	if (inside == CRITICAL) {
		chain_payload(chain, 99, (struct bytes){0});
		chain->w->start[writer_length(chain->w) - 3] = 0x80;
	}
	if (inside == LENGTH) {
		chain->w->start[3] ^= 0x40;
	}
}

static void answer_auth(struct fake *f, enum inside inside)
{
	uint8_t octets[1024];
	struct writer w = writer_of(octets, sizeof octets);
	struct chain chain = chain_begin(&w);
	if (inside != EMPTY) {
		inside_all(f, &chain, inside);
	}
	fake_seal(f, EXCHANGE_IKE_AUTH, true, 1, &chain);
}

// ---- a peer that is odd in its first attempt ----
struct oddness {
	const char *what;
	spoil_fn *spoil;
	uint8_t exchange;
	enum inside inside;
};
static const struct oddness oddnesses[] = {
    {"IKE_SA_INIT cut", cut, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT cut, with its header", cut_with_its_header, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT longer than it is", longer_than_it_is, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT of a header", only_a_header, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT with a payload beyond its end", payload_beyond_the_end, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT with a payload of no length", payload_without_length, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT with a critical payload", critical_payload, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT of another message ID", another_message_id, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT as another exchange", another_exchange, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT as no exchange", no_exchange, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT without an SPI", no_spi, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT without a nonce", no_nonce, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT with a value of zeros", value_of_zeros, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT with a value of another group", value_of_another_group, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT with a proposal of none", no_proposal, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT with an empty cookie", empty_cookie, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_SA_INIT with another cookie each time", always_another_cookie, EXCHANGE_IKE_SA_INIT, WHOLE},
    {"IKE_AUTH cut", cut, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH cut, with its header", cut_with_its_header, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH longer than it is", longer_than_it_is, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH of a header", only_a_header, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH with a payload beyond its end", payload_beyond_the_end, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH with a payload of no length", payload_without_length, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH with a critical payload outside", critical_payload, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH of another message ID", another_message_id, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH as another exchange", another_exchange, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH as no exchange", no_exchange, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH changed", changed_octet, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH not encrypted", not_encrypted, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH too short to decrypt", too_short_to_decrypt, EXCHANGE_IKE_AUTH, WHOLE},
    {"IKE_AUTH with nothing in it", NULL, EXCHANGE_IKE_AUTH, EMPTY},
    {"IKE_AUTH without a proof", NULL, EXCHANGE_IKE_AUTH, WITHOUT_PROOF},
    {"IKE_AUTH without an identity", NULL, EXCHANGE_IKE_AUTH, WITHOUT_IDENTITY},
    {"IKE_AUTH without a proposal", NULL, EXCHANGE_IKE_AUTH, WITHOUT_PROPOSAL},
    {"IKE_AUTH without a traffic selector", NULL, EXCHANGE_IKE_AUTH, WITHOUT_SELECTORS},
    {"IKE_AUTH with a critical payload", NULL, EXCHANGE_IKE_AUTH, CRITICAL},
    {"IKE_AUTH with a payload of another length", NULL, EXCHANGE_IKE_AUTH, LENGTH},
};

// Answers what end 0 sent last, of its exchange.
static void answer(struct fake *f, const struct oddness *odd)
{
	struct ike_header header;
	assert_true(header_read(fake_last(f), &header));
	bool now = odd && header.exchange == odd->exchange;
	if (header.exchange == EXCHANGE_IKE_SA_INIT) {
		// Answered twice, it says the same: the key exchange is of the first.
		f->spoil = now ? odd->spoil : NULL;
		fake_answer_init(f);
	} else if (header.exchange == EXCHANGE_IKE_AUTH) {
		f->spoil = now ? odd->spoil : NULL;
		answer_auth(f, now ? odd->inside : WHOLE);
	}
	f->spoil = NULL;
}

static uint64_t initiator_of_last(const struct fake *f)
{
	struct ike_header header;
	assert_true(header_read(fake_last(f), &header));
	return header.spi_i;
}

static void soon_up_again_after_answers_that_are_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof oddnesses / sizeof oddnesses[0]; i++) {
		struct fake *f = new_asked_fake();
		struct pair *p = f->p;
		uint64_t first = initiator_of_last(f);
		instant begun = p->now;
		size_t seen = 0;
		unsigned odd = 0;
		while (p->ends[0].status.state != TUNNEL_UP && p->now - begun < SECONDS(12)) {
			while (seen < p->record_count) {
				seen = p->record_count;
				bool again = initiator_of_last(f) == first;
				odd += again;
				answer(f, again ? &oddnesses[i] : NULL);
			}
			run(p, MILLISECONDS(5));
		}
		print_message("%-50s UP after %.0f ms\n", oddnesses[i].what, (double)(p->now - begun) / 1000);
		assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
		assert_true(p->now - begun < SECONDS(1));
		assert_true(odd >= 2);
		assert_true(initiator_of_last(f) != first); // by another attempt
		free_fake(f);
	}
}

// One that is none, and then the right one: the same attempt goes on.
static void one_that_is_none_ends_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof oddnesses / sizeof oddnesses[0]; i++) {
		if (oddnesses[i].spoil == always_another_cookie || oddnesses[i].spoil == empty_cookie) {
			continue;
		}
		struct fake *f = new_asked_fake();
		struct pair *p = f->p;
		uint64_t first = initiator_of_last(f);
		if (oddnesses[i].exchange == EXCHANGE_IKE_AUTH) {
			answer(f, NULL);
		}
		answer(f, &oddnesses[i]);
		assert_int_equal(p->ends[0].status.state, TUNNEL_CONNECTING);
		for (int k = 0; k < 3 && p->ends[0].status.state != TUNNEL_UP; k++) {
			answer(f, NULL);
		}
		assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
		assert_int_equal(initiator_of_last(f), first);
		free_fake(f);
	}
}

// A child SA that cannot be used is asked for again soon, in the IKE SA that stands.
static void a_child_sa_that_is_none_is_asked_for_again(void **state)
{
	(void)state;
	struct fake *f = new_asked_fake();
	struct pair *p = f->p;
	answer(f, NULL);
	answer_auth(f, BAD_SELECTORS);
	assert_int_equal(p->ends[0].row_count, 0);
	assert_int_equal(p->ends[0].status.state, TUNNEL_DOWN);
	size_t sent = p->record_count;
	run(p, MILLISECONDS(900));
	assert_true(p->record_count > sent);
	struct ike_header header;
	assert_true(header_read((struct bytes){p->record[sent].octets, p->record[sent].datagram.octets.length}, &header));
	assert_int_equal(header.exchange, EXCHANGE_CREATE_CHILD_SA);
	free_fake(f);
}

// A peer that has refused us has no IKE SA to be deleted, and one that does not answer a delete has lost its own: neither is
// waited for.
static void nobody_waits_for_what_is_not_there(void **state)
{
	(void)state;
	for (int lost = 0; lost < 2; lost++) {
		struct fake *f = new_asked_fake();
		struct pair *p = f->p;
		fake_answer_init(f);
		uint8_t octets[64];
		struct writer w = writer_of(octets, sizeof octets);
		struct chain chain = chain_begin(&w);
		if (lost) {
			fake_answer_auth(f);
			p->ends[0].config.restart_requests++;
			configure(p, 0);
		} else {
			chain_notify(&chain, 0, (struct bytes){0}, AUTHENTICATION_FAILED, (struct bytes){0});
			fake_seal(f, EXCHANGE_IKE_AUTH, true, 1, &chain);
		}
		uint64_t first = f->sa.spi_i;
		run(p, MILLISECONDS(lost ? 700 : 350));
		assert_true(initiator_of_last(f) != first);
		fake_answer_init(f);
		fake_answer_auth(f);
		assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
		free_fake(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(soon_up_again_after_answers_that_are_none),
	    cmocka_unit_test(one_that_is_none_ends_nothing),
	    cmocka_unit_test(a_child_sa_that_is_none_is_asked_for_again),
	    cmocka_unit_test(nobody_waits_for_what_is_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
