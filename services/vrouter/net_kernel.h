// The kernel's side of vrouter: applies operations of the core by netlink, and reads what a VPC's namespace holds.
#ifndef TWINSPAN_VROUTER_NET_KERNEL_H
#define TWINSPAN_VROUTER_NET_KERNEL_H

#include "services/vrouter/vrouter.h"

struct kernel;
// Namespaces are named "<prefix><host>-<vpc id>". The calling thread is in the host's namespace, where the VXLAN sockets live.
// NULL with errno.
struct kernel *kernel_new(const char *prefix, const char *host, uint32_t fabric_mtu);
void kernel_free(struct kernel **kernel); // all stays standing
// The VPCs whose namespaces stand.
void kernel_list(const struct kernel *kernel, void (*found)(void *context, const char *vpc_id), void *context);
// Tells the core what there is. 0 or a negative errno; then the core has not been told.
int kernel_read(struct kernel *kernel, struct vrouter *vrouter, const char *vpc_id);
bool kernel_apply(void *kernel, const struct vrouter_operation *operation); // a vrouter_apply_fn

#endif
