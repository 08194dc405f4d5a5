// Next-hop groups. A destination's candidates are all tunnels that it could go through, in tiers from the most preferred to the
// least; the group is identified by them, so it stays the same while tunnels go down and come back. Its members are the live
// tunnels of the first tier that has any: a failed tunnel, and the move to the next best one, is one change of the group,
// however many destinations refer to it.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

bool tunnel_alive(const struct tunnel *t)
{
	return t->object.present && t->admin_up && t->up && t->connection && t->connection->object.present && t->node &&
	       !t->node->gone;
}

// A session that ended is one change of the groups too, long before its routes are withdrawn one by one; and when the node's
// bgp is silent, nobody would withdraw them.
bool session_alive(const struct tunnel *t)
{
	return tunnel_alive(t) && t->established && !t->node->bgp_silent;
}

bool candidate_alive(const struct candidate *candidate)
{
	return candidate->session ? session_alive(candidate->tunnel) : tunnel_alive(candidate->tunnel);
}

// FNV-1a of 128 bits: an id must be the same after a restart and on every machine, and two sets must not meet by chance.
static unsigned __int128 hash_text(unsigned __int128 hash, const char *text)
{
	const unsigned __int128 factor = ((unsigned __int128)1 << 88) + 0x13b;
	for (size_t i = 0; i <= strlen(text); i++) { // with the final zero, so that two texts do not run into each other
		hash = (hash ^ (uint8_t)text[i]) * factor;
	}
	return hash;
}

static void identify(char id[static 32], const struct gateway *g, const struct candidate *candidates, size_t count)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	unsigned __int128 hash = ((unsigned __int128)0x6c62272e07bb0142 << 64) + 0x62b821756295c58d;
	hash = hash_text(hash, g->object.id);
	for (size_t i = 0; i < count; i++) {
		if (i > 0 && candidates[i].tier != candidates[i - 1].tier) {
			hash = hash_text(hash, "");
		}
		hash = hash_text(hash, candidates[i].tunnel->object.id);
		if (candidates[i].session) {
			hash = hash_text(hash, "session");
		}
	}
	memcpy(id, "nhg-", 4);
	for (size_t i = 0; i < 20; i++) {
		id[4 + i] = digits[(unsigned)(hash >> (128 - 5 * (i + 1))) & 31];
	}
	id[24] = '\0';
}

static void choose_tier(struct group *group)
{
	group->alive = 0;
	group->tier = 0;
	for (size_t i = 0; i < group->count; i++) {
		const struct candidate *candidate = &group->candidates[i];
		if (group->alive > 0 && candidate->tier != group->tier) {
			break;
		}
		if (candidate_alive(candidate)) {
			group->tier = candidate->tier;
			group->alive++;
		}
	}
}

static bool list_has_text(const struct list *list, const char *text)
{
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i], text) == 0) {
			return true;
		}
	}
	return false;
}

// Publishes the group when its row is another one than before.
static void publish(struct route *r, struct group *group)
{
	choose_tier(group);
	struct route_member *members = allocate_array(group->alive + 1, sizeof *members);
	size_t count = 0;
	uint64_t content = digest_number(digest_start(), group->tier + 1);
	r->texts.count = 0;
	for (size_t i = 0; i < group->count; i++) {
		struct tunnel *t = group->candidates[i].tunnel;
		if (t->connection && !list_has_text(&r->texts, t->connection->object.id)) {
			list_add(&r->texts, t->connection->object.id);
			content = digest_text(content, t->connection->object.id);
		}
		if (group->alive > 0 && group->candidates[i].tier == group->tier && candidate_alive(&group->candidates[i])) {
			members[count++] = (struct route_member){t->object.id, t->connection->object.id, t->node->object.id};
			content = digest_text(digest_text(content, t->object.id), t->connection->object.id);
			content = digest_text(content, t->node->object.id);
		}
	}
	invariant(count == group->alive);
	if (content != group->content) {
		group->content = content;
		struct route_action action = {.table = ROUTE_TABLE_GROUP,
		                              .key = group->id,
		                              .group = {
		                                  .id = group->id,
		                                  .gateway_id = group->gateway->object.id,
		                                  .members = members,
		                                  .member_count = count,
		                                  .connection_ids = (const char *const *)r->texts.items,
		                                  .connection_count = r->texts.count,
		                              }};
		emit(r, &action);
	}
	free(members);
}

