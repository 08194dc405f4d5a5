// Which paths to a destination forward: next-hop type (VPC attachment 100 before VPN connection 140), then route type (static
// 100, propagated from a VPC 120, eBGP 150, iBGP 200), then metric (AS path length), lower first. After the metric come the
// other attributes: a route that is being shut down gracefully (RFC 8326) last, then the origin (RFC 4271 §9.1.2.2 b), then the
// MED among routes of the same neighbouring AS (c). What is equal after that forwards together. Nothing whose next hop is not
// alive is effective, nor is a learned prefix that is refused (reserved.c).
#include "services/route/model.h"

#include <string.h>

#include "common/base/alloc.h"

static bool internal_bgp(const struct tunnel *t)
{
	return t->home && t->remote_asn != 0 && t->remote_asn == t->home->asn;
}

const char *path_type(const struct path *path)
{
	switch (path->kind) {
	case PATH_STATIC:
		return "STATIC";
	case PATH_PROPAGATED:
		return "PROPAGATED";
	case PATH_LEARNED:
		break;
	}
	return internal_bgp(path->tunnel) ? "IBGP" : "EBGP";
}

static bool eligible(const struct destination *d, const struct path *path)
{
	const struct gateway *g = d->gateway;
	if (!g->object.present) {
		return false;
	}
	switch (path->kind) {
	case PATH_STATIC:
		if (!path->row->admitted) {
			return false;
		}
		if (path->row->attachment) {
			return attachment_alive(path->row->attachment, g);
		}
		return path->row->connection->object.present && path->row->connection->gateway == g;
	case PATH_PROPAGATED:
		return !path->blocked_by;
	case PATH_LEARNED:
		break;
	}
	return d->admitted && d->refusal == REFUSAL_NONE && path->tunnel->connection->bgp;
}

