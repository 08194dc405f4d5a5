// Two IKE cores against each other on a virtual clock, over a network with seeded loss, duplication, reordering and delay:
// every suite and group, rekeying of both kinds from both ends with collisions, kills with restoration from the saved states
// between any two steps, losses of all state, silence. All the while each end sends ESP on the child SA that its dataplane
// would use. Held after every step: what is sent on the SA in use is received by the other end (as long as no end has lost the
// tunnel); keys of both ends agree. Held in the end, when the network has calmed down: both tunnels UP, one IKE SA and one
// child SA, the same at both ends. SEEDS says how many seeds (default 1000), SEED runs a single one, TRACE prints what happens.
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

enum { CHAOS_SECONDS = 90, CALM_SECONDS = 180, ROWS_MAX = 64, STATES_MAX = 64 };

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
	uint64_t packets_in[ROWS_MAX];
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
	bool calm, trace;
	uint64_t esp_sent, esp_lost, rekeys;
};

static void broken(const struct world *w, const char *what)
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

static void trace(const struct world *w, int index, const char *what, const char *detail)
{
	if (w->trace) {
		print_message("%9.3f %d %s %s\n", (double)w->now / 1e6, index, what, detail);
	}
}

static uint32_t chance(struct world *w, uint32_t bound)
{
	return random_below(&w->random, bound);
}

// ---- the network ----
static void put_packet(struct world *w, struct packet packet, const uint8_t *octets, size_t length)
{
	if (w->packet_count == w->packet_capacity) {
		w->packet_capacity = w->packet_capacity ? 2 * w->packet_capacity : 64;
		w->packets = reallocate(w->packets, w->packet_capacity, sizeof *w->packets);
	}
	packet.at = w->now + MILLISECONDS(1 + chance(w, w->delay));
	packet.order = w->order++;
	packet.sent = w->now;
	packet.octets = allocate(length + 1);
	if (length > 0) {
		memcpy(packet.octets, octets, length);
	}
	packet.datagram.octets = (struct bytes){packet.octets, length};
	w->packets[w->packet_count++] = packet;
}

static void transmit(struct world *w, struct packet packet, const uint8_t *octets, size_t length)
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
static struct child_row *find_row(struct side *s, uint32_t spi)
{
	for (size_t i = 0; i < s->row_count; i++) {
		if (s->rows[i].inbound.spi == spi) {
			return &s->rows[i];
		}
	}
	return NULL;
}

static void put_row(struct world *w, struct side *s, const struct child_row *row)
{
	struct child_row *found = find_row(s, row->inbound.spi);
	if (!found) {
		if (s->row_count == ROWS_MAX) {
			broken(w, "too many child SAs");
		}
		s->packets_in[s->row_count] = 0;
		s->last_in[s->row_count] = INSTANT_NEVER;
		found = &s->rows[s->row_count++];
	} else if (!secret_equal(&found->inbound.encryption_key, &row->inbound.encryption_key)) {
		broken(w, "a child SA changed its key");
	}
	*found = *row;
}

static void remove_row(struct side *s, uint32_t spi)
{
	for (size_t i = 0; i < s->row_count; i++) {
		if (s->rows[i].inbound.spi == spi) {
			s->row_count--;
			s->rows[i] = s->rows[s->row_count];
			s->packets_in[i] = s->packets_in[s->row_count];
			s->last_in[i] = s->last_in[s->row_count];
			return;
		}
	}
}

static void remove_state(struct side *s, uint64_t key)
{
	for (size_t i = 0; i < s->state_count; i++) {
		if (s->states[i].key == key) {
			free(s->states[i].octets);
			s->states[i] = s->states[--s->state_count];
			return;
		}
	}
}

static void put_state(struct world *w, struct side *s, const struct ike_action *action)
{
	remove_state(s, action->key);
	if (s->state_count == STATES_MAX) {
		broken(w, "too many saved states");
	}
	struct saved *saved = &s->states[s->state_count++];
	*saved = (struct saved){.key = action->key, .octets = allocate(action->length), .length = action->length};
	memcpy(saved->octets, action->octets, action->length);
}

