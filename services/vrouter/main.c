// vrouter: realises VPCs in the kernel of one host. Reads its settings, makes the parts, and turns the loop. It ends without
// touching the kernel: what stands forwards on, and the next vrouter takes it over.
#include "common/base/alloc.h"
#include "common/io/config.h"
#include "common/io/log.h"
#include "common/io/process.h"
#include "services/vrouter/shell.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void gather(void *context)
{
	static const char *const names[VROUTER_KIND_COUNT] = {
	    [VROUTER_NAMESPACE] = "namespace", [VROUTER_BRIDGE] = "bridge", [VROUTER_SEGMENT] = "segment",
	    [VROUTER_NEXTHOP] = "nexthop",     [VROUTER_GROUP] = "group",   [VROUTER_ROUTE] = "route",
	    [VROUTER_RULE] = "rule",
	};
	struct vrouter_counts counts = vrouter_counts(context);
	metric_set(metric(METRIC_GAUGE, "twinspan_vrouter_vpcs", NULL, "VPCs that live on this host"), (double)counts.vpcs);
	for (int kind = 0; kind < VROUTER_KIND_COUNT; kind++) {
		char *label = format_text("object=\"%s\"", names[kind]);
		metric_set(metric(METRIC_GAUGE, "twinspan_vrouter_kernel_objects", label, "Objects that stand in the kernel"),
		           (double)counts.items[kind]);
		free(label);
	}
}

int main(void)
{
	const char *host = config_text("TWINSPAN_NODE", NULL);
	process_begin("vrouter", host);
	const char *prefix = config_text("TWINSPAN_NAMESPACE_PREFIX", "tw-");
	uint32_t fabric_mtu = (uint32_t)config_number("TWINSPAN_FABRIC_MTU", 1500, 1280, 9216);
	struct loop *loop = loop_new();
	struct health *health = health_new(loop);
	struct kernel *kernel = kernel_new(prefix, host, fabric_mtu);
	if (!kernel) {
		log_event(LOG_ERROR, "no-netlink", "error", strerror(errno), NULL);
		return 1;
	}
	struct vrouter *vrouter = vrouter_new(host);
	health_before_metrics(health, gather, vrouter);
	char *identity = format_text("vrouter.%s", host);
	struct bus *bus = bus_new(loop, health, identity);
	struct vrouter_bus *tables = vrouter_bus_new(&(struct vrouter_bus_settings){
	    .loop = loop,
	    .health = health,
	    .bus = bus,
	    .vrouter = vrouter,
	    .kernel = kernel,
	    .node_timeout = MILLISECONDS(config_number("TWINSPAN_NODE_TIMEOUT", 3000, 100, 600000)),
	});
	config_done();
	log_event(LOG_INFO, "started", NULL);

	int result = loop_run(loop);

	vrouter_bus_free(&tables);
	bus_free(&bus);
	vrouter_free(&vrouter);
	kernel_free(&kernel);
	health_free(&health);
	loop_free(&loop);
	free(identity);
	log_event(LOG_INFO, "ended", NULL);
	return result;
}
