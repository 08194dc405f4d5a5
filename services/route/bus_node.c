// Rows of the gateway nodes' services become events of the core, and so does their silence.
//
// Each service of a node counts by itself. Without its esp nothing passes through a node: its tunnels are in no group. Without
// its bgp nobody vouches for what its sessions learned: those routes do not forward. Without its ike all goes on: the SAs live,
// and the state of a tunnel is the last word that ike had. What a silent service said stays otherwise, and counts again when it
// is back.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/tables.pb-c.h"
#include "services/route/bus_tables.h"

#define ABSENT_OWNER_WAIT SECONDS(3)
#define SILENT_TABLE_WAIT SECONDS(10) // the owner lives but does not call its table complete

static const char *const service_names[NODE_SERVICES] = {[NODE_IKE] = "ike", [NODE_BGP] = "bgp", [NODE_ESP] = "esp"};

static const char *take_status(void *context, const struct row_key *key, const void *message)
{
	const struct node_services *services = context;
	const Twinspan__TunnelStatus *row = message;
	struct route_event event = {.kind = ROUTE_TUNNEL_STATE, .id = key->text, .removed = !row};
	event.tunnel_state.up = row && row->state == TWINSPAN__TUNNEL_STATUS__STATE__UP;
	route_bus_step(services->bus, &event);
	return NULL;
}

static const char *take_session(void *context, const struct row_key *key, const void *message)
{
	const struct node_services *services = context;
	const Twinspan__BgpSession *row = message;
	struct route_event event = {.kind = ROUTE_SESSION, .id = key->text, .removed = !row};
	if (row) {
		event.session.remote_asn = row->remote_asn;
		event.session.established = strcmp(row->state, "Established") == 0;
	}
	route_bus_step(services->bus, &event);
	return NULL;
}

// The key says which tunnel and destination, also for a row that is gone.
static const char *take_learned(void *context, const struct row_key *key, const void *message)
{
	const struct node_services *services = context;
	const Twinspan__LearnedRoute *row = message;
	struct route_event event = {.kind = ROUTE_LEARNED, .id = key->id, .removed = !row};
	if (!prefix_parse(key->rest, &event.learned.destination)) {
		return "its key is not a tunnel and a prefix";
	}
	if (row) {
		event.learned.metric = row->as_path_length;
		event.learned.origin = row->origin;
		event.learned.as_path = row->as_path;
		event.learned.as_count = row->n_as_path;
		event.learned.med = row->has_med ? row->med : 0;
		event.learned.communities = row->communities;
		event.learned.community_count = row->n_communities;
	}
	route_bus_step(services->bus, &event);
	return NULL;
}

static void settled(void *context)
{
	const struct node_services *services = context;
	route_bus_settle(services->bus);
}

static const struct feed_kind status_kind = {"tunnel_status", &twinspan__tunnel_status__descriptor, take_status, settled};
static const struct feed_kind session_kind = {"bgp_session", &twinspan__bgp_session__descriptor, take_session, settled};
static const struct feed_kind learned_kind = {"learned_route", &twinspan__learned_route__descriptor, take_learned, settled};
static const struct feed_kind node_status_kind = {"node_status", &twinspan__node_status__descriptor, NULL, NULL};

static const struct node_input ike_inputs[] = {{"ike", &status_kind}};
static const struct node_input bgp_inputs[] = {{"bgp", &session_kind}, {"bgp", &learned_kind}};
static const struct node_input esp_inputs[] = {{"esp", &node_status_kind}};

static void set_metric(const char *node, enum node_service service, bool silent)
{
	char *labels = format_text("node=\"%s\",service=\"%s\"", node, service_names[service]);
	metric_set(metric(METRIC_GAUGE, "twinspan_route_node_silent", labels, "1 while that service of the node is silent"),
	           silent);
	free(labels);
}

