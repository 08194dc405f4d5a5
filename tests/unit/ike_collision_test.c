// What crosses (RFC 7296 §2.8.1, §2.8.2, §2.25): both ends rekey the same child SA, or the IKE SA, or one rekeys what the other
// deletes; answers that are lost or late; TEMPORARY_FAILURE and CHILD_SA_NOT_FOUND. Which of two exchanges stays is told here
// from the octets on the wire, by the words of the RFC and not by our code: the one with the lowest of the four nonces goes.
#include "tests/unit/ike_odd_peer.h"

struct seen_exchange { // a CREATE_CHILD_SA that end `by` began
	struct nonce nonces[2];
	uint8_t spis[2][8]; // of the SA of the initiator, of the responder
	size_t spi_length;
	bool answered;
};
static struct seen_exchange seen[2];

// Reads what goes by, with the keys of the end that gets it.
static bool looks_on(struct pair *p, int to, const struct ike_datagram *d)
{
	struct bytes message = pair_message(d);
	struct ike_header header;
	struct payloads payloads;
	uint8_t plain[IKE_MESSAGE_MAX];
	if (!header_read(message, &header) || header.exchange != EXCHANGE_CREATE_CHILD_SA) {
		return true;
	}
	struct ike_sa *sa = ike_sa_find(p->ends[to].ike, header.flags & FLAG_INITIATOR ? header.spi_r : header.spi_i);
	if (!sa || message_open(sa, message, &header, plain, &payloads) != NOTIFY_NONE) {
		return true;
	}
	bool response = header.flags & FLAG_RESPONSE;
	struct bytes body = payloads_body(&payloads, PAYLOAD_SA), nonce = payloads_body(&payloads, PAYLOAD_NONCE);
	if (body.length < 16 || nonce.length == 0) {
		return true;
	}
	struct seen_exchange *exchange = &seen[response ? to : !to];
	nonce_set(&exchange->nonces[response], nonce);
	exchange->spi_length = body.data[6];
	memcpy(exchange->spis[response], body.data + 8, exchange->spi_length);
	exchange->answered = exchange->answered || response;
	return true;
}

// §2.8.1: "the SA created with the lowest of the four nonces"; octets are compared one after the other, the shorter one is
// lower if it is the beginning of the longer.
static int lower_by_the_rfc(const struct nonce *a, const struct nonce *b)
{
	for (size_t i = 0; i < a->length && i < b->length; i++) {
		if (a->octets[i] != b->octets[i]) {
			return a->octets[i] < b->octets[i];
		}
	}
	return a->length < b->length;
}

static int loser_of_both(void)
{
	int loser = 0;
	struct nonce lowest = seen[0].nonces[0];
	for (int i = 0; i < 2; i++) {
		assert_true(seen[i].answered);
		for (int k = 0; k < 2; k++) {
			if (lower_by_the_rfc(&seen[i].nonces[k], &lowest)) {
				lowest = seen[i].nonces[k];
				loser = i;
			}
		}
	}
	return loser;
}

static struct pair *new_watched(duration latency)
{
	memset(seen, 0, sizeof seen);
	struct pair *p = pair_new();
	p->latency = latency;
	pair_up(p);
	pair_starts_traffic(p);
	pair_run(p, SECONDS(2));
	p->receive = looks_on;
	p->check_carries = true;
	return p;
}

static void settled(struct pair *p)
{
	pair_run(p, SECONDS(30));
	pair_is_one(p);
	assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
	assert_int_equal(p->esp_lost, 0);
	pair_free(p);
}

static void both_rekey_the_same_child(void **state)
{
	(void)state;
	int lost[2] = {0, 0};
	for (int round = 0; round < 24; round++) { // both outcomes, and every order of the two
		struct pair *p = new_watched(MILLISECONDS(100));
		p->ends[0].config.rekey_child_requests = p->ends[1].config.rekey_child_requests = 1;
		pair_configure(p, round % 2);
		pair_run(p, MILLISECONDS(7 * (round / 2)));
		pair_configure(p, !(round % 2));
		pair_run(p, SECONDS(12));
		int loser = loser_of_both();
		lost[loser]++;
		uint32_t spi;
		memcpy(&spi, seen[!loser].spis[0], 4);
		spi = __builtin_bswap32(spi);
		const struct child_row *row = pair_row(&p->ends[!loser], spi); // of the winner's initiator
		assert_non_null(row);
		assert_true(row->outbound_in_use);
		settled(p);
	}
	assert_true(lost[0] > 0 && lost[1] > 0);
}

