// The tables of bgp: what is read (bus_rows.c), what is published (bus_publish.c), when it is whole (bus_learn.c), and the
// peerings that the sessions of the core belong to.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/bgp/bus_state.h"

struct peering *bgp_bus_peering(const struct bgp_bus *bus, const struct bgp_session *session)
{
	if (session != bus->last_session) {
		struct bgp_bus *cache = (struct bgp_bus *)(uintptr_t)bus;
		cache->last_session = session;
		cache->last_peering = map_find_text(bus->peerings, bgp_session_id(session));
		cache->last_peering->session = (struct bgp_session *)(uintptr_t)session;
	}
	return bus->last_peering;
}

struct peering *bgp_bus_peering_between(const struct bgp_bus *bus, const char *border_gateway_id, const struct address *local,
                                        const struct address *remote)
{
	struct map_cursor cursor = {.position = 0};
	while (map_next(bus->peerings, &cursor)) {
		struct peering *peering = cursor.value;
		if (strcmp(peering->border_gateway_id, border_gateway_id) == 0 && address_equal(&peering->local, local) &&
		    address_equal(&peering->remote, remote)) {
			return peering;
		}
	}
	return NULL;
}

size_t bgp_bus_sessions(const struct bgp_bus *bus, size_t *established)
{
	*established = 0;
	struct map_cursor cursor = {.position = 0};
	while (map_next(bus->peerings, &cursor)) {
		*established += ((struct peering *)cursor.value)->state == BGP_ESTABLISHED;
	}
	return map_count(bus->peerings);
}

void bgp_bus_stop(struct bgp_bus *bus)
{
	learn_at_once(bus);
	service_step(bus->service, &(struct bgp_event){.kind = BGP_EVENT_STOP});
}

bool bgp_bus_is_read(const struct bgp_bus *bus)
{
	return table_applied(bus->routes, "route") >= table_sequence(bus->routes) &&
	       table_applied(bus->sessions, "route") >= table_sequence(bus->sessions);
}

struct bgp_bus *bgp_bus_new(struct service *service, struct bus *bus, const char *node)
{
	struct bgp_bus *b = allocate(sizeof *b);
	b->service = service;
	service->bus = b; // the callbacks below may step
	b->peerings = map_new(NULL);
	b->sessions = table_own(bus, "bgp_session");
	b->routes = table_own(bus, "learned_route");
	b->events = table_own(bus, "bgp_event");
	table_complete(b->events);
	rows_begin(b, bus, node);
	b->advertised = advertised_begin(b, bus, node);
	learn_begin(b);
	return b;
}

static void free_peering(void *value)
{
	struct peering *peering = value;
	free(peering->tunnel_id);
	free(peering->border_gateway_id);
	free(peering);
}

void bgp_bus_free(struct bgp_bus **bus)
{
	struct bgp_bus *b = *bus;
	learn_end(b);
	advertised_end(&b->advertised);
	rows_end(b);
	map_free(&b->peerings, free_peering);
	free(b);
	*bus = NULL;
}
