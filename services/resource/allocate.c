// See allocate.h. All but the ids and the VXLAN identifiers is the same for the same rows.
#include "services/resource/allocate.h"

#include <stdio.h>
#include <string.h>

#include "common/base/invariant.h"
#include "services/resource/format.h"
#include "services/resource/store.h"

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
	return draft_count(draft, RESOURCE_BORDER_GATEWAY, "nodeIds", node);
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
	return draft_other(draft, (struct index_key){RESOURCE_VPN_CONNECTION, "cloudAddresses.address", address}, "");
}

// The node's first address that no connection has; NULL: all are taken.
static const char *free_address(const struct draft *draft, const struct record *node)
{
	for (size_t i = 0, count = record_count(node, "publicAddresses"); i < count; i++) {
		const char *address = record_text_at(node, "publicAddresses", i);
		if (!cloud_address_user(draft, address)) {
			return address;
		}
	}
	return NULL;
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

static struct choice choose(const struct draft *draft, const struct record *border_gateway, const char *not_node)
{
	struct choice best = {0};
	for (struct draft_cursor c = {0}; draft_next(draft, RESOURCE_NODE, &c);) {
		const char *id = record_text(c.row, "id");
		struct choice choice = {.node = id,
		                        .own = lists(border_gateway, "nodeIds", id),
		                        .taken = draft_count(draft, RESOURCE_VPN_CONNECTION, "cloudAddresses.nodeId", id)};
		bool room = choice.taken < record_count(c.row, "publicAddresses");
		if (room && strcmp(id, not_node) != 0 && is_better(&choice, &best)) {
			choice.address = free_address(draft, c.row);
			best = choice.address ? choice : best;
		}
	}
	return best;
}

bool allocate_cloud_addresses(struct draft *draft, const struct record *border_gateway, struct record *connection)
{
	const char *chosen = ""; // the node of the first address
	while (chosen && record_count(connection, "cloudAddresses") < 2) {
		struct choice choice = choose(draft, border_gateway, chosen);
		if (choice.node) {
			invariant(!cloud_address_user(draft, choice.address) && strcmp(choice.node, chosen) != 0);
			struct record *item = record_append(connection, "cloudAddresses");
			record_set_text(item, "address", choice.address);
			record_set_text(item, "nodeId", choice.node);
		}
		chosen = choice.node;
	}
	return chosen || refuse(draft, 409, "no-free-address", "cloudAddresses", NULL,
	                        "a VPN connection needs a free address on each of two nodes, and the region has none left; "
	                        "have the operator add addresses to two nodes' publicAddresses");
}

const char *inside_taken(const struct draft *draft, const char *border_gateway_id, const char *inside, const char *except)
{
	// All are /30 without host bits: they overlap when they are the same.
	char pair[INDEX_PAIR];
	struct index_key key = {RESOURCE_VPN_TUNNEL, "borderGatewayId+insideCidr", index_pair(border_gateway_id, inside, pair)};
	const struct record *other = draft_other(draft, key, except);
	return other ? record_text(other, "id") : NULL;
}

static bool has_inside(const struct change *change, const struct record *row, const char *border_gateway_id, unsigned number)
{
	return row && change->kind == RESOURCE_VPN_TUNNEL && record_is(row, "borderGatewayId", border_gateway_id) &&
	       inside_number(record_text(row, "insideCidr")) == number;
}

// Taken by a tunnel of the store, or of this plan.
static bool is_taken(const struct draft *draft, const struct inside_use *use, const char *border_gateway_id, unsigned number)
{
	bool taken = use && use->taken[number / 64] >> number % 64 & 1;
	for (size_t i = 0; i < draft->plan->count; i++) {
		const struct change *change = &draft->plan->changes[i];
		if (has_inside(change, change->after, border_gateway_id, number)) {
			return true;
		}
		taken = taken && !has_inside(change, change->before, border_gateway_id, number); // given up
	}
	return taken;
}

// The first /30 that is allocated, by number; the ones before it are what clouds reserve, and come last.
enum { INSIDE_FIRST = 6 * 64 };

bool allocate_inside(const struct draft *draft, const char *border_gateway_id, struct prefix *out)
{
	const struct inside_use *use = inside_use_of(draft->store, border_gateway_id);
	for (unsigned i = 0; i < INSIDE_PREFIXES; i++) {
		unsigned number = (INSIDE_FIRST + i) % INSIDE_PREFIXES;
		if (use && number % 64 == 0 && use->taken[number / 64] == UINT64_MAX) {
			i += 63; // a whole word of them
			continue;
		}
		*out =
		    (struct prefix){.address = {4, {169, 254, (uint8_t)(number >> 6), (uint8_t)(number << 2)}}, .length = 30};
		if (!inside_is_reserved(out) && !is_taken(draft, use, border_gateway_id, number)) {
			invariant(i < INSIDE_PREFIXES && out->length == 30);
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
		char text[16];
		snprintf(text, sizeof text, "%u", vni);
		if (draft_count(draft, RESOURCE_VPC_ATTACHMENT, "vni", text) == 0) {
			return vni;
		}
	}
}

uint64_t allocate_order(const struct draft *draft)
{
	return draft->store->last_attachment + 1; // a plan makes one attachment at most
}
