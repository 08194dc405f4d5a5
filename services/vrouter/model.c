// The rows as they came in, and whom each change concerns. A row that says what the one before it said (another name, another
// description) changes nothing.
#include "services/vrouter/model.h"

#include "common/base/alloc.h"
#include <stdlib.h>
#include <string.h>

// ---- life ----

struct vrouter *vrouter_new(const char *host_id)
{
	struct vrouter *vrouter = allocate(sizeof *vrouter);
	*vrouter = (struct vrouter){
	    .host_id = duplicate_text(host_id),
	    .hosts = map_new(NULL),
	    .nodes = map_new(NULL),
	    .gateways = map_new(NULL),
	    .vpcs = map_new(NULL),
	    .subnets = map_new(NULL),
	    .tables = map_new(NULL),
	    .attachments = map_new(NULL),
	    .groups = map_new(NULL),
	    .routes = map_new(NULL),
	    .names = map_new(NULL),
	};
	return vrouter;
}

static void names_free(void *value)
{
	struct names *names = value;
	for (size_t i = 0; names && i < names->count; i++) {
		free(names->items[i]);
	}
	if (names) {
		free(names->items);
		free(names);
	}
}

// Each name once.
static struct names *names_copy(const char *const *items, size_t count)
{
	struct names *names = allocate(sizeof *names);
	names->items = allocate_array(count ? count : 1, sizeof *names->items);
	for (size_t i = 0; i < count; i++) {
		if (!has_name(names, items[i])) {
			names->items[names->count++] = duplicate_text(items[i]);
		}
	}
	return names;
}

static bool same_names(const struct names *a, const struct names *b)
{
	bool same = a && b ? a->count == b->count : !a && !b;
	for (size_t i = 0; same && a && i < a->count; i++) {
		same = strcmp(a->items[i], b->items[i]) == 0;
	}
	return same;
}

static void attachment_free(void *value)
{
	struct attachment *attachment = value;
	free(attachment->gateway_id);
	free(attachment);
}

void vrouter_free(struct vrouter **vrouter)
{
	struct vrouter *v = *vrouter;
	if (!v) {
		return;
	}
	map_free(&v->vpcs, vpc_free);
	map_free(&v->hosts, free);
	map_free(&v->nodes, free);
	map_free(&v->gateways, names_free);
	map_free(&v->subnets, free);
	map_free(&v->tables, NULL);
	map_free(&v->attachments, attachment_free);
	map_free(&v->groups, names_free);
	map_free(&v->routes, free);
	map_free(&v->names, free);
	pointers_fini(&v->queue);
	pointers_fini(&v->realised);
	free(v->host_id);
	free(v);
	*vrouter = NULL;
}

// ---- whom a change concerns ----

static void vpc_changed(struct vpc *vpc)
{
	vpc->structure_changed = true;
	vpc_touch(vpc);
}

// VPCs with an attachment to a border gateway of this id (NULL: to any) that has this node (NULL: any).
static void attached_changed(struct vrouter *vrouter, const char *gateway_id, const char *node_id)
{
	struct map_cursor cursor = {0};
	while (map_next(vrouter->attachments, &cursor)) {
		const struct attachment *attachment = cursor.value;
		const struct names *nodes = map_find_text(vrouter->gateways, attachment->gateway_id);
		if ((!gateway_id || strcmp(attachment->gateway_id, gateway_id) == 0) &&
		    (!node_id || (nodes && has_name(nodes, node_id)))) {
			vpc_changed(attachment->vpc);
		}
	}
}

// ---- rows ----

// Is it another one than before?
static bool set_fabric(struct map *map, const char *id, const struct address *fabric)
{
	struct node *node = map_find_text(map, id);
	struct address before = node ? node->fabric : (struct address){0};
	if (!node) {
		node = allocate(sizeof *node);
		map_insert_text(map, id, node);
	}
	node->fabric = fabric ? *fabric : (struct address){0};
	return !address_equal(&before, &node->fabric);
}

void vrouter_set_host(struct vrouter *vrouter, const char *id, const struct address *fabric)
{
	if (set_fabric(vrouter->hosts, id, fabric) && strcmp(id, vrouter->host_id) == 0) {
		struct map_cursor cursor = {0};
		while (map_next(vrouter->vpcs, &cursor)) {
			vpc_changed(cursor.value);
		}
	}
}

