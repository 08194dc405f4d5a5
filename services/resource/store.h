// The rows, and what is reported beside them: shared by the files of this core alone.
#ifndef TWINSPAN_RESOURCE_STORE_H
#define TWINSPAN_RESOURCE_STORE_H

#include "common/base/map.h"
#include "services/resource/index.h"

struct resource {
	char region[64];
	struct map *rows[RESOURCE_KINDS]; // id -> struct row
	struct index *index;
	struct map *inside;       // border gateway id -> struct inside_use
	uint64_t last_order;      // of the row that came last
	uint64_t last_attachment; // the highest `order` of an attachment
	struct map *reports;      // tunnel id -> struct report
	struct map *route_owners; // border gateway or VPC route table id -> struct route_owner
	struct map *routes;       // reporter's key -> struct route_report
	struct map *groups;       // next-hop group id -> struct group_report
	struct map *nodes;        // node id -> struct node_report
};

struct row {
	struct record *record;
	uint64_t order; // rises with every row that comes; one that is changed keeps its own
};
const struct row *row_find(const struct resource *resource, enum resource_kind kind, const char *id);

// Which /30 of 169.254.0.0/16 a border gateway's tunnels have, by number.
enum { INSIDE_PREFIXES = 1 << 14 };
struct inside_use {
	size_t count;
	uint64_t taken[INSIDE_PREFIXES / 64];
};
const struct inside_use *inside_use_of(const struct resource *resource, const char *border_gateway_id); // NULL: none
unsigned inside_number(const char *cidr); // INSIDE_PREFIXES: not one of them

struct node_report {
	bool silent[NODE_SERVICES];
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
	bool has_bgp;
	struct bgp_session bgp; // its texts are its own
	struct {
		size_t count;
		struct event_report list[TUNNEL_EVENTS]; // by number
	} events[NODE_SERVICES];
};

// One allocation: what `route` points to stands behind it.
struct route_report {
	struct route_owner *owner;
	struct shown_route route;
};

struct route_owner {
	char *id;
	struct sorted *routes; // table, prefix, effective ones first, reporter's key -> struct route_report
	size_t counts[SHOWN_TABLES];
	size_t learned;       // of SHOWN_PROPAGATED, by BGP
	size_t not_effective; // of all but SHOWN_EFFECTIVE
};
const struct route_owner *route_owner_find(const struct resource *resource, const char *id); // NULL: no routes

struct group_report {
	size_t count;
	char *tunnel_ids[]; // `count`
};

const struct report *report_find(const struct resource *resource, const char *tunnel_id); // NULL: nothing was reported
bool service_is_silent(const struct resource *resource, const char *node_id, enum node_service service);
bool node_is_silent(const struct resource *resource, const char *node_id); // all its services are

// ---- status.c: what a tunnel and a connection are, from their rows and what was reported ----
struct tunnel_view {
	const char *running; // one of RUNNING_STATUS_VALUES
	const char *bgp;     // one of BGP_STATE_VALUES; NULL: the connection's routing is STATIC
	bool carries;        // UP, and with BGP routing Established: what counts for high availability
	char reason[256], bgp_reason[512];
};
void tunnel_view(const struct resource *resource, const struct record *tunnel, struct tunnel_view *view);
const char *tunnel_state_name(enum tunnel_state state);
const char *ha_status(const struct resource *resource, const struct record *connection);
void report_drop(struct resource *resource, const char *tunnel_id);
void reports_free(struct resource *resource);
// ---- route_report.c ----
void routes_free(struct resource *resource);
bool routes_page(const struct resource *resource, const char *owner_id, const struct route_query *query, struct page *page,
                 void (*visit)(void *context, const struct shown_route *route), void *context, struct problem *problem);

#endif
