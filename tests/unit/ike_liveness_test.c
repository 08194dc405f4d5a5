// Liveness by evidence (RFC 7296 §2.4) with the default settings: with traffic a silent peer is found out within 5 s, without
// it within the configured timeout; one that answers is not, whatever else is wrong; and who hears traffic does not ask.
#include "tests/unit/ike_odd_peer.h"

static instant goes_down(struct pair *p, int index, duration limit)
{
	instant end = p->now + limit;
	while (p->ends[index].status.state == TUNNEL_UP && p->now < end) {
		pair_run(p, MILLISECONDS(10));
	}
	assert_int_equal(p->ends[index].status.state, TUNNEL_DOWN);
	return p->now;
}

static void under_traffic_a_silent_peer_is_dead_in_time(void **state)
{
	(void)state;
	// Wherever the silence falls between two reports of the dataplane.
	for (int phase = 0; phase < 500; phase += 37) {
		struct pair *p = pair_new();
		pair_up(p);
		pair_starts_traffic(p);
		pair_run(p, SECONDS(20) + MILLISECONDS(phase));
		assert_int_equal(p->ends[0].down, 0);
		p->ends[1].mute = true;
		instant silent = p->now, down = goes_down(p, 0, SECONDS(30));
		assert_true(down - silent >= SECONDS(3) + MILLISECONDS(500)); // not at the first loss
		assert_true(down - silent <= SECONDS(4) + MILLISECONDS(700));
		assert_non_null(strstr(p->ends[0].status.reason, "no sign of life for 4 s, and no answer to our requests"));
		// Both ends: the other, which hears us no more either once we begin anew.
		p->ends[1].mute = false;
		pair_run(p, SECONDS(12));
		assert_true(pair_carries(p));
		pair_free(p);
	}
}

static void asks_quickly(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	pair_up(p);
	pair_starts_traffic(p);
	pair_run(p, SECONDS(20));
	uint64_t before = p->requests[0];
	p->ends[1].mute = true;
	instant silent = p->now;
	while (p->requests[0] == before) {
		pair_run(p, MILLISECONDS(10));
	}
	assert_true(p->now - silent <= SECONDS(1) + MILLISECONDS(500)); // a second of quiet, and a report
	instant asked = p->now;
	static const int times[] = {300, 600, 1200, 2400};
	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
		pair_run(p, asked + MILLISECONDS(times[i] - 20) - p->now);
		assert_int_equal(p->requests[0], before + 1 + i);
		pair_run(p, MILLISECONDS(30));
		assert_int_equal(p->requests[0], before + 2 + i);
	}
	// The last of them is answered: it lives.
	p->ends[1].mute = false;
	pair_run(p, SECONDS(1));
	assert_int_equal(p->ends[0].down, 0);
	assert_true(pair_carries(p));
	pair_free(p);
}

static void without_traffic_within_the_timeout(void **state)
{
	(void)state;
	for (int timeout = 2; timeout <= 30; timeout += 7) {
		struct pair *p = pair_new();
		p->ends[0].config.dpd_interval = (uint32_t)timeout / 3 + 1;
		p->ends[0].config.dpd_timeout = (uint32_t)timeout;
		pair_up(p);
		p->report = MILLISECONDS(500);
		pair_run(p, SECONDS(60));
		p->ends[1].mute = true;
		instant silent = p->now, down = goes_down(p, 0, SECONDS(60));
		assert_true(down - silent <= SECONDS(timeout) + MILLISECONDS(10));
		pair_free(p);
	}
}

static void an_idle_tunnel_asks_every_interval_and_a_busy_one_never(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	pair_up(p);
	p->ends[1].config.dpd = false;
	pair_configure(p, 1);
	uint64_t before = p->requests[0];
	pair_run(p, SECONDS(300));
	assert_in_range(p->requests[0] - before, 90, 100);
	pair_starts_traffic(p);
	pair_run(p, SECONDS(4));
	before = p->requests[0];
	pair_run(p, SECONDS(300));
	assert_int_equal(p->requests[0], before);
	pair_free(p);
}

