// The door into the BGP speaker of a node (RFC 4271): events and the time go in, actions come out. The core has no socket and
// no clock: an octet stream that arrives is an event, an octet stream to send is an action, and the same input gives the same
// octets.
//
// A session is one eBGP peering inside one tunnel. Sessions whose `export` is the same advertise the same set of routes, the
// way the tunnels of one VPN connection do. Families: IPv4 unicast.
#ifndef TWINSPAN_BGP_H
#define TWINSPAN_BGP_H

#include "common/base/address.h"
#include "common/base/instant.h"

struct bgp;
struct bgp_session;
struct bgp_attributes; // an interned set of path attributes, shared by the routes that have it

// RFC 4271 §8.2.2, in the order of progress.
enum bgp_state { BGP_IDLE, BGP_CONNECT, BGP_ACTIVE, BGP_OPEN_SENT, BGP_OPEN_CONFIRM, BGP_ESTABLISHED, BGP_STATE_COUNT };

struct bgp_session_config {
	const char *export;    // whose advertised routes it sends: the VPN connection's id
	struct address local;  // cloud inside address
	struct address remote; // customer inside address
	uint32_t local_as;
	uint32_t remote_as;
	uint32_t router_id;        // our BGP Identifier, not 0
	uint16_t hold_time;        // seconds, 0 or ≥ 3
	uint16_t keepalive;        // seconds
	uint32_t maximum_prefixes; // what is received beyond it is discarded; 0: no limit
	bool admin_up;
	bool tunnel_up;
	uint64_t generation; // of the tunnel: a session does not outlive it
};

struct bgp_prefix {
	uint32_t address; // host order, host bits zero
	uint8_t length;
};

struct bgp_advertisement {
	const char *export;
	struct bgp_prefix destination;
	bool withdrawn;
	uint8_t origin;
	const uint32_t *as_path; // without our own AS
	size_t as_path_length;   // at most BGP_AS_PATH_LIMIT; a longer one counts as withdrawn
};
enum { BGP_AS_PATH_LIMIT = 500 };

enum bgp_event_kind {
	BGP_EVENT_TIME,            // bgp_deadline has come
	BGP_EVENT_SESSION,         // `id`, `config`: there is such a session, or it changed
	BGP_EVENT_SESSION_REMOVED, // `session`
	BGP_EVENT_ADVERTISE,       // `advertisements`, `count`: one change of the advertised routes
	BGP_EVENT_ADVERTISED,      // all there is to advertise at first has been said (End-of-RIB may be sent)
	BGP_EVENT_ACCEPTED,        // `session`, `transport` (from bgp_transport_new): the peer's TCP connection
	BGP_EVENT_CONNECTED,       // `session`, `transport`: what BGP_ACTION_CONNECT asked for stands
	BGP_EVENT_RECEIVED,        // `session`, `transport`, `octets`
	BGP_EVENT_SENT,            // `session`, `transport`, `count`: so many octets of BGP_ACTION_SEND have gone to the kernel
	BGP_EVENT_CLOSED, // `session`, `transport`, `reason`: could not connect, or ended; the descriptor is closed already
};

struct bgp_event {
	enum bgp_event_kind kind;
	struct bgp_session *session;
	uint32_t transport;
	const char *id;
	const struct bgp_session_config *config;
	const struct bgp_advertisement *advertisements;
	size_t count;
	struct bytes octets;
	const char *reason;
};

enum bgp_action_kind {
	BGP_ACTION_CONNECT, // open a TCP connection as `transport`
	BGP_ACTION_SEND,    // `offset`, `length` in bgp_actions.octets go to `transport`
	BGP_ACTION_CLOSE,   // `transport`, after what it was given to send has been offered to the kernel
	BGP_ACTION_CHANGED, // bgp_session_status tells something new
	BGP_ACTION_REMOVED, // the session is gone when the next event comes
	BGP_ACTION_NOTE,    // `offset`: a text for the log
};

struct bgp_action {
	enum bgp_action_kind kind;
	struct bgp_session *session;
	uint32_t transport;
	size_t offset;
	size_t length;
};

