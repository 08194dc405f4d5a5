// What the core's files share: the speaker, its sessions, and a session's two possible TCP connections.
#ifndef TWINSPAN_BGP_SPEAKER_H
#define TWINSPAN_BGP_SPEAKER_H

#include "common/base/heap.h"
#include "common/base/invariant.h"
#include "common/base/map.h"
#include "common/base/random.h"
#include "services/bgp/fsm.h"
#include "services/bgp/open.h"
#include "services/bgp/prefix_table.h"
#include "services/bgp/update.h"

enum { OUTGOING, INCOMING, SIDES };

// One TCP connection of a session and its state machine (RFC 4271 §8.2.1).
struct connection {
	struct bgp_session *session;
	enum bgp_state state;
	uint32_t transport; // 0: none
	size_t queued;      // octets to send that the kernel has not taken yet
	uint16_t hold_time; // seconds, negotiated
	uint16_t keepalive;
	instant connect_retry_at, idle_hold_at, hold_at, keepalive_at, send_hold_at;
	struct open_message peer; // valid from OpenConfirm on
	size_t input_length;
	uint8_t input[MESSAGE_LIMIT]; // a message that has come in part
};

struct pending_route {
	uint32_t serial; // of its attributes, 0 for a withdrawal: what is packed together stands together
	struct prefix prefix;
};
struct pending_list {
	struct pending_route *items;
	size_t count, capacity;
};

// A session's part of adj_rib_out.
struct outlet {
	struct adj_rib_out *rib;
	uint8_t bit;                     // in the slots' masks; 0: the set has no room for another session
	struct pending_list queue, next; // what is being sent, in order; what has changed since
	size_t at;                       // in queue
	size_t advertised;
	instant end_of_rib_at; // INSTANT_NEVER: sent, or no session
	bool refresh_due;
};

// A session's part of adj_rib_in.
struct inlet {
	struct prefix_table table;
	struct prefix_table leaving;   // routes of a session that has ended, not withdrawn yet; none is in `table` too
	size_t leaving_at;             // how far
	struct prefix_table discarded; // beyond the limit, as far as they are known by name
	size_t discarded_more;         // and announcements beyond that
	bool near_told, limit_told;
	bool heard;           // a route has come in this session, whatever became of it
	bool end_of_rib;      // the peer's
	const char *refused;  // why the last route that was not accepted was not, NULL: none
	instant refreshed_at; // when the peer was asked last to send all again
	instant refresh_at;   // when it is to be asked
	instant sweep_at;     // when more of `leaving` is withdrawn
	instant expected_at;  // when a peer that has sent no route is odd
};

// When we try again.
struct backoff {
	unsigned failures;   // attempts in a row that did not become Established
	unsigned flaps;      // sessions in a row that were Established for less than STABLE
	unsigned unanswered; // attempts in a row without a TCP answer
	instant until;       // after a flap: not before, and not for the peer either
};

// What people are told about a session.
struct account {
	char last_error[ERROR_TEXT + 64];
	char why[ERROR_TEXT + 200]; // the same at length, for a person
	bool error_kept;            // it is worth more than "connection refused"
	const char *stop_reason;    // while the session is being stopped: for last_error
	struct {
		instant full_at; // of the budget: the kind's next notice is paid with EVENTS_INTERVAL
		unsigned left_out;
	} notices[BGP_NOTICES];
};

struct bgp_session {
	struct bgp *bgp;
	char *id;
	struct bgp_session_config config; // its `export` is the name in `outlet.rib`
	struct connection connections[SIDES];
	struct connection *established; // the one in that state
	instant established_at;
	uint64_t established_count;
	struct inlet inlet;
	struct outlet outlet;
	struct backoff backoff;
	struct account account;
	bool plain_open; // the peer refuses optional parameters (RFC 5492 §3)
	bool changed;    // said in this step
	struct heap_entry deadline;
	struct bgp_session *next_removed;
};

// The routes advertised to the sessions of one VPN connection.
struct adj_rib_out {
	char *name;
	struct prefix_table table;
	struct bgp_session *sessions[ADJ_RIB_OUT_SESSIONS];
	bool touched; // by the event in hand
};

struct bgp {
	struct random random;
	struct map *sessions; // id → bgp_session
	struct map *exports;  // name → adj_rib_out
	struct attribute_pool pool;
	uint64_t prefix_hash_key;
	struct heap deadlines;       // of the sessions
	struct bgp_session *removed; // until the next step
	uint32_t last_transport;
	size_t routes_octets; // of all that was learned, as rows
	bool advertised;      // BGP_EVENT_ADVERTISED has come
	bool stopped;         // BGP_EVENT_STOP has come
	uint64_t counters[BGP_COUNTERS];
	struct update update; // the UPDATE in hand
	// Of the step in hand.
	instant now;
	size_t portion; // routes that may still be withdrawn
	struct bgp_actions *actions;
};

