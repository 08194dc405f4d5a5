// What the other services report of tunnels and routes, as it was last.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/resource/store.h"

static void free_report(void *at)
{
	struct report *report = at;
	for (size_t i = 0; i < report->event_count; i++) {
		free(report->events[i].event);
		free(report->events[i].detail);
	}
	free(report->reason);
	free(report->ike_suite);
	free(report->child_suite);
	free(report->bgp_state);
	free(report);
}

const struct report *report_find(const struct resource *resource, const char *tunnel_id)
{
	return map_find_text(resource->reports, tunnel_id);
}

static struct report *report_of(struct resource *resource, const char *tunnel_id)
{
	struct report *report = map_find_text(resource->reports, tunnel_id);
	if (!report) {
		report = allocate(sizeof *report);
		map_insert_text(resource->reports, tunnel_id, report);
	}
	return report;
}

// Nothing is known of the tunnel any more: its report goes, so that a deleted tunnel leaves nothing behind.
static void forget(struct resource *resource, const char *tunnel_id)
{
	const struct report *report = report_find(resource, tunnel_id);
	const struct tunnel_counters none = {0};
	if (report && !report->has_status && !report->bgp_state && report->event_count == 0 &&
	    memcmp(&report->counters, &none, sizeof none) == 0) {
		free_report(map_remove_text(resource->reports, tunnel_id));
	}
}

void report_drop(struct resource *resource, const char *tunnel_id)
{
	struct report *report = map_remove_text(resource->reports, tunnel_id);
	if (report) {
		free_report(report);
	}
}

static void replace_text(char **text, const char *with)
{
	free(*text);
	*text = duplicate_text(with);
}

void resource_report_status(struct resource *resource, const char *tunnel_id, const struct tunnel_status *status)
{
	struct report *report = report_of(resource, tunnel_id);
	report->has_status = status != NULL;
	report->state = status ? status->state : TUNNEL_DOWN;
	report->since = status ? status->since : 0;
	replace_text(&report->reason, status ? status->reason : NULL);
	replace_text(&report->ike_suite, status ? status->ike_suite : NULL);
	replace_text(&report->child_suite, status ? status->child_suite : NULL);
	forget(resource, tunnel_id);
}

void resource_report_counters(struct resource *resource, const char *tunnel_id, const struct tunnel_counters *counters)
{
	report_of(resource, tunnel_id)->counters = counters ? *counters : (struct tunnel_counters){0};
	forget(resource, tunnel_id);
}

void resource_report_bgp(struct resource *resource, const char *tunnel_id, const char *state)
{
	replace_text(&report_of(resource, tunnel_id)->bgp_state, state);
	forget(resource, tunnel_id);
}

void resource_report_event(struct resource *resource, const char *tunnel_id, const struct tunnel_event *event)
{
	if (!resource_find(resource, RESOURCE_VPN_TUNNEL, tunnel_id)) {
		return; // the last words of a tunnel that is gone: nobody could ask for them
	}
	struct report *report = report_of(resource, tunnel_id);
	size_t at = report->event_count;
	while (at > 0 && report->events[at - 1].number > event->number) {
		at--;
	}
	if (at > 0 && report->events[at - 1].number == event->number) {
		return; // heard before
	}
	if (report->event_count == TUNNEL_EVENTS) {
		if (at == 0) {
			return; // older than all that are kept
		}
		free(report->events[0].event);
		free(report->events[0].detail);
		memmove(&report->events[0], &report->events[1], (TUNNEL_EVENTS - 1) * sizeof report->events[0]);
		report->event_count--;
		at--;
	}
	memmove(&report->events[at + 1], &report->events[at], (report->event_count - at) * sizeof report->events[0]);
	report->events[at] =
	    (struct event_report){event->number, event->time, duplicate_text(event->event), duplicate_text(event->detail)};
	report->event_count++;
}

size_t resource_events(const struct resource *resource, const char *tunnel_id, struct tunnel_event out[static TUNNEL_EVENTS])
{
	const struct report *report = report_find(resource, tunnel_id);
	for (size_t i = 0; report && i < report->event_count; i++) {
		const struct event_report *event = &report->events[i];
		out[i] = (struct tunnel_event){event->number, event->time, event->event, event->detail};
	}
	return report ? report->event_count : 0;
}

