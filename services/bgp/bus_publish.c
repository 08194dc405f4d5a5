// What the core has changed becomes rows: sessions, learned routes, events.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/io/log.h"
#include "proto/tables.pb-c.h"
#include "services/bgp/bus_state.h"

static void publish_session(struct bgp_bus *bus, struct peering *peering)
{
	struct bgp_session_status status;
	bgp_session_status(peering->session, &status);
	if (status.state != peering->state || peering->since == 0) {
		peering->state = status.state;
		peering->since = wall_clock();
		peering->since_here = now();
	}
	uint8_t router_id[4];
	struct writer w = writer_of(router_id, sizeof router_id);
	write_u32(&w, status.remote_router_id);
	Twinspan__BgpSession row = TWINSPAN__BGP_SESSION__INIT;
	row.tunnel_id = peering->tunnel_id;
	row.state = (char *)(uintptr_t)bgp_state_name(status.state);
	row.since = peering->since;
	row.last_error = (char *)(uintptr_t)status.last_error;
	row.remote_asn = status.remote_as;
	if (status.remote_router_id) {
		row.remote_router_id = (ProtobufCBinaryData){sizeof router_id, router_id};
	}
	row.hold_time = status.hold_time;
	row.prefixes_received = (uint32_t)status.prefixes_received;
	row.prefixes_advertised = (uint32_t)status.prefixes_advertised;
	row.prefixes_discarded = (uint32_t)status.prefixes_discarded;
	row.established_count = status.established_count;
	row.reason = status.reason;
	row_put(bus->sessions, "", text_bytes(peering->tunnel_id), &row.base);
}

enum { AS_PATH_CAPACITY = 2048, COMMUNITIES_CAPACITY = 1024 }; // more than a message of 4,096 octets can hold

static void publish_route(struct bgp_bus *bus, const struct bgp_route_change *change)
{
	struct peering *peering = bgp_bus_peering(bus, change->session);
	struct prefix destination = change->destination;
	char key[128], prefix_text[PREFIX_TEXT];
	int length = snprintf(key, sizeof key, "%s/%s", peering->tunnel_id, prefix_format(&destination, prefix_text));
	struct bytes key_bytes = {(const uint8_t *)key, (size_t)length};
	if (!change->attributes) {
		table_remove(bus->routes, key_bytes);
		return;
	}
	struct bgp_attributes_view view;
	bgp_attributes_view(change->attributes, &view);
	uint32_t as_path[AS_PATH_CAPACITY], communities[COMMUNITIES_CAPACITY];
	Twinspan__LearnedRoute row = TWINSPAN__LEARNED_ROUTE__INIT;
	row.tunnel_id = peering->tunnel_id;
	row.destination = (ProtobufCBinaryData){destination.address.length, destination.address.octets};
	row.prefix_length = destination.length;
	row.next_hop = (ProtobufCBinaryData){view.next_hop.length, view.next_hop.octets};
	row.origin = view.origin;
	row.as_path = as_path;
	size_t ases = bgp_as_path_flatten(view.as_path, as_path, AS_PATH_CAPACITY);
	row.n_as_path = ases < AS_PATH_CAPACITY ? ases : AS_PATH_CAPACITY;
	row.as_path_length = (uint32_t)view.as_path_length;
	row.has_med = view.has_med;
	row.med = view.med;
	struct reader r = reader_of(view.communities);
	row.communities = communities;
	while (row.n_communities < COMMUNITIES_CAPACITY && reader_left(&r) >= 4) {
		communities[row.n_communities++] = read_u32(&r);
	}
	row_put(bus->routes, "", key_bytes, &row.base);
}

// A row of bgp_event. Numbers go on from the time of day, so that those of a bgp that starts again are higher than those of the
// one before.
static void publish_event(struct bgp_bus *bus, const struct bgp_actions *actions, const struct bgp_action *action)
{
	struct peering *peering = bgp_bus_peering(bus, action->session);
	char key[128];
	Twinspan__TunnelEvent row = TWINSPAN__TUNNEL_EVENT__INIT;
	row.tunnel_id = peering->tunnel_id;
	row.number = peering->first_event + peering->events++;
	row.time = wall_clock();
	row.event = (char *)(uintptr_t)bgp_notice_name(action->notice);
	row.detail = (char *)actions->octets + action->offset;
	snprintf(key, sizeof key, "%s/%" PRIu64, row.tunnel_id, row.number);
	row_put(bus->events, "", text_bytes(key), &row.base);
	if (peering->events > EVENTS_KEPT) {
		snprintf(key, sizeof key, "%s/%" PRIu64, row.tunnel_id, row.number - EVENTS_KEPT);
		table_remove(bus->events, text_bytes(key));
	}
	log_limited(LOG_INFO, "session", "tunnel", row.tunnel_id, "what", row.event, "detail", row.detail, NULL);
}

static void remove_peering(struct bgp_bus *bus, struct peering *peering)
{
	char key[128];
	table_remove(bus->sessions, text_bytes(peering->tunnel_id));
	uint64_t kept = peering->events < EVENTS_KEPT ? peering->events : EVENTS_KEPT;
	for (uint64_t i = peering->events - kept; i < peering->events; i++) {
		snprintf(key, sizeof key, "%s/%" PRIu64, peering->tunnel_id, peering->first_event + i);
		table_remove(bus->events, text_bytes(key));
	}
	map_remove_text(bus->peerings, peering->tunnel_id);
	listeners_release(bus->service->listeners, peering->border_gateway_id);
	bus->last_session = NULL;
	free(peering->tunnel_id);
	free(peering->border_gateway_id);
	free(peering);
}

static bool publish_kind(struct bgp_bus *bus, const struct bgp_actions *actions, enum bgp_action_kind kind)
{
	bool any = false;
	for (size_t i = 0; i < actions->count; i++) {
		const struct bgp_action *action = &actions->list[i];
		if (action->kind != kind) {
			continue;
		}
		any = true;
		if (kind == BGP_ACTION_CHANGED) {
			publish_session(bus, bgp_bus_peering(bus, action->session));
		} else if (kind == BGP_ACTION_NOTICE) {
			publish_event(bus, actions, action);
		} else {
			remove_peering(bus, bgp_bus_peering(bus, action->session));
		}
	}
	return any;
}

// The session's row goes first: it is one, and says at once what a hundred thousand withdrawn routes say after it.
void bgp_bus_publish(struct bgp_bus *bus, const struct bgp_actions *actions)
{
	if (publish_kind(bus, actions, BGP_ACTION_CHANGED)) {
		table_commit(bus->sessions);
	}
	for (size_t i = 0; i < actions->route_count; i++) {
		publish_route(bus, &actions->routes[i]);
	}
	if (actions->route_count) {
		table_commit(bus->routes);
	}
	if (publish_kind(bus, actions, BGP_ACTION_NOTICE)) {
		table_commit(bus->events);
	}
	if (publish_kind(bus, actions, BGP_ACTION_REMOVED)) {
		table_commit(bus->sessions);
		table_commit(bus->events);
	}
}
