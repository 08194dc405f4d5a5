// The only door into the route core: selection and propagation of a region's border-gateway and VPC route tables (product:
// "Route tables").
//
// Rows and states go in as events (route_step), output rows come out through a sink. A step does at once what may not wait: it
// takes a tunnel that is no longer alive out of every next-hop group that holds it. All else is only marked, and done by
// route_settle, in portions, so that a table of any size never stands between a failed tunnel and its groups. Nothing here
// knows a clock: route_settle is told the time.
//
// Pointers in an event and in an action are valid during the call only. Ids are non-empty texts of at most ROUTE_ID_TEXT - 1
// characters.
#ifndef TWINSPAN_ROUTE_ROUTE_H
#define TWINSPAN_ROUTE_ROUTE_H

#include "common/base/address.h"

enum { ROUTE_ID_TEXT = 64, ROUTE_KEY_TEXT = 256 };

// ---- what goes in ----
enum route_event_kind {
	ROUTE_NODE, // which of its services are silent?
	ROUTE_GATEWAY,
	ROUTE_VPC,
	ROUTE_SUBNET,
	ROUTE_VPC_TABLE,
	ROUTE_ATTACHMENT,
	ROUTE_CONNECTION,
	ROUTE_TUNNEL,
	ROUTE_STATIC, // a BorderGatewayRoute
	ROUTE_TUNNEL_STATE,
	ROUTE_SESSION,
	ROUTE_LEARNED,  // id: the tunnel
	ROUTE_QUOTA,    // id: the tenant; "": a tenant without a quota of its own
	ROUTE_RESERVED, // addresses of the region itself; id: whose
};

enum route_propagation { ROUTE_PROPAGATE_ALL, ROUTE_PROPAGATE_SUBNETS, ROUTE_PROPAGATE_NONE };

struct route_vpc_static {
	struct prefix destination;
	const char *gateway_id;
};
struct route_vpc_propagation {
	const char *gateway_id;
	const struct prefix *ranges;
	size_t range_count;
};

struct route_event {
	enum route_event_kind kind;
	const char *id;
	bool removed; // the row is gone; of `learned` the destination is read even so
	union {
		struct {
			bool gone;       // its esp is silent: nothing is forwarded there
			bool bgp_silent; // nobody vouches for what its sessions learned
		} node;
		struct {
			const char *tenant;
			uint32_t asn;
			bool allow_transit;
			const char *const *node_ids;
			size_t node_count;
		} gateway;
		struct {
			const char *host_id;
			const struct prefix *blocks;
			size_t block_count;
		} vpc;
		struct {
			const char *vpc_id;
			struct prefix cidr;
		} subnet;
		struct {
			const char *vpc_id;
			const struct route_vpc_static *statics;
			size_t static_count;
			const struct route_vpc_propagation *propagations;
			size_t propagation_count;
		} vpc_table;
		struct {
			const char *gateway_id;
			const char *vpc_id;
			enum route_propagation propagation;
			const char *const *subnet_ids;
			size_t subnet_count;
			uint64_t order; // of their creation: decides between those that begin to propagate at the same time
		} attachment;
		struct {
			const char *gateway_id;
			bool bgp;
		} connection;
		struct {
			const char *connection_id;
			const char *node_id;
			bool admin_up;
		} tunnel;
		struct {
			const char *gateway_id;
			struct prefix destination;
			bool to_attachment; // else to a connection
			const char *next_hop_id;
			const char *created; // RFC 3339: decides who was there first
		} static_route;
		struct {
			bool up;
		} tunnel_state;
		struct {
			uint32_t remote_asn;
			bool established;
		} session;
		struct {
			struct prefix destination;
			uint32_t metric; // AS path length
			uint32_t origin;
			const uint32_t *as_path;
			size_t as_count;
			uint32_t med; // RFC 4271 §9.1.2.2 (c): a route without one has 0
			const uint32_t *communities;
			size_t community_count;
		} learned;
		struct {
			size_t static_routes;  // per border gateway
			size_t learned_routes; // per border gateway: destinations learned by BGP
		} quota;
		struct {
			const char *what; // "cloud address", for the reason that a user reads; static storage
			const struct address *addresses;
			size_t count;
		} reserved;
	};
};

