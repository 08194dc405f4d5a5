// The small part of a VPC's namespace, which is planned anew as a whole when any of it changes: bridges, segments, nexthops,
// rules, and the VPC's own routes in every table: its subnets, and as unreachable what of its ranges is no subnet (the local
// route is always first, so it may not leave by a border gateway) and 169.254.0.0/16, the inside addresses of tunnels and the
// cloud's own services, which no VPC may reach.
#include "services/vrouter/model.h"

#include "common/base/alloc.h"
#include <stdlib.h>
#include <string.h>

static const struct prefix link_local = {.address = {.length = 4, .octets = {169, 254}}, .length = 16};

uint32_t nexthop_number(const struct vpc *vpc, const char *attachment_id, const char *node_id)
{
	char *text = format_text("%s/%s", attachment_id, node_id);
	uint32_t number = number_find(vpc, text, NEXTHOP_RANGE);
	free(text);
	return number;
}

static uint32_t make_nexthop_number(struct vpc *vpc, const char *attachment_id, const char *node_id)
{
	char *text = format_text("%s/%s", attachment_id, node_id);
	uint32_t number = number_of(vpc, text, NEXTHOP_RANGE);
	free(text);
	return number;
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static uint32_t ipv4_number(const struct address *address)
{
	struct reader r = reader_of(address_bytes(address));
	return read_u32(&r);
}

static void plan_segment(struct vrouter *vrouter, struct vpc *vpc, const char *id, const struct attachment *attachment)
{
	const struct node *host = map_find_text(vrouter->hosts, vrouter->host_id);
	const struct names *gateway = map_find_text(vrouter->gateways, attachment->gateway_id);
	if (!gateway) {
		return;
	}
	uint32_t members[VROUTER_MEMBERS_MAX];
	struct vrouter_item segment = {.kind = VROUTER_SEGMENT, .segment = {attachment->vni, host->fabric}, .members = members};
	strcpy(segment.device, id);
	for (size_t i = 0; i < gateway->count && segment.member_count < VROUTER_MEMBERS_MAX; i++) {
		const struct node *node = node_with_fabric(vrouter, gateway->items[i]);
		if (!node) {
			continue;
		}
		members[segment.member_count++] = ipv4_number(&node->fabric);
		struct vrouter_item nexthop = {.kind = VROUTER_NEXTHOP,
		                               .nexthop = {make_nexthop_number(vpc, id, gateway->items[i]), node->fabric}};
		strcpy(nexthop.device, id);
		want(vpc, &nexthop);
	}
	qsort(members, segment.member_count, sizeof members[0], compare_numbers);
	want(vpc, &segment);
}

static void plan_segments(struct vrouter *vrouter, struct vpc *vpc)
{
	const struct vrouter_item blackhole = {.kind = VROUTER_NEXTHOP, .nexthop.id = VROUTER_BLACKHOLE};
	want(vpc, &blackhole);
	struct map_cursor cursor = {0};
	while (map_next(vpc->attachments, &cursor)) {
		char id[VROUTER_DEVICE] = "";
		memcpy(id, cursor.key.data, cursor.key.length);
		plan_segment(vrouter, vpc, id, cursor.value);
	}
}

// The destination is the VPC's own in this table: on link at `device`, or unreachable.
static void fix(struct vpc *vpc, struct table *table, const struct prefix *prefix, const char *device)
{
	struct destination *destination = destination_of(vpc, table, prefix);
	if (destination->fixed && destination->fixed_in == vpc->plan && destination->device[0] != '\0') {
		return; // a subnet as large as its VPC stays a subnet
	}
	destination->fixed = true;
	destination->fixed_in = vpc->plan;
	memset(destination->device, 0, sizeof destination->device);
	strcpy(destination->device, device);
	map_insert(vpc->fixed, (struct bytes){(const uint8_t *)&destination, sizeof(void *)}, destination);
}

static void fix_table(struct vpc *vpc, struct table *table)
{
	struct map_cursor cursor = {0};
	while (map_next(vpc->subnets, &cursor)) {
		const struct subnet *subnet = cursor.value;
		char device[VROUTER_DEVICE] = "";
		memcpy(device, cursor.key.data, cursor.key.length);
		fix(vpc, table, &subnet->cidr, device);
	}
	for (size_t i = 0; i < vpc->block_count; i++) {
		fix(vpc, table, &vpc->blocks[i], "");
	}
	fix(vpc, table, &link_local, "");
}

static void plan_subnets(struct vpc *vpc)
{
	struct map_cursor cursor = {0};
	while (map_next(vpc->subnets, &cursor)) {
		const struct subnet *subnet = cursor.value;
		struct vrouter_item bridge = {.kind = VROUTER_BRIDGE, .bridge = {subnet->gateway, subnet->cidr.length}};
		memcpy(bridge.device, cursor.key.data, cursor.key.length);
		want(vpc, &bridge);
		struct vrouter_item rule = {.kind = VROUTER_RULE, .rule.table = subnet->table->number};
		memcpy(rule.device, cursor.key.data, cursor.key.length);
		want(vpc, &rule);
	}
	cursor = (struct map_cursor){0};
	while (map_next(vpc->tables, &cursor)) {
		struct table *table = cursor.value;
		if (table->present) {
			fix_table(vpc, table);
		}
	}
}

static void drop_unplanned(struct vpc *vpc)
{
	static const enum vrouter_kind planned[] = {VROUTER_BRIDGE, VROUTER_SEGMENT, VROUTER_NEXTHOP, VROUTER_RULE};
	for (size_t i = 0; i < sizeof planned / sizeof planned[0]; i++) {
		struct map_cursor cursor = {0};
		while (map_next(vpc->wanted[planned[i]], &cursor)) {
			if (!map_find(vpc->planned, cursor.key)) {
				const struct vrouter_item *item = cursor.value;
				if (item->kind == VROUTER_NEXTHOP) {
					number_forget(vpc, item->nexthop.id);
				}
				unwant(vpc, item);
			}
		}
	}
}

// What was fixed before and is no longer: rows may have the destination.
static void evaluate_fixed(struct vrouter *vrouter, struct vpc *vpc)
{
	struct map_cursor cursor = {0};
	while (map_next(vpc->fixed, &cursor)) {
		struct destination *destination = cursor.value;
		invariant(destination->fixed);
		if (destination->fixed_in != vpc->plan) {
			destination->fixed = false;
			map_remove(vpc->fixed, cursor.key);
		}
		destination_evaluate(vrouter, destination);
		destination_forget_if_empty(destination);
	}
}

// The numbers of nexthops go with them; those of groups go with the uses, those of tables with the tables.
static void forget_nexthops(struct vpc *vpc)
{
	struct map_cursor cursor = {0};
	while (map_next(vpc->wanted[VROUTER_NEXTHOP], &cursor)) {
		number_forget(vpc, ((const struct vrouter_item *)cursor.value)->nexthop.id);
	}
}

void structure_plan(struct vrouter *vrouter, struct vpc *vpc)
{
	const struct node *host = map_find_text(vrouter->hosts, vrouter->host_id);
	bool realised = vpc->present && strcmp(vpc->host_id, vrouter->host_id) == 0 && host && host->fabric.length == 4;
	bool begins = realised && !vpc->realised;
	vpc->structure_changed = false;
	vpc->plan++;
	if (!realised) {
		if (vpc->realised) {
			vpc->realised = false;
			pointers_remove(&vrouter->realised, vpc);
			forget_nexthops(vpc);
			uses_end(vpc);
			unwant_all(vpc);
		}
		evaluate_fixed(vrouter, vpc);
		return;
	}
	if (begins) {
		vpc->realised = true;
		pointers_add(&vrouter->realised, vpc);
	}
	vpc->planned = map_new(NULL);
	want(vpc, &(struct vrouter_item){.kind = VROUTER_NAMESPACE});
	plan_segments(vrouter, vpc);
	plan_subnets(vpc);
	drop_unplanned(vpc);
	map_free(&vpc->planned, NULL);
	evaluate_fixed(vrouter, vpc);
	uses_evaluate(vrouter, vpc);
	if (begins) {
		destinations_evaluate(vrouter, vpc);
	}
}
