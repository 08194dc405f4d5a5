// What is wanted in a VPC's namespace and what the kernel holds, and the way from the one to the other. First everything that
// is new or different, what others stand on before those others; then what is to go, the other way round. So a route is changed
// when its new group stands, and a group goes when no route uses it.
#include "services/vrouter/model.h"

#include "common/base/alloc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void mark(struct vpc *vpc, enum vrouter_kind kind, struct bytes key)
{
	map_insert(vpc->changed[kind], key, vpc);
	vpc_touch(vpc);
}

void want(struct vpc *vpc, const struct vrouter_item *item)
{
	struct item_key name = item_key(item);
	struct bytes key = item_key_bytes(&name);
	const struct vrouter_item *old = map_find(vpc->wanted[item->kind], key);
	if (vpc->planned) {
		map_insert(vpc->planned, key, vpc);
	}
	if (old && item_equal(old, item)) {
		return;
	}
	item_free(map_insert(vpc->wanted[item->kind], key, item_copy(item)));
	mark(vpc, item->kind, key);
}

void unwant(struct vpc *vpc, const struct vrouter_item *item)
{
	struct item_key name = item_key(item);
	struct bytes key = item_key_bytes(&name);
	enum vrouter_kind kind = item->kind; // `item` may be the one that is removed
	struct vrouter_item *old = map_remove(vpc->wanted[kind], key);
	if (old) {
		item_free(old);
		mark(vpc, kind, key);
	}
}

void unwant_all(struct vpc *vpc)
{
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		struct map_cursor cursor = {0};
		while (map_next(vpc->wanted[kind], &cursor)) {
			mark(vpc, (enum vrouter_kind)kind, cursor.key);
		}
		map_free(&vpc->wanted[kind], item_free);
		vpc->wanted[kind] = map_new(NULL);
	}
}

void vrouter_read(struct vrouter *vrouter, const char *vpc_id, const struct vrouter_item *items, size_t count)
{
	struct vpc *vpc = vpc_of(vrouter, vpc_id);
	vpc->unread = false;
	vpc_touch(vpc);
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		map_free(&vpc->have[kind], item_free);
		vpc->have[kind] = map_new(NULL);
		struct map_cursor cursor = {0};
		while (map_next(vpc->wanted[kind], &cursor)) {
			mark(vpc, (enum vrouter_kind)kind, cursor.key);
		}
	}
	for (size_t i = 0; i < count; i++) {
		struct item_key name = item_key(&items[i]);
		item_free(map_insert(vpc->have[items[i].kind], item_key_bytes(&name), item_copy(&items[i])));
		mark(vpc, items[i].kind, item_key_bytes(&name));
	}
}

struct application {
	struct vpc *vpc;
	vrouter_apply_fn *apply;
	void *context;
};

static bool set_changed(const struct application *application, enum vrouter_kind kind)
{
	struct vpc *vpc = application->vpc;
	struct map_cursor cursor = {0};
	while (map_next(vpc->changed[kind], &cursor)) {
		const struct vrouter_item *wanted = map_find(vpc->wanted[kind], cursor.key);
		const struct vrouter_item *have = map_find(vpc->have[kind], cursor.key);
		if (!wanted || (have && item_equal(wanted, have))) {
			continue;
		}
		const struct vrouter_operation operation = {.vpc_id = vpc->id, .item = wanted, .before = have};
		if (!application->apply(application->context, &operation)) {
			return false;
		}
		item_free(map_insert(vpc->have[kind], cursor.key, item_copy(wanted)));
	}
	return true;
}

// Rules, routes, groups and nexthops go with the namespace; its devices are removed by name, since a socket somewhere may keep
// the namespace alive.
static bool goes_with_namespace(const struct vpc *vpc, enum vrouter_kind kind)
{
	return kind > VROUTER_SEGMENT && map_count(vpc->wanted[VROUTER_NAMESPACE]) == 0;
}

static bool remove_changed(const struct application *application, enum vrouter_kind kind)
{
	struct vpc *vpc = application->vpc;
	struct map_cursor cursor = {0};
	while (map_next(vpc->changed[kind], &cursor)) {
		const struct vrouter_item *have = map_find(vpc->have[kind], cursor.key);
		if (!have || map_find(vpc->wanted[kind], cursor.key)) {
			continue;
		}
		const struct vrouter_operation operation = {.vpc_id = vpc->id, .remove = true, .item = have, .before = have};
		if (!goes_with_namespace(vpc, kind) && !application->apply(application->context, &operation)) {
			return false;
		}
		item_free(map_remove(vpc->have[kind], cursor.key));
	}
	return true;
}

// What was begun of one kind is done before the next one begins.
static bool finish(const struct application *application)
{
	return application->apply(application->context, &(struct vrouter_operation){.vpc_id = application->vpc->id});
}

static bool settle(const struct application *application)
{
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		bool any = map_count(application->vpc->changed[kind]) > 0;
		if (any && (!set_changed(application, (enum vrouter_kind)kind) || !finish(application))) {
			return false;
		}
	}
	for (int kind = VROUTER_KIND_COUNT - 1; kind >= 0; kind--) {
		bool any = map_count(application->vpc->changed[kind]) > 0;
		if (any && (!remove_changed(application, (enum vrouter_kind)kind) || !finish(application))) {
			return false;
		}
	}
	return true;
}

static void settle_vpc(struct vrouter *vrouter, struct vpc *vpc, vrouter_apply_fn *apply, void *context)
{
	if (vpc->structure_changed) {
		structure_plan(vrouter, vpc);
	}
	if (vpc->unread) {
		return;
	}
	struct application application = {vpc, apply, context};
	vpc->unread = !settle(&application);
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		if (map_count(vpc->changed[kind]) > 0) {
			map_free(&vpc->changed[kind], NULL);
			vpc->changed[kind] = map_new(NULL);
		}
	}
}

// Its state in the kernel is not known, and matters.
static bool to_be_read(const struct vpc *vpc)
{
	return vpc->unread && (vpc->realised || map_count(vpc->have[VROUTER_NAMESPACE]) > 0);
}

void vrouter_settle(struct vrouter *vrouter, vrouter_apply_fn *apply, void *context)
{
	struct pointers queue = vrouter->queue;
	vrouter->queue = (struct pointers){0};
	for (size_t i = 0; i < queue.count; i++) {
		struct vpc *vpc = queue.items[i];
		invariant(vpc->queued && vpc->vrouter == vrouter);
		settle_vpc(vrouter, vpc, apply, context);
		vpc->queued = false;
		if (vpc_is_empty(vpc)) {
			invariant(!vpc->realised);
			map_remove_text(vrouter->vpcs, vpc->id);
			vpc_free(vpc);
		} else if (to_be_read(vpc)) {
			vpc_touch(vpc);
		}
	}
	pointers_fini(&queue);
}

const char *vrouter_unread(const struct vrouter *vrouter)
{
	for (size_t i = 0; i < vrouter->queue.count; i++) {
		const struct vpc *vpc = vrouter->queue.items[i];
		if (to_be_read(vpc)) {
			return vpc->id;
		}
	}
	return NULL;
}

struct vrouter_counts vrouter_counts(const struct vrouter *vrouter)
{
	struct vrouter_counts counts = {0};
	struct map_cursor cursor = {0};
	while (map_next(vrouter->vpcs, &cursor)) {
		const struct vpc *vpc = cursor.value;
		counts.vpcs += vpc->realised;
		counts.numbers += map_count(vpc->numbers);
		counts.plans += vpc->plan;
		for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
			counts.items[kind] += map_count(vpc->have[kind]);
		}
	}
	return counts;
}
