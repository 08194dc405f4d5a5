// The only door into the vrouter core: from rows of the tables it computes what the kernel should hold for the VPCs of one
// host, compares that with what it holds, and says what to change, in an order that leaves no gap (product: "Route tables";
// ARCHITECTURE.md: next-hop groups).
//
// Rows go in by the vrouter_set_… calls, what the kernel holds by vrouter_read, changes come out of vrouter_settle. Nothing
// here knows a clock or the kernel. Pointers in arguments and in operations are valid during the call only.
#ifndef TWINSPAN_VROUTER_VROUTER_H
#define TWINSPAN_VROUTER_VROUTER_H

#include "common/base/address.h"

enum {
	VROUTER_DEVICE = 16,
	VROUTER_MEMBERS_MAX = 64,
	VROUTER_BLACKHOLE = 1
}; // VROUTER_BLACKHOLE: id of the nexthop that drops

// What there is in a VPC's namespace, in the order in which one stands on another.
enum vrouter_kind {
	VROUTER_NAMESPACE,
	VROUTER_BRIDGE,  // a subnet
	VROUTER_SEGMENT, // an attachment
	VROUTER_NEXTHOP, // a gateway node in a segment
	VROUTER_GROUP,   // the nodes that a next-hop group's traffic goes to
	VROUTER_ROUTE,
	VROUTER_RULE, // a subnet's traffic looks its table up
	VROUTER_KIND_COUNT,
};

struct vrouter_item {
	enum vrouter_kind kind;
	char device[VROUTER_DEVICE]; // of a bridge, segment, nexthop (the segment it is in), rule, and of a route without group
	union {
		struct {
			struct address gateway; // the subnet's router address
			uint8_t length;
		} bridge;
		struct {
			uint32_t vni;
			struct address local; // members: fabric addresses of the gateway nodes
		} segment;
		struct {
			uint32_t id;
			struct address fabric; // of the node; none: VROUTER_BLACKHOLE
		} nexthop;
		struct {
			uint32_t id; // members: ids of nexthops
		} group;
		struct {
			uint32_t table;
			struct prefix destination;
			uint32_t group_id; // 0: on link at `device`, or unreachable when that is empty
		} route;
		struct {
			uint32_t table;
		} rule;
	};
	const uint32_t *members; // sorted; IPv4 addresses in host order, or nexthop ids
	size_t member_count;
};

struct vrouter_operation {
	const char *vpc_id;
	bool remove;
	const struct vrouter_item *item;   // to be so from now on, or to be removed
	const struct vrouter_item *before; // what the kernel holds under the same name, or NULL
};
// false: it could not be done. The VPC is then left alone until vrouter_read says what the kernel holds. Routes may be put
// together and done later: an operation without an item says that all before it of that VPC is to be done on return, and
// whether it was.
typedef bool vrouter_apply_fn(void *context, const struct vrouter_operation *operation);

struct vrouter;
struct vrouter *vrouter_new(const char *host_id);
void vrouter_free(struct vrouter **vrouter);

// ---- rows ----
// In each, a NULL row says that there is none under this id any more.
void vrouter_set_host(struct vrouter *vrouter, const char *id, const struct address *fabric);
void vrouter_set_node(struct vrouter *vrouter, const char *id, const struct address *fabric);
// A node that is gone is no next hop, whatever a group says, unless all are.
void vrouter_set_node_gone(struct vrouter *vrouter, const char *id, bool gone);
struct vrouter_gateway {
	const char *const *node_ids;
	size_t node_count;
};
void vrouter_set_gateway(struct vrouter *vrouter, const char *id, const struct vrouter_gateway *gateway);
struct vrouter_vpc {
	const char *host_id;
	const struct prefix *blocks;
	size_t block_count;
};
void vrouter_set_vpc(struct vrouter *vrouter, const char *id, const struct vrouter_vpc *vpc);
struct vrouter_subnet {
	const char *vpc_id;
	const char *table_id;
	struct prefix cidr;
	struct address gateway;
};
void vrouter_set_subnet(struct vrouter *vrouter, const char *id, const struct vrouter_subnet *subnet);
void vrouter_set_table(struct vrouter *vrouter, const char *id, const char *vpc_id);
struct vrouter_attachment {
	const char *vpc_id;
	const char *gateway_id;
	uint32_t vni;
};
void vrouter_set_attachment(struct vrouter *vrouter, const char *id, const struct vrouter_attachment *attachment);
struct vrouter_group {
	const char *const *node_ids; // of the members that are alive; may repeat
	size_t node_count;
};
void vrouter_set_group(struct vrouter *vrouter, const char *id, const struct vrouter_group *group);
struct vrouter_route { // only effective ones, and not the LOCAL ones
	const char *vpc_id;
	const char *table_id;
	struct prefix destination;
	const char *attachment_id;
	const char *group_id; // "": all nodes of the attachment's border gateway that are not gone
	bool is_static;
	uint32_t metric;
};
void vrouter_set_route(struct vrouter *vrouter, const char *key, const struct vrouter_route *route);

// ---- the kernel ----
// What the kernel holds for that VPC, all of it; an empty list: it has no namespace. Also for VPCs that are to go.
void vrouter_read(struct vrouter *vrouter, const char *vpc_id, const struct vrouter_item *items, size_t count);
// Calls `apply` for each change that makes the kernel hold what it should.
void vrouter_settle(struct vrouter *vrouter, vrouter_apply_fn *apply, void *context);
// Is that VPC waiting for vrouter_read? The first such one's id, or NULL.
const char *vrouter_unread(const struct vrouter *vrouter);

struct vrouter_counts {
	size_t vpcs, items[VROUTER_KIND_COUNT]; // that the kernel holds
	size_t numbers;                         // in use: of tables, nexthops and groups
	size_t plans;                           // how often a VPC's small part was planned
};
struct vrouter_counts vrouter_counts(const struct vrouter *vrouter);

#endif