struct group *group_of(struct route *r, struct gateway *g, const struct candidate *candidates, size_t count)
{
	char id[32] = {0};
	identify(id, g, candidates, count);
	struct group *group = map_find_text(r->groups, id);
	if (group) {
		return group;
	}
	group = allocate(sizeof *group);
	memcpy(group->id, id, sizeof id);
	group->gateway = g;
	object_hold(&g->object);
	group->candidates = allocate_array(count, sizeof *group->candidates);
	group->count = count;
	for (size_t i = 0; i < count; i++) {
		group->candidates[i] = candidates[i];
		object_hold(&candidates[i].tunnel->object);
		list_add(&candidates[i].tunnel->groups, group);
	}
	map_insert_text(r->groups, group->id, group);
	publish(r, group);
	return group;
}

void group_join(struct route *r, struct group *group, struct destination *d)
{
	if (d->group == group) {
		return;
	}
	if (d->group) {
		invariant(*d->group_at == d);
		if (d->group->mark == d) {
			d->group->mark = d->group_next;
		}
		*d->group_at = d->group_next;
		if (d->group_next) {
			d->group_next->group_at = d->group_at;
		}
		if (!d->group->destinations && !d->group->dying) {
			d->group->dying = true;
			list_add(&r->dying, d->group);
		}
	}
	d->group = group;
	if (group) {
		invariant(group->gateway == d->gateway);
		d->group_next = group->destinations;
		d->group_at = &group->destinations;
		if (d->group_next) {
			d->group_next->group_at = &d->group_next;
		}
		group->destinations = d;
	}
}

// The groups now; their destinations are marked later, with the settling, a portion at a time: however many they are, the
// groups do not wait for them.
void tunnel_refresh(struct route *r, struct tunnel *t)
{
	for (size_t i = 0; i < t->groups.count; i++) {
		struct group *group = t->groups.items[i];
		publish(r, group);
		group->mark = group->destinations; // from the beginning again
		if (!group->dirty) {
			group->dirty = true;
			list_add(&r->dirty_groups, group);
		}
	}
}

size_t groups_mark(struct route *r, size_t limit)
{
	while (r->dirty_groups.count > 0) {
		struct group *group = r->dirty_groups.items[r->dirty_groups.count - 1];
		invariant(group->dirty);
		for (; group->mark && limit > 0; limit--) {
			struct destination *d = group->mark;
			invariant(d->group == group);
			group->mark = d->group_next;
			destination_mark(r, d);
		}
		if (group->mark) {
			break;
		}
		group->dirty = false;
		r->dirty_groups.count--;
	}
	return r->dirty_groups.count;
}

// Groups that no destination refers to any more go after the routes that did.
void groups_reap(struct route *r)
{
	for (size_t i = 0; i < r->dying.count; i++) {
		struct group *group = r->dying.items[i];
		group->dying = false;
		if (group->destinations) {
			continue;
		}
		invariant(!group->mark);
		if (group->dirty) {
			group->dirty = false;
			list_remove(&r->dirty_groups, group);
		}
		emit(r, &(struct route_action){.table = ROUTE_TABLE_GROUP, .removed = true, .key = group->id});
		map_remove_text(r->groups, group->id);
		for (size_t k = 0; k < group->count; k++) {
			list_remove(&group->candidates[k].tunnel->groups, group);
			object_release(r, &group->candidates[k].tunnel->object);
		}
		object_release(r, &group->gateway->object);
		free(group->candidates);
		free(group);
	}
	r->dying.count = 0;
}
