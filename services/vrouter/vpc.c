// VPCs: what is kept of each, its route tables, and the numbers by which the kernel knows tables, nexthops and groups.
#include "services/vrouter/model.h"

#include "common/base/alloc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pointers_add(struct pointers *pointers, void *item)
{
	if (pointers->count == pointers->capacity) {
		pointers->capacity = pointers->capacity == 0 ? 4 : pointers->capacity * 2;
		pointers->items = reallocate(pointers->items, pointers->capacity, sizeof *pointers->items);
	}
	pointers->items[pointers->count++] = item;
}

void pointers_remove(struct pointers *pointers, const void *item)
{
	for (size_t i = pointers->count; i-- > 0;) {
		if (pointers->items[i] == item) {
			pointers->items[i] = pointers->items[--pointers->count];
			return;
		}
	}
}

void pointers_fini(struct pointers *pointers)
{
	free(pointers->items);
	*pointers = (struct pointers){0};
}

struct name *name_hold(struct vrouter *vrouter, const char *text)
{
	struct name *name = map_find_text(vrouter->names, text);
	if (!name) {
		size_t length = strlen(text) + 1;
		name = allocate(sizeof *name + length);
		memcpy(name->text, text, length);
		map_insert_text(vrouter->names, text, name);
	}
	name->references++;
	return name;
}

void name_release(struct vrouter *vrouter, struct name *name)
{
	if (!name) {
		return;
	}
	invariant(name->references > 0);
	if (--name->references == 0) {
		map_remove_text(vrouter->names, name->text);
		free(name);
	}
}

bool has_name(const struct names *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++) {
		if (strcmp(names->items[i], name) == 0) {
			return true;
		}
	}
	return false;
}

// ---- life ----

struct vpc *vpc_of(struct vrouter *vrouter, const char *id)
{
	struct vpc *vpc = map_find_text(vrouter->vpcs, id);
	if (vpc) {
		return vpc;
	}
	vpc = allocate(sizeof *vpc);
	*vpc = (struct vpc){
	    .vrouter = vrouter,
	    .id = duplicate_text(id),
	    .unread = true,
	    .subnets = map_new(NULL),
	    .tables = map_new(NULL),
	    .attachments = map_new(NULL),
	    .destinations = map_new(NULL),
	    .fixed = map_new(NULL),
	    .uses = map_new(NULL),
	    .users = map_new(NULL),
	    .waiting = map_new(NULL),
	    .numbers = map_new(NULL),
	    .numbers_used = map_new(NULL),
	};
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		vpc->wanted[kind] = map_new(NULL);
		vpc->have[kind] = map_new(NULL);
		vpc->changed[kind] = map_new(NULL);
	}
	map_insert_text(vrouter->vpcs, id, vpc);
	vpc_touch(vpc);
	return vpc;
}

void vpc_touch(struct vpc *vpc)
{
	if (!vpc->queued) {
		vpc->queued = true;
		pointers_add(&vpc->vrouter->queue, vpc);
	}
}

bool vpc_is_empty(const struct vpc *vpc)
{
	bool empty = !vpc->present && map_count(vpc->destinations) == 0 && map_count(vpc->subnets) == 0 &&
	             map_count(vpc->tables) == 0 && map_count(vpc->attachments) == 0;
	for (int kind = 0; empty && kind < VROUTER_KIND_COUNT; kind++) {
		empty = map_count(vpc->wanted[kind]) == 0 && map_count(vpc->have[kind]) == 0;
	}
	return empty;
}

static void table_free(void *value)
{
	struct table *table = value;
	free(table->id);
	free(table);
}

void vpc_free(void *value)
{
	struct vpc *vpc = value;
	uses_end(vpc);
	map_free(&vpc->destinations, destination_free);
	map_free(&vpc->fixed, NULL);
	map_free(&vpc->uses, NULL);
	map_free(&vpc->users, NULL);
	map_free(&vpc->waiting, waiting_free);
	map_free(&vpc->subnets, NULL);
	map_free(&vpc->tables, table_free);
	map_free(&vpc->attachments, NULL);
	map_free(&vpc->numbers, NULL);
	map_free(&vpc->numbers_used, free);
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		map_free(&vpc->wanted[kind], item_free);
		map_free(&vpc->have[kind], item_free);
		map_free(&vpc->changed[kind], NULL);
	}
	free(vpc->id);
	free(vpc->host_id);
	free(vpc->blocks);
	free(vpc);
}

// ---- tables ----

struct table *table_hold(struct vpc *vpc, const char *id)
{
	struct table *table = map_find_text(vpc->tables, id);
	if (!table) {
		table = allocate(sizeof *table);
		*table = (struct table){.id = duplicate_text(id), .number = number_of(vpc, id, TABLE_RANGE)};
		map_insert_text(vpc->tables, id, table);
	}
	table->references++;
	return table;
}

void table_release(struct vpc *vpc, struct table *table)
{
	invariant(table->references > 0);
	if (--table->references == 0) {
		invariant(!table->present);
		number_forget(vpc, table->number);
		map_remove_text(vpc->tables, table->id);
		table_free(table);
	}
}

// ---- numbers: FNV-1a, then the next free one ----

enum { MASK = 0x0fffffff };

static char *numbered(const char *text, uint32_t range)
{
	return format_text("%x/%s", range, text);
}

static struct bytes octets_of(const uint32_t *number)
{
	return (struct bytes){(const uint8_t *)number, sizeof *number};
}

uint32_t number_find(const struct vpc *vpc, const char *text, uint32_t range)
{
	char *key = numbered(text, range);
	uintptr_t known = (uintptr_t)map_find_text(vpc->numbers, key);
	free(key);
	return (uint32_t)known;
}

uint32_t number_of(struct vpc *vpc, const char *text, uint32_t range)
{
	uint32_t number = number_find(vpc, text, range);
	if (number != 0) {
		return number;
	}
	char *key = numbered(text, range);
	number = 2166136261u;
	for (const char *at = key; *at; at++) {
		number = (number ^ (uint8_t)*at) * 16777619u;
	}
	number = (number & MASK) | range;
	while (map_find(vpc->numbers_used, octets_of(&number))) {
		number = ((number + 1) & MASK) | range;
	}
	map_insert_text(vpc->numbers, key, (void *)(uintptr_t)number);
	map_insert(vpc->numbers_used, octets_of(&number), key);
	return number;
}

void number_forget(struct vpc *vpc, uint32_t number)
{
	char *key = map_remove(vpc->numbers_used, octets_of(&number));
	if (key) {
		void *known = map_remove_text(vpc->numbers, key);
		invariant((uintptr_t)known == number);
		free(key);
	}
	invariant(map_count(vpc->numbers) == map_count(vpc->numbers_used));
}