// A stream that nobody answers: the peer is asked now and then, and lives.
static void one_way_traffic_is_no_failure(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	pair_up(p);
	pair_starts_traffic(p);
	for (int i = 0; i < 1200; i++) {
		// What end 1 sends of ESP does not come.
		for (size_t k = p->flight_count; k-- > 0;) {
			if (p->flight[k].esp_spi != 0 && p->flight[k].to == 0) {
				memmove(&p->flight[k], &p->flight[k + 1], (--p->flight_count - k) * sizeof p->flight[0]);
			}
		}
		pair_run(p, MILLISECONDS(4));
	}
	uint64_t before = p->requests[0];
	for (int i = 0; i < 60000 / 4; i++) {
		for (size_t k = p->flight_count; k-- > 0;) {
			if (p->flight[k].esp_spi != 0 && p->flight[k].to == 0) {
				memmove(&p->flight[k], &p->flight[k + 1], (--p->flight_count - k) * sizeof p->flight[0]);
			}
		}
		pair_run(p, MILLISECONDS(4));
	}
	assert_in_range(p->requests[0] - before, 20, 45);
	assert_int_equal(p->ends[0].down, 0);
	pair_free(p);
}

// This process stands still for long; the peer's answers and its traffic are there when it wakes. Nothing is dead for that.
static void a_standstill_kills_nothing(void **state)
{
	(void)state;
	for (int busy = 0; busy < 2; busy++) {
		struct pair *p = pair_new();
		pair_up(p);
		p->ends[1].config.dpd = false;
		pair_configure(p, 1);
		if (busy) {
			pair_starts_traffic(p);
		}
		pair_run(p, SECONDS(20));
		if (busy) {
			// Its last word was that traffic goes out and nothing comes in.
			struct child_row *row = &p->ends[0].rows[0];
			pair_step(p, 0,
			          &(struct ike_event){.kind = IKE_EVENT_USAGE,
			                              .usage = {.inbound_spi = row->inbound.spi,
			                                        .packets_in = p->ends[0].in[0],
			                                        .packets_out = p->ends[0].out[0] + 1,
			                                        .last_in = p->ends[0].last_in[0]}});
		}
		p->now += SECONDS(60);
		pair_step(p, 0, &(struct ike_event){.kind = IKE_EVENT_TIME});
		pair_run(p, SECONDS(2));
		assert_int_equal(p->ends[0].down, 0);
		assert_true(pair_carries(p));
		pair_free(p);
	}
}

static void reports(struct pair *p, uint64_t packets, bool resting)
{
	struct child_row *row = &p->ends[0].rows[0];
	pair_step(p, 0,
	          &(struct ike_event){.kind = IKE_EVENT_USAGE,
	                              .usage = {.inbound_spi = row->inbound.spi,
	                                        .packets_in = packets,
	                                        .last_in = p->now - MILLISECONDS(100),
	                                        .resting = resting}});
}

// A peer that sends and answers no request: what the dataplane tells of it now and then keeps it alive, however short the
// timeout, and when it tells that nothing more came the peer is dead.
static void reports_of_traffic_may_be_rare(void **state)
{
	(void)state;
	for (int timeout = 2; timeout < 10; timeout += 3) {
		struct pair *p = pair_new();
		p->ends[0].config.dpd_interval = 1;
		p->ends[0].config.dpd_timeout = (uint32_t)timeout;
		pair_up(p);
		p->ends[1].mute = true;
		pair_run(p, MILLISECONDS(1900)); // it is being asked
		for (uint64_t packets = 1; packets < 5; packets++) {
			reports(p, packets, false);
			pair_run(p, MILLISECONDS(10300));
			assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
		}
		reports(p, 5, true);
		instant silent = p->now, down = goes_down(p, 0, SECONDS(10));
		assert_true(down - silent <= SECONDS(timeout));
		pair_free(p);
	}
}

// A request that is under way is what asks: the window is one.
static bool swallows_create_child(struct pair *p, int to, const struct ike_datagram *d)
{
	struct bytes message = pair_message(d);
	return !p->odd || to != 1 || message.data[18] != EXCHANGE_CREATE_CHILD_SA;
}

static void a_request_under_way_becomes_urgent(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	pair_up(p);
	pair_starts_traffic(p);
	p->receive = swallows_create_child;
	pair_run(p, SECONDS(10));
	p->odd = 1;
	p->ends[0].config.rekey_child_requests++;
	pair_configure(p, 0);
	pair_run(p, MILLISECONDS(200));
	p->ends[1].mute = true;
	instant silent = p->now, down = goes_down(p, 0, SECONDS(20));
	assert_true(down - silent <= SECONDS(4) + MILLISECONDS(700));
	pair_free(p);
}

