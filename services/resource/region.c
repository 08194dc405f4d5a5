// The operator's kinds: nodes, VPC hosts, tokens. A node's addresses are what VPN connections are given; a node or host that
// comes is given to the border gateways and VPCs that wait for one.
#include <string.h>

#include "services/resource/allocate.h"
#include "services/resource/kind.h"
#include "services/resource/store.h"

static bool fabric_is_free(struct draft *draft, enum resource_kind kind, const struct record *row)
{
	const char *address = record_text(row, "fabricAddress");
	const char *self = record_kind(row) == kind ? record_text(row, "id") : "";
	const struct record *other = draft_other(draft, (struct index_key){kind, "fabricAddress", address}, self);
	return !other || refuse(draft, 409, "in-use", "fabricAddress", address, "is the %s's %s", kind_rules[kind].singular,
	                        record_text(other, "id"));
}

static bool in_pool(const struct record *node, const char *address)
{
	for (size_t i = 0, count = record_count(node, "publicAddresses"); i < count; i++) {
		if (strcmp(record_text_at(node, "publicAddresses", i), address) == 0) {
			return true;
		}
	}
	return false;
}

static bool pool_is_own(struct draft *draft, const struct record *row)
{
	for (size_t i = 0, count = record_count(row, "publicAddresses"); i < count; i++) {
		const char *address = record_text_at(row, "publicAddresses", i);
		struct index_key key = {RESOURCE_NODE, "publicAddresses", address};
		const struct record *other = draft_other(draft, key, record_text(row, "id"));
		if (other) {
			return refuse(draft, 409, "overlap", "publicAddresses", address, "is in the pool of node %s",
			              record_text(other, "id"));
		}
	}
	return true;
}

static bool check_node(struct draft *draft, const struct record *before, struct record *row)
{
	if (!fabric_is_free(draft, RESOURCE_NODE, row) || !fabric_is_free(draft, RESOURCE_VPC_HOST, row) ||
	    !pool_is_own(draft, row)) {
		return false;
	}
	for (size_t i = 0, count = before ? record_count(before, "publicAddresses") : 0; i < count; i++) {
		const char *address = record_text_at(before, "publicAddresses", i);
		const struct record *user = in_pool(row, address) ? NULL : cloud_address_user(draft, address);
		if (user) {
			return refuse(draft, 409, "in-use", "publicAddresses", address, "VPN connection %s has this address",
			              record_text(user, "id"));
		}
	}
	return true;
}

static bool made_node(struct draft *draft, const struct record *row)
{
	(void)row;
	for (struct row_cursor c = {0}; resource_next(draft->store, RESOURCE_BORDER_GATEWAY, &c);) {
		const struct record *gateway = draft_find(draft, RESOURCE_BORDER_GATEWAY, record_text(c.row, "id"));
		if (record_count(gateway, "nodeIds") < 2) {
			allocate_nodes(draft, draft_edit(draft, RESOURCE_BORDER_GATEWAY, record_text(c.row, "id")));
		}
	}
	return true;
}

static void leave_gateway(struct record *gateway, const char *node)
{
	for (size_t i = record_count(gateway, "nodeIds"); i > 0; i--) {
		if (strcmp(record_text_at(gateway, "nodeIds", i - 1), node) == 0) {
			record_remove_at(gateway, "nodeIds", i - 1);
		}
	}
}

static bool remove_node(struct draft *draft, const struct record *row)
{
	char id[64];
	strcpy(id, record_text(row, "id"));
	for (size_t i = 0, count = record_count(row, "publicAddresses"); i < count; i++) {
		const struct record *user = cloud_address_user(draft, record_text_at(row, "publicAddresses", i));
		if (user) {
			return refuse_in_use(draft, "vpn-connection", record_text(user, "id"));
		}
	}
	draft_remove(draft, RESOURCE_NODE, id);
	struct index_key here = {RESOURCE_BORDER_GATEWAY, "nodeIds", id};
	for (struct index_cursor c = {0}; index_next(draft->store->index, here, &c);) {
		struct record *gateway = draft_edit(draft, RESOURCE_BORDER_GATEWAY, record_text(c.row, "id"));
		leave_gateway(gateway, id);
		allocate_nodes(draft, gateway);
	}
	return true;
}

static bool check_vpc_host(struct draft *draft, const struct record *before, struct record *row)
{
	(void)before;
	return fabric_is_free(draft, RESOURCE_NODE, row) && fabric_is_free(draft, RESOURCE_VPC_HOST, row);
}

static bool made_vpc_host(struct draft *draft, const struct record *row)
{
	(void)row;
	struct index_key waiting = {RESOURCE_VPC, "vpcHostId", ""};
	for (struct index_cursor c = {0}; index_next(draft->store->index, waiting, &c);) {
		allocate_host(draft, draft_edit(draft, RESOURCE_VPC, record_text(c.row, "id")));
	}
	return true;
}

static bool remove_vpc_host(struct draft *draft, const struct record *row)
{
	return !used_by(draft, RESOURCE_VPC, "vpcHostId", record_text(row, "id"));
}

static bool check_token(struct draft *draft, const struct record *before, struct record *row)
{
	const char *tenant = record_text(row, "tenant");
	uint64_t limit = quota_of(draft, tenant, "tokens");
	if (!before && draft_count(draft, RESOURCE_TOKEN, "tenant", tenant) >= limit) {
		return refuse_quota(draft, *tenant ? "tokens of a tenant" : "tokens of the region", limit);
	}
	return true;
}

// The text of a token: 160 bits, recognisable where it turns up by mistake.
static bool made_token(struct draft *draft, const struct record *row)
{
	char text[5 + 32 + 1] = "twsp_";
	random_base32(draft->request->random, text + 5, 32);
	struct change *change = draft_change(draft, RESOURCE_TOKEN, record_text(row, "id"));
	change->generated = secret_set(&change->secret, (struct bytes){(const uint8_t *)text, sizeof text - 1});
	wipe(text, sizeof text);
	return true;
}

const struct kind_hooks node_hooks = {check_node, made_node, remove_node};
const struct kind_hooks vpc_host_hooks = {check_vpc_host, made_vpc_host, remove_vpc_host};
const struct kind_hooks token_hooks = {.check = check_token, .made = made_token};
