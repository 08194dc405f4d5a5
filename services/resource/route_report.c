// The route tables as `route` reports them, and the members of the next-hop groups they name.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/resource/store.h"

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

void routes_free(struct resource *resource)
{
	map_free(&resource->routes, free_owner);
	map_free(&resource->route_owners, free);
	map_free(&resource->groups, free_group);
}
