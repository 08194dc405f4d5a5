// The world of two cores of ike: their network, their dataplanes, their saved states and their traffic, all drawn from one
// seed.
#ifndef TWINSPAN_TESTS_IKE_WORLD_H
#define TWINSPAN_TESTS_IKE_WORLD_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/random.h"
#include "services/ike/ike.h"
#include "services/ike/wire/ikev2.h"

enum { ROWS_MAX = 64, STATES_MAX = 64 };
// After a loss of state or of the tunnel both ends need so long to know the same again, whatever the network does to them.
enum { DISRUPTED_SECONDS = 20 };

struct saved {
	uint64_t key;
	uint8_t *octets;
	size_t length;
};
struct side {
	struct ike *ike;
	struct tunnel_config config;
	struct secret secret;
	struct saved states[STATES_MAX];
	size_t state_count;
	struct child_row rows[ROWS_MAX];
	uint64_t packets_in[ROWS_MAX], packets_out[ROWS_MAX];
	instant last_in[ROWS_MAX];
	size_t row_count;
	struct tunnel_status_row status;
	instant disrupted; // when this end last lost or gained a tunnel, not counting rekeying
	bool deaf;         // its network is cut
};
struct packet {
	instant at;
	uint64_t order;
	int from;
	bool esp;
	uint32_t spi;
	instant sent;
	struct secret key;
	struct ike_datagram datagram;
	uint8_t *octets;
};
struct world {
	uint64_t seed;
	struct random random;
	instant now;
	uint64_t order;
	struct side sides[2];
	struct packet *packets;
	size_t packet_count, packet_capacity;
	uint32_t loss, duplicates, delay; // percent, percent, milliseconds
	uint32_t kills;                   // per mille of the steps
	uint32_t barrier;    // how long a datagram waits for the dataplane to have what was put before it, in milliseconds
	uint32_t happenings; // which of them there are, a bit each
	bool calm, trace;
	uint64_t esp_sent, esp_lost, rekeys;
};

static inline void broken(const struct world *w, const char *what)
{
	print_error("SEED=%" PRIu64 " at %.3f s: %s\n", w->seed, (double)w->now / 1e6, what);
	for (int i = 0; i < 2; i++) {
		const struct side *s = &w->sides[i];
		struct ike_gauges g = ike_gauges(s->ike);
		print_error("  side %d: state %d (%s) ike-sas %zu child-sas %zu\n", i, s->status.state, s->status.reason,
		            g.ike_sas, g.child_sas);
		for (size_t k = 0; k < s->row_count; k++) {
			print_error("    in %08x out %08x use %d generation %" PRIu64 "\n", s->rows[k].inbound.spi,
			            s->rows[k].outbound.spi, s->rows[k].outbound_in_use, s->rows[k].generation);
		}
	}
	fail();
}

static inline void trace(const struct world *w, int index, const char *what, const char *detail)
{
	if (w->trace) {
		print_message("%9.3f %d %s %s\n", (double)w->now / 1e6, index, what, detail);
	}
}

static inline uint32_t chance(struct world *w, uint32_t bound)
{
	return random_below(&w->random, bound);
}

// ---- the network ----
static inline void put_packet(struct world *w, struct packet packet, const uint8_t *octets, size_t length)
{
	if (w->packet_count == w->packet_capacity) {
		w->packet_capacity = w->packet_capacity ? 2 * w->packet_capacity : 64;
		w->packets = reallocate(w->packets, w->packet_capacity, sizeof *w->packets);
	}
	packet.at =
	    w->now + MILLISECONDS(1 + chance(w, w->delay) + (!packet.esp && w->barrier > 0 ? chance(w, w->barrier) : 0));
	packet.order = w->order++;
	packet.sent = w->now;
	packet.octets = allocate(length + 1);
	if (length > 0) {
		memcpy(packet.octets, octets, length);
	}
	packet.datagram.octets = (struct bytes){packet.octets, length};
	w->packets[w->packet_count++] = packet;
}

static inline void transmit(struct world *w, struct packet packet, const uint8_t *octets, size_t length)
{
	if (w->sides[0].deaf || w->sides[1].deaf || (!w->calm && chance(w, 100) < w->loss)) {
		return;
	}
	put_packet(w, packet, octets, length);
	if (!w->calm && chance(w, 100) < w->duplicates) {
		put_packet(w, packet, octets, length);
	}
}

// ---- a side ----
static inline struct child_row *find_row(struct side *s, uint32_t spi)
{
	for (size_t i = 0; i < s->row_count; i++) {
		if (s->rows[i].inbound.spi == spi) {
			return &s->rows[i];
		}
	}
	return NULL;
}

