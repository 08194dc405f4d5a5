// What one kind adds to the general rules. `check` is called for a row that is made (before NULL) or changed, after every
// single field was found right: it fills in what the service decides and holds the row against the others. `remove` refuses
// what is in use and removes what goes along.
#ifndef TWINSPAN_RESOURCE_KIND_H
#define TWINSPAN_RESOURCE_KIND_H

#include "services/resource/draft.h"

struct kind_hooks {
	bool (*check)(struct draft *draft, const struct record *before, struct record *row);
	// Called when a new row has been staged: for what is made with it, and what was waiting for it.
	bool (*made)(struct draft *draft, const struct record *row);
	bool (*remove)(struct draft *draft, const struct record *row);
};

extern const struct kind_hooks node_hooks, vpc_host_hooks;                                             // region.c
extern const struct kind_hooks vpc_hooks, subnet_hooks, vpc_route_table_hooks;                         // vpc.c
extern const struct kind_hooks border_gateway_hooks, vpc_attachment_hooks, border_gateway_route_hooks; // border_gateway.c
extern const struct kind_hooks customer_gateway_hooks, vpn_connection_hooks;                           // vpn_connection.c
extern const struct kind_hooks vpn_tunnel_hooks;                                                       // vpn_tunnel.c
extern const struct kind_hooks token_hooks;                                                            // region.c

// Checks and stages a new row of the kind (taken over, also when refused); its body has been looked at. Marked as part of the
// answer if `answer`.
bool plan_new(struct draft *draft, struct record *row, bool answer);
// The proposal of tunnels for a connection (tunnel_layout.c).
bool plan_add_tunnels(struct draft *draft, const struct record *connection, const struct record *given);

// The attachment of a VPC to a border gateway, or NULL.
const struct record *attachment_of(const struct draft *draft, const char *vpc_id, const char *border_gateway_id);
// A limit of a tenant: its quota's, or the default.
uint64_t quota_of(const struct draft *draft, const char *tenant, const char *field);
bool refuse_quota(struct draft *draft, const char *what, uint64_t limit);
bool refuse_in_use(struct draft *draft, const char *user, const char *id);
// Whether a row of `kind` has the id at `path` (indexed); the request is refused then.
bool used_by(struct draft *draft, enum resource_kind kind, const char *path, const char *id);

#endif
