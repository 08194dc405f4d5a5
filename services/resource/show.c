// A row as a user sees it: with what was reported of it, and without what nobody may see.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/address.h"
#include "common/base/alloc.h"
#include "services/resource/check.h"
#include "services/resource/store.h"

char *time_format(uint64_t milliseconds, char out[static TIME_TEXT])
{
	time_t seconds = (time_t)(milliseconds / 1000);
	struct tm parts;
	gmtime_r(&seconds, &parts);
	size_t n = strftime(out, TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(out + n, TIME_TEXT - n, ".%03uZ", (unsigned)(milliseconds % 1000));
	return out;
}

static void set_if(struct record *row, const char *path, const char *text)
{
	if (text && text[0]) {
		record_set_text(row, path, text);
	}
}

// ---- routes ----
static int compare_routes(const void *a, const void *b)
{
	const struct shown_route *first = *(const struct shown_route *const *)a,
	                         *second = *(const struct shown_route *const *)b;
	struct prefix p, q;
	int order = 0;
	if (prefix_parse(first->destination, &p) && prefix_parse(second->destination, &q)) {
		order = prefix_compare(&p, &q);
	}
	if (order == 0) {
		order = (int)second->effective - (int)first->effective;
	}
	return order ? order : strcmp(first->next_hop_id, second->next_hop_id);
}

static void show_route(const struct resource *resource, struct record *out, const struct shown_route *route)
{
	const struct group_report *group = route->group_id ? map_find_text(resource->groups, route->group_id) : NULL;
	char since[TIME_TEXT];
	struct field_shape type = field_shape_of(RESOURCE_VPC_ROUTE_TABLE, "routes.nextHopType");
	record_set_text(out, "destination", route->destination);
	for (size_t i = 0; i < type.value_count; i++) {
		if (strcmp(type.values[i], route->next_hop_type) == 0) {
			record_set_text(out, "nextHopType", route->next_hop_type);
		}
	}
	set_if(out, "nextHopId", route->next_hop_id);
	set_if(out, "type", route->type);
	record_set_number(out, "metric", route->metric);
	for (size_t i = 0; i < route->as_path_length; i++) {
		record_append_number(out, "asPath", route->as_path[i]);
	}
	for (size_t i = 0; i < route->tunnel_count; i++) {
		record_append_text(out, "tunnelIds", route->tunnel_ids[i]);
	}
	for (size_t i = 0; group && i < group->count; i++) {
		record_append_text(out, "tunnelIds", group->tunnel_ids[i]);
	}
	record_set_text(out, "state", route->effective ? "EFFECTIVE" : "NOT_EFFECTIVE");
	set_if(out, "reason", route->reason);
	if (route->since) {
		record_set_text(out, "since", time_format(route->since, since));
	}
}

static void show_routes(const struct resource *resource, struct record *row)
{
	static const char *const lists[] = {[SHOWN_STATIC] = "routeTables.staticRoutes",
	                                    [SHOWN_PROPAGATED] = "routeTables.propagatedRoutes",
	                                    [SHOWN_EFFECTIVE] = "routeTables.effectiveRoutes",
	                                    [SHOWN_VPC] = "routes"};
	const struct map *routes = map_find_text(resource->routes, record_text(row, "id"));
	size_t count = routes ? map_count(routes) : 0, n = 0;
	const struct shown_route **sorted = allocate_array(count + 1, sizeof *sorted);
	for (struct map_cursor c = {0}; routes && n < count && map_next(routes, &c);) {
		sorted[n++] = &((const struct route_report *)c.value)->route;
	}
	qsort(sorted, n, sizeof *sorted, compare_routes);
	bool vpc = record_kind(row) == RESOURCE_VPC_ROUTE_TABLE;
	for (size_t i = 0; i < n; i++) {
		if (vpc == (sorted[i]->table == SHOWN_VPC)) {
			show_route(resource, record_append(row, lists[sorted[i]->table]), sorted[i]);
		}
	}
	free(sorted);
}

// ---- tunnels and connections ----
static bool tunnel_is_up(const struct resource *resource, const struct record *tunnel)
{
	const struct report *report = report_find(resource, record_text(tunnel, "id"));
	return report && report->has_status && report->state == TUNNEL_UP &&
	       !node_is_silent(resource, record_text(tunnel, "nodeId"));
}

struct tunnel_figures resource_figures(const struct resource *resource, const char *tunnel_id)
{
	const struct record *tunnel = resource_find(resource, RESOURCE_VPN_TUNNEL, tunnel_id);
	const struct report *report = report_find(resource, tunnel_id);
	struct tunnel_figures figures = {.up = tunnel && tunnel_is_up(resource, tunnel)};
	if (report) {
		figures.counters = report->counters;
	}
	return figures;
}

static void show_tunnel(const struct resource *resource, struct record *row)
{
	static const char *const states[] = {[TUNNEL_DOWN] = "DOWN", [TUNNEL_CONNECTING] = "CONNECTING", [TUNNEL_UP] = "UP"};
	const struct report *report = report_find(resource, record_text(row, "id"));
	static const struct report none = {0};
	char since[TIME_TEXT];
	bool reported = report && report->has_status;
	report = report ? report : &none;
	bool silent = node_is_silent(resource, record_text(row, "nodeId"));
	record_set_text(row, "runningStatus", reported && !silent ? states[report->state] : "DOWN");
	if (silent) {
		record_set_text(row, "reason", "no service of its node answers");
	} else if (!reported) {
		record_set_text(row, "reason", "its node has not reported on it yet");
	} else if (report->state != TUNNEL_UP) {
		set_if(row, "reason", report->reason);
	}
	if (reported && report->since) {
		record_set_text(row, "runningSince", time_format(report->since, since));
	}
	set_if(row, "ikeSuite", report->ike_suite);
	set_if(row, "childSuite", report->child_suite);
	const struct record *connection = resource_find(resource, RESOURCE_VPN_CONNECTION, record_text(row, "vpnConnectionId"));
	if (connection && record_is(connection, "routing", "BGP")) {
		record_set_text(row, "bgpState", report->bgp_state ? report->bgp_state : "Idle");
	}
	record_set_number(row, "statistics.packetsIn", report->counters.packets_in);
	record_set_number(row, "statistics.bytesIn", report->counters.bytes_in);
	record_set_number(row, "statistics.packetsOut", report->counters.packets_out);
	record_set_number(row, "statistics.bytesOut", report->counters.bytes_out);
	record_set_number(row, "statistics.drops", report->counters.drops);
	list_weak(row);
}

// Two tunnels that are UP, on the two cloud addresses and to two customer addresses.
static bool highly_available(const struct resource *resource, const struct record *connection)
{
	const char *first = record_text(record_at(connection, "cloudAddresses", 0), "address");
	const char *id = record_text(connection, "id");
	for (struct row_cursor a = {0}; resource_next(resource, RESOURCE_VPN_TUNNEL, &a);) {
		if (!record_is(a.row, "vpnConnectionId", id) || !record_is(a.row, "cloudAddress", first) ||
		    !tunnel_is_up(resource, a.row)) {
			continue;
		}
		for (struct row_cursor b = {0}; resource_next(resource, RESOURCE_VPN_TUNNEL, &b);) {
			if (record_is(b.row, "vpnConnectionId", id) && !record_is(b.row, "cloudAddress", first) &&
			    !record_is(b.row, "customerAddress", record_text(a.row, "customerAddress")) &&
			    tunnel_is_up(resource, b.row)) {
				return true;
			}
		}
	}
	return false;
}

struct record *resource_show(const struct resource *resource, const struct record *row, bool routes)
{
	struct record *shown = record_copy(row);
	switch (record_kind(row)) {
	case RESOURCE_VPN_TUNNEL:
		record_clear(shown, "ike.preSharedKey");
		show_tunnel(resource, shown);
		break;
	case RESOURCE_VPN_CONNECTION:
		record_set_text(shown, "haStatus",
		                highly_available(resource, row) ? "HIGHLY_AVAILABLE" : "NOT_HIGHLY_AVAILABLE");
		break;
	case RESOURCE_BORDER_GATEWAY:
	case RESOURCE_VPC_ROUTE_TABLE:
		if (routes) {
			show_routes(resource, shown);
		}
		break;
	default:
		break;
	}
	return shown;
}
