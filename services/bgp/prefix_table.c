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
	for (enum family family = 0; family < FAMILIES; family++) {
		free(table->parts[family].slots);
	}
	prefix_table_init(table, table->hash_key);
}

// ---- slots ----
// What is done for each slot is compiled for each family by itself, with the sizes known.
#define FOR_FAMILY static inline __attribute__((always_inline))

FOR_FAMILY size_t size_of_slot(enum family family)
{
	size_t size = offsetof(struct prefix_slot, address) + family_octets(family);
	return (size + _Alignof(struct prefix_slot) - 1) / _Alignof(struct prefix_slot) * _Alignof(struct prefix_slot);
}

FOR_FAMILY struct prefix_slot *slot_at(const struct prefix_part *part, enum family family, size_t at)
{
	return (struct prefix_slot *)(void *)(part->slots + at * size_of_slot(family));
}

static bool is_empty(const struct prefix_slot *slot)
{
	return slot->length == PREFIX_SLOT_EMPTY;
}

FOR_FAMILY bool is_of(const struct prefix_slot *slot, enum family family, const struct prefix *prefix)
{
	return slot->length == prefix->length && memcmp(slot->address, prefix->address.octets, family_octets(family)) == 0;
}

static struct prefix prefix_in(const struct prefix_slot *slot, enum family family)
{
	struct prefix prefix = {.address.length = family_octets(family), .length = slot->length};
	memcpy(prefix.address.octets, slot->address, prefix.address.length);
	return prefix;
}

// Multiply-shift under a secret odd multiplier: who chooses the prefixes does not choose where they collide.
FOR_FAMILY size_t home_of(const struct prefix_table *table, enum family family, const uint8_t *address, uint8_t length)
{
	uint64_t x = length;
	for (size_t i = 0; i < family_octets(family); i += 4) {
		uint32_t word = (uint32_t)address[i] << 24 | (uint32_t)address[i + 1] << 16 | (uint32_t)address[i + 2] << 8 |
		                address[i + 3];
		x = (x << 32 | x >> 32) ^ word;
		x *= table->hash_key;
		x ^= x >> 32;
	}
	x *= table->hash_key;
	return (size_t)(x >> 32) & (table->parts[family].capacity - 1);
}

FOR_FAMILY struct prefix_slot *probe_part(const struct prefix_table *table, enum family family, const struct prefix *prefix)
{
	const struct prefix_part *part = &table->parts[family];
	size_t at = home_of(table, family, prefix->address.octets, prefix->length);
	while (!is_empty(slot_at(part, family, at)) && !is_of(slot_at(part, family, at), family, prefix)) {
		at = (at + 1) & (part->capacity - 1);
	}
	return slot_at(part, family, at);
}

static struct prefix_slot *probe(const struct prefix_table *table, const struct prefix *prefix)
{
	return family_of(prefix) == FAMILY_IPV4 ? probe_part(table, FAMILY_IPV4, prefix)
	                                        : probe_part(table, FAMILY_IPV6, prefix);
}

static void grow(struct prefix_table *table, enum family family)
{
	struct prefix_part *part = &table->parts[family], smaller = *part;
	part->capacity = smaller.capacity ? smaller.capacity * 2 : SMALLEST;
	part->slots = allocate_array(part->capacity, size_of_slot(family));
	for (size_t i = 0; i < part->capacity; i++) {
		slot_at(part, family, i)->length = PREFIX_SLOT_EMPTY;
	}
	for (size_t i = 0; i < smaller.capacity; i++) {
		const struct prefix_slot *slot = slot_at(&smaller, family, i);
		if (is_empty(slot)) {
			continue;
		}
		size_t at = home_of(table, family, slot->address, slot->length);
		while (!is_empty(slot_at(part, family, at))) {
			at = (at + 1) & (part->capacity - 1);
		}
		memcpy(slot_at(part, family, at), slot, size_of_slot(family));
	}
	invariant(part->count < part->capacity);
	free(smaller.slots);
}

// ---- the table ----
struct prefix_slot *prefix_table_find(const struct prefix_table *table, const struct prefix *prefix)
{
	if (table->parts[family_of(prefix)].count == 0) {
		return NULL;
	}
	struct prefix_slot *slot = probe(table, prefix);
	return is_empty(slot) ? NULL : slot;
}

struct prefix_slot *prefix_table_insert(struct prefix_table *table, const struct prefix *prefix)
{
	enum family family = family_of(prefix);
	struct prefix_part *part = &table->parts[family];
	// At most three quarters full.
	if (part->count + part->count / 3 + 1 >= part->capacity) {
		grow(table, family);
	}
	struct prefix_slot *slot = probe(table, prefix);
	if (is_empty(slot)) {
		*slot = (struct prefix_slot){.length = prefix->length};
		memcpy(slot->address, prefix->address.octets, family_octets(family));
		part->count++;
		table->count++;
	}
	return slot;
}

void prefix_table_remove(struct prefix_table *table, const struct prefix *prefix, struct prefix_slot *slot)
{
	enum family family = family_of(prefix);
	struct prefix_part *part = &table->parts[family];
	invariant(part->count > 0 && is_of(slot, family, prefix));
	size_t mask = part->capacity - 1, hole = (size_t)((uint8_t *)slot - part->slots) / size_of_slot(family);
	for (size_t at = (hole + 1) & mask; !is_empty(slot_at(part, family, at)); at = (at + 1) & mask) {
		const struct prefix_slot *later = slot_at(part, family, at);
		size_t home = home_of(table, family, later->address, later->length);
		// It may move into the hole when its home is not after the hole on the way to where it is.
		if (((at - home) & mask) >= ((at - hole) & mask)) {
			memcpy(slot_at(part, family, hole), later, size_of_slot(family));
			hole = at;
		}
	}
	slot_at(part, family, hole)->length = PREFIX_SLOT_EMPTY;
	part->count--;
	table->count--;
}

// Positions count through the parts, one behind the other.
struct prefix_slot *prefix_table_next(const struct prefix_table *table, size_t *at, struct prefix *prefix)
{
	size_t first = 0;
	for (enum family family = 0; family < FAMILIES; family++) {
		const struct prefix_part *part = &table->parts[family];
		for (; *at < first + part->capacity; ++*at) {
			struct prefix_slot *slot = slot_at(part, family, *at - first);
			if (!is_empty(slot)) {
				*prefix = prefix_in(slot, family);
				return slot;
			}
		}
		first += part->capacity;
	}
	return NULL;
}