void vrouter_set_node(struct vrouter *vrouter, const char *id, const struct address *fabric)
{
	if (set_fabric(vrouter->nodes, id, fabric)) {
		attached_changed(vrouter, NULL, id);
	}
	if (!fabric) {
		free(map_remove_text(vrouter->nodes, id));
	}
}

const struct node *node_with_fabric(const struct vrouter *vrouter, const char *id)
{
	const struct node *node = map_find_text(vrouter->nodes, id);
	return node && node->fabric.length == 4 ? node : NULL;
}

void vrouter_set_node_gone(struct vrouter *vrouter, const char *id, bool gone)
{
	struct node *node = map_find_text(vrouter->nodes, id);
	if (!node || node->gone == gone) {
		return;
	}
	node->gone = gone;
	for (size_t i = 0; i < vrouter->realised.count; i++) {
		uses_evaluate(vrouter, vrouter->realised.items[i]);
	}
}

void vrouter_set_gateway(struct vrouter *vrouter, const char *id, const struct vrouter_gateway *gateway)
{
	struct names *names = gateway ? names_copy(gateway->node_ids, gateway->node_count) : NULL;
	if (same_names(map_find_text(vrouter->gateways, id), names)) {
		names_free(names);
		return;
	}
	names_free(names ? map_insert_text(vrouter->gateways, id, names) : map_remove_text(vrouter->gateways, id));
	attached_changed(vrouter, id, NULL);
}

static bool same_vpc(const struct vpc *vpc, const struct vrouter_vpc *row)
{
	bool same = row && vpc->present && strcmp(vpc->host_id, row->host_id) == 0 && vpc->block_count == row->block_count;
	for (size_t i = 0; same && i < vpc->block_count; i++) {
		same = prefix_equal(&vpc->blocks[i], &row->blocks[i]);
	}
	return same;
}

void vrouter_set_vpc(struct vrouter *vrouter, const char *id, const struct vrouter_vpc *row)
{
	struct vpc *vpc = vpc_of(vrouter, id);
	if (same_vpc(vpc, row)) {
		return;
	}
	free(vpc->host_id);
	free(vpc->blocks);
	vpc->present = row != NULL;
	vpc->host_id = row ? duplicate_text(row->host_id) : NULL;
	vpc->block_count = row ? row->block_count : 0;
	vpc->blocks = allocate_array(vpc->block_count ? vpc->block_count : 1, sizeof *vpc->blocks);
	for (size_t i = 0; i < vpc->block_count; i++) {
		vpc->blocks[i] = row->blocks[i];
	}
	vpc_changed(vpc);
}

static void subnet_remove(struct vrouter *vrouter, const char *id)
{
	struct subnet *subnet = map_remove_text(vrouter->subnets, id);
	if (subnet) {
		map_remove_text(subnet->vpc->subnets, id);
		vpc_changed(subnet->vpc);
		table_release(subnet->vpc, subnet->table);
		free(subnet);
	}
}

void vrouter_set_subnet(struct vrouter *vrouter, const char *id, const struct vrouter_subnet *row)
{
	const struct subnet *old = map_find_text(vrouter->subnets, id);
	if (old && row && strcmp(old->vpc->id, row->vpc_id) == 0 && strcmp(old->table->id, row->table_id) == 0 &&
	    prefix_equal(&old->cidr, &row->cidr) && address_equal(&old->gateway, &row->gateway)) {
		return;
	}
	subnet_remove(vrouter, id);
	if (row && strlen(id) < VROUTER_DEVICE) {
		struct vpc *vpc = vpc_of(vrouter, row->vpc_id);
		struct subnet *subnet = allocate(sizeof *subnet);
		*subnet = (struct subnet){
		    .vpc = vpc, .table = table_hold(vpc, row->table_id), .cidr = row->cidr, .gateway = row->gateway};
		map_insert_text(vrouter->subnets, id, subnet);
		map_insert_text(vpc->subnets, id, subnet);
		vpc_changed(vpc);
	}
}