// What a peer advertises now. Attributes are valid until the next step; NULL: withdrawn.
struct bgp_route_change {
	struct bgp_session *session;
	const struct bgp_attributes *attributes;
	struct bgp_prefix destination;
};

struct bgp_actions {
	struct bgp_action *list;
	size_t count, capacity;
	uint8_t *octets;
	size_t octets_length, octets_capacity;
	struct bgp_route_change *routes;
	size_t route_count, route_capacity;
};

void bgp_actions_clear(struct bgp_actions *actions); // the memory is kept for the next step, unless it is much
void bgp_actions_fini(struct bgp_actions *actions);

struct bgp *bgp_new(const uint8_t seed[static 32]);
void bgp_free(struct bgp **bgp);
// Appends to `actions`. An event of a transport that is gone is ignored.
void bgp_step(struct bgp *bgp, const struct bgp_event *event, instant now, struct bgp_actions *actions);
// When BGP_EVENT_TIME is due; INSTANT_NEVER when nothing is.
instant bgp_deadline(const struct bgp *bgp);

struct bgp_session *bgp_session_find(const struct bgp *bgp, const char *id);
const char *bgp_session_id(const struct bgp_session *session);
// The number for a TCP connection that was accepted.
uint32_t bgp_transport_new(struct bgp *bgp);

struct bgp_session_status {
	enum bgp_state state;
	const char *last_error; // both code names and who sent it; "" when there was none
	uint32_t remote_as;
	uint32_t remote_router_id; // 0 before an OPEN came
	uint16_t hold_time;        // negotiated, 0 before
	size_t prefixes_received;  // accepted and held
	size_t prefixes_advertised;
	uint64_t established_count;
};
void bgp_session_status(const struct bgp_session *session, struct bgp_session_status *out);

struct bgp_attributes_view {
	uint8_t origin;
	bool has_med;
	uint32_t med;
	uint32_t next_hop;        // host order
	struct bytes as_path;     // segments of RFC 4271 §4.3, four octets an AS
	size_t as_path_length;    // RFC 4271 §9.1.2.2 a: an AS_SET counts once
	struct bytes communities; // four octets each
};
void bgp_attributes_view(const struct bgp_attributes *attributes, struct bgp_attributes_view *out);
// The ASes of a path in order. Returns how many there are; at most `capacity` are stored.
size_t bgp_as_path_flatten(struct bytes as_path, uint32_t *out, size_t capacity);

const char *bgp_state_name(enum bgp_state state);
struct prefix bgp_prefix_value(struct bgp_prefix prefix);
// false when it is not IPv4.
bool bgp_prefix_from(const struct prefix *prefix, struct bgp_prefix *out);

// Everything that is received and not used, or goes wrong, is counted once.
enum bgp_counter {
	BGP_COUNT_UPDATES_RECEIVED,
	BGP_COUNT_UPDATES_SENT,
	BGP_COUNT_TREATED_AS_WITHDRAW,  // UPDATE messages, RFC 7606
	BGP_COUNT_ATTRIBUTES_DISCARDED, // attributes, RFC 7606
	BGP_COUNT_AS_LOOPS,             // UPDATE messages whose AS_PATH has our own AS
	BGP_COUNT_NEXT_HOP_INVALID,     // UPDATE messages
	BGP_COUNT_MARTIANS,             // prefixes that are no unicast destination
	BGP_COUNT_OVER_LIMIT,           // prefixes beyond maximum_prefixes
	BGP_COUNT_OTHER_FAMILY,         // MP_REACH_NLRI, MP_UNREACH_NLRI and ROUTE-REFRESH of a family that was not negotiated
	BGP_COUNT_NOTIFICATIONS_RECEIVED,
	BGP_COUNT_NOTIFICATIONS_SENT,
	BGP_COUNT_COLLISIONS,
	BGP_COUNT_CONNECTIONS_REFUSED, // the peer's, while we hold a better one
	BGP_COUNT_UNADVERTISABLE,      // advertised routes whose AS path is too long for an UPDATE
	BGP_COUNTERS,
};
uint64_t bgp_count(const struct bgp *bgp, enum bgp_counter counter);
const char *bgp_counter_name(enum bgp_counter counter); // "updates_received"

#endif
