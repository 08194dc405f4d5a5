// How many routes a border gateway takes: the limits of its tenant (product: "Quotas"; the Quota resource is the one place that
// defines them), who is within them, and when to warn.
//
// Within the quota stay those that were there first: static routes by their creation, learned destinations by arrival; when one
// of these goes, the one that has waited longest takes its place. A limit that changes takes effect at once, in both
// directions.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

// ---- learned destinations: two heaps that meet at the limit ----
static bool above(const struct list *heap, const struct quota *quota, const struct destination *a, const struct destination *b)
{
	return heap == &quota->admitted ? a->order > b->order : a->order < b->order;
}

static void heap_place(struct list *heap, size_t position, struct destination *d)
{
	heap->items[position] = d;
	d->quota_position = position;
}

static void heap_up(struct quota *quota, struct list *heap, size_t position)
{
	struct destination *d = heap->items[position];
	while (position > 0 && above(heap, quota, d, heap->items[(position - 1) / 2])) {
		heap_place(heap, position, heap->items[(position - 1) / 2]);
		position = (position - 1) / 2;
	}
	heap_place(heap, position, d);
}

static void heap_down(struct quota *quota, struct list *heap, size_t position)
{
	struct destination *d = heap->items[position];
	for (;;) {
		size_t child = 2 * position + 1;
		if (child >= heap->count) {
			break;
		}
		if (child + 1 < heap->count && above(heap, quota, heap->items[child + 1], heap->items[child])) {
			child++;
		}
		if (!above(heap, quota, heap->items[child], d)) {
			break;
		}
		heap_place(heap, position, heap->items[child]);
		position = child;
	}
	heap_place(heap, position, d);
}

static void queue_insert(struct quota *quota, struct list *heap, struct destination *d)
{
	list_add(heap, d);
	heap_up(quota, heap, heap->count - 1);
	d->admitted = heap == &quota->admitted;
}

static void queue_remove(struct quota *quota, struct list *heap, struct destination *d)
{
	size_t position = d->quota_position;
	invariant(position < heap->count && heap->items[position] == d);
	struct destination *last = heap->items[--heap->count];
	if (last != d) {
		heap_place(heap, position, last);
		heap_up(quota, heap, position);
		heap_down(quota, heap, last->quota_position);
	}
	d->admitted = false;
}

// Moves what is beyond the limit out, and what has waited longest in.
static void balance(struct route *r, struct quota *quota)
{
	while (quota->admitted.count > quota->limit) {
		struct destination *newest = quota->admitted.items[0];
		queue_remove(quota, &quota->admitted, newest);
		queue_insert(quota, &quota->waiting, newest);
		destination_mark(r, newest);
	}
	while (quota->admitted.count < quota->limit && quota->waiting.count > 0) {
		struct destination *next = quota->waiting.items[0];
		queue_remove(quota, &quota->waiting, next);
		queue_insert(quota, &quota->admitted, next);
		destination_mark(r, next);
	}
	invariant(quota->waiting.count == 0 || quota->admitted.count == quota->limit);
	invariant(quota->waiting.count == 0 || quota->admitted.count == 0 ||
	          ((struct destination *)quota->admitted.items[0])->order <=
	              ((struct destination *)quota->waiting.items[0])->order);
}

void quota_insert(struct route *r, struct gateway *g, struct destination *d)
{
	struct quota *quota = &g->quota;
	struct destination *newest = quota->admitted.count > 0 ? quota->admitted.items[0] : NULL;
	// Those that come in the first place of the queue are remembered from before a restart.
	bool first = quota->admitted.count < quota->limit || (newest && d->order < newest->order);
	queue_insert(quota, first ? &quota->admitted : &quota->waiting, d);
	balance(r, quota);
	usage_mark(r, g);
}

void quota_remove(struct route *r, struct gateway *g, struct destination *d)
{
	queue_remove(&g->quota, d->admitted ? &g->quota.admitted : &g->quota.waiting, d);
	balance(r, &g->quota);
	usage_mark(r, g);
}

// ---- static routes ----
void statics_admit(struct route *r, struct gateway *g)
{
	for (size_t i = 0; i < g->statics.count; i++) {
		struct static_route *row = g->statics.items[i];
		bool admitted = i < g->static_limit;
		if (row->admitted != admitted) {
			invariant(row->path.destination);
			row->admitted = admitted;
			destination_mark(r, row->path.destination);
		}
	}
	usage_mark(r, g);
}

