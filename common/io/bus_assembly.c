// See bus_assembly.h.
#include "bus_assembly.h"

#include <stdlib.h>
#include <string.h>

#include "../base/alloc.h"

void assembly_clear(struct assembly *assembly)
{
	for (size_t i = 0; i < assembly->count; i++) {
		free(assembly->staged[i].key);
		free(assembly->staged[i].row);
	}
	free(assembly->staged);
	*assembly = (struct assembly){0};
}

void assembly_begin(struct assembly *assembly, const Twinspan__BusBatch *batch)
{
	assembly_clear(assembly);
	assembly->active = true;
	assembly->snapshot = batch->snapshot;
	assembly->epoch = batch->epoch;
	assembly->sequence = batch->sequence;
	assembly->previous = batch->previous;
}

static uint8_t *copy(const uint8_t *octets, size_t length)
{
	uint8_t *own = allocate(length);
	if (length > 0) {
		memcpy(own, octets, length);
	}
	return own;
}

static void stage(struct assembly *assembly, const Twinspan__BusRow *row)
{
	if (assembly->count == assembly->capacity) {
		assembly->capacity = assembly->capacity ? assembly->capacity * 2 : 8;
		assembly->staged = reallocate(assembly->staged, assembly->capacity, sizeof *assembly->staged);
	}
	struct staged_row *staged = &assembly->staged[assembly->count++];
	*staged = (struct staged_row){.key = copy(row->key.data, row->key.len), .key_length = row->key.len};
	if (!row->removed) {
		staged->row = allocate(sizeof *staged->row + row->value.len);
		staged->row->length = row->value.len;
		if (row->value.len > 0) {
			memcpy(staged->row->value, row->value.data, row->value.len);
		}
	}
}

bool assembly_add(struct assembly *assembly, const Twinspan__BusBatch *batch)
{
	for (size_t i = 0; i < batch->n_rows; i++) {
		const Twinspan__BusRow *row = batch->rows[i];
		assembly->octets += row->key.len + row->value.len + sizeof(struct staged_row) + sizeof(struct held_row);
		if (assembly->octets > ASSEMBLY_OCTETS) {
			return false;
		}
		stage(assembly, row);
	}
	assembly->next_part = batch->part + 1;
	return true;
}

static struct bytes key_of(const struct staged_row *staged)
{
	return (struct bytes){staged->key, staged->key_length};
}

static struct bytes value_of(const struct held_row *row)
{
	return (struct bytes){row->value, row->length};
}

static bool differs(const struct staged_row *staged, const struct map *rows)
{
	const struct held_row *held = map_find(rows, key_of(staged));
	if (!held || !staged->row) {
		return held || staged->row;
	}
	return !bytes_equal(value_of(held), value_of(staged->row));
}

// What a snapshot does not name is gone.
static size_t missing(const struct assembly *assembly, const struct map *rows, struct replica_row *out)
{
	struct map *named = map_new(NULL);
	for (size_t i = 0; i < assembly->count; i++) {
		if (assembly->staged[i].row) {
			map_insert(named, key_of(&assembly->staged[i]), &assembly->staged[i]);
		}
	}
	size_t count = 0;
	for (struct map_cursor at = {0}; map_next(rows, &at);) {
		if (!map_find(named, at.key)) {
			out[count++] = (struct replica_row){.key = at.key, .value = {(const uint8_t *)"", 0}, .removed = true};
		}
	}
	map_free(&named, NULL);
	return count;
}

struct replica_row *assembly_difference(const struct assembly *assembly, const struct map *rows, size_t *count)
{
	size_t most = assembly->count + (assembly->snapshot ? map_count(rows) : 0);
	struct replica_row *out = allocate_array(most, sizeof *out);
	*count = assembly->snapshot ? missing(assembly, rows, out) : 0;
	for (int put = assembly->snapshot; put < 2; put++) {
		for (size_t i = 0; i < assembly->count; i++) {
			const struct staged_row *staged = &assembly->staged[i];
			if ((staged->row != NULL) == put && differs(staged, rows)) {
				out[(*count)++] = (struct replica_row){
				    .key = key_of(staged),
				    .value = staged->row ? value_of(staged->row) : (struct bytes){(const uint8_t *)"", 0},
				    .removed = !staged->row,
				};
			}
		}
	}
	return out;
}

void assembly_apply(struct assembly *assembly, struct map **rows)
{
	if (assembly->snapshot) {
		map_free(rows, free);
		*rows = map_new(NULL);
	}
	for (int put = assembly->snapshot; put < 2; put++) {
		for (size_t i = 0; i < assembly->count; i++) {
			struct staged_row *staged = &assembly->staged[i];
			if (put && staged->row) {
				free(map_insert(*rows, key_of(staged), staged->row));
				staged->row = NULL; // the map has it
			} else if (!put && !staged->row) {
				free(map_remove(*rows, key_of(staged)));
			}
		}
	}
	assembly_clear(assembly);
}
