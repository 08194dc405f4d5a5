// See allocate.h. All but the ids and the VXLAN identifiers is the same for the same rows.
#include "services/resource/allocate.h"

#include <stdio.h>
#include <string.h>

#include "common/base/map.h"
#include "services/resource/format.h"

void random_base32(struct random *random, char *out, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		out[i] = "abcdefghijklmnopqrstuvwxyz234567"[random_below(random, 32)];
	}
	out[length] = '\0';
}

char *allocate_id(const struct draft *draft, enum resource_kind kind, char out[static 32])
{
	do {
		char tail[11];
		random_base32(draft->request->random, tail, 10);
		snprintf(out, 32, "%s-%s", kind_rules[kind].id_prefix, tail);
	} while (draft_find(draft, kind, out));
	return out;
}

static bool lists(const struct record *row, const char *path, const char *text)
{
	for (size_t i = 0, count = record_count(row, path); i < count; i++) {
		if (strcmp(record_text_at(row, path, i), text) == 0) {
			return true;
		}
	}
	return false;
}

static size_t gateways_on(const struct draft *draft, const char *node)
{
	size_t count = 0;
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_BORDER_GATEWAY, &c);) {
		count += lists(c.row, "nodeIds", node);
	}
	return count;
}

bool allocate_nodes(const struct draft *draft, struct record *border_gateway)
{
	bool changed = false;
	while (record_count(border_gateway, "nodeIds") < 2) {
		const char *best = NULL;
		size_t fewest = 0;
		for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_NODE, &c);) {
			const char *id = record_text(c.row, "id");
			size_t load = gateways_on(draft, id);
			bool better = !best || load < fewest || (load == fewest && strcmp(id, best) < 0);
			if (!lists(border_gateway, "nodeIds", id) && better) {
				best = id;
				fewest = load;
			}
		}
		if (!best) {
			break;
		}
		record_append_text(border_gateway, "nodeIds", best);
		changed = true;
	}
	return changed;
}

void allocate_host(const struct draft *draft, struct record *vpc)
{
	const char *best = NULL;
	size_t fewest = 0;
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_VPC_HOST, &c);) {
		const char *id = record_text(c.row, "id");
		size_t load = draft_count(draft, RESOURCE_VPC, "vpcHostId", id);
		if (!best || load < fewest || (load == fewest && strcmp(id, best) < 0)) {
			best = id;
			fewest = load;
		}
	}
	if (best) {
		record_set_text(vpc, "vpcHostId", best);
	}
}

const struct record *cloud_address_user(const struct draft *draft, const char *address)
{
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_VPN_CONNECTION, &c);) {
		for (size_t i = 0, count = record_count(c.row, "cloudAddresses"); i < count; i++) {
			if (record_is(record_at(c.row, "cloudAddresses", i), "address", address)) {
				return c.row;
			}
		}
	}
	return NULL;
}

// The node's first address that no connection has, and how many are taken.
static const char *free_address(const struct map *used, const struct record *node, size_t *taken)
{
	const char *first = NULL;
	*taken = 0;
	for (size_t i = 0, count = record_count(node, "publicAddresses"); i < count; i++) {
		const char *address = record_text_at(node, "publicAddresses", i);
		if (map_find_text(used, address)) {
			++*taken;
		} else if (!first) {
			first = address;
		}
	}
	return first;
}

// The addresses that connections have.
static struct map *used_addresses(const struct draft *draft)
{
	struct map *used = map_new(NULL);
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_VPN_CONNECTION, &c);) {
		for (size_t i = 0, count = record_count(c.row, "cloudAddresses"); i < count; i++) {
			map_insert_text(used, record_text(record_at(c.row, "cloudAddresses", i), "address"), used);
		}
	}
	return used;
}

struct choice {
	const char *node, *address; // NULL: none yet
	size_t taken;
	bool own; // one of the border gateway's nodes
};

static bool is_better(const struct choice *a, const struct choice *b)
{
	if (!b->node || a->own != b->own) {
		return !b->node || a->own;
	}
	return a->taken != b->taken ? a->taken < b->taken : strcmp(a->node, b->node) < 0;
}

