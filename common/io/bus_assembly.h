// Batches put together to one change, and the difference it makes to the rows that are held.
#ifndef TWINSPAN_IO_BUS_ASSEMBLY_H
#define TWINSPAN_IO_BUS_ASSEMBLY_H

#include "../base/map.h"
#include "bus.h"
#include "bus_frame.h"

struct held_row {
	size_t length;
	uint8_t value[];
};

struct staged_row {
	uint8_t *key;
	size_t key_length;
	struct held_row *row; // NULL: removed
};

struct assembly {
	bool active;
	bool snapshot;
	uint64_t epoch, sequence, previous;
	uint32_t next_part;
	struct staged_row *staged;
	size_t count, capacity;
	size_t octets;
};

enum { ASSEMBLY_OCTETS = 256 * 1024 * 1024 }; // the largest change; an owner that sends more is not believed

void assembly_begin(struct assembly *assembly, const Twinspan__BusBatch *batch);
bool assembly_add(struct assembly *assembly, const Twinspan__BusBatch *batch); // false when it grows too large
void assembly_clear(struct assembly *assembly);

// The rows that differ from `rows`, removed ones first. They refer into the assembly and into `rows`; the caller frees the
// array.
struct replica_row *assembly_difference(const struct assembly *assembly, const struct map *rows, size_t *count);
// Makes `rows` what the assembly says and empties it.
void assembly_apply(struct assembly *assembly, struct map **rows);

#endif
