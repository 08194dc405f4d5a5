// A session: its configuration, the start and stop of its connections, and which of two stays (RFC 4271 §6.8 begins here, with
// the connections the peer opens; the decision on an OPEN is in receive.c).
//
// A session runs while its tunnel is UP and its adminState is UP. When either ends, or the tunnel's generation changes,
// everything learned over it is withdrawn: there is no graceful restart (RFC 4724).
#include "services/bgp/speaker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

struct bgp_session *session_new(struct bgp *bgp, const char *id)
{
	struct bgp_session *session = allocate(sizeof *session);
	session->bgp = bgp;
	session->id = duplicate_text(id);
	session->outlet.end_of_rib_at = INSTANT_NEVER;
	inlet_init(&session->inlet, bgp->prefix_hash_key);
	for (int side = 0; side < SIDES; side++) {
		connection_init(&session->connections[side], session);
	}
	return session;
}

void session_free(struct bgp_session *session)
{
	inlet_fini(session);
	free(session->outlet.queue.items);
	free(session->outlet.next.items);
	free(session->id);
	free(session);
}

static bool is_enabled(const struct bgp_session_config *config)
{
	return config->admin_up && config->tunnel_up;
}

bool session_may_run(const struct bgp_session *session)
{
	return is_enabled(&session->config) && !session->bgp->stopped;
}

static void stop(struct bgp_session *session, uint8_t subcode, const char *communication, const char *reason)
{
	// RFC 9003 §2: one octet of length, then the text.
	uint8_t octets[64];
	size_t length = strlen(communication);
	octets[0] = (uint8_t)length;
	memcpy(octets + 1, communication, length);
	struct bgp_error error = {ERROR_CEASE, subcode, {octets, length ? length + 1 : 0}};
	invariant(length < sizeof octets);
	snprintf(session->account.last_error, sizeof session->account.last_error, "%s", reason);
	snprintf(session->account.why, sizeof session->account.why, "%s", reason);
	session->account.stop_reason = reason;
	for (int side = 0; side < SIDES; side++) {
		connection_event(&session->connections[side], FSM_AUTOMATIC_STOP, &error);
		session->connections[side].idle_hold_at = INSTANT_NEVER;
	}
	session->account.stop_reason = NULL;
	// It was our side that ended it: nothing to pause for.
	session->backoff = (struct backoff){.until = 0};
	session_changed(session);
	invariant(!session->established && session->connections[OUTGOING].state == BGP_IDLE);
}

static bool peering_differs(const struct bgp_session_config *a, const struct bgp_session_config *b)
{
	return !address_equal(&a->local, &b->local) || !address_equal(&a->remote, &b->remote) || a->local_as != b->local_as ||
	       a->remote_as != b->remote_as || a->router_id != b->router_id || a->hold_time != b->hold_time ||
	       a->keepalive != b->keepalive;
}

// Stops what the new configuration does not allow to go on, and says why.
static void stop_for(struct bgp_session *session, const struct bgp_session_config *to)
{
	const struct bgp_session_config *from = &session->config;
	bool moved = strcmp(session->outlet.rib->name, to->export) != 0;
	if (!to->admin_up) {
		stop(session, CEASE_ADMINISTRATIVE_SHUTDOWN, "tunnel administratively down",
		     "sent Cease/Administrative Shutdown");
	} else if (!to->tunnel_up) {
		stop(session, CEASE_ADMINISTRATIVE_RESET, "tunnel down", "tunnel down");
	} else if (to->generation != from->generation) {
		stop(session, CEASE_ADMINISTRATIVE_RESET, "tunnel restarted", "tunnel restarted");
	} else if (moved || peering_differs(from, to)) {
		stop(session, CEASE_OTHER_CONFIGURATION_CHANGE, "", "sent Cease/Other Configuration Change");
	}
}

void session_configure(struct bgp_session *session, const struct bgp_session_config *config)
{
	bool is_new = session->outlet.rib == NULL, was_enabled = session_may_run(session);
	if (!is_new && was_enabled) {
		stop_for(session, config);
	}
	if (is_new || strcmp(session->outlet.rib->name, config->export) != 0) {
		outlet_leave(session);
		outlet_join(session, config->export);
	}
	bool limit_changed = session->config.maximum_prefixes != config->maximum_prefixes;
	invariant(!session->established || session->outlet.bit != 0);
	session->config = *config;
	session->config.export = session->outlet.rib->name;
	if (is_new) {
		session_changed(session);
	}
	if (limit_changed) {
		inlet_limit_changed(session);
	}
	if (session_may_run(session) && session->outlet.bit == 0) {
		session->config.admin_up = false;
		snprintf(session->account.last_error, sizeof session->account.last_error,
		         "more than %d sessions of one connection on one node", ADJ_RIB_OUT_SESSIONS);
	} else if (session_may_run(session)) {
		if (!was_enabled) {
			session->account.error_kept = session->plain_open = false;
			session->account.why[0] = '\0';
		}
		connection_event(&session->connections[OUTGOING], FSM_AUTOMATIC_START, NULL);
	}
}

void session_cease(struct bgp_session *session)
{
	if (is_enabled(&session->config)) {
		stop(session, CEASE_ADMINISTRATIVE_SHUTDOWN, "the BGP service of this node ends",
		     "sent Cease/Administrative Shutdown");
	}
	inlet_sweep(session, SIZE_MAX);
	invariant(session->inlet.table.count == 0 && session->inlet.leaving.count == 0);
}

