// The owner's rows (table_rows.h). Two lists, both ordered by the sequence of the last change: the live rows, and the
// departures (a key that a scope no longer has, because the row was removed or moved to another scope). A departure is never
// newer than the live row of its key, so a reader that may see that row needs only the row. Departures are bounded by the
// number of rows; a replica that is older than what was forgotten gets a snapshot.
#include "common/bus/table_rows.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/map.h"
#include "common/base/secret.h"

enum { FEWEST_DEPARTURES = 1024 };

struct entry {
	struct entry *older, *newer;
	uint64_t sequence;
	const char *scope; // interned; NULL: no row, but where a walk stands
	uint8_t *value;    // NULL in a departure
	size_t value_length;
	size_t key_length;
	uint8_t key[];
};

struct list {
	struct entry *oldest, *newest;
	size_t count;
};

struct table_rows {
	struct map *live_by_key;
	struct map *departures_by_scope; // scope → map of key → departure
	struct map *scopes;              // text → the interned copy
	struct list live, departures;
	uint64_t sequence;
	uint64_t forgotten; // the newest sequence of a departure that was let go
	bool pending;
	bool secret; // values are wiped when they are let go
	size_t walks; // that are under way
};

// ---- lists ----

static void append(struct list *list, struct entry *entry)
{
	invariant(!list->newest || list->newest->sequence <= entry->sequence);
	entry->newer = NULL;
	entry->older = list->newest;
	*(list->newest ? &list->newest->newer : &list->oldest) = entry;
	list->newest = entry;
	list->count++;
}

static void take_out(struct list *list, struct entry *entry)
{
	invariant(list->count > 0 || !entry->scope);
	invariant((entry->older ? entry->older->newer : list->oldest) == entry);
	invariant((entry->newer ? entry->newer->older : list->newest) == entry);
	*(entry->older ? &entry->older->newer : &list->oldest) = entry->newer;
	*(entry->newer ? &entry->newer->older : &list->newest) = entry->older;
	list->count--;
}

static struct bytes key_of(const struct entry *entry)
{
	return (struct bytes){entry->key, entry->key_length};
}

static void value_free(const struct table_rows *rows, struct entry *entry)
{
	if (rows->secret && entry->value) {
		wipe(entry->value, entry->value_length);
	}
	free(entry->value);
}

static void entry_free(const struct table_rows *rows, struct entry *entry)
{
	value_free(rows, entry);
	free(entry);
}

static void list_free(const struct table_rows *rows, struct list *list)
{
	while (list->oldest) {
		struct entry *entry = list->oldest;
		take_out(list, entry);
		entry_free(rows, entry);
	}
}

// ---- life ----

struct table_rows *table_rows_new(bool secret)
{
	struct table_rows *rows = allocate(sizeof *rows);
	rows->secret = secret;
	rows->live_by_key = map_new(NULL);
	rows->departures_by_scope = map_new(NULL);
	rows->scopes = map_new(NULL);
	return rows;
}

static void free_map(void *map)
{
	struct map *at = map;
	map_free(&at, NULL);
}

void table_rows_free(struct table_rows **rows_at)
{
	struct table_rows *rows = *rows_at;
	if (!rows) {
		return;
	}
	invariant(rows->walks == 0);
	list_free(rows, &rows->live);
	list_free(rows, &rows->departures);
	map_free(&rows->live_by_key, NULL);
	map_free(&rows->departures_by_scope, free_map);
	map_free(&rows->scopes, free);
	free(rows);
	*rows_at = NULL;
}

static const char *intern(struct table_rows *rows, const char *scope)
{
	char *known = map_find_text(rows->scopes, scope);
	if (!known) {
		known = duplicate_text(scope);
		map_insert_text(rows->scopes, scope, known);
	}
	return known;
}

static struct entry *entry_new(struct table_rows *rows, const char *scope, struct bytes key)
{
	struct entry *entry = allocate(sizeof *entry + key.length);
	entry->scope = scope;
	entry->sequence = rows->sequence + 1;
	entry->key_length = key.length;
	if (key.length > 0) {
		memcpy(entry->key, key.data, key.length);
	}
	return entry;
}

// ---- departures ----

static void forget_departure(struct table_rows *rows, struct entry *departure)
{
	struct map *of_scope = map_find_text(rows->departures_by_scope, departure->scope);
	struct entry *noted = map_remove(of_scope, key_of(departure));
	invariant(noted == departure);
	take_out(&rows->departures, departure);
	entry_free(rows, departure);
}

static struct entry *find_departure(const struct table_rows *rows, const char *scope, struct bytes key)
{
	const struct map *of_scope = map_find_text(rows->departures_by_scope, scope);
	return of_scope ? map_find(of_scope, key) : NULL;
}

static void note_departure(struct table_rows *rows, const char *scope, struct bytes key)
{
	struct map *of_scope = map_find_text(rows->departures_by_scope, scope);
	if (!of_scope) {
		of_scope = map_new(NULL);
		map_insert_text(rows->departures_by_scope, scope, of_scope);
	}
	struct entry *earlier = map_find(of_scope, key);
	if (earlier) {
		forget_departure(rows, earlier);
	}
	struct entry *departure = entry_new(rows, scope, key);
	map_insert(of_scope, key, departure);
	append(&rows->departures, departure);
	size_t bound = rows->live.count > FEWEST_DEPARTURES ? rows->live.count : FEWEST_DEPARTURES;
	while (rows->departures.count > bound) {
		invariant(rows->departures.oldest->sequence >= rows->forgotten);
		rows->forgotten = rows->departures.oldest->sequence;
		forget_departure(rows, rows->departures.oldest);
	}
}

// ---- changing ----

