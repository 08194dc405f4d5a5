// The actions of the core that are rows, as the rows of our tables. A batch of steps is one change of each table, and not every
// batch is one: what esp can send with, or what a datagram waits for, is published at once, and all that there is with it; what
// ends, and what people and other services read, is put off for a moment. So a tunnel that begins anew goes down and up again
// in one change.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/bus/row.h"
#include "common/io/log.h"
#include "proto/tables.pb-c.h"
#include "services/ike/bus_parts.h"

enum { EVENTS_KEPT = 64, KEY_TEXT = 64, TOGETHER_MILLISECONDS = 50 };

static ProtobufCBinaryData data_of(struct bytes octets)
{
	return (ProtobufCBinaryData){.len = octets.length, .data = (uint8_t *)(uintptr_t)octets.data};
}

static const Twinspan__ChildEncryption encryption_on_bus[] = {
    [ENCRYPTION_AES_CBC_128] = TWINSPAN__CHILD_ENCRYPTION__AES_CBC_128,
    [ENCRYPTION_AES_CBC_192] = TWINSPAN__CHILD_ENCRYPTION__AES_CBC_192,
    [ENCRYPTION_AES_CBC_256] = TWINSPAN__CHILD_ENCRYPTION__AES_CBC_256,
    [ENCRYPTION_AES_GCM16_128] = TWINSPAN__CHILD_ENCRYPTION__AES_GCM16_128,
    [ENCRYPTION_AES_GCM16_256] = TWINSPAN__CHILD_ENCRYPTION__AES_GCM16_256,
};
static const Twinspan__ChildIntegrity integrity_on_bus[] = {
    [INTEGRITY_NONE] = TWINSPAN__CHILD_INTEGRITY__NONE,
    [INTEGRITY_SHA1] = TWINSPAN__CHILD_INTEGRITY__HMAC_SHA1_96,
    [INTEGRITY_SHA2_256] = TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_256_128,
    [INTEGRITY_SHA2_384] = TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_384_192,
    [INTEGRITY_SHA2_512] = TWINSPAN__CHILD_INTEGRITY__HMAC_SHA2_512_256,
};

static char *key_of_child(const struct child_row *child, char out[static KEY_TEXT])
{
	snprintf(out, KEY_TEXT, "%s/%08" PRIx32, child->tunnel_id, child->inbound.spi);
	return out;
}

static Twinspan__SaDirection direction(const struct child_direction *from)
{
	Twinspan__SaDirection row = TWINSPAN__SA_DIRECTION__INIT;
	row.spi = from->spi;
	row.encryption_key = data_of(secret_bytes(&from->encryption_key));
	row.integrity_key = data_of(secret_bytes(&from->integrity_key));
	return row;
}

struct selector_rows {
	Twinspan__ChildSelector rows[CHILD_SELECTORS_MAX], *pointers[CHILD_SELECTORS_MAX];
};

static void fill_selectors(struct selector_rows *out, const struct child_selector *from, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		out->rows[i] = (Twinspan__ChildSelector)TWINSPAN__CHILD_SELECTOR__INIT;
		out->rows[i].first = data_of(address_bytes(&from[i].first));
		out->rows[i].last = data_of(address_bytes(&from[i].last));
		out->rows[i].protocol = from[i].protocol;
		out->rows[i].first_port = from[i].first_port;
		out->rows[i].last_port = from[i].last_port;
		out->pointers[i] = &out->rows[i];
	}
}