void session_remove(struct bgp_session *session)
{
	stop(session, CEASE_PEER_DECONFIGURED, "", "sent Cease/Peer De-configured");
	outlet_leave(session);
	inlet_sweep(session, SIZE_MAX); // there is no later step
}

struct connection *session_connection(struct bgp_session *session, uint32_t transport)
{
	for (int side = 0; side < SIDES; side++) {
		if (transport && session->connections[side].transport == transport) {
			return &session->connections[side];
		}
	}
	return NULL;
}

void session_accept(struct bgp_session *session, uint32_t transport)
{
	struct bgp *bgp = session->bgp;
	struct connection *c = &session->connections[INCOMING];
	bool better = c->state >= BGP_OPEN_CONFIRM || session->established;
	bool paused = session->backoff.flaps > 1 && bgp->now < session->backoff.until;
	if (!session_may_run(session) || better || paused) {
		bgp->counters[BGP_COUNT_CONNECTIONS_REFUSED]++;
		act_send_octets(session, transport, bgp_connection_rejected());
		act(bgp, BGP_ACTION_CLOSE, session, transport);
		// A peer that connects again while we hold a session may have lost it without our knowing: its kernel answers
		// this with a reset.
		if (session->established) {
			connection_keepalive(session->established);
		}
		return;
	}
	// One that has not even brought an OPEN is given up for the newer one.
	if (c->transport) {
		act(session->bgp, BGP_ACTION_CLOSE, session, c->transport);
	}
	connection_reset(c);
	connection_event(c, FSM_AUTOMATIC_START_PASSIVE, NULL);
	c->transport = transport;
	connection_event(c, FSM_TCP_CONNECTION_CONFIRMED, NULL);
}

static bool expired(struct bgp_session *session, instant *at)
{
	if (*at > session->bgp->now) {
		return false;
	}
	*at = INSTANT_NEVER;
	return true;
}

void session_timers(struct bgp_session *session)
{
	for (int side = 0; side < SIDES; side++) {
		struct connection *c = &session->connections[side];
		if (expired(session, &c->hold_at)) {
			connection_event(c, FSM_HOLD_TIMER_EXPIRES, NULL);
		}
		if (expired(session, &c->send_hold_at)) {
			account_send_hold(c);
			connection_event(c, FSM_SEND_HOLD_TIMER_EXPIRES, NULL);
		}
		if (expired(session, &c->keepalive_at)) {
			connection_event(c, FSM_KEEPALIVE_TIMER_EXPIRES, NULL);
		}
		if (expired(session, &c->connect_retry_at)) {
			connection_event(c, FSM_CONNECT_RETRY_TIMER_EXPIRES, NULL);
		}
		if (expired(session, &c->idle_hold_at)) {
			connection_event(c, FSM_IDLE_HOLD_TIMER_EXPIRES, NULL);
		}
	}
	inlet_timers(session);
}

// Our own attempt is made while no connection has come as far as an answered OPEN.
static void arm_idle_hold(struct bgp_session *session)
{
	struct connection *c = &session->connections[OUTGOING];
	const struct backoff *backoff = &session->backoff;
	bool wanted =
	    session_may_run(session) && c->state == BGP_IDLE && session->connections[INCOMING].state < BGP_OPEN_CONFIRM;
	if (!wanted) {
		c->idle_hold_at = INSTANT_NEVER;
	} else if (c->idle_hold_at == INSTANT_NEVER && session->bgp->now < backoff->until) {
		c->idle_hold_at = backoff->until;
	} else if (c->idle_hold_at == INSTANT_NEVER) {
		unsigned doublings = backoff->failures > 1 ? backoff->failures - 1 : 0;
		c->idle_hold_at =
		    connection_jittered(c, IDLE_HOLD << (doublings < IDLE_HOLD_DOUBLINGS ? doublings : IDLE_HOLD_DOUBLINGS));
	}
}

void session_settle(struct bgp_session *session)
{
	// The peer's connection is gone: its machine waits for nothing, a new one begins when the peer comes again.
	struct connection *incoming = &session->connections[INCOMING];
	if (!incoming->transport && incoming->state != BGP_IDLE) {
		connection_reset(incoming);
		session_changed(session);
	}
	arm_idle_hold(session);
	invariant(session->established || (session->inlet.table.count == 0 && session->outlet.advertised == 0));
	invariant(session_may_run(session) ||
	          (!session->established && session->connections[OUTGOING].idle_hold_at == INSTANT_NEVER));
	if (session->established) {
		outlet_fill(session);
	}
	session_schedule(session);
}

void bgp_session_status(const struct bgp_session *session, struct bgp_session_status *out)
{
	const struct connection *best = &session->connections[OUTGOING];
	if (session->connections[INCOMING].state > best->state) {
		best = &session->connections[INCOMING];
	}
	bool known = best->state >= BGP_OPEN_CONFIRM;
	*out = (struct bgp_session_status){
	    .state = best->state,
	    .may_run = session_may_run(session),
	    .last_error = session->account.last_error,
	    .remote_as = session->config.remote_as, // an OPEN with another one does not get far
	    .remote_router_id = known ? best->peer.router_id : 0,
	    .hold_time = known ? best->hold_time : 0,
	    .end_of_rib = session->inlet.end_of_rib,
	    .prefixes_received = session->inlet.table.count,
	    .prefixes_discarded = inlet_discarded(&session->inlet),
	    .prefixes_advertised = session->outlet.advertised,
	    .established_count = session->established_count,
	};
	account_reason(session, out->reason);
}
