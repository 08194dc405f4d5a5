// Learned prefixes that never forward (protocols: "BGP"), whatever else there is: what a customer announces may not take over
// what is not the customer's.
//
//   - a prefix inside (or equal to) a block of a VPC that is attached to the border gateway: being more specific it would take
//     the VPC's hosts away. A prefix around the block (0.0.0.0/0, 10.0.0.0/8) is normal: the VPC's own are more specific;
//   - a prefix inside the link-local range, where the tunnels' inside addresses are (RFC 3927 §2.7: not to be forwarded);
//   - a prefix that holds an address of the region itself: a cloud address, the fabric address of a node or host, an inside
//     address beyond the link-local range. An aggregate (SUMMARY_4, SUMMARY_6 bits or fewer) only happens to hold it by its
//     size, as 0.0.0.0/0 holds all of them, and forwards.
#include "services/route/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum { SUMMARY_4 = 16, SUMMARY_6 = 48 };

struct reserved {
	struct address address;
	const char *what;
};
struct reserved_owner {
	struct reserved *items;
	size_t count;
};

static uint8_t summary_length(const struct address *address)
{
	return address->length == 4 ? SUMMARY_4 : SUMMARY_6;
}

// The list of addresses that share their first bits with this one.
static struct list *holders(const struct route *r, const struct address *address)
{
	struct prefix summary = prefix_of(address, summary_length(address));
	struct prefix_key key = prefix_key_of(&summary);
	return map_find(r->holders, prefix_key_bytes(&key));
}

static const struct reserved *reserved_in(const struct route *r, const struct prefix *prefix)
{
	if (prefix->length <= summary_length(&prefix->address)) {
		return NULL;
	}
	const struct list *list = holders(r, &prefix->address);
	for (size_t i = 0; list && i < list->count; i++) {
		const struct reserved *reserved = list->items[i];
		if (prefix_contains_address(prefix, &reserved->address)) {
			return reserved;
		}
	}
	return NULL;
}

static const struct prefix *block_around(const struct destination *d, const struct vpc **of)
{
	const struct gateway *g = d->gateway;
	for (size_t i = 0; i < g->attachments.count; i++) {
		const struct attachment *a = g->attachments.items[i];
		for (size_t k = 0; attachment_alive(a, g) && k < a->vpc->block_count; k++) {
			if (prefix_contains(&a->vpc->blocks[k], &d->prefix)) {
				*of = a->vpc;
				return &a->vpc->blocks[k];
			}
		}
	}
	return NULL;
}

static bool link_local(const struct prefix *prefix)
{
	static const struct prefix ranges[] = {{.address = {.length = 4, .octets = {169, 254}}, .length = 16},
	                                       {.address = {.length = 16, .octets = {0xfe, 0x80}}, .length = 10}};
	return prefix_contains(&ranges[0], prefix) || prefix_contains(&ranges[1], prefix);
}

enum refusal refusal_of(const struct route *r, const struct destination *d)
{
	const struct vpc *vpc;
	if (d->learned_count == 0) {
		return REFUSAL_NONE;
	}
	return block_around(d, &vpc)        ? REFUSAL_VPC
	       : link_local(&d->prefix)     ? REFUSAL_LINK_LOCAL
	       : reserved_in(r, &d->prefix) ? REFUSAL_ADDRESS
	                                    : REFUSAL_NONE;
}

void refusal_explain(const struct route *r, const struct destination *d, char *text, size_t size)
{
	const struct vpc *vpc = NULL;
	const struct prefix *block = block_around(d, &vpc);
	const struct reserved *reserved = reserved_in(r, &d->prefix);
	char number[PREFIX_TEXT];
	if (block) {
		snprintf(text, size, "inside %s of %s, which is attached: it would take traffic away from the VPC",
		         prefix_format(block, number), vpc->object.id);
	} else if (link_local(&d->prefix)) {
		snprintf(text, size, "inside the link-local range, where the tunnels' inside addresses are");
	} else if (reserved) {
		snprintf(text, size, "holds %s, a %s", address_format(&reserved->address, number), reserved->what);
	} else {
		text[0] = '\0';
	}
}

// Destinations, of any gateway, that hold the address.
static void mark_holding(struct route *r, const struct address *address)
{
	struct map_cursor cursor = {0};
	while (map_next(r->objects[OBJECT_GATEWAY], &cursor)) {
		const struct gateway *g = cursor.value;
		size_t learned = g->quota.admitted.count + g->quota.waiting.count;
		for (uint8_t bits = summary_length(address); learned > 0 && bits++ < address->length * 8;) {
			struct prefix prefix = prefix_of(address, bits);
			struct destination *d = destination_find(g, &prefix);
			if (d) {
				destination_mark(r, d);
			}
		}
	}
}

static void owner_free(void *value)
{
	struct reserved_owner *owner = value;
	if (owner) {
		free(owner->items);
		free(owner);
	}
}

static void forget(struct route *r, struct reserved_owner *owner)
{
	for (size_t i = 0; owner && i < owner->count; i++) {
		struct reserved *reserved = &owner->items[i];
		struct list *list = holders(r, &reserved->address);
		invariant(list && list_has(list, reserved));
		list_remove(list, reserved);
		if (list->count == 0) {
			struct prefix summary = prefix_of(&reserved->address, summary_length(&reserved->address));
			struct prefix_key key = prefix_key_of(&summary);
			map_remove(r->holders, prefix_key_bytes(&key));
			list_fini(list);
			free(list);
		}
		mark_holding(r, &reserved->address);
	}
	owner_free(owner);
}

static void add(struct route *r, struct reserved *reserved)
{
	struct list *list = holders(r, &reserved->address);
	if (!list) {
		struct prefix summary = prefix_of(&reserved->address, summary_length(&reserved->address));
		struct prefix_key key = prefix_key_of(&summary);
		list = allocate(sizeof *list);
		map_insert(r->holders, prefix_key_bytes(&key), list);
	}
	list_add(list, reserved);
	mark_holding(r, &reserved->address);
}

static bool same(const struct reserved_owner *owner, const struct route_event *event)
{
	size_t count = event->removed ? 0 : event->reserved.count;
	bool equal = (owner ? owner->count : 0) == count;
	for (size_t i = 0; equal && i < count; i++) {
		equal = address_equal(&owner->items[i].address, &event->reserved.addresses[i]);
	}
	return equal;
}

void input_reserved(struct route *r, const struct route_event *event)
{
	if (same(map_find_text(r->reserved, event->id), event)) {
		return;
	}
	forget(r, map_remove_text(r->reserved, event->id));
	if (event->removed || event->reserved.count == 0) {
		return;
	}
	struct reserved_owner *owner = allocate(sizeof *owner);
	owner->count = event->reserved.count;
	owner->items = allocate_array(owner->count, sizeof *owner->items);
	map_insert_text(r->reserved, event->id, owner);
	for (size_t i = 0; i < owner->count; i++) {
		owner->items[i] = (struct reserved){event->reserved.addresses[i], event->reserved.what};
		add(r, &owner->items[i]);
	}
}

static void list_free(void *value)
{
	list_fini(value);
	free(value);
}

void reserved_free(struct route *r)
{
	map_free(&r->reserved, owner_free);
	map_free(&r->holders, list_free);
}