static void both_rekey_the_ike_sa(void **state)
{
	(void)state;
	int lost[2] = {0, 0};
	for (int round = 0; round < 24; round++) {
		struct pair *p = new_watched(MILLISECONDS(100));
		p->ends[0].config.rekey_ike_requests = p->ends[1].config.rekey_ike_requests = 1;
		pair_configure(p, round % 2);
		pair_run(p, MILLISECONDS(7 * (round / 2)));
		pair_configure(p, !(round % 2));
		pair_run(p, SECONDS(12));
		int loser = loser_of_both();
		lost[loser]++;
		uint64_t spi;
		memcpy(&spi, seen[!loser].spis[0], 8);
		assert_true(ike_sa_spi(pair_current(p, !loser)) == __builtin_bswap64(spi));
		settled(p);
	}
	assert_true(lost[0] > 0 && lost[1] > 0);
}

static void one_rekeys_the_child_the_other_the_ike_sa(void **state)
{
	(void)state;
	for (int round = 0; round < 8; round++) {
		struct pair *p = new_watched(MILLISECONDS(100));
		p->ends[round % 2].config.rekey_child_requests = 1;
		p->ends[!(round % 2)].config.rekey_ike_requests = 1;
		pair_configure(p, round % 2);
		pair_run(p, MILLISECONDS(25 * (round / 2)));
		pair_configure(p, !(round % 2));
		pair_run(p, SECONDS(12));
		assert_int_equal(p->ends[0].status.ike_rekeys, 1); // §2.25: refused for the moment, and done then
		assert_int_equal(p->ends[0].status.child_rekeys, 1);
		settled(p);
	}
}

static void deletes(struct pair *p, int index)
{
	struct ike_sa *sa = pair_current(p, index);
	for (size_t i = 0; i < sa->child_count; i++) {
		sa->children[i]->state = sa->children[i]->state == CHILD_LIVE ? CHILD_DELETING : sa->children[i]->state;
	}
	pair_step(p, index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &p->ends[index].config});
}

static void a_delete_crosses_a_rekeying(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct pair *p = new_watched(MILLISECONDS(50));
		p->check_carries = false;
		p->ends[0].config.rekey_child_requests = 1;
		if (round < 10) {
			pair_configure(p, 0);
			pair_run(p, MILLISECONDS(10 * round));
			deletes(p, 1);
		} else {
			deletes(p, 1);
			pair_run(p, MILLISECONDS(10 * (round - 10)));
			pair_configure(p, 0);
		}
		pair_run(p, MILLISECONDS(150)); // the delete is there
		instant begin = p->now;
		while (!pair_carries(p)) {
			assert_true(p->now - begin < SECONDS(1));
			pair_run(p, MILLISECONDS(10));
		}
		pair_run(p, SECONDS(30));
		pair_is_one(p);
		pair_free(p);
	}
}

static void both_delete_the_same_child(void **state)
{
	(void)state;
	struct pair *p = new_watched(MILLISECONDS(50));
	p->check_carries = false;
	deletes(p, 0);
	deletes(p, 1);
	pair_run(p, SECONDS(1));
	assert_true(pair_carries(p));
	pair_run(p, SECONDS(30));
	pair_is_one(p);
	pair_free(p);
}

static bool has_lost_the_child(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && p->odd && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request) && request.rekeys) {
		p->odd--;
		// Without a word to anybody.
		struct ike *ike = p->ends[1].ike;
		struct ike_actions actions = {0};
		ike->out = &actions;
		child_remove(ike, request.sa, request.sa->children[0]);
		ike->out = NULL;
		pair_apply(p, 1, &actions);
		ike_actions_free(&actions);
		pair_answer(p, to, &request, CHILD_SA_NOT_FOUND, (struct bytes){0});
		return false;
	}
	return true;
}

static void a_child_that_the_peer_has_lost_is_made_anew_within_a_second(void **state)
{
	(void)state;
	struct pair *p = new_watched(MILLISECONDS(20));
	p->receive = has_lost_the_child;
	p->check_carries = false;
	p->odd = 1;
	p->ends[0].config.rekey_child_requests = 1;
	pair_configure(p, 0);
	pair_run(p, SECONDS(1));
	assert_int_equal(p->odd, 0);
	assert_true(pair_carries(p));
	pair_run(p, SECONDS(30));
	pair_is_one(p);
	pair_free(p);
}

static bool is_busy(struct pair *p, int to, const struct ike_datagram *d)
{
	struct pair_request request;
	if (to == 1 && p->odd && pair_open(p, to, d, EXCHANGE_CREATE_CHILD_SA, &request)) {
		p->odd--;
		pair_answer(p, to, &request, TEMPORARY_FAILURE, (struct bytes){0});
		return false;
	}
	return true;
}

