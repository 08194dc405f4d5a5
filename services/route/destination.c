// The destinations of a border gateway: the paths to each, and which of them wait to be settled.
//
// What concerns many destinations at once is a sweep: they are looked at one after another, a portion with each settle, so that
// a failed tunnel never waits behind it. A sweep's place is a pointer into the gateway's list, which moves on when the
// destination that it points to goes.
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
		d->previous = g->last;
		*(g->last ? &g->last->next : &g->first) = d;
		g->last = d;
	}
	return d;
}

static void destination_unlink(struct gateway *g, struct destination *d)
{
	if (g->sweep == d) {
		g->sweep = d->next;
	}
	for (size_t i = 0; i < g->tables.count; i++) {
		struct vpc_table *table = g->tables.items[i];
		if (table->offered == d) {
			table->offered = d->next;
		}
	}
	*(d->previous ? &d->previous->next : &g->first) = d->next;
	*(d->next ? &d->next->previous : &g->last) = d->previous;
	invariant(!g->first == !g->last);
}

bool destination_reap(struct route *r, struct destination *d)
{
	if (d->paths || d->dirty || d->group || d->shown.count > 0 || d->advertised.count > 0 || d->outcome != OUTCOME_NONE) {
		return false;
	}
	invariant(d->learned_count == 0 && !d->attachment && !d->attributes);
	struct gateway *g = d->gateway;
	struct prefix_key key = prefix_key_of(&d->prefix);
	destination_unlink(g, d);
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
		invariant(!r->dirty_first);
		r->dirty_first = d;
	}
	r->dirty_last = d;
	r->dirty_count++;
}

void gateway_sweep(struct route *r, struct gateway *g, bool all)
{
	g->sweep_all = (g->sweep && g->sweep_all) || all;
	g->sweep = g->first;
	if (!g->sweeping) {
		g->sweeping = true;
		object_hold(&g->object);
		list_add(&r->sweeping, g);
	}
}

void gateways_sweep(struct route *r, size_t limit)
{
	while (r->sweeping.count > 0) {
		struct gateway *g = r->sweeping.items[r->sweeping.count - 1];
		invariant(g->sweeping);
		while (g->sweep && limit > 0) {
			struct destination *d = g->sweep;
			g->sweep = d->next;
			limit--;
			if (g->sweep_all || refusal_of(r, d) != d->refusal) {
				destination_mark(r, d);
			}
		}
		if (g->sweep) {
			return;
		}
		g->sweeping = g->sweep_all = false;
		r->sweeping.count--;
		object_release(r, &g->object);
	}
}

// Its place in the queue for the quota: the one it had before a restart, or the next.
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
	invariant(!path->destination);
	path->destination = d;
	path->next = d->paths;
	d->paths = path;
	if (path->kind == PATH_LEARNED && d->learned_count++ == 0) {
		d->order = order_of(r, d);
		quota_insert(r, g, d);
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
		invariant(*at);
		at = &(*at)->next;
	}
	*at = path->next;
	path->destination = NULL;
	if (path->kind == PATH_LEARNED) {
		invariant(d->learned_count > 0);
		if (--d->learned_count == 0) {
			quota_remove(r, d->gateway, d);
			d->order = 0;
		}
	}
	destination_mark(r, d);
}
