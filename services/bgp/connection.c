// A TCP connection and its state machine: the actions of the table in fsm.c carried out, and the connection's timers.
//
// The timers and their lengths are in limits.h; the HoldTimer is OPEN_HOLD until the OPEN is answered and then negotiated, the
// KeepaliveTimer the configured one, at most a third of the hold time.
#include "services/bgp/speaker.h"

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
	c->hold_time = c->keepalive = 0;
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

duration connection_send_hold(const struct connection *c)
{
	duration twice_hold = SECONDS(2) * c->hold_time;
	return twice_hold > SEND_HOLD ? twice_hold : SEND_HOLD;
}

static void restart_send_hold(struct connection *c)
{
	c->send_hold_at = c->session->bgp->now + connection_send_hold(c);
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
	invariant(c == &c->session->connections[OUTGOING] || c->transport == 0);
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

// Sessions that end soon after they came up come back more slowly each time: the peer may have to be mended first.
static void back_off(struct bgp_session *session, bool was_established)
{
	struct backoff *backoff = &session->backoff;
	if (!was_established) {
		backoff->failures++;
		return;
	}
	bool stable = session->bgp->now - session->established_at >= STABLE;
	backoff->flaps = stable ? 0 : backoff->flaps + 1;
	backoff->failures = 0;
	if (backoff->flaps > 0) {
		unsigned doublings = backoff->flaps - 1 < FLAP_DOUBLINGS ? backoff->flaps - 1 : FLAP_DOUBLINGS;
		backoff->until = connection_jittered(&session->connections[OUTGOING], IDLE_HOLD << doublings);
	}
}

// What leaves a state with a connection for Idle has in common. IdleHoldTimer is armed by session_settle.
static void close_connection(struct connection *c, enum bgp_notice notice)
{
	struct bgp_session *session = c->session;
	bool was_established = session->established == c, last = was_established || !session->established;
	close_transport(c);
	connection_reset(c);
	if (was_established) {
		session->established = NULL;
		outlet_stop(session);
		inlet_stop(session);
	}
	if (last) {
		back_off(session, was_established);
	}
	if (was_established || (last && notice != BGP_NOTICE_CLOSED)) {
		account_notice(session, notice, "%s", session->account.why);
	}
}

// RFC 4271 §4.2: the smaller hold time holds; §4.4: keepalives at a third of it or more often.
static void accept_open(struct connection *c)
{
	const struct bgp_session_config *config = &c->session->config;
	c->hold_time = c->peer.hold_time < config->hold_time ? c->peer.hold_time : config->hold_time;
	uint16_t third = c->hold_time / 3;
	c->keepalive = config->keepalive && config->keepalive < third ? config->keepalive : third;
	invariant(c->hold_time == 0 || (c->keepalive > 0 && 3 * c->keepalive <= c->hold_time));
	connection_keepalive(c);
	restart_keepalive(c);
	restart_hold(c);
	// A peer that takes nothing is the send hold timer's business: TCP must not give up before it.
	act_patience(c, connection_send_hold(c));
}

static void establish(struct connection *c)
{
	struct bgp_session *session = c->session;
	invariant(!session->established);
	session->established = c;
	session->established_at = session->bgp->now;
	session->established_count++;
	session->backoff.failures = session->backoff.unanswered = 0;
	session->account.error_kept = false;
	restart_hold(c);
	// Our own attempt that is still on its way is not needed any more. One that has an OPEN under way is decided by it
	// (§6.8).
	struct connection *sibling = connection_sibling(c);
	if (sibling->state == BGP_CONNECT || sibling->state == BGP_ACTIVE) {
		connection_event(sibling, FSM_OPEN_COLLISION_DUMP, NULL);
	}
	uint32_t id = c->peer.router_id;
	account_notice(session, BGP_NOTICE_ESTABLISHED, "with AS %u, BGP Identifier %u.%u.%u.%u, hold time %u s", c->peer.as,
	               id >> 24, id >> 16 & 0xff, id >> 8 & 0xff, id & 0xff, c->hold_time);
	inlet_start(session);
	outlet_start(session);
}

static enum bgp_notice notice_of(const struct bgp_error *error)
{
	return error->code == ERROR_HOLD_TIMER ? BGP_NOTICE_HOLD_EXPIRED
	       : error->code == ERROR_OPEN     ? BGP_NOTICE_OPEN_REFUSED
	                                       : BGP_NOTICE_CLOSED;
}

// An error of the lesser of two connections, or one that only settles which of them stays, tells nothing about the session.
static bool is_about_session(struct connection *c, const struct bgp_error *error)
{
	bool collision = error->code == ERROR_CEASE && error->subcode == CEASE_COLLISION;
	return !collision && connection_sibling(c)->state < BGP_OPEN_CONFIRM;
}

static void close_with(struct connection *c, const struct bgp_error *error)
{
	send_notification(c, error);
	if (is_about_session(c, error)) {
		account_sent(c, error);
		close_connection(c, notice_of(error));
	} else {
		close_connection(c, BGP_NOTICE_CLOSED);
	}
}

// The peer's NOTIFICATION before Established is a refusal.
static void drop(struct connection *c, enum fsm_event event, const struct bgp_error *error)
{
	bool notification = event == FSM_NOTIFICATION || event == FSM_NOTIFICATION_VERSION_ERROR;
	bool refused = notification && is_about_session(c, error);
	close_connection(c, refused && c->session->established != c ? BGP_NOTICE_OPEN_REFUSED : BGP_NOTICE_CLOSED);
}

static void run(struct connection *c, enum fsm_event event, enum bgp_state before, const struct bgp_error *error)
{
	struct bgp_session *session = c->session;
	switch (fsm_table[before][event].action) {
	case DO_NOTHING:
	case FSM_ACTION_COUNT:
		break;
	case DO_RECONNECT:
		session->backoff.unanswered++;
		session_changed(session);
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
		drop(c, event, error);
		break;
	case DO_CEASE:
	case DO_NOTIFY:
		close_with(c, error);
		break;
	case DO_HOLD_EXPIRED:
		close_with(c, &(struct bgp_error){.code = ERROR_HOLD_TIMER});
		break;
	case DO_FSM_ERROR:
		// RFC 6608: the subcode is the state it happened in.
		close_with(
		    c, &(struct bgp_error){.code = ERROR_FSM, .subcode = (uint8_t)(before - BGP_OPEN_SENT + FSM_IN_OPEN_SENT)});
		break;
	}
}

void connection_event(struct connection *c, enum fsm_event event, const struct bgp_error *error)
{
	static const struct bgp_error collision = {.code = ERROR_CEASE, .subcode = CEASE_COLLISION};
	enum bgp_state before = c->state;
	c->state = fsm_table[before][event].next;
	run(c, event, before, error ? error : &collision);
	invariant(c->state >= BGP_OPEN_SENT ? c->transport != 0 : c->hold_at == INSTANT_NEVER);
	invariant((c->session->established == c) == (c->state == BGP_ESTABLISHED));
	if (before != c->state) {
		session_changed(c->session);
	}
}
