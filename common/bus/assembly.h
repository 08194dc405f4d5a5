// Batches put together to one change, and the difference it makes to the rows that are held.
#ifndef TWINSPAN_BUS_ASSEMBLY_H
#define TWINSPAN_BUS_ASSEMBLY_H

#include "common/base/map.h"
#include "common/bus/bus.h"
#include "common/bus/frame.h"

struct held_row {
	size_t length;
	bool removed; // in an assembly only
	bool hidden;  // by the verdict on it (admission.h): held, and shown to nobody
	uint8_t value[];
};

struct assembly {
	bool active;
	bool snapshot;
	uint64_t epoch, sequence;
	uint64_t previous; // of its parts: a snapshot says when it was begun
	uint32_t next_part;
	struct map *staged; // key → struct held_row; of a key that comes twice the last counts
	size_t octets;
};

void assembly_begin(struct assembly *assembly, const Twinspan__BusBatch *batch);
bool assembly_add(struct assembly *assembly, const Twinspan__BusBatch *batch); // false when it grows beyond ASSEMBLY_OCTETS
void assembly_clear(struct assembly *assembly);

// The rows that differ from `rows`, removed ones first. They refer into the assembly and into `rows`; the caller frees the
// array.
struct replica_row *assembly_difference(const struct assembly *assembly, const struct map *rows, size_t *count);
// Makes `rows` (key → struct held_row) what the assembly says and empties it.
void assembly_apply(struct assembly *assembly, struct map **rows);

#endif
