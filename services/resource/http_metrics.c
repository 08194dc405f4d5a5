// What /metrics says of the resources, and of each tunnel as its node reported it last.
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "services/resource/shell.h"

static const struct {
	enum metric_kind kind;
	const char *name, *direction, *help;
} tunnel_metrics[] = {
    {METRIC_GAUGE, "twinspan_tunnel_up", NULL, "1 while the tunnel is UP"},
    {METRIC_GAUGE, "twinspan_tunnel_bgp_established", NULL, "1 while its BGP session is Established"},
    {METRIC_COUNTER, "twinspan_tunnel_bytes_total", "in", "Plain octets carried (in: from the customer)"},
    {METRIC_COUNTER, "twinspan_tunnel_bytes_total", "out", "Plain octets carried (in: from the customer)"},
    {METRIC_COUNTER, "twinspan_tunnel_packets_total", "in", "Packets carried (in: from the customer)"},
    {METRIC_COUNTER, "twinspan_tunnel_packets_total", "out", "Packets carried (in: from the customer)"},
    {METRIC_COUNTER, "twinspan_tunnel_drops_total", NULL, "Packets dropped"},
};
enum { TUNNEL_METRICS = sizeof tunnel_metrics / sizeof tunnel_metrics[0] };

static char *label_of(const char *tunnel, size_t i, char out[static 192])
{
	const char *direction = tunnel_metrics[i].direction;
	snprintf(out, 192, "%s%s%s%s", tunnel, direction ? ",direction=\"" : "", direction ? direction : "",
	         direction ? "\"" : "");
	return out;
}

static void measure_tunnel(struct service *service, const struct record *tunnel)
{
	const char *id = record_text(tunnel, "id");
	struct tunnel_figures figures = resource_figures(service->resource, id);
	const struct tunnel_counters *c = &figures.counters;
	const uint64_t values[TUNNEL_METRICS] = {figures.up,    figures.established, c->bytes_in, c->bytes_out,
	                                         c->packets_in, c->packets_out,      c->drops};
	char *text = map_find_text(service->measured, id);
	if (!text) {
		text = format_text("tunnel=\"%s\",connection=\"%s\"", id, record_text(tunnel, "vpnConnectionId"));
		map_insert_text(service->measured, id, text);
	}
	for (size_t i = 0; i < TUNNEL_METRICS; i++) {
		char label[192];
		metric_set(
		    metric(tunnel_metrics[i].kind, tunnel_metrics[i].name, label_of(text, i, label), tunnel_metrics[i].help),
		    (double)values[i]);
	}
}

// A deleted tunnel measures nothing; its last figures would stand there for ever.
static void forget_deleted(struct service *service)
{
	for (struct map_cursor c = {0}; map_next(service->measured, &c);) {
		char id[64];
		snprintf(id, sizeof id, "%.*s", (int)c.key.length, (const char *)c.key.data);
		if (!resource_find(service->resource, RESOURCE_VPN_TUNNEL, id)) {
			for (size_t i = 0; i < TUNNEL_METRICS; i++) {
				char label[192];
				metric_remove(tunnel_metrics[i].name, label_of(c.value, i, label));
			}
			free(map_remove_text(service->measured, id));
		}
	}
}

void metrics_gather(void *context)
{
	struct service *service = context;
	forget_deleted(service);
	metric_set(metric(METRIC_GAUGE, "twinspan_resource_unreadable", "what=\"row\"",
	                  "What stands in the database and cannot be read"),
	           (double)store_unusable_count(service->store));
	metric_set(metric(METRIC_GAUGE, "twinspan_resource_unreadable", "what=\"sealed-key\"",
	                  "What stands in the database and cannot be read"),
	           (double)store_closed_keys(service->store));
	for (struct row_cursor c = {0}; resource_next(service->resource, RESOURCE_VPN_TUNNEL, &c);) {
		measure_tunnel(service, c.row);
	}
	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++) {
		size_t count = resource_count(service->resource, (enum resource_kind)kind);
		char label[64];
		snprintf(label, sizeof label, "kind=\"%s\"", kind_rules[kind].singular);
		metric_set(metric(METRIC_GAUGE, "twinspan_resources", label, "Resources by kind"), (double)count);
	}
}
