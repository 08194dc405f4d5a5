// A plan in the making: the store as it will be when the plan is applied. Rules look at rows through a draft, so that they see
// what the same request has made or removed before.
#ifndef TWINSPAN_RESOURCE_DRAFT_H
#define TWINSPAN_RESOURCE_DRAFT_H

#include "services/resource/index.h"

struct draft {
	const struct resource *store;
	const struct request *request;
	struct plan *plan;
};

const struct record *draft_find(const struct draft *draft, enum resource_kind kind, const char *id);
struct draft_cursor {
	struct row_cursor stored;
	size_t staged;
	const struct record *row;
};
bool draft_next(const struct draft *draft, enum resource_kind kind, struct draft_cursor *cursor); // start with a zeroed one
// The rows of a kind that have `text` at `path`, which is indexed (index.c).
struct draft_children {
	struct index_cursor stored;
	size_t staged;
	const struct record *row;
};
bool draft_next_of(const struct draft *draft, struct index_key key, struct draft_children *cursor); // start with a zeroed one
// The first of them other than the row with the id `except`; NULL: there is none.
const struct record *draft_other(const struct draft *draft, struct index_key key, const char *except);
// How many there are.
size_t draft_count(const struct draft *draft, enum resource_kind kind, const char *path, const char *text);

// A row to be written: the staged copy when there is one, else a new copy of the stored one (which must exist). Valid until the
// next draft_ call that stages.
struct record *draft_edit(struct draft *draft, enum resource_kind kind, const char *id);
// Stages a new row (taken over).
struct change *draft_insert(struct draft *draft, struct record *row);
void draft_remove(struct draft *draft, enum resource_kind kind, const char *id);
struct change *draft_change(struct draft *draft, enum resource_kind kind, const char *id); // NULL: not staged

// Refuses the request: fills the plan's problem in and returns false. `value` may be NULL.
bool refuse(struct draft *draft, int status, const char *type, const char *field, const char *value, const char *rule, ...)
    __attribute__((format(printf, 6, 7)));

#endif
