// VPC route tables: local (the VPC itself; always first), static 100, propagated 120 from the effective tables of border
// gateways, inside the propagation's ranges, with the border gateway as next hop; never what comes from the VPC itself. A
// static or propagated route needs an attachment between the VPC and the border gateway. Of routes through several border
// gateways those with the shortest AS path forward together.
#include "services/route/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum vpc_kind { VPC_LOCAL, VPC_STATIC, VPC_PROPAGATED };
static const char *const types[] = {[VPC_LOCAL] = "LOCAL", [VPC_STATIC] = "STATIC", [VPC_PROPAGATED] = "PROPAGATED"};

static void enqueue(struct route *r, struct vpc_table *table)
{
	if (!table->dirty) {
		table->dirty = true;
		object_hold(&table->object);
		list_add(&r->dirty_tables, table);
	}
}

void vpc_table_mark(struct route *r, struct vpc_table *table)
{
	table->statics_dirty = table->entries_dirty = true;
	table->entry = table->first;
	table->propagation = 0;
	table->offered = NULL;
	enqueue(r, table);
}

void vpc_table_mark_statics(struct route *r, struct vpc_table *table)
{
	table->statics_dirty = true;
	enqueue(r, table);
}

void vpc_tables_mark(struct route *r, struct list *tables)
{
	for (size_t i = 0; i < tables->count; i++) {
		vpc_table_mark(r, tables->items[i]);
	}
}

struct vpc_row { // of the destination in hand
	enum vpc_kind kind;
	struct gateway *gateway;
	struct attachment *attachment;
	const struct destination *destination; // propagated
	bool effective;
	char reason[192];
};

static void show(struct route *r, const struct vpc_table *table, struct vpc_entry *entry, const struct vpc_row *row)
{
	struct shown *shown = shown_take(&entry->shown, row->kind, row->gateway ? &row->gateway->object : NULL);
	if (!shown) {
		return;
	}
	const struct attributes *attributes = row->destination ? row->destination->attributes : NULL;
	const char *group_id =
	    row->destination && row->destination->outcome == OUTCOME_GROUP ? row->destination->group->id : "";
	const char *gateway_id = row->gateway ? row->gateway->object.id : "";
	const char *attachment_id = row->attachment ? row->attachment->object.id : "";
	uint64_t state = digest_attributes(digest_number(digest_start(), row->effective), attributes);
	uint64_t content = digest_text(digest_text(digest_text(state, row->reason), group_id), attachment_id);
	content = digest_text(digest_text(content, table->vpc->object.id), table->vpc->host_id);
	if (shown->published && shown->state == state && shown->content == content) {
		return;
	}
	char key[ROUTE_KEY_TEXT];
	row_key(key, table->object.id, prefix_text(r, &entry->prefix), types[row->kind], gateway_id);
	shown_update(r, shown, key, state, content);
	struct route_action action = {.table = ROUTE_TABLE_VPC,
	                              .key = key,
	                              .vpc = {
	                                  .table_id = table->object.id,
	                                  .vpc_id = table->vpc->object.id,
	                                  .host_id = table->vpc->host_id,
	                                  .destination = entry->prefix,
	                                  .type = types[row->kind],
	                                  .gateway_id = gateway_id,
	                                  .attachment_id = attachment_id,
	                                  .group_id = group_id,
	                                  .effective = row->effective,
	                                  .reason = row->reason,
	                                  .metric = attributes ? attributes->metric : 0,
	                                  .as_path = attributes ? attributes->as_path : NULL,
	                                  .as_count = attributes ? attributes->as_count : 0,
	                                  .since = shown->since,
	                                  .state = state,
	                              }};
	emit(r, &action);
}

static bool in_ranges(const struct vpc_propagation *propagation, const struct prefix *prefix)
{
	for (size_t i = 0; i < propagation->range_count; i++) {
		if (prefix_contains(&propagation->ranges[i], prefix)) {
			return true;
		}
	}
	return false;
}

// The route of this propagation to `prefix`; false when it gives none.
static bool propagated(const struct vpc_table *table, const struct vpc_propagation *propagation, const struct prefix *prefix,
                       struct vpc_row *row)
{
	struct attachment *attachment = attachment_between(table->vpc, propagation->gateway);
	if (!attachment || !in_ranges(propagation, prefix)) {
		return false;
	}
	const struct destination *d = destination_find(propagation->gateway, prefix);
	if (!d || d->outcome == OUTCOME_NONE || (d->outcome == OUTCOME_ATTACHMENT && d->attachment->vpc == table->vpc)) {
		return false;
	}
	*row = (struct vpc_row){
	    .kind = VPC_PROPAGATED, .gateway = propagation->gateway, .attachment = attachment, .destination = d};
	return true;
}

