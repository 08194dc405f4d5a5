// Rows that were published, so that only differences go out, and since when each is what it is.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

void emit(struct route *r, const struct route_action *action)
{
	r->sink.emit(r->sink.context, action);
}

const char *prefix_text(struct route *r, const struct prefix *prefix)
{
	if (r->text[0] == '\0' || !prefix_equal(&r->text_prefix, prefix)) {
		r->text_prefix = *prefix;
		prefix_format(prefix, r->text);
	}
	return r->text;
}

// Ids are shorter than ROUTE_ID_TEXT, so the whole always fits; stpcpy, since this is called for each row of tables that may be
// long.
char *row_key(char out[static ROUTE_KEY_TEXT], const char *a, const char *b, const char *c, const char *d)
{
	const char *parts[] = {a, b, c, d};
	char *at = out;
	for (size_t i = 0; i < 4 && parts[i]; i++) {
		if (i > 0) {
			*at++ = '/';
		}
		at = stpcpy(at, parts[i]);
	}
	return out;
}

// FNV-1a; the result is stored across restarts, so it must not depend on a process or machine.
uint64_t digest_start(void)
{
	return 0xcbf29ce484222325;
}

uint64_t digest_octets(uint64_t digest, const void *octets, size_t length)
{
	const uint8_t *at = octets;
	for (size_t i = 0; i < length; i++) {
		digest = (digest ^ at[i]) * 0x100000001b3;
	}
	return digest;
}

uint64_t digest_text(uint64_t digest, const char *text)
{
	do {
		digest = (digest ^ (uint8_t)*text) * 0x100000001b3;
	} while (*text++);
	return digest;
}

uint64_t digest_number(uint64_t digest, uint64_t number)
{
	for (unsigned i = 0; i < 8; i++) {
		digest = (digest ^ (uint8_t)(number >> (8 * i))) * 0x100000001b3;
	}
	return digest;
}

uint64_t digest_attributes(uint64_t digest, const struct attributes *attributes)
{
	if (!attributes) {
		return digest_number(digest, 0);
	}
	digest = digest_number(digest, 1 + attributes->metric);
	digest = digest_number(digest, attributes->origin);
	digest = digest_number(digest, attributes->med);
	for (size_t i = 0; i < attributes->as_count + attributes->community_count; i++) {
		digest = digest_number(digest, attributes->as_path[i]);
	}
	return digest;
}

void shown_begin(struct shown_list *list)
{
	list->next = 0;
	for (size_t i = 0; i < list->count; i++) {
		list->items[i].kept = false;
	}
}

// A pass most often comes to the rows in the order of the pass before.
struct shown *shown_take(struct shown_list *list, unsigned kind, struct object *next_hop)
{
	for (size_t looked = 0; looked < list->count; looked++) {
		list->next = list->next < list->count ? list->next : 0;
		struct shown *shown = &list->items[list->next++];
		if (shown->kind == kind && shown->next_hop == next_hop) {
			if (shown->kept) {
				return NULL;
			}
			shown->kept = true;
			return shown;
		}
	}
	if (list->count == list->capacity) {
		list->capacity = list->capacity == 0 ? 2 : list->capacity * 2;
		list->items = reallocate(list->items, list->capacity, sizeof *list->items);
	}
	struct shown *shown = &list->items[list->count++];
	*shown = (struct shown){.next_hop = next_hop, .kind = (uint8_t)kind, .kept = true};
	if (next_hop) {
		object_hold(next_hop);
	}
	return shown;
}

static bool recall(struct route *r, const char *key, uint64_t state, uint64_t *since)
{
	struct memory *memory = r->remembered ? map_remove_text(r->remembered, key) : NULL;
	bool same = memory && memory->state == state;
	if (same) {
		*since = memory->since;
	}
	free(memory);
	return same;
}

bool shown_update(struct route *r, struct shown *shown, const char *key, uint64_t state, uint64_t content)
{
	bool fresh = !shown->published;
	if (!fresh && shown->content == content && shown->state == state) {
		return false;
	}
	if (fresh || shown->state != state) {
		shown->since = r->time;
		if (fresh) {
			recall(r, key, state, &shown->since);
		}
	}
	shown->published = true;
	shown->state = state;
	shown->content = content;
	return true;
}

struct shown *shown_stale(struct shown_list *list, size_t *at)
{
	while (*at < list->count) {
		if (!list->items[*at].kept) {
			return &list->items[*at];
		}
		++*at;
	}
	return NULL;
}

void shown_drop(struct route *r, struct shown_list *list, struct shown *shown)
{
	object_release(r, shown->next_hop);
	*shown = list->items[--list->count];
}

void shown_fini(struct route *r, struct shown_list *list)
{
	while (list->count > 0) {
		shown_drop(r, list, &list->items[0]);
	}
	free(list->items);
	*list = (struct shown_list){0};
}
