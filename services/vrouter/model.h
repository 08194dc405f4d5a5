// What the files of the core share: the rows as they came in, and for each VPC what is wanted and what the kernel holds.
#ifndef TWINSPAN_VROUTER_MODEL_H
#define TWINSPAN_VROUTER_MODEL_H

#include "common/base/invariant.h"
#include "common/base/map.h"
#include "services/vrouter/item.h"
#include "services/vrouter/vrouter.h"

// Where numbers begin: nexthops and groups share the kernel's space of nexthop ids, tables have their own.
enum { NEXTHOP_RANGE = 0x10000000, GROUP_RANGE = 0x20000000, TABLE_RANGE = 0x30000000 };

// An unordered set of pointers.
struct pointers {
	void **items;
	size_t count, capacity;
};

// An id that many rows name, kept once.
struct name {
	size_t references;
	char text[];
};

struct node {                  // also a host
	struct address fabric; // none: no row
	bool gone;
};

struct names {
	char **items;
	size_t count;
};

struct vpc;
struct table { // a route table, as rows of its VPC name it
	char *id;
	uint32_t number;
	size_t references; // its row, subnets, destinations
	bool present;      // its row
};

struct subnet {
	struct vpc *vpc;
	struct table *table; // held
	struct prefix cidr;
	struct address gateway;
};

struct attachment {
	struct vpc *vpc;
	char *gateway_id;
	uint32_t vni;
};

struct route_row {
	struct destination *destination;
	struct name *attachment, *group; // held
	bool is_static;
	uint32_t metric;
};

// What routes go through: a next-hop group as one attachment sees it, or several that are equally good, of attachments to
// different border gateways. An object in the kernel, while routes go through it.
struct use_part {
	char *attachment_id, *group_id;
};
struct use {
	char *key; // the parts as "<attachment>/<group>", with '+' between them
	struct use_part *parts;
	size_t part_count;
	uint32_t id;
	size_t routes;
};

// One destination in one table of a VPC.
struct destination {
	struct vpc *vpc;
	struct table *table; // held
	struct prefix prefix;
	struct route_row **rows; // the model's
	size_t row_count;
	struct use *use;             // what it goes through now, or NULL
	struct waiting *waiting;     // for an attachment or a group that a row names and that is not here yet
	size_t waiting_at;           // its place there
	bool fixed;                  // the VPC's own: a subnet or unreachable, before all rows
	char device[VROUTER_DEVICE]; // then: the subnet's bridge, or "" for unreachable
	uint64_t fixed_in;           // the plan that said so
};
struct waiting { // of one missing row
	char *key;
	struct pointers destinations;
};

struct vpc {
	struct vrouter *vrouter;
	char *id;
	bool present;
	char *host_id;
	struct prefix *blocks;
	size_t block_count;
	bool realised;                              // here
	bool unread;                                // what the kernel holds is not known
	bool queued;                                // something is to be settled
	bool structure_changed;                     // subnets, tables, attachments, nodes: to be planned anew
	struct map *subnets, *tables, *attachments; // of this VPC
	struct map *destinations;
	struct map *fixed;   // those of them that are fixed
	struct map *uses;    // by their key
	struct map *users;   // group id -> pointers to the uses of it
	struct map *waiting; // missing row -> struct waiting
	struct map *numbers; // of texts, see number_of
	struct map *numbers_used;
	struct map *wanted[VROUTER_KIND_COUNT];
	struct map *have[VROUTER_KIND_COUNT];
	struct map *changed[VROUTER_KIND_COUNT]; // keys in question
	uint64_t plan;                           // counts them
	struct map *planned;                     // keys of the plan in the making, or NULL
};

struct vrouter {
	char *host_id;
	struct map *hosts, *nodes, *gateways, *vpcs, *subnets, *tables, *attachments, *groups, *routes, *names;
	struct pointers queue;    // VPCs in which something is to be settled
	struct pointers realised; // VPCs that live here
};

// vpc.c: VPCs, their tables and numbers; and the small things that all share
void pointers_add(struct pointers *pointers, void *item);
void pointers_remove(struct pointers *pointers, const void *item);
void pointers_fini(struct pointers *pointers);
struct name *name_hold(struct vrouter *vrouter, const char *text);
void name_release(struct vrouter *vrouter, struct name *name); // NULL is nothing
bool has_name(const struct names *names, const char *name);
struct vpc *vpc_of(struct vrouter *vrouter, const char *id); // made when there is none yet
void vpc_touch(struct vpc *vpc);                             // it is looked at in the next vrouter_settle
bool vpc_is_empty(const struct vpc *vpc);
void vpc_free(void *vpc);
struct table *table_hold(struct vpc *vpc, const char *id); // made when there is none yet
void table_release(struct vpc *vpc, struct table *table);
// A number for a text, the same in every life of the process (but for a collision, which is resolved by who comes first).
uint32_t number_of(struct vpc *vpc, const char *text, uint32_t range);
uint32_t number_find(const struct vpc *vpc, const char *text, uint32_t range); // 0: it has none
void number_forget(struct vpc *vpc, uint32_t number);

// want.c
void want(struct vpc *vpc, const struct vrouter_item *item);
void unwant(struct vpc *vpc, const struct vrouter_item *item); // only what names it matters
void unwant_all(struct vpc *vpc);

// structure.c: bridges, segments, nexthops, rules and the VPC's own routes
void structure_plan(struct vrouter *vrouter, struct vpc *vpc);
uint32_t nexthop_number(const struct vpc *vpc, const char *attachment_id, const char *node_id); // 0: it is not planned
const struct node *node_with_fabric(const struct vrouter *vrouter, const char *id);             // NULL: unknown

// use.c: what routes go through
enum { USE_PARTS_MAX = 8 };
struct use *use_take(struct vrouter *vrouter, struct vpc *vpc, struct route_row *const *rows, size_t count);
void use_release(struct vpc *vpc, struct use *use); // NULL is nothing
bool use_has(const struct use *use, const struct route_row *row);
void uses_evaluate(struct vrouter *vrouter, struct vpc *vpc); // all of them
void uses_of_group_evaluate(struct vrouter *vrouter, struct vpc *vpc, const char *group_id);
void uses_end(struct vpc *vpc);

// destination.c: routes
struct destination *destination_of(struct vpc *vpc, struct table *table, const struct prefix *prefix);
void destination_add_row(struct destination *destination, struct route_row *row);
void destination_remove_row(struct destination *destination, const struct route_row *row);
void destination_evaluate(struct vrouter *vrouter, struct destination *destination);
void destination_forget_if_empty(struct destination *destination);
void destination_free(void *destination);
void destinations_evaluate(struct vrouter *vrouter, struct vpc *vpc); // all of them
// The row that some waited for is here.
void destinations_wake(struct vrouter *vrouter, struct vpc *vpc, const char *kind, const char *id);
void waiting_free(void *waiting);

#endif
