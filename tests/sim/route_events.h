// Random events: each changes the world and goes into the core.
#ifndef TWINSPAN_TESTS_ROUTE_EVENTS_H
#define TWINSPAN_TESTS_ROUTE_EVENTS_H

#include "tests/sim/route_world.h"

struct sim {
	struct world world;
	struct route *route;
	struct route_sink sink;
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
	assert_true(route_step(sim->route, event, sim->sink));
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
		w->table[i].ranges[g] = below(sim, 2) ? 1u << DEFAULT_ROUTE : below(sim, 1 << PREFIXES);
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

static void step_node(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	bool here = !event->removed;
	unsigned i = below(sim, NODES);
	w->node[i].here = here;
	w->node[i].gone = event->node.gone = below(sim, 3) == 0;
	w->node[i].bgp_silent = event->node.bgp_silent = below(sim, 3) == 0;
	send(sim, event, 'n', i);
}

static void step_gateway(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	const char *ids[16];
	bool here = !event->removed;
	unsigned i = below(sim, GATEWAYS);
	w->gateway[i].here = here;
	w->gateway[i].transit = event->gateway.allow_transit = below(sim, 2);
	w->gateway[i].asn = event->gateway.asn = 65000 + below(sim, 2);
	w->gateway[i].nodes = below(sim, 1 << NODES);
	w->gateway[i].tenant = below(sim, TENANTS);
	event->gateway.tenant = names('q', w->gateway[i].tenant);
	event->gateway.node_ids = ids;
	event->gateway.node_count = name_bits('n', w->gateway[i].nodes, ids);
	send(sim, event, 'g', i);
}

static void step_vpc(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	struct prefix blocks[PREFIXES];
	bool here = !event->removed;
	unsigned i = below(sim, VPCS);
	w->vpc[i].here = here;
	w->vpc[i].blocks =
	    below(sim, 1 << PREFIXES) & below(sim, 1 << PREFIXES) & below(sim, 1 << PREFIXES) & ~(1u << DEFAULT_ROUTE);
	w->vpc[i].host = below(sim, 2);
	event->vpc.host_id = names('h', w->vpc[i].host);
	event->vpc.blocks = blocks;
	event->vpc.block_count = prefix_bits(w->vpc[i].blocks, blocks);
	send(sim, event, 'v', i);
}

static void step_subnet(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	bool here = !event->removed;
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
	event->subnet.vpc_id = names('v', vpc);
	event->subnet.cidr = parsed[prefix];
	send(sim, event, 's', i);
}

static void step_attachment(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	const char *ids[16];
	bool here = !event->removed;
	unsigned i = below(sim, ATTACHMENTS), gateway = below(sim, GATEWAYS), vpc = below(sim, VPCS);
	for (unsigned a = 0; a < ATTACHMENTS; a++) { // one per (VPC, border gateway)
		if (a != i && w->attachment[a].here && w->attachment[a].vpc == vpc && w->attachment[a].gateway == gateway) {
			return;
		}
	}
	w->attachment[i].here = here;
	w->attachment[i].gateway = gateway;
	w->attachment[i].vpc = vpc;
	w->attachment[i].propagation = below(sim, 3);
	w->attachment[i].subnets = below(sim, 1 << SUBNETS);
	w->attachment[i].order = below(sim, 6);
	event->attachment.gateway_id = names('g', gateway);
	event->attachment.vpc_id = names('v', vpc);
	event->attachment.propagation = (enum route_propagation)w->attachment[i].propagation;
	event->attachment.order = w->attachment[i].order;
	event->attachment.subnet_ids = ids;
	event->attachment.subnet_count = name_bits('s', w->attachment[i].subnets, ids);
	send(sim, event, 'a', i);
}

static void step_vpc_table(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	bool here = !event->removed;
	unsigned i = below(sim, TABLES);
	w->table[i].here = here;
	step_table(sim, i, event);
}

static void step_connection(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	bool here = !event->removed;
	unsigned i = below(sim, CONNECTIONS);
	w->connection[i].here = here;
	w->connection[i].gateway = i % GATEWAYS; // immutable
	w->connection[i].bgp = event->connection.bgp = below(sim, 4) != 0;
	event->connection.gateway_id = names('g', w->connection[i].gateway);
	send(sim, event, 'c', i);
}

static void step_tunnel_row(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	bool here = !event->removed;
	unsigned i = below(sim, TUNNELS);
	w->tunnel[i].here = here;
	w->tunnel[i].connection = below(sim, CONNECTIONS);
	w->tunnel[i].node = below(sim, NODES);
	w->tunnel[i].admin = event->tunnel.admin_up = below(sim, 6) != 0;
	event->tunnel.connection_id = names('c', w->tunnel[i].connection);
	event->tunnel.node_id = names('n', w->tunnel[i].node);
	send(sim, event, 't', i);
}

static void step_static(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	bool here = !event->removed;
	unsigned i = below(sim, STATICS);
	char created[8];
	w->route[i].here = here;
	w->route[i].gateway = below(sim, GATEWAYS);
	w->route[i].prefix = below(sim, PREFIXES);
	w->route[i].to_attachment = event->static_route.to_attachment = below(sim, 2);
	w->route[i].next_hop = below(sim, w->route[i].to_attachment ? ATTACHMENTS : CONNECTIONS);
	w->route[i].created = below(sim, 4);
	snprintf(created, sizeof created, "%u", w->route[i].created);
	event->static_route.gateway_id = names('g', w->route[i].gateway);
	event->static_route.destination = parsed[w->route[i].prefix];
	event->static_route.next_hop_id = names(event->static_route.to_attachment ? 'a' : 'c', w->route[i].next_hop);
	event->static_route.created = created;
	send(sim, event, 'x', i);
}

static void step_quota(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	unsigned i = below(sim, TENANTS + 1);
	w->quota[i].here = !event->removed;
	w->quota[i].statics = below(sim, 5);
	w->quota[i].learned = below(sim, 6);
	event->quota.static_routes = w->quota[i].statics;
	event->quota.learned_routes = w->quota[i].learned;
	if (i == TENANTS) {
		event->id = "";
		assert_true(route_step(sim->route, event, sim->sink));
	} else {
		send(sim, event, 'q', i);
	}
}

static void step_reserved(struct sim *sim, struct route_event *event)
{
	struct world *w = &sim->world;
	unsigned i = below(sim, RESERVED);
	w->reserved[i].here = !event->removed;
	w->reserved[i].address = below(sim, ADDRESSES);
	event->reserved.what = "cloud address";
	event->reserved.addresses = &parsed_addresses[w->reserved[i].address];
	event->reserved.count = 1;
	send(sim, event, 'z', i);
}

// The rows that resource publishes. Few of them go away, or little would be left to look at.
static void step_row(struct sim *sim)
{
	static const struct {
		enum route_event_kind kind;
		void (*step)(struct sim *, struct route_event *);
	} kinds[] = {{ROUTE_NODE, step_node},
	             {ROUTE_GATEWAY, step_gateway},
	             {ROUTE_VPC, step_vpc},
	             {ROUTE_SUBNET, step_subnet},
	             {ROUTE_VPC_TABLE, step_vpc_table},
	             {ROUTE_ATTACHMENT, step_attachment},
	             {ROUTE_CONNECTION, step_connection},
	             {ROUTE_TUNNEL, step_tunnel_row},
	             {ROUTE_STATIC, step_static},
	             {ROUTE_QUOTA, step_quota},
	             {ROUTE_RESERVED, step_reserved}};
	unsigned i = below(sim, sizeof kinds / sizeof kinds[0]);
	struct route_event event = {.kind = kinds[i].kind, .removed = below(sim, 5) == 0};
	kinds[i].step(sim, &event);
}

static void step_learned(struct sim *sim, unsigned i, struct route_event *event)
{
	unsigned prefix = below(sim, PREFIXES);
	uint32_t path[8], communities[COMMUNITIES];
	struct attributes_of_world learned = {.here = !event->removed,
	                                      .metric = below(sim, 3),
	                                      .origin = below(sim, 4) ? 0 : below(sim, 3),
	                                      .med = below(sim, 2) ? 0 : below(sim, 3),
	                                      .neighbour = below(sim, 2),
	                                      .communities = below(sim, 3) ? 0 : below(sim, 1 << COMMUNITIES)};
	event->learned.destination = parsed[prefix];
	event->learned.metric = learned.metric;
	event->learned.origin = learned.origin;
	event->learned.med = learned.med;
	event->learned.as_count = path_of(&learned, i, path);
	event->learned.as_path = path;
	event->learned.communities = communities;
	event->learned.community_count = communities_of(&learned, communities);
	sim->world.tunnel[i].learned[prefix] = learned;
	send(sim, event, 't', i);
}

// What ike and bgp say.
static void step_tunnel(struct sim *sim, unsigned what)
{
	struct world *w = &sim->world;
	unsigned i = below(sim, TUNNELS);
	struct route_event event = {.kind = what < 2 ? ROUTE_TUNNEL_STATE : what < 4 ? ROUTE_SESSION : ROUTE_LEARNED};
	event.removed = below(sim, 5) == 0;
	if (event.kind == ROUTE_TUNNEL_STATE) {
		event.tunnel_state.up = below(sim, 3) != 0;
		w->tunnel[i].up = event.tunnel_state.up && !event.removed;
		send(sim, &event, 't', i);
	} else if (event.kind == ROUTE_SESSION) {
		event.session.remote_asn = below(sim, 3) ? 65100 : 65000;
		event.session.established = below(sim, 4) != 0;
		w->tunnel[i].asn = event.removed ? 0 : event.session.remote_asn;
		w->tunnel[i].established = event.session.established && !event.removed;
		send(sim, &event, 't', i);
	} else {
		step_learned(sim, i, &event);
	}
}

#endif
