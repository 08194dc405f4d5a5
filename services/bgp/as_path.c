// See as_path.h.
#include "services/bgp/as_path.h"

enum { SEGMENT_LIMIT = 255 };

struct segment {
	uint8_t type;
	uint8_t count;
	struct bytes ases; // four octets each
};

static bool segment_next(struct reader *r, struct segment *out)
{
	if (reader_left(r) < 2) {
		return false;
	}
	out->type = read_u8(r);
	out->count = read_u8(r);
	out->ases = read_bytes(r, (size_t)out->count * 4);
	return !r->failed;
}

// One segment of `wire` with four octets an AS; false when it is malformed.
static bool read_segment(struct reader *r, unsigned width, bool confederation, struct writer *out)
{
	uint8_t type = read_u8(r), count = read_u8(r);
	bool known =
	    type == AS_SET || type == AS_SEQUENCE || (confederation && (type == AS_CONFED_SEQUENCE || type == AS_CONFED_SET));
	if (r->failed || !known || count == 0 || reader_left(r) < (size_t)count * width) {
		return false;
	}
	if (type == AS_CONFED_SEQUENCE || type == AS_CONFED_SET) {
		read_bytes(r, (size_t)count * width);
		return true;
	}
	write_u8(out, type);
	write_u8(out, count);
	for (unsigned i = 0; i < count; i++) {
		uint32_t as = width == 4 ? read_u32(r) : read_u16(r);
		if (as == 0) {
			return false;
		}
		write_u32(out, as);
	}
	return true;
}

static bool read_segments(struct bytes wire, unsigned width, bool confederation, struct writer *out)
{
	struct reader r = reader_of(wire);
	while (reader_left(&r) > 0) {
		if (!read_segment(&r, width, confederation, out)) {
			return false;
		}
	}
	return !out->failed;
}

bool as_path_read(struct bytes wire, unsigned width, struct writer *out)
{
	return read_segments(wire, width, false, out);
}

bool as4_path_read(struct bytes wire, struct writer *out)
{
	return read_segments(wire, 4, true, out);
}

size_t as_path_length(struct bytes path)
{
	struct reader r = reader_of(path);
	struct segment segment;
	size_t length = 0;
	while (segment_next(&r, &segment)) {
		length += segment.type == AS_SET ? 1 : segment.count;
	}
	return length;
}

size_t bgp_as_path_flatten(struct bytes as_path, uint32_t *out, size_t capacity)
{
	struct reader r = reader_of(as_path);
	struct segment segment;
	size_t count = 0;
	while (segment_next(&r, &segment)) {
		struct reader ases = reader_of(segment.ases);
		for (unsigned i = 0; i < segment.count; i++, count++) {
			uint32_t as = read_u32(&ases);
			if (count < capacity) {
				out[count] = as;
			}
		}
	}
	return count;
}

bool as_path_contains(struct bytes path, uint32_t as)
{
	struct reader r = reader_of(path);
	struct segment segment;
	while (segment_next(&r, &segment)) {
		struct reader ases = reader_of(segment.ases);
		while (reader_left(&ases) > 0) {
			if (read_u32(&ases) == as) {
				return true;
			}
		}
	}
	return false;
}

uint32_t as_path_first(struct bytes path)
{
	struct reader r = reader_of(path);
	struct segment segment;
	if (!segment_next(&r, &segment) || segment.type != AS_SEQUENCE) {
		return 0;
	}
	struct reader ases = reader_of(segment.ases);
	return read_u32(&ases);
}

bool as_path_fits_two_octets(struct bytes path)
{
	struct reader r = reader_of(path);
	struct segment segment;
	while (segment_next(&r, &segment)) {
		struct reader ases = reader_of(segment.ases);
		while (reader_left(&ases) > 0) {
			if (read_u32(&ases) > UINT16_MAX) {
				return false;
			}
		}
	}
	return true;
}

void as_path_merge(struct bytes path, struct bytes as4_path, struct writer *out)
{
	size_t whole = as_path_length(path), tail = as_path_length(as4_path);
	// "If the number of AS numbers in the AS_PATH is less than in the AS4_PATH, the AS4_PATH SHALL be ignored."
	size_t keep = whole < tail ? whole : whole - tail;
	struct reader r = reader_of(path);
	struct segment segment;
	while (keep > 0 && segment_next(&r, &segment)) {
		size_t ases = segment.type == AS_SET || segment.count < keep ? segment.count : keep;
		write_u8(out, segment.type);
		write_u8(out, (uint8_t)ases);
		write_bytes(out, (struct bytes){segment.ases.data, ases * 4});
		keep -= segment.type == AS_SET ? 1 : ases;
	}
	if (whole >= tail) {
		write_bytes(out, as4_path);
	}
}

static void write_as(struct writer *w, uint32_t as, unsigned width)
{
	if (width == 4) {
		write_u32(w, as);
	} else {
		write_u16(w, as > UINT16_MAX ? AS_TRANS : (uint16_t)as);
	}
}

void as_path_write(struct writer *w, uint32_t own, struct bytes path, unsigned width)
{
	struct reader r = reader_of(path);
	struct segment segment;
	bool have = segment_next(&r, &segment);
	// RFC 4271 §5.1.2 b: our AS goes to the front of a leading sequence that has room, otherwise into a sequence of its
	// own.
	bool join = have && segment.type == AS_SEQUENCE && segment.count < SEGMENT_LIMIT;
	write_u8(w, AS_SEQUENCE);
	write_u8(w, join ? (uint8_t)(segment.count + 1) : 1);
	write_as(w, own, width);
	for (bool first = true; have; have = segment_next(&r, &segment), first = false) {
		if (!first || !join) {
			write_u8(w, segment.type);
			write_u8(w, segment.count);
		}
		struct reader ases = reader_of(segment.ases);
		while (reader_left(&ases) > 0) {
			write_as(w, read_u32(&ases), width);
		}
	}
}

void as_path_from_list(const uint32_t *list, size_t count, struct writer *out)
{
	for (size_t at = 0; at < count;) {
		size_t run = count - at < SEGMENT_LIMIT ? count - at : SEGMENT_LIMIT;
		write_u8(out, AS_SEQUENCE);
		write_u8(out, (uint8_t)run);
		for (size_t i = 0; i < run; i++) {
			write_u32(out, list[at + i]);
		}
		at += run;
	}
}
