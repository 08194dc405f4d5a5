// Structs as octets and back: each field has a tag and a length, so that one that is not known is skipped, and one that is not
// there leaves the struct as it was. One function goes over the fields of a struct in both directions. Tags are counted from 1
// in each struct and never used for anything else again; a new field's default is what makes an older state right.
#ifndef TWINSPAN_IKE_ARCHIVE_H
#define TWINSPAN_IKE_ARCHIVE_H

#include "common/base/address.h"
#include "common/base/instant.h"
#include "common/base/secret.h"

struct archive {
	struct writer *w; // NULL: reading
	struct bytes run; // of the struct that is read
	size_t at;        // in it, where the next field is looked for first
	bool failed;      // a field that is not what it should be
};
typedef void archive_fn(struct archive *a, void *of); // the fields of one struct

struct archive archive_writing(struct writer *w);
struct archive archive_reading(struct bytes run);
void archive_part(struct archive *a, uint8_t tag, archive_fn *fields, void *of); // a struct in a struct
// Reading: the next field with this tag after `*after`, the struct's first for 0. false: there is none. For lists.
bool archive_next(struct archive *a, uint8_t tag, size_t *after, struct archive *part);

void archive_u64(struct archive *a, uint8_t tag, uint64_t *value);
void archive_u32(struct archive *a, uint8_t tag, uint32_t *value);
void archive_u16(struct archive *a, uint8_t tag, uint16_t *value);
void archive_u8(struct archive *a, uint8_t tag, uint8_t *value);
void archive_flag(struct archive *a, uint8_t tag, bool *value);
void archive_instant(struct archive *a, uint8_t tag,
                     instant *value); // of CLOCK_MONOTONIC, which goes on when only the process ends
void archive_text(struct archive *a, uint8_t tag, char *text, size_t capacity);
void archive_octets(struct archive *a, uint8_t tag, uint8_t *octets, size_t capacity, size_t *length);
void archive_allocated(struct archive *a, uint8_t tag, uint8_t **octets, size_t *length, size_t most);
void archive_secret(struct archive *a, uint8_t tag, struct secret *value);
void archive_address(struct archive *a, uint8_t tag, struct address *value);

#endif