static void set_value(const struct table_rows *rows, struct entry *entry, struct bytes value)
{
	// One octet at least, so that an empty value differs from none.
	uint8_t *octets = allocate(value.length);
	if (value.length > 0) {
		memcpy(octets, value.data, value.length);
	}
	value_free(rows, entry);
	entry->value = octets;
	entry->value_length = value.length;
}

bool table_rows_put(struct table_rows *rows, const char *scope_text, struct bytes key, struct bytes value)
{
	const char *scope = intern(rows, scope_text);
	struct entry *entry = map_find(rows->live_by_key, key);
	if (entry && entry->scope == scope && bytes_equal((struct bytes){entry->value, entry->value_length}, value)) {
		return false;
	}
	if (!entry) {
		entry = entry_new(rows, scope, key);
		map_insert(rows->live_by_key, key, entry);
	} else {
		take_out(&rows->live, entry);
		if (entry->scope != scope) {
			note_departure(rows, entry->scope, key);
		}
	}
	struct entry *departure = find_departure(rows, scope, key);
	if (departure) {
		forget_departure(rows, departure); // it is back where it had left
	}
	entry->scope = scope;
	entry->sequence = rows->sequence + 1;
	set_value(rows, entry, value);
	append(&rows->live, entry);
	rows->pending = true;
	return true;
}

bool table_rows_has(const struct table_rows *rows, struct bytes key)
{
	return map_find(rows->live_by_key, key) != NULL;
}

bool table_rows_remove(struct table_rows *rows, struct bytes key)
{
	struct entry *entry = map_remove(rows->live_by_key, key);
	if (!entry) {
		return false;
	}
	take_out(&rows->live, entry);
	note_departure(rows, entry->scope, key_of(entry));
	entry_free(rows, entry);
	rows->pending = true;
	return true;
}

bool table_rows_pending(const struct table_rows *rows)
{
	return rows->pending;
}

uint64_t table_rows_commit(struct table_rows *rows, bool force)
{
	rows->sequence += rows->pending || force;
	rows->pending = false;
	invariant(!rows->live.newest || rows->live.newest->sequence <= rows->sequence);
	invariant(rows->forgotten <= rows->sequence);
	invariant(map_count(rows->live_by_key) == rows->live.count);
	return rows->sequence;
}

uint64_t table_rows_sequence(const struct table_rows *rows)
{
	return rows->sequence;
}

size_t table_rows_count(const struct table_rows *rows)
{
	return rows->live.count;
}

// ---- reading ----

bool table_rows_has_history(const struct table_rows *rows, uint64_t sequence)
{
	return sequence >= rows->forgotten && sequence <= rows->sequence;
}

static bool visible(const struct entry *entry, const char *scope)
{
	return entry->scope && (scope[0] == '\0' || entry->scope[0] == '\0' || strcmp(entry->scope, scope) == 0);
}

static const struct entry *first_after(const struct list *list, uint64_t since)
{
	const struct entry *first = NULL;
	for (const struct entry *entry = list->newest; entry && entry->sequence > since; entry = entry->older) {
		first = entry;
	}
	return first;
}

void table_rows_changes(const struct table_rows *rows, const char *scope, uint64_t since, table_rows_fn *visit, void *context)
{
	for (const struct entry *entry = first_after(&rows->departures, since); entry; entry = entry->newer) {
		const struct entry *live = map_find(rows->live_by_key, key_of(entry));
		if (visible(entry, scope) && !(live && visible(live, scope))) {
			visit(context, key_of(entry), (struct bytes){0}, true);
		}
	}
	for (const struct entry *entry = first_after(&rows->live, since); entry; entry = entry->newer) {
		if (visible(entry, scope)) {
			visit(context, key_of(entry), (struct bytes){entry->value, entry->value_length}, false);
		}
	}
}

// ---- walks ----

struct table_walk {
	struct table_rows *rows;
	uint64_t began;
	struct entry *place; // in the list of live rows, before what comes next
};

static void place_before(struct table_walk *walk, struct entry *next)
{
	struct list *list = &walk->rows->live;
	struct entry *place = walk->place;
	place->newer = next;
	place->older = next ? next->older : list->newest;
	place->sequence = place->older ? place->older->sequence : 0;
	*(place->older ? &place->older->newer : &list->oldest) = place;
	*(next ? &next->older : &list->newest) = place;
}

static void lift(struct table_walk *walk)
{
	take_out(&walk->rows->live, walk->place);
	walk->rows->live.count++; // it was no row
}

struct table_walk *table_walk_new(struct table_rows *rows)
{
	struct table_walk *walk = allocate(sizeof *walk);
	*walk = (struct table_walk){.rows = rows, .began = rows->sequence, .place = allocate(sizeof *walk->place)};
	*walk->place = (struct entry){0};
	place_before(walk, rows->live.oldest);
	rows->walks++;
	return walk;
}

void table_walk_free(struct table_walk **walk_at)
{
	struct table_walk *walk = *walk_at;
	if (walk) {
		invariant(walk->rows->walks > 0);
		walk->rows->walks--;
		lift(walk);
		free(walk->place);
		free(walk);
		*walk_at = NULL;
	}
}

uint64_t table_walk_began(const struct table_walk *walk)
{
	return walk->began;
}

bool table_walk_on(struct table_walk *walk, const char *scope, table_walk_fn *visit, void *context)
{
	struct entry *entry = walk->place->newer;
	while (entry && entry->sequence <= walk->began &&
	       (!visible(entry, scope) || visit(context, key_of(entry), (struct bytes){entry->value, entry->value_length}))) {
		entry = entry->newer;
	}
	bool ended = !entry || entry->sequence > walk->began;
	if (entry != walk->place->newer) {
		lift(walk);
		place_before(walk, entry);
	}
	return ended;
}
