// twinspan-esp: reads the settings, maps the sequence numbers' file, opens the node's sockets, starts the workers, and joins
// the bus.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/config.h"
#include "common/io/entropy.h"
#include "common/io/log.h"
#include "common/io/process.h"
#include "services/esp/bus.h"
#include "services/esp/net_handover.h"
#include "services/esp/net_sequences.h"
#include "services/esp/net_worker.h"

struct service {
	struct esp *esp;
	struct workers *workers;
	struct kernel *kernel;
	struct esp_bus *tables;
	struct metric *drops[ESP_DROPS];
	uint64_t shown[ESP_DROPS];
	struct metric *routes, *sas, *socket_drops, *queue_drops;
	uint64_t socket_drops_shown, queue_drops_shown;
	struct node_sockets sockets;
};

static int fail(const char *what)
{
	int error = errno;
	log_event(LOG_ERROR, "cannot-start", "step", what, "error", strerror(error), NULL);
	return process_may_retry(error) ? 1 : 2;
}

static bool gateway_up(void *context, const char *id, struct gateway *gateway, bool allow_transit)
{
	struct service *service = context;
	if (!workers_gateway_up(service->workers, id, gateway, allow_transit)) {
		log_limited(LOG_ERROR, "gateway-queues", "gateway", id, "error", strerror(errno), NULL);
		return false;
	}
	return true;
}

static void gateway_down(void *context, const char *id)
{
	workers_gateway_down(((struct service *)context)->workers, id);
}

static struct gateway *gateway_of(void *context, const char *id)
{
	return kernel_gateway(((struct service *)context)->kernel, id);
}

static void gateways_changed(void *context)
{
	struct service *service = context;
	if (service->tables) {
		esp_bus_gateways_changed(service->tables);
	}
}

static void gateway_lost(void *context, const char *id)
{
	kernel_gateway_lost(((struct service *)context)->kernel, id);
}

static void packets_moved(void *context)
{
	esp_bus_moved(((struct service *)context)->tables);
}

static void packets_rested(void *context)
{
	workers_rested(((struct service *)context)->workers);
}

static void make_metrics(struct service *service)
{
	for (unsigned i = 0; i < ESP_DROPS; i++) {
		char *labels = format_text("reason=\"%s\"", esp_drop_labels[i]);
		service->drops[i] = metric(METRIC_COUNTER, "twinspan_esp_drops_total", labels, "Packets dropped, by reason");
		free(labels);
	}
	const char *full = "twinspan_esp_queue_full_total", *help = "Packets that found a queue towards the workers full";
	service->socket_drops = metric(METRIC_COUNTER, full, "queue=\"network\"", help);
	service->queue_drops = metric(METRIC_COUNTER, full, "queue=\"vpn0\"", help);
	service->routes = metric(METRIC_GAUGE, "twinspan_esp_routes", NULL, "Prefixes in the border gateways' tables");
	service->sas = metric(METRIC_GAUGE, "twinspan_esp_security_associations", NULL, "Pairs of child SAs installed");
}

// A vpn0 that is made anew begins at zero: then nothing is added.
static void show_total(struct metric *metric, uint64_t *shown, uint64_t total)
{
	metric_add(metric, total > *shown ? total - *shown : 0);
	*shown = total;
}

static void gather_metrics(void *context)
{
	struct service *service = context;
	for (unsigned i = 0; i < ESP_DROPS; i++) {
		uint64_t drops = esp_drops(service->esp, i);
		metric_add(service->drops[i], drops - service->shown[i]);
		service->shown[i] = drops;
	}
	show_total(service->socket_drops, &service->socket_drops_shown, node_sockets_drops(&service->sockets));
	show_total(service->queue_drops, &service->queue_drops_shown, kernel_queue_drops(service->kernel));
	metric_set(service->routes, (double)esp_route_count(service->esp));
	metric_set(service->sas, (double)esp_sa_count(service->esp));
}

