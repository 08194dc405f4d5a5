// What VPC attachments propagate into a border gateway's table: the CIDRs of all subnets of the VPC as they come and go, of
// chosen ones, or none.
//
// Of prefixes of different VPCs that overlap, the one that was propagated first holds the place, whichever attachment was made
// first; the others stay in the propagated table, not effective, until it goes, whether or not it forwards itself: so a route
// that forwards never has to yield to a later one. The place survives a restart. Of those that begin at the same time the
// attachment that was made first comes first.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

bool attachment_alive(const struct attachment *a, const struct gateway *g)
{
	return a->object.present && a->gateway == g && a->vpc && a->vpc->object.present;
}

struct attachment *attachment_between(const struct vpc *vpc, const struct gateway *g)
{
	for (size_t i = 0; vpc && i < vpc->attachments.count; i++) {
		if (attachment_alive(vpc->attachments.items[i], g)) {
			return vpc->attachments.items[i];
		}
	}
	return NULL;
}

void propagation_mark(struct route *r, struct gateway *g)
{
	if (g && !g->propagation_dirty) {
		g->propagation_dirty = true;
		object_hold(&g->object);
		list_add(&r->dirty_gateways, g);
	}
}

bool attachment_before(const struct attachment *a, const struct attachment *b)
{
	return a->order != b->order ? a->order < b->order : strcmp(a->object.id, b->object.id) < 0;
}

struct offer { // a prefix that an attachment propagates now
	struct prefix prefix;
	struct attachment *attachment;
	struct path *path; // NULL: it is new
	uint64_t place;
	const struct offer *blocked_by;
};

static int compare(const struct prefix *p, const struct attachment *a, const struct prefix *q, const struct attachment *b)
{
	int by_prefix = prefix_compare(p, q);
	return by_prefix != 0 ? by_prefix : strcmp(a->object.id, b->object.id);
}

static int compare_offers(const void *a, const void *b)
{
	const struct offer *p = a, *q = b;
	return compare(&p->prefix, p->attachment, &q->prefix, q->attachment);
}

static int compare_new(const void *a, const void *b)
{
	const struct offer *p = *(const struct offer *const *)a, *q = *(const struct offer *const *)b;
	if (p->attachment != q->attachment) {
		return attachment_before(p->attachment, q->attachment) ? -1 : 1;
	}
	return prefix_compare(&p->prefix, &q->prefix);
}

static bool propagates(const struct attachment *a, const struct subnet *subnet)
{
	return a->propagation == ROUTE_PROPAGATE_ALL ||
	       (a->propagation == ROUTE_PROPAGATE_SUBNETS && list_has(&a->subnets, subnet));
}

static struct offer *offers_of(const struct gateway *g, size_t *count)
{
	size_t capacity = 0;
	for (size_t i = 0; i < g->attachments.count; i++) {
		const struct attachment *a = g->attachments.items[i];
		capacity += a->vpc->subnets.count;
	}
	struct offer *offers = allocate_array(capacity + 1, sizeof *offers);
	*count = 0;
	for (size_t i = 0; g->object.present && i < g->attachments.count; i++) {
		struct attachment *a = g->attachments.items[i];
		for (size_t k = 0; attachment_alive(a, g) && k < a->vpc->subnets.count; k++) {
			const struct subnet *subnet = a->vpc->subnets.items[k];
			if (propagates(a, subnet)) {
				offers[(*count)++] = (struct offer){.prefix = subnet->cidr, .attachment = a};
			}
		}
	}
	qsort(offers, *count, sizeof *offers, compare_offers);
	return offers;
}

static bool was_first(const struct offer *a, const struct offer *b)
{
	return a->place != b->place ? a->place < b->place : strcmp(a->attachment->object.id, b->attachment->object.id) < 0;
}

static void block(struct offer *later, const struct offer *first)
{
	if (!later->blocked_by || was_first(first, later->blocked_by)) {
		later->blocked_by = first;
	}
}

