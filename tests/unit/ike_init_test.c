// IKE_SA_INIT as initiator (RFC 7296 §2.6, §2.7, §2.21.1), on slow paths and against peers that say no: errors are not
// protected, so none of them is the end, and those that come twice say nothing new. And what it says as responder of payloads
// and versions that it does not know (§2.5).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ike_pair.h"

#include "tests/unit/ike_fake_peer.h"

static void only_group(struct tunnel_config *c, uint8_t group)
{
	c->ike.groups[0] = group;
	c->ike.group_count = 1;
}

// 300 ms one way: every request is repeated before its answer is here, so everything the peer says comes twice.
static void another_group_on_a_slow_path(void **state)
{
	(void)state;
	for (int delay = 0; delay <= 900; delay += 300) {
		struct pair *p = new_pair();
		p->delay = MILLISECONDS(delay);
		only_group(&p->ends[1].config, GROUP_ECP_256);
		tell(p, 1);
		tell(p, 0);
		run(p, SECONDS(9));
		mirrored(p);
		assert_non_null(strstr(p->ends[0].status.ike_suite, "ECP_256"));
		assert_int_equal(p->ends[0].status.generation, 1);
		assert_null(strstr(p->ends[0].details, "negotiation-failed"));
		// The next attempt begins with the group that worked.
		p->ends[0].config.restart_requests++;
		size_t sent = p->record_count;
		configure(p, 0);
		run(p, SECONDS(15));
		mirrored(p);
		for (size_t i = sent; i < p->record_count; i++) {
			const struct copy *copy = &p->record[i];
			if (copy->to == 1 && copy->octets[18] == EXCHANGE_IKE_SA_INIT) {
				struct payloads payloads = fake_payloads(copy->datagram.octets);
				struct ke_payload ke;
				assert_true(ke_read(payloads_body(&payloads, PAYLOAD_KE), &ke));
				assert_int_equal(ke.group, GROUP_ECP_256);
			}
		}
		free_pair(p);
	}
}

static void cookies_on_a_slow_path(void **state)
{
	(void)state;
	struct pair *p = new_pair();
	tell(p, 1);
	p->delay = MILLISECONDS(600);
	tell(p, 0);
	run(p, SECONDS(8));
	mirrored(p);
	assert_true(counted(p, 1, IKE_COOKIE_ASKED) > 1);
	assert_int_equal(p->ends[0].status.generation, 1);
	assert_null(strstr(p->ends[0].details, "negotiation-failed"));
	free_pair(p);
}

static void refuse_with(struct fake *f, uint16_t type)
{
	struct ike_header header;
	uint8_t octets[128];
	assert_true(header_read(fake_last(f), &header));
	struct writer w = writer_of(octets, sizeof octets);
	struct chain chain = init_message_begin(&w, header.spi_i, 0, FLAG_RESPONSE);
	chain_notify(&chain, 0, (struct bytes){0}, type, (struct bytes){0});
	fake_send(f, init_message_end(&w, &chain));
}

static void an_error_is_told_and_not_believed(void **state)
{
	(void)state;
	static const uint16_t types[] = {NO_PROPOSAL_CHOSEN, INVALID_SYNTAX, INVALID_MAJOR_VERSION, 9999};
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		struct fake *f = new_asked_fake();
		struct pair *p = f->p;
		size_t sent = p->record_count;
		refuse_with(f, types[i]);
		assert_int_equal(p->ends[0].status.state, TUNNEL_DOWN);
		assert_true(strlen(p->ends[0].status.reason) > 10);
		// The same request is repeated, and the answer that comes now is taken.
		run(p, SECONDS(2));
		assert_true(p->record_count > sent);
		assert_memory_equal(p->record[p->record_count - 1].octets, p->record[0].octets,
		                    p->record[0].datagram.octets.length);
		fake_answer_init(f);
		fake_answer_auth(f);
		assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
		free_fake(f);
		// When nothing better comes, that was the reason.
		f = new_asked_fake();
		p = f->p;
		refuse_with(f, types[i]);
		char reason[REASON_MAX];
		strcpy(reason, p->ends[0].status.reason);
		run(p, SECONDS(11));
		assert_string_equal(p->ends[0].status.reason, reason);
		free_fake(f);
	}
}

// After the first failure it tries again at once, later less often.
static void failures_are_tried_again_soon_and_then_less_often(void **state)
{
	(void)state;
	struct pair *p = new_pair();
	secret_set(&p->ends[0].secret, text_bytes("another.secret"));
	tell(p, 1);
	tell(p, 0);
	run(p, MILLISECONDS(400));
	assert_int_equal(p->ends[0].status.state, TUNNEL_DOWN);
	size_t soon = p->record_count;
	assert_true(soon >= 8); // twice a handshake
	run(p, SECONDS(20));
	assert_true(p->record_count < soon + 10 * 6);
	secret_set(&p->ends[0].secret, text_bytes("the.shared.secret"));
	tell(p, 0);
	run(p, SECONDS(5));
	mirrored(p);
	free_pair(p);
}

