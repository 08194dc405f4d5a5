// The numbers of one SA pair that outlive the process, in a record of a file.
//
// Outbound sequence numbers are also the counter IVs of AES-GCM, so the same number under the same key must never be used
// twice, not even by the next process: before a number is used, the record says that numbers up to beyond it may have been. A
// process that takes over starts at that mark. Inbound, the record holds the highest number that authenticated: a process that
// takes over accepts only what is above it (RFC 4303 §3.4.3), and infers extended numbers from it.
//
// A record is claimed by an SA, and released with it. A released one is given to a new SA when no other is left: the one
// released the longest ago, whose key would have to be negotiated a second time to come back. What was claimed when the process
// was killed belongs to SAs that live on, and is not given away before sequence_file_complete.
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
	size_t used;                 // records from the front that were ever used
	struct map *index;           // fingerprint -> record
	struct sequence_slot *slots; // of each record, in this process
	uint32_t oldest, newest;     // released records in the order of their release
	size_t released, claimed, orphans;
	uint64_t stamp;
};
void sequence_file_init(struct sequence_file *file, struct esp_sequence_record *records, size_t count);
void sequence_file_fini(struct sequence_file *file);
// Every SA that lives has been set: records of an earlier process that none has claimed belong to no SA any more.
void sequence_file_complete(struct sequence_file *file);

// Workers may still be taking numbers in the record that sequence_init would claim: the caller waits for a grace period first,
// and says so.
bool sequence_must_wait(const struct sequence_file *file, const uint8_t fingerprint[static 16]);
void sequence_waited(struct sequence_file *file);

struct sequence {
	_Atomic uint64_t next;              // the lowest number not taken
	uint64_t limit;                     // the highest that may be used
	struct esp_sequence_record *record; // NULL: not kept
};
// Claims the record of `fingerprint`, or a new one. false when every record is in use or another SA has this key.
bool sequence_init(struct sequence *sequence, struct sequence_file *file, const uint8_t fingerprint[static 16], bool extended);
// Releases the record. Workers that still see the SA may go on taking numbers for a grace period: each is reserved in it as
// before.
void sequence_fini(const struct sequence *sequence, struct sequence_file *file);
// Takes `count` numbers and returns the first, or 0 when they are used up (RFC 4303 §3.3.3: never cycle). From any worker.
uint64_t sequence_take(struct sequence *sequence, uint32_t count);

#endif
