// The door of the core: events to sessions, the list of actions, and the heap of deadlines.
#include "services/bgp/speaker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/bgp/as_path.h"

// ---- actions ----
enum { KEPT_LIMIT = 1 << 16 };

static void *grown(void *memory, size_t *capacity, size_t needed, size_t size)
{
	if (needed <= *capacity) {
		return memory;
	}
	size_t bigger = *capacity ? *capacity * 2 : 64;
	*capacity = bigger > needed ? bigger : needed;
	return reallocate(memory, *capacity, size);
}

void bgp_actions_clear(struct bgp_actions *actions)
{
	if (actions->route_capacity > KEPT_LIMIT) {
		bgp_actions_fini(actions);
	}
	actions->count = actions->octets_length = actions->route_count = 0;
}

void bgp_actions_fini(struct bgp_actions *actions)
{
	free(actions->list);
	free(actions->octets);
	free(actions->routes);
	*actions = (struct bgp_actions){.count = 0};
}

void act(struct bgp *bgp, enum bgp_action_kind kind, struct bgp_session *session, uint32_t transport)
{
	struct bgp_actions *a = bgp->actions;
	a->list = grown(a->list, &a->capacity, a->count + 1, sizeof *a->list);
	a->list[a->count++] = (struct bgp_action){.kind = kind, .session = session, .transport = transport};
}

static void append(struct bgp_actions *a, struct bytes octets)
{
	a->octets = grown(a->octets, &a->octets_capacity, a->octets_length + octets.length, 1);
	memcpy(a->octets + a->octets_length, octets.data, octets.length);
	a->octets_length += octets.length;
}

void act_text(struct bgp_session *session, enum bgp_notice notice, const char *text)
{
	struct bgp_actions *a = session->bgp->actions;
	act(session->bgp, BGP_ACTION_NOTICE, session, 0);
	struct bgp_action *last = &a->list[a->count - 1];
	last->notice = notice;
	last->offset = a->octets_length;
	last->length = strlen(text);
	append(a, (struct bytes){(const uint8_t *)text, last->length + 1});
}

void act_send_octets(struct bgp_session *session, uint32_t transport, struct bytes octets)
{
	struct bgp_actions *a = session->bgp->actions;
	struct bgp_action *last = a->count ? &a->list[a->count - 1] : NULL;
	if (!last || last->kind != BGP_ACTION_SEND || last->transport != transport ||
	    last->offset + last->length != a->octets_length) {
		act(session->bgp, BGP_ACTION_SEND, session, transport);
		last = &a->list[a->count - 1];
		last->offset = a->octets_length;
	}
	last->length += octets.length;
	append(a, octets);
}

void act_send(struct connection *c, struct bytes octets)
{
	invariant(c->transport != 0);
	c->queued += octets.length;
	act_send_octets(c->session, c->transport, octets);
}

void act_patience(struct connection *c, duration length)
{
	invariant(c->transport != 0 && length > 0);
	act(c->session->bgp, BGP_ACTION_PATIENCE, c->session, c->transport);
	c->session->bgp->actions->list[c->session->bgp->actions->count - 1].length = (size_t)(length / MILLISECONDS(1));
}

void act_route(struct bgp_session *session, const struct prefix *destination, const struct bgp_attributes *attributes)
{
	struct bgp_actions *a = session->bgp->actions;
	a->routes = grown(a->routes, &a->route_capacity, a->route_count + 1, sizeof *a->routes);
	a->routes[a->route_count++] = (struct bgp_route_change){session, attributes, *destination};
	session_changed(session);
}

void session_changed(struct bgp_session *session)
{
	if (!session->changed) {
		session->changed = true;
		act(session->bgp, BGP_ACTION_CHANGED, session, 0);
	}
}

// ---- deadlines ----
void session_schedule(struct bgp_session *session)
{
	instant at = instant_min(outlet_deadline(session), inlet_deadline(session));
	for (int side = 0; side < SIDES; side++) {
		at = instant_min(at, connection_deadline(&session->connections[side]));
	}
	heap_set(&session->bgp->deadlines, &session->deadline, at);
}

instant bgp_deadline(const struct bgp *bgp)
{
	return heap_due(&bgp->deadlines);
}

// ---- the speaker ----
struct bgp *bgp_new(const uint8_t seed[static 32])
{
	struct bgp *bgp = allocate(sizeof *bgp);
	uint8_t key[16];
	random_init(&bgp->random, seed);
	random_fill(&bgp->random, key, sizeof key);
	attribute_pool_init(&bgp->pool, key);
	bgp->prefix_hash_key = random_u64(&bgp->random);
	bgp->sessions = map_new(NULL);
	bgp->exports = map_new(NULL);
	return bgp;
}

