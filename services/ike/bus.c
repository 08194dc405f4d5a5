// The tables of ike: rows in become events of the core (here and in bus_tunnel.c), rows that the core puts are published
// (bus_publish.c). See README.md for the list.
//
// The order at the start: first what esp held for an earlier incarnation (held_ike_sa) is restored, then the core starts and
// our tables are complete, and only then the tunnels come in; so a killed ike neither negotiates anew nor withdraws an SA that
// still lives.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/entropy.h"
#include "common/io/log.h"
#include "proto/tables.pb-c.h"
#include "services/ike/bus_parts.h"

char *key_of_state(uint64_t spi, char out[static STATE_KEY_TEXT])
{
	snprintf(out, STATE_KEY_TEXT, "%016" PRIx64, spi);
	return out;
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

static void settled(void *context)
{
	struct ike_bus *bus = context;
	service_settle(bus->service);
}

// ---- sa_usage ----
static const char *take_usage(void *context, const struct row_key *key, const void *message)
{
	struct ike_bus *bus = context;
	const Twinspan__SaUsage *row = message;
	(void)key;
	if (!row) {
		return NULL;
	}
	struct ike_event event = {.kind = IKE_EVENT_USAGE,
	                          .usage = {.inbound_spi = row->inbound_spi,
	                                    .bytes_in = row->bytes_in,
	                                    .packets_in = row->packets_in,
	                                    .bytes_out = row->bytes_out,
	                                    .packets_out = row->packets_out,
	                                    .sequence_out = row->sequence_out,
	                                    .last_in = INSTANT_NEVER,
	                                    .resting = row->resting}};
	uint64_t wall = wall_clock();
	if (row->last_in != 0) {
		event.usage.last_in = now() - MILLISECONDS(row->last_in < wall ? wall - row->last_in : 0);
	}
	if (address_from_bytes((struct bytes){row->seen_remote_address.data, row->seen_remote_address.len},
	                       &event.usage.seen_remote)) {
		event.usage.seen_remote_port = (uint16_t)row->seen_remote_port;
	}
	service_step(bus->service, &event);
	return NULL;
}

static const struct feed_kind feed_of_usage = {
    .table = "sa_usage", .descriptor = &twinspan__sa_usage__descriptor, .take = take_usage, .settled = settled};

// ---- held_ike_sa: what an earlier incarnation saved ----
static const char *take_held(void *context, const struct row_key *key, const void *message)
{
	struct ike_bus *bus = context;
	const Twinspan__SealedIkeSa *row = message;
	if (bus->started || !row) {
		return NULL; // rows that come later are our own, echoed
	}
	struct bytes sealed = {row->sealed.data, row->sealed.len};
	size_t length = sealed.length > SEAL_OVERHEAD ? sealed.length - SEAL_OVERHEAD : 0;
	uint8_t *plain = allocate(length ? length : 1);
	bool good = unseal(&bus->seal_key, text_bytes(key->text), sealed, plain);
	if (good) {
		struct ike_event event = {.kind = IKE_EVENT_RESTORE, .bytes = {plain, length}};
		service_step(bus->service, &event);
	}
	wipe(plain, length);
	free(plain);
	return good ? NULL : "it was not sealed with our key: its tunnel begins anew";
}

static const struct feed_kind feed_of_held = {
    .table = "held_ike_sa", .descriptor = &twinspan__sealed_ike_sa__descriptor, .take = take_held, .settled = NULL};

// It is not followed any more: esp holds it for the next incarnation, not for us.
static void let_go(void *context)
{
	struct ike_bus *bus = context;
	feed_free(&bus->held);
}

// Once both tables have been told, restored SAs of tunnels that are no more can go.
static void tunnels_state(void *context)
{
	struct ike_bus *bus = context;
	if (!bus->tunnels_known && feed_has_snapshot(bus->tunnels) && feed_has_snapshot(bus->secrets)) {
		bus->tunnels_known = true;
		struct ike_event event = {.kind = IKE_EVENT_TUNNELS_KNOWN};
		service_step(bus->service, &event);
		service_settle(bus->service);
	}
}

static void held_state(void *context)
{
	struct ike_bus *bus = context;
	if (bus->started || !feed_has_snapshot(bus->held)) {
		return;
	}
	bus->started = true;
	struct ike_event event = {.kind = IKE_EVENT_START};
	service_step(bus->service, &event);
	service_settle(bus->service);
	table_complete(bus->child_sa);
	table_complete(bus->ike_sa);
	table_complete(bus->status);
	table_complete(bus->events);
	struct ike_gauges gauges = ike_gauges(bus->service->ike);
	log_event(LOG_INFO, "negotiating", "restored", log_number((int64_t)gauges.ike_sas), NULL);
	deadline_arm(&bus->restored, now());
	bus->usage = feed_new(bus->bus, bus->esp, &feed_of_usage, bus->node, bus);
	bus->secrets = feed_new(bus->bus, "resource", &feed_of_secrets, bus->node, bus);
	bus->tunnels = feed_new(bus->bus, "resource", &feed_of_tunnels, bus->node, bus);
	feed_on_state(bus->secrets, tunnels_state, bus);
	feed_on_state(bus->tunnels, tunnels_state, bus);
}

struct ike_bus *ike_bus_new(struct service *service, struct bus *bus, const char *node, const struct seal_key *seal_key)
{
	struct ike_bus *out = allocate(sizeof *out);
	uint8_t incarnation[SEAL_INCARNATION];
	entropy_fill(incarnation, sizeof incarnation);
	out->service = service;
	out->bus = bus;
	out->node = duplicate_text(node);
	out->esp = format_text("esp.%s", node);
	out->seal_key = *seal_key;
	out->sealer = sealer_new(seal_key, incarnation);
	out->waiting = allocate_array(STATES_WAITING_MAX, sizeof *out->waiting);
	out->status = table_own(bus, "tunnel_status");
	out->events = table_own(bus, "tunnel_event");
	out->child_sa = table_own(bus, "child_sa");
	out->ike_sa = table_own(bus, "ike_sa");
	table_on_applied(out->child_sa, applied_moved, out);
	table_on_applied(out->ike_sa, applied_moved, out);
	deadline_init(&out->restored, service->loop, let_go, out);
	deadline_init(&out->put_off, service->loop, publish, out);
	out->held = feed_new(bus, out->esp, &feed_of_held, node, out);
	feed_on_state(out->held, held_state, out);
	return out;
}

void ike_bus_wipe(struct ike_bus *bus)
{
	wipe(&bus->seal_key, sizeof bus->seal_key);
	for (size_t i = 0; i < bus->waiting_count; i++) {
		wipe(bus->waiting[i].octets, bus->waiting[i].length);
	}
}

void ike_bus_free(struct ike_bus **bus)
{
	if (!*bus) {
		return;
	}
	publish(*bus);
	deadline_disarm(&(*bus)->restored);
	deadline_disarm(&(*bus)->put_off);
	feed_free(&(*bus)->held);
	feed_free(&(*bus)->usage);
	feed_free(&(*bus)->tunnels);
	feed_free(&(*bus)->secrets);
	sealer_free(&(*bus)->sealer);
	wipe(&(*bus)->seal_key, sizeof(*bus)->seal_key);
	free((*bus)->waiting);
	free((*bus)->node);
	free((*bus)->esp);
	free(*bus);
	*bus = NULL;
}
