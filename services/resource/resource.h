// The core of `resource`: the rows of every kind in memory, and the rules of changing them. Pure: a request and the time go in,
// a plan comes out (the rows that change, or the problem); the shell makes the plan durable first and applies it here
// afterwards, so what was acknowledged is always in the database, and a plan that fails changes nothing. What the other
// services report of tunnels and routes is kept beside the rows and shown with them.
#ifndef TWINSPAN_RESOURCE_RESOURCE_H
#define TWINSPAN_RESOURCE_RESOURCE_H

#include "common/base/random.h"
#include "common/base/secret.h"
#include "proto/problem.h"
#include "proto/record.h"

struct resource;

struct resource *resource_new(const char *region);
void resource_free(struct resource **resource);
// Takes a stored row over (start, and after the database was away).
void resource_load(struct resource *resource, struct record *row);
void resource_unload(struct resource *resource, enum resource_kind kind, const char *id);
const struct record *resource_find(const struct resource *resource, enum resource_kind kind, const char *id); // NULL: none
size_t resource_count(const struct resource *resource, enum resource_kind kind);
struct row_cursor {
	size_t position;
	const struct record *row;
};
bool resource_next(const struct resource *resource, enum resource_kind kind,
                   struct row_cursor *cursor); // start with a zeroed one

// The limits of a tenant that has no quota of its own: a Quota without an id, to be freed.
struct record *quota_defaults(void);

// ---- who asks ----
enum role { ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };
struct actor {
	char token[64];  // the id of the token; "": none was shown
	char tenant[64]; // "": every tenant, and the region's own kinds
	enum role role;
};
struct actor actor_of_token(const struct record *token);
// Whether the actor may see rows of this kind at all; a 403 problem if not.
bool resource_may_read(const struct actor *actor, enum resource_kind kind, struct problem *problem);
bool resource_visible(const struct actor *actor, const struct record *row);

// ---- changing ----
enum action {
	ACTION_CREATE,
	ACTION_UPDATE,
	ACTION_DELETE,
	ACTION_ADD_TUNNELS, // to a connection: the layout, or one tunnel
	ACTION_REKEY_CHILD,
	ACTION_REKEY_IKE,
	ACTION_RESTART,
};
struct request {
	struct actor actor;
	enum action action;
	enum resource_kind kind;
	const char *id;                // NULL with ACTION_CREATE
	const struct record *body;     // CREATE, UPDATE: of `kind`; ADD_TUNNELS: a VpnTunnel, the template; else NULL
	const struct cleared *cleared; // beside the body
	bool has_revision;             // If-Match
	uint64_t revision;
	uint64_t now; // milliseconds since the epoch
	struct random *random;
};
struct change {
	enum resource_kind kind;
	char id[64];
	const struct record *before; // the store's; NULL: made
	struct record *after;        // the plan's until it is applied; NULL: removed
	bool answer;                 // belongs into the answer (the others are consequences)
	struct secret secret;        // a tunnel's new pre-shared key, a token's text; length 0: none, or unchanged
	bool generated;              // the secret was made here, and is shown once
	char note[192];              // of a consequence: what it took away, for the answer to a deletion; "": nothing
};
struct plan {
	struct problem problem; // status 0: none
	struct change *changes;
	size_t count;
};
// Returns false and the problem when the request is refused. Free the plan in both cases.
bool resource_plan(const struct resource *resource, const struct request *request, struct plan *plan);
void resource_apply(struct resource *resource, struct plan *plan);
void plan_free(struct plan *plan);

// ---- what other services report ----
enum tunnel_state { TUNNEL_DOWN, TUNNEL_CONNECTING, TUNNEL_UP };
struct tunnel_status {
	enum tunnel_state state;
	const char *reason;
	uint64_t since; // milliseconds since the epoch
	const char *ike_suite, *child_suite;
};
struct tunnel_counters {
	uint64_t packets_in, bytes_in, packets_out, bytes_out, drops;
};
// NULL: the row is gone.
void resource_report_status(struct resource *resource, const char *tunnel_id, const struct tunnel_status *status);
void resource_report_counters(struct resource *resource, const char *tunnel_id, const struct tunnel_counters *counters);
struct bgp_session {
	const char *state; // one of BGP_STATE_VALUES
	const char *reason, *last_error;
	uint64_t since;     // milliseconds since the epoch
	uint32_t hold_time; // negotiated, in seconds
	uint32_t remote_asn, prefixes_received, prefixes_advertised, prefixes_discarded;
};
void resource_report_bgp(struct resource *resource, const char *tunnel_id, const struct bgp_session *session);

