// Exchanges between two cores over a perfect network, and what strangers may do to one: wrong groups, wrong secrets and
// names, silence, replays, requests counted by the owner, restoration without it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ike_pair.h"

// ---- coming up ----
static void comes_up_without_and_with_encapsulation(void **state)
{
	(void)state;
	for (int forced = 0; forced < 3; forced++) {
		struct pair *p = new_pair();
		p->ends[0].config.force_encapsulation = forced == 1;
		p->ends[1].config.force_encapsulation = forced == 2;
		tell(p, 1);
		tell(p, 0);
		run(p, SECONDS(1));
		mirrored(p);
		for (int i = 0; i < 2; i++) {
			const struct child_row *row = &p->ends[i].rows[0];
			assert_int_equal(row->udp_encapsulation, forced != 0);
			assert_int_equal(row->local_port, forced ? 4500 : 0);
			assert_int_equal(row->remote_port, forced ? 4500 : 0);
			assert_int_equal(p->ends[i].status.generation, 1);
		}
		// IKE_SA_INIT, with a cookie in it the second time, on 500, the rest where ESP goes.
		assert_int_equal(p->record[2].datagram.local_port, 500);
		assert_int_equal(p->record[4].datagram.local_port, forced ? 4500 : 500);
		free_pair(p);
	}
}

static void obeys_and_sends_invalid_ke(void **state)
{
	(void)state;
	struct pair *p = new_pair();
	p->ends[1].config.ike.groups[0] = GROUP_ECP_256;
	p->ends[1].config.ike.group_count = 1;
	tell(p, 1);
	tell(p, 0);
	run(p, SECONDS(1));
	mirrored(p);
	assert_non_null(strstr(p->ends[0].status.ike_suite, "ECP_256"));
	// And in CREATE_CHILD_SA, of both kinds.
	p->ends[1].config.child.groups[0] = GROUP_ECP_256;
	p->ends[1].config.child.group_count = 1;
	configure(p, 1);
	p->ends[0].config.rekey_child_requests = 1;
	configure(p, 0);
	run(p, SECONDS(10));
	mirrored(p);
	assert_int_equal(p->ends[0].status.child_rekeys, 1);
	assert_non_null(strstr(p->ends[0].status.child_suite, "ECP_256"));
	p->ends[1].config.ike.groups[0] = GROUP_CURVE25519;
	configure(p, 1);
	p->ends[0].config.rekey_ike_requests = 1;
	configure(p, 0);
	run(p, SECONDS(10));
	mirrored(p);
	assert_int_equal(p->ends[1].status.ike_rekeys, 1);
	assert_non_null(strstr(p->ends[1].status.ike_suite, "CURVE_25519"));
	free_pair(p);
}

static void failures_have_reasons(void **state)
{
	(void)state;
	static const struct {
		const char *initiator, *responder;
	} reasons[] = {
	    {"pre-shared key", "pre-shared key mismatch"},
	    {"AUTHENTICATION_FAILED", "identity mismatch: the peer says it is someone.else; we expect 198.51.100.17"},
	    {"NO_PROPOSAL_CHOSEN", "no common encryption algorithm: the peer offers [encryption AES_CBC_128"},
	    {"the peer refuses the child SA (NO_PROPOSAL_CHOSEN)",
	     "no common encryption algorithm: the peer offers [encryption AES_CBC_128"},
	};
	for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
		struct pair *p = new_pair();
		struct tunnel_config *c = &p->ends[0].config;
		if (i == 0) {
			secret_set(&p->ends[0].secret, (struct bytes){(const uint8_t *)"another.secret", 14});
		} else if (i == 1) {
			strcpy(c->local_id, "someone.else");
		} else {
			struct algorithms *a = i == 2 ? &c->ike : &c->child;
			a->encryption[0] = ENCRYPTION_AES_CBC_128;
			a->encryption_count = 1;
		}
		tell(p, 1);
		tell(p, 0);
		run(p, SECONDS(1));
		assert_int_equal(p->ends[0].status.state, TUNNEL_DOWN);
		assert_int_equal(p->ends[1].status.state, TUNNEL_DOWN);
		assert_non_null(strstr(p->ends[0].status.reason, reasons[i].initiator));
		assert_non_null(strstr(p->ends[1].status.reason, reasons[i].responder));
		// The same over and over is one event; it keeps trying.
		unsigned events = p->ends[1].events;
		size_t sent = p->record_count;
		run(p, SECONDS(20));
		assert_true(p->ends[1].events <= events + (i == 3)); // a child SA is asked for anew with groups: another text
		assert_true(p->record_count >= sent + 4);
		free_pair(p);
	}
}

