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

static void sum_usage(void *context, const struct route_usage *usage)
{
	struct route_usage *sum = context;
	sum->statics += usage->statics;
	sum->statics_discarded += usage->statics_discarded;
	sum->learned += usage->learned;
	sum->learned_discarded += usage->learned_discarded;
}

static void gather_metrics(void *context)
{
	const struct service *service = context;
	struct route_usage sum = {0};
	route_usage(service->route, sum_usage, &sum);
	metric_set(metric(METRIC_GAUGE, "twinspan_route_static_routes", NULL, "Static routes of border gateways"),
	           (double)sum.statics);
	metric_set(metric(METRIC_GAUGE, "twinspan_route_static_routes_discarded", NULL, "Static routes beyond their quota"),
	           (double)sum.statics_discarded);
	metric_set(metric(METRIC_GAUGE, "twinspan_route_learned_routes", NULL, "Destinations learned by BGP"),
	           (double)sum.learned);
	metric_set(
	    metric(METRIC_GAUGE, "twinspan_route_learned_routes_discarded", NULL, "Learned destinations beyond their quota"),
	    (double)sum.learned_discarded);
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
	    .settings =
	        {
	            .static_routes = (size_t)config_number("TWINSPAN_QUOTA_STATIC_ROUTES", 50, 1, 1000000),
	            .learned_routes = (size_t)config_number("TWINSPAN_QUOTA_LEARNED_ROUTES", 300, 1, 10000000),
	        },
	    .node_timeout = MILLISECONDS(config_number("TWINSPAN_NODE_TIMEOUT", 3000, 100, 600000)),
	};
	service.health = health_new(service.loop);
	service.route = route_new(&service.settings);
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
