// Child SAs of an IKE SA that stands: several with traffic selectors of their own, what is told of them, what was agreed on and
// does not change, and usage across a restart of the dataplane (RFC 7296 §1.3.1, §1.4.1, §2.9, §2.9.2).
#include "tests/unit/ike_odd_peer.h"

static struct traffic_selectors range(const char *first, const char *last)
{
	struct traffic_selectors out = traffic_selectors_any();
	address_parse(first, &out.items[0].first);
	address_parse(last, &out.items[0].last);
	return out;
}

// End `index` asks for another child SA, with these selectors; our own core would not, since it has one: for it this is a
// rekeying of none.
static void asks_for_another(struct pair *p, int index, const struct traffic_selectors *local,
                             const struct traffic_selectors *remote)
{
	struct ike *ike = p->ends[index].ike;
	struct ike_sa *sa = pair_current(p, index);
	struct ike_actions actions = {0};
	uint8_t inner[IKE_MESSAGE_MAX], spi[4];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	ike->now = p->now;
	ike->out = &actions;
	sa->request.child.new = child_spi_new(ike);
	sa->request.nonce.length = 32;
	random_fill(&ike->random, sa->request.nonce.octets, 32);
	struct writer spi_writer = writer_of(spi, sizeof spi);
	write_u32(&spi_writer, sa->request.child.new);
	struct algorithms offer = sa->tunnel->config.child;
	offer.groups[0] = GROUP_NONE;
	offer.group_count = 1;
	chain_open(&chain, PAYLOAD_SA);
	proposals_write(chain.w, PROTOCOL_ESP, writer_bytes(&spi_writer), &offer, GROUPS_COUNT);
	chain_close(&chain);
	chain_payload(&chain, PAYLOAD_NONCE, nonce_bytes(&sa->request.nonce));
	selectors_write(&chain, PAYLOAD_TSI, local);
	selectors_write(&chain, PAYLOAD_TSR, remote);
	request_send(ike, sa, REQUEST_REKEY_CHILD, EXCHANGE_CREATE_CHILD_SA, &chain);
	tunnel_run(ike, sa->tunnel);
	ike->out = NULL;
	pair_apply(p, index, &actions);
	ike_actions_free(&actions);
}

static const struct child_row *row_for(struct pair *p, int index, const char *remote)
{
	struct address address;
	address_parse(remote, &address);
	for (size_t i = 0; i < p->ends[index].row_count; i++) {
		const struct child_row *row = &p->ends[index].rows[i];
		if (row->remote_selector_count == 1 && row->outbound_in_use &&
		    address_equal(&row->remote_selectors[0].first, &address)) {
			return row;
		}
	}
	return NULL;
}

static struct pair *with_two_children(void)
{
	struct pair *p = pair_new();
	for (int i = 0; i < 2; i++) { // PFS or not
		p->ends[i].config.child.groups[2] = GROUP_NONE;
		p->ends[i].config.child.group_count = 3;
	}
	pair_up(p);
	// The device has a line of policy for each pair of subnets, and nothing for everything.
	struct traffic_selectors cloud = range("10.0.0.0", "10.0.255.255");
	struct traffic_selectors a = range("192.168.1.0", "192.168.1.255"), b = range("192.168.2.0", "192.168.2.255");
	asks_for_another(p, 1, &a, &cloud);
	pair_run(p, SECONDS(1));
	asks_for_another(p, 1, &b, &cloud);
	pair_run(p, SECONDS(1));
	return p;
}

static void two_with_selectors_of_their_own_carry_both(void **state)
{
	(void)state;
	struct pair *p = with_two_children();
	// The first one, for everything, is closed by the device.
	struct ike_sa *sa = pair_current(p, 1);
	for (size_t i = 0; i < sa->child_count; i++) {
		if (!sa->children[i]->selectors) {
			sa->children[i]->state = CHILD_DELETING;
		}
	}
	pair_run(p, SECONDS(10));
	for (int round = 0; round < 4; round++) {
		for (int index = 0; index < 2; index++) {
			assert_int_equal(p->ends[index].row_count, 2);
			assert_int_equal(p->ends[index].down, 0);
		}
		const struct child_row *first = row_for(p, 0, "192.168.1.0"), *second = row_for(p, 0, "192.168.2.0");
		assert_non_null(first);
		assert_non_null(second); // both are in use, each for its own
		assert_int_equal(first->local_selector_count, 1);
		assert_true(first->local_selectors[0].last.octets[1] == 0 && first->local_selectors[0].last.octets[2] == 255);
		const struct child_row *peer = pair_row(&p->ends[1], first->outbound.spi);
		assert_true(peer && peer->outbound_in_use && peer->outbound.spi == first->inbound.spi);
		// They stay what they are when they are rekeyed, by either end, and with a new IKE SA.
		p->ends[round % 2].config.rekey_child_requests += round < 2;
		p->ends[round % 2].config.rekey_ike_requests += round == 2;
		pair_configure(p, round % 2);
		pair_run(p, SECONDS(12));
	}
	assert_true(p->ends[0].status.child_rekeys >= 4);
	pair_free(p);
}