static void no_answer_is_tried_for_ever(void **state)
{
	(void)state;
	struct pair *p = new_pair();
	tell(p, 0);
	p->cut = true;
	assert_int_equal(p->ends[0].status.state, TUNNEL_CONNECTING);
	run(p, SECONDS(11));
	assert_int_equal(p->ends[0].status.state, TUNNEL_DOWN);
	assert_string_equal(p->ends[0].status.reason, "no response from the peer to IKE_SA_INIT");
	assert_true(p->record_count >= 5);
	run(p, SECONDS(120));
	assert_true(p->record_count >= 40 && p->record_count < 120);
	p->cut = false;
	tell(p, 1);
	run(p, SECONDS(6));
	mirrored(p);
	free_pair(p);
}

// How many of what was sent since `from`, of this exchange, waited for the dataplane; and how many did not.
static void count_waiting(const struct pair *p, size_t from, uint8_t exchange, size_t *waited, size_t *free_of_it)
{
	*waited = *free_of_it = 0;
	for (size_t i = from; i < p->record_count; i++) {
		const struct copy *copy = &p->record[i];
		size_t marker = copy->datagram.local_port == 4500 ? 4 : 0;
		if (copy->octets[marker + 18] == exchange) {
			*(copy->waits ? waited : free_of_it) += 1;
		}
	}
}

// A handshake waits for nothing but its last message, which says that the IKE SA is there; after the farewell of the last IKE
// SA of a tunnel nothing is left to wait for, but there is when another has its place.
static void what_a_killed_core_must_know_waits(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	size_t waited, free_of_it, sent = 0;
	count_waiting(p, sent, EXCHANGE_IKE_SA_INIT, &waited, &free_of_it);
	assert_int_equal(waited, 0);
	assert_int_equal(free_of_it, 4);
	count_waiting(p, sent, EXCHANGE_IKE_AUTH, &waited, &free_of_it);
	assert_int_equal(waited, 1);
	assert_int_equal(free_of_it, 1);
	sent = p->record_count;
	p->ends[0].config.rekey_ike_requests++;
	configure(p, 0);
	run(p, SECONDS(2));
	count_waiting(p, sent, EXCHANGE_INFORMATIONAL, &waited, &free_of_it);
	assert_int_equal(waited, 2); // the delete of the old one, and its answer
	assert_int_equal(free_of_it, 0);
	count_waiting(p, sent, EXCHANGE_CREATE_CHILD_SA, &waited, &free_of_it);
	assert_int_equal(waited, 2);
	assert_int_equal(free_of_it, 0);
	sent = p->record_count;
	p->ends[0].config.enabled = false;
	configure(p, 0);
	run(p, SECONDS(1));
	count_waiting(p, sent, EXCHANGE_INFORMATIONAL, &waited, &free_of_it);
	assert_int_equal(waited, 0);
	assert_int_equal(free_of_it, 2);
	free_pair(p);
}

// Every exchange with a key exchange computes two at each end: a value and the secret.
static void key_exchanges_are_counted(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	uint64_t computed[2] = {2, 2};
	for (int i = 0; i < 3; i++) {
		for (int end = 0; end < 2; end++) {
			assert_int_equal(counted(p, end, IKE_KEY_EXCHANGE), computed[end]);
			computed[end] += 2;
		}
		p->ends[0].config.rekey_ike_requests += i == 0;
		p->ends[0].config.rekey_child_requests += i == 1;
		configure(p, 0);
		run(p, SECONDS(10));
	}
	free_pair(p);
}

// ---- strangers ----
static void strangers_get_no_answer(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	struct copy copy = p->record[0];
	address_parse("192.0.2.66", &copy.datagram.remote);
	size_t sent = p->record_count;
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = copy.datagram});
	assert_int_equal(counted(p, 1, IKE_DROP_UNKNOWN_PEER), 1);
	// An authentic message from somewhere else is not one either.
	copy = p->record[4];
	address_parse("192.0.2.66", &copy.datagram.remote);
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = copy.datagram});
	assert_int_equal(counted(p, 1, IKE_DROP_UNKNOWN_SPI), 1);
	assert_int_equal(p->record_count, sent);
	free_pair(p);
}

