// Adj-RIBs-Out (RFC 4271 §3.2): what is advertised, one table for all the sessions of a VPN connection, with three bits a
// session in each slot. A session keeps a list of the prefixes it has to look at again; what it sends is the difference between
// a slot and what the peer has, packed by attribute set into messages of up to 4,096 octets (§4.3), no more at a time than the
// peer takes. So the memory is bounded by the table, however slow the peer and however often routes change.
//
// Left out: MinRouteAdvertisementIntervalTimer (§9.2.1.1): what changes is said at once; route selection and filtering are the
// route service's.
#include "services/bgp/speaker.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/bgp/as_path.h"
#include "services/bgp/path_attribute.h"

static void list_push(struct pending_list *list, const struct prefix *prefix)
{
	if (list->count == list->capacity) {
		list->capacity = list->capacity ? list->capacity * 2 : 16;
		list->items = reallocate(list->items, list->capacity, sizeof *list->items);
	}
	list->items[list->count++] = (struct pending_route){.prefix = *prefix};
}

static void list_fini(struct pending_list *list)
{
	free(list->items);
	*list = (struct pending_list){.count = 0};
}

// ---- the table ----
struct adj_rib_out *adj_rib_out_get(struct bgp *bgp, const char *name)
{
	struct adj_rib_out *rib = map_find_text(bgp->exports, name);
	if (!rib) {
		rib = allocate(sizeof *rib);
		rib->name = duplicate_text(name);
		prefix_table_init(&rib->table, bgp->prefix_hash_key);
		map_insert_text(bgp->exports, name, rib);
	}
	return rib;
}

void adj_rib_out_free(struct bgp *bgp, struct adj_rib_out *rib)
{
	size_t at = 0;
	struct prefix prefix;
	for (struct prefix_slot *slot; (slot = prefix_table_next(&rib->table, &at, &prefix)); at++) {
		attributes_release(&bgp->pool, slot->attributes);
	}
	prefix_table_fini(&rib->table);
	free(rib->name);
	free(rib);
}

static void look_again(struct bgp_session *session, const struct prefix *prefix, struct prefix_slot *slot)
{
	invariant(session->established && session->outlet.bit != 0);
	if (!(slot->pending & session->outlet.bit)) {
		slot->pending |= session->outlet.bit;
		list_push(&session->outlet.next, prefix);
	}
}

static bool is_dead(const struct prefix_slot *slot)
{
	return !slot->attributes && !slot->known && !slot->pending;
}

void adj_rib_out_reap(struct bgp *bgp, struct adj_rib_out *rib)
{
	bool in_use = rib->table.count > 0;
	for (size_t i = 0; i < ADJ_RIB_OUT_SESSIONS; i++) {
		in_use |= rib->sessions[i] != NULL;
	}
	if (!in_use) {
		map_remove_text(bgp->exports, rib->name);
		adj_rib_out_free(bgp, rib);
	}
}

// Takes over the reference to `attributes`; NULL withdraws.
void adj_rib_out_change(struct bgp *bgp, struct adj_rib_out *rib, const struct prefix *destination,
                        struct bgp_attributes *attributes)
{
	struct prefix_slot *slot =
	    attributes ? prefix_table_insert(&rib->table, destination) : prefix_table_find(&rib->table, destination);
	if (!slot || slot->attributes == attributes) {
		attributes_release(&bgp->pool, attributes);
		return;
	}
	attributes_release(&bgp->pool, slot->attributes);
	slot->attributes = attributes;
	slot->current = 0;
	for (size_t i = 0; i < ADJ_RIB_OUT_SESSIONS; i++) {
		if (rib->sessions[i] && rib->sessions[i]->established) {
			look_again(rib->sessions[i], destination, slot);
		}
	}
	if (is_dead(slot)) {
		prefix_table_remove(&rib->table, destination, slot);
	}
}

// ---- a session's part ----
void outlet_join(struct bgp_session *session, const char *name)
{
	struct adj_rib_out *rib = adj_rib_out_get(session->bgp, name);
	session->outlet.rib = rib;
	session->outlet.bit = 0;
	for (size_t i = 0; i < ADJ_RIB_OUT_SESSIONS; i++) {
		if (!rib->sessions[i]) {
			rib->sessions[i] = session;
			session->outlet.bit = (uint8_t)(1 << i);
			invariant(session->outlet.bit != 0);
			return;
		}
	}
}

void outlet_leave(struct bgp_session *session)
{
	struct adj_rib_out *rib = session->outlet.rib;
	if (!rib) {
		return;
	}
	for (size_t i = 0; i < ADJ_RIB_OUT_SESSIONS; i++) {
		if (rib->sessions[i] == session) {
			rib->sessions[i] = NULL;
		}
	}
	session->outlet.rib = NULL;
	adj_rib_out_reap(session->bgp, rib);
}

