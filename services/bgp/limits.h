// Every interval and limit of bgp, and whose rule it is. The sizes of messages are the protocol's (message.h), the number of
// routes of a session is its quota (bgp_session_config.maximum_prefixes).
#ifndef TWINSPAN_BGP_LIMITS_H
#define TWINSPAN_BGP_LIMITS_H

#include "common/base/instant.h"

// ---- timers of the state machine (RFC 4271 §8.1.3, §10; jittered to 75–100 %) ----
#define CONNECT_RETRY SECONDS(2) // a tunnel that has just come up has its session within seconds
#define OPEN_HOLD                                                                                                              \
	SECONDS(30) // until the OPEN is answered; §8.2.2 suggests four minutes: too long for somebody who waits for a tunnel
#define SEND_HOLD SECONDS(480) // RFC 9687 §3: the larger of 8 minutes and twice the hold time
// IdleHoldTimer after attempts that do not become Established: 1, 2, 4 s as they go on.
#define IDLE_HOLD SECONDS(1)
enum { IDLE_HOLD_DOUBLINGS = 2 };
// And after sessions that were Established for less than STABLE: 1, 2, 4 … 32 s; meanwhile the peer's connections are refused
// (§8.2.2, Idle).
#define STABLE SECONDS(60)
enum { FLAP_DOUBLINGS = 5 };
enum { UNANSWERED_TOLD = 2 }; // so many attempts without a TCP answer in a row are told as the reason

// ---- routes in ----
enum { ROUTES_PORTION = 16384 };    // withdrawn in one step when a session ends; the rest in the next steps
enum { ROUTES_OCTETS = 240 << 20 }; // of learned rows on one node, about: a table travels whole, in at most 256 MiB
enum { NODE_HAS_ROOM = ROUTES_OCTETS / 10 * 9 }; // a full node asks for more below this
enum { DISCARDED_KNOWN = 1024 };                 // prefixes beyond the quota that are known by name; more are only counted
enum { LIMIT_WARNING_PERCENT = 80, LIMIT_CALM_PERCENT = 60 };
#define REFRESH_INTERVAL SECONDS(30) // at most one ROUTE-REFRESH of ours in this time: it costs the peer its whole table
#define ROUTES_EXPECTED SECONDS(30)  // a peer that has sent no route so long after Established may lack a policy

// ---- routes out ----
enum { BGP_AS_PATH_LIMIT = 500 };
// Of what a route brings along, in an UPDATE with one prefix: communities, and the AS path, which a peer of two octets gets
// twice (RFC 6793 §4.2.2).
enum { BGP_ATTRIBUTES_LIMIT = 4000, BGP_AS_OCTETS = 2 + 4, BGP_COMMUNITY_OCTETS = 4 };
enum { ADJ_RIB_OUT_SESSIONS = 8 }; // of one connection on one node: a bit each
enum { QUEUED_LIMIT = 1 << 16 };   // octets on their way to the kernel
// End-of-RIB (RFC 4724 §2) comes a moment after the routes: BIRD 2.0 goes to sleep for up to 3 s with its own first routes
// unsent when everything of ours has come in one piece, and anything that arrives later wakes it.
#define END_OF_RIB_DELAY MILLISECONDS(50)

// ---- what people are told ----
enum { EVENTS_BURST = 4 }; // of one kind in a row, then one in EVENTS_INTERVAL
#define EVENTS_INTERVAL SECONDS(15)
enum { EVENTS_KEPT = 64 }; // rows of bgp_event for a tunnel

// ---- the shell ----
enum { READ_SIZE = 1 << 16 };    // of one connection, before the others have their turn
#define LINGER SECONDS(1)        // a closed connection is read away for so long, so that no reset overtakes the NOTIFICATION
enum { LINGERING_MAXIMUM = 64 }; // connections that do; the oldest goes for a newer one
#define RETRY_LISTEN MILLISECONDS(200)
// A bgp that has started again calls its tables complete when its sessions have learned again, or after this time: until then
// the others go by what the bgp before it had said.
#define LEARN_AGAIN SECONDS(30)
#define LEARN_QUIET SECONDS(5) // a peer that sends no End-of-RIB has said all after this time
#define LAST_WORDS SECONDS(1)  // for the readers of the tables and the peers to hear that this bgp ends

#endif
