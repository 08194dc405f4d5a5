// Rows about tunnels into the model: connections, tunnels, and what ike and bgp say of them.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

static void mark_learned(struct route *r, const struct tunnel *t)
{
	struct map_cursor cursor = {0};
	while (map_next(t->learned, &cursor)) {
		const struct path *path = cursor.value;
		if (path->destination) {
			destination_mark(r, path->destination);
		}
	}
}

// Learned routes go into the table of the gateway that the tunnel's connection belongs to, once all rows on the way are there.
static void rehome(struct route *r, struct tunnel *t)
{
	struct gateway *home =
	    t->object.present && t->connection && t->connection->object.present ? t->connection->gateway : NULL;
	if (home == t->home) {
		return;
	}
	struct gateway *before = t->home;
	t->home = home;
	if (home) {
		object_hold(&home->object);
	}
	struct map_cursor cursor = {0};
	while (map_next(t->learned, &cursor)) {
		path_detach(r, cursor.value);
		if (home) {
			path_attach(r, cursor.value, home);
		}
	}
	object_release(r, before ? &before->object : NULL);
}

void input_connection(struct route *r, const struct route_event *event)
{
	struct connection *c = (struct connection *)object_get(r, OBJECT_CONNECTION, event->id);
	struct gateway *before = c->gateway;
	c->gateway = event->removed ? NULL : refer(r, OBJECT_GATEWAY, event->connection.gateway_id);
	c->bgp = !event->removed && event->connection.bgp;
	set_present(r, &c->object, event->removed);
	if (before != c->gateway) {
		if (before) {
			list_remove(&before->connections, c);
		}
		if (c->gateway) {
			list_add(&c->gateway->connections, c);
		}
	}
	for (size_t i = 0; i < c->tunnels.count; i++) {
		tunnel_refresh(r, c->tunnels.items[i]);
		rehome(r, c->tunnels.items[i]);
	}
	mark_statics(r, &c->statics);
	if (before) {
		gateway_sweep(r, before, true); // each destination is, or no longer is, advertised to it
	}
	if (c->gateway && c->gateway != before) {
		gateway_sweep(r, c->gateway, true);
	}
	object_release(r, before ? &before->object : NULL);
	object_release(r, &c->object);
}

// Where a connection is has changed: what it is told is told there too, or there no longer.
static void presences_changed(struct route *r, const struct connection *c)
{
	if (c->gateway && c->bgp) {
		gateway_sweep(r, c->gateway, true);
	}
}

static void leave(struct route *r, struct tunnel *t)
{
	struct presence *presence = t->presence;
	if (presence && --presence->tunnels == 0) {
		list_remove(&t->connection->presences, presence);
		presences_changed(r, t->connection);
	}
	object_release(r, presence ? &presence->object : NULL);
	t->presence = NULL;
}

static void enter(struct route *r, struct tunnel *t)
{
	if (!t->connection || !t->node) {
		return;
	}
	char id[ROUTE_KEY_TEXT];
	row_key(id, t->connection->object.id, t->node->object.id, NULL, NULL);
	t->presence = (struct presence *)object_get(r, OBJECT_PRESENCE, id);
	t->presence->node = t->node;
	if (t->presence->tunnels++ == 0) {
		list_add(&t->connection->presences, t->presence);
		presences_changed(r, t->connection);
	}
}

void input_tunnel(struct route *r, const struct route_event *event)
{
	struct tunnel *t = (struct tunnel *)object_get(r, OBJECT_TUNNEL, event->id);
	struct connection *connection_before = t->connection;
	struct node *node_before = t->node;
	struct connection *connection = event->removed ? NULL : refer(r, OBJECT_CONNECTION, event->tunnel.connection_id);
	struct node *node = event->removed ? NULL : refer(r, OBJECT_NODE, event->tunnel.node_id);
	if (connection != connection_before || node != node_before) {
		leave(r, t);
		t->connection = connection;
		t->node = node;
		enter(r, t);
	}
	t->admin_up = !event->removed && event->tunnel.admin_up;
	set_present(r, &t->object, event->removed);
	if (connection_before) {
		list_remove(&connection_before->tunnels, t);
		mark_statics(r, &connection_before->statics);
	}
	if (t->connection) {
		list_add(&t->connection->tunnels, t);
		mark_statics(r, &t->connection->statics);
	}
	if (node_before) {
		list_remove(&node_before->tunnels, t);
	}
	if (t->node) {
		list_add(&t->node->tunnels, t);
	}
	tunnel_refresh(r, t);
	rehome(r, t);
	if (connection != connection_before) { // else its groups mark those that it changes anything for
		mark_learned(r, t);
	}
	object_release(r, connection_before ? &connection_before->object : NULL);
	object_release(r, node_before ? &node_before->object : NULL);
	object_release(r, &t->object);
}

