// Two cores of ike on a virtual clock, with a network between them that a test may bend, and traffic that shows at every
// instant whether the tunnel carries: for tests of what happens to an IKE SA that stands. The peer, end 1, may be odd:
// `receive` sees each datagram before its core, and odd_answer() answers one as that core would, with the notification of the
// test's choice.
#ifndef TWINSPAN_TESTS_IKE_ODD_PEER_H
#define TWINSPAN_TESTS_IKE_ODD_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "services/ike/ike.h"
#include "services/ike/v2/exchanges.h"
#include "services/ike/wire/ikev2.h"
#include "services/ike/wire/payload.h"
#include "tests/unit/ike_tunnel.h"

enum { PAIR_ROWS = 48, PAIR_FLIGHT = 512, PAIR_EVENTS = 512 };

struct pair;
struct pair_end {
	struct ike *ike;
	struct tunnel_config config;
	struct secret secret;
	struct tunnel_status_row status;
	struct child_row rows[PAIR_ROWS];
	uint64_t in[PAIR_ROWS], out[PAIR_ROWS];
	instant last_in[PAIR_ROWS];
	size_t row_count;
	struct tunnel_event_row events[PAIR_EVENTS];
	size_t event_count;
	unsigned up, down;
	bool mute;     // what it sends is lost
	bool no_usage; // its dataplane does not report
};
struct pair_packet {
	instant at;
	int to;
	uint32_t esp_spi; // 0: a datagram of IKE
	struct ike_datagram datagram;
	uint8_t *octets;
};
struct pair {
	struct pair_end ends[2];
	instant now, tick;
	duration latency, traffic; // one way; between two packets of an end, 0: none
	duration report;           // of the dataplane
	instant reported;
	struct pair_packet flight[PAIR_FLIGHT]; // in order of time, and of sending
	size_t flight_count;
	uint64_t esp_sent, esp_lost, datagrams[2], requests[2]; // sent by each end
	bool check_carries;                                     // at every instant
	// false: the datagram is not given to the core of end `to`.
	bool (*receive)(struct pair *pair, int to, const struct ike_datagram *datagram);
	unsigned odd; // of the test
};

static inline void pair_put(struct pair *p, struct pair_packet packet)
{
	assert_true(p->flight_count < PAIR_FLIGHT);
	packet.at = p->now + p->latency;
	p->flight[p->flight_count++] = packet;
}

static inline struct bytes pair_message(const struct ike_datagram *d)
{
	size_t marker = d->local_port == IKE_NAT_PORT ? NON_ESP_MARKER_LENGTH : 0;
	return (struct bytes){d->octets.data + marker, d->octets.length - marker};
}

static inline struct child_row *pair_row(struct pair_end *e, uint32_t spi_in)
{
	for (size_t i = 0; i < e->row_count; i++) {
		if (e->rows[i].inbound.spi == spi_in) {
			return &e->rows[i];
		}
	}
	return NULL;
}

// What the dataplane of that end sends on: of several rows in use, the newest.
static inline struct child_row *pair_outbound(struct pair_end *e)
{
	struct child_row *best = NULL;
	for (size_t i = 0; i < e->row_count; i++) {
		if (e->rows[i].outbound_in_use && (!best || e->rows[i].generation > best->generation)) {
			best = &e->rows[i];
		}
	}
	return best;
}

static inline void pair_put_row(struct pair_end *e, const struct child_row *row)
{
	struct child_row *found = pair_row(e, row->inbound.spi);
	if (!found) {
		assert_true(e->row_count < PAIR_ROWS);
		e->in[e->row_count] = e->out[e->row_count] = 0;
		e->last_in[e->row_count] = INSTANT_NEVER;
		found = &e->rows[e->row_count++];
	}
	*found = *row;
}

static inline void pair_remove_row(struct pair_end *e, uint32_t spi)
{
	struct child_row *found = pair_row(e, spi);
	if (found) {
		size_t i = (size_t)(found - e->rows), last = --e->row_count;
		e->rows[i] = e->rows[last];
		e->in[i] = e->in[last];
		e->out[i] = e->out[last];
		e->last_in[i] = e->last_in[last];
	}
}

