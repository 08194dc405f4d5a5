// Events into the model: each handler changes the objects of its row and marks what depends on them. A row that is gone is
// taken in as one whose references are all empty.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

static bool id_valid(const char *id)
{
	return id && id[0] != '\0' && strlen(id) < ROUTE_ID_TEXT;
}

// A reference from a row to another object; a malformed one refers to nothing.
static void *refer(struct route *r, enum object_kind kind, const char *id)
{
	return id_valid(id) ? object_get(r, kind, id) : NULL;
}

static void set_present(struct route *r, struct object *object, bool removed)
{
	if (removed) {
		object_vanish(r, object);
	} else {
		object_appear(object);
	}
}

static void mark_paths(struct route *r, const struct list *statics)
{
	for (size_t i = 0; i < statics->count; i++) {
		const struct static_route *row = statics->items[i];
		if (row->path.destination) {
			destination_mark(r, row->path.destination);
		}
	}
}

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

static void input_node(struct route *r, const struct route_event *event)
{
	struct node *node = (struct node *)object_get(r, OBJECT_NODE, event->id);
	bool gone = !event->removed && event->node.gone;
	set_present(r, &node->object, event->removed);
	if (node->gone != gone) {
		node->gone = gone;
		for (size_t i = 0; i < node->tunnels.count; i++) {
			tunnel_refresh(r, node->tunnels.items[i]);
		}
		struct map_cursor cursor = {0};
		while (map_next(r->objects[OBJECT_GATEWAY], &cursor)) {
			struct gateway *g = cursor.value;
			if (list_has(&g->nodes, node)) {
				vpc_tables_mark(r, &g->tables);
			}
		}
	}
	object_release(r, &node->object);
}

static void set_list(struct route *r, struct list *list, enum object_kind kind, const char *const *ids, size_t count)
{
	struct list before = *list;
	*list = (struct list){0};
	for (size_t i = 0; i < count; i++) {
		void *object = refer(r, kind, ids[i]);
		if (object) {
			list_add(list, object);
		}
	}
	for (size_t i = 0; i < before.count; i++) {
		object_release(r, before.items[i]);
	}
	list_fini(&before);
}

static void input_gateway(struct route *r, const struct route_event *event)
{
	struct gateway *g = (struct gateway *)object_get(r, OBJECT_GATEWAY, event->id);
	set_present(r, &g->object, event->removed);
	g->asn = event->removed ? 0 : event->gateway.asn;
	g->allow_transit = !event->removed && event->gateway.allow_transit;
	set_list(r, &g->nodes, OBJECT_NODE, event->gateway.node_ids, event->removed ? 0 : event->gateway.node_count);
	gateway_mark(r, g);
	propagation_mark(r, g);
	vpc_tables_mark(r, &g->tables);
	object_release(r, &g->object);
}

// Attachments or subnets of the VPC changed: what they propagate, and its route tables.
static void mark_vpc(struct route *r, struct vpc *vpc)
{
	for (size_t i = 0; vpc && i < vpc->attachments.count; i++) {
		struct attachment *a = vpc->attachments.items[i];
		propagation_mark(r, a->gateway);
		mark_paths(r, &a->statics);
	}
}

static void input_vpc(struct route *r, const struct route_event *event)
{
	struct vpc *vpc = (struct vpc *)object_get(r, OBJECT_VPC, event->id);
	set_present(r, &vpc->object, event->removed);
	free(vpc->blocks);
	vpc->block_count = event->removed ? 0 : event->vpc.block_count;
	vpc->blocks = allocate_array(vpc->block_count + 1, sizeof *vpc->blocks);
	if (vpc->block_count > 0) {
		memcpy(vpc->blocks, event->vpc.blocks, vpc->block_count * sizeof *vpc->blocks);
	}
	mark_vpc(r, vpc);
	vpc_tables_mark(r, &vpc->tables);
	object_release(r, &vpc->object);
}