// What another service says of a tunnel keeps the object, also before or after its row.
static void know(struct route *r, struct object *object, bool *known, bool removed)
{
	if (!removed && !*known) {
		object_hold(object);
	} else if (removed && *known) {
		object_release(r, object);
	}
	*known = !removed;
}

void input_tunnel_state(struct route *r, const struct route_event *event)
{
	struct tunnel *t = (struct tunnel *)object_get(r, OBJECT_TUNNEL, event->id);
	bool up = !event->removed && event->tunnel_state.up;
	know(r, &t->object, &t->state_known, event->removed);
	if (t->up != up) {
		t->up = up;
		tunnel_refresh(r, t);
	}
	object_release(r, &t->object);
}

void input_session(struct route *r, const struct route_event *event)
{
	struct tunnel *t = (struct tunnel *)object_get(r, OBJECT_TUNNEL, event->id);
	uint32_t asn = event->removed ? 0 : event->session.remote_asn;
	bool established = !event->removed && event->session.established;
	know(r, &t->object, &t->session_known, event->removed);
	if (t->established != established) {
		t->established = established;
		tunnel_refresh(r, t);
	}
	if (t->remote_asn != asn) {
		t->remote_asn = asn;
		mark_learned(r, t);
	}
	object_release(r, &t->object);
}

enum { NO_EXPORT = 0xffffff01, NO_ADVERTISE = 0xffffff02, NO_EXPORT_SUBCONFED = 0xffffff03, GRACEFUL_SHUTDOWN = 0xffff0000 };

static struct attributes *attributes_of(const struct route_event *event)
{
	size_t count = event->learned.as_count, communities = event->learned.community_count;
	struct attributes *attributes = allocate(sizeof *attributes + (count + communities) * sizeof attributes->as_path[0]);
	attributes->references = 1;
	attributes->metric = event->learned.metric;
	attributes->origin = event->learned.origin;
	attributes->med = event->learned.med;
	attributes->as_count = count;
	attributes->community_count = communities;
	if (count > 0) {
		memcpy(attributes->as_path, event->learned.as_path, count * sizeof attributes->as_path[0]);
	}
	for (size_t i = 0; i < communities; i++) {
		uint32_t community = event->learned.communities[i];
		attributes->as_path[count + i] = community;
		attributes->shutdown = attributes->shutdown || community == GRACEFUL_SHUTDOWN;
		attributes->keep_local = attributes->keep_local || community == NO_EXPORT || community == NO_ADVERTISE ||
		                         community == NO_EXPORT_SUBCONFED;
	}
	return attributes;
}

void input_learned(struct route *r, const struct route_event *event)
{
	struct tunnel *t = (struct tunnel *)object_get(r, OBJECT_TUNNEL, event->id);
	struct prefix_key key = prefix_key_of(&event->learned.destination);
	struct path *path = map_find(t->learned, prefix_key_bytes(&key));
	if (event->removed) {
		if (path) {
			path_detach(r, path);
			map_remove(t->learned, prefix_key_bytes(&key));
			attributes_release(path->attributes);
			free(path);
			object_release(r, &t->object);
		}
		object_release(r, &t->object);
		return;
	}
	if (!path) {
		path = allocate(sizeof *path);
		path->kind = PATH_LEARNED;
		path->prefix = event->learned.destination;
		path->tunnel = t;
		object_hold(&t->object);
		map_insert(t->learned, prefix_key_bytes(&key), path);
		if (t->home) {
			path_attach(r, path, t->home);
		}
	}
	attributes_release(path->attributes);
	path->attributes = attributes_of(event);
	if (path->destination) {
		destination_mark(r, path->destination);
	}
	object_release(r, &t->object);
}
