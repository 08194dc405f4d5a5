// ike: IKEv2 for the tunnels of one gateway node. Reads its settings, makes the parts, and turns the loop. It needs no
// privilege: its sockets come from esp, and everything it knows from the bus.
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/config.h"
#include "common/io/entropy.h"
#include "common/io/log.h"
#include "common/io/process.h"
#include "services/ike/shell.h"

static void time_is_up(void *context)
{
	struct ike_event event = {.kind = IKE_EVENT_TIME};
	service_step(context, &event);
	service_settle(context);
}

static void gather_metrics(void *context)
{
	struct service *service = context;
	const uint64_t *counters = ike_counters(service->ike);
	for (int i = 0; i < IKE_COUNTER_COUNT; i++) {
		char *label = format_text("reason=\"%s\"", ike_counter_text((enum ike_counter)i));
		struct metric *shown = metric(METRIC_COUNTER, "twinspan_ike_messages_total", label,
		                              "Messages dropped or treated specially, by reason");
		metric_add(shown, counters[i] - metric_value(shown));
		free(label);
	}
	struct ike_gauges gauges = ike_gauges(service->ike);
	metric_set(metric(METRIC_GAUGE, "twinspan_ike_tunnels", NULL, "Tunnels of this node"), (double)gauges.tunnels);
	metric_set(metric(METRIC_GAUGE, "twinspan_ike_tunnels_up", NULL, "Tunnels that are UP"), (double)gauges.tunnels_up);
	metric_set(metric(METRIC_GAUGE, "twinspan_ike_sas", NULL, "IKE SAs"), (double)gauges.ike_sas);
	metric_set(metric(METRIC_GAUGE, "twinspan_ike_half_open", NULL, "IKE SAs that the peer has not authenticated yet"),
	           (double)gauges.half_open);
	metric_set(metric(METRIC_GAUGE, "twinspan_ike_child_sas", NULL, "Child SAs"), (double)gauges.child_sas);
}

static void wipe_secrets(void *context)
{
	struct service *service = context;
	ike_wipe(service->ike);
	ike_bus_wipe(service->bus);
	ike_actions_clear(&service->actions);
}

int main(void)
{
	const char *node = config_text("TWINSPAN_NODE", NULL);
	const char *sockets_path = config_text("TWINSPAN_SOCKETS", NULL);
	process_begin("ike", node);
	struct seal_key seal_key;
	if (config_secret_file("TWINSPAN_SEAL_KEY_FILE", seal_key.octets, sizeof seal_key.octets) != sizeof seal_key.octets) {
		log_event(LOG_ERROR, "bad-setting", "setting", "TWINSPAN_SEAL_KEY_FILE", "rule", "a file of exactly 32 octets",
		          NULL);
		return 2;
	}

	struct service service = {.loop = loop_new()};
	service.health = health_new(service.loop);
	uint8_t seed[32];
	entropy_fill(seed, sizeof seed);
	service.ike = ike_new(seed);
	wipe(seed, sizeof seed);
	deadline_init(&service.deadline, service.loop, time_is_up, &service);
	health_before_metrics(service.health, gather_metrics, &service);

	char *identity = format_text("ike.%s", node);
	struct bus *bus = bus_new(service.loop, service.health, identity);
	service.output = output_new(&service);
	service.udp = udp_new(&service, service.loop, sockets_path);
	service.bus = ike_bus_new(&service, bus, node, &seal_key);
	wipe(&seal_key, sizeof seal_key);
	invariant_wipe_at_end(wipe_secrets, &service);
	config_done();
	log_event(LOG_INFO, "started", NULL);

	int result = loop_run(service.loop);

	invariant_wipe_end(&service);
	deadline_disarm(&service.deadline);
	udp_free(&service.udp);
	output_free(&service.output);
	ike_bus_free(&service.bus);
	bus_free(&bus);
	ike_actions_free(&service.actions);
	ike_free(&service.ike);
	health_free(&service.health);
	loop_free(&service.loop);
	free(identity);
	log_event(LOG_INFO, "ended", NULL);
	return result;
}
