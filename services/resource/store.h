// The rows, and what is reported beside them: shared by the files of this core alone.
#ifndef TWINSPAN_RESOURCE_STORE_H
#define TWINSPAN_RESOURCE_STORE_H

#include "common/base/map.h"
#include "services/resource/resource.h"

struct resource {
	char region[64];
	struct map *rows[RESOURCE_KINDS]; // id -> struct record
	struct map *reports;              // tunnel id -> struct report
	struct map *routes;               // owner id -> struct map: reporter's key -> struct route_report
	struct map *route_owners;         // reporter's key -> owner id
	struct map *groups;               // next-hop group id -> struct group_report
	struct map *silent_nodes;         // node id -> the map itself
};

struct event_report {
	uint64_t number, time;
	char *event, *detail;
};
// What is known of a tunnel from its node.
struct report {
	bool has_status;
	enum tunnel_state state;
	char *reason, *ike_suite, *child_suite;
	uint64_t since;
	struct tunnel_counters counters;
	char *bgp_state;
	size_t event_count;
	struct event_report events[TUNNEL_EVENTS]; // by number
};

struct route_report {
	struct shown_route route; // its texts and lists are its own
};

struct group_report {
	size_t count;
	char *tunnel_ids[]; // `count`
};

const struct report *report_find(const struct resource *resource, const char *tunnel_id); // NULL: nothing was reported
bool node_is_silent(const struct resource *resource, const char *node_id);
void report_drop(struct resource *resource, const char *tunnel_id);
void reports_free(struct resource *resource);

#endif
