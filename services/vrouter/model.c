// The rows as they came in, and whom each change concerns.
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

bool has_name(const struct names *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++) {
		if (strcmp(names->items[i], name) == 0) {
			return true;
		}
	}
	return false;
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

static void subnet_free(void *value)
{
	struct subnet *subnet = value;
	if (subnet) {
		free(subnet->vpc_id);
		free(subnet->table_id);
		free(subnet);
	}
}

static void attachment_free(void *value)
{
	struct attachment *attachment = value;
	if (attachment) {
		free(attachment->vpc_id);
		free(attachment->gateway_id);
		free(attachment);
	}
}

static void route_row_free(void *value)
{
	struct route_row *row = value;
	if (row) {
		free(row->vpc_id);
		free(row->table_id);
		free(row->attachment_id);
		free(row->group_id);
		free(row->key);
		free(row);
	}
}

struct vpc *vpc_of(struct vrouter *vrouter, const char *id)
{
	struct vpc *vpc = map_find_text(vrouter->vpcs, id);
	if (vpc) {
		return vpc;
	}
	vpc = allocate(sizeof *vpc);
	*vpc = (struct vpc){
	    .id = duplicate_text(id),
	    .unread = true,
	    .destinations = map_new(NULL),
	    .fixed = map_new(NULL),
	    .uses = map_new(NULL),
	    .numbers = map_new(NULL),
	    .numbers_used = map_new(NULL),
	};
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		vpc->wanted[kind] = map_new(NULL);
		vpc->have[kind] = map_new(NULL);
		vpc->changed[kind] = map_new(NULL);
	}
	map_insert_text(vrouter->vpcs, id, vpc);
	return vpc;
}

bool vpc_is_empty(const struct vpc *vpc)
{
	bool empty = !vpc->present && map_count(vpc->destinations) == 0;
	for (int kind = 0; empty && kind < VROUTER_KIND_COUNT; kind++) {
		empty = map_count(vpc->wanted[kind]) == 0 && map_count(vpc->have[kind]) == 0;
	}
	return empty;
}

void vpc_free(void *value)
{
	struct vpc *vpc = value;
	map_free(&vpc->destinations, destination_free);
	map_free(&vpc->fixed, NULL);
	map_free(&vpc->uses, use_free);
	map_free(&vpc->numbers, NULL);
	map_free(&vpc->numbers_used, NULL);
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
	map_free(&v->subnets, subnet_free);
	map_free(&v->tables, free);
	map_free(&v->attachments, attachment_free);
	map_free(&v->groups, names_free);
	map_free(&v->routes, route_row_free);
	free(v->host_id);
	free(v);
	*vrouter = NULL;
}

// ---- whom a change concerns ----

static void all_changed(struct vrouter *vrouter)
{
	struct map_cursor cursor = {0};
	while (map_next(vrouter->vpcs, &cursor)) {
		((struct vpc *)cursor.value)->structure_changed = true;
	}
}

// A row of a VPC that is not known (yet, or any more) changes nothing: when the VPC comes, all of it is planned.
static void vpc_changed(struct vrouter *vrouter, const char *vpc_id)
{
	struct vpc *vpc = map_find_text(vrouter->vpcs, vpc_id);
	if (vpc) {
		vpc->structure_changed = true;
	}
}

// ---- rows ----

static void set_fabric(struct map *map, const char *id, const struct address *fabric)
{
	struct node *node = map_find_text(map, id);
	if (!node) {
		node = allocate(sizeof *node);
		map_insert_text(map, id, node);
	}
	node->fabric = fabric ? *fabric : (struct address){0};
}

void vrouter_set_host(struct vrouter *vrouter, const char *id, const struct address *fabric)
{
	set_fabric(vrouter->hosts, id, fabric);
	if (strcmp(id, vrouter->host_id) == 0) {
		all_changed(vrouter);
	}
}

void vrouter_set_node(struct vrouter *vrouter, const char *id, const struct address *fabric)
{
	set_fabric(vrouter->nodes, id, fabric);
	all_changed(vrouter);
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
	struct map_cursor cursor = {0};
	while (map_next(vrouter->vpcs, &cursor)) {
		uses_evaluate(vrouter, cursor.value, "");
	}
}

void vrouter_set_gateway(struct vrouter *vrouter, const char *id, const struct vrouter_gateway *gateway)
{
	names_free(gateway ? map_insert_text(vrouter->gateways, id, names_copy(gateway->node_ids, gateway->node_count))
	                   : map_remove_text(vrouter->gateways, id));
	all_changed(vrouter);
}

void vrouter_set_vpc(struct vrouter *vrouter, const char *id, const struct vrouter_vpc *row)
{
	struct vpc *vpc = vpc_of(vrouter, id);
	free(vpc->host_id);
	free(vpc->blocks);
	vpc->present = row != NULL;
	vpc->host_id = row ? duplicate_text(row->host_id) : NULL;
	vpc->block_count = row ? row->block_count : 0;
	vpc->blocks = allocate_array(vpc->block_count ? vpc->block_count : 1, sizeof *vpc->blocks);
	for (size_t i = 0; i < vpc->block_count; i++) {
		vpc->blocks[i] = row->blocks[i];
	}
	vpc->structure_changed = true;
}

