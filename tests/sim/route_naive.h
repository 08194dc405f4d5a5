// The rows that the route simulation must publish, by how its destinations forward (route_choice.h).
#ifndef TWINSPAN_TESTS_ROUTE_NAIVE_H
#define TWINSPAN_TESTS_ROUTE_NAIVE_H

#include "tests/sim/route_choice.h"

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

static char *naive_told(const struct world *w, const struct choice *choice, unsigned prefix)
{
	static const struct attributes_of_world none;
	int first = choice->attachment >= 0 ? -1 : choice->first;
	const struct attributes_of_world *learned = first < 0 ? &none : &w->tunnel[first].learned[prefix];
	uint32_t path[8], communities[COMMUNITIES];
	size_t path_length = first < 0 ? 0 : path_of(learned, (unsigned)first, path);
	return told_text(path, path_length, learned->origin, communities, communities_of(learned, communities));
}

static void naive_advertised(const struct world *w, unsigned g, unsigned prefix, const struct choice *choice,
                             struct lines *lines)
{
	for (unsigned c = 0; c < CONNECTIONS; c++) {
		bool back = choice->attachment < 0 &&
		            (!w->gateway[g].transit || of_connection(w, choice->tunnels, c) || kept_local(w, choice, prefix));
		if (forwards(choice) && w->connection[c].here && w->connection[c].gateway == g && w->connection[c].bgp &&
		    !back) {
			char *told = naive_told(w, choice, prefix);
			for (unsigned t = 0; t < TUNNELS; t++) { // once for each node where it has one
				if (w->tunnel[t].here && w->tunnel[t].connection == c) {
					add(lines, format_text("3 c%u/n%u/%s = %s", c, w->tunnel[t].node, pool[prefix], told));
				}
			}
			free(told);
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
