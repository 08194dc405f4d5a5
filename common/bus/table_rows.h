// The rows of a table as its owner keeps them, in the order of their last change, with the memory of what was removed: whatever
// sequence a replica has, what it lacks is found by walking back from the newest change, one entry per key however often the
// key changed. No sockets, no clock.
#ifndef TWINSPAN_BUS_TABLE_ROWS_H
#define TWINSPAN_BUS_TABLE_ROWS_H

#include "common/base/bytes.h"

struct table_rows;

struct table_rows *table_rows_new(bool secret); // values hold keys: they are wiped when they are let go
void table_rows_free(struct table_rows **rows);
// Changes wait for the commit; false when it is no change.
bool table_rows_put(struct table_rows *rows, const char *scope, struct bytes key, struct bytes value);
bool table_rows_remove(struct table_rows *rows, struct bytes key);
bool table_rows_has(const struct table_rows *rows, struct bytes key);
bool table_rows_pending(const struct table_rows *rows);
// `force`: counts one up even when nothing changed.
uint64_t table_rows_commit(struct table_rows *rows, bool force);
uint64_t table_rows_sequence(const struct table_rows *rows);
size_t table_rows_count(const struct table_rows *rows);
// Is everything that was removed after `sequence` still known?
bool table_rows_has_history(const struct table_rows *rows, uint64_t sequence);

typedef void table_rows_fn(void *context, struct bytes key, struct bytes value, bool removed);
// What a reader of `scope` ("": of all) that has `since` lacks: first what is gone for it, then what is new or changed, oldest
// change first.
void table_rows_changes(const struct table_rows *rows, const char *scope, uint64_t since, table_rows_fn *visit, void *context);

// All rows, a portion at a time while they change: each row that a walk has not come to and that is changed meanwhile is passed
// over, and is among the changes since the walk began, as is each that it had come to.
struct table_walk;
struct table_walk *table_walk_new(struct table_rows *rows);
void table_walk_free(struct table_walk **walk);
uint64_t table_walk_began(const struct table_walk *walk); // the rows' sequence at that time
// false: the row is not taken now, the walk stops before it.
typedef bool table_walk_fn(void *context, struct bytes key, struct bytes value);
// Goes on through the rows that `scope` may see. true at the end.
bool table_walk_on(struct table_walk *walk, const char *scope, table_walk_fn *visit, void *context);

#endif
