// The octets of a connection to messages (RFC 4271 §4.1, §6.1), and each message to its event of the state machine.
#include "services/bgp/speaker.h"

#include <string.h>

// RFC 4271 §6.8: of two connections that both have the peer's OPEN, the one stays that was opened by the side with the higher
// BGP Identifier (RFC 6286 §2.3: with equal ones, the higher AS). An Established one always stays. Returns whether `c` may go
// on.
static bool wins_collision(struct connection *c)
{
	struct bgp_session *session = c->session;
	struct connection *sibling = connection_sibling(c);
	if (sibling->state < BGP_OPEN_CONFIRM) {
		return true;
	}
	session->bgp->counters[BGP_COUNT_COLLISIONS]++;
	if (sibling->state == BGP_ESTABLISHED) {
		return false;
	}
	const struct bgp_session_config *config = &session->config;
	bool ours_is_higher =
	    config->router_id != c->peer.router_id ? config->router_id > c->peer.router_id : config->local_as > c->peer.as;
	struct connection *stays = &session->connections[ours_is_higher ? OUTGOING : INCOMING];
	if (stays != c) {
		return false;
	}
	connection_event(sibling, FSM_OPEN_COLLISION_DUMP, NULL);
	return true;
}

static void receive_open(struct connection *c, struct bytes body)
{
	if (c->state != BGP_OPEN_SENT) {
		connection_event(c, FSM_OPEN, NULL);
		return;
	}
	struct bgp_error error = open_read(body, &c->session->config, &c->peer);
	if (error.code != ERROR_NONE) {
		connection_event(c, FSM_OPEN_ERROR, &error);
	} else if (wins_collision(c)) {
		connection_event(c, FSM_OPEN, NULL);
	} else {
		connection_event(c, FSM_OPEN_COLLISION_DUMP, NULL);
	}
}

static void receive_update(struct connection *c, struct bytes body)
{
	struct bgp *bgp = c->session->bgp;
	if (c->state != BGP_ESTABLISHED) {
		connection_event(c, FSM_UPDATE, NULL);
		return;
	}
	bgp->counters[BGP_COUNT_UPDATES_RECEIVED]++;
	struct update_context context = {
	    .four_octet_as = c->peer.four_octet_as && !c->session->plain_open,
	    .local_as = c->session->config.local_as,
	    .remote_as = c->session->config.remote_as,
	    .remote = c->session->config.remote,
	    .families = c->peer.families,
	};
	struct update *update = &bgp->update;
	update_read(body, &context, update);
	bgp->counters[BGP_COUNT_ATTRIBUTES_DISCARDED] += update->discarded;
	bgp->counters[BGP_COUNT_OTHER_FAMILY] += update->other_family;
	if (update->verdict == UPDATE_SESSION_RESET) {
		connection_event(c, FSM_UPDATE_ERROR, &update->error);
	} else {
		connection_event(c, FSM_UPDATE, NULL);
	}
}

static void receive_notification(struct connection *c, struct bytes body)
{
	struct bgp_error error = notification_read(body);
	c->session->bgp->counters[BGP_COUNT_NOTIFICATIONS_RECEIVED]++;
	account_received(c, &error);
	// RFC 5492 §3: a peer that knows no optional parameters gets an OPEN without.
	if (error.code == ERROR_OPEN) {
		c->session->plain_open = error.subcode == OPEN_UNSUPPORTED_PARAMETER;
	}
	bool version = error.code == ERROR_OPEN && error.subcode == OPEN_UNSUPPORTED_VERSION;
	connection_event(c, version ? FSM_NOTIFICATION_VERSION_ERROR : FSM_NOTIFICATION, &error);
}

static void receive_route_refresh(struct connection *c, struct bytes body)
{
	struct reader r = reader_of(body);
	uint16_t afi = read_u16(&r);
	read_u8(&r); // reserved; RFC 7313's subtypes are not negotiated
	enum family family = family_find(afi, read_u8(&r));
	if (c->state == BGP_ESTABLISHED && (family == FAMILIES || !c->peer.families[family])) {
		c->session->bgp->counters[BGP_COUNT_OTHER_FAMILY]++; // RFC 2918 §4: ignored
		return;
	}
	connection_event(c, FSM_ROUTE_REFRESH, NULL);
}

static void receive_message(struct connection *c, enum message_type type, struct bytes body)
{
	switch (type) {
	case MESSAGE_OPEN:
		receive_open(c, body);
		break;
	case MESSAGE_UPDATE:
		receive_update(c, body);
		break;
	case MESSAGE_NOTIFICATION:
		receive_notification(c, body);
		break;
	case MESSAGE_KEEPALIVE:
		connection_event(c, FSM_KEEPALIVE, NULL);
		break;
	case MESSAGE_ROUTE_REFRESH:
		receive_route_refresh(c, body);
		break;
	}
}

// Takes one message from the front of `octets`. Returns the octets used, 0 when there is no whole message (or the header is
// wrong, and the connection gone).
static size_t take_message(struct connection *c, struct bytes octets)
{
	if (octets.length < MESSAGE_HEADER) {
		return 0;
	}
	enum message_type type;
	struct bgp_error error;
	size_t length = message_header_read(octets.data, &type, &error);
	if (length == 0) {
		connection_event(c, FSM_HEADER_ERROR, &error);
		return 0;
	}
	if (octets.length < length) {
		return 0;
	}
	receive_message(c, type, (struct bytes){octets.data + MESSAGE_HEADER, length - MESSAGE_HEADER});
	return length;
}

// Moves octets to the kept part until it has `wanted`.
static void keep(struct connection *c, struct bytes *octets, size_t wanted)
{
	invariant(wanted <= sizeof c->input && c->input_length <= sizeof c->input);
	size_t run = wanted > c->input_length ? wanted - c->input_length : 0;
	run = run < octets->length ? run : octets->length;
	memcpy(c->input + c->input_length, octets->data, run);
	c->input_length += run;
	octets->data += run;
	octets->length -= run;
}

void connection_receive(struct connection *c, struct bytes octets)
{
	uint32_t transport = c->transport;
	while (octets.length > 0 && c->transport == transport) {
		if (c->input_length == 0) {
			size_t used = take_message(c, octets);
			octets.data += used;
			octets.length -= used;
			if (used > 0 || c->transport != transport) {
				continue;
			}
		}
		keep(c, &octets, MESSAGE_HEADER);
		if (c->input_length < MESSAGE_HEADER) {
			return;
		}
		enum message_type type;
		struct bgp_error error;
		size_t length = message_header_read(c->input, &type, &error);
		if (length == 0) {
			connection_event(c, FSM_HEADER_ERROR, &error);
			return;
		}
		keep(c, &octets, length);
		if (c->input_length == length) {
			c->input_length = 0;
			receive_message(c, type, (struct bytes){c->input + MESSAGE_HEADER, length - MESSAGE_HEADER});
		}
	}
}
