// The vrouter core on a kernel of its own: it refuses what the real one refuses (a route to a group that is not there, a group
// of nexthops that are not there, a nexthop in a device that is not there), and drops with an object what stands on it. Routes
// may be done later: until the operation without an item.
#ifndef TWINSPAN_TESTS_VROUTER_WORLD_H
#define TWINSPAN_TESTS_VROUTER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/base/random.h"
#include "services/vrouter/item.h"
#include "services/vrouter/vrouter.h"

// ---- the kernel ----
struct kernel {
	struct map *items; // of VPC "vpc-1", by item key
	size_t operations, sets[VROUTER_KIND_COUNT], removals[VROUTER_KIND_COUNT];
	size_t fail_at;  // the operation that fails; 0: none
	bool unfinished; // routes were given that may not be done yet
};

static inline struct vrouter_item *held(const struct kernel *kernel, const struct vrouter_item *item)
{
	struct item_key key = item_key(item);
	return map_find(kernel->items, item_key_bytes(&key));
}

static inline bool has_device(const struct kernel *kernel, enum vrouter_kind kind, const char *device)
{
	struct vrouter_item item = {.kind = kind};
	strcpy(item.device, device);
	return held(kernel, &item) != NULL;
}

static inline bool has_number(const struct kernel *kernel, enum vrouter_kind kind, uint32_t id)
{
	struct vrouter_item item = {.kind = kind};
	if (kind == VROUTER_GROUP) {
		item.group.id = id;
	} else {
		item.nexthop.id = id;
	}
	return held(kernel, &item) != NULL;
}

static inline void check_set(const struct kernel *kernel, const struct vrouter_item *item)
{
	assert_true(item->kind == VROUTER_NAMESPACE || held(kernel, &(struct vrouter_item){.kind = VROUTER_NAMESPACE}));
	switch (item->kind) {
	case VROUTER_NEXTHOP:
		assert_true(item->nexthop.id == VROUTER_BLACKHOLE || has_device(kernel, VROUTER_SEGMENT, item->device));
		break;
	case VROUTER_GROUP:
		assert_true(item->member_count > 0);
		for (size_t i = 0; i < item->member_count; i++) {
			assert_true(has_number(kernel, VROUTER_NEXTHOP, item->members[i]));
			assert_true(item->members[i] != VROUTER_BLACKHOLE || item->member_count == 1);
			assert_true(i == 0 || item->members[i - 1] < item->members[i]);
		}
		break;
	case VROUTER_ROUTE:
		if (item->route.group_id != 0) {
			assert_true(has_number(kernel, VROUTER_GROUP, item->route.group_id));
		} else {
			assert_true(item->device[0] == '\0' || has_device(kernel, VROUTER_BRIDGE, item->device));
		}
		break;
	case VROUTER_RULE:
		assert_true(has_device(kernel, VROUTER_BRIDGE, item->device));
		break;
	default:
		break;
	}
}

// Nothing may stand on what goes: it would go with it, and a packet be lost.
static inline void check_removal(const struct kernel *kernel, const struct vrouter_item *gone)
{
	struct map_cursor cursor = {0};
	while (map_next(kernel->items, &cursor)) {
		const struct vrouter_item *item = cursor.value;
		switch (gone->kind) {
		case VROUTER_GROUP:
			assert_true(item->kind != VROUTER_ROUTE || item->route.group_id != gone->group.id);
			break;
		case VROUTER_NEXTHOP:
			for (size_t i = 0; item->kind == VROUTER_GROUP && i < item->member_count; i++) {
				assert_true(item->members[i] != gone->nexthop.id);
			}
			break;
		default:
			break;
		}
	}
}

static inline bool apply(void *context, const struct vrouter_operation *operation)
{
	struct kernel *kernel = context;
	assert_string_equal(operation->vpc_id, "vpc-1");
	if (!operation->item) {
		kernel->unfinished = false;
		return true;
	}
	assert_true(!kernel->unfinished || operation->item->kind == VROUTER_ROUTE); // nothing else before the routes are done
	kernel->unfinished = operation->item->kind == VROUTER_ROUTE;
	if (++kernel->operations == kernel->fail_at) {
		return false;
	}
	const struct vrouter_item *item = operation->item;
	struct item_key key = item_key(item);
	assert_true((operation->before == NULL) == (held(kernel, item) == NULL));
	if (!operation->remove) {
		assert_true(!operation->before || !item_equal(operation->before, item)); // only differences
		check_set(kernel, item);
		item_free(map_insert(kernel->items, item_key_bytes(&key), item_copy(item)));
		kernel->sets[item->kind]++;
	} else if (item->kind == VROUTER_NAMESPACE) {
		map_free(&kernel->items, item_free);
		kernel->items = map_new(NULL);
		kernel->removals[item->kind]++;
	} else {
		struct vrouter_item *gone = map_remove(kernel->items, item_key_bytes(&key));
		if (has_number(kernel, VROUTER_NEXTHOP, VROUTER_BLACKHOLE) && item->kind != VROUTER_SEGMENT) {
			check_removal(kernel, gone);
		}
		item_free(gone);
		kernel->removals[item->kind]++;
	}
	return true;
}