static struct ranked rank(const struct destination *d, struct path *path)
{
	struct ranked ranked = {.path = path, .eligible = eligible(d, path)};
	switch (path->kind) {
	case PATH_STATIC:
		ranked.next_hop_type = path->row->attachment ? 100 : 140;
		ranked.type = 100;
		break;
	case PATH_PROPAGATED:
		ranked.next_hop_type = 100;
		ranked.type = 120;
		break;
	case PATH_LEARNED:
		ranked.next_hop_type = 140;
		ranked.type = internal_bgp(path->tunnel) ? 200 : 150;
		ranked.metric = path->attributes->metric;
		ranked.shutdown = path->attributes->shutdown;
		ranked.origin = path->attributes->origin;
		break;
	}
	return ranked;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

// Everything but the MED, which does not compare any two routes.
static int class_preference(const struct ranked *a, const struct ranked *b)
{
	int order = compare_numbers(a->next_hop_type, b->next_hop_type);
	order = order ? order : compare_numbers(a->type, b->type);
	order = order ? order : compare_numbers(a->metric, b->metric);
	order = order ? order : compare_numbers(a->shutdown, b->shutdown);
	return order ? order : compare_numbers(a->origin, b->origin);
}

static int preference(const struct ranked *a, const struct ranked *b)
{
	int order = class_preference(a, b);
	return order ? order : compare_numbers(a->med_rank, b->med_rank);
}

const char *preference_reason(const struct ranked *a, const struct ranked *b)
{
	if (a->next_hop_type != b->next_hop_type || a->type != b->type || preference(a, b) == 0) {
		return "";
	}
	return a->metric != b->metric       ? ": its AS path is shorter"
	       : a->shutdown != b->shutdown ? ": this one is being shut down"
	       : a->origin != b->origin     ? ": its origin is better"
	                                    : ": its MED is lower";
}

static const struct attachment *attachment_of(const struct path *path)
{
	return path->kind == PATH_STATIC ? path->row->attachment : path->kind == PATH_PROPAGATED ? path->attachment : NULL;
}

// Among equals the order decides only what is shown first, and which of several attachments forwards: there is one next hop
// there.
static int compare(const struct ranked *a, const struct ranked *b)
{
	int order = preference(a, b);
	if (order != 0) {
		return order;
	}
	const struct attachment *p = attachment_of(a->path), *q = attachment_of(b->path);
	if (p && q && p != q) {
		return attachment_before(p, q) ? -1 : 1;
	}
	if (a->path->kind == PATH_LEARNED) {
		return strcmp(a->path->tunnel->object.id, b->path->tunnel->object.id);
	}
	if (a->eligible != b->eligible) {
		return a->eligible ? -1 : 1; // of two to the same next hop the one within the quota is shown
	}
	return a->path->kind == PATH_STATIC ? strcmp(a->path->row->object.id, b->path->row->object.id) : 0;
}

static uint32_t neighbour_of(const struct path *path)
{
	return path->attributes->as_count > 0 ? path->attributes->as_path[0] : 0;
}

static uint32_t med_of(const struct ranked *ranked)
{
	return ranked->path->kind == PATH_LEARNED ? ranked->path->attributes->med : 0;
}

// Before the MEDs are ranked: those that may forward, by neighbouring AS and MED.
static int compare_by_med(const struct ranked *a, const struct ranked *b)
{
	int order = class_preference(a, b);
	order = order ? order : compare_numbers(!a->eligible, !b->eligible);
	if (order == 0 && a->path->kind == PATH_LEARNED) {
		order = compare_numbers(neighbour_of(a->path), neighbour_of(b->path));
	}
	return order ? order : compare_numbers(med_of(a), med_of(b));
}

static void sort(struct ranked *ranked, size_t count, int (*order)(const struct ranked *, const struct ranked *))
{
	for (size_t i = 1; i < count; i++) {
		struct ranked moving = ranked[i];
		size_t at = i;
		while (at > 0 && order(&moving, &ranked[at - 1]) < 0) {
			ranked[at] = ranked[at - 1];
			at--;
		}
		ranked[at] = moving;
	}
}

// Of the routes of one neighbouring AS the lowest MED ranks 0, the next 1, and so on; routes of different ones compare by rank,
// so that the best of each are equal.
static void rank_meds(struct ranked *ranked, size_t count)
{
	sort(ranked, count, compare_by_med);
	for (size_t i = 1; i < count; i++) {
		const struct ranked *last = &ranked[i - 1];
		if (ranked[i].eligible && ranked[i].path->kind == PATH_LEARNED && last->eligible &&
		    class_preference(last, &ranked[i]) == 0 && neighbour_of(last->path) == neighbour_of(ranked[i].path)) {
			ranked[i].med_rank = last->med_rank + (med_of(last) != med_of(&ranked[i]));
		}
	}
}

static size_t rank_all(struct route *r, const struct destination *d)
{
	size_t count = 0;
	bool meds = false;
	for (struct path *path = d->paths; path; path = path->next) {
		invariant(path->destination == d);
		if (count == r->ranked_capacity) {
			r->ranked_capacity = r->ranked_capacity == 0 ? 16 : r->ranked_capacity * 2;
			r->ranked = reallocate(r->ranked, r->ranked_capacity, sizeof *r->ranked);
		}
		r->ranked[count] = rank(d, path);
		meds = meds || med_of(&r->ranked[count]) > 0;
		count++;
	}
	if (meds) {
		rank_meds(r->ranked, count);
	}
	sort(r->ranked, count, compare);
	return count;
}

static size_t candidate_add(struct route *r, size_t count, struct tunnel *t, size_t tier, bool session)
{
	for (size_t i = 0; i < count; i++) {
		if (r->candidates[i].tunnel == t) {
			return count; // in a better tier, or twice in this one; what lives by its session comes last (static
			              // first)
		}
	}
	if (count == r->candidate_capacity) {
		r->candidate_capacity = r->candidate_capacity == 0 ? 16 : r->candidate_capacity * 2;
		r->candidates = reallocate(r->candidates, r->candidate_capacity, sizeof *r->candidates);
	}
	size_t at = count;
	while (at > 0 && r->candidates[at - 1].tier == tier &&
	       strcmp(t->object.id, r->candidates[at - 1].tunnel->object.id) < 0) {
		r->candidates[at] = r->candidates[at - 1];
		at--;
	}
	r->candidates[at] = (struct candidate){t, tier, session};
	return count + 1;
}

// Gives each path by VPN its tier and gathers the tunnels: all of a connection for a static route, the one it came through for
// a learned one.
static size_t gather_candidates(struct route *r, size_t paths)
{
	size_t count = 0, tier = 0, tier_start = 0;
	const struct ranked *last = NULL;
	for (size_t i = 0; i < paths; i++) {
		struct ranked *ranked = &r->ranked[i];
		if (!ranked->eligible || ranked->next_hop_type != 140) {
			continue;
		}
		if (last && preference(last, ranked) != 0 && count > tier_start) {
			tier++;
			tier_start = count;
		}
		last = ranked;
		ranked->tier = tier;
		if (ranked->path->kind == PATH_LEARNED) {
			count = candidate_add(r, count, ranked->path->tunnel, tier, true);
			continue;
		}
		const struct list *tunnels = &ranked->path->row->connection->tunnels;
		for (size_t k = 0; k < tunnels->count; k++) {
			count = candidate_add(r, count, tunnels->items[k], tier, false);
		}
	}
	return count;
}

bool path_alive(const struct path *path)
{
	if (path->kind == PATH_LEARNED) {
		return session_alive(path->tunnel);
	}
	if (path->kind == PATH_PROPAGATED || path->row->attachment) {
		return true;
	}
	const struct list *tunnels = &path->row->connection->tunnels;
	for (size_t i = 0; i < tunnels->count; i++) {
		if (tunnel_alive(tunnels->items[i])) {
			return true;
		}
	}
	return false;
}

// Marks the paths that forward and returns the first of them, NULL when there is none.
static struct ranked *choose(struct route *r, struct destination *d, size_t count)
{
	struct ranked *first = NULL;
	for (size_t i = 0; i < count; i++) {
		struct ranked *ranked = &r->ranked[i];
		if (!ranked->eligible) {
			continue;
		}
		if (ranked->next_hop_type == 100) {
			ranked->effective = true;
			return ranked;
		}
		if (d->group && d->group->alive > 0 && ranked->tier == d->group->tier && path_alive(ranked->path)) {
			ranked->effective = true;
			first = first ? first : ranked;
		}
	}
	return first;
}

static void publish_effective(struct route *r, const struct destination *d, enum outcome outcome,
                              const struct attachment *attachment)
{
	char key[ROUTE_KEY_TEXT];
	row_key(key, d->gateway->object.id, prefix_text(r, &d->prefix), NULL, NULL);
	struct route_action action = {.table = ROUTE_TABLE_EFFECTIVE, .removed = outcome == OUTCOME_NONE, .key = key};
	if (outcome != OUTCOME_NONE) {
		action.effective.gateway_id = d->gateway->object.id;
		action.effective.destination = d->prefix;
		action.effective.attachment_id = attachment ? attachment->object.id : NULL;
		action.effective.group_id = attachment ? NULL : d->group->id;
	}
	emit(r, &action);
}

// Of all that forward together: one that is not to be told to others keeps the destination from them.
static bool keeps_local(const struct route *r, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct attributes *attributes = r->ranked[i].path->attributes;
		if (r->ranked[i].effective && attributes && attributes->keep_local) {
			return true;
		}
	}
	return false;
}