// ---- bgp.c ----
void act(struct bgp *bgp, enum bgp_action_kind kind, struct bgp_session *session, uint32_t transport);
void act_text(struct bgp_session *session, enum bgp_notice notice, const char *text);
void act_send(struct connection *c, struct bytes octets);
void act_send_octets(struct bgp_session *session, uint32_t transport, struct bytes octets);
void act_patience(struct connection *c, duration length);
void act_route(struct bgp_session *session, const struct prefix *destination, const struct bgp_attributes *attributes);
void session_changed(struct bgp_session *session);
void session_schedule(struct bgp_session *session); // puts it where its deadline belongs in the heap

// ---- session.c ----
struct bgp_session *session_new(struct bgp *bgp, const char *id);
void session_free(struct bgp_session *session);
void session_configure(struct bgp_session *session, const struct bgp_session_config *config);
void session_remove(struct bgp_session *session);
void session_accept(struct bgp_session *session, uint32_t transport);
void session_timers(struct bgp_session *session);
void session_settle(struct bgp_session *session); // after an event: sends what it may, sets the deadline
struct connection *session_connection(struct bgp_session *session, uint32_t transport); // NULL when it is gone
bool session_may_run(const struct bgp_session *session);
void session_cease(struct bgp_session *session); // the speaker ends

// ---- account.c ----
void account_sent(struct connection *c, const struct bgp_error *error);     // a NOTIFICATION that ends `c`
void account_received(struct connection *c, const struct bgp_error *error); // the peer's
void account_lost(struct connection *c, enum bgp_close_cause cause, const char *reason);
void account_send_hold(struct connection *c);
void account_reason(const struct bgp_session *session, char out[static BGP_REASON_TEXT]);
// Something happened; what is too much of one kind is left out and counted.
void account_notice(struct bgp_session *session, enum bgp_notice notice, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// ---- connection.c ----
void connection_init(struct connection *c, struct bgp_session *session);
void connection_reset(struct connection *c); // without a word: no transport, no timer, Idle
void connection_event(struct connection *c, enum fsm_event event, const struct bgp_error *error);
struct connection *connection_sibling(struct connection *c);
instant connection_jittered(const struct connection *c, duration length); // now + 75–100 % of it (RFC 4271 §10)
void connection_keepalive(struct connection *c);                          // sends one
instant connection_deadline(const struct connection *c);
void connection_transmit(struct connection *c, struct bytes octets);
void connection_sent(struct connection *c, size_t count);
duration connection_send_hold(const struct connection *c); // RFC 9687 §3

// ---- receive.c ----
void connection_receive(struct connection *c, struct bytes octets);

// ---- adj_rib_in.c ----
void inlet_init(struct inlet *inlet, uint64_t hash_key);
void inlet_fini(struct bgp_session *session);
void inlet_start(struct bgp_session *session);              // Established
void inlet_stop(struct bgp_session *session);               // withdraws everything, a portion of it at once
void inlet_sweep(struct bgp_session *session, size_t most); // withdraws more of what is leaving
void inlet_limit_changed(struct bgp_session *session);
void inlet_timers(struct bgp_session *session);
instant inlet_deadline(const struct bgp_session *session);
size_t inlet_discarded(const struct inlet *inlet);
void adj_rib_in_apply(struct bgp_session *session, const struct update *update);

// ---- adj_rib_out.c ----
struct adj_rib_out *adj_rib_out_get(struct bgp *bgp, const char *name);
void adj_rib_out_free(struct bgp *bgp, struct adj_rib_out *rib);
void adj_rib_out_reap(struct bgp *bgp, struct adj_rib_out *rib); // frees it when it has neither routes nor sessions
void adj_rib_out_change(struct bgp *bgp, struct adj_rib_out *rib, const struct prefix *destination,
                        struct bgp_attributes *attributes);
void outlet_join(struct bgp_session *session, const char *name);
void outlet_leave(struct bgp_session *session);
void outlet_start(struct bgp_session *session);
void outlet_stop(struct bgp_session *session);
instant outlet_deadline(const struct bgp_session *session);
void outlet_fill(struct bgp_session *session); // UPDATEs for as much as the peer takes now

#endif