static void temporary_failure_passes(void **state)
{
	(void)state;
	for (int of_ike = 0; of_ike < 2; of_ike++) {
		struct pair *p = new_watched(MILLISECONDS(20));
		p->receive = is_busy;
		p->odd = 3;
		p->ends[0].config.rekey_child_requests = !of_ike;
		p->ends[0].config.rekey_ike_requests = (unsigned)of_ike;
		pair_configure(p, 0);
		pair_run(p, SECONDS(15));
		assert_int_equal(p->odd, 0);
		assert_int_equal(p->ends[0].status.child_rekeys + p->ends[0].status.ike_rekeys, 1);
		assert_null(pair_event(p, 0, "negotiation-failed"));
		settled(p);
	}
}

// The answer to a rekeying is lost three times.
static bool loses_answers(struct pair *p, int to, const struct ike_datagram *d)
{
	struct bytes message = pair_message(d);
	if (to == 0 && p->odd && message.data[18] == EXCHANGE_CREATE_CHILD_SA && (message.data[19] & FLAG_RESPONSE)) {
		p->odd--;
		return false;
	}
	return true;
}

static void lost_answers_are_asked_for_again(void **state)
{
	(void)state;
	for (int of_ike = 0; of_ike < 2; of_ike++) {
		struct pair *p = new_watched(MILLISECONDS(20));
		p->receive = loses_answers;
		p->odd = 3;
		p->ends[0].config.rekey_child_requests = !of_ike;
		p->ends[0].config.rekey_ike_requests = (unsigned)of_ike;
		pair_configure(p, 0);
		pair_run(p, SECONDS(15));
		assert_int_equal(p->odd, 0);
		assert_int_equal(p->ends[0].status.child_rekeys + p->ends[0].status.ike_rekeys, 1);
		settled(p);
	}
}

// Every place of the tunnel is taken by what strangers left: the peer's successor still has one.
static void a_full_tunnel_takes_a_successor(void **state)
{
	(void)state;
	for (int index = 0; index < 2; index++) {
		struct pair *p = new_watched(MILLISECONDS(20));
		struct tunnel *tunnel = tunnel_find(p->ends[0].ike, "tun-1");
		while (tunnel->sa_count < TUNNEL_SAS_MAX) {
			struct ike_sa *closed = ike_sa_new(p->ends[0].ike, tunnel, false);
			assert_non_null(closed);
			closed->version = &ike_version_2;
			closed->spi_r = 1000 + tunnel->sa_count;
			closed->state = IKE_SA_CLOSED;
			closed->close_at = p->now + SECONDS(20);
		}
		p->ends[index].config.rekey_ike_requests = 1;
		pair_configure(p, index);
		pair_run(p, SECONDS(2));
		assert_int_equal(p->ends[0].status.ike_rekeys, 1);
		assert_int_equal(p->ends[1].status.ike_rekeys, 1);
		settled(p);
	}
}

static int ike_sas_established(const struct pair_end *end)
{
	int count = 0;
	for (size_t i = 0; i < end->event_count; i++) {
		count += strcmp(end->events[i].event, "ike-sa-established") == 0;
	}
	return count;
}

// Both begin at about the same time, and the peer waits for nobody: there is one IKE SA all the same, the peer's, and none goes.
static void both_begin(void **state)
{
	(void)state;
	for (int offset = -100; offset <= 100; offset += 10) {
		struct pair *p = pair_new();
		p->latency = MILLISECONDS(20);
		p->ends[0].config.initiate = p->ends[1].config.initiate = true;
		int first = offset < 0;
		pair_tell(p, first);
		pair_run(p, MILLISECONDS(offset < 0 ? -offset : offset));
		pair_tell(p, !first);
		tunnel_find(p->ends[1].ike, "tun-1")->yields_until = p->now;
		pair_run(p, SECONDS(1));
		assert_int_equal(ike_sas_established(&p->ends[0]), 1);
		settled(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(both_begin),
	    cmocka_unit_test(both_rekey_the_same_child),
	    cmocka_unit_test(both_rekey_the_ike_sa),
	    cmocka_unit_test(one_rekeys_the_child_the_other_the_ike_sa),
	    cmocka_unit_test(a_delete_crosses_a_rekeying),
	    cmocka_unit_test(both_delete_the_same_child),
	    cmocka_unit_test(a_child_that_the_peer_has_lost_is_made_anew_within_a_second),
	    cmocka_unit_test(temporary_failure_passes),
	    cmocka_unit_test(lost_answers_are_asked_for_again),
	    cmocka_unit_test(a_full_tunnel_takes_a_successor),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