static void bury(struct bgp *bgp)
{
	while (bgp->removed) {
		struct bgp_session *session = bgp->removed;
		bgp->removed = session->next_removed;
		session_free(session);
	}
	attribute_pool_bury(&bgp->pool);
}

void bgp_free(struct bgp **bgp)
{
	if (!*bgp) {
		return;
	}
	bury(*bgp);
	struct map_cursor cursor = {.position = 0};
	while (map_next((*bgp)->sessions, &cursor)) {
		session_free(cursor.value);
	}
	cursor = (struct map_cursor){.position = 0};
	while (map_next((*bgp)->exports, &cursor)) {
		adj_rib_out_free(*bgp, cursor.value);
	}
	map_free(&(*bgp)->sessions, NULL);
	map_free(&(*bgp)->exports, NULL);
	attribute_pool_fini(&(*bgp)->pool);
	heap_fini(&(*bgp)->deadlines);
	free(*bgp);
	*bgp = NULL;
}

static bool fits_an_update(const struct bgp_advertisement *a)
{
	return a->as_path_length <= BGP_AS_PATH_LIMIT &&
	       a->community_count <= (BGP_ATTRIBUTES_LIMIT - a->as_path_length * BGP_AS_OCTETS) / BGP_COMMUNITY_OCTETS;
}

// NULL: there is nothing to say.
static struct bgp_attributes *attributes_of(struct bgp *bgp, const struct bgp_advertisement *a)
{
	if (a->withdrawn || !fits_an_update(a)) {
		bgp->counters[BGP_COUNT_UNADVERTISABLE] += !a->withdrawn;
		return NULL;
	}
	uint8_t octets[BGP_AS_PATH_LIMIT * 4 + 16], community_octets[BGP_ATTRIBUTES_LIMIT];
	struct writer path = writer_of(octets, sizeof octets);
	struct writer communities = writer_of(community_octets, sizeof community_octets);
	as_path_from_list(a->as_path, a->as_path_length, &path);
	for (size_t i = 0; i < a->community_count; i++) {
		write_u32(&communities, a->communities[i]);
	}
	struct attribute_draft draft = {
	    .origin = a->origin, .as_path = writer_bytes(&path), .communities = writer_bytes(&communities)};
	return attributes_intern(&bgp->pool, &draft);
}

static void advertise(struct bgp *bgp, const struct bgp_advertisement *list, size_t count)
{
	struct adj_rib_out *rib = NULL;
	for (size_t i = 0; i < count; i++) {
		const struct bgp_advertisement *a = &list[i];
		if (!family_rules[family_of(&a->destination)].offered) {
			continue; // not said over any session
		}
		if (!rib || strcmp(rib->name, a->export) != 0) {
			rib = adj_rib_out_get(bgp, a->export);
		}
		adj_rib_out_change(bgp, rib, &a->destination, attributes_of(bgp, a));
		rib->touched = true;
	}
	struct map_cursor cursor = {.position = 0};
	while (map_next(bgp->exports, &cursor)) {
		rib = cursor.value;
		for (size_t i = 0; rib->touched && i < ADJ_RIB_OUT_SESSIONS; i++) {
			if (rib->sessions[i]) {
				session_settle(rib->sessions[i]);
			}
		}
		if (rib->touched) {
			rib->touched = false;
			adj_rib_out_reap(bgp, rib);
		}
	}
}

static void all_advertised(struct bgp *bgp)
{
	bgp->advertised = true;
	struct map_cursor cursor = {.position = 0};
	while (map_next(bgp->sessions, &cursor)) {
		session_settle(cursor.value);
	}
}

static void run_timers(struct bgp *bgp)
{
	while (bgp_deadline(bgp) <= bgp->now) {
		struct heap_entry *first = heap_first(&bgp->deadlines);
		struct bgp_session *session = (struct bgp_session *)((uint8_t *)first - offsetof(struct bgp_session, deadline));
		session_timers(session);
		session_settle(session);
		invariant(session->deadline.position == 0 || session->deadline.at > bgp->now); // or this has no end
	}
}

static void transport_event(const struct bgp_event *event)
{
	struct connection *c = session_connection(event->session, event->transport);
	if (!c) {
		return;
	}
	struct bgp_session *session = c->session;
	switch (event->kind) {
	case BGP_EVENT_CONNECTED:
		session->backoff.unanswered = 0;
		connection_event(c, FSM_TCP_CR_ACKED, NULL);
		break;
	case BGP_EVENT_RECEIVED:
		connection_receive(c, event->octets);
		break;
	case BGP_EVENT_SENT:
		connection_sent(c, event->count);
		break;
	default:
		account_lost(c, event->cause, event->reason ? event->reason : "connection closed");
		c->transport = 0; // the shell has closed it
		connection_event(c, FSM_TCP_CONNECTION_FAILS, NULL);
		break;
	}
	session_settle(session);
}