// ---- the limits of a tenant ----
static const struct limits *limits_of(const struct route *r, const char *tenant)
{
	static const struct limits none = {{SIZE_MAX, SIZE_MAX}};
	const struct limits *own = map_find_text(r->limits, tenant);
	const struct limits *all = map_find_text(r->limits, "");
	return own ? own : all ? all : &none;
}

static void set_limits(struct route *r, struct gateway *g)
{
	const struct limits *limits = limits_of(r, g->tenant);
	size_t statics = limits->routes[ROUTE_QUOTA_STATIC], learned = limits->routes[ROUTE_QUOTA_LEARNED];
	if (g->static_limit != statics) {
		g->static_limit = statics;
		statics_admit(r, g);
		for (size_t i = 0; i < g->statics.count; i++) { // the reason names the limit
			destination_mark(r, ((struct static_route *)g->statics.items[i])->path.destination);
		}
	}
	if (g->quota.limit != learned) {
		g->quota.limit = learned;
		balance(r, &g->quota);
		for (size_t i = 0; i < g->quota.waiting.count; i++) {
			destination_mark(r, g->quota.waiting.items[i]);
		}
	}
	usage_mark(r, g);
}

void gateway_set_tenant(struct route *r, struct gateway *g, const char *tenant)
{
	memset(g->tenant, 0, sizeof g->tenant);
	if (tenant) {
		strncpy(g->tenant, tenant, sizeof g->tenant - 1);
	}
	set_limits(r, g);
}

void input_quota(struct route *r, const struct route_event *event)
{
	if (event->removed) {
		free(map_remove_text(r->limits, event->id));
	} else {
		struct limits *limits = allocate(sizeof *limits);
		limits->routes[ROUTE_QUOTA_STATIC] = event->quota.static_routes;
		limits->routes[ROUTE_QUOTA_LEARNED] = event->quota.learned_routes;
		free(map_insert_text(r->limits, event->id, limits));
	}
	struct map_cursor cursor = {0};
	while (map_next(r->objects[OBJECT_GATEWAY], &cursor)) { // an administrator's change, now and then
		struct gateway *g = cursor.value;
		if (event->id[0] == '\0' || strcmp(g->tenant, event->id) == 0) {
			set_limits(r, g);
		}
	}
}

// ---- warnings ----
void usage_mark(struct route *r, struct gateway *g)
{
	if (!g->usage_dirty) {
		g->usage_dirty = true;
		object_hold(&g->object);
		list_add(&r->dirty_usage, g);
	}
}

static struct route_usage usage_of(const struct gateway *g, enum route_quota_kind kind)
{
	struct route_usage usage = {.limit = g->quota.limit,
	                            .count = g->quota.admitted.count + g->quota.waiting.count,
	                            .discarded = g->quota.waiting.count};
	if (kind == ROUTE_QUOTA_STATIC) {
		usage.limit = g->static_limit;
		usage.count = g->statics.count;
		usage.discarded = usage.count > usage.limit ? usage.count - usage.limit : 0;
	}
	// 80 % without an overflow for the limit that there is none.
	usage.level = usage.discarded > 0                                               ? ROUTE_QUOTA_EXCEEDED
	              : usage.count > 0 && usage.count >= usage.limit - usage.limit / 5 ? ROUTE_QUOTA_NEAR
	                                                                                : ROUTE_QUOTA_OK;
	return usage;
}

void route_warnings(struct route *r, route_warn_fn *fn, void *context)
{
	for (size_t i = 0; i < r->dirty_usage.count; i++) {
		struct gateway *g = r->dirty_usage.items[i];
		for (enum route_quota_kind kind = 0; kind < ROUTE_QUOTA_KINDS; kind++) {
			struct route_usage usage = usage_of(g, kind);
			if (usage.level != g->levels[kind]) {
				g->levels[kind] = usage.level;
				fn(context, g->object.id, kind, &usage);
			}
		}
		g->usage_dirty = false;
		object_release(r, &g->object);
	}
	r->dirty_usage.count = 0;
}

struct route_usage route_usage(const struct route *r, enum route_quota_kind kind)
{
	struct route_usage sum = {0};
	struct map_cursor cursor = {0};
	while (map_next(r->objects[OBJECT_GATEWAY], &cursor)) {
		struct route_usage usage = usage_of(cursor.value, kind);
		sum.count += usage.count;
		sum.discarded += usage.discarded;
	}
	return sum;
}