static void apply(struct world *w, int index, struct ike_actions *actions, bool drop_sends)
{
	struct side *s = &w->sides[index];
	for (size_t i = 0; i < actions->count; i++) {
		const struct ike_action *action = &actions->items[i];
		switch (action->kind) {
		case IKE_ACTION_SEND:
			if (w->trace) {
				const uint8_t *h =
				    action->octets + (action->datagram.local_port == IKE_NAT_PORT ? NON_ESP_MARKER_LENGTH : 0);
				char d[96];
				snprintf(d, sizeof d, "%02x%02x%02x%02x %s exchange %u message %u%s", h[0], h[1], h[2], h[3],
				         h[19] & FLAG_RESPONSE ? "response" : "request", h[18], h[23],
				         drop_sends ? " (not sent)" : "");
				trace(w, index, "  send", d);
			}
			if (!drop_sends) {
				transmit(w, (struct packet){.from = index, .datagram = action->datagram}, action->octets,
				         action->length);
			}
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

static void restart(struct world *w, int index, bool lose_state)
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

static void step(struct world *w, int index, const struct ike_event *event)
{
	struct side *s = &w->sides[index];
	struct ike_actions actions = {0};
	ike_step(s->ike, event, w->now, &actions);
	uint32_t kill = w->calm ? 1000 : chance(w, 1000);
	if (kill < w->kills / 2) {
		// Killed before anything of this step was safe: it never was, as if the datagram had been lost.
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
static struct child_row *outbound(struct side *s)
{
	struct child_row *best = NULL;
	for (size_t i = 0; i < s->row_count; i++) {
		if (s->rows[i].outbound_in_use && (!best || s->rows[i].generation > best->generation)) {
			best = &s->rows[i];
		}
	}
	return best;
}

static void send_esp(struct world *w, int index)
{
	struct child_row *row = outbound(&w->sides[index]);
	if (row) {
		transmit(
		    w,
		    (struct packet){.from = index, .esp = true, .spi = row->outbound.spi, .key = row->outbound.encryption_key},
		    NULL, 0);
		w->esp_sent++;
	}
}

static void receive_esp(struct world *w, const struct packet *packet)
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
	instant quiet = packet->sent - SECONDS(45);
	if (w->sides[0].disrupted < quiet && w->sides[1].disrupted < quiet && w->sides[0].status.state == TUNNEL_UP &&
	    w->sides[1].status.state == TUNNEL_UP) {
		broken(w, "a packet was sent on a child SA that the other end does not have");
	}
}

static void tell_usage(struct world *w, int index)
{
	struct side *s = &w->sides[index];
	for (size_t i = 0; i < s->row_count; i++) {
		struct ike_event event = {.kind = IKE_EVENT_USAGE,
		                          .usage = {.inbound_spi = s->rows[i].inbound.spi,
		                                    .packets_in = s->packets_in[i],
		                                    .bytes_in = 100 * s->packets_in[i],
		                                    .last_in = s->last_in[i]}};
		if (s->packets_in[i] > 0) {
			step(w, index, &event);
		}
	}
}

// ---- the course of a run ----
static void deliver(struct world *w, size_t at)
{
	struct packet packet = w->packets[at];
	w->packets[at] = w->packets[--w->packet_count];
	if (packet.esp) {
		receive_esp(w, &packet);
	} else {
		struct ike_datagram *d = &packet.datagram;
		struct ike_event event = {.kind = IKE_EVENT_DATAGRAM,
		                          .datagram = {.local = d->remote,
		                                       .remote = d->local,
		                                       .local_port = d->remote_port,
		                                       .remote_port = d->local_port,
		                                       .octets = d->octets}};
		step(w, !packet.from, &event);
	}
	free(packet.octets);
}

static void happen(struct world *w)
{
	int index = (int)chance(w, 2);
	struct side *s = &w->sides[index];
	switch (chance(w, 24)) {
	case 0:
	case 1:
	case 2:
	case 3:
		s->config.rekey_child_requests++;
		break;
	case 4:
	case 5:
	case 6:
		s->config.rekey_ike_requests++;
		break;
	case 7:
	case 8:
	case 9: // both at once: the collisions
		w->sides[0].config.rekey_child_requests++;
		w->sides[1].config.rekey_child_requests++;
		step(w, !index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &w->sides[!index].config});
		break;
	case 10:
	case 11:
	case 12:
		w->sides[0].config.rekey_ike_requests++;
		w->sides[1].config.rekey_ike_requests++;
		step(w, !index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &w->sides[!index].config});
		break;
	case 13:
	case 14: // one of each
		w->sides[0].config.rekey_ike_requests++;
		w->sides[1].config.rekey_child_requests++;
		step(w, !index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &w->sides[!index].config});
		break;
	case 15:
		if (chance(w, 4) == 0) {
			s->config.restart_requests++;
		}
		break;
	case 16:
		if (chance(w, 8) == 0) {
			restart(w, index, true);
		}
		break;
	case 17:
		if (chance(w, 4) == 0) {
			restart(w, index, false);
		}
		break;
	case 18:
		if (chance(w, 8) == 0) {
			s->deaf = true;
		}
		break;
	case 19:
	case 20:
		w->sides[0].deaf = w->sides[1].deaf = false;
		break;
	default:
		return;
	}
	step(w, index, &(struct ike_event){.kind = IKE_EVENT_TUNNEL, .tunnel = &s->config});
}

// Runs until `until`; ticks give traffic every 100 ms and usage every second.
static void run(struct world *w, instant until)
{
	instant tick = w->now;
	uint64_t ticks = 0;
	while (w->now < until) {
		instant next = tick;
		size_t first = SIZE_MAX;
		for (size_t i = 0; i < w->packet_count; i++) {
			bool sooner =
			    first == SIZE_MAX || w->packets[i].at < w->packets[first].at ||
			    (w->packets[i].at == w->packets[first].at && w->packets[i].order < w->packets[first].order);
			first = sooner ? i : first;
		}
		next = first != SIZE_MAX ? instant_min(next, w->packets[first].at) : next;
		next = instant_min(next, instant_min(ike_deadline(w->sides[0].ike), ike_deadline(w->sides[1].ike)));
		w->now = next > w->now ? next : w->now;
		if (first != SIZE_MAX && w->packets[first].at <= w->now) {
			deliver(w, first);
		}
		for (int i = 0; i < 2; i++) {
			for (int spins = 0; ike_deadline(w->sides[i].ike) <= w->now; spins++) {
				if (spins == 100) {
					broken(w, "a deadline does not go away");
				}
				step(w, i, &(struct ike_event){.kind = IKE_EVENT_TIME});
			}
		}
		if (tick <= w->now) {
			tick += MILLISECONDS(100);
			send_esp(w, 0);
			send_esp(w, 1);
			if (++ticks % 10 == 0) {
				tell_usage(w, 0);
				tell_usage(w, 1);
			}
			if (!w->calm && ticks % 20 == 0) {
				happen(w);
			}
		}
	}
}

static bool mirrored(struct world *w)
{
	struct side *a = &w->sides[0], *b = &w->sides[1];
	struct ike_gauges ga = ike_gauges(a->ike), gb = ike_gauges(b->ike);
	return a->row_count == 1 && b->row_count == 1 && a->rows[0].inbound.spi == b->rows[0].outbound.spi &&
	       b->rows[0].inbound.spi == a->rows[0].outbound.spi && a->rows[0].outbound_in_use && b->rows[0].outbound_in_use &&
	       secret_equal(&a->rows[0].inbound.integrity_key, &b->rows[0].outbound.integrity_key) && ga.ike_sas == 1 &&
	       gb.ike_sas == 1 && ga.child_sas == 1 && gb.child_sas == 1 && a->state_count == 1 && b->state_count == 1 &&
	       ga.half_open == 0 && gb.half_open == 0;
}

static void choose_algorithms(struct world *w, struct algorithms *ike, struct algorithms *child)
{
	static const uint8_t groups[] = {GROUP_CURVE25519, GROUP_ECP_256,   GROUP_ECP_384,   GROUP_ECP_521,
	                                 GROUP_MODP_1024,  GROUP_MODP_2048, GROUP_MODP_1536, GROUP_MODP_3072};
	// Mostly the quick ones, the slow ones now and then; those of 4096 and beyond have their own test.
	uint32_t pick = chance(w, 80);
	uint8_t group = groups[pick < 8 ? pick : pick % 2];
	*ike = (struct algorithms){.encryption = {(uint8_t)(1 + chance(w, 5))},
	                           .integrity = {(uint8_t)(1 + chance(w, 4))},
	                           .groups = {group},
	                           .encryption_count = 1,
	                           .integrity_count = 1,
	                           .group_count = 1};
	*child = *ike;
	child->encryption[0] = (uint8_t)(1 + chance(w, 5));
	child->integrity[0] = (uint8_t)(1 + chance(w, 4));
	child->groups[0] = chance(w, 3) == 0 ? GROUP_NONE : groups[chance(w, 2)];
}

static void make_side(struct world *w, int index, const struct algorithms *ike, const struct algorithms *child,
                      uint32_t lifetime, bool initiate)
{
	struct side *s = &w->sides[index];
	static const char *const addresses[2] = {"198.51.100.17", "203.0.113.1"};
	struct tunnel_config *c = &s->config;
	*c = (struct tunnel_config){.id = "tun-1",
	                            .border_gateway_id = "bgw-1",
	                            .enabled = true,
	                            .initiate = initiate,
	                            .ike = *ike,
	                            .child = *child,
	                            .ike_lifetime = 2 * lifetime,
	                            .child_lifetime = lifetime,
	                            .rekey_margin = lifetime / 4,
	                            .rekey_fuzz = 100,
	                            .replay_window = 1024,
	                            .dpd = true,
	                            .dpd_interval = 10,
	                            .dpd_timeout = 30,
	                            .dpd_action = DPD_RESTART};
	address_parse(addresses[index], &c->local);
	address_parse(addresses[!index], &c->remote);
	snprintf(c->local_id, sizeof c->local_id, "%s", index ? "device@idc.example" : "gateway.cloud.example");
	snprintf(c->remote_id, sizeof c->remote_id, "%s", index ? "gateway.cloud.example" : "device@idc.example");
	c->force_encapsulation = chance(w, 4) == 0;
	secret_set(&s->secret, (struct bytes){(const uint8_t *)"shared.secret.for.the.pair", 26});
	s->disrupted = w->now;
	restart(w, index, true);
}

static void one_seed(uint64_t seed, uint64_t totals[3])
{
	struct world *w = allocate(sizeof *w);
	static const uint32_t losses[] = {0, 0, 5, 15, 25}, delays[] = {5, 50, 300, 1500};
	w->seed = seed;
	w->trace = getenv("TRACE") != NULL;
	random_init_number(&w->random, seed);
	w->now = SECONDS(1000);
	w->loss = losses[chance(w, 5)];
	w->duplicates = chance(w, 2) ? 10 : 0;
	w->delay = delays[chance(w, 4)];
	w->kills = chance(w, 2) ? 20 : 0;
	struct algorithms ike, child;
	choose_algorithms(w, &ike, &child);
	uint32_t lifetime = 30 + chance(w, 4) * 60;
	uint32_t who = chance(w, 4); // mostly both begin
	make_side(w, 0, &ike, &child, lifetime, who != 0);
	make_side(w, 1, &ike, &child, lifetime, who != 1);
	run(w, w->now + SECONDS(CHAOS_SECONDS));
	w->calm = true;
	w->delay = 20;
	w->sides[0].deaf = w->sides[1].deaf = false;
	run(w, w->now + SECONDS(5));
	bool done = false;
	instant end = w->now + SECONDS(CALM_SECONDS);
	while (!done && w->now < end) {
		run(w, w->now + MILLISECONDS(500));
		done = w->sides[0].status.state == TUNNEL_UP && w->sides[1].status.state == TUNNEL_UP && mirrored(w);
	}
	if (!done) {
		broken(w, "in the calm the two ends are not both UP with one and the same IKE SA and child SA");
	}
	totals[0] += w->esp_sent;
	totals[1] += w->esp_lost;
	totals[2] += w->rekeys;
	for (int i = 0; i < 2; i++) {
		ike_free(&w->sides[i].ike);
		while (w->sides[i].state_count > 0) {
			remove_state(&w->sides[i], w->sides[i].states[0].key);
		}
	}
	while (w->packet_count > 0) {
		free(w->packets[--w->packet_count].octets);
	}
	free(w->packets);
	free(w);
}

static void pairs_converge(void **state)
{
	(void)state;
	const char *single = getenv("SEED"), *many = getenv("SEEDS");
	uint64_t first = single ? strtoull(single, NULL, 10) : 1;
	uint64_t count = single ? 1 : many ? strtoull(many, NULL, 10) : 1000;
	uint64_t totals[3] = {0};
	for (uint64_t seed = first; seed < first + count; seed++) {
		one_seed(seed, totals);
	}
	print_message("%" PRIu64 " seeds: %" PRIu64 " rekeyings, %" PRIu64 " ESP packets, %" PRIu64
	              " of them met no SA (all after a loss of state or a dead peer)\n",
	              count, totals[2], totals[0], totals[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(pairs_converge)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
