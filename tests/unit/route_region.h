// A small region for the tests of the route core: short calls that make its inputs, and the rows it has published, by key, as
// text.
#ifndef TWINSPAN_TESTS_ROUTE_REGION_H
#define TWINSPAN_TESTS_ROUTE_REGION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "services/route/route.h"

enum { NAMES = 8, LOG_LINES = 512 };

struct region {
	struct route *route;
	struct map *rows[ROUTE_TABLE_COUNT];
	struct map *scopes;   // of advertised rows
	char *log[LOG_LINES]; // what was published by the last event, in order
	size_t log_count;
	uint64_t time;
};

static struct prefix prefix(const char *text)
{
	struct prefix out;
	assert_true(prefix_parse(text, &out));
	return out;
}

static inline char *region_texts(const char *const *texts, size_t count)
{
	char *all = duplicate_text("");
	for (size_t i = 0; i < count; i++) {
		char *next = format_text("%s%s%s", all, i > 0 ? "," : "", texts[i]);
		free(all);
		all = next;
	}
	return all;
}

static inline char *region_describe(const struct route_action *action)
{
	char *text = NULL, *list = NULL;
	switch (action->table) {
	case ROUTE_TABLE_GROUP: {
		const char *members[64];
		for (size_t i = 0; i < action->group.member_count; i++) {
			members[i] = action->group.members[i].tunnel_id;
		}
		list = region_texts(members, action->group.member_count);
		char *connections = region_texts(action->group.connection_ids, action->group.connection_count);
		text = format_text("%s of %s", list, connections);
		free(connections);
		break;
	}
	case ROUTE_TABLE_EFFECTIVE:
		text = duplicate_text(action->effective.attachment_id ? action->effective.attachment_id
		                                                      : action->effective.group_id);
		break;
	case ROUTE_TABLE_SHOWN:
		list = region_texts(action->shown.tunnel_ids, action->shown.tunnel_count);
		text = format_text("%s %s %u [%s] %s", action->shown.type, action->shown.next_hop_id, action->shown.metric,
		                   list, action->shown.effective ? "EFFECTIVE" : action->shown.reason);
		break;
	case ROUTE_TABLE_ADVERTISED:
		text = duplicate_text("");
		for (size_t i = 0; i < action->advertised.as_count; i++) {
			list = text;
			text = format_text("%s%s%u", list, i > 0 ? " " : "", action->advertised.as_path[i]);
			free(list);
		}
		list = text;
		text = format_text("%s origin %u", list, action->advertised.origin);
		for (size_t i = 0; i < action->advertised.community_count; i++) {
			free(list);
			list = text;
			text = format_text("%s %u:%u", list, action->advertised.communities[i] >> 16,
			                   action->advertised.communities[i] & 0xffff);
		}
		break;
	case ROUTE_TABLE_VPC:
		text =
		    format_text("%s %s", action->vpc.attachment_id, action->vpc.effective ? "EFFECTIVE" : action->vpc.reason);
		break;
	case ROUTE_TABLE_COUNT:
		break;
	}
	free(list);
	return text;
}

static void region_publish(void *context, const struct route_action *action)
{
	struct region *region = context;
	char *text = action->removed ? NULL : region_describe(action);
	assert_true(region->log_count < LOG_LINES);
	region->log[region->log_count++] =
	    format_text("%d %s%s%s", action->table, action->key, text ? " = " : " removed", text ? text : "");
	if (action->table == ROUTE_TABLE_ADVERTISED && !action->removed) {
		free(map_insert_text(region->scopes, action->key, duplicate_text(action->advertised.node_id)));
	}
	free(text ? map_insert_text(region->rows[action->table], action->key, text)
	          : map_remove_text(region->rows[action->table], action->key));
}

static inline void region_clear_log(struct region *region)
{
	while (region->log_count > 0) {
		free(region->log[--region->log_count]);
	}
}

static inline struct region region_new(size_t static_quota, size_t learned_quota)
{
	struct region region = {.time = 1000};
	region.route = route_new();
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		region.rows[i] = map_new(NULL);
	}
	region.scopes = map_new(NULL);
	struct route_event quota = {.kind = ROUTE_QUOTA, .id = "", .quota = {static_quota, learned_quota}};
	assert_true(route_step(region.route, &quota, (struct route_sink){region_publish, &region}));
	return region;
}

static inline void region_free(struct region *region)
{
	region_clear_log(region);
	route_free(&region->route);
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		map_free(&region->rows[i], free);
	}
	map_free(&region->scopes, free);
}

static inline void region_settle(struct region *region)
{
	while (route_settle(region->route, region->time, 1, (struct route_sink){region_publish, region})) {
	}
}

static inline void region_step(struct region *region, struct route_event event)
{
	region_clear_log(region);
	assert_true(route_step(region->route, &event, (struct route_sink){region_publish, region}));
	region_settle(region);
}

static inline const char *row(const struct region *region, enum route_table table, const char *key)
{
	const char *text = map_find_text(region->rows[table], key);
	return text ? text : "(none)";
}

#define assert_row(region, table, key, text) assert_string_equal(row(region, table, key), text)
#define assert_no_row(region, table, key) assert_row(region, table, key, "(none)")

// The node whose bgp alone is told an advertised row.
static inline const char *region_scope(const struct region *region, const char *key)
{
	return map_find_text(region->scopes, key);
}

// What the sessions of a connection with a tunnel on either node are told of `destination`.
static inline void assert_advertised(const struct region *region, const char *connection_id, const char *destination,
                                     const char *text)
{
	static const char *const nodes[] = {"node-a", "node-b"};
	for (size_t i = 0; i < 2; i++) {
		char *key = format_text("%s/%s/%s", connection_id, nodes[i], destination);
		assert_row(region, ROUTE_TABLE_ADVERTISED, key, text);
		free(key);
	}
}

