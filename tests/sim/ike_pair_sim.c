// Two IKE cores against each other on a virtual clock, over a network with seeded loss, duplication, reordering and delay:
// every suite and group, each end with lists of its own, a dataplane that is late, rekeying of both kinds from both ends with
// collisions, kills with restoration from the saved states between any two steps, losses of all state, silence. All the while
// each end sends ESP on the child SA that its dataplane would use. Held after every step: what is sent on the SA in use is
// received by the other end (as long as no end has lost the tunnel); keys of both ends agree. Held in the end, when the network
// has calmed down: both tunnels UP, one IKE SA and one child SA, the same at both ends. SEEDS says how many seeds (default
// 1000), SEED runs a single one, TRACE prints what happens.
#include "tests/sim/ike_world.h"
#include "tests/unit/ike_tunnel.h"

enum { CHAOS_SECONDS = 90, CALM_SECONDS = 180, HAPPENINGS = 24 };

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

// Each seed has some of the happenings and not the others: so a rare one is not always hidden behind a frequent one.
static void happen(struct world *w)
{
	int index = (int)chance(w, 2);
	struct side *s = &w->sides[index];
	uint32_t what = chance(w, HAPPENINGS);
	if (!(w->happenings & 1u << what)) {
		return;
	}
	switch (what) {
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

// Adds up to two others, in any order: each end has a list of its own, and one thing at least is on both.
static uint8_t mixed(struct world *w, uint8_t *list, uint8_t common, const uint8_t *others, uint32_t other_count)
{
	uint8_t count = 1;
	list[0] = common;
	for (uint32_t i = chance(w, 3); i > 0; i--) {
		uint8_t other = others[chance(w, other_count)];
		if (!memchr(list, other, count)) {
			uint32_t place = chance(w, count + 1u);
			memmove(list + place + 1, list + place, count - place);
			list[place] = other;
			count++;
		}
	}
	return count;
}

static void choose_algorithms(struct world *w, struct algorithms ike[2], struct algorithms child[2])
{
	static const uint8_t groups[] = {GROUP_CURVE25519, GROUP_ECP_256,   GROUP_ECP_384,   GROUP_ECP_521,
	                                 GROUP_MODP_1024,  GROUP_MODP_2048, GROUP_MODP_1536, GROUP_MODP_3072};
	static const uint8_t encryption[] = {1, 2, 3, 4, 5}, integrity[] = {1, 2, 3, 4};
	// Mostly the quick ones, the slow ones now and then; those of 4096 and beyond have their own test.
	uint32_t pick = chance(w, 80);
	uint8_t group = groups[pick < 8 ? pick : pick % 2], child_group = chance(w, 3) == 0 ? GROUP_NONE : groups[chance(w, 2)];
	uint8_t cipher[2] = {encryption[chance(w, 5)], encryption[chance(w, 5)]},
	        hash[2] = {integrity[chance(w, 4)], integrity[chance(w, 4)]};
	for (int i = 0; i < 2; i++) {
		ike[i] = child[i] = (struct algorithms){0};
		ike[i].encryption_count = mixed(w, ike[i].encryption, cipher[0], encryption, 5);
		ike[i].integrity_count = mixed(w, ike[i].integrity, hash[0], integrity, 4);
		ike[i].group_count = mixed(w, ike[i].groups, group, groups, 2);
		child[i].encryption_count = mixed(w, child[i].encryption, cipher[1], encryption, 5);
		child[i].integrity_count = mixed(w, child[i].integrity, hash[1], integrity, 4);
		child[i].group_count = mixed(w, child[i].groups, child_group, groups, 2);
	}
}

static void make_side(struct world *w, int index, const struct algorithms *ike, const struct algorithms *child,
                      uint32_t lifetime, bool initiate)
{
	struct side *s = &w->sides[index];
	struct tunnel_config *c = &s->config;
	*c = ike_test_tunnel(index);
	c->initiate = initiate;
	c->ike = *ike;
	c->child = *child;
	c->ike_lifetime = 2 * lifetime;
	c->child_lifetime = lifetime;
	c->rekey_margin = lifetime / 4;
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
	w->barrier = chance(w, 2) ? 0 : 1 + chance(w, 400);
	w->happenings = (uint32_t)random_u64(&w->random) | (chance(w, 3) == 0 ? UINT32_MAX : 0);
	struct algorithms ike[2], child[2];
	choose_algorithms(w, ike, child);
	uint32_t lifetime = 30 + chance(w, 4) * 60;
	uint32_t who = chance(w, 4); // mostly both begin
	make_side(w, 0, &ike[0], &child[0], lifetime, who != 0);
	make_side(w, 1, &ike[1], &child[1], lifetime, who != 1);
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
