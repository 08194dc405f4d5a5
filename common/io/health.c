// /healthz, /readyz and /metrics of a service (health.h).
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/map.h"
#include "common/io/config.h"
#include "common/io/health.h"
#include "common/io/http.h"
#include "common/io/metric.h"
#include "common/io/process.h"

struct gatherer {
	loop_fn *gather;
	void *context;
	struct gatherer *next;
};

struct health {
	struct http_server *server;
	struct map *waits; // what → the health itself
	struct gatherer *gatherers;
	struct metric *resident;
};

static void respond(struct http_request *request, unsigned status, const char *type, const char *text, size_t length)
{
	http_respond(request, status, type, (struct bytes){(const uint8_t *)text, length}, NULL, 0);
}

static void answer_ready(struct health *health, struct http_request *request)
{
	if (map_count(health->waits) == 0) {
		respond(request, 200, "text/plain", "ready\n", 6);
		return;
	}
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);
	if (!out) {
		abort();
	}
	for (struct map_cursor at = {0}; map_next(health->waits, &at);) {
		fprintf(out, "waits for %.*s\n", (int)at.key.length, (const char *)at.key.data);
	}
	fclose(out);
	respond(request, 503, "text/plain", text, length);
	free(text);
}

static void gather_process(struct health *health)
{
	long pages = 0;
	FILE *in = fopen("/proc/self/statm", "re");
	if (in) {
		if (fscanf(in, "%*s %ld", &pages) == 1) {
			metric_set(health->resident, (double)pages * (double)sysconf(_SC_PAGESIZE));
		}
		fclose(in);
	}
}

static void answer_metrics(struct health *health, struct http_request *request)
{
	gather_process(health);
	for (struct gatherer *at = health->gatherers; at; at = at->next) {
		at->gather(at->context);
	}
	size_t length;
	char *text = metrics_text(&length);
	respond(request, 200, "text/plain; version=0.0.4", text, length);
	free(text);
}

static void on_request(void *context, struct http_request *request)
{
	struct health *health = context;
	if (strcmp(request->method, "GET") != 0) {
		respond(request, request->body_too_large ? 413 : 405, NULL, "", 0);
	} else if (strcmp(request->path, "/healthz") == 0) {
		respond(request, 200, "text/plain", "ok\n", 3);
	} else if (strcmp(request->path, "/readyz") == 0) {
		answer_ready(health, request);
	} else if (strcmp(request->path, "/metrics") == 0) {
		answer_metrics(health, request);
	} else {
		respond(request, 404, NULL, "", 0);
	}
}

struct health *health_new(struct loop *loop)
{
	const char *where = config_text("TWINSPAN_HEALTH", NULL);
	struct health *health = allocate(sizeof *health);
	health->waits = map_new(NULL);
	health->resident = metric(METRIC_GAUGE, "process_resident_memory_bytes", NULL, "Resident memory of the process");
	metric_set(metric(METRIC_GAUGE, "process_start_time_seconds", NULL, "Start of the process since the epoch"),
	           (double)wall_clock() / 1000);
	const struct http_limits limits = {.body = 0, .timeout_seconds = 5, .connections = 32};
	while (!(health->server = http_server_new(loop, where, on_request, health, &limits))) {
		if (!process_wait_for("TWINSPAN_HEALTH", where, errno)) {
			fprintf(stderr, "TWINSPAN_HEALTH: cannot listen at \"%s\": %s\n", where, strerror(errno));
			exit(2);
		}
	}
	return health;
}

void health_free(struct health **health_at)
{
	struct health *health = *health_at;
	if (!health) {
		return;
	}
	http_server_free(&health->server);
	while (health->gatherers) {
		struct gatherer *first = health->gatherers;
		health->gatherers = first->next;
		free(first);
	}
	map_free(&health->waits, NULL);
	free(health);
	*health_at = NULL;
}

bool health_ready(const struct health *health)
{
	return map_count(health->waits) == 0;
}

void health_wait(struct health *health, const char *what, bool waiting)
{
	if (waiting) {
		map_insert_text(health->waits, what, health);
	} else {
		map_remove_text(health->waits, what);
	}
}

void health_before_metrics(struct health *health, loop_fn *gather, void *context)
{
	struct gatherer *gatherer = allocate(sizeof *gatherer);
	*gatherer = (struct gatherer){gather, context, health->gatherers};
	health->gatherers = gatherer;
}
