// A border gateway's three tables as they are shown, and what its BGP sessions advertise.
#include "services/route/model.h"

#include <stdio.h>
#include <string.h>

enum { REASON_TEXT = 384 };

static const char *const kinds[] = {
    [ROUTE_KIND_STATIC] = "STATIC",
    [ROUTE_KIND_PROPAGATED] = "PROPAGATED",
    [ROUTE_KIND_EFFECTIVE] = "EFFECTIVE",
};

static struct object *next_hop_of(const struct path *path)
{
	switch (path->kind) {
	case PATH_STATIC:
		return path->row->attachment ? &path->row->attachment->object : &path->row->connection->object;
	case PATH_PROPAGATED:
		return &path->attachment->object;
	case PATH_LEARNED:
		break;
	}
	return &path->tunnel->connection->object;
}

static void add_sorted(struct list *texts, char *text)
{
	size_t at = 0;
	while (at < texts->count && strcmp(texts->items[at], text) < 0) {
		at++;
	}
	if (at < texts->count && strcmp(texts->items[at], text) == 0) {
		return;
	}
	list_add(texts, text);
	memmove(&texts->items[at + 1], &texts->items[at], (texts->count - 1 - at) * sizeof *texts->items);
	texts->items[at] = text;
}

// The live tunnels that a path forwards through, into r->texts.
static void add_tunnels(struct route *r, const struct path *path)
{
	if (path->kind == PATH_LEARNED) {
		add_sorted(&r->texts, path->tunnel->object.id);
	} else if (path->kind == PATH_STATIC && path->row->connection) {
		const struct list *tunnels = &path->row->connection->tunnels;
		for (size_t i = 0; i < tunnels->count; i++) {
			struct tunnel *t = tunnels->items[i];
			if (tunnel_alive(t)) {
				add_sorted(&r->texts, t->object.id);
			}
		}
	}
}

static void explain_ineligible(const struct route *r, const struct path *path, char text[static REASON_TEXT])
{
	char prefix[PREFIX_TEXT];
	switch (path->kind) {
	case PATH_STATIC:
		if (!path->row->admitted) {
			snprintf(text, REASON_TEXT, "discarded: beyond the quota of %zu static routes",
			         path->row->gateway->static_limit);
		} else if (path->row->attachment) {
			snprintf(text, REASON_TEXT, "the border gateway has no VPC attachment %s", next_hop_of(path)->id);
		} else {
			snprintf(text, REASON_TEXT, "the border gateway has no VPN connection %s", next_hop_of(path)->id);
		}
		return;
	case PATH_PROPAGATED:
		snprintf(text, REASON_TEXT, "overlaps %s of %s, which was propagated first",
		         prefix_format(&path->blocked_prefix, prefix),
		         path->blocked_by->vpc ? path->blocked_by->vpc->object.id : path->blocked_by->object.id);
		return;
	case PATH_LEARNED:
		break;
	}
	const struct destination *d = path->destination;
	if (d->refusal != REFUSAL_NONE) {
		refusal_explain(r, d, text, REASON_TEXT);
	} else if (!path->tunnel->connection->bgp) {
		snprintf(text, REASON_TEXT, "the VPN connection is routed statically");
	} else {
		snprintf(text, REASON_TEXT, "discarded: beyond the quota of %zu learned routes", d->gateway->quota.limit);
	}
}

static void explain_dead_tunnel(const struct tunnel *t, char text[static REASON_TEXT])
{
	const char *id = t->object.id;
	if (!t->admin_up) {
		snprintf(text, REASON_TEXT, "adminState of tunnel %s is DOWN", id);
	} else if (t->node && t->node->gone) {
		snprintf(text, REASON_TEXT, "node %s of tunnel %s is silent", t->node->object.id, id);
	} else if (!t->up) {
		snprintf(text, REASON_TEXT, "tunnel %s is not UP", id);
	} else if (t->node && t->node->bgp_silent) {
		snprintf(text, REASON_TEXT, "the BGP service of node %s is silent", t->node->object.id);
	} else {
		snprintf(text, REASON_TEXT, "the BGP session of tunnel %s is not Established", id);
	}
}

static size_t first_effective(const struct route *r, size_t count)
{
	size_t i = 0;
	while (i + 1 < count && !r->ranked[i].effective) {
		i++;
	}
	return i;
}

