// The tables of ike: rows in become events of the core, rows that the core puts are published. See README.md for the list.
//
// The order at the start: first what esp held for an earlier incarnation (held_ike_sa) is restored, then the core starts and
// our tables are complete, and only then the tunnels come in; so a killed ike neither negotiates anew nor withdraws an SA that
// still lives.
#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/entropy.h"
#include "common/io/log.h"
#include "proto/resource.pb-c.h"
#include "proto/tables.pb-c.h"
#include "services/ike/shell.h"

enum { EVENTS_KEPT = 64, KEY_TEXT = 64 };

struct ike_bus {
	struct service *service;
	struct bus *bus;
	char *node, *esp; // "node-a", "esp.node-a"
	struct seal_key seal_key;
	struct table *status, *events, *child_sa, *ike_sa;
	struct replica *held, *usage, *tunnels, *secrets;
	bool started, tunnels_known;
};

// Packs a message and puts it as a row; what may hold keys is wiped.
static void put(struct table *table, const char *scope, const char *key, const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *packed = allocate(length ? length : 1);
	protobuf_c_message_pack(message, packed);
	table_put(table, scope, text_bytes(key), (struct bytes){packed, length});
	wipe(packed, length);
	free(packed);
}

static char *key_of_state(uint64_t spi, char out[static KEY_TEXT])
{
	snprintf(out, KEY_TEXT, "%016" PRIx64, spi);
	return out;
}

// ---- out ----

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

static void put_child(struct ike_bus *bus, const struct child_row *child)
{
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
	char key[KEY_TEXT];
	put(bus->child_sa, bus->node, key_of_child(child, key), &row.base);
}

