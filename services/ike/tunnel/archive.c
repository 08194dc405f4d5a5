// See archive.h. A field is a tag (1 octet), a length (2 octets) and that many octets; a number has no leading zeros.
#include "services/ike/tunnel/archive.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdlib.h>
#include <string.h>

enum { HEADER = 3 };

struct archive archive_writing(struct writer *w)
{
	return (struct archive){.w = w};
}

struct archive archive_reading(struct bytes run)
{
	return (struct archive){.run = run};
}

// ---- fields ----
static void put(struct archive *a, uint8_t tag, struct bytes octets)
{
	invariant(tag != 0);
	if (octets.length > UINT16_MAX) {
		a->w->failed = true;
		return;
	}
	write_u8(a->w, tag);
	write_u16(a->w, (uint16_t)octets.length);
	write_bytes(a->w, octets);
}

// The field at `offset`; false at the end, and when what is there is none.
static bool field_at(struct archive *a, size_t offset, uint8_t *tag, struct bytes *octets)
{
	if (offset >= a->run.length) {
		return false;
	}
	struct reader r = reader_of((struct bytes){a->run.data + offset, a->run.length - offset});
	*tag = read_u8(&r);
	*octets = read_bytes(&r, read_u16(&r));
	a->failed = a->failed || r.failed || *tag == 0;
	return !a->failed;
}

// Fields are read in the order in which they were written, so this is one step but for those that are missing.
static bool get(struct archive *a, uint8_t wanted, struct bytes *octets)
{
	uint8_t tag;
	size_t begun = a->at;
	for (int round = 0; round < 2; round++) {
		size_t at = round == 0 ? begun : 0;
		while ((round == 0 || at < begun) && field_at(a, at, &tag, octets)) {
			at += HEADER + octets->length;
			if (tag == wanted) {
				a->at = at;
				return true;
			}
		}
	}
	return false;
}

bool archive_next(struct archive *a, uint8_t wanted, size_t *after, struct archive *part)
{
	uint8_t tag;
	struct bytes octets;
	while (field_at(a, *after, &tag, &octets)) {
		*after += HEADER + octets.length;
		if (tag == wanted) {
			*part = archive_reading(octets);
			return true;
		}
	}
	return false;
}

void archive_part(struct archive *a, uint8_t tag, archive_fn *fields, void *of)
{
	if (!a->w) {
		struct bytes octets;
		if (get(a, tag, &octets)) {
			struct archive part = archive_reading(octets);
			fields(&part, of);
			a->failed = a->failed || part.failed;
		}
		return;
	}
	invariant(tag != 0);
	write_u8(a->w, tag);
	size_t length_at = writer_length(a->w);
	write_u16(a->w, 0);
	fields(a, of);
	size_t length = writer_length(a->w) - length_at - 2;
	if (length > UINT16_MAX) {
		a->w->failed = true;
	} else {
		write_u16_at(a->w, length_at, (uint16_t)length);
	}
}

// ---- numbers ----
static void number(struct archive *a, uint8_t tag, uint64_t *value, uint64_t most)
{
	struct bytes octets;
	if (a->w) {
		uint8_t wide[8];
		struct writer w = writer_of(wide, sizeof wide);
		write_u64(&w, *value);
		size_t zeros = 0;
		while (zeros < sizeof wide && wide[zeros] == 0) {
			zeros++;
		}
		put(a, tag, (struct bytes){wide + zeros, sizeof wide - zeros});
	} else if (get(a, tag, &octets)) {
		uint64_t read = 0;
		for (size_t i = 0; i < octets.length && i < 8; i++) {
			read = read << 8 | octets.data[i];
		}
		a->failed = a->failed || octets.length > 8 || read > most;
		*value = a->failed ? 0 : read;
	}
}

void archive_u64(struct archive *a, uint8_t tag, uint64_t *value)
{
	number(a, tag, value, UINT64_MAX);
}

void archive_u32(struct archive *a, uint8_t tag, uint32_t *value)
{
	uint64_t wide = *value;
	number(a, tag, &wide, UINT32_MAX);
	*value = (uint32_t)wide;
}

void archive_u16(struct archive *a, uint8_t tag, uint16_t *value)
{
	uint64_t wide = *value;
	number(a, tag, &wide, UINT16_MAX);
	*value = (uint16_t)wide;
}

void archive_u8(struct archive *a, uint8_t tag, uint8_t *value)
{
	uint64_t wide = *value;
	number(a, tag, &wide, UINT8_MAX);
	*value = (uint8_t)wide;
}

void archive_flag(struct archive *a, uint8_t tag, bool *value)
{
	uint64_t wide = *value;
	number(a, tag, &wide, 1);
	*value = wide != 0;
}

void archive_instant(struct archive *a, uint8_t tag, instant *value)
{
	uint64_t wide = (uint64_t)*value;
	number(a, tag, &wide, UINT64_MAX);
	*value = (instant)wide;
}

// ---- octets ----
void archive_octets(struct archive *a, uint8_t tag, uint8_t *out, size_t capacity, size_t *length)
{
	struct bytes octets;
	if (a->w) {
		put(a, tag, (struct bytes){out, *length});
	} else if (get(a, tag, &octets)) {
		a->failed = a->failed || octets.length > capacity;
		*length = a->failed ? 0 : octets.length;
		memcpy(out, octets.data, *length);
	}
}

void archive_text(struct archive *a, uint8_t tag, char *text, size_t capacity)
{
	size_t length = strlen(text);
	archive_octets(a, tag, (uint8_t *)text, capacity - 1, &length);
	text[length] = '\0';
	a->failed = a->failed || strlen(text) != length;
}

void archive_allocated(struct archive *a, uint8_t tag, uint8_t **out, size_t *length, size_t most)
{
	struct bytes octets;
	if (a->w) {
		put(a, tag, (struct bytes){*out, *out ? *length : 0});
	} else if (get(a, tag, &octets)) {
		a->failed = a->failed || octets.length > most;
		*length = a->failed ? 0 : octets.length;
		*out = *length > 0 ? allocate(*length) : NULL;
		if (*out) {
			memcpy(*out, octets.data, *length);
		}
	}
}

void archive_secret(struct archive *a, uint8_t tag, struct secret *value)
{
	size_t length = value->length;
	archive_octets(a, tag, value->octets, sizeof value->octets, &length);
	value->length = (uint16_t)length;
}

void archive_address(struct archive *a, uint8_t tag, struct address *value)
{
	size_t length = value->length;
	archive_octets(a, tag, value->octets, sizeof value->octets, &length);
	a->failed = a->failed || (length != 0 && length != 4 && length != 16);
	value->length = (uint8_t)(a->failed ? 0 : length);
}
