// A VPC's namespace as net_kernel.c and net_read.c have it open.
#ifndef TWINSPAN_VROUTER_NET_REALM_H
#define TWINSPAN_VROUTER_NET_REALM_H

#include "common/kernel/netlink.h"
#include "services/vrouter/vrouter.h"

struct realm {
	int namespace;
	struct netlink *netlink;
};

// Calls vrouter_read with all there is. 0 or a negative errno; then the core has not been told.
int realm_read(struct realm *realm, struct vrouter *vrouter, const char *vpc_id);
int realm_set_up(const struct realm *realm);

#endif
