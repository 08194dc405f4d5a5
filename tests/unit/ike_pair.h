// Two cores over a perfect network on a virtual clock: what the tests of exchanges share. Include after cmocka.h.
#ifndef TWINSPAN_TEST_IKE_PAIR_H
#define TWINSPAN_TEST_IKE_PAIR_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/ike/ike.h"
#include "services/ike/wire/ikev2.h"
#include "services/ike/wire/payload.h"
#include "tests/unit/ike_tunnel.h"

enum { ROWS = 64, FLIGHT = 64, RECORD = 400, STATES = 8 };

struct end {
	struct ike *ike;
	struct tunnel_config config;
	struct secret secret;
	struct tunnel_status_row status;
	bool status_removed;
	struct child_row rows[ROWS];
	size_t row_count;
	uint64_t state_keys[STATES];
	uint8_t *states[STATES];
	size_t state_lengths[STATES], state_count;
	unsigned up, down, events;
	char last_event[EVENT_NAME_MAX];
	char details[8192]; // of all events, a line each
	unsigned statuses;
};
struct nat { // before one end: the ports that the other sees for 500 and 4500; 0: none
	uint16_t for_500, for_4500;
};
struct copy {
	int to;
	instant at;
	struct ike_datagram datagram;
	uint8_t *octets;
	bool waits; // until the dataplane has what was put before it
};
struct pair {
	struct end ends[2];
	instant now;
	struct copy flight[FLIGHT]; // the first in is the first out
	size_t flight_count;
	struct copy record[RECORD]; // everything that was ever sent
	size_t record_count;
	bool cut;
	duration delay; // one way
	struct nat nats[2];
};

static inline void send(struct pair *p, int from, const struct ike_action *action)
{
	struct copy copy = {.to = !from, .octets = allocate(action->length), .waits = !action->stateless};
	memcpy(copy.octets, action->octets, action->length);
	copy.datagram = (struct ike_datagram){.local = action->datagram.remote,
	                                      .remote = action->datagram.local,
	                                      .local_port = action->datagram.remote_port,
	                                      .remote_port = action->datagram.local_port,
	                                      .octets = {copy.octets, action->length}};
	if (p->nats[from].for_500) {
		copy.datagram.remote_port = copy.datagram.remote_port == 500 ? p->nats[from].for_500 : p->nats[from].for_4500;
	}
	const struct nat *theirs = &p->nats[!from];
	if (theirs->for_500) {
		uint16_t to = copy.datagram.local_port;
		copy.datagram.local_port = to == theirs->for_500 ? 500 : to == theirs->for_4500 ? 4500 : 0;
	}
	copy.at = p->now + p->delay;
	assert_true(p->record_count < RECORD && p->flight_count < FLIGHT);
	p->record[p->record_count++] = copy;
	if (!p->cut && copy.datagram.local_port != 0) {
		p->flight[p->flight_count++] = copy;
	}
}

static inline void remove_state(struct end *e, uint64_t key)
{
	for (size_t i = 0; i < e->state_count; i++) {
		if (e->state_keys[i] == key) {
			free(e->states[i]);
			e->state_count--;
			e->states[i] = e->states[e->state_count];
			e->state_keys[i] = e->state_keys[e->state_count];
			e->state_lengths[i] = e->state_lengths[e->state_count];
		}
	}
}

static inline void put_row(struct end *e, const struct child_row *row)
{
	for (size_t i = 0; i < e->row_count; i++) {
		if (e->rows[i].inbound.spi == row->inbound.spi) {
			e->rows[i] = *row;
			return;
		}
	}
	assert_true(e->row_count < ROWS);
	e->rows[e->row_count++] = *row;
}

static inline void remove_row(struct end *e, uint32_t spi)
{
	for (size_t i = 0; i < e->row_count; i++) {
		if (e->rows[i].inbound.spi == spi) {
			e->rows[i] = e->rows[--e->row_count];
		}
	}
}

static inline void apply(struct pair *p, int index, struct ike_actions *actions)
{
	struct end *e = &p->ends[index];
	bool sent = false;
	for (size_t i = 0; i < actions->count; i++) {
		const struct ike_action *action = &actions->items[i];
		assert_false(sent && action->kind != IKE_ACTION_SEND); // rows before datagrams
		switch (action->kind) {
		case IKE_ACTION_SEND:
			sent = true;
			send(p, index, action);
			break;
		case IKE_ACTION_PUT_CHILD:
			put_row(e, action->child);
			break;
		case IKE_ACTION_REMOVE_CHILD:
			remove_row(e, action->child->inbound.spi);
			break;
		case IKE_ACTION_PUT_STATE:
			remove_state(e, action->key);
			assert_true(e->state_count < STATES);
			e->state_keys[e->state_count] = action->key;
			e->states[e->state_count] = allocate(action->length);
			memcpy(e->states[e->state_count], action->octets, action->length);
			e->state_lengths[e->state_count++] = action->length;
			break;
		case IKE_ACTION_REMOVE_STATE:
			remove_state(e, action->key);
			break;
		case IKE_ACTION_STATUS:
			e->statuses++;
			e->status = *action->status;
			break;
		case IKE_ACTION_REMOVE_STATUS:
			e->status_removed = true;
			break;
		case IKE_ACTION_EVENT:
			e->events++;
			snprintf(e->details + strlen(e->details), sizeof e->details - strlen(e->details), "%s: %s\n",
			         action->event->event, action->event->detail);
			e->up += strcmp(action->event->event, "tunnel-up") == 0;
			e->down += strcmp(action->event->event, "tunnel-down") == 0;
			memcpy(e->last_event, action->event->event, sizeof e->last_event);
			break;
		}
	}
	ike_actions_clear(actions);
}

