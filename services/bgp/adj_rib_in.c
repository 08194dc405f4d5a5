// Adj-RIB-In (RFC 4271 §3.2): the routes of one session that are accepted. What is refused (own AS in the path, a foreign next
// hop, no unicast destination, beyond the limit) is not kept, and a refused update of a route withdraws it.
//
// A session that ends leaves its routes in `leaving`, from where a portion is withdrawn in each step: a million of them do not
// keep a thousand other sessions waiting. A route that the next session announces meanwhile leaves no more.
#include "services/bgp/speaker.h"

#include "common/base/alloc.h"

void inlet_init(struct inlet *inlet, uint64_t hash_key)
{
	*inlet = (struct inlet){.refresh_at = INSTANT_NEVER, .sweep_at = INSTANT_NEVER, .expected_at = INSTANT_NEVER};
	prefix_table_init(&inlet->table, hash_key);
	prefix_table_init(&inlet->leaving, hash_key);
	prefix_table_init(&inlet->discarded, hash_key);
}

static void release_all(struct bgp_session *session, struct prefix_table *table)
{
	size_t at = 0;
	struct prefix prefix;
	for (struct prefix_slot *slot; (slot = prefix_table_next(table, &at, &prefix)); at++) {
		attributes_release(&session->bgp->pool, slot->attributes);
	}
	prefix_table_fini(table);
}

void inlet_fini(struct bgp_session *session)
{
	release_all(session, &session->inlet.table);
	release_all(session, &session->inlet.leaving);
	prefix_table_fini(&session->inlet.discarded);
}

// ---- what is held ----
// About the octets of a row of learned_route: its key, its addresses, and an AS or a community in up to five octets.
static size_t row_octets(const struct bgp_attributes *attributes)
{
	return 128 + ((size_t)attributes->as_path_octets + attributes->communities_octets) * 5 / 4;
}

// Takes over the reference to `attributes`.
static void hold(struct bgp_session *session, struct prefix_slot *slot, struct bgp_attributes *attributes)
{
	struct bgp *bgp = session->bgp;
	if (slot->attributes) {
		invariant(bgp->routes_octets >= row_octets(slot->attributes));
		bgp->routes_octets -= row_octets(slot->attributes);
		attributes_release(&bgp->pool, slot->attributes);
	}
	slot->attributes = attributes;
	if (attributes) {
		bgp->routes_octets += row_octets(attributes);
	}
}

static void withdraw(struct bgp_session *session, const struct prefix *prefix)
{
	struct inlet *inlet = &session->inlet;
	struct prefix_slot *slot = prefix_table_find(&inlet->table, prefix);
	if (slot) {
		hold(session, slot, NULL);
		prefix_table_remove(&inlet->table, prefix, slot);
		act_route(session, prefix, NULL);
		if (inlet->table.count * 100 < (size_t)session->config.maximum_prefixes * LIMIT_CALM_PERCENT) {
			inlet->near_told = inlet->limit_told = false;
		}
		return;
	}
	slot = prefix_table_find(&inlet->discarded, prefix);
	if (slot) {
		prefix_table_remove(&inlet->discarded, prefix, slot);
		session_changed(session);
	} else if (inlet->discarded_more > 0) {
		inlet->discarded_more--;
		session_changed(session);
	}
}

// ---- the limit ----
size_t inlet_discarded(const struct inlet *inlet)
{
	return inlet->discarded.count + inlet->discarded_more;
}

static bool has_room(const struct bgp_session *session)
{
	size_t limit = session->config.maximum_prefixes;
	return limit == 0 || session->inlet.table.count < limit;
}

static void discard(struct bgp_session *session, const struct prefix *prefix, bool node_is_full)
{
	struct inlet *inlet = &session->inlet;
	session->bgp->counters[BGP_COUNT_OVER_LIMIT]++;
	if (!inlet->limit_told) {
		inlet->limit_told = true;
		if (node_is_full) {
			account_notice(session, BGP_NOTICE_LIMIT,
			               "this gateway node holds as many routes as it can: more are discarded");
		} else {
			account_notice(
			    session, BGP_NOTICE_LIMIT,
			    "more than %u routes received, which is the quota of learned routes: the excess is discarded",
			    session->config.maximum_prefixes);
		}
	}
	if (inlet->discarded.count < DISCARDED_KNOWN) {
		prefix_table_insert(&inlet->discarded, prefix);
	} else if (!prefix_table_find(&inlet->discarded, prefix)) {
		inlet->discarded_more++;
	}
	session_changed(session);
}

// Returns whether a new route may be held.
static bool admit(struct bgp_session *session, const struct prefix *prefix, const struct bgp_attributes *attributes)
{
	struct inlet *inlet = &session->inlet;
	size_t limit = session->config.maximum_prefixes, count = inlet->table.count + 1;
	bool node_is_full = session->bgp->routes_octets + row_octets(attributes) > ROUTES_OCTETS;
	if (node_is_full || !has_room(session)) {
		discard(session, prefix, node_is_full);
		return false;
	}
	if (limit > 0 && count * 100 >= limit * LIMIT_WARNING_PERCENT && !inlet->near_told) {
		inlet->near_told = true;
		account_notice(session, BGP_NOTICE_LIMIT_NEAR,
		               "%zu routes received; beyond the quota of %zu learned routes they are discarded", count, limit);
	}
	return true;
}