static inline void put_row(struct world *w, struct side *s, const struct child_row *row)
{
	struct child_row *found = find_row(s, row->inbound.spi);
	if (!found) {
		if (s->row_count == ROWS_MAX) {
			broken(w, "too many child SAs");
		}
		s->packets_in[s->row_count] = s->packets_out[s->row_count] = 0;
		s->last_in[s->row_count] = INSTANT_NEVER;
		found = &s->rows[s->row_count++];
	} else if (!secret_equal(&found->inbound.encryption_key, &row->inbound.encryption_key)) {
		broken(w, "a child SA changed its key");
	}
	*found = *row;
}

static inline void remove_row(struct side *s, uint32_t spi)
{
	for (size_t i = 0; i < s->row_count; i++) {
		if (s->rows[i].inbound.spi == spi) {
			s->row_count--;
			s->rows[i] = s->rows[s->row_count];
			s->packets_in[i] = s->packets_in[s->row_count];
			s->packets_out[i] = s->packets_out[s->row_count];
			s->last_in[i] = s->last_in[s->row_count];
			return;
		}
	}
}

static inline void remove_state(struct side *s, uint64_t key)
{
	for (size_t i = 0; i < s->state_count; i++) {
		if (s->states[i].key == key) {
			free(s->states[i].octets);
			s->states[i] = s->states[--s->state_count];
			return;
		}
	}
}

static inline void put_state(struct world *w, struct side *s, const struct ike_action *action)
{
	remove_state(s, action->key);
	if (s->state_count == STATES_MAX) {
		broken(w, "too many saved states");
	}
	struct saved *saved = &s->states[s->state_count++];
	*saved = (struct saved){.key = action->key, .octets = allocate(action->length), .length = action->length};
	memcpy(saved->octets, action->octets, action->length);
}

// A datagram leaves when what it waits for is safe; one that waits for nothing leaves in any case.
static inline void leave(struct world *w, int index, const struct ike_action *action, bool safe)
{
	bool leaves = safe || action->stateless;
	if (w->trace) {
		const uint8_t *h = action->octets + (action->datagram.local_port == IKE_NAT_PORT ? NON_ESP_MARKER_LENGTH : 0);
		char d[96];
		snprintf(d, sizeof d, "%02x%02x%02x%02x %s exchange %u message %u%s", h[0], h[1], h[2], h[3],
		         h[19] & FLAG_RESPONSE ? "response" : "request", h[18], h[23], leaves ? "" : " (not sent)");
		trace(w, index, "  send", d);
	}
	if (leaves) {
		transmit(w, (struct packet){.from = index, .datagram = action->datagram}, action->octets, action->length);
	}
}

static inline void apply(struct world *w, int index, struct ike_actions *actions, bool drop_sends)
{
	struct side *s = &w->sides[index];
	for (size_t i = 0; i < actions->count; i++) {
		const struct ike_action *action = &actions->items[i];
		switch (action->kind) {
		case IKE_ACTION_SEND:
			leave(w, index, action, !drop_sends);
			break;
		case IKE_ACTION_PUT_CHILD: {
			char d[64];
			snprintf(d, sizeof d, "%08x use %d", action->child->inbound.spi, action->child->outbound_in_use);
			trace(w, index, "  put", d);
			put_row(w, s, action->child);
			break;
		}
		case IKE_ACTION_REMOVE_CHILD:
			trace(w, index, "  remove", "");
			remove_row(s, action->child->inbound.spi);
			break;
		case IKE_ACTION_PUT_STATE:
			put_state(w, s, action);
			break;
		case IKE_ACTION_REMOVE_STATE:
			remove_state(s, action->key);
			break;
		case IKE_ACTION_STATUS:
			s->status = *action->status;
			break;
		case IKE_ACTION_REMOVE_STATUS:
			break;
		case IKE_ACTION_EVENT:
			trace(w, index, action->event->event, action->event->detail);
			if (strcmp(action->event->event, "tunnel-down") == 0 ||
			    strcmp(action->event->event, "ike-sa-established") == 0) {
				s->disrupted = w->now;
			}
			if (strstr(action->event->event, "rekeyed")) {
				w->rekeys++;
			}
			break;
		}
	}
	ike_actions_clear(actions);
}