static inline void step(struct pair *p, int index, const struct ike_event *event)
{
	struct ike_actions actions = {0};
	ike_step(p->ends[index].ike, event, p->now, &actions);
	apply(p, index, &actions);
	ike_actions_free(&actions);
}

static inline void configure(struct pair *p, int index)
{
	step(p, index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &p->ends[index].config});
}

// Carries datagrams until there are none, and time until `until`.
static inline void run(struct pair *p, duration time)
{
	instant until = p->now + time;
	for (;;) {
		while (p->flight_count > 0 && p->flight[0].at <= p->now) {
			struct copy first = p->flight[0];
			memmove(p->flight, p->flight + 1, --p->flight_count * sizeof first);
			step(p, first.to, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = first.datagram});
		}
		instant next = instant_min(ike_deadline(p->ends[0].ike), ike_deadline(p->ends[1].ike));
		next = p->flight_count > 0 ? instant_min(next, p->flight[0].at) : next;
		if (next > until) {
			break;
		}
		p->now = next > p->now ? next : p->now;
		step(p, 0, &(struct ike_event){.kind = IKE_EVENT_TIME});
		step(p, 1, &(struct ike_event){.kind = IKE_EVENT_TIME});
	}
	p->now = until;
}

static inline void begin(struct pair *p, int index)
{
	struct end *e = &p->ends[index];
	uint8_t seed[32] = {(uint8_t)(index + 1), (uint8_t)p->record_count};
	e->ike = ike_new(seed);
	e->row_count = 0;
	struct ike_actions actions = {0};
	size_t count = e->state_count;
	e->state_count = 0;
	for (size_t i = 0; i < count; i++) {
		uint8_t *state = e->states[i];
		size_t length = e->state_lengths[i];
		ike_step(e->ike, &(struct ike_event){.kind = IKE_EVENT_RESTORE, .bytes = {state, length}}, p->now, &actions);
		free(state);
	}
	ike_step(e->ike, &(struct ike_event){.kind = IKE_EVENT_START}, p->now, &actions);
	apply(p, index, &actions);
	ike_actions_free(&actions);
}

static inline void tell(struct pair *p, int index)
{
	struct end *e = &p->ends[index];
	step(p, index, &(struct ike_event){.kind = IKE_EVENT_SECRET, .text = e->config.id, .secret = &e->secret});
	configure(p, index);
	step(p, index, &(struct ike_event){.kind = IKE_EVENT_TUNNELS_KNOWN});
}

static inline struct pair *new_pair(void)
{
	struct pair *p = allocate(sizeof *p);
	p->now = SECONDS(100);
	for (int i = 0; i < 2; i++) {
		p->ends[i].config = ike_test_tunnel(i);
		secret_set(&p->ends[i].secret, (struct bytes){(const uint8_t *)"the.shared.secret", 17});
		begin(p, i);
	}
	return p;
}

static inline struct pair *new_up_pair(void)
{
	struct pair *p = new_pair();
	tell(p, 1);
	tell(p, 0);
	run(p, SECONDS(1));
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	assert_int_equal(p->ends[1].status.state, TUNNEL_UP);
	return p;
}

// What was sent so far is forgotten, and nothing of it is on its way any more.
static inline void forget_record(struct pair *p)
{
	for (size_t i = 0; i < p->record_count; i++) {
		free(p->record[i].octets);
	}
	p->record_count = p->flight_count = 0;
}

static inline void free_pair(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		ike_free(&p->ends[i].ike);
		while (p->ends[i].state_count > 0) {
			remove_state(&p->ends[i], p->ends[i].state_keys[0]);
		}
	}
	for (size_t i = 0; i < p->record_count; i++) {
		free(p->record[i].octets);
	}
	free(p);
}

static inline void mirrored(const struct pair *p)
{
	const struct end *a = &p->ends[0], *b = &p->ends[1];
	assert_int_equal(a->row_count, 1);
	assert_int_equal(b->row_count, 1);
	const struct child_row *x = &a->rows[0], *y = &b->rows[0];
	assert_true(x->outbound_in_use && y->outbound_in_use);
	assert_int_equal(x->inbound.spi, y->outbound.spi);
	assert_int_equal(x->outbound.spi, y->inbound.spi);
	assert_true(secret_equal(&x->inbound.encryption_key, &y->outbound.encryption_key));
	assert_true(secret_equal(&x->outbound.encryption_key, &y->inbound.encryption_key));
	assert_true(secret_equal(&x->inbound.integrity_key, &y->outbound.integrity_key));
	assert_int_equal(x->encryption, y->encryption);
	assert_int_equal(x->integrity, y->integrity);
}

static inline uint64_t counted(const struct pair *p, int index, enum ike_counter counter)
{
	return ike_counters(p->ends[index].ike)[counter];
}

#endif