static inline void pair_send(struct pair *p, int from, const struct ike_action *action)
{
	const struct ike_datagram *d = &action->datagram;
	struct bytes message = pair_message(d);
	p->datagrams[from]++;
	p->requests[from] += message.length > 19 && !(message.data[19] & FLAG_RESPONSE);
	if (p->ends[from].mute) {
		return;
	}
	struct pair_packet packet = {.to = !from, .octets = allocate(action->length)};
	memcpy(packet.octets, action->octets, action->length);
	packet.datagram = (struct ike_datagram){.local = d->remote,
	                                        .remote = d->local,
	                                        .local_port = d->remote_port,
	                                        .remote_port = d->local_port,
	                                        .octets = {packet.octets, action->length}};
	pair_put(p, packet);
}

static inline void pair_apply(struct pair *p, int index, struct ike_actions *actions)
{
	struct pair_end *e = &p->ends[index];
	for (size_t i = 0; i < actions->count; i++) {
		const struct ike_action *action = &actions->items[i];
		switch (action->kind) {
		case IKE_ACTION_SEND:
			pair_send(p, index, action);
			break;
		case IKE_ACTION_PUT_CHILD:
			pair_put_row(e, action->child);
			break;
		case IKE_ACTION_REMOVE_CHILD:
			pair_remove_row(e, action->child->inbound.spi);
			break;
		case IKE_ACTION_STATUS:
			e->status = *action->status;
			break;
		case IKE_ACTION_EVENT:
			if (getenv("TRACE")) {
				print_message("%9.3f %d %s %s\n", (double)p->now / 1e6, index, action->event->event,
				              action->event->detail);
			}
			e->up += strcmp(action->event->event, "tunnel-up") == 0;
			e->down += strcmp(action->event->event, "tunnel-down") == 0;
			assert_true(e->event_count < PAIR_EVENTS);
			e->events[e->event_count++] = *action->event;
			break;
		default:
			break;
		}
	}
	ike_actions_clear(actions);
}

static inline void pair_step(struct pair *p, int index, const struct ike_event *event)
{
	struct ike_actions actions = {0};
	ike_step(p->ends[index].ike, event, p->now, &actions);
	pair_apply(p, index, &actions);
	ike_actions_free(&actions);
}

static inline void pair_configure(struct pair *p, int index)
{
	pair_step(p, index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &p->ends[index].config});
}

// Can each end send, and does the other have what it sends on?
static inline bool pair_carries(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		const struct child_row *out = pair_outbound(&p->ends[i]);
		const struct child_row *in = out ? pair_row(&p->ends[!i], out->outbound.spi) : NULL;
		if (!in || in->outbound.spi != out->inbound.spi ||
		    !secret_equal(&in->inbound.encryption_key, &out->outbound.encryption_key) ||
		    !secret_equal(&in->inbound.integrity_key, &out->outbound.integrity_key)) {
			return false;
		}
	}
	return true;
}

static inline void pair_traffic(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		struct child_row *row = pair_outbound(&p->ends[i]);
		if (row) {
			p->esp_sent++;
			p->ends[i].out[row - p->ends[i].rows]++;
		}
		if (row && !p->ends[i].mute) {
			pair_put(p, (struct pair_packet){.to = !i, .esp_spi = row->outbound.spi});
		}
	}
}

static inline void pair_report(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		struct pair_end *e = &p->ends[i];
		for (size_t k = 0; k < e->row_count && !e->no_usage; k++) {
			struct ike_event event = {.kind = IKE_EVENT_USAGE,
			                          .usage = {.inbound_spi = e->rows[k].inbound.spi,
			                                    .bytes_in = 100 * e->in[k],
			                                    .packets_in = e->in[k],
			                                    .bytes_out = 100 * e->out[k],
			                                    .packets_out = e->out[k],
			                                    .last_in = e->last_in[k]}};
			pair_step(p, i, &event);
		}
	}
}