static void put_child(struct ike_bus *bus, const struct child_row *child)
{
	struct selector_rows local, remote;
	fill_selectors(&local, child->local_selectors, child->local_selector_count);
	fill_selectors(&remote, child->remote_selectors, child->remote_selector_count);
	Twinspan__ChildSa row = TWINSPAN__CHILD_SA__INIT;
	Twinspan__SaDirection inbound = direction(&child->inbound), outbound = direction(&child->outbound);
	row.tunnel_id = (char *)(uintptr_t)child->tunnel_id;
	row.border_gateway_id = (char *)(uintptr_t)child->border_gateway_id;
	row.inbound = &inbound;
	row.outbound = &outbound;
	row.outbound_in_use = child->outbound_in_use;
	row.generation = child->generation;
	row.encryption = encryption_on_bus[child->encryption];
	row.integrity = integrity_on_bus[child->integrity];
	row.udp_encapsulation = child->udp_encapsulation;
	row.local_address = data_of(address_bytes(&child->local));
	row.remote_address = data_of(address_bytes(&child->remote));
	row.local_port = child->local_port;
	row.remote_port = child->remote_port;
	row.replay_window = child->replay_window;
	row.extended_sequence_numbers = child->extended_sequence_numbers;
	row.local_selectors = local.pointers;
	row.n_local_selectors = child->local_selector_count;
	row.remote_selectors = remote.pointers;
	row.n_remote_selectors = child->remote_selector_count;
	char key[KEY_TEXT];
	row_put(bus->child_sa, bus->node, text_bytes(key_of_child(child, key)), &row.base);
}

static void put_state(struct ike_bus *bus, const struct waiting_state *state)
{
	char key[STATE_KEY_TEXT];
	key_of_state(state->key, key);
	size_t length = state->length + SEAL_OVERHEAD;
	uint8_t *sealed = allocate(length);
	seal(bus->sealer, text_bytes(key), (struct bytes){state->octets, state->length}, sealed);
	Twinspan__SealedIkeSa row = TWINSPAN__SEALED_IKE_SA__INIT;
	row.sealed = data_of((struct bytes){sealed, length});
	row_put(bus->ike_sa, bus->node, text_bytes(key), &row.base);
	free(sealed);
}

static void forget(struct waiting_state *state)
{
	wipe(state->octets, state->length);
	free(state->octets);
}

static void put_states(struct ike_bus *bus)
{
	for (size_t i = 0; i < bus->waiting_count; i++) {
		put_state(bus, &bus->waiting[i]);
		forget(&bus->waiting[i]);
	}
	bus->waiting_count = 0;
}

// The state of an IKE SA changes several times in a batch; the action's octets become ours.
static void keep_state(struct ike_bus *bus, struct ike_action *action)
{
	size_t i = 0;
	while (i < bus->waiting_count && bus->waiting[i].key != action->key) {
		i++;
	}
	if (i < bus->waiting_count) {
		forget(&bus->waiting[i]);
	} else if (bus->waiting_count == STATES_WAITING_MAX) {
		put_states(bus);
		i = bus->waiting_count++;
		invariant(i == 0);
	} else {
		bus->waiting_count++;
	}
	bus->waiting[i] = (struct waiting_state){action->key, action->octets, action->length};
	action->octets = NULL;
	action->length = 0;
}

static void remove_state(struct ike_bus *bus, uint64_t spi)
{
	char key[STATE_KEY_TEXT];
	for (size_t i = 0; i < bus->waiting_count; i++) {
		if (bus->waiting[i].key == spi) {
			forget(&bus->waiting[i]);
			bus->waiting[i] = bus->waiting[--bus->waiting_count];
			break;
		}
	}
	table_remove(bus->ike_sa, text_bytes(key_of_state(spi, key)));
}

static const char *const state_names[] = {[TUNNEL_DOWN] = "DOWN", [TUNNEL_CONNECTING] = "CONNECTING", [TUNNEL_UP] = "UP"};

static void put_status(struct ike_bus *bus, const struct tunnel_status_row *status)
{
	static const Twinspan__TunnelStatus__State on_bus[] = {
	    [TUNNEL_DOWN] = TWINSPAN__TUNNEL_STATUS__STATE__DOWN,
	    [TUNNEL_CONNECTING] = TWINSPAN__TUNNEL_STATUS__STATE__CONNECTING,
	    [TUNNEL_UP] = TWINSPAN__TUNNEL_STATUS__STATE__UP,
	};
	Twinspan__TunnelStatus row = TWINSPAN__TUNNEL_STATUS__INIT;
	row.tunnel_id = (char *)(uintptr_t)status->tunnel_id;
	row.state = on_bus[status->state];
	row.reason = (char *)(uintptr_t)status->reason;
	row.since = wall_clock() - (uint64_t)((now() - status->since) / 1000);
	row.generation = status->generation;
	row.ike_suite = (char *)(uintptr_t)status->ike_suite;
	row.child_suite = (char *)(uintptr_t)status->child_suite;
	row.weak = status->weak;
	row.udp_encapsulated = status->udp_encapsulated;
	row.child_rekeys = status->child_rekeys;
	row.ike_rekeys = status->ike_rekeys;
	row_put(bus->status, bus->node, text_bytes(status->tunnel_id), &row.base);
	log_limited(LOG_INFO, "tunnel-status", "tunnel", status->tunnel_id, "state", state_names[status->state], "reason",
	            status->reason, NULL);
}

