// What the route core holds. Every resource is an object under its id; an object exists while its row does or while another
// object, a path or a row already published names it, since rows of different tables arrive in any order.
#ifndef TWINSPAN_ROUTE_MODEL_H
#define TWINSPAN_ROUTE_MODEL_H

#include "common/base/invariant.h"
#include "common/base/map.h"
#include "services/route/route.h"

enum object_kind {
	OBJECT_NODE,
	OBJECT_GATEWAY,
	OBJECT_VPC,
	OBJECT_SUBNET,
	OBJECT_VPC_TABLE,
	OBJECT_ATTACHMENT,
	OBJECT_CONNECTION,
	OBJECT_TUNNEL,
	OBJECT_STATIC,
	OBJECT_ROWS, // the kinds that a resource's row stands for
	OBJECT_PRESENCE = OBJECT_ROWS,
	OBJECT_KINDS,
};
struct object {
	enum object_kind kind;
	bool present; // its row exists (which counts as a reference)
	size_t references;
	uint64_t row;               // digest of what its row says
	char id[2 * ROUTE_ID_TEXT]; // of a presence two of them
};

// An unordered set of pointers, for the few neighbours that an object has.
struct list {
	void **items;
	size_t count, capacity;
};

struct node {
	struct object object;
	bool gone, bgp_silent;
	struct list tunnels, gateways; // whose rows name this node
};

struct destination;
struct quota { // of the destinations that a gateway learned, the `limit` lowest orders are admitted
	size_t limit;
	struct list admitted; // a heap, highest order first
	struct list waiting;  // a heap, lowest order first
};
struct limits { // of a tenant's border gateways
	size_t routes[ROUTE_QUOTA_KINDS];
};

struct gateway {
	struct object object;
	char tenant[ROUTE_ID_TEXT];
	uint32_t asn;
	bool allow_transit;
	bool propagation_dirty;
	bool usage_dirty;  // in the queue of those whose quotas are to be looked at
	struct list nodes; // held
	struct map *destinations;
	struct destination *first, *last; // the same, as they came
	struct destination *sweep;        // the next one to be looked at: see destination.c
	bool sweeping, sweep_all;
	struct list attachments, connections, tables; // whose rows name this gateway
	struct list statics;                          // in the order of their creation
	struct list propagated;                       // paths, sorted by destination and attachment order
	size_t static_limit;
	struct quota quota;
	enum route_quota_level levels[ROUTE_QUOTA_KINDS]; // as last told
};
struct vpc {
	struct object object;
	char host_id[ROUTE_ID_TEXT];
	struct prefix *blocks;
	size_t block_count;
	struct list subnets, tables, attachments;
};
struct subnet {
	struct object object;
	struct vpc *vpc;
	struct prefix cidr;
};
struct attachment {
	struct object object;
	struct gateway *gateway;
	struct vpc *vpc;
	enum route_propagation propagation;
	struct list subnets; // held
	struct list statics; // routes to it
	uint64_t order;
};
struct connection {
	struct object object;
	struct gateway *gateway;
	bool bgp;
	struct list tunnels; // whose rows name this connection
	struct list presences;
	struct list statics;
};
// A connection on a node, under "<connection id>/<node id>", while it has a tunnel there: what its sessions tell is told to the
// bgp of that node.
struct presence {
	struct object object;
	struct node *node; // its tunnels hold it
	size_t tunnels;
};
struct tunnel {
	struct object object;
	struct connection *connection;
	struct node *node;
	struct presence *presence; // held; NULL while it is in no connection or on no node
	bool admin_up;
	bool up;                         // what ike says
	bool established;                // what bgp says of its session
	bool state_known, session_known; // each counts as a reference
	uint32_t remote_asn;
	struct gateway *home; // where its learned routes go; NULL while a row on the way is missing
	struct map *learned;  // prefix -> path
	struct list groups;   // that hold it
};

struct attributes { // of a learned route; shared by the path and what was published of it
	size_t references;
	uint32_t metric;
	uint32_t origin;
	uint32_t med;
	bool shutdown;   // GRACEFUL_SHUTDOWN (RFC 8326)
	bool keep_local; // NO_EXPORT, NO_ADVERTISE or NO_EXPORT_SUBCONFED (RFC 1997): no other connection is told
	size_t as_count, community_count;
	uint32_t as_path[]; // the communities stand behind it
};
static inline const uint32_t *attributes_communities(const struct attributes *attributes)
{
	return attributes->as_path + attributes->as_count;
}