static void stop_all(struct bgp *bgp)
{
	bgp->stopped = true;
	struct map_cursor cursor = {.position = 0};
	while (map_next(bgp->sessions, &cursor)) {
		session_cease(cursor.value);
		session_settle(cursor.value);
	}
}

void bgp_step(struct bgp *bgp, const struct bgp_event *event, instant now, struct bgp_actions *actions)
{
	bury(bgp);
	invariant(!bgp->actions); // no step inside a step
	bgp->now = now;
	bgp->portion = ROUTES_PORTION;
	bgp->actions = actions;
	struct bgp_session *session = event->session;
	switch (event->kind) {
	case BGP_EVENT_TIME:
		run_timers(bgp);
		break;
	case BGP_EVENT_SESSION:
		session = map_find_text(bgp->sessions, event->id);
		if (!session) {
			session = session_new(bgp, event->id);
			map_insert_text(bgp->sessions, event->id, session);
		}
		session_configure(session, event->config);
		session_settle(session);
		break;
	case BGP_EVENT_SESSION_REMOVED:
		map_remove_text(bgp->sessions, session->id);
		session_remove(session);
		heap_remove(&bgp->deadlines, &session->deadline);
		session->next_removed = bgp->removed;
		bgp->removed = session;
		act(bgp, BGP_ACTION_REMOVED, session, 0);
		break;
	case BGP_EVENT_ADVERTISE:
		advertise(bgp, event->advertisements, event->count);
		break;
	case BGP_EVENT_ADVERTISED:
		all_advertised(bgp);
		break;
	case BGP_EVENT_ACCEPTED:
		session_accept(session, event->transport);
		session_settle(session);
		break;
	case BGP_EVENT_CONNECTED:
	case BGP_EVENT_RECEIVED:
	case BGP_EVENT_SENT:
	case BGP_EVENT_CLOSED:
		transport_event(event);
		break;
	case BGP_EVENT_STOP:
		stop_all(bgp);
		break;
	}
	for (size_t i = 0; i < actions->count; i++) {
		actions->list[i].session->changed = false;
	}
	bgp->actions = NULL;
}

// ---- questions ----
struct bgp_session *bgp_session_find(const struct bgp *bgp, const char *id)
{
	return map_find_text(bgp->sessions, id);
}

const char *bgp_session_id(const struct bgp_session *session)
{
	return session->id;
}

uint32_t bgp_transport_new(struct bgp *bgp)
{
	bgp->last_transport += bgp->last_transport == UINT32_MAX ? 2 : 1;
	return bgp->last_transport;
}

struct bytes bgp_connection_rejected(void)
{
	static const uint8_t octets[] = {0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0xff,
	                                 0,
	                                 21,
	                                 MESSAGE_NOTIFICATION,
	                                 ERROR_CEASE,
	                                 CEASE_CONNECTION_REJECTED};
	return (struct bytes){octets, sizeof octets};
}

uint64_t bgp_count(const struct bgp *bgp, enum bgp_counter counter)
{
	return bgp->counters[counter];
}

const char *bgp_counter_name(enum bgp_counter counter)
{
	static const char *const names[] = {
	    [BGP_COUNT_UPDATES_RECEIVED] = "updates_received",
	    [BGP_COUNT_UPDATES_SENT] = "updates_sent",
	    [BGP_COUNT_TREATED_AS_WITHDRAW] = "treated_as_withdraw",
	    [BGP_COUNT_ATTRIBUTES_DISCARDED] = "attributes_discarded",
	    [BGP_COUNT_AS_LOOPS] = "as_loops",
	    [BGP_COUNT_NEXT_HOP_INVALID] = "next_hop_invalid",
	    [BGP_COUNT_MARTIANS] = "martians",
	    [BGP_COUNT_OVER_LIMIT] = "over_limit",
	    [BGP_COUNT_OTHER_FAMILY] = "other_family",
	    [BGP_COUNT_NOTIFICATIONS_RECEIVED] = "notifications_received",
	    [BGP_COUNT_NOTIFICATIONS_SENT] = "notifications_sent",
	    [BGP_COUNT_COLLISIONS] = "collisions",
	    [BGP_COUNT_CONNECTIONS_REFUSED] = "connections_refused",
	    [BGP_COUNT_UNADVERTISABLE] = "unadvertisable",
	};
	return names[counter];
}
