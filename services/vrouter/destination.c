// Destinations in the tables of a VPC: which of the rows for one are the route. Static rows come first, then those with the
// shortest AS path; equally good ones, of different border gateways, forward together.
#include "services/vrouter/model.h"

#include "common/base/alloc.h"
#include <stdlib.h>
#include <string.h>

struct destination_key {
	uint8_t octets[24];
	size_t length;
};

static struct destination_key key_of(const struct table *table, const struct prefix *prefix)
{
	struct destination_key key = {0};
	struct writer w = writer_of(key.octets, sizeof key.octets);
	write_u32(&w, table->number);
	write_u8(&w, prefix->length);
	write_bytes(&w, address_bytes(&prefix->address));
	key.length = writer_length(&w);
	return key;
}

struct destination *destination_of(struct vpc *vpc, struct table *table, const struct prefix *prefix)
{
	struct destination_key key = key_of(table, prefix);
	struct bytes name = {key.octets, key.length};
	struct destination *destination = map_find(vpc->destinations, name);
	if (!destination) {
		destination = allocate(sizeof *destination);
		destination->vpc = vpc;
		destination->table = table;
		table->references++;
		destination->prefix = *prefix;
		map_insert(vpc->destinations, name, destination);
	}
	invariant(destination->table == table);
	return destination;
}

void destination_free(void *value)
{
	struct destination *destination = value;
	free(destination->rows);
	free(destination);
}

// ---- waiting for rows of other tables ----

void waiting_free(void *value)
{
	struct waiting *waiting = value;
	pointers_fini(&waiting->destinations);
	free(waiting->key);
	free(waiting);
}

static void stop_waiting(struct destination *destination)
{
	struct waiting *waiting = destination->waiting;
	if (!waiting) {
		return;
	}
	struct pointers *all = &waiting->destinations;
	invariant(all->items[destination->waiting_at] == destination);
	struct destination *last = all->items[--all->count];
	all->items[destination->waiting_at] = last;
	last->waiting_at = destination->waiting_at;
	destination->waiting = NULL;
	if (all->count == 0) {
		map_remove_text(destination->vpc->waiting, waiting->key);
		waiting_free(waiting);
	}
}

static void wait_for(struct destination *destination, const char *kind, const char *id)
{
	char *key = format_text("%s/%s", kind, id);
	struct waiting *waiting = map_find_text(destination->vpc->waiting, key);
	if (!waiting) {
		waiting = allocate(sizeof *waiting);
		waiting->key = key;
		map_insert_text(destination->vpc->waiting, key, waiting);
	} else {
		free(key);
	}
	invariant(!destination->waiting);
	destination->waiting = waiting;
	destination->waiting_at = waiting->destinations.count;
	pointers_add(&waiting->destinations, destination);
}

void destinations_wake(struct vrouter *vrouter, struct vpc *vpc, const char *kind, const char *id)
{
	char *key = format_text("%s/%s", kind, id);
	struct waiting *waiting = map_remove_text(vpc->waiting, key);
	free(key);
	if (!waiting) {
		return;
	}
	for (size_t i = 0; i < waiting->destinations.count; i++) {
		((struct destination *)waiting->destinations.items[i])->waiting = NULL;
	}
	for (size_t i = 0; i < waiting->destinations.count; i++) {
		destination_evaluate(vrouter, waiting->destinations.items[i]);
	}
	waiting_free(waiting);
}

// ---- rows ----

void destination_forget_if_empty(struct destination *destination)
{
	if (destination->row_count == 0 && !destination->fixed) {
		struct vpc *vpc = destination->vpc;
		struct table *table = destination->table;
		struct destination_key key = key_of(table, &destination->prefix);
		invariant(!destination->use);
		stop_waiting(destination);
		map_remove(vpc->destinations, (struct bytes){key.octets, key.length});
		destination_free(destination);
		table_release(vpc, table);
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

static bool before(const struct route_row *a, const struct route_row *b)
{
	if (a->is_static != b->is_static) {
		return a->is_static;
	}
	if (a->metric != b->metric) {
		return a->metric < b->metric;
	}
	return strcmp(a->attachment->text, b->attachment->text) < 0;
}

// While route moves a destination from one border gateway to another, the rows of both may be here. Of static rows there is one
// that forwards.
static size_t best_rows(const struct destination *destination, struct route_row *best[static USE_PARTS_MAX])
{
	size_t count = 0;
	for (size_t i = 0; i < destination->row_count; i++) {
		struct route_row *row = destination->rows[i];
		size_t at = count;
		while (at > 0 && before(row, best[at - 1])) {
			at--;
		}
		if (at == USE_PARTS_MAX) {
			continue;
		}
		count += count < USE_PARTS_MAX;
		memmove(&best[at + 1], &best[at], (count - 1 - at) * sizeof best[0]);
		best[at] = row;
	}
	size_t equal = count > 0;
	while (equal < count && !best[0]->is_static && best[equal]->metric == best[0]->metric) {
		equal++;
	}
	return equal;
}

// Rows of other tables come on streams of their own: a route may be here before its group or its attachment. It then waits, and
// what is stays as it is.
static bool has_what_they_need(const struct vrouter *vrouter, struct destination *destination, struct route_row *const *rows,
                               size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *attachment = rows[i]->attachment->text, *group = rows[i]->group->text;
		if (use_has(destination->use, rows[i])) {
			continue;
		}
		if (!map_find_text(destination->vpc->attachments, attachment)) {
			wait_for(destination, "attachment", attachment);
			return false;
		}
		if (group[0] != '\0' && !map_find_text(vrouter->groups, group)) {
			wait_for(destination, "group", group);
			return false;
		}
	}
	return true;
}

void destination_evaluate(struct vrouter *vrouter, struct destination *destination)
{
	struct vpc *vpc = destination->vpc;
	stop_waiting(destination);
	if (!vpc->realised) {
		return;
	}
	struct route_row *rows[USE_PARTS_MAX];
	size_t count = destination->fixed ? 0 : best_rows(destination, rows);
	if (!has_what_they_need(vrouter, destination, rows, count)) {
		return;
	}
	struct vrouter_item route = {.kind = VROUTER_ROUTE,
	                             .route = {.table = destination->table->number, .destination = destination->prefix}};
	struct use *old = destination->use;
	destination->use = count > 0 ? use_take(vrouter, vpc, rows, count) : NULL;
	if (count > 0) {
		route.route.group_id = destination->use->id;
	} else {
		memcpy(route.device, destination->device, sizeof route.device);
	}
	if (count > 0 || destination->fixed) {
		want(vpc, &route);
	} else {
		unwant(vpc, &route);
	}
	use_release(vpc, old);
}

void destinations_evaluate(struct vrouter *vrouter, struct vpc *vpc)
{
	struct map_cursor cursor = {0};
	while (vpc->realised && map_next(vpc->destinations, &cursor)) {
		destination_evaluate(vrouter, cursor.value);
	}
}
