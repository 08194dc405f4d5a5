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
#include "services/bgp/limits.h"

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

struct bgp_advertisement {
	const char *export;
	struct prefix destination; // of a family that is not offered: ignored
	bool withdrawn;
	uint8_t origin;
	const uint32_t *as_path; // without our own AS
	size_t as_path_length;
	const uint32_t *communities; // RFC 1997
	size_t community_count;
	// One with a longer path than BGP_AS_PATH_LIMIT, or more of both than an UPDATE holds, counts as withdrawn.
};

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
	BGP_EVENT_CLOSED, // `session`, `transport`, `cause`, `reason`: could not connect, or ended; the descriptor is closed
	                  // already
	BGP_EVENT_STOP,   // the speaker ends: Cease to every peer, all routes are withdrawn, no session starts again
};

// Why a transport is gone.
enum bgp_close_cause {
	BGP_CLOSE_OTHER, // as `reason` says
	BGP_CLOSE_BY_PEER,
	BGP_CLOSE_REFUSED,     // a reset in answer to our SYN
	BGP_CLOSE_UNREACHABLE, // no way to the peer's address
	BGP_CLOSE_TIMED_OUT,
	BGP_CLOSE_NO_SOCKET, // our own node has none for us
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
	enum bgp_close_cause cause;
	const char *reason; // a short text, NULL: "connection closed"
};

enum bgp_action_kind {
	BGP_ACTION_CONNECT,  // open a TCP connection as `transport`
	BGP_ACTION_SEND,     // `offset`, `length` in bgp_actions.octets go to `transport`
	BGP_ACTION_CLOSE,    // `transport`, after what it was given to send has been offered to the kernel
	BGP_ACTION_CHANGED,  // bgp_session_status tells something new
	BGP_ACTION_REMOVED,  // the session is gone when the next event comes
	BGP_ACTION_PATIENCE, // octets sent to `transport` may be without an answer for `length` milliseconds
	BGP_ACTION_NOTICE,   // `notice`, and at `offset` a text: something that a person may want to know
};

// What has happened to a session. Each kind is limited by itself (EVENTS_BURST); a text says how many of its kind were left
// out.
enum bgp_notice {
	BGP_NOTICE_ESTABLISHED,
	BGP_NOTICE_CLOSED, // an Established session ended
	BGP_NOTICE_HOLD_EXPIRED,
	BGP_NOTICE_OPEN_REFUSED, // ours by the peer, or the peer's by us
	BGP_NOTICE_LIMIT_NEAR,   // of learned routes
	BGP_NOTICE_LIMIT,        // routes are discarded
	BGP_NOTICE_UPDATE_ERROR, // RFC 7606: treated as withdraw
	BGP_NOTICE_NOT_ACCEPTED, // well-formed routes that cannot be used
	BGP_NOTICES,
};
const char *bgp_notice_name(enum bgp_notice notice); // "BGP closed"

struct bgp_action {
	enum bgp_action_kind kind;
	struct bgp_session *session;
	uint32_t transport;
	enum bgp_notice notice;
	size_t offset;
	size_t length;
};

// What a peer advertises now. Attributes are valid until the next step; NULL: withdrawn.
struct bgp_route_change {
	struct bgp_session *session;
	const struct bgp_attributes *attributes;
	struct prefix destination;
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
// The NOTIFICATION for a connection that no session wants (RFC 4486 §4, Connection Rejected): constant octets.
struct bytes bgp_connection_rejected(void);

enum { BGP_REASON_TEXT = 640 };
struct bgp_session_status {
	enum bgp_state state;
	bool may_run;           // the tunnel is UP, and nobody wants it down
	const char *last_error; // both code names and who sent it; "" when there was none
	// For a person: why it is not Established, or what is odd about it, and what to do; "" when all is well.
	char reason[BGP_REASON_TEXT];
	uint32_t remote_as;
	uint32_t remote_router_id; // 0 before an OPEN came
	uint16_t hold_time;        // negotiated, 0 before
	bool end_of_rib;           // the peer has said that all its routes are told (RFC 4724 §2)
	size_t prefixes_received;  // accepted and held
	size_t prefixes_discarded; // beyond the limit; at least so many
	size_t prefixes_advertised;
	uint64_t established_count;
};
void bgp_session_status(const struct bgp_session *session, struct bgp_session_status *out);

struct bgp_attributes_view {
	uint8_t origin;
	bool has_med;
	uint32_t med;
	struct address next_hop;
	struct bytes as_path;     // segments of RFC 4271 §4.3, four octets an AS
	size_t as_path_length;    // RFC 4271 §9.1.2.2 a: an AS_SET counts once
	struct bytes communities; // four octets each
};
void bgp_attributes_view(const struct bgp_attributes *attributes, struct bgp_attributes_view *out);
// The ASes of a path in order. Returns how many there are; at most `capacity` are stored.
size_t bgp_as_path_flatten(struct bytes as_path, uint32_t *out, size_t capacity);

const char *bgp_state_name(enum bgp_state state);

// Everything that is received and not used, or goes wrong, is counted once.
enum bgp_counter {
	BGP_COUNT_UPDATES_RECEIVED,
	BGP_COUNT_UPDATES_SENT,
	BGP_COUNT_TREATED_AS_WITHDRAW,  // UPDATE messages, RFC 7606
	BGP_COUNT_ATTRIBUTES_DISCARDED, // attributes, RFC 7606
	BGP_COUNT_AS_LOOPS,             // UPDATE messages whose AS_PATH has our own AS
	BGP_COUNT_NEXT_HOP_INVALID,     // UPDATE messages
	BGP_COUNT_MARTIANS,             // prefixes that are no unicast destination
	BGP_COUNT_OVER_LIMIT,           // prefixes beyond maximum_prefixes or what the node holds
	BGP_COUNT_OTHER_FAMILY,         // MP_REACH_NLRI, MP_UNREACH_NLRI and ROUTE-REFRESH of a family that was not negotiated
	BGP_COUNT_NOTIFICATIONS_RECEIVED,
	BGP_COUNT_NOTIFICATIONS_SENT,
	BGP_COUNT_COLLISIONS,
	BGP_COUNT_CONNECTIONS_REFUSED, // the peer's, while we hold a better one
	BGP_COUNT_UNADVERTISABLE,      // advertised routes whose AS path and communities are too long for an UPDATE
	BGP_COUNTERS,
};
uint64_t bgp_count(const struct bgp *bgp, enum bgp_counter counter);
const char *bgp_counter_name(enum bgp_counter counter); // "updates_received"

#endif
