// How each destination of the route simulation forwards, computed from scratch, straight from the product's rules. It shares
// nothing with the core.
#ifndef TWINSPAN_TESTS_ROUTE_CHOICE_H
#define TWINSPAN_TESTS_ROUTE_CHOICE_H

#include "tests/sim/route_world.h"

static bool heard(const struct world *w, unsigned n, bool bgp)
{
	return !(w->node[n].here && (w->node[n].gone || (bgp && w->node[n].bgp_silent)));
}

// Packets pass through the tunnel; `session`: and what was learned over it holds.
static bool alive(const struct world *w, unsigned t, bool session)
{
	return w->tunnel[t].here && w->tunnel[t].admin && w->tunnel[t].up && w->connection[w->tunnel[t].connection].here &&
	       heard(w, w->tunnel[t].node, session) && (!session || w->tunnel[t].established);
}

static bool attached(const struct world *w, unsigned a, unsigned g)
{
	return w->attachment[a].here && w->attachment[a].gateway == g && w->vpc[w->attachment[a].vpc].here;
}

static bool propagates(const struct world *w, unsigned a, unsigned g, unsigned prefix)
{
	for (unsigned s = 0; w->gateway[g].here && attached(w, a, g) && s < SUBNETS; s++) {
		if (w->subnet[s].here && w->subnet[s].vpc == w->attachment[a].vpc && w->subnet[s].prefix == prefix &&
		    (w->attachment[a].propagation == 0 ||
		     (w->attachment[a].propagation == 1 && (w->attachment[a].subnets >> s & 1)))) {
			return true;
		}
	}
	return false;
}

static bool older(const struct world *w, unsigned a, unsigned b)
{
	return w->attachment[a].order != w->attachment[b].order ? w->attachment[a].order < w->attachment[b].order : a < b;
}

// Says since when each attachment propagates what it does; to be called whenever the core settles, for that is when it looks.
static void update_places(struct world *w)
{
	w->clock++;
	for (unsigned g = 0; g < GATEWAYS; g++) {
		for (unsigned a = 0; a < ATTACHMENTS; a++) {
			for (unsigned q = 0; q < PREFIXES; q++) {
				uint64_t *place = &w->place[g][a][q];
				if (propagates(w, a, g, q) &&
				    !*place) { // of those that begin together the older attachment first
					w->tie[g][a][q] = w->attachment[a].order * ATTACHMENTS + a;
				}
				*place = !propagates(w, a, g, q) ? 0 : *place ? *place : w->clock;
			}
		}
	}
}

static bool propagated_before(const struct world *w, unsigned g, unsigned a, unsigned p, unsigned b, unsigned q)
{
	return w->place[g][a][p] != w->place[g][b][q] ? w->place[g][a][p] < w->place[g][b][q]
	                                              : w->tie[g][a][p] < w->tie[g][b][q];
}

static bool blocked(const struct world *w, unsigned a, unsigned g, unsigned prefix)
{
	for (unsigned b = 0; b < ATTACHMENTS; b++) {
		for (unsigned q = 0; q < PREFIXES; q++) {
			if (w->attachment[b].vpc != w->attachment[a].vpc && propagates(w, b, g, q) &&
			    propagated_before(w, g, b, q, a, prefix) && prefix_overlaps(&parsed[prefix], &parsed[q])) {
				return true;
			}
		}
	}
	return false;
}

static bool homed(const struct world *w, unsigned t, unsigned g)
{
	return w->tunnel[t].here && w->connection[w->tunnel[t].connection].here &&
	       w->connection[w->tunnel[t].connection].gateway == g;
}

static bool learned(const struct world *w, unsigned t, unsigned g, unsigned prefix)
{
	return homed(w, t, g) && w->tunnel[t].learned[prefix].here;
}

