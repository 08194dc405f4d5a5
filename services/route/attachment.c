// What VPC attachments propagate into a border gateway's table: the CIDRs of all subnets of the VPC as they come and go, of
// chosen ones, or none. Of prefixes of different VPCs that overlap, the one whose attachment was made first holds the place;
// the others stay in the propagated table, not effective, until it goes, whether or not it forwards itself: so a route that
// forwards never has to yield to a later one.
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
	const struct offer *blocked_by;
};

static int compare(const struct prefix *p, const struct attachment *a, const struct prefix *q, const struct attachment *b)
{
	int by_prefix = prefix_compare(p, q);
	if (by_prefix != 0) {
		return by_prefix;
	}
	return a == b ? 0 : attachment_before(a, b) ? -1 : 1;
}

static int compare_offers(const void *a, const void *b)
{
	const struct offer *p = a, *q = b;
	return compare(&p->prefix, p->attachment, &q->prefix, q->attachment);
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

static void block(struct offer *later, const struct offer *first)
{
	if (!later->blocked_by || attachment_before(first->attachment, later->blocked_by->attachment)) {
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
			if (attachment_before(other->attachment, offer->attachment)) {
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
	object_hold(&path->attachment->object);
	path_attach(r, path, g);
	return path;
}

// Walks what is and what should be side by side; an attachment whose order changed may be out of place in the former, which
// then is dropped and made anew.
void propagation_settle(struct route *r, struct gateway *g)
{
	size_t count;
	struct offer *offers = offers_of(g, &count);
	find_overlaps(offers, count);
	struct list next = {0};
	size_t old = 0, new = 0;
	while (old < g->propagated.count || new < count) {
		struct path *path = old < g->propagated.count ? g->propagated.items[old] : NULL;
		int order = !path ? 1
		            : new == count
		                ? -1
		                : compare(&path->prefix, path->attachment, &offers[new].prefix, offers[new].attachment);
		if (order < 0) {
			path_drop(r, path);
			old++;
			continue;
		}
		if (order > 0) {
			path = path_add(r, g, &offers[new]);
		} else {
			old++;
		}
		path_set_block(r, path, offers[new].blocked_by);
		list_add(&next, path);
		new ++;
	}
	list_fini(&g->propagated);
	g->propagated = next;
	free(offers);
}