static inline void pair_deliver(struct pair *p)
{
	struct pair_packet first = p->flight[0];
	memmove(p->flight, p->flight + 1, --p->flight_count * sizeof first);
	struct pair_end *e = &p->ends[first.to];
	if (first.esp_spi != 0) {
		struct child_row *row = pair_row(e, first.esp_spi);
		p->esp_lost += !row;
		if (row) {
			e->in[row - e->rows]++;
			e->last_in[row - e->rows] = p->now;
		}
	} else if (!p->receive || p->receive(p, first.to, &first.datagram)) {
		pair_step(p, first.to, &(struct ike_event){.kind = IKE_EVENT_DATAGRAM, .datagram = first.datagram});
	}
	free(first.octets);
}

static inline void pair_run(struct pair *p, duration time)
{
	instant until = p->now + time;
	for (;;) {
		instant next = instant_min(ike_deadline(p->ends[0].ike), ike_deadline(p->ends[1].ike));
		next = p->flight_count > 0 ? instant_min(next, p->flight[0].at) : next;
		next = p->traffic ? instant_min(next, p->tick) : next;
		next = p->report ? instant_min(next, p->reported) : next;
		if (next > until) {
			break;
		}
		p->now = next > p->now ? next : p->now;
		if (p->flight_count > 0 && p->flight[0].at <= p->now) {
			pair_deliver(p);
		}
		for (int i = 0; i < 2; i++) {
			for (int spins = 0; ike_deadline(p->ends[i].ike) <= p->now; spins++) {
				assert_true(spins < 100); // a deadline goes away
				pair_step(p, i, &(struct ike_event){.kind = IKE_EVENT_TIME});
			}
		}
		if (p->traffic && p->tick <= p->now) {
			p->tick = p->now + p->traffic;
			pair_traffic(p);
		}
		if (p->report && p->reported <= p->now) {
			p->reported = p->now + p->report;
			pair_report(p);
		}
		if (p->check_carries && !pair_carries(p)) {
			fail_msg("at %.3f s the tunnel does not carry", (double)p->now / 1e6);
		}
	}
	p->now = until;
}

static inline void pair_begin(struct pair *p, int index)
{
	struct pair_end *e = &p->ends[index];
	static uint8_t pairs; // each has nonces of its own
	uint8_t seed[32] = {(uint8_t)(index + 1), (uint8_t)p->datagrams[index], ++pairs};
	e->ike = ike_new(seed);
	pair_step(p, index, &(struct ike_event){.kind = IKE_EVENT_START});
}

static inline void pair_tell(struct pair *p, int index)
{
	struct pair_end *e = &p->ends[index];
	pair_step(p, index, &(struct ike_event){.kind = IKE_EVENT_SECRET, .text = e->config.id, .secret = &e->secret});
	pair_configure(p, index);
	pair_step(p, index, &(struct ike_event){.kind = IKE_EVENT_TUNNELS_KNOWN});
}

// With the default settings of a tunnel; end 0 initiates.
static inline struct pair *pair_new(void)
{
	struct pair *p = allocate(sizeof *p);
	p->now = p->tick = p->reported = SECONDS(100);
	p->latency = MILLISECONDS(5);
	for (int i = 0; i < 2; i++) {
		p->ends[i].config = ike_test_tunnel(i);
		p->ends[i].config.dpd_interval = 3;
		p->ends[i].config.dpd_timeout = 9;
		secret_set(&p->ends[i].secret, (struct bytes){(const uint8_t *)"the.shared.secret", 17});
		pair_begin(p, i);
	}
	return p;
}

static inline void pair_free(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		ike_free(&p->ends[i].ike);
	}
	while (p->flight_count > 0) {
		free(p->flight[--p->flight_count].octets);
	}
	free(p);
}

static inline void pair_up(struct pair *p)
{
	pair_tell(p, 1);
	pair_tell(p, 0);
	pair_run(p, SECONDS(1) + 8 * p->latency);
	assert_int_equal(p->ends[0].status.state, TUNNEL_UP);
	assert_int_equal(p->ends[1].status.state, TUNNEL_UP);
}