void resource_report_node(struct resource *resource, const char *node_id, bool silent)
{
	if (silent) {
		map_insert_text(resource->silent_nodes, node_id, resource->silent_nodes);
	} else {
		map_remove_text(resource->silent_nodes, node_id);
	}
}

bool node_is_silent(const struct resource *resource, const char *node_id)
{
	return map_find_text(resource->silent_nodes, node_id) != NULL;
}

// ---- routes ----
static void free_route(void *at)
{
	struct route_report *report = at;
	if (!report) {
		return;
	}
	struct shown_route *route = &report->route;
	const char *texts[] = {route->owner, route->destination, route->next_hop_type, route->next_hop_id,
	                       route->type,  route->reason,      route->group_id};
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		free((char *)(uintptr_t)texts[i]);
	}
	for (size_t i = 0; i < route->tunnel_count; i++) {
		free((char *)(uintptr_t)route->tunnel_ids[i]);
	}
	free((void *)(uintptr_t)route->tunnel_ids);
	free((void *)(uintptr_t)route->as_path);
	free(report);
}

static void free_owner(void *at)
{
	struct map *routes = at;
	map_free(&routes, free_route);
}

static struct route_report *copy_route(const struct shown_route *from)
{
	struct route_report *report = allocate(sizeof *report);
	struct shown_route *to = &report->route;
	*to = *from;
	to->owner = duplicate_text(from->owner);
	to->destination = duplicate_text(from->destination);
	to->next_hop_type = duplicate_text(from->next_hop_type);
	to->next_hop_id = duplicate_text(from->next_hop_id);
	to->type = duplicate_text(from->type);
	to->reason = duplicate_text(from->reason);
	to->group_id = duplicate_text(from->group_id);
	uint32_t *as_path = allocate_array(from->as_path_length + 1, sizeof *as_path);
	if (from->as_path_length) {
		memcpy(as_path, from->as_path, from->as_path_length * sizeof *as_path);
	}
	to->as_path = as_path;
	const char **tunnels = allocate_array(from->tunnel_count + 1, sizeof *tunnels);
	for (size_t i = 0; i < from->tunnel_count; i++) {
		tunnels[i] = duplicate_text(from->tunnel_ids[i]);
	}
	to->tunnel_ids = tunnels;
	return report;
}

void resource_report_route(struct resource *resource, struct bytes key, const struct shown_route *route)
{
	char *owner = map_remove(resource->route_owners, key);
	struct map *routes = owner ? map_find_text(resource->routes, owner) : NULL;
	if (routes) {
		free_route(map_remove(routes, key));
		if (map_count(routes) == 0) {
			free_owner(map_remove_text(resource->routes, owner));
		}
	}
	free(owner);
	if (!route) {
		return;
	}
	routes = map_find_text(resource->routes, route->owner);
	if (!routes) {
		routes = map_new(NULL);
		map_insert_text(resource->routes, route->owner, routes);
	}
	map_insert(routes, key, copy_route(route));
	map_insert(resource->route_owners, key, duplicate_text(route->owner));
}

// ---- next-hop groups ----
static void free_group(void *at)
{
	struct group_report *group = at;
	for (size_t i = 0; group && i < group->count; i++) {
		free(group->tunnel_ids[i]);
	}
	free(group);
}

void resource_report_group(struct resource *resource, const char *group_id, const char *const *tunnel_ids, size_t count)
{
	if (!tunnel_ids) {
		free_group(map_remove_text(resource->groups, group_id));
		return;
	}
	struct group_report *group = allocate(sizeof *group + count * sizeof group->tunnel_ids[0]);
	group->count = count;
	for (size_t i = 0; i < count; i++) {
		group->tunnel_ids[i] = duplicate_text(tunnel_ids[i]);
	}
	free_group(map_insert_text(resource->groups, group_id, group));
}

void reports_free(struct resource *resource)
{
	map_free(&resource->reports, free_report);
	map_free(&resource->routes, free_owner);
	map_free(&resource->route_owners, free);
	map_free(&resource->silent_nodes, NULL);
	map_free(&resource->groups, free_group);
}