void vrouter_set_subnet(struct vrouter *vrouter, const char *id, const struct vrouter_subnet *row)
{
	struct subnet *old = map_remove_text(vrouter->subnets, id);
	if (old) {
		vpc_changed(vrouter, old->vpc_id);
		subnet_free(old);
	}
	if (row && strlen(id) < VROUTER_DEVICE) {
		struct subnet *subnet = allocate(sizeof *subnet);
		*subnet = (struct subnet){.vpc_id = duplicate_text(row->vpc_id),
		                          .table_id = duplicate_text(row->table_id),
		                          .cidr = row->cidr,
		                          .gateway = row->gateway};
		map_insert_text(vrouter->subnets, id, subnet);
		vpc_changed(vrouter, row->vpc_id);
	}
}

void vrouter_set_table(struct vrouter *vrouter, const char *id, const char *vpc_id)
{
	char *old = map_remove_text(vrouter->tables, id);
	if (old) {
		vpc_changed(vrouter, old);
		free(old);
	}
	if (vpc_id) {
		map_insert_text(vrouter->tables, id, duplicate_text(vpc_id));
		vpc_changed(vrouter, vpc_id);
	}
}

void vrouter_set_attachment(struct vrouter *vrouter, const char *id, const struct vrouter_attachment *row)
{
	struct attachment *old = map_remove_text(vrouter->attachments, id);
	if (old) {
		vpc_changed(vrouter, old->vpc_id);
		attachment_free(old);
	}
	if (row && strlen(id) < VROUTER_DEVICE) {
		struct attachment *attachment = allocate(sizeof *attachment);
		*attachment = (struct attachment){
		    .vpc_id = duplicate_text(row->vpc_id), .gateway_id = duplicate_text(row->gateway_id), .vni = row->vni};
		map_insert_text(vrouter->attachments, id, attachment);
		struct vpc *vpc = vpc_of(vrouter, row->vpc_id);
		vpc->structure_changed = vpc->attachments_changed = true;
	}
}

// The fast path: a tunnel that fails is one changed row here, and one changed object in the kernel for each attachment with
// routes through it.
void vrouter_set_group(struct vrouter *vrouter, const char *id, const struct vrouter_group *row)
{
	struct names *names = row ? names_copy(row->node_ids, row->node_count) : NULL;
	struct names *old = names ? map_insert_text(vrouter->groups, id, names) : map_remove_text(vrouter->groups, id);
	struct map_cursor cursor = {0};
	while (map_next(vrouter->vpcs, &cursor)) {
		uses_evaluate(vrouter, cursor.value, id);
		if (!old && names) {
			destinations_evaluate(vrouter, cursor.value, id);
		}
	}
	names_free(old);
}

static void remove_route(struct vrouter *vrouter, const char *key)
{
	struct route_row *row = map_remove_text(vrouter->routes, key);
	if (!row) {
		return;
	}
	struct vpc *vpc = vpc_of(vrouter, row->vpc_id);
	struct destination *destination = destination_of(vpc, row->table_id, &row->destination);
	destination_remove_row(destination, row);
	destination_evaluate(vrouter, vpc, destination);
	destination_forget_if_empty(vpc, destination);
	route_row_free(row);
}

void vrouter_set_route(struct vrouter *vrouter, const char *key, const struct vrouter_route *route)
{
	if (!route) {
		remove_route(vrouter, key);
		return;
	}
	struct route_row *row = allocate(sizeof *row);
	*row = (struct route_row){.key = duplicate_text(key),
	                          .vpc_id = duplicate_text(route->vpc_id),
	                          .table_id = duplicate_text(route->table_id),
	                          .attachment_id = duplicate_text(route->attachment_id),
	                          .group_id = duplicate_text(route->group_id),
	                          .destination = route->destination,
	                          .is_static = route->is_static,
	                          .metric = route->metric};
	struct route_row *old = map_insert_text(vrouter->routes, key, row);
	struct vpc *vpc = vpc_of(vrouter, row->vpc_id);
	struct destination *destination = destination_of(vpc, row->table_id, &row->destination);
	destination_add_row(destination, row);
	if (old) {
		// Under one key always the same place; were it not so, the old place is evaluated too.
		struct vpc *old_vpc = vpc_of(vrouter, old->vpc_id);
		struct destination *old_destination = destination_of(old_vpc, old->table_id, &old->destination);
		destination_remove_row(old_destination, old);
		if (old_destination != destination) {
			destination_evaluate(vrouter, old_vpc, old_destination);
			destination_forget_if_empty(old_vpc, old_destination);
		}
		route_row_free(old);
	}
	destination_evaluate(vrouter, vpc, destination);
}
