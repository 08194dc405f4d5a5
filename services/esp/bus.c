// The tables of esp; see bus.h and README.md. Rows may come in any order: the core and net_kernel.c wait for what a row refers
// to.
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/log.h"
#include "services/esp/bus_shell.h"

static void report_node(struct esp_bus *bus)
{
	size_t capacity = kernel_gateway_count(bus->parts.kernel);
	const char **ids = allocate_array(capacity + 1, sizeof *ids);
	Twinspan__NodeStatus row = TWINSPAN__NODE_STATUS__INIT;
	row.node_id = (char *)(uintptr_t)bus->parts.node;
	row.started = bus->started;
	row.workers = bus->parts.workers;
	row.n_border_gateway_ids = kernel_gateways(bus->parts.kernel, ids, capacity);
	row.border_gateway_ids = (char **)(uintptr_t)ids;
	row_put(bus->node_status, "", text_bytes(bus->parts.node), &row.base);
	table_commit(bus->node_status);
	free(ids);
}

void bus_settled(void *context)
{
	struct esp_bus *bus = context;
	kernel_settle(bus->parts.kernel);
}

void esp_bus_gateways_changed(struct esp_bus *bus)
{
	report_node(bus);
}

// Once every table has been told, what an earlier process left in the kernel and nobody wants can go; and once ike has told of
// its SAs, the records of those that are no more.
static void feed_state(void *context)
{
	struct esp_bus *bus = context;
	if (!bus->sas_complete && bus->child_sa && feed_has_snapshot(bus->child_sa)) {
		bus->sas_complete = true;
		esp_sa_complete(bus->parts.esp);
	}
	for (size_t i = 0; i < FEEDS; i++) {
		if (!bus->feeds[i] || !feed_has_snapshot(bus->feeds[i])) {
			return;
		}
	}
	if (!bus->swept) {
		bus->swept = true;
		kernel_sweep(bus->parts.kernel);
		log_event(LOG_INFO, "tables-complete", NULL);
	}
}

static struct feed *follow(struct esp_bus *bus, const char *owner, const struct feed_kind *kind)
{
	invariant(bus->feed_count < FEEDS);
	struct feed *feed = feed_new(bus->parts.bus, owner, kind, bus->parts.node, bus);
	bus->feeds[bus->feed_count++] = feed;
	feed_on_state(feed, feed_state, bus);
	return feed;
}

struct esp_bus *esp_bus_new(const struct esp_bus_parts *parts)
{
	struct esp_bus *bus = allocate(sizeof *bus);
	bus->parts = *parts;
	bus->ike = format_text("ike.%s", parts->node);
	bus->routes = map_new(NULL);
	bus->started = wall_clock();
	bus->node_status = table_own(parts->bus, "node_status");
	bus->held_ike_sa = table_own(parts->bus, "held_ike_sa");
	bus->sa_usage = table_own(parts->bus, "sa_usage");
	bus->tunnel_counters = table_own(parts->bus, "tunnel_counters");
	deadline_init(&bus->report, parts->loop, bus_report, bus);
	bus->counters_at = INSTANT_NEVER;
	esp_on_beneath(parts->esp, bus_beneath, bus);
	// Complete at once, held_ike_sa too: after the node's start there is nothing to hold, and an ike that lives tells its
	// states again.
	report_node(bus);
	table_complete(bus->node_status);
	table_complete(bus->held_ike_sa);
	table_complete(bus->sa_usage);
	table_complete(bus->tunnel_counters);
	for (size_t i = 0; i < bus_resource_count; i++) {
		follow(bus, "resource", &bus_resource_kinds[i]);
	}
	for (size_t i = 0; i < bus_route_count; i++) {
		follow(bus, "route", &bus_route_kinds[i]);
	}
	bus->child_sa = follow(bus, bus->ike, &bus_child_sa_kind);
	bus->ike_sa = replica_new(parts->bus, bus->ike, "ike_sa", parts->node, bus_ike_sa_changed, bus);
	return bus;
}

void esp_bus_free(struct esp_bus **bus)
{
	if (!*bus) {
		return;
	}
	deadline_disarm(&(*bus)->report);
	for (size_t i = 0; i < (*bus)->feed_count; i++) {
		feed_free(&(*bus)->feeds[i]);
	}
	replica_free(&(*bus)->ike_sa);
	esp_on_beneath((*bus)->parts.esp, NULL, NULL);
	map_free(&(*bus)->routes, bus_free_known_route);
	free((*bus)->ike);
	free(*bus);
	*bus = NULL;
}