static void look_at_all(struct bgp_session *session)
{
	struct outlet *outlet = &session->outlet;
	size_t at = 0;
	struct prefix prefix;
	for (struct prefix_slot *slot; (slot = prefix_table_next(&outlet->rib->table, &at, &prefix)); at++) {
		slot->current &= (uint8_t)~outlet->bit;
		look_again(session, &prefix, slot);
	}
}

void outlet_start(struct bgp_session *session)
{
	look_at_all(session);
	session->outlet.end_of_rib_at = session->bgp->now + END_OF_RIB_DELAY;
}

void outlet_stop(struct bgp_session *session)
{
	struct outlet *outlet = &session->outlet;
	struct prefix_table *table = &outlet->rib->table;
	uint8_t others = (uint8_t)~outlet->bit;
	size_t at = 0;
	struct prefix prefix;
	for (struct prefix_slot *slot; (slot = prefix_table_next(table, &at, &prefix));) {
		slot->known &= others;
		slot->current &= others;
		slot->pending &= others;
		if (is_dead(slot)) {
			prefix_table_remove(table, &prefix, slot);
		} else {
			at++;
		}
	}
	list_fini(&outlet->queue);
	list_fini(&outlet->next);
	outlet->at = outlet->advertised = 0;
	invariant(outlet->queue.count == 0 && outlet->next.count == 0);
	outlet->refresh_due = false;
	outlet->end_of_rib_at = INSTANT_NEVER;
}

static int compare_pending(const void *a, const void *b)
{
	const struct pending_route *x = a, *y = b;
	if (x->serial != y->serial) {
		return x->serial < y->serial ? -1 : 1;
	}
	return prefix_compare(&x->prefix, &y->prefix);
}

// What has changed becomes what is being sent, in the order of its attributes. Returns false when there is nothing.
static bool turn_over(struct outlet *outlet)
{
	struct pending_list spent = outlet->queue;
	outlet->queue = outlet->next;
	outlet->next = spent;
	outlet->next.count = outlet->at = 0;
	if (outlet->next.capacity > 4096) {
		list_fini(&outlet->next);
	}
	for (size_t i = 0; i < outlet->queue.count; i++) {
		struct pending_route *item = &outlet->queue.items[i];
		struct prefix_slot *slot = prefix_table_find(&outlet->rib->table, &item->prefix);
		invariant(slot && slot->pending & outlet->bit); // a slot stays while somebody has it in its list
		slot->pending &= (uint8_t)~outlet->bit;
		item->serial = slot->attributes ? slot->attributes->serial : 0;
		if (is_dead(slot)) {
			prefix_table_remove(&outlet->rib->table, &item->prefix, slot);
		}
	}
	if (outlet->queue.count > 1) {
		qsort(outlet->queue.items, outlet->queue.count, sizeof *outlet->queue.items, compare_pending);
	}
	return outlet->queue.count > 0;
}

// The slot that the next item of the queue is about, when it still has to be sent; NULL otherwise.
static struct prefix_slot *due(const struct outlet *outlet)
{
	const struct pending_route *item = &outlet->queue.items[outlet->at];
	struct prefix_slot *slot = prefix_table_find(&outlet->rib->table, &item->prefix);
	if (!slot || (slot->attributes ? slot->current & outlet->bit : !(slot->known & outlet->bit))) {
		return NULL;
	}
	return slot;
}

static void write_attributes(struct writer *w, const struct bgp_session *session, const struct bgp_attributes *attributes)
{
	const struct bgp_session_config *config = &session->config;
	bool four = session->established->peer.four_octet_as && !session->plain_open;
	uint8_t octets[BGP_AS_PATH_LIMIT * 4 + 32];
	struct writer path = writer_of(octets, sizeof octets);
	as_path_write(&path, config->local_as, attributes_as_path(attributes), four ? 4 : 2);
	path_attribute_header_write(w, FLAG_TRANSITIVE, ATTRIBUTE_ORIGIN, 1);
	write_u8(w, attributes->origin);
	path_attribute_header_write(w, FLAG_TRANSITIVE, ATTRIBUTE_AS_PATH, writer_length(&path));
	write_bytes(w, writer_bytes(&path));
	path_attribute_header_write(w, FLAG_TRANSITIVE, ATTRIBUTE_NEXT_HOP, 4);
	write_bytes(w, address_bytes(&config->local)); // RFC 4271 §5.1.3: ourselves
	struct bytes communities = attributes_communities(attributes);
	if (communities.length > 0) {
		path_attribute_header_write(w, FLAG_OPTIONAL | FLAG_TRANSITIVE, ATTRIBUTE_COMMUNITIES, communities.length);
		write_bytes(w, communities);
	}
	// RFC 6793 §4.2.2: what AS_PATH cannot hold goes beside it.
	if (!four && (config->local_as > UINT16_MAX || !as_path_fits_two_octets(attributes_as_path(attributes)))) {
		path = writer_of(octets, sizeof octets);
		as_path_write(&path, config->local_as, attributes_as_path(attributes), 4);
		path_attribute_header_write(w, FLAG_OPTIONAL | FLAG_TRANSITIVE, ATTRIBUTE_AS4_PATH, writer_length(&path));
		write_bytes(w, writer_bytes(&path));
	}
}

