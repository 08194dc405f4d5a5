// What people are told about a session: a short last_error, a sentence that says why it is not Established (or what is odd
// about one that is) and what to do, and notices of what happened. What a peer says is a stranger's text: bgp_error_format has
// made it printable.
#include "services/bgp/speaker.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *peer_of(const struct bgp_session *session, char text[static ADDRESS_TEXT])
{
	return address_format(&session->config.remote, text);
}

static void set_why(struct bgp_session *session, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void set_why(struct bgp_session *session, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(session->account.why, sizeof session->account.why, format, arguments);
	va_end(arguments);
	session_changed(session);
}

static void set_error(struct bgp_session *session, const char *who, const char *what)
{
	snprintf(session->account.last_error, sizeof session->account.last_error, "%s%s", who, what);
	session->account.error_kept = true;
}

// ---- what ended a connection ----
static void explain_refused_open(struct connection *c, const struct bgp_error *error, const char *name)
{
	const struct bgp_session_config *config = &c->session->config;
	switch (error->subcode) {
	case OPEN_BAD_PEER_AS:
		set_why(c->session, "the peer says that it is AS %u, and its customer gateway has AS %u", c->peer.as,
		        config->remote_as);
		break;
	case OPEN_UNACCEPTABLE_HOLD_TIME:
		set_why(c->session, "the peer offers a hold time of %u s%s: it must be 3 s or more (ours is %u s)",
		        c->peer.hold_time, c->peer.hold_time == 0 ? ", which means never" : "", config->hold_time);
		break;
	default:
		set_why(c->session, "the peer's OPEN was refused: %s", name);
		break;
	}
}

void account_sent(struct connection *c, const struct bgp_error *error)
{
	struct bgp_session *session = c->session;
	char name[ERROR_TEXT];
	bgp_error_format(error, name);
	if (session->account.stop_reason) {
		set_error(session, "", session->account.stop_reason);
	} else if (error->code == ERROR_HOLD_TIMER) {
		set_error(session, "", "hold timer expired");
		if (c->hold_time) {
			set_why(session, "hold timer expired: nothing came from the peer for %u s", c->hold_time);
		} else {
			set_why(session, "hold timer expired: the peer sent no OPEN within %d s",
			        (int)(OPEN_HOLD / SECONDS(1)));
		}
	} else {
		set_error(session, "sent ", name);
		if (error->code == ERROR_OPEN) {
			explain_refused_open(c, error, name);
		} else {
			set_why(session, "the peer broke the protocol: sent %s", name);
		}
	}
}

// What to do about a NOTIFICATION, NULL: nothing that it does not say itself.
static const char *advice(const struct connection *c, const struct bgp_error *error, char room[static 200])
{
	const struct bgp_session_config *config = &c->session->config;
	if (error->code == ERROR_OPEN && error->subcode == OPEN_BAD_PEER_AS) {
		snprintf(room, 200, "it expects another AS than ours, which is %u", config->local_as);
		return room;
	}
	if (error->code == ERROR_OPEN && error->subcode == OPEN_UNACCEPTABLE_HOLD_TIME) {
		snprintf(room, 200, "it does not take our hold time of %u s", config->hold_time);
		return room;
	}
	if (error->code == ERROR_CEASE && error->subcode == CEASE_MAXIMUM_PREFIXES) {
		return "its limit of prefixes is below what is advertised to it";
	}
	if (error->code == ERROR_CEASE && error->subcode == CEASE_CONNECTION_REJECTED) {
		return "it has no such neighbor, or has not noticed yet that an earlier session ended";
	}
	if (error->code == ERROR_HOLD_TIMER) {
		return "what we send does not arrive there";
	}
	return NULL;
}

void account_received(struct connection *c, const struct bgp_error *error)
{
	struct bgp_session *session = c->session;
	if (connection_sibling(c)->state >= BGP_OPEN_CONFIRM) {
		return; // about the lesser of two connections
	}
	char name[ERROR_TEXT], room[200];
	bgp_error_format(error, name);
	set_error(session, "received ", name);
	const char *what = advice(c, error, room);
	set_why(session, "the peer sent %s%s%s", name, what ? ": " : "", what ? what : "");
}

void account_send_hold(struct connection *c)
{
	set_error(c->session, "", "send hold timer expired");
	set_why(c->session, "send hold timer expired: the peer took nothing for %d s",
	        (int)(connection_send_hold(c) / SECONDS(1)));
}

static void explain_no_connection(struct bgp_session *session, enum bgp_close_cause cause, const char *reason)
{
	char peer[ADDRESS_TEXT], local[ADDRESS_TEXT];
	peer_of(session, peer);
	address_format(&session->config.local, local);
	switch (cause) {
	case BGP_CLOSE_REFUSED:
		set_why(session, "%s refuses TCP connections to port 179: no BGP runs there, or it has no neighbor %s", peer,
		        local);
		break;
	case BGP_CLOSE_UNREACHABLE:
		set_why(session, "%s cannot be reached through the tunnel (%s): is it the address on the device's side?", peer,
		        reason);
		break;
	case BGP_CLOSE_TIMED_OUT:
		set_why(session, "no TCP answer from %s: the address, a filter, or TCP MD5 there", peer);
		break;
	case BGP_CLOSE_NO_SOCKET:
		set_why(session, "this gateway node has no socket for it yet: is esp running?");
		break;
	case BGP_CLOSE_BY_PEER:
	case BGP_CLOSE_OTHER:
		set_why(session, "no connection to %s: %s", peer, reason);
		break;
	}
}

// What a peer has said in words is not forgotten for an attempt that merely does not connect.
void account_lost(struct connection *c, enum bgp_close_cause cause, const char *reason)
{
	struct bgp_session *session = c->session;
	bool was_established = session->established == c;
	if (c->state == BGP_CONNECT && cause != BGP_CLOSE_TIMED_OUT) {
		session->backoff.unanswered = 0;
	}
	if (!was_established && (session->account.error_kept || connection_sibling(c)->state >= BGP_OPEN_CONFIRM)) {
		return;
	}
	char peer[ADDRESS_TEXT];
	set_error(session, "", reason);
	session->account.error_kept = was_established;
	if (was_established) {
		set_why(session, "the connection ended: %s", reason);
	} else if (c->state >= BGP_OPEN_SENT) {
		set_why(session, "%s ends the connection after our OPEN without a reason (%s): its log may have one",
		        peer_of(session, peer), reason);
	} else {
		explain_no_connection(session, cause, reason);
	}
}

// ---- why it is as it is ----
static void odd_about(const struct bgp_session *session, char out[static BGP_REASON_TEXT])
{
	const struct inlet *inlet = &session->inlet;
	size_t discarded = inlet_discarded(inlet);
	if (discarded > 0 && session->config.maximum_prefixes && inlet->table.count >= session->config.maximum_prefixes) {
		snprintf(out, BGP_REASON_TEXT,
		         "%zu routes beyond the quota of %u learned routes are discarded: raise the quota, or announce fewer",
		         discarded, session->config.maximum_prefixes);
	} else if (discarded > 0) {
		snprintf(out, BGP_REASON_TEXT, "%zu routes are discarded%s", discarded,
		         session->established->peer.route_refresh
		             ? ", and asked for again as there is room"
		             : ": the peer must announce them again (it knows no route refresh)");
	} else if (inlet->table.count == 0 && inlet->refused) {
		snprintf(out, BGP_REASON_TEXT, "Established, but none of the peer's routes is accepted: %s", inlet->refused);
	} else if (!inlet->heard && (inlet->end_of_rib || inlet->expected_at == INSTANT_NEVER)) {
		snprintf(out, BGP_REASON_TEXT,
		         "Established, but the peer sends no routes: an eBGP policy may be missing there (FRR: "
		         "ebgp-requires-policy)");
	}
}

void account_reason(const struct bgp_session *session, char out[static BGP_REASON_TEXT])
{
	const struct backoff *backoff = &session->backoff;
	char peer[ADDRESS_TEXT];
	out[0] = '\0';
	if (session->established) {
		odd_about(session, out);
		return;
	}
	if (!session_may_run(session)) {
		const char *why = session->outlet.bit == 0    ? session->account.last_error
		                  : session->bgp->stopped     ? "the BGP service of this node ends"
		                  : !session->config.admin_up ? "administratively down: the tunnel's adminState is DOWN"
		                                              : "the tunnel is DOWN: BGP starts when it is UP";
		snprintf(out, BGP_REASON_TEXT, "%s", why);
		return;
	}
	bool unanswered = backoff->unanswered >= UNANSWERED_TOLD;
	peer_of(session, peer);
	size_t length;
	if (unanswered && session->account.error_kept) {
		length =
		    (size_t)snprintf(out, BGP_REASON_TEXT, "%s; since then no TCP answer from %s", session->account.why, peer);
	} else if (unanswered) {
		length = (size_t)snprintf(out, BGP_REASON_TEXT,
		                          "no TCP answer from %s: the address, a filter, or TCP MD5 there", peer);
	} else if (session->account.why[0]) {
		length = (size_t)snprintf(out, BGP_REASON_TEXT, "%s", session->account.why);
	} else {
		length = (size_t)snprintf(out, BGP_REASON_TEXT, "connecting to %s", peer);
	}
	if (backoff->flaps > 1 && length < BGP_REASON_TEXT) {
		snprintf(out + length, BGP_REASON_TEXT - length,
		         "; %u sessions in a row lasted less than %d s, so attempts pause up to %d s", backoff->flaps,
		         (int)(STABLE / SECONDS(1)), (int)((IDLE_HOLD << FLAP_DOUBLINGS) / SECONDS(1)));
	}
}

// ---- notices ----
const char *bgp_notice_name(enum bgp_notice notice)
{
	static const char *const names[] = {
	    [BGP_NOTICE_ESTABLISHED] = "BGP established",          [BGP_NOTICE_CLOSED] = "BGP closed",
	    [BGP_NOTICE_HOLD_EXPIRED] = "BGP hold timer expired",  [BGP_NOTICE_OPEN_REFUSED] = "BGP OPEN refused",
	    [BGP_NOTICE_LIMIT_NEAR] = "BGP routes near the limit", [BGP_NOTICE_LIMIT] = "BGP routes beyond the limit",
	    [BGP_NOTICE_UPDATE_ERROR] = "BGP UPDATE malformed",    [BGP_NOTICE_NOT_ACCEPTED] = "BGP routes not accepted",
	};
	return names[notice];
}

void account_notice(struct bgp_session *session, enum bgp_notice notice, const char *format, ...)
{
	instant now = session->bgp->now, *full_at = &session->account.notices[notice].full_at;
	unsigned *left_out = &session->account.notices[notice].left_out;
	if (*full_at > now + EVENTS_INTERVAL * (EVENTS_BURST - 1)) {
		++*left_out;
		return;
	}
	*full_at = (*full_at > now ? *full_at : now) + EVENTS_INTERVAL;
	invariant(*full_at <= now + EVENTS_INTERVAL * EVENTS_BURST);
	char text[BGP_REASON_TEXT];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (*left_out > 0 && (size_t)length < sizeof text) {
		snprintf(text + length, sizeof text - (size_t)length, " (%u more of this kind before are not shown)",
		         *left_out);
	}
	*left_out = 0;
	act_text(session, notice, text);
}
