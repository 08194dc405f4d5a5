// VPC route tables of the route simulation computed from scratch (see route_naive.h).
#ifndef TWINSPAN_TESTS_ROUTE_NAIVE_VPC_H
#define TWINSPAN_TESTS_ROUTE_NAIVE_VPC_H

#include "tests/sim/route_naive.h"

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

// The border gateway of the static route that forwards, -1: none.
static int static_gateway_of(const struct world *w, unsigned i, unsigned prefix)
{
	for (unsigned k = 0; k < w->table[i].static_count; k++) {
		unsigned g = w->table[i].static_gateway[k];
		bool nodes = false;
		for (unsigned n = 0; n < NODES; n++) {
			nodes = nodes || (w->gateway[g].here && (w->gateway[g].nodes >> n & 1) && heard(w, n, false));
		}
		if (w->table[i].static_prefix[k] == prefix && link_of(w, w->table[i].vpc, g) >= 0 && nodes) {
			return (int)g;
		}
	}
	return -1;
}

static void naive_propagated(const struct world *w, unsigned i, unsigned prefix, bool forward, struct lines *lines)
{
	unsigned vpc = w->table[i].vpc, best = UINT32_MAX;
	struct choice choices[GATEWAYS];
	bool offered[GATEWAYS];
	for (unsigned g = 0; g < GATEWAYS; g++) {
		choices[g] = choose(w, g, prefix);
		struct choice *c = &choices[g];
		offered[g] = (w->table[i].propagations >> g & 1) && within(w->table[i].ranges[g], prefix) &&
		             link_of(w, vpc, g) >= 0 && forwards(c) &&
		             !(c->attachment >= 0 && w->attachment[c->attachment].vpc == vpc);
		c->metric = c->attachment >= 0 ? 0 : c->metric;
		best = offered[g] && c->metric < best ? c->metric : best;
	}
	for (unsigned g = 0; g < GATEWAYS; g++) {
		const struct choice *c = &choices[g];
		if (offered[g]) {
			char *as = attributes_text(w, c->attachment >= 0 ? -1 : c->first, prefix);
			char *group = c->attachment >= 0 ? duplicate_text("") : group_text(w, g, c);
			add(lines, format_text("4 r%u/%s/PROPAGATED/g%u = v%u@h%u a%d %s %s %s", i, pool[prefix], g, vpc,
			                       w->vpc[vpc].host, link_of(w, vpc, g),
			                       forward && c->metric == best ? "yes" : "no", as, group));
			free(as);
			free(group);
		}
	}
}

static void naive_entry(const struct world *w, unsigned i, unsigned prefix, struct lines *lines)
{
	unsigned vpc = w->table[i].vpc, shown = 0;
	bool local = within(w->vpc[vpc].blocks, prefix);
	int static_gateway = static_gateway_of(w, i, prefix);
	if ((w->vpc[vpc].blocks >> prefix) & 1) {
		add(lines, format_text("4 r%u/%s/LOCAL/ = v%u@h%u  yes as ", i, pool[prefix], vpc, w->vpc[vpc].host));
	}
	for (unsigned k = 0; k < w->table[i].static_count; k++) {
		unsigned g = w->table[i].static_gateway[k];
		if (w->table[i].static_prefix[k] == prefix && !(shown >> g & 1)) {
			int a = link_of(w, vpc, g);
			char id[4] = {a < 0 ? '\0' : 'a', (char)('0' + a), 0};
			add(lines, format_text("4 r%u/%s/STATIC/g%u = v%u@h%u %s %s as ", i, pool[prefix], g, vpc,
			                       w->vpc[vpc].host, id, !local && static_gateway == (int)g ? "yes" : "no"));
			shown |= 1u << g;
		}
	}
	naive_propagated(w, i, prefix, !local && static_gateway < 0, lines);
}

#endif
