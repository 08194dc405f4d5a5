// The core's door: see route.h.
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "services/route/model.h"

struct route *route_new(const struct route_settings *settings)
{
	struct route *r = allocate(sizeof *r);
	r->settings = *settings;
	for (size_t i = 0; i < OBJECT_KINDS; i++) {
		r->objects[i] = map_new(NULL);
	}
	r->groups = map_new(NULL);
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

static void settle_tables(struct route *r)
{
	for (size_t i = 0; i < r->dirty_tables.count; i++) {
		struct vpc_table *table = r->dirty_tables.items[i];
		table->dirty = false;
		vpc_table_settle(r, table);
		object_release(r, &table->object);
	}
	r->dirty_tables.count = 0;
}

bool route_settle(struct route *r, uint64_t time, size_t limit, struct route_sink sink)
{
	r->sink = sink;
	r->time = time;
	groups_mark(r);
	settle_propagation(r);
	struct destination *d;
	for (size_t i = 0; i < limit && (d = take_dirty(r)) != NULL; i++) {
		destination_settle(r, d);
		destination_reap(r, d);
	}
	// Whole VPC tables last: each of their destinations is looked up in border gateways' tables, which are settled then.
	if (!r->dirty_first) {
		settle_tables(r);
	}
	groups_reap(r);
	return r->dirty_first != NULL;
}

size_t route_pending(const struct route *r)
{
	return r->dirty_count;
}

void route_remember(struct route *r, const char *key, uint64_t state, uint64_t since, uint64_t order)
{
	if (!r->remembered) {
		r->remembered = map_new(NULL);
		r->remembered_orders = map_new(NULL);
	}
	struct memory *memory = allocate(sizeof *memory);
	*memory = (struct memory){state, since};
	free(map_insert_text(r->remembered, key, memory));
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
	}
}

void route_usage(const struct route *r, route_usage_fn *fn, void *context)
{
	struct map_cursor cursor = {0};
	while (map_next(r->objects[OBJECT_GATEWAY], &cursor)) {
		const struct gateway *g = cursor.value;
		size_t statics = g->statics.count;
		struct route_usage usage = {
		    .gateway_id = g->object.id,
		    .statics = statics,
		    .statics_discarded = statics > r->settings.static_routes ? statics - r->settings.static_routes : 0,
		    .learned = g->quota.admitted.count + g->quota.waiting.count,
		    .learned_discarded = g->quota.waiting.count,
		};
		fn(context, &usage);
	}
}

static void discard(void *context, const struct route_action *action)
{
	(void)context;
	(void)action;
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
	static const enum route_event_kind events[OBJECT_KINDS] = {
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
	for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
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
	for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
		map_free(&r->objects[kind], NULL);
	}
	map_free(&r->groups, NULL);
	route_forget(r);
	list_fini(&r->dirty_gateways);
	list_fini(&r->dirty_tables);
	list_fini(&r->dying);
	list_fini(&r->dirty_groups);
	list_fini(&r->texts);
	free(r->ranked);
	free(r->candidates);
	free(r);
	*route = NULL;
}
