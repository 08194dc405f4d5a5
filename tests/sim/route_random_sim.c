// Random events into the route core, and after each batch the published rows must be those that a from-scratch computation
// gives. The computation below is written straight from the product's rules over plain arrays and shares nothing with the core.
// SEEDS sets how many run, SEED runs a single one.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/base/random.h"
#include "services/route/route.h"

enum { NODES = 3, GATEWAYS = 2, VPCS = 3, SUBNETS = 7, TABLES = 4, ATTACHMENTS = 5, CONNECTIONS = 4, TUNNELS = 7, STATICS = 7 };
enum { STATIC_QUOTA = 3, LEARNED_QUOTA = 4 };
static const char *const pool[] = {"10.0.0.0/16", "10.0.0.0/24",    "10.0.1.0/24",    "10.0.1.128/25", "10.1.0.0/16",
                                   "0.0.0.0/0",   "192.168.0.0/16", "192.168.7.0/24", "172.16.0.0/12", "fd00:1::/64"};
enum { PREFIXES = sizeof pool / sizeof pool[0] };

// ---- the inputs as they stand ----
struct world {
	struct {
		bool here, gone;
	} node[NODES];
	struct {
		bool here, transit;
		uint32_t asn;
		unsigned nodes; // bits
	} gateway[GATEWAYS];
	struct {
		bool here;
		unsigned blocks;
	} vpc[VPCS];
	struct {
		bool here;
		unsigned vpc, prefix;
	} subnet[SUBNETS];
	struct {
		bool here;
		unsigned vpc;
		unsigned static_count, static_prefix[3], static_gateway[3];
		unsigned propagations; // bits of gateways
		unsigned ranges[GATEWAYS];
	} table[TABLES];
	struct {
		bool here;
		unsigned gateway, vpc, propagation, subnets;
		uint64_t order;
	} attachment[ATTACHMENTS];
	struct {
		bool here, bgp;
		unsigned gateway;
	} connection[CONNECTIONS];
	struct {
		bool here, admin, up;
		unsigned connection, node;
		uint32_t asn;
		bool learned[PREFIXES];
		unsigned metric[PREFIXES];
	} tunnel[TUNNELS];
	struct {
		bool here, to_attachment;
		unsigned gateway, prefix, next_hop, created;
	} route[STATICS];
	uint64_t order[GATEWAYS][PREFIXES]; // as the core tells it
};

// ---- what the core published ----
struct published {
	struct map *rows[ROUTE_TABLE_COUNT];
	const struct world *world;
	uint64_t order[GATEWAYS][PREFIXES];
};

static struct prefix parsed[PREFIXES];

static unsigned prefix_index(const struct prefix *prefix)
{
	for (unsigned i = 0; i < PREFIXES; i++) {
		if (prefix_equal(prefix, &parsed[i])) {
			return i;
		}
	}
	fail_msg("unknown prefix");
	return 0;
}

static char *join(char *text, const char *more)
{
	char *joined = format_text("%s %s", text, more);
	free(text);
	return joined;
}

