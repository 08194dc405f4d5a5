// The bounded reader and writer (bytes.h). Every bound is tested here and nowhere else: a step asks for its octets by `take` or
// `write_space`, and what these refuse never happens.
#include "common/base/bytes.h"

#include <string.h>

// Where empty runs point: pointer arithmetic and memcpy on NULL are undefined even for no octets at all.
static const uint8_t nothing[1];

struct bytes text_bytes(const char *text)
{
	return (struct bytes){(const uint8_t *)text, strlen(text)};
}

bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

// ---- reading ----

struct reader reader_of(struct bytes run)
{
	const uint8_t *start = run.data ? run.data : nothing;
	return (struct reader){.at = start, .end = start + (run.data ? run.length : 0), .failed = !run.data && run.length != 0};
}

size_t reader_left(const struct reader *r)
{
	return r->failed ? 0 : (size_t)(r->end - r->at);
}

static const uint8_t *take(struct reader *r, size_t length)
{
	if (r->failed || length > (size_t)(r->end - r->at)) {
		r->failed = true;
		return NULL;
	}
	const uint8_t *start = r->at;
	r->at += length;
	return start;
}

static uint64_t read_number(struct reader *r, size_t length)
{
	const uint8_t *octets = take(r, length);
	uint64_t value = 0;
	for (size_t i = 0; octets && i < length; i++) {
		value = value << 8 | octets[i];
	}
	return value;
}

uint8_t read_u8(struct reader *r)
{
	return (uint8_t)read_number(r, 1);
}

uint16_t read_u16(struct reader *r)
{
	return (uint16_t)read_number(r, 2);
}

uint32_t read_u24(struct reader *r)
{
	return (uint32_t)read_number(r, 3);
}

uint32_t read_u32(struct reader *r)
{
	return (uint32_t)read_number(r, 4);
}

uint64_t read_u64(struct reader *r)
{
	return read_number(r, 8);
}

struct bytes read_bytes(struct reader *r, size_t length)
{
	const uint8_t *start = take(r, length);
	return start ? (struct bytes){start, length} : (struct bytes){nothing, 0};
}

struct reader read_sub(struct reader *r, size_t length)
{
	const uint8_t *start = take(r, length);
	return start ? (struct reader){.at = start, .end = start + length} : (struct reader){nothing, nothing, true};
}

struct bytes read_rest(struct reader *r)
{
	return read_bytes(r, reader_left(r));
}

// ---- writing ----

struct writer writer_of(uint8_t *start, size_t capacity)
{
	return (struct writer){.start = start, .at = start, .end = start ? start + capacity : start};
}

size_t writer_length(const struct writer *w)
{
	return (size_t)(w->at - w->start);
}

struct bytes writer_bytes(const struct writer *w)
{
	return (struct bytes){w->start ? w->start : nothing, writer_length(w)};
}

uint8_t *write_space(struct writer *w, size_t length)
{
	if (w->failed || !w->start || length > (size_t)(w->end - w->at)) {
		w->failed = true;
		return NULL;
	}
	uint8_t *start = w->at;
	w->at += length;
	return start;
}

static void store(uint8_t *at, uint64_t value, size_t length)
{
	for (size_t i = length; i-- > 0; value >>= 8) {
		at[i] = (uint8_t)value;
	}
}

static void write_number(struct writer *w, uint64_t value, size_t length)
{
	uint8_t *at = write_space(w, length);
	if (at) {
		store(at, value, length);
	}
}

void write_u8(struct writer *w, uint8_t value)
{
	write_number(w, value, 1);
}

void write_u16(struct writer *w, uint16_t value)
{
	write_number(w, value, 2);
}

void write_u24(struct writer *w, uint32_t value)
{
	write_number(w, value, 3);
}

void write_u32(struct writer *w, uint32_t value)
{
	write_number(w, value, 4);
}

void write_u64(struct writer *w, uint64_t value)
{
	write_number(w, value, 8);
}

void write_bytes(struct writer *w, struct bytes run)
{
	uint8_t *at = write_space(w, run.length);
	if (at && run.length > 0) {
		memcpy(at, run.data, run.length);
	}
}

static void write_number_at(struct writer *w, size_t offset, uint64_t value, size_t length)
{
	size_t written = writer_length(w);
	if (w->failed || offset > written || length > written - offset) {
		w->failed = true;
		return;
	}
	store(w->start + offset, value, length);
}

void write_u16_at(struct writer *w, size_t offset, uint16_t value)
{
	write_number_at(w, offset, value, 2);
}

void write_u32_at(struct writer *w, size_t offset, uint32_t value)
{
	write_number_at(w, offset, value, 4);
}