static void a_narrow_one_leaves_the_rest_where_it_was(void **state)
{
	(void)state;
	struct pair *p = with_two_children();
	pair_starts_traffic(p);
	pair_run(p, SECONDS(5)); // the peer sends on them, so it has them
	// All three carry: the one for everything what the others do not.
	for (int index = 0; index < 2; index++) {
		size_t in_use = 0, everything = 0;
		for (size_t i = 0; i < p->ends[index].row_count; i++) {
			in_use += p->ends[index].rows[i].outbound_in_use;
			everything +=
			    p->ends[index].rows[i].outbound_in_use && p->ends[index].rows[i].remote_selector_count == 0;
		}
		assert_int_equal(in_use, 3);
		assert_int_equal(everything, 1);
	}
	pair_free(p);
}

static void one_made_outside_ike_auth_has_an_event(void **state)
{
	(void)state;
	struct pair *p = with_two_children();
	const struct tunnel_event_row *event = pair_event(p, 0, "child-sa-established");
	assert_non_null(event);
	assert_non_null(strstr(event->detail, "192.168.2.0-192.168.2.255"));
	assert_non_null(strstr(event->detail, "by the peer"));
	// And one that we ask for, when there is none.
	struct ike_sa *sa = pair_current(p, 1);
	for (size_t i = 0; i < sa->child_count; i++) {
		sa->children[i]->state = CHILD_DELETING;
	}
	pair_run(p, SECONDS(6));
	event = pair_event(p, 0, "child-sa-established");
	assert_non_null(strstr(event->detail, "by us"));
	pair_free(p);
}

static void a_peer_that_closes_its_child_gets_another_within_a_second(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	pair_up(p);
	struct ike_sa *sa = pair_current(p, 1);
	sa->children[0]->state = CHILD_DELETING; // without replacement
	pair_step(p, 1, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &p->ends[1].config});
	assert_true(pair_carries(p) || p->flight_count > 0);
	pair_run(p, MILLISECONDS(20));
	assert_int_equal(p->ends[0].status.state, TUNNEL_DOWN);
	assert_string_equal(p->ends[0].status.reason, "the peer closed the child SA");
	pair_run(p, MILLISECONDS(900));
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	assert_true(pair_carries(p));
	pair_free(p);
}

// An answer that we cannot use leaves a child SA with the peer alone: it is deleted there, and the old one stands.
static bool answers_with_another_suite(struct pair *p, int to, const struct ike_datagram *d)
{
	struct bytes message = pair_message(d);
	if (to == 1 && p->odd && message.data[18] == EXCHANGE_CREATE_CHILD_SA && !(message.data[19] & FLAG_RESPONSE)) {
		// Both allow it for this one message: the peer chooses, and then it is not ours any more.
		p->odd = 0;
		pair_step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = *d});
		p->ends[0].config.child.encryption[0] = ENCRYPTION_AES_CBC_128;
		p->ends[0].config.child.encryption_count = 1;
		pair_configure(p, 0);
		return false;
	}
	return true;
}

static void what_only_the_peer_has_is_deleted(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	p->receive = answers_with_another_suite;
	pair_up(p);
	pair_starts_traffic(p);
	pair_run(p, SECONDS(2));
	p->odd = 1;
	p->ends[0].config.rekey_child_requests++;
	pair_configure(p, 0);
	pair_run(p, MILLISECONDS(300));
	assert_int_equal(p->odd, 0);
	assert_int_equal(p->ends[0].row_count, 1);
	pair_run(p, SECONDS(8));
	assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
	assert_true(pair_carries(p));
	pair_free(p);
}

