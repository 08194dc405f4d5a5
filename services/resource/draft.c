// See draft.h.
#include "services/resource/draft.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "services/resource/store.h"

struct change *draft_change(struct draft *draft, enum resource_kind kind, const char *id)
{
	for (size_t i = 0; i < draft->plan->count; i++) {
		struct change *change = &draft->plan->changes[i];
		if (change->kind == kind && strcmp(change->id, id) == 0) {
			return change;
		}
	}
	return NULL;
}

const struct record *draft_find(const struct draft *draft, enum resource_kind kind, const char *id)
{
	const struct change *change = draft_change((struct draft *)(uintptr_t)draft, kind, id);
	return change ? change->after : resource_find(draft->store, kind, id);
}

bool draft_next(const struct draft *draft, enum resource_kind kind, struct draft_cursor *cursor)
{
	while (resource_next(draft->store, kind, &cursor->stored)) {
		cursor->row = cursor->stored.row;
		if (draft->plan->count == 0 ||
		    !draft_change((struct draft *)(uintptr_t)draft, kind, record_text(cursor->row, "id"))) {
			return true;
		}
	}
	while (cursor->staged < draft->plan->count) {
		const struct change *change = &draft->plan->changes[cursor->staged++];
		if (change->kind == kind && change->after) {
			cursor->row = change->after;
			return true;
		}
	}
	return false;
}

bool draft_next_of(const struct draft *draft, struct index_key key, struct draft_children *cursor)
{
	while (index_next(draft->store->index, key, &cursor->stored)) {
		cursor->row = cursor->stored.row;
		if (draft->plan->count == 0 ||
		    !draft_change((struct draft *)(uintptr_t)draft, key.kind, record_text(cursor->row, "id"))) {
			return true;
		}
	}
	while (cursor->staged < draft->plan->count) {
		const struct change *change = &draft->plan->changes[cursor->staged++];
		if (change->kind == key.kind && change->after && index_holds(key, change->after)) {
			cursor->row = change->after;
			return true;
		}
	}
	return false;
}

const struct record *draft_other(const struct draft *draft, struct index_key key, const char *except)
{
	for (struct draft_children c = {0}; draft_next_of(draft, key, &c);) {
		if (!record_is(c.row, "id", except)) {
			return c.row;
		}
	}
	return NULL;
}

size_t draft_count(const struct draft *draft, enum resource_kind kind, const char *path, const char *text)
{
	struct index_key key = {kind, path, text};
	size_t count = index_count(draft->store->index, key);
	for (size_t i = 0; i < draft->plan->count; i++) {
		const struct change *change = &draft->plan->changes[i];
		if (change->kind == kind) {
			count += change->after && index_holds(key, change->after);
			count -= change->before && index_holds(key, change->before);
		}
	}
	return count;
}

static struct change *stage(struct draft *draft, enum resource_kind kind, const char *id)
{
	struct plan *plan = draft->plan;
	plan->changes = reallocate(plan->changes, plan->count + 1, sizeof *plan->changes);
	struct change *change = &plan->changes[plan->count++];
	*change = (struct change){.kind = kind, .before = resource_find(draft->store, kind, id)};
	snprintf(change->id, sizeof change->id, "%s", id);
	return change;
}

struct record *draft_edit(struct draft *draft, enum resource_kind kind, const char *id)
{
	struct change *change = draft_change(draft, kind, id);
	if (!change) {
		change = stage(draft, kind, id);
		invariant(change->before);
		change->after = record_copy(change->before);
	}
	return change->after;
}

struct change *draft_insert(struct draft *draft, struct record *row)
{
	invariant(!draft_find(draft, record_kind(row), record_text(row, "id")));
	struct change *change = stage(draft, record_kind(row), record_text(row, "id"));
	change->after = row;
	return change;
}

void draft_remove(struct draft *draft, enum resource_kind kind, const char *id)
{
	struct change *change = draft_change(draft, kind, id);
	if (!change) {
		change = stage(draft, kind, id);
	}
	record_free(&change->after);
}

bool refuse(struct draft *draft, int status, const char *type, const char *field, const char *value, const char *rule, ...)
{
	char text[PROBLEM_RULE];
	va_list arguments;
	va_start(arguments, rule);
	vsnprintf(text, sizeof text, rule, arguments);
	va_end(arguments);
	return problem_set(&draft->plan->problem, status, type, field, value, "%s", text);
}
