// Events into the model: each handler changes the objects of its row and marks what depends on them. A row that is gone is
// taken in as one whose references are all empty. Here: nodes, border gateways and their static routes; VPCs are in vpc_rows.c,
// connections and tunnels in tunnel_rows.c.
#include "services/route/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

static bool id_valid(const char *id)
{
	return id && id[0] != '\0' && strlen(id) < ROUTE_ID_TEXT;
}

// A reference from a row to another object; a malformed one refers to nothing.
void *refer(struct route *r, enum object_kind kind, const char *id)
{
	return id_valid(id) ? object_get(r, kind, id) : NULL;
}

void set_present(struct route *r, struct object *object, bool removed)
{
	if (removed) {
		object_vanish(r, object);
	} else {
		object_appear(object);
	}
}

void mark_statics(struct route *r, const struct list *statics)
{
	for (size_t i = 0; i < statics->count; i++) {
		const struct static_route *row = statics->items[i];
		if (row->path.destination) {
			destination_mark(r, row->path.destination);
		}
	}
}

static void set_nodes(struct route *r, struct gateway *g, const char *const *ids, size_t count)
{
	struct list before = g->nodes;
	g->nodes = (struct list){0};
	for (size_t i = 0; i < before.count; i++) {
		list_remove(&((struct node *)before.items[i])->gateways, g);
	}
	for (size_t i = 0; i < count; i++) {
		struct node *node = refer(r, OBJECT_NODE, ids[i]);
		if (node) {
			list_add(&g->nodes, node);
			list_add(&node->gateways, g);
		}
	}
	for (size_t i = 0; i < before.count; i++) {
		object_release(r, before.items[i]);
	}
	list_fini(&before);
}

// Static routes of VPC tables to this gateway forward while one of its nodes lives.
static void mark_vpc_statics(struct route *r, const struct gateway *g)
{
	for (size_t i = 0; i < g->tables.count; i++) {
		vpc_table_mark_statics(r, g->tables.items[i]);
	}
}

static void input_node(struct route *r, const struct route_event *event)
{
	struct node *node = (struct node *)object_get(r, OBJECT_NODE, event->id);
	bool gone = !event->removed && event->node.gone, bgp_silent = !event->removed && event->node.bgp_silent;
	set_present(r, &node->object, event->removed);
	if (node->gone != gone || node->bgp_silent != bgp_silent) {
		bool moved = node->gone != gone;
		node->gone = gone;
		node->bgp_silent = bgp_silent;
		for (size_t i = 0; i < node->tunnels.count; i++) {
			tunnel_refresh(r, node->tunnels.items[i]);
		}
		for (size_t i = 0; moved && i < node->gateways.count; i++) {
			mark_vpc_statics(r, node->gateways.items[i]);
		}
	}
	object_release(r, &node->object);
}

static bool same_nodes(const struct gateway *g, const char *const *ids, size_t count)
{
	bool same = g->nodes.count == count;
	for (size_t i = 0; same && i < count; i++) {
		same = ids[i] && strcmp(((const struct object *)g->nodes.items[i])->id, ids[i]) == 0;
	}
	return same;
}

// Most changes of a border gateway are to its name or description, which is nothing to its routes.
static void input_gateway(struct route *r, const struct route_event *event)
{
	struct gateway *g = (struct gateway *)object_get(r, OBJECT_GATEWAY, event->id);
	uint32_t asn = event->removed ? 0 : event->gateway.asn;
	bool allow_transit = !event->removed && event->gateway.allow_transit;
	size_t node_count = event->removed ? 0 : event->gateway.node_count;
	if (g->object.present == event->removed || g->asn != asn || g->allow_transit != allow_transit) {
		gateway_sweep(r, g, true);
	}
	if (g->object.present == event->removed) {
		propagation_mark(r, g);
		vpc_tables_mark(r, &g->tables);
	}
	set_present(r, &g->object, event->removed);
	g->asn = asn;
	g->allow_transit = allow_transit;
	if (!same_nodes(g, event->gateway.node_ids, node_count)) {
		set_nodes(r, g, event->gateway.node_ids, node_count);
		mark_vpc_statics(r, g);
	}
	gateway_set_tenant(r, g, event->removed ? NULL : event->gateway.tenant);
	object_release(r, &g->object);
}

// ---- static routes ----
static bool made_before(const struct static_route *a, const struct static_route *b)
{
	int order = strcmp(a->created, b->created);
	return order != 0 ? order < 0 : strcmp(a->object.id, b->object.id) < 0;
}

