// See sequence.h.
#include "services/esp/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"

enum slot_state {
	SLOT_UNUSED,
	SLOT_CLAIMED,
	SLOT_ORPHAN,    // an earlier process had claimed it
	SLOT_RELEASING, // workers may still be taking numbers in it
	SLOT_RELEASED,
};
enum { NO_SLOT = UINT32_MAX };

struct sequence_slot {
	uint32_t older, newer; // released ones: neighbours in the order of their release
	enum slot_state state;
};

static struct bytes key_of(const uint8_t fingerprint[static 16])
{
	return (struct bytes){fingerprint, 16};
}

static uint32_t slot_of(const struct sequence_file *file, const struct esp_sequence_record *record)
{
	invariant(record >= file->records && record < file->records + file->count);
	return (uint32_t)(record - file->records);
}

// ---- released records, the longest released first ----

static void queue_append(struct sequence_file *file, uint32_t at, enum slot_state state)
{
	struct sequence_slot *slot = &file->slots[at];
	*slot = (struct sequence_slot){.older = file->newest, .newer = NO_SLOT, .state = state};
	*(file->newest == NO_SLOT ? &file->oldest : &file->slots[file->newest].newer) = at;
	file->newest = at;
	file->released++;
	invariant(file->released + file->claimed + file->orphans <= file->used);
}

static void queue_remove(struct sequence_file *file, uint32_t at)
{
	const struct sequence_slot *slot = &file->slots[at];
	invariant(slot->state == SLOT_RELEASED && file->released > 0);
	*(slot->older == NO_SLOT ? &file->oldest : &file->slots[slot->older].newer) = slot->newer;
	*(slot->newer == NO_SLOT ? &file->newest : &file->slots[slot->newer].older) = slot->older;
	file->released--;
	invariant((file->released == 0) == (file->oldest == NO_SLOT));
}

// ---- the file ----

static int by_stamp(const void *a, const void *b)
{
	const struct esp_sequence_record *const *left = a, *const *right = b;
	return ((*left)->stamp > (*right)->stamp) - ((*left)->stamp < (*right)->stamp);
}

void sequence_file_init(struct sequence_file *file, struct esp_sequence_record *records, size_t count)
{
	*file = (struct sequence_file){
	    .records = records, .count = records ? count : 0, .index = map_new(NULL), .oldest = NO_SLOT, .newest = NO_SLOT};
	invariant(file->count < NO_SLOT);
	file->slots = allocate_array(file->count + 1, sizeof *file->slots);
	while (file->used < file->count && records[file->used].stamp > 0) {
		file->used++;
	}
	struct esp_sequence_record **left = allocate_array(file->used + 1, sizeof(struct esp_sequence_record *));
	for (size_t i = 0; i < file->used; i++) {
		left[i] = &records[i];
		map_insert(file->index, key_of(records[i].fingerprint), &records[i]);
	}
	qsort(left, file->used, sizeof(struct esp_sequence_record *), by_stamp);
	for (size_t i = 0; i < file->used; i++) {
		file->stamp = left[i]->stamp;
		if (left[i]->claimed) {
			file->slots[slot_of(file, left[i])].state = SLOT_ORPHAN;
			file->orphans++;
		} else {
			queue_append(file, slot_of(file, left[i]), SLOT_RELEASED);
		}
	}
	free(left);
}

void sequence_file_fini(struct sequence_file *file)
{
	map_free(&file->index, NULL);
	free(file->slots);
	*file = (struct sequence_file){0};
}

void sequence_file_complete(struct sequence_file *file)
{
	for (uint32_t i = 0; file->orphans > 0 && i < file->used; i++) {
		if (file->slots[i].state == SLOT_ORPHAN) {
			file->orphans--;
			file->records[i].claimed = 0;
			file->records[i].stamp = ++file->stamp;
			queue_append(file, i, SLOT_RELEASED);
		}
	}
	invariant(file->orphans == 0);
}

bool sequence_must_wait(const struct sequence_file *file, const uint8_t fingerprint[static 16])
{
	const struct esp_sequence_record *record = map_find(file->index, key_of(fingerprint));
	uint32_t at = record ? slot_of(file, record) : file->used < file->count ? NO_SLOT : file->oldest;
	return at != NO_SLOT && file->slots[at].state == SLOT_RELEASING;
}

