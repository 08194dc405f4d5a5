// Ports (RFC 7296 §2.11, §2.23): answers go where requests come from, and where the peer is believed to be moves only with a
// NAT.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ike_pair.h"

static const struct copy *last_to(const struct pair *p, int to)
{
	for (size_t i = p->record_count; i-- > 0;) {
		if (p->record[i].to == to) {
			return &p->record[i];
		}
	}
	return NULL;
}

static size_t count_to(const struct pair *p, int to)
{
	size_t count = 0;
	for (size_t i = 0; i < p->record_count; i++) {
		count += p->record[i].to == to;
	}
	return count;
}

static struct pair *up_behind(struct nat first, struct nat second)
{
	struct pair *p = new_pair();
	p->nats[0] = first;
	p->nats[1] = second;
	p->ends[0].config.initiate = second.for_500 == 0; // only from behind a NAT is there a way out
	p->ends[1].config.initiate = second.for_500 != 0;
	tell(p, 1);
	tell(p, 0);
	run(p, SECONDS(1));
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	assert_int_equal(p->ends[1].status.state, TUNNEL_UP);
	return p;
}

static const struct nat none, before = {1024, 4096};

// A request under way of end 0, sent again from another port.
static void a_retransmission_is_answered_where_it_came_from(void **state)
{
	(void)state;
	struct pair *p = new_up_pair();
	p->ends[0].config.rekey_child_requests++;
	configure(p, 0);
	struct copy request = *last_to(p, 1);
	p->flight_count = 0; // the request is lost, and comes by another way
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = request.datagram});
	assert_int_equal(last_to(p, 0)->datagram.local_port, 500);
	p->flight_count = 0;
	request.datagram.remote_port = 7777;
	size_t answers = count_to(p, 0);
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = request.datagram});
	assert_int_equal(count_to(p, 0), answers + 1);
	assert_int_equal(last_to(p, 0)->datagram.local_port, 7777);
	// What end 1 asks by itself still goes to where the peer is.
	p->flight_count = 0;
	p->cut = true;
	run(p, SECONDS(12));
	assert_int_equal(last_to(p, 0)->datagram.local_port, 500);
	free_pair(p);
}

static void without_a_nat_no_port_moves(void **state)
{
	(void)state;
	for (int forced = 0; forced < 2; forced++) {
		struct pair *p = new_pair();
		p->ends[1].config.force_encapsulation = forced; // the end under test: its own device is before no NAT
		tell(p, 1);
		tell(p, 0);
		run(p, SECONDS(1));
		uint16_t port = p->ends[1].rows[0].remote_port;
		p->ends[0].config.rekey_child_requests++;
		configure(p, 0);
		struct copy request = *last_to(p, 1);
		p->flight_count = 0;
		request.datagram.remote_port = 7777; // somebody on the way changed it
		step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = request.datagram});
		assert_int_equal(last_to(p, 0)->datagram.local_port, 7777); // the answer
		for (size_t i = 0; i < p->ends[1].row_count; i++) {
			assert_int_equal(p->ends[1].rows[i].remote_port, port);
		}
		p->flight_count = 0;
		p->cut = true;
		run(p, SECONDS(12));
		assert_int_equal(last_to(p, 0)->datagram.local_port, forced ? 4500 : 500);
		free_pair(p);
	}
}

static void a_nat_before_the_peer_may_move_it(void **state)
{
	(void)state;
	struct pair *p = up_behind(before, none);
	assert_int_equal(p->ends[1].rows[0].remote_port, 4096); // floated to 4500, as the NAT shows it
	assert_int_equal(p->ends[1].rows[0].local_port, 4500);
	assert_true(p->ends[1].rows[0].udp_encapsulation && p->ends[0].rows[0].udp_encapsulation);
	p->nats[0] = (struct nat){2000, 5000}; // it was restarted
	run(p, SECONDS(20));
	mirrored(p);
	assert_int_equal(p->ends[1].rows[0].remote_port, 5000);
	assert_int_equal(p->ends[0].down + p->ends[1].down, 0);
	// And who has one before itself keeps its mapping.
	size_t keepalives = 0;
	for (size_t i = 0; i < p->record_count; i++) {
		const struct copy *copy = &p->record[i];
		bool keepalive = copy->datagram.octets.length == 1 && copy->octets[0] == 0xff;
		assert_false(keepalive && copy->to == 0);
		keepalives += keepalive;
	}
	assert_in_range(keepalives, 1, 2);
	free_pair(p);
}

static void behind_a_nat_the_peer_does_not_move(void **state)
{
	(void)state;
	struct pair *p = up_behind(none, before); // end 1 has the NAT; end 0 is its peer
	uint16_t port = p->ends[1].rows[0].remote_port;
	assert_int_equal(port, 4500);
	p->ends[0].config.rekey_child_requests++;
	configure(p, 0);
	struct copy request = *last_to(p, 1);
	p->flight_count = 0;
	request.datagram.remote_port = 7777;
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = request.datagram});
	for (size_t i = 0; i < p->ends[1].row_count; i++) {
		assert_int_equal(p->ends[1].rows[i].remote_port, port);
	}
	free_pair(p);
}

// §2.23: an initiator may go to port 4500 with IKE_AUTH though there is no NAT.
static void the_port_of_ike_auth_is_followed(void **state)
{
	(void)state;
	struct pair *p = new_pair();
	tell(p, 1);
	p->cut = true;
	tell(p, 0);
	for (int i = 0; i < 2; i++) { // a cookie, and the answer
		struct copy init = *last_to(p, 1);
		step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = init.datagram});
		struct copy answer = *last_to(p, 0);
		step(p, 0, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = answer.datagram});
	}
	struct copy auth = *last_to(p, 1);
	uint8_t octets[2048] = {0};
	memcpy(octets + 4, auth.octets, auth.datagram.octets.length);
	auth.datagram.local_port = auth.datagram.remote_port = 4500;
	auth.datagram.octets = (struct bytes){octets, auth.datagram.octets.length + 4};
	step(p, 1, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = auth.datagram});
	assert_int_equal(p->ends[1].status.state, TUNNEL_UP);
	assert_int_equal(last_to(p, 0)->datagram.local_port, 4500);
	run(p, SECONDS(12));
	assert_int_equal(last_to(p, 0)->datagram.local_port, 4500);
	free_pair(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_retransmission_is_answered_where_it_came_from),
	    cmocka_unit_test(without_a_nat_no_port_moves),
	    cmocka_unit_test(a_nat_before_the_peer_may_move_it),
	    cmocka_unit_test(behind_a_nat_the_peer_does_not_move),
	    cmocka_unit_test(the_port_of_ike_auth_is_followed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