// Sorted prefixes that contain the one in hand form a stack, so every overlapping pair is met once, without comparing all with
// all.
static void find_overlaps(struct offer *offers, size_t count)
{
	struct list around = {0};
	for (size_t i = 0; i < count; i++) {
		struct offer *offer = &offers[i];
		while (around.count > 0 &&
		       !prefix_contains(&((struct offer *)around.items[around.count - 1])->prefix, &offer->prefix)) {
			around.count--;
		}
		for (size_t k = 0; k < around.count; k++) {
			struct offer *other = around.items[k];
			if (other->attachment->vpc == offer->attachment->vpc) {
				continue;
			}
			if (was_first(other, offer)) {
				block(offer, other);
			} else {
				block(other, offer);
			}
		}
		list_add(&around, offer);
	}
	list_fini(&around);
}

static void path_drop(struct route *r, struct path *path)
{
	path_detach(r, path);
	object_release(r, path->blocked_by ? &path->blocked_by->object : NULL);
	object_release(r, &path->attachment->object);
	free(path);
}

static void path_set_block(struct route *r, struct path *path, const struct offer *first)
{
	struct attachment *by = first ? first->attachment : NULL;
	if (path->blocked_by == by && (!first || prefix_equal(&path->blocked_prefix, &first->prefix))) {
		return;
	}
	if (by) {
		object_hold(&by->object);
		path->blocked_prefix = first->prefix;
	}
	object_release(r, path->blocked_by ? &path->blocked_by->object : NULL);
	path->blocked_by = by;
	destination_mark(r, path->destination);
}

static struct path *path_add(struct route *r, struct gateway *g, const struct offer *offer)
{
	struct path *path = allocate(sizeof *path);
	path->kind = PATH_PROPAGATED;
	path->prefix = offer->prefix;
	path->attachment = offer->attachment;
	path->place = offer->place;
	object_hold(&path->attachment->object);
	path_attach(r, path, g);
	return path;
}

// Finds the path of each offer, and drops those that are no longer offered.
static void match(struct route *r, const struct gateway *g, struct offer *offers, size_t count)
{
	size_t new = 0;
	for (size_t old = 0; old < g->propagated.count; old++) {
		struct path *path = g->propagated.items[old];
		int order = -1;
		while (new < count &&
		       (order = compare(&offers[new].prefix, offers[new].attachment, &path->prefix, path->attachment)) < 0) {
			new ++;
		}
		if (new < count && order == 0) {
			offers[new].path = path;
			offers[new].place = path->place;
			new ++;
		} else {
			path_drop(r, path);
		}
	}
}

static uint64_t remembered_place(struct route *r, const struct gateway *g, const struct offer *offer)
{
	if (!r->remembered_places) {
		return 0;
	}
	char key[ROUTE_KEY_TEXT];
	row_key(key, g->object.id, "PROPAGATED", prefix_text(r, &offer->prefix), offer->attachment->object.id);
	uint64_t *place = map_remove_text(r->remembered_places, key);
	uint64_t value = place ? *place : 0;
	free(place);
	return value;
}

static void give_places(struct route *r, const struct gateway *g, struct offer *offers, size_t count)
{
	struct list new = {0};
	for (size_t i = 0; i < count; i++) {
		if (!offers[i].path) {
			offers[i].place = remembered_place(r, g, &offers[i]);
			if (offers[i].place == 0) {
				list_add(&new, &offers[i]);
			}
		}
	}
	if (new.count > 1) {
		qsort(new.items, new.count, sizeof *new.items, compare_new);
	}
	for (size_t i = 0; i < new.count; i++) {
		((struct offer *)new.items[i])->place = ++r->next_place;
	}
	list_fini(&new);
}

void propagation_settle(struct route *r, struct gateway *g)
{
	size_t count;
	struct offer *offers = offers_of(g, &count);
	match(r, g, offers, count);
	give_places(r, g, offers, count);
	find_overlaps(offers, count);
	g->propagated.count = 0;
	for (size_t i = 0; i < count; i++) {
		struct path *path = offers[i].path ? offers[i].path : path_add(r, g, &offers[i]);
		invariant(path->place > 0 && path->destination && path->destination->gateway == g);
		path_set_block(r, path, offers[i].blocked_by);
		list_add(&g->propagated, path);
	}
	free(offers);
}
