// A hash map from octet strings (copied in) to pointers (the caller's). Keys are hashed with SipHash-2-4 under the map's own key, since some of
// them are chosen by strangers. Iteration in insertion order; removing while iterating is allowed for the current entry only.
#ifndef TWINSPAN_BASE_MAP_H
#define TWINSPAN_BASE_MAP_H

#include "common/base/bytes.h"

struct map;

// `hash_key`: 16 octets. NULL uses a fixed key: for maps whose keys we choose ourselves.
struct map *map_new(const uint8_t hash_key[16]);
void map_free(struct map **map, void (*free_value)(void *));
void *map_find(const struct map *map, struct bytes key); // NULL when absent
void *map_find_text(const struct map *map, const char *key);
// Returns the value that was replaced, or NULL. Aborts when memory is out, as all allocation here does (alloc.h).
void *map_insert(struct map *map, struct bytes key, void *value);
void *map_insert_text(struct map *map, const char *key, void *value);
void *map_remove(struct map *map, struct bytes key);
void *map_remove_text(struct map *map, const char *key);
size_t map_count(const struct map *map);

struct map_cursor {
	size_t position;
	struct bytes key;
	void *value;
};
bool map_next(const struct map *map, struct map_cursor *cursor); // start with a zeroed cursor

// SipHash-2-4 (Aumasson, Bernstein 2012), the map's hash: also a stable 64-bit name for a text under a fixed key.
uint64_t siphash(const uint8_t key[static 16], struct bytes text);

#endif
