// Rows about VPCs into the model: the VPC, its subnets and route tables, and its attachments to border gateways. Each handler
// changes the objects of its row and marks what depends on them.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

// Attachments or subnets of the VPC changed: what they propagate, and its route tables.
static void mark_vpc(struct route *r, struct vpc *vpc)
{
	for (size_t i = 0; vpc && i < vpc->attachments.count; i++) {
		struct attachment *a = vpc->attachments.items[i];
		propagation_mark(r, a->gateway);
		mark_statics(r, &a->statics);
	}
}

void input_vpc(struct route *r, const struct route_event *event)
{
	struct vpc *vpc = (struct vpc *)object_get(r, OBJECT_VPC, event->id);
	set_present(r, &vpc->object, event->removed);
	free(vpc->blocks);
	vpc->block_count = event->removed ? 0 : event->vpc.block_count;
	vpc->blocks = allocate_array(vpc->block_count + 1, sizeof *vpc->blocks);
	if (vpc->block_count > 0) {
		memcpy(vpc->blocks, event->vpc.blocks, vpc->block_count * sizeof *vpc->blocks);
	}
	memset(vpc->host_id, 0, sizeof vpc->host_id);
	if (!event->removed && event->vpc.host_id) {
		strncpy(vpc->host_id, event->vpc.host_id, sizeof vpc->host_id - 1);
	}
	mark_vpc(r, vpc);
	for (size_t i = 0; i < vpc->attachments.count; i++) { // what customers announce inside its blocks is refused
		const struct attachment *a = vpc->attachments.items[i];
		gateway_sweep(r, a->gateway, false);
	}
	vpc_tables_mark(r, &vpc->tables);
	object_release(r, &vpc->object);
}

void input_subnet(struct route *r, const struct route_event *event)
{
	struct subnet *subnet = (struct subnet *)object_get(r, OBJECT_SUBNET, event->id);
	struct vpc *before = subnet->vpc;
	subnet->vpc = event->removed ? NULL : refer(r, OBJECT_VPC, event->subnet.vpc_id);
	if (before) {
		list_remove(&before->subnets, subnet);
	}
	if (subnet->vpc) {
		list_add(&subnet->vpc->subnets, subnet);
		subnet->cidr = event->subnet.cidr;
	}
	mark_vpc(r, before);
	mark_vpc(r, subnet->vpc);
	object_release(r, before ? &before->object : NULL);
	set_present(r, &subnet->object, event->removed);
	object_release(r, &subnet->object);
}

static void table_refer(struct vpc_table *table, struct gateway *g)
{
	if (!list_has(&g->tables, table)) {
		list_add(&g->tables, table);
	}
}

static void clear_vpc_table(struct route *r, struct vpc_table *table)
{
	for (size_t i = 0; i < table->static_count; i++) {
		list_remove(&table->statics[i].gateway->tables, table);
		object_release(r, &table->statics[i].gateway->object);
	}
	for (size_t i = 0; i < table->propagation_count; i++) {
		list_remove(&table->propagations[i].gateway->tables, table);
		object_release(r, &table->propagations[i].gateway->object);
		free(table->propagations[i].ranges);
	}
	free(table->statics);
	free(table->propagations);
	table->statics = NULL;
	table->propagations = NULL;
	table->static_count = table->propagation_count = 0;
	table->entry = NULL; // a sweep under way begins anew: the whole table is marked next
	table->offered = NULL;
}

static void fill_vpc_table(struct route *r, struct vpc_table *table, const struct route_event *event)
{
	table->statics = allocate_array(event->vpc_table.static_count + 1, sizeof *table->statics);
	for (size_t i = 0; i < event->vpc_table.static_count; i++) {
		const struct route_vpc_static *route = &event->vpc_table.statics[i];
		struct gateway *g = refer(r, OBJECT_GATEWAY, route->gateway_id);
		if (g) {
			table->statics[table->static_count++] = (struct vpc_static){route->destination, g};
			table_refer(table, g);
		}
	}
	table->propagations = allocate_array(event->vpc_table.propagation_count + 1, sizeof *table->propagations);
	for (size_t i = 0; i < event->vpc_table.propagation_count; i++) {
		const struct route_vpc_propagation *propagation = &event->vpc_table.propagations[i];
		struct gateway *g = refer(r, OBJECT_GATEWAY, propagation->gateway_id);
		if (g) {
			struct prefix *ranges = allocate_array(propagation->range_count + 1, sizeof *ranges);
			if (propagation->range_count > 0) {
				memcpy(ranges, propagation->ranges, propagation->range_count * sizeof *ranges);
			}
			table->propagations[table->propagation_count++] =
			    (struct vpc_propagation){g, ranges, propagation->range_count};
			table_refer(table, g);
		}
	}
}

