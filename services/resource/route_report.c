// The route tables as `route` reports them, kept in the order in which they are shown, and the members of the next-hop groups
// they name. There can be millions: one allocation each, and nothing is done to all of them for one that changes or is asked
// for.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/address.h"
#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "services/resource/cursor.h"
#include "services/resource/sorted.h"
#include "services/resource/store.h"

// ---- one route ----
static void *take(uint8_t **at, const void *from, size_t size)
{
	uint8_t *to = *at;
	if (size) {
		memcpy(to, from, size);
	}
	*at += size;
	return to;
}

// The texts of a route, those that may be NULL too.
enum { ROUTE_TEXTS = 7 };
static const char **text_of(struct shown_route *route, size_t i)
{
	const char **const texts[ROUTE_TEXTS] = {&route->owner, &route->destination, &route->next_hop_type, &route->next_hop_id,
	                                         &route->type,  &route->reason,      &route->group_id};
	return texts[i];
}

static struct route_report *copy_route(const struct shown_route *from)
{
	struct shown_route copy = *from;
	size_t size = sizeof(struct route_report) + from->tunnel_count * sizeof(char *) +
	              (from->as_path_length + from->community_count) * sizeof(uint32_t);
	for (size_t i = 0; i < ROUTE_TEXTS; i++) {
		size += *text_of(&copy, i) ? strlen(*text_of(&copy, i)) + 1 : 0;
	}
	for (size_t i = 0; i < from->tunnel_count; i++) {
		size += strlen(from->tunnel_ids[i]) + 1;
	}
	struct route_report *report = allocate(size);
	uint8_t *at = (uint8_t *)(report + 1);
	const char **tunnels = take(&at, from->tunnel_ids, from->tunnel_count * sizeof(char *));
	copy.as_path = take(&at, from->as_path, from->as_path_length * sizeof(uint32_t));
	copy.communities = take(&at, from->communities, from->community_count * sizeof(uint32_t));
	for (size_t i = 0; i < from->tunnel_count; i++) {
		tunnels[i] = take(&at, from->tunnel_ids[i], strlen(from->tunnel_ids[i]) + 1);
	}
	copy.tunnel_ids = tunnels;
	for (size_t i = 0; i < ROUTE_TEXTS; i++) {
		const char **text = text_of(&copy, i);
		*text = *text ? take(&at, *text, strlen(*text) + 1) : NULL;
	}
	invariant(at == (uint8_t *)report + size);
	report->route = copy;
	return report;
}

// ---- the order ----
enum { REPORTER_KEY = 520, ORDER_OCTETS = 1 + 1 + 16 + 1 + 1 + REPORTER_KEY };
static_assert((size_t)ORDER_OCTETS <= (size_t)CURSOR_OCTETS, "a cursor holds a place");
struct order {
	uint8_t octets[ORDER_OCTETS];
	size_t length;
};

static void put(struct order *order, const void *octets, size_t length)
{
	invariant(order->length + length <= ORDER_OCTETS);
	memcpy(order->octets + order->length, octets, length);
	order->length += length;
}

static void begin_order(struct order *order, enum shown_table table, const struct prefix *prefix)
{
	order->length = 0;
	put(order, &(uint8_t){(uint8_t)table}, 1);
	if (prefix) {
		put(order, &prefix->address.length, 1);
		put(order, prefix->address.octets, prefix->address.length);
		put(order, &prefix->length, 1);
	}
}

static struct bytes order_of(const struct shown_route *route, struct bytes key, struct order *order)
{
	struct prefix prefix;
	bool parsed = prefix_parse(route->destination, &prefix);
	invariant(parsed); // looked at when it was taken
	begin_order(order, route->table, &prefix);
	put(order, &(uint8_t){!route->effective}, 1);
	put(order, key.data, key.length);
	return (struct bytes){order->octets, order->length};
}

// ---- owners ----
const struct route_owner *route_owner_find(const struct resource *resource, const char *id)
{
	return map_find_text(resource->route_owners, id);
}

