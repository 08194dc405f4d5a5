// The hash map of map.h: entries in an array in the order they came, and an open-addressed index of their positions. A removed
// entry stays as a tombstone, in both, until an insertion finds the array full or mostly dead and rebuilds: so a removal never
// moves what an iteration is about to visit, and the cost of every call is constant on average.
#include "common/base/map.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum { SMALLEST = 8 };

struct entry {
	uint8_t *key; // NULL: removed
	size_t length;
	uint64_t hash;
	void *value;
};

struct map {
	uint8_t hash_key[16];
	struct entry *entries;
	uint32_t *index; // 2 × capacity slots: 0, or 1 + the entry's position
	size_t capacity; // a power of two, or 0
	size_t used;     // entries, tombstones included
	size_t count;
};

static uint64_t rotate(uint64_t value, int bits)
{
	return value << bits | value >> (64 - bits);
}

static uint64_t load(const uint8_t *at, size_t length)
{
	uint64_t value = 0;
	for (size_t i = 0; i < length; i++) {
		value |= (uint64_t)at[i] << (8 * i);
	}
	return value;
}

static void sip_round(uint64_t v[static 4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

uint64_t siphash(const uint8_t key[static 16], struct bytes text)
{
	uint64_t k0 = load(key, 8), k1 = load(key + 8, 8);
	uint64_t v[4] = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
	size_t whole = text.length & ~(size_t)7;
	for (size_t i = 0; i <= whole; i += 8) {
		uint64_t word = i < whole ? load(text.data + i, 8)
		                          : (uint64_t)text.length << 56 |
		                                (text.length > whole ? load(text.data + whole, text.length - whole) : 0);
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++) {
		sip_round(v);
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct map *map_new(const uint8_t hash_key[16])
{
	struct map *map = allocate(sizeof *map);
	if (hash_key) {
		memcpy(map->hash_key, hash_key, sizeof map->hash_key);
	}
	return map;
}

void map_free(struct map **map, void (*free_value)(void *))
{
	if (!*map) {
		return;
	}
	for (size_t i = 0; i < (*map)->used; i++) {
		struct entry *entry = &(*map)->entries[i];
		if (entry->key && free_value) {
			free_value(entry->value);
		}
		free(entry->key);
	}
	free((*map)->entries);
	free((*map)->index);
	free(*map);
	*map = NULL;
}

static void index_entry(struct map *map, size_t position)
{
	size_t mask = 2 * map->capacity - 1;
	size_t slot = (size_t)map->entries[position].hash & mask;
	while (map->index[slot]) {
		slot = (slot + 1) & mask;
	}
	map->index[slot] = (uint32_t)position + 1;
}

// Room for one more entry: twice the size when most are alive, else without the tombstones.
static void make_room(struct map *map)
{
	bool full = map->used == map->capacity;
	bool mostly_dead = map->used > 4 * SMALLEST && map->count < map->used / 4;
	if (!full && !mostly_dead) {
		return;
	}
	size_t capacity = SMALLEST;
	while (capacity < 2 * map->count) {
		capacity *= 2;
	}
	struct entry *entries = allocate_array(capacity, sizeof *entries);
	size_t used = 0;
	for (size_t i = 0; i < map->used; i++) {
		if (map->entries[i].key) {
			entries[used++] = map->entries[i];
		}
	}
	free(map->entries);
	free(map->index);
	map->entries = entries;
	map->index = allocate_array(2 * capacity, sizeof *map->index);
	map->capacity = capacity;
	map->used = used;
	for (size_t i = 0; i < used; i++) {
		index_entry(map, i);
	}
}

static struct entry *find(const struct map *map, struct bytes key, uint64_t hash)
{
	if (map->count == 0) {
		return NULL;
	}
	size_t mask = 2 * map->capacity - 1;
	for (size_t slot = (size_t)hash & mask; map->index[slot]; slot = (slot + 1) & mask) {
		struct entry *entry = &map->entries[map->index[slot] - 1];
		if (entry->key && entry->hash == hash && bytes_equal((struct bytes){entry->key, entry->length}, key)) {
			return entry;
		}
	}
	return NULL;
}

void *map_find(const struct map *map, struct bytes key)
{
	struct entry *entry = find(map, key, siphash(map->hash_key, key));
	return entry ? entry->value : NULL;
}

void *map_insert(struct map *map, struct bytes key, void *value)
{
	uint64_t hash = siphash(map->hash_key, key);
	struct entry *entry = find(map, key, hash);
	if (entry) {
		void *replaced = entry->value;
		entry->value = value;
		return replaced;
	}
	make_room(map);
	entry = &map->entries[map->used++];
	*entry = (struct entry){.key = allocate(key.length), .length = key.length, .hash = hash, .value = value};
	if (key.length > 0) {
		memcpy(entry->key, key.data, key.length);
	}
	index_entry(map, map->used - 1);
	map->count++;
	return NULL;
}

void *map_remove(struct map *map, struct bytes key)
{
	struct entry *entry = find(map, key, siphash(map->hash_key, key));
	if (!entry) {
		return NULL;
	}
	void *value = entry->value;
	free(entry->key);
	*entry = (struct entry){0};
	if (--map->count == 0) {
		// Nothing is left to visit, so nothing moves: start over small.
		free(map->entries);
		free(map->index);
		map->entries = NULL;
		map->index = NULL;
		map->capacity = 0;
		map->used = 0;
	}
	return value;
}

void *map_find_text(const struct map *map, const char *key)
{
	return map_find(map, text_bytes(key));
}

void *map_insert_text(struct map *map, const char *key, void *value)
{
	return map_insert(map, text_bytes(key), value);
}

void *map_remove_text(struct map *map, const char *key)
{
	return map_remove(map, text_bytes(key));
}

size_t map_count(const struct map *map)
{
	return map->count;
}

bool map_next(const struct map *map, struct map_cursor *cursor)
{
	while (cursor->position < map->used) {
		const struct entry *entry = &map->entries[cursor->position++];
		if (entry->key) {
			cursor->key = (struct bytes){entry->key, entry->length};
			cursor->value = entry->value;
			return true;
		}
	}
	return false;
}
