// What the files of the core share: the rows as they came in, and for each VPC what is wanted and what the kernel holds.
#ifndef TWINSPAN_VROUTER_MODEL_H
#define TWINSPAN_VROUTER_MODEL_H

#include "common/base/map.h"
#include "services/vrouter/item.h"
#include "services/vrouter/vrouter.h"

// Where numbers begin: nexthops and groups share the kernel's space of nexthop ids, tables have their own.
enum { NEXTHOP_RANGE = 0x10000000, GROUP_RANGE = 0x20000000, TABLE_RANGE = 0x30000000 };

struct node {                  // also a host
	struct address fabric; // none: no row
	bool gone;
};

struct names {
	char **items;
	size_t count;
};

struct subnet {
	char *vpc_id, *table_id;
	struct prefix cidr;
	struct address gateway;
};

struct attachment {
	char *vpc_id, *gateway_id;
	uint32_t vni;
};

struct route_row {
	char *vpc_id, *table_id, *attachment_id, *group_id;
	char *key;
	struct prefix destination;
	bool is_static;
	uint32_t metric;
};

// A next-hop group as one attachment sees it: an object in the kernel, while routes go through it.
struct use {
	char *attachment_id, *group_id;
	uint32_t id;
	size_t routes;
};

// One destination in one table of a VPC.
struct destination {
	char *table_id;
	struct prefix prefix;
	struct route_row **rows; // the model's
	size_t row_count;
	struct use *use;             // what it goes through now, or NULL
	bool fixed;                  // the VPC's own: a subnet or unreachable, before all rows
	char device[VROUTER_DEVICE]; // then: the subnet's bridge, or "" for unreachable
	uint64_t fixed_in;           // the plan that said so
};

struct vpc {
	char *id;
	bool present;
	char *host_id;
	struct prefix *blocks;
	size_t block_count;
	bool realised;            // here
	bool unread;              // what the kernel holds is not known
	bool structure_changed;   // subnets, tables, attachments, nodes: to be planned anew
	bool attachments_changed; // routes that waited for one may go now
	struct map *destinations;
	struct map *fixed;   // those of them that are fixed
	struct map *uses;    // by "<attachment>/<group>"
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
	struct map *hosts, *nodes, *gateways, *vpcs, *subnets, *tables, *attachments, *groups, *routes;
};

// model.c
struct vpc *vpc_of(struct vrouter *vrouter, const char *id); // made when there is none yet
bool has_name(const struct names *names, const char *name);
bool vpc_is_empty(const struct vpc *vpc);
void vpc_free(void *vpc);

// want.c
void want(struct vpc *vpc, const struct vrouter_item *item);
void unwant(struct vpc *vpc, const struct vrouter_item *item); // only what names it matters
void unwant_all(struct vpc *vpc);
// A number for a text, the same in every life of the process (but for a collision, which is resolved by who comes first).
uint32_t number_of(struct vpc *vpc, const char *first, const char *second, uint32_t range);

// structure.c: bridges, segments, nexthops, rules and the VPC's own routes
void structure_plan(struct vrouter *vrouter, struct vpc *vpc);
uint32_t nexthop_number(struct vpc *vpc, const char *attachment_id, const char *node_id);
const struct node *node_with_fabric(const struct vrouter *vrouter, const char *id); // NULL: unknown

// destination.c: routes and groups
struct destination *destination_of(struct vpc *vpc, const char *table_id, const struct prefix *prefix);
void destination_add_row(struct destination *destination, struct route_row *row);
void destination_remove_row(struct destination *destination, const struct route_row *row);
void destination_evaluate(struct vrouter *vrouter, struct vpc *vpc, struct destination *destination);
void destination_forget_if_empty(struct vpc *vpc, struct destination *destination);
void destination_free(void *destination);
void destinations_evaluate(struct vrouter *vrouter, struct vpc *vpc,
                           const char *group_id); // NULL: all, else those with a row of that group
void uses_evaluate(struct vrouter *vrouter, struct vpc *vpc, const char *group_id); // NULL: all
void use_free(void *use);

#endif
