// Outbound sequence numbers of one SA. They are also the counter IVs of AES-GCM, so the same number under the same key must
// never be used twice, not even by the next process: before a number is used, the record in a file that outlives the process
// says that numbers up to beyond it may have been. A process that takes over starts at that mark.
#ifndef TWINSPAN_ESP_SEQUENCE_H
#define TWINSPAN_ESP_SEQUENCE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "common/base/map.h"
#include "services/esp/esp.h"

enum { SEQUENCE_CHUNK = 1 << 16 };

// The records and who uses which: for the control thread.
struct sequence_file {
	struct esp_sequence_record *records; // NULL: nothing is kept
	size_t count;
	size_t used;       // records from the front that were ever used
	struct map *index; // fingerprint -> record
	uint8_t *state;    // of each record, in this process
	uint64_t stamp;
};
void sequence_file_init(struct sequence_file *file, struct esp_sequence_record *records, size_t count);
void sequence_file_fini(struct sequence_file *file);

// An SA object that had this key was released in this process: workers that still see it may be taking numbers.
bool sequence_released(const struct sequence_file *file, const uint8_t fingerprint[static 16]);

struct sequence {
	_Atomic uint64_t next;              // the lowest number not taken
	uint64_t limit;                     // the highest that may be used
	struct esp_sequence_record *record; // NULL: not kept
};
// Claims the record of `fingerprint`, or a new one. false when every record is in use or another SA has this key.
bool sequence_init(struct sequence *sequence, struct sequence_file *file, const uint8_t fingerprint[static 16], bool extended);
void sequence_fini(struct sequence *sequence, struct sequence_file *file); // the record stays, unclaimed
// Takes `count` numbers and returns the first, or 0 when they are used up (RFC 4303 §3.3.3: never cycle). From any worker.
uint64_t sequence_take(struct sequence *sequence, uint32_t count);

#endif
