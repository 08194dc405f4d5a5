// What the service chooses itself: identifiers, nodes and hosts, cloud addresses, inner prefixes, VXLAN identifiers.
#ifndef TWINSPAN_RESOURCE_ALLOCATE_H
#define TWINSPAN_RESOURCE_ALLOCATE_H

#include "common/base/address.h"
#include "services/resource/draft.h"

// A new id: the kind's prefix and 10 lower-case base-32 characters. `out` holds 32 characters.
char *allocate_id(const struct draft *draft, enum resource_kind kind, char out[static 32]);
void random_base32(struct random *random, char *out, size_t length); // and a final zero

// Two nodes for a border gateway, those with the fewest first; fewer when the region has fewer. Returns whether the row
// changed.
bool allocate_nodes(const struct draft *draft, struct record *border_gateway);
// The host with the fewest VPCs; none when the region has none yet.
void allocate_host(const struct draft *draft, struct record *vpc);
// Two free addresses on two nodes: those of the border gateway first, then the least used ones, and the pool's order within a
// node.
bool allocate_cloud_addresses(struct draft *draft, const struct record *border_gateway, struct record *connection);
// The first free /30 of the border gateway; false when there is none.
bool allocate_inside(const struct draft *draft, const char *border_gateway_id, struct prefix *out);
// Whether a prefix is free among the border gateway's tunnels, `except` aside. Gives the id of the tunnel that has it, or NULL.
const char *inside_taken(const struct draft *draft, const char *border_gateway_id, const char *inside, const char *except);
uint32_t allocate_vni(const struct draft *draft);
uint64_t allocate_order(const struct draft *draft);
// The connection that has a cloud address; NULL: it is free.
const struct record *cloud_address_user(const struct draft *draft, const char *address);

#endif
