// The finite state machine of RFC 4271 §8 as a table: for a state and an event, what to do and the state after it. Each TCP
// connection of a session has a machine of its own (§8.2.1): one for those we open, one for those the peer opens.
//
// Left out, as the events' numbers show: damping of oscillations other than by IdleHoldTimer (§8.1.1), DelayOpen, unconfigured
// passive peers. Added: SendHoldTimer_Expires (RFC 9687), RouteRefreshMsg (RFC 2918).
#ifndef TWINSPAN_BGP_FSM_H
#define TWINSPAN_BGP_FSM_H

#include "services/bgp/bgp.h"

enum fsm_event {
	FSM_AUTOMATIC_START,             // 3
	FSM_AUTOMATIC_START_PASSIVE,     // 5
	FSM_AUTOMATIC_STOP,              // 8: with the Cease subcode that says why
	FSM_CONNECT_RETRY_TIMER_EXPIRES, // 9
	FSM_HOLD_TIMER_EXPIRES,          // 10
	FSM_KEEPALIVE_TIMER_EXPIRES,     // 11
	FSM_IDLE_HOLD_TIMER_EXPIRES,     // 13
	FSM_TCP_CR_ACKED,                // 16
	FSM_TCP_CONNECTION_CONFIRMED,    // 17
	FSM_TCP_CONNECTION_FAILS,        // 18
	FSM_OPEN,                        // 19: good, and the collision (§6.8) decided for this connection
	FSM_HEADER_ERROR,                // 21
	FSM_OPEN_ERROR,                  // 22
	FSM_OPEN_COLLISION_DUMP,         // 23
	FSM_NOTIFICATION_VERSION_ERROR,  // 24
	FSM_NOTIFICATION,                // 25
	FSM_KEEPALIVE,                   // 26
	FSM_UPDATE,                      // 27
	FSM_UPDATE_ERROR,                // 28
	FSM_SEND_HOLD_TIMER_EXPIRES,     // RFC 9687
	FSM_ROUTE_REFRESH,               // RFC 2918
	FSM_EVENT_COUNT,
};

enum fsm_action {
	DO_NOTHING,
	DO_CONNECT,      // start ConnectRetryTimer, open a TCP connection
	DO_RECONNECT,    // give the attempt up, then as DO_CONNECT
	DO_LISTEN,       // start ConnectRetryTimer, wait for the peer
	DO_SEND_OPEN,    // stop ConnectRetryTimer, send OPEN, HoldTimer large
	DO_ACCEPT_OPEN,  // send KEEPALIVE, start KeepaliveTimer and HoldTimer as negotiated
	DO_ESTABLISH,    // restart HoldTimer, send what is advertised
	DO_KEEPALIVE,    // send KEEPALIVE, restart KeepaliveTimer
	DO_ALIVE,        // restart HoldTimer
	DO_UPDATE,       // restart HoldTimer, process the routes
	DO_REFRESH,      // send what is advertised again
	DO_DROP,         // close the TCP connection
	DO_CEASE,        // send NOTIFICATION Cease, close
	DO_NOTIFY,       // send the NOTIFICATION of the error, close
	DO_HOLD_EXPIRED, // send NOTIFICATION Hold Timer Expired, close
	DO_FSM_ERROR,    // send NOTIFICATION Finite State Machine Error with RFC 6608's subcode, close
	FSM_ACTION_COUNT,
};

struct fsm_transition {
	enum fsm_action action;
	enum bgp_state next;
};

extern const struct fsm_transition fsm_table[BGP_STATE_COUNT][FSM_EVENT_COUNT];

const char *fsm_event_name(enum fsm_event event);    // "9 ConnectRetryTimer_Expires"
const char *fsm_action_name(enum fsm_action action); // "connect"

#endif