static void step_node(struct route_bus *bus, const char *id, const struct node_silence *silence)
{
	struct route_event event = {.kind = ROUTE_NODE, .id = id, .removed = !silence};
	if (silence) {
		event.node.gone = silence->silent[NODE_ESP];
		event.node.bgp_silent = silence->silent[NODE_BGP];
	}
	route_bus_step(bus, &event);
}

static void service_gone(void *context, const char *id, bool gone)
{
	const struct node_services *services = context;
	struct route_bus *bus = services->bus;
	struct node_silence *silence = map_find_text(bus->silences, id);
	if (!silence) {
		silence = allocate(sizeof *silence);
		map_insert_text(bus->silences, id, silence);
	}
	silence->silent[services->service] = gone;
	log_event(gone ? LOG_ERROR : LOG_INFO, gone ? "service-silent" : "service-back", "node", id, "service",
	          service_names[services->service], NULL);
	set_metric(id, services->service, gone);
	step_node(bus, id, silence);
}

// The node's addresses: what customers announce may not hold them.
static void reserve(struct route_bus *bus, const char *kind, const char *node, const char *what, char *const *texts,
                    size_t count)
{
	struct address *addresses = allocate_array(count + 1, sizeof *addresses);
	char *id = format_text("%s/%.50s", kind, node);
	struct route_event event = {.kind = ROUTE_RESERVED, .id = id, .reserved = {.what = what, .addresses = addresses}};
	for (size_t i = 0; i < count; i++) {
		event.reserved.count += address_parse(or_empty(texts[i]), &addresses[event.reserved.count]);
	}
	event.removed = event.reserved.count == 0;
	route_bus_step(bus, &event);
	free(id);
	free(addresses);
}

static const char *take_node(void *context, const char *id, const Twinspan__Node *row)
{
	const struct node_services *services = context;
	struct route_bus *bus = services->bus;
	reserve(bus, "cloud", id, "cloud address", row ? row->public_addresses : NULL, row ? row->n_public_addresses : 0);
	reserve(bus, "fabric", id, "node's fabric address", row ? &row->fabric_address : NULL, row ? 1 : 0);
	if (!row) { // the services' rows have been taken back by now, or are by the sets of the other services
		free(map_remove_text(bus->silences, id));
		step_node(bus, id, NULL);
	}
	return NULL;
}

static void state_changed(void *context)
{
	const struct node_services *services = context;
	route_bus_check_complete(services->bus);
}

bool nodes_heard(const struct route_bus *bus)
{
	for (size_t i = 0; i < NODE_SERVICES; i++) {
		const struct node_set *nodes = bus->nodes[i].nodes;
		if (!nodes || !node_set_has_snapshot(nodes) || !node_set_heard(nodes, ABSENT_OWNER_WAIT, SILENT_TABLE_WAIT)) {
			return false;
		}
	}
	return true;
}

void nodes_start(struct route_bus *bus)
{
	static const struct {
		const struct node_input *inputs;
		size_t count;
	} inputs[NODE_SERVICES] = {[NODE_IKE] = {ike_inputs, 1}, [NODE_BGP] = {bgp_inputs, 2}, [NODE_ESP] = {esp_inputs, 1}};
	bus->silences = map_new(NULL);
	for (enum node_service service = 0; service < NODE_SERVICES; service++) {
		bus->nodes[service] = (struct node_services){.bus = bus, .service = service};
		bus->nodes[service].nodes = node_set_new(&(struct node_set_settings){
		    .loop = bus->service->loop,
		    .bus = bus->bus,
		    .inputs = inputs[service].inputs,
		    .input_count = inputs[service].count,
		    .timeout = bus->service->node_timeout,
		    .row = service == NODE_ESP ? take_node : NULL,
		    .gone = service_gone,
		    .settled = settled,
		    .state = state_changed,
		    .context = &bus->nodes[service],
		});
	}
}

void nodes_free(struct route_bus *bus)
{
	for (size_t i = 0; i < NODE_SERVICES; i++) {
		node_set_free(&bus->nodes[i].nodes);
	}
	map_free(&bus->silences, free);
}
