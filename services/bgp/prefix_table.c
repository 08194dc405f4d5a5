// See prefix_table.h.
#include "services/bgp/prefix_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"

enum { SMALLEST = 16 };

void prefix_table_init(struct prefix_table *table, uint64_t hash_key)
{
	*table = (struct prefix_table){.hash_key = hash_key | 1};
}

void prefix_table_fini(struct prefix_table *table)
{
	free(table->slots);
	prefix_table_init(table, table->hash_key);
}

// Multiply-shift under a secret odd multiplier: who chooses the prefixes does not choose where they collide.
static size_t home_of(const struct prefix_table *table, uint32_t address, uint8_t length)
{
	uint64_t x = ((uint64_t)length << 32 | address) * table->hash_key;
	x ^= x >> 32;
	x *= table->hash_key;
	return (size_t)(x >> 32) & (table->capacity - 1);
}

static struct prefix_slot *probe(const struct prefix_table *table, struct bgp_prefix prefix)
{
	size_t at = home_of(table, prefix.address, prefix.length);
	while (table->slots[at].length != PREFIX_SLOT_EMPTY &&
	       (table->slots[at].address != prefix.address || table->slots[at].length != prefix.length)) {
		at = (at + 1) & (table->capacity - 1);
	}
	return &table->slots[at];
}

static void grow(struct prefix_table *table)
{
	struct prefix_table bigger = {.hash_key = table->hash_key, .count = table->count};
	bigger.capacity = table->capacity ? table->capacity * 2 : SMALLEST;
	bigger.slots = allocate_array(bigger.capacity, sizeof *bigger.slots);
	for (size_t i = 0; i < bigger.capacity; i++) {
		bigger.slots[i].length = PREFIX_SLOT_EMPTY;
	}
	for (size_t i = 0; i < table->capacity; i++) {
		if (table->slots[i].length != PREFIX_SLOT_EMPTY) {
			*probe(&bigger, prefix_slot_prefix(&table->slots[i])) = table->slots[i];
		}
	}
	invariant(bigger.count < bigger.capacity);
	free(table->slots);
	*table = bigger;
}

struct prefix_slot *prefix_table_find(const struct prefix_table *table, struct bgp_prefix prefix)
{
	if (table->count == 0) {
		return NULL;
	}
	struct prefix_slot *slot = probe(table, prefix);
	return slot->length == PREFIX_SLOT_EMPTY ? NULL : slot;
}

struct prefix_slot *prefix_table_insert(struct prefix_table *table, struct bgp_prefix prefix)
{
	// At most three quarters full.
	if (table->count + table->count / 3 + 1 >= table->capacity) {
		grow(table);
	}
	struct prefix_slot *slot = probe(table, prefix);
	if (slot->length == PREFIX_SLOT_EMPTY) {
		*slot = (struct prefix_slot){.address = prefix.address, .length = prefix.length};
		table->count++;
	}
	return slot;
}

void prefix_table_remove(struct prefix_table *table, struct prefix_slot *slot)
{
	invariant(table->count > 0 && slot->length != PREFIX_SLOT_EMPTY);
	size_t mask = table->capacity - 1, hole = (size_t)(slot - table->slots);
	for (size_t at = (hole + 1) & mask; table->slots[at].length != PREFIX_SLOT_EMPTY; at = (at + 1) & mask) {
		size_t home = home_of(table, table->slots[at].address, table->slots[at].length);
		// It may move into the hole when its home is not after the hole on the way to where it is.
		if (((at - home) & mask) >= ((at - hole) & mask)) {
			table->slots[hole] = table->slots[at];
			hole = at;
		}
	}
	table->slots[hole] = (struct prefix_slot){.length = PREFIX_SLOT_EMPTY};
	table->count--;
}

struct prefix_slot *prefix_table_next(const struct prefix_table *table, size_t *at)
{
	while (*at < table->capacity && table->slots[*at].length == PREFIX_SLOT_EMPTY) {
		++*at;
	}
	return *at < table->capacity ? &table->slots[*at] : NULL;
}