// The core's settings: processors, the path's MTU, the engine, and what keeps sequence numbers from coming twice.
static bool configure(struct esp_config *config)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int64_t usual = processors < 1 ? 1 : processors > ESP_WORKERS_MAX ? ESP_WORKERS_MAX : processors;
	const char *state = config_text("TWINSPAN_STATE", NULL);
	if (mkdir(state, 0700) != 0 && errno != EEXIST) {
		return false;
	}
	*config = (struct esp_config){
	    .workers = (unsigned)config_number("TWINSPAN_WORKERS", usual, 1, ESP_WORKERS_MAX),
	    .outer_mtu = (uint16_t)config_number("TWINSPAN_OUTER_MTU", 1500, 576, 9216),
	    .openssl = strcmp(config_text("TWINSPAN_CRYPTO", "auto"), "openssl") == 0,
	    .sequences = sequences_map(state),
	    .sequence_count = SEQUENCE_RECORDS,
	};
	entropy_fill(&config->hash_seed, sizeof config->hash_seed);
	return config->sequences != NULL;
}

static void wipe_keys(void *esp)
{
	esp_wipe(esp);
}

int main(void)
{
	const char *node = config_text("TWINSPAN_NODE", NULL);
	process_begin("esp", node);
	struct loop *loop = loop_new();
	struct health *health = health_new(loop);
	struct esp_config config;
	if (!configure(&config)) {
		return fail("TWINSPAN_STATE/sequences");
	}
	struct service service = {.esp = esp_new(&config)};
	invariant_wipe_at_end(wipe_keys, service.esp);
	int error = node_sockets_open(&service.sockets, config.workers);
	if (error) {
		errno = -error;
		return fail("sockets");
	}
	struct workers_hooks threads = {gateway_lost, packets_moved, &service};
	service.workers = workers_new(service.esp, loop, config.workers, &service.sockets, &threads);
	if (!service.workers) {
		return fail("workers");
	}
	make_metrics(&service);
	health_before_metrics(health, gather_metrics, &service);

	struct kernel_hooks hooks = {gateway_up, gateway_down, gateways_changed, &service};
	service.kernel = kernel_new(loop, config_text("TWINSPAN_NAMESPACE_PREFIX", "tw-"), node,
	                            (uint32_t)config_number("TWINSPAN_FABRIC_MTU", 1500, 1280, 9216), &hooks);
	struct handover_settings handover = {
	    .path = config_text("TWINSPAN_SOCKETS", NULL),
	    .ike_uid = (uid_t)config_number("TWINSPAN_IKE_UID", 0, 0, UINT32_MAX),
	    .bgp_uid = (uid_t)config_number("TWINSPAN_BGP_UID", 0, 0, UINT32_MAX),
	};
	struct handover_server *server = handover_server_new(loop, &handover, &service.sockets, gateway_of, &service);
	if (!server) {
		return fail("TWINSPAN_SOCKETS");
	}
	char *identity = format_text("esp.%s", node);
	struct bus *bus = bus_new(loop, health, identity);
	service.tables = esp_bus_new(&(struct esp_bus_parts){
	    .loop = loop,
	    .health = health,
	    .bus = bus,
	    .esp = service.esp,
	    .kernel = service.kernel,
	    .node = node,
	    .workers = config.workers,
	    .rested = packets_rested,
	    .context = &service,
	});
	config_done();
	log_event(LOG_INFO, "started", "crypto", esp_crypto_name(service.esp), "workers", log_number(config.workers), NULL);

	int result = loop_run(loop);

	esp_bus_free(&service.tables);
	bus_free(&bus);
	handover_server_free(&server);
	workers_free(&service.workers);
	kernel_free(&service.kernel);
	node_sockets_close(&service.sockets);
	invariant_wipe_end(service.esp);
	esp_free(&service.esp);
	health_free(&health);
	loop_free(&loop);
	free(identity);
	return result;
}
