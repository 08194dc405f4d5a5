// What the rules say of every field alike: who may give it, presence, default, range, form, references.
#ifndef TWINSPAN_RESOURCE_CHECK_H
#define TWINSPAN_RESOURCE_CHECK_H

#include "services/resource/draft.h"

// Whether the request's body has only fields that a user may give in this action. `before` is NULL at creation.
bool check_given(struct draft *draft, const struct record *body, const struct record *before);
// Takes cleared fields back, then fills the defaults in. Required fields that are missing are refused.
bool apply_cleared(struct draft *draft, const struct cleared *cleared, struct record *row);
bool fill_defaults(struct draft *draft, struct record *row);
// The defaults of fields that a stored row does not have: they are newer than it.
void fill_missing(struct record *row);
// Every value of the row against its rule.
bool check_values(struct draft *draft, const struct record *row);
// The choices of a row that are accepted but weak are appended to its list `weak`.
void list_weak(struct record *row);

#endif
