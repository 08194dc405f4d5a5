// The tables of route: rows of resource, ike, bgp and esp become events of the core, and what the core publishes becomes rows.
// See README.md for the list. Here: settling in portions, completeness, life.
//
// The output tables are complete, and only then sent to anybody, when every input has had its first snapshot: a route that has
// just started must not withdraw what it has not heard of yet. A node's service that is not there is waited for only so long.
#include <inttypes.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "services/route/bus_tables.h"

enum { PORTION = 2048 }; // destinations settled before the loop turns again

static void warn_of_quota(void *context, const char *gateway_id, enum route_quota_kind kind, const struct route_usage *usage)
{
	static const char *const levels[] = {[ROUTE_QUOTA_OK] = "quota-ok",
	                                     [ROUTE_QUOTA_NEAR] = "quota-nearly-reached",
	                                     [ROUTE_QUOTA_EXCEEDED] = "quota-exceeded"};
	(void)context;
	log_event(usage->level == ROUTE_QUOTA_OK ? LOG_INFO : LOG_WARNING, levels[usage->level], "border-gateway", gateway_id,
	          "what", kind == ROUTE_QUOTA_STATIC ? "static routes" : "learned routes", "count",
	          log_number((int64_t)usage->count), "discarded", log_number((int64_t)usage->discarded), "quota",
	          log_number((int64_t)usage->limit), NULL);
}

void route_bus_settle(void *context)
{
	struct route_bus *bus = context;
	instant start = now();
	table_commit(bus->tables[ROUTE_TABLE_GROUP]); // failed tunnels wait for nothing
	bus->reaping = false;
	bool more = route_settle(bus->service->route, wall_clock(), PORTION, (struct route_sink){publish_row, bus});
	publish_commit(bus);
	metric_add(bus->portions, 1);
	metric_add(bus->busy, (uint64_t)(now() - start));
	if (more) {
		deadline_arm(&bus->more, now());
	} else {
		route_warnings(bus->service->route, warn_of_quota, bus);
	}
}

void route_bus_step(struct route_bus *bus, const struct route_event *event)
{
	metric_add(bus->events, 1);
	if (!route_step(bus->service->route, event, (struct route_sink){publish_row, bus})) {
		metric_add(bus->unusable, 1);
		log_limited(LOG_ERROR, "row-not-usable", "id", or_empty(event->id), NULL);
	}
}

void route_bus_check_complete(void *context)
{
	struct route_bus *bus = context;
	if (bus->complete || !resource_heard(bus)) {
		return;
	}
	if (!nodes_heard(bus)) {
		deadline_arm(&bus->wait, now() + MILLISECONDS(50));
		return;
	}
	while (route_pending(bus->service->route) > 0) {
		route_bus_settle(bus);
	}
	bus->complete = true;
	deadline_disarm(&bus->wait);
	for (size_t i = 0; i < ROUTE_TABLE_COUNT; i++) {
		table_complete(bus->tables[i]);
	}
	route_forget(bus->service->route);
	health_wait(bus->service->health, "its inputs", false);
	log_event(LOG_INFO, "complete", "milliseconds", log_number((now() - bus->started) / 1000), NULL);
}

bool route_bus_has(const struct route_bus *bus, const char *key)
{
	return table_has(bus->tables[ROUTE_TABLE_SHOWN], text_bytes(key)) || table_has(bus->tables[ROUTE_TABLE_VPC], text_bytes(key));
}

bool route_bus_complete(const struct route_bus *bus)
{
	return bus->complete;
}

struct route_bus *route_bus_new(struct service *service, struct bus *from)
{
	struct route_bus *bus = allocate(sizeof *bus);
	bus->service = service;
	bus->bus = from;
	deadline_init(&bus->more, service->loop, route_bus_settle, bus);
	deadline_init(&bus->wait, service->loop, route_bus_check_complete, bus);
	bus->events = metric(METRIC_COUNTER, "twinspan_route_events_total", NULL, "Input rows taken in");
	bus->unusable = metric(METRIC_COUNTER, "twinspan_route_rows_unusable_total", NULL, "Input rows that could not be used");
	bus->portions = metric(METRIC_COUNTER, "twinspan_route_portions_total", NULL, "Portions of changes published");
	bus->busy =
	    metric(METRIC_COUNTER, "twinspan_route_busy_microseconds_total", NULL, "Time spent settling and publishing");
	publish_start(bus);
	health_wait(service->health, "its inputs", true);
	return bus;
}

void route_bus_start(struct route_bus *bus)
{
	bus->started = now();
	resource_start(bus);
	nodes_start(bus);
}

void route_bus_free(struct route_bus **bus)
{
	struct route_bus *b = *bus;
	if (!b) {
		return;
	}
	deadline_disarm(&b->more);
	deadline_disarm(&b->wait);
	resource_free(b);
	nodes_free(b);
	publish_free(b);
	free(b);
	*bus = NULL;
}