static unsigned limit_of(const struct world *w, unsigned g, bool statics)
{
	unsigned own = w->gateway[g].tenant, tenant = w->quota[own].here ? own : TENANTS;
	return !w->quota[tenant].here ? UINT32_MAX : statics ? w->quota[tenant].statics : w->quota[tenant].learned;
}

// A learned prefix that would take what is not the customer's.
static bool refused(const struct world *w, unsigned g, unsigned prefix)
{
	for (unsigned a = 0; a < ATTACHMENTS; a++) {
		for (unsigned q = 0; q < PREFIXES; q++) {
			if (attached(w, a, g) && (w->vpc[w->attachment[a].vpc].blocks >> q & 1) &&
			    prefix_contains(&parsed[q], &parsed[prefix])) {
				return true;
			}
		}
	}
	for (unsigned i = 0; i < RESERVED; i++) {
		if (w->reserved[i].here &&
		    prefix_contains_address(&parsed[prefix], &parsed_addresses[w->reserved[i].address]) &&
		    parsed[prefix].length > (parsed[prefix].address.length == 4 ? 16 : 48)) {
			return true;
		}
	}
	return strncmp(pool[prefix], "169.254.", 8) == 0;
}

static bool static_admitted(const struct world *w, unsigned s)
{
	unsigned before = 0;
	for (unsigned o = 0; o < STATICS; o++) {
		before += o != s && w->route[o].here && w->route[o].gateway == w->route[s].gateway &&
		          (w->route[o].created < w->route[s].created || (w->route[o].created == w->route[s].created && o < s));
	}
	return before < limit_of(w, w->route[s].gateway, true);
}

static bool learned_admitted(const struct world *w, unsigned g, unsigned prefix)
{
	unsigned before = 0;
	for (unsigned q = 0; q < PREFIXES; q++) {
		bool any = false;
		for (unsigned t = 0; t < TUNNELS; t++) {
			any = any || learned(w, t, g, q);
		}
		before += any && w->order[g][q] < w->order[g][prefix];
	}
	return before < limit_of(w, g, false);
}

static bool same_as(const struct world *w, unsigned t, unsigned g)
{
	return w->tunnel[t].asn != 0 && w->tunnel[t].asn == w->gateway[g].asn;
}

enum { RANKS = 16 };
struct choice {           // how a destination of a gateway forwards
	int attachment;   // or -1
	unsigned tunnels; // bits: all live and equally best
	unsigned metric;
	int first; // learned: the tunnel whose attributes are shown; -1: none
	bool is_static;
	unsigned candidates[RANKS]; // bits of tunnels of each rank: 0 static routes, then learned ones from the best on
	unsigned connections;
};

static unsigned static_targets(const struct world *w, unsigned s, unsigned g)
{
	unsigned c = w->route[s].next_hop, tunnels = 0;
	for (unsigned t = 0; t < TUNNELS && w->connection[c].here && w->connection[c].gateway == g; t++) {
		tunnels |= (unsigned)(w->tunnel[t].here && w->tunnel[t].connection == c) << t;
	}
	return tunnels;
}

// The place of a learned route in the order but for its MED: route type, metric, shutdown, origin.
static unsigned class_of(const struct world *w, unsigned t, unsigned g, unsigned prefix)
{
	const struct attributes_of_world *learned = &w->tunnel[t].learned[prefix];
	return (same_as(w, t, g) ? 10000u : 0u) + learned->metric * 1000 + (learned->communities & SHUTDOWN ? 100u : 0u) +
	       learned->origin * 10;
}

static bool usable(const struct world *w, unsigned t, unsigned g, unsigned prefix)
{
	return learned(w, t, g, prefix) && w->connection[w->tunnel[t].connection].bgp && learned_admitted(w, g, prefix) &&
	       !refused(w, g, prefix);
}

