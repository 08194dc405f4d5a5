// The tables that vrouter reads, and when the kernel follows them.
//
// Nothing is changed in the kernel before every table has its first snapshot: what stands there from an earlier life forwards
// meanwhile. Then all namespaces of this host are read, and from then on each batch of rows is carried out at once. What the
// kernel refuses is read again and tried again, every 100 ms.
//
// The nodes' liveness comes from their esp (node_status): it matters for routes that have no next-hop group of their own. An
// esp that is silent for the node's timeout makes the node gone; one that restarts is back before.
#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/health.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/tables.pb-c.h"
#include "services/vrouter/shell.h"
#include <stdlib.h>
#include <string.h>

enum { ID_TEXT = 256, RETRY = 100, BLOCKS_MAX = 64 };

struct watched_node {
	struct vrouter_bus *bus;
	char *id;
	struct replica *status;
	struct deadline silence;
};

struct source;
struct input { // one replica
	struct vrouter_bus *bus;
	const struct source *source;
	struct replica *replica;
};

struct vrouter_bus {
	struct vrouter_bus_settings settings;
	struct input inputs[16];
	size_t input_count;
	struct map *nodes;
	bool started; // the kernel has been read
	struct deadline retry;
	struct metric *settled, *unusable, *longest;
};

// A table: `take` is called with the message, or NULL when the row is gone. false: the row is of no use.
struct source {
	const char *owner, *table;
	const ProtobufCMessageDescriptor *descriptor;
	bool (*take)(struct vrouter_bus *bus, const char *id, const void *message);
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
	for (size_t i = 0; i < bus->input_count; i++) {
		if (!replica_has_snapshot(bus->inputs[i].replica)) {
			return;
		}
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

static void node_state(void *context)
{
	struct watched_node *node = context;
	if (replica_owner_alive(node->status)) {
		deadline_disarm(&node->silence);
		vrouter_set_node_gone(node->bus->settings.vrouter, node->id, false);
		if (node->bus->started) {
			settle(node->bus);
		}
	} else if (node->silence.position == 0) {
		deadline_arm(&node->silence, now() + node->bus->settings.node_timeout);
	}
}

static void node_silent(void *context)
{
	struct watched_node *node = context;
	log_event(LOG_WARNING, "node-gone", "node", node->id, NULL);
	vrouter_set_node_gone(node->bus->settings.vrouter, node->id, true);
	if (node->bus->started) {
		settle(node->bus);
	}
}

// Only whether esp speaks matters, not what its row says.
static void ignore_rows(void *context, const struct replica_row *rows, size_t count)
{
	(void)context, (void)rows, (void)count;
}

static void unwatch(void *value)
{
	struct watched_node *node = value;
	if (node) {
		deadline_disarm(&node->silence);
		replica_free(&node->status);
		free(node->id);
		free(node);
	}
}

static void watch(struct vrouter_bus *bus, const char *id)
{
	if (map_find_text(bus->nodes, id)) {
		return;
	}
	struct watched_node *node = allocate(sizeof *node);
	*node = (struct watched_node){.bus = bus, .id = duplicate_text(id)};
	map_insert_text(bus->nodes, id, node);
	deadline_init(&node->silence, bus->settings.loop, node_silent, node);
	deadline_arm(&node->silence, now() + bus->settings.node_timeout);
	char *owner = format_text("esp.%s", id);
	node->status = replica_new(bus->settings.bus, owner, "node_status", "", ignore_rows, node);
	replica_on_state(node->status, node_state, node);
	free(owner);
}

// ---- rows ----

static bool take_host(struct vrouter_bus *bus, const char *id, const void *message)
{
	const Twinspan__VpcHost *row = message;
	struct address fabric;
	if (row && (!address_parse(text(row->fabric_address), &fabric) || fabric.length != 4)) {
		return false;
	}
	vrouter_set_host(bus->settings.vrouter, id, row ? &fabric : NULL);
	return true;
}

static bool take_node(struct vrouter_bus *bus, const char *id, const void *message)
{
	const Twinspan__Node *row = message;
	struct address fabric;
	if (row && (!address_parse(text(row->fabric_address), &fabric) || fabric.length != 4)) {
		return false;
	}
	vrouter_set_node(bus->settings.vrouter, id, row ? &fabric : NULL);
	if (row) {
		watch(bus, id);
	} else {
		unwatch(map_remove_text(bus->nodes, id));
	}
	return true;
}

static bool take_gateway(struct vrouter_bus *bus, const char *id, const void *message)
{
	const Twinspan__BorderGateway *row = message;
	struct vrouter_gateway gateway = {0};
	if (row) {
		gateway = (struct vrouter_gateway){(const char *const *)row->node_ids, row->n_node_ids};
	}
	vrouter_set_gateway(bus->settings.vrouter, id, row ? &gateway : NULL);
	return true;
}

static bool take_vpc(struct vrouter_bus *bus, const char *id, const void *message)
{
	const Twinspan__Vpc *row = message;
	struct prefix blocks[BLOCKS_MAX];
	struct vrouter_vpc vpc = {.blocks = blocks};
	for (size_t i = 0; row && i < row->n_cidr_blocks; i++) {
		if (vpc.block_count == BLOCKS_MAX || !prefix_parse(row->cidr_blocks[i], &blocks[vpc.block_count++])) {
			return false;
		}
	}
	vpc.host_id = row ? text(row->vpc_host_id) : "";
	vrouter_set_vpc(bus->settings.vrouter, id, row ? &vpc : NULL);
	return true;
}

static bool take_subnet(struct vrouter_bus *bus, const char *id, const void *message)
{
	const Twinspan__Subnet *row = message;
	struct vrouter_subnet subnet = {0};
	if (row) {
		subnet.vpc_id = text(row->vpc_id);
		subnet.table_id = text(row->route_table_id);
		if (!prefix_parse(text(row->cidr), &subnet.cidr) ||
		    !address_parse(text(row->gateway_address), &subnet.gateway) || subnet.gateway.length != 4) {
			return false;
		}
	}
	vrouter_set_subnet(bus->settings.vrouter, id, row ? &subnet : NULL);
	return true;
}

static bool take_table(struct vrouter_bus *bus, const char *id, const void *message)
{
	const Twinspan__VpcRouteTable *row = message;
	vrouter_set_table(bus->settings.vrouter, id, row ? text(row->vpc_id) : NULL);
	return true;
}

static bool take_attachment(struct vrouter_bus *bus, const char *id, const void *message)
{
	const Twinspan__VpcAttachment *row = message;
	struct vrouter_attachment attachment = {0};
	if (row) {
		if (!row->has_vni) {
			return false;
		}
		attachment = (struct vrouter_attachment){text(row->vpc_id), text(row->border_gateway_id), row->vni};
	}
	vrouter_set_attachment(bus->settings.vrouter, id, row ? &attachment : NULL);
	return true;
}

static bool take_group(struct vrouter_bus *bus, const char *id, const void *message)
{
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
	vrouter_set_group(bus->settings.vrouter, id, row ? &group : NULL);
	free(nodes);
	return true;
}

static bool take_route(struct vrouter_bus *bus, const char *id, const void *message)
{
	const Twinspan__VpcRoute *row = message;
	if (!row || !row->effective || strcmp(row->type, "LOCAL") == 0) {
		vrouter_set_route(bus->settings.vrouter, id, NULL);
		return true;
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
		return false;
	}
	route.destination = prefix_of(&destination, (uint8_t)row->prefix_length);
	vrouter_set_route(bus->settings.vrouter, id, &route);
	return true;
}

static const struct source sources[] = {
    {"resource", "vpc_host", &twinspan__vpc_host__descriptor, take_host},
    {"resource", "node", &twinspan__node__descriptor, take_node},
    {"resource", "border_gateway", &twinspan__border_gateway__descriptor, take_gateway},
    {"resource", "vpc", &twinspan__vpc__descriptor, take_vpc},
    {"resource", "vpc_route_table", &twinspan__vpc_route_table__descriptor, take_table},
    {"resource", "subnet", &twinspan__subnet__descriptor, take_subnet},
    {"resource", "vpc_attachment", &twinspan__vpc_attachment__descriptor, take_attachment},
    {"route", "next_hop_group", &twinspan__next_hop_group__descriptor, take_group},
    {"route", "vpc_route", &twinspan__vpc_route__descriptor, take_route},
};
enum { SOURCES = sizeof sources / sizeof sources[0] };

static void take_row(struct input *input, const struct replica_row *row)
{
	char id[ID_TEXT] = "";
	bool usable = row->key.length > 0 && row->key.length < sizeof id;
	if (usable) {
		memcpy(id, row->key.data, row->key.length);
		ProtobufCMessage *message = NULL;
		if (!row->removed) {
			message =
			    protobuf_c_message_unpack(input->source->descriptor, NULL, row->value.length, row->value.data);
		}
		usable = (row->removed || message) && input->source->take(input->bus, id, message);
		if (!usable) {
			// A row that cannot be read is as good as none: what an earlier one said is not so any more.
			input->source->take(input->bus, id, NULL);
		}
		if (message) {
			protobuf_c_message_free_unpacked(message, NULL);
		}
	}
	if (!usable) {
		metric_add(input->bus->unusable, 1);
		log_limited(LOG_WARNING, "unusable-row", "table", input->source->table, "key", id, NULL);
	}
}

static void changed(void *context, const struct replica_row *rows, size_t count)
{
	struct input *input = context;
	for (size_t i = 0; i < count; i++) {
		take_row(input, &rows[i]);
	}
	if (input->bus->started) {
		settle(input->bus);
	}
}

struct vrouter_bus *vrouter_bus_new(const struct vrouter_bus_settings *settings)
{
	struct vrouter_bus *bus = allocate(sizeof *bus);
	*bus = (struct vrouter_bus){.settings = *settings, .nodes = map_new(NULL), .input_count = SOURCES};
	deadline_init(&bus->retry, settings->loop, retry, bus);
	bus->settled = metric(METRIC_COUNTER, "twinspan_vrouter_settled_total", NULL, "Times the kernel was brought in step");
	bus->longest = metric(METRIC_GAUGE, "twinspan_vrouter_settle_seconds", NULL, "Time the last of them took");
	bus->unusable = metric(METRIC_COUNTER, "twinspan_vrouter_unusable_rows_total", NULL, "Rows that could not be used");
	health_wait(settings->health, "kernel in step with the tables", true);
	for (size_t i = 0; i < SOURCES; i++) {
		struct input *input = &bus->inputs[i];
		*input = (struct input){.bus = bus, .source = &sources[i]};
		input->replica = replica_new(settings->bus, sources[i].owner, sources[i].table, "", changed, input);
		replica_on_state(input->replica, start_when_complete, bus);
	}
	return bus;
}

void vrouter_bus_free(struct vrouter_bus **bus)
{
	struct vrouter_bus *b = *bus;
	if (!b) {
		return;
	}
	for (size_t i = 0; i < b->input_count; i++) {
		replica_free(&b->inputs[i].replica);
	}
	deadline_disarm(&b->retry);
	map_free(&b->nodes, unwatch);
	free(b);
	*bus = NULL;
}
