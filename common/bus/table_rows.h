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
// All rows it may see.
void table_rows_all(const struct table_rows *rows, const char *scope, table_rows_fn *visit, void *context);

#endif