static void put_state(struct ike_bus *bus, const struct ike_action *action)
{
	char key[KEY_TEXT];
	key_of_state(action->key, key);
	uint8_t nonce[SEAL_NONCE];
	entropy_fill(nonce, sizeof nonce);
	size_t length = action->length + SEAL_OVERHEAD;
	uint8_t *sealed = allocate(length);
	seal(&bus->seal_key, nonce, text_bytes(key), (struct bytes){action->octets, action->length}, sealed);
	Twinspan__SealedIkeSa row = TWINSPAN__SEALED_IKE_SA__INIT;
	row.sealed = data_of((struct bytes){sealed, length});
	put(bus->ike_sa, bus->node, key, &row.base);
	free(sealed);
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
	put(bus->status, bus->node, status->tunnel_id, &row.base);
	log_event(LOG_INFO, "tunnel-status", "tunnel", status->tunnel_id, "state", state_names[status->state], "reason",
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
	put(bus->events, bus->node, key, &row.base);
	if (event->number > EVENTS_KEPT) {
		snprintf(key, sizeof key, "%s/%" PRIu64, event->tunnel_id, event->number - EVENTS_KEPT);
		table_remove(bus->events, text_bytes(key));
	}
	log_limited(LOG_INFO, "tunnel-event", "tunnel", event->tunnel_id, "what", event->event, "detail", event->detail, NULL);
}

void ike_bus_publish(struct ike_bus *bus, const struct ike_actions *actions)
{
	char key[KEY_TEXT];
	for (size_t i = 0; i < actions->count; i++) {
		const struct ike_action *action = &actions->items[i];
		switch (action->kind) {
		case IKE_ACTION_SEND:
			break;
		case IKE_ACTION_PUT_CHILD:
			put_child(bus, action->child);
			break;
		case IKE_ACTION_REMOVE_CHILD:
			table_remove(bus->child_sa, text_bytes(key_of_child(action->child, key)));
			break;
		case IKE_ACTION_PUT_STATE:
			put_state(bus, action);
			break;
		case IKE_ACTION_REMOVE_STATE:
			table_remove(bus->ike_sa, text_bytes(key_of_state(action->key, key)));
			break;
		case IKE_ACTION_STATUS:
			put_status(bus, action->status);
			break;
		case IKE_ACTION_REMOVE_STATUS:
			table_remove(bus->status, text_bytes(action->status->tunnel_id));
			break;
		case IKE_ACTION_EVENT:
			put_event(bus, action->event);
			break;
		}
	}
	// The dataplane first: a tunnel that is said to be UP can carry traffic.
	table_commit(bus->child_sa);
	table_commit(bus->ike_sa);
	table_commit(bus->status);
	table_commit(bus->events);
}

struct barrier ike_bus_barrier(const struct ike_bus *bus)
{
	return (struct barrier){.child_sa = table_sequence(bus->child_sa), .ike_sa = table_sequence(bus->ike_sa)};
}

bool ike_bus_passed(const struct ike_bus *bus, const struct barrier *barrier)
{
	// A reader that is not there has applied nothing, so a sequence of 0 would pass without it.
	return bus->started && table_applied(bus->child_sa, bus->esp) >= barrier->child_sa &&
	       table_applied(bus->ike_sa, bus->esp) >= barrier->ike_sa;
}

static void applied_moved(void *context)
{
	struct ike_bus *bus = context;
	if (bus->started) {
		output_flush(bus->service->output);
	}
}

// ---- in ----

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

// Copies a row's text; one that does not fit makes the row unusable.
static bool copy_text(char *out, size_t capacity, const char *from)
{
	size_t length = strlen(or_empty(from));
	if (length >= capacity) {
		return false;
	}
	memcpy(out, or_empty(from), length);
	out[length] = '\0';
	return true;
}

static bool algorithms_from(struct algorithms *out, const Twinspan__Encryption *encryption, size_t encryption_count,
                            const Twinspan__Integrity *integrity, size_t integrity_count, const uint32_t *groups,
                            size_t group_count)
{
	static const uint8_t encryption_numbers[] = {
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES128] = ENCRYPTION_AES_CBC_128,
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES192] = ENCRYPTION_AES_CBC_192,
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES256] = ENCRYPTION_AES_CBC_256,
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES128_GCM16] = ENCRYPTION_AES_GCM16_128,
	    [TWINSPAN__ENCRYPTION__ENCRYPTION_AES256_GCM16] = ENCRYPTION_AES_GCM16_256,
	};
	static const uint8_t integrity_numbers[] = {
	    [TWINSPAN__INTEGRITY__INTEGRITY_SHA1] = INTEGRITY_SHA1,
	    [TWINSPAN__INTEGRITY__INTEGRITY_SHA2_256] = INTEGRITY_SHA2_256,
	    [TWINSPAN__INTEGRITY__INTEGRITY_SHA2_384] = INTEGRITY_SHA2_384,
	    [TWINSPAN__INTEGRITY__INTEGRITY_SHA2_512] = INTEGRITY_SHA2_512,
	};
	if (encryption_count > ALGORITHMS_MAX || integrity_count > ALGORITHMS_MAX || group_count > GROUPS_MAX) {
		return false;
	}
	for (size_t i = 0; i < encryption_count; i++) {
		if ((size_t)encryption[i] >= sizeof encryption_numbers || encryption_numbers[encryption[i]] == 0) {
			return false;
		}
		out->encryption[out->encryption_count++] = encryption_numbers[encryption[i]];
	}
	for (size_t i = 0; i < integrity_count; i++) {
		if ((size_t)integrity[i] >= sizeof integrity_numbers || integrity_numbers[integrity[i]] == 0) {
			return false;
		}
		out->integrity[out->integrity_count++] = integrity_numbers[integrity[i]];
	}
	for (size_t i = 0; i < group_count; i++) {
		if (groups[i] > UINT8_MAX) {
			return false;
		}
		out->groups[out->group_count++] = (uint8_t)groups[i];
	}
	return true;
}