static void input_subnet(struct route *r, const struct route_event *event)
{
	struct subnet *subnet = (struct subnet *)object_get(r, OBJECT_SUBNET, event->id);
	struct vpc *before = subnet->vpc;
	subnet->vpc = event->removed ? NULL : refer(r, OBJECT_VPC, event->subnet.vpc_id);
	if (before) {
		list_remove(&before->subnets, subnet);
	}
	if (subnet->vpc) {
		list_add(&subnet->vpc->subnets, subnet);
		subnet->cidr = event->subnet.cidr;
	}
	mark_vpc(r, before);
	mark_vpc(r, subnet->vpc);
	object_release(r, before ? &before->object : NULL);
	set_present(r, &subnet->object, event->removed);
	object_release(r, &subnet->object);
}

static void table_refer(struct vpc_table *table, struct gateway *g)
{
	if (!list_has(&g->tables, table)) {
		list_add(&g->tables, table);
	}
}

static void clear_vpc_table(struct route *r, struct vpc_table *table)
{
	for (size_t i = 0; i < table->static_count; i++) {
		list_remove(&table->statics[i].gateway->tables, table);
		object_release(r, &table->statics[i].gateway->object);
	}
	for (size_t i = 0; i < table->propagation_count; i++) {
		list_remove(&table->propagations[i].gateway->tables, table);
		object_release(r, &table->propagations[i].gateway->object);
		free(table->propagations[i].ranges);
	}
	free(table->statics);
	free(table->propagations);
	table->statics = NULL;
	table->propagations = NULL;
	table->static_count = table->propagation_count = 0;
}

static void fill_vpc_table(struct route *r, struct vpc_table *table, const struct route_event *event)
{
	table->statics = allocate_array(event->vpc_table.static_count + 1, sizeof *table->statics);
	for (size_t i = 0; i < event->vpc_table.static_count; i++) {
		const struct route_vpc_static *route = &event->vpc_table.statics[i];
		struct gateway *g = refer(r, OBJECT_GATEWAY, route->gateway_id);
		if (g) {
			table->statics[table->static_count++] = (struct vpc_static){route->destination, g};
			table_refer(table, g);
		}
	}
	table->propagations = allocate_array(event->vpc_table.propagation_count + 1, sizeof *table->propagations);
	for (size_t i = 0; i < event->vpc_table.propagation_count; i++) {
		const struct route_vpc_propagation *propagation = &event->vpc_table.propagations[i];
		struct gateway *g = refer(r, OBJECT_GATEWAY, propagation->gateway_id);
		if (g) {
			struct prefix *ranges = allocate_array(propagation->range_count + 1, sizeof *ranges);
			if (propagation->range_count > 0) {
				memcpy(ranges, propagation->ranges, propagation->range_count * sizeof *ranges);
			}
			table->propagations[table->propagation_count++] =
			    (struct vpc_propagation){g, ranges, propagation->range_count};
			table_refer(table, g);
		}
	}
}

// What it says now is published by vpc_table_settle, which also needs the table once its row is gone, so its VPC is let go only
// there.
static void input_vpc_table(struct route *r, const struct route_event *event)
{
	struct vpc_table *table = (struct vpc_table *)object_get(r, OBJECT_VPC_TABLE, event->id);
	struct vpc *before = table->vpc;
	clear_vpc_table(r, table);
	table->vpc = event->removed ? NULL : refer(r, OBJECT_VPC, event->vpc_table.vpc_id);
	if (before) {
		list_remove(&before->tables, table);
		object_release(r, &before->object);
	}
	if (table->vpc) {
		list_add(&table->vpc->tables, table);
		fill_vpc_table(r, table, event);
	}
	vpc_table_mark(r, table);
	set_present(r, &table->object, event->removed);
	object_release(r, &table->object);
}

static void mark_attachment(struct route *r, const struct attachment *a)
{
	propagation_mark(r, a->gateway);
	mark_paths(r, &a->statics);
	if (a->vpc) {
		vpc_tables_mark(r, &a->vpc->tables);
	}
	if (a->gateway) { // the VPC of a destination's attachment decides which VPC tables it may enter
		for (size_t i = 0; i < a->gateway->propagated.count; i++) {
			const struct path *path = a->gateway->propagated.items[i];
			if (path->attachment == a && path->destination) {
				destination_mark(r, path->destination);
			}
		}
		vpc_tables_mark(r, &a->gateway->tables);
	}
}

