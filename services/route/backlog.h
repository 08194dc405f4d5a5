// What waits to be written to the database: for each row that there is, at most its last change; of rows that are gone, a
// bounded number. What was removed beyond that, or while nobody could be told, is found by a sweep through the stored rows. So
// nothing grows with the keys ever seen.
#ifndef TWINSPAN_ROUTE_BACKLOG_H
#define TWINSPAN_ROUTE_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"

enum { BACKLOG_REMOVALS = 20000 };

struct backlog;
struct backlog_row {
	uint64_t state, since, order;
};
struct backlog *backlog_new(void);
void backlog_free(struct backlog **backlog);
void backlog_put(struct backlog *backlog, const char *key, const struct backlog_row *row);
// `heard`: the database can be told soon.
void backlog_remove(struct backlog *backlog, const char *key, bool heard);
size_t backlog_count(const struct backlog *backlog);

// `row` NULL: to be deleted.
typedef void backlog_fn(void *context, struct bytes key, const struct backlog_row *row);
// Hands out up to `most` changes of one sort, removals first; they are under way until one of the next two calls. Returns how
// many.
size_t backlog_take(struct backlog *backlog, size_t most, backlog_fn *visit, void *context);
void backlog_written(struct backlog *backlog);
void backlog_lost(struct backlog *backlog); // they wait again, or are left to the sweep

// Whether stored rows may be of keys that are no more: true at first, and after removals that were not told.
bool backlog_wants_sweep(const struct backlog *backlog);
void backlog_sweep_begins(struct backlog *backlog);
void backlog_sweep_fails(struct backlog *backlog);

#endif
