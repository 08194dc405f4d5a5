// See backlog.h.
#include "services/route/backlog.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/map.h"

// A map, and how far it was handed out: what is added comes behind, so nothing is walked over twice but when the map was
// rebuilt.
struct line {
	struct map *rows; // key → struct backlog_row; of removals the key's own presence counts
	struct map_cursor at;
};

struct backlog {
	struct line puts, removals;
	struct map *batch; // under way
	bool batch_removes;
	bool unswept;
};

struct backlog *backlog_new(void)
{
	struct backlog *backlog = allocate(sizeof *backlog);
	backlog->puts.rows = map_new(NULL);
	backlog->removals.rows = map_new(NULL);
	backlog->batch = map_new(NULL);
	backlog->unswept = true;
	return backlog;
}

void backlog_free(struct backlog **backlog)
{
	if (*backlog) {
		map_free(&(*backlog)->puts.rows, free);
		map_free(&(*backlog)->removals.rows, free);
		map_free(&(*backlog)->batch, free);
		free(*backlog);
		*backlog = NULL;
	}
}

// An emptied map keeps the room that it once had; a long outage is over some day.
static void clear(struct line *line)
{
	map_free(&line->rows, free);
	line->rows = map_new(NULL);
	line->at = (struct map_cursor){0};
}

void backlog_put(struct backlog *backlog, const char *key, const struct backlog_row *row)
{
	free(map_remove_text(backlog->removals.rows, key));
	struct backlog_row *kept = map_find_text(backlog->puts.rows, key);
	if (!kept) {
		kept = allocate(sizeof *kept);
		map_insert_text(backlog->puts.rows, key, kept);
	}
	*kept = *row;
}

static void leave_to_sweep(struct backlog *backlog)
{
	clear(&backlog->removals);
	backlog->unswept = true;
}

void backlog_remove(struct backlog *backlog, const char *key, bool heard)
{
	free(map_remove_text(backlog->puts.rows, key));
	if (!heard) {
		backlog->unswept = true;
		return;
	}
	free(map_insert_text(backlog->removals.rows, key, allocate(sizeof(struct backlog_row))));
	if (map_count(backlog->removals.rows) > BACKLOG_REMOVALS) {
		leave_to_sweep(backlog);
	}
	invariant(map_count(backlog->removals.rows) <= BACKLOG_REMOVALS);
}

size_t backlog_count(const struct backlog *backlog)
{
	return map_count(backlog->puts.rows) + map_count(backlog->removals.rows) + map_count(backlog->batch);
}

size_t backlog_take(struct backlog *backlog, size_t most, backlog_fn *visit, void *context)
{
	invariant(map_count(backlog->batch) == 0);
	backlog->batch_removes = map_count(backlog->removals.rows) > 0;
	struct line *line = backlog->batch_removes ? &backlog->removals : &backlog->puts;
	size_t wanted = map_count(line->rows) < most ? map_count(line->rows) : most;
	for (size_t count = 0; count < wanted;) {
		if (!map_next(line->rows, &line->at)) {
			line->at = (struct map_cursor){0}; // the map was rebuilt, and what was ahead is behind
			continue;
		}
		struct backlog_row *row = line->at.value;
		visit(context, line->at.key, backlog->batch_removes ? NULL : row);
		map_insert(backlog->batch, line->at.key, row);
		map_remove(line->rows, line->at.key);
		count++;
	}
	if (map_count(line->rows) == 0 && wanted > 0) {
		clear(line);
	}
	invariant(map_count(backlog->batch) == wanted);
	return wanted;
}

static void end_batch(struct backlog *backlog)
{
	map_free(&backlog->batch, free);
	backlog->batch = map_new(NULL);
}

void backlog_written(struct backlog *backlog)
{
	invariant(map_count(backlog->batch) > 0);
	end_batch(backlog);
}

void backlog_lost(struct backlog *backlog)
{
	invariant(map_count(backlog->batch) > 0);
	for (struct map_cursor at = {0}; !backlog->batch_removes && map_next(backlog->batch, &at);) {
		// What has changed or gone since is newer.
		if (!map_find(backlog->puts.rows, at.key) && !map_find(backlog->removals.rows, at.key)) {
			struct backlog_row *again = allocate(sizeof *again);
			*again = *(const struct backlog_row *)at.value;
			map_insert(backlog->puts.rows, at.key, again);
		}
	}
	end_batch(backlog);
	leave_to_sweep(backlog);
}

bool backlog_wants_sweep(const struct backlog *backlog)
{
	return backlog->unswept;
}

void backlog_sweep_begins(struct backlog *backlog)
{
	invariant(backlog->unswept);
	backlog->unswept = false;
}

void backlog_sweep_fails(struct backlog *backlog)
{
	backlog->unswept = true;
}
