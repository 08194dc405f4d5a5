// See heap.h.
#include "common/base/heap.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"

static void place(struct heap *heap, size_t position, struct heap_entry *entry)
{
	heap->entries[position] = entry;
	entry->position = position;
}

static void sift_up(struct heap *heap, size_t position, struct heap_entry *entry)
{
	while (position > 1 && heap->entries[position / 2]->at > entry->at) {
		place(heap, position, heap->entries[position / 2]);
		position /= 2;
	}
	place(heap, position, entry);
}

static void sift_down(struct heap *heap, size_t position, struct heap_entry *entry)
{
	for (size_t child = 2 * position; child <= heap->count; child = 2 * position) {
		if (child < heap->count && heap->entries[child + 1]->at < heap->entries[child]->at) {
			child++;
		}
		if (heap->entries[child]->at >= entry->at) {
			break;
		}
		place(heap, position, heap->entries[child]);
		position = child;
	}
	place(heap, position, entry);
}

void heap_fini(struct heap *heap)
{
	free(heap->entries);
	*heap = (struct heap){0};
}

void heap_remove(struct heap *heap, struct heap_entry *entry)
{
	size_t position = entry->position;
	if (position == 0) {
		return;
	}
	invariant(position <= heap->count && heap->entries[position] == entry);
	entry->position = 0;
	struct heap_entry *last = heap->entries[heap->count--];
	if (last == entry) {
		return;
	}
	// The last entry fills the gap, and may have to move either way: it comes from another branch.
	sift_up(heap, position, last);
	sift_down(heap, last->position, last);
}

void heap_set(struct heap *heap, struct heap_entry *entry, instant at)
{
	if (entry->position != 0 && entry->at == at) {
		return;
	}
	heap_remove(heap, entry);
	entry->at = at;
	if (at == INSTANT_NEVER) {
		return;
	}
	if (heap->count + 2 > heap->capacity) {
		heap->capacity = heap->capacity ? 2 * heap->capacity : 16;
		heap->entries = reallocate(heap->entries, heap->capacity, sizeof(struct heap_entry *));
	}
	sift_up(heap, ++heap->count, entry);
}

struct heap_entry *heap_first(const struct heap *heap)
{
	return heap->count > 0 ? heap->entries[1] : NULL;
}

instant heap_due(const struct heap *heap)
{
	return heap->count > 0 ? heap->entries[1]->at : INSTANT_NEVER;
}
