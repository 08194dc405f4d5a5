// What a person reads: lists as aligned tables, one resource as a page.
#ifndef TWINSPAN_CTL_PRINT_H
#define TWINSPAN_CTL_PRINT_H

#include <jansson.h>

#include "proto/resource_rules.h"

void print_json(const json_t *json);
// A row per item with the columns that matter most for the kind.
void print_list(enum resource_kind kind, const json_t *items);
// The rows of a list of objects with the named members as columns.
void print_table(const json_t *items, const char *const *columns, size_t column_count);
// Every field of one resource, lists of objects as tables after the rest; weak choices are marked.
void print_resource(enum resource_kind kind, const json_t *resource);

#endif