// The group that the effective route `key` forwards through, as text; "(none)" when there is no such route.
static inline const char *through(const struct region *region, const char *key)
{
	const char *next_hop = row(region, ROUTE_TABLE_EFFECTIVE, key);
	return strncmp(next_hop, "nhg-", 4) == 0 ? row(region, ROUTE_TABLE_GROUP, next_hop) : next_hop;
}

// ---- inputs ----
static inline void gateway(struct region *region, const char *id, bool transit)
{
	static const char *const nodes[] = {"node-a", "node-b"};
	region_step(
	    region,
	    (struct route_event){
	        .kind = ROUTE_GATEWAY,
	        .id = id,
	        .gateway = {.tenant = "acme", .asn = 65000, .allow_transit = transit, .node_ids = nodes, .node_count = 2}});
}

static inline void vpc(struct region *region, const char *id, const char *block)
{
	struct prefix blocks[] = {prefix(block)};
	region_step(region, (struct route_event){.kind = ROUTE_VPC, .id = id, .vpc = {"host-1", blocks, 1}});
}

static inline void subnet(struct region *region, const char *id, const char *vpc_id, const char *cidr)
{
	region_step(region, (struct route_event){.kind = ROUTE_SUBNET, .id = id, .subnet = {vpc_id, prefix(cidr)}});
}

static inline void attachment(struct region *region, const char *id, const char *gateway_id, const char *vpc_id, uint64_t order)
{
	region_step(region, (struct route_event){.kind = ROUTE_ATTACHMENT,
	                                         .id = id,
	                                         .attachment = {.gateway_id = gateway_id, .vpc_id = vpc_id, .order = order}});
}

static inline void connection(struct region *region, const char *id, const char *gateway_id, bool bgp)
{
	region_step(region, (struct route_event){.kind = ROUTE_CONNECTION, .id = id, .connection = {gateway_id, bgp}});
}

static inline void session(struct region *region, const char *tunnel_id, uint32_t asn, bool established)
{
	region_step(region, (struct route_event){.kind = ROUTE_SESSION, .id = tunnel_id, .session = {asn, established}});
}

// With a BGP session that is Established.
static inline void tunnel(struct region *region, const char *id, const char *connection_id, const char *node_id)
{
	session(region, id, 65010, true);
	region_step(region, (struct route_event){.kind = ROUTE_TUNNEL, .id = id, .tunnel = {connection_id, node_id, true}});
}

static inline void tunnel_is(struct region *region, const char *id, bool up)
{
	region_step(region, (struct route_event){.kind = ROUTE_TUNNEL_STATE, .id = id, .tunnel_state.up = up});
}

static inline void learn(struct region *region, const char *tunnel_id, const char *destination, uint32_t metric)
{
	static const uint32_t path[8] = {65010, 65011, 65012, 65013, 65014, 65015, 65016, 65017};
	region_step(
	    region,
	    (struct route_event){
	        .kind = ROUTE_LEARNED,
	        .id = tunnel_id,
	        .learned = {.destination = prefix(destination), .metric = metric, .as_path = path, .as_count = metric}});
}

static inline void learn_with(struct region *region, const char *tunnel_id, const char *destination, uint32_t neighbour,
                              uint32_t med, uint32_t origin, uint32_t community)
{
	region_step(region, (struct route_event){.kind = ROUTE_LEARNED,
	                                         .id = tunnel_id,
	                                         .learned = {.destination = prefix(destination),
	                                                     .metric = 1,
	                                                     .origin = origin,
	                                                     .as_path = &neighbour,
	                                                     .as_count = 1,
	                                                     .med = med,
	                                                     .communities = &community,
	                                                     .community_count = community != 0}});
}

static inline void node_is(struct region *region, const char *id, bool gone, bool bgp_silent)
{
	region_step(region, (struct route_event){.kind = ROUTE_NODE, .id = id, .node = {gone, bgp_silent}});
}

static inline void withdraw(struct region *region, const char *tunnel_id, const char *destination)
{
	region_step(region, (struct route_event){.kind = ROUTE_LEARNED,
	                                         .id = tunnel_id,
	                                         .removed = true,
	                                         .learned = {.destination = prefix(destination)}});
}

static inline void static_route(struct region *region, const char *id, const char *destination, const char *next_hop,
                                const char *created)
{
	region_step(region, (struct route_event){.kind = ROUTE_STATIC,
	                                         .id = id,
	                                         .static_route = {.gateway_id = "bgw",
	                                                          .destination = prefix(destination),
	                                                          .to_attachment = strncmp(next_hop, "att", 3) == 0,
	                                                          .next_hop_id = next_hop,
	                                                          .created = created}});
}

static inline void drop(struct region *region, enum route_event_kind kind, const char *id)
{
	region_step(region, (struct route_event){.kind = kind, .id = id, .removed = true});
}

// Border gateway "bgw" on two nodes; VPC "vpc" with subnet 10.0.1.0/24, attached by "att"; BGP connection "vpn" with tunnels
// "tun-a" on node-a and "tun-b" on node-b, both UP.
static inline struct region region_of_tutorial(void)
{
	struct region region = region_new(50, 300);
	gateway(&region, "bgw", false);
	vpc(&region, "vpc", "10.0.0.0/16");
	subnet(&region, "sub", "vpc", "10.0.1.0/24");
	attachment(&region, "att", "bgw", "vpc", 1);
	connection(&region, "vpn", "bgw", true);
	tunnel(&region, "tun-a", "vpn", "node-a");
	tunnel(&region, "tun-b", "vpn", "node-b");
	tunnel_is(&region, "tun-a", true);
	tunnel_is(&region, "tun-b", true);
	return region;
}

#endif