// ---- what comes out ----
enum route_table {
	ROUTE_TABLE_GROUP,
	ROUTE_TABLE_EFFECTIVE,
	ROUTE_TABLE_SHOWN,
	ROUTE_TABLE_ADVERTISED,
	ROUTE_TABLE_VPC,
	ROUTE_TABLE_COUNT,
};
enum route_kind { ROUTE_KIND_STATIC, ROUTE_KIND_PROPAGATED, ROUTE_KIND_EFFECTIVE };

struct route_member {
	const char *tunnel_id;
	const char *connection_id;
	const char *node_id;
};

struct route_action {
	enum route_table table;
	bool removed; // then only `table` and `key` are set
	const char *key;
	union {
		struct {
			const char *id;
			const char *gateway_id;
			const struct route_member *members;
			size_t member_count;
			const char *const *connection_ids;
			size_t connection_count;
		} group;
		struct {
			const char *gateway_id;
			struct prefix destination;
			const char *attachment_id; // or
			const char *group_id;
		} effective;
		struct {
			const char *gateway_id;
			enum route_kind kind;
			struct prefix destination;
			bool to_attachment;
			const char *next_hop_id;
			const char *type;
			uint32_t metric;
			const uint32_t *as_path;
			size_t as_count;
			const char *const *tunnel_ids;
			size_t tunnel_count;
			bool effective;
			const char *reason;
			bool refused; // a learned prefix that would take what is not the customer's: worth a warning
			uint32_t origin, med;
			const uint32_t *communities;
			size_t community_count;
			uint64_t since; // milliseconds, the settle's time
			uint64_t state; // digest of what `since` is about
			uint64_t
			    order; // in PROPAGATED: its place in the queue for the quota, or among what attachments propagate
		} shown;
		struct {
			const char *connection_id;
			const char *node_id; // whose bgp it is for
			struct prefix destination;
			const uint32_t *as_path;
			size_t as_count;
			uint32_t origin;
			const uint32_t *communities;
			size_t community_count;
		} advertised;
		struct {
			const char *table_id;
			const char *vpc_id;
			const char *host_id; // where the VPC lives; "": nowhere yet
			struct prefix destination;
			const char *type;
			const char *gateway_id;    // "" for LOCAL
			const char *attachment_id; // "" for LOCAL
			const char *group_id;      // "" for LOCAL, for STATIC and for another VPC behind the gateway
			bool effective;
			const char *reason;
			uint32_t metric;
			const uint32_t *as_path;
			size_t as_count;
			uint64_t since;
			uint64_t state;
		} vpc;
	};
};

// Called for each output row that changes, in an order that holds across tables: a group before the routes that refer to it,
// and a group that nobody refers to any more is removed after them.
typedef void route_emit_fn(void *context, const struct route_action *action);
struct route_sink {
	route_emit_fn *emit;
	void *context;
};

struct route;
struct route *route_new(void);
void route_free(struct route **route);
// Takes an event in. false when an id is empty or too long (the event is dropped).
bool route_step(struct route *route, const struct route_event *event, struct route_sink sink);
// Works off at most about `limit` destinations of what the events marked; true when some are left. `time`: milliseconds since
// the epoch.
bool route_settle(struct route *route, uint64_t time, size_t limit, struct route_sink sink);

// What was stored before a restart: since when the row under `key` is in `state`, and its `order` (see `shown`). To be called
// before the events of the inputs; route_forget drops what nobody asked for.
void route_remember(struct route *route, const char *key, uint64_t state, uint64_t since, uint64_t order);
void route_forget(struct route *route);

enum route_quota_kind { ROUTE_QUOTA_STATIC, ROUTE_QUOTA_LEARNED, ROUTE_QUOTA_KINDS };
enum route_quota_level { ROUTE_QUOTA_OK, ROUTE_QUOTA_NEAR, ROUTE_QUOTA_EXCEEDED }; // below 80 %, from there on, beyond
struct route_usage {
	size_t count, discarded, limit;
	enum route_quota_level level;
};
// Calls `fn` for each border gateway and quota whose level is another one than it was told last.
typedef void route_warn_fn(void *context, const char *gateway_id, enum route_quota_kind kind, const struct route_usage *usage);
void route_warnings(struct route *route, route_warn_fn *fn, void *context);
// The sum over all border gateways, for metrics.
struct route_usage route_usage(const struct route *route, enum route_quota_kind kind);
size_t route_pending(const struct route *route); // what is marked and not yet settled

#endif
