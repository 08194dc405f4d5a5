// bgp: the BGP sessions of one gateway node. Reads its settings, makes the parts, and turns the loop. It needs no privilege:
// its sockets come from esp, and everything it knows from the bus.
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "common/io/config.h"
#include "common/io/entropy.h"
#include "common/io/handover.h"
#include "common/io/log.h"
#include "common/io/process.h"
#include "services/bgp/shell.h"

#define LATE MILLISECONDS(200)

static void carry_out(struct service *service)
{
	for (size_t i = 0; i < service->actions.count; i++) {
		const struct bgp_action *action = &service->actions.list[i];
		switch (action->kind) {
		case BGP_ACTION_CONNECT:
			tcp_connect(service->tcp, bgp_bus_peering(service->bus, action->session), action->transport);
			break;
		case BGP_ACTION_SEND:
			tcp_send(service->tcp, action->transport,
			         (struct bytes){service->actions.octets + action->offset, action->length});
			break;
		case BGP_ACTION_CLOSE:
			tcp_close(service->tcp, action->transport);
			break;
		case BGP_ACTION_PATIENCE:
			tcp_patience(service->tcp, action->transport, action->length);
			break;
		case BGP_ACTION_CHANGED:
		case BGP_ACTION_NOTICE:
		case BGP_ACTION_REMOVED:
			break; // rows
		}
	}
}

// Rows first: they are what somebody waits for.
void service_step(struct service *service, const struct bgp_event *event)
{
	struct bgp_event next = *event;
	do {
		bgp_step(service->bgp, &next, now(), &service->actions);
		bgp_bus_publish(service->bus, &service->actions);
		carry_out(service);
		bgp_actions_clear(&service->actions);
	} while (tcp_next_event(service->tcp, &next));
	deadline_arm(&service->deadline, bgp_deadline(service->bgp));
}

static void time_is_up(void *context)
{
	struct service *service = context;
	// A hold timer is about the peer's silence, not about ours: what has arrived meanwhile counts.
	if (now() - bgp_deadline(service->bgp) > LATE) {
		tcp_read_all(service->tcp);
	}
	service_step(service, &(struct bgp_event){.kind = BGP_EVENT_TIME});
}

static void esp_is_there(void *context)
{
	listeners_ask(((struct service *)context)->listeners);
}

static void gather_metrics(void *context)
{
	struct service *service = context;
	for (enum bgp_counter counter = 0; counter < BGP_COUNTERS; counter++) {
		char *name = format_text("twinspan_bgp_%s_total", bgp_counter_name(counter));
		struct metric *shown = metric(METRIC_COUNTER, name, NULL, "See services/bgp/README.md");
		metric_add(shown, bgp_count(service->bgp, counter) - metric_value(shown));
		free(name);
	}
	size_t established, sessions = bgp_bus_sessions(service->bus, &established);
	metric_set(metric(METRIC_GAUGE, "twinspan_bgp_sessions", NULL, "BGP sessions of this node"), (double)sessions);
	metric_set(metric(METRIC_GAUGE, "twinspan_bgp_sessions_established", NULL, "BGP sessions that are Established"),
	           (double)established);
}

// ---- the end ----
#define LOOK_AGAIN MILLISECONDS(10)

struct last_words {
	struct service *service;
	struct deadline look;
	instant at_last;
};

static void have_heard(void *context)
{
	struct last_words *words = context;
	bool heard = bgp_bus_is_read(words->service->bus) && tcp_is_idle(words->service->tcp);
	if (heard || now() >= words->at_last) {
		loop_stop(words->service->loop);
	} else {
		deadline_arm(&words->look, now() + LOOK_AGAIN);
	}
}

// The peers get a Cease and route the withdrawals: traffic moves to the other node before this one is gone.
static void say_last_words(struct service *service)
{
	struct last_words words = {.service = service, .at_last = now() + LAST_WORDS};
	bgp_bus_stop(service->bus);
	deadline_init(&words.look, service->loop, have_heard, &words);
	deadline_arm(&words.look, now() + LOOK_AGAIN);
	loop_run(service->loop);
	deadline_disarm(&words.look);
}

int main(void)
{
	const char *node = config_text("TWINSPAN_NODE", NULL);
	const char *sockets_path = config_text("TWINSPAN_SOCKETS", NULL);
	process_begin("bgp", node);

	struct service service = {.loop = loop_new()};
	service.health = health_new(service.loop);
	uint8_t seed[32];
	entropy_fill(seed, sizeof seed);
	service.bgp = bgp_new(seed);
	wipe(seed, sizeof seed);
	deadline_init(&service.deadline, service.loop, time_is_up, &service);
	health_before_metrics(service.health, gather_metrics, &service);

	char *identity = format_text("bgp.%s", node);
	struct bus *bus = bus_new(service.loop, service.health, identity);
	service.handover = handover_new(service.loop, sockets_path, esp_is_there, &service);
	service.tcp = tcp_new(&service, service.loop, service.handover);
	service.listeners = listeners_new(&service, service.loop, service.handover);
	service.bus = bgp_bus_new(&service, bus, node);
	config_done();
	log_event(LOG_INFO, "started", NULL);

	int result = loop_run(service.loop);
	say_last_words(&service);

	deadline_disarm(&service.deadline);
	tcp_free(&service.tcp);
	listeners_free(&service.listeners);
	handover_free(&service.handover);
	bgp_bus_free(&service.bus);
	bus_free(&bus);
	bgp_actions_fini(&service.actions);
	bgp_free(&service.bgp);
	health_free(&service.health);
	loop_free(&service.loop);
	free(identity);
	return result;
}