static bool tunnel_from(struct tunnel_config *out, const Twinspan__VpnTunnel *row)
{
	if (!row->ike || !row->ipsec || !row->dpd) {
		return false;
	}
	*out = (struct tunnel_config){
	    .enabled = row->admin_state == TWINSPAN__ADMIN_STATE__ADMIN_STATE_UP,
	    .initiate = row->startup == TWINSPAN__STARTUP__STARTUP_INITIATE,
	    .version_1 = row->ike->version == TWINSPAN__IKE_VERSION__IKE_VERSION_V1,
	    .force_encapsulation = row->ipsec->encapsulation == TWINSPAN__ENCAPSULATION__ENCAPSULATION_UDP,
	    .ike_lifetime = row->ike->lifetime_seconds,
	    .child_lifetime = row->ipsec->lifetime_seconds,
	    .child_bytes = row->ipsec->lifetime_bytes,
	    .child_packets = row->ipsec->lifetime_packets,
	    .rekey_margin = row->rekey_margin_seconds,
	    .rekey_fuzz = row->rekey_fuzz_percent,
	    .replay_window = row->ipsec->replay_window,
	    .dpd = row->dpd->enabled,
	    .dpd_interval = row->dpd->interval_seconds,
	    .dpd_timeout = row->dpd->timeout_seconds,
	    .rekey_child_requests = row->rekey_child_requests,
	    .rekey_ike_requests = row->rekey_ike_requests,
	    .restart_requests = row->restart_requests,
	};
	switch (row->dpd->action) {
	case TWINSPAN__DPD_ACTION__DPD_ACTION_CLEAR:
		out->dpd_action = DPD_CLEAR;
		break;
	case TWINSPAN__DPD_ACTION__DPD_ACTION_NONE:
		out->dpd_action = DPD_NONE;
		break;
	default:
		out->dpd_action = DPD_RESTART;
		break;
	}
	return copy_text(out->id, sizeof out->id, row->id) &&
	       copy_text(out->border_gateway_id, sizeof out->border_gateway_id, row->border_gateway_id) &&
	       copy_text(out->local_id, sizeof out->local_id, row->local_id) &&
	       copy_text(out->remote_id, sizeof out->remote_id, row->remote_id) &&
	       address_parse(or_empty(row->cloud_address), &out->local) &&
	       address_parse(or_empty(row->customer_address), &out->remote) &&
	       algorithms_from(&out->ike, row->ike->encryption, row->ike->n_encryption, row->ike->integrity,
	                       row->ike->n_integrity, row->ike->dh_groups, row->ike->n_dh_groups) &&
	       algorithms_from(&out->child, row->ipsec->encryption, row->ipsec->n_encryption, row->ipsec->integrity,
	                       row->ipsec->n_integrity, row->ipsec->pfs_groups, row->ipsec->n_pfs_groups);
}

static void unusable(const char *table, struct bytes key)
{
	char *text = format_text("%.*s", (int)key.length, (const char *)key.data);
	log_limited(LOG_ERROR, "row-not-usable", "table", table, "key", text, NULL);
	free(text);
}

// The key of a row as text, for the core's events by name.
static void step_by_name(struct ike_bus *bus, enum ike_event_kind kind, struct bytes key)
{
	char *text = format_text("%.*s", (int)key.length, (const char *)key.data);
	struct ike_event event = {.kind = kind, .text = text};
	service_step(bus->service, &event);
	free(text);
}

static void tunnels_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct ike_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		if (rows[i].removed) {
			step_by_name(bus, IKE_EVENT_TUNNEL_REMOVED, rows[i].key);
			continue;
		}
		Twinspan__VpnTunnel *row = twinspan__vpn_tunnel__unpack(NULL, rows[i].value.length, rows[i].value.data);
		struct tunnel_config tunnel;
		if (row && tunnel_from(&tunnel, row)) {
			struct ike_event event = {.kind = IKE_EVENT_TUNNEL, .tunnel = &tunnel};
			service_step(bus->service, &event);
		} else {
			unusable("vpn_tunnel", rows[i].key);
		}
		if (row) {
			twinspan__vpn_tunnel__free_unpacked(row, NULL);
		}
	}
}

static void secrets_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct ike_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		if (rows[i].removed) {
			step_by_name(bus, IKE_EVENT_SECRET_REMOVED, rows[i].key);
			continue;
		}
		Twinspan__TunnelSecret *row = twinspan__tunnel_secret__unpack(NULL, rows[i].value.length, rows[i].value.data);
		struct secret secret = {.length = 0};
		if (row && secret_set(&secret, (struct bytes){row->pre_shared_key.data, row->pre_shared_key.len})) {
			struct ike_event event = {.kind = IKE_EVENT_SECRET, .text = row->tunnel_id, .secret = &secret};
			service_step(bus->service, &event);
		} else {
			unusable("tunnel_secret", rows[i].key);
		}
		secret_wipe(&secret);
		if (row) {
			wipe(row->pre_shared_key.data, row->pre_shared_key.len);
			twinspan__tunnel_secret__free_unpacked(row, NULL);
		}
	}
}

static void usage_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct ike_bus *bus = context;
	for (size_t i = 0; i < count; i++) {
		if (rows[i].removed || !bus->started) {
			continue;
		}
		Twinspan__SaUsage *row = twinspan__sa_usage__unpack(NULL, rows[i].value.length, rows[i].value.data);
		if (!row) {
			unusable("sa_usage", rows[i].key);
			continue;
		}
		struct ike_event event = {.kind = IKE_EVENT_USAGE,
		                          .usage = {.inbound_spi = row->inbound_spi,
		                                    .bytes_in = row->bytes_in,
		                                    .packets_in = row->packets_in,
		                                    .bytes_out = row->bytes_out,
		                                    .packets_out = row->packets_out,
		                                    .sequence_out = row->sequence_out,
		                                    .last_in = INSTANT_NEVER}};
		uint64_t wall = wall_clock();
		if (row->last_in != 0) {
			event.usage.last_in = now() - MILLISECONDS(row->last_in < wall ? wall - row->last_in : 0);
		}
		if (address_from_bytes((struct bytes){row->seen_remote_address.data, row->seen_remote_address.len},
		                       &event.usage.seen_remote)) {
			event.usage.seen_remote_port = (uint16_t)row->seen_remote_port;
		}
		service_step(bus->service, &event);
		twinspan__sa_usage__free_unpacked(row, NULL);
	}
}