static struct choice choose(const struct draft *draft, const struct map *used, const struct record *border_gateway,
                            const char *not_node)
{
	struct choice best = {0};
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_NODE, &c);) {
		const char *id = record_text(c.row, "id");
		struct choice choice = {.node = id, .own = lists(border_gateway, "nodeIds", id)};
		choice.address = free_address(used, c.row, &choice.taken);
		if (choice.address && strcmp(id, not_node) != 0 && is_better(&choice, &best)) {
			best = choice;
		}
	}
	return best;
}

bool allocate_cloud_addresses(struct draft *draft, const struct record *border_gateway, struct record *connection)
{
	struct map *used = used_addresses(draft);
	const char *chosen = ""; // the node of the first address
	while (chosen && record_count(connection, "cloudAddresses") < 2) {
		struct choice choice = choose(draft, used, border_gateway, chosen);
		if (choice.node) {
			struct record *item = record_append(connection, "cloudAddresses");
			record_set_text(item, "address", choice.address);
			record_set_text(item, "nodeId", choice.node);
		}
		chosen = choice.node;
	}
	map_free(&used, NULL);
	return chosen || refuse(draft, 409, "no-free-address", "cloudAddresses", NULL,
	                        "a VPN connection needs a free address on each of two nodes, and the region has none left");
}

const char *inside_taken(const struct draft *draft, const char *border_gateway_id, const struct prefix *inside,
                         const char *except)
{
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_VPN_TUNNEL, &c);) {
		struct prefix other;
		if (record_is(c.row, "borderGatewayId", border_gateway_id) && !record_is(c.row, "id", except) &&
		    prefix_parse(record_text(c.row, "insideCidr"), &other) && prefix_overlaps(&other, inside)) {
			return record_text(c.row, "id");
		}
	}
	return NULL;
}

// A /30 of 169.254.0.0/16 by its number.
enum { INSIDE_PREFIXES = 1 << 14, INSIDE_FIRST = 6 * 64 };

bool allocate_inside(const struct draft *draft, const char *border_gateway_id, struct prefix *out)
{
	uint8_t taken[INSIDE_PREFIXES / 8] = {0};
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_VPN_TUNNEL, &c);) {
		struct prefix other;
		if (record_is(c.row, "borderGatewayId", border_gateway_id) &&
		    prefix_parse(record_text(c.row, "insideCidr"), &other)) {
			unsigned number = (other.address.octets[2] << 6 | other.address.octets[3] >> 2) & (INSIDE_PREFIXES - 1);
			taken[number / 8] |= (uint8_t)(1u << number % 8);
		}
	}
	// From 169.254.6.0 on, so that what is allocated stays away from what clouds reserve; then from the start.
	for (unsigned i = 0; i < INSIDE_PREFIXES; i++) {
		unsigned number = (INSIDE_FIRST + i) % INSIDE_PREFIXES;
		*out =
		    (struct prefix){.address = {4, {169, 254, (uint8_t)(number >> 6), (uint8_t)(number << 2)}}, .length = 30};
		if (!(taken[number / 8] & 1u << number % 8) && !inside_is_reserved(out)) {
			return true;
		}
	}
	return false;
}

// At random among 12 million: one that was just given up is not given out at once, while frames of its segment may be on their
// way.
uint32_t allocate_vni(const struct draft *draft)
{
	for (;;) {
		uint32_t vni = (1u << 22) + random_below(draft->request->random, 3u << 22);
		bool taken = false;
		for (struct draft_cursor c = {0}; !taken && draft_next(draft, RESOURCE_VPC_ATTACHMENT, &c);) {
			taken = record_number(c.row, "vni") == vni;
		}
		if (!taken) {
			return vni;
		}
	}
}

uint64_t allocate_order(const struct draft *draft)
{
	uint64_t highest = 0;
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_VPC_ATTACHMENT, &c);) {
		uint64_t order = record_number(c.row, "order");
		highest = order > highest ? order : highest;
	}
	return highest + 1;
}
