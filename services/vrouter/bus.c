// The tables that vrouter reads, and when the kernel follows them.
//
// Nothing is changed in the kernel before every table has its first snapshot: what stands there from an earlier life forwards
// meanwhile. Then all namespaces of this host are read, and from then on each batch of rows is carried out at once. What the
// kernel refuses is read again and tried again, every 100 ms.
//
// The nodes' liveness comes from their esp (node_status): one that is silent for the node's timeout makes the node gone, and no
// next hop any more, whatever route says; one that restarts is back before.
#include "common/base/alloc.h"
#include "common/bus/node_set.h"
#include "common/io/health.h"
#include "common/io/log.h"
#include "proto/tables.pb-c.h"
#include "services/vrouter/shell.h"
#include <stdlib.h>
#include <string.h>

enum { RETRY = 100, BLOCKS_MAX = 64 };

struct vrouter_bus {
	struct vrouter_bus_settings settings;
	struct feed *feeds[16];
	size_t feed_count;
	struct node_set *nodes;
	bool started; // the kernel has been read
	struct deadline retry;
	struct metric *settled, *longest;
};

static const char *text(const char *value)
{
	return value ? value : "";
}

// ---- the kernel follows ----

static void read_found(void *context, const char *vpc_id)
{
	struct vrouter_bus *bus = context;
	int error = kernel_read(bus->settings.kernel, bus->settings.vrouter, vpc_id);
	if (error != 0) {
		log_limited(LOG_ERROR, "kernel-read-failed", "vpc", vpc_id, "error", strerror(-error), NULL);
	}
}

static void settle(struct vrouter_bus *bus)
{
	instant start = now();
	// Whatever changes, a VPC has been read first; one that was refused something is read again at once, and then in a
	// while.
	for (int attempt = 0; attempt < 3; attempt++) {
		vrouter_settle(bus->settings.vrouter, kernel_apply, bus->settings.kernel);
		const char *unread = vrouter_unread(bus->settings.vrouter);
		if (!unread) {
			break;
		}
		for (const char *next = unread, *last = NULL; next && next != last;
		     next = vrouter_unread(bus->settings.vrouter)) {
			last = next;
			read_found(bus, next);
		}
	}
	bool left = vrouter_unread(bus->settings.vrouter) != NULL;
	deadline_arm(&bus->retry, left ? now() + MILLISECONDS(RETRY) : INSTANT_NEVER);
	metric_add(bus->settled, 1);
	double seconds = (double)(now() - start) / 1e6;
	metric_set(bus->longest, seconds);
}

static void retry(void *context)
{
	settle(context);
}

static void start_when_complete(void *context)
{
	struct vrouter_bus *bus = context;
	for (size_t i = 0; i < bus->feed_count; i++) {
		if (!bus->feeds[i] || !feed_has_snapshot(bus->feeds[i])) {
			return;
		}
	}
	if (!bus->nodes || !node_set_has_snapshot(bus->nodes)) {
		return;
	}
	if (!bus->started) {
		bus->started = true;
		kernel_list(bus->settings.kernel, read_found, bus);
		settle(bus);
		health_wait(bus->settings.health, "kernel in step with the tables", false);
		struct vrouter_counts counts = vrouter_counts(bus->settings.vrouter);
		log_event(LOG_INFO, "in-step", "vpcs", log_number((int64_t)counts.vpcs), "routes",
		          log_number((int64_t)counts.items[VROUTER_ROUTE]), NULL);
	}
}

// ---- nodes ----

static void node_gone(void *context, const char *id, bool gone)
{
	struct vrouter_bus *bus = context;
	log_event(gone ? LOG_WARNING : LOG_INFO, gone ? "node-gone" : "node-back", "node", id, NULL);
	vrouter_set_node_gone(bus->settings.vrouter, id, gone);
}

static void settle_if_started(void *context)
{
	struct vrouter_bus *bus = context;
	if (bus->started) {
		settle(bus);
	}
}

// ---- rows ----

static const char *take_host(void *context, const struct row_key *key, const void *message)
{
	struct vrouter_bus *bus = context;
	const Twinspan__VpcHost *row = message;
	struct address fabric;
	if (row && (!address_parse(text(row->fabric_address), &fabric) || fabric.length != 4)) {
		return "its fabric address is not an IPv4 address";
	}
	vrouter_set_host(bus->settings.vrouter, key->text, row ? &fabric : NULL);
	return NULL;
}