enum path_kind { PATH_STATIC, PATH_PROPAGATED, PATH_LEARNED };
struct path {
	enum path_kind kind;
	struct destination *destination; // NULL: not in any table
	struct path *next;               // of the destination
	struct prefix prefix;
	struct static_route *row;      // static
	struct attachment *attachment; // propagated (held)
	uint64_t place;                // propagated: the lower one was there first
	struct attachment *blocked_by; // propagated: whose overlapping prefix came first (held), and which
	struct prefix blocked_prefix;
	struct tunnel *tunnel;         // learned (held)
	struct attributes *attributes; // learned
};
struct static_route {
	struct object object;
	struct gateway *gateway;
	struct attachment *attachment; // or
	struct connection *connection;
	char created[40];
	bool admitted; // within the quota
	struct path path;
};

// A row that was published, as far as its successor must know it.
struct shown {
	struct object *next_hop; // held; NULL for LOCAL
	uint8_t kind;
	bool kept; // seen in this pass
	bool published;
	uint64_t state, content, since;
};
struct shown_list {
	struct shown *items;
	uint32_t count, capacity;
	uint32_t next; // where shown_take looks first
};

// Why a learned prefix never forwards, whatever else there is (reserved.c).
enum refusal { REFUSAL_NONE, REFUSAL_VPC, REFUSAL_LINK_LOCAL, REFUSAL_ADDRESS };

enum outcome { OUTCOME_NONE, OUTCOME_ATTACHMENT, OUTCOME_GROUP };
struct destination {
	struct gateway *gateway; // held
	struct prefix prefix;
	struct path *paths;
	struct group *group; // of all its candidates by VPN
	struct destination *group_next, **group_at;
	struct destination *next, *previous; // of the gateway
	struct destination *dirty_next;
	bool dirty;
	bool admitted;   // learned routes are within the quota
	bool local;      // what forwards is not for other connections (attributes.keep_local of any of them)
	uint8_t refusal; // enum refusal, of its learned paths
	size_t learned_count;
	uint64_t order; // place in the queue for the quota
	size_t quota_position;
	// What forwards now, as published.
	enum outcome outcome;
	uint64_t outcome_content;
	struct attachment *attachment; // held
	struct attributes *attributes; // held
	struct shown_list shown, advertised;
};

struct candidate {
	struct tunnel *tunnel; // held by the group
	size_t tier;           // 0 is best; of the tiers the first that has a live tunnel forwards
	bool session;          // learned through it: it lives only as long as its BGP session does
};
struct group {
	char id[32];
	struct gateway *gateway; // held
	struct candidate *candidates;
	size_t count;
	size_t tier;      // the one that forwards
	size_t alive;     // its live tunnels; 0: none
	uint64_t content; // digest of the row published
	struct destination *destinations;
	struct destination *mark; // the next of them to be marked
	bool dying;               // in the queue of groups to look at for removal
	bool dirty;               // in the queue of groups whose destinations are to be marked
};

struct vpc_static {
	struct prefix destination;
	struct gateway *gateway;
};
struct vpc_propagation {
	struct gateway *gateway;
	struct prefix *ranges;
	size_t range_count;
};
struct vpc_entry { // one destination of one VPC route table
	struct vpc_entry *next, *previous;
	struct prefix prefix;
	struct shown_list shown;
};
struct vpc_table {
	struct object object;
	struct vpc *vpc;
	struct vpc_static *statics;
	size_t static_count;
	struct vpc_propagation *propagations;
	size_t propagation_count;
	struct map *entries;
	struct vpc_entry *first, *last; // the same, as they came
	bool dirty;                     // in the queue
	bool statics_dirty;             // its own blocks and static routes are to be computed anew
	bool entries_dirty;             // all of it is; how far that is:
	struct vpc_entry *entry;        // the next one
	size_t propagation;             // then: the propagation in hand
	struct destination *offered;    // and the next destination of its border gateway
};

