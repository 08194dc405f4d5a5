// Rekeying with peers as they are in the field (RFC 7296 §2.8, §2.21.3, §2.25): one that refuses every child rekeying, or every
// rekeying of the IKE SA, with any error; one that refuses a key exchange of another group than its own; one that prefers
// another group far away; one that does not answer, or answers with what nobody asked for. All the while both ends send, and at
// every instant each has a child SA to send on that the other has too.
#include "tests/unit/ike_odd_peer.h"

enum { CHILD_LIFETIME = 240, LIFETIMES = 5 };

static struct pair *new_short_lived(duration latency)
{
	struct pair *p = pair_new();
	p->latency = latency;
	for (int i = 0; i < 2; i++) {
		p->ends[i].config.child_lifetime = CHILD_LIFETIME;
		p->ends[i].config.ike_lifetime = 2 * CHILD_LIFETIME;
		p->ends[i].config.rekey_margin = CHILD_LIFETIME / 4;
	}
	// The peer never asks itself within these lifetimes.
	p->ends[1].config.child_lifetime = p->ends[1].config.ike_lifetime = 100000;
	return p;
}

// Five lifetimes under traffic without a packet lost and without an instant at which the tunnel does not carry.
static void outlives(struct pair *p)
{
	pair_up(p);
	pair_starts_traffic(p);
	p->check_carries = true;
	pair_run(p, SECONDS(LIFETIMES * CHILD_LIFETIME));
	assert_true(p->esp_sent > LIFETIMES * CHILD_LIFETIME * 30);
	assert_int_equal(p->esp_lost, 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(p->ends[i].down, 0);
		assert_int_equal(p->ends[i].up, 1);
		assert_string_equal(p->ends[i].status.reason, "");
	}
}

static size_t count_events(const struct pair *p, int index, const char *event)
{
	size_t count = 0;
	for (size_t i = 0; i < p->ends[index].event_count; i++) {
		count += strcmp(p->ends[index].events[i].event, event) == 0;
	}
	return count;
}

// ---- the oddities ----
static bool refuses_children(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request) && !request.of_ike) {
		pair_answer(p, to, &request, (uint16_t)p->odd, (struct bytes){0});
		return false;
	}
	return true;
}

static bool refuses_ike_rekeying(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request) && request.of_ike) {
		pair_answer(p, to, &request, (uint16_t)p->odd, (struct bytes){0});
		return false;
	}
	return true;
}

static bool refuses_all(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request)) {
		pair_answer(p, to, &request, (uint16_t)p->odd, (struct bytes){0});
		return false;
	}
	return true;
}

static const uint16_t errors[] = {INVALID_SYNTAX,    NO_PROPOSAL_CHOSEN, NO_ADDITIONAL_SAS,  TS_UNACCEPTABLE,
                                  TEMPORARY_FAILURE, INVALID_KE_PAYLOAD, CHILD_SA_NOT_FOUND, 8191};

static void a_peer_that_refuses_every_child_rekeying(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
		if (errors[i] == CHILD_SA_NOT_FOUND) {
			continue; // says that the child SA is gone: in ike_collision_test.c
		}
		struct pair *p = new_short_lived(MILLISECONDS(20));
		p->receive = refuses_children;
		p->odd = errors[i];
		outlives(p);
		assert_true(count_events(p, 0, "ike-sa-established") >= LIFETIMES); // in new IKE SAs, one for a lifetime
		assert_true(count_events(p, 0, "ike-sa-established") <= 2 * LIFETIMES + 2);
		assert_true(p->datagrams[0] < 100000 / 50);
		pair_free(p);
	}
}

static void a_peer_that_refuses_every_ike_rekeying(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
		struct pair *p = new_short_lived(MILLISECONDS(20));
		p->receive = refuses_ike_rekeying;
		p->odd = errors[i];
		outlives(p);
		assert_true(count_events(p, 0, "ike-sa-established") >= 3);
		assert_int_equal(p->ends[0].status.ike_rekeys, 0);
		pair_free(p);
	}
}

static void a_peer_that_refuses_all(void **state)
{
	(void)state;
	struct pair *p = new_short_lived(MILLISECONDS(20));
	p->receive = refuses_all;
	p->odd = INVALID_SYNTAX;
	outlives(p);
	const struct tunnel_event_row *event = pair_event(p, 0, "negotiation-failed");
	assert_non_null(event);
	assert_non_null(strstr(event->detail, "INVALID_SYNTAX"));
	assert_non_null(strstr(event->detail, "a new"));
	pair_free(p);
}

// Where it waits for the peer to begin, it does not wait for it to keep the tunnel.
static void a_responder_keeps_the_tunnel_too(void **state)
{
	(void)state;
	struct pair *p = new_short_lived(MILLISECONDS(20));
	p->ends[0].config.initiate = false;
	p->ends[1].config.initiate = true;
	p->receive = refuses_all;
	p->odd = INVALID_SYNTAX;
	outlives(p);
	pair_free(p);
}

