// See item.h.
#include "services/vrouter/item.h"

#include "common/base/alloc.h"
#include <stdlib.h>
#include <string.h>

static void put_device(struct writer *w, const struct vrouter_item *item)
{
	write_bytes(w, (struct bytes){(const uint8_t *)item->device, strnlen(item->device, sizeof item->device)});
}

struct item_key item_key(const struct vrouter_item *item)
{
	struct item_key key = {0};
	struct writer w = writer_of(key.octets, sizeof key.octets);
	write_u8(&w, (uint8_t)item->kind);
	switch (item->kind) {
	case VROUTER_BRIDGE:
	case VROUTER_SEGMENT:
	case VROUTER_RULE:
		put_device(&w, item);
		break;
	case VROUTER_NEXTHOP:
		write_u32(&w, item->nexthop.id);
		break;
	case VROUTER_GROUP:
		write_u32(&w, item->group.id);
		break;
	case VROUTER_ROUTE:
		write_u32(&w, item->route.table);
		write_u8(&w, item->route.destination.length);
		write_bytes(&w, address_bytes(&item->route.destination.address));
		break;
	case VROUTER_NAMESPACE:
	case VROUTER_KIND_COUNT:
		break;
	}
	key.length = (uint8_t)writer_length(&w);
	return key;
}

struct bytes item_key_bytes(const struct item_key *key)
{
	return (struct bytes){key->octets, key->length};
}

static bool same_members(const struct vrouter_item *a, const struct vrouter_item *b)
{
	return a->member_count == b->member_count &&
	       (a->member_count == 0 || memcmp(a->members, b->members, a->member_count * sizeof a->members[0]) == 0);
}

bool item_equal(const struct vrouter_item *a, const struct vrouter_item *b)
{
	if (a->kind != b->kind || strcmp(a->device, b->device) != 0 || !same_members(a, b)) {
		return false;
	}
	switch (a->kind) {
	case VROUTER_BRIDGE:
		return address_equal(&a->bridge.gateway, &b->bridge.gateway) && a->bridge.length == b->bridge.length;
	case VROUTER_SEGMENT:
		return a->segment.vni == b->segment.vni && address_equal(&a->segment.local, &b->segment.local);
	case VROUTER_NEXTHOP:
		return a->nexthop.id == b->nexthop.id && address_equal(&a->nexthop.fabric, &b->nexthop.fabric);
	case VROUTER_GROUP:
		return a->group.id == b->group.id;
	case VROUTER_ROUTE:
		return a->route.table == b->route.table && a->route.group_id == b->route.group_id &&
		       prefix_equal(&a->route.destination, &b->route.destination);
	case VROUTER_RULE:
		return a->rule.table == b->rule.table;
	case VROUTER_NAMESPACE:
	case VROUTER_KIND_COUNT:
		break;
	}
	return true;
}

struct vrouter_item *item_copy(const struct vrouter_item *item)
{
	struct vrouter_item *copy = allocate(sizeof *copy);
	*copy = *item;
	copy->members = NULL;
	if (item->member_count > 0) {
		uint32_t *members = allocate_array(item->member_count, sizeof *members);
		memcpy(members, item->members, item->member_count * sizeof *members);
		copy->members = members;
	}
	return copy;
}

void item_free(void *item)
{
	if (item) {
		free((void *)(uintptr_t)((struct vrouter_item *)item)->members);
		free(item);
	}
}
