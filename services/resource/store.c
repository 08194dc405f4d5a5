// The rows of every kind, by id.
#include "services/resource/store.h"
#include "services/resource/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/address.h"
#include "common/base/alloc.h"
#include "common/base/invariant.h"

static void free_row(void *at)
{
	struct row *row = at;
	if (row) {
		record_free(&row->record);
		free(row);
	}
}

// ---- inner prefixes ----
unsigned inside_number(const char *cidr)
{
	struct prefix prefix, range;
	prefix_parse("169.254.0.0/16", &range);
	if (!prefix_parse(cidr, &prefix) || prefix.length != 30 || !prefix_contains(&range, &prefix)) {
		return INSIDE_PREFIXES;
	}
	return (unsigned)(prefix.address.octets[2] << 6 | prefix.address.octets[3] >> 2);
}

const struct inside_use *inside_use_of(const struct resource *resource, const char *border_gateway_id)
{
	return map_find_text(resource->inside, border_gateway_id);
}

static void note_inside(struct resource *resource, const struct record *row, bool taken)
{
	unsigned number =
	    record_kind(row) == RESOURCE_VPN_TUNNEL ? inside_number(record_text(row, "insideCidr")) : INSIDE_PREFIXES;
	if (number == INSIDE_PREFIXES) {
		return;
	}
	const char *gateway = record_text(row, "borderGatewayId");
	struct inside_use *use = map_find_text(resource->inside, gateway);
	if (!use) {
		invariant(taken);
		use = allocate(sizeof *use);
		map_insert_text(resource->inside, gateway, use);
	}
	uint64_t bit = UINT64_C(1) << number % 64;
	// Two rows with one prefix cannot be planned; rows that somebody put into the database by hand may be.
	bool before = use->taken[number / 64] & bit;
	use->taken[number / 64] = taken ? use->taken[number / 64] | bit : use->taken[number / 64] & ~bit;
	use->count += taken && !before;
	use->count -= !taken && before;
	invariant(use->count <= INSIDE_PREFIXES);
	if (use->count == 0) {
		free(map_remove_text(resource->inside, gateway));
	}
}

struct resource *resource_new(const char *region)
{
	struct resource *resource = allocate(sizeof *resource);
	snprintf(resource->region, sizeof resource->region, "%s", region);
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		resource->rows[i] = map_new(NULL);
	}
	resource->index = index_new();
	resource->inside = map_new(NULL);
	resource->reports = map_new(NULL);
	resource->routes = map_new(NULL);
	resource->route_owners = map_new(NULL);
	resource->nodes = map_new(NULL);
	resource->groups = map_new(NULL);
	return resource;
}

void resource_free(struct resource **resource)
{
	if (!*resource) {
		return;
	}
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		map_free(&(*resource)->rows[i], free_row);
	}
	index_free(&(*resource)->index);
	map_free(&(*resource)->inside, free);
	reports_free(*resource);
	routes_free(*resource);
	free(*resource);
	*resource = NULL;
}

static void take_out(struct resource *resource, const struct row *row)
{
	index_drop(resource->index, row->record, row->order);
	note_inside(resource, row->record, false);
}

void resource_load(struct resource *resource, struct record *row)
{
	fill_missing(row);
	enum resource_kind kind = record_kind(row);
	struct row *holder = map_find_text(resource->rows[kind], record_text(row, "id"));
	if (holder) {
		take_out(resource, holder);
		record_free(&holder->record);
	} else {
		holder = allocate(sizeof *holder);
		holder->order = ++resource->last_order;
		map_insert_text(resource->rows[kind], record_text(row, "id"), holder);
	}
	holder->record = row;
	index_add(resource->index, row, holder->order);
	note_inside(resource, row, true);
	if (kind == RESOURCE_VPC_ATTACHMENT && record_number(row, "order") > resource->last_attachment) {
		resource->last_attachment = record_number(row, "order");
	}
}

void resource_unload(struct resource *resource, enum resource_kind kind, const char *id)
{
	struct row *row = map_remove_text(resource->rows[kind], id);
	if (!row) {
		return;
	}
	take_out(resource, row);
	if (kind == RESOURCE_VPN_TUNNEL) {
		report_drop(resource, id);
	}
	free_row(row); // last: `id` may be its own
}

const struct record *resource_find(const struct resource *resource, enum resource_kind kind, const char *id)
{
	const struct row *row = row_find(resource, kind, id);
	return row ? row->record : NULL;
}

const struct row *row_find(const struct resource *resource, enum resource_kind kind, const char *id)
{
	return map_find_text(resource->rows[kind], id);
}

size_t resource_count(const struct resource *resource, enum resource_kind kind)
{
	return map_count(resource->rows[kind]);
}

bool resource_next(const struct resource *resource, enum resource_kind kind, struct row_cursor *cursor)
{
	struct map_cursor at = {.position = cursor->position};
	if (!map_next(resource->rows[kind], &at)) {
		return false;
	}
	cursor->position = at.position;
	cursor->row = ((const struct row *)at.value)->record;
	return true;
}

void resource_apply(struct resource *resource, struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		struct change *change = &plan->changes[i];
		// A plan is of the rows as they are: nothing came between.
		invariant(change->before == resource_find(resource, change->kind, change->id));
		if (change->after) {
			resource_load(resource, change->after);
		} else {
			resource_unload(resource, change->kind, change->id);
		}
		// What `before` pointed to is gone, and `after` is the store's now.
		change->before = NULL;
		change->after = NULL;
	}
}

void plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		record_free(&plan->changes[i].after);
		secret_wipe(&plan->changes[i].secret);
	}
	free(plan->changes);
	plan->changes = NULL;
	plan->count = 0;
}