static const char *explain(const struct route *r, const struct ranked *ranked, size_t count, char text[static REASON_TEXT])
{
	const struct path *path = ranked->path;
	text[0] = '\0';
	if (ranked->effective) {
		return text;
	}
	if (!ranked->eligible) {
		explain_ineligible(r, path, text);
	} else if (!path_alive(path)) {
		if (path->kind == PATH_LEARNED) {
			explain_dead_tunnel(path->tunnel, text);
		} else {
			snprintf(text, REASON_TEXT, "no tunnel of %s is UP", next_hop_of(path)->id);
		}
	} else {
		const struct ranked *best = &r->ranked[first_effective(r, count)]; // there is one: this path could forward
		invariant(best->effective);
		snprintf(text, REASON_TEXT, "the %s route to %s is preferred%s", path_type(best->path),
		         next_hop_of(best->path)->id, preference_reason(best, ranked));
	}
	return text;
}

// `next_hop` is what tells rows of one destination apart: the tunnel for a learned route in the propagated table, else the next
// hop.
static void show(struct route *r, struct destination *d, enum route_kind kind, struct object *next_hop,
                 const struct ranked *ranked, const char *reason)
{
	struct shown *shown = shown_take(&d->shown, kind, next_hop);
	if (!shown) {
		return;
	}
	const struct path *path = ranked->path;
	const char *type = path_type(path);
	uint64_t order = kind != ROUTE_KIND_PROPAGATED ? 0 : path->kind == PATH_LEARNED ? d->order : path->place | PLACE_MARK;
	uint64_t state = digest_number(digest_text(digest_start(), type), ranked->effective);
	state = digest_attributes(state, path->attributes);
	uint64_t content = digest_number(digest_text(digest_text(state, reason), next_hop_of(path)->id), order);
	for (size_t i = 0; i < r->texts.count; i++) {
		content = digest_text(content, r->texts.items[i]);
	}
	if (shown->published && shown->state == state && shown->content == content) {
		return;
	}
	char key[ROUTE_KEY_TEXT];
	row_key(key, d->gateway->object.id, kinds[kind], prefix_text(r, &d->prefix), next_hop->id);
	shown_update(r, shown, key, state, content);
	struct route_action action = {.table = ROUTE_TABLE_SHOWN,
	                              .key = key,
	                              .shown = {
	                                  .gateway_id = d->gateway->object.id,
	                                  .kind = kind,
	                                  .destination = d->prefix,
	                                  .to_attachment = ranked->next_hop_type == 100,
	                                  .next_hop_id = next_hop_of(path)->id,
	                                  .type = type,
	                                  .metric = ranked->metric,
	                                  .as_path = path->attributes ? path->attributes->as_path : NULL,
	                                  .as_count = path->attributes ? path->attributes->as_count : 0,
	                                  .tunnel_ids = (const char *const *)r->texts.items,
	                                  .tunnel_count = r->texts.count,
	                                  .effective = ranked->effective,
	                                  .reason = reason,
	                                  .refused = path->kind == PATH_LEARNED && d->refusal != REFUSAL_NONE,
	                                  .origin = path->attributes ? path->attributes->origin : 0,
	                                  .med = path->attributes ? path->attributes->med : 0,
	                                  .communities = path->attributes ? attributes_communities(path->attributes) : NULL,
	                                  .community_count = path->attributes ? path->attributes->community_count : 0,
	                                  .since = shown->since,
	                                  .state = state,
	                                  .order = order,
	                              }};
	emit(r, &action);
}

// One row of the effective table for each next hop: what goes to one connection through several tunnels is one route.
static void show_effective(struct route *r, struct destination *d, size_t at, size_t count)
{
	struct object *next_hop = next_hop_of(r->ranked[at].path);
	r->texts.count = 0;
	for (size_t i = at; i < count; i++) {
		if (r->ranked[i].effective && next_hop_of(r->ranked[i].path) == next_hop) {
			add_tunnels(r, r->ranked[i].path);
		}
	}
	show(r, d, ROUTE_KIND_EFFECTIVE, next_hop, &r->ranked[at], "");
}