bool gateway_has_live_node(const struct gateway *g)
{
	for (size_t i = 0; i < g->nodes.count; i++) {
		if (!((const struct node *)g->nodes.items[i])->gone) {
			return true;
		}
	}
	return false;
}

static uint32_t metric_of(const struct vpc_row *row)
{
	const struct attributes *attributes = row->destination ? row->destination->attributes : NULL;
	return attributes ? attributes->metric : 0;
}

static const struct prefix *local_block(const struct vpc *vpc, const struct prefix *prefix)
{
	for (size_t i = 0; i < vpc->block_count; i++) {
		if (prefix_contains(&vpc->blocks[i], prefix)) {
			return &vpc->blocks[i];
		}
	}
	return NULL;
}

static bool has_block(const struct vpc *vpc, const struct prefix *prefix)
{
	for (size_t i = 0; i < vpc->block_count; i++) {
		if (prefix_equal(&vpc->blocks[i], prefix)) {
			return true;
		}
	}
	return false;
}

static struct vpc_row static_row(const struct vpc_table *table, const struct vpc_static *route)
{
	struct vpc_row row = {.kind = VPC_STATIC, .gateway = route->gateway};
	row.attachment = attachment_between(table->vpc, route->gateway);
	row.effective = row.attachment && gateway_has_live_node(route->gateway);
	if (!row.attachment) {
		snprintf(row.reason, sizeof row.reason, "the VPC has no attachment to %s", route->gateway->object.id);
	} else if (!row.effective) {
		snprintf(row.reason, sizeof row.reason, "no node of %s is alive", route->gateway->object.id);
	}
	return row;
}

// What forwards, unless the VPC's own range does: the first static route that can, else the best propagated ones, of which this
// is one.
struct vpc_choice {
	const struct prefix *local;
	struct vpc_row best;
	bool found;
};

static struct vpc_choice choose(const struct vpc_table *table, const struct prefix *prefix)
{
	struct vpc_choice choice = {.local = local_block(table->vpc, prefix)};
	for (size_t i = 0; i < table->static_count && !choice.found; i++) {
		if (prefix_equal(&table->statics[i].destination, prefix)) {
			choice.best = static_row(table, &table->statics[i]);
			choice.found = choice.best.effective;
		}
	}
	if (choice.found) {
		return choice;
	}
	for (size_t i = 0; i < table->propagation_count; i++) {
		struct vpc_row row;
		if (propagated(table, &table->propagations[i], prefix, &row) &&
		    (!choice.found || metric_of(&row) < metric_of(&choice.best))) {
			choice.best = row;
			choice.found = true;
		}
	}
	return choice;
}

static void decide(struct vpc_row *row, const struct vpc_choice *choice)
{
	if (row->reason[0] != '\0') {
		return; // it can't forward anyway
	}
	const struct vpc_row *best = &choice->best;
	invariant(choice->found);
	row->effective = !choice->local && row->kind == best->kind &&
	                 (row->kind == VPC_STATIC ? row->gateway == best->gateway : metric_of(row) == metric_of(best));
	char text[PREFIX_TEXT];
	if (choice->local) {
		snprintf(row->reason, sizeof row->reason, "inside %s of the VPC itself, where the local route is always first",
		         prefix_format(choice->local, text));
	} else if (!row->effective) {
		snprintf(row->reason, sizeof row->reason, "the %s route to %s is preferred%s", types[best->kind],
		         best->gateway->object.id,
		         row->kind == best->kind && row->kind == VPC_PROPAGATED ? ": its AS path is shorter" : "");
	}
}

static void show_all(struct route *r, const struct vpc_table *table, struct vpc_entry *entry)
{
	if (has_block(table->vpc, &entry->prefix)) {
		show(r, table, entry, &(struct vpc_row){.kind = VPC_LOCAL, .effective = true});
	}
	struct vpc_choice choice = choose(table, &entry->prefix);
	for (size_t i = 0; i < table->static_count; i++) {
		if (prefix_equal(&table->statics[i].destination, &entry->prefix)) {
			struct vpc_row row = static_row(table, &table->statics[i]);
			decide(&row, &choice);
			show(r, table, entry, &row);
		}
	}
	for (size_t i = 0; i < table->propagation_count; i++) {
		struct vpc_row row;
		if (propagated(table, &table->propagations[i], &entry->prefix, &row)) {
			decide(&row, &choice);
			show(r, table, entry, &row);
		}
	}
}