// A proposal with ESN, which was never offered, is none of ours.
static void esn_that_was_not_offered_is_refused(void **state)
{
	(void)state;
	struct fake *f = new_asked_fake();
	struct pair *p = f->p;
	fake_answer_init(f);
	uint8_t inner[1024];
	static const uint8_t spi[4] = {0xc0, 0, 0, 1};
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	struct suite suite = {.encryption = ENCRYPTION_AES_GCM16_256, .esn = true};
	struct traffic_selectors any = traffic_selectors_any();
	fake_identity(f, &chain);
	chain_open(&chain, PAYLOAD_SA);
	proposal_write_chosen(chain.w, PROTOCOL_ESP, 1, (struct bytes){spi, 4}, &suite, GROUPS_IGNORED);
	chain_close(&chain);
	selectors_write(&chain, PAYLOAD_TSI, &any);
	selectors_write(&chain, PAYLOAD_TSR, &any);
	fake_seal(f, EXCHANGE_IKE_AUTH, true, 1, &chain);
	assert_int_equal(p->ends[0].row_count, 0);
	assert_non_null(strstr(p->ends[0].status.reason, "that we did not offer"));
	free_fake(f);
}

// Another payload, before those that the message has.
static void prepend(uint8_t *message, size_t *length, uint8_t type, bool critical, struct bytes body)
{
	size_t more = 4 + body.length;
	memmove(message + IKE_HEADER_LENGTH + more, message + IKE_HEADER_LENGTH, *length - IKE_HEADER_LENGTH);
	memcpy(message + IKE_HEADER_LENGTH, (uint8_t[]){message[16], critical ? 0x80 : 0, 0, (uint8_t)more}, 4);
	if (body.length > 0) {
		memcpy(message + IKE_HEADER_LENGTH + 4, body.data, body.length);
	}
	message[16] = type;
	*length += more;
	message[26] = (uint8_t)(*length >> 8);
	message[27] = (uint8_t)*length;
}

static struct payloads payloads_of_last(const struct pair *p)
{
	const struct copy *last = &p->record[p->record_count - 1];
	struct payloads payloads;
	assert_int_equal(
	    payloads_read((struct bytes){last->octets + 28, last->datagram.octets.length - 28}, last->octets[16], &payloads),
	    NOTIFY_NONE);
	return payloads;
}

static void unknown_critical_payload_is_named(void **state)
{
	(void)state;
	struct pair *p = new_pair();
	tell(p, 1);
	p->cut = true;
	tell(p, 0);
	struct copy *init = &p->record[0];
	uint8_t octets[2048];
	size_t length = init->datagram.octets.length;
	memcpy(octets, init->octets, length);
	prepend(octets, &length, 99, true, (struct bytes){0});
	struct ike_datagram d = init->datagram;
	d.octets = (struct bytes){octets, length};
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = d});
	// To one that has shown that it receives the answer.
	struct payloads payloads = payloads_of_last(p);
	assert_int_equal(payloads.count, 1);
	prepend(octets, &length, PAYLOAD_NOTIFY, false, payloads_body(&payloads, PAYLOAD_NOTIFY));
	d.octets = (struct bytes){octets, length};
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = d});
	payloads = payloads_of_last(p);
	struct notification n;
	assert_true(notification_find(&payloads, UNSUPPORTED_CRITICAL_PAYLOAD, &n));
	assert_int_equal(n.data.length, 1);
	assert_int_equal(n.data.data[0], 99);
	// IKEv1 is named too, to people.
	octets[17] = 0x10;
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = d});
	assert_string_equal(p->ends[1].status.reason, "version mismatch: the peer speaks IKEv1; we speak IKEv2");
	free_pair(p);
}

// §2.8: nonces are compared octet by octet, the first octet counting most; of equal beginnings the shorter is lower.
static void the_lowest_nonce_is_that_of_the_rfc(void **state)
{
	(void)state;
	struct nonce low = {.length = 16, .octets = {0, 0xff}}, high = {.length = 16, .octets = {1}}, longer = low;
	longer.length = 17;
	assert_true(nonce_less(&low, &high));
	assert_false(nonce_less(&high, &low));
	assert_false(nonce_less(&low, &low));
	assert_true(nonce_less(&low, &longer));
	assert_true(nonce_less(&longer, &high));
	assert_ptr_equal(nonce_lower(&high, &longer), &longer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(another_group_on_a_slow_path),
	    cmocka_unit_test(cookies_on_a_slow_path),
	    cmocka_unit_test(an_error_is_told_and_not_believed),
	    cmocka_unit_test(failures_are_tried_again_soon_and_then_less_often),
	    cmocka_unit_test(esn_that_was_not_offered_is_refused),
	    cmocka_unit_test(unknown_critical_payload_is_named),
	    cmocka_unit_test(the_lowest_nonce_is_that_of_the_rfc),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