void destination_settle(struct route *r, struct destination *d)
{
	d->refusal = (uint8_t)refusal_of(r, d);
	size_t count = rank_all(r, d);
	size_t candidates = gather_candidates(r, count);
	const struct group *group_before = d->group;
	group_join(r, candidates > 0 ? group_of(r, d->gateway, r->candidates, candidates) : NULL, d);

	const struct ranked *best = choose(r, d, count);
	d->local = keeps_local(r, count);
	struct attachment *attachment = best ? (struct attachment *)attachment_of(best->path) : NULL;
	enum outcome outcome = !best ? OUTCOME_NONE : attachment ? OUTCOME_ATTACHMENT : OUTCOME_GROUP;
	struct attributes *attributes = best ? best->path->attributes : NULL;
	if (outcome != d->outcome || attachment != d->attachment || (outcome == OUTCOME_GROUP && d->group != group_before)) {
		publish_effective(r, d, outcome, attachment);
	}

	uint64_t content = digest_number(digest_start(), outcome);
	content = digest_text(content, attachment ? attachment->object.id : outcome == OUTCOME_GROUP ? d->group->id : "");
	content = digest_attributes(content, attributes);
	invariant((outcome == OUTCOME_GROUP) == (best && !attachment) && (outcome != OUTCOME_GROUP || d->group));
	invariant(!best || best->eligible);
	bool changed = content != d->outcome_content;
	d->outcome = outcome;
	d->outcome_content = content;
	if (attachment) {
		object_hold(&attachment->object);
	}
	object_release(r, d->attachment ? &d->attachment->object : NULL);
	d->attachment = attachment;
	attributes_hold(attributes);
	attributes_release(d->attributes);
	d->attributes = attributes;

	if (changed) {
		for (size_t i = 0; i < d->gateway->tables.count; i++) {
			vpc_entry_settle(r, d->gateway->tables.items[i], &d->prefix);
		}
	}
	advertise(r, d);
	shown_border_gateway(r, d, count);
}
