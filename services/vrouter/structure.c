// The small part of a VPC's namespace, which is planned anew as a whole when any of it changes: bridges, segments, nexthops,
// rules, and the VPC's own routes in every table: its subnets, and as unreachable what of its ranges is no subnet (the local
// route is always first, so it may not leave by a border gateway) and 169.254.0.0/16, the inside addresses of tunnels and the
// cloud's own services, which no VPC may reach.
#include "services/vrouter/model.h"

#include <stdlib.h>
#include <string.h>

static const struct prefix link_local = {.address = {.length = 4, .octets = {169, 254}}, .length = 16};

uint32_t nexthop_number(struct vpc *vpc, const char *attachment_id, const char *node_id)
{
	return number_of(vpc, attachment_id, node_id, NEXTHOP_RANGE);
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
		                               .nexthop = {nexthop_number(vpc, id, gateway->items[i]), node->fabric}};
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
	while (map_next(vrouter->attachments, &cursor)) {
		const struct attachment *attachment = cursor.value;
		char id[VROUTER_DEVICE] = "";
		if (strcmp(attachment->vpc_id, vpc->id) == 0) {
			memcpy(id, cursor.key.data, cursor.key.length);
			plan_segment(vrouter, vpc, id, attachment);
		}
	}
}

// The destination is the VPC's own in this table: on link at `device`, or unreachable.
static void fix(struct vpc *vpc, const char *table_id, const struct prefix *prefix, const char *device)
{
	struct destination *destination = destination_of(vpc, table_id, prefix);
	if (destination->fixed && destination->fixed_in == vpc->plan && destination->device[0] != '\0') {
		return; // a subnet as large as its VPC stays a subnet
	}
	destination->fixed = true;
	destination->fixed_in = vpc->plan;
	memset(destination->device, 0, sizeof destination->device);
	strcpy(destination->device, device);
	map_insert(vpc->fixed, (struct bytes){(const uint8_t *)&destination, sizeof(void *)}, destination);
}

static void fix_table(const struct vrouter *vrouter, struct vpc *vpc, const char *table_id)
{
	struct map_cursor cursor = {0};
	while (map_next(vrouter->subnets, &cursor)) {
		const struct subnet *subnet = cursor.value;
		if (strcmp(subnet->vpc_id, vpc->id) == 0) {
			char device[VROUTER_DEVICE] = "";
			memcpy(device, cursor.key.data, cursor.key.length);
			fix(vpc, table_id, &subnet->cidr, device);
		}
	}
	for (size_t i = 0; i < vpc->block_count; i++) {
		fix(vpc, table_id, &vpc->blocks[i], "");
	}
	fix(vpc, table_id, &link_local, "");
}

static void plan_subnets(const struct vrouter *vrouter, struct vpc *vpc)
{
	struct map_cursor cursor = {0};
	while (map_next(vrouter->subnets, &cursor)) {
		const struct subnet *subnet = cursor.value;
		if (strcmp(subnet->vpc_id, vpc->id) != 0) {
			continue;
		}
		struct vrouter_item bridge = {.kind = VROUTER_BRIDGE, .bridge = {subnet->gateway, subnet->cidr.length}};
		memcpy(bridge.device, cursor.key.data, cursor.key.length);
		want(vpc, &bridge);
		struct vrouter_item rule = {.kind = VROUTER_RULE,
		                            .rule.table = number_of(vpc, subnet->table_id, "", TABLE_RANGE)};
		memcpy(rule.device, cursor.key.data, cursor.key.length);
		want(vpc, &rule);
	}
	cursor = (struct map_cursor){0};
	while (map_next(vrouter->tables, &cursor)) {
		if (strcmp(cursor.value, vpc->id) == 0) {
			char table_id[64] = "";
			if (cursor.key.length < sizeof table_id) {
				memcpy(table_id, cursor.key.data, cursor.key.length);
				fix_table(vrouter, vpc, table_id);
			}
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
				unwant(vpc, cursor.value);
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
		if (destination->fixed_in != vpc->plan) {
			destination->fixed = false;
			map_remove(vpc->fixed, cursor.key);
		}
		destination_evaluate(vrouter, vpc, destination);
		destination_forget_if_empty(vpc, destination);
	}
}

static void end_uses(struct vpc *vpc)
{
	struct map_cursor cursor = {0};
	while (map_next(vpc->destinations, &cursor)) {
		((struct destination *)cursor.value)->use = NULL;
	}
	map_free(&vpc->uses, use_free);
	vpc->uses = map_new(NULL);
}

void structure_plan(struct vrouter *vrouter, struct vpc *vpc)
{
	const struct node *host = map_find_text(vrouter->hosts, vrouter->host_id);
	bool realised = vpc->present && strcmp(vpc->host_id, vrouter->host_id) == 0 && host && host->fabric.length == 4;
	bool all = vpc->attachments_changed || (realised && !vpc->realised);
	vpc->structure_changed = vpc->attachments_changed = false;
	vpc->plan++;
	if (!realised) {
		vpc->realised = false;
		unwant_all(vpc);
		end_uses(vpc);
		evaluate_fixed(vrouter, vpc);
		return;
	}
	vpc->realised = true;
	vpc->planned = map_new(NULL);
	want(vpc, &(struct vrouter_item){.kind = VROUTER_NAMESPACE});
	plan_segments(vrouter, vpc);
	plan_subnets(vrouter, vpc);
	drop_unplanned(vpc);
	map_free(&vpc->planned, NULL);
	evaluate_fixed(vrouter, vpc);
	uses_evaluate(vrouter, vpc, NULL);
	if (all) {
		destinations_evaluate(vrouter, vpc, NULL);
	}
}