static char *as_text(const uint32_t *path, size_t count)
{
	char *text = duplicate_text("as");
	for (size_t i = 0; i < count; i++) {
		char number[16];
		snprintf(number, sizeof number, "%u", path[i]);
		text = join(text, number);
	}
	return text;
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *describe_group(const struct route_action *action)
{
	char *text = format_text("%s:", action->group.gateway_id);
	for (size_t i = 0; i < action->group.member_count; i++) {
		const struct route_member *m = &action->group.members[i];
		char *member = format_text("%s@%s/%s", m->tunnel_id, m->node_id, m->connection_id);
		text = join(text, member);
		free(member);
	}
	const char *ids[CONNECTIONS];
	for (size_t i = 0; i < action->group.connection_count; i++) {
		ids[i] = action->group.connection_ids[i];
	}
	qsort(ids, action->group.connection_count, sizeof ids[0], compare_text);
	text = join(text, "of");
	for (size_t i = 0; i < action->group.connection_count; i++) {
		text = join(text, ids[i]);
	}
	return text;
}

static char *describe(const struct route_action *action)
{
	switch (action->table) {
	case ROUTE_TABLE_GROUP:
		return describe_group(action);
	case ROUTE_TABLE_EFFECTIVE:
		return duplicate_text(action->effective.attachment_id ? action->effective.attachment_id
		                                                      : action->effective.group_id);
	case ROUTE_TABLE_SHOWN: {
		char *as = as_text(action->shown.as_path, action->shown.as_count);
		char *text =
		    format_text("%s %s %s %u %s %s", action->shown.to_attachment ? "att" : "vpn", action->shown.next_hop_id,
		                action->shown.type, action->shown.metric, as, action->shown.effective ? "yes" : "no");
		free(as);
		for (size_t i = 0; i < action->shown.tunnel_count; i++) {
			text = join(text, action->shown.tunnel_ids[i]);
		}
		assert_true(action->shown.effective == (action->shown.reason[0] == '\0'));
		return text;
	}
	case ROUTE_TABLE_ADVERTISED:
		return as_text(action->advertised.as_path, action->advertised.as_count);
	case ROUTE_TABLE_VPC: {
		char *as = as_text(action->vpc.as_path, action->vpc.as_count);
		char *text = format_text("%s %s %s %s %s", action->vpc.vpc_id, action->vpc.attachment_id,
		                         action->vpc.effective ? "yes" : "no", as, action->vpc.group_id);
		free(as);
		assert_true(action->vpc.effective == (action->vpc.reason[0] == '\0'));
		return text;
	}
	case ROUTE_TABLE_COUNT:
		break;
	}
	return NULL;
}

static void publish(void *context, const struct route_action *action)
{
	struct published *out = context;
	struct map *rows = out->rows[action->table];
	char *value = action->removed ? NULL : describe(action);
	char *before = value ? map_insert_text(rows, action->key, value) : map_remove_text(rows, action->key);
	assert_true(value || before); // nothing is removed that was not there
	free(before);
	if (action->table == ROUTE_TABLE_SHOWN && !action->removed && action->shown.order) {
		out->order[action->shown.gateway_id[1] - '0'][prefix_index(&action->shown.destination)] = action->shown.order;
	}
	if (action->table == ROUTE_TABLE_GROUP &&
	    !action->removed) { // a member is alive at the very moment it is said to be one
		for (size_t i = 0; i < action->group.member_count; i++) {
			unsigned t = (unsigned)(action->group.members[i].tunnel_id[1] - '0');
			assert_true(out->world->tunnel[t].here && out->world->tunnel[t].up);
		}
	}
	// A row never refers to a group that is not there.
	const char *group = action->removed ? NULL
	                    : action->table == ROUTE_TABLE_EFFECTIVE && !action->effective.attachment_id
	                        ? action->effective.group_id
	                    : action->table == ROUTE_TABLE_VPC && action->vpc.group_id[0] ? action->vpc.group_id
	                                                                                  : NULL;
	assert_true(!group || map_find_text(out->rows[ROUTE_TABLE_GROUP], group));
}

// ---- the same from scratch ----
struct lines {
	char *items[4096];
	size_t count;
};

static void add(struct lines *lines, char *text)
{
	assert_true(lines->count < 4096);
	lines->items[lines->count++] = text;
}

static bool alive(const struct world *w, unsigned t)
{
	return w->tunnel[t].here && w->tunnel[t].admin && w->tunnel[t].up && w->connection[w->tunnel[t].connection].here &&
	       !(w->node[w->tunnel[t].node].here && w->node[w->tunnel[t].node].gone);
}

static bool attached(const struct world *w, unsigned a, unsigned g)
{
	return w->attachment[a].here && w->attachment[a].gateway == g && w->vpc[w->attachment[a].vpc].here;
}

static bool propagates(const struct world *w, unsigned a, unsigned g, unsigned prefix)
{
	for (unsigned s = 0; attached(w, a, g) && s < SUBNETS; s++) {
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

static bool blocked(const struct world *w, unsigned a, unsigned g, unsigned prefix)
{
	for (unsigned b = 0; b < ATTACHMENTS; b++) {
		for (unsigned q = 0; q < PREFIXES; q++) {
			if (w->attachment[b].vpc != w->attachment[a].vpc && older(w, b, a) && propagates(w, b, g, q) &&
			    prefix_overlaps(&parsed[prefix], &parsed[q])) {
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
	return homed(w, t, g) && w->tunnel[t].learned[prefix];
}

static bool static_admitted(const struct world *w, unsigned s)
{
	unsigned before = 0;
	for (unsigned o = 0; o < STATICS; o++) {
		before += o != s && w->route[o].here && w->route[o].gateway == w->route[s].gateway &&
		          (w->route[o].created < w->route[s].created || (w->route[o].created == w->route[s].created && o < s));
	}
	return before < STATIC_QUOTA;
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
	return before < LEARNED_QUOTA;
}

static bool same_as(const struct world *w, unsigned t, unsigned g)
{
	return w->tunnel[t].asn != 0 && w->tunnel[t].asn == w->gateway[g].asn;
}

struct choice {           // how a destination of a gateway forwards
	int attachment;   // or -1
	unsigned tunnels; // bits: all live and equally best
	unsigned metric;
	int first; // learned: the tunnel whose attributes are shown; -1: none
	bool is_static;
	unsigned candidates[64]; // bits of tunnels of each rank
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

static struct choice choose(const struct world *w, unsigned g, unsigned prefix)
{
	struct choice choice = {.attachment = -1, .first = -1};
	if (!w->gateway[g].here) {
		return choice;
	}
	int static_best = -1, propagated_best = -1;
	for (unsigned s = 0; s < STATICS; s++) {
		if (!w->route[s].here || w->route[s].gateway != g || w->route[s].prefix != prefix || !static_admitted(w, s)) {
			continue;
		}
		unsigned a = w->route[s].next_hop;
		if (!w->route[s].to_attachment) {
			choice.candidates[0] |= static_targets(w, s, g);
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
	for (unsigned t = 0; t < TUNNELS; t++) {
		if (learned(w, t, g, prefix) && w->connection[w->tunnel[t].connection].bgp && learned_admitted(w, g, prefix)) {
			choice.candidates[1 + (same_as(w, t, g) ? 30u : 0u) + w->tunnel[t].metric[prefix]] |= 1u << t;
		}
	}
	choice.is_static = static_best >= 0;
	choice.attachment = static_best >= 0 ? static_best : propagated_best;
	unsigned seen = 0;
	for (unsigned rank = 0; rank < 64; rank++) {
		unsigned all = choice.candidates[rank], live = 0;
		for (unsigned t = 0; t < TUNNELS; t++) {
			live |= (unsigned)((all >> t & 1) && alive(w, t)) << t;
			choice.connections |= (all >> t & 1) << w->tunnel[t].connection;
		}
		choice.candidates[rank] &= ~seen;
		seen |= all;
		if (live && !choice.tunnels) {
			choice.tunnels = live;
			choice.is_static = choice.attachment >= 0 ? choice.is_static : rank == 0;
			choice.metric = rank == 0 ? 0 : rank > 30 ? rank - 31 : rank - 1;
			choice.first = rank == 0 ? -1 : __builtin_ctz(live);
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

// The attributes of a path learned through tunnel `t`, -1: none. The generator makes them from tunnel and metric.
static char *attributes_text(const struct world *w, int t, unsigned prefix)
{
	uint32_t path[32];
	unsigned count = t < 0 ? 0 : w->tunnel[t].metric[prefix];
	for (unsigned i = 0; i < count; i++) {
		path[i] = 65100 + (unsigned)t;
	}
	return as_text(path, count);
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

static void naive_shown(const struct world *w, unsigned g, unsigned prefix, const struct choice *choice, struct lines *lines)
{
	unsigned shown_attachments = 0, shown_connections = 0;
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
				live |= (unsigned)((static_targets(w, s, g) >> t & 1) && alive(w, t)) << t;
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
	for (unsigned a = 0; a < ATTACHMENTS; a++) {
		char key[4] = {'a', (char)('0' + a), 0};
		bool yes = choice->attachment == (int)a;
		if (propagates(w, a, g, prefix)) {
			line_shown(lines, g, "PROPAGATED", prefix, key,
			           format_text("att a%u PROPAGATED 0 as %s", a, yes && !choice->is_static ? "yes" : "no"));
		}
		if (yes && !(shown_attachments >> a & 1)) {
			line_shown(lines, g, "EFFECTIVE", prefix, key,
			           format_text("att a%u %s 0 as yes", a, choice->is_static ? "STATIC" : "PROPAGATED"));
		}
	}
	for (unsigned t = 0; t < TUNNELS; t++) {
		if (!learned(w, t, g, prefix)) {
			continue;
		}
		unsigned c = w->tunnel[t].connection;
		char key[4] = {'t', (char)('0' + t), 0}, connection[4] = {'c', (char)('0' + c), 0};
		bool yes = vpn && !choice->is_static && (choice->tunnels >> t & 1);
		char *as = attributes_text(w, (int)t, prefix);
		const char *type = same_as(w, t, g) ? "IBGP" : "EBGP";
		line_shown(
		    lines, g, "PROPAGATED", prefix, key,
		    format_text("vpn c%u %s %u %s %s t%u", c, type, w->tunnel[t].metric[prefix], as, yes ? "yes" : "no", t));
		if (yes && !(shown_connections >> c & 1)) {
			char *tunnels = tunnels_text(of_connection(w, choice->tunnels, c));
			line_shown(lines, g, "EFFECTIVE", prefix, connection,
			           format_text("vpn c%u %s %u %s yes%s", c, type, choice->metric, as, tunnels));
			free(tunnels);
			shown_connections |= 1u << c;
		}
		free(as);
	}
}

static void naive_gateway(const struct world *w, unsigned g, struct lines *lines, struct lines *groups)
{
	for (unsigned prefix = 0; prefix < PREFIXES && w->gateway[g].here; prefix++) {
		struct choice choice = choose(w, g, prefix);
		char *group = group_text(w, g, &choice), *key = format_text("g%u", g);
		for (unsigned rank = 0; rank < 64; rank++) {
			char bits[12];
			snprintf(bits, sizeof bits, "%x", choice.candidates[rank]);
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
		for (unsigned c = 0; c < CONNECTIONS; c++) {
			bool back = choice.attachment < 0 && (!w->gateway[g].transit || of_connection(w, choice.tunnels, c));
			if (forwards(&choice) && w->connection[c].here && w->connection[c].gateway == g &&
			    w->connection[c].bgp && !back) {
				char *as = attributes_text(w, choice.attachment >= 0 ? -1 : choice.first, prefix);
				add(lines, format_text("3 c%u/%s = %s", c, pool[prefix], as));
				free(as);
			}
		}
	}
}

static int link_of(const struct world *w, unsigned vpc, unsigned g)
{
	for (unsigned a = 0; a < ATTACHMENTS; a++) {
		if (attached(w, a, g) && w->attachment[a].vpc == vpc) {
			return (int)a;
		}
	}
	return -1;
}

static bool within(unsigned ranges, unsigned prefix)
{
	for (unsigned q = 0; q < PREFIXES; q++) {
		if ((ranges >> q & 1) && prefix_contains(&parsed[q], &parsed[prefix])) {
			return true;
		}
	}
	return false;
}

static void naive_entry(const struct world *w, unsigned i, unsigned prefix, struct lines *lines)
{
	unsigned vpc = w->table[i].vpc;
	if ((w->vpc[vpc].blocks >> prefix) & 1) {
		add(lines, format_text("4 r%u/%s/LOCAL/ = v%u  yes as ", i, pool[prefix], vpc));
	}
	bool local = within(w->vpc[vpc].blocks, prefix);
	int static_gateway = -1;
	for (unsigned k = 0; k < w->table[i].static_count; k++) {
		unsigned g = w->table[i].static_gateway[k];
		bool nodes = false;
		for (unsigned n = 0; n < NODES; n++) {
			nodes = nodes ||
			        (w->gateway[g].here && (w->gateway[g].nodes >> n & 1) && !(w->node[n].here && w->node[n].gone));
		}
		if (w->table[i].static_prefix[k] == prefix && static_gateway < 0 && link_of(w, vpc, g) >= 0 && nodes) {
			static_gateway = (int)g;
		}
	}
	unsigned shown = 0;
	for (unsigned k = 0; k < w->table[i].static_count; k++) {
		unsigned g = w->table[i].static_gateway[k];
		if (w->table[i].static_prefix[k] == prefix && !(shown >> g & 1)) {
			int a = link_of(w, vpc, g);
			char id[4] = {a < 0 ? '\0' : 'a', (char)('0' + a), 0};
			add(lines, format_text("4 r%u/%s/STATIC/g%u = v%u %s %s as ", i, pool[prefix], g, vpc, id,
			                       !local && static_gateway == (int)g ? "yes" : "no"));
			shown |= 1u << g;
		}
	}
	struct choice choices[GATEWAYS];
	int best = -1;
	for (unsigned g = 0; g < GATEWAYS; g++) {
		choices[g] = choose(w, g, prefix);
		const struct choice *c = &choices[g];
		bool offered = (w->table[i].propagations >> g & 1) && within(w->table[i].ranges[g], prefix) &&
		               link_of(w, vpc, g) >= 0 && forwards(c) &&
		               !(c->attachment >= 0 && w->attachment[c->attachment].vpc == vpc);
		unsigned metric = c->attachment >= 0 ? 0 : c->metric;
		if (!offered) {
			choices[g].attachment = -1;
			choices[g].tunnels = 0;
			continue;
		}
		choices[g].metric = metric;
		if (best < 0 || metric < choices[best].metric ||
		    (metric == choices[best].metric &&
		     older(w, (unsigned)link_of(w, vpc, g), (unsigned)link_of(w, vpc, (unsigned)best)))) {
			best = (int)g;
		}
	}
	for (unsigned g = 0; g < GATEWAYS; g++) {
		const struct choice *c = &choices[g];
		if (forwards(c)) {
			char *as = attributes_text(w, c->attachment >= 0 ? -1 : c->first, prefix);
			char *group = c->attachment >= 0 ? duplicate_text("") : group_text(w, g, c);
			add(lines, format_text("4 r%u/%s/PROPAGATED/g%u = v%u a%d %s %s %s", i, pool[prefix], g, vpc,
			                       link_of(w, vpc, g),
			                       !local && static_gateway < 0 && best == (int)g ? "yes" : "no", as, group));
			free(as);
			free(group);
		}
	}
}

// ---- comparison ----
static void read_published(const struct published *out, struct lines *lines, struct lines *groups)
{
	for (unsigned table = 0; table < ROUTE_TABLE_COUNT; table++) {
		struct map_cursor cursor = {0};
		while (map_next(out->rows[table], &cursor)) {
			char key[ROUTE_KEY_TEXT];
			snprintf(key, sizeof key, "%.*s", (int)cursor.key.length, (const char *)cursor.key.data);
			const char *value = cursor.value, *id = strstr(value, "nhg-");
			if (table == ROUTE_TABLE_GROUP) {
				add(groups, format_text("0 %s = %s", key, value));
				continue;
			}
			const char *group = id ? map_find_text(out->rows[ROUTE_TABLE_GROUP], id) : "";
			assert_non_null(group);
			int before = id ? (int)(id - value) : (int)strlen(value);
			add(lines, format_text("%u %s = %.*s%s", table, key, before, value, group));
		}
	}
}

static void clear(struct lines *lines)
{
	for (size_t i = 0; i < lines->count; i++) {
		free(lines->items[i]);
	}
	lines->count = 0;
}

static void sort_unique(struct lines *lines)
{
	qsort(lines->items, lines->count, sizeof lines->items[0], compare_text);
	size_t kept = 0;
	for (size_t i = 0; i < lines->count; i++) {
		if (kept > 0 && strcmp(lines->items[kept - 1], lines->items[i]) == 0) {
			free(lines->items[i]);
		} else {
			lines->items[kept++] = lines->items[i];
		}
	}
	lines->count = kept;
}

static bool same(const struct lines *a, const struct lines *b, const char *what)
{
	size_t i = 0;
	while (i < a->count && i < b->count && strcmp(a->items[i], b->items[i]) == 0) {
		i++;
	}
	if (i == a->count && i == b->count) {
		return true;
	}
	print_error("%s: core has   %s\n%s: should be  %s\n", what, i < a->count ? a->items[i] : "(end)", what,
	            i < b->count ? b->items[i] : "(end)");
	return false;
}

static void strip_keys(struct lines *lines) // group ids are the core's own: compare contents, and how many there are
{
	for (size_t i = 0; i < lines->count; i++) {
		char *content = duplicate_text(strstr(lines->items[i], " = "));
		free(lines->items[i]);
		lines->items[i] = content;
	}
	qsort(lines->items, lines->count, sizeof lines->items[0], compare_text);
}

static bool compare(const struct world *w, const struct published *out)
{
	static struct lines core, core_groups, naive, naive_groups;
	read_published(out, &core, &core_groups);
	for (unsigned g = 0; g < GATEWAYS; g++) {
		naive_gateway(w, g, &naive, &naive_groups);
	}
	for (unsigned i = 0; i < TABLES; i++) {
		for (unsigned prefix = 0; w->table[i].here && w->vpc[w->table[i].vpc].here && prefix < PREFIXES; prefix++) {
			naive_entry(w, i, prefix, &naive);
		}
	}
	sort_unique(&core);
	sort_unique(&naive);
	sort_unique(&naive_groups);
	strip_keys(&core_groups);
	strip_keys(&naive_groups);
	bool equal = same(&core, &naive, "rows") && same(&core_groups, &naive_groups, "groups");
	clear(&core);
	clear(&core_groups);
	clear(&naive);
	clear(&naive_groups);
	return equal;
}

// ---- events ----
struct sim {
	struct world world;
	struct published out;
	struct route *route;
	struct random random;
};

static unsigned below(struct sim *sim, unsigned bound)
{
	return random_below(&sim->random, bound);
}

static void send(struct sim *sim, struct route_event *event, char letter, unsigned number)
{
	char id[4] = {letter, (char)('0' + number), 0};
	event->id = id;
	assert_true(route_step(sim->route, event, (struct route_sink){publish, &sim->out}));
}

static const char *names(char letter, unsigned number)
{
	static char ring[32][4];
	static unsigned next;
	char *name = ring[next++ % 32];
	name[0] = letter;
	name[1] = (char)('0' + number);
	return name;
}

static size_t name_bits(char letter, unsigned bits, const char *out[static 16])
{
	size_t count = 0;
	for (unsigned i = 0; i < 16; i++) {
		if (bits >> i & 1) {
			out[count++] = names(letter, i);
		}
	}
	return count;
}

static size_t prefix_bits(unsigned bits, struct prefix out[static PREFIXES])
{
	size_t count = 0;
	for (unsigned i = 0; i < PREFIXES; i++) {
		if (bits >> i & 1) {
			out[count++] = parsed[i];
		}
	}
	return count;
}

static void step_table(struct sim *sim, unsigned i, struct route_event *event)
{
	struct world *w = &sim->world;
	struct route_vpc_static statics[3];
	struct route_vpc_propagation propagations[GATEWAYS];
	struct prefix ranges[GATEWAYS][PREFIXES];
	w->table[i].vpc = below(sim, VPCS);
	w->table[i].static_count = below(sim, 4);
	for (unsigned k = 0; k < w->table[i].static_count; k++) {
		w->table[i].static_prefix[k] = below(sim, PREFIXES);
		w->table[i].static_gateway[k] = below(sim, GATEWAYS);
		statics[k] =
		    (struct route_vpc_static){parsed[w->table[i].static_prefix[k]], names('g', w->table[i].static_gateway[k])};
	}
	w->table[i].propagations = below(sim, 1 << GATEWAYS);
	size_t count = 0;
	for (unsigned g = 0; g < GATEWAYS; g++) {
		w->table[i].ranges[g] = below(sim, 2) ? 1u << 5 : below(sim, 1 << PREFIXES);
		if (w->table[i].propagations >> g & 1) {
			propagations[count++] = (struct route_vpc_propagation){names('g', g), ranges[g],
			                                                       prefix_bits(w->table[i].ranges[g], ranges[g])};
		}
	}
	event->vpc_table.vpc_id = names('v', w->table[i].vpc);
	event->vpc_table.statics = statics;
	event->vpc_table.static_count = w->table[i].static_count;
	event->vpc_table.propagations = propagations;
	event->vpc_table.propagation_count = count;
	send(sim, event, 'r', i);
}

// The rows that resource publishes. Few of them go away, or little would be left to look at.
static void step_row(struct sim *sim, enum route_event_kind kind)
{
	struct world *w = &sim->world;
	struct route_event event = {.kind = kind, .removed = below(sim, 5) == 0};
	const char *ids[16];
	struct prefix blocks[PREFIXES];
	bool here = !event.removed;
	switch (kind) {
	case ROUTE_NODE: {
		unsigned i = below(sim, NODES);
		w->node[i].here = here;
		w->node[i].gone = event.node.gone = below(sim, 3) == 0;
		send(sim, &event, 'n', i);
		break;
	}
	case ROUTE_GATEWAY: {
		unsigned i = below(sim, GATEWAYS);
		w->gateway[i].here = here;
		w->gateway[i].transit = event.gateway.allow_transit = below(sim, 2);
		w->gateway[i].asn = event.gateway.asn = 65000 + below(sim, 2);
		w->gateway[i].nodes = below(sim, 1 << NODES);
		event.gateway.node_ids = ids;
		event.gateway.node_count = name_bits('n', w->gateway[i].nodes, ids);
		send(sim, &event, 'g', i);
		break;
	}
	case ROUTE_VPC: {
		unsigned i = below(sim, VPCS);
		w->vpc[i].here = here;
		w->vpc[i].blocks = below(sim, 1 << PREFIXES) & below(sim, 1 << PREFIXES) & ~32u;
		event.vpc.blocks = blocks;
		event.vpc.block_count = prefix_bits(w->vpc[i].blocks, blocks);
		send(sim, &event, 'v', i);
		break;
	}
	case ROUTE_SUBNET: {
		unsigned i = below(sim, SUBNETS), vpc = below(sim, VPCS), prefix = below(sim, PREFIXES);
		for (unsigned s = 0; s < SUBNETS; s++) { // subnets of one VPC do not overlap
			if (s != i && w->subnet[s].here && w->subnet[s].vpc == vpc &&
			    prefix_overlaps(&parsed[prefix], &parsed[w->subnet[s].prefix])) {
				return;
			}
		}
		w->subnet[i].here = here;
		w->subnet[i].vpc = vpc;
		w->subnet[i].prefix = prefix;
		event.subnet.vpc_id = names('v', vpc);
		event.subnet.cidr = parsed[prefix];
		send(sim, &event, 's', i);
		break;
	}
	case ROUTE_ATTACHMENT: {
		unsigned i = below(sim, ATTACHMENTS), gateway = below(sim, GATEWAYS), vpc = below(sim, VPCS);
		for (unsigned a = 0; a < ATTACHMENTS; a++) { // one per (VPC, border gateway)
			if (a != i && w->attachment[a].here && w->attachment[a].vpc == vpc &&
			    w->attachment[a].gateway == gateway) {
				return;
			}
		}
		w->attachment[i].here = here;
		w->attachment[i].gateway = gateway;
		w->attachment[i].vpc = vpc;
		w->attachment[i].propagation = below(sim, 3);
		w->attachment[i].subnets = below(sim, 1 << SUBNETS);
		w->attachment[i].order = below(sim, 6);
		event.attachment.gateway_id = names('g', gateway);
		event.attachment.vpc_id = names('v', vpc);
		event.attachment.propagation = (enum route_propagation)w->attachment[i].propagation;
		event.attachment.order = w->attachment[i].order;
		event.attachment.subnet_ids = ids;
		event.attachment.subnet_count = name_bits('s', w->attachment[i].subnets, ids);
		send(sim, &event, 'a', i);
		break;
	}
	case ROUTE_VPC_TABLE: {
		unsigned i = below(sim, TABLES);
		w->table[i].here = here;
		step_table(sim, i, &event);
		break;
	}
	case ROUTE_CONNECTION: {
		unsigned i = below(sim, CONNECTIONS);
		w->connection[i].here = here;
		w->connection[i].gateway = i % GATEWAYS; // immutable
		w->connection[i].bgp = event.connection.bgp = below(sim, 4) != 0;
		event.connection.gateway_id = names('g', w->connection[i].gateway);
		send(sim, &event, 'c', i);
		break;
	}
	case ROUTE_TUNNEL: {
		unsigned i = below(sim, TUNNELS);
		w->tunnel[i].here = here;
		w->tunnel[i].connection = below(sim, CONNECTIONS);
		w->tunnel[i].node = below(sim, NODES);
		w->tunnel[i].admin = event.tunnel.admin_up = below(sim, 6) != 0;
		event.tunnel.connection_id = names('c', w->tunnel[i].connection);
		event.tunnel.node_id = names('n', w->tunnel[i].node);
		send(sim, &event, 't', i);
		break;
	}
	default: {
		unsigned i = below(sim, STATICS);
		char created[8];
		w->route[i].here = here;
		w->route[i].gateway = below(sim, GATEWAYS);
		w->route[i].prefix = below(sim, PREFIXES);
		w->route[i].to_attachment = event.static_route.to_attachment = below(sim, 2);
		w->route[i].next_hop = below(sim, w->route[i].to_attachment ? ATTACHMENTS : CONNECTIONS);
		w->route[i].created = below(sim, 4);
		snprintf(created, sizeof created, "%u", w->route[i].created);
		event.static_route.gateway_id = names('g', w->route[i].gateway);
		event.static_route.destination = parsed[w->route[i].prefix];
		event.static_route.next_hop_id = names(event.static_route.to_attachment ? 'a' : 'c', w->route[i].next_hop);
		event.static_route.created = created;
		send(sim, &event, 'x', i);
		break;
	}
	}
}

static void step_tunnel(struct sim *sim, unsigned what)
{
	struct world *w = &sim->world;
	unsigned i = below(sim, TUNNELS);
	struct route_event event = {.kind = what < 3 ? ROUTE_TUNNEL_STATE : what == 3 ? ROUTE_SESSION : ROUTE_LEARNED};
	event.removed = below(sim, 5) == 0;
	if (event.kind == ROUTE_TUNNEL_STATE) {
		event.tunnel_state.up = below(sim, 3) != 0;
		w->tunnel[i].up = event.tunnel_state.up && !event.removed;
		send(sim, &event, 't', i);
	} else if (event.kind == ROUTE_SESSION) {
		event.session.remote_asn = below(sim, 3) ? 65100 : 65000;
		w->tunnel[i].asn = event.removed ? 0 : event.session.remote_asn;
		send(sim, &event, 't', i);
	} else {
		unsigned prefix = below(sim, PREFIXES);
		uint32_t path[4];
		event.learned.destination = parsed[prefix];
		event.learned.metric = below(sim, 4);
		event.learned.as_count = event.learned.metric;
		event.learned.as_path = path;
		for (unsigned k = 0; k < event.learned.metric; k++) {
			path[k] = 65100 + i;
		}
		w->tunnel[i].learned[prefix] = !event.removed;
		w->tunnel[i].metric[prefix] = event.learned.metric;
		send(sim, &event, 't', i);
	}
}

static void run(uint64_t seed)
{
	struct sim sim = {0};
	random_init_number(&sim.random, seed);
	sim.route = route_new(&(struct route_settings){STATIC_QUOTA, LEARNED_QUOTA});
	sim.out.world = &sim.world;
	for (unsigned i = 0; i < ROUTE_TABLE_COUNT; i++) {
		sim.out.rows[i] = map_new(NULL);
	}
	struct route_sink sink = {publish, &sim.out};
	unsigned batches = 60;
	for (unsigned batch = 0; batch < batches; batch++) {
		unsigned events = batch == 0 ? 80 : 1 + below(&sim, 5);
		for (unsigned i = 0; i < events; i++) {
			unsigned what = below(&sim, 20);
			if (what < 10) {
				step_tunnel(&sim, what);
			} else {
				step_row(&sim, (enum route_event_kind)below(&sim, ROUTE_STATIC + 1));
			}
			if (below(&sim, 4) == 0) { // settled in portions, with events between them
				route_settle(sim.route, seed + batch, 1 + below(&sim, 3), sink);
			}
		}
		while (route_settle(sim.route, seed + batch, 1 + below(&sim, 8), sink)) {
		}
		memcpy(sim.world.order, sim.out.order, sizeof sim.world.order);
		if (!compare(&sim.world, &sim.out)) {
			fail_msg("seed %llu, batch %u: SEED=%llu runs it alone", (unsigned long long)seed, batch,
			         (unsigned long long)seed);
		}
	}
	route_free(&sim.route);
	for (unsigned i = 0; i < ROUTE_TABLE_COUNT; i++) {
		map_free(&sim.out.rows[i], free);
	}
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PREFIXES; i++) {
		assert_true(prefix_parse(pool[i], &parsed[i]));
	}
	const char *one = getenv("SEED"), *many = getenv("SEEDS");
	if (one) {
		run(strtoull(one, NULL, 10));
		return;
	}
	unsigned long seeds = many ? strtoul(many, NULL, 10) : 600;
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		run(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