static void send_refresh(struct connection *c, enum family family)
{
	uint8_t octets[MESSAGE_HEADER + 4];
	struct writer w = writer_of(octets, sizeof octets);
	message_begin(&w, MESSAGE_ROUTE_REFRESH);
	write_u16(&w, family_rules[family].afi);
	write_u8(&w, 0);
	write_u8(&w, family_rules[family].safi);
	message_end(&w, 0);
	connection_transmit(c, writer_bytes(&w));
}

// Nothing that was discarded for lack of room comes again by itself: once there is room, the peer is asked to send all of it
// (RFC 2918), but not for each route that makes room.
static void ask_again(struct bgp_session *session)
{
	struct inlet *inlet = &session->inlet;
	struct connection *c = session->established;
	instant now = session->bgp->now;
	bool wanted = c && inlet_discarded(inlet) > 0 && has_room(session) && c->peer.route_refresh && !session->plain_open;
	if (!wanted) {
		inlet->refresh_at = INSTANT_NEVER;
	} else if (session->bgp->routes_octets > NODE_HAS_ROOM) {
		inlet->refresh_at = now + REFRESH_INTERVAL; // other sessions may make room, and this one does not hear of it
	} else if (now < inlet->refreshed_at + REFRESH_INTERVAL) {
		inlet->refresh_at = inlet->refreshed_at + REFRESH_INTERVAL;
	} else {
		inlet->refreshed_at = now;
		inlet->refresh_at = INSTANT_NEVER;
		prefix_table_fini(&inlet->discarded);
		inlet->discarded_more = 0;
		session_changed(session);
		for (enum family family = 0; family < FAMILIES; family++) {
			if (c->peer.families[family]) {
				send_refresh(c, family);
			}
		}
	}
}

void inlet_limit_changed(struct bgp_session *session)
{
	session->inlet.near_told = session->inlet.limit_told = false;
	ask_again(session);
}

// ---- UPDATE messages ----
static void forget(struct prefix_table *table, const struct prefix *prefix)
{
	struct prefix_slot *slot = prefix_table_find(table, prefix);
	if (slot) {
		prefix_table_remove(table, prefix, slot);
	}
}

static void announce(struct bgp_session *session, const struct prefix *prefix, struct bgp_attributes *attributes)
{
	struct inlet *inlet = &session->inlet;
	if (family_is_martian(prefix)) {
		session->bgp->counters[BGP_COUNT_MARTIANS]++;
		inlet->refused = "the destinations are no unicast networks";
		withdraw(session, prefix);
		return;
	}
	struct prefix_slot *slot = prefix_table_find(&inlet->table, prefix);
	if (slot && slot->attributes == attributes) {
		return;
	}
	if (!slot) {
		if (!admit(session, prefix, attributes)) {
			return;
		}
		forget(&inlet->discarded, prefix);
		struct prefix_slot *old = prefix_table_find(&inlet->leaving, prefix);
		if (old) {
			hold(session, old, NULL);
			prefix_table_remove(&inlet->leaving, prefix, old);
		}
		slot = prefix_table_insert(&inlet->table, prefix);
	}
	hold(session, slot, attributes_hold(attributes));
	act_route(session, prefix, attributes);
}

static void apply_run(struct bgp_session *session, const struct prefix_run *run, struct bgp_attributes *attributes)
{
	struct reader r = reader_of(run->octets);
	struct prefix prefix;
	while (prefix_read(&r, run->family, &prefix)) {
		if (attributes) {
			announce(session, &prefix, attributes);
		} else {
			withdraw(session, &prefix);
		}
	}
	invariant(!r.failed); // update_read has checked it
}

// Why the routes of an UPDATE are not accepted; NULL: they are.
static const char *refusal(struct bgp_session *session, const struct update *update)
{
	uint64_t *counters = session->bgp->counters;
	if (update->verdict == UPDATE_TREAT_AS_WITHDRAW) {
		const char *error = bgp_error_subcode_name(ERROR_UPDATE, update->error.subcode);
		counters[BGP_COUNT_TREATED_AS_WITHDRAW]++;
		account_notice(session, BGP_NOTICE_UPDATE_ERROR, "treated as withdraw (RFC 7606): %s, %s", error,
		               update->attribute ? update->attribute : "attributes");
		return error;
	}
	if (update->exclusion == EXCLUSION_AS_LOOP) {
		counters[BGP_COUNT_AS_LOOPS]++;
		account_notice(session, BGP_NOTICE_NOT_ACCEPTED, "our own AS %u is in their AS path", session->config.local_as);
		return "our own AS is in their AS path";
	}
	if (update->exclusion == EXCLUSION_NEXT_HOP) {
		counters[BGP_COUNT_NEXT_HOP_INVALID]++;
		account_notice(session, BGP_NOTICE_NOT_ACCEPTED, "their next hop is not the peer's address in the tunnel");
		return "their next hop is not the peer's address in the tunnel (next-hop-self is missing there)";
	}
	return NULL;
}

