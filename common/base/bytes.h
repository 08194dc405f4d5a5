// A run of octets that somebody else owns, and the two ways through it: a bounded reader and a bounded writer. Neither
// ever touches an octet outside its run; the first step that would sets `failed`, and from then on reads give zeros and writes do
// nothing, so a parser checks once, at its end (or where it must decide).
#ifndef TWINSPAN_BASE_BYTES_H
#define TWINSPAN_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
	const uint8_t *data;
	size_t length;
};

bool bytes_equal(struct bytes a, struct bytes b);
struct bytes text_bytes(const char *text); // its characters, without the final zero

struct reader {
	const uint8_t *at;
	const uint8_t *end;
	bool failed;
};

struct reader reader_of(struct bytes run);
size_t reader_left(const struct reader *r);
uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r); // network order, as all below
uint32_t read_u24(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
// The next `length` octets, in place; an empty run on failure.
struct bytes read_bytes(struct reader *r, size_t length);
// A reader over just the next `length` octets, so that an inner parser cannot see its neighbour.
struct reader read_sub(struct reader *r, size_t length);
// All that is left.
struct bytes read_rest(struct reader *r);

struct writer {
	uint8_t *start;
	uint8_t *at;
	uint8_t *end;
	bool failed;
};

struct writer writer_of(uint8_t *start, size_t capacity);
size_t writer_length(const struct writer *w);
struct bytes writer_bytes(const struct writer *w);
void write_u8(struct writer *w, uint8_t value);
void write_u16(struct writer *w, uint16_t value);
void write_u24(struct writer *w, uint32_t value);
void write_u32(struct writer *w, uint32_t value);
void write_u64(struct writer *w, uint64_t value);
void write_bytes(struct writer *w, struct bytes run);
// `length` octets for the caller to fill; NULL on failure.
uint8_t *write_space(struct writer *w, size_t length);
// Overwrites what was written at `offset` from the start (a length field known only later).
void write_u16_at(struct writer *w, size_t offset, uint16_t value);
void write_u32_at(struct writer *w, size_t offset, uint32_t value);

#endif