// The widespread one: INVALID_SYNTAX to a key exchange of any group but that of the IKE SA.
static bool wants_its_group(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request) && !request.of_ike && request.group != p->odd) {
		pair_answer(p, to, &request, INVALID_SYNTAX, (struct bytes){0});
		return false;
	}
	return true;
}

static void the_group_of_the_ike_sa_comes_first(void **state)
{
	(void)state;
	struct pair *p = new_short_lived(MILLISECONDS(20));
	p->ends[0].config.child.groups[0] = GROUP_ECP_256; // ours prefers another
	p->ends[0].config.child.groups[1] = GROUP_CURVE25519;
	p->receive = wants_its_group;
	p->odd = GROUP_CURVE25519;
	outlives(p);
	assert_int_equal(count_events(p, 0, "ike-sa-established"), 1);
	assert_int_equal(count_events(p, 0, "negotiation-failed"), 0);
	assert_true(p->ends[0].status.child_rekeys >= LIFETIMES);
	pair_free(p);
}

// The IKE SA's is not it: another is tried, and remembered.
static void another_group_follows_a_refused_one(void **state)
{
	(void)state;
	struct pair *p = new_short_lived(MILLISECONDS(20));
	p->receive = wants_its_group;
	p->odd = GROUP_ECP_256;
	outlives(p);
	assert_int_equal(count_events(p, 0, "ike-sa-established"), 1);
	assert_int_equal(count_events(p, 0, "negotiation-failed"), 1); // once, then it knows
	assert_true(p->ends[0].status.child_rekeys >= LIFETIMES);
	assert_non_null(strstr(p->ends[0].status.child_suite, "ECP_256"));
	pair_free(p);
}

static void a_far_peer_that_prefers_another_group(void **state)
{
	(void)state;
	struct pair *p = new_short_lived(MILLISECONDS(300));
	for (int kind = 0; kind < 2; kind++) {
		p->ends[1].config.child.groups[0] = GROUP_ECP_256;
		p->ends[1].config.child.group_count = 1;
	}
	outlives(p);
	assert_int_equal(count_events(p, 0, "ike-sa-established"), 1);
	assert_true(p->ends[0].status.child_rekeys >= LIFETIMES && p->ends[0].status.ike_rekeys >= 2);
	pair_free(p);
}

// INVALID_KE_PAYLOAD for each group in turn, for ever: bounded, said, and no cost.
static bool never_the_right_group(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request)) {
		uint8_t other[2] = {0, request.group == GROUP_ECP_256 ? GROUP_CURVE25519 : GROUP_ECP_256};
		p->odd++;
		pair_answer(p, to, &request, INVALID_KE_PAYLOAD, (struct bytes){other, 2});
		return false;
	}
	return true;
}

static void invalid_ke_does_not_go_on_for_ever(void **state)
{
	(void)state;
	struct pair *p = new_short_lived(MILLISECONDS(20));
	p->receive = never_the_right_group;
	outlives(p);
	assert_true(p->odd >= 4 && p->odd <= 8 * LIFETIMES);
	const struct tunnel_event_row *event = pair_event(p, 0, "negotiation-failed");
	assert_non_null(event);
	assert_non_null(strstr(event->detail, "INVALID_KE_PAYLOAD"));
	pair_free(p);
}

// A peer that swallows CREATE_CHILD_SA, or answers it with what is malformed or was never offered.
static bool swallows(struct pair *p, int to, const struct ike_datagram *d)
{
	struct bytes message = pair_message(d);
	(void)p;
	return to != 1 || message.data[18] != EXCHANGE_CREATE_CHILD_SA || (message.data[19] & FLAG_RESPONSE);
}

static bool answers_malformed(struct pair *p, int to, const struct ike_datagram *d)
{
	static const uint8_t garbage[] = {0xff, 0, 0, 3, 1};
	struct pair_request request;
	if (to == 1 && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request)) {
		pair_answer(p, to, &request, NOTIFY_NONE, (struct bytes){garbage, sizeof garbage});
		return false;
	}
	return true;
}

static void a_peer_that_does_not_answer_or_answers_malformed(void **state)
{
	(void)state;
	for (int malformed = 0; malformed < 2; malformed++) {
		struct pair *p = new_short_lived(MILLISECONDS(20));
		p->receive = malformed ? answers_malformed : swallows;
		outlives(p);
		assert_true(count_events(p, 0, "ike-sa-established") >= LIFETIMES);
		pair_free(p);
	}
}

// A peer that is as §2.21.3 says: it has ended the IKE SA with its INVALID_SYNTAX. That cannot be seen; the tunnel is back in
// less than a second.
static bool ends_with_invalid_syntax(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && p->odd > 0 && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request)) {
		p->odd--;
		pair_answer(p, to, &request, INVALID_SYNTAX, (struct bytes){0});
		struct ike *ike = p->ends[to].ike;
		struct ike_actions actions = {0};
		ike->out = &actions;
		ike_sa_remove(ike, request.sa);
		ike->out = NULL;
		pair_apply(p, to, &actions);
		ike_actions_free(&actions);
		return false;
	}
	return true;
}