static void input_attachment(struct route *r, const struct route_event *event)
{
	struct attachment *a = (struct attachment *)object_get(r, OBJECT_ATTACHMENT, event->id);
	struct gateway *gateway_before = a->gateway;
	struct vpc *vpc_before = a->vpc;
	mark_attachment(r, a);
	if (gateway_before) {
		list_remove(&gateway_before->attachments, a);
	}
	if (vpc_before) {
		list_remove(&vpc_before->attachments, a);
	}
	a->gateway = event->removed ? NULL : refer(r, OBJECT_GATEWAY, event->attachment.gateway_id);
	a->vpc = event->removed ? NULL : refer(r, OBJECT_VPC, event->attachment.vpc_id);
	a->order = event->removed ? 0 : event->attachment.order;
	a->propagation = event->removed ? ROUTE_PROPAGATE_NONE : event->attachment.propagation;
	set_list(r, &a->subnets, OBJECT_SUBNET, event->attachment.subnet_ids,
	         event->removed ? 0 : event->attachment.subnet_count);
	if (a->gateway && a->vpc) {
		list_add(&a->gateway->attachments, a);
		list_add(&a->vpc->attachments, a);
	}
	mark_attachment(r, a);
	object_release(r, gateway_before ? &gateway_before->object : NULL);
	object_release(r, vpc_before ? &vpc_before->object : NULL);
	set_present(r, &a->object, event->removed);
	object_release(r, &a->object);
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

static void input_connection(struct route *r, const struct route_event *event)
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
	mark_paths(r, &c->statics);
	if (before) {
		gateway_mark(r, before);
	}
	if (c->gateway && c->gateway != before) {
		gateway_mark(r, c->gateway);
	}
	object_release(r, before ? &before->object : NULL);
	object_release(r, &c->object);
}

