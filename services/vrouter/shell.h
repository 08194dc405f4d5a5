// The shell's parts: main.c makes them, bus.c feeds the core and has the kernel follow.
#ifndef TWINSPAN_VROUTER_SHELL_H
#define TWINSPAN_VROUTER_SHELL_H

#include "common/bus/bus.h"
#include "services/vrouter/net_kernel.h"
#include "services/vrouter/vrouter.h"

struct vrouter_bus;
struct vrouter_bus_settings {
	struct loop *loop;
	struct health *health;
	struct bus *bus;
	struct vrouter *vrouter;
	struct kernel *kernel;
	duration node_timeout; // of silence, after which a gateway node counts as gone
};
struct vrouter_bus *vrouter_bus_new(const struct vrouter_bus_settings *settings);
void vrouter_bus_free(struct vrouter_bus **bus);

#endif