// What it says now is published by vpc_table_settle, which also needs the table once its row is gone, so its VPC is let go only
// there.
void input_vpc_table(struct route *r, const struct route_event *event)
{
	struct vpc_table *table = (struct vpc_table *)object_get(r, OBJECT_VPC_TABLE, event->id);
	struct vpc *before = table->vpc;
	clear_vpc_table(r, table);
	table->vpc = event->removed ? NULL : refer(r, OBJECT_VPC, event->vpc_table.vpc_id);
	if (before) {
		list_remove(&before->tables, table);
		object_release(r, &before->object);
	}
	if (table->vpc) {
		list_add(&table->vpc->tables, table);
		fill_vpc_table(r, table, event);
	}
	vpc_table_mark(r, table);
	set_present(r, &table->object, event->removed);
	object_release(r, &table->object);
}

static void set_list(struct route *r, struct list *list, enum object_kind kind, const char *const *ids, size_t count)
{
	struct list before = *list;
	*list = (struct list){0};
	for (size_t i = 0; i < count; i++) {
		void *object = refer(r, kind, ids[i]);
		if (object) {
			list_add(list, object);
		}
	}
	for (size_t i = 0; i < before.count; i++) {
		object_release(r, before.items[i]);
	}
	list_fini(&before);
}

static void mark_attachment(struct route *r, const struct attachment *a)
{
	propagation_mark(r, a->gateway);
	mark_statics(r, &a->statics);
	if (a->vpc) {
		vpc_tables_mark(r, &a->vpc->tables);
	}
	if (a->gateway) { // the VPC of a destination's attachment decides which VPC tables it may enter
		for (size_t i = 0; i < a->gateway->propagated.count; i++) {
			const struct path *path = a->gateway->propagated.items[i];
			if (path->attachment == a && path->destination) {
				destination_mark(r, path->destination);
			}
		}
		gateway_sweep(r, a->gateway, false); // what customers announce inside the VPC's blocks is refused
		vpc_tables_mark(r, &a->gateway->tables);
	}
}

// Which subnets it propagates is all that is new.
static bool only_propagation(const struct attachment *a, const struct route_event *event)
{
	return a->object.present && !event->removed && a->gateway && a->vpc && event->attachment.gateway_id &&
	       event->attachment.vpc_id && strcmp(a->gateway->object.id, event->attachment.gateway_id) == 0 &&
	       strcmp(a->vpc->object.id, event->attachment.vpc_id) == 0 && a->order == event->attachment.order;
}

void input_attachment(struct route *r, const struct route_event *event)
{
	struct attachment *a = (struct attachment *)object_get(r, OBJECT_ATTACHMENT, event->id);
	struct gateway *gateway_before = a->gateway;
	struct vpc *vpc_before = a->vpc;
	bool small = only_propagation(a, event);
	if (small) {
		propagation_mark(r, a->gateway);
	} else {
		mark_attachment(r, a);
	}
	if (gateway_before) {
		list_remove(&gateway_before->attachments, a);
	}
	if (vpc_before) {
		list_remove(&vpc_before->attachments, a);
	}
	a->gateway = event->removed ? NULL : refer(r, OBJECT_GATEWAY, event->attachment.gateway_id);
	a->vpc = event->removed ? NULL : refer(r, OBJECT_VPC, event->attachment.vpc_id);
	a->order = event->removed ? 0 : event->attachment.order;
	a->propagation = event->removed ? ROUTE_PROPAGATE_NONE : event->attachment.propagation;
	set_list(r, &a->subnets, OBJECT_SUBNET, event->attachment.subnet_ids,
	         event->removed ? 0 : event->attachment.subnet_count);
	if (a->gateway && a->vpc) {
		list_add(&a->gateway->attachments, a);
		list_add(&a->vpc->attachments, a);
	}
	if (!small) {
		mark_attachment(r, a);
	}
	object_release(r, gateway_before ? &gateway_before->object : NULL);
	object_release(r, vpc_before ? &vpc_before->object : NULL);
	set_present(r, &a->object, event->removed);
	object_release(r, &a->object);
}
