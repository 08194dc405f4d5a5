// Destinations in the tables of a VPC: which of the rows for one is the route, and through which next-hop group. A group
// without a living node keeps its routes and drops their traffic (a blackhole nexthop), so that it does not leave by a less
// specific route for the time until route takes the routes away.
#include "services/vrouter/model.h"

#include "common/base/alloc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_TEXT = 160 };

// ---- groups in use ----

void use_free(void *value)
{
	struct use *use = value;
	free(use->attachment_id);
	free(use->group_id);
	free(use);
}

static bool has_nexthop(const struct vpc *vpc, uint32_t id)
{
	const struct vrouter_item nexthop = {.kind = VROUTER_NEXTHOP, .nexthop.id = id};
	struct item_key key = item_key(&nexthop);
	return map_find(vpc->wanted[VROUTER_NEXTHOP], item_key_bytes(&key)) != NULL;
}

// The nodes that traffic of this use may go to. `gone`: also those that are gone.
static size_t collect(const struct vrouter *vrouter, struct vpc *vpc, const struct use *use, bool gone,
                      uint32_t members[static VROUTER_MEMBERS_MAX])
{
	const struct attachment *attachment = map_find_text(vrouter->attachments, use->attachment_id);
	const struct names *gateway = attachment ? map_find_text(vrouter->gateways, attachment->gateway_id) : NULL;
	const struct names *group = map_find_text(vrouter->groups, use->group_id);
	bool all = use->group_id[0] == '\0';
	size_t count = 0;
	for (size_t i = 0; gateway && (all || group) && i < gateway->count && count < VROUTER_MEMBERS_MAX; i++) {
		const struct node *node = node_with_fabric(vrouter, gateway->items[i]);
		uint32_t id = nexthop_number(vpc, use->attachment_id, gateway->items[i]);
		if (node && has_nexthop(vpc, id) && (all ? gone || !node->gone : has_name(group, gateway->items[i]))) {
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

static void evaluate_use(struct vrouter *vrouter, struct vpc *vpc, const struct use *use)
{
	uint32_t members[VROUTER_MEMBERS_MAX];
	struct vrouter_item group = {.kind = VROUTER_GROUP, .group.id = use->id, .members = members};
	group.member_count = collect(vrouter, vpc, use, false, members);
	if (group.member_count == 0 && use->group_id[0] == '\0') {
		group.member_count = collect(vrouter, vpc, use, true, members);
	}
	if (group.member_count == 0) {
		members[group.member_count++] = VROUTER_BLACKHOLE;
	}
	qsort(members, group.member_count, sizeof members[0], compare_numbers);
	want(vpc, &group);
}

void uses_evaluate(struct vrouter *vrouter, struct vpc *vpc, const char *group_id)
{
	struct map_cursor cursor = {0};
	while (map_next(vpc->uses, &cursor)) {
		const struct use *use = cursor.value;
		if (!group_id || strcmp(use->group_id, group_id) == 0) {
			evaluate_use(vrouter, vpc, use);
		}
	}
}

static struct use *take_use(struct vrouter *vrouter, struct vpc *vpc, const struct route_row *row)
{
	char key[KEY_TEXT];
	snprintf(key, sizeof key, "%s/%s", row->attachment_id, row->group_id);
	struct use *use = map_find_text(vpc->uses, key);
	if (!use) {
		use = allocate(sizeof *use);
		*use = (struct use){.attachment_id = duplicate_text(row->attachment_id),
		                    .group_id = duplicate_text(row->group_id),
		                    .id = number_of(vpc, row->attachment_id, row->group_id, GROUP_RANGE)};
		map_insert_text(vpc->uses, key, use);
		evaluate_use(vrouter, vpc, use);
	}
	use->routes++;
	return use;
}

static void release_use(struct vpc *vpc, struct use *use)
{
	if (!use || --use->routes > 0) {
		return;
	}
	char key[KEY_TEXT];
	snprintf(key, sizeof key, "%s/%s", use->attachment_id, use->group_id);
	const struct vrouter_item group = {.kind = VROUTER_GROUP, .group.id = use->id};
	unwant(vpc, &group);
	map_remove_text(vpc->uses, key);
	use_free(use);
}

// ---- destinations ----

struct destination_key {
	uint8_t octets[96];
	size_t length;
};

static struct destination_key key_of(const char *table_id, const struct prefix *prefix)
{
	struct destination_key key = {0};
	struct writer w = writer_of(key.octets, sizeof key.octets);
	write_u8(&w, prefix->length);
	write_u8(&w, prefix->address.length);
	write_bytes(&w, address_bytes(&prefix->address));
	write_bytes(&w, (struct bytes){(const uint8_t *)table_id, strnlen(table_id, 64)});
	key.length = writer_length(&w);
	return key;
}

struct destination *destination_of(struct vpc *vpc, const char *table_id, const struct prefix *prefix)
{
	struct destination_key key = key_of(table_id, prefix);
	struct bytes name = {key.octets, key.length};
	struct destination *destination = map_find(vpc->destinations, name);
	if (!destination) {
		destination = allocate(sizeof *destination);
		destination->table_id = duplicate_text(table_id);
		destination->prefix = *prefix;
		map_insert(vpc->destinations, name, destination);
	}
	return destination;
}

void destination_free(void *value)
{
	struct destination *destination = value;
	free(destination->table_id);
	free(destination->rows);
	free(destination);
}

void destination_forget_if_empty(struct vpc *vpc, struct destination *destination)
{
	if (destination->row_count == 0 && !destination->fixed) {
		struct destination_key key = key_of(destination->table_id, &destination->prefix);
		map_remove(vpc->destinations, (struct bytes){key.octets, key.length});
		destination_free(destination);
	}
}

void destination_add_row(struct destination *destination, struct route_row *row)
{
	destination->rows = reallocate(destination->rows, destination->row_count + 1, sizeof *destination->rows);
	destination->rows[destination->row_count++] = row;
}

void destination_remove_row(struct destination *destination, const struct route_row *row)
{
	for (size_t i = 0; i < destination->row_count; i++) {
		if (destination->rows[i] == row) {
			destination->rows[i] = destination->rows[--destination->row_count];
			return;
		}
	}
}

// Route shows one effective row for a destination; while it changes from one to another both may be here. Static first, then
// the shorter AS path.
static bool before(const struct route_row *a, const struct route_row *b)
{
	if (a->is_static != b->is_static) {
		return a->is_static;
	}
	return a->metric != b->metric ? a->metric < b->metric : strcmp(a->key, b->key) < 0;
}

static const struct route_row *best_row(const struct destination *destination)
{
	const struct route_row *best = NULL;
	for (size_t i = 0; i < destination->row_count; i++) {
		best = !best || before(destination->rows[i], best) ? destination->rows[i] : best;
	}
	return best;
}

// Rows of other tables come on streams of their own: a route may be here before its group or its attachment. It then waits, and
// what is stays as it is.
static bool has_what_it_needs(const struct vrouter *vrouter, const struct destination *destination, const struct route_row *row)
{
	if (destination->use && strcmp(destination->use->attachment_id, row->attachment_id) == 0 &&
	    strcmp(destination->use->group_id, row->group_id) == 0) {
		return true;
	}
	return map_find_text(vrouter->attachments, row->attachment_id) &&
	       (row->group_id[0] == '\0' || map_find_text(vrouter->groups, row->group_id));
}

void destination_evaluate(struct vrouter *vrouter, struct vpc *vpc, struct destination *destination)
{
	if (!vpc->realised) {
		return;
	}
	struct vrouter_item route = {
	    .kind = VROUTER_ROUTE,
	    .route = {.table = number_of(vpc, destination->table_id, "", TABLE_RANGE), .destination = destination->prefix}};
	struct use *old = destination->use;
	const struct route_row *row = destination->fixed ? NULL : best_row(destination);
	if (row) {
		if (!has_what_it_needs(vrouter, destination, row)) {
			return;
		}
		destination->use = take_use(vrouter, vpc, row);
		route.route.group_id = destination->use->id;
	} else {
		destination->use = NULL;
		memcpy(route.device, destination->device, sizeof route.device);
	}
	if (row || destination->fixed) {
		want(vpc, &route);
	} else {
		unwant(vpc, &route);
	}
	release_use(vpc, old);
}

void destinations_evaluate(struct vrouter *vrouter, struct vpc *vpc, const char *group_id)
{
	if (!vpc->realised) {
		return;
	}
	struct map_cursor cursor = {0};
	while (map_next(vpc->destinations, &cursor)) {
		struct destination *destination = cursor.value;
		const struct route_row *row = best_row(destination);
		if (!group_id || (row && strcmp(row->group_id, group_id) == 0)) {
			destination_evaluate(vrouter, vpc, destination);
		}
	}
}
