// route: the route tables of a region. Reads its settings, makes the parts, and turns the loop.
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/io/config.h"
#include "common/io/log.h"
#include "common/io/process.h"
#include "services/route/shell.h"

static void start(void *context)
{
	struct service *service = context;
	route_bus_start(service->bus);
}

static void gather_usage(const struct service *service, enum route_quota_kind kind, const char *name, const char *help,
                         const char *discarded_name, const char *discarded_help)
{
	struct route_usage usage = route_usage(service->route, kind);
	metric_set(metric(METRIC_GAUGE, name, NULL, help), (double)usage.count);
	metric_set(metric(METRIC_GAUGE, discarded_name, NULL, discarded_help), (double)usage.discarded);
}

static void gather_metrics(void *context)
{
	const struct service *service = context;
	gather_usage(service, ROUTE_QUOTA_STATIC, "twinspan_route_static_routes", "Static routes of border gateways",
	             "twinspan_route_static_routes_discarded", "Static routes beyond their quota");
	gather_usage(service, ROUTE_QUOTA_LEARNED, "twinspan_route_learned_routes", "Destinations learned by BGP",
	             "twinspan_route_learned_routes_discarded", "Learned destinations beyond their quota");
	metric_set(metric(METRIC_GAUGE, "twinspan_route_pending", NULL, "Destinations marked and not yet settled"),
	           (double)route_pending(service->route));
	metric_set(metric(METRIC_GAUGE, "twinspan_route_store_pending", NULL, "Rows not yet written to PostgreSQL"),
	           (double)store_pending(service->store));
	metric_set(metric(METRIC_GAUGE, "twinspan_route_store_up", NULL, "1 while PostgreSQL answers"),
	           store_is_up(service->store));
}

int main(void)
{
	process_begin("route", "");
	struct service service = {
	    .loop = loop_new(),
	    .node_timeout = MILLISECONDS(config_number("TWINSPAN_NODE_TIMEOUT", 3000, 100, 600000)),
	};
	service.health = health_new(service.loop);
	service.route = route_new();
	health_before_metrics(service.health, gather_metrics, &service);
	struct bus *bus = bus_new(service.loop, service.health, "route");
	service.bus = route_bus_new(&service, bus);
	service.store = store_new(&service, start);
	config_done();
	log_event(LOG_INFO, "started", NULL);

	int result = loop_run(service.loop);

	route_bus_free(&service.bus);
	store_free(&service.store);
	bus_free(&bus);
	route_free(&service.route);
	health_free(&service.health);
	loop_free(&service.loop);
	log_event(LOG_INFO, "ended", NULL);
	return result;
}