static void a_peer_that_ends_the_ike_sa_is_back_within_a_second(void **state)
{
	(void)state;
	struct pair *p = new_short_lived(MILLISECONDS(20));
	p->receive = ends_with_invalid_syntax;
	p->odd = 1;
	pair_up(p);
	pair_starts_traffic(p);
	p->ends[0].config.rekey_child_requests++;
	pair_configure(p, 0);
	while (pair_carries(p)) {
		pair_run(p, MILLISECONDS(10));
	}
	instant broken = p->now;
	while (!pair_carries(p)) {
		pair_run(p, MILLISECONDS(10));
	}
	assert_true(p->now - broken < SECONDS(1));
	pair_run(p, SECONDS(20));
	pair_is_one(p);
	pair_free(p);
}

// A new IKE SA whose child SA is refused does not take the place of one that works.
static bool refuses_second_child(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request)) {
		pair_answer(p, to, &request, NO_ADDITIONAL_SAS, (struct bytes){0});
		p->ends[1].config.child.encryption[0] = ENCRYPTION_AES_CBC_128; // from now on
		p->ends[1].config.child.encryption_count = 1;
		pair_configure(p, 1);
		return false;
	}
	return true;
}

static void a_worse_ike_sa_does_not_replace_a_good_one(void **state)
{
	(void)state;
	struct pair *p = new_short_lived(MILLISECONDS(20));
	p->receive = refuses_second_child;
	pair_up(p);
	pair_starts_traffic(p);
	p->check_carries = true;
	p->ends[0].config.rekey_child_requests++;
	pair_configure(p, 0);
	pair_run(p, SECONDS(CHILD_LIFETIME / 2));
	assert_int_equal(p->esp_lost, 0);
	assert_int_equal(p->ends[0].down, 0);
	assert_int_equal(p->ends[1].down, 0);
	// And when nothing helps to the end, the reason says what was refused.
	p->check_carries = false;
	pair_run(p, SECONDS(CHILD_LIFETIME));
	assert_int_equal(p->ends[0].down, 1);
	assert_true(p->ends[0].status.reason[0] != '\0');
	const struct tunnel_event_row *event = pair_event(p, 0, "tunnel-down");
	assert_non_null(strstr(event->detail, "NO_PROPOSAL_CHOSEN"));
	pair_free(p);
}

// The other way round: a peer that sends what is authentic and no message has ended the IKE SA by that (§2.21.3). It is told
// so, the SA is gone here too, and the tunnel is back within a second.
static void what_is_authentic_and_malformed_ends_the_ike_sa(void **state)
{
	(void)state;
	for (int exchange = EXCHANGE_CREATE_CHILD_SA; exchange <= EXCHANGE_INFORMATIONAL; exchange++) {
		struct pair *p = pair_new();
		pair_up(p);
		struct ike *ike = p->ends[1].ike;
		struct ike_sa *sa = tunnel_current(tunnel_find(ike, "tun-1"));
		uint64_t ended = sa->initiator ? sa->spi_r : sa->spi_i, syntax = p->ends[0].ike->counters[IKE_DROP_SYNTAX];
		struct ike_actions actions = {0};
		uint8_t inner[64];
		struct writer w = writer_of(inner, sizeof inner);
		struct chain chain = chain_begin(&w);
		chain_payload(&chain, PAYLOAD_NONCE, (struct bytes){(const uint8_t *)"too short", 9});
		chain_payload(&chain, PAYLOAD_NONCE, (struct bytes){(const uint8_t *)"and again", 9});
		ike->now = p->now;
		ike->out = &actions;
		request_send(ike, sa, exchange == EXCHANGE_INFORMATIONAL ? REQUEST_PROBE : REQUEST_NEW_CHILD, (uint8_t)exchange,
		             &chain);
		ike->out = NULL;
		pair_apply(p, 1, &actions);
		ike_actions_free(&actions);
		pair_run(p, MILLISECONDS(100));
		const struct ike_sa *ours = ike_sa_find(p->ends[0].ike, ended);
		assert_true(!ours || ours->state == IKE_SA_CLOSED);
		assert_int_equal(p->ends[0].ike->counters[IKE_DROP_SYNTAX], syntax + 1);
		pair_run(p, MILLISECONDS(900));
		assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
		assert_true(pair_carries(p));
		pair_free(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_peer_that_refuses_every_child_rekeying),
	    cmocka_unit_test(a_peer_that_refuses_every_ike_rekeying),
	    cmocka_unit_test(a_peer_that_refuses_all),
	    cmocka_unit_test(a_responder_keeps_the_tunnel_too),
	    cmocka_unit_test(the_group_of_the_ike_sa_comes_first),
	    cmocka_unit_test(another_group_follows_a_refused_one),
	    cmocka_unit_test(a_far_peer_that_prefers_another_group),
	    cmocka_unit_test(invalid_ke_does_not_go_on_for_ever),
	    cmocka_unit_test(a_peer_that_does_not_answer_or_answers_malformed),
	    cmocka_unit_test(a_peer_that_ends_the_ike_sa_is_back_within_a_second),
	    cmocka_unit_test(a_worse_ike_sa_does_not_replace_a_good_one),
	    cmocka_unit_test(what_is_authentic_and_malformed_ends_the_ike_sa),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
