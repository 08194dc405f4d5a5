// The shell of route: what main.c, bus.c, bus_*.c and db_route.c share. The core (route.h) decides; these carry rows in and
// out.
#ifndef TWINSPAN_ROUTE_SHELL_H
#define TWINSPAN_ROUTE_SHELL_H

#include "common/bus/bus.h"
#include "services/route/route.h"

struct service {
	struct loop *loop;
	struct health *health;
	struct route *route;
	struct route_bus *bus;
	struct store *store;
	duration node_timeout;
};

// ---- bus.c ----
struct route_bus;
// Owns next_hop_group, effective_route, border_gateway_route_row, advertised_route and vpc_route.
struct route_bus *route_bus_new(struct service *service, struct bus *bus);
// Makes the replicas of resource's tables, and of each node's as the node table names it.
void route_bus_start(struct route_bus *bus);
void route_bus_free(struct route_bus **bus);
bool route_bus_complete(const struct route_bus *bus); // the output tables are
// Whether a shown row has this key, be it of a border gateway or of a VPC route table.
bool route_bus_has(const struct route_bus *bus, const char *key);

// ---- db_route.c ----
struct store;
// Remembers, per shown row, since when it is what it is, and its place in the queue for its quota. `loaded` is called once:
// when the core has been given what was stored, or when that does not come soon.
struct store *store_new(struct service *service, loop_fn *loaded);
void store_free(struct store **store);
// Write-behind; never waits. `removed`: state, since and order do not count.
void store_put(struct store *store, const char *key, bool removed, uint64_t state, uint64_t since, uint64_t order);
size_t store_pending(const struct store *store);
bool store_is_up(const struct store *store);

#endif