// How many different MEDs of its own neighbour and class are lower.
static unsigned med_rank(const struct world *w, unsigned t, unsigned g, unsigned prefix)
{
	const struct attributes_of_world *own = &w->tunnel[t].learned[prefix];
	unsigned rank = 0;
	for (unsigned med = 0; med < own->med; med++) {
		bool any = false;
		for (unsigned o = 0; o < TUNNELS; o++) {
			const struct attributes_of_world *other = &w->tunnel[o].learned[prefix];
			unsigned neighbour = other->metric ? 1 + other->neighbour : 0; // an empty path has none
			any = any || (usable(w, o, g, prefix) && other->med == med &&
			              neighbour == (own->metric ? 1 + own->neighbour : 0) &&
			              class_of(w, o, g, prefix) == class_of(w, t, g, prefix));
		}
		rank += any;
	}
	return rank;
}

static void rank_learned(const struct world *w, unsigned g, unsigned prefix, unsigned candidates[static RANKS])
{
	unsigned keys[TUNNELS], rank = 1;
	for (unsigned t = 0; t < TUNNELS; t++) {
		keys[t] = usable(w, t, g, prefix) ? class_of(w, t, g, prefix) + med_rank(w, t, g, prefix) : UINT32_MAX;
	}
	for (;;) {
		unsigned least = UINT32_MAX;
		for (unsigned t = 0; t < TUNNELS; t++) {
			least = keys[t] < least ? keys[t] : least;
		}
		if (least == UINT32_MAX) {
			return;
		}
		for (unsigned t = 0; t < TUNNELS; t++) {
			if (keys[t] == least) {
				candidates[rank] |= 1u << t;
				keys[t] = UINT32_MAX;
			}
		}
		rank++;
	}
}

// The attachment that forwards, -1: none; and the tunnels of static routes.
static int choose_attachment(const struct world *w, unsigned g, unsigned prefix, struct choice *choice)
{
	int static_best = -1, propagated_best = -1;
	for (unsigned s = 0; s < STATICS; s++) {
		if (!w->route[s].here || w->route[s].gateway != g || w->route[s].prefix != prefix || !static_admitted(w, s)) {
			continue;
		}
		unsigned a = w->route[s].next_hop;
		if (!w->route[s].to_attachment) {
			choice->candidates[0] |= static_targets(w, s, g);
		} else if (attached(w, a, g) && (static_best < 0 || older(w, a, (unsigned)static_best))) {
			static_best = (int)a;
		}
	}
	for (unsigned a = 0; a < ATTACHMENTS; a++) {
		if (propagates(w, a, g, prefix) && !blocked(w, a, g, prefix) &&
		    (propagated_best < 0 || older(w, a, (unsigned)propagated_best))) {
			propagated_best = (int)a;
		}
	}
	choice->is_static = static_best >= 0;
	return static_best >= 0 ? static_best : propagated_best;
}

static struct choice choose(const struct world *w, unsigned g, unsigned prefix)
{
	struct choice choice = {.attachment = -1, .first = -1};
	if (!w->gateway[g].here) {
		return choice;
	}
	choice.attachment = choose_attachment(w, g, prefix, &choice);
	rank_learned(w, g, prefix, choice.candidates);
	unsigned seen = 0;
	for (unsigned rank = 0; rank < RANKS; rank++) {
		unsigned all = choice.candidates[rank], live = 0;
		for (unsigned t = 0; t < TUNNELS; t++) {
			live |= (unsigned)((all >> t & 1) && alive(w, t, rank > 0)) << t;
			choice.connections |= (all >> t & 1) << w->tunnel[t].connection;
		}
		choice.candidates[rank] &= ~seen;
		seen |= all;
		if (live && !choice.tunnels) {
			choice.tunnels = live;
			choice.is_static = choice.attachment >= 0 ? choice.is_static : rank == 0;
			choice.first = rank == 0 ? -1 : __builtin_ctz(live);
			choice.metric = rank == 0 ? 0 : w->tunnel[choice.first].learned[prefix].metric;
		}
	}
	return choice;
}

static bool forwards(const struct choice *choice)
{
	return choice->attachment >= 0 || choice->tunnels;
}

#endif