static void input_tunnel(struct route *r, const struct route_event *event)
{
	struct tunnel *t = (struct tunnel *)object_get(r, OBJECT_TUNNEL, event->id);
	struct connection *connection_before = t->connection;
	struct node *node_before = t->node;
	t->connection = event->removed ? NULL : refer(r, OBJECT_CONNECTION, event->tunnel.connection_id);
	t->node = event->removed ? NULL : refer(r, OBJECT_NODE, event->tunnel.node_id);
	t->admin_up = !event->removed && event->tunnel.admin_up;
	set_present(r, &t->object, event->removed);
	if (connection_before) {
		list_remove(&connection_before->tunnels, t);
		mark_paths(r, &connection_before->statics);
	}
	if (t->connection) {
		list_add(&t->connection->tunnels, t);
		mark_paths(r, &t->connection->statics);
	}
	if (node_before) {
		list_remove(&node_before->tunnels, t);
	}
	if (t->node) {
		list_add(&t->node->tunnels, t);
	}
	tunnel_refresh(r, t);
	rehome(r, t);
	mark_learned(r, t);
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

static void input_tunnel_state(struct route *r, const struct route_event *event)
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

static void input_session(struct route *r, const struct route_event *event)
{
	struct tunnel *t = (struct tunnel *)object_get(r, OBJECT_TUNNEL, event->id);
	uint32_t asn = event->removed ? 0 : event->session.remote_asn;
	know(r, &t->object, &t->session_known, event->removed);
	if (t->remote_asn != asn) {
		t->remote_asn = asn;
		mark_learned(r, t);
	}
	object_release(r, &t->object);
}

static struct attributes *attributes_of(const struct route_event *event)
{
	size_t count = event->learned.as_count;
	struct attributes *attributes = allocate(sizeof *attributes + count * sizeof attributes->as_path[0]);
	attributes->references = 1;
	attributes->metric = event->learned.metric;
	attributes->origin = event->learned.origin;
	attributes->as_count = count;
	if (count > 0) {
		memcpy(attributes->as_path, event->learned.as_path, count * sizeof attributes->as_path[0]);
	}
	return attributes;
}

static void input_learned(struct route *r, const struct route_event *event)
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

// ---- static routes: within the quota are those made first ----
static bool made_before(const struct static_route *a, const struct static_route *b)
{
	int order = strcmp(a->created, b->created);
	return order != 0 ? order < 0 : strcmp(a->object.id, b->object.id) < 0;
}

static void admit_statics(struct route *r, struct gateway *g)
{
	for (size_t i = 0; i < g->statics.count; i++) {
		struct static_route *row = g->statics.items[i];
		bool admitted = i < r->settings.static_routes;
		if (row->admitted != admitted) {
			row->admitted = admitted;
			destination_mark(r, row->path.destination);
		}
	}
}

static void unlink_static(struct route *r, struct static_route *row)
{
	struct gateway *g = row->gateway;
	path_detach(r, &row->path);
	if (g) {
		list_remove(&g->statics, row);
		admit_statics(r, g);
	}
	if (row->attachment) {
		list_remove(&row->attachment->statics, row);
		object_release(r, &row->attachment->object);
	}
	if (row->connection) {
		list_remove(&row->connection->statics, row);
		object_release(r, &row->connection->object);
	}
	object_release(r, g ? &g->object : NULL);
	row->gateway = NULL;
	row->attachment = NULL;
	row->connection = NULL;
	row->admitted = false;
}

static void link_static(struct route *r, struct static_route *row, const struct route_event *event)
{
	row->gateway = refer(r, OBJECT_GATEWAY, event->static_route.gateway_id);
	if (event->static_route.to_attachment) {
		row->attachment = refer(r, OBJECT_ATTACHMENT, event->static_route.next_hop_id);
	} else {
		row->connection = refer(r, OBJECT_CONNECTION, event->static_route.next_hop_id);
	}
	if (!row->gateway || (!row->attachment && !row->connection)) {
		unlink_static(r, row);
		return;
	}
	list_add(row->attachment ? &row->attachment->statics : &row->connection->statics, row);
	memset(row->created, 0, sizeof row->created);
	if (event->static_route.created) {
		strncpy(row->created, event->static_route.created, sizeof row->created - 1);
	}
	struct list *statics = &row->gateway->statics;
	list_add(statics, row);
	size_t at = statics->count - 1;
	while (at > 0 && made_before(row, statics->items[at - 1])) {
		statics->items[at] = statics->items[at - 1];
		at--;
	}
	statics->items[at] = row;
	row->path = (struct path){.kind = PATH_STATIC, .prefix = event->static_route.destination, .row = row};
	path_attach(r, &row->path, row->gateway);
	admit_statics(r, row->gateway);
}

static void input_static(struct route *r, const struct route_event *event)
{
	struct static_route *row = (struct static_route *)object_get(r, OBJECT_STATIC, event->id);
	unlink_static(r, row);
	if (!event->removed) {
		link_static(r, row, event);
	}
	set_present(r, &row->object, event->removed);
	object_release(r, &row->object);
}

bool input(struct route *r, const struct route_event *event)
{
	static void (*const handlers[])(struct route *, const struct route_event *) = {
	    [ROUTE_NODE] = input_node,
	    [ROUTE_GATEWAY] = input_gateway,
	    [ROUTE_VPC] = input_vpc,
	    [ROUTE_SUBNET] = input_subnet,
	    [ROUTE_VPC_TABLE] = input_vpc_table,
	    [ROUTE_ATTACHMENT] = input_attachment,
	    [ROUTE_CONNECTION] = input_connection,
	    [ROUTE_TUNNEL] = input_tunnel,
	    [ROUTE_STATIC] = input_static,
	    [ROUTE_TUNNEL_STATE] = input_tunnel_state,
	    [ROUTE_SESSION] = input_session,
	    [ROUTE_LEARNED] = input_learned,
	};
	if (!id_valid(event->id)) {
		return false;
	}
	handlers[event->kind](r, event);
	return true;
}