static inline void pair_starts_traffic(struct pair *p)
{
	p->traffic = MILLISECONDS(50);
	p->report = MILLISECONDS(500);
	p->tick = p->now;
	p->reported = p->now + p->report;
}

static inline struct ike_sa *pair_current(struct pair *p, int index)
{
	return tunnel_current(tunnel_find(p->ends[index].ike, "tun-1"));
}

// One child SA at each end, the same.
static inline void pair_is_one(struct pair *p)
{
	assert_true(pair_carries(p));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(p->ends[i].row_count, 1);
		assert_int_equal(ike_gauges(p->ends[i].ike).ike_sas, 1);
		assert_int_equal(ike_gauges(p->ends[i].ike).child_sas, 1);
	}
}

static inline const struct tunnel_event_row *pair_event(const struct pair *p, int index, const char *event)
{
	for (size_t i = p->ends[index].event_count; i-- > 0;) {
		if (strcmp(p->ends[index].events[i].event, event) == 0) {
			return &p->ends[index].events[i];
		}
	}
	return NULL;
}

// ---- odd peers ----
struct pair_request {
	struct ike_sa *sa; // at the end that gets it
	struct ike_datagram datagram;
	struct ike_header header;
	struct payloads payloads;
	uint8_t plain[IKE_MESSAGE_MAX];
	bool of_ike, rekeys; // CREATE_CHILD_SA: of the IKE SA; of a child SA that there is
	unsigned group;      // 0: no KE payload
};

// Opens a new request of exchange `exchange` to end `index`. false: it is something else, or a retransmission.
static inline bool pair_open(struct pair *p, int index, const struct ike_datagram *d, uint8_t exchange,
                             struct pair_request *out)
{
	out->datagram = *d;
	struct bytes message = pair_message(d);
	if (!header_read(message, &out->header) || out->header.exchange != exchange || (out->header.flags & FLAG_RESPONSE)) {
		return false;
	}
	uint64_t spi = out->header.flags & FLAG_INITIATOR ? out->header.spi_r : out->header.spi_i;
	out->sa = ike_sa_find(p->ends[index].ike, spi);
	if (!out->sa || out->header.message_id != out->sa->next_expected ||
	    message_open(out->sa, message, &out->header, out->plain, &out->payloads) != NOTIFY_NONE) {
		return false;
	}
	struct notification n;
	struct bytes sa_body = payloads_body(&out->payloads, PAYLOAD_SA), ke = payloads_body(&out->payloads, PAYLOAD_KE);
	out->of_ike = sa_body.length > 5 && sa_body.data[5] == PROTOCOL_IKE;
	out->rekeys = notification_find(&out->payloads, REKEY_SA, &n);
	out->group = ke.length > 2 ? (unsigned)ke.data[0] << 8 | ke.data[1] : 0;
	return true;
}

// Answers in place of the core of end `index`: with one notification, or with `body` as an SA payload when `type` is
// NOTIFY_NONE.
static inline void pair_answer(struct pair *p, int index, struct pair_request *request, uint16_t type, struct bytes data)
{
	struct ike *ike = p->ends[index].ike;
	struct ike_actions actions = {0};
	uint8_t inner[IKE_MESSAGE_MAX];
	struct writer w = writer_of(inner, sizeof inner);
	struct chain chain = chain_begin(&w);
	if (type == NOTIFY_NONE) {
		chain_payload(&chain, PAYLOAD_SA, data);
	} else {
		chain_notify(&chain, 0, (struct bytes){0}, type, data);
	}
	ike->now = p->now;
	ike->out = &actions;
	request->sa->last_in = p->now;
	children_confirm(ike, request->sa);
	respond(ike, request->sa, &request->datagram, request->header.exchange, &chain);
	tunnel_run(ike, request->sa->tunnel);
	ike->out = NULL;
	pair_apply(p, index, &actions);
	ike_actions_free(&actions);
}

#endif
