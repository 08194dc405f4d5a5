// IKE_AUTH (RFC 7296 §2.15, §2.21.2) against a peer that the test writes: who is let in, by either role, and what is said of
// who is not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ike_pair.h"

#include "tests/unit/ike_fake_peer.h"

static struct fake *begun(void (*change)(struct fake *f))
{
	struct fake *f = new_asked_fake();
	if (change) {
		change(f);
	}
	fake_answer_init(f);
	fake_answer_auth(f);
	return f;
}

static void honest_responder_is_let_in(void **state)
{
	(void)state;
	struct fake *f = begun(NULL);
	assert_int_equal(f->p->ends[0].status.state, TUNNEL_UP);
	assert_int_equal(f->p->ends[0].row_count, 1);
	assert_int_equal(f->p->ends[0].rows[0].outbound.spi, 0xc0000001);
	free_fake(f);
}

static void other_key(struct fake *f)
{
	f->secret = "another.secret";
}
static void other_proof(struct fake *f)
{
	f->spoil_proof = true;
}
static void other_identity(struct fake *f)
{
	f->identity = "somebody.else";
}
static void other_method(struct fake *f)
{
	f->method = 14;
}

static void responder_that_does_not_prove_itself_is_refused_and_told(void **state)
{
	(void)state;
	static const struct {
		void (*change)(struct fake *f);
		const char *reason;
	} cases[] = {
	    {other_key, "pre-shared key mismatch"},
	    {other_proof, "pre-shared key mismatch"},
	    {other_identity, "identity mismatch: the peer says it is somebody.else; we expect 203.0.113.1"},
	    {other_method, "authentication method mismatch: the peer authenticates itself by method 14 (digital signature)"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct fake *f = begun(cases[i].change);
		struct end *e = &f->p->ends[0];
		assert_int_equal(e->status.state, TUNNEL_DOWN);
		assert_non_null(strstr(e->status.reason, cases[i].reason));
		assert_int_equal(e->row_count, 0);
		assert_int_equal(e->up, 0);
		// It learns so in an exchange of its own, protected (§2.21.2).
		uint8_t plain[IKE_MESSAGE_MAX];
		struct payloads payloads;
		struct notification n;
		assert_int_equal(fake_open(f, plain, &payloads), NOTIFY_NONE);
		assert_true(notification_find(&payloads, AUTHENTICATION_FAILED, &n));
		assert_non_null(payloads_find(&payloads, PAYLOAD_DELETE));
		free_fake(f);
	}
}

static struct fake *asked(void (*change)(struct fake *f), uint8_t protocol, uint16_t notify)
{
	struct pair *p = new_pair();
	p->cut = true;
	p->ends[0].config.initiate = false;
	tell(p, 0);
	struct fake *f = new_fake(p, true);
	if (change) {
		change(f);
	}
	fake_begin(f);
	fake_auth(f, protocol, notify);
	return f;
}

static void honest_initiator_is_let_in(void **state)
{
	(void)state;
	struct fake *f = asked(NULL, PROTOCOL_ESP, 0);
	assert_int_equal(f->p->ends[0].status.state, TUNNEL_UP);
	assert_int_equal(f->p->ends[0].row_count, 1);
	free_fake(f);
}

static void initiator_that_does_not_prove_itself_is_refused(void **state)
{
	(void)state;
	static const struct {
		void (*change)(struct fake *f);
		const char *reason;
	} cases[] = {
	    {other_key, "pre-shared key mismatch"},
	    {other_proof, "pre-shared key mismatch"},
	    {other_identity, "identity mismatch: the peer says it is somebody.else; we expect 203.0.113.1"},
	    {other_method, "authentication method mismatch: the peer authenticates itself by method 14 (digital signature)"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct fake *f = asked(cases[i].change, PROTOCOL_ESP, 0);
		struct end *e = &f->p->ends[0];
		assert_int_equal(e->status.state, TUNNEL_DOWN);
		assert_non_null(strstr(e->status.reason, cases[i].reason));
		assert_int_equal(e->row_count, 0);
		uint8_t plain[IKE_MESSAGE_MAX];
		struct payloads payloads;
		struct notification n;
		assert_int_equal(fake_open(f, plain, &payloads), NOTIFY_NONE);
		assert_true(notification_find(&payloads, AUTHENTICATION_FAILED, &n));
		assert_null(payloads_find(&payloads, PAYLOAD_AUTH)); // nothing that says what our key is
		free_fake(f);
	}
}

static void what_is_not_spoken_is_named(void **state)
{
	(void)state;
	struct fake *f = asked(NULL, PROTOCOL_AH, 0);
	assert_non_null(strstr(f->p->ends[0].status.reason, "the peer offers AH; we accept ESP"));
	free_fake(f);
	f = asked(NULL, PROTOCOL_ESP, USE_TRANSPORT_MODE);
	assert_int_equal(f->p->ends[0].status.state, TUNNEL_UP);
	assert_non_null(strstr(f->p->ends[0].details, "the peer asks for transport mode, we make tunnel mode"));
	free_fake(f);
}

// A refusal of the child SA alone, or of the exchange, shows what of ours it is about.
static void refusals_show_what_we_offered(void **state)
{
	(void)state;
	static const struct {
		uint16_t type;
		const char *text;
	} cases[] = {
	    {NO_PROPOSAL_CHOSEN, "(NO_PROPOSAL_CHOSEN); we offer [encryption AES_GCM_16_256]"},
	    {TS_UNACCEPTABLE, "(TS_UNACCEPTABLE); we offer traffic selectors 0.0.0.0-255.255.255.255"},
	};
	for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
		struct fake *f = new_asked_fake();
		struct pair *p = f->p;
		fake_answer_init(f);
		uint8_t inner[1024];
		struct writer w = writer_of(inner, sizeof inner);
		struct chain chain = chain_begin(&w);
		if (i % 2) {
			fake_identity(f, &chain);
		}
		chain_notify(&chain, 0, (struct bytes){0}, cases[i / 2].type, (struct bytes){0});
		fake_seal(f, EXCHANGE_IKE_AUTH, true, 1, &chain);
		assert_non_null(strstr(p->ends[0].status.reason, cases[i / 2].text));
		free_fake(f);
	}
}

// An answer that nobody can have made is not the end; a peer that makes only such ones is asked anew from the beginning, soon.
static void answers_that_are_none(void **state)
{
	(void)state;
	struct fake *f = new_asked_fake();
	struct pair *p = f->p;
	fake_answer_init(f);
	f->sa.keys.er.octets[0] ^= 1;
	fake_answer_auth(f);
	f->sa.keys.er.octets[0] ^= 1;
	assert_int_equal(p->ends[0].status.state, TUNNEL_CONNECTING);
	fake_answer_auth(f);
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	free_fake(f);

	f = new_asked_fake();
	p = f->p;
	fake_answer_init(f);
	f->sa.keys.er.octets[0] ^= 1;
	fake_answer_auth(f);
	fake_answer_auth(f);
	assert_string_equal(p->ends[0].status.reason, "the peer's answer to IKE_AUTH does not decrypt");
	instant then = p->now;
	size_t sent = p->record_count;
	while (p->record_count == sent) {
		run(p, MILLISECONDS(10));
	}
	assert_true(p->now - then < SECONDS(1));
	struct fake *again = new_fake(p, false);
	fake_answer_init(again);
	fake_answer_auth(again);
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	free(again);
	free_fake(f);
}

// Whoever is told to be silent after IKE_AUTH went out says good-bye: the peer may have the IKE SA.
static void disabled_during_ike_auth_it_closes(void **state)
{
	(void)state;
	struct fake *f = new_asked_fake();
	struct pair *p = f->p;
	fake_answer_init(f);
	p->ends[0].config.enabled = false;
	configure(p, 0);
	uint8_t plain[IKE_MESSAGE_MAX];
	struct payloads payloads;
	struct ike_header header;
	struct delete_payload d;
	assert_int_equal(fake_open(f, plain, &payloads), NOTIFY_NONE);
	assert_true(header_read(fake_last(f), &header));
	assert_int_equal(header.message_id, 2);
	assert_true(delete_read(payloads_body(&payloads, PAYLOAD_DELETE), &d) && d.protocol == PROTOCOL_IKE);
	free_fake(f);
}

// What is under way when an IKE SA is to be closed comes first; the delete is repeated as long as ever after that.
static void a_delete_has_its_own_time(void **state)
{
	(void)state;
	struct fake *f = begun(NULL);
	struct pair *p = f->p;
	p->ends[0].config.rekey_child_requests++;
	configure(p, 0);
	p->ends[0].config.enabled = false;
	configure(p, 0);
	run(p, SECONDS(5));
	uint8_t inner[64];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	chain_notify(&chain, 0, (struct bytes){0}, TEMPORARY_FAILURE, (struct bytes){0});
	size_t sent = p->record_count;
	fake_seal(f, EXCHANGE_CREATE_CHILD_SA, true, 2, &chain);
	run(p, SECONDS(8));
	assert_int_equal(p->record_count, sent + 5);
	assert_int_equal(ike_gauges(p->ends[0].ike).ike_sas, 0);
	free_fake(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(honest_responder_is_let_in),
	    cmocka_unit_test(responder_that_does_not_prove_itself_is_refused_and_told),
	    cmocka_unit_test(honest_initiator_is_let_in),
	    cmocka_unit_test(initiator_that_does_not_prove_itself_is_refused),
	    cmocka_unit_test(what_is_not_spoken_is_named),
	    cmocka_unit_test(refusals_show_what_we_offered),
	    cmocka_unit_test(answers_that_are_none),
	    cmocka_unit_test(disabled_during_ike_auth_it_closes),
	    cmocka_unit_test(a_delete_has_its_own_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