static void put_event(struct ike_bus *bus, const struct tunnel_event_row *event)
{
	Twinspan__TunnelEvent row = TWINSPAN__TUNNEL_EVENT__INIT;
	row.tunnel_id = (char *)(uintptr_t)event->tunnel_id;
	row.number = event->number;
	row.time = wall_clock();
	row.event = (char *)(uintptr_t)event->event;
	row.detail = (char *)(uintptr_t)event->detail;
	char key[KEY_TEXT];
	snprintf(key, sizeof key, "%s/%" PRIu64, event->tunnel_id, event->number);
	row_put(bus->events, bus->node, text_bytes(key), &row.base);
	if (event->number > EVENTS_KEPT) {
		snprintf(key, sizeof key, "%s/%" PRIu64, event->tunnel_id, event->number - EVENTS_KEPT);
		table_remove(bus->events, text_bytes(key));
	}
	log_limited(LOG_INFO, "tunnel-event", "tunnel", event->tunnel_id, "what", event->event, "detail", event->detail, NULL);
}

void ike_bus_take(struct ike_bus *bus, struct ike_actions *actions)
{
	char key[KEY_TEXT];
	for (size_t i = 0; i < actions->count; i++) {
		struct ike_action *action = &actions->items[i];
		switch (action->kind) {
		case IKE_ACTION_SEND:
			break;
		case IKE_ACTION_PUT_CHILD:
			put_child(bus, action->child);
			*(action->child->outbound_in_use ? &bus->esp_at_once : &bus->esp_later) = true;
			break;
		case IKE_ACTION_REMOVE_CHILD:
			table_remove(bus->child_sa, text_bytes(key_of_child(action->child, key)));
			bus->esp_later = true;
			break;
		case IKE_ACTION_PUT_STATE:
			keep_state(bus, action);
			bus->esp_later = true;
			break;
		case IKE_ACTION_REMOVE_STATE:
			remove_state(bus, action->key);
			bus->esp_later = true;
			break;
		case IKE_ACTION_STATUS:
			put_status(bus, action->status);
			bus->others_later = true;
			break;
		case IKE_ACTION_REMOVE_STATUS:
			table_remove(bus->status, text_bytes(action->status->tunnel_id));
			bus->others_later = true;
			break;
		case IKE_ACTION_EVENT:
			put_event(bus, action->event);
			bus->others_later = true;
			break;
		}
	}
}

void publish(void *context)
{
	struct ike_bus *bus = context;
	bus->esp_at_once = bus->esp_later = bus->others_later = false;
	deadline_disarm(&bus->put_off);
	put_states(bus);
	table_commit(bus->child_sa); // first: a tunnel that is said to be UP can carry traffic
	table_commit(bus->ike_sa);
	table_commit(bus->status);
	table_commit(bus->events);
}

struct barrier ike_bus_commit(struct ike_bus *bus, bool awaited)
{
	if (bus->esp_at_once || (bus->esp_later && awaited)) {
		publish(bus);
	} else if ((bus->esp_later || bus->others_later) && !deadline_armed(&bus->put_off)) {
		deadline_arm(&bus->put_off, now() + MILLISECONDS(TOGETHER_MILLISECONDS));
	}
	return (struct barrier){.child_sa = table_sequence(bus->child_sa), .ike_sa = table_sequence(bus->ike_sa)};
}
