// The published rows of the route simulation computed from scratch, straight from the product's rules. It shares nothing with
// the core.
#ifndef TWINSPAN_TESTS_ROUTE_NAIVE_H
#define TWINSPAN_TESTS_ROUTE_NAIVE_H

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

static char *group_text(const struct world *w, unsigned g, const struct choice *choice)
{
	char *text = format_text("g%u:", g);
	for (unsigned t = 0; t < TUNNELS; t++) {
		if (choice->tunnels >> t & 1) {
			char *member = format_text("t%u@n%u/c%u", t, w->tunnel[t].node, w->tunnel[t].connection);
			text = join(text, member);
			free(member);
		}
	}
	text = join(text, "of");
	for (unsigned c = 0; c < CONNECTIONS; c++) {
		if (choice->connections >> c & 1) {
			char id[4] = {'c', (char)('0' + c), 0};
			text = join(text, id);
		}
	}
	return text;
}

// The attributes of a path learned through tunnel `t`, -1: none.
static char *attributes_text(const struct world *w, int t, unsigned prefix)
{
	uint32_t path[8];
	return as_text(path, t < 0 ? 0 : path_of(&w->tunnel[t].learned[prefix], (unsigned)t, path));
}

static char *tunnels_text(unsigned tunnels)
{
	char *text = duplicate_text("");
	for (unsigned t = 0; t < TUNNELS; t++) {
		if (tunnels >> t & 1) {
			char id[4] = {'t', (char)('0' + t), 0};
			text = join(text, id);
		}
	}
	return text;
}

static unsigned of_connection(const struct world *w, unsigned tunnels, unsigned c)
{
	for (unsigned t = 0; t < TUNNELS; t++) {
		if (w->tunnel[t].connection != c) {
			tunnels &= ~(1u << t);
		}
	}
	return tunnels;
}

static void line_shown(struct lines *lines, unsigned g, const char *kind, unsigned prefix, const char *key, char *content)
{
	add(lines, format_text("2 g%u/%s/%s/%s = %s", g, kind, pool[prefix], key, content));
	free(content);
}

// Returns the connections that have an effective route by now, as bits.
static unsigned naive_statics(const struct world *w, unsigned g, unsigned prefix, const struct choice *choice,
                              struct lines *lines)
{
	unsigned shown_connections = 0;
	bool vpn = choice->attachment < 0;
	for (unsigned s = 0; s < STATICS; s++) {
		if (!w->route[s].here || w->route[s].gateway != g || w->route[s].prefix != prefix) {
			continue;
		}
		// Of two routes to the same next hop one is shown, and if either is within the quota, that one.
		bool better = false;
		for (unsigned o = 0; o < STATICS; o++) {
			better =
			    better || (o < s && w->route[o].here && w->route[o].gateway == g && w->route[o].prefix == prefix &&
			               w->route[o].to_attachment == w->route[s].to_attachment &&
			               w->route[o].next_hop == w->route[s].next_hop);
		}
		if (better) {
			continue;
		}
		unsigned n = w->route[s].next_hop;
		bool admitted = static_admitted(w, s);
		for (unsigned o = s + 1; o < STATICS; o++) {
			admitted = admitted || (w->route[o].here && w->route[o].gateway == g && w->route[o].prefix == prefix &&
			                        w->route[o].to_attachment == w->route[s].to_attachment &&
			                        w->route[o].next_hop == n && static_admitted(w, o));
		}
		char key[4] = {w->route[s].to_attachment ? 'a' : 'c', (char)('0' + n), 0};
		if (w->route[s].to_attachment) {
			bool yes = choice->is_static && choice->attachment == (int)n && admitted;
			line_shown(lines, g, "STATIC", prefix, key,
			           format_text("att a%u STATIC 0 as %s", n, yes ? "yes" : "no"));
		} else {
			unsigned live = 0;
			for (unsigned t = 0; t < TUNNELS; t++) {
				live |= (unsigned)((static_targets(w, s, g) >> t & 1) && alive(w, t, false)) << t;
			}
			bool yes = vpn && choice->is_static && admitted && live;
			char *tunnels = tunnels_text(yes ? live : 0);
			line_shown(lines, g, "STATIC", prefix, key,
			           format_text("vpn c%u STATIC 0 as %s%s", n, yes ? "yes" : "no", tunnels));
			if (yes) {
				line_shown(lines, g, "EFFECTIVE", prefix, key,
				           format_text("vpn c%u STATIC 0 as yes%s", n, tunnels));
			}
			free(tunnels);
			shown_connections |= (unsigned)yes << n;
		}
	}
	return shown_connections;
}

static void naive_attachments(const struct world *w, unsigned g, unsigned prefix, const struct choice *choice,
                              struct lines *lines)
{
	for (unsigned a = 0; a < ATTACHMENTS; a++) {
		char key[4] = {'a', (char)('0' + a), 0};
		bool yes = choice->attachment == (int)a;
		if (propagates(w, a, g, prefix)) {
			line_shown(lines, g, "PROPAGATED", prefix, key,
			           format_text("att a%u PROPAGATED 0 as %s", a, yes && !choice->is_static ? "yes" : "no"));
		}
		if (yes) {
			line_shown(lines, g, "EFFECTIVE", prefix, key,
			           format_text("att a%u %s 0 as yes", a, choice->is_static ? "STATIC" : "PROPAGATED"));
		}
	}
}