static struct vpc_entry *entry_get(struct vpc_table *table, const struct prefix *prefix)
{
	struct prefix_key key = prefix_key_of(prefix);
	struct vpc_entry *entry = map_find(table->entries, prefix_key_bytes(&key));
	if (!entry) {
		entry = allocate(sizeof *entry);
		entry->prefix = *prefix;
		map_insert(table->entries, prefix_key_bytes(&key), entry);
		entry->previous = table->last;
		*(table->last ? &table->last->next : &table->first) = entry;
		table->last = entry;
	}
	return entry;
}

static void entry_free(struct route *r, struct vpc_table *table, struct vpc_entry *entry)
{
	struct prefix_key key = prefix_key_of(&entry->prefix);
	shown_fini(r, &entry->shown);
	map_remove(table->entries, prefix_key_bytes(&key));
	if (table->entry == entry) {
		table->entry = entry->next;
	}
	*(entry->previous ? &entry->previous->next : &table->first) = entry->next;
	*(entry->next ? &entry->next->previous : &table->last) = entry->previous;
	invariant(!table->first == (map_count(table->entries) == 0));
	free(entry);
}

void vpc_entry_settle(struct route *r, struct vpc_table *table, const struct prefix *prefix)
{
	struct vpc_entry *entry = entry_get(table, prefix);
	shown_begin(&entry->shown);
	if (table->object.present && table->vpc && table->vpc->object.present) {
		show_all(r, table, entry);
	}
	struct shown *shown;
	for (size_t at = 0; (shown = shown_stale(&entry->shown, &at)) != NULL; shown_drop(r, &entry->shown, shown)) {
		char removed_key[ROUTE_KEY_TEXT];
		row_key(removed_key, table->object.id, prefix_text(r, &entry->prefix), types[shown->kind],
		        shown->next_hop ? shown->next_hop->id : "");
		emit(r, &(struct route_action){.table = ROUTE_TABLE_VPC, .removed = true, .key = removed_key});
	}
	if (entry->shown.count == 0) {
		entry_free(r, table, entry);
	}
}

// What is left of `limit`: one table's own routes are settled in one go.
static size_t settle_statics(struct route *r, struct vpc_table *table, size_t limit)
{
	size_t blocks = table->vpc ? table->vpc->block_count : 0, cost = blocks + table->static_count;
	table->statics_dirty = false;
	for (size_t i = 0; i < blocks; i++) {
		vpc_entry_settle(r, table, &table->vpc->blocks[i]);
	}
	for (size_t i = 0; i < table->static_count; i++) {
		vpc_entry_settle(r, table, &table->statics[i].destination);
	}
	return cost < limit ? limit - cost : 0;
}

// The whole table, after a change of its own row, of its VPC or of an attachment: first what it has, then what each border
// gateway offers. What is left of `limit`.
static size_t settle_entries(struct route *r, struct vpc_table *table, size_t limit)
{
	for (; table->entry && limit > 0; limit--) {
		struct prefix prefix = table->entry->prefix;
		table->entry = table->entry->next;
		vpc_entry_settle(r, table, &prefix);
	}
	if (table->entry) {
		return limit;
	}
	while (table->propagation < table->propagation_count && limit > 0) {
		const struct vpc_propagation *propagation = &table->propagations[table->propagation];
		if (!table->offered && propagation->gateway->first) {
			table->offered = propagation->gateway->first;
		}
		for (; table->offered && limit > 0; limit--) {
			struct prefix prefix = table->offered->prefix;
			table->offered = table->offered->next;
			if (in_ranges(propagation, &prefix)) {
				vpc_entry_settle(r, table, &prefix);
			}
		}
		if (table->offered) {
			return limit;
		}
		table->propagation++;
	}
	table->entries_dirty = table->propagation < table->propagation_count;
	return limit;
}

size_t vpc_tables_settle(struct route *r, size_t limit)
{
	while (r->dirty_tables.count > 0 && limit > 0) {
		struct vpc_table *table = r->dirty_tables.items[r->dirty_tables.count - 1];
		invariant(table->dirty && (table->statics_dirty || table->entries_dirty));
		if (table->statics_dirty) {
			limit = settle_statics(r, table, limit);
		}
		if (table->entries_dirty) {
			limit = settle_entries(r, table, limit);
		}
		if (table->entries_dirty) {
			break;
		}
		table->dirty = false;
		r->dirty_tables.count--;
		object_release(r, &table->object);
	}
	return r->dirty_tables.count;
}

void vpc_table_fini(struct vpc_table *table)
{
	invariant(!table->dirty && !table->first);
	map_free(&table->entries, NULL);
}
