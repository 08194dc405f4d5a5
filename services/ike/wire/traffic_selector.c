// See traffic_selector.h. Narrowing is the intersection of each offered selector with each of ours.
#include "services/ike/wire/traffic_selector.h"

#include <stdio.h>
#include <string.h>

bool traffic_selectors_read(struct bytes body, struct traffic_selectors *out)
{
	struct reader r = reader_of(body);
	uint8_t count = read_u8(&r);
	read_u24(&r);
	out->count = 0;
	for (unsigned i = 0; i < count && !r.failed; i++) {
		struct traffic_selector selector = {.type = read_u8(&r), .protocol = read_u8(&r)};
		uint16_t length = read_u16(&r);
		if (length < 8) {
			return false;
		}
		struct reader item = read_sub(&r, length - 4u);
		selector.first_port = read_u16(&item);
		selector.last_port = read_u16(&item);
		size_t width = selector.type == TS_IPV4_ADDR_RANGE ? 4 : selector.type == TS_IPV6_ADDR_RANGE ? 16 : 0;
		if (width == 0) {
			continue;
		}
		struct bytes first = read_bytes(&item, width), last = read_bytes(&item, width);
		if (item.failed || reader_left(&item) != 0 || !address_from_bytes(first, &selector.first) ||
		    !address_from_bytes(last, &selector.last)) {
			return false;
		}
		// An opaque port range (first 65535, last 0) is for protocols and fragments without ports; we have no such
		// policy.
		bool sensible =
		    selector.first_port <= selector.last_port && address_compare(&selector.first, &selector.last) <= 0;
		if (sensible && out->count < SELECTORS_MAX) {
			out->items[out->count++] = selector;
		}
	}
	return !r.failed && count > 0 && reader_left(&r) == 0;
}

void traffic_selectors_write(struct writer *w, const struct traffic_selectors *selectors)
{
	write_u8(w, (uint8_t)selectors->count);
	write_u24(w, 0);
	for (size_t i = 0; i < selectors->count; i++) {
		const struct traffic_selector *s = &selectors->items[i];
		write_u8(w, s->type);
		write_u8(w, s->protocol);
		write_u16(w, (uint16_t)(8 + 2 * s->first.length));
		write_u16(w, s->first_port);
		write_u16(w, s->last_port);
		write_bytes(w, address_bytes(&s->first));
		write_bytes(w, address_bytes(&s->last));
	}
}

struct traffic_selectors traffic_selectors_any(void)
{
	return (struct traffic_selectors){.count = 1,
	                                  .items[0] = {.type = TS_IPV4_ADDR_RANGE,
	                                               .last_port = 65535,
	                                               .first = {.length = 4},
	                                               .last = {.length = 4, .octets = {255, 255, 255, 255}}}};
}

static bool intersect(const struct traffic_selector *a, const struct traffic_selector *b, struct traffic_selector *out)
{
	if (a->type != b->type || (a->protocol != b->protocol && a->protocol != 0 && b->protocol != 0)) {
		return false;
	}
	*out = *a;
	out->protocol = a->protocol ? a->protocol : b->protocol;
	out->first_port = a->first_port > b->first_port ? a->first_port : b->first_port;
	out->last_port = a->last_port < b->last_port ? a->last_port : b->last_port;
	out->first = address_compare(&a->first, &b->first) > 0 ? a->first : b->first;
	out->last = address_compare(&a->last, &b->last) < 0 ? a->last : b->last;
	return out->first_port <= out->last_port && address_compare(&out->first, &out->last) <= 0;
}

void traffic_selectors_narrow(const struct traffic_selectors *offered, const struct traffic_selectors *ours,
                              struct traffic_selectors *out)
{
	out->count = 0;
	for (size_t i = 0; i < offered->count; i++) {
		for (size_t k = 0; k < ours->count && out->count < SELECTORS_MAX; k++) {
			out->count += intersect(&offered->items[i], &ours->items[k], &out->items[out->count]);
		}
	}
}

static bool covers(const struct traffic_selector *outer, const struct traffic_selector *inner)
{
	return outer->type == inner->type && (outer->protocol == 0 || outer->protocol == inner->protocol) &&
	       outer->first_port <= inner->first_port && outer->last_port >= inner->last_port &&
	       address_compare(&outer->first, &inner->first) <= 0 && address_compare(&outer->last, &inner->last) >= 0;
}

bool traffic_selectors_within(const struct traffic_selectors *inner, const struct traffic_selectors *outer)
{
	for (size_t i = 0; i < inner->count; i++) {
		bool covered = false;
		for (size_t k = 0; k < outer->count && !covered; k++) {
			covered = covers(&outer->items[k], &inner->items[i]);
		}
		if (!covered) {
			return false;
		}
	}
	return inner->count > 0;
}

char *traffic_selectors_format(const struct traffic_selectors *selectors, char *out, size_t capacity)
{
	size_t length = 0;
	out[0] = '\0';
	for (size_t i = 0; i < selectors->count && length < capacity; i++) {
		const struct traffic_selector *s = &selectors->items[i];
		char first[ADDRESS_TEXT], last[ADDRESS_TEXT];
		int n = snprintf(out + length, capacity - length, "%s%s-%s", i ? "," : "", address_format(&s->first, first),
		                 address_format(&s->last, last));
		length += n > 0 ? (size_t)n : 0;
	}
	return out;
}