static void replays_and_changed_octets_move_nothing(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	p->ends[0].config.rekey_child_requests++;
	configure(p, 0);
	run(p, SECONDS(12));
	p->ends[1].config.rekey_ike_requests++;
	configure(p, 1);
	run(p, SECONDS(12));
	mirrored(p);
	struct child_row before[2] = {p->ends[0].rows[0], p->ends[1].rows[0]};
	size_t count = p->record_count;
	p->cut = true;
	for (size_t i = 0; i < count; i++) {
		step(p, p->record[i].to, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = p->record[i].datagram});
		struct copy *copy = &p->record[i];
		for (size_t k = 0; k < copy->datagram.octets.length && p->record_count < RECORD - 8; k += 7) {
			copy->octets[k] ^= 0x55;
			step(p, copy->to, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = copy->datagram});
			copy->octets[k] ^= 0x55;
		}
	}
	assert_true(counted(p, 0, IKE_DROP_INTEGRITY) + counted(p, 1, IKE_DROP_INTEGRITY) > 0);
	p->cut = false;
	p->flight_count = 0;
	for (int i = 0; i < 2; i++) {
		assert_memory_equal(&p->ends[i].rows[0], &before[i], sizeof before[i]);
		assert_int_equal(p->ends[i].status.state, TUNNEL_UP);
		assert_int_equal(p->ends[i].down, 0);
	}
	free_pair(p);
}

// ---- liveness ----
static void silence_takes_it_down_in_time(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	run(p, SECONDS(100)); // probes are answered
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	instant last = p->now;
	p->cut = true;
	while (p->ends[0].status.state == TUNNEL_UP) {
		run(p, MILLISECONDS(100));
	}
	assert_true(p->now <= last + SECONDS(30) + MILLISECONDS(100));
	assert_int_equal(p->ends[0].row_count, 0);
	assert_int_equal(p->ends[0].state_count, 0);
	assert_int_equal(p->ends[0].down, 1);
	assert_non_null(strstr(p->ends[0].status.reason, "no sign of life for 30 s"));
	run(p, SECONDS(30));
	assert_int_equal(p->ends[1].status.state, TUNNEL_DOWN);
	p->cut = false;
	run(p, SECONDS(10));
	mirrored(p);
	assert_int_equal(p->ends[0].status.generation, 2);
	free_pair(p);
}

static void esp_is_a_sign_of_life(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	p->cut = true;
	size_t sent = p->record_count;
	for (uint64_t i = 0; i < 60; i++) {
		run(p, SECONDS(1));
		struct ike_event event = {.kind = IKE_EVENT_USAGE,
		                          .usage = {.inbound_spi = p->ends[0].rows[0].inbound.spi,
		                                    .packets_in = i + 1,
		                                    .last_in = p->now - MILLISECONDS(10)}};
		step(p, 0, &event);
	}
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	for (size_t i = sent; i < p->record_count; i++) {
		assert_int_equal(p->record[i].to, 0); // only the other end asked
	}
	free_pair(p);
}

static void requests_are_done_once(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	for (unsigned i = 1; i <= 3; i++) {
		p->ends[0].config.rekey_child_requests++;
		configure(p, 0);
		configure(p, 0);
		run(p, SECONDS(8));
		mirrored(p);
		p->ends[0].config.rekey_ike_requests++;
		configure(p, 0);
		run(p, SECONDS(8));
		mirrored(p);
		assert_int_equal(p->ends[0].status.child_rekeys, i);
		assert_int_equal(p->ends[0].status.ike_rekeys, i);
	}
	assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
	// What was handled is remembered across a restart.
	ike_free(&p->ends[0].ike);
	begin(p, 0);
	tell(p, 0);
	run(p, SECONDS(8));
	mirrored(p);
	assert_int_equal(p->ends[0].status.child_rekeys, 3);
	p->ends[0].config.restart_requests++;
	configure(p, 0);
	run(p, SECONDS(10));
	mirrored(p);
	assert_int_equal(p->ends[0].status.generation, 2);
	free_pair(p);
}

static void lifetimes_in_octets_and_packets_rekey(void **state)
{
	(void)state;
	for (int packets = 0; packets < 2; packets++) {
		struct pair *p = new_pair();
		p->ends[0].config.child_bytes = packets ? 0 : 1000000;
		p->ends[0].config.child_packets = packets ? 10000 : 0;
		tell(p, 1);
		tell(p, 0);
		run(p, SECONDS(1));
		struct ike_event event = {.kind = IKE_EVENT_USAGE,
		                          .usage = {.inbound_spi = p->ends[0].rows[0].inbound.spi,
		                                    .bytes_out = 600000,
		                                    .packets_out = 6000,
		                                    .last_in = INSTANT_NEVER}};
		step(p, 0, &event);
		run(p, SECONDS(8));
		assert_int_equal(p->ends[0].status.child_rekeys, 0);
		event.usage.bytes_out = 860000;
		event.usage.packets_out = 8600;
		step(p, 0, &event);
		run(p, SECONDS(8));
		assert_int_equal(p->ends[0].status.child_rekeys, 1);
		mirrored(p);
		free_pair(p);
	}
}

