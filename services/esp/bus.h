// The tables of esp. What comes in is given to the core (tunnels, groups, routes, SAs: esp.h) and to the kernel (namespaces,
// addresses, segments, routes into the VPCs: net_kernel.h); what the workers counted goes out while it changes: of the SAs
// once a second, of the tunnels every five.
#ifndef TWINSPAN_ESP_BUS_H
#define TWINSPAN_ESP_BUS_H

#include "common/bus/bus.h"
#include "services/esp/esp.h"
#include "services/esp/net_kernel.h"

struct esp_bus_parts {
	struct loop *loop;
	struct health *health;
	struct bus *bus;
	struct esp *esp;
	struct kernel *kernel;
	const char *node; // "node-a"
	unsigned workers;
	loop_fn *rested; // nothing more to report: esp_bus_moved is to be called when a packet moves something
	void *context;   // of `rested`
};

struct esp_bus;
struct esp_bus *esp_bus_new(const struct esp_bus_parts *parts);
void esp_bus_moved(struct esp_bus *bus); // packets were counted
void esp_bus_gateways_changed(struct esp_bus *bus);
void esp_bus_free(struct esp_bus **bus);

#endif
