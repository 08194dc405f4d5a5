// Where rows are found by what is in them: the tunnels of a connection, the rows of a tenant. Rules and lists look here, so
// that no request costs more the more rows of others there are.
#ifndef TWINSPAN_RESOURCE_INDEX_H
#define TWINSPAN_RESOURCE_INDEX_H

#include "services/resource/resource.h"

struct index;

struct index *index_new(void);
void index_free(struct index **index);
// `order` is the row's place among those made in the same millisecond. The row must not change while it is in.
void index_add(struct index *index, const struct record *row, uint64_t order);
void index_drop(struct index *index, const struct record *row, uint64_t order);

// Which rows: those of `kind` that have `text` at `path`. `path` must be one that is indexed (index.c); "" with the text "" is
// every row of the kind, "a+b" is both, the text being index_pair's.
struct index_key {
	enum resource_kind kind;
	const char *path, *text;
};
size_t index_count(const struct index *index, struct index_key key);
bool index_holds(struct index_key key, const struct record *row);
enum { INDEX_PAIR = 192 };
char *index_pair(const char *a, const char *b, char out[static INDEX_PAIR]);
bool is_indexed(enum resource_kind kind, const char *path);

// Rows in the order in which they were made. A place is where a row stands in that order, whatever index it is looked at
// through.
enum { INDEX_PLACE = 32 };
struct index_place {
	uint8_t octets[INDEX_PLACE];
};
struct index_place index_place_of(const struct record *row, uint64_t order);
struct index_place index_place_at(const char *created_at); // before every row made at that time
struct index_cursor {
	bool started;
	struct index_place place; // of the last row; the next one is behind it
	const struct record *row;
};
bool index_next(const struct index *index, struct index_key key, struct index_cursor *cursor); // start with a zeroed one

#endif