// They are the newest of the queue: the walk ends at the first that was released before the last wait.
void sequence_waited(struct sequence_file *file)
{
	for (uint32_t at = file->newest; at != NO_SLOT && file->slots[at].state == SLOT_RELEASING; at = file->slots[at].older) {
		file->slots[at].state = SLOT_RELEASED;
	}
}

// Makes a record this key's: one never used, or else the one released the longest ago. NULL when there is none.
static struct esp_sequence_record *renew(struct sequence_file *file, const uint8_t fingerprint[static 16])
{
	struct esp_sequence_record *record = NULL;
	if (file->used < file->count) {
		record = &file->records[file->used++];
	} else if (file->oldest != NO_SLOT) {
		record = &file->records[file->oldest];
		queue_remove(file, file->oldest);
		map_remove(file->index, key_of(record->fingerprint));
	} else {
		return NULL;
	}
	// The order matters: a process killed between these lines must not leave our fingerprint with somebody else's low mark.
	memset(record->fingerprint, 0, sizeof record->fingerprint);
	atomic_signal_fence(memory_order_seq_cst);
	record->reserved = 1;
	record->received = 0;
	record->stamp = ++file->stamp;
	atomic_signal_fence(memory_order_seq_cst);
	memcpy(record->fingerprint, fingerprint, sizeof record->fingerprint);
	map_insert(file->index, key_of(fingerprint), record);
	return record;
}

static struct esp_sequence_record *claim(struct sequence_file *file, const uint8_t fingerprint[static 16])
{
	struct esp_sequence_record *record = map_find(file->index, key_of(fingerprint));
	if (!record) {
		record = renew(file, fingerprint);
		if (!record) {
			return NULL;
		}
	} else {
		uint32_t at = slot_of(file, record);
		if (file->slots[at].state == SLOT_CLAIMED) {
			return NULL;
		}
		if (file->slots[at].state == SLOT_ORPHAN) {
			invariant(file->orphans > 0);
			file->orphans--;
		} else {
			queue_remove(file, at);
		}
		record->stamp = ++file->stamp;
	}
	record->claimed = 1;
	file->slots[slot_of(file, record)].state = SLOT_CLAIMED;
	file->claimed++;
	invariant(file->claimed <= file->used);
	return record;
}

bool sequence_init(struct sequence *sequence, struct sequence_file *file, const uint8_t fingerprint[static 16], bool extended)
{
	invariant(!sequence_must_wait(file, fingerprint));
	sequence->limit = extended ? UINT64_MAX - SEQUENCE_CHUNK : UINT32_MAX;
	sequence->record = NULL;
	atomic_init(&sequence->next, 1);
	if (!file->records) {
		return true;
	}
	sequence->record = claim(file, fingerprint);
	if (!sequence->record) {
		return false;
	}
	uint64_t reserved = __atomic_load_n(&sequence->record->reserved, __ATOMIC_RELAXED);
	// What is below `reserved` may have been used; 0 would be a file that somebody else wrote.
	atomic_init(&sequence->next, reserved > 0 ? reserved : 1);
	return true;
}

void sequence_fini(const struct sequence *sequence, struct sequence_file *file)
{
	if (sequence->record) {
		uint32_t at = slot_of(file, sequence->record);
		invariant(file->slots[at].state == SLOT_CLAIMED && file->claimed > 0);
		file->claimed--;
		sequence->record->claimed = 0;
		sequence->record->stamp = ++file->stamp;
		queue_append(file, at, SLOT_RELEASING);
	}
}

// Raises the mark to beyond `end`. Any worker may be first; the highest wins.
static void reserve(struct esp_sequence_record *record, uint64_t end)
{
	uint64_t mark = __atomic_load_n(&record->reserved, __ATOMIC_RELAXED);
	while (mark < end) {
		if (__atomic_compare_exchange_n(&record->reserved, &mark, end + SEQUENCE_CHUNK, true, __ATOMIC_RELEASE,
		                                __ATOMIC_RELAXED)) {
			return;
		}
	}
}

uint64_t sequence_take(struct sequence *sequence, uint32_t count)
{
	uint64_t first = atomic_load_explicit(&sequence->next, memory_order_relaxed);
	invariant(first > 0);
	do {
		if (first > sequence->limit || sequence->limit - first + 1 < count) {
			return 0;
		}
	} while (!atomic_compare_exchange_weak_explicit(&sequence->next, &first, first + count, memory_order_relaxed,
	                                                memory_order_relaxed));
	if (sequence->record) {
		reserve(sequence->record, first + count);
	}
	return first;
}
