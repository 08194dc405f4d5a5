// What the files of route's shell share: bus.c (settling, completeness, life), bus_publish.c (rows out), bus_resource.c (rows
// of resource in) and bus_node.c (rows of the gateway nodes' services in).
#ifndef TWINSPAN_ROUTE_BUS_TABLES_H
#define TWINSPAN_ROUTE_BUS_TABLES_H

#include "common/base/map.h"
#include "common/bus/node_set.h"
#include "services/route/shell.h"

// The silence of each service of a node is judged by itself.
enum node_service { NODE_IKE, NODE_BGP, NODE_ESP, NODE_SERVICES };

struct node_services { // one for each of them
	struct route_bus *bus;
	enum node_service service;
	struct node_set *nodes;
};
struct node_silence { // of one node
	bool silent[NODE_SERVICES];
};

struct route_bus {
	struct service *service;
	struct bus *bus;
	struct table *tables[ROUTE_TABLE_COUNT];
	struct feed *feeds[16]; // of resource's tables
	size_t feed_count;
	struct node_services nodes[NODE_SERVICES];
	struct map *silences; // node -> struct node_silence
	struct map *refusals; // keys of shown rows whose prefix is refused, as far as it was said in the log
	struct deadline more; // portions left to settle
	struct deadline wait; // for inputs
	instant started;
	bool complete;
	bool reaping; // groups are being removed: all else of this portion has been published
	struct metric *events, *unusable, *portions, *busy, *changes[ROUTE_TABLE_COUNT];
};

static inline const char *or_empty(const char *text)
{
	return text ? text : "";
}

// ---- bus.c ----
void route_bus_step(struct route_bus *bus, const struct route_event *event);
void route_bus_settle(void *bus);
void route_bus_check_complete(void *bus);

// ---- bus_publish.c ----
void publish_start(struct route_bus *bus); // makes the tables
void publish_free(struct route_bus *bus);
void publish_row(void *bus, const struct route_action *action); // a route_emit_fn
void publish_commit(struct route_bus *bus);

// ---- bus_resource.c ----
void resource_start(struct route_bus *bus);
void resource_free(struct route_bus *bus);
bool resource_heard(const struct route_bus *bus);

// ---- bus_node.c ----
void nodes_start(struct route_bus *bus);
void nodes_free(struct route_bus *bus);
bool nodes_heard(const struct route_bus *bus);

#endif