// What an earlier incarnation saved. Rows that come later are our own, echoed.
static void held_changed(void *context, const struct replica_row *rows, size_t count)
{
	struct ike_bus *bus = context;
	if (bus->started) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (rows[i].removed) {
			continue;
		}
		Twinspan__SealedIkeSa *row = twinspan__sealed_ike_sa__unpack(NULL, rows[i].value.length, rows[i].value.data);
		size_t length = row && row->sealed.len > SEAL_OVERHEAD ? row->sealed.len - SEAL_OVERHEAD : 0;
		uint8_t *plain = allocate(length + 1);
		if (length > 0 &&
		    unseal(&bus->seal_key, rows[i].key, (struct bytes){row->sealed.data, row->sealed.len}, plain)) {
			struct ike_event event = {.kind = IKE_EVENT_RESTORE, .bytes = {plain, length}};
			service_step(bus->service, &event);
		} else {
			unusable("held_ike_sa", rows[i].key);
		}
		wipe(plain, length);
		free(plain);
		if (row) {
			twinspan__sealed_ike_sa__free_unpacked(row, NULL);
		}
	}
}

// Once both tables have been told, restored SAs of tunnels that are no more can go.
static void tunnels_state(void *context)
{
	struct ike_bus *bus = context;
	if (!bus->tunnels_known && replica_has_snapshot(bus->tunnels) && replica_has_snapshot(bus->secrets)) {
		bus->tunnels_known = true;
		struct ike_event event = {.kind = IKE_EVENT_TUNNELS_KNOWN};
		service_step(bus->service, &event);
	}
}

static void held_state(void *context)
{
	struct ike_bus *bus = context;
	if (bus->started || !replica_has_snapshot(bus->held)) {
		return;
	}
	bus->started = true;
	struct ike_event event = {.kind = IKE_EVENT_START};
	service_step(bus->service, &event);
	table_complete(bus->child_sa);
	table_complete(bus->ike_sa);
	table_complete(bus->status);
	table_complete(bus->events);
	struct ike_gauges gauges = ike_gauges(bus->service->ike);
	log_event(LOG_INFO, "negotiating", "restored", log_number((int64_t)gauges.ike_sas), NULL);
	bus->usage = replica_new(bus->bus, bus->esp, "sa_usage", bus->node, usage_changed, bus);
	bus->secrets = replica_new(bus->bus, "resource", "tunnel_secret", bus->node, secrets_changed, bus);
	bus->tunnels = replica_new(bus->bus, "resource", "vpn_tunnel", bus->node, tunnels_changed, bus);
	replica_on_state(bus->secrets, tunnels_state, bus);
	replica_on_state(bus->tunnels, tunnels_state, bus);
}

struct ike_bus *ike_bus_new(struct service *service, struct bus *bus, const char *node, const struct seal_key *seal_key)
{
	struct ike_bus *out = allocate(sizeof *out);
	out->service = service;
	out->bus = bus;
	out->node = duplicate_text(node);
	out->esp = format_text("esp.%s", node);
	out->seal_key = *seal_key;
	out->status = table_own(bus, "tunnel_status");
	out->events = table_own(bus, "tunnel_event");
	out->child_sa = table_own(bus, "child_sa");
	out->ike_sa = table_own(bus, "ike_sa");
	table_on_applied(out->child_sa, applied_moved, out);
	table_on_applied(out->ike_sa, applied_moved, out);
	out->held = replica_new(bus, out->esp, "held_ike_sa", node, held_changed, out);
	replica_on_state(out->held, held_state, out);
	return out;
}

void ike_bus_free(struct ike_bus **bus)
{
	if (!*bus) {
		return;
	}
	replica_free(&(*bus)->held);
	replica_free(&(*bus)->usage);
	replica_free(&(*bus)->tunnels);
	replica_free(&(*bus)->secrets);
	wipe(&(*bus)->seal_key, sizeof(*bus)->seal_key);
	free((*bus)->node);
	free((*bus)->esp);
	free(*bus);
	*bus = NULL;
}