// The services of a node that report. A service that is not heard keeps what it reported, and vouches for none of it.
enum node_service { SERVICE_IKE, SERVICE_ESP, SERVICE_BGP, NODE_SERVICES };
extern const char *const node_service_names[NODE_SERVICES];
// Heard, until something else is reported.
void resource_report_service(struct resource *resource, const char *node_id, enum node_service service, bool heard);
void resource_forget_node(struct resource *resource, const char *node_id);

struct tunnel_event {
	enum node_service service; // whose: ike's or bgp's
	uint64_t number;           // that of its service
	uint64_t time;             // milliseconds since the epoch
	const char *event;
	const char *detail;
};
enum { TUNNEL_EVENTS = 64 }; // of each service
void resource_report_event(struct resource *resource, const char *tunnel_id, const struct tunnel_event *event);
// The events of a tunnel that are kept, oldest first.
size_t resource_events(const struct resource *resource, const char *tunnel_id,
                       struct tunnel_event out[static 2 * TUNNEL_EVENTS]);

enum shown_table { SHOWN_STATIC, SHOWN_PROPAGATED, SHOWN_EFFECTIVE, SHOWN_VPC, SHOWN_TABLES };
struct shown_route {
	enum shown_table table;
	const char *owner; // border gateway, or VPC route table
	const char *destination;
	const char *next_hop_type; // JSON name
	const char *next_hop_id;
	const char *type;
	uint32_t metric;
	const uint32_t *as_path;
	size_t as_path_length;
	bool learned; // by BGP: it has an origin, a MED and communities
	uint32_t origin, med;
	const uint32_t *communities;
	size_t community_count;
	const char *const *tunnel_ids;
	const char *group_id; // SHOWN_VPC: in place of tunnel_ids, the group whose members they are; may be NULL
	size_t tunnel_count;
	bool effective;
	const char *reason;
	uint64_t since;
};
// The members of a next-hop group. `tunnel_ids` NULL: the group is gone.
void resource_report_group(struct resource *resource, const char *group_id, const char *const *tunnel_ids, size_t count);
// `key` is the reporter's own; `route` NULL: it is gone. False: its destination is no prefix, and nothing is changed.
bool resource_report_route(struct resource *resource, struct bytes key, const struct shown_route *route);

// ---- showing ----
// A copy of the row with its outputs filled in and without secrets. `routes`: with the first ROUTES_SHOWN of each route table.
enum { ROUTES_SHOWN = 100 };
struct record *resource_show(const struct resource *resource, const struct record *row, bool routes);

// ---- pages. A cursor is opaque to whoever asks, and holds while rows come and go: what is there all the time comes once ----
enum { CURSOR_TEXT = 1408 };
struct page {
	size_t limit;           // items at most
	const char *cursor;     // where the page before ended; NULL: from the start
	char next[CURSOR_TEXT]; // out: where this one ended; "": there is no more
};
struct list_filter {
	const char *path; // a field of the kind, not one inside another; a shown value as well as a stored one
	const char *value;
};
enum { LIST_FILTERS = 16, LIST_EXAMINED = 10000 };
struct list_query {
	const struct actor *actor;
	enum resource_kind kind;
	struct list_filter filters[LIST_FILTERS];
	size_t filter_count;
};
// Whether rows of the kind can be filtered so; a 400 problem if not.
bool list_filter_fits(enum resource_kind kind, const struct list_filter *filter, struct problem *problem);
// Calls `visit` for each row that the actor sees and the filters let through, in the order in which they were made. At most
// LIST_EXAMINED rows are looked at: a page may be short, or empty, and have a next one. False, and a 400 problem: the cursor is
// none.
typedef void list_fn(void *context, const struct record *row);
bool resource_list(const struct resource *resource, const struct list_query *query, struct page *page, list_fn *visit,
                   void *context, struct problem *problem);

struct route_query {
	enum shown_table table;
	const char *destination; // only this prefix; NULL: all
};
// The route tables of a border gateway or VPC route table, by destination, effective ones first. A row of the kind with nothing
// but the page's routes, at `path` (route_list_path), to be freed. NULL, and a 400 problem: a cursor or destination that is
// none.
struct record *resource_routes(const struct resource *resource, const struct record *owner, const struct route_query *query,
                               struct page *page, struct problem *problem);
const char *route_list_path(enum shown_table table); // "routeTables.effectiveRoutes"

// The figures of a tunnel as reported last.
struct tunnel_figures {
	bool up;
	bool established; // its BGP session; false with STATIC routing
	struct tunnel_counters counters;
};
struct tunnel_figures resource_figures(const struct resource *resource, const char *tunnel_id);
// Configuration of the customer's device for a tunnel. A text to be freed; NULL and a problem when the vendor is unknown.
char *resource_configuration(const struct resource *resource, const struct record *tunnel, const char *vendor,
                             struct problem *problem);

enum { TIME_TEXT = 32 };
char *time_format(uint64_t milliseconds, char out[static TIME_TEXT]); // RFC 3339, UTC

#endif