static void probing_can_be_off(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	for (int i = 0; i < 2; i++) {
		p->ends[i].config.dpd = false;
	}
	pair_up(p);
	pair_starts_traffic(p);
	pair_run(p, SECONDS(10));
	uint64_t before = p->requests[0];
	p->ends[1].mute = true;
	pair_run(p, SECONDS(120));
	assert_int_equal(p->ends[0].down, 0);
	assert_int_equal(p->requests[0], before);
	pair_free(p);
}

// After it is dead the tunnel begins anew at once, and is back as soon as the peer answers.
static void begins_anew_as_configured(void **state)
{
	(void)state;
	for (uint8_t action = DPD_RESTART; action <= DPD_NONE; action++) {
		struct pair *p = pair_new();
		p->ends[0].config.dpd_action = action;
		pair_up(p);
		pair_starts_traffic(p);
		pair_run(p, SECONDS(5));
		p->ends[1].mute = true;
		goes_down(p, 0, SECONDS(20));
		p->ends[1].mute = false;
		instant back = p->now;
		while (p->ends[0].status.state != TUNNEL_UP && p->now < back + SECONDS(30)) {
			pair_run(p, MILLISECONDS(10));
		}
		if (action == DPD_RESTART) {
			assert_true(p->now - back < SECONDS(1));
		} else {
			assert_int_equal(p->ends[0].status.state, TUNNEL_DOWN);
		}
		pair_free(p);
	}
}

// A device that makes another IKE SA whenever one is closed: it is left with a few at most, and all are dead when it is.
static void tells_both_ends_to_begin(struct pair *p)
{
	struct ike *ike = p->ends[1].ike;
	struct ike_actions actions = {0};
	ike->now = p->now;
	ike->out = &actions;
	ike_version_2.begin(ike, tunnel_find(ike, "tun-1"));
	tunnel_run(ike, tunnel_find(ike, "tun-1"));
	ike->out = NULL;
	pair_apply(p, 1, &actions);
	ike_actions_free(&actions);
}

static size_t standing(struct pair *p, int index)
{
	const struct tunnel *tunnel = tunnel_find(p->ends[index].ike, "tun-1");
	size_t count = 0;
	for (size_t i = 0; i < tunnel->sa_count; i++) {
		count += tunnel->sas[i]->state == IKE_SA_ESTABLISHED || tunnel->sas[i]->state == IKE_SA_REPLACED;
	}
	return count;
}

static void ike_sas_of_one_peer_die_together(void **state)
{
	(void)state;
	struct pair *p = pair_new();
	pair_up(p);
	pair_starts_traffic(p);
	for (int i = 0; i < 8; i++) {
		// The device keeps what it has: it does not take the new one for a replacement.
		tells_both_ends_to_begin(p);
		pair_run(p, MILLISECONDS(200));
		const struct tunnel *tunnel = tunnel_find(p->ends[1].ike, "tun-1");
		for (size_t k = 0; k < tunnel->sa_count; k++) {
			if (tunnel->sas[k]->state == IKE_SA_REPLACED) {
				tunnel->sas[k]->state = IKE_SA_ESTABLISHED;
			}
		}
		assert_true(pair_carries(p));
		pair_run(p, SECONDS(5));
		assert_int_equal(p->ends[0].down, 0);
		assert_true(standing(p, 0) <= 4);
	}
	assert_int_equal(standing(p, 0), 4);
	assert_int_equal(p->esp_lost, 0);
	p->ends[1].mute = true;
	instant silent = p->now, down = goes_down(p, 0, SECONDS(30));
	assert_true(down - silent <= SECONDS(4) + MILLISECONDS(700));
	assert_int_equal(standing(p, 0), 0);
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(under_traffic_a_silent_peer_is_dead_in_time),
	    cmocka_unit_test(asks_quickly),
	    cmocka_unit_test(without_traffic_within_the_timeout),
	    cmocka_unit_test(an_idle_tunnel_asks_every_interval_and_a_busy_one_never),
	    cmocka_unit_test(one_way_traffic_is_no_failure),
	    cmocka_unit_test(a_standstill_kills_nothing),
	    cmocka_unit_test(reports_of_traffic_may_be_rare),
	    cmocka_unit_test(a_request_under_way_becomes_urgent),
	    cmocka_unit_test(probing_can_be_off),
	    cmocka_unit_test(begins_anew_as_configured),
	    cmocka_unit_test(ike_sas_of_one_peer_die_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
