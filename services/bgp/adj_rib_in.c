// Adj-RIB-In (RFC 4271 §3.2): the routes of one session that are accepted. What is refused (own AS in the path, a foreign next
// hop, no unicast destination, beyond the limit) is not kept, and a refused update of a route withdraws it.
#include "services/bgp/speaker.h"

#include "common/base/alloc.h"

// Destinations that no customer's network has: "this network", loopback, link-local (the tunnels' own addresses), multicast and
// above.
static bool is_martian(struct bgp_prefix p)
{
	static const struct bgp_prefix martians[] = {{0x00000000, 8}, {0x7f000000, 8}, {0xa9fe0000, 16}, {0xe0000000, 3}};
	for (size_t i = 0; i < sizeof martians / sizeof martians[0]; i++) {
		uint32_t mask = UINT32_MAX << (32 - martians[i].length);
		if (p.length >= martians[i].length && (p.address & mask) == martians[i].address) {
			return true;
		}
	}
	return false;
}

static void withdraw(struct bgp_session *session, struct bgp_prefix prefix)
{
	struct prefix_slot *slot = prefix_table_find(&session->adj_rib_in, prefix);
	if (slot) {
		attributes_release(&session->bgp->pool, slot->attributes);
		prefix_table_remove(&session->adj_rib_in, slot);
		act_route(session, prefix, NULL);
	}
}

static bool over_limit(struct bgp_session *session)
{
	size_t limit = session->config.maximum_prefixes, count = session->adj_rib_in.count;
	if (limit == 0) {
		return false;
	}
	if (count + 1 > limit) {
		if (session->over_limit++ == 0) {
			act_note(session, "more than %zu prefixes received, the excess is discarded", limit);
		}
		session->bgp->counters[BGP_COUNT_OVER_LIMIT]++;
		return true;
	}
	if ((count + 1) * 5 >= limit * 4 && !session->limit_warned) {
		session->limit_warned = true;
		act_note(session, "%zu of %zu prefixes received", count + 1, limit);
	}
	return false;
}

static void announce(struct bgp_session *session, struct bgp_prefix prefix, struct bgp_attributes *attributes)
{
	if (is_martian(prefix)) {
		session->bgp->counters[BGP_COUNT_MARTIANS]++;
		withdraw(session, prefix);
		return;
	}
	struct prefix_slot *slot = prefix_table_find(&session->adj_rib_in, prefix);
	if (slot && slot->attributes == attributes) {
		return;
	}
	if (!slot) {
		if (over_limit(session)) {
			return;
		}
		slot = prefix_table_insert(&session->adj_rib_in, prefix);
	}
	attributes_release(&session->bgp->pool, slot->attributes);
	slot->attributes = attributes_hold(attributes);
	act_route(session, prefix, attributes);
}

// Nothing that was discarded for lack of room comes again by itself: once there is room, the peer is asked to send all of it
// (RFC 2918).
static void ask_again(struct bgp_session *session)
{
	struct connection *c = session->established;
	if (session->over_limit == 0 || session->adj_rib_in.count >= session->config.maximum_prefixes ||
	    !c->peer.route_refresh || session->plain_open) {
		return;
	}
	session->over_limit = 0;
	uint8_t octets[MESSAGE_HEADER + 4];
	struct writer w = writer_of(octets, sizeof octets);
	message_begin(&w, MESSAGE_ROUTE_REFRESH);
	write_u16(&w, AFI_IPV4);
	write_u8(&w, 0);
	write_u8(&w, SAFI_UNICAST);
	message_end(&w, 0);
	connection_transmit(c, writer_bytes(&w));
}

static void apply_run(struct bgp_session *session, struct bytes run, struct bgp_attributes *attributes)
{
	struct reader r = reader_of(run);
	struct bgp_prefix prefix;
	while (prefix_read(&r, &prefix)) {
		if (attributes) {
			announce(session, prefix, attributes);
		} else {
			withdraw(session, prefix);
		}
	}
}

void adj_rib_in_apply(struct bgp_session *session, const struct update *update)
{
	struct bgp *bgp = session->bgp;
	apply_run(session, update->withdrawn, NULL);
	apply_run(session, update->mp_withdrawn, NULL);
	struct bgp_attributes *attributes = NULL;
	if (update->verdict == UPDATE_TREAT_AS_WITHDRAW) {
		bgp->counters[BGP_COUNT_TREATED_AS_WITHDRAW]++;
		act_note(session, "UPDATE treated as withdraw: %s, %s",
		         bgp_error_subcode_name(ERROR_UPDATE, update->error.subcode),
		         update->attribute ? update->attribute : "attributes");
	} else if (update->exclusion == EXCLUSION_AS_LOOP) {
		bgp->counters[BGP_COUNT_AS_LOOPS]++;
	} else if (update->exclusion == EXCLUSION_NEXT_HOP) {
		bgp->counters[BGP_COUNT_NEXT_HOP_INVALID]++;
		act_note(session, "NEXT_HOP is not the peer's address");
	} else if (update->nlri.length || update->mp_nlri.length) {
		attributes = attributes_intern(&bgp->pool, &update->draft);
	}
	apply_run(session, update->nlri, attributes);
	apply_run(session, update->mp_nlri, attributes);
	attributes_release(&bgp->pool, attributes);
	ask_again(session);
}

void adj_rib_in_clear(struct bgp_session *session)
{
	size_t at = 0;
	for (struct prefix_slot *slot; (slot = prefix_table_next(&session->adj_rib_in, &at)); at++) {
		attributes_release(&session->bgp->pool, slot->attributes);
		act_route(session, prefix_slot_prefix(slot), NULL);
	}
	prefix_table_fini(&session->adj_rib_in);
	session->limit_warned = false;
	session->over_limit = 0;
}