static const char *take_node(void *context, const char *id, const Twinspan__Node *row)
{
	struct vrouter_bus *bus = context;
	struct address fabric;
	if (row && (!address_parse(text(row->fabric_address), &fabric) || fabric.length != 4)) {
		vrouter_set_node(bus->settings.vrouter, id, NULL);
		return "its fabric address is not an IPv4 address";
	}
	vrouter_set_node(bus->settings.vrouter, id, row ? &fabric : NULL);
	return NULL;
}

static const char *take_gateway(void *context, const struct row_key *key, const void *message)
{
	struct vrouter_bus *bus = context;
	const Twinspan__BorderGateway *row = message;
	struct vrouter_gateway gateway = {0};
	if (row) {
		gateway = (struct vrouter_gateway){(const char *const *)row->node_ids, row->n_node_ids};
	}
	vrouter_set_gateway(bus->settings.vrouter, key->text, row ? &gateway : NULL);
	return NULL;
}

static const char *take_vpc(void *context, const struct row_key *key, const void *message)
{
	struct vrouter_bus *bus = context;
	const Twinspan__Vpc *row = message;
	struct prefix blocks[BLOCKS_MAX];
	struct vrouter_vpc vpc = {.blocks = blocks};
	for (size_t i = 0; row && i < row->n_cidr_blocks; i++) {
		if (vpc.block_count == BLOCKS_MAX || !prefix_parse(row->cidr_blocks[i], &blocks[vpc.block_count++])) {
			return "one of its blocks is not a prefix, or there are too many";
		}
	}
	vpc.host_id = row ? text(row->vpc_host_id) : "";
	vrouter_set_vpc(bus->settings.vrouter, key->text, row ? &vpc : NULL);
	return NULL;
}

static const char *take_subnet(void *context, const struct row_key *key, const void *message)
{
	struct vrouter_bus *bus = context;
	const Twinspan__Subnet *row = message;
	struct vrouter_subnet subnet = {0};
	if (row) {
		subnet.vpc_id = text(row->vpc_id);
		subnet.table_id = text(row->route_table_id);
		if (!prefix_parse(text(row->cidr), &subnet.cidr) ||
		    !address_parse(text(row->gateway_address), &subnet.gateway) || subnet.gateway.length != 4) {
			return "its prefix or its gateway address is not IPv4";
		}
	}
	vrouter_set_subnet(bus->settings.vrouter, key->text, row ? &subnet : NULL);
	return NULL;
}

static const char *take_table(void *context, const struct row_key *key, const void *message)
{
	struct vrouter_bus *bus = context;
	const Twinspan__VpcRouteTable *row = message;
	vrouter_set_table(bus->settings.vrouter, key->text, row ? text(row->vpc_id) : NULL);
	return NULL;
}

static const char *take_attachment(void *context, const struct row_key *key, const void *message)
{
	struct vrouter_bus *bus = context;
	const Twinspan__VpcAttachment *row = message;
	struct vrouter_attachment attachment = {0};
	if (row) {
		if (!row->has_vni) {
			return "it has no VNI";
		}
		attachment = (struct vrouter_attachment){text(row->vpc_id), text(row->border_gateway_id), row->vni};
	}
	vrouter_set_attachment(bus->settings.vrouter, key->text, row ? &attachment : NULL);
	return NULL;
}

static const char *take_group(void *context, const struct row_key *key, const void *message)
{
	struct vrouter_bus *bus = context;
	const Twinspan__NextHopGroup *row = message;
	struct vrouter_group group = {0};
	const char **nodes = NULL;
	if (row) {
		nodes = allocate_array(row->n_members + 1, sizeof *nodes);
		for (size_t i = 0; i < row->n_members; i++) {
			nodes[i] = row->members[i]->node_id;
		}
		group = (struct vrouter_group){nodes, row->n_members};
	}
	vrouter_set_group(bus->settings.vrouter, key->text, row ? &group : NULL);
	free(nodes);
	return NULL;
}

