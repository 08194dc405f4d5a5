// See fsm.h. tests/unit/data/bgp_fsm.txt is this table printed, and reviewed against RFC 4271 §8.2.2.
#include "services/bgp/fsm.h"

const struct fsm_transition fsm_table[BGP_STATE_COUNT][FSM_EVENT_COUNT] =
    {
        // Every other event is ignored in Idle.
        [BGP_IDLE] =
            {
                [FSM_AUTOMATIC_START] = {DO_CONNECT, BGP_CONNECT},
                [FSM_AUTOMATIC_START_PASSIVE] = {DO_LISTEN, BGP_ACTIVE},
                [FSM_IDLE_HOLD_TIMER_EXPIRES] = {DO_CONNECT, BGP_CONNECT},
            },
        [BGP_CONNECT] =
            {
                [FSM_AUTOMATIC_START] = {DO_NOTHING, BGP_CONNECT},
                [FSM_AUTOMATIC_START_PASSIVE] = {DO_NOTHING, BGP_CONNECT},
                [FSM_AUTOMATIC_STOP] = {DO_DROP, BGP_IDLE},
                [FSM_CONNECT_RETRY_TIMER_EXPIRES] = {DO_RECONNECT, BGP_CONNECT},
                [FSM_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_KEEPALIVE_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_IDLE_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_TCP_CR_ACKED] = {DO_SEND_OPEN, BGP_OPEN_SENT},
                [FSM_TCP_CONNECTION_CONFIRMED] = {DO_SEND_OPEN, BGP_OPEN_SENT},
                [FSM_TCP_CONNECTION_FAILS] = {DO_DROP, BGP_IDLE},
                [FSM_OPEN] = {DO_DROP, BGP_IDLE},
                [FSM_HEADER_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_OPEN_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_OPEN_COLLISION_DUMP] = {DO_DROP, BGP_IDLE},
                [FSM_NOTIFICATION_VERSION_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_NOTIFICATION] = {DO_DROP, BGP_IDLE},
                [FSM_KEEPALIVE] = {DO_DROP, BGP_IDLE},
                [FSM_UPDATE] = {DO_DROP, BGP_IDLE},
                [FSM_UPDATE_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_SEND_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_ROUTE_REFRESH] = {DO_DROP, BGP_IDLE},
            },
        [BGP_ACTIVE] =
            {
                [FSM_AUTOMATIC_START] = {DO_NOTHING, BGP_ACTIVE},
                [FSM_AUTOMATIC_START_PASSIVE] = {DO_NOTHING, BGP_ACTIVE},
                [FSM_AUTOMATIC_STOP] = {DO_DROP, BGP_IDLE},
                [FSM_CONNECT_RETRY_TIMER_EXPIRES] = {DO_CONNECT, BGP_CONNECT},
                [FSM_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_KEEPALIVE_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_IDLE_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_TCP_CR_ACKED] = {DO_SEND_OPEN, BGP_OPEN_SENT},
                [FSM_TCP_CONNECTION_CONFIRMED] = {DO_SEND_OPEN, BGP_OPEN_SENT},
                [FSM_TCP_CONNECTION_FAILS] = {DO_DROP, BGP_IDLE},
                [FSM_OPEN] = {DO_DROP, BGP_IDLE},
                [FSM_HEADER_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_OPEN_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_OPEN_COLLISION_DUMP] = {DO_DROP, BGP_IDLE},
                [FSM_NOTIFICATION_VERSION_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_NOTIFICATION] = {DO_DROP, BGP_IDLE},
                [FSM_KEEPALIVE] = {DO_DROP, BGP_IDLE},
                [FSM_UPDATE] = {DO_DROP, BGP_IDLE},
                [FSM_UPDATE_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_SEND_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_ROUTE_REFRESH] = {DO_DROP, BGP_IDLE},
            },
        [BGP_OPEN_SENT] =
            {
                [FSM_AUTOMATIC_START] = {DO_NOTHING, BGP_OPEN_SENT},
                [FSM_AUTOMATIC_START_PASSIVE] = {DO_NOTHING, BGP_OPEN_SENT},
                [FSM_AUTOMATIC_STOP] = {DO_CEASE, BGP_IDLE},
                [FSM_CONNECT_RETRY_TIMER_EXPIRES] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_HOLD_TIMER_EXPIRES] = {DO_HOLD_EXPIRED, BGP_IDLE},
                [FSM_KEEPALIVE_TIMER_EXPIRES] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_IDLE_HOLD_TIMER_EXPIRES] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_TCP_CR_ACKED] = {DO_NOTHING, BGP_OPEN_SENT},
                [FSM_TCP_CONNECTION_CONFIRMED] = {DO_NOTHING, BGP_OPEN_SENT},
                // Not Idle: the peer may still come to us.
                [FSM_TCP_CONNECTION_FAILS] = {DO_LISTEN, BGP_ACTIVE},
                [FSM_OPEN] = {DO_ACCEPT_OPEN, BGP_OPEN_CONFIRM},
                [FSM_HEADER_ERROR] = {DO_NOTIFY, BGP_IDLE},
                [FSM_OPEN_ERROR] = {DO_NOTIFY, BGP_IDLE},
                [FSM_OPEN_COLLISION_DUMP] = {DO_CEASE, BGP_IDLE},
                [FSM_NOTIFICATION_VERSION_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_NOTIFICATION] = {DO_DROP, BGP_IDLE},
                [FSM_KEEPALIVE] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_UPDATE] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_UPDATE_ERROR] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_SEND_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_ROUTE_REFRESH] = {DO_FSM_ERROR, BGP_IDLE},
            },
        [BGP_OPEN_CONFIRM] =
            {
                [FSM_AUTOMATIC_START] = {DO_NOTHING, BGP_OPEN_CONFIRM},
                [FSM_AUTOMATIC_START_PASSIVE] = {DO_NOTHING, BGP_OPEN_CONFIRM},
                [FSM_AUTOMATIC_STOP] = {DO_CEASE, BGP_IDLE},
                [FSM_CONNECT_RETRY_TIMER_EXPIRES] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_HOLD_TIMER_EXPIRES] = {DO_HOLD_EXPIRED, BGP_IDLE},
                [FSM_KEEPALIVE_TIMER_EXPIRES] = {DO_KEEPALIVE, BGP_OPEN_CONFIRM},
                [FSM_IDLE_HOLD_TIMER_EXPIRES] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_TCP_CR_ACKED] = {DO_NOTHING, BGP_OPEN_CONFIRM},
                [FSM_TCP_CONNECTION_CONFIRMED] = {DO_NOTHING, BGP_OPEN_CONFIRM},
                [FSM_TCP_CONNECTION_FAILS] = {DO_DROP, BGP_IDLE},
                // A second OPEN on the same connection is no collision.
                [FSM_OPEN] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_HEADER_ERROR] = {DO_NOTIFY, BGP_IDLE},
                [FSM_OPEN_ERROR] = {DO_NOTIFY, BGP_IDLE},
                [FSM_OPEN_COLLISION_DUMP] = {DO_CEASE, BGP_IDLE},
                [FSM_NOTIFICATION_VERSION_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_NOTIFICATION] = {DO_DROP, BGP_IDLE},
                [FSM_KEEPALIVE] = {DO_ESTABLISH, BGP_ESTABLISHED},
                [FSM_UPDATE] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_UPDATE_ERROR] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_SEND_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_ROUTE_REFRESH] = {DO_FSM_ERROR, BGP_IDLE},
            },
        [BGP_ESTABLISHED] =
            {
                [FSM_AUTOMATIC_START] = {DO_NOTHING, BGP_ESTABLISHED},
                [FSM_AUTOMATIC_START_PASSIVE] = {DO_NOTHING, BGP_ESTABLISHED},
                [FSM_AUTOMATIC_STOP] = {DO_CEASE, BGP_IDLE},
                [FSM_CONNECT_RETRY_TIMER_EXPIRES] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_HOLD_TIMER_EXPIRES] = {DO_HOLD_EXPIRED, BGP_IDLE},
                [FSM_KEEPALIVE_TIMER_EXPIRES] = {DO_KEEPALIVE, BGP_ESTABLISHED},
                [FSM_IDLE_HOLD_TIMER_EXPIRES] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_TCP_CR_ACKED] = {DO_NOTHING, BGP_ESTABLISHED},
                [FSM_TCP_CONNECTION_CONFIRMED] = {DO_NOTHING, BGP_ESTABLISHED},
                [FSM_TCP_CONNECTION_FAILS] = {DO_DROP, BGP_IDLE},
                [FSM_OPEN] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_HEADER_ERROR] = {DO_NOTIFY, BGP_IDLE},
                [FSM_OPEN_ERROR] = {DO_FSM_ERROR, BGP_IDLE},
                [FSM_OPEN_COLLISION_DUMP] = {DO_CEASE, BGP_IDLE},
                [FSM_NOTIFICATION_VERSION_ERROR] = {DO_DROP, BGP_IDLE},
                [FSM_NOTIFICATION] = {DO_DROP, BGP_IDLE},
                [FSM_KEEPALIVE] = {DO_ALIVE, BGP_ESTABLISHED},
                [FSM_UPDATE] = {DO_UPDATE, BGP_ESTABLISHED},
                [FSM_UPDATE_ERROR] = {DO_NOTIFY, BGP_IDLE},
                [FSM_SEND_HOLD_TIMER_EXPIRES] = {DO_DROP, BGP_IDLE},
                [FSM_ROUTE_REFRESH] = {DO_REFRESH, BGP_ESTABLISHED},
            },
};