static void lifetimes_in_seconds_rekey(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	for (int i = 0; i < 3600; i++) { // too long for the record
		forget_record(p);
		run(p, SECONDS(1));
	}
	assert_int_equal(p->ends[0].status.child_rekeys, p->ends[1].status.child_rekeys);
	assert_in_range(p->ends[0].status.child_rekeys, 1, 2);
	assert_int_equal(p->ends[0].down, 0);
	free_pair(p);
}

static void administratively_down_and_removed(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	p->ends[0].config.enabled = false;
	configure(p, 0);
	run(p, SECONDS(1));
	assert_string_equal(p->ends[0].status.reason, "administratively down");
	assert_int_equal(p->ends[1].status.state, TUNNEL_DOWN); // it was told
	run(p, SECONDS(10));
	assert_int_equal(p->ends[0].row_count + p->ends[1].row_count, 0);
	p->ends[0].config.enabled = true;
	configure(p, 0);
	run(p, SECONDS(1));
	mirrored(p);
	step(p, 0, &(struct ike_event){.kind = IKE_EVENT_TUNNEL_REMOVED, .text = "tun-1"});
	run(p, SECONDS(15));
	assert_true(p->ends[0].status_removed);
	assert_int_equal(ike_gauges(p->ends[0].ike).tunnels, 0);
	assert_int_equal(p->ends[0].row_count + p->ends[0].state_count, 0);
	free_pair(p);
}

// ---- restored ----
static void goes_on_without_its_owner(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	ike_free(&p->ends[0].ike);
	begin(p, 0); // no tunnel, no secret: resource is dead
	run(p, SECONDS(60));
	mirrored(p);
	p->ends[1].config.rekey_child_requests++;
	configure(p, 1);
	run(p, SECONDS(8));
	p->ends[1].config.rekey_ike_requests++;
	configure(p, 1);
	run(p, SECONDS(8));
	mirrored(p);
	assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
	assert_int_equal(p->ends[0].status.child_rekeys, 1);
	// The owner comes back and knows nothing of this tunnel.
	step(p, 0, &(struct ike_event){.kind = IKE_EVENT_TUNNELS_KNOWN});
	run(p, SECONDS(15));
	assert_int_equal(ike_gauges(p->ends[0].ike).tunnels, 0);
	assert_int_equal(p->ends[1].status.state, TUNNEL_DOWN);
	free_pair(p);
}

static void a_state_cut_anywhere_is_refused(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	uint8_t seed[32] = {9};
	for (size_t length = 0; length < p->ends[0].state_lengths[0]; length += 3) {
		struct ike *ike = ike_new(seed);
		struct ike_actions actions = {0};
		ike_step(ike, &(struct ike_event){.kind = IKE_EVENT_RESTORE, .bytes = {p->ends[0].states[0], length}}, p->now,
		         &actions);
		assert_int_equal(ike_gauges(ike).ike_sas, 0);
		assert_int_equal(ike_gauges(ike).child_sas, 0);
		ike_actions_free(&actions);
		ike_free(&ike);
	}
	free_pair(p);
}

static void a_peer_that_lost_everything_is_taken_back_without_a_gap(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	// The other end begins anew with nothing, and INITIAL_CONTACT.
	struct end *e = &p->ends[0];
	ike_free(&e->ike);
	while (e->state_count > 0) {
		remove_state(e, e->state_keys[0]);
	}
	begin(p, 0);
	tell(p, 0);
	run(p, SECONDS(1));
	mirrored(p);
	assert_int_equal(p->ends[1].down, 0);
	assert_int_equal(p->ends[1].status.generation, 1);
	assert_int_equal(ike_gauges(p->ends[1].ike).ike_sas, 1);
	free_pair(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(comes_up_without_and_with_encapsulation),
	    cmocka_unit_test(obeys_and_sends_invalid_ke),
	    cmocka_unit_test(failures_have_reasons),
	    cmocka_unit_test(no_answer_is_tried_for_ever),
	    cmocka_unit_test(what_a_killed_core_must_know_waits),
	    cmocka_unit_test(key_exchanges_are_counted),
	    cmocka_unit_test(strangers_get_no_answer),
	    cmocka_unit_test(replays_and_changed_octets_move_nothing),
	    cmocka_unit_test(silence_takes_it_down_in_time),
	    cmocka_unit_test(esp_is_a_sign_of_life),
	    cmocka_unit_test(requests_are_done_once),
	    cmocka_unit_test(lifetimes_in_octets_and_packets_rekey),
	    cmocka_unit_test(lifetimes_in_seconds_rekey),
	    cmocka_unit_test(administratively_down_and_removed),
	    cmocka_unit_test(goes_on_without_its_owner),
	    cmocka_unit_test(a_state_cut_anywhere_is_refused),
	    cmocka_unit_test(a_peer_that_lost_everything_is_taken_back_without_a_gap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
