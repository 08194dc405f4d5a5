// The inputs of the route simulation as they stand, over plain arrays.
#ifndef TWINSPAN_TESTS_ROUTE_WORLD_H
#define TWINSPAN_TESTS_ROUTE_WORLD_H

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
enum { TENANTS = 2, RESERVED = 3 };
static const char *const pool[] = {"10.0.0.0/16",   "10.0.0.0/24", "10.0.1.0/24",    "10.0.1.128/25",
                                   "10.1.0.0/16",   "0.0.0.0/0",   "192.168.0.0/16", "192.168.7.0/24",
                                   "172.16.0.0/12", "fd00:1::/64", "169.254.7.0/24"};
enum { PREFIXES = sizeof pool / sizeof pool[0], DEFAULT_ROUTE = 5 };
static const char *const addresses[] = {"192.168.7.9", "fd00:1::9", "10.0.1.200", "172.16.0.1"};
enum { ADDRESSES = sizeof addresses / sizeof addresses[0] };
enum { COMMUNITIES = 4, SHUTDOWN = 1, NO_EXPORT = 2, NO_ADVERTISE = 4 }; // communities, as bits
static const uint32_t community_pool[COMMUNITIES] = {0xffff0000, 0xffffff01, 0xffffff02, 65100u << 16 | 7};

struct attributes_of_world {
	bool here;
	unsigned metric, origin, med, neighbour, communities;
};

struct world {
	struct {
		bool here, gone, bgp_silent;
	} node[NODES];
	struct {
		bool here, transit;
		unsigned tenant;
		uint32_t asn;
		unsigned nodes; // bits
	} gateway[GATEWAYS];
	struct {
		bool here;
		unsigned blocks, host;
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
		bool here, admin, up, established;
		unsigned connection, node;
		uint32_t asn;
		struct attributes_of_world learned[PREFIXES];
	} tunnel[TUNNELS];
	struct {
		bool here, to_attachment;
		unsigned gateway, prefix, next_hop, created;
	} route[STATICS];
	struct {
		bool here;
		unsigned statics, learned;
	} quota[TENANTS + 1]; // the last one: of tenants without one
	struct {
		bool here;
		unsigned address;
	} reserved[RESERVED];
	uint64_t order[GATEWAYS][PREFIXES];              // of learned destinations, as the core tells it
	uint64_t place[GATEWAYS][ATTACHMENTS][PREFIXES]; // since when an attachment propagates a prefix; 0: it does not
	uint64_t tie[GATEWAYS][ATTACHMENTS][PREFIXES];
	uint64_t clock;
};

static struct prefix parsed[PREFIXES];
static struct address parsed_addresses[ADDRESSES];

// What the generator gives a learned route as its AS path: by its neighbour and tunnel.
static inline size_t path_of(const struct attributes_of_world *learned, unsigned tunnel, uint32_t out[static 8])
{
	for (unsigned i = 0; i < learned->metric; i++) {
		out[i] = i == 0 ? 65100 + learned->neighbour : 65200 + tunnel;
	}
	return learned->metric;
}

static inline size_t communities_of(const struct attributes_of_world *learned, uint32_t out[static COMMUNITIES])
{
	size_t count = 0;
	for (unsigned i = 0; i < COMMUNITIES; i++) {
		if (learned->communities >> i & 1) {
			out[count++] = community_pool[i];
		}
	}
	return count;
}

static inline char *join(char *text, const char *more)
{
	char *joined = format_text("%s %s", text, more);
	free(text);
	return joined;
}

static inline char *as_text(const uint32_t *path, size_t count)
{
	char *text = duplicate_text("as");
	for (size_t i = 0; i < count; i++) {
		char number[16];
		snprintf(number, sizeof number, "%u", path[i]);
		text = join(text, number);
	}
	return text;
}

// What a connection is told of a route.
static inline char *told_text(const uint32_t *path, size_t path_length, unsigned origin, const uint32_t *communities,
                              size_t community_count)
{
	char number[16];
	snprintf(number, sizeof number, "o%u", origin);
	char *text = join(as_text(path, path_length), number);
	for (size_t i = 0; i < community_count; i++) {
		snprintf(number, sizeof number, "%x", communities[i]);
		text = join(text, number);
	}
	return text;
}

// What should be, or is, published, a line a row.
struct lines {
	char *items[4096];
	size_t count;
};

static inline void add(struct lines *lines, char *text)
{
	assert_true(lines->count < 4096);
	lines->items[lines->count++] = text;
}

#endif
