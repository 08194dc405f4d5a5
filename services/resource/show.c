// A row as a user sees it: with what was reported of it, and without what nobody may see.
#include <stdio.h>
#include <string.h>
#include <time.h>

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
// Of a route learned by BGP: what decides between routes of one AS path length (RFC 4271 §5.1.1, §5.1.4), and what the customer
// marked it with (RFC 1997).
static void show_attributes(struct record *out, const struct shown_route *route)
{
	static const char *const origins[] = {"IGP", "EGP", "INCOMPLETE"};
	static const struct {
		uint32_t community;
		const char *name;
	} well_known[] = {{0xffffff01, "NO_EXPORT"},
	                  {0xffffff02, "NO_ADVERTISE"},
	                  {0xffffff03, "NO_EXPORT_SUBCONFED"},
	                  {0xffff0000, "GRACEFUL_SHUTDOWN"}};
	if (route->origin < sizeof origins / sizeof origins[0]) {
		record_set_text(out, "origin", origins[route->origin]);
	}
	record_set_number(out, "med", route->med);
	for (size_t i = 0; i < route->community_count; i++) {
		uint32_t community = route->communities[i];
		char text[32];
		snprintf(text, sizeof text, "%u:%u", community >> 16, community & 0xffff);
		for (size_t k = 0; k < sizeof well_known / sizeof well_known[0]; k++) {
			if (well_known[k].community == community) {
				snprintf(text, sizeof text, "%s", well_known[k].name);
			}
		}
		record_append_text(out, "communities", text);
	}
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
	if (route->learned) {
		show_attributes(out, route);
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

const char *route_list_path(enum shown_table table)
{
	static const char *const paths[SHOWN_TABLES] = {[SHOWN_STATIC] = "routeTables.staticRoutes",
	                                                [SHOWN_PROPAGATED] = "routeTables.propagatedRoutes",
	                                                [SHOWN_EFFECTIVE] = "routeTables.effectiveRoutes",
	                                                [SHOWN_VPC] = "routes"};
	return paths[table];
}

struct routes_shown {
	const struct resource *resource;
	struct record *row;
};

static void add_route(void *context, const struct shown_route *route)
{
	struct routes_shown *shown = context;
	show_route(shown->resource, record_append(shown->row, route_list_path(route->table)), route);
}

struct record *resource_routes(const struct resource *resource, const struct record *owner, const struct route_query *query,
                               struct page *page, struct problem *problem)
{
	struct routes_shown shown = {resource, record_new(record_kind(owner))};
	if (!routes_page(resource, record_text(owner, "id"), query, page, add_route, &shown, problem)) {
		record_free(&shown.row);
	}
	return shown.row;
}

// The first routes of each table, and how many there are.
static void show_routes(const struct resource *resource, struct record *row)
{
	static const struct route_owner none = {0};
	const struct route_owner *owner = route_owner_find(resource, record_text(row, "id"));
	bool vpc = record_kind(row) == RESOURCE_VPC_ROUTE_TABLE, truncated = false;
	struct routes_shown shown = {resource, row};
	owner = owner ? owner : &none;
	for (size_t table = 0; table < SHOWN_TABLES; table++) {
		struct problem problem;
		struct page page = {.limit = ROUTES_SHOWN};
		if (vpc == (table == SHOWN_VPC)) {
			routes_page(resource, record_text(row, "id"), &(struct route_query){.table = (enum shown_table)table},
			            &page, add_route, &shown, &problem);
			truncated = truncated || page.next[0];
		}
	}
	if (vpc) {
		record_set_number(row, "routeCount", owner->counts[SHOWN_VPC]);
		record_set_number(row, "notEffectiveRouteCount", owner->not_effective);
		record_set_flag(row, "routesTruncated", truncated);
		return;
	}
	record_set_number(row, "routeTables.staticCount", owner->counts[SHOWN_STATIC]);
	record_set_number(row, "routeTables.propagatedCount", owner->counts[SHOWN_PROPAGATED]);
	record_set_number(row, "routeTables.learnedCount", owner->learned);
	record_set_number(row, "routeTables.effectiveCount", owner->counts[SHOWN_EFFECTIVE]);
	record_set_number(row, "routeTables.notEffectiveCount", owner->not_effective);
	record_set_flag(row, "routeTables.truncated", truncated);
}

// ---- tunnels ----
struct tunnel_figures resource_figures(const struct resource *resource, const char *tunnel_id)
{
	const struct record *tunnel = resource_find(resource, RESOURCE_VPN_TUNNEL, tunnel_id);
	const struct report *report = report_find(resource, tunnel_id);
	struct tunnel_figures figures = {0};
	if (tunnel) {
		struct tunnel_view view;
		tunnel_view(resource, tunnel, &view);
		figures.up = strcmp(view.running, "UP") == 0;
		figures.established = view.bgp && strcmp(view.bgp, "Established") == 0;
	}
	if (report) {
		figures.counters = report->counters;
	}
	return figures;
}

static void show_session(struct record *row, const struct bgp_session *session)
{
	char since[TIME_TEXT];
	record_set_number(row, "bgpSession.prefixesReceived", session->prefixes_received);
	record_set_number(row, "bgpSession.prefixesAdvertised", session->prefixes_advertised);
	record_set_number(row, "bgpSession.prefixesDiscarded", session->prefixes_discarded);
	if (session->hold_time) {
		record_set_number(row, "bgpSession.holdTime", session->hold_time);
	}
	if (session->remote_asn) {
		record_set_number(row, "bgpSession.remoteAsn", session->remote_asn);
	}
	set_if(row, "bgpSession.lastError", session->last_error);
	if (session->since) {
		record_set_text(row, "bgpSession.since", time_format(session->since, since));
	}
}

static void show_tunnel(const struct resource *resource, struct record *row)
{
	static const struct report none = {0};
	const struct report *report = report_find(resource, record_text(row, "id"));
	struct tunnel_view view;
	char since[TIME_TEXT];
	tunnel_view(resource, row, &view);
	report = report ? report : &none;
	record_set_text(row, "runningStatus", view.running);
	set_if(row, "reason", view.reason);
	set_if(row, "bgpState", view.bgp);
	set_if(row, "bgpReason", view.bgp_reason);
	if (view.bgp && report->has_bgp) {
		show_session(row, &report->bgp);
	}
	// Only what its ike said of this very status.
	if (report->has_status && report->since && strcmp(view.running, tunnel_state_name(report->state)) == 0) {
		record_set_text(row, "runningSince", time_format(report->since, since));
	}
	set_if(row, "ikeSuite", report->ike_suite);
	set_if(row, "childSuite", report->child_suite);
	record_set_number(row, "statistics.packetsIn", report->counters.packets_in);
	record_set_number(row, "statistics.bytesIn", report->counters.bytes_in);
	record_set_number(row, "statistics.packetsOut", report->counters.packets_out);
	record_set_number(row, "statistics.bytesOut", report->counters.bytes_out);
	record_set_number(row, "statistics.drops", report->counters.drops);
	list_weak(row);
}

static void show_usage(const struct resource *resource, struct record *row)
{
	static const struct {
		enum resource_kind kind;
		const char *path;
	} counted[] = {{RESOURCE_BORDER_GATEWAY, "usage.borderGateways"},
	               {RESOURCE_CUSTOMER_GATEWAY, "usage.customerGateways"},
	               {RESOURCE_VPC, "usage.vpcs"},
	               {RESOURCE_TOKEN, "usage.tokens"}};
	for (size_t i = 0; i < sizeof counted / sizeof counted[0]; i++) {
		struct index_key key = {counted[i].kind, "tenant", record_text(row, "id")};
		record_set_number(row, counted[i].path, index_count(resource->index, key));
	}
}

static void show_node(const struct resource *resource, struct record *row)
{
	for (size_t i = 0; i < NODE_SERVICES; i++) {
		if (service_is_silent(resource, record_text(row, "id"), (enum node_service)i)) {
			record_append_text(row, "silentServices", node_service_names[i]);
		}
	}
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
		record_set_text(shown, "haStatus", ha_status(resource, row));
		break;
	case RESOURCE_QUOTA:
		show_usage(resource, shown);
		break;
	case RESOURCE_NODE:
		show_node(resource, shown);
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