static void unlink_static(struct route *r, struct static_route *row)
{
	struct gateway *g = row->gateway;
	path_detach(r, &row->path);
	if (g) {
		list_remove(&g->statics, row);
		statics_admit(r, g);
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
	statics_admit(r, row->gateway);
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

// ---- rows that say what they said before, but for what is nothing to routes: a name, a description ----
static uint64_t digest_prefix(uint64_t digest, const struct prefix *prefix)
{
	return digest_number(digest_octets(digest, &prefix->address, sizeof prefix->address), prefix->length);
}

static uint64_t digest_id(uint64_t digest, const char *id)
{
	return digest_text(digest, id ? id : "");
}

static uint64_t digest_vpc_table(uint64_t digest, const struct route_event *event)
{
	digest = digest_id(digest, event->vpc_table.vpc_id);
	for (size_t i = 0; i < event->vpc_table.static_count; i++) {
		digest = digest_prefix(digest_id(digest, event->vpc_table.statics[i].gateway_id),
		                       &event->vpc_table.statics[i].destination);
	}
	digest = digest_number(digest, event->vpc_table.propagation_count);
	for (size_t i = 0; i < event->vpc_table.propagation_count; i++) {
		const struct route_vpc_propagation *propagation = &event->vpc_table.propagations[i];
		digest = digest_number(digest_id(digest, propagation->gateway_id), propagation->range_count);
		for (size_t k = 0; k < propagation->range_count; k++) {
			digest = digest_prefix(digest, &propagation->ranges[k]);
		}
	}
	return digest;
}

static uint64_t digest_attachment(uint64_t digest, const struct route_event *event)
{
	digest = digest_id(digest_id(digest, event->attachment.gateway_id), event->attachment.vpc_id);
	digest = digest_number(digest_number(digest, event->attachment.propagation), event->attachment.order);
	for (size_t i = 0; i < event->attachment.subnet_count; i++) {
		digest = digest_id(digest, event->attachment.subnet_ids[i]);
	}
	return digest;
}

// 0: of this kind every event counts.
static uint64_t row_digest(const struct route_event *event)
{
	uint64_t digest = digest_start();
	switch (event->kind) {
	case ROUTE_VPC:
		digest = digest_id(digest, event->vpc.host_id);
		for (size_t i = 0; i < event->vpc.block_count; i++) {
			digest = digest_prefix(digest, &event->vpc.blocks[i]);
		}
		return digest;
	case ROUTE_SUBNET:
		return digest_prefix(digest_id(digest, event->subnet.vpc_id), &event->subnet.cidr);
	case ROUTE_VPC_TABLE:
		return digest_vpc_table(digest, event);
	case ROUTE_ATTACHMENT:
		return digest_attachment(digest, event);
	case ROUTE_CONNECTION:
		return digest_number(digest_id(digest, event->connection.gateway_id), event->connection.bgp);
	case ROUTE_TUNNEL:
		digest = digest_id(digest_id(digest, event->tunnel.connection_id), event->tunnel.node_id);
		return digest_number(digest, event->tunnel.admin_up);
	case ROUTE_STATIC:
		digest = digest_id(digest_id(digest, event->static_route.gateway_id), event->static_route.next_hop_id);
		digest = digest_number(digest_id(digest, event->static_route.created), event->static_route.to_attachment);
		return digest_prefix(digest, &event->static_route.destination);
	default:
		return 0;
	}
}

static struct object *row_object(const struct route *r, const struct route_event *event)
{
	static const enum object_kind kinds[] = {
	    [ROUTE_VPC] = OBJECT_VPC,
	    [ROUTE_SUBNET] = OBJECT_SUBNET,
	    [ROUTE_VPC_TABLE] = OBJECT_VPC_TABLE,
	    [ROUTE_ATTACHMENT] = OBJECT_ATTACHMENT,
	    [ROUTE_CONNECTION] = OBJECT_CONNECTION,
	    [ROUTE_TUNNEL] = OBJECT_TUNNEL,
	    [ROUTE_STATIC] = OBJECT_STATIC,
	};
	struct object *object = object_find(r, kinds[event->kind], event->id);
	return object && object->present ? object : NULL;
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
	    [ROUTE_QUOTA] = input_quota,
	    [ROUTE_RESERVED] = input_reserved,
	};
	bool defaults = event->kind == ROUTE_QUOTA && event->id && event->id[0] == '\0';
	if (!id_valid(event->id) && !defaults) {
		return false;
	}
	uint64_t digest = event->removed ? 0 : row_digest(event);
	struct object *object = digest != 0 ? row_object(r, event) : NULL;
	if (object && object->row == digest) {
		return true;
	}
	handlers[event->kind](r, event);
	object = digest != 0 ? row_object(r, event) : NULL;
	if (object) {
		object->row = digest;
	}
	return true;
}
