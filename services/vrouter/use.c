// What routes go through: the nexthops of the live nodes of a next-hop group in an attachment's segment, or of several that are
// equally good. A group without a living node keeps its routes and drops their traffic (a blackhole nexthop), so that it does
// not leave by a less specific route for the time until route takes the routes away.
//
// A node whose esp is silent is skipped here without waiting for route: it forwards nothing. Only where no other would be left
// it stays: that all are gone is rather not believed.
#include "services/vrouter/model.h"

#include "common/base/alloc.h"
#include <stdlib.h>
#include <string.h>

static bool has_nexthop(const struct vpc *vpc, uint32_t id)
{
	const struct vrouter_item nexthop = {.kind = VROUTER_NEXTHOP, .nexthop.id = id};
	struct item_key key = item_key(&nexthop);
	return map_find(vpc->wanted[VROUTER_NEXTHOP], item_key_bytes(&key)) != NULL;
}

// Adds the nodes that traffic of this part may go to: the members of its group or, without one, all of its border gateway's.
// `gone`: also those that are silent.
static size_t collect(const struct vrouter *vrouter, const struct vpc *vpc, const struct use_part *part, bool gone,
                      uint32_t members[static VROUTER_MEMBERS_MAX], size_t count)
{
	const struct attachment *attachment = map_find_text(vpc->attachments, part->attachment_id);
	const struct names *gateway = attachment ? map_find_text(vrouter->gateways, attachment->gateway_id) : NULL;
	const struct names *group = map_find_text(vrouter->groups, part->group_id);
	bool all = part->group_id[0] == '\0';
	for (size_t i = 0; gateway && (all || group) && i < gateway->count && count < VROUTER_MEMBERS_MAX; i++) {
		const struct node *node = node_with_fabric(vrouter, gateway->items[i]);
		if (!node || (node->gone && !gone) || !(all || has_name(group, gateway->items[i]))) {
			continue;
		}
		uint32_t id = nexthop_number(vpc, part->attachment_id, gateway->items[i]);
		if (id != 0 && has_nexthop(vpc, id)) {
			members[count++] = id;
		}
	}
	return count;
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void evaluate(struct vrouter *vrouter, struct vpc *vpc, const struct use *use)
{
	uint32_t members[VROUTER_MEMBERS_MAX];
	struct vrouter_item group = {.kind = VROUTER_GROUP, .group.id = use->id, .members = members};
	for (int gone = 0; gone < 2 && group.member_count == 0; gone++) {
		for (size_t i = 0; i < use->part_count; i++) {
			group.member_count = collect(vrouter, vpc, &use->parts[i], gone, members, group.member_count);
		}
	}
	if (group.member_count == 0) {
		members[group.member_count++] = VROUTER_BLACKHOLE;
	}
	qsort(members, group.member_count, sizeof members[0], compare_numbers);
	for (size_t i = 1; i < group.member_count; i++) {
		invariant(members[i - 1] < members[i]);
	}
	want(vpc, &group);
}

void uses_evaluate(struct vrouter *vrouter, struct vpc *vpc)
{
	struct map_cursor cursor = {0};
	while (map_next(vpc->uses, &cursor)) {
		evaluate(vrouter, vpc, cursor.value);
	}
}

void uses_of_group_evaluate(struct vrouter *vrouter, struct vpc *vpc, const char *group_id)
{
	const struct pointers *users = map_find_text(vpc->users, group_id);
	for (size_t i = 0; users && i < users->count; i++) {
		evaluate(vrouter, vpc, users->items[i]);
	}
}

bool use_has(const struct use *use, const struct route_row *row)
{
	for (size_t i = 0; use && i < use->part_count; i++) {
		if (strcmp(use->parts[i].attachment_id, row->attachment->text) == 0 &&
		    strcmp(use->parts[i].group_id, row->group->text) == 0) {
			return true;
		}
	}
	return false;
}

static char *key_of(struct route_row *const *rows, size_t count)
{
	char *key = format_text("%s/%s", rows[0]->attachment->text, rows[0]->group->text);
	for (size_t i = 1; i < count; i++) {
		char *longer = format_text("%s+%s/%s", key, rows[i]->attachment->text, rows[i]->group->text);
		free(key);
		key = longer;
	}
	return key;
}

static void use_free(struct use *use)
{
	for (size_t i = 0; i < use->part_count; i++) {
		free(use->parts[i].attachment_id);
		free(use->parts[i].group_id);
	}
	free(use->parts);
	free(use->key);
	free(use);
}

static void add_user(struct vpc *vpc, struct use *use, const char *group_id)
{
	struct pointers *users = map_find_text(vpc->users, group_id);
	if (!users) {
		users = allocate(sizeof *users);
		map_insert_text(vpc->users, group_id, users);
	}
	pointers_add(users, use);
}

static void remove_user(struct vpc *vpc, const struct use *use, const char *group_id)
{
	struct pointers *users = map_find_text(vpc->users, group_id);
	invariant(users && users->count > 0);
	pointers_remove(users, use);
	if (users->count == 0) {
		map_remove_text(vpc->users, group_id);
		pointers_fini(users);
		free(users);
	}
}

static struct use *use_new(struct vpc *vpc, char *key, struct route_row *const *rows, size_t count)
{
	struct use *use = allocate(sizeof *use);
	*use = (struct use){.key = key,
	                    .id = number_of(vpc, key, GROUP_RANGE),
	                    .parts = allocate_array(count, sizeof *use->parts),
	                    .part_count = count};
	for (size_t i = 0; i < count; i++) {
		use->parts[i].attachment_id = duplicate_text(rows[i]->attachment->text);
		use->parts[i].group_id = duplicate_text(rows[i]->group->text);
		add_user(vpc, use, use->parts[i].group_id);
	}
	map_insert_text(vpc->uses, key, use);
	return use;
}

struct use *use_take(struct vrouter *vrouter, struct vpc *vpc, struct route_row *const *rows, size_t count)
{
	invariant(count > 0 && count <= USE_PARTS_MAX);
	char *key = key_of(rows, count);
	struct use *use = map_find_text(vpc->uses, key);
	if (use) {
		free(key);
	} else {
		use = use_new(vpc, key, rows, count);
		evaluate(vrouter, vpc, use);
	}
	use->routes++;
	return use;
}

static void use_end(struct vpc *vpc, struct use *use)
{
	const struct vrouter_item group = {.kind = VROUTER_GROUP, .group.id = use->id};
	unwant(vpc, &group);
	number_forget(vpc, use->id);
	for (size_t i = 0; i < use->part_count; i++) {
		remove_user(vpc, use, use->parts[i].group_id);
	}
	map_remove_text(vpc->uses, use->key);
	use_free(use);
}

void use_release(struct vpc *vpc, struct use *use)
{
	if (!use) {
		return;
	}
	invariant(use->routes > 0);
	if (--use->routes == 0) {
		use_end(vpc, use);
	}
}

void uses_end(struct vpc *vpc)
{
	struct map_cursor cursor = {0};
	while (map_next(vpc->destinations, &cursor)) {
		((struct destination *)cursor.value)->use = NULL;
	}
	cursor = (struct map_cursor){0};
	while (map_next(vpc->uses, &cursor)) {
		use_end(vpc, cursor.value);
	}
	invariant(map_count(vpc->users) == 0);
}