// `order` of a shown row is the place in the queue for the quota, or with this bit that among what attachments propagate.
#define PLACE_MARK ((uint64_t)1 << 62)
struct memory {
	uint64_t state, since;
};
struct ranked { // a path of the destination in hand, with its place in the order of product "Route tables"
	struct path *path;
	uint32_t next_hop_type, type; // 100, 140; 100, 120, 150, 200
	uint32_t metric;
	uint32_t shutdown, origin, med_rank;
	size_t tier;
	bool eligible; // may forward as soon as its next hop is alive
	bool effective;
};
struct route {
	struct map *limits;   // tenant -> struct limits; "": of those without
	struct map *reserved; // whose -> struct reserved_owner
	struct map *holders;  // the first bits of an address -> list of reserved addresses
	struct map *objects[OBJECT_KINDS];
	struct map *groups;
	struct destination *dirty_first, *dirty_last;
	size_t dirty_count;
	struct list dirty_gateways;    // held: their attachments' propagation is to be computed anew
	struct list sweeping;          // held: gateways whose destinations are looked at one after another
	struct list dirty_usage;       // held: gateways whose quotas are to be looked at
	struct list dirty_tables;      // held
	struct list dying;             // groups
	struct list dirty_groups;      // whose members changed
	struct map *remembered;        // row key -> struct memory
	struct map *remembered_orders; // gateway id/prefix -> uint64_t
	struct map *remembered_places; // row key -> uint64_t
	uint64_t next_order, next_place;
	uint64_t time;
	struct route_sink sink;
	struct prefix text_prefix; // whose text `text` is
	char text[PREFIX_TEXT];
	// Scratch space, grown as needed.
	struct ranked *ranked;
	size_t ranked_capacity;
	struct candidate *candidates;
	size_t candidate_capacity;
	struct list texts;
};

// ---- object.c ----
void list_add(struct list *list, void *item);
bool list_remove(struct list *list, const void *item);
bool list_has(const struct list *list, const void *item);
void list_fini(struct list *list);
struct object *object_find(const struct route *r, enum object_kind kind, const char *id);
struct object *object_get(struct route *r, enum object_kind kind, const char *id); // makes it when missing, and holds it
void object_hold(struct object *object);
void object_release(struct route *r, struct object *object); // NULL is nothing
void object_appear(struct object *object);                   // its row exists
void object_vanish(struct route *r, struct object *object);
struct attributes *attributes_hold(struct attributes *attributes);
void attributes_release(struct attributes *attributes);
struct prefix_key {
	uint8_t octets[18];
};
struct prefix_key prefix_key_of(const struct prefix *prefix);
struct bytes prefix_key_bytes(const struct prefix_key *key);

// ---- destination.c ----
struct destination *destination_find(const struct gateway *g, const struct prefix *prefix);
void destination_mark(struct route *r, struct destination *d);
// All of its destinations are marked, or (`all` false) those whose refusal is another one now; a portion at a time.
void gateway_sweep(struct route *r, struct gateway *g, bool all);
void gateways_sweep(struct route *r, size_t limit);
void path_attach(struct route *r, struct path *path, struct gateway *g);
void path_detach(struct route *r, struct path *path);          // nothing when it is not attached
bool destination_reap(struct route *r, struct destination *d); // frees it when nothing is left of it

// ---- quota.c ----
void input_quota(struct route *r, const struct route_event *event);
void gateway_set_tenant(struct route *r, struct gateway *g, const char *tenant);
void quota_insert(struct route *r, struct gateway *g, struct destination *d);
void quota_remove(struct route *r, struct gateway *g, struct destination *d);
void statics_admit(struct route *r, struct gateway *g); // the first of them, up to the limit
void usage_mark(struct route *r, struct gateway *g);

// ---- reserved.c ----
void input_reserved(struct route *r, const struct route_event *event);
enum refusal refusal_of(const struct route *r, const struct destination *d);
void refusal_explain(const struct route *r, const struct destination *d, char *text, size_t size);
void reserved_free(struct route *r);