static void mark_sent(struct outlet *outlet, const struct prefix *prefix, struct prefix_slot *slot)
{
	bool known = slot->known & outlet->bit;
	if (slot->attributes) {
		outlet->advertised += !known;
		slot->known |= outlet->bit;
		slot->current |= outlet->bit;
	} else {
		invariant(known && outlet->advertised > 0);
		outlet->advertised -= known;
		slot->known &= (uint8_t)~outlet->bit;
		if (is_dead(slot)) {
			prefix_table_remove(&outlet->rib->table, prefix, slot);
		}
	}
}

// Writes prefixes from the front of the queue while they have these attributes (NULL: withdrawn) and there is room.
static void write_prefixes(struct writer *w, struct outlet *outlet, const struct bgp_attributes *attributes)
{
	for (; outlet->at < outlet->queue.count && w->end - w->at > family_octets(FAMILY_IPV4); outlet->at++) {
		const struct prefix *prefix = &outlet->queue.items[outlet->at].prefix;
		struct prefix_slot *slot = due(outlet);
		invariant(family_of(prefix) == FAMILY_IPV4); // those of others go into attributes (RFC 4760)
		if (!slot) {
			continue;
		}
		if (slot->attributes != attributes) {
			return;
		}
		prefix_write(w, prefix);
		mark_sent(outlet, prefix, slot);
	}
}

static void send_update(struct bgp_session *session, const struct bgp_attributes *attributes, bool end_of_rib)
{
	uint8_t octets[MESSAGE_LIMIT];
	struct writer w = writer_of(octets, sizeof octets);
	message_begin(&w, MESSAGE_UPDATE);
	size_t length_at = writer_length(&w);
	write_u16(&w, 0);
	if (attributes) {
		length_at = writer_length(&w);
		write_u16(&w, 0);
		write_attributes(&w, session, attributes);
		write_u16_at(&w, length_at, (uint16_t)(writer_length(&w) - length_at - 2));
		write_prefixes(&w, &session->outlet, attributes);
	} else {
		w.end -= 2; // of the attributes' length behind the prefixes
		if (!end_of_rib) {
			write_prefixes(&w, &session->outlet, NULL);
		}
		w.end += 2;
		write_u16_at(&w, length_at, (uint16_t)(writer_length(&w) - length_at - 2));
		write_u16(&w, 0);
	}
	message_end(&w, 0);
	invariant(!w.failed);
	session->bgp->counters[BGP_COUNT_UPDATES_SENT]++;
	connection_transmit(session->established, writer_bytes(&w));
}

// Whether there is something to send; turns the lists over when the one in hand is through.
static bool has_more(struct bgp_session *session)
{
	struct outlet *outlet = &session->outlet;
	for (;;) {
		for (; outlet->at < outlet->queue.count; outlet->at++) {
			if (due(outlet)) {
				return true;
			}
		}
		if (outlet->next.count == 0 && outlet->refresh_due) {
			outlet->refresh_due = false;
			look_at_all(session);
		}
		if (!turn_over(outlet)) {
			return false;
		}
	}
}

// A deadline that waits for BGP_EVENT_ADVERTISED or for the peer to take octets is none: those events come by themselves.
instant outlet_deadline(const struct bgp_session *session)
{
	const struct outlet *outlet = &session->outlet;
	bool timed = session->established && session->bgp->advertised && outlet->end_of_rib_at > session->bgp->now;
	return timed ? outlet->end_of_rib_at : INSTANT_NEVER;
}

void outlet_fill(struct bgp_session *session)
{
	struct outlet *outlet = &session->outlet;
	size_t advertised = outlet->advertised;
	invariant(session->established && session->established->state == BGP_ESTABLISHED);
	while (session->established->queued < QUEUED_LIMIT) {
		if (has_more(session)) {
			send_update(session, due(outlet)->attributes, false);
		} else {
			if (session->bgp->advertised && outlet->end_of_rib_at <= session->bgp->now) {
				outlet->end_of_rib_at = INSTANT_NEVER;
				send_update(session, NULL, true);
			}
			break;
		}
	}
	if (advertised != outlet->advertised) {
		session_changed(session);
	}
}
