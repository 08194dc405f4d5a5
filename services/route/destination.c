// The destinations of a border gateway: the paths to each, which of them wait to be settled, and the quota of learned ones.
// Within the quota stay those that were there first; when one of them goes, the one that has waited longest takes its place.
#include "services/route/model.h"

#include <stdlib.h>

#include "common/base/alloc.h"

struct destination *destination_find(const struct gateway *g, const struct prefix *prefix)
{
	struct prefix_key key = prefix_key_of(prefix);
	return map_find(g->destinations, prefix_key_bytes(&key));
}

static struct destination *destination_get(struct gateway *g, const struct prefix *prefix)
{
	struct destination *d = destination_find(g, prefix);
	if (!d) {
		d = allocate(sizeof *d);
		d->gateway = g;
		object_hold(&g->object);
		d->prefix = *prefix;
		struct prefix_key key = prefix_key_of(prefix);
		map_insert(g->destinations, prefix_key_bytes(&key), d);
	}
	return d;
}

bool destination_reap(struct route *r, struct destination *d)
{
	if (d->paths || d->dirty || d->group || d->shown.count > 0 || d->advertised.count > 0 || d->outcome != OUTCOME_NONE) {
		return false;
	}
	struct gateway *g = d->gateway;
	struct prefix_key key = prefix_key_of(&d->prefix);
	map_remove(g->destinations, prefix_key_bytes(&key));
	shown_fini(r, &d->shown);
	shown_fini(r, &d->advertised);
	free(d);
	object_release(r, &g->object);
	return true;
}

void destination_mark(struct route *r, struct destination *d)
{
	if (d->dirty) {
		return;
	}
	d->dirty = true;
	d->dirty_next = NULL;
	if (r->dirty_last) {
		r->dirty_last->dirty_next = d;
	} else {
		r->dirty_first = d;
	}
	r->dirty_last = d;
	r->dirty_count++;
}

void gateway_mark(struct route *r, struct gateway *g)
{
	struct map_cursor cursor = {0};
	while (map_next(g->destinations, &cursor)) {
		destination_mark(r, cursor.value);
	}
}

// ---- the quota of learned destinations: two heaps that meet at the limit ----
static bool above(const struct list *heap, const struct quota *quota, const struct destination *a, const struct destination *b)
{
	return heap == &quota->admitted ? a->order > b->order : a->order < b->order;
}

static void heap_set(struct list *heap, size_t position, struct destination *d)
{
	heap->items[position] = d;
	d->quota_position = position;
}

static void heap_up(struct quota *quota, struct list *heap, size_t position)
{
	struct destination *d = heap->items[position];
	while (position > 0 && above(heap, quota, d, heap->items[(position - 1) / 2])) {
		heap_set(heap, position, heap->items[(position - 1) / 2]);
		position = (position - 1) / 2;
	}
	heap_set(heap, position, d);
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
		heap_set(heap, position, heap->items[child]);
		position = child;
	}
	heap_set(heap, position, d);
}

static void heap_insert(struct quota *quota, struct list *heap, struct destination *d)
{
	list_add(heap, d);
	heap_up(quota, heap, heap->count - 1);
	d->admitted = heap == &quota->admitted;
}

static void heap_remove(struct quota *quota, struct list *heap, struct destination *d)
{
	size_t position = d->quota_position;
	struct destination *last = heap->items[--heap->count];
	if (last != d) {
		heap_set(heap, position, last);
		heap_up(quota, heap, position);
		heap_down(quota, heap, last->quota_position);
	}
	d->admitted = false;
}

void quota_insert(struct route *r, struct quota *quota, struct destination *d)
{
	if (quota->admitted.count < quota->limit) {
		heap_insert(quota, &quota->admitted, d);
		return;
	}
	struct destination *newest = quota->admitted.count > 0 ? quota->admitted.items[0] : NULL;
	if (newest && d->order < newest->order) { // remembered from before a restart
		heap_remove(quota, &quota->admitted, newest);
		heap_insert(quota, &quota->waiting, newest);
		destination_mark(r, newest);
		heap_insert(quota, &quota->admitted, d);
		return;
	}
	heap_insert(quota, &quota->waiting, d);
}

void quota_remove(struct route *r, struct quota *quota, struct destination *d)
{
	if (!d->admitted) {
		heap_remove(quota, &quota->waiting, d);
		return;
	}
	heap_remove(quota, &quota->admitted, d);
	if (quota->waiting.count > 0) {
		struct destination *next = quota->waiting.items[0];
		heap_remove(quota, &quota->waiting, next);
		heap_insert(quota, &quota->admitted, next);
		destination_mark(r, next);
	}
}

// Its place in the queue: the one it had before a restart, or the next.
static uint64_t order_of(struct route *r, const struct destination *d)
{
	char key[ROUTE_KEY_TEXT];
	row_key(key, d->gateway->object.id, prefix_text(r, &d->prefix), NULL, NULL);
	uint64_t *remembered = r->remembered_orders ? map_remove_text(r->remembered_orders, key) : NULL;
	uint64_t order = remembered ? *remembered : ++r->next_order;
	free(remembered);
	return order;
}

void path_attach(struct route *r, struct path *path, struct gateway *g)
{
	struct destination *d = destination_get(g, &path->prefix);
	path->destination = d;
	path->next = d->paths;
	d->paths = path;
	if (path->kind == PATH_LEARNED && d->learned_count++ == 0) {
		d->order = order_of(r, d);
		quota_insert(r, &g->quota, d);
	}
	destination_mark(r, d);
}

void path_detach(struct route *r, struct path *path)
{
	struct destination *d = path->destination;
	if (!d) {
		return;
	}
	struct path **at = &d->paths;
	while (*at != path) {
		at = &(*at)->next;
	}
	*at = path->next;
	path->destination = NULL;
	if (path->kind == PATH_LEARNED && --d->learned_count == 0) {
		quota_remove(r, &d->gateway->quota, d);
		d->order = 0;
	}
	destination_mark(r, d);
}