static void free_owner(void *at)
{
	struct route_owner *owner = at;
	sorted_free(&owner->routes, free);
	free(owner->id);
	free(owner);
}

static void count(struct route_owner *owner, const struct shown_route *route, bool more)
{
	size_t by = more ? 1 : SIZE_MAX; // one less
	bool learned =
	    route->table == SHOWN_PROPAGATED && (strcmp(route->type, "EBGP") == 0 || strcmp(route->type, "IBGP") == 0);
	invariant(more || owner->counts[route->table] > 0);
	owner->counts[route->table] += by;
	owner->learned += learned ? by : 0;
	owner->not_effective += route->table != SHOWN_EFFECTIVE && !route->effective ? by : 0;
	invariant(owner->learned <= owner->counts[SHOWN_PROPAGATED]);
}

static void withdraw(struct resource *resource, struct bytes key)
{
	struct route_report *report = map_remove(resource->routes, key);
	if (!report) {
		return;
	}
	struct route_owner *owner = report->owner;
	struct order order;
	void *removed = sorted_remove(owner->routes, order_of(&report->route, key, &order));
	invariant(removed == report);
	count(owner, &report->route, false);
	free(report);
	if (sorted_count(owner->routes) == 0) {
		map_remove_text(resource->route_owners, owner->id);
		free_owner(owner);
	}
}

bool resource_report_route(struct resource *resource, struct bytes key, const struct shown_route *route)
{
	struct prefix prefix;
	if (key.length > REPORTER_KEY ||
	    (route && (!route->type || route->table >= SHOWN_TABLES || !prefix_parse(route->destination, &prefix)))) {
		return false;
	}
	withdraw(resource, key);
	if (!route) {
		return true;
	}
	struct route_owner *owner = map_find_text(resource->route_owners, route->owner);
	if (!owner) {
		owner = allocate(sizeof *owner);
		owner->id = duplicate_text(route->owner);
		owner->routes = sorted_new();
		map_insert_text(resource->route_owners, owner->id, owner);
	}
	struct route_report *report = copy_route(route);
	report->owner = owner;
	struct order order;
	bool added = sorted_insert(owner->routes, order_of(route, key, &order), report);
	invariant(added);
	map_insert(resource->routes, key, report);
	count(owner, route, true);
	return true;
}

// ---- pages ----
static bool begins_with(struct bytes text, const struct order *head)
{
	return text.length >= head->length && memcmp(text.data, head->octets, head->length) == 0;
}

bool routes_page(const struct resource *resource, const char *owner_id, const struct route_query *query, struct page *page,
                 void (*visit)(void *context, const struct shown_route *route), void *context, struct problem *problem)
{
	const struct route_owner *owner = route_owner_find(resource, owner_id);
	struct prefix prefix;
	struct order head;
	page->next[0] = '\0';
	if (query->destination && !prefix_parse(query->destination, &prefix)) {
		return problem_set(problem, 400, "bad-value", "destination", query->destination,
		                   "must be a prefix a.b.c.d/n without host bits");
	}
	begin_order(&head, query->table, query->destination ? &prefix : NULL);
	uint8_t octets[CURSOR_OCTETS];
	struct bytes at = {head.octets, head.length};
	if (page->cursor) {
		at.data = octets;
		if (!cursor_read(page->cursor, octets, &at.length, problem)) {
			return false;
		}
		if (!begins_with(at, &head)) {
			return problem_set(problem, 400, "bad-cursor", "cursor", NULL, "is of another list: begin without one");
		}
	}
	struct sorted_entry entry;
	bool first = !page->cursor;
	for (size_t shown = 0; owner && sorted_after(owner->routes, at, first, &entry) && begins_with(entry.key, &head);
	     shown++) {
		if (shown == page->limit) {
			cursor_write(page->next, at);
			break;
		}
		visit(context, &((const struct route_report *)entry.value)->route);
		at = entry.key;
		first = false;
	}
	return true;
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
	map_free(&resource->routes, NULL); // the owners free them
	map_free(&resource->route_owners, free_owner);
	map_free(&resource->groups, free_group);
}