static void naive_learned(const struct world *w, unsigned g, unsigned prefix, const struct choice *choice, struct lines *lines,
                          unsigned shown_connections)
{
	bool vpn = choice->attachment < 0;
	for (unsigned t = 0; t < TUNNELS; t++) {
		if (!learned(w, t, g, prefix)) {
			continue;
		}
		unsigned c = w->tunnel[t].connection;
		char key[4] = {'t', (char)('0' + t), 0}, connection[4] = {'c', (char)('0' + c), 0};
		bool yes = vpn && !choice->is_static && (choice->tunnels >> t & 1);
		char *as = attributes_text(w, (int)t, prefix);
		const char *type = same_as(w, t, g) ? "IBGP" : "EBGP";
		line_shown(lines, g, "PROPAGATED", prefix, key,
		           format_text("vpn c%u %s %u %s %s%s%u:%u t%u", c, type, w->tunnel[t].learned[prefix].metric, as,
		                       yes ? "yes " : "no ", refused(w, g, prefix) ? "refused " : "",
		                       w->tunnel[t].learned[prefix].origin, w->tunnel[t].learned[prefix].med, t));
		if (yes && !(shown_connections >> c & 1)) {
			char *tunnels = tunnels_text(of_connection(w, choice->tunnels, c));
			line_shown(lines, g, "EFFECTIVE", prefix, connection,
			           format_text("vpn c%u %s %u %s yes %u:%u%s", c, type, choice->metric, as,
			                       w->tunnel[t].learned[prefix].origin, w->tunnel[t].learned[prefix].med, tunnels));
			free(tunnels);
			shown_connections |= 1u << c;
		}
		free(as);
	}
}

static void naive_shown(const struct world *w, unsigned g, unsigned prefix, const struct choice *choice, struct lines *lines)
{
	unsigned shown_connections = naive_statics(w, g, prefix, choice, lines);
	naive_attachments(w, g, prefix, choice, lines);
	naive_learned(w, g, prefix, choice, lines, shown_connections);
}

// Any of the routes that forward says that it is to stay here.
static bool kept_local(const struct world *w, const struct choice *choice, unsigned prefix)
{
	for (unsigned t = 0; t < TUNNELS && choice->first >= 0; t++) {
		if ((choice->tunnels >> t & 1) && (w->tunnel[t].learned[prefix].communities & (NO_EXPORT | NO_ADVERTISE))) {
			return true;
		}
	}
	return false;
}

static void naive_advertised(const struct world *w, unsigned g, unsigned prefix, const struct choice *choice,
                             struct lines *lines)
{
	for (unsigned c = 0; c < CONNECTIONS; c++) {
		bool back = choice->attachment < 0 &&
		            (!w->gateway[g].transit || of_connection(w, choice->tunnels, c) || kept_local(w, choice, prefix));
		if (forwards(choice) && w->connection[c].here && w->connection[c].gateway == g && w->connection[c].bgp &&
		    !back) {
			int first = choice->attachment >= 0 ? -1 : choice->first;
			char *as = attributes_text(w, first, prefix);
			for (unsigned t = 0; t < TUNNELS; t++) { // once for each node where it has one
				if (w->tunnel[t].here && w->tunnel[t].connection == c) {
					add(lines, format_text("3 c%u/n%u/%s = %s o%u", c, w->tunnel[t].node, pool[prefix], as,
					                       first < 0 ? 0 : w->tunnel[first].learned[prefix].origin));
				}
			}
			free(as);
		}
	}
}

static void naive_gateway(const struct world *w, unsigned g, struct lines *lines, struct lines *groups)
{
	for (unsigned prefix = 0; prefix < PREFIXES && w->gateway[g].here; prefix++) {
		struct choice choice = choose(w, g, prefix);
		char *group = group_text(w, g, &choice), *key = format_text("g%u", g);
		for (unsigned rank = 0; rank < RANKS; rank++) {
			char bits[16];
			snprintf(bits, sizeof bits, "%s%x", rank == 0 ? "static " : "", choice.candidates[rank]);
			key = choice.candidates[rank] ? join(key, bits) : key;
		}
		if (choice.connections) {
			add(groups, format_text("0 %s = %s", key, group));
		}
		if (forwards(&choice)) {
			char *hop = choice.attachment >= 0 ? format_text("a%d", choice.attachment) : duplicate_text(group);
			add(lines, format_text("1 g%u/%s = %s", g, pool[prefix], hop));
			free(hop);
		}
		free(key);
		free(group);
		naive_shown(w, g, prefix, &choice, lines);
		naive_advertised(w, g, prefix, &choice, lines);
	}
}

#endif
