// Objects under their ids, the sets of pointers between them, and the attributes that paths share.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

void list_add(struct list *list, void *item)
{
	if (list->count == list->capacity) {
		list->capacity = list->capacity == 0 ? 4 : list->capacity * 2;
		list->items = reallocate(list->items, list->capacity, sizeof *list->items);
	}
	list->items[list->count++] = item;
}

// From the end, since what came last most often goes first; the order of the others is kept.
bool list_remove(struct list *list, const void *item)
{
	for (size_t i = list->count; i-- > 0;) {
		if (list->items[i] == item) {
			memmove(&list->items[i], &list->items[i + 1], (list->count - i - 1) * sizeof *list->items);
			list->count--;
			return true;
		}
	}
	return false;
}

bool list_has(const struct list *list, const void *item)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->items[i] == item) {
			return true;
		}
	}
	return false;
}

void list_fini(struct list *list)
{
	free(list->items);
	*list = (struct list){0};
}

static const size_t object_sizes[OBJECT_KINDS] = {
    [OBJECT_NODE] = sizeof(struct node),
    [OBJECT_GATEWAY] = sizeof(struct gateway),
    [OBJECT_VPC] = sizeof(struct vpc),
    [OBJECT_SUBNET] = sizeof(struct subnet),
    [OBJECT_VPC_TABLE] = sizeof(struct vpc_table),
    [OBJECT_ATTACHMENT] = sizeof(struct attachment),
    [OBJECT_CONNECTION] = sizeof(struct connection),
    [OBJECT_TUNNEL] = sizeof(struct tunnel),
    [OBJECT_STATIC] = sizeof(struct static_route),
    [OBJECT_PRESENCE] = sizeof(struct presence),
};

struct object *object_find(const struct route *r, enum object_kind kind, const char *id)
{
	return map_find_text(r->objects[kind], id);
}

struct object *object_get(struct route *r, enum object_kind kind, const char *id)
{
	struct object *object = object_find(r, kind, id);
	if (!object) {
		object = allocate(object_sizes[kind]);
		object->kind = kind;
		strncpy(object->id, id, sizeof object->id - 1);
		if (kind == OBJECT_GATEWAY) {
			struct gateway *g = (struct gateway *)object;
			g->destinations = map_new(NULL);
			g->static_limit = g->quota.limit = SIZE_MAX; // until its row says whose it is
		} else if (kind == OBJECT_TUNNEL) {
			((struct tunnel *)object)->learned = map_new(NULL);
		} else if (kind == OBJECT_VPC_TABLE) {
			((struct vpc_table *)object)->entries = map_new(NULL);
		}
		map_insert_text(r->objects[kind], object->id, object);
	}
	invariant(object->kind == kind);
	object_hold(object);
	return object;
}

void object_hold(struct object *object)
{
	object->references++;
}

// Whoever is in one of these lists holds the object, so they are empty by now.
static void object_fini(struct object *object)
{
	invariant(!object->present);
	switch (object->kind) {
	case OBJECT_NODE:
		list_fini(&((struct node *)object)->tunnels);
		list_fini(&((struct node *)object)->gateways);
		break;
	case OBJECT_GATEWAY: {
		struct gateway *g = (struct gateway *)object;
		invariant(map_count(g->destinations) == 0 && !g->first && !g->sweeping && !g->usage_dirty);
		invariant(g->attachments.count == 0 && g->connections.count == 0 && g->tables.count == 0);
		map_free(&g->destinations, NULL);
		list_fini(&g->nodes);
		list_fini(&g->attachments);
		list_fini(&g->connections);
		list_fini(&g->tables);
		list_fini(&g->statics);
		list_fini(&g->propagated);
		list_fini(&g->quota.admitted);
		list_fini(&g->quota.waiting);
		break;
	}
	case OBJECT_VPC: {
		struct vpc *vpc = (struct vpc *)object;
		free(vpc->blocks);
		list_fini(&vpc->subnets);
		list_fini(&vpc->tables);
		list_fini(&vpc->attachments);
		break;
	}
	case OBJECT_VPC_TABLE:
		vpc_table_fini((struct vpc_table *)object);
		break;
	case OBJECT_ATTACHMENT:
		list_fini(&((struct attachment *)object)->subnets);
		list_fini(&((struct attachment *)object)->statics);
		break;
	case OBJECT_CONNECTION:
		invariant(((struct connection *)object)->presences.count == 0);
		list_fini(&((struct connection *)object)->presences);
		list_fini(&((struct connection *)object)->tunnels);
		list_fini(&((struct connection *)object)->statics);
		break;
	case OBJECT_TUNNEL:
		invariant(map_count(((struct tunnel *)object)->learned) == 0 && ((struct tunnel *)object)->groups.count == 0);
		map_free(&((struct tunnel *)object)->learned, NULL);
		list_fini(&((struct tunnel *)object)->groups);
		break;
	case OBJECT_PRESENCE:
		invariant(((struct presence *)object)->tunnels == 0);
		break;
	case OBJECT_SUBNET:
	case OBJECT_STATIC:
	case OBJECT_KINDS:
		break;
	}
}

void object_release(struct route *r, struct object *object)
{
	if (!object) {
		return;
	}
	invariant(object->references > 0);
	if (--object->references > 0) {
		return;
	}
	map_remove_text(r->objects[object->kind], object->id);
	object_fini(object);
	free(object);
}

void object_appear(struct object *object)
{
	if (!object->present) {
		object->present = true;
		object_hold(object);
	}
}

void object_vanish(struct route *r, struct object *object)
{
	if (object->present) {
		object->present = false;
		object_release(r, object);
	}
}

struct attributes *attributes_hold(struct attributes *attributes)
{
	if (attributes) {
		attributes->references++;
	}
	return attributes;
}

void attributes_release(struct attributes *attributes)
{
	if (attributes) {
		invariant(attributes->references > 0);
		if (--attributes->references == 0) {
			free(attributes);
		}
	}
}

struct prefix_key prefix_key_of(const struct prefix *prefix)
{
	struct prefix_key key = {{0}};
	key.octets[0] = prefix->address.length;
	key.octets[1] = prefix->length;
	memcpy(key.octets + 2, prefix->address.octets, 16);
	return key;
}

struct bytes prefix_key_bytes(const struct prefix_key *key)
{
	return (struct bytes){key->octets, sizeof key->octets};
}
