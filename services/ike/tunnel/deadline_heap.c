// The tunnels by their deadline, earliest first: a binary heap whose entries know their place.
#include "services/ike/v2/ike_sa.h"

#include "common/base/alloc.h"

static void place(struct ike *ike, size_t position, struct tunnel *tunnel)
{
	ike->heap[position] = tunnel;
	tunnel->position = position;
}

static void sift_up(struct ike *ike, size_t position, struct tunnel *tunnel)
{
	while (position > 1 && ike->heap[position / 2]->deadline > tunnel->deadline) {
		place(ike, position, ike->heap[position / 2]);
		position /= 2;
	}
	place(ike, position, tunnel);
}

static void sift_down(struct ike *ike, size_t position, struct tunnel *tunnel)
{
	for (;;) {
		size_t child = 2 * position;
		if (child > ike->heap_count) {
			break;
		}
		if (child < ike->heap_count && ike->heap[child + 1]->deadline < ike->heap[child]->deadline) {
			child++;
		}
		if (ike->heap[child]->deadline >= tunnel->deadline) {
			break;
		}
		place(ike, position, ike->heap[child]);
		position = child;
	}
	place(ike, position, tunnel);
}

void heap_remove(struct ike *ike, struct tunnel *tunnel)
{
	size_t position = tunnel->position;
	if (position == 0) {
		return;
	}
	tunnel->position = 0;
	struct tunnel *last = ike->heap[ike->heap_count--];
	if (last == tunnel) {
		return;
	}
	sift_up(ike, position, last);
	sift_down(ike, last->position, last);
}

void heap_set(struct ike *ike, struct tunnel *tunnel, instant deadline)
{
	heap_remove(ike, tunnel);
	tunnel->deadline = deadline;
	if (deadline == INSTANT_NEVER) {
		return;
	}
	if (ike->heap_count + 2 > ike->heap_capacity) {
		ike->heap_capacity = ike->heap_capacity ? 2 * ike->heap_capacity : 16;
		ike->heap = reallocate(ike->heap, ike->heap_capacity, sizeof(struct tunnel *));
	}
	sift_up(ike, ++ike->heap_count, tunnel);
}