void vrouter_set_table(struct vrouter *vrouter, const char *id, const char *vpc_id)
{
	struct vpc *old = map_find_text(vrouter->tables, id); // of whose VPC it is
	if (old && vpc_id && strcmp(old->id, vpc_id) == 0) {
		return;
	}
	if (old) {
		struct table *table = map_find_text(old->tables, id);
		invariant(table && table->present);
		map_remove_text(vrouter->tables, id);
		table->present = false;
		vpc_changed(old);
		table_release(old, table);
	}
	if (vpc_id) {
		struct vpc *vpc = vpc_of(vrouter, vpc_id);
		table_hold(vpc, id)->present = true;
		map_insert_text(vrouter->tables, id, vpc);
		vpc_changed(vpc);
	}
}

void vrouter_set_attachment(struct vrouter *vrouter, const char *id, const struct vrouter_attachment *row)
{
	struct attachment *old = map_find_text(vrouter->attachments, id);
	if (old && row && strcmp(old->vpc->id, row->vpc_id) == 0 && strcmp(old->gateway_id, row->gateway_id) == 0 &&
	    old->vni == row->vni) {
		return;
	}
	if (old) {
		map_remove_text(vrouter->attachments, id);
		map_remove_text(old->vpc->attachments, id);
		vpc_changed(old->vpc);
		attachment_free(old);
	}
	if (row && strlen(id) < VROUTER_DEVICE) {
		struct vpc *vpc = vpc_of(vrouter, row->vpc_id);
		struct attachment *attachment = allocate(sizeof *attachment);
		*attachment = (struct attachment){.vpc = vpc, .gateway_id = duplicate_text(row->gateway_id), .vni = row->vni};
		map_insert_text(vrouter->attachments, id, attachment);
		map_insert_text(vpc->attachments, id, attachment);
		vpc_changed(vpc);
		destinations_wake(vrouter, vpc, "attachment", id);
	}
}

// The fast path: a tunnel that fails is one changed row here, and one changed object in the kernel for each attachment with
// routes through it.
void vrouter_set_group(struct vrouter *vrouter, const char *id, const struct vrouter_group *row)
{
	struct names *names = row ? names_copy(row->node_ids, row->node_count) : NULL;
	struct names *old = names ? map_insert_text(vrouter->groups, id, names) : map_remove_text(vrouter->groups, id);
	for (size_t i = 0; i < vrouter->realised.count; i++) {
		struct vpc *vpc = vrouter->realised.items[i];
		invariant(vpc->realised);
		uses_of_group_evaluate(vrouter, vpc, id);
		if (!old && names) {
			destinations_wake(vrouter, vpc, "group", id);
		}
	}
	names_free(old);
}

// ---- routes ----

static void row_free(struct vrouter *vrouter, struct route_row *row)
{
	name_release(vrouter, row->attachment);
	name_release(vrouter, row->group);
	free(row);
}

static void row_leave(struct vrouter *vrouter, struct route_row *row)
{
	struct destination *destination = row->destination;
	vpc_touch(destination->vpc);
	destination_remove_row(destination, row);
	destination_evaluate(vrouter, destination);
	destination_forget_if_empty(destination);
	row_free(vrouter, row);
}

void vrouter_set_route(struct vrouter *vrouter, const char *key, const struct vrouter_route *route)
{
	if (!route) {
		struct route_row *gone = map_remove_text(vrouter->routes, key);
		if (gone) {
			row_leave(vrouter, gone);
		}
		return;
	}
	struct vpc *vpc = vpc_of(vrouter, route->vpc_id);
	struct table *table = table_hold(vpc, route->table_id);
	struct destination *destination = destination_of(vpc, table, &route->destination);
	table_release(vpc, table); // the destination holds it
	struct route_row *row = allocate(sizeof *row);
	*row = (struct route_row){.destination = destination,
	                          .attachment = name_hold(vrouter, route->attachment_id),
	                          .group = name_hold(vrouter, route->group_id),
	                          .is_static = route->is_static,
	                          .metric = route->metric};
	struct route_row *old = map_insert_text(vrouter->routes, key, row);
	destination_add_row(destination, row);
	if (old && old->destination == destination) { // under one key always the same place
		destination_remove_row(destination, old);
		row_free(vrouter, old);
	} else if (old) { // were it not so, the old place is evaluated too
		row_leave(vrouter, old);
	}
	vpc_touch(vpc);
	destination_evaluate(vrouter, destination);
}
