// See sequence.h. A record is given up only when a new one is needed and none is free: the unclaimed one with the oldest stamp.
// Its key has been gone the longest; a key that comes back after that would be a key that ike negotiated twice.
#include "services/esp/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum { RECORD_FREE, RECORD_CLAIMED, RECORD_RELEASED };

static struct bytes key_of(const uint8_t fingerprint[static 16])
{
	return (struct bytes){fingerprint, 16};
}

void sequence_file_init(struct sequence_file *file, struct esp_sequence_record *records, size_t count)
{
	*file = (struct sequence_file){.records = records, .count = records ? count : 0, .index = map_new(NULL)};
	file->state = allocate_array(file->count + 1, 1);
	for (size_t i = 0; i < file->count; i++) {
		if (records[i].stamp > 0) {
			file->stamp = records[i].stamp > file->stamp ? records[i].stamp : file->stamp;
			file->used = i + 1;
			map_insert(file->index, key_of(records[i].fingerprint), &records[i]);
		}
	}
}

void sequence_file_fini(struct sequence_file *file)
{
	map_free(&file->index, NULL);
	free(file->state);
	*file = (struct sequence_file){0};
}

bool sequence_released(const struct sequence_file *file, const uint8_t fingerprint[static 16])
{
	const struct esp_sequence_record *record = map_find(file->index, key_of(fingerprint));
	return record && file->state[record - file->records] == RECORD_RELEASED;
}

// A record nobody has: never used, or else unclaimed the longest.
static struct esp_sequence_record *vacant(struct sequence_file *file)
{
	if (file->used < file->count) {
		return &file->records[file->used++];
	}
	struct esp_sequence_record *oldest = NULL;
	for (size_t i = 0; i < file->count; i++) {
		if (file->state[i] != RECORD_CLAIMED && (!oldest || file->records[i].stamp < oldest->stamp)) {
			oldest = &file->records[i];
		}
	}
	return oldest;
}

static struct esp_sequence_record *claim(struct sequence_file *file, const uint8_t fingerprint[static 16])
{
	struct esp_sequence_record *record = map_find(file->index, key_of(fingerprint));
	if (!record) {
		record = vacant(file);
		if (!record) {
			return NULL;
		}
		if (record->stamp > 0) {
			map_remove(file->index, key_of(record->fingerprint));
		}
		// The order matters: a process killed between these lines must not leave our fingerprint with somebody else's
		// low mark.
		memset(record->fingerprint, 0, 16);
		atomic_signal_fence(memory_order_seq_cst);
		record->reserved = 1;
		record->stamp = ++file->stamp;
		atomic_signal_fence(memory_order_seq_cst);
		memcpy(record->fingerprint, fingerprint, 16);
		map_insert(file->index, key_of(fingerprint), record);
	} else if (file->state[record - file->records] == RECORD_CLAIMED) {
		return NULL;
	}
	file->state[record - file->records] = RECORD_CLAIMED;
	return record;
}

bool sequence_init(struct sequence *sequence, struct sequence_file *file, const uint8_t fingerprint[static 16], bool extended)
{
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

void sequence_fini(struct sequence *sequence, struct sequence_file *file)
{
	if (sequence->record) {
		file->state[sequence->record - file->records] = RECORD_RELEASED;
		sequence->record = NULL;
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