void adj_rib_in_apply(struct bgp_session *session, const struct update *update)
{
	struct bgp *bgp = session->bgp;
	struct inlet *inlet = &session->inlet;
	bool announces = update->nlri.octets.length || update->mp_nlri.octets.length;
	bool was_odd = !inlet->heard || inlet->refused;
	invariant(update->verdict != UPDATE_SESSION_RESET);
	apply_run(session, &update->withdrawn, NULL);
	apply_run(session, &update->mp_withdrawn, NULL);
	const char *refused = refusal(session, update);
	struct bgp_attributes *attributes = announces && !refused ? attributes_intern(&bgp->pool, &update->draft) : NULL;
	if (announces) {
		inlet->heard = true;
		inlet->refused = refused;
	}
	apply_run(session, &update->nlri, attributes);
	apply_run(session, &update->mp_nlri, attributes);
	attributes_release(&bgp->pool, attributes);
	if (update->end_of_rib && !inlet->end_of_rib) {
		inlet->end_of_rib = true;
		session_changed(session);
	}
	if (was_odd) {
		session_changed(session);
	}
	ask_again(session);
}

// ---- a session's beginning and end ----
void inlet_start(struct bgp_session *session)
{
	struct inlet *inlet = &session->inlet;
	invariant(inlet->table.count == 0 && inlet_discarded(inlet) == 0 && !inlet->heard);
	inlet->refreshed_at = session->bgp->now - REFRESH_INTERVAL;
	inlet->expected_at = session->bgp->now + ROUTES_EXPECTED;
}

// What was still leaving and what leaves now become one table: the smaller goes into the larger.
static void join_leaving(struct inlet *inlet)
{
	struct prefix_table *larger = &inlet->table, *smaller = &inlet->leaving;
	if (smaller->count > larger->count) {
		larger = &inlet->leaving;
		smaller = &inlet->table;
	}
	size_t total = larger->count + smaller->count, at = 0;
	struct prefix prefix;
	for (struct prefix_slot *slot; smaller->count > 0 && (slot = prefix_table_next(smaller, &at, &prefix)); at++) {
		prefix_table_insert(larger, &prefix)->attributes = slot->attributes;
	}
	struct prefix_table joined = *larger;
	prefix_table_fini(smaller);
	inlet->leaving = joined;
	prefix_table_init(&inlet->table, joined.hash_key);
	inlet->leaving_at = 0;
	invariant(inlet->leaving.count == total); // they had nothing in common
}

void inlet_stop(struct bgp_session *session)
{
	struct inlet *inlet = &session->inlet;
	join_leaving(inlet);
	prefix_table_fini(&inlet->discarded);
	inlet->discarded_more = 0;
	inlet->near_told = inlet->limit_told = inlet->heard = inlet->end_of_rib = false;
	inlet->refused = NULL;
	inlet->refresh_at = inlet->expected_at = INSTANT_NEVER;
	inlet_sweep(session, session->bgp->portion);
}

void inlet_sweep(struct bgp_session *session, size_t most)
{
	struct inlet *inlet = &session->inlet;
	struct bgp *bgp = session->bgp;
	size_t count = 0;
	for (; count < most && inlet->leaving.count > 0; count++) {
		struct prefix prefix;
		struct prefix_slot *slot = prefix_table_next(&inlet->leaving, &inlet->leaving_at, &prefix);
		invariant(slot && !prefix_table_find(&inlet->table, &prefix));
		hold(session, slot, NULL);
		act_route(session, &prefix, NULL);
		prefix_table_remove(&inlet->leaving, &prefix, slot);
	}
	bgp->portion -= count < bgp->portion ? count : bgp->portion;
	inlet->sweep_at = bgp->now + 1; // the loop has its turn before
	if (inlet->leaving.count == 0) {
		prefix_table_fini(&inlet->leaving);
		inlet->leaving_at = 0;
		inlet->sweep_at = INSTANT_NEVER;
	}
}

instant inlet_deadline(const struct bgp_session *session)
{
	const struct inlet *inlet = &session->inlet;
	return instant_min(instant_min(inlet->refresh_at, inlet->expected_at), inlet->sweep_at);
}

void inlet_timers(struct bgp_session *session)
{
	struct inlet *inlet = &session->inlet;
	instant now = session->bgp->now;
	if (inlet->sweep_at <= now) {
		inlet_sweep(session, session->bgp->portion);
	}
	if (inlet->refresh_at <= now) {
		ask_again(session);
	}
	if (inlet->expected_at <= now) {
		inlet->expected_at = INSTANT_NEVER;
		session_changed(session);
	}
}