static inline void read_back(struct vrouter *vrouter, const struct kernel *kernel)
{
	struct vrouter_item *items = allocate_array(map_count(kernel->items) + 1, sizeof *items);
	size_t count = 0;
	struct map_cursor cursor = {0};
	while (map_next(kernel->items, &cursor)) {
		items[count++] = *(struct vrouter_item *)cursor.value;
	}
	vrouter_read(vrouter, "vpc-1", items, count);
	free(items);
}

static inline void forget_counts(struct kernel *kernel)
{
	struct map *items = kernel->items;
	*kernel = (struct kernel){.items = items};
}

// ---- a small region ----
static inline struct address address_of(const char *text)
{
	struct address address;
	assert_true(address_parse(text, &address));
	return address;
}

static inline struct prefix prefix_text(const char *text)
{
	struct prefix prefix;
	assert_true(prefix_parse(text, &prefix));
	return prefix;
}

static inline void set_group(struct vrouter *vrouter, const char *id, const char *a, const char *b)
{
	const char *nodes[] = {a, b};
	vrouter_set_group(vrouter, id, &(struct vrouter_group){nodes, (size_t)(a != NULL) + (b != NULL)});
}

static inline void set_subnet(struct vrouter *vrouter, const char *id, const char *cidr, const char *gateway, const char *table)
{
	vrouter_set_subnet(vrouter, id, &(struct vrouter_subnet){"vpc-1", table, prefix_text(cidr), address_of(gateway)});
}

static inline void set_route(struct vrouter *vrouter, const char *destination, const char *attachment, const char *group,
                             bool is_static)
{
	char key[100];
	snprintf(key, sizeof key, "rtb-1/%s/%s/%s", destination, is_static ? "STATIC" : "PROPAGATED", attachment);
	vrouter_set_route(vrouter, key,
	                  &(struct vrouter_route){.vpc_id = "vpc-1",
	                                          .table_id = "rtb-1",
	                                          .destination = prefix_text(destination),
	                                          .attachment_id = attachment,
	                                          .group_id = group,
	                                          .is_static = is_static});
}

static inline void remove_route(struct vrouter *vrouter, const char *destination, const char *attachment, bool is_static)
{
	char key[100];
	snprintf(key, sizeof key, "rtb-1/%s/%s/%s", destination, is_static ? "STATIC" : "PROPAGATED", attachment);
	vrouter_set_route(vrouter, key, NULL);
}

static inline void set_vpc(struct vrouter *vrouter, const char *host)
{
	struct prefix block = prefix_text("10.0.0.0/16");
	vrouter_set_vpc(vrouter, "vpc-1", &(struct vrouter_vpc){host, &block, 1});
}

static inline void set_attachment(struct vrouter *vrouter, const char *id, const char *gateway, uint32_t vni)
{
	vrouter_set_attachment(vrouter, id, &(struct vrouter_attachment){"vpc-1", gateway, vni});
}

static inline void set_gateway(struct vrouter *vrouter, const char *id)
{
	const char *nodes[] = {"node-a", "node-b"};
	vrouter_set_gateway(vrouter, id, &(struct vrouter_gateway){nodes, 2});
}

static inline struct vrouter *region(void)
{
	struct vrouter *vrouter = vrouter_new("host-1");
	struct address host = address_of("10.255.0.21"), a = address_of("10.255.0.11"), b = address_of("10.255.0.12");
	vrouter_set_host(vrouter, "host-1", &host);
	vrouter_set_node(vrouter, "node-a", &a);
	vrouter_set_node(vrouter, "node-b", &b);
	set_gateway(vrouter, "bgw-1");
	set_vpc(vrouter, "host-1");
	vrouter_set_table(vrouter, "rtb-1", "vpc-1");
	set_subnet(vrouter, "sub-1", "10.0.1.0/24", "10.0.1.1", "rtb-1");
	set_attachment(vrouter, "att-1", "bgw-1", 77);
	set_group(vrouter, "nhg-1", "node-a", "node-b");
	set_route(vrouter, "192.168.0.0/16", "att-1", "nhg-1", false);
	return vrouter;
}

static inline const struct vrouter_item *route_to(const struct kernel *kernel, const char *destination)
{
	struct prefix prefix = prefix_text(destination);
	struct map_cursor cursor = {0};
	while (map_next(kernel->items, &cursor)) {
		const struct vrouter_item *item = cursor.value;
		if (item->kind == VROUTER_ROUTE && prefix_equal(&item->route.destination, &prefix)) {
			return item;
		}
	}
	return NULL;
}

static inline const struct vrouter_item *group_of(const struct kernel *kernel, const char *destination)
{
	const struct vrouter_item *route = route_to(kernel, destination);
	assert_non_null(route);
	struct vrouter_item group = {.kind = VROUTER_GROUP, .group.id = route->route.group_id};
	return held(kernel, &group);
}

struct world {
	struct kernel kernel;
	struct vrouter *vrouter;
};

static inline int make_world(void **state)
{
	struct world *world = calloc(1, sizeof *world);
	world->kernel.items = map_new(NULL);
	world->vrouter = region();
	vrouter_read(world->vrouter, "vpc-1", NULL, 0);
	vrouter_settle(world->vrouter, apply, &world->kernel);
	*state = world;
	return 0;
}

static inline int end_world(void **state)
{
	struct world *world = *state;
	vrouter_free(&world->vrouter);
	map_free(&world->kernel.items, item_free);
	free(world);
	return 0;
}

#endif
