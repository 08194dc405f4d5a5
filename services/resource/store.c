// The rows of every kind, by id.
#include "services/resource/store.h"
#include "services/resource/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

static void free_row(void *row)
{
	struct record *record = row;
	record_free(&record);
}

struct resource *resource_new(const char *region)
{
	struct resource *resource = allocate(sizeof *resource);
	snprintf(resource->region, sizeof resource->region, "%s", region);
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		resource->rows[i] = map_new(NULL);
	}
	resource->reports = map_new(NULL);
	resource->routes = map_new(NULL);
	resource->route_owners = map_new(NULL);
	resource->silent_nodes = map_new(NULL);
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
	reports_free(*resource);
	free(*resource);
	*resource = NULL;
}

void resource_load(struct resource *resource, struct record *row)
{
	fill_missing(row);
	free_row(map_insert_text(resource->rows[record_kind(row)], record_text(row, "id"), row));
}

void resource_unload(struct resource *resource, enum resource_kind kind, const char *id)
{
	free_row(map_remove_text(resource->rows[kind], id));
	if (kind == RESOURCE_VPN_TUNNEL) {
		report_drop(resource, id);
	}
}

const struct record *resource_find(const struct resource *resource, enum resource_kind kind, const char *id)
{
	return map_find_text(resource->rows[kind], id);
}

bool resource_next(const struct resource *resource, enum resource_kind kind, struct row_cursor *cursor)
{
	struct map_cursor at = {.position = cursor->position};
	if (!map_next(resource->rows[kind], &at)) {
		return false;
	}
	cursor->position = at.position;
	cursor->row = at.value;
	return true;
}

void resource_apply(struct resource *resource, struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		struct change *change = &plan->changes[i];
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
