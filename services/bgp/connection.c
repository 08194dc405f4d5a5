// A TCP connection and its state machine: the actions of the table in fsm.c carried out, and the connection's timers.
//
// Timers (RFC 4271 §8.1.3, §10; each jittered to 75–100 %):
//   ConnectRetryTimer  2 s: a tunnel that has just come up has its session within seconds
//   IdleHoldTimer      1, 2, 4 s as failures go on
//   HoldTimer          30 s until the OPEN is answered (§8.2.2 suggests four minutes: too long for somebody who waits for a
//   tunnel), then negotiated KeepaliveTimer     the configured one, at most a third of the hold time SendHoldTimer      RFC
//   9687: the larger of 8 min and twice the hold time
#include "services/bgp/speaker.h"

#include <stdio.h>
#include <string.h>

#define CONNECT_RETRY SECONDS(2)
#define OPEN_HOLD SECONDS(30)
#define SEND_HOLD SECONDS(480)

void connection_init(struct connection *c, struct bgp_session *session)
{
	c->session = session;
	connection_reset(c);
}

void connection_reset(struct connection *c)
{
	c->state = BGP_IDLE;
	c->transport = 0;
	c->queued = c->input_length = 0;
	c->connect_retry_at = c->idle_hold_at = c->hold_at = c->keepalive_at = c->send_hold_at = INSTANT_NEVER;
}

struct connection *connection_sibling(struct connection *c)
{
	return &c->session->connections[c == &c->session->connections[OUTGOING] ? INCOMING : OUTGOING];
}

instant connection_deadline(const struct connection *c)
{
	instant at = instant_min(instant_min(c->connect_retry_at, c->idle_hold_at), instant_min(c->hold_at, c->keepalive_at));
	return instant_min(at, c->send_hold_at);
}

instant connection_jittered(const struct connection *c, duration length)
{
	struct bgp *bgp = c->session->bgp;
	uint32_t quarter = (uint32_t)(length / 4 / MILLISECONDS(1));
	return bgp->now + length * 3 / 4 + MILLISECONDS(random_below(&bgp->random, quarter + 1));
}

static void restart_send_hold(struct connection *c)
{
	duration twice_hold = SECONDS(2) * c->hold_time;
	c->send_hold_at = c->session->bgp->now + (twice_hold > SEND_HOLD ? twice_hold : SEND_HOLD);
}

void connection_transmit(struct connection *c, struct bytes octets)
{
	if (c->queued == 0) {
		restart_send_hold(c);
	}
	act_send(c, octets);
}

void connection_sent(struct connection *c, size_t count)
{
	c->queued -= count < c->queued ? count : c->queued;
	c->send_hold_at = INSTANT_NEVER;
	if (c->queued > 0) {
		restart_send_hold(c);
	}
}

void connection_keepalive(struct connection *c)
{
	uint8_t octets[MESSAGE_HEADER];
	struct writer w = writer_of(octets, sizeof octets);
	message_begin(&w, MESSAGE_KEEPALIVE);
	message_end(&w, 0);
	connection_transmit(c, writer_bytes(&w));
}

static void send_open(struct connection *c)
{
	const struct bgp_session *session = c->session;
	struct open_message open = {
	    .as = session->config.local_as, .router_id = session->config.router_id, .hold_time = session->config.hold_time};
	uint8_t octets[128];
	struct writer w = writer_of(octets, sizeof octets);
	open_write(&w, &open, !session->plain_open);
	connection_transmit(c, writer_bytes(&w));
}

static void send_notification(struct connection *c, const struct bgp_error *error)
{
	uint8_t octets[MESSAGE_LIMIT];
	struct writer w = writer_of(octets, sizeof octets);
	notification_write(&w, error);
	connection_transmit(c, writer_bytes(&w));
	c->session->bgp->counters[BGP_COUNT_NOTIFICATIONS_SENT]++;
}

static void restart_hold(struct connection *c)
{
	c->hold_at = c->hold_time ? c->session->bgp->now + SECONDS(c->hold_time) : INSTANT_NEVER;
}

static void restart_keepalive(struct connection *c)
{
	c->keepalive_at = c->keepalive ? connection_jittered(c, SECONDS(c->keepalive)) : INSTANT_NEVER;
}

static void open_transport(struct connection *c)
{
	struct bgp *bgp = c->session->bgp;
	c->connect_retry_at = connection_jittered(c, CONNECT_RETRY);
	c->idle_hold_at = INSTANT_NEVER;
	c->transport = bgp_transport_new(bgp);
	act(bgp, BGP_ACTION_CONNECT, c->session, c->transport);
}

static void close_transport(struct connection *c)
{
	if (c->transport) {
		act(c->session->bgp, BGP_ACTION_CLOSE, c->session, c->transport);
		c->transport = 0;
	}
}

