// The core's door: see route.h.
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "services/route/model.h"

enum { SWEEP = 8 }; // destinations that are only looked at, for one that is settled

struct route *route_new(void)
{
	struct route *r = allocate(sizeof *r);
	for (size_t i = 0; i < OBJECT_KINDS; i++) {
		r->objects[i] = map_new(NULL);
	}
	r->groups = map_new(NULL);
	r->limits = map_new(NULL);
	r->reserved = map_new(NULL);
	r->holders = map_new(NULL);
	return r;
}

bool route_step(struct route *r, const struct route_event *event, struct route_sink sink)
{
	r->sink = sink;
	return input(r, event);
}

static struct destination *take_dirty(struct route *r)
{
	struct destination *d = r->dirty_first;
	if (d) {
		r->dirty_first = d->dirty_next;
		if (!r->dirty_first) {
			r->dirty_last = NULL;
		}
		invariant(d->dirty && r->dirty_count > 0);
		d->dirty = false;
		r->dirty_count--;
	}
	return d;
}

static void settle_propagation(struct route *r)
{
	for (size_t i = 0; i < r->dirty_gateways.count; i++) {
		struct gateway *g = r->dirty_gateways.items[i];
		g->propagation_dirty = false;
		propagation_settle(r, g);
		object_release(r, &g->object);
	}
	r->dirty_gateways.count = 0;
}

static bool all_looked_at(const struct route *r)
{
	return r->dirty_groups.count == 0 && r->sweeping.count == 0;
}

bool route_settle(struct route *r, uint64_t time, size_t limit, struct route_sink sink)
{
	r->sink = sink;
	r->time = time;
	size_t looks = limit < SIZE_MAX / SWEEP ? limit * SWEEP : limit;
	groups_mark(r, looks);
	settle_propagation(r);
	gateways_sweep(r, looks);
	struct destination *d;
	while (limit > 0 && (d = take_dirty(r)) != NULL) {
		destination_settle(r, d);
		destination_reap(r, d);
		limit--;
	}
	// Whole VPC tables last: each of their destinations is looked up in border gateways' tables, which are settled then.
	if (!r->dirty_first && all_looked_at(r)) {
		vpc_tables_settle(r, limit);
	}
	// While a VPC table is only half looked through, rows of it may still name a group that no destination has.
	if (r->dirty_tables.count == 0) {
		groups_reap(r);
	}
	invariant((r->dirty_first == NULL) == (r->dirty_count == 0));
	return r->dirty_first || !all_looked_at(r) || r->dirty_tables.count > 0;
}

size_t route_pending(const struct route *r)
{
	return r->dirty_count + r->dirty_groups.count + r->sweeping.count + r->dirty_tables.count + r->dirty_gateways.count;
}

void route_remember(struct route *r, const char *key, uint64_t state, uint64_t since, uint64_t order)
{
	if (!r->remembered) {
		r->remembered = map_new(NULL);
		r->remembered_orders = map_new(NULL);
		r->remembered_places = map_new(NULL);
	}
	struct memory *memory = allocate(sizeof *memory);
	*memory = (struct memory){state, since};
	free(map_insert_text(r->remembered, key, memory));
	if (order & PLACE_MARK) {
		uint64_t *place = allocate(sizeof *place);
		*place = order & ~PLACE_MARK;
		r->next_place = *place > r->next_place ? *place : r->next_place;
		free(map_insert_text(r->remembered_places, key, place));
		return;
	}
	char gateway_id[ROUTE_ID_TEXT], address[ADDRESS_TEXT], length[4]; // key: gateway/PROPAGATED/address/length/tunnel
	if (order == 0 || sscanf(key, "%63[^/]/PROPAGATED/%45[0-9a-f.:]/%3[0-9]/", gateway_id, address, length) != 3) {
		return;
	}
	char *place = format_text("%s/%s/%s", gateway_id, address, length);
	uint64_t *value = allocate(sizeof *value);
	*value = order;
	free(map_insert_text(r->remembered_orders, place, value));
	free(place);
	if (order > r->next_order) {
		r->next_order = order;
	}
}

void route_forget(struct route *r)
{
	if (r->remembered) {
		map_free(&r->remembered, free);
		map_free(&r->remembered_orders, free);
		map_free(&r->remembered_places, free);
	}
}

static void discard(void *context, const struct route_action *action)
{
	(void)context;
	(void)action;
}

static void ignore(void *context, const char *gateway_id, enum route_quota_kind kind, const struct route_usage *usage)
{
	(void)context, (void)gateway_id, (void)kind, (void)usage;
}

static void withdraw_learned(struct route *r, struct tunnel *t)
{
	object_hold(&t->object);
	struct map_cursor cursor = {0};
	while (map_next(t->learned, &cursor)) {
		struct route_event event = {.kind = ROUTE_LEARNED, .id = t->object.id, .removed = true};
		event.learned.destination = ((struct path *)cursor.value)->prefix;
		input(r, &event);
	}
	input(r, &(struct route_event){.kind = ROUTE_TUNNEL_STATE, .id = t->object.id, .removed = true});
	input(r, &(struct route_event){.kind = ROUTE_SESSION, .id = t->object.id, .removed = true});
	object_release(r, &t->object);
}

// Takes every input back: what the model holds then falls away by itself, as it would in a running service.
void route_free(struct route **route)
{
	struct route *r = *route;
	static const enum route_event_kind events[OBJECT_ROWS] = {
	    [OBJECT_NODE] = ROUTE_NODE,
	    [OBJECT_GATEWAY] = ROUTE_GATEWAY,
	    [OBJECT_VPC] = ROUTE_VPC,
	    [OBJECT_SUBNET] = ROUTE_SUBNET,
	    [OBJECT_VPC_TABLE] = ROUTE_VPC_TABLE,
	    [OBJECT_ATTACHMENT] = ROUTE_ATTACHMENT,
	    [OBJECT_CONNECTION] = ROUTE_CONNECTION,
	    [OBJECT_TUNNEL] = ROUTE_TUNNEL,
	    [OBJECT_STATIC] = ROUTE_STATIC,
	};
	if (!r) {
		return;
	}
	r->sink = (struct route_sink){discard, NULL};
	for (size_t kind = 0; kind < OBJECT_ROWS; kind++) {
		struct list all = {0};
		struct map_cursor cursor = {0};
		while (map_next(r->objects[kind], &cursor)) {
			object_hold(cursor.value);
			list_add(&all, cursor.value);
		}
		for (size_t i = 0; i < all.count; i++) {
			struct object *object = all.items[i];
			if (kind == OBJECT_TUNNEL) {
				withdraw_learned(r, (struct tunnel *)object);
			}
			input(r, &(struct route_event){.kind = events[kind], .id = object->id, .removed = true});
			object_release(r, object);
		}
		list_fini(&all);
	}
	while (route_settle(r, r->time, SIZE_MAX, r->sink)) {
	}
	route_warnings(r, ignore, NULL);
	invariant(map_count(r->groups) == 0);
	for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
		invariant(map_count(r->objects[kind]) == 0);
		map_free(&r->objects[kind], NULL);
	}
	map_free(&r->groups, NULL);
	map_free(&r->limits, free);
	reserved_free(r);
	route_forget(r);
	list_fini(&r->dirty_gateways);
	list_fini(&r->sweeping);
	list_fini(&r->dirty_usage);
	list_fini(&r->dirty_tables);
	list_fini(&r->dying);
	list_fini(&r->dirty_groups);
	list_fini(&r->texts);
	free(r->ranked);
	free(r->candidates);
	free(r);
	*route = NULL;
}
