// See assembly.h.
#include "common/bus/assembly.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"

void assembly_clear(struct assembly *assembly)
{
	map_free(&assembly->staged, free);
	*assembly = (struct assembly){0};
}

void assembly_begin(struct assembly *assembly, const Twinspan__BusBatch *batch)
{
	assembly_clear(assembly);
	*assembly = (struct assembly){.active = true,
	                              .snapshot = batch->snapshot,
	                              .epoch = batch->epoch,
	                              .previous = batch->previous,
	                              .sequence = batch->sequence,
	                              .staged = map_new(NULL)};
}

static void stage(struct assembly *assembly, const Twinspan__BusRow *row)
{
	size_t length = row->removed ? 0 : row->value.len;
	struct held_row *staged = allocate(sizeof *staged + length);
	staged->length = length;
	staged->removed = row->removed;
	if (length > 0) {
		memcpy(staged->value, row->value.data, length);
	}
	free(map_insert(assembly->staged, (struct bytes){row->key.data, row->key.len}, staged));
}

bool assembly_add(struct assembly *assembly, const Twinspan__BusBatch *batch)
{
	enum { OVERHEAD = 128 }; // of a row in memory
	invariant(assembly->active && assembly->octets <= ASSEMBLY_OCTETS);
	for (size_t i = 0; i < batch->n_rows; i++) {
		const Twinspan__BusRow *row = batch->rows[i];
		assembly->octets += row->key.len + row->value.len + OVERHEAD;
		if (assembly->octets > ASSEMBLY_OCTETS) {
			return false;
		}
		stage(assembly, row);
	}
	assembly->next_part = batch->part + 1;
	assembly->sequence = batch->sequence; // a snapshot's moves on while it is under way
	return true;
}

static struct bytes value_of(const struct held_row *row)
{
	return (struct bytes){row->value, row->length};
}

static bool differs(const struct held_row *staged, const struct held_row *held)
{
	return !held || held->hidden || !bytes_equal(value_of(held), value_of(staged));
}

static bool is_shown(const struct map *rows, struct bytes key)
{
	const struct held_row *held = map_find(rows, key);
	return held && !held->hidden;
}

static bool names(const struct assembly *assembly, struct bytes key)
{
	const struct held_row *staged = map_find(assembly->staged, key);
	return staged && !staged->removed && !staged->hidden;
}

struct replica_row *assembly_difference(const struct assembly *assembly, const struct map *rows, size_t *count)
{
	const struct bytes nothing = {(const uint8_t *)"", 0};
	struct replica_row *out =
	    allocate_array(map_count(assembly->staged) + (assembly->snapshot ? map_count(rows) : 0), sizeof *out);
	*count = 0;
	invariant(assembly->active);
	// What a snapshot does not name is gone; what a change removes is gone where it was.
	for (struct map_cursor at = {0}; assembly->snapshot && map_next(rows, &at);) {
		if (!((const struct held_row *)at.value)->hidden && !names(assembly, at.key)) {
			out[(*count)++] = (struct replica_row){.key = at.key, .value = nothing, .removed = true};
		}
	}
	for (struct map_cursor at = {0}; !assembly->snapshot && map_next(assembly->staged, &at);) {
		const struct held_row *staged = at.value;
		if ((staged->removed || staged->hidden) && is_shown(rows, at.key)) {
			out[(*count)++] = (struct replica_row){.key = at.key, .value = nothing, .removed = true};
		}
	}
	for (struct map_cursor at = {0}; map_next(assembly->staged, &at);) {
		const struct held_row *staged = at.value;
		if (!staged->removed && !staged->hidden && differs(staged, map_find(rows, at.key))) {
			out[(*count)++] = (struct replica_row){.key = at.key, .value = value_of(staged)};
		}
	}
	invariant(*count <= map_count(assembly->staged) + (assembly->snapshot ? map_count(rows) : 0));
	return out;
}

void assembly_apply(struct assembly *assembly, struct map **rows)
{
	for (struct map_cursor at = {0}; map_next(assembly->staged, &at);) {
		struct held_row *staged = at.value;
		if (!staged->removed && assembly->snapshot) {
			continue; // stays where it is: the staged rows become the rows
		}
		if (staged->removed) {
			free(map_remove(*rows, at.key));
		} else {
			free(map_insert(*rows, at.key, staged));
		}
		map_remove(assembly->staged, at.key);
		if (staged->removed) {
			free(staged);
		}
	}
	if (assembly->snapshot) {
		map_free(rows, free);
		*rows = assembly->staged;
		assembly->staged = NULL;
	}
	assembly_clear(assembly);
}