// ---- what was agreed on stays ----
static void a_changed_configuration_is_not_put_on_what_stands(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	pair_up(p);
	p->ends[0].config.replay_window = 64;
	p->ends[0].config.child_bytes = 100; // long exceeded
	pair_configure(p, 0);
	struct child_row *row = &p->ends[0].rows[0];
	uint32_t spi = row->inbound.spi;
	// Everything is put again: by a restart of the dataplane's row, here a rekeying of the IKE SA.
	p->ends[0].config.rekey_ike_requests++;
	pair_configure(p, 0);
	pair_run(p, SECONDS(8));
	row = pair_row(&p->ends[0], spi);
	assert_non_null(row);
	assert_int_equal(row->replay_window, 1024);
	pair_step(p, 0,
	          &(struct ike_event){.kind = IKE_EVENT_USAGE,
	                              .usage = {.inbound_spi = spi, .bytes_in = 5000, .packets_in = 5, .last_in = p->now}});
	pair_run(p, SECONDS(15));
	assert_int_equal(p->ends[0].status.child_rekeys, 0);
	assert_non_null(pair_row(&p->ends[0], spi));
	// The next one has it.
	p->ends[0].config.child_bytes = 0;
	p->ends[0].config.rekey_child_requests++;
	pair_configure(p, 0);
	pair_run(p, SECONDS(8));
	assert_int_equal(p->ends[0].rows[0].replay_window, 64);
	pair_free(p);
}

// What was agreed on is in the saved state: the selectors, and what was counted.
static void a_restored_child_is_what_it_was(void **state)
{
	(void)state;
	struct pair *p = with_two_children();
	struct ike *ike = p->ends[0].ike, *restored;
	struct ike_actions saved = {0}, put = {0};
	ike->out = &saved;
	state_save(ike, pair_current(p, 0));
	ike->out = NULL;
	assert_int_equal(saved.count, 1);
	uint8_t seed[32] = {77};
	restored = ike_new(seed);
	struct ike_event event = {.kind = IKE_EVENT_RESTORE, .bytes = {saved.items[0].octets, saved.items[0].length}};
	ike_step(restored, &event, p->now, &put);
	size_t rows = 0, narrowed = 0;
	for (size_t i = 0; i < put.count; i++) {
		if (put.items[i].kind == IKE_ACTION_PUT_CHILD) {
			const struct child_row *row = put.items[i].child, *was = pair_row(&p->ends[0], row->inbound.spi);
			assert_non_null(was);
			assert_memory_equal(row, was, sizeof *row);
			rows++;
			narrowed += row->remote_selector_count == 1;
		}
	}
	assert_int_equal(rows, 3);
	assert_int_equal(narrowed, 2);
	ike_actions_free(&saved);
	ike_actions_free(&put);
	ike_free(&restored);
	pair_free(p);
}

static void report(struct pair *p, uint64_t bytes)
{
	struct ike_event event = {.kind = IKE_EVENT_USAGE,
	                          .usage = {.inbound_spi = p->ends[0].rows[0].inbound.spi,
	                                    .bytes_out = bytes,
	                                    .packets_out = bytes / 100,
	                                    .last_in = INSTANT_NEVER}};
	pair_step(p, 0, &event);
	pair_run(p, MILLISECONDS(500));
}

static void usage_goes_on_across_a_restart_of_the_dataplane(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	p->ends[0].config.child_bytes = 1000000;
	pair_up(p);
	report(p, 500000);
	report(p, 100); // begun anew, and counting from 0
	report(p, 100000);
	report(p, 150000); // 650,000 in all
	assert_int_equal(p->ends[0].status.child_rekeys, 0);
	report(p, 100);    // and again
	report(p, 210000); // 860,000
	assert_int_equal(p->ends[0].status.child_rekeys, 1);
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(two_with_selectors_of_their_own_carry_both),
	    cmocka_unit_test(a_narrow_one_leaves_the_rest_where_it_was),
	    cmocka_unit_test(one_made_outside_ike_auth_has_an_event),
	    cmocka_unit_test(a_peer_that_closes_its_child_gets_another_within_a_second),
	    cmocka_unit_test(what_only_the_peer_has_is_deleted),
	    cmocka_unit_test(a_changed_configuration_is_not_put_on_what_stands),
	    cmocka_unit_test(a_restored_child_is_what_it_was),
	    cmocka_unit_test(usage_goes_on_across_a_restart_of_the_dataplane),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