// ---- input.c ----
bool input(struct route *r, const struct route_event *event);
void *refer(struct route *r, enum object_kind kind, const char *id); // held; a malformed id refers to nothing: NULL
void set_present(struct route *r, struct object *object, bool removed);
void mark_statics(struct route *r, const struct list *statics);

// ---- vpc_rows.c ----
void input_vpc(struct route *r, const struct route_event *event);
void input_subnet(struct route *r, const struct route_event *event);
void input_vpc_table(struct route *r, const struct route_event *event);
void input_attachment(struct route *r, const struct route_event *event);

// ---- tunnel_rows.c ----
void input_connection(struct route *r, const struct route_event *event);
void input_tunnel(struct route *r, const struct route_event *event);
void input_tunnel_state(struct route *r, const struct route_event *event);
void input_session(struct route *r, const struct route_event *event);
void input_learned(struct route *r, const struct route_event *event);

// ---- attachment.c ----
void propagation_mark(struct route *r, struct gateway *g);
void propagation_settle(struct route *r, struct gateway *g);
bool attachment_alive(const struct attachment *a, const struct gateway *g);
bool attachment_before(const struct attachment *a, const struct attachment *b);        // made first
struct attachment *attachment_between(const struct vpc *vpc, const struct gateway *g); // NULL when there is none

// ---- group.c ----
bool tunnel_alive(const struct tunnel *t);  // packets pass through it
bool session_alive(const struct tunnel *t); // and what was learned over it holds
bool candidate_alive(const struct candidate *candidate);
struct group *group_of(struct route *r, struct gateway *g, const struct candidate *candidates, size_t count);
void group_join(struct route *r, struct group *group, struct destination *d); // group NULL: leave
void tunnel_refresh(struct route *r, struct tunnel *t); // the groups that hold it, after anything about it changed
size_t groups_mark(struct route *r, size_t limit); // the destinations of groups that changed, so many; returns what is left
void groups_reap(struct route *r);

// ---- decision.c ----
void destination_settle(struct route *r, struct destination *d);
const char *path_type(const struct path *path);
bool path_alive(const struct path *path); // its next hop
// Which criterion of the order makes `a` better than `b`; "" when that is the next hop's or the route's type, or nothing.
const char *preference_reason(const struct ranked *a, const struct ranked *b);

// ---- table.c ----
void shown_border_gateway(struct route *r, struct destination *d, size_t count);
void advertise(struct route *r, struct destination *d);

// ---- vpc_table.c ----
bool gateway_has_live_node(const struct gateway *g);
void vpc_table_mark(struct route *r, struct vpc_table *table);         // all of it
void vpc_table_mark_statics(struct route *r, struct vpc_table *table); // its own blocks and static routes
void vpc_tables_mark(struct route *r, struct list *tables);
size_t vpc_tables_settle(struct route *r, size_t limit); // returns how many tables are left
void vpc_entry_settle(struct route *r, struct vpc_table *table, const struct prefix *prefix);
void vpc_table_fini(struct vpc_table *table);

// ---- shown.c ----
void emit(struct route *r, const struct route_action *action);
const char *prefix_text(struct route *r, const struct prefix *prefix); // valid until the next call with another prefix
// The parts with slashes between them; the last may be NULL.
char *row_key(char out[static ROUTE_KEY_TEXT], const char *a, const char *b, const char *c, const char *d);
uint64_t digest_start(void);
uint64_t digest_octets(uint64_t digest, const void *octets, size_t length);
uint64_t digest_text(uint64_t digest, const char *text);
uint64_t digest_number(uint64_t digest, uint64_t number);
uint64_t digest_attributes(uint64_t digest, const struct attributes *attributes);
void shown_begin(struct shown_list *list);
// The row of this pass; NULL when the pass already has it.
struct shown *shown_take(struct shown_list *list, unsigned kind, struct object *next_hop);
// Notes what the row is now. true when it must be published; `since` is kept while the state is.
bool shown_update(struct route *r, struct shown *shown, const char *key, uint64_t state, uint64_t content);
// The next row that this pass did not take, to be withdrawn and dropped. Start with *at = 0.
struct shown *shown_stale(struct shown_list *list, size_t *at);
void shown_drop(struct route *r, struct shown_list *list, struct shown *shown);
void shown_fini(struct route *r, struct shown_list *list);

#endif
