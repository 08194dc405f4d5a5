// What the workers counted, as rows.
#include <inttypes.h>
#include <stdio.h>

#include "services/esp/bus_shell.h"

enum { KEY_TEXT = 128 };
#define LOOK_INTERVAL MILLISECONDS(500)
#define COUNTERS_INTERVAL SECONDS(5)
#define COUNTERS_EARLY SECONDS(1)
#define COUNTERS_LATE SECONDS(6)

// The wall clock's zero on the monotonic clock, in milliseconds. Kept as long as it is about right: read anew each time it
// would tremble, and every idle SA's row would change every second.
static void set_wall_offset(struct esp_bus *bus)
{
	int64_t offset = (int64_t)wall_clock() - now() / 1000;
	int64_t error = offset - bus->wall_offset;
	if (error > 500 || error < -500) {
		bus->wall_offset = offset;
	}
}

static uint64_t wall_of(const struct esp_bus *bus, instant at)
{
	return at == 0 ? 0 : (uint64_t)(bus->wall_offset + at / 1000);
}

static void report_sa(void *context, const struct esp_sa_usage *usage)
{
	struct esp_bus *bus = context;
	Twinspan__SaUsage row = TWINSPAN__SA_USAGE__INIT;
	row.tunnel_id = (char *)(uintptr_t)usage->tunnel;
	row.inbound_spi = usage->inbound_spi;
	row.bytes_in = usage->bytes_in;
	row.packets_in = usage->packets_in;
	row.bytes_out = usage->bytes_out;
	row.packets_out = usage->packets_out;
	row.last_in = wall_of(bus, usage->last_in);
	row.sequence_out = usage->sequence_out;
	row.resting = usage->resting;
	if (usage->seen.length != 0) {
		row.seen_remote_address =
		    (ProtobufCBinaryData){.len = usage->seen.length, .data = (uint8_t *)(uintptr_t)usage->seen.octets};
		row.seen_remote_port = usage->seen.port;
	}
	char key[KEY_TEXT + 16];
	snprintf(key, sizeof key, "%s/%08" PRIx32, usage->tunnel, usage->inbound_spi);
	row_put(bus->sa_usage, bus->parts.node, text_bytes(key), &row.base);
	bus->told = true;
}

static void report_tunnel(void *context, const struct esp_tunnel_usage *usage)
{
	struct esp_bus *bus = context;
	Twinspan__TunnelCounters row = TWINSPAN__TUNNEL_COUNTERS__INIT;
	row.tunnel_id = (char *)(uintptr_t)usage->id;
	row.packets_in = usage->packets_in;
	row.bytes_in = usage->bytes_in;
	row.packets_out = usage->packets_out;
	row.bytes_out = usage->bytes_out;
	row.drops = usage->drops;
	row_put(bus->tunnel_counters, "", text_bytes(usage->id), &row.base);
}

// The tunnels' figures are for people to look at, and no decision waits for them: they are told about every five seconds under
// load, every ten where few packets move, in either case with those of an SA, and once more after they rest.
static void report_counters(struct esp_bus *bus, bool moving)
{
	instant time = now();
	duration leeway = bus->told ? -COUNTERS_EARLY : moving ? COUNTERS_LATE : 0;
	if (bus->counters_at == INSTANT_NEVER || time < bus->counters_at + leeway) {
		return;
	}
	esp_each_tunnel(bus->parts.esp, true, report_tunnel, bus);
	table_commit(bus->tunnel_counters);
	bus->counters_told = time;
	bus->counters_at = moving ? time + COUNTERS_INTERVAL : INSTANT_NEVER;
}

// While packets move the SAs are looked at twice a second: ike decides by what is told of them whether to ask the peer (RFC
// 7296 §2.4), to send on a new SA, and to rekey. When nothing moves this ends, and the first packet begins it again: an idle
// node costs nothing.
void bus_report(void *context)
{
	struct esp_bus *bus = context;
	set_wall_offset(bus);
	bus->told = false;
	size_t open = esp_look(bus->parts.esp, report_sa, bus);
	if (open == 0) {
		bus->parts.rested(bus->parts.context);
		open = esp_look(bus->parts.esp, report_sa, bus); // what came before that was heard
	}
	table_commit(bus->sa_usage);
	report_counters(bus, open > 0);
	deadline_arm(&bus->report, open > 0 ? beat_after(now(), LOOK_INTERVAL) : bus->counters_at);
}

void esp_bus_moved(struct esp_bus *bus)
{
	if (bus->counters_at == INSTANT_NEVER) {
		// Not before the answer to what moved has come, too.
		instant soon = now() + 2 * LOOK_INTERVAL, next = bus->counters_told + COUNTERS_INTERVAL;
		bus->counters_at = bus->counters_told != 0 && next > soon ? next : soon;
	}
	deadline_arm(&bus->report, beat_after(now() + LOOK_INTERVAL / 2, LOOK_INTERVAL));
}