void shown_border_gateway(struct route *r, struct destination *d, size_t count)
{
	char reason[REASON_TEXT];
	shown_begin(&d->shown);
	for (size_t i = 0; d->gateway->object.present && i < count; i++) {
		const struct ranked *ranked = &r->ranked[i];
		const struct path *path = ranked->path;
		r->texts.count = 0;
		if (ranked->effective || path->kind == PATH_LEARNED) {
			add_tunnels(r, path);
		}
		show(r, d, path->kind == PATH_STATIC ? ROUTE_KIND_STATIC : ROUTE_KIND_PROPAGATED,
		     path->kind == PATH_LEARNED ? &path->tunnel->object : next_hop_of(path), ranked,
		     explain(r, ranked, count, reason));
		if (ranked->effective) {
			show_effective(r, d, i, count);
		}
	}
	struct shown *shown;
	for (size_t at = 0; (shown = shown_stale(&d->shown, &at)) != NULL; shown_drop(r, &d->shown, shown)) {
		char key[ROUTE_KEY_TEXT];
		row_key(key, d->gateway->object.id, kinds[shown->kind], prefix_text(r, &d->prefix), shown->next_hop->id);
		emit(r, &(struct route_action){.table = ROUTE_TABLE_SHOWN, .removed = true, .key = key});
	}
}

static bool came_from(const struct group *group, const struct connection *connection)
{
	for (size_t i = 0; i < group->count; i++) {
		const struct candidate *candidate = &group->candidates[i];
		if (candidate->tier == group->tier && candidate->tunnel->connection == connection &&
		    candidate_alive(candidate)) {
			return true;
		}
	}
	return false;
}

static bool advertises(const struct destination *d, const struct connection *connection)
{
	const struct gateway *g = d->gateway;
	if (!connection->object.present || connection->gateway != g || !connection->bgp || d->outcome == OUTCOME_NONE) {
		return false;
	}
	return d->outcome == OUTCOME_ATTACHMENT || (g->allow_transit && !d->local && !came_from(d->group, connection));
}

// Of a learned route the AS path, the origin and the communities are told on; the MED is not (RFC 4271 §5.1.4).
static uint64_t digest_advertised(const struct attributes *attributes)
{
	uint64_t digest = digest_number(digest_start(), attributes ? 1 + attributes->origin : 0);
	digest = digest_number(digest, attributes ? attributes->as_count : 0);
	for (size_t i = 0; attributes && i < attributes->as_count + attributes->community_count; i++) {
		digest = digest_number(digest, attributes->as_path[i]);
	}
	return digest;
}

static void advertise_at(struct route *r, struct destination *d, const struct connection *connection, struct presence *presence)
{
	char key[ROUTE_KEY_TEXT];
	struct shown *shown = shown_take(&d->advertised, 0, &presence->object);
	uint64_t state = digest_advertised(d->attributes);
	invariant(shown && presence->tunnels > 0);
	if (shown->published && shown->state == state) {
		return;
	}
	shown->published = true;
	shown->state = state;
	row_key(key, presence->object.id, prefix_text(r, &d->prefix), NULL, NULL);
	struct route_action action = {.table = ROUTE_TABLE_ADVERTISED,
	                              .key = key,
	                              .advertised = {
	                                  .connection_id = connection->object.id,
	                                  .node_id = presence->node->object.id,
	                                  .destination = d->prefix,
	                              }};
	if (d->attributes) {
		action.advertised.as_path = d->attributes->as_path;
		action.advertised.as_count = d->attributes->as_count;
		action.advertised.origin = d->attributes->origin;
		action.advertised.communities = attributes_communities(d->attributes);
		action.advertised.community_count = d->attributes->community_count;
	}
	emit(r, &action);
}

// To the customers: routes to VPC attachments and, with allow_transit, what other connections brought, unless it says that it
// is to stay here (RFC 1997: NO_EXPORT, NO_ADVERTISE); never back where it came from.
void advertise(struct route *r, struct destination *d)
{
	char key[ROUTE_KEY_TEXT];
	shown_begin(&d->advertised);
	for (size_t i = 0; i < d->gateway->connections.count; i++) {
		const struct connection *connection = d->gateway->connections.items[i];
		size_t places = advertises(d, connection) ? connection->presences.count : 0;
		for (size_t k = 0; k < places; k++) {
			advertise_at(r, d, connection, connection->presences.items[k]);
		}
	}
	struct shown *shown;
	for (size_t at = 0; (shown = shown_stale(&d->advertised, &at)) != NULL; shown_drop(r, &d->advertised, shown)) {
		row_key(key, shown->next_hop->id, prefix_text(r, &d->prefix), NULL, NULL);
		emit(r, &(struct route_action){.table = ROUTE_TABLE_ADVERTISED, .removed = true, .key = key});
	}
}
