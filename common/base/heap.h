// What is due, earliest first: a binary heap of entries that stand inside the structs they belong to and know their place, so that moving or
// removing one costs O(log n) and needs no search.
#ifndef TWINSPAN_BASE_HEAP_H
#define TWINSPAN_BASE_HEAP_H

#include <stddef.h>

#include "common/base/instant.h"

// Zeroed: not in any heap. Only heap_set and heap_remove change it.
struct heap_entry {
	instant at;
	size_t position; // from 1; 0 when it is in no heap
};

// Zeroed: empty.
struct heap {
	struct heap_entry **entries; // from 1
	size_t count;
	size_t capacity;
};

void heap_fini(struct heap *heap); // the entries stay their owners'; none may be used with this heap again
// Puts an entry in, or moves it; INSTANT_NEVER takes it out.
void heap_set(struct heap *heap, struct heap_entry *entry, instant at);
void heap_remove(struct heap *heap, struct heap_entry *entry); // does nothing when it is not in
// The entry that is due first, or NULL. Among equal instants the order is not defined.
struct heap_entry *heap_first(const struct heap *heap);
// When that is; INSTANT_NEVER when the heap is empty.
instant heap_due(const struct heap *heap);

#endif
