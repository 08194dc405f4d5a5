// A stored row as JSON. What a newer release has put into it, and this one does not know, is kept beside the row and written
// back with each change, so that neither that release loses it nor this one stumbles over it.
#ifndef TWINSPAN_RESOURCE_DB_ROW_H
#define TWINSPAN_RESOURCE_DB_ROW_H

#include <jansson.h>

#include "proto/problem.h"
#include "proto/record.h"

// NULL and a problem when the row is not understood. `unknown` (NULL: nothing) maps paths to values, and is the caller's.
struct record *db_row_read(const char *kind, const char *body, json_t **unknown, struct problem *problem);
// The body to be stored, to be freed. `before`, which may be NULL, is the row that `unknown` was read beside: what was in an
// item of a list that has changed since is not kept.
char *db_row_write(const struct record *row, const struct record *before, const json_t *unknown);

#endif