// What leaves a state with a connection for Idle has in common. IdleHoldTimer is armed by session_settle.
static void close_connection(struct connection *c)
{
	struct bgp_session *session = c->session;
	close_transport(c);
	connection_reset(c);
	if (session->established == c) {
		session->established = NULL;
		outlet_stop(session);
		adj_rib_in_clear(session);
		act_note(session, "session closed: %s", session->last_error);
	}
	if (!session->established) {
		session->failures++;
	}
}

// RFC 4271 §4.2: the smaller hold time holds; §4.4: keepalives at a third of it or more often.
static void accept_open(struct connection *c)
{
	const struct bgp_session_config *config = &c->session->config;
	c->hold_time = c->peer.hold_time < config->hold_time ? c->peer.hold_time : config->hold_time;
	uint16_t third = c->hold_time / 3;
	c->keepalive = config->keepalive && config->keepalive < third ? config->keepalive : third;
	connection_keepalive(c);
	restart_keepalive(c);
	restart_hold(c);
}

static void establish(struct connection *c)
{
	struct bgp_session *session = c->session;
	session->established = c;
	session->established_count++;
	session->failures = 0;
	session->error_kept = false;
	restart_hold(c);
	// Our own attempt that is still on its way is not needed any more. One that has an OPEN under way is decided by it
	// (§6.8).
	struct connection *sibling = connection_sibling(c);
	if (sibling->state == BGP_CONNECT || sibling->state == BGP_ACTIVE) {
		connection_event(sibling, FSM_OPEN_COLLISION_DUMP, NULL);
	}
	act_note(session, "session established");
	outlet_start(session);
}

// The NOTIFICATION goes out, and the session remembers it, unless it is about the lesser of two connections.
static void close_with(struct connection *c, const struct bgp_error *error, const char *text)
{
	struct bgp_session *session = c->session;
	send_notification(c, error);
	bool collision = error->code == ERROR_CEASE && error->subcode == CEASE_COLLISION;
	if (!collision && connection_sibling(c)->state < BGP_OPEN_CONFIRM) {
		char name[ERROR_TEXT];
		bgp_error_format(error, name);
		snprintf(session->last_error, sizeof session->last_error, "%s%s", text ? text : "sent ", text ? "" : name);
		session->error_kept = true;
	}
	close_connection(c);
}

static void run(struct connection *c, enum fsm_action action, enum bgp_state before, const struct bgp_error *error)
{
	struct bgp_session *session = c->session;
	switch (action) {
	case DO_NOTHING:
	case FSM_ACTION_COUNT:
		break;
	case DO_RECONNECT:
		close_transport(c);
		open_transport(c);
		break;
	case DO_CONNECT:
		open_transport(c);
		break;
	case DO_LISTEN:
		connection_reset(c);
		c->state = BGP_ACTIVE;
		c->connect_retry_at = connection_jittered(c, CONNECT_RETRY);
		break;
	case DO_SEND_OPEN:
		c->connect_retry_at = INSTANT_NEVER;
		c->hold_at = session->bgp->now + OPEN_HOLD;
		send_open(c);
		break;
	case DO_ACCEPT_OPEN:
		accept_open(c);
		break;
	case DO_ESTABLISH:
		establish(c);
		break;
	case DO_KEEPALIVE:
		connection_keepalive(c);
		restart_keepalive(c);
		break;
	case DO_ALIVE:
		restart_hold(c);
		break;
	case DO_UPDATE:
		restart_hold(c);
		adj_rib_in_apply(session, &session->bgp->update);
		break;
	case DO_REFRESH:
		session->outlet.refresh_due = true;
		break;
	case DO_DROP:
		close_connection(c);
		break;
	case DO_CEASE:
		close_with(c, error, session->stop_reason);
		break;
	case DO_NOTIFY:
		close_with(c, error, NULL);
		break;
	case DO_HOLD_EXPIRED:
		close_with(c, &(struct bgp_error){.code = ERROR_HOLD_TIMER}, "hold timer expired");
		break;
	case DO_FSM_ERROR:
		// RFC 6608: the subcode is the state it happened in.
		close_with(
		    c, &(struct bgp_error){.code = ERROR_FSM, .subcode = (uint8_t)(before - BGP_OPEN_SENT + FSM_IN_OPEN_SENT)},
		    NULL);
		break;
	}
}

void connection_event(struct connection *c, enum fsm_event event, const struct bgp_error *error)
{
	static const struct bgp_error collision = {.code = ERROR_CEASE, .subcode = CEASE_COLLISION};
	const struct fsm_transition *transition = &fsm_table[c->state][event];
	enum bgp_state before = c->state;
	c->state = transition->next;
	run(c, transition->action, before, error ? error : &collision);
	if (before != transition->next) {
		session_changed(c->session);
	}
}