static inline void restart(struct world *w, int index, bool lose_state)
{
	struct side *s = &w->sides[index];
	uint8_t seed[32];
	trace(w, index, lose_state ? "begun with nothing" : "restored", "");
	random_fill(&w->random, seed, sizeof seed);
	ike_free(&s->ike);
	s->ike = ike_new(seed);
	struct saved old[STATES_MAX];
	size_t old_count = s->state_count;
	memcpy(old, s->states, sizeof old);
	struct child_row *rows = allocate_array(ROWS_MAX, sizeof *rows);
	size_t row_count = s->row_count;
	memcpy(rows, s->rows, sizeof s->rows);
	s->state_count = s->row_count = 0; // the tables of a new incarnation are empty until it fills them
	struct ike_actions actions = {0};
	for (size_t i = 0; i < old_count; i++) {
		struct ike_event event = {.kind = IKE_EVENT_RESTORE, .bytes = {old[i].octets, old[i].length}};
		if (!lose_state) {
			ike_step(s->ike, &event, w->now, &actions);
			apply(w, index, &actions, false);
		}
		free(old[i].octets);
	}
	ike_step(s->ike, &(struct ike_event){.kind = IKE_EVENT_START}, w->now, &actions);
	apply(w, index, &actions, false);
	ike_step(s->ike, &(struct ike_event){.kind = IKE_EVENT_SECRET, .text = s->config.id, .secret = &s->secret}, w->now,
	         &actions);
	apply(w, index, &actions, false);
	ike_step(s->ike, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &s->config}, w->now, &actions);
	apply(w, index, &actions, false);
	ike_step(s->ike, &(struct ike_event){.kind = IKE_EVENT_TUNNELS_KNOWN}, w->now, &actions);
	apply(w, index, &actions, false);
	ike_actions_free(&actions);
	// What a restored core did not put again is gone from the dataplane: it must have been lingering or unfinished only.
	for (size_t i = 0; i < row_count && !lose_state && s->status.state == TUNNEL_UP; i++) {
		bool kept = find_row(s, rows[i].inbound.spi) != NULL;
		if (!kept && rows[i].outbound_in_use) {
			broken(w, "a restart lost the child SA in use");
		}
	}
	free(rows);
	if (lose_state) {
		s->disrupted = w->now;
	}
}

static inline void step(struct world *w, int index, const struct ike_event *event)
{
	struct side *s = &w->sides[index];
	struct ike_actions actions = {0};
	ike_step(s->ike, event, w->now, &actions);
	uint32_t kill = w->calm ? 1000 : chance(w, 1000);
	if (kill < w->kills / 2) {
		// Killed before anything of this step was safe: it never was, but for datagrams that wait for nothing.
		for (size_t i = 0; i < actions.count; i++) {
			if (actions.items[i].kind == IKE_ACTION_SEND) {
				leave(w, index, &actions.items[i], false);
			}
		}
		ike_actions_free(&actions);
		restart(w, index, false);
		return;
	}
	apply(w, index, &actions, kill < w->kills); // or killed before its datagrams left
	ike_actions_free(&actions);
	if (kill < w->kills) {
		restart(w, index, false);
	}
}

// ---- traffic ----
static inline struct child_row *outbound(struct side *s)
{
	struct child_row *best = NULL;
	for (size_t i = 0; i < s->row_count; i++) {
		if (s->rows[i].outbound_in_use && (!best || s->rows[i].generation > best->generation)) {
			best = &s->rows[i];
		}
	}
	return best;
}

static inline void send_esp(struct world *w, int index)
{
	struct child_row *row = outbound(&w->sides[index]);
	if (row) {
		transmit(
		    w,
		    (struct packet){.from = index, .esp = true, .spi = row->outbound.spi, .key = row->outbound.encryption_key},
		    NULL, 0);
		w->sides[index].packets_out[row - w->sides[index].rows]++;
		w->esp_sent++;
	}
}

static inline void receive_esp(struct world *w, const struct packet *packet)
{
	struct side *s = &w->sides[!packet->from];
	struct child_row *row = find_row(s, packet->spi);
	if (row) {
		if (!secret_equal(&row->inbound.encryption_key, &packet->key)) {
			broken(w, "the ends of a child SA have different keys");
		}
		s->packets_in[row - s->rows]++;
		s->last_in[row - s->rows] = w->now;
		return;
	}
	w->esp_lost++;
	instant quiet = packet->sent - SECONDS(DISRUPTED_SECONDS);
	if (w->sides[0].disrupted < quiet && w->sides[1].disrupted < quiet && w->sides[0].status.state == TUNNEL_UP &&
	    w->sides[1].status.state == TUNNEL_UP) {
		broken(w, "a packet was sent on a child SA that the other end does not have");
	}
}

static inline void tell_usage(struct world *w, int index)
{
	struct side *s = &w->sides[index];
	for (size_t i = 0; i < s->row_count; i++) {
		struct ike_event event = {.kind = IKE_EVENT_USAGE,
		                          .usage = {.inbound_spi = s->rows[i].inbound.spi,
		                                    .packets_in = s->packets_in[i],
		                                    .bytes_in = 100 * s->packets_in[i],
		                                    .packets_out = s->packets_out[i],
		                                    .bytes_out = 100 * s->packets_out[i],
		                                    .last_in = s->last_in[i]}};
		if (s->packets_in[i] > 0 || s->packets_out[i] > 0) {
			step(w, index, &event);
		}
	}
}

#endif