static const char *take_route(void *context, const struct row_key *key, const void *message)
{
	struct vrouter_bus *bus = context;
	const Twinspan__VpcRoute *row = message;
	if (!row || !row->effective || strcmp(row->type, "LOCAL") == 0) {
		vrouter_set_route(bus->settings.vrouter, key->text, NULL);
		return NULL;
	}
	struct vrouter_route route = {.vpc_id = row->vpc_id,
	                              .table_id = row->vpc_route_table_id,
	                              .attachment_id = row->attachment_id,
	                              .group_id = row->next_hop_group_id,
	                              .is_static = strcmp(row->type, "STATIC") == 0,
	                              .metric = row->metric};
	struct address destination;
	if (!address_from_bytes((struct bytes){row->destination.data, row->destination.len}, &destination) ||
	    destination.length != 4 || row->prefix_length > 32) {
		return "its destination is not an IPv4 prefix";
	}
	route.destination = prefix_of(&destination, (uint8_t)row->prefix_length);
	vrouter_set_route(bus->settings.vrouter, key->text, &route);
	return NULL;
}

static const struct source {
	const char *owner;
	struct feed_kind kind;
} sources[] = {
    {"resource", {"vpc_host", &twinspan__vpc_host__descriptor, take_host, settle_if_started}},
    {"resource", {"border_gateway", &twinspan__border_gateway__descriptor, take_gateway, settle_if_started}},
    {"resource", {"vpc", &twinspan__vpc__descriptor, take_vpc, settle_if_started}},
    {"resource", {"vpc_route_table", &twinspan__vpc_route_table__descriptor, take_table, settle_if_started}},
    {"resource", {"subnet", &twinspan__subnet__descriptor, take_subnet, settle_if_started}},
    {"resource", {"vpc_attachment", &twinspan__vpc_attachment__descriptor, take_attachment, settle_if_started}},
    {"route", {"next_hop_group", &twinspan__next_hop_group__descriptor, take_group, settle_if_started}},
    {"route", {"vpc_route", &twinspan__vpc_route__descriptor, take_route, settle_if_started}},
};
enum { SOURCES = sizeof sources / sizeof sources[0] };

// Only whether esp speaks matters, not what its row says.
static const struct feed_kind esp_liveness = {"node_status", &twinspan__node_status__descriptor, NULL, NULL};
static const struct node_input node_inputs[] = {{"esp", &esp_liveness}};

struct vrouter_bus *vrouter_bus_new(const struct vrouter_bus_settings *settings)
{
	struct vrouter_bus *bus = allocate(sizeof *bus);
	*bus = (struct vrouter_bus){.settings = *settings, .feed_count = SOURCES};
	deadline_init(&bus->retry, settings->loop, retry, bus);
	bus->settled = metric(METRIC_COUNTER, "twinspan_vrouter_settled_total", NULL, "Times the kernel was brought in step");
	bus->longest = metric(METRIC_GAUGE, "twinspan_vrouter_settle_seconds", NULL, "Time the last of them took");
	health_wait(settings->health, "kernel in step with the tables", true);
	for (size_t i = 0; i < SOURCES; i++) {
		bus->feeds[i] = feed_new(settings->bus, sources[i].owner, &sources[i].kind, "", bus);
		feed_on_state(bus->feeds[i], start_when_complete, bus);
	}
	bus->nodes = node_set_new(&(struct node_set_settings){.loop = settings->loop,
	                                                      .bus = settings->bus,
	                                                      .inputs = node_inputs,
	                                                      .input_count = sizeof node_inputs / sizeof node_inputs[0],
	                                                      .timeout = settings->node_timeout,
	                                                      .row = take_node,
	                                                      .gone = node_gone,
	                                                      .settled = settle_if_started,
	                                                      .state = start_when_complete,
	                                                      .context = bus});
	return bus;
}

void vrouter_bus_free(struct vrouter_bus **bus)
{
	struct vrouter_bus *b = *bus;
	if (!b) {
		return;
	}
	for (size_t i = 0; i < b->feed_count; i++) {
		feed_free(&b->feeds[i]);
	}
	node_set_free(&b->nodes);
	deadline_disarm(&b->retry);
	free(b);
	*bus = NULL;
}