const char *bgp_state_name(enum bgp_state state)
{
	static const char *const names[] = {
	    [BGP_IDLE] = "Idle",          [BGP_CONNECT] = "Connect",          [BGP_ACTIVE] = "Active",
	    [BGP_OPEN_SENT] = "OpenSent", [BGP_OPEN_CONFIRM] = "OpenConfirm", [BGP_ESTABLISHED] = "Established",
	};
	return names[state];
}

const char *fsm_event_name(enum fsm_event event)
{
	static const char *const names[] = {
	    [FSM_AUTOMATIC_START] = "3 AutomaticStart",
	    [FSM_AUTOMATIC_START_PASSIVE] = "5 AutomaticStart_with_PassiveTcpEstablishment",
	    [FSM_AUTOMATIC_STOP] = "8 AutomaticStop",
	    [FSM_CONNECT_RETRY_TIMER_EXPIRES] = "9 ConnectRetryTimer_Expires",
	    [FSM_HOLD_TIMER_EXPIRES] = "10 HoldTimer_Expires",
	    [FSM_KEEPALIVE_TIMER_EXPIRES] = "11 KeepaliveTimer_Expires",
	    [FSM_IDLE_HOLD_TIMER_EXPIRES] = "13 IdleHoldTimer_Expires",
	    [FSM_TCP_CR_ACKED] = "16 Tcp_CR_Acked",
	    [FSM_TCP_CONNECTION_CONFIRMED] = "17 TcpConnectionConfirmed",
	    [FSM_TCP_CONNECTION_FAILS] = "18 TcpConnectionFails",
	    [FSM_OPEN] = "19 BGPOpen",
	    [FSM_HEADER_ERROR] = "21 BGPHeaderErr",
	    [FSM_OPEN_ERROR] = "22 BGPOpenMsgErr",
	    [FSM_OPEN_COLLISION_DUMP] = "23 OpenCollisionDump",
	    [FSM_NOTIFICATION_VERSION_ERROR] = "24 NotifMsgVerErr",
	    [FSM_NOTIFICATION] = "25 NotifMsg",
	    [FSM_KEEPALIVE] = "26 KeepAliveMsg",
	    [FSM_UPDATE] = "27 UpdateMsg",
	    [FSM_UPDATE_ERROR] = "28 UpdateMsgErr",
	    [FSM_SEND_HOLD_TIMER_EXPIRES] = "29 SendHoldTimer_Expires",
	    [FSM_ROUTE_REFRESH] = "RouteRefreshMsg",
	};
	return names[event];
}

const char *fsm_action_name(enum fsm_action action)
{
	static const char *const names[] = {
	    [DO_NOTHING] = "nothing",     [DO_CONNECT] = "connect",     [DO_RECONNECT] = "reconnect",
	    [DO_LISTEN] = "listen",       [DO_SEND_OPEN] = "send-open", [DO_ACCEPT_OPEN] = "accept-open",
	    [DO_ESTABLISH] = "establish", [DO_KEEPALIVE] = "keepalive", [DO_ALIVE] = "alive",
	    [DO_UPDATE] = "update",       [DO_REFRESH] = "refresh",     [DO_DROP] = "drop",
	    [DO_CEASE] = "cease",         [DO_NOTIFY] = "notify",       [DO_HOLD_EXPIRED] = "hold-expired",
	    [DO_FSM_ERROR] = "fsm-error",
	};
	return names[action];
}
